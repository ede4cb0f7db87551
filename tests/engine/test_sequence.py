"""One random sequence of bumps, faults, crashes, ways back and partial updates; another one every time. `make sequences` walks more."""

import random
from collections.abc import Callable
from pathlib import Path

from tests.engine.stage import SECRET
from tools.sequences.course import course
from tools.sequences.steps import draw

LENGTH = 5


def test_a_random_sequence_holds(tmp_path: Path, measured: Callable[[str], None]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    told = f"again: python -m tools.sequences --secrets {SECRET} --length {LENGTH} --runs 1 --seed {seed}"
    steps = draw([SECRET], length=LENGTH, seed=seed)

    with course(tmp_path / "workspace", [SECRET]) as made:
        wrong = made.walk(steps)

    assert not wrong, "\n".join([told, *wrong, *made.printed])
    measured(f"{told}: {made.ups} runs of `pulumi up`: {'; '.join(map(str, steps))}")
