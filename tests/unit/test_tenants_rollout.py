"""Do the machines of tenants get the new values, those that do not bear them the old ones back, and are those named that are left?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from components.errors import OperatorError
from components.fly.client import FlyClient, Machine
from components.fly.rollout import RolloutPolicy
from components.tenants import rollout as module
from components.tenants.rollout import Environments, Left, behind, deliver, holding, server_of

from .fake_fly import EXIT, FakeFly
from .wire import Clock, Wire, reply

SERVER = "tenants.upstash.test:6379"
NEW, OLD = f"rediss://g2:the-new-token@{SERVER}", f"rediss://g1:the-old-token@{SERVER}"
OTHER_NEW, OTHER_OLD = "the-new-key-of-32-bytes", "the-old-key-of-32-bytes"
OWN = "redis://somebody:own-token@localhost:6379"
POLICY = RolloutPolicy(max_unavailable=0.33, health_timeout=30, secrets_timeout=20, lease_timeout=20)
CLIENT = FlyClient(token="fo1_operator-token")
VALUES = {"REDIS_URL": NEW}


@pytest.fixture(autouse=True)
def time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleeping takes no time here either."""
    monkeypatch.setattr(module, "time", clock)


@pytest.fixture
def fly(wire: Wire, clock: Clock) -> FakeFly:
    """Five tenants that hold the old URL."""
    fly = FakeFly(clock, 0)
    fly.variable = "REDIS_URL"
    for number in range(1, 6):
        tenant(fly, number)
    wire.serve = fly.serve
    return fly


def tenant(fly: FakeFly, number: int, value: str = OLD, state: str = "started", **environment: str) -> None:
    fly.add(
        f"m{number}",
        state=state,
        environment={"REDIS_URL": value, "MOLECULE_ORG_ID": f"id-{number}", **environment},
        metadata={"molecule_org": f"org-{number}"},
    )


