"""Is what somebody else changed, or a rollout left half-way, found by reading, as the providers will find it, and named with the reason?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from components import drift
from components.drift import Seen
from components.errors import OperatorError
from components.fly.client import FlyClient
from components.fly.provider import AppSecretsProvider
from components.fly.rollout import STAMP, Rollout, RolloutPolicy
from components.http import ApiError
from components.keyring import Credential
from components.progress import AppInState, Progress, State
from components.secret import Check, FlySecret, Issuer, Secret, TenantMachines
from components.settings import ROLLING, STAGED

from .announced import changes
from .fake_fly import FakeFly
from .wire import Clock, Wire, reply

CP = FlySecret(app="cp")
TOKEN = Secret(name="TOKEN", source=Issuer(kind="given"), fly=(CP,), verification=Check(module="fly_app"))
OTHER = replace(TOKEN, name="OTHER")
CLIENT = FlyClient(token="fo1_operator")
VALUES = {"TOKEN": "the-value-of-token", "OTHER": "the-value-of-other"}
HALF_WAY = "a rollout to cp was left half-way or rolled back"
WAITS = "TOKEN of cp is staged, and machines have not restarted since"


def overwritten(name: str) -> str:
    return f"somebody else set {name} of cp since the last update"


@pytest.fixture
def fly(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """An app of three machines that runs with both values of the state."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator")
    fly = FakeFly(clock, 3, value=VALUES["TOKEN"])
    fly.secrets = dict(VALUES)
    fly.written = dict.fromkeys(VALUES, (1, fly.born))
    wire.serve = fly.serve
    return fly


def state(*, staged: Mapping[str, str] | None = None, **changed: Any) -> State:  # noqa: ANN401 - fields
    app = AppInState(
        names=("OTHER", "TOKEN"),
        digests={name: f"digest of {name} 1" for name in VALUES},
        version=1,
        staged=staged or {},
    )
    return replace(State(apps={"cp": app}), **changed)


def look(known: State, *secrets: Secret, staged: bool = False, generation: int = 1) -> Seen:
    secrets = secrets or (TOKEN, OTHER)
    generations = {each.name: generation for each in secrets}
    return drift.look(CLIENT, secrets, known, generations=generations, staged=staged)


# What happens to an app between two updates


def nothing(_fly: FakeFly) -> None:
    """All is as it was."""


def overwrite(fly: FakeFly) -> None:
    fly.keep({"TOKEN": "by hand"})


def take_away(fly: FakeFly) -> None:
    fly.keep({"OTHER": None})


def stamp(fly: FakeFly) -> None:
    """A rollout was killed after its first machine."""
    fly.machines["m2"]["config"]["metadata"][STAMP] = "2"


def stamp_of_the_last(fly: FakeFly) -> None:
    fly.machines["m2"]["config"]["metadata"][STAMP] = "1"


def stamp_and_overwrite(fly: FakeFly) -> None:
    stamp(fly)
    overwrite(fly)


def roll_back(fly: FakeFly) -> None:
    """A rollout that failed and brought the values back."""
    fly.sick = {"m2 bad"}
    with pytest.raises(OperatorError):
        Rollout(CLIENT, "cp", RolloutPolicy(health_timeout=5)).deliver(
            {"TOKEN": "bad"}, previous={"TOKEN": VALUES["TOKEN"]}, finished_version=1
        )


BOTH_HALF_WAY = {"TOKEN": HALF_WAY, "OTHER": HALF_WAY}
EVENTS: list[tuple[Callable[[FakeFly], None], dict[str, str], dict[str, str]]] = [
    (nothing, {}, {}),
    (overwrite, {"TOKEN": overwritten("TOKEN")}, {"TOKEN": overwritten("TOKEN")}),
    (take_away, {"OTHER": overwritten("OTHER")}, {"OTHER": overwritten("OTHER")}),
    (stamp, BOTH_HALF_WAY, {}),
    (stamp_of_the_last, {}, {}),
]
FOUND = [*(event for event, _, _ in EVENTS), stamp_and_overwrite, roll_back]
NAMED = [event.__name__ for event, _, _ in EVENTS]


