"""Many tenants: as the control plane would have made them, as processes and as light machines, ill and well."""

from __future__ import annotations

import base64
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from sandbox import neon
from sandbox.processes import encryption
from sandbox.world import sha256
from tests.sandbox.running import TENANT, Sandbox, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

PROCESSES = 2
COUNT = 5
"""Tenants: `PROCESSES` of them are processes, the others are light."""
SLUGS = [f"tenant-{number}" for number in range(1, COUNT + 1)]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run a sandbox that began with tenants of both kinds."""
    sandbox = Sandbox(tmp_path_factory.mktemp("tenants"))
    sandbox.start(
        *("--tenants", str(COUNT), "--tenant-processes", str(PROCESSES)),
        *("--check-interval", "0.2", "--restart-backoff", "0.02", "--machines", "1"),
    )
    yield sandbox
    sandbox.stop()


def machine_of(sandbox: Sandbox, slug: str) -> dict[str, Any]:
    return next(
        machine for machine in sandbox.machines(TENANT) if machine["config"]["metadata"]["molecule_org"] == slug
    )


def process_of(sandbox: Sandbox, slug: str) -> psutil.Process | None:
    identifier = machine_of(sandbox, slug)["id"]
    children = sandbox.process().children()
    return next((child for child in children if child.environ().get("FLY_MACHINE_ID") == identifier), None)


def kinds(sandbox: Sandbox) -> tuple[str, str]:
    """Return a tenant that is a process and one that is light."""
    processes = [slug for slug in SLUGS if process_of(sandbox, slug) is not None]
    return processes[0], next(slug for slug in SLUGS if slug not in processes)


@pytest.fixture(params=["process", "light"])
def slug(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    """Return a tenant of each kind."""
    return kinds(sandbox)[request.param == "light"]


@pytest.fixture
def restored(sandbox: Sandbox, slug: str) -> Iterator[None]:
    """Give the tenant back the configuration that it has."""
    config = machine_of(sandbox, slug)["config"]
    yield
    post(sandbox, slug, config)


def post(sandbox: Sandbox, slug: str, config: dict[str, Any], *, status: int = 200, nonce: str | None = None) -> None:
    """Update a tenant's machine and wait until it serves."""
    machine = machine_of(sandbox, slug)
    answer = sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": config}, nonce=nonce)
    assert answer.status_code == status, answer.text
    if status == 200:
        until(lambda: healthy(sandbox, slug, answer.json()["instance_id"]), what=f"{slug} serves again")


def change(sandbox: Sandbox, slug: str, *, nonce: str | None = None, status: int = 200, **environment: str) -> None:
    config = machine_of(sandbox, slug)["config"]
    post(sandbox, slug, {**config, "env": {**config["env"], **environment}}, nonce=nonce, status=status)


def healthy(sandbox: Sandbox, slug: str, instance: str | None = None) -> bool:
    machine = machine_of(sandbox, slug)
    return bool(
        machine["state"] == "started"
        and all(check["status"] == "passing" for check in machine["checks"])
        and instance in {None, machine["instance_id"]}
    )


def data(sandbox: Sandbox, method: str, slug: str, value: str | None = None) -> tuple[int, Any]:
    """Read or write through the control plane."""
    document = None if value is None else {"value": value}
    answer = sandbox.control_plane(method, f"/cp/orgs/{slug}/data/key", document)
    return answer.status_code, answer.json()


def breakages(sandbox: Sandbox, slug: str) -> list[str]:
    consumer = f"molecule-tenant/{machine_of(sandbox, slug)['id']}"
    return [each["what"] for each in sandbox.inspect()["breakages"] if each["consumer"] == consumer]


def inspected(sandbox: Sandbox, slug: str) -> dict[str, Any]:
    machines = sandbox.inspect()["fly"]["apps"]["molecule-tenant"]["machines"]
    found: dict[str, Any] = next(machine for machine in machines if machine["name"] == f"tenant-{slug}")
    return found


def exits(sandbox: Sandbox, slug: str) -> list[int]:
    """Return the statuses of a tenant's exits, newest first."""
    events = sandbox.machine(machine_of(sandbox, slug)["id"], TENANT)["events"]
    return [event["request"]["exit_event"]["exit_code"] for event in events if event["type"] == "exit"]


