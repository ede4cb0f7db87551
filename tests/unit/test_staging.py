"""Is nothing verified that machines do not run with yet, and nothing staged that may not be?"""

from dataclasses import replace
from typing import Any

import pytest

from components import staging
from components.errors import RefusedError
from components.fly.client import FlyClient
from components.http import ApiError
from components.progress import Progress
from components.secret import Check, FlySecret, RepositorySecret, Secret, Supplied
from components.settings import ROLLING, STAGED
from components.staging import HeldBack

from .fake_fly import FakeFly
from .wire import Clock, Wire, booted, reply

CLIENT = FlyClient(token="fo1_operator-token")
SECRET = Secret(
    name="TOKEN",
    source=Supplied(),
    fly=(FlySecret(app="cp"),),
    verification=Check(module="verification"),
    may_be_staged=True,
)
# Generation 2 is written, whatever its machines run with.
WRITTEN = Progress(
    current=2, verified=1, delivered={"cp": "digest of TOKEN 2"}, has_verification=True, has_revocation=True
)
BY_THIS_UPDATE = "it is written to Fly by this update"


@pytest.fixture
def fly(wire: Wire, clock: Clock) -> FakeFly:
    """An app of two machines, to which a new value has been written since they booted."""
    fly = FakeFly(clock, 2)
    wire.serve = fly.serve
    fly.keep({"TOKEN": "new"})
    return fly


def held(progress: Progress | None, *secrets: Secret, generation: int = 2) -> dict[str, HeldBack]:
    known = {} if progress is None else {"TOKEN": progress}
    return staging.held_back(CLIENT, secrets or (SECRET,), {"TOKEN": generation, "OTHER": 1}, known)


# What may be staged


def test_what_every_machine_has_to_get_at_once_is_not_staged() -> None:
    at_once = [replace(SECRET, name=name, may_be_staged=False) for name in ("ONE", "TWO")]
    with pytest.raises(RefusedError) as refused:
        staging.assert_may_be_staged([SECRET, *at_once], rollout=STAGED)
    assert "ONE cannot be staged" in refused.value.happened
    assert "TWO cannot be staged" in refused.value.happened
    assert "TOKEN" not in refused.value.happened
    assert "pulumi config set rollout rolling" in refused.value.next_step


def test_what_may_be_staged_is() -> None:
    staging.assert_may_be_staged([SECRET], rollout=STAGED)
    staging.assert_may_be_staged([], rollout=STAGED)


def test_a_rolling_restart_is_for_everything() -> None:
    staging.assert_may_be_staged([replace(SECRET, may_be_staged=False)], rollout=ROLLING)


def test_a_secret_has_to_say_that_it_may_be_staged() -> None:
    assert not Secret(name="A", source=Supplied(), fly=(), verification=Check(module="v")).may_be_staged


# What is held back


@pytest.mark.parametrize(
    "progress",
    [
        None,
        replace(WRITTEN, current=1),
        replace(WRITTEN, current=3),
        replace(WRITTEN, delivered={}),
        replace(WRITTEN, delivered={"another": "digest of TOKEN 2"}),
        replace(WRITTEN, delivered={"cp": "digest of TOKEN 1"}),
        replace(WRITTEN, delivered={"cp": ""}),
    ],
    ids=[
        "nothing is known",
        "a bump",
        "a step back",
        "minted, not written",
        "written to another app",
        "overwritten by hand",
        "written, and Fly called it nothing",
    ],
)
def test_what_this_update_writes_is_held_back(fly: FakeFly, wire: Wire, progress: Progress | None) -> None:
    fly.restart()
    found = held(progress)
    assert found["TOKEN"].reason == BY_THIS_UPDATE, "machines are not named: what they run with does not matter"
    assert {each.method for each in wire.requests} == {"GET"}


@pytest.mark.parametrize("current", [1, 2])
def test_what_is_gone_at_fly_is_written_again_and_held_back(fly: FakeFly, current: int) -> None:
    fly.keep({"TOKEN": None})
    fly.restart()
    assert held(replace(WRITTEN, current=current))["TOKEN"].reason == BY_THIS_UPDATE


@pytest.mark.parametrize(
    ("restarted", "behind"), [((), "m1, m2"), (("m1",), "m2"), (("m2",), "m1"), (("m1", "m2"), "")]
)
def test_what_a_machine_does_not_run_with_is_held_back(fly: FakeFly, restarted: tuple[str, ...], behind: str) -> None:
    if restarted:
        fly.restart(*restarted)
    found = held(WRITTEN)
    assert {name: each.reason for name, each in found.items()} == (
        {"TOKEN": f"not restarted since: {behind}"} if behind else {}
    )


def test_a_write_after_the_restart_counts(fly: FakeFly) -> None:
    fly.restart()
    assert held(WRITTEN) == {}
    fly.keep({"TOKEN": "by hand"})
    assert held(WRITTEN)["TOKEN"].reason == BY_THIS_UPDATE
    fly.restart()
    assert held(WRITTEN)["TOKEN"].reason == BY_THIS_UPDATE, "they run with what was made by hand"


