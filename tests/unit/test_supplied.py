"""Does a generation stand for one value, whatever an operator does with counter and value, and is a mistake said with what to do?"""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from components import supplied
from components.errors import RefusedError
from components.given import GivenValues
from components.keyring import Credential, fingerprint
from components.lifecycle import make_current
from components.progress import Progress
from components.secret import Check, Family, FlySecret, Issuer, Random, Secret, Supplied
from components.settings import assert_no_step_back


def secret(name: str, source: Issuer | Random | Supplied | None = None) -> Secret:
    return Secret(
        name=name, source=source or Supplied(), fly=(FlySecret(app="cp"),), verification=Check(module="verification")
    )


MAP = (
    secret("HANDED"),
    secret("OTHER", Supplied(kind="other")),
    secret("MINTED", Issuer(kind="fly-deploy-token")),
    secret("GENERATED", Random()),
)
A, B, C = "value-a", "value-b", "value-c"


def values(
    raw: object,
    generations: Mapping[str, int] | None = None,
    progress: Mapping[str, Progress] | None = None,
    *,
    encrypted: bool = True,
) -> dict[str, str]:
    return supplied.values(
        raw,
        MAP,
        generations={"HANDED": 1} if generations is None else generations,
        progress=progress or {},
        encrypted=encrypted,
    )


def refusal(*arguments: Any, encrypted: bool = True) -> RefusedError:  # noqa: ANN401 - those of `values`
    with pytest.raises(RefusedError) as refused:
        values(*arguments, encrypted=encrypted)
    for each in (A, B, C, fingerprint(A), fingerprint(B), fingerprint(C)):
        assert each not in str(refused.value) + repr(refused.value)
    return refused.value


def known(current: int, verified: int, **held: str) -> dict[str, Progress]:
    """The progress of HANDED: `g1="a"` is generation 1 with that value."""
    keyring = tuple(
        Credential(generation=int(key[1:]), credential_id=key, name=key, value=value, created_at="")
        for key, value in held.items()
    )
    return {"HANDED": Progress(current=current, verified=verified, keyring=keyring)}


# The map


def test_the_values_of_rotated_secrets_that_take_one_are_returned() -> None:
    assert values({"HANDED": A, "OTHER": B}, {"HANDED": 1, "OTHER": 7, "MINTED": 1}) == {"HANDED": A, "OTHER": B}
    assert values({}, {"MINTED": 1, "GENERATED": 1}) == {}
    assert values({}, {}) == {}


def test_a_value_of_a_secret_that_is_not_rotated_or_takes_none_is_not_looked_at() -> None:
    assert values({"HANDED": A, "OTHER": "", "MINTED": B, "GENERATED": 5}) == {"HANDED": A}


@pytest.mark.parametrize("raw", [None, [], [A], A, 3])
def test_it_is_a_map(raw: object) -> None:
    error = refusal(raw)
    assert "`supplied`" in error.happened
    assert "pulumi config set --secret --path supplied." in error.next_step


def test_what_is_in_plaintext_is_refused_and_has_to_be_made_anew() -> None:
    error = refusal({"HANDED": A}, encrypted=False)
    assert "plaintext" in error.happened
    assert "new values" in error.next_step
    assert "pulumi config rm supplied" in error.next_step


def test_what_is_in_plaintext_is_refused_although_nothing_is_rotated() -> None:
    assert "plaintext" in refusal({"HANDED": A}, {}, encrypted=False).happened


def test_the_default_is_not_encrypted_and_good() -> None:
    assert values({}, {"MINTED": 1}, encrypted=False) == {}


@pytest.mark.parametrize("raw", [{}, {"HANDED": ""}, {"HANDED": None}, {"HANDED": 5}, {"HANDED": [A]}, {"OTHER": A}])
def test_a_value_that_has_not_been_handed_in_is_missing(raw: object) -> None:
    error = refusal(raw)
    assert "HANDED" in error.happened
    assert "not been handed in" in error.happened
    assert "pulumi config set --secret --path 'supplied.HANDED'" in error.next_step


@pytest.mark.parametrize("generations", [{}, {"HANDED": 1}])
def test_a_name_that_is_no_secret_is_refused(generations: dict[str, int]) -> None:
    error = refusal({"HANDED": A, "HANDDE": B}, generations)
    assert "HANDDE, which is no secret" in error.happened
    assert error.next_step == "pulumi config rm --path 'supplied.HANDDE'"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    progress = known(2, 2, g2=A)
    error = refusal({"HANDED": B, "TYPO": C}, {"HANDED": 2, "OTHER": 1}, progress)
    for part in ("HANDED has changed", "TYPO", "OTHER is listed"):
        assert part in error.happened
    assert "3. " in error.next_step


