"""Which credential is made current, which one dies, and which one is never touched?"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.keyring import (
    Credential,
    Issued,
    fingerprint,
    holders_of_another_value,
    is_live,
    sentence,
    turn_to,
)
from components.secret import Family

FAMILY = Family(app="cp", stack="prod", secret="API_TOKEN", longest_name=255)


def issued(credential_id: str, name: str = "", *, live: bool = True) -> Issued:
    return Issued(credential_id=credential_id, name=name or FAMILY.credential_name(1), live=live)


def known(credential_id: str, generation: int) -> Credential:
    return Credential(
        generation=generation,
        credential_id=credential_id,
        name=FAMILY.credential_name(generation),
        value=f"value-{credential_id}",
        created_at="2026-11-23T12:00:00Z",
    )


ids = st.sampled_from([f"t{number}" for number in range(8)])
names = st.one_of(
    st.integers(0, 12).map(FAMILY.credential_name),
    st.sampled_from(["by hand", "cp-rotation-prod-2-API_TOKEN-g1", "cp-rotation-prod-API_TOKEN-gx", ""]),
)
listings = st.lists(
    st.builds(lambda i, n, alive: Issued(credential_id=i, name=n, live=alive), ids, names, st.booleans())
)
unique_listings = listings.map(lambda each: list({issued.credential_id: issued for issued in each}.values()))
keyrings = st.lists(st.builds(known, ids, st.integers(1, 6)), unique_by=lambda each: each.credential_id)


@pytest.mark.parametrize(
    ("generation", "keyring", "listed", "reuse", "keep", "orphans"),
    [
        (1, [], [], None, [], []),
        (2, [("a", 1)], [("a", 1, True)], None, ["a"], []),
        (2, [("a", 1)], [("a", 1, True), ("lost", 2, True)], None, ["a"], ["lost"]),
        (2, [("a", 1)], [("a", 1, True), ("lost", 2, False)], None, ["a"], []),
        (1, [("a", 1), ("b", 2)], [("a", 1, True), ("b", 2, True)], "a", ["b"], []),
        (1, [("a", 1), ("b", 2)], [("a", 1, False), ("b", 2, True)], None, ["b"], []),
        (1, [("a", 1)], [], None, [], []),
        (3, [("a", 1), ("b", 2)], [("a", 1, True), ("b", 2, True)], None, ["a", "b"], []),
    ],
    ids=[
        "first deployment",
        "a bump mints and keeps the old one",
        "an orphan of a crash is found",
        "a dead one is no orphan",
        "back to a generation that lives",
        "back to a generation that was revoked by hand mints",
        "what the provider does not list is forgotten",
        "two live ones are kept",
    ],
)
def test_turn(
    generation: int,
    keyring: list[tuple[str, int]],
    listed: list[tuple[str, int, bool]],
    reuse: str | None,
    keep: list[str],
    orphans: list[str],
) -> None:
    turn = turn_to(
        generation,
        keyring=[known(*each) for each in keyring],
        listed=[issued(each, FAMILY.credential_name(number), live=live) for each, number, live in listed],
        family=FAMILY,
    )
    assert (turn.reuse.credential_id if turn.reuse else None) == reuse
    assert [each.credential_id for each in turn.keep] == keep
    assert list(turn.orphans) == orphans


def test_without_state_what_lives_is_kept_without_a_value() -> None:
    listed = [
        issued("a", FAMILY.credential_name(3)),
        issued("dead", FAMILY.credential_name(2), live=False),
        issued("b", "by hand"),
    ]
    turn = turn_to(3, keyring=None, listed=listed, family=FAMILY)
    assert (turn.reuse, turn.orphans) == (None, ())
    assert [(each.credential_id, each.generation, each.value) for each in turn.keep] == [("a", 3, "")]


def test_a_credential_without_a_value_is_neither_an_orphan_nor_made_current() -> None:
    found = replace(known("a", 1), value="")
    turn = turn_to(1, keyring=[found], listed=[issued("a", FAMILY.credential_name(1))], family=FAMILY)
    assert (turn.reuse, turn.keep, turn.orphans) == (None, (found,), ())


@given(st.integers(1, 6), keyrings, unique_listings)
def test_a_turn_calls_nothing_an_orphan_that_the_stack_knows_or_that_is_of_others(
    generation: int, keyring: list[Credential], listed: list[Issued]
) -> None:
    turn = turn_to(generation, keyring=keyring, listed=listed, family=FAMILY)
    by_id = {each.credential_id: each for each in listed}
    assert not set(turn.orphans) & {each.credential_id for each in keyring}
    assert all(by_id[each].live and FAMILY.generation_of(by_id[each].name) is not None for each in turn.orphans)
    kept = [*turn.keep, *([turn.reuse] if turn.reuse else [])]
    assert all(each in keyring and by_id[each.credential_id].live for each in kept)
    assert turn.reuse is None or turn.reuse.generation == generation
    # Nothing that lives and is known is lost: its value could not be had again.
    alive = {each.credential_id for each in listed if each.live and FAMILY.generation_of(each.name) is not None}
    assert {each.credential_id for each in kept} == alive & {each.credential_id for each in keyring}


@pytest.mark.parametrize(
    ("listed", "also", "condemned", "dead", "unmanaged", "missing"),
    [
        ([("v", 2, True)], [], [], [], [], []),
        ([("v", 2, True), ("old", 1, True)], [], ["old"], [], [], []),
        ([("v", 2, True), ("old", 1, False)], [], [], ["old"], [], []),
        ([("v", 2, True), ("newer", 3, True), ("twin", 2, True)], [], ["newer", "twin"], [], [], []),
        ([("v", 2, True), ("hand", None, True)], [], [], [], ["hand"], []),
        ([("v", 2, True), ("hand", None, True), ("other", None, True)], ["hand"], ["hand"], [], ["other"], []),
        ([("v", 2, True), ("hand", None, False)], ["hand"], [], ["hand"], [], []),
        ([("v", 2, True), ("hand", None, False)], [], [], [], [], []),
        ([("v", 2, True)], ["gone"], [], [], [], ["gone"]),
        ([("v", 2, True)], ["v"], [], [], [], []),
    ],
    ids=[
        "alone",
        "an earlier generation",
        "an earlier generation, revoked before",
        "an abandoned bump, and an orphan of the same generation",
        "one that somebody made by hand stays and is named",
        "one made by hand dies where asked",
        "one made by hand was revoked before",
        "a dead one of others is nobody's business",
        "asked for and not there",
        "asked for and verified: stays",
    ],
)
def test_sentence(
    listed: list[tuple[str, int | None, bool]],
    also: list[str],
    condemned: list[str],
    dead: list[str],
    unmanaged: list[str],
    missing: list[str],
) -> None:
    found = sentence(
        verified_id="v",
        listed=[
            issued(each, FAMILY.credential_name(number) if number else "by hand", live=live)
            for each, number, live in listed
        ],
        family=FAMILY,
        also=also,
    )
    assert [each.credential_id for each in found.condemned] == condemned
    assert [each.credential_id for each in found.dead] == dead
    assert [each.credential_id for each in found.unmanaged] == unmanaged
    assert list(found.missing) == missing


@given(ids, unique_listings, st.lists(ids, unique=True))
def test_a_sentence_spares_the_verified_credential_and_everyone_elses(
    verified: str, listed: list[Issued], also: list[str]
) -> None:
    found = sentence(verified_id=verified, listed=listed, family=FAMILY, also=also)
    condemned = {each.credential_id for each in found.condemned}
    assert verified not in condemned | {each.credential_id for each in (*found.dead, *found.unmanaged)}
    for each in listed:
        asked = FAMILY.generation_of(each.name) is not None or each.credential_id in also
        assert (each.credential_id in condemned) == (asked and each.live and each.credential_id != verified)
        assert (each in found.unmanaged) == (each.live and not asked and each.credential_id != verified)
    assert set(found.missing) == set(also) - {each.credential_id for each in listed}


@given(st.text(min_size=1), st.dictionaries(st.text(min_size=1), st.text(), max_size=4))
def test_holders_of_another_value_are_those_whose_fingerprint_differs(value: str, held: dict[str, str]) -> None:
    holdings = {location: fingerprint(each) for location, each in held.items()}
    expected = sorted(location for location, each in held.items() if each != value)
    assert holders_of_another_value(value=value, holdings=holdings) == expected
    assert holders_of_another_value(value=value, holdings=dict.fromkeys(held, fingerprint(value))) == []


def test_a_location_that_holds_nothing_stands_in_the_way() -> None:
    assert holders_of_another_value(value="new", holdings={"a": "", "b": fingerprint("new")}) == ["a"]


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("revoked_at", "expires_at", "live"),
    [
        (None, None, True),
        ("", "", True),
        (None, "2026-11-23T12:00:01Z", True),
        (None, "2026-11-23T14:00:01+02:00", True),
        (None, "2026-11-23T12:00:00.000001999Z", True),
        (None, "2026-11-23T12:00:00Z", False),
        (None, "2026-11-23T13:00:00+02:00", False),
        ("2026-11-23T11:00:00Z", None, False),
        ("2026-11-23T11:00:00Z", "2036-11-23T11:00:00Z", False),
    ],
)
def test_is_live(revoked_at: str | None, expires_at: str | None, live: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_live(revoked_at=revoked_at, expires_at=expires_at, now=NOW) is live


def test_a_credential_shows_no_value_and_survives_the_state_where_numbers_are_floats() -> None:
    credential = known("t1", 3)
    assert credential.value not in repr(credential)
    assert credential.value not in f"{[credential]}"
    stored = {**credential.properties(), "generation": 3.0}
    assert Credential.from_properties(stored) == credential


def test_a_fingerprint_does_not_carry_the_value() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