@pytest.mark.parametrize(("event", "rolling", "staging"), EVENTS, ids=NAMED)
@pytest.mark.parametrize("staged", [False, True], ids=["rolling", "staging"])
def test_what_somebody_did_to_an_app_is_found(
    fly: FakeFly,
    wire: Wire,
    event: Callable[[FakeFly], None],
    rolling: dict[str, str],
    staging: dict[str, str],
    staged: bool,  # noqa: FBT001 - a column
) -> None:
    event(fly)
    wire.requests.clear()
    seen = look(state(), staged=staged)
    expected = staging if staged else rolling
    assert seen.drifted == {name: {CP: expected[name]} if name in expected else {} for name in ("TOKEN", "OTHER")}
    assert [each.machine_id for each in seen.machines["cp"]] == ["m1", "m2", "m3"]
    assert changes(wire.requests) == []
    assert len(wire.requests) == 2, "one look at an app is enough for all its secrets"


@pytest.mark.parametrize("event", FOUND)
@pytest.mark.parametrize("rollout", [ROLLING, STAGED])
def test_the_provider_writes_what_was_found(fly: FakeFly, event: Callable[[FakeFly], None], rollout: str) -> None:
    event(fly)
    found = {name for name, places in look(state(), staged=rollout == STAGED).drifted.items() if places}
    inputs = {
        "app": "cp",
        "names": sorted(VALUES),
        **VALUES,
        "policy": {"max_unavailable": "0.33", "health_timeout": "30", "rollout": rollout},
    }
    olds = {**inputs, "version": "1", "digests": {name: f"digest of {name} 1" for name in VALUES}, "staged": {}}
    assert AppSecretsProvider().diff("cp", olds, inputs).changes == bool(found)
    assert set(AppSecretsProvider()._changed(olds, inputs)) == found


@pytest.mark.parametrize("event", [stamp_and_overwrite, roll_back])
def test_after_a_rollout_that_did_not_finish_every_secret_of_the_app_is_written(
    fly: FakeFly, event: Callable[[FakeFly], None]
) -> None:
    event(fly)
    drifted = look(state()).drifted
    assert {name for name, places in drifted.items() if places} == {"TOKEN", "OTHER"}
    assert drifted["OTHER"] == {CP: HALF_WAY}


def test_our_own_way_back_is_not_blamed_on_somebody_else(fly: FakeFly) -> None:
    roll_back(fly)
    assert fly.secrets == VALUES
    assert look(state()).drifted["TOKEN"] == {CP: HALF_WAY}


# Staged before


@pytest.mark.parametrize(
    ("restarted", "staged", "found"),
    [
        ((), False, {CP: WAITS}),
        (("m1", "m2"), False, {CP: WAITS}),
        (("m1", "m2", "m3"), False, {}),
        ((), True, {}),
    ],
    ids=["none has restarted", "one has not", "all have", "nothing restarts in this update"],
)
def test_what_is_staged_waits_for_a_restart(
    fly: FakeFly,
    clock: Clock,
    restarted: tuple[str, ...],
    staged: bool,  # noqa: FBT001 - a column
    found: dict[FlySecret, str],
) -> None:
    clock.sleep(60)
    at = clock.utc()
    clock.sleep(60)
    if restarted:
        fly.restart(*restarted)
    seen = look(state(staged={"TOKEN": at}), staged=staged)
    assert seen.drifted == {"TOKEN": found, "OTHER": {}}


def test_another_reason_comes_before_that(fly: FakeFly, clock: Clock) -> None:
    at = clock.utc()
    overwrite(fly)
    assert look(state(staged={"TOKEN": at})).drifted["TOKEN"] == {CP: overwritten("TOKEN")}


def test_a_staged_secret_that_is_not_rotated_any_more_is_nobodys(fly: FakeFly, clock: Clock) -> None:
    clock.sleep(60)
    seen = look(state(staged={"TOKEN": clock.utc()}), OTHER)
    assert fly.log == []
    assert seen.drifted == {"OTHER": {}}


# What is not asked about


def test_where_nothing_was_delivered_nobody_is_asked(wire: Wire) -> None:
    assert look(State()) == Seen(drifted={"TOKEN": {}, "OTHER": {}})
    assert wire.requests == []


def test_a_secret_that_is_new_to_an_app_has_not_drifted(fly: FakeFly) -> None:
    new = replace(TOKEN, name="NEW")
    seen = look(state(), TOKEN, new)
    assert "NEW" not in fly.secrets
    assert seen.drifted == {"TOKEN": {}, "NEW": {}}