# Counter and value. Columns: what the stack knows, the counter, the value.


@pytest.mark.parametrize(
    ("progress", "generation", "value"),
    [
        ({}, 1, A),
        ({}, 7, A),
        (known(1, 0, g1=A), 1, A),
        (known(1, 1, g1=A), 1, A),
        (known(1, 1, g1=A), 2, B),
        (known(1, 1, g1=A), 9, B),
        (known(2, 1, g1=A, g2=B), 2, B),
        (known(2, 1, g1=A, g2=B), 3, C),
        (known(2, 1, g1=A, g2=B), 1, B),
        (known(2, 1, g1=A, g2=B), 1, A),
        (known(1, 1, g1=A, g2=B), 1, B),
        (known(1, 1, g1=A, g2=B), 1, A),
        (known(1, 1, g1=A, g2=B), 2, B),
        (known(1, 1, g1=A, g2=B), 3, C),
        (known(3, 0), 3, A),
    ],
    ids=[
        "first deployment",
        "first deployment, or a lost state, anywhere",
        "delivered, not verified: once more",
        "nothing to do",
        "a bump and a new value",
        "a bump by more than one",
        "a bump whose verification failed: once more",
        "a second bump after that",
        "back to the verified generation, the config still holds the abandoned value",
        "back to the verified generation with its value",
        "gone back before, the config still holds the abandoned value",
        "gone back before, with the value of the verified one",
        "forward again to the abandoned generation with the same value",
        "past the abandoned generation with a new value",
        "a keyring of which no value is known",
    ],
)
def test_counter_and_value_that_fit(progress: dict[str, Progress], generation: int, value: str) -> None:
    state_has = progress["HANDED"].fingerprints.get(generation) if progress else None
    given_up = state_has is not None and state_has != fingerprint(value)
    # The state has the value of the requested generation; what the config still holds is nobody's any more.
    assert values({"HANDED": value}, {"HANDED": generation}, progress) == ({} if given_up else {"HANDED": value})


@pytest.mark.parametrize(
    ("progress", "generation", "value", "said", "step"),
    [
        (known(1, 1, g1=A), 2, A, "still that of generation 1", "back to 1"),
        (known(2, 1, g1=A, g2=B), 3, B, "still that of generation 2", "back to 2"),
        (known(2, 2, g1=A, g2=B), 3, A, "still that of generation 1", "back to 2"),
        (known(1, 1, g1=A, g2=B), 3, B, "still that of generation 2", "back to 1"),
        (known(1, 1, g1=A, g2=B), 2, A, "still that of generation 1", "back to 1"),
        (known(1, 1, g1=A), 1, B, "has changed, but its rotation counter is still 1", "'rotations.HANDED' 2"),
        (known(2, 1, g1=A, g2=B), 2, C, "has changed, but its rotation counter is still 2", "'rotations.HANDED' 3"),
        (known(1, 1, g1=A, g2=B), 2, C, "Generation 2 of HANDED was another value", "'rotations.HANDED' 3"),
        (known(1, 1, g1=A, g2=B, g5=C), 2, "new", "Generation 2 of HANDED was another value", "'rotations.HANDED' 6"),
    ],
    ids=[
        "a bump without a new value",
        "a second bump without a new value",
        "a bump with the value of before",
        "past the abandoned generation with its value",
        "forward again to the abandoned generation with the verified value",
        "a new value without a bump",
        "a new value without a bump, before the verification",
        "forward again to the abandoned generation with another value",
        "forward again to one of two abandoned generations with another value",
    ],
)
def test_counter_and_value_that_do_not_fit(
    progress: dict[str, Progress], generation: int, value: str, said: str, step: str
) -> None:
    error = refusal({"HANDED": value}, {"HANDED": generation}, progress)
    assert said in error.happened
    assert "HANDED" in error.happened
    assert step in error.next_step


@pytest.mark.parametrize(
    ("progress", "generation", "value"),
    [
        (known(1, 1, g1=A), 1, B),
        (known(2, 1, g1=A, g2=B), 2, C),
        (known(1, 1, g1=A, g2=B), 2, C),
        (known(1, 1, g1=A, g2=B), 1, C),
        (known(1, 1, g1=A, g2=B, g5=C), 1, "new"),
        (known(1, 1, g1=A, g2=B, g5=C), 2, "new"),
    ],
    ids=[
        "a new value",
        "another one before the verification",
        "forward again",
        "a new value after going back",
        "a new value below one that was given up",
        "forward again below another",
    ],
)
def test_the_counter_that_a_refusal_names_is_accepted(
    progress: dict[str, Progress], generation: int, value: str
) -> None:
    error = refusal({"HANDED": value}, {"HANDED": generation}, progress)
    named = re.fullmatch(r"pulumi config set --path 'rotations\.HANDED' (\d+)", error.next_step)
    assert named is not None
    assert values({"HANDED": value}, {"HANDED": int(named[1])}, progress) == {"HANDED": value}


