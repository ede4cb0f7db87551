"""The PostgreSQL behind Neon: what its roles open and no longer open, and that it lives and dies with its sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from sandbox import neon
from tests.sandbox.running import TENANT, Sandbox, alive, children, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT = f"/projects/{neon.PROJECT}"
BRANCHES = f"{PROJECT}/branches"


def good(sandbox: Sandbox, method: str, path: str, document: object = None, status: int = 200) -> Any:  # noqa: ANN401
    answer = sandbox.neon(method, path, document)
    assert answer.status_code == status, answer.text
    return answer.json()


def default_branch(sandbox: Sandbox) -> str:
    branches = good(sandbox, "GET", BRANCHES)["branches"]
    return str(next(branch["id"] for branch in branches if branch["default"]))


def roles(sandbox: Sandbox) -> str:
    return f"{BRANCHES}/{default_branch(sandbox)}/roles"


def uri(sandbox: Sandbox, role: str, branch: str = "") -> str:
    query = f"database_name=neondb&role_name={role}&branch_id={branch}"
    return str(good(sandbox, "GET", f"{PROJECT}/connection_uri?{query}")["uri"])


def connect(target: str) -> psycopg.Connection[Any]:
    return psycopg.connect(target, autocommit=True)


def one(target: str, statement: str = "SELECT current_user") -> object:
    with connect(target) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def refused(target: str) -> bool:
    """Tell whether the server refuses a URI because of its credential."""
    try:
        connect(target).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            return True
        raise
    return False


def finished(sandbox: Sandbox, answer: dict[str, Any]) -> None:
    """Wait until the operations of an answer are over."""
    for operation in answer["operations"]:
        path = f"{PROJECT}/operations/{operation['id']}"
        until(
            lambda path=path: good(sandbox, "GET", path)["operation"]["status"] == "finished",  # type: ignore[misc]
            what="the operation is over",
        )


def postmaster(sandbox: Sandbox) -> psutil.Process:
    return psutil.Process(int((sandbox.directory / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "other")
    yield sandbox
    if sandbox.directory.exists():
        sandbox.stop()


# -- roles and their passwords -----------------------------------------------------------------------------------------


def test_a_uri_opens_the_database_and_nothing_else_does(sandbox: Sandbox) -> None:
    good_uri = uri(sandbox, "molecule_cp")
    assert sandbox.secret_value("DATABASE_URL") == good_uri
    assert one(good_uri) == "molecule_cp"
    assert one(good_uri, "SELECT count(*) FROM organizations") == 0
    assert one(good_uri, "SHOW password_encryption") == "scram-sha-256"
    password = psycopg.conninfo.conninfo_to_dict(good_uri)["password"]
    for wrong in ("", ":wrong"):
        with pytest.raises(psycopg.OperationalError, match=r"password"):
            connect(good_uri.replace(f":{password}", wrong))
    assert refused(good_uri.replace("molecule_cp:", "nobody_such:"))
    # Not even on the server's own machine may anybody in without one.
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            host="127.0.0.1", port=sandbox.inspect()["postgres"]["port"], user="cloud_admin", dbname="neondb"
        )


def test_the_old_password_is_good_until_the_operation_is_over_and_refused_then(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0):
        good(sandbox, "POST", roles(sandbox), {"role": {"name": "resettable"}}, 201)
    old = uri(sandbox, "resettable")
    with sandbox.setting(neon__operation_seconds=1.5), connect(old) as open_connection:
        answer = good(sandbox, "POST", f"{roles(sandbox)}/resettable/reset_password")
        new = uri(sandbox, "resettable")
        assert new != old
        assert f":{answer['role']['password']}@" in new
        assert refused(new), "it is usable only once the operation is over"
        assert one(old) == "resettable"
        assert open_connection.execute("SELECT 1").fetchone() == (1,)
        finished(sandbox, answer)
        assert refused(old)
        assert one(new) == "resettable"
        with pytest.raises(psycopg.OperationalError):
            open_connection.execute("SELECT 1")
    revealed = good(sandbox, "GET", f"{roles(sandbox)}/resettable/reveal_password")["password"]
    assert revealed == answer["role"]["password"]


def test_connections_can_be_left_alone(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0, neon__keep_connections=1):
        good(sandbox, "POST", roles(sandbox), {"role": {"name": "kept"}}, 201)
        old = uri(sandbox, "kept")
        with connect(old) as connection:
            good(sandbox, "POST", f"{roles(sandbox)}/kept/reset_password")
            assert refused(old)
            assert connection.execute("SELECT current_user").fetchone() == ("kept",)


def test_an_operation_that_fails_leaves_the_old_password(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0):
        good(sandbox, "POST", roles(sandbox), {"role": {"name": "unlucky"}}, 201)
    old = uri(sandbox, "unlucky")
    with sandbox.setting(neon__operation_seconds=0, neon__operation_outcome="failed"):
        answer = good(sandbox, "POST", f"{roles(sandbox)}/unlucky/reset_password")
        assert answer["operations"][0]["status"] == "failed"
    assert one(old) == "unlucky"
    assert refused(uri(sandbox, "unlucky"))
    with sandbox.setting(neon__operation_seconds=0):
        good(sandbox, "POST", f"{roles(sandbox)}/unlucky/reset_password")
    assert refused(old)
    assert one(uri(sandbox, "unlucky")) == "unlucky"


def test_a_second_role_takes_over_and_is_deleted_again(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0):
        good(sandbox, "POST", roles(sandbox), {"role": {"name": "molecule_cp_b"}}, 201)
        second = uri(sandbox, "molecule_cp_b")
        assert "molecule_cp_b" in sandbox.inspect()["postgres"]["roles"]
        # It may do what the first one may with tables that neither owns.
        assert one(second, "SELECT count(*) FROM org_instances") == 0
        statement = "INSERT INTO sessions VALUES ('of-a-test') RETURNING value_sha256"
        assert one(uri(sandbox, "molecule_cp"), statement) == "of-a-test"
        assert one(second, "DELETE FROM sessions WHERE value_sha256 = 'of-a-test' RETURNING 1") == 1
        with connect(second) as connection:
            connection.execute("CREATE TABLE owned_by_b (x int)")
        assert sandbox.neon("DELETE", f"{roles(sandbox)}/molecule_cp_b").status_code == 422
        with connect(second) as connection:
            connection.execute("DROP TABLE owned_by_b")
            good(sandbox, "DELETE", f"{roles(sandbox)}/molecule_cp_b")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    assert refused(second)
    assert "molecule_cp_b" not in sandbox.inspect()["postgres"]["roles"]


@pytest.mark.parametrize("name", ["cloud_admin", "neon_superuser", "pg_mine"])
def test_names_that_the_server_needs_are_reserved(sandbox: Sandbox, name: str) -> None:
    assert sandbox.neon("POST", roles(sandbox), {"role": {"name": name}}).status_code == 400


def test_a_name_that_needs_quoting(sandbox: Sandbox) -> None:
    name = 'my "odd" röle/1'
    with sandbox.setting(neon__operation_seconds=0):
        good(sandbox, "POST", roles(sandbox), {"role": {"name": name}}, 201)
    assert one(uri(sandbox, name)) == name


# -- branches ----------------------------------------------------------------------------------------------------------


def test_a_branch_is_a_database_of_its_own(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0):
        wanted = {"branch": {"name": "acme"}, "endpoints": [{"type": "read_write"}]}
        created = good(sandbox, "POST", BRANCHES, wanted, 201)
        branch = created["branch"]["id"]
        child = created["connection_uris"][0]["connection_uri"]
        assert child == uri(sandbox, "neondb_owner", branch)
        with connect(child) as connection:
            connection.execute("CREATE TABLE mine (x int)")
        assert one(child, "SELECT count(*) FROM mine") == 0
        database = str(one(child, "SELECT current_database()"))
        # Neither of the two gets into the other's.
        for target, elsewhere in ((child, "neondb"), (uri(sandbox, "neondb_owner"), database)):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(target, dbname=elsewhere)
        # Roles are the branch's own from its beginning on.
        good(sandbox, "POST", f"{roles(sandbox)}/neondb_owner/reset_password")
        assert one(child, "SELECT count(*) FROM mine") == 0
        good(sandbox, "POST", f"{BRANCHES}/{branch}/roles/neondb_owner/reset_password")
        assert refused(child)
        assert one(uri(sandbox, "neondb_owner", branch), "SELECT count(*) FROM mine") == 0
        last = uri(sandbox, "neondb_owner", branch)
        good(sandbox, "DELETE", f"{BRANCHES}/{branch}")
    assert refused(last)
    assert [role for role in sandbox.inspect()["postgres"]["roles"] if branch in role] == []


def test_a_tenant_really_connects(sandbox: Sandbox) -> None:
    assert sandbox.provision("connects") == "running"
    machine = next(m for m in sandbox.machines(TENANT) if m["name"] == "tenant-connects")
    url = sandbox.process_of(machine["id"])["DATABASE_URL"]
    assert str(one(url)).startswith("neondb_owner-br-")
    assert sandbox.control_plane("DELETE", "/cp/orgs/connects").status_code == 204


def test_another_project_has_a_database_of_its_own(sandbox: Sandbox) -> None:
    created = good(sandbox, "POST", "/projects", {"project": {"name": "other"}}, 201)
    target = created["connection_uris"][0]["connection_uri"]
    assert str(one(target, "SELECT current_database()")).startswith("neondb-")


# -- life --------------------------------------------------------------------------------------------------------------


def test_what_was_written_survives_a_stop(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    assert fresh.provision("survivor") == "running"
    server, url = postmaster(fresh), fresh.secret_value("DATABASE_URL")
    before = fresh.inspect()
    assert before["postgres"]["roles"]
    assert before["control_plane"]["orgs"] == 1
    fresh.stop()
    assert not alive(server)
    after = fresh.inspect()
    for name in ("postgres", "control_plane", "neon"):
        assert after[name] == before[name], "inspect works on a stopped sandbox"
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(url)
    fresh.start()
    assert one(url, "SELECT slug FROM organizations") == "survivor"
    assert fresh.status_of("survivor") == "running"


def test_nothing_is_left_and_nothing_lost_when_the_sandbox_is_killed(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    url = fresh.secret_value("DATABASE_URL")
    with fresh.setting(neon__operation_seconds=0):
        assert fresh.provision("before-kill") == "running"
    processes = children(fresh.process())
    assert postmaster(fresh) in processes
    with fresh.setting(neon__operation_seconds=1):
        good(fresh, "POST", f"{roles(fresh)}/molecule_cp/reset_password")
        fresh.kill()
        until(lambda: not any(alive(process) for process in processes), what="everything ends with the sandbox")
    fresh.start()
    new = uri(fresh, "molecule_cp")
    until(lambda: refused(url), what="what was under way when it was killed is done")
    assert one(new, "SELECT slug FROM organizations") == "before-kill"


@pytest.mark.parametrize("command", ["start", "stop"])
def test_a_server_that_outlived_its_sandbox_is_ended(fresh: Sandbox, command: str) -> None:
    fresh.start("--machines", "1")
    orphan, url = postmaster(fresh), fresh.secret_value("DATABASE_URL")
    with connect(url) as connection:
        connection.execute("INSERT INTO sessions VALUES ('committed')")
        os.kill(orphan.parent().pid, signal.SIGKILL)  # type: ignore[union-attr]
        fresh.kill()
        assert alive(orphan)
        # As little as the operating system allows: it does not end when asked.
        orphan.suspend()
        fresh.command(command, *(["--detach"] if command == "start" else []))
    assert not alive(orphan)
    if command == "start":
        assert one(url, "SELECT count(*) FROM sessions WHERE value_sha256 = 'committed'") == 1


def test_sandboxes_side_by_side_share_nothing(fresh: Sandbox, other: Sandbox) -> None:
    fresh.start("--machines", "1")
    other.start("--machines", "1")
    ports = [sandbox.inspect()["postgres"]["port"] for sandbox in (fresh, other)]
    assert ports[0] != ports[1]
    url = fresh.secret_value("DATABASE_URL")
    assert one(url) == "molecule_cp"
    assert refused(url.replace(str(ports[0]), str(ports[1])))
    other.stop()
    assert one(url) == "molecule_cp"


def test_the_template_is_made_once_by_whoever_comes_first(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    folders = [str(tmp_path / name) for name in ("a", "b")]
    command = [sys.executable, "-m", "sandbox", "start", "--detach", "--machines", "1", "--dir"]
    starting = [
        subprocess.Popen([*command, folder], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        for folder in folders
    ]
    try:
        assert [process.wait(60) for process in starting] == [0, 0]
        made = list((tmp_path / "cache" / "molecule-secrets" / "postgres").iterdir())
        assert len(made) == 1
        assert (made[0] / "password").stat().st_mode & 0o077 == 0
    finally:
        for folder in folders:
            run("stop", "--dir", folder)


def test_a_port_that_somebody_else_took_is_named(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    port = fresh.inspect()["postgres"]["port"]
    fresh.stop()
    thief = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: psutil.Process(thief.pid).net_connections(), what="the thief listens")
        failed = run("start", "--dir", str(fresh.directory), "--detach")
    finally:
        thief.kill()
        thief.wait()
    assert failed.returncode == 1
    assert f"Port {port} of PostgreSQL is taken" in failed.stderr
    fresh.start()


def test_no_password_lies_in_the_folder(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    with fresh.setting(neon__operation_seconds=0):
        password = good(fresh, "POST", f"{roles(fresh)}/molecule_cp/reset_password")["role"]["password"]
    with pytest.raises(psycopg.Error):
        one(uri(fresh, "molecule_cp"), f"SELECT '{password}'::int")
    with fresh.world() as world:
        administrator = world.kept("POSTGRES_PASSWORD")
    fresh.stop()
    assert administrator is not None
    for path in fresh.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert password.encode() not in content, path
            assert administrator.encode() not in content, path
