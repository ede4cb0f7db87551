"""Are values that nobody mints for the program kept as long as they may be needed, and no longer?"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.given import GivenValues
from components.issuers import ISSUERS, Context
from components.keyring import Credential, fingerprint
from components.lifecycle import make_current
from components.secret import Family

FAMILY = Family(app="cp", stack="prod", secret="SESSION_SECRET", longest_name=255)
VALUE = "the-value-that-was-given"


def credential(generation: int, value: str = "") -> Credential:
    name = FAMILY.credential_name(generation)
    return Credential(
        generation=generation,
        credential_id=name,
        name=name,
        value=value or f"value {generation}",
        created_at="2026-11-23T12:00:00+00:00",
    )


KEYRING = tuple(credential(generation) for generation in (4, 3, 2, 1))


def test_a_value_is_taken_as_it_is() -> None:
    minted = GivenValues(given=VALUE).mint("cp-rotation-prod-SESSION_SECRET-g1")
    assert (minted.credential_id, minted.value) == ("cp-rotation-prod-SESSION_SECRET-g1", VALUE)
    assert abs(datetime.fromisoformat(minted.created_at) - datetime.now(UTC)) < timedelta(minutes=1)


@given(st.text(min_size=1))
def test_neither_id_nor_repr_tells_anything_about_the_value(value: str) -> None:
    one, other = GivenValues(given=value), GivenValues(given=value + "x")
    assert one.mint("name").credential_id == other.mint("name").credential_id
    assert repr(one) == repr(other)
    assert fingerprint(value) not in repr(one)


@pytest.mark.parametrize(("keep_from", "left"), [(0, [4, 3, 2, 1]), (1, [4, 3, 2, 1]), (3, [4, 3]), (4, [4]), (5, [])])
def test_what_lives_is_what_the_stack_knows_from_there_on(keep_from: int, left: list[int]) -> None:
    issued = GivenValues(given=VALUE, keyring=KEYRING, keep_from=keep_from).issued()
    assert [FAMILY.generation_of(each.name) for each in issued] == left
    assert all(each.live and each.created_at == KEYRING[0].created_at for each in issued)
    assert [each.credential_id for each in issued] == [each.name for each in issued]


def test_a_stack_that_knows_nothing_lists_nothing() -> None:
    assert GivenValues(given=VALUE).issued() == []


def test_nobody_is_told_and_nobody_takes_an_old_value() -> None:
    issuer = GivenValues(given=VALUE, keyring=KEYRING)
    issuer.revoke(KEYRING[0].credential_id)
    assert len(issuer.issued()) == 4
    assert issuer.refuses("value 1")
    assert issuer.may_return("value 1"), "nobody has ended it"
    assert issuer.obstacles() == []
    assert issuer.warnings() == []
    assert issuer.old_value_lives_until == ""
    assert GivenValues.revokes is False


def test_a_bump_makes_what_is_given_current_and_drops_what_is_over() -> None:
    issuer = GivenValues(given=VALUE, keyring=KEYRING, keep_from=3)
    current, keyring = make_current([issuer], FAMILY, 5, keyring=KEYRING)
    assert (current.generation, current.value) == (5, VALUE)
    assert [each.generation for each in keyring] == [5, 4, 3]


@pytest.mark.parametrize("generation", [3, 4])
def test_a_generation_that_is_known_is_not_given_another_value(generation: int) -> None:
    issuer = GivenValues(given="another", keyring=KEYRING, keep_from=3)
    current, _ = make_current([issuer], FAMILY, generation, keyring=KEYRING)
    assert current == credential(generation)


def test_the_table_hands_everything_on() -> None:
    kind = ISSUERS["given"]
    context = Context(config=lambda _key: None, given=VALUE, keyring=KEYRING, keep_from=2)
    assert kind.build({}, context) == GivenValues(given=VALUE, keyring=KEYRING, keep_from=2)
    assert kind.operator is None, "nobody's credential is needed"
    assert VALUE not in repr(context)