# -- what a sandbox begins with ----------------------------------------------------------------------------------------


def test_tenants_are_as_the_control_plane_would_have_made_them(sandbox: Sandbox) -> None:
    assert {slug: sandbox.status_of(slug) for slug in SLUGS} == dict.fromkeys(SLUGS, "running")
    branches = {
        b["name"]: b["id"] for b in sandbox.neon("GET", f"/projects/{neon.PROJECT}/branches").json()["branches"]
    }
    key = base64.b64decode(sandbox.secret_value("SECRETS_ENCRYPTION_KEY"))
    with psycopg.connect(sandbox.secret_value("DATABASE_URL"), row_factory=dict_row) as connection:
        rows = connection.execute(
            "SELECT * FROM org_instances JOIN organizations ON organizations.id = org_id"
        ).fetchall()
    assert sorted(row["slug"] for row in rows) == SLUGS
    assert sandbox.inspect()["control_plane"]["rows_encrypted"] == COUNT
    for row in rows:
        machine = machine_of(sandbox, row["slug"])
        assert (row["machine_id"], row["branch_id"]) == (machine["id"], branches[row["slug"]])
        environment = machine["config"]["env"]
        assert environment["MOLECULE_ORG_ID"] == str(row["org_id"])
        assert encryption.decrypt(key, row["database_url_encrypted"]) == environment["DATABASE_URL"]
        assert encryption.decrypt(key, row["redis_url_encrypted"]) == environment["REDIS_URL"]
        assert environment["REDIS_URL"] == sandbox.secret_value("TENANT_REDIS_URL")
        assert environment["SECRETS_ENCRYPTION_KEY"] == sandbox.secret_value("SECRETS_ENCRYPTION_KEY")
    # The shape is that of what the control plane makes, in every respect but the values.
    assert sandbox.provision("made-by-hand") == "running"
    ours, theirs = (machine_of(sandbox, slug)["config"] for slug in ("tenant-1", "made-by-hand"))
    for config in (ours, theirs):
        config["env"] = sorted(config["env"])
        config["metadata"] = sorted(config["metadata"])
    assert ours == theirs
    assert sandbox.control_plane("DELETE", "/cp/orgs/made-by-hand").status_code == 204


def test_some_are_processes_and_the_others_are_not_and_nobody_sees_a_difference(sandbox: Sandbox) -> None:
    processes = [slug for slug in SLUGS if process_of(sandbox, slug) is not None]
    assert len(processes) == PROCESSES
    shapes = set()
    for slug in SLUGS:
        machine, shown = machine_of(sandbox, slug), inspected(sandbox, slug)
        assert healthy(sandbox, slug)
        assert shown["healthy"]
        assert shown["env_sha256"]["FLY_MACHINE_ID"] == sha256(machine["id"])
        shapes.add(
            (tuple(machine), tuple(shown), tuple(shown["env_sha256"]), tuple(e["type"] for e in machine["events"]))
        )
    assert len(shapes) == 1


def test_its_data_and_its_database_are_its_own(sandbox: Sandbox, slug: str) -> None:
    before = sandbox.inspect()["breakages"]
    others = [each for each in SLUGS if each != slug]
    mine = f"of {slug}"
    assert data(sandbox, "PUT", slug, mine) == (200, {"key": "key", "value": mine})
    assert data(sandbox, "GET", slug) == (200, {"key": "key", "value": mine})
    assert sandbox.tenant("GET", slug, "/data/key").json() == {"key": "key", "value": mine}
    assert sandbox.tenant("PUT", slug, "/data/a%20b", {"value": "spaced"}).json() == {"key": "a b", "value": "spaced"}
    for document, path in (({"value": 1}, "/data/x"), ({}, "/data/x"), ([], "/data/x")):
        assert sandbox.tenant("PUT", slug, path, document).status_code == 400
    assert sandbox.tenant("PUT", slug, "/data/x", {"value": "v" * (1 << 20)}).status_code == 400
    assert [sandbox.tenant("GET", slug, path).status_code for path in ("/env", "/data", "/nothing")] == [404] * 3
    assert sandbox.tenant("GET", slug, "/database").status_code == 200
    answer = sandbox.tenant("GET", slug, "/health").json()
    assert answer == {"status": "ok", "org_id": machine_of(sandbox, slug)["config"]["env"]["MOLECULE_ORG_ID"]}
    assert mine not in {data(sandbox, "GET", other)[1].get("value") for other in others}
    assert sandbox.inspect()["breakages"] == before