class Run:
    """One delivery and what it said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def deliver(
        self,
        values: Mapping[str, str] = VALUES,
        policy: RolloutPolicy = POLICY,
        overlaps: tuple[str, ...] = ("REDIS_URL", "SECRETS_ENCRYPTION_KEY"),
        **options: Any,  # noqa: ANN401 - those of `deliver`
    ) -> int:
        """How many machines hold the values afterwards."""
        environments = Environments(
            client=CLIENT, app="cp", variables=values, same_server=["REDIS_URL"], overlaps=overlaps
        )
        return deliver(environments, policy, report=self.lines.append, **options)

    def fails(self, **options: Any) -> OperatorError:  # noqa: ANN401 - those of `deliver`
        """A delivery that ends in an error, none of whose words is a secret."""
        with pytest.raises(OperatorError) as failed:
            self.deliver(**options)
        for text in (str(failed.value), repr(failed.value), repr(failed.value.__cause__), *self.lines):
            for secret in ("the-new-token", "the-old-token", OTHER_NEW, OTHER_OLD):
                assert secret not in text
        return failed.value


@pytest.fixture
def run() -> Run:
    return Run()


def held(fly: FakeFly) -> dict[str, str]:
    return {each: fly.environment(each)["REDIS_URL"] for each in sorted(fly.machines)}


def boots(fly: FakeFly) -> list[str]:
    return [line.split()[1] for line in fly.log if line.startswith("boot")]


# Who is concerned


def machine(machine_id: str, host_status: str = "ok", **environment: str) -> Machine:
    config = {"env": environment} if environment else {}
    return Machine(
        machine_id=machine_id, state="started", instance_id="v", region="ams", host_status=host_status, config=config
    )


@pytest.mark.parametrize(
    ("environment", "is_behind", "holds"),
    [
        ({"REDIS_URL": OLD}, True, False),
        ({"REDIS_URL": NEW}, False, True),
        ({"REDIS_URL": OWN}, False, False),
        ({"REDIS_URL": "redis://g1:the-old-token@TENANTS.upstash.test"}, True, False),
        ({"REDIS_URL": "redis://g1:the-old-token@tenants.upstash.test:7000"}, False, False),
        ({"REDIS_URL": ""}, False, False),
        ({"REDIS_URL": "redis://x:y@z:port"}, False, False),
        ({"OTHER": OLD}, False, False),
        ({}, False, False),
        ({"KEY": OTHER_OLD}, True, False),
        ({"KEY": ""}, True, False),
        ({"KEY": OTHER_NEW}, False, True),
        ({"REDIS_URL": NEW, "KEY": OTHER_OLD}, True, False),
        ({"REDIS_URL": OLD, "KEY": OTHER_NEW}, True, False),
        ({"REDIS_URL": NEW, "KEY": OTHER_NEW}, False, True),
        ({"REDIS_URL": OWN, "KEY": OTHER_NEW}, False, True),
        ({"REDIS_URL": OWN, "KEY": OTHER_OLD}, True, False),
    ],
)
def test_who_is_behind(environment: dict[str, str], is_behind: bool, holds: bool) -> None:  # noqa: FBT001 - columns
    machines = [machine("m1", **environment)]
    wanted = {"REDIS_URL": NEW, "KEY": OTHER_NEW}
    assert bool(behind(machines, wanted, ["REDIS_URL"])) is is_behind
    assert bool(holding(machines, wanted, ["REDIS_URL"])) is holds


def test_a_url_of_another_server_is_behind_where_all_are_to_be_the_same() -> None:
    assert behind([machine("m1", REDIS_URL=OWN)], VALUES, [])


def test_a_machine_whose_environment_fly_cannot_show_counts_as_behind() -> None:
    assert behind([machine("m1", "unreachable")], VALUES, ["REDIS_URL"])
    assert not behind([machine("m1", "unreachable", REDIS_URL=NEW)], VALUES, ["REDIS_URL"])


# A rollout that goes well


def test_one_first_then_batches_and_every_machine_once(fly: FakeFly, run: Run) -> None:
    for one in fly.machines.values():
        one["config"]["env"]["SECRETS_ENCRYPTION_KEY"] = OTHER_OLD
    before = {each: dict(fly.machines[each]["config"]) for each in fly.machines}
    fly.wait_for_each_other(2)
    assert run.deliver({**VALUES, "SECRETS_ENCRYPTION_KEY": OTHER_NEW}) == 5
    assert boots(fly)[0] == "m1"
    assert sorted(boots(fly)) == ["m1", "m2", "m3", "m4", "m5"], "one update per machine"
    assert fly.at_once == 2, "the first one was healthy before the next ones restarted"
    for each in fly.machines:
        assert fly.environment(each) == {
            "REDIS_URL": NEW,
            "SECRETS_ENCRYPTION_KEY": OTHER_NEW,
            "MOLECULE_ORG_ID": f"id-{each[1:]}",
        }
        assert {**fly.machines[each]["config"], "env": {}} == {**before[each], "env": {}}
    assert run.lines == [
        f"tenants: {number} of 5 machines of cp hold the new REDIS_URL and SECRETS_ENCRYPTION_KEY"
        for number in (1, 3, 5)
    ]
    assert fly.leases == {}


def test_those_that_hold_it_and_those_that_are_somebodys_own_are_not_touched(fly: FakeFly, run: Run) -> None:
    tenant(fly, 6, NEW)
    tenant(fly, 7, OWN)
    fly.add("m8")
    assert run.deliver() == 6
    assert {"m6", "m7", "m8"}.isdisjoint(boots(fly))
    assert fly.environment("m7")["REDIS_URL"] == OWN
    assert run.lines[-1] == "tenants: 6 of 6 machines of cp hold the new REDIS_URL"


def test_nothing_to_do_is_done(fly: FakeFly, run: Run) -> None:
    fly.machines.clear()
    assert run.deliver() == 0
    assert run.lines == []


@pytest.mark.parametrize("state", ["stopped", "suspended"])
def test_a_stopped_machine_gets_it_and_stays_stopped(fly: FakeFly, run: Run, state: str) -> None:
    tenant(fly, 0, state=state)
    assert run.deliver() == 6
    assert fly.moves[-1] == f"keep m0 {NEW}"
    assert [line for line in fly.log if line.split()[1] == "m0"] == ["lease m0", f"keep m0 {NEW}", "release m0"]
    assert fly.machines["m0"]["state"] == state


def test_a_machine_created_meanwhile_is_found(fly: FakeFly, run: Run) -> None:
    fly.faults.append(
        lambda kind, _path, number: tenant(fly, 9) if kind == "POST /machines/ID" and number == 4 else None
    )
    assert run.deliver() == 6
    assert set(held(fly).values()) == {NEW}


def test_a_machine_that_is_just_starting_is_awaited(fly: FakeFly, run: Run) -> None:
    tenant(fly, 9, state="starting")
    fly.faults.append(
        lambda kind, _path, number: (
            fly.machines["m9"].update(state="started") if kind == "GET /machines" and number == 4 else None
        )
    )
    assert run.deliver() == 6


@pytest.mark.parametrize("exits", [[], [{"id": "e", "type": "exit", "request": {"exit_event": EXIT}}]])
def test_one_that_never_comes_up_is_not_awaited_for_ever(
    fly: FakeFly, run: Run, clock: Clock, exits: list[dict[str, Any]]
) -> None:
    tenant(fly, 9, state="starting")
    fly.machines["m9"]["events"] = exits
    began = clock.monotonic()
    assert "org-9 (machine m9): it was not healthy" in run.fails().happened
    assert (clock.monotonic() - began > POLICY.health_timeout) is (not exits), "one that has exited may never come up"
    assert [value for each, value in held(fly).items() if each != "m9"] == [NEW] * 5


def test_whoever_keeps_making_machines_with_the_value_before_is_not_chased_for_ever(fly: FakeFly, run: Run) -> None:
    def another(kind: str, _path: str, number: int) -> None:
        if kind == "GET /machines":
            tenant(fly, 10 + number)

    fly.faults.append(another)
    assert "somebody else created or changed it" in run.fails().happened


@pytest.mark.parametrize(
    "when", ["POST /machines/ID/lease", "GET /machines/ID", "POST /machines/ID", "GET /machines/ID/wait"]
)
@pytest.mark.parametrize("which", ["m1", "m3"])
def test_a_machine_that_is_destroyed_meanwhile_is_no_failure(fly: FakeFly, run: Run, when: str, which: str) -> None:
    def destroy(kind: str, path: str, _number: int) -> None:
        if kind == when and f"/{which}" in path and which in fly.machines:
            fly.destroy(which)

    fly.faults.append(destroy)
    assert run.deliver() == 4
    assert set(held(fly).values()) == {NEW}
    assert run.lines[-1] == "tenants: 4 of 4 machines of cp hold the new REDIS_URL", "it is not counted to the end"


def test_where_the_first_one_is_gone_another_one_goes_first(fly: FakeFly, run: Run) -> None:
    def destroy(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID/lease" and "/m1/" in path and "m1" in fly.machines:
            fly.destroy("m1")

    fly.faults.append(destroy)
    fly.sick.add(NEW)
    run.fails()
    assert boots(fly) == ["m2", "m2"], "the new value, and the one before"


def test_a_machine_that_somebody_else_changes_meanwhile_is_looked_at_again(fly: FakeFly, run: Run) -> None:
    def deploy(kind: str, path: str, _number: int) -> None:
        if kind == "POST /machines/ID" and path.endswith("m2") and fly.machines["m2"]["config"]["image"] != "cp:2":
            fly.change("m2", {**fly.machines["m2"]["config"], "image": "cp:2"}, launch=True)
            fly.check("m2", "passing")

    fly.faults.append(deploy)
    assert run.deliver() == 5
    assert fly.machines["m2"]["config"]["image"] == "cp:2"


def test_an_update_whose_answer_was_lost_is_not_made_twice(fly: FakeFly, wire: Wire, run: Run) -> None:
    def lose_the_first_answer(request: httpx.Request) -> httpx.Response:
        answer = fly.serve(request)
        if request.method == "POST" and request.url.path.endswith("/m1") and len(fly.updates) == 1:
            return reply(504)
        return answer

    wire.serve = lose_the_first_answer
    assert run.deliver() == 5
    assert boots(fly).count("m1") == 1


def test_secrets_that_are_not_there_yet_are_awaited(fly: FakeFly, run: Run) -> None:
    fly.faults.append(lambda kind, _path, number: reply(412) if kind == "POST /machines/ID" and number <= 3 else None)
    assert run.deliver() == 5


# Machines that do not bear it


@pytest.mark.parametrize("how", ["sick", "crashing"])
def test_one_that_does_not_bear_it_gets_the_value_before_back_and_the_others_go_on(
    fly: FakeFly, run: Run, how: str
) -> None:
    getattr(fly, how).add(f"m3 {NEW}")
    error = run.fails()
    assert held(fly) == {"m1": NEW, "m2": NEW, "m3": OLD, "m4": NEW, "m5": NEW}
    assert fly.now("m3")["state"] == "started"
    assert fly.now("m3")["checks"][0]["status"] == "passing"
    assert "1 of the tenants of cp could not be given the new REDIS_URL" in error.happened
    assert "org-3 (machine m3): with the new REDIS_URL: " in error.happened
    assert "it has the value before again, and is healthy" in error.happened
    assert (
        "4 machines hold the new REDIS_URL, 1 the value before, and that still works; nothing was revoked"
        in error.state
    )
    assert "fly machine status m3 --app cp" in error.next_step
    assert "m4" not in error.happened
    assert fly.leases == {}
    fly.sick.clear()
    fly.crashing.clear()
    fly.log.clear()
    assert Run().deliver() == 5, "once it is mended, the next one goes on"
    assert boots(fly) == ["m3"]


def test_a_value_before_that_is_dead_is_not_said_to_work(fly: FakeFly, run: Run) -> None:
    fly.sick.add(f"m3 {NEW}")
    state = run.fails(overlaps=()).state
    assert "still works" not in state
    assert "that died when the new one was minted" in state


def test_one_that_is_healthy_with_neither_is_said_to_be(fly: FakeFly, run: Run) -> None:
    fly.sick |= {f"m3 {NEW}", f"m3 {OLD}"}
    assert "does not get healthy with that either" in run.fails().happened


def test_one_that_cannot_be_put_back_is_named_although_it_holds_the_new_value(fly: FakeFly, run: Run) -> None:
    fly.sick.add(f"m3 {NEW}")
    fly.faults.append(
        lambda kind, path, _number: (
            reply(422, {"error": f"bad config {OLD} {NEW}"})
            if kind == "POST /machines/ID" and path.endswith("m3") and fly.booted["m3"] == NEW
            else None
        )
    )
    error = run.fails()
    assert "the value before could not be given back" in error.happened
    assert "org-3" in error.happened
    assert held(fly)["m3"] == NEW


@pytest.mark.parametrize(
    "change",
    [
        {"checks": [{"name": "http", "status": "critical", "updated_at": "2026-11-23T12:00:00Z"}]},
        {"state": "failed"},
        {"state": "stopped", "events": [{"id": "e", "type": "exit", "request": {"exit_event": EXIT}}]},
        {"host_status": "unreachable"},
    ],
    ids=["critical", "failed", "crashed", "unreachable"],
)
def test_one_that_was_ill_before_is_left_as_it_is_and_named(fly: FakeFly, run: Run, change: dict[str, Any]) -> None:
    for each in ("m1", "m4"):
        fly.machines[each] |= change
    error = run.fails()
    assert held(fly) == {"m1": OLD, "m2": NEW, "m3": NEW, "m4": OLD, "m5": NEW}
    assert error.happened.count("\n") == 1, "a line for each reason"
    assert "org-1 (machine m1), org-4 (machine m4): it was not healthy, so it was left as it is" in error.happened
    assert {"lease m1", "lease m4"}.isdisjoint(fly.log)
    for each in ("m1", "m4"):
        fly.machines[each] |= {"state": "started", "events": [], "host_status": "ok"}
        fly.check(each, "passing")
    assert Run().deliver() == 5, "once they are mended"


def test_a_machine_of_nobody_is_named_all_the_same(fly: FakeFly, run: Run) -> None:
    fly.sick.add(f"m3 {NEW}")
    del fly.machines["m3"]["config"]["metadata"]["molecule_org"]
    assert "\n    machine m3: with the new" in run.fails().happened


def test_what_fly_quotes_of_an_environment_is_not_said(fly: FakeFly, run: Run) -> None:
    quote = reply(422, {"error": f"invalid env REDIS_URL={NEW} was {OLD}"})
    fly.faults.append(lambda kind, _path, _number: quote if kind == "POST /machines/ID" else None)
    assert "invalid env REDIS_URL=*** was ***" in run.fails().happened


def cut_off(fly: FakeFly, *numbers: int) -> None:
    """These machines have got the new value by a delivery that was killed before it saw what came of it."""
    for number in numbers:
        config = fly.machines[f"m{number}"]["config"]
        fly.change(f"m{number}", {**config, "env": {**config["env"], "REDIS_URL": NEW}}, launch=True)
    fly.log.clear()


@pytest.mark.parametrize("how", ["sick", "crashing"])
def test_what_a_delivery_that_was_cut_off_did_not_see_is_seen_by_the_next(fly: FakeFly, run: Run, how: str) -> None:
    getattr(fly, how).add(f"m2 {NEW}")
    cut_off(fly, 1, 2)
    error = run.fails(unfinished=True)
    assert (
        "org-2 (machine m2): it has got the new value by a delivery that was cut off, and is not healthy"
        in error.happened
    )
    assert "m1" not in error.happened
    assert set(held(fly).values()) == {NEW}
    assert "m2" not in boots(fly)
    fly.machines["m2"]["state"] = "started"
    fly.check("m2", "passing")
    assert Run().deliver(unfinished=True) == 5, "once it is mended"


def test_one_that_is_only_starting_is_awaited(fly: FakeFly, run: Run) -> None:
    fly.check_delay = 10
    cut_off(fly, 1, 2)
    assert run.deliver(unfinished=True) == 5
    assert sorted(boots(fly)) == ["m3", "m4", "m5"]


def test_an_illness_of_later_holds_up_nothing(fly: FakeFly, run: Run) -> None:
    cut_off(fly, 1)
    fly.now("m1")
    fly.machines["m1"].pop("_boot", None)
    fly.check("m1", "critical")
    assert run.deliver(unfinished=False) == 5


def test_the_illness_of_one_that_was_created_with_the_new_value_is_not_ours(fly: FakeFly, run: Run) -> None:
    tenant(fly, 6, NEW)
    fly.check("m6", "critical")
    assert run.deliver(unfinished=True) == 6


# Where it stops


def test_where_the_first_one_fails_no_other_is_touched(fly: FakeFly, run: Run) -> None:
    fly.sick.add(f"m1 {NEW}")
    error = run.fails()
    assert set(held(fly).values()) == {OLD}
    assert boots(fly) == ["m1", "m1"]
    assert f"{', '.join(f'org-{n} (machine m{n})' for n in range(2, 6))}: it was not touched" in error.happened
    assert "tenants: stopped; 4 machines of cp were not touched" in run.lines


def test_where_another_one_works_with_it_already_the_first_one_may_fail(fly: FakeFly, run: Run) -> None:
    tenant(fly, 6, NEW)
    fly.sick.add(f"m1 {NEW}")
    run.fails()
    assert held(fly) == {"m1": OLD} | {f"m{each}": NEW for each in range(2, 7)}


def test_where_the_one_that_has_it_is_ill_the_first_one_may_not_fail(fly: FakeFly, run: Run) -> None:
    tenant(fly, 6, NEW)
    fly.check("m6", "critical")
    fly.sick.add(f"m1 {NEW}")
    run.fails()
    assert boots(fly) == ["m1", "m1"]


def test_where_a_whole_batch_fails_it_stops(fly: FakeFly, run: Run) -> None:
    fly.sick |= {f"m2 {NEW}", f"m3 {NEW}"}
    error = run.fails()
    assert held(fly) == {"m1": NEW, "m2": OLD, "m3": OLD, "m4": OLD, "m5": OLD}
    assert {"m4", "m5"}.isdisjoint(boots(fly))
    assert "org-4 (machine m4), org-5 (machine m5): it was not touched" in error.happened


@pytest.mark.parametrize(("sick", "stops"), [((2,), False), ((2, 4), False), ((2, 3), True)])
def test_of_batches_of_one_machine_two_have_to_fail_in_a_row(
    fly: FakeFly,
    run: Run,
    sick: tuple[int, ...],
    stops: bool,  # noqa: FBT001 - a column
) -> None:
    fly.sick |= {f"m{each} {NEW}" for each in sick}
    run.fails(policy=replace(POLICY, max_unavailable=1))
    assert (held(fly)["m5"] == OLD) is stops


def test_a_fly_that_does_not_answer_is_not_said_to_have_changed_nothing(fly: FakeFly, run: Run) -> None:
    fly.faults.append(lambda kind, _path, number: reply(503) if kind == "GET /machines" and number > 1 else None)
    error = run.fails()
    assert error.contact.startswith("Fly:")
    assert "some machines hold the new values, some those before, which still work; nothing was revoked" in error.state
    assert "goes on with those" in error.next_step


def test_a_token_that_is_refused_says_whom_to_call(fly: FakeFly, run: Run) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(403) if kind == "POST /machines/ID/lease" else None)
    error = run.fails()
    assert error.contact.startswith("Fly:")
    assert boots(fly) == []


# With what is provisioned anew


def test_what_is_provisioned_anew_is_not_updated(fly: FakeFly, run: Run) -> None:
    for one in fly.machines.values():
        one["config"]["env"]["SECRETS_ENCRYPTION_KEY"] = OTHER_OLD
    values = {**VALUES, "SECRETS_ENCRYPTION_KEY": OTHER_NEW}
    asked: list[str] = []

    def reprovision() -> list[Left]:
        asked.extend(fly.log)
        return [Left(machine_id="", org="org-2", reason="its status is failed")]

    error = run.fails(values=values, reprovisioned=["SECRETS_ENCRYPTION_KEY"], reprovision=reprovision)
    assert set(held(fly).values()) == {NEW}
    assert sum(line.startswith("boot") for line in asked) == 5, "updates come first"
    assert {fly.environment(each)["SECRETS_ENCRYPTION_KEY"] for each in fly.machines} == {OTHER_OLD}
    assert "org-2: its status is failed" in error.happened
    assert error.happened.count("org-2") == 1
    assert "the control plane's log" in error.next_step


def test_where_the_updates_have_stopped_nothing_is_provisioned_anew(fly: FakeFly, run: Run) -> None:
    fly.sick.add(NEW)
    asked: list[str] = []

    def reprovision() -> list[Left]:
        asked.append("")
        return []

    run.fails(reprovision=reprovision)
    assert asked == []


def test_a_machine_that_was_made_anew_with_a_value_before_is_updated(fly: FakeFly, run: Run) -> None:
    def reprovision() -> list[Left]:
        fly.destroy("m1")
        tenant(fly, 9)
        return []

    assert run.deliver(reprovision=reprovision) == 5
    assert set(held(fly).values()) == {NEW}


def test_an_org_that_is_left_is_named_although_no_machine_is_behind(fly: FakeFly, run: Run) -> None:
    run.fails(reprovision=lambda: [Left(machine_id="", org="org-9", reason="failed")])
    assert set(held(fly).values()) == {NEW}


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://default:p@h.upstash.io:6380", ("redis", "h.upstash.io", 6380)),
        ("rediss://other:q@H.upstash.io:6380/0", ("redis", "h.upstash.io", 6380)),
        ("rediss://h.upstash.io", ("redis", "h.upstash.io", 6379)),
        ("postgresql://a:b@h.upstash.io:6380", ("postgresql", "h.upstash.io", 6380)),
        ("postgres://h.neon.tech/db", ("postgresql", "h.neon.tech", 5432)),
        ("https://h.upstash.io:6380", None),
        ("redis://h:not-a-port", None),
        ("redis://", None),
        ("", None),
        ("redis://[broken", None),
    ],
)
def test_the_server_of_a_url(url: str, server: tuple[str, str, int] | None) -> None:
    assert server_of(url) == server
