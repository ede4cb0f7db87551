"""The command line of the fault matrix: `python -m tools.faults --help`."""

import argparse
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tools.faults import document, snapshots, trial
from tools.faults.bench import ENDING, EndedError
from tools.faults.kinds import KINDS
from tools.faults.plan import Cell, cells, company, cover, sample
from tools.faults.results import Results
from tools.faults.scenarios import SCENARIOS, Scenario
from tools.faults.trial import Outcome, Result
from tools.workspace import CHECKOUT, FailedError

DIRECTORY = CHECKOUT / ".faults"
DOCUMENT = CHECKOUT / "docs" / "fault-matrix.md"
TROUBLE = 3  # copies of one scenario in a row that do not run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the matrix, or a part of it, and returns an exit status: 0 only if nothing was broken, in earlier runs of it neither."""
    options = _parser().parse_args(arguments)
    directory: Path = options.directory.resolve()
    results = Results(directory)
    if options.only_document:
        _write_document(options, results)
        return 0
    unknown = sorted(set(options.scenarios) - set(SCENARIOS))
    if unknown:
        print(f"Not a scenario: {', '.join(unknown)}. There are: {', '.join(SCENARIOS)}.")
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        results.forget()
    if options.sample:
        print(f"seed {options.seed}: the same sample again with --sample {options.sample} --seed {options.seed}")
    elif options.cover:
        print(f"seed {options.seed}: the same order again with --cover --seed {options.seed}")
    signal.signal(signal.SIGTERM, _end)
    with _guarded(directory):
        harness = Harness(options, directory, results)
        try:
            harness.run()
        except KeyboardInterrupt:
            ENDING.set()
            harness.failed.append("ended before it was over")
        finally:
            harness.end()
    broken = [each for each in document.latest(results.read()) if each.outcome is Outcome.BROKEN]
    for each in broken:
        print(f"BROKEN: {each.secret}: {each.row}: {each.kind}: {each.broken}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in document.counts(harness.made).items())
    print(f"{len(harness.made)} cells: {counts or 'none'}; the results are in {results.path}")
    if options.document and results.path.exists():
        _write_document(options, results)
    return 1 if broken or harness.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument(
        "--scenarios",
        type=lambda text: text.split(","),
        default=list(SCENARIOS),
        help="NAME,NAME: all by default; a secret's name is the rotation of that secret alone, with the defaults",
    )
    parser.add_argument("--sample", type=int, metavar="K", help="K cells of each scenario, by chance")
    parser.add_argument(
        "--cover",
        action="store_true",
        help="each fault of each kind of request in each phase once, whatever rotates, before any for the second time",
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of sample and order; printed")
    parser.add_argument("--alone", action="store_true", help="no two cells share a rotation")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="NAME,NAME: only these faults")
    parser.add_argument("--only", default="", metavar="REGEX", help="only requests whose title matches")
    parser.add_argument("--workers", type=int, default=1, help="rotations side by side; each waits most of the time")
    parser.add_argument("--minutes", type=float, help="begin no cell after this time")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="sandboxes and results")
    parser.add_argument(
        "--fresh", action="store_true", help="forget earlier results; otherwise their cells are left out"
    )
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the matrix there, from all results so far")
    parser.add_argument("--only-document", action="store_true", help="run nothing")
    return parser


def _write_document(options: argparse.Namespace, results: Results) -> None:
    path = options.document or DOCUMENT
    path.write_text(document.write(results.read(), rows=results.rows()))
    print(f"written: {path}")