@pytest.mark.usefixtures("restored")
def test_a_refused_credential_of_redis_is_a_breakage(sandbox: Sandbox, slug: str) -> None:
    data(sandbox, "PUT", slug, "kept")
    user = f"user-{slug}"
    change(sandbox, slug, REDIS_URL=sandbox.redis_url(user, sandbox.acl_user(user)))
    assert data(sandbox, "GET", slug)[1]["value"] == "kept"
    before = breakages(sandbox, slug)
    assert sandbox.acl("DELUSER", user) == 1
    assert data(sandbox, "GET", slug) == (503, {"error": "redis refused the credential: WRONGPASS"})
    assert breakages(sandbox, slug)[len(before) :] == [f"upstash redis GET as {user}: refused with WRONGPASS"]
    assert "tenant: redis answered WRONGPASS" in sandbox.fly("GET", "/api/v1/apps/molecule-tenant/logs").text


def test_a_refused_credential_of_its_database_is_a_breakage(sandbox: Sandbox, slug: str) -> None:
    branches = sandbox.neon("GET", f"/projects/{neon.PROJECT}/branches").json()["branches"]
    branch = next(each["id"] for each in branches if each["name"] == slug)
    before = breakages(sandbox, slug)
    others = [each for each in SLUGS if each != slug]
    open_ones = [
        psycopg.connect(machine_of(sandbox, each)["config"]["env"]["DATABASE_URL"], autocommit=True)
        for each in (slug, others[0])
    ]
    with sandbox.setting(neon__operation_seconds=0):
        role = f"/projects/{neon.PROJECT}/branches/{branch}/roles/{neon.OWNER}"
        assert sandbox.neon("POST", f"{role}/reset_password").status_code == 200
    assert sandbox.tenant("GET", slug, "/database").json() == {"error": "the database refused the credential"}
    assert breakages(sandbox, slug)[len(before) :] == ["postgres: the credential of DATABASE_URL was refused"]
    with pytest.raises(psycopg.OperationalError):
        open_ones[0].execute("SELECT 1")
    assert open_ones[1].execute("SELECT 1").fetchone() == (1,)
    for connection in open_ones:
        connection.close()
    assert {sandbox.tenant("GET", other, "/database").status_code for other in others} == {200}, "only its own role"
    query = f"database_name=neondb&role_name={neon.OWNER}&branch_id={branch}"
    uri = sandbox.neon("GET", f"/projects/{neon.PROJECT}/connection_uri?{query}").json()["uri"]
    change(sandbox, slug, DATABASE_URL=uri)
    assert sandbox.tenant("GET", slug, "/database").status_code == 200


# -- life --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restored")
def test_an_update_wants_the_lease_and_gives_the_new_environment(sandbox: Sandbox, slug: str) -> None:
    kind = process_of(sandbox, slug) is None
    identifier = machine_of(sandbox, slug)["id"]
    lease = sandbox.fly("POST", f"{TENANT}/machines/{identifier}/lease?ttl=60").json()["data"]["nonce"]
    change(sandbox, slug, NEW="value", status=409)
    assert "NEW" not in inspected(sandbox, slug)["env_sha256"]
    change(sandbox, slug, NEW="value", nonce=lease)
    assert inspected(sandbox, slug)["env_sha256"]["NEW"] == sha256("value")
    assert sandbox.fly("DELETE", f"{TENANT}/machines/{identifier}/lease", nonce=lease).status_code == 200
    assert (process_of(sandbox, slug) is None) is kind, "it stays what it is"


