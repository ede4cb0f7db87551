"""Does a rollout get every machine to the new value one batch at a time, and back where one of them fails?"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from components.errors import OperatorError
from components.fly import rollout as module
from components.fly.client import AppSecret, FlyClient, Machine, MachineCheck
from components.fly.rollout import (
    STAMP,
    Delivery,
    Rollout,
    RolloutPolicy,
    batches,
    crash_loop,
    has_booted_since,
    health,
    left_by_an_unfinished_rollout,
    run_with_what_was_staged,
    should_run,
)
from components.http import ApiError

from .fake_fly import FakeFly
from .wire import START, Clock, Wire, booted, reply

NEW, OLD = "the-new-credential", "the-old-credential"
CLIENT = FlyClient(token="fo1_operator-token")
POLICY = RolloutPolicy(max_unavailable=0.33, health_timeout=30, secrets_timeout=20, lease_timeout=20)


@pytest.fixture
def fly(wire: Wire, clock: Clock) -> FakeFly:
    """An app of three machines that run with the old value."""
    fly = FakeFly(clock, 3, value=OLD)
    wire.serve = fly.serve
    return fly


def deliver(
    previous: Mapping[str, str] | None = None,
    *,
    finished: int = 1,
    policy: RolloutPolicy = POLICY,
    values: Mapping[str, str] | None = None,
) -> Delivery:
    return Rollout(CLIENT, "cp", policy).deliver(
        values or {"TOKEN": NEW},
        previous={"TOKEN": OLD} if previous is None else previous,
        finished_version=finished,
    )


def failure(
    previous: Mapping[str, str] | None = None, *, finished: int = 1, policy: RolloutPolicy = POLICY
) -> OperatorError:
    with pytest.raises(OperatorError) as failed:
        deliver(previous, finished=finished, policy=policy)
    for text in (str(failed.value), repr(failed.value), str(failed.value.__cause__)):
        assert NEW not in text
        assert OLD not in text
    return failed.value


# Pure decisions


def machine(machine_id: str = "m1", **changed: Any) -> Machine:  # noqa: ANN401 - fields
    plain = Machine(machine_id=machine_id, state="started", instance_id="v1", region="ams", host_status="ok", config={})
    return replace(plain, **changed)


@pytest.mark.parametrize(
    ("count", "unavailable", "sizes"),
    [
        (1, 0.33, [1]),
        (2, 0.33, [1, 1]),
        (3, 0.33, [1, 1, 1]),
        (4, 0.33, [1, 2, 1]),
        (10, 0.33, [1, 4, 4, 1]),
        (10, 1, [1] * 10),
        (10, 3, [1, 3, 3, 3]),
        (5, 100, [1, 4]),
        (100, 0.01, [1] * 100),
        (4, 0.99, [1, 3]),
        (0, 0.33, []),
        (100, 0.5, [1, 30, 30, 30, 9]),
        (100, 60, [1, 30, 30, 30, 9]),
    ],
)
def test_sizes_of_batches(count: int, unavailable: float, sizes: list[int]) -> None:
    machines = [machine(f"m{number}") for number in range(count)]
    ordered = batches(machines, max_unavailable=unavailable)
    assert [len(batch) for batch in ordered] == sizes
    assert [each for batch in ordered for each in batch] == machines


def test_machines_that_do_not_run_come_last_together() -> None:
    machines = [machine(f"m{number}", state=state) for number, state in enumerate(["stopped", "started"] * 2)]
    ordered = batches([*machines, machine("m9", state="suspended")], max_unavailable=1)
    assert [[each.machine_id for each in batch] for batch in ordered] == [["m1"], ["m3"], ["m0", "m2", "m9"]]
    stopped = [machine(f"m{number}", state="stopped") for number in range(40)]
    assert [len(batch) for batch in batches(stopped, max_unavailable=1)] == [30, 10]


CHECKED: Mapping[str, Any] = {"checks": {"http": {}}}


def result(status: str, seconds: int = 0) -> MachineCheck:
    at = (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return MachineCheck(name="http", status=status, updated_at=at)


@pytest.mark.parametrize(
    ("changed", "since", "reason"),
    [
        ({}, None, ""),
        ({"config": CHECKED, "checks": (result("passing"),)}, None, ""),
        ({"config": CHECKED, "checks": (result("passing", 5),)}, START, ""),
        ({"config": CHECKED, "checks": (result("passing"),)}, START, ""),
        ({"config": CHECKED, "checks": (result("passing", -1),)}, START, "since the restart"),
        ({"config": CHECKED, "checks": (result("passing", -1),)}, None, ""),
        ({"config": CHECKED, "checks": (result("passing"), result("warning"))}, None, "warning"),
        ({"config": CHECKED, "checks": (result("critical", 5),)}, START, "critical"),
        ({"config": CHECKED, "checks": ()}, None, "no health check"),
        ({"state": "starting"}, None, "starting"),
        ({"state": "stopped", "config": CHECKED, "checks": (result("passing"),)}, None, "stopped"),
        ({"host_status": "unreachable"}, None, "unreachable"),
    ],
)
def test_health(changed: dict[str, Any], since: datetime | None, reason: str) -> None:
    found = health(machine(**changed), since=since)
    assert reason in found
    assert bool(found) == bool(reason)


def ended(code: int, *, requested: bool = False, restarts: int = 0) -> dict[str, Any]:
    return {
        "id": "e",
        "type": "exit",
        "request": {"exit_event": {"exit_code": code, "requested_stop": requested}, "restart_count": restarts},
    }


@pytest.mark.parametrize(
    ("state", "events", "loops"),
    [
        ("started", [], False),
        ("started", [{"type": "start"}], False),
        ("started", [ended(1, restarts=1)], False),
        ("started", [ended(1, restarts=2)], True),
        ("stopped", [ended(1)], True),
        ("failed", [ended(137)], True),
        ("stopped", [ended(0)], False),
        ("stopped", [ended(143, requested=True)], False),
        ("started", [ended(0, restarts=9)], False),
        ("stopped", [{"type": "exit"}], False),
    ],
)
def test_crash_loop(state: str, events: list[dict[str, Any]], loops: bool) -> None:  # noqa: FBT001 - a column
    assert bool(crash_loop(machine(state=state, events=tuple(events)))) is loops


@pytest.mark.parametrize(
    ("state", "events", "runs"),
    [
        ("started", [], True),
        ("starting", [], True),
        ("created", [], True),
        ("failed", [], True),
        ("stopped", [], False),
        ("suspended", [], False),
        ("stopped", [ended(0)], False),
        ("stopped", [ended(1)], True),
        ("stopped", [ended(1, requested=True)], False),
        ("stopped", [{"type": "start"}, ended(1)], True),
        ("stopped", [ended(0), ended(1)], False),
        ("suspended", [ended(1)], False),
    ],
)
def test_should_run(state: str, events: list[dict[str, Any]], runs: bool) -> None:  # noqa: FBT001 - a column
    assert should_run(machine(state=state, events=tuple(events))) is runs


@pytest.mark.parametrize(
    ("stamp", "finished", "left"),
    [
        ("3", 2, True),
        ("2", 2, False),
        ("1", 2, False),
        ("10", 9, True),
        ("", 0, False),
        ("x", 0, False),
        ("1", 0, True),
    ],
)
def test_left_by_an_unfinished_rollout(stamp: str, finished: int, left: bool) -> None:  # noqa: FBT001 - a column
    config = {"metadata": {STAMP: stamp} if stamp else {}}
    assert left_by_an_unfinished_rollout(machine(config=config), finished_version=finished) is left


# A rollout that goes well


def test_one_write_then_one_machine_after_the_other(fly: FakeFly) -> None:
    delivery = deliver()
    assert fly.moves == ["write 2", f"boot m1 {NEW}", f"boot m2 {NEW}", f"boot m3 {NEW}"]
    assert delivery == Delivery(version=2, digests={"TOKEN": "digest of TOKEN 2"}, machines=("m1", "m2", "m3"))
    assert fly.leases == {}
    assert fly.at_once == 1
    assert fly.statuses == ["running", "complete"]


def test_the_first_machine_goes_alone_then_as_many_as_allowed(fly: FakeFly) -> None:
    for number in range(4, 8):
        fly.add(f"m{number}")
    fly.wait_for_each_other(3)
    deliver(policy=replace(POLICY, max_unavailable=3))
    boots = [line.split()[1] for line in fly.moves[1:]]
    assert boots[0] == "m1"
    assert sorted(boots) == [f"m{number}" for number in range(1, 8)]
    assert {*boots[1:4]} == {"m2", "m3", "m4"}
    assert fly.at_once == 3


def test_the_leases_of_the_next_batch_are_taken_while_one_restarts(fly: FakeFly) -> None:
    leased: list[str] = []

    def waits_for_the_lease(kind: str, path: str, _number: int) -> None:
        if kind == "GET /machines/ID/wait" and "/m1/" in path:
            fly.lock.release()
            try:
                wait_until(lambda: "lease m2" in fly.log)
            finally:
                fly.lock.acquire()
            leased.extend(sorted(fly.leases))

    fly.faults.append(waits_for_the_lease)
    deliver()
    assert leased == ["m1", "m2"]
    assert fly.leases == {}


def test_a_machine_that_fails_gives_the_leases_back_that_were_taken_ahead(fly: FakeFly) -> None:
    fly.crashing.add(f"m1 {NEW}")
    failure()
    assert fly.leases == {}
    assert {line.split()[1] for line in fly.moves[1:]} <= {"m1", "2", "3"}, "no other machine was touched"


def test_somebody_who_holds_a_lease_may_do_so_until_the_turn_of_the_machine(fly: FakeFly) -> None:
    refusals = []

    def lets_go_at_last(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID/lease" and "/m2/" in path and "m2" in fly.held_by_others:
            refusals.append(path)
        if kind == "GET /machines/ID/wait" and "/m1/" in path:
            fly.lock.release()
            try:
                # More often than a lease is asked for before that is given up.
                wait_until(lambda: len(refusals) > POLICY.lease_timeout / (2 * module.POLL_SECONDS))
            finally:
                fly.lock.acquire()
            fly.held_by_others.clear()

    fly.held_by_others.add("m2")
    fly.faults.append(lets_go_at_last)
    deliver()
    assert [line.split()[1] for line in fly.moves[1:]] == ["m1", "m2", "m3"]


def wait_until(happened: Callable[[], bool]) -> None:
    """In real time; fails after a minute."""
    for _ in range(6000):
        if happened():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen")


def test_the_config_is_sent_back_whole_with_stamp_and_release(fly: FakeFly) -> None:
    before = dict(fly.machines["m1"]["config"])
    deliver()
    for update in fly.updates:
        assert {key: value for key, value in update["config"].items() if key != "metadata"} == {
            key: value for key, value in before.items() if key != "metadata"
        }
        assert update["config"]["metadata"] == {
            "fly_process_group": "app",
            STAMP: "2",
            "fly_release_id": "r1",
            "fly_release_version": "5",
        }
        assert (update["min_secrets_version"], update["skip_launch"]) == (2, False)


def test_the_config_is_that_of_the_moment_at_which_the_lease_is_held(fly: FakeFly) -> None:
    def somebody_deploys(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID/lease" and "/m2/" in path and "m2" not in fly.leases:
            fly.change("m2", {**fly.machines["m2"]["config"], "image": "cp:2"}, launch=False)

    fly.faults.append(somebody_deploys)
    deliver()
    assert next(each for each in fly.updates if each["machine"] == "m2")["config"]["image"] == "cp:2"


def test_each_machine_is_healthy_before_the_next_one_is_touched(fly: FakeFly, clock: Clock) -> None:
    fly.check_delay = 5
    deliver()
    assert clock.monotonic() > 3 * 5


def test_a_stale_passing_check_is_not_believed(fly: FakeFly) -> None:
    fly.check_delay = 10**9
    assert "has not run since the restart" in failure().happened


def test_a_check_that_flaps_is_not_believed(fly: FakeFly) -> None:
    polls = 0

    def flap(kind: str, path: str, _number: int) -> None:
        nonlocal polls
        if kind == "GET /machines/ID" and path.endswith("m1") and "_boot" not in fly.machines["m1"]:
            polls += 1
            fly.check("m1", "passing" if polls % 2 else "critical")

    fly.faults.append(flap)
    assert "m1" in failure().happened


def test_machines_without_checks_have_to_run(fly: FakeFly) -> None:
    fly.machines.clear()
    fly.add("m1", checked=False)
    deliver()
    assert fly.booted["m1"] == NEW


def test_releases_that_cannot_be_recorded_do_not_stop_a_rollout(fly: FakeFly) -> None:
    fly.releases_work = False
    deliver()
    assert set(fly.booted.values()) == {NEW}
    assert all("fly_release_id" not in each["config"]["metadata"] for each in fly.updates)


def test_a_stopped_machine_gets_the_value_and_stays_stopped(fly: FakeFly) -> None:
    fly.add("m0", state="stopped")
    fly.add("m4", state="suspended")
    deliver()
    assert sorted(fly.moves[1:4]) == [f"boot m{number} {NEW}" for number in (1, 2, 3)]
    assert sorted(fly.moves[4:]) == [f"keep m0 {NEW}", f"keep m4 {NEW}"]
    assert fly.machines["m0"]["state"] == "stopped"


def test_a_machine_that_an_unfinished_rollout_left_crashed_goes_first_and_is_launched(fly: FakeFly) -> None:
    fly.add("m4", state="stopped")
    fly.machines["m4"]["config"]["metadata"][STAMP] = "3"
    fly.machines["m4"]["events"] = [ended(1, restarts=3)]
    deliver(finished=2)
    assert fly.moves[1] == f"boot m4 {NEW}"
    assert fly.machines["m4"]["state"] == "started"


# Refusals before anything is written


@pytest.mark.parametrize(
    "change",
    [
        {"state": "stopped", "events": [ended(1, restarts=3)]},
        {"state": "failed"},
        {"state": "starting"},
        {"host_status": "unreachable"},
        {"host_status": "unknown", "state": "stopped"},
        {"checks": [{"name": "http", "status": "critical", "updated_at": "2026-11-23T12:00:00Z"}]},
        {"checks": []},
    ],
)
def test_an_app_that_is_ill_already_is_not_written_to(fly: FakeFly, change: dict[str, Any]) -> None:
    fly.machines["m2"] |= change
    error = failure()
    assert "m2" in error.happened
    assert "no secret was written" in error.state
    assert fly.log == []


def test_an_illness_of_an_earlier_finished_rollout_is_not_ours_to_mend(fly: FakeFly) -> None:
    fly.machines["m2"]["config"]["metadata"][STAMP] = "1"
    fly.check("m2", "critical")
    failure(finished=1)
    assert fly.log == []


def test_an_app_without_machines_is_not_written_to(fly: FakeFly) -> None:
    fly.machines.clear()
    assert "no machines" in failure().happened
    assert fly.log == []


@pytest.mark.parametrize(
    ("answer", "maybe"),
    [(reply(403, {"error": "unauthorized"}), False), (reply(500), True), (httpx.ReadTimeout("late"), True)],
    ids=str,
)
def test_a_write_that_fails_restarts_nothing(
    fly: FakeFly,
    answer: httpx.Response | Exception,
    maybe: bool,  # noqa: FBT001 - a column
) -> None:
    fly.faults.append(lambda kind, _path, _number: answer if kind == "POST /secrets" else None)
    error = failure()
    assert ("not known" in error.state) == maybe
    assert "no machine was restarted" in error.state
    assert fly.log == []


# Hiccups


def test_secrets_that_are_not_there_yet_are_awaited(fly: FakeFly, clock: Clock) -> None:
    fly.faults.append(
        lambda kind, _path, number: (
            reply(412, {"error": "not yet available"}) if kind == "POST /machines/ID" and number <= 3 else None
        )
    )
    deliver()
    assert fly.moves[1:] == [f"boot m{number} {NEW}" for number in (1, 2, 3)]
    assert clock.naps.count(module.POLL_SECONDS) >= 3


def test_secrets_that_never_get_there_end_the_rollout_with_nothing_restarted(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(412) if kind == "POST /machines/ID" else None)
    error = failure()
    assert fly.moves == ["write 2", "write 3"]
    assert fly.secrets == {"TOKEN": OLD}
    assert "as before" in error.state


@pytest.mark.parametrize("lost", [reply(502), reply(504), reply(408), httpx.ReadTimeout("late")], ids=str)
def test_an_update_whose_answer_was_lost_is_not_made_twice(
    fly: FakeFly, wire: Wire, lost: httpx.Response | Exception
) -> None:
    def lose_the_first_answer(request: httpx.Request) -> httpx.Response:
        answer = fly.serve(request)
        if request.method == "POST" and request.url.path.endswith("/m1") and len(fly.updates) == 1:
            wire.serve = fly.serve
            if isinstance(lost, Exception):
                raise lost
            return lost
        return answer

    wire.serve = lose_the_first_answer
    deliver()
    assert fly.moves[1:] == [f"boot m{number} {NEW}" for number in (1, 2, 3)]


def test_an_update_that_did_not_arrive_is_made_again(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, number: reply(503) if kind == "POST /machines/ID" and number == 1 else None)
    deliver()
    assert fly.moves[1:] == [f"boot m{number} {NEW}" for number in (1, 2, 3)]


def test_an_update_that_fly_acts_on_late_is_known_as_moved(fly: FakeFly, wire: Wire, clock: Clock) -> None:
    late: list[httpx.Request] = []

    def gateway_timeout(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/m1") and not late:
            late.append(request)
            clock.on_sleep = act
            return reply(504)
        return fly.serve(request)

    def act() -> None:
        clock.on_sleep = lambda: None
        fly.serve(late[0])

    wire.serve = gateway_timeout
    deliver()
    assert fly.moves[1:] == [f"boot m{number} {NEW}" for number in (1, 2, 3)]


def test_a_lease_that_somebody_holds_for_a_moment_is_awaited(fly: FakeFly) -> None:
    fly.faults.append(
        lambda kind, _path, number: (
            reply(409, {"error": "held"}) if kind == "POST /machines/ID/lease" and number <= 3 else None
        )
    )
    deliver()
    assert set(fly.booted.values()) == {NEW}


def test_a_lease_that_somebody_keeps_ends_the_rollout(fly: FakeFly, clock: Clock) -> None:
    fly.held_by_others.add("m2")
    error = failure()
    assert "m2" in error.happened
    assert "currently held" in error.happened
    assert sum(clock.naps) >= POLICY.lease_timeout
    assert fly.moves == ["write 2", f"boot m1 {NEW}", "write 3", f"boot m1 {OLD}"]


def test_an_update_that_meets_another_change_is_a_failure(fly: FakeFly) -> None:
    def somebody_else_is_first(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID" and path.endswith("m2") and not fly.updates[1:]:
            fly.change("m2", {**fly.machines["m2"]["config"], "image": "cp:2"}, launch=True)

    fly.faults.append(somebody_else_is_first)
    assert "somebody else" in failure().happened
    assert set(fly.booted.values()) == {OLD}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_lease_that_is_refused_is_not_asked_for_again(fly: FakeFly, clock: Clock, status: int) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(status) if kind == "POST /machines/ID/lease" else None)
    failure()
    assert sum(clock.naps) < 5
    assert fly.moves == ["write 2", "write 3"]


def test_a_lease_is_kept_while_it_is_held(fly: FakeFly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_RENEWAL", 0.002)
    renewed = threading.Event()

    def renew(kind: str, _path: str, number: int) -> None:
        # Fly takes a while over the first wait; the lock is free meanwhile.
        if kind == "GET /machines/ID/wait" and number == 1:
            fly.lock.release()
            try:
                assert renewed.wait(60)
            finally:
                fly.lock.acquire()
        if "renew m1" in fly.log:
            renewed.set()

    fly.faults.append(renew)
    deliver()
    assert fly.log.index("lease m1") < fly.log.index("renew m1") < fly.log.index("release m1")


def test_a_lease_is_given_back_after_the_last_renewal(fly: FakeFly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_RENEWAL", 0.002)
    under_way, given_back = threading.Event(), threading.Event()

    def slowly(kind: str, path: str, _number: int) -> None:
        if "/m1" not in path:
            return
        waits_for = None
        if kind == "POST /machines/ID/lease" and "m1" in fly.leases and not under_way.is_set():
            under_way.set()
            waits_for = given_back  # comes first only where nobody waits for the renewal
        elif kind == "GET /machines/ID/wait":
            waits_for = under_way
        elif kind == "DELETE /machines/ID/lease":
            given_back.set()
        if waits_for is not None:
            fly.lock.release()
            try:
                waits_for.wait(0.3)
            finally:
                fly.lock.acquire()

    fly.faults.append(slowly)
    deliver()
    assert under_way.is_set()
    assert fly.log.index("renew m1") < fly.log.index("release m1")


# Failures and the way back


@pytest.mark.parametrize("how", ["sick", "crashing"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failure_brings_the_previous_value_back_to_what_had_moved_and_touches_nothing_else(
    fly: FakeFly, how: str, failing: int
) -> None:
    def fail_at(kind: str, path: str, _number: int) -> None:
        # The machine in question does not bear the new value.
        if kind == "POST /machines/ID" and path.endswith(f"m{failing}"):
            getattr(fly, how).add(NEW)

    fly.faults.append(fail_at)
    error = failure()
    moved = [f"m{number}" for number in range(1, failing + 1)]
    assert fly.moves == [
        "write 2",
        *(f"boot {each} {NEW}" for each in moved),
        "write 3",
        *(f"boot {each} {OLD}" for each in moved),
    ]
    assert set(fly.booted.values()) == {OLD}
    assert fly.secrets == {"TOKEN": OLD}
    assert all(each["checks"][0]["status"] == "passing" for each in map(fly.now, fly.machines))
    assert fly.leases == {}
    assert f"m{failing}" in error.happened
    assert "as before" in error.state
    assert "failed" in fly.statuses


def test_a_crash_is_not_awaited_to_the_end(fly: FakeFly, clock: Clock) -> None:
    fly.crashing.add(NEW)
    assert "exits at once" in failure(policy=replace(POLICY, health_timeout=10_000)).happened
    assert clock.monotonic() < 100


def test_machines_of_the_same_batch_all_go_back(fly: FakeFly) -> None:
    for number in range(4, 8):
        fly.add(f"m{number}")

    def fail_at(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID" and path.endswith("m3"):
            fly.sick.add(NEW)

    fly.faults.append(fail_at)
    failure(policy=replace(POLICY, max_unavailable=2, health_timeout=60))
    assert set(fly.booted.values()) == {OLD}
    touched = {line.split()[1] for line in fly.moves if line.startswith("boot")}
    assert touched == {"m1", "m2", "m3"}


def test_a_previous_value_that_is_not_known_is_not_said_to_be_back(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    error = failure(previous={})
    assert fly.moves == ["write 2", f"boot m1 {NEW}"]
    assert "as before" not in error.state
    assert "cannot be read back" in error.state
    assert "m1" in error.state
    assert fly.leases == {}


def test_a_secret_that_was_not_there_before_is_taken_away_again(fly: FakeFly) -> None:
    fly.secrets = {"OTHER": "untouched"}
    fly.sick.add(NEW)
    error = failure(previous={})
    assert fly.secrets == {"OTHER": "untouched"}
    assert "as before" in error.state


def test_one_unknown_previous_value_among_known_ones_brings_none_back(fly: FakeFly) -> None:
    fly.secrets["BY_HAND"] = "unknown"
    fly.sick.add(NEW)
    with pytest.raises(OperatorError) as failed:
        deliver({"TOKEN": OLD}, values={"TOKEN": NEW, "BY_HAND": NEW})
    assert "BY_HAND" in failed.value.state
    assert "as before" not in failed.value.state
    assert fly.moves == ["write 2", f"boot m1 {NEW}"]


def test_a_way_back_that_fails_is_said(fly: FakeFly) -> None:
    fly.sick.update({NEW, OLD})
    error = failure()
    assert "Rolling back failed too" in error.happened
    assert "as before" not in error.state
    assert "m1" in error.state


def test_a_write_of_the_previous_value_that_fails_is_said(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    fly.faults.append(lambda kind, _path, number: reply(403) if kind == "POST /secrets" and number == 2 else None)
    error = failure()
    assert "Rolling back failed too" in error.happened
    assert "as before" not in error.state


def test_a_machine_that_somebody_else_changes_meanwhile_is_a_failure(fly: FakeFly) -> None:
    fly.check_delay = 5

    def interfere(kind: str, path: str, number: int) -> None:
        if kind == "GET /machines/ID" and number == 3 and path.endswith("m1"):
            fly.change("m1", fly.machines["m1"]["config"], launch=True)

    fly.faults.append(interfere)
    assert "somebody else" in failure().happened


def test_an_update_that_is_refused_leaves_that_machine_alone(fly: FakeFly) -> None:
    fly.faults.append(
        lambda kind, path, _number: (
            reply(422, {"error": "bad config"}) if kind == "POST /machines/ID" and path.endswith("m2") else None
        )
    )
    assert "bad config" in failure().happened
    assert fly.moves == ["write 2", f"boot m1 {NEW}", "write 3", f"boot m1 {OLD}"]


@pytest.mark.parametrize("kind", ["GET /machines/ID", "GET /machines/ID/wait"])
def test_fly_refusing_to_say_how_a_machine_is_ends_the_rollout_and_goes_back(fly: FakeFly, kind: str) -> None:
    refused = False

    def refuse(asked: str, path: str, _number: int) -> httpx.Response | None:
        nonlocal refused
        if asked == kind and path.split("/")[5] == "m2" and fly.booted["m2"] == NEW and not refused:
            refused = True
            return reply(403, {"error": "unauthorized"})
        return None

    fly.faults.append(refuse)
    failure()
    assert set(fly.booted.values()) == {OLD}
    assert fly.leases == {}


def test_a_lease_that_cannot_be_given_back_is_left_to_expire(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(500) if kind == "DELETE /machines/ID/lease" else None)
    deliver()
    assert set(fly.booted.values()) == {NEW}


def test_the_next_rollout_after_a_failure_goes_through(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    failure(previous={})
    fly.sick.clear()
    deliver(previous={})
    assert set(fly.booted.values()) == {NEW}


def test_digests_that_the_answer_to_a_write_leaves_out_are_looked_up(fly: FakeFly, wire: Wire) -> None:
    def without_digests(request: httpx.Request) -> httpx.Response:
        answer = fly.serve(request)
        if request.method == "POST" and request.url.path.endswith("/secrets"):
            return reply(200, {"version": fly.version})
        return answer

    wire.serve = without_digests
    assert deliver().digests == {"TOKEN": f"digest of TOKEN {fly.version}"}


@pytest.mark.parametrize("what", ["/machines", "/secrets"])
def test_a_fly_that_is_down_before_the_write_is_said_to_be_as_it_was(fly: FakeFly, wire: Wire, what: str) -> None:
    def down(request: httpx.Request) -> httpx.Response:
        return reply(503) if request.method == "GET" and request.url.path.endswith(what) else fly.serve(request)

    wire.serve = down
    failed = failure()
    assert "no secret was written" in failed.state
    assert fly.secrets["TOKEN"] == OLD


# Whom to call


def test_a_rollout_that_fly_ends_says_whom_to_call(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(403) if kind == "POST /machines/ID/lease" else None)
    assert failure().contact.startswith("Fly:")


@pytest.mark.parametrize("kind", ["GET /secrets", "POST /secrets"])
@pytest.mark.parametrize(
    "answer", [reply(401), reply(429, retry_after="90"), reply(503), httpx.ConnectError("refused")], ids=str
)
def test_a_delivery_that_does_not_begin_says_whom_to_call(
    fly: FakeFly, kind: str, answer: httpx.Response | Exception
) -> None:
    fly.faults.append(lambda asked, _path, _number: answer if asked == kind else None)
    error = failure()
    assert error.contact.startswith("Fly:")
    assert f"Help:  {error.contact}" in str(error)


def test_a_rollout_that_cannot_be_undone_says_whom_to_call(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    fly.faults.append(lambda kind, _path, number: reply(503) if kind == "POST /secrets" and number > 1 else None)
    error = failure()
    assert "Rolling back failed too" in error.happened
    assert error.contact.startswith("Fly:")


def test_where_nothing_can_be_brought_back_it_still_says_whom_to_call(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(403) if kind == "POST /machines/ID/lease" else None)
    assert failure({}).contact.startswith("Fly:")


def test_a_machine_that_does_not_bear_the_value_is_nothing_to_call_anybody_about(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    error = failure()
    assert error.contact == ""
    assert "Help:" not in str(error)


# Staged


def stage(values: Mapping[str, str] | None = None) -> Delivery:
    return Rollout(CLIENT, "cp", POLICY).stage(values or {"TOKEN": NEW})


def test_staging_writes_once_and_touches_no_machine(fly: FakeFly, wire: Wire) -> None:
    delivery = stage()
    written_at = {"TOKEN": fly.written["TOKEN"][1]}
    assert delivery == Delivery(version=2, digests={"TOKEN": "digest of TOKEN 2"}, machines=(), written_at=written_at)
    assert fly.log == ["write 2"]
    assert wire.lines == ["POST /v1/apps/cp/secrets", "GET /v1/apps/cp/secrets"]
    assert set(fly.booted.values()) == {OLD}


@pytest.mark.parametrize(
    ("answer", "maybe"),
    [(reply(403), False), (reply(404), False), (reply(503), True), (httpx.ReadTimeout("late"), True)],
    ids=str,
)
def test_a_write_that_cannot_be_staged_is_told_from_one_whose_answer_was_lost(
    fly: FakeFly,
    answer: httpx.Response | Exception,
    maybe: bool,  # noqa: FBT001 - a column
) -> None:
    fly.faults.append(lambda kind, _path, _number: answer if kind == "POST /secrets" else None)
    with pytest.raises(OperatorError) as failed:
        stage()
    assert ("not known" in failed.value.state) is maybe
    assert "no machine was restarted" in failed.value.state
    assert NEW not in str(failed.value) + repr(failed.value)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_look_that_fails_after_the_write_does_not_say_that_nothing_was_written(fly: FakeFly, status: int) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(status) if kind == "GET /secrets" else None)
    with pytest.raises(OperatorError) as failed:
        stage()
    assert fly.secrets == {"TOKEN": NEW}
    assert "no secret was written" not in failed.value.state


@pytest.mark.parametrize("says", [True, False])
def test_when_it_was_staged_is_flys_word(fly: FakeFly, says: bool) -> None:  # noqa: FBT001 - a column
    if not says:
        listed = {"name": "TOKEN", "digest": "d"}
        fly.faults.append(
            lambda kind, _path, _number: reply(200, {"secrets": [listed]}) if kind == "GET /secrets" else None
        )
    delivery = stage()
    assert delivery.written_at == {"TOKEN": fly.written["TOKEN"][1] if says else ""}


# Who runs with what


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([], False),
        (booted(-0.001), False),
        (booted(0), True),
        (booted(0.001), True),
        (booted(1, "launch"), True),
        (booted(-1, "launch"), False),
        ([*booted(1), *booted(-1, "launch")], True),
        ([*booted(-1), *booted(1)], True),
        (booted(1, "start"), False),
        ([*booted(1, "start"), *booted(1, "exit"), *booted(-1), *booted(-9, "launch")], False),
    ],
    ids=[
        "Fly does not say",
        "updated before",
        "updated in the same millisecond",
        "updated after",
        "created after",
        "created before",
        "updated after it was created",
        "in any order",
        "a bare restart",
        "a bare restart and a crash after an update before",
    ],
)
@pytest.mark.parametrize("updated_at", ["", "2026-11-23T11:00:00Z", "2026-11-23T13:00:00Z"])
def test_a_machine_has_the_secrets_of_when_it_was_configured(
    events: list[dict[str, Any]],
    since: bool,  # noqa: FBT001 - a column
    updated_at: str,
) -> None:
    assert has_booted_since(machine(events=tuple(events), updated_at=updated_at), START) is since


def listed(digest: str, seconds: float | None = None) -> AppSecret:
    """The secret as Fly lists it, written so many seconds after the start."""
    written = "" if seconds is None else (START + timedelta(seconds=seconds)).isoformat()
    return AppSecret(name="TOKEN", digest=digest, updated_at=written)


@pytest.mark.parametrize(
    ("configured", "secret", "run"),
    [
        ([5, 9], listed("staged", 0), True),
        ([0], listed("staged", 0), True),
        ([5, -1], listed("staged", 0), False),
        ([5, None], listed("staged", 0), False),
        ([5, 9], listed("staged"), True),
        ([5, 9], listed("another", 10), True),
        ([5, -1], listed("another", 10), False),
        ([15, 19], listed("another", 10), False),
        ([10], listed("another", 10), False),
        ([5, 15], listed("another", 10), True),
        ([5, 9], listed("another"), False),
        ([5, 9], None, False),
    ],
    ids=[
        "all were updated since",
        "in the same moment",
        "one was not",
        "of one nobody knows",
        "it is the same one, whenever it was written",
        "it was overwritten after they had it",
        "it was overwritten before one had it",
        "it was overwritten before any had it",
        "it was overwritten when they were updated",
        "a rollout of the next one failed at the first machine, and brought this one back",
        "it was overwritten nobody knows when",
        "it is gone",
    ],
)
def test_who_runs_with_what_was_staged(configured: list[float | None], secret: AppSecret | None, run: bool) -> None:  # noqa: FBT001 - a column
    machines = [machine(events=() if each is None else tuple(booted(each))) for each in configured]
    found = run_with_what_was_staged(iter(machines), staged_at=START.isoformat(), digest="staged", listed=secret)
    assert found is run


def test_where_fly_did_not_say_when_it_was_staged_nobody_is_said_to_run_with_it() -> None:
    machines = [machine(events=tuple(booted(5)))]
    assert not run_with_what_was_staged(machines, staged_at="", digest="staged", listed=listed("staged", 0))


# Values that have died when the new ones were minted

DEAD_STATE = "The value before of URL is already dead"


@pytest.fixture
def reset(fly: FakeFly) -> FakeFly:
    """The same app; its URL was reset, so the old one is dead."""
    fly.secrets["URL"] = "old-url"
    return fly


def reset_fails(values: Mapping[str, str], previous: Mapping[str, str], **options: Any) -> OperatorError:  # noqa: ANN401 - of `deliver`
    with pytest.raises(OperatorError) as failed:
        Rollout(CLIENT, "cp", POLICY).deliver(
            values, previous=previous, finished_version=1, without_way_back=["URL"], **options
        )
    return failed.value


def fails_at(fly: FakeFly, machine_id: str) -> None:
    """That machine does not bear the new value, the others do."""
    fly.sick.add(f"{machine_id} {NEW}")


def test_a_dead_value_is_never_brought_back_and_every_machine_gets_the_new_one(reset: FakeFly) -> None:
    fails_at(reset, "m2")
    error = reset_fails({"TOKEN": NEW, "URL": "new-url"}, {"TOKEN": OLD, "URL": "old-url"})
    assert reset.secrets == {"TOKEN": OLD, "URL": "new-url"}
    assert reset.moves == [
        "write 2",
        f"boot m1 {NEW}",
        f"boot m2 {NEW}",
        "write 3",
        f"boot m3 {OLD}",  # it had not moved, so it ran with the dead value
        f"boot m1 {OLD}",
        f"boot m2 {OLD}",
    ]
    assert "as before" not in error.state
    assert "the values of TOKEN that this stack had delivered are back, on every machine of cp" in error.state
    assert "every machine runs with the new value of URL" in error.state
    assert DEAD_STATE in error.state
    assert "Every other old credential is still alive" in error.state


def test_where_all_values_before_are_dead_nothing_is_brought_back_and_nothing_moves(reset: FakeFly) -> None:
    reset.sick.add(NEW)
    reset.secrets = {"URL": "old-url", "TOKEN": NEW}
    error = reset_fails({"URL": "new-url"}, {"URL": "old-url"})
    assert reset.moves == ["write 2", f"boot m1 {NEW}"]
    assert reset.secrets["URL"] == "new-url"
    assert "machines m1 run with the new value, machines m2, m3 still with the dead one" in error.state
    assert DEAD_STATE in error.state
    assert "alive" not in error.state


def test_a_first_value_that_was_reset_is_dead_too_and_not_taken_for_a_hand_made_one(reset: FakeFly) -> None:
    fails_at(reset, "m2")
    error = reset_fails({"TOKEN": NEW, "URL": "new-url"}, {"TOKEN": OLD})
    assert reset.secrets == {"TOKEN": OLD, "URL": "new-url"}
    assert "hand-made" not in error.state


def test_a_hand_made_value_beside_a_dead_one_is_left_as_ever(reset: FakeFly) -> None:
    fails_at(reset, "m1")
    error = reset_fails({"TOKEN": NEW, "URL": "new-url"}, {"URL": "old-url"})
    assert reset.moves == ["write 2", f"boot m1 {NEW}"]
    assert "TOKEN of cp is already the new value and the hand-made one before it cannot be read back" in error.state
    assert "machines m2, m3 still with the old ones, of which that of URL is dead" in error.state
    assert DEAD_STATE in error.state


def test_a_value_that_is_delivered_again_is_not_dead(reset: FakeFly) -> None:
    reset.sick.add(NEW)
    error = reset_fails({"TOKEN": NEW, "URL": "old-url"}, {"TOKEN": OLD, "URL": "old-url"})
    assert "as before" in error.state
    assert "dead" not in error.state


def test_a_way_back_beside_a_dead_value_that_fails_is_said(reset: FakeFly) -> None:
    reset.sick.update({NEW, OLD})
    error = reset_fails({"TOKEN": NEW, "URL": "new-url"}, {"TOKEN": OLD, "URL": "old-url"})
    assert "Rolling back failed too" in error.happened
    assert "either value of TOKEN, which both work" in error.state
    assert "machines m2, m3 may still run with the dead value of URL" in error.state
    assert DEAD_STATE in error.state


def test_an_app_that_is_ill_with_a_dead_value_gets_the_new_one_the_healthy_first(reset: FakeFly) -> None:
    reset.check("m1", "critical")
    Rollout(CLIENT, "cp", POLICY).deliver(
        {"URL": "new-url"}, previous={"URL": "old-url"}, finished_version=1, without_way_back=["URL"]
    )
    assert [line.split()[1] for line in reset.moves[1:]] == ["m2", "m3", "m1"]


@pytest.mark.parametrize(
    ("prepare", "written"),
    [
        (lambda fly: fly.machines.clear(), False),
        (lambda fly: fly.machines["m2"].update(host_status="unreachable"), False),
        (lambda fly: fly.faults.append(lambda kind, _path, _n: reply(503) if kind == "GET /secrets" else None), False),
        (lambda fly: fly.faults.append(lambda kind, _path, _n: reply(403) if kind == "POST /secrets" else None), False),
        (lambda fly: fly.faults.append(lambda kind, _path, _n: reply(503) if kind == "POST /secrets" else None), True),
    ],
    ids=["no machines", "unreachable", "does not list", "does not write", "may have written"],
)
def test_a_delivery_that_does_not_begin_says_that_the_value_before_is_dead(
    reset: FakeFly,
    prepare: Any,  # noqa: ANN401 - a function
    written: bool,  # noqa: FBT001 - a column
) -> None:
    prepare(reset)
    error = reset_fails({"URL": "new-url"}, {"URL": "old-url"})
    assert ("no secret was written" in error.state) is not written
    assert (
        f"{DEAD_STATE}: minting the new one has ended it, so cp cannot work with it until the new one is" in error.state
    )
    assert "alive" not in error.state
    assert reset.moves == []


# Companions


class Rows:
    """A companion that keeps to the log of the fake, and fails where a test says so."""

    def __init__(self, fly: FakeFly, name: str = "rows", **failures: Exception) -> None:
        self._fly = fly
        self._name = name
        self._failures = failures
        self.sides: list[str] = []

    def _do(self, what: str) -> None:
        self._fly.log.append(f"write {self._name} {what}")  # among `moves`
        self.sides.append(what)
        if what in self._failures:
            raise self._failures[what]

    def check(self) -> None:
        """As the protocol says."""
        self._do("check")

    def forward(self) -> None:
        """As the protocol says."""
        self._do("forward")

    def finish(self) -> None:
        """As the protocol says."""
        self._do("finish")

    def back(self) -> None:
        """As the protocol says."""
        self._do("back")


BROKEN = OperatorError("It broke off.", state="7 of 9 rows are new.", next_step="mend the database.", contact="Neon: x")
UNANSWERED = ApiError("Neon", "ask", status=503, reason="down")


def with_rows(*rows: Rows, previous: Mapping[str, str] | None = None) -> Delivery:
    previous = {"TOKEN": OLD} if previous is None else previous
    return Rollout(CLIENT, "cp", POLICY).deliver({"TOKEN": NEW}, previous=previous, finished_version=1, companions=rows)


def rows_fail(*rows: Rows, previous: Mapping[str, str] | None = None) -> OperatorError:
    with pytest.raises(OperatorError) as failed:
        with_rows(*rows, previous=previous)
    return failed.value


def test_companions_go_forward_between_the_write_and_the_first_restart(fly: FakeFly) -> None:
    with_rows(Rows(fly))
    boots = [f"boot m{number} {NEW}" for number in (1, 2, 3)]
    assert fly.moves == ["write rows check", "write 2", "write rows forward", *boots, "write rows finish"]


def test_a_companion_that_cannot_go_forward_is_found_before_anything_is_written(fly: FakeFly) -> None:
    error = rows_fail(Rows(fly, check=BROKEN))
    assert fly.moves == ["write rows check"]
    assert (error.happened, error.state, error.contact) == (BROKEN.happened, BROKEN.state, BROKEN.contact)


def test_a_companion_that_cannot_be_asked_is_no_reason_to_blame_fly(fly: FakeFly) -> None:
    error = rows_fail(Rows(fly, check=UNANSWERED))
    assert "no secret was written" in error.state
    assert "once Neon answers" in error.next_step


@pytest.mark.parametrize("how", [BROKEN, UNANSWERED], ids=["broken", "unanswered"])
def test_a_companion_that_breaks_off_goes_back_although_no_machine_has_moved(fly: FakeFly, how: Exception) -> None:
    error = rows_fail(Rows(fly, forward=how))
    assert fly.moves == ["write rows check", "write 2", "write rows forward", "write rows back", "write 3"]
    assert fly.secrets == {"TOKEN": OLD}
    assert "as before" in error.state
    assert ("It broke off." if how is BROKEN else "Neon: could not ask") in error.happened


def test_those_that_have_begun_go_back_last_first(fly: FakeFly) -> None:
    first, second, third = Rows(fly, "a"), Rows(fly, "b", forward=BROKEN), Rows(fly, "c")
    rows_fail(first, second, third)
    assert [line for line in fly.moves if "back" in line] == ["write b back", "write a back"]
    assert third.sides == ["check"]


def test_they_go_back_before_the_machines_and_once_more_after_them(fly: FakeFly) -> None:
    fails_at(fly, "m2")
    rows = Rows(fly)
    error = rows_fail(rows)
    back = fly.moves.index("write rows back")
    assert fly.moves[back:] == ["write rows back", "write 3", f"boot m1 {OLD}", f"boot m2 {OLD}", "write rows back"]
    assert "finish" not in rows.sides
    assert "as before" in error.state


def test_one_that_cannot_go_back_leaves_the_machines_where_they_are(fly: FakeFly) -> None:
    fails_at(fly, "m2")
    error = rows_fail(Rows(fly, back=BROKEN))
    assert fly.moves[-1] == "write rows back"
    assert fly.secrets == {"TOKEN": NEW}
    assert "Rolling back failed too: It broke off." in error.happened
    assert "7 of 9 rows are new. restarted machines: m1, m2, all others still run with the old value." in error.state
    assert error.contact == BROKEN.contact


def test_one_that_went_back_is_not_forgotten_where_the_machines_cannot(fly: FakeFly) -> None:
    fly.sick.update({NEW, OLD})
    error = rows_fail(Rows(fly))
    assert "what changes together with them has been put back" in error.state
    assert "both values work" not in error.state


@pytest.mark.parametrize(("failing", "goes_back"), [("m1", True), ("m2", False), ("m3", False)])
def test_beside_a_hand_made_value_it_goes_where_more_machines_are(
    fly: FakeFly,
    failing: str,
    goes_back: bool,  # noqa: FBT001 - a column
) -> None:
    fails_at(fly, failing)
    rows = Rows(fly)
    assert "cannot be read back" in rows_fail(rows, previous={}).state
    assert ("back" in rows.sides) is goes_back


def test_one_that_cannot_be_finished_is_an_error_that_moves_no_machine_back(fly: FakeFly) -> None:
    error = rows_fail(Rows(fly, finish=BROKEN))
    assert set(fly.booted.values()) == {NEW}
    assert fly.secrets == {"TOKEN": NEW}
    assert "runs on every machine, but not everything could be changed with it: It broke off." in error.happened
    assert "7 of 9 rows are new. Every old credential is still alive." in error.state
