"""Machines and secrets at Fly: everything that a rolling restart relies on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.running import CONTROL_PLANE, TENANT, Client, until
from tools.workspace import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.sandbox.running import Sandbox

LEASE = "fly POST /v1/apps/{app}/machines/{machine}/lease"
LIST = "fly GET /v1/apps/{app}/machines"
IMAGE = "registry.fly.io/molecule-tenant:latest"
CHECKED = {
    "image": IMAGE,
    "checks": {"health": {"type": "http", "port": 8080, "path": "/health", "interval": "1s", "timeout": "1s"}},
}


def sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def path_of(machine: dict[str, Any], app: str = CONTROL_PLANE) -> str:
    return f"{app}/machines/{machine['id']}"


@pytest.fixture
def tenant(sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    """A machine of the other app, to be handled without care."""
    answer = sandbox.fly("POST", f"{TENANT}/machines", {"config": CHECKED})
    assert answer.status_code == 200
    machine = answer.json()
    wait(sandbox, machine, "started")
    yield machine
    sandbox.fly("DELETE", f"{path_of(machine, TENANT)}?force=true")
    wait(sandbox, machine, "destroyed")


def wait(sandbox: Sandbox, machine: dict[str, Any], state: str, **query: str) -> httpx.Response:
    parameters = "&".join(f"{name}={value}" for name, value in {"state": state, "timeout": "20", **query}.items())
    return sandbox.fly("GET", f"{path_of(machine, TENANT)}/wait?{parameters}")


def state(sandbox: Sandbox, machine: dict[str, Any]) -> str:
    return str(sandbox.machine(machine["id"], TENANT)["state"])


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_secrets_are_set_listed_and_unset_without_their_values(sandbox: Sandbox) -> None:
    first = sandbox.secrets(ONE="value-one", TWO="value-two")
    assert sandbox.secrets(ONE="value-one", TWO=None, NEVER_THERE=None) > first
    listed = sandbox.fly("GET", f"{CONTROL_PLANE}/secrets?show_secrets=true")
    secrets = {secret["name"]: secret for secret in listed.json()["secrets"]}
    assert "TWO" not in secrets
    assert {"ONE", "FLY_API_TOKEN", "SESSION_SECRET"} <= set(secrets)
    assert set(secrets["ONE"]) == {"name", "digest", "created_at", "updated_at"}
    assert secrets["ONE"]["updated_at"] > secrets["ONE"]["created_at"]
    assert "value-one" not in listed.text
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/secrets/ONE").json() == secrets["ONE"]
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/secrets/TWO").status_code == 404


def test_one_secret_is_set_and_deleted_by_its_name(sandbox: Sandbox) -> None:
    answer = sandbox.fly("POST", f"{CONTROL_PLANE}/secrets/SINGLE", {"value": "v"})
    assert answer.status_code == 201
    assert answer.json()["name"] == "SINGLE"
    deleted = sandbox.fly("DELETE", f"{CONTROL_PLANE}/secrets/SINGLE")
    assert deleted.json()["version"] == answer.json()["version"] + 1
    assert sandbox.fly("DELETE", f"{CONTROL_PLANE}/secrets/SINGLE").status_code == 200


def test_a_digest_is_opaque_stable_and_of_its_app(sandbox: Sandbox) -> None:
    def digest(app: str, value: str) -> str:
        answer = sandbox.fly("POST", f"{app}/secrets", {"values": {"DIGESTED": value}})
        return str(answer.json()["secrets"][0]["digest"])

    first, second = digest(CONTROL_PLANE, "a"), digest(CONTROL_PLANE, "b")
    assert first != second
    assert digest(CONTROL_PLANE, "a") == first
    assert digest(TENANT, "a") != first
    assert first not in sha256("a")


@pytest.mark.parametrize(
    "body", [None, [], {}, {"values": {}}, {"values": {"1A": "x"}}, {"values": {"A-B": "x"}}, {"values": {"A": 1}}]
)
def test_wrong_secrets_change_nothing(sandbox: Sandbox, body: object) -> None:
    before = sandbox.secrets(NEVER_THERE=None)
    assert sandbox.fly("POST", f"{CONTROL_PLANE}/secrets", body).status_code == 400
    assert sandbox.secrets(NEVER_THERE=None) == before + 1


def test_written_secrets_are_available_after_the_lag_only(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    with sandbox.setting(secrets_lag=1):
        version = sandbox.fly("POST", f"{TENANT}/secrets", {"values": {"LAGGING": "new"}}).json()["version"]
        body = {"config": tenant["config"], "min_secrets_version": version}
        early = sandbox.fly("POST", path_of(tenant, TENANT), body)
        assert early.status_code == 412
        assert early.json() == {"error": f"min_secrets_version {version} is not yet available on this app"}
        for name in ("version", "min_version"):
            assert sandbox.fly("GET", f"{TENANT}/secrets?{name}={version}").status_code == 412
        assert sandbox.machine(tenant["id"], TENANT)["instance_id"] == tenant["instance_id"]
        until(
            lambda: sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 200, what="the version is there"
        )
        assert sandbox.fly("GET", f"{TENANT}/secrets?version={version}").status_code == 200
    wait(sandbox, tenant, "started")
    assert sandbox.environment_of(tenant["id"], "molecule-tenant")["LAGGING"] == sha256("new")


def test_a_version_that_was_never_written_is_refused(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    body = {"config": tenant["config"], "min_secrets_version": 1_000_000}
    assert sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 412
    assert sandbox.fly("POST", f"{TENANT}/machines", body).status_code == 412


# -- what a machine boots with -----------------------------------------------------------------------------------------


def test_only_an_update_picks_new_secrets_up(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    def seen() -> str | None:
        recorded = sandbox.environment_of(tenant["id"], "molecule-tenant").get("PICKED")
        actual = sandbox.process_of(tenant["id"]).get("PICKED")
        assert recorded == (None if actual is None else sha256(actual))
        return recorded

    sandbox.fly("POST", f"{TENANT}/secrets", {"values": {"PICKED": "up"}})
    assert seen() is None
    assert sandbox.fly("POST", f"{path_of(tenant, TENANT)}/restart").status_code == 200
    wait(sandbox, tenant, "started")
    assert seen() is None
    sandbox.fly("POST", f"{path_of(tenant, TENANT)}/stop", {})
    wait(sandbox, tenant, "stopped")
    sandbox.fly("POST", f"{path_of(tenant, TENANT)}/start")
    wait(sandbox, tenant, "started")
    assert seen() is None
    sandbox.fly("POST", path_of(tenant, TENANT), {"config": tenant["config"], "skip_secrets": True})
    wait(sandbox, tenant, "started")
    assert seen() is None
    updated = sandbox.fly("POST", path_of(tenant, TENANT), {"config": tenant["config"]}).json()
    assert wait(sandbox, tenant, "started", version=updated["instance_id"]).status_code == 200
    assert seen() == sha256("up")


def test_the_environment_is_exactly_config_secrets_and_fly_names(sandbox: Sandbox) -> None:
    sandbox.fly("POST", f"{TENANT}/secrets", {"values": {"FROM_APP": "secret", "BOTH": "secret"}})
    config = CHECKED | {"env": {"FROM_CONFIG": "env", "BOTH": "env"}}
    machine = sandbox.fly("POST", f"{TENANT}/machines", {"config": config}).json()
    wait(sandbox, machine, "started")
    environment = sandbox.environment_of(machine["id"], "molecule-tenant")
    expected = {"FROM_APP": "secret", "FROM_CONFIG": "env", "BOTH": "secret", "FLY_APP_NAME": "molecule-tenant"}
    assert {name: environment.get(name) for name in expected} == {n: sha256(v) for n, v in expected.items()}
    # What was recorded is what the process really has.
    actual = sandbox.process_of(machine["id"])
    platform = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PORT", "FLY_FLAPS_BASE_URL", "SANDBOX_RIG_URL"}
    platform |= {"NEON_API_BASE_URL", "RESEND_API_URL", "STRIPE_API_BASE_URL", "TENANT_URL", "SANDBOX_ILLNESS"}
    assert {n: sha256(v) for n, v in actual.items() if n not in platform | {"LC_CTYPE"}} == environment
    sandbox.fly("DELETE", f"{path_of(machine, TENANT)}?force=true")


# -- update, wait, states ----------------------------------------------------------------------------------------------


def test_an_update_makes_a_new_version_and_another_process(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    answer = sandbox.fly(
        "POST", path_of(tenant, TENANT), {"config": CHECKED | {"env": {"X": "1"}}, "region": tenant["region"]}
    )
    assert answer.status_code == 200
    updated = answer.json()
    assert updated["instance_id"] not in {tenant["instance_id"], ""}
    assert updated["state"] == "replacing"
    assert wait(sandbox, tenant, "started", version=updated["instance_id"]).json()["version"] == updated["instance_id"]
    assert wait(sandbox, tenant, "started", version=tenant["instance_id"], timeout="1").status_code == 408
    old = sandbox.fly("GET", f"{path_of(tenant, TENANT)}?version={tenant['instance_id']}").json()
    assert old["config"] == CHECKED
    assert sandbox.machine(tenant["id"], TENANT)["config"]["env"] == {"X": "1"}


def test_current_version_guards_an_update(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    body = {"config": tenant["config"], "current_version": "01NOTTHEVERSION"}
    assert sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 409
    now = sandbox.machine(tenant["id"], TENANT)
    assert (now["instance_id"], now["state"]) == (tenant["instance_id"], "started")
    body["current_version"] = tenant["instance_id"]
    assert sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 200
    assert sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 409


def test_name_and_region_cannot_change(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    changes: list[dict[str, Any]] = [{"region": "fra"}, {"name": "other"}, {"config": None}, {"config": {}}]
    for change in changes:
        assert sandbox.fly("POST", path_of(tenant, TENANT), {"config": CHECKED} | change).status_code == 400
    assert sandbox.machine(tenant["id"], TENANT)["instance_id"] == tenant["instance_id"]


def test_wait_gives_up_with_the_documented_answer(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = wait(sandbox, tenant, "stopped", timeout="1")
    assert 1 <= time.monotonic() - began < 30
    assert answer.status_code == 408
    assert answer.json()["error"] == (
        "deadline_exceeded: machine failed to reach desired state, stopped, currently started"
    )
    assert wait(sandbox, tenant, "stopped,started").json()["state"] == "started"
    assert wait(sandbox, tenant, "settled").status_code == 200
    assert wait(sandbox, tenant, "nonsense").status_code == 400


def test_an_update_without_launch_leaves_a_stopped_machine_stopped(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    sandbox.fly("POST", f"{path_of(tenant, TENANT)}/stop", {})
    wait(sandbox, tenant, "stopped")
    body = {"config": CHECKED | {"env": {"LATER": "1"}}, "skip_launch": True}
    assert sandbox.fly("POST", path_of(tenant, TENANT), body).status_code == 200
    wait(sandbox, tenant, "stopped")
    assert sandbox.environment_of(tenant["id"], "molecule-tenant")["LATER"] == sha256("1")
    time.sleep(0.3)
    assert state(sandbox, tenant) == "stopped"
    answer = sandbox.fly("POST", f"{path_of(tenant, TENANT)}/start")
    assert answer.json()["previous_state"] == "stopped"
    wait(sandbox, tenant, "started")
    assert sandbox.fly("POST", f"{path_of(tenant, TENANT)}/start").status_code == 412


def test_create_without_launch_and_names_are_unique(sandbox: Sandbox) -> None:
    body = {"config": CHECKED, "skip_launch": True, "name": "only-one", "region": "ams"}
    machine = sandbox.fly("POST", f"{TENANT}/machines", body).json()
    assert (machine["state"], machine["region"], machine["name"]) == ("created", "ams", "only-one")
    again = sandbox.fly("POST", f"{TENANT}/machines", body)
    assert again.status_code == 409
    assert again.json()["status"] == "name_taken"
    assert sandbox.fly("DELETE", path_of(machine, TENANT)).status_code == 200
    wait(sandbox, machine, "destroyed")
    assert sandbox.fly("POST", f"{TENANT}/machines", {"config": {}}).status_code == 400


def test_a_running_machine_is_destroyed_by_force_only(sandbox: Sandbox) -> None:
    machine = sandbox.fly("POST", f"{TENANT}/machines", {"config": CHECKED}).json()
    wait(sandbox, machine, "started")
    assert sandbox.fly("DELETE", path_of(machine, TENANT)).status_code == 412
    assert sandbox.fly("DELETE", f"{path_of(machine, TENANT)}?force=true").json() == {"ok": True}
    assert wait(sandbox, machine, "destroyed").status_code == 200
    assert machine["id"] not in [m["id"] for m in sandbox.machines(TENANT)]
    deleted = sandbox.fly("GET", f"{TENANT}/machines?include_deleted=true").json()
    assert machine["id"] in [m["id"] for m in deleted]
    assert sandbox.fly("POST", path_of(machine, TENANT), {"config": CHECKED}).status_code == 404
    assert sandbox.fly("DELETE", f"{path_of(machine, TENANT)}?force=true").status_code == 404


def test_list_filters_and_pages(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    config = CHECKED | {"metadata": {"color": "red"}}
    other = sandbox.fly("POST", f"{TENANT}/machines", {"config": config, "skip_launch": True, "region": "ams"}).json()

    def ids(query: str) -> list[str]:
        return [machine["id"] for machine in sandbox.fly("GET", f"{TENANT}/machines?{query}").json()]

    assert ids("state=created") == [other["id"]]
    assert ids("state=started&state=stopped") == [tenant["id"]]
    assert ids("region=ams") == [other["id"]]
    assert ids("metadata.color=red") == [other["id"]]
    assert ids("metadata.color=blue") == []
    first = sandbox.fly("GET", f"{TENANT}/machines?limit=1")
    cursor = first.headers["fly-next-cursor"]
    rest = sandbox.fly("GET", f"{TENANT}/machines?limit=1&cursor={cursor}")
    assert sorted([first.json()[0]["id"], rest.json()[0]["id"]]) == sorted([tenant["id"], other["id"]])
    assert "fly-next-cursor" not in rest.headers
    assert "config" not in sandbox.fly("GET", f"{TENANT}/machines?summary=true").json()[0]
    sandbox.fly("DELETE", path_of(other, TENANT))


def test_metadata_changes_without_a_restart(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    path = f"{path_of(tenant, TENANT)}/metadata"
    assert sandbox.fly("POST", f"{path}/key", {"value": "v"}).status_code == 204
    assert sandbox.fly("GET", path).json() == {"key": "v"}
    assert sandbox.fly("GET", f"{path}/key").json() == {"value": "v"}
    assert sandbox.fly("DELETE", f"{path}/key").status_code == 204
    assert sandbox.fly("GET", f"{path}/key").status_code == 404
    now = sandbox.machine(tenant["id"], TENANT)
    assert (now["instance_id"], now["state"]) == (tenant["instance_id"], "started")


def test_processes_show_a_listening_socket(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    processes = sandbox.fly("GET", f"{path_of(tenant, TENANT)}/ps").json()
    assert processes[0]["listen_sockets"] == [{"proto": "tcp", "address": "0.0.0.0:8080"}]


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_keeps_others_out_until_it_is_released(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    lease = sandbox.fly("POST", f"{path_of(tenant, TENANT)}/lease", {"ttl": 30, "description": "mine"})
    assert lease.status_code == 201
    assert lease.json()["status"] == "success"
    data = lease.json()["data"]
    assert data["version"] == tenant["instance_id"]
    assert time.time() + 25 < data["expires_at"] <= time.time() + 31
    assert sandbox.fly("GET", f"{path_of(tenant, TENANT)}/lease").json()["data"] == data
    for nonce in (None, "wrong"):
        for method, suffix, body in (
            ("POST", "", {"config": CHECKED}),
            ("POST", "/stop", {}),
            ("POST", "/restart", {}),
            ("POST", "/lease?ttl=5", None),
            ("DELETE", "/lease", None),
            ("POST", "/cordon", None),
            ("POST", "/metadata/a", {"value": "b"}),
            ("DELETE", "?force=true", None),
        ):
            answer = sandbox.fly(method, path_of(tenant, TENANT) + suffix, body, nonce=nonce)
            assert answer.status_code == 409, (method, suffix)
            assert answer.json()["error"].startswith(f"machine ID {tenant['id']} lease currently held by ")
            assert ", expires at 20" in answer.json()["error"]
    refreshed = sandbox.fly("POST", f"{path_of(tenant, TENANT)}/lease?ttl=60", nonce=data["nonce"]).json()["data"]
    assert refreshed["nonce"] == data["nonce"]
    assert refreshed["expires_at"] > data["expires_at"]
    update = sandbox.fly("POST", path_of(tenant, TENANT), {"config": CHECKED}, nonce=data["nonce"])
    assert update.status_code == 200
    assert sandbox.fly("DELETE", f"{path_of(tenant, TENANT)}/lease", nonce=data["nonce"]).status_code == 200
    assert sandbox.fly("GET", f"{path_of(tenant, TENANT)}/lease").status_code == 404
    assert sandbox.fly("POST", path_of(tenant, TENANT), {"config": CHECKED}).status_code == 200


def test_a_lease_expires(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    first = sandbox.fly("POST", f"{path_of(tenant, TENANT)}/lease?ttl=1").json()["data"]
    second = until(
        lambda: (
            answer.json()["data"]
            if (answer := sandbox.fly("POST", f"{path_of(tenant, TENANT)}/lease?ttl=5")).status_code == 201
            else None
        ),
        what="the lease expires",
    )
    assert second["nonce"] != first["nonce"]
    assert sandbox.fly("POST", f"{path_of(tenant, TENANT)}/cordon", nonce=first["nonce"]).status_code == 409
    sandbox.fly("DELETE", f"{path_of(tenant, TENANT)}/lease", nonce=second["nonce"])


# -- health and crashes ------------------------------------------------------------------------------------------------


def test_checks_start_over_with_every_version(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    def check() -> dict[str, Any]:
        return dict(sandbox.machine(tenant["id"], TENANT)["checks"][0])

    until(lambda: check()["status"] == "passing", what="the check passes")
    before = check()
    assert before["name"] == "health"
    with sandbox.setting(boot_time=1):
        updated = sandbox.fly("POST", path_of(tenant, TENANT), {"config": CHECKED}).json()
        assert updated["checks"][0]["status"] == "warning"
        assert check()["status"] == "warning"
        until(lambda: check()["status"] == "passing", what="the new version's check passes")
    assert check()["updated_at"] > before["updated_at"]


def test_stale_results_can_be_kept(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    until(lambda: sandbox.machine(tenant["id"], TENANT)["checks"][0]["status"] == "passing", what="the check passes")
    with sandbox.setting(stale_checks=1, boot_time=1):
        updated = sandbox.fly("POST", path_of(tenant, TENANT), {"config": CHECKED}).json()
        [kept] = updated["checks"]
        assert (kept["status"], kept["updated_at"] < updated["updated_at"]) == ("passing", True)
        machines = sandbox.inspect()["fly"]["apps"]["molecule-tenant"]["machines"]
        assert [m["healthy"] for m in machines if m["id"] == tenant["id"]] == [False]
        until(
            lambda: sandbox.machine(tenant["id"], TENANT)["checks"][0]["updated_at"] > kept["updated_at"],
            what="the first result of the new version",
        )


def test_a_failing_check_is_critical(sandbox: Sandbox) -> None:
    config = {"image": IMAGE, "checks": {"wrong": {"type": "http", "port": 8080, "path": "/no-such-page"}}}
    machine = sandbox.fly("POST", f"{TENANT}/machines", {"config": config}).json()
    until(lambda: sandbox.machine(machine["id"], TENANT)["checks"][0]["status"] == "critical", what="the check fails")
    machines = sandbox.inspect()["fly"]["apps"]["molecule-tenant"]["machines"]
    assert [m["healthy"] for m in machines if m["id"] == machine["id"]] == [False]
    sandbox.fly("DELETE", f"{path_of(machine, TENANT)}?force=true")


def test_a_crash_is_recorded_and_restarted_and_a_loop_ends(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    signalled = sandbox.fly("POST", f"{path_of(tenant, TENANT)}/signal", {"signal": "SIGKILL"})
    assert signalled.status_code == 200

    def exits() -> list[dict[str, Any]]:
        events = sandbox.fly("GET", f"{path_of(tenant, TENANT)}/events?limit=50").json()
        return [event["request"] for event in events if event["type"] == "exit"]

    until(exits, what="the exit is recorded")
    event = exits()[0]["exit_event"]
    assert (event["exit_code"], event["requested_stop"], event["restarting"], event["oom_killed"]) == (
        137,
        False,
        True,
        False,
    )
    wait(sandbox, tenant, "started")
    assert sandbox.machine(tenant["id"], TENANT)["instance_id"] == tenant["instance_id"]


def test_a_requested_stop_is_no_crash(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    # A process that has not got as far as handling SIGTERM ends with 143.
    until(lambda: sandbox.machine(tenant["id"], TENANT)["checks"][0]["status"] == "passing", what="the check passes")
    sandbox.fly("POST", f"{path_of(tenant, TENANT)}/stop", {})
    wait(sandbox, tenant, "stopped")
    events = sandbox.machine(tenant["id"], TENANT)["events"]
    exit_event = next(event for event in events if event["type"] == "exit")["request"]["exit_event"]
    assert (exit_event["exit_code"], exit_event["requested_stop"], exit_event["restarting"]) == (0, True, False)


def test_a_control_plane_that_crashes_with_the_new_value_loops_and_a_roll_back_heals(sandbox: Sandbox) -> None:
    old, victim = sandbox.secret_value("FLY_API_TOKEN"), sandbox.machines()[0]
    with sandbox.setting(control_plane__crash_on_new="FLY_API_TOKEN", restart_backoff=0.001):
        sandbox.secrets(FLY_API_TOKEN="something-else")
        assert sandbox.update(victim).status_code == 200

        def last_exit() -> dict[str, Any]:
            events = sandbox.fly("GET", f"{path_of(victim)}/events?limit=50").json()
            return next((event["request"] for event in events if event["type"] == "exit"), {})

        until(lambda: last_exit().get("restart_count", 0) > 2, what="the crash loop")
        assert last_exit()["exit_event"]["exit_code"] == 1
        assert last_exit()["exit_event"]["requested_stop"] is False
        until(lambda: sandbox.machine(victim["id"])["state"] == "stopped", what="the restarts end")
        assert last_exit()["exit_event"]["restarting"] is False
        assert sandbox.control_plane("GET", "/health").status_code == 200
        sandbox.secrets(FLY_API_TOKEN=old)
        sandbox.wait_healthy(sandbox.update(victim).json())


def test_a_control_plane_that_is_unhealthy_with_the_new_value_gets_no_requests(sandbox: Sandbox) -> None:
    old, victim = sandbox.secret_value("FLY_API_TOKEN"), sandbox.machines()[0]
    with sandbox.setting(control_plane__unhealthy_on_new="FLY_API_TOKEN"):
        sandbox.secrets(FLY_API_TOKEN="something-else")
        sandbox.update(victim)
        until(
            lambda: sandbox.machine(victim["id"])["checks"][0]["status"] == "critical", what="the check turns critical"
        )
        assert sandbox.machine(victim["id"])["state"] == "started"
        preferred = {"fly-prefer-instance-id": victim["id"]}
        answers = [sandbox.control_plane("GET", "/health", headers=headers) for headers in (None, preferred) * 3]
        assert {answer.status_code for answer in answers} == {200}
        assert victim["id"] not in {answer.headers["fly-machine-id"] for answer in answers}
        sandbox.secrets(FLY_API_TOKEN=old)
        sandbox.wait_healthy(sandbox.update(victim).json())


# -- the rolling restart as a whole ------------------------------------------------------------------------------------


def test_a_rolling_restart_loses_no_request_and_counts_as_one_rollout(sandbox: Sandbox) -> None:
    before = sandbox.inspect()
    sandbox.secrets(ROLLED="out", ROLLED_TOO="out")
    with Client(sandbox.environment["CONTROL_PLANE_URL"] + "/health") as client:
        until(lambda: client.calls > 20, what="the client is at work")
        sandbox.roll()
        calls = client.calls
        until(lambda: client.calls > calls + 20, what="the client is still at work")
    after = sandbox.inspect()
    assert client.failures == []
    assert after["breakages"] == before["breakages"]
    applications = before["fly"]["apps"]["molecule-cp"], after["fly"]["apps"]["molecule-cp"]
    assert applications[1]["rollouts"] == applications[0]["rollouts"] + 1
    assert {m["env_sha256"]["ROLLED"] for m in applications[1]["machines"]} == {sha256("out")}


def test_rollouts_count_new_contents_only(sandbox: Sandbox) -> None:
    def rollouts() -> int:
        return int(sandbox.inspect()["fly"]["apps"]["molecule-cp"]["rollouts"])

    sandbox.roll()
    before = rollouts()
    sandbox.roll()
    assert rollouts() == before
    sandbox.secrets(NO_SUCH_SECRET=None)  # what `flyctl secrets sync` does
    sandbox.roll()
    assert rollouts() == before
    sandbox.secrets(COUNTED="new")
    first, second = sandbox.machines()
    sandbox.wait_healthy(sandbox.update(first).json())
    assert rollouts() == before + 1
    sandbox.secrets(COUNTED=None)  # the first one failed: roll back
    sandbox.wait_healthy(sandbox.update(first).json())
    assert rollouts() == before + 2
    sandbox.wait_healthy(sandbox.update(second).json())
    assert rollouts() == before + 2


def test_updating_all_machines_at_once_breaks_what_it_would_break(sandbox: Sandbox) -> None:
    with sandbox.setting(proxy_patience=0, boot_time=1):
        before = len(sandbox.inspect()["breakages"])
        updated = [sandbox.update(machine).json() for machine in sandbox.machines()]
        until(lambda: sandbox.control_plane("GET", "/health").status_code == 503, what="the outage is seen")
        breakages = sandbox.inspect()["breakages"][before:]
        assert {breakage["consumer"] for breakage in breakages} == {"molecule-cp"}
        assert "503" in breakages[0]["what"]
        for machine in updated:
            sandbox.wait_healthy(machine)


def test_the_proxy_waits_for_a_machine_that_boots(sandbox: Sandbox) -> None:
    before = sandbox.inspect()["breakages"]
    with sandbox.setting(boot_time=1):
        updated = [sandbox.update(machine).json() for machine in sandbox.machines()]
        assert sandbox.control_plane("GET", "/health").status_code == 200
        for machine in updated:
            sandbox.wait_healthy(machine)
    assert sandbox.inspect()["breakages"] == before


def test_the_proxy_honours_cordon_and_instance_headers(sandbox: Sandbox) -> None:
    first, second = sandbox.machines()

    def served(**headers: str) -> set[str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answers = [sandbox.control_plane("GET", "/health", headers=sent) for _ in range(4)]
        return {answer.headers["fly-machine-id"] for answer in answers}

    assert served() == {first["id"], second["id"]}
    assert served(fly_force_instance_id=second["id"]) == {second["id"]}
    assert served(fly_prefer_instance_id=first["id"]) == {first["id"]}
    assert sandbox.fly("POST", f"{path_of(first)}/cordon").status_code == 200
    assert served() == served(fly_prefer_instance_id=first["id"]) == {second["id"]}
    assert sandbox.fly("POST", f"{path_of(first)}/uncordon").status_code == 200
    assert served() == {first["id"], second["id"]}


def test_a_request_under_way_is_finished_before_the_process_ends(sandbox: Sandbox) -> None:
    # Provisioning waits for a slow machine; the control plane that does it is replaced meanwhile.
    with sandbox.setting(boot_time=1):
        answer = sandbox.control_plane(
            "POST", "/cp/admin/orgs", {"slug": "drained", "name": "Drained", "owner_user_id": "u"}
        )
        assert answer.status_code == 201
        machine = next(m for m in sandbox.machines() if m["id"] == answer.headers["fly-machine-id"])
        sandbox.wait_healthy(sandbox.update(machine).json())
    assert sandbox.status_of("drained") == "running"
    sandbox.control_plane("DELETE", "/cp/admin/tenants/drained", {"confirm": "drained"})


def test_rate_limits(sandbox: Sandbox, tenant: dict[str, Any]) -> None:
    path = f"{path_of(tenant, TENANT)}/lease"
    with sandbox.setting(rate_limits=1):
        statuses = [sandbox.fly("POST", f"{path}?ttl=1", nonce="none").status_code for _ in range(5)]
        assert statuses[0] == 201
        assert 429 in statuses
        assert {sandbox.fly("GET", path_of(tenant, TENANT)).status_code for _ in range(8)} == {200}
    assert sandbox.inspect()["rate_limited"][LEASE] == statuses.count(429)
    time.sleep(1)


def test_processes_that_ask_at_once_are_not_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """Eight checks of a rotation, each a process of its own, list the machines of one app at the same time."""
    before = sandbox.inspect()
    with sandbox.setting(rate_limits=1):
        lister = (
            "import os; from components.fly.client import FlyClient; "
            "FlyClient(os.environ['FLY_ACCESS_TOKEN']).list_machines('molecule-tenant')"
        )
        environment = {**os.environ, **sandbox.environment, "TMPDIR": str(tmp_path)}
        listers = [
            subprocess.Popen([sys.executable, "-c", lister], cwd=CHECKOUT, env=environment) for _process in range(8)
        ]
        assert [each.wait(timeout=120) for each in listers] == [0] * len(listers)
    after = sandbox.inspect()
    assert after["requests"][LIST] - before["requests"].get(LIST, 0) == len(listers)
    assert after["rate_limited"] == before["rate_limited"], "nobody had to ask again"