def test_it_stops_starts_and_is_restarted_after_a_crash(sandbox: Sandbox, slug: str) -> None:
    path = f"{TENANT}/machines/{machine_of(sandbox, slug)['id']}"
    assert sandbox.fly("POST", f"{path}/stop").status_code == 200
    until(lambda: machine_of(sandbox, slug)["state"] == "stopped", what="it is stopped")
    assert exits(sandbox, slug)[0] == 0
    with sandbox.setting(proxy_patience=0.1):
        assert sandbox.tenant("GET", slug, "/health").status_code == 503
    assert sandbox.fly("POST", f"{path}/signal", {"signal": "SIGKILL"}).status_code == 412
    assert sandbox.fly("POST", f"{path}/start").status_code == 200
    until(lambda: healthy(sandbox, slug), what="it runs again")
    count = len(exits(sandbox, slug))
    assert sandbox.fly("POST", f"{path}/signal", {"signal": "SIGKILL"}).status_code == 200
    until(lambda: len(exits(sandbox, slug)) > count, what="it ended")
    assert exits(sandbox, slug)[0] == 128 + signal.SIGKILL
    until(lambda: healthy(sandbox, slug), what="it was started again")
    assert sandbox.tenant("GET", slug, "/health").status_code == 200


@pytest.mark.usefixtures("restored")
def test_in_production_it_does_not_start_with_a_key_that_is_none(sandbox: Sandbox, slug: str) -> None:
    config = machine_of(sandbox, slug)["config"]
    environment = {**config["env"], "MOLECULE_ENV": "production", "SECRETS_ENCRYPTION_KEY": os.urandom(32).hex()}
    answer = sandbox.fly(
        "POST",
        f"{TENANT}/machines/{machine_of(sandbox, slug)['id']}",
        {"config": {**config, "env": environment, "restart": {"policy": "no"}}},
    )
    assert answer.status_code == 200
    until(lambda: machine_of(sandbox, slug)["state"] == "stopped", what="it gave up")
    assert exits(sandbox, slug)[0] == 1
    assert (
        "SECRETS_ENCRYPTION_KEY: got 48 bytes, expected 32"
        in sandbox.fly("GET", "/api/v1/apps/molecule-tenant/logs").text
    )


@pytest.mark.usefixtures("restored")
def test_a_restart_keeps_the_environment_and_a_crash_loop_ends(sandbox: Sandbox, slug: str) -> None:
    machine = machine_of(sandbox, slug)
    assert sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}/restart").status_code == 200
    until(lambda: healthy(sandbox, slug) and exits(sandbox, slug)[0] == 0, what="it was restarted")
    assert machine_of(sandbox, slug)["instance_id"] == machine["instance_id"]
    assert inspected(sandbox, slug)["env_sha256"]["REDIS_URL"] == sha256(machine["config"]["env"]["REDIS_URL"])


# -- ill ---------------------------------------------------------------------------------------------------------------


def test_a_tenant_can_be_made_ill_and_is_well_again(sandbox: Sandbox, slug: str) -> None:
    others = [each for each in SLUGS if each != slug]
    with sandbox.setting(check_interval=30):  # so that it is the change that has it checked
        time.sleep(0.3)
        with sandbox.setting(tenant__unhealthy=slug):
            until(lambda: not healthy(sandbox, slug), what="it is ill")
            assert not inspected(sandbox, slug)["healthy"]
            assert all(healthy(sandbox, other) for other in others)
            check = machine_of(sandbox, slug)["checks"][0]
            assert (check["status"], "unhealthy" in check["output"]) == ("critical", True)
        until(lambda: healthy(sandbox, slug), what="it is well again")
    assert data(sandbox, "PUT", slug, "value")[0] == 200


def test_several_are_ill_over_an_update_and_over_a_restart_of_the_sandbox(fresh: Sandbox) -> None:
    fresh.start("--tenants", "3", "--tenant-processes", "1", "--check-interval", "0.2", "--machines", "1")
    fresh.quickly("set", "tenant.unhealthy=tenant-1,tenant-3")
    until(lambda: [healthy(fresh, s) for s in SLUGS[:3]] == [False, True, False], what="two are ill")
    for slug in ("tenant-1", "tenant-3"):
        machine = machine_of(fresh, slug)
        assert fresh.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": machine["config"]}).status_code == 200
    until(
        lambda: all(machine_of(fresh, s)["checks"][0]["status"] == "critical" for s in ("tenant-1", "tenant-3")),
        what="both are ill after their update",
    )
    fresh.stop()
    fresh.quickly("set", "tenant.unhealthy=tenant-2")
    began = time.monotonic()
    fresh.start()
    assert time.monotonic() - began < 20, "nobody waits for the one that is to be ill"
    assert [healthy(fresh, s) for s in SLUGS[:3]] == [True, False, True]


