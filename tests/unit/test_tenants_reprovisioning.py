"""Is every org provisioned anew that has to be, once, and is each named for which that failed?"""

import threading
import time as real_time
from typing import Any

import httpx
import pytest

from components.control_plane.client import ControlPlaneClient
from components.fly.client import FlyClient
from components.http import ApiError
from components.tenants import reprovisioning as module
from components.tenants.reprovisioning import Reprovisioning
from components.tenants.rollout import Environments, Left

from .fake_fly import FakeFly
from .wire import Clock, Wire, body_of, reply

NEW, OLD = "the-new-key-of-32-bytes", "the-old-key-of-32-bytes"
PATH = "/cp/admin/tenants/{slug}/reprovision"
TOKEN = "control-plane-admin-token"


@pytest.fixture(autouse=True)
def time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleeping takes no time here either."""
    monkeypatch.setattr(module, "time", clock)


class World:
    """A control plane that provisions orgs anew, and the machines of its tenants.

    Attributes:
        statuses: By slug.
        answers: By slug, with what the requests for it are answered, in turn; 202 after them.
        outcomes: By slug, the status in which an attempt ends; `running` where it is not said, "" for never.
        seconds: What an attempt takes.
        requests: Slugs, as they were asked for.
        log: Slugs, as requests for them were accepted.
    """

    def __init__(self, fly: FakeFly, clock: Clock) -> None:
        self.fly = fly
        self.clock = clock
        self.statuses: dict[str, str] = {}
        self.answers: dict[str, list[int]] = {}
        self.outcomes: dict[str, str] = {}
        self.seconds = 5.0
        self.requests: list[str] = []
        self.log: list[str] = []
        self.at_once = 0
        self.lists = True
        self.ends: dict[str, float] = {}

    def org(self, number: int, *, status: str = "running", value: str | None = OLD) -> None:
        """Adds an org; `value` is what its machine holds, None for no machine."""
        slug = f"org-{number}"
        self.statuses[slug] = status
        if value is not None:
            self.fly.add(f"m{number}", environment={"KEY": value}, metadata={"molecule_org": slug})

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request of the wire."""
        with self.fly.lock:
            for slug in [each for each, end in self.ends.items() if self.clock.monotonic() > end]:
                del self.ends[slug]
                self._end(slug)
            if request.url.host != "cp.test":
                return self.fly.serve(request)
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            if request.method == "GET":
                listed = [
                    {"id": f"id {slug}", "slug": slug, "instance_status": self.statuses[slug]} for slug in self.statuses
                ]
                return reply(200, {"orgs": listed}) if self.lists else reply(503)
            slug = request.url.path.split("/")[4]
            assert request.url.path == f"/cp/admin/tenants/{slug}/reprovision"
            assert body_of(request) == {"confirm": slug}
            return self._reprovision(slug)

    def _reprovision(self, slug: str) -> httpx.Response:
        self.requests.append(slug)
        answer = self.answers[slug].pop(0) if self.answers.get(slug) else 202
        if answer not in {202, 200, 504}:
            return reply(answer, {"error": f"detail {OLD}"})
        if self.statuses[slug] == "provisioning":
            return reply(409)
        self.log.append(slug)
        self.begin(slug)
        return reply(answer)

    def begin(self, slug: str) -> None:
        """What the control plane does after a request: the old machine goes first."""
        self.statuses[slug] = "provisioning"
        for machine_id in [each for each, found in self.fly.machines.items() if self._is_of(found, slug)]:
            self.fly.destroy(machine_id)
        self.ends[slug] = self.clock.monotonic() + self.seconds
        self.at_once = max(self.at_once, len(self.ends))

    def _end(self, slug: str) -> None:
        outcome, _, has_machine = self.outcomes.get(slug, "running").partition(" with a ")
        if outcome == "running" or has_machine:
            self.fly.add(f"m9{slug[4:]}", environment={"KEY": NEW}, metadata={"molecule_org": slug})
        self.statuses[slug] = outcome or "provisioning"

    @staticmethod
    def _is_of(machine: dict[str, Any], slug: str) -> bool:
        return bool(machine["config"]["metadata"].get("molecule_org") == slug)


