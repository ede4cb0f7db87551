"""A few cells of the fault matrix, another choice every time: `make faults` is all of it."""

import random
from collections.abc import Callable
from pathlib import Path

from tools.faults import trial
from tools.faults.bench import bench
from tools.faults.plan import cells, sample
from tools.faults.recording import positions, requests
from tools.faults.scenarios import SECRETS

CELLS = 1


def test_a_sample_of_the_fault_matrix_holds(tmp_path: Path, measured: Callable[[str], None]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    secret = random.Random(seed).choice(SECRETS)  # noqa: S311 - a choice of tests
    told = f"again: python -m tools.faults --scenarios {secret} --sample {CELLS} --seed {seed}"
    found = []
    with bench(tmp_path / "workspace", secret) as made:
        mark, before = made.newest_request(), made.all_held_by_fly()
        made.deploy()
        wanted = trial.shape(made.inspect())
        assert not trial.unsettled(made, made.generation, before=before, wanted=wanted)
        chosen = sample(cells(positions(requests(made.requests(after=mark)))), CELLS, seed=seed)
        for cell in chosen:
            result, printed = trial.attempt(made, cell.position, cell.kind, wanted=wanted)
            assert not result.broken, f"{told}\n{result.line()}\n{printed}"
            found.append(f"{result.row}: {result.kind}: {result.outcome}")
    measured(f"{told}: {'; '.join(found)}")
