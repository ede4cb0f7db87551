"""Starting, stopping, being killed, resuming: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from sandbox import cli
from sandbox.world import SandboxError
from tests.sandbox.running import CONTROL_PLANE, Sandbox, alive, children, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def of_folder(sandbox: Sandbox) -> list[psutil.Process]:
    """Return every process that has to do with a sandbox: its server, and whatever calls its Fly."""
    url, folder = sandbox.environment["FLY_FLAPS_BASE_URL"], str(sandbox.directory)
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and alive(process)
                and (process.environ().get("FLY_FLAPS_BASE_URL") == url or folder in process.cmdline())
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def without_boots(world: dict[str, Any]) -> dict[str, Any]:
    """Tenants connect to Redis when they boot, in their own time, and that is when machines become healthy."""
    world = copy.deepcopy(world)
    for user in world["upstash"]["databases"][0]["users"]:
        del user["connections"]
    for app in world["fly"]["apps"].values():
        for machine in app["machines"]:
            del machine["healthy_since"]
    return world


def without_requests(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "requests"}


def test_stop_leaves_the_state_and_start_resumes_it(fresh: Sandbox) -> None:
    fresh.start("--check-interval", "0.2")
    token = fresh.mint(name="survivor")
    dead = fresh.mint(name="dead")
    fresh.revoke(dead["id"])
    assert fresh.provision("tenant-one") == "running"
    tenant = fresh.machines("/v1/apps/molecule-tenant")[0]["id"]
    until(
        lambda: fresh.machine(tenant, "/v1/apps/molecule-tenant")["checks"][0]["status"] == "passing",
        what="the tenant is healthy",
    )
    fresh.quickly("set", "boot_time=0.1")
    environment = dict(fresh.environment)
    booted = {m["id"]: m for m in without_boots(fresh.inspect())["fly"]["apps"]["molecule-cp"]["machines"]}
    fresh.secrets(STAGED="only", FLY_API_TOKEN="staged-but-not-deployed")
    before = fresh.inspect()
    fresh.stop()
    assert of_folder(fresh) == []
    assert without_boots(fresh.inspect()) == without_boots(before), "inspect works on the stopped sandbox"
    again = run("stop", "--dir", str(fresh.directory))
    assert (again.returncode, "No sandbox runs" in again.stdout) == (0, True)

    fresh.start()
    assert fresh.environment == environment
    after = fresh.inspect()
    assert without_boots(without_requests(after)) == without_boots(without_requests(before))
    for machine in without_boots(after)["fly"]["apps"]["molecule-cp"]["machines"]:
        assert "STAGED" not in machine["env_sha256"]
        assert machine == booted[machine["id"]]
    assert fresh.fly("GET", "/v1/tokens/current", authorization=token["tokenHeader"]).status_code == 200
    assert fresh.fly("GET", "/v1/tokens/current", authorization=dead["tokenHeader"]).status_code == 401
    assert fresh.provision("tenant-two") == "running", "the control plane booted with what it had booted with"
    with fresh.world() as world:
        assert world.number("boot_time") == 0.1


def test_nothing_acknowledged_is_lost_and_nothing_is_left_when_the_server_is_killed(fresh: Sandbox) -> None:
    fresh.start("--check-interval", "0.2")
    assert fresh.provision("before-kill") == "running"
    for number in range(5):
        token = fresh.mint(name=f"minted-{number}")
        version = fresh.secrets(**{f"WRITTEN_{number}": "value"})
    started = children(fresh.process())
    assert len([process for process in started if alive(process)]) >= 3
    fresh.kill()
    until(lambda: not any(alive(process) for process in started), what="the machines end with their server")
    assert of_folder(fresh) == []
    names = [credential["name"] for credential in fresh.inspect()["credentials"]]
    assert {f"minted-{number}" for number in range(5)} <= set(names)

    fresh.start()
    assert fresh.fly("GET", f"{CONTROL_PLANE}/machines", authorization=token["tokenHeader"]).status_code == 200
    assert fresh.secrets(NEVER_THERE=None) == version + 1
    assert "WRITTEN_4" in fresh.inspect()["fly"]["apps"]["molecule-cp"]["secrets"]
    assert fresh.status_of("before-kill") == "running"
    assert fresh.control_plane("DELETE", "/cp/orgs/before-kill").status_code == 204


def test_a_kill_in_the_middle_of_an_update_is_resumed(fresh: Sandbox) -> None:
    fresh.start("--check-interval", "0.2")
    fresh.secrets(NEW="value")
    fresh.quickly("set", "boot_time=1")
    machine = fresh.machines()[0]
    updated = fresh.update(machine).json()
    lease = fresh.fly("POST", f"{CONTROL_PLANE}/machines/{machine['id']}/lease?ttl=60").json()["data"]
    fresh.kill()
    fresh.start()
    now = fresh.wait_healthy(updated)
    assert now["instance_id"] == updated["instance_id"]
    assert "NEW" in fresh.environment_of(machine["id"])
    assert fresh.update(now).status_code == 409, "the lease is still held"
    assert fresh.update(now, nonce=lease["nonce"]).status_code == 200


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("ours", [True, False])
def test_a_process_that_outlived_its_server_is_ended_at_the_next_start(
    *, fresh: Sandbox, sleeper: subprocess.Popen[bytes], ours: bool
) -> None:
    fresh.start("--check-interval", "0.2", "--machines", "1")
    fresh.kill()
    # The same id with another start time is a process of somebody else.
    started = psutil.Process(sleeper.pid).create_time() if ours else 1.0
    with fresh.world() as world, world.database:
        world.database.execute("UPDATE fly_machines SET process = ?, process_started = ?", (sleeper.pid, started))
    fresh.start()
    assert alive(psutil.Process(sleeper.pid)) is not ours


def test_starting_a_running_sandbox_says_so(fresh: Sandbox) -> None:
    fresh.start()
    process = fresh.process()
    for arguments in (("--detach",), ()):
        again = run("start", "--dir", str(fresh.directory), *arguments)
        assert again.returncode == 0
        assert "already" in again.stdout
    assert fresh.process() == process


def test_two_sandboxes_side_by_side_share_nothing(tmp_path: Path, fresh: Sandbox) -> None:
    other = Sandbox(tmp_path / "other")
    try:
        fresh.start()
        other.start("--machines", "1")
        urls = [{v for v in s.environment.values() if v.startswith("http")} for s in (fresh, other)]
        assert not urls[0] & urls[1]
        answer = other.fly("GET", f"{CONTROL_PLANE}/machines", authorization=f"Bearer {fresh.operator}")
        assert answer.status_code == 401
        assert (len(fresh.machines()), len(other.machines())) == (2, 1)
        other.stop()
        assert len(fresh.machines()) == 2
    finally:
        other.stop()


def test_a_port_that_somebody_else_took_is_named(fresh: Sandbox) -> None:
    fresh.start()
    port = httpx.URL(fresh.environment["FLY_FLAPS_BASE_URL"]).port
    fresh.stop()
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL
    ) as thief:
        until(lambda: _listening(port), what="the thief listens")
        failed = run("start", "--dir", str(fresh.directory), "--detach")
        thief.kill()
    assert failed.returncode == 1
    assert f"Port {port} of the service fly is taken" in failed.stderr
    assert of_folder(fresh) == []
    fresh.start()


def _listening(port: int | None) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port or 0)) == 0


def test_env_prints_what_clients_read(fresh: Sandbox) -> None:
    fresh.start()
    environment = fresh.environment
    assert {name for name in environment if name.startswith("FLY_")} >= {
        "FLY_API_BASE_URL",
        "FLY_FLAPS_BASE_URL",
        "FLY_UIEX_BASE_URL",
        "FLY_METRICS_BASE_URL",
        "FLY_CONFIG_DIR",
        "FLY_REGISTRY_URL",
        "FLY_ACCESS_TOKEN",
    }
    assert "FLY_API_TOKEN" not in environment
    assert environment["FLY_ACCESS_TOKEN"].startswith("fo1_")
    assert environment["GITHUB_BASE_URL"] == environment["GITHUB_API_URL"] + "/"
    assert environment["GITHUB_TOKEN"] == environment["GH_TOKEN"]
    assert (environment["FLY_SEND_METRICS"], environment["PULUMI_CONFIG_PASSPHRASE"]) == ("0", "sandbox")
    state = Path(environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    assert state == fresh.directory / "state"
    assert state.is_dir()
    # As a shell reads it.
    command = f'eval "$({sys.executable} -m sandbox env --dir "{fresh.directory}")"; printf %s "$FLY_ACCESS_TOKEN"'
    shell = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, cwd=ROOT)
    assert shell.stdout == environment["FLY_ACCESS_TOKEN"]


def test_inspect_is_as_designed_and_finds_its_folder(fresh: Sandbox, tmp_path: Path) -> None:
    fresh.start()
    document = json.loads(fresh.command("inspect"))
    assert {"credentials", "fly", "github", "breakages", "requests"} <= set(document)
    for credential in document["credentials"]:
        assert {"provider", "family", "id", "name", "live", "created_at", "revoked_at"} <= set(credential)
    machine = document["fly"]["apps"]["molecule-cp"]["machines"][0]
    assert {"id", "state", "healthy", "env_sha256", "instance_id", "region"} <= set(machine)
    assert set(document["fly"]["apps"]["molecule-cp"]["secrets"]["SESSION_SECRET"]) == {"digest", "sha256"}
    repository = document["github"]["repositories"]["Molecule-AI/molecule-monorepo"]
    assert set(repository["secrets"]["FLY_API_TOKEN"]) >= {"sha256", "updated_at"}
    by_name = run("inspect", environment={"SANDBOX_DIR": str(fresh.directory)})
    assert json.loads(by_name.stdout)["credentials"] == document["credentials"]
    assert str(fresh.directory) in by_name.stderr
    (tmp_path / ".rehearsal").mkdir()
    (tmp_path / ".rehearsal" / "sandbox").symlink_to(fresh.directory)
    found = subprocess.run(
        [sys.executable, "-m", "sandbox", "inspect"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SANDBOX_DIR": str(tmp_path / "none")},
    )
    assert ".rehearsal" in found.stderr
    assert run("inspect", "--dir", str(tmp_path / "nothing")).returncode == 1


def test_the_admin_service_wants_its_token(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    with fresh.world() as world:
        url = world.url("admin")
    for method, path in (("POST", "/stop"), ("GET", "/faults"), ("PATCH", "/settings"), ("GET", "/health")):
        answer = httpx.request(method, url + path, headers={"authorization": "Bearer no"}, trust_env=False)
        assert answer.status_code == 401
    assert len(fresh.machines()) == 1


def test_nothing_listens_beyond_loopback(fresh: Sandbox) -> None:
    fresh.start()
    server = fresh.process()
    connections = [c for p in (server, *children(server)) for c in p.net_connections()]
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    ports = {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    urls = [value for value in fresh.environment.values() if value.startswith(("http://", "https://"))]
    assert {urlsplit(url).hostname for url in urls} == {"127.0.0.1"}
    assert {urlsplit(url).port for url in urls} <= ports, "every API"
    databases = {urlsplit(fresh.secret_value(name)).port for name in ("DATABASE_URL", "TENANT_REDIS_URL")}
    assert databases <= ports, "PostgreSQL and Redis, too"


def test_no_value_lies_in_the_folder_or_in_a_command_line(fresh: Sandbox) -> None:
    fresh.start("--check-interval", "0.2")
    values = [fresh.mint()["tokenHeader"].removeprefix("FlyV1 "), "a-secret-value-of-the-test"]
    fresh.secrets(PLAIN="a-secret-value-of-the-test")
    values += [fresh.secret_value(name).removeprefix("FlyV1 ") for name in ("FLY_API_TOKEN", "SESSION_SECRET")]
    values += [
        fresh.environment[name] for name in ("FLY_ACCESS_TOKEN", "GITHUB_TOKEN", "CP_ADMIN_API_TOKEN", "CP_SESSION")
    ]
    config = {"image": "registry.fly.io/molecule-tenant:latest", "env": {"REDIS_URL": "redis://:pass-in-config@h"}}
    fresh.fly("POST", "/v1/apps/molecule-tenant/machines", {"config": config})
    values.append("pass-in-config")
    fresh.roll()
    assert fresh.provision("some-org") == "running"
    server = fresh.process()
    lines = [" ".join(process.cmdline()) for process in (server, *children(server))]

    def found() -> list[tuple[str, str]]:
        contents = {str(path): path.read_bytes() for path in fresh.directory.rglob("*") if path.is_file()}
        assert any(name.endswith("world.sqlite") for name in contents)
        return [(value[:8], name) for value in values for name, data in contents.items() if value.encode() in data]

    assert found() == []
    assert not any(value in line for value in values for line in lines)
    fresh.stop()
    assert found() == []


def test_the_programs_own_environment_starts_again_with_the_developments(tmp_path: Path) -> None:
    # A clone in which neither environment exists; this interpreter without its site-packages has no library.
    shutil.copytree(ROOT / "sandbox", tmp_path / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('sandbox', run_name='__main__')",
        str(tmp_path),
    ]
    missing = subprocess.run([*command, "inspect"], check=False, capture_output=True, text=True)
    assert missing.returncode == 1
    assert "make sandbox-environment" in missing.stderr
    python = tmp_path / ".venv-dev" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    again = subprocess.run([*command, "inspect", "--dir", "D"], check=True, capture_output=True, text=True)
    assert again.stdout.split() == [str(tmp_path), "-m", "sandbox", "inspect", "--dir", "D"]


@pytest.mark.parametrize(
    "error", [SandboxError("The server did not answer."), KeyboardInterrupt(), RuntimeError("bug")]
)
def test_a_detached_start_that_fails_leaves_nothing_behind(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    arguments = ["start", "--dir", str(fresh.directory), "--detach"]
    started: list[psutil.Process] = []

    def fail(_directory: Path, process: subprocess.Popen[bytes] | None, _patience: float) -> list[str]:
        assert process is not None
        until(lambda: len(children(psutil.Process(process.pid))) >= 4, what="the server has children of its own")
        started.extend([psutil.Process(process.pid), *children(psutil.Process(process.pid))])
        raise error

    monkeypatch.setattr(sys, "argv", ["sandbox", *arguments])
    monkeypatch.setattr(cli, "_await_ready", fail)
    if isinstance(error, SandboxError):
        assert cli.main(arguments) == 1
    else:
        with pytest.raises(type(error)):
            cli.main(arguments)
    assert len(started) >= 5
    assert not any(alive(process) for process in started)


def test_the_command_line_imports_only_what_a_command_needs() -> None:
    program = "import sys, sandbox.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "sandbox" in loaded
    assert not loaded & {"asyncio", "graphql", "httpx", "psycopg", "starlette", "uvicorn"}


def test_the_help_lists_every_setting() -> None:
    for arguments in (("set", "--help"), ("--help",)):
        shown = run(*arguments).stdout
        assert all(name in shown for name in ("tenant.unhealthy", "neon.operation_seconds", "upstash.acl_enabled"))


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    with httpx.Client(trust_env=False) as client:
        for url in (
            fresh.environment["CONTROL_PLANE_URL"] + "/health",
            fresh.environment["FLY_FLAPS_BASE_URL"] + "/v1",
        ):
            elapsed = [client.get(url).elapsed.total_seconds() for _ in range(10)]
            assert min(elapsed[1:]) < 0.03, "Nagle's algorithm costs 0.04 s each time"


@pytest.fixture
def foreground(fresh: Sandbox) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "start", "--dir", str(fresh.directory)], stderr=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()


def test_the_foreground_server_ends_with_ctrl_c(foreground: subprocess.Popen[bytes], fresh: Sandbox) -> None:
    until((fresh.directory / "sandbox.pid").exists, what="the server notes its process")
    fresh.start("--detach")
    started = children(psutil.Process(foreground.pid))
    foreground.send_signal(2)
    assert foreground.wait(60) == 0
    assert not any(alive(process) for process in started)
    time.sleep(0.1)
    assert not (fresh.directory / "sandbox.pid").exists()