def test_a_write_of_the_same_value_after_the_restart_counts(fly: FakeFly, clock: Clock) -> None:
    fly.restart()
    fly.written["TOKEN"] = (2, clock.utc())
    assert held(WRITTEN)["TOKEN"].reason == "not restarted since: m1, m2"


@pytest.mark.parametrize("events", [[], booted(600, "start")], ids=["Fly does not say", "a bare restart"])
def test_a_machine_that_was_not_updated_since_the_write_is_behind(fly: FakeFly, events: list[dict[str, Any]]) -> None:
    fly.restart()
    fly.machines["m2"]["events"] = [*events, *booted(-60, "launch")] if events else []
    fly.machines["m2"]["updated_at"] = "2026-11-23T12:10:00Z"
    assert held(WRITTEN)["TOKEN"].reason == "not restarted since: m2"


def test_a_write_of_another_secret_does_not(fly: FakeFly) -> None:
    fly.restart()
    fly.keep({"UNRELATED": "x"})
    assert held(WRITTEN) == {}


@pytest.mark.parametrize("has_verification", [True, False])
@pytest.mark.parametrize("has_revocation", [True, False])
@pytest.mark.parametrize("current", [1, 2], ids=["written now", "written before"])
def test_it_is_said_what_the_state_has(
    fly: FakeFly,
    has_verification: bool,  # noqa: FBT001 - a column
    has_revocation: bool,  # noqa: FBT001 - a column
    current: int,
) -> None:
    del fly
    progress = replace(WRITTEN, current=current, has_verification=has_verification, has_revocation=has_revocation)
    found = held(progress)["TOKEN"]
    assert (found.has_verification, found.has_revocation) == (has_verification, has_revocation)


def test_each_secret_is_looked_at_for_itself(fly: FakeFly) -> None:
    fly.restart()
    found = held(WRITTEN, SECRET, replace(SECRET, name="OTHER"))
    assert {name: each.reason for name, each in found.items()} == {"OTHER": BY_THIS_UPDATE}
    assert (found["OTHER"].has_verification, found["OTHER"].has_revocation) == (False, False)


def test_every_app_has_to_run_with_it(fly: FakeFly, wire: Wire, clock: Clock) -> None:
    other = FakeFly(clock, 1)
    other.machines = {"m9": {**other.machines["m1"], "id": "m9"}}

    def both(request: object) -> object:
        path = request.url.path  # type: ignore[attr-defined]
        if path.endswith("/apps/tenant/machines"):
            return reply(200, [other.now("m9")])
        if path.endswith("/apps/tenant/secrets"):
            return reply(200, {"secrets": fly._listed()})
        return fly.serve(request)  # type: ignore[arg-type]

    wire.serve = both  # type: ignore[assignment]
    two = replace(SECRET, fly=(FlySecret(app="cp"), FlySecret(app="tenant")))
    assert held(WRITTEN, two)["TOKEN"].reason == BY_THIS_UPDATE, "to the second app"
    written = replace(WRITTEN, delivered=dict.fromkeys(["cp", "tenant"], "digest of TOKEN 2"))
    assert held(written, two)["TOKEN"].reason == "not restarted since: m1, m2"
    other.machines["m9"]["events"] = booted(-60, "launch")
    fly.restart()
    assert held(written, two)["TOKEN"].reason == "not restarted since: m9"


def test_a_secret_of_repositories_alone_is_not_held_back_for_machines(fly: FakeFly, wire: Wire) -> None:
    del fly
    alone = replace(SECRET, fly=(), repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),))
    assert held(WRITTEN, alone) == {}
    assert held(None, alone) == {}, "nor for a write: there is none"
    assert wire.requests == []


def test_a_secret_of_repositories_alone_is_in_nobodys_way(fly: FakeFly) -> None:
    fly.restart()
    fly.keep({"TOKEN": "newer"})
    alone = replace(
        SECRET,
        name="OTHER",
        fly=(),
        repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
    )
    written = replace(WRITTEN, delivered={"cp": "digest of TOKEN 3"})
    assert list(held(written, alone, SECRET)) == ["TOKEN"]


@pytest.mark.parametrize("what", ["GET /machines", "GET /secrets"])
def test_a_fly_that_does_not_answer_is_no_go_ahead(fly: FakeFly, what: str) -> None:
    fly.restart()
    fly.faults.append(lambda kind, _path, _number: reply(503) if kind == what else None)
    with pytest.raises(ApiError):
        held(WRITTEN)


def test_a_fly_that_does_not_say_when_it_was_written_is_no_go_ahead(fly: FakeFly) -> None:
    fly.restart()
    fly.written["TOKEN"] = (2, "")
    assert held(WRITTEN)["TOKEN"].reason == "not restarted since: m1, m2"
