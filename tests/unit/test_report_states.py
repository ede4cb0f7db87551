"""Is of every secret said what is true, and is what somebody has to do told from what will pass by itself?"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tools.report.model import ManagedSecret, OldCredential, Promotion, parse_stack
from tools.report.states import State, Urgency, end_of, is_overdue, states, wanted
from tools.report.words import age, coarse, count, exact, listing, when

from . import report_stacks as stacks

NOW = stacks.NOW


def a_secret(**other: Any) -> ManagedSecret:  # noqa: ANN401 - fields of many types
    """Generation 3, verified ten days ago, with nothing special about it."""
    known = stacks.secret(stacks.CONTROL_PLANE, timeline=(stacks.rotation(3, stacks.at(days=10)),))
    return replace(parse_stack("s", {"secrets": {"A": known}}, []).secrets[0], **other)


def old(**until: float) -> OldCredential:
    return OldCredential(credential_id="c", lives_until=NOW + timedelta(**until) if until else None)


def promoted(override: str = "") -> Promotion:
    return Promotion(
        after="staging", generation=2, verified_at=NOW, override=override, because="stack staging is asleep"
    )


def said(secret: ManagedSecret, counter: int | None = 3) -> list[tuple[str, Urgency]]:
    return [(state.words, state.urgency) for state in states(secret, counter, NOW)]


VERIFIED = ("verified", Urgency.DONE)


@pytest.mark.parametrize(
    ("secret", "counter", "expected"),
    [
        (a_secret(), 3, [VERIFIED]),
        (a_secret(), None, [VERIFIED]),
        (a_secret(overdue=True), 3, [("overdue", Urgency.ACT), VERIFIED]),
        (a_secret(rotate_by=NOW - timedelta(hours=1)), 3, [("overdue", Urgency.ACT), VERIFIED]),
        (a_secret(rotate_by=NOW + timedelta(days=14)), 3, [("due in 14 days", Urgency.NOTE), VERIFIED]),
        (a_secret(rotate_by=NOW + timedelta(days=15)), 3, [VERIFIED]),
        (a_secret(rotate_by=None), 3, [VERIFIED]),
        (a_secret(staged=4), 4, [("generation 4 staged", Urgency.NOTE), VERIFIED]),
        (a_secret(), 4, [("generation 4 not verified yet", Urgency.ACT), VERIFIED]),
        (
            a_secret(staged=4),
            5,
            [("generation 5 not verified yet", Urgency.ACT), ("generation 4 staged", Urgency.NOTE), VERIFIED],
        ),
        (a_secret(), 2, [("counter set back to 2", Urgency.ACT), VERIFIED]),
        (a_secret(generation=0), 1, [("first generation not verified yet", Urgency.ACT)]),
        (
            a_secret(generation=0, staged=1),
            1,
            [("first generation not verified yet", Urgency.NOTE), ("generation 1 staged", Urgency.NOTE)],
        ),
        (a_secret(alive=(old(days=1),)), 3, [("old credential still alive", Urgency.NOTE), VERIFIED]),
        (a_secret(alive=(old(),)), 3, [("old credential still alive", Urgency.NOTE), VERIFIED]),
        (a_secret(alive=(old(days=-1),)), 3, [("old credential still alive", Urgency.ACT), VERIFIED]),
        (a_secret(alive=(old(days=1), old(days=-1))), 3, [("2 old credentials still alive", Urgency.NOTE), VERIFIED]),
        (a_secret(alive=(old(days=1),), reason="leaked"), 3, [("old credential still alive", Urgency.ACT), VERIFIED]),
        (a_secret(reason="leaked"), 3, [VERIFIED]),
        (a_secret(promotion=promoted()), 3, [VERIFIED]),
        (a_secret(promotion=promoted("a fire")), 3, [("not proven on staging first", Urgency.NOTE), VERIFIED]),
    ],
)
def test_states(secret: ManagedSecret, counter: int | None, expected: list[tuple[str, Urgency]]) -> None:
    assert said(secret, counter) == expected


def test_a_rotation_without_proof_says_why() -> None:
    (state, _) = states(a_secret(promotion=promoted("a fire")), 3, NOW)
    assert state.detail == "Why it went on all the same: a fire. What was missing: stack staging is asleep."


def test_whatever_asks_for_something_says_what_to_do() -> None:
    every = [
        *states(a_secret(overdue=True, alive=(old(days=-1),)), 4, NOW),
        *states(a_secret(alive=(old(days=1),), reason="leaked"), 2, NOW),
        *states(a_secret(generation=0), 1, NOW),
    ]
    asking = [state for state in every if state.urgency is Urgency.ACT]
    assert len(asking) == 6
    for state in asking:
        assert "`pulumi up`" in state.detail or "Set it to" in state.detail, state


def test_a_secret_is_overdue_as_of_the_moment_of_writing() -> None:
    due = a_secret(overdue=False, rotate_by=NOW)
    assert is_overdue(due, NOW)
    assert not is_overdue(due, NOW - timedelta(seconds=1))
    detail = states(a_secret(rotate_by=NOW - timedelta(days=4)), 3, NOW)[0].detail
    assert "4 days ago, 22 Nov 2026, 18:40:00 UTC" in detail


def test_marks_can_be_told_apart_without_colours() -> None:
    assert len({urgency.mark for urgency in Urgency}) == len(Urgency)
    ranked = [State(words="", urgency=urgency).urgency.rank for urgency in (Urgency.DONE, Urgency.NOTE, Urgency.ACT)]
    assert ranked == sorted(ranked)


def test_the_counters_are_those_of_the_last_update_and_not_of_another_kind() -> None:
    up = stacks.update("failed", stacks.at(hours=1), 5, {"A": 2})
    refresh = {**stacks.update("succeeded", stacks.at(minutes=1), 5, {"A": 9}), "kind": "refresh"}
    older = stacks.update("succeeded", stacks.at(hours=2), 5, {"A": 1})
    assert wanted(parse_stack("s", {}, [refresh, up, older]).updates) == {"A": 2}
    assert wanted([]) == {}


def test_the_end_of_an_old_credential() -> None:
    assert end_of(old(days=3), NOW) == "ends 29 Nov 2026, 18:40:00 UTC, in 3 days"
    assert end_of(old(hours=-2), NOW) == "was to end 26 Nov 2026, 16:40:00 UTC, 2 hours ago"
    assert end_of(old(), NOW) == "no end is known"


@pytest.mark.parametrize(
    ("seconds", "in_one_unit", "in_two"),
    [
        (-5, "less than a minute", "0 s"),
        (0, "less than a minute", "0 s"),
        (59, "less than a minute", "59 s"),
        (60, "1 minute", "1 min"),
        (161, "2 minutes", "2 min 41 s"),
        (3600, "1 hour", "1 h"),
        (11_100, "3 hours", "3 h 5 min"),
        (86_399, "23 hours", "23 h 59 min"),
        (86_400, "1 day", "1 d"),
        (400 * 86_400 + 4 * 3600, "400 days", "400 d 4 h"),
    ],
)
def test_spans(seconds: float, in_one_unit: str, in_two: str) -> None:
    assert coarse(seconds) == in_one_unit
    assert exact(seconds) == in_two
    assert age(NOW - timedelta(seconds=seconds), NOW) == in_one_unit


def test_words() -> None:
    assert when(None) == "not known"
    assert when(NOW) == "26 Nov 2026, 18:40:00 UTC"
    assert [count(1, "secret"), count(2, "secret"), count(0, "key")] == ["1 secret", "2 secrets", "0 keys"]
    assert [listing([]), listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
