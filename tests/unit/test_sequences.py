"""Which sequences are drawn?"""

from collections import Counter

from tools.faults.kinds import Blow
from tools.sequences.course import SECRETS, SWITCHES
from tools.sequences.steps import REACH, Move, Trouble, draw

NAMES = ("FLY_API_TOKEN", "NEON_API_KEY")


def test_a_seed_is_a_sequence() -> None:
    assert draw(NAMES, length=12, seed=7) == draw(NAMES, length=12, seed=7)
    assert draw(NAMES, length=12, seed=7) != draw(NAMES, length=12, seed=8)


def test_a_sequence_begins_with_something_to_do_and_ends_settled() -> None:
    for seed in range(50):
        steps = draw(NAMES, length=6, seed=seed)
        assert (steps[0].move, steps[-1].move, len(steps)) == (Move.BUMP, Move.SETTLE, 7)


def test_everything_that_may_happen_is_drawn() -> None:
    steps = [step for seed in range(400) for step in draw(NAMES, length=20, seed=seed)]
    faults = [step.fault for step in steps if step.fault is not None]
    assert {step.move for step in steps} == {*Move}
    assert {step.trouble for step in steps} == {None, *Trouble}
    assert {step.secret for step in steps if step.secret} == {*NAMES}
    assert {fault.provider for fault in faults} == {*REACH}
    assert {fault.kind.blow for fault in faults} == {*Blow}
    assert Counter(step.move for step in steps)[Move.UP] > len(steps) / 10


def test_a_read_is_not_disturbed_as_only_a_write_can_be() -> None:
    steps = [step for seed in range(400) for step in draw(NAMES, length=20, seed=seed)]
    assert not [step for step in steps if step.fault and step.fault.method == "GET" and step.fault.kind.writes_only]


def test_whatever_breaks_can_be_mended() -> None:
    assert {*SWITCHES} == {*Trouble}
    assert all("=" in setting for setting in SWITCHES.values())


def test_a_step_reads_as_what_is_done() -> None:
    told = {str(step).split()[0] for seed in range(50) for step in draw([*SECRETS], length=20, seed=seed)}
    assert told == {str(move).split()[0] for move in Move}
