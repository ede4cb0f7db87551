"""Are the machines of tenants found that do not hold a value, or are ill with it?"""

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest

from components.control_plane.client import Org
from components.fly.client import FlyClient
from components.http import ApiError
from components.verification.check import CheckFailedError
from components.verification.tenant_machines import TenantMachines, await_gone

from .wire import START, Clock, Wire, booted, reply

KEY, OLD = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
OURS = "rediss://new:token@shared.upstash.io:6379"
MACHINES = TenantMachines(fly=FlyClient("token"), app="tenant", variable="SECRETS_ENCRYPTION_KEY", value=KEY)


def machine(number: int, key: str | None = KEY, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A tenant's machine that is healthy."""
    environment = {"MOLECULE_ORG_ID": str(number)} | ({} if key is None else {"SECRETS_ENCRYPTION_KEY": key})
    return {
        "id": f"t{number}",
        "state": "started",
        "instance_id": "v",
        "events": booted(5),
        "config": {"env": environment, "checks": {"health": {}}},
        "checks": [{"name": "health", "status": "passing", "updated_at": (START + timedelta(seconds=9)).isoformat()}],
        **changed,
    }


def look(wire: Wire, *machines: dict[str, Any], patience: float = 0, health_patience: float = 0) -> str:
    wire.serve = lambda _request: reply(200, list(machines))
    return MACHINES.assert_hold(patience=patience, health_patience=health_patience)


CRITICAL = [{"name": "health", "status": "critical", "updated_at": ""}]


def test_machines_with_the_new_key_are_counted_and_those_without_one_are_not(wire: Wire) -> None:
    assert (
        look(wire, machine(1), machine(2), machine(3, None))
        == "2 machines of tenant hold the new SECRETS_ENCRYPTION_KEY"
    )
    assert look(wire) == "0 machines of tenant hold the new SECRETS_ENCRYPTION_KEY"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (machine(2, OLD), "t2 .*has another value"),
        (machine(2, OLD, state="stopped"), "t2 .*has another value"),
        (machine(2, checks=CRITICAL), "t2.*: health check health is critical"),
        (machine(2, state="failed"), "t2.*: its state is failed"),
        (machine(2, host_status="unreachable", config={}), "t2.*: its host is unreachable"),
        (machine(2, ""), "t2 .*has another value"),
    ],
)
def test_one_that_has_not_moved_or_is_ill_fails_and_is_named(wire: Wire, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailedError, match=rf"1 of 2 machines of tenant .*: {said}") as failed:
        look(wire, machine(1), wrong, patience=5, health_patience=5)
    assert OLD not in str(failed.value)
    assert "t1" not in str(failed.value)


def test_many_are_counted_and_the_first_are_named(wire: Wire) -> None:
    with pytest.raises(CheckFailedError, match=r"12 of 13 .*t0 .*has .*and 2 more$"):
        look(wire, *(machine(number, OLD) for number in range(12)), machine(12))


def test_one_that_is_stopped_with_the_new_key_gets_it_when_it_starts(wire: Wire) -> None:
    assert look(wire, machine(1, state="stopped")) == "1 machines of tenant hold the new SECRETS_ENCRYPTION_KEY"


def test_another_key_is_waited_for_only_where_orgs_are_provisioned_anew(wire: Wire, clock: Clock) -> None:
    with pytest.raises(CheckFailedError):
        look(wire, machine(1, OLD), health_patience=60)
    assert sum(clock.naps) == 0
    with pytest.raises(CheckFailedError):
        look(wire, machine(1, OLD), patience=60)
    assert 55 <= sum(clock.naps) <= 65


def test_one_that_moves_in_time_is_good(wire: Wire, clock: Clock) -> None:
    machines = [machine(1, OLD)]
    wire.serve = lambda _request: reply(200, machines)
    clock.on_sleep = lambda: machines.__setitem__(0, machine(1)) if sum(clock.naps) > 20 else None
    said = MACHINES.assert_hold(patience=60, health_patience=0)
    assert said == "1 machines of tenant hold the new SECRETS_ENCRYPTION_KEY"


def test_one_that_is_being_made_meanwhile_is_waited_for(wire: Wire, clock: Clock) -> None:
    machines = [machine(1, state="starting")]
    wire.serve = lambda _request: reply(200, machines)
    clock.on_sleep = lambda: machines.__setitem__(0, machine(1)) if sum(clock.naps) > 5 else None
    said = MACHINES.assert_hold(patience=0, health_patience=60)
    assert said == "1 machines of tenant hold the new SECRETS_ENCRYPTION_KEY"


def test_one_that_loses_the_key_while_it_is_waited_for_fails_at_once(wire: Wire, clock: Clock) -> None:
    machines = [machine(1, checks=CRITICAL)]
    wire.serve = lambda _request: reply(200, machines)
    clock.on_sleep = lambda: machines.__setitem__(0, machine(1, OLD))
    with pytest.raises(CheckFailedError, match=r"t1 .*has another value"):
        MACHINES.assert_hold(patience=0, health_patience=60)
    assert sum(clock.naps) < 5


def test_a_url_of_another_server_is_somebodys_own(wire: Wire) -> None:
    def tenant(number: int, url: str) -> dict[str, Any]:
        return {**machine(number), "config": {"env": {"REDIS_URL": url}, "checks": {"health": {}}}}

    shared = TenantMachines(fly=FlyClient("token"), app="tenant", variable="REDIS_URL", value=OURS, same_server=True)
    wire.serve = lambda _request: reply(
        200, [tenant(1, OURS), tenant(2, "redis://own:own@redis.customer.example:6379")]
    )
    assert shared.assert_hold(patience=0, health_patience=0) == "1 machines of tenant hold the new REDIS_URL"
    assert "token" not in repr(shared)
    wire.serve = lambda _request: reply(200, [tenant(1, OURS), tenant(2, "redis://old:word@shared.upstash.io")])
    with pytest.raises(CheckFailedError, match=r"1 of 2 .*t2.* has another value") as failed:
        shared.assert_hold(patience=0, health_patience=0)
    assert "word" not in str(failed.value)


def test_healthy_machines_are_listed_once(wire: Wire) -> None:
    look(wire, machine(1), health_patience=60)
    assert wire.lines == ["GET /v1/apps/tenant/machines"]


ORG = Org(org_id="o", slug="s", status="running")


@pytest.mark.parametrize(
    "last",
    [
        reply(404, {"error": "machine not found"}),
        *(reply(200, machine(1, state=each)) for each in ("destroying", "destroyed")),
    ],
)
def test_the_machine_of_a_deleted_org_is_waited_for(wire: Wire, clock: Clock, last: httpx.Response) -> None:
    wire.will(reply(200, machine(1)), reply(200, machine(1, state="stopping")), last)
    await_gone(FlyClient("token"), "tenant", "t1", ORG, timeout=60)
    assert clock.naps == [1, 1]


def test_a_machine_that_stays_or_cannot_be_asked_for_is_not_gone(wire: Wire) -> None:
    wire.serve = lambda _request: reply(200, machine(1))
    with pytest.raises(CheckFailedError, match="t1 of the deleted org s to be gone"):
        await_gone(FlyClient("token"), "tenant", "t1", ORG, timeout=5)
    wire.serve = lambda _request: reply(403)
    with pytest.raises(ApiError):
        await_gone(FlyClient("token"), "tenant", "t1", ORG, timeout=5)
