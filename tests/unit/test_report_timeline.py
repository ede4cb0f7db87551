"""Are the rotations of one `pulumi up` shown together, in order, on a scale on which they can be compared?"""

from datetime import timedelta
from typing import Any

import pytest

from tools.report.model import parse_stack
from tools.report.timeline import Row, Run, runs

from . import report_stacks as stacks
from .report_stacks import at, rotation

# What a rotation that stopped after the mint leaves out.
UNFINISHED: dict[str, Any] = {"delivered_at": "", "verified_at": "", "revoked_at": "", "revoked": []}


def timeline(**secrets: tuple[dict[str, Any], ...]) -> tuple[Run, ...]:
    exported = {name: {"timeline": list(each)} for name, each in secrets.items()}
    return runs(parse_stack("s", {"secrets": exported}, []).secrets)


def shape(found: tuple[Run, ...]) -> list[list[tuple[str, int]]]:
    return [[(row.secret, row.generation) for row in run.rows] for run in found]


def only_row(**times: Any) -> Row:  # noqa: ANN401 - times and names
    return timeline(A=(rotation(2, at(days=1), **times),))[0].rows[0]


def test_runs_are_newest_first_and_hold_what_was_minted_before_anything_was_verified() -> None:
    found = timeline(
        A=(rotation(2, at(seconds=3600)), rotation(1, at(days=1))),
        B=(rotation(7, at(seconds=3590)),),
        C=(rotation(4, at(seconds=3600 - 74 - 1)),),
    )
    assert shape(found) == [[("C", 4)], [("A", 2), ("B", 7)], [("A", 1)]]
    just_then = timeline(A=(rotation(2, at(seconds=3600)),), C=(rotation(4, at(seconds=3600 - 74)),))
    assert shape(just_then) == [[("A", 2), ("C", 4)]]


def test_a_secret_is_in_a_run_once() -> None:
    found = timeline(A=(rotation(3, at(seconds=3500)), rotation(2, at(seconds=3600), **UNFINISHED)))
    assert shape(found) == [[("A", 3)], [("A", 2)]]


def test_a_run_in_which_nothing_was_verified_does_not_last_for_ever() -> None:
    found = timeline(
        A=(rotation(1, at(hours=3), **UNFINISHED),),
        B=(rotation(1, at(hours=2, minutes=1), **UNFINISHED),),
        C=(rotation(1, at(hours=1, minutes=59)),),
    )
    assert shape(found) == [[("C", 1)], [("A", 1), ("B", 1)]]


def test_steps_are_told_with_the_time_since_the_mint() -> None:
    row = only_row(deliver=38, verify=161, revoke=169, reason="leaked")
    assert [(step.name, step.words, step.missing) for step in row.steps] == [
        ("minted", "18:40:00", False),
        ("delivered", "after 38 s", False),
        ("verified", "after 2 min 41 s", False),
        ("revoked", "after 2 min 49 s", False),
    ]
    assert (row.took, row.revoked, row.leaked) == ("2 min 49 s", "g1", True)


def test_a_step_that_is_missing_is_told_from_one_whose_time_is_not_known() -> None:
    row = only_row(minted_at="", delivered_at="", revoked_at="", revoked=[])
    assert [(step.words, step.missing) for step in row.steps] == [
        ("time not known", False),
        ("time not known", False),
        ("18:41:14", False),
        ("not yet", True),
    ]
    assert row.took == ""
    nothing = only_row(minted_at="", delivered_at="", verified_at="", revoked_at="", revoked=[])
    assert {step.words for step in nothing.steps} == {"not yet"}


def test_where_there_was_nothing_to_revoke_it_says_so() -> None:
    row = only_row(revoked=[])
    assert (row.steps[3].name, row.steps[3].missing, row.revoked) == ("nothing to revoke", False, "")
    assert only_row(revoked=["a", "b"]).revoked == "a and b"


def test_bars_follow_the_clock_of_the_whole_run() -> None:
    run = timeline(
        A=(rotation(2, at(days=1), deliver=20, verify=80, revoke=100),),
        B=(rotation(2, at(days=1, seconds=-10), deliver=10, verify=30, revoke=40),),
    )[0]
    assert run.span == "1 min 40 s"
    bars = {row.secret: [(each.kind, each.start, each.length) for each in row.segments] for row in run.rows}
    assert bars == {
        "A": [("delivering", 0, 20), ("verifying", 20, 60), ("revoking", 80, 20)],
        "B": [("delivering", 10, 10), ("verifying", 20, 20), ("revoking", 40, 10)],
    }
    assert not any(each.cut for row in run.rows for each in row.segments)


def test_an_end_long_after_the_run_does_not_shrink_the_rest() -> None:
    run = timeline(
        A=(rotation(2, at(days=3), deliver=20, verify=100, revoke=110),),
        STRIPE_API_KEY=(rotation(2, at(days=3), deliver=20, verify=60, revoke=90_000),),
    )[0]
    assert run.span == "2 min"
    last = run.rows[1].segments[-1]
    assert (last.kind, last.start, last.length, last.cut) == ("revoking", 50, 50, True)
    assert run.rows[1].steps[3].words == "after 1 d 1 h"
    assert not run.rows[0].segments[-1].cut


@pytest.mark.parametrize("backwards", ["delivered_at", "verified_at", "revoked_at"])
def test_clocks_that_disagree_do_not_break_a_bar(backwards: str) -> None:
    row = only_row(**{backwards: (stacks.NOW - timedelta(days=2)).isoformat()})
    for each in row.segments:
        assert 0 <= each.start <= 100
        assert 0 <= each.length <= 100


def test_no_timeline_is_no_run() -> None:
    assert timeline(A=()) == ()
    assert shape(timeline(A=({"generation": 1},))) == [[("A", 1)]]
