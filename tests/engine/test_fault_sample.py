"""A few cells of the fault matrix, another choice every time: `make faults` is all of it."""

import random
from collections.abc import Callable
from pathlib import Path

from tests.engine.stage import SECRET
from tools.faults import trial
from tools.faults.bench import bench
from tools.faults.plan import cells, sample
from tools.faults.recording import positions, requests

CELLS = 1


def test_a_sample_of_the_fault_matrix_holds(tmp_path: Path, measured: Callable[[str], None]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    told = f"again: python -m tools.faults --scenarios {SECRET} --sample {CELLS} --seed {seed}"
    found = []
    with bench(tmp_path / "workspace", SECRET) as made:
        mark = made.newest_request()
        made.deploy()
        wanted = trial.shape(made.inspect())
        chosen = sample(cells(positions(requests(made.requests(after=mark)))), CELLS, seed=seed)
        for cell in chosen:
            result, printed = trial.attempt(made, cell.position, cell.kind, wanted=wanted)
            assert not result.broken, f"{told}\n{result.line()}\n{printed}"
            found.append(f"{result.row}: {result.kind}: {result.outcome}")
    measured(f"{told}: {'; '.join(found)}")
