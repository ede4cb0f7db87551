"""Is what an update does foreseen as the engine will decide it, after every kind of half-way failure too?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import own_state
from components.keyring import Credential, fingerprint
from components.own_state import from_resources
from components.progress import CheckInState, Progress, State
from components.rotated import Rotated
from components.secret import (
    Check,
    EnvironmentSecret,
    Family,
    FlySecret,
    Issuer,
    Location,
    RepositorySecret,
    Secret,
    TenantMachines,
)
from components.verification.check import SETTINGS_VARIABLE
from components.work import Action, WantedCheck, Work, left_behind, unfinished_business, work_of

FLY = FlySecret(app="cp")
TENANTS = TenantMachines(app="tenant", variable="TOKEN_URL")
GITHUB = RepositorySecret(owner="o", repository="r", workflow="publish.yml")
EVERYWHERE: tuple[Location, ...] = (FLY, TENANTS, GITHUB)
SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fly-deploy-token"),
    fly=(FLY,),
    tenants=TENANTS,
    repositories=(GITHUB,),
    probe=Check(module="fly_token_probe", settings={"app": "tenant"}),
    verification=Check(module="fly_app", settings={"app": "cp", "hosts": ("a", "b")}),
)
OPERATOR = {"ROTATION_CONFIG_X": "operator-credential"}


@dataclass
class Stack:
    """A stack with one secret, and an engine that decides as `components/graph.py` wires it: by the inputs of each resource.

    Attributes:
        secret: As the program declares it now.
        operator: Operator credentials of the config now.
        also: Unmanaged credentials that are to be revoked now.
        resources: What the state has: kind and outputs, by name.
    """

    secret: Secret = SECRET
    operator: Mapping[str, str] = field(default_factory=lambda: OPERATOR)
    also: tuple[str, ...] = ()
    resources: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    clock: int = 0

    def rotated(self, generation: int) -> Rotated:
        """As the program decides it."""
        return Rotated(
            secret=self.secret,
            family=Family(app="cp", stack="prod", secret=self.secret.name, longest_name=255),
            generation=generation,
            progress=self.state.of(self.secret.name),
            also=self.also,
        )

    @property
    def state(self) -> State:
        """As the program reads it."""
        return from_resources(
            {f"urn::{name}": {"type": kind, "outputs": outputs} for name, (kind, outputs) in self.resources.items()}
        )

    @property
    def progress(self) -> Progress:
        """How far the secret is."""
        return self.state.of(self.secret.name)

    def work(self, generation: int, **known: Any) -> Work:  # noqa: ANN401 - arguments of work_of
        """What the program foresees."""
        rotated = self.rotated(generation)
        return work_of(
            self.secret,
            generation,
            rotated.progress,
            tenants=self.state.tenants,
            checks=rotated.wanted_checks(self.operator),
            also=self.also,
            **known,
        )

    def unfinished(self) -> str:
        """What an earlier update left half-way."""
        return unfinished_business(self.secret, self.progress, self.state.tenants)

    def update(self, generation: int, *, fails: str = "") -> list[str]:
        """Runs an update, and returns what it did; up to the step that fails, which changes nothing."""
        done: list[str] = []
        for name, step in self._steps(generation):
            outputs = step()
            if outputs is None:
                continue
            if name == fails:
                break
            done.append(name)
            kind, key, values = outputs
            self.resources[key] = (kind, values)
        return done

    def _steps(self, generation: int) -> list[tuple[str, Any]]:
        named: list[tuple[str, Any]] = [("turn", lambda: self._credential(generation))]
        if self.secret.probe is not None:
            named.append(("probe", lambda: self._check("probe", generation)))
        named += [(str(each), lambda place=each: self._delivery(place)) for each in self.secret.locations]
        named.append(("verify", lambda: self._check("verification", generation)))
        named.append(("revoke", self._revocation))
        return named

    @property
    def _current(self) -> dict[str, Any]:
        return self.resources[self.secret.name][1]

    def _outputs(self, name: str) -> dict[str, Any]:
        return self.resources.get(name, ("", {}))[1]

    def _credential(self, generation: int) -> tuple[str, str, dict[str, Any]] | None:
        known = self._outputs(self.secret.name)
        if known.get("generation") == generation:
            return None
        keyring = list(known.get("keyring", []))
        found = next((each for each in keyring if each["generation"] == generation), None)
        if found is None:
            found = Credential(
                generation=generation,
                credential_id=f"t{generation}",
                name=f"cp-rotation-prod-TOKEN-g{generation}",
                value=f"value of {generation}",
                created_at="2026-11-23T12:00:00Z",
            ).properties()
        return (
            own_state.CREDENTIAL_TYPE,
            self.secret.name,
            {
                "generation": generation,
                "turn": str(int(known.get("turn", 0)) + 1),
                "salt": "pepper",
                "credential_id": found["credential_id"],
                "created_at": found["created_at"],
                "value": found["value"],
                "keyring": [found, *(each for each in keyring if each is not found)],
            },
        )

    def _delivery(self, place: Location) -> tuple[str, str, dict[str, Any]] | None:
        value = self._current["value"]
        if isinstance(place, FlySecret):
            kind, key, variable = own_state.APP_TYPE, place.app, self.secret.name
            outputs: dict[str, Any] = {"names": [variable], "digests": {variable: f"digest {fingerprint(value)[:8]}"}}
        elif isinstance(place, TenantMachines):
            kind, key, variable = own_state.TENANTS_TYPE, place.app, place.variable
            outputs = {"variables": [variable]}
        else:
            kind, key, variable = own_state.ACTIONS_SECRET_TYPE, f"{place.repository}-{self.secret.name}", "value"
            outputs = {"repository": place.repository, "secretName": self.secret.name}
        if self._outputs(key).get(variable) == value:
            return None
        return kind, key, {**outputs, variable: value}

    @property
    def _subject(self) -> str:
        """As `components.graph._subject` makes it."""
        held = {}
        for place in self.secret.locations:
            if isinstance(place, FlySecret):
                held[str(place)] = self._outputs(place.app)[self.secret.name]
            elif isinstance(place, TenantMachines):
                held[str(place)] = self._outputs(place.app)[place.variable]
            else:
                held[str(place)] = self._outputs(f"{place.repository}-{self.secret.name}")["value"]
        parts = [self._current["salt"], self._current["turn"], *(fingerprint(held[each]) for each in sorted(held))]
        return fingerprint("\n".join(parts))

    def _check(self, kind: str, generation: int) -> tuple[str, str, dict[str, Any]] | None:
        rotated = self.rotated(generation)
        check = self.secret.probe if kind == "probe" else self.secret.verification
        assert check is not None
        told = rotated.probe if kind == "probe" else rotated.verification
        subject = self._current["turn"] if kind == "probe" else self._subject
        about = {"subject": subject, "credential_id": self._current["credential_id"], "minted_at": "then"}
        inputs: dict[str, Any] = {
            "create": f'PATH="$PWD/.venv/bin:$PATH" exec python -m components.verification.{check.module}',
            "environment": {SETTINGS_VARIABLE: json.dumps({**told, **about}, sort_keys=True), **self.operator},
        }
        name = f"{kind}-{self.secret.name}"
        if {key: value for key, value in self._outputs(name).items() if key != "stdout"} == inputs:
            return None
        self.clock += 1
        report = {
            "generation": generation,
            "subject": subject,
            "verified_at": f"2026-11-23T12:00:{self.clock:02}+00:00",
        }
        return own_state.CHECK_TYPE, name, {**inputs, "stdout": json.dumps(report)}

    def _revocation(self) -> tuple[str, str, dict[str, Any]] | None:
        name = f"revocation-{self.secret.name}"
        report = json.loads(self._outputs(f"verification-{self.secret.name}")["stdout"])
        news = {
            "credential_id": self._current["credential_id"],
            "verified_at": report["verified_at"],
            "also": sorted(self.also),
        }
        known = self._outputs(name)
        if all(known.get(key) == value for key, value in news.items()):
            return None
        return own_state.REVOCATION_TYPE, name, {**news, "alive": []}


def steps_of(work: Work) -> list[str]:
    """What a work says, in the words of `Stack.update`."""
    return [
        *(["turn"] if work.turns else []),
        *(["probe"] if work.probes else []),
        *(str(each) for each in work.delivers),
        *(["verify"] if work.verifies else []),
        *(["revoke"] if work.revokes else []),
    ]


ALL_STEPS = ["turn", "probe", *map(str, EVERYWHERE), "verify", "revoke"]
DELIVERIES = list(map(str, EVERYWHERE))


def deployed(*updates: tuple[int, str]) -> Stack:
    """A stack after these updates: each with its generation and the step that failed."""
    stack = Stack()
    for generation, fails in updates:
        stack.update(generation, fails=fails)
    return stack


WELL = (1, "")


@pytest.mark.parametrize(
    ("before", "generation", "action", "steps", "mints"),
    [
        ([], 1, Action.TAKE_OVER, ALL_STEPS, True),
        ([(1, "turn")], 1, Action.TAKE_OVER, ALL_STEPS, True),
        ([WELL], 1, Action.NOTHING, [], False),
        ([WELL], 2, Action.ROTATE, ALL_STEPS, True),
        ([WELL], 7, Action.ROTATE, ALL_STEPS, True),
        ([(1, "verify")], 2, Action.ROTATE, ALL_STEPS, True),
        ([WELL, (2, "verify")], 3, Action.ROTATE, ALL_STEPS, True),
        ([WELL, (2, "turn")], 2, Action.ROTATE, ALL_STEPS, True),
        ([WELL, (2, "probe")], 2, Action.FINISH, ALL_STEPS[1:], False),
        ([WELL, (2, str(FLY))], 2, Action.FINISH, ALL_STEPS[2:], False),
        ([WELL, (2, str(TENANTS))], 2, Action.FINISH, ALL_STEPS[3:], False),
        ([WELL, (2, str(GITHUB))], 2, Action.FINISH, ALL_STEPS[4:], False),
        ([WELL, (2, "verify")], 2, Action.FINISH, ["verify", "revoke"], False),
        ([(1, "verify")], 1, Action.FINISH, ["verify", "revoke"], False),
        ([WELL, (2, "revoke")], 2, Action.REVOKE, ["revoke"], False),
        ([(1, "revoke")], 1, Action.REVOKE, ["revoke"], False),
        ([WELL, (2, "probe")], 1, Action.GO_BACK, ["turn", "probe", "verify", "revoke"], False),
        ([WELL, (2, str(TENANTS))], 1, Action.GO_BACK, ["turn", "probe", str(FLY), "verify", "revoke"], False),
        ([WELL, (2, "verify")], 1, Action.GO_BACK, ALL_STEPS, False),
        ([WELL, (2, "verify"), (1, str(TENANTS))], 1, Action.VERIFY, ALL_STEPS[3:], False),
        ([WELL, (2, "verify"), (1, "probe")], 1, Action.VERIFY, ALL_STEPS[1:], False),
        ([WELL, (2, "verify"), (1, "revoke")], 1, Action.REVOKE, ["revoke"], False),
        ([WELL, (2, "verify"), (3, "verify")], 2, Action.ROTATE, ALL_STEPS, False),
        ([WELL, (2, "verify"), (1, "")], 3, Action.ROTATE, ALL_STEPS, True),
    ],
    ids=[
        "first deployment",
        "first minting failed",
        "nothing bumped",
        "bump",
        "bump by more than one",
        "bump before anything is verified",
        "bump again while unverified",
        "minting failed",
        "the probe failed",
        "Fly failed",
        "tenants failed",
        "GitHub failed",
        "the verification failed",
        "the first verification failed",
        "the revocation failed",
        "the first revocation failed",
        "back, delivered nowhere",
        "back, delivered to Fly only",
        "back, delivered everywhere",
        "going back failed at the tenants",
        "going back failed at the probe",
        "going back failed at the revocation",
        "back to one that was never verified",
        "bump after going back",
    ],
)
def test_what_an_update_does(
    before: Sequence[tuple[int, str]],
    generation: int,
    action: Action,
    steps: list[str],
    mints: bool,  # noqa: FBT001 - a column
) -> None:
    stack = deployed(*before)
    work = stack.work(generation)
    assert (work.action, steps_of(work), work.mints) == (action, steps, mints)
    assert work.pending == bool(steps)
    assert stack.update(generation) == steps, "and the engine does that"
    assert not stack.work(generation).pending, "once"


def test_a_verification_that_failed_after_going_back_runs_again() -> None:
    stack = deployed(WELL, (2, "verify"), (1, "verify"))
    work = stack.work(1)
    assert stack.update(1) == ["verify", "revoke"], "generation 2 is alive, and the engine sees that"
    assert steps_of(work) == ["verify", "revoke"]


def test_a_location_less_is_verified_again() -> None:
    stack = deployed(WELL)
    stack.secret = replace(SECRET, tenants=None)
    work = stack.work(1)
    assert stack.update(1) == ["verify", "revoke"]
    assert steps_of(work) == ["verify", "revoke"]


OPERATIONS = st.tuples(
    st.sampled_from(["same", "bump", "back"]),
    st.sampled_from(["", *ALL_STEPS]),
    st.sampled_from(["", "settings", "operator", "also", "probe"]),
)


@given(st.lists(OPERATIONS, max_size=7))
def test_the_engine_does_what_is_foreseen(operations: list[tuple[str, str, str]]) -> None:
    stack, requested, highest = Stack(), 1, 1
    for kind, fails, changed in operations:
        if kind == "bump":
            requested = highest = highest + 1
        elif kind == "back" and stack.progress.verified:
            requested = stack.progress.verified
        _change(stack, changed)
        foreseen = stack.work(requested)
        known = {each.generation for each in stack.progress.keyring}
        before = replace(stack, resources=dict(stack.resources))
        assert before.update(requested) == steps_of(foreseen)
        assert foreseen.mints == (foreseen.turns and requested not in known)
        stack.update(requested, fails=fails)


def _change(stack: Stack, what: str) -> None:
    """Something of the config."""
    probe = stack.secret.probe
    assert probe is not None
    if what == "settings":
        check = stack.secret.verification
        stack.secret = replace(stack.secret, verification=replace(check, settings={**check.settings, "n": stack.clock}))
    elif what == "probe":
        stack.secret = replace(stack.secret, probe=replace(probe, settings={"n": stack.clock}))
    elif what == "operator":
        stack.operator = {"ROTATION_CONFIG_X": f"another {stack.clock}"}
    elif what == "also":
        stack.also = (*stack.also, f"hand-{stack.clock}")


def test_a_probe_of_an_earlier_turn_does_not_count() -> None:
    """Generation 1 was probed before; since then 2 was minted and given up, and the probe of 1 failed."""
    stack = deployed(WELL, (2, "probe"), (1, "probe"))
    assert not stack.work(1).turns
    assert stack.work(1).probes
    assert stack.update(1)[0] == "probe"


# What is done again although the generation is verified


@pytest.mark.parametrize(
    ("changed", "action", "steps"),
    [
        ("settings", Action.VERIFY, ["verify", "revoke"]),
        ("probe", Action.VERIFY, ["probe"]),
        ("operator", Action.VERIFY, ["probe", "verify", "revoke"]),
        ("also", Action.REVOKE, ["revoke"]),
    ],
)
def test_a_change_of_the_config_alone(changed: str, action: Action, steps: list[str]) -> None:
    stack = deployed(WELL)
    _change(stack, changed)
    work = stack.work(1)
    assert (work.action, steps_of(work)) == (action, steps)
    assert not work.changes_values
    assert stack.update(1) == steps
    assert not stack.work(1).pending


def test_the_order_of_what_is_to_be_revoked_is_none_of_its_meaning() -> None:
    stack = deployed(WELL)
    stack.also = ("a", "b")
    stack.update(1)
    stack.also = ("b", "a")
    assert not stack.work(1).pending
    stack.also = ("a",)
    assert steps_of(stack.work(1)) == ["revoke"], "one less is a change, too"


@pytest.mark.parametrize("place", EVERYWHERE, ids=str)
def test_a_location_that_drifted_is_delivered_to_again_and_that_is_all(place: Location) -> None:
    work = deployed(WELL).work(1, drifted={place: "somebody else set it"})
    assert (work.action, steps_of(work)) == (Action.DELIVER, [str(place)])
    assert not work.changes_values, "it is the value verified last"
    assert not work.asks_providers


def test_drift_is_no_reason_to_deliver_twice_or_out_of_order() -> None:
    work = deployed(WELL).work(2, drifted=[GITHUB, FLY])
    assert [str(each) for each in work.delivers] == DELIVERIES


def test_a_new_location_is_delivered_to_and_verified() -> None:
    stack = deployed(WELL)
    another = FlySecret(app="another")
    stack.secret = replace(SECRET, fly=(FLY, another))
    work = stack.work(1)
    assert (work.action, steps_of(work)) == (Action.VERIFY, [str(another), "verify", "revoke"])
    assert stack.update(1) == steps_of(work)


def test_a_secret_without_a_probe_is_not_probed() -> None:
    stack = Stack(secret=replace(SECRET, probe=None))
    assert steps_of(stack.work(1)) == ["turn", *DELIVERIES, "verify", "revoke"]
    assert stack.update(1) == steps_of(stack.work(1)) or not stack.work(1).pending


# Staged


@pytest.mark.parametrize(
    ("before", "generation", "action", "steps"),
    [
        ([], 1, Action.TAKE_OVER, ["turn", "probe", *DELIVERIES]),
        ([WELL], 2, Action.ROTATE, ["turn", "probe", *DELIVERIES]),
        ([WELL, (2, str(FLY))], 2, Action.FINISH, DELIVERIES),
        ([WELL, (2, "verify")], 2, Action.NOTHING, []),
        ([WELL, (2, "verify")], 1, Action.GO_BACK, ["turn", "probe", *DELIVERIES]),
        ([(1, "revoke")], 1, Action.NOTHING, []),
        ([WELL], 1, Action.NOTHING, []),
    ],
    ids=["first", "bump", "not written yet", "waiting", "back", "a revocation is held", "verified"],
)
def test_what_is_staged_is_neither_verified_nor_revoked(
    before: Sequence[tuple[int, str]], generation: int, action: Action, steps: list[str]
) -> None:
    work = deployed(*before).work(generation, held_back=True)
    assert (work.action, steps_of(work)) == (action, steps)
    assert not work.verifies
    assert not work.revokes


# What follows


@pytest.mark.parametrize(
    ("events", "generation", "changes"),
    [
        ([], 1, True),
        ([WELL], 2, True),
        ([WELL, (2, "verify")], 1, True),
        ([WELL, (2, str(FLY))], 2, True),
        ([WELL, (2, "verify")], 2, False),
        ([WELL, (2, "revoke")], 2, False),
        ([WELL], 1, False),
    ],
    ids=[
        "take over",
        "rotate",
        "go back",
        "delivery to finish",
        "verification to finish",
        "revocation to finish",
        "nothing",
    ],
)
def test_consumers_get_another_value(events: list[tuple[int, str]], generation: int, *, changes: bool) -> None:
    assert deployed(*events).work(generation).changes_values is changes


def test_going_back_that_was_cut_off_still_changes_values() -> None:
    work = deployed(WELL, (2, "verify"), (1, str(FLY))).work(1)
    assert work.delivers
    assert work.changes_values


@pytest.mark.parametrize("does", ["turns", "probes", "verifies", "revokes"])
def test_whatever_is_more_than_a_delivery_asks_providers(does: str) -> None:
    assert Work(**{does: True}).asks_providers  # type: ignore[arg-type]
    assert not Work(action=Action.DELIVER, delivers=(FLY,)).asks_providers
    assert not Work().pending


WANTED = WantedCheck(command="c", told={"a": [1], "b": "x"}, operator={"V": "o"})


@pytest.mark.parametrize(
    ("last", "differs"),
    [
        (CheckInState(command="c", told={"a": [1], "b": "x"}, operator={"V": "o"}), False),
        (CheckInState(command="c", told={"a": [1], "b": "x", "subject": "s"}, operator={"V": "o"}), False),
        (CheckInState(command="d", told={"a": [1], "b": "x"}, operator={"V": "o"}), True),
        (CheckInState(command="c", told={"a": [2], "b": "x"}, operator={"V": "o"}), True),
        (CheckInState(command="c", told={"a": [1]}, operator={"V": "o"}), True),
        (CheckInState(command="c", told={"a": [1], "b": "x"}, operator={"V": "p"}), True),
        (CheckInState(command="c", told={"a": [1], "b": "x"}), True),
    ],
    ids=["same", "told what only an update knows", "command", "setting", "a setting more", "credential", "none"],
)
def test_a_check_runs_again_where_it_is_told_something_else(last: CheckInState, differs: bool) -> None:  # noqa: FBT001
    assert WANTED.differs_from(last) is differs


# Unfinished business


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ([], ""),
        ([WELL], ""),
        ([(1, "turn")], ""),
        ([(1, "probe")], "generation 1 is minted, delivered nowhere"),
        ([(1, "verify")], "generation 1 is minted and delivered, not verified"),
        ([WELL, (2, "probe")], "generation 2 is minted, delivered nowhere; generation 1 still alive"),
        (
            [WELL, (2, str(TENANTS))],
            "generation 2 is minted, delivered to Fly app cp only, not verified; generation 1 still alive",
        ),
        (
            [WELL, (2, str(GITHUB))],
            (
                "generation 2 is minted, delivered to Fly app cp and machines of Fly app tenant as TOKEN_URL only, not verified; "
                "generation 1 still alive"
            ),
        ),
        ([WELL, (2, "verify")], "generation 2 is minted and delivered, not verified; generation 1 still alive"),
        (
            [WELL, (2, "verify"), (3, str(FLY))],
            "generation 3 is minted, delivered nowhere; generation 1 still alive",
        ),
        ([WELL, (2, "revoke")], "generation 2 is verified, and what it replaces is not revoked yet"),
        ([(1, "revoke")], "generation 1 is verified, and what it replaces is not revoked yet"),
        ([WELL, (2, "")], ""),
    ],
)
def test_unfinished_business_is_said(before: Sequence[tuple[int, str]], sentence: str) -> None:
    assert deployed(*before).unfinished() == sentence


def test_a_value_that_died_is_not_said_to_be_alive() -> None:
    stack = deployed(WELL, (2, "verify"))
    stack.secret = replace(SECRET, overlaps=False)
    assert stack.unfinished().endswith("not verified; generation 1 died when it was minted")


def test_nothing_of_a_value_is_said() -> None:
    stack = deployed(WELL, (2, str(GITHUB)))
    said = f"{stack.unfinished()} {stack.work(2)} {stack.progress} {stack.state}"
    assert "value of" not in said
    assert "operator-credential" not in said


def forgotten_at_github() -> Stack:
    """Somebody deleted the secret there, and `pulumi refresh` has taken it off the state."""
    stack = deployed(WELL)
    del stack.resources[f"{GITHUB.repository}-{SECRET.name}"]
    return stack


def test_what_the_state_has_forgotten_is_written_and_nothing_else() -> None:
    stack = forgotten_at_github()
    work = stack.work(1)
    assert (work.action, work.delivers, work.writes_again, work.verifies) == (Action.DELIVER, (GITHUB,), (), False)
    assert not work.changes_values
    assert stack.update(1) == steps_of(work) == [str(GITHUB)]


def test_what_the_engine_takes_to_be_there_is_written_again() -> None:
    stack = deployed(WELL)
    work = stack.work(1, drifted=[GITHUB])
    assert (work.action, work.delivers, work.writes_again) == (Action.DELIVER, (GITHUB,), (GITHUB,))
    assert not work.verifies


@pytest.mark.parametrize(
    ("before", "generation", "again"),
    [
        ([WELL], 2, False),  # the value is another one, so that the engine writes it anyway
        ([WELL, (2, str(GITHUB))], 2, False),
        ([WELL, (2, str(GITHUB))], 1, True),  # going back, to what the engine believes to be there still
        ([WELL, (2, "verify")], 1, False),
        ([WELL, (2, "verify")], 2, True),
    ],
)
def test_what_is_written_anyway_is_not_written_again(
    before: Sequence[tuple[int, str]],
    generation: int,
    again: bool,  # noqa: FBT001 - a column
) -> None:
    work = deployed(*before).work(generation, drifted=[GITHUB])
    assert GITHUB in work.delivers
    assert (work.writes_again == (GITHUB,)) is again


def test_a_destination_that_was_left_is_named() -> None:
    stack = deployed(WELL)
    assert left_behind(SECRET, stack.progress) == ()
    environment = EnvironmentSecret(owner="o", repository="r", workflow="publish.yml", environment="prod")
    moved = replace(SECRET, repositories=(environment,))
    (left,) = left_behind(moved, stack.progress)
    assert left.startswith("repository r keeps generation 1, and is not written to any more")
    assert "Delete TOKEN there" in left
    stack.secret = moved
    work = stack.work(1)
    assert (work.action, work.delivers) == (Action.DELIVER, (environment,)), (
        "what its check is told decides whether it runs again"
    )
    stack.secret = replace(SECRET, repositories=())
    assert stack.work(1).verifies, "consumers are others now"
    assert len(left_behind(stack.secret, stack.progress)) == 1