def test_an_app_of_no_rotated_secret_is_not_asked_about(wire: Wire) -> None:
    assert look(state(), replace(TOKEN, fly=(FlySecret(app="another"),))) == Seen(drifted={"TOKEN": {}})
    assert wire.requests == []


def test_an_app_that_cannot_be_seen_is_an_error(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(403) if kind == "GET /secrets" else None)
    with pytest.raises(ApiError):
        look(state())


# Tenants


def keyring(*values: str) -> tuple[Credential, ...]:
    return tuple(
        Credential(generation=number, credential_id=f"t{number}", name=f"n{number}", value=value, created_at="then")
        for number, value in enumerate(values, 1)
    )


NEW, OLD = "rediss://g2:new@tenants.test:6379", "rediss://g1:old@tenants.test:6379"
TENANTS = TenantMachines(app="cp", variable="REDIS_URL", same_server=True)
REDIS = replace(TOKEN, fly=(), tenants=TENANTS)
DELIVERED = State(
    progress={"TOKEN": Progress(current=2, keyring=keyring(OLD, NEW))}, tenants={"cp": {"REDIS_URL": NEW}}
)


def tenants(fly: FakeFly, *values: str) -> None:
    """In place of the machines, one for each value."""
    fly.machines.clear()
    for number, value in enumerate(values, 1):
        fly.add(f"m{number}", environment={"REDIS_URL": value}, metadata={"molecule_org": f"org-{number}"})


def test_machines_of_tenants_that_hold_another_value_are_named(fly: FakeFly, wire: Wire) -> None:
    tenants(fly, NEW, OLD, NEW, OLD)
    seen = look(DELIVERED, REDIS, generation=2)
    assert seen.drifted == {"TOKEN": {TENANTS: "2 machines of cp hold another REDIS_URL: org-2, org-4"}}
    assert wire.lines == ["GET /v1/apps/cp/machines"]
    assert NEW not in repr(seen.drifted)
    assert OLD not in repr(seen.drifted)


def test_no_more_than_five_are_named(fly: FakeFly) -> None:
    tenants(fly, *[OLD] * 7)
    (why,) = look(DELIVERED, REDIS, generation=2).drifted["TOKEN"].values()
    assert why == "7 machines of cp hold another REDIS_URL: org-1, org-2, org-3, org-4, org-5 and 2 more"


def test_a_machine_of_no_known_org_is_named_by_its_id(fly: FakeFly) -> None:
    tenants(fly, OLD)
    fly.machines["m1"]["config"]["metadata"] = {}
    (why,) = look(DELIVERED, REDIS, generation=2).drifted["TOKEN"].values()
    assert why.endswith(": m1")


def test_somebodys_own_server_is_left_alone_where_that_is_asked_for(fly: FakeFly) -> None:
    tenants(fly, NEW, "redis://own:x@localhost:6379")
    assert look(DELIVERED, REDIS, generation=2).drifted == {"TOKEN": {}}
    everybody = replace(TENANTS, same_server=False)
    found = look(DELIVERED, replace(REDIS, tenants=everybody), generation=2).drifted
    assert found == {"TOKEN": {everybody: "1 machines of cp hold another REDIS_URL: org-2"}}


@pytest.mark.parametrize(
    ("known", "generation"),
    [(DELIVERED, 3), (replace(DELIVERED, tenants={}), 2), (replace(DELIVERED, progress={}), 2)],
    ids=["a generation that is yet to be minted", "never delivered", "nothing known"],
)
def test_what_tenants_cannot_hold_yet_is_no_drift(fly: FakeFly, known: State, generation: int) -> None:
    tenants(fly, OLD, OLD)
    assert look(known, REDIS, generation=generation).drifted == {"TOKEN": {}}


def test_going_back_compares_with_the_value_that_comes_back(fly: FakeFly) -> None:
    tenants(fly, OLD, NEW)
    (why,) = look(DELIVERED, REDIS, generation=1).drifted["TOKEN"].values()
    assert why.endswith(": org-2")


def test_machines_of_an_app_are_listed_once(fly: FakeFly, wire: Wire) -> None:
    fly.machines["m1"]["config"]["env"]["REDIS_URL"] = OLD
    known = replace(DELIVERED, apps=state().apps)
    look(known, replace(TOKEN, tenants=TENANTS), generation=2)
    assert sorted(wire.lines) == ["GET /v1/apps/cp/machines", "GET /v1/apps/cp/secrets"]