@pytest.fixture
def world(wire: Wire, clock: Clock) -> World:
    """Five orgs with the old key."""
    world = World(FakeFly(clock, 0), clock)
    for number in range(1, 6):
        world.org(number)
    wire.serve = world.serve
    return world


def run(lines: list[str] | None = None, *, timeout: float = 60) -> list[Left]:
    environments = Environments(client=FlyClient(token="fo1_operator-token"), app="cp", variables={"KEY": NEW})
    reprovisioning = Reprovisioning(
        environments,
        ControlPlaneClient("https://cp.test", TOKEN),
        path=PATH,
        timeout=timeout,
        report=(lines if lines is not None else []).append,
    )
    return reprovisioning.run()


def holders(world: World) -> dict[str, str]:
    machines = world.fly.machines.values()
    return {each["config"]["metadata"]["molecule_org"]: each["config"]["env"]["KEY"] for each in machines}


def test_one_first_then_a_few_at_once_and_each_once(world: World) -> None:
    lines: list[str] = []
    for number in range(6, 9):
        world.org(number)
    began, four = world.begin, threading.Barrier(4)

    def together(slug: str) -> None:
        began(slug)
        if slug in {"org-2", "org-3", "org-4", "org-5"}:
            world.fly.lock.release()
            try:
                four.wait(60)
                real_time.sleep(0.1)  # for a fifth, if there were one
            finally:
                world.fly.lock.acquire()

    world.begin = together  # type: ignore[method-assign]
    assert run(lines) == []
    assert world.log[0] == "org-1"
    assert sorted(world.log) == [f"org-{number}" for number in range(1, 9)]
    assert set(holders(world).values()) == {NEW}
    assert world.at_once == 4
    assert lines == [f"tenants: {number} of 8 orgs are provisioned anew with the new KEY" for number in range(1, 9)]


def test_the_first_one_goes_alone(world: World) -> None:
    world.outcomes["org-1"] = "failed"
    left = run()
    assert world.log == ["org-1"]
    assert (left[0].org, left[0].reason) == ("org-1", "the control plane could not provision it: its status is failed")
    assert [(each.org, each.machine_id) for each in left[1:]] == [(f"org-{n}", f"m{n}") for n in range(2, 6)]
    assert all("was not provisioned anew" in each.reason for each in left[1:])
    assert list(holders(world).values()) == [OLD] * 4


def test_where_another_one_works_with_it_the_first_one_may_fail(world: World) -> None:
    world.org(6, value=NEW)
    world.outcomes["org-1"] = "failed"
    assert [each.org for each in run()] == ["org-1"]
    assert "org-6" not in world.log
    assert len(world.log) == 5


def test_those_that_fail_are_named_and_the_next_run_goes_on_with_them(world: World) -> None:
    world.outcomes |= {"org-3": "failed"}
    world.answers["org-4"] = [422]
    lines: list[str] = []
    left = run(lines)
    assert {each.org: each.reason for each in left} == {
        "org-3": "the control plane could not provision it: its status is failed",
        "org-4": "control plane: could not provision org org-4 anew: status 422: Unprocessable Entity",
    }
    assert f"tenants: {left[0]}" in lines
    world.outcomes.clear()
    world.log.clear()
    assert run() == []
    assert sorted(world.log) == ["org-3", "org-4"], "org-3 has no machine any more"
    assert len(holders(world)) == 5


def test_one_that_is_under_way_is_awaited_and_not_asked_for_again(world: World) -> None:
    world.begin("org-2")
    world.ends["org-2"] += 50
    assert run(timeout=200) == []
    assert "org-2" not in world.requests
    assert holders(world)["org-2"] == NEW


def test_one_that_was_under_way_with_the_value_before_is_asked_for_again(world: World) -> None:
    world.statuses["org-2"] = "provisioning"  # its machine is m2, with the old value

    def ends() -> None:
        if world.statuses["org-2"] == "provisioning" and "org-2" not in world.log:
            world.statuses["org-2"] = "running"

    world.clock.on_sleep = ends
    assert run() == []
    assert world.log.count("org-2") == 1
    assert holders(world)["org-2"] == NEW


def test_one_that_somebody_else_has_just_begun_is_tried_again(world: World) -> None:
    world.answers["org-2"] = [409, 409]
    assert run() == []
    assert world.log.count("org-2") == 1