class Harness:
    """Workers, which take cells of whatever scenario has none of its copies in use, and the results."""

    def __init__(self, options: argparse.Namespace, directory: Path, results: Results) -> None:
        self.made: list[Result] = []
        self.failed: list[str] = []
        self._options = options
        self._directory = directory
        self._results = results
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        self._revision = revision()
        self._snapshots: dict[str, snapshots.Snapshot] = {}
        self._todo: list[Cell] = []
        self._alone: set[tuple[str, ...]] = set()  # keys of cells that were tried with others
        self._in_use: set[str] = set()
        self._trouble: dict[str, int] = {}
        self._absorbed: dict[tuple[str, str], bool] = {}
        self._refuted: dict[tuple[str, str], bool] = {}
        for each in results.read():
            self._learn(each)

    def run(self) -> None:
        """Does all the cells that are asked for and not known yet."""
        wanted = [SCENARIOS[name] for name in self._options.scenarios]
        self._side_by_side(lambda: self._take_snapshots(wanted))
        with self._lock:
            self._todo = self._chosen()
        print(f"{len(self._todo)} cells to do", flush=True)
        self._side_by_side(self._work)

    def end(self) -> None:
        """Waits for the workers, which end what they started."""
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()

    def _side_by_side(self, work: Callable[[], None]) -> None:
        threads = [threading.Thread(target=work, name=str(number)) for number in range(self._options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # an unlimited wait would not hear Ctrl-C

    def _take_snapshots(self, wanted: list[Scenario]) -> None:
        with contextlib.suppress(EndedError):
            while time.monotonic() < self._deadline:
                with self._lock:
                    if not wanted:
                        return
                    scenario = wanted.pop(0)
                try:
                    found = snapshots.ready(self._directory, scenario)
                except (FailedError, OSError, subprocess.SubprocessError) as error:
                    self._note_trouble(scenario.name, error)
                    continue
                with self._lock:
                    self._snapshots[scenario.name] = found
                    whole = len(cells(found.positions))
                    self._results.note_rows(scenario.name, found.positions)
                    print(
                        f"{scenario.name}: {len(found.positions)} requests, {whole} cells, {found.seconds:.0f} s undisturbed",
                        flush=True,
                    )

    def _chosen(self) -> list[Cell]:
        names = self._options.kinds
        kinds = [kind for kind in KINDS if not names or kind.name in names]
        results = self._results.read()
        known = {(each.secret, each.row, each.kind) for each in results}
        hit = {(each.secret, each.row, each.kind) for each in results if each.outcome is not Outcome.NOT_HIT}
        found: list[Cell] = []
        covered = []
        for name in self._options.scenarios:
            if name not in self._snapshots:
                continue
            every = cells(self._snapshots[name].positions, kinds, scenario=name)
            covered += [cell.sort for cell in every if (name, *cell.key) in hit]
            left = [
                cell
                for cell in every
                if (name, *cell.key) not in known and re.search(self._options.only, cell.position.title)
            ]
            if self._options.sample:
                left = sample(left, self._options.sample, seed=self._options.seed)
            found += left
        return cover(found, seed=self._options.seed, covered=covered) if self._options.cover else found

    def _work(self) -> None:
        with contextlib.suppress(EndedError):
            while time.monotonic() < self._deadline:
                taken = self._take()
                if taken is None:
                    return
                if not taken:
                    time.sleep(0.2)
                    continue
                try:
                    self._attempt(taken)
                finally:
                    with self._lock:
                        self._in_use.discard(taken[0].scenario)

    def _take(self) -> list[Cell] | None:
        """The next cells, which share a rotation: the first of a scenario that is free. None where there are no more cells at all."""
        with self._lock:
            if not self._todo:
                return None
            first = next((cell for cell in self._todo if cell.scenario not in self._in_use), None)
            if first is None:
                return []
            taken = [first]
            if not self._options.alone and _key(first) not in self._alone:
                others = (cell for cell in self._todo if cell is not first and _key(cell) not in self._alone)
                taken = company(first, others, self._absorbed)
            for cell in taken:
                self._todo.remove(cell)
            self._in_use.add(first.scenario)
            return taken

    def _attempt(self, taken: list[Cell]) -> None:
        found = self._snapshots[taken[0].scenario]
        try:
            with found.copied() as bench:
                results, printed = trial.attempt_together(bench, taken, wanted=found.wanted)
        except (FailedError, OSError, subprocess.SubprocessError, LookupError) as error:
            self._give_back(taken, error)
            return
        self._note(taken, results, printed)

    def _give_back(self, taken: list[Cell], error: Exception) -> None:
        name = taken[0].scenario
        with self._lock:
            self._trouble[name] = self._trouble.get(name, 0) + 1
            if self._trouble[name] < TROUBLE:
                self._todo = [*taken, *self._todo]
                return
            self._todo = [cell for cell in self._todo if cell.scenario != name]
        self._note_trouble(name, error)

    def _note(self, taken: list[Cell], results: list[Result], printed: str) -> None:
        today = datetime.now(UTC).date().isoformat()
        results = [replace(each, revision=self._revision, date=today, copied=True) for each in results]
        with self._lock:
            self._trouble.pop(taken[0].scenario, None)
            if len(taken) > 1:
                # One of them may be to blame, or not: each has to show it alone. But what was broken together stays said.
                again = [
                    cell for cell, result in zip(taken, results, strict=True) if result.outcome is not Outcome.ABSORBED
                ]
                self._todo = [*again, *self._todo]
                self._alone |= {_key(cell) for cell in again}
                self._doubt(again)
                if results[0].outcome is Outcome.BROKEN:
                    rows = "; ".join(f"{each.row}: {each.kind}" for each in results)
                    results = [replace(results[0], row=f"together: {rows}", kind="several")]
                else:
                    results = [each for each in results if each.outcome is Outcome.ABSORBED]
            for result in results:
                self._keep(result, printed)

    def _keep(self, result: Result, printed: str) -> None:
        self.made.append(result)
        self._learn(result)
        self._results.add(result)
        if result.outcome is Outcome.BROKEN or result.traceback or not result.advised:
            kept = self._directory / "output"
            kept.mkdir(exist_ok=True)
            name = re.sub(r"[^A-Za-z0-9]+", "-", f"{result.secret} {result.row} {result.kind}")[:150]
            (kept / f"{name}.txt").write_text(f"{result.line()}\n\n{printed}")
        told = f": {result.broken}" if result.broken else ""
        shared = f", with {result.together - 1} others" if result.together > 1 else ""
        print(
            f"{result.secret}: {result.row}: {result.kind}: {result.outcome} ({result.seconds:.0f} s{shared}){told}",
            flush=True,
        )

    def _learn(self, result: Result) -> None:
        key = result.kind, result.row.partition(" #")[0]
        if result.outcome is not Outcome.NOT_HIT:
            # One that was not absorbed in company may be absorbed alone, and then it is not the one to blame.
            before = self._refuted.get(key, False)
            self._refuted[key] = before or result.outcome is not Outcome.ABSORBED
            self._absorbed[key] = not self._refuted[key]

    def _doubt(self, cells: list[Cell]) -> None:
        """What was not absorbed in company is not tried so again, until it is known better."""
        for cell in cells:
            self._absorbed.setdefault((cell.kind.name, cell.position.label), False)

    def _note_trouble(self, name: str, error: Exception) -> None:
        with self._lock:
            self.failed.append(f"{name}: {error}")
            print(f"{name}: no sandbox to work in: {error}", flush=True)


def _key(cell: Cell) -> tuple[str, ...]:
    return cell.scenario, *cell.key


def revision() -> str:
    """The commit that is run, with a `+` where the checkout differs from it; "unknown" where there is no repository."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", "__main__.py", "Pulumi.yaml", "components", "sandbox", "tools")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


@contextlib.contextmanager
def _guarded(directory: Path) -> Iterator[None]:
    """Whatever becomes of this process, nothing that it started outlives it."""
    guardian = subprocess.Popen(
        [sys.executable, "-m", "tools.faults.guardian", str(directory)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "SANDBOX_DIR"},
    )
    try:
        yield
    finally:
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()


def _end(*_: object) -> None:
    ENDING.set()
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