def test_a_generation_between_two_that_was_never_minted_gets_no_value_of_another() -> None:
    # 5 was given up before it was verified; the counter goes back to 3, which the stack does not know.
    for value in (A, B, C):
        error = refusal({"HANDED": value}, {"HANDED": 3}, known(5, 2, g2=A, g5=B))
        assert "The rotation counter of HANDED is 3" in error.happened
        assert "knows no value of it" in error.happened
        assert error.next_step == "pulumi config set --path 'rotations.HANDED' 6 to rotate, or 2 to go back."
        assert values({"HANDED": C}, {"HANDED": 6}, known(5, 2, g2=A, g5=B)) == {"HANDED": C}
        back = values({"HANDED": value}, {"HANDED": 2}, known(5, 2, g2=A, g5=B))
        assert back == ({"HANDED": A} if value == A else {})


def test_a_generation_between_two_that_once_had_a_value_is_gone_back_to() -> None:
    assert values({"HANDED": B}, {"HANDED": 3}, known(5, 2, g2=A, g3=B, g5=C)) == {"HANDED": B}
    assert values({"HANDED": C}, {"HANDED": 3}, known(5, 2, g2=A, g3=B, g5=C)) == {}


# Everything in any order

FAMILY = Family(app="cp", stack="prod", secret="HANDED", longest_name=255)


class Operator(RuleBasedStateMachine):
    """An operator who sets counter and value as they like, and updates that get as far as they get."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 1
        self.value = "v0"
        self.made = 0
        self.keyring: list[Credential] | None = None
        self.current = 0
        self.verified = 0
        self.held: dict[int, set[str]] = {}

    @rule()
    def hand_a_new_value_in(self) -> None:
        """A value that there never was."""
        self.made += 1
        self.value = f"v{self.made}"

    @precondition(lambda self: self.keyring)
    @rule(number=st.integers(0, 9))
    def hand_a_known_value_in(self, number: int) -> None:
        """One that the stack knows."""
        assert self.keyring
        self.value = self.keyring[number % len(self.keyring)].value

    @rule(counter=st.integers(1, 6))
    def set_the_counter(self, counter: int) -> None:
        """Anywhere near where it is."""
        self.counter = max(1, self.verified - 2) + counter - 1

    @rule(verifies=st.booleans())
    def update(self, verifies: bool) -> None:  # noqa: FBT001 - drawn
        """As the program does it, as far as the verification or up to it."""
        progress = Progress(
            current=self.current,
            verified=self.verified,
            keyring=tuple(self.keyring or ()),
        )
        try:
            assert_no_step_back({"HANDED": self.counter}, {"HANDED": progress})
            given = values({"HANDED": self.value}, {"HANDED": self.counter}, {"HANDED": progress})
        except RefusedError:
            return
        assert self.counter >= self.current or self.counter in progress.fingerprints, "no way back to what never was"
        if self.counter != self.current:
            issuer = GivenValues(
                given=given.get("HANDED", ""), keyring=tuple(self.keyring or ()), keep_from=progress.keep_from
            )
            current, self.keyring = make_current([issuer], FAMILY, self.counter, keyring=self.keyring)
            self.current = self.counter
            self.held.setdefault(self.current, set()).add(current.value)
            if self.current > progress.current:
                assert current.value == self.value, "a counter that moved forward takes what was handed in"
        if verifies:
            self.verified = self.current

    @invariant()
    def a_generation_has_one_value(self) -> None:
        """And so has the keyring."""
        assert all(len(each) == 1 for each in self.held.values())
        assert self.keyring is None or len({each.generation for each in self.keyring}) == len(self.keyring)

    @invariant()
    def the_verified_value_can_be_brought_back(self) -> None:
        """Whatever came after it."""
        assert not self.verified or self.verified in {each.generation for each in self.keyring or ()}


Operator.TestCase.settings = settings(
    max_examples=100, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOperator = Operator.TestCase


@pytest.mark.parametrize("wrong", [f"{A}\n", f" {A}", f"{A}\x00{B}", f"{A}\ud800"], ids=repr)
def test_a_value_that_no_consumer_could_take_is_refused_without_being_shown(wrong: str) -> None:
    refused = refusal({"HANDED": wrong})
    assert "The supplied value of HANDED" in refused.happened
    assert "supplied.HANDED" in refused.next_step


def test_one_that_is_delivered_already_is_left() -> None:
    assert values({"HANDED": f"{A}\n"}, {"HANDED": 1}, known(1, 1, g1=f"{A}\n")) == {"HANDED": f"{A}\n"}
