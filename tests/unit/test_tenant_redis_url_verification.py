"""Can each check of TENANT_REDIS_URL fail, for the right reason, and is the org deleted whatever happened?"""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from components.http import ApiError
from components.verification import tenant_redis_url
from components.verification.check import CheckFailedError, Subject

from .announced import assert_covered
from .wire import START, Clock, Wire, body_of, booted, one_machine, reply

NEW = "rediss://molecule_tenants.cp-g2:new-token-of-g2@shared.upstash.io:6379"
OLD = "rediss://default:old-password@shared.upstash.io:6379"
OWN = "redis://default:own-password@redis.customer.example:6379"
TOLD = {
    "app": "cp",
    "tenant_app": "tenants",
    "variable": "REDIS_URL",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "overlaps": True,
    "prove_use": True,
    "org_timeout": 60,
}
SUBJECT = Subject(secret="TENANT_REDIS_URL", generation=2, credential_id="molecule_tenants.cp-g2")


class World:
    """Fly, Redis and the control plane as the checks see them: all is well until a test says otherwise."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.machines = [self.machine("m1"), self.machine("m2")]
        self.tenants = [self.tenant("t1", "org-1", NEW), self.tenant("t2", "org-2", NEW, state="stopped")]
        self.orgs: list[dict[str, str]] = []
        self.gives: str | None = NEW
        self.new_tenant: dict[str, Any] = {}
        self.machine_goes = True
        self.log: list[str] = []
        self.connections: Callable[[], int] = lambda: 1

    @staticmethod
    def machine(machine_id: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """A machine that has booted after the write."""
        return {"id": machine_id, "state": "started", "events": booted(5), "config": {}, **changed}

    def tenant(self, machine_id: str, org: str, url: str | None, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """A tenant's machine, healthy."""
        env = {"MOLECULE_ORG_ID": org, **({} if url is None else {"REDIS_URL": url})}
        config = {"env": env, "checks": {"http": {"type": "http"}}}
        checks = [{"name": "http", "status": "passing", "updated_at": START.isoformat()}]
        return self.machine(machine_id, **{"config": config, "checks": checks, **changed})

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request of the wire."""
        with self.lock:
            line = f"{request.method} {request.url.path}"
            if match := re.fullmatch(r"DELETE /cp/admin/tenants/(.*)", line):
                return self._delete_org(match[1])
            if match := re.fullmatch(r"GET /v1/apps/tenants/machines/(\w+)", line):
                return one_machine(self.tenants, match[1])
            secret = {"name": "TENANT_REDIS_URL", "digest": "d", "updated_at": START.isoformat()}
            answers: dict[str, Callable[[], httpx.Response]] = {
                "GET /v1/apps/cp/secrets": lambda: reply(200, {"secrets": [secret]}),
                "GET /v1/apps/cp/machines": lambda: reply(200, self.machines),
                "GET /v1/apps/tenants/machines": lambda: reply(200, self.tenants),
                "GET /cp/admin/orgs": lambda: reply(200, {"orgs": self.orgs}),
                "POST /cp/admin/orgs": lambda: self._create_org(body_of(request)["slug"]),
            }
            return answers[line]()

    def _create_org(self, slug: str) -> httpx.Response:
        self.log.append(f"create {slug}")
        self.orgs.append({"id": f"id-of-{slug}", "slug": slug, "instance_status": "running"})
        if self.gives is not None:
            self.tenants.append(self.tenant("t9", f"id-of-{slug}", self.gives) | self.new_tenant)
        return reply(201, {"id": f"id-of-{slug}", "slug": slug, "status": "provisioning"})

    def _delete_org(self, slug: str) -> httpx.Response:
        self.log.append(f"delete {slug}")
        self.orgs = [org for org in self.orgs if org["slug"] != slug]
        if self.machine_goes:
            self.tenants = [each for each in self.tenants if each["id"] != "t9"]
        return reply(204)


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    for name in ("FLY_ACCESS_TOKEN", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setattr(sys.stdin, "read", lambda: NEW, raising=False)

    @contextmanager
    def connections(url: str) -> Iterator[Callable[[], int]]:
        assert url == NEW
        yield lambda: world.connections()  # noqa: PLW0108 - a test may set another one

    monkeypatch.setattr(tenant_redis_url, "other_connections", connections)
    yield world
    assert_covered(wire.requests, tenant_redis_url.announce(TOLD, leaked=False))


def fails(world: World, reason: str, **told: Any) -> str:  # noqa: ANN401 - settings
    with pytest.raises((CheckFailedError, ApiError), match=reason) as failed:
        tenant_redis_url.verify({**TOLD, **told}, SUBJECT)
    assert world.orgs == []
    for secret in ("value-of-", "new-token", "old-password", "own-password"):
        assert secret not in str(failed.value)
    return str(failed.value)


def test_tenants_that_have_moved_are_verified(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    tenant_redis_url.verify(TOLD, SUBJECT)
    (created, deleted) = world.log
    assert created.removeprefix("create ") == deleted.removeprefix("delete ")
    assert re.fullmatch(r"redistest-\d{10}", created.removeprefix("create "))
    evidence = capsys.readouterr().err
    assert "2 machines of cp run the new value" in evidence
    assert "machines of tenants hold the new REDIS_URL" in evidence
    assert "got its machine t9 with the new REDIS_URL" in evidence
    assert "tenants connect to Redis as the new user" in evidence
    assert "new-token" not in evidence


@pytest.mark.parametrize("state", ["started", "stopped", "suspended", "created", "failed"])
def test_a_machine_with_the_url_before_is_named_whatever_its_state(world: World, state: str) -> None:
    world.tenants.append(world.tenant("t3", "org-3", OLD, state=state))
    found = fails(
        world, r"1 of \d machines of tenants do not run well with the new REDIS_URL: t3 \(org org-3\) has another value"
    )
    assert "t1" not in found
    assert "t2" not in found


@pytest.mark.parametrize("nearly", [NEW + "/0", NEW.replace("rediss:", "redis:"), NEW.replace("g2:", "g1:")])
def test_the_url_has_to_be_exactly_the_new_one(world: World, nearly: str) -> None:
    world.tenants.append(world.tenant("t3", "", nearly))
    fails(world, r"REDIS_URL: t3 (\(org org-3\) )?has another value($|;)")


@pytest.mark.parametrize("url", [OWN, None, "", NEW.replace(":6379", ":6380"), "no url"])
def test_a_machine_of_another_server_is_left_alone(world: World, url: str | None) -> None:
    world.tenants.append(world.tenant("t3", "org-3", url, checks=[{"name": "http", "status": "critical"}]))
    tenant_redis_url.verify(TOLD, SUBJECT)


def test_no_org_is_made_while_anything_else_is_wrong(world: World) -> None:
    world.machines[0]["events"] = booted(-1)
    fails(world, "m1 of cp still runs with the value before")
    world.machines[0]["events"] = booted(5)
    world.tenants.append(world.tenant("t3", "org-3", OLD))
    fails(world, "t3")
    assert world.log == []


def test_a_machine_whose_environment_fly_does_not_show_holds_everything_up(world: World) -> None:
    world.tenants.append(world.machine("t3", host_status="unreachable"))
    fails(world, "1 of 3 machines of tenants do not run well .*: t3.*: its host is unreachable")


def test_machines_that_are_not_healthy_are_named_in_the_end(world: World, clock: Clock) -> None:
    sick = [{"name": "http", "status": "critical"}]
    world.tenants += [world.tenant(f"t{n}", f"org-{n}", NEW, checks=sick) for n in (3, 4)]
    found = fails(world, "do not run well .*health check http is critical", prove_use=False)
    assert "t3 (org org-3): health check http is critical; t4 (org org-4)" in found
    assert "t1" not in found
    assert sum(clock.naps) >= 55


def test_a_machine_that_gets_healthy_is_waited_for(world: World, clock: Clock) -> None:
    world.tenants.append(world.tenant("t3", "org-3", NEW, checks=[{"name": "http", "status": "critical"}]))

    def later() -> None:
        if len(clock.naps) > 3:
            world.tenants[2]["checks"] = world.tenants[0]["checks"]

    clock.on_sleep = later
    tenant_redis_url.verify(TOLD, SUBJECT)


def test_a_control_plane_with_the_value_before_fails(world: World) -> None:
    world.machines[1]["events"] = booted(-1)
    fails(world, "m2 of cp still runs with the value before")


def test_a_new_org_with_another_url_fails(world: World) -> None:
    world.gives = OLD
    found = fails(world, "gave machine t9 of the new org redistest-[0-9]+ another REDIS_URL", prove_use=False)
    assert "old-password" not in found


def test_a_new_org_without_a_machine_fails(world: World) -> None:
    world.gives = None
    fails(world, "tenants has no machine of it")


def test_a_new_org_whose_machine_does_not_get_healthy_fails(world: World) -> None:
    world.new_tenant = {"checks": []}
    fails(world, "machine t9 of org .* to be healthy: not within 60 s|no health check has reported yet")


def test_a_machine_that_outlives_its_org_fails(world: World) -> None:
    world.machine_goes = False
    fails(world, "the tenant machine t9 of the deleted org .* to be gone")


def test_a_server_without_a_connection_of_the_new_user_fails(world: World) -> None:
    world.connections = lambda: 0
    found = fails(world, "a tenant to connect to Redis as the new user: not within 60 s")
    assert "`proveUse`" in found
    tenant_redis_url.verify({**TOLD, "prove_use": False}, SUBJECT)


def test_a_connection_is_waited_for(world: World, clock: Clock) -> None:
    world.connections = lambda: int(len(clock.naps) > 5)
    tenant_redis_url.verify(TOLD, SUBJECT)


def test_a_server_that_does_not_list_its_connections_is_said_with_the_setting(world: World) -> None:
    def refused() -> int:
        raise ApiError("Upstash", "list the connections", status=400, reason="NOPERM")

    world.connections = refused
    found = fails(world, "NOPERM")
    assert "`redisRules`" in found
    assert "`proveUse`" in found


def test_a_server_that_does_not_answer_is_no_matter_of_settings(world: World) -> None:
    def silent() -> int:
        raise ApiError("Upstash", "list the connections", status=None, reason="TimeoutError")

    world.connections = silent
    assert "`proveUse`" not in fails(world, "TimeoutError")


def test_leftovers_of_this_kind_alone_are_deleted(world: World) -> None:
    world.orgs = [
        {"id": each, "slug": each, "instance_status": "running"} for each in ("redistest-1700000000", "redistest-mine")
    ]
    tenant_redis_url.verify(TOLD, SUBJECT)
    assert world.log[0] == "delete redistest-1700000000"
    assert [org["slug"] for org in world.orgs] == ["redistest-mine"]


def test_where_the_last_tenant_that_ran_is_deleted_no_use_is_waited_for_any_longer(world: World, clock: Clock) -> None:
    """It was the disposable org of another verification."""
    world.tenants = [world.tenant("t1", "org-of-another-verification", NEW)]

    def none_while_it_goes() -> int:
        if len(clock.naps) > 3:
            world.tenants = [each for each in world.tenants if each["id"] != "t1"]
        return 0

    world.connections = none_while_it_goes
    tenant_redis_url.verify(TOLD, SUBJECT)
    assert 3 < len(clock.naps) < 30


@pytest.mark.parametrize("status", [403, 503])
def test_fly_that_does_not_list_is_no_matter_of_settings(world: World, wire: Wire, clock: Clock, status: int) -> None:
    world.connections = lambda: 0

    def serve(request: httpx.Request) -> httpx.Response:
        lists = request.url.path.endswith("/apps/tenants/machines")
        return reply(status, {"error": "no"}) if lists and len(clock.naps) > 3 else world.serve(request)

    wire.serve = serve
    assert "proveUse" not in fails(world, "Fly: could not list the machines")


@pytest.mark.parametrize("state", [None, "stopped"])
def test_where_no_tenant_runs_no_use_is_waited_for(world: World, clock: Clock, state: str | None) -> None:
    world.tenants = [] if state is None else [world.tenant("t1", "org-1", NEW, state=state)]
    world.connections = lambda: 0
    tenant_redis_url.verify(TOLD, SUBJECT)
    assert sum(clock.naps) < 10