def test_a_tenant_can_be_made_ill_by_a_new_value_only(sandbox: Sandbox) -> None:
    process, light = kinds(sandbox)
    slugs, well = (process, light), next(slug for slug in SLUGS if slug not in kinds(sandbox))
    old = machine_of(sandbox, process)["config"]["env"]["REDIS_URL"]
    new = f"{old}/0"
    with sandbox.setting(tenant__unhealthy_on_new=f"REDIS_URL:{process},{light}"):
        assert all(healthy(sandbox, slug) for slug in slugs)
        change(sandbox, process, OTHER="value")
        for slug in slugs:
            machine = machine_of(sandbox, slug)
            config = {**machine["config"], "env": {**machine["config"]["env"], "REDIS_URL": new}}
            sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": config})
            until(lambda s=slug: machine_of(sandbox, s)["checks"][0]["status"] == "critical", what="it is ill")  # type: ignore[misc]
        change(sandbox, well, REDIS_URL=new)
        change(sandbox, process, REDIS_URL=old)
        assert not healthy(sandbox, light)
    until(lambda: healthy(sandbox, light), what="it is well again")
    for slug in (light, well):
        change(sandbox, slug, REDIS_URL=old)


def test_illness_is_not_set_by_mistake(sandbox: Sandbox) -> None:
    for setting, said in (
        ("tenant.unhealthy=tenant-1,nobody", "No tenant has the organization nobody"),
        ("tenant.unhealthy=REDIS_URL:tenant-1", "SLUG,SLUG"),
        ("tenant.unhealthy_on_new=tenant-1", "NAME:SLUG,SLUG"),
        ("tenant.unhealthy_on_new=NOTHING:tenant-1", "has no NOTHING"),
    ):
        done = run("set", "--dir", str(sandbox.directory), setting)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert all(healthy(sandbox, slug) for slug in SLUGS)


# -- many --------------------------------------------------------------------------------------------------------------


def test_tenants_are_deleted_one_by_one_though_their_databases_are_one(fresh: Sandbox) -> None:
    fresh.start("--tenants", "3", "--tenant-processes", "0", "--check-interval", "0.2", "--machines", "1")
    urls = {slug: machine_of(fresh, slug)["config"]["env"]["DATABASE_URL"] for slug in SLUGS[:3]}
    with psycopg.connect(urls["tenant-1"]) as connection:
        connection.execute("CREATE TABLE notes (text text)")
    assert fresh.control_plane("DELETE", "/cp/orgs/tenant-1").status_code == 204

    def refused() -> bool:
        try:
            psycopg.connect(urls["tenant-1"]).close()
        except psycopg.OperationalError as error:
            return "password authentication failed" in str(error)
        return False

    until(refused, what="its role is gone")
    assert [fresh.tenant("GET", slug, "/database").status_code for slug in ("tenant-2", "tenant-3")] == [200, 200]
    assert fresh.status_of("tenant-1") is None
    assert not [child for child in fresh.process().children() if "sandbox.processes.tenant" in child.cmdline()]


def test_two_hundred_tenants_start_in_time_and_all_answer(fresh: Sandbox) -> None:
    began = time.monotonic()
    fresh.start("--tenants", "200", "--tenant-processes", "10", "--machines", "1")
    assert time.monotonic() - began < 30
    document = fresh.inspect()
    machines = document["fly"]["apps"]["molecule-tenant"]["machines"]
    assert (len(machines), all(machine["healthy"] for machine in machines)) == (200, True)
    assert document["breakages"] == []
    slugs = [f"tenant-{number}" for number in range(1, 201, 10)]
    assert {data(fresh, "PUT", slug, slug)[0] for slug in slugs} == {200}
    assert [data(fresh, "GET", slug)[1]["value"] for slug in slugs] == slugs
    assert fresh.fly("GET", f"{TENANT}/machines?summary=true").json()[199]["state"] == "started"
