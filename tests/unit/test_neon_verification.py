"""Can each check of NEON_API_KEY fail, for the right reason, and is the org deleted whatever happened?"""

import re
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from components.contacts import CONTACTS
from components.http import ApiError
from components.verification import neon_api_key, neon_api_key_probe
from components.verification.check import CheckFailedError, Subject

from .wire import START, Clock, Wire, body_of, booted, reply

Answer = Callable[[], httpx.Response]
TOLD = {
    "app": "cp",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "organization": "org-1",
    "project": "p-1",
    "branch_name": "{slug}",
    "prove_use": True,
    "org_timeout": 60,
}
SUBJECT = Subject(secret="NEON_API_KEY", generation=2, credential_id="2")


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class World:
    """Fly, Neon and the control plane as the checks see them: all is well until a test says otherwise."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.machines = [self.machine("m1"), self.machine("m2")]
        self.orgs: list[dict[str, str]] = []
        self.status_of_new_orgs = "running"
        self.creation = 201
        self.deletion: list[int] = []
        self.branches = [self.branch("br-main", "production")]
        self.used: dict[int, str | None] = {1: at(-600), 2: at(-60)}
        self.keys_path = "/api/v2/organizations/org-1/api_keys"
        self.provision: Callable[[str], None] = self.make_branch
        self.branch_goes = True
        self.log: list[str] = []

    @staticmethod
    def machine(machine_id: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """A machine that has booted after the write."""
        return {
            "id": machine_id,
            "state": "started",
            "instance_id": "v",
            "updated_at": at(5),
            "events": booted(5),
            "config": {},
            **changed,
        }

    @staticmethod
    def branch(branch_id: str, name: str) -> dict[str, str]:
        """A branch as Neon lists it."""
        return {"id": branch_id, "name": name, "created_at": at(0)}

    def make_branch(self, slug: str) -> None:
        """The control plane makes a branch with the new key."""
        self.branches.append(self.branch("br-new", slug))
        self.used[2] = at(10)

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request of the wire."""
        with self.lock:
            return self._answer(request.method, request.url.path, body_of(request))

    def _answer(self, method: str, path: str, body: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        if match := re.fullmatch(r"DELETE /cp/admin/tenants/(.*)", f"{method} {path}"):
            return self._delete_org(match[1])
        secret = {"name": "NEON_API_KEY", "digest": "d", "updated_at": at(0)}
        keys = [
            {"id": key_id, "name": "n", "created_at": at(-900), "last_used_at": used}
            for key_id, used in self.used.items()
        ]
        answers: dict[str, Answer] = {
            "GET /v1/apps/cp/secrets": lambda: reply(200, {"secrets": [secret]}),
            "GET /v1/apps/cp/machines": lambda: reply(200, self.machines),
            "GET /cp/admin/orgs": lambda: reply(200, {"orgs": self.orgs}),
            "POST /cp/admin/orgs": lambda: self._create_org(body["slug"]),
            "GET /api/v2/projects/p-1/branches": lambda: reply(200, {"branches": self.branches}),
            f"GET {self.keys_path}": lambda: reply(200, keys),
        }
        return answers[f"{method} {path}"]()

    def _create_org(self, slug: str) -> httpx.Response:
        self.log.append(f"create {slug}")
        if self.creation == 400:
            return reply(400)
        self.orgs.append({"id": f"id-of-{slug}", "slug": slug, "instance_status": self.status_of_new_orgs})
        self.provision(slug)
        return reply(self.creation, {"id": f"id-of-{slug}", "slug": slug, "status": "provisioning"})

    def _delete_org(self, slug: str) -> httpx.Response:
        self.log.append(f"delete {slug}")
        if self.deletion and (status := self.deletion.pop(0)) != 204:
            return reply(status)
        self.orgs = [org for org in self.orgs if org["slug"] != slug]
        if self.branch_goes:
            self.branches = [each for each in self.branches if slug not in each["name"]]
        return reply(204)


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> World:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    monkeypatch.delenv("NEON_API_BASE_URL", raising=False)
    for name in ("FLY_ACCESS_TOKEN", "NEON_API_KEY", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    return world


def slugs(world: World, verb: str) -> list[str]:
    return [line.split()[1] for line in world.log if line.startswith(f"{verb} ")]


def fails(world: World, reason: str, **told: Any) -> None:  # noqa: ANN401 - settings
    with pytest.raises((CheckFailedError, ApiError), match=reason) as failed:
        neon_api_key.verify({**TOLD, **told}, SUBJECT)
    assert slugs(world, "create") == slugs(world, "delete") != []
    assert world.orgs == []
    assert "value-of-" not in str(failed.value)


def test_an_org_that_gets_its_branch_with_the_new_key_is_verified(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    neon_api_key.verify(TOLD, SUBJECT)
    (slug,) = slugs(world, "create")
    assert slugs(world, "delete") == [slug]
    assert neon_api_key.SLUGS.fullmatch(slug)
    assert [each["id"] for each in world.branches] == ["br-main"]
    evidence = capsys.readouterr().err
    assert "2 machines of cp run the new value" in evidence
    assert f"org {slug} got its branch br-new" in evidence


def test_keys_of_the_operators_own_are_looked_for_there(world: World) -> None:
    world.keys_path = "/api/v2/api_keys"
    neon_api_key.verify({**TOLD, "organization": ""}, SUBJECT)


def test_a_branch_may_be_called_after_the_orgs_id(world: World) -> None:
    world.branch_goes = False
    world.provision = lambda slug: world.make_branch(f"tenant-id-of-{slug}")
    fails(world, "br-new of the deleted org", branch_name="tenant-{org_id}")


@pytest.mark.parametrize("status", ["provisioning", "awaiting_payment", ""])
def test_an_org_that_never_runs_fails_in_time_and_is_deleted(world: World, clock: Clock, status: str) -> None:
    world.status_of_new_orgs = status
    fails(world, "to be running: not within 60 s")
    assert 55 <= sum(clock.naps) <= 65


def test_an_org_that_failed_is_not_waited_for_and_is_deleted(world: World, clock: Clock) -> None:
    world.status_of_new_orgs = "failed"
    fails(world, "could not provision .* its status is failed")
    assert sum(clock.naps) < 5


def test_an_org_that_runs_without_a_branch_fails(world: World) -> None:
    world.provision = lambda _slug: world.used.update({2: at(10)})
    fails(world, "has no new branch keytest-")


def test_the_branch_of_another_org_does_not_count(world: World) -> None:
    world.provision = lambda _slug: world.make_branch("customer")
    fails(world, "has no new branch keytest-")


def test_a_branch_that_was_there_before_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    world.branches.append(world.branch("br-old", "keytest-1800000000"))
    world.provision = lambda _slug: world.used.update({2: at(10)})
    fails(world, "has no new branch keytest-1800000000")


def test_a_branch_that_another_key_made_fails(world: World, clock: Clock) -> None:
    def with_the_old_key(slug: str) -> None:
        world.branches.append(world.branch("br-new", slug))
        world.used[1] = at(10)

    world.provision = with_the_old_key
    fails(world, "the control plane used the new key: not within 60 s")
    assert 55 <= sum(clock.naps) <= 65
    neon_api_key.verify({**TOLD, "prove_use": False}, SUBJECT)


def test_a_use_that_neon_lists_late_is_awaited(world: World, clock: Clock) -> None:
    world.provision = lambda slug: world.branches.append(world.branch("br-new", slug))

    def later() -> None:
        if len(clock.naps) > 5:
            world.used[2] = at(10)

    clock.on_sleep = later
    neon_api_key.verify(TOLD, SUBJECT)


def test_a_branch_that_outlives_its_org_fails(world: World) -> None:
    world.branch_goes = False
    fails(world, r"the branch br-new of the deleted org .* to be gone")


@pytest.mark.parametrize("status", [400, 500])
def test_an_org_that_may_have_been_created_all_the_same_is_deleted(world: World, status: int) -> None:
    world.creation = status
    fails(world, str(status))


def test_a_deletion_that_fails_does_not_hide_why(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.status_of_new_orgs = "failed"
    world.deletion = [500] * 6
    with pytest.raises(CheckFailedError, match="its status is failed"):
        neon_api_key.verify(TOLD, SUBJECT)
    assert "is left" in capsys.readouterr().err


def test_a_machine_with_the_value_before_fails(world: World) -> None:
    world.machines[1]["events"] = booted(-1)
    with pytest.raises(CheckFailedError, match="m2 of cp still runs with the value before"):
        neon_api_key.verify(TOLD, SUBJECT)
    assert world.orgs == []


def test_leftovers_of_this_kind_alone_are_deleted(world: World) -> None:
    world.orgs = [
        {"id": each, "slug": each, "instance_status": "running"} for each in ("keytest-1700000000", "keytest-customer")
    ]
    neon_api_key.verify(TOLD, SUBJECT)
    assert slugs(world, "delete")[0] == "keytest-1700000000"
    assert [org["slug"] for org in world.orgs] == ["keytest-customer"]


# The probe

NEW = "napi_new-key-and-secret"


def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "read", lambda: NEW, raising=False)
    neon_api_key_probe.probe({"project": "p-1"}, SUBJECT)


def test_a_key_that_reaches_the_project_is_good(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.will(reply(200, {"project": {}}))
    probe(monkeypatch)
    assert wire.lines == ["GET /api/v2/projects/p-1"]
    assert wire.last.headers["authorization"] == f"Bearer {NEW}"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "does not take"), (403, "does not reach"), (404, "does not reach"), (503, "does not take")],
)
def test_a_key_that_does_not_is_not(wire: Wire, monkeypatch: pytest.MonkeyPatch, status: int, reason: str) -> None:
    wire.serve = lambda _request: reply(status, {"message": f"bad key {NEW}"})
    with pytest.raises(CheckFailedError, match=reason) as failed:
        probe(monkeypatch)
    assert NEW not in str(failed.value)
    assert failed.value.contact == (CONTACTS["Neon"] if reason == "does not take" else "")