@pytest.mark.parametrize("status", ["running", "awaiting_payment"])
def test_who_has_no_machine_and_did_not_fail_is_fine(world: World, status: str) -> None:
    world.org(6, status=status, value=None)
    assert run() == []
    assert "org-6" not in world.log


def test_an_org_whose_status_is_failed_still_after_the_request_is_given_time(world: World) -> None:
    # Alone: the waiting of others moves the clock, and with it the time that it is given.
    world.statuses.clear()
    world.fly.machines.clear()
    world.org(0, status="failed", value=None)
    began = world.begin

    def slowly(slug: str) -> None:
        began(slug)
        if slug == "org-0":
            world.statuses[slug] = "failed"  # until the control plane gets to it

    world.begin = slowly  # type: ignore[method-assign]
    assert run() == []
    assert holders(world)["org-0"] == NEW


def test_an_answer_that_was_lost_does_not_lead_to_a_second_request(world: World) -> None:
    world.answers["org-2"] = [504]
    assert run() == []
    assert world.log.count("org-2") == 1


def test_one_that_takes_too_long_is_named(world: World) -> None:
    world.outcomes["org-3"] = ""
    (left,) = run(timeout=100)
    assert left.org == "org-3"
    assert left.reason == "not provisioned anew within 100 s: its status is provisioning, and it has no machine"


def test_a_new_machine_is_not_believed_while_the_status_is_another(world: World) -> None:
    world.outcomes["org-3"] = "failed with a machine"
    (left,) = run()
    assert (left.org, left.reason) == ("org-3", "the control plane could not provision it: its status is failed")


def test_a_running_status_is_not_believed_while_the_old_machine_is_there(world: World) -> None:
    world.begin = lambda slug: None  # type: ignore[method-assign] # noqa: ARG005
    left = run(timeout=30)
    assert (
        left[0].reason
        == "not provisioned anew within 30 s: its status is running, and machine m1 still holds the value before"
    )


def test_an_org_that_fails_once_more_is_not_awaited_to_the_end(world: World, clock: Clock) -> None:
    world.org(0, status="failed", value=None)
    world.fly.add("m8", environment={"KEY": NEW}, metadata={"molecule_org": "another"})
    world.begin = lambda slug: None  # type: ignore[method-assign] # noqa: ARG005
    world.statuses = {"org-0": "failed"}
    world.fly.machines.pop("m1")
    for number in range(2, 6):
        world.fly.destroy(f"m{number}")
    (left,) = run(timeout=1000)
    assert "its status is failed" in left.reason
    assert clock.monotonic() < 100


def test_a_lease_that_a_killed_run_has_left_is_awaited(world: World) -> None:
    world.fly.leases["m1"] = "nonce of a killed run"

    def expire() -> None:
        if world.clock.monotonic() > 20:
            world.fly.leases.pop("m1", None)

    world.clock.on_sleep = expire
    assert run() == []
    assert world.clock.monotonic() > 20


def test_a_lease_that_somebody_keeps_is_said(world: World) -> None:
    world.fly.held_by_others.add("m1")
    assert "currently held" in run(timeout=1000)[0].reason
    assert world.requests == []


def test_an_org_that_was_deleted_is_no_failure(world: World) -> None:
    def delete() -> None:
        if "org-3" in world.statuses:
            del world.statuses["org-3"]
            world.fly.destroy("m3")

    world.clock.on_sleep = delete
    assert run() == []
    assert "org-3" not in world.log


def test_a_machine_that_does_not_say_whose_it_is_is_named(world: World) -> None:
    world.fly.add("m7", environment={"KEY": OLD})
    lines: list[str] = []
    (left,) = run(lines)
    assert (left.machine_id, left.org) == ("m7", "")
    assert "its metadata do not say which org it is of" in left.reason
    assert len(world.log) == 5


def test_nothing_to_do_is_done(world: World) -> None:
    world.fly.machines.clear()
    assert run() == []
    assert world.log == []


def test_a_control_plane_that_does_not_answer_begins_nothing(world: World) -> None:
    world.lists = False
    with pytest.raises(ApiError, match="control plane: could not list the orgs"):
        run()
    assert world.log == []
