"""Can each check of NEON_API_KEY fail, for the right reason, and is the org deleted whatever happened?"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from components.contacts import CONTACTS
from components.http import ApiError
from components.verification import consumers, neon_api_key, neon_api_key_probe
from components.verification.check import CheckFailedError, Subject

from .announced import assert_covered
from .fake_control_plane import Answers, FakeControlPlane
from .wire import Clock, Wire, at, booted, reply

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


class World(FakeControlPlane):
    """The same with Neon."""

    def __init__(self) -> None:
        super().__init__("NEON_API_KEY")
        self.branches = [self.branch("br-main", "production")]
        self.used: dict[int, str | None] = {1: at(-600), 2: at(-60)}
        self.keys_path = "/api/v2/organizations/org-1/api_keys"
        self.provision: Callable[[str], None] = self.make_branch
        self.branch_goes = True

    @staticmethod
    def branch(branch_id: str, name: str) -> dict[str, str]:
        """A branch as Neon lists it."""
        return {"id": branch_id, "name": name, "created_at": at(0)}

    def make_branch(self, slug: str) -> None:
        """The control plane makes a branch with the new key."""
        self.branches.append(self.branch("br-new", slug))
        self.used[2] = at(10)

    def created(self, slug: str) -> None:
        """Makes what it makes for an org."""
        self.provision(slug)

    def deleted(self, slug: str) -> None:
        """Deletes the branch."""
        if self.branch_goes:
            self.branches = [each for each in self.branches if slug not in each["name"]]

    def answers(self, body: Any, parameters: Mapping[str, str]) -> Answers:  # noqa: ANN401 - JSON
        """Of Neon, too."""
        keys = [
            {"id": key_id, "name": "n", "created_at": at(-900), "last_used_at": used}
            for key_id, used in self.used.items()
        ]
        return {
            **super().answers(body, parameters),
            "GET /api/v2/projects/p-1/branches": lambda: reply(200, {"branches": self.branches}),
            f"GET {self.keys_path}": lambda: reply(200, keys),
        }


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    monkeypatch.delenv("NEON_API_BASE_URL", raising=False)
    for name in ("FLY_ACCESS_TOKEN", "NEON_API_KEY", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    yield world
    assert_covered(wire.requests, neon_api_key.announce(TOLD, leaked=False))


def fails(world: World, reason: str, **told: Any) -> None:  # noqa: ANN401 - settings
    with pytest.raises((CheckFailedError, ApiError), match=reason) as failed:
        neon_api_key.verify({**TOLD, **told}, SUBJECT)
    assert world.slugs("create") == world.slugs("delete") != []
    assert world.orgs == []
    assert "value-of-" not in str(failed.value)


def test_an_org_that_gets_its_branch_with_the_new_key_is_verified(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    neon_api_key.verify(TOLD, SUBJECT)
    (slug,) = world.slugs("create")
    assert world.slugs("delete") == [slug]
    assert re.fullmatch(r"keytest-\d{10}", slug)
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
    world.status_of_new_orgs = [status]
    fails(world, "to be running: not within 60 s")
    assert 55 <= sum(clock.naps) <= 65


def test_an_org_that_failed_is_not_waited_for_and_is_deleted(world: World, clock: Clock) -> None:
    world.status_of_new_orgs = ["failed"]
    fails(world, "could not provision .* its status is failed")
    assert sum(clock.naps) < 5


def test_an_org_that_runs_without_a_branch_fails(world: World) -> None:
    world.provision = lambda _slug: world.used.update({2: at(10)})
    fails(world, "has no new branch keytest-")


def test_the_branch_of_another_org_does_not_count(world: World) -> None:
    world.provision = lambda _slug: world.make_branch("customer")
    fails(world, "has no new branch keytest-")


def test_a_branch_that_was_there_before_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "unix_time", lambda: 1_800_000_000)
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
    world.creation = [status]
    fails(world, str(status))


def test_a_deletion_that_fails_does_not_hide_why(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.status_of_new_orgs = ["failed"]
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
    world.has_orgs("keytest-1700000000", "keytest-customer")
    neon_api_key.verify(TOLD, SUBJECT)
    assert world.slugs("delete")[0] == "keytest-1700000000"
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
