"""The command line of the fault matrix: `python -m tools.faults --help`."""

import argparse
import contextlib
import json
import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tools.faults import document, trial
from tools.faults.bench import ENDING, SECRETS, Bench, EndedError, bench
from tools.faults.kinds import KINDS
from tools.faults.plan import Cell, cells, sample
from tools.faults.recording import positions, requests
from tools.faults.trial import Outcome, Result, attempt
from tools.workspace import CHECKOUT, FailedError, Workspace

DIRECTORY = CHECKOUT / ".faults"
DOCUMENT = CHECKOUT / "docs" / "fault-matrix.md"
WHOLE = "whole.json"
TROUBLE = 3  # sandboxes in a row in which nothing could be deployed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the matrix, or a part of it, and returns an exit status: 0 only if nothing was broken, in earlier runs of it neither."""
    options = _parser().parse_args(arguments)
    directory: Path = options.directory.resolve()
    results = directory / "results.jsonl"
    if options.only_document:
        _write_document(options, results)
        return 0
    unknown = sorted(set(options.secrets) - set(SECRETS))
    if unknown:
        print(f"Not a secret that this harness can rotate: {', '.join(unknown)}. There are: {', '.join(SECRETS)}.")
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        results.unlink(missing_ok=True)
    if options.sample:
        print(f"seed {options.seed}: the same sample again with --sample {options.sample} --seed {options.seed}")
    signal.signal(signal.SIGTERM, _end)
    with _guarded(directory):
        harness = Harness(options, directory, results)
        try:
            for secret in options.secrets:
                harness.rotate(secret)
        except KeyboardInterrupt:
            ENDING.set()
            harness.failed.append("ended before it was over")
        finally:
            harness.end()
    broken = [each for each in document.latest(_read(results)) if each.outcome is Outcome.BROKEN]
    for each in broken:
        print(f"BROKEN: {each.secret}: {each.row}: {each.kind}: {each.broken}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in document.counts(harness.made).items())
    print(f"{len(harness.made)} cells: {counts or 'none'}; the results are in {results}")
    if options.document and results.exists():
        _write_document(options, results)
    return 1 if broken or harness.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument(
        "--secrets", type=lambda text: text.split(","), default=list(SECRETS), help="NAME,NAME: all by default"
    )
    parser.add_argument("--sample", type=int, metavar="K", help="K cells of each secret, by chance")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the sample; printed")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="NAME,NAME: only these faults")
    parser.add_argument("--only", default="", metavar="REGEX", help="only requests whose title matches")
    parser.add_argument("--workers", type=int, default=1, help="sandboxes side by side; two cores bear two")
    parser.add_argument("--minutes", type=float, help="begin no cell after this time")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="sandboxes and results")
    parser.add_argument(
        "--fresh", action="store_true", help="forget earlier results; otherwise their cells are left out"
    )
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the matrix there, from all results so far")
    parser.add_argument("--only-document", action="store_true", help="run nothing")
    return parser


def _write_document(options: argparse.Namespace, results: Path) -> None:
    path = options.document or DOCUMENT
    path.write_text(document.write(_read(results), whole=_whole(results.parent)))
    print(f"written: {path}")


def _read(results: Path) -> list[Result]:
    return [Result.of(line) for line in results.read_text().splitlines()] if results.exists() else []


def _whole(directory: Path) -> dict[str, int]:
    """How many cells the whole matrix of each secret has, as far as it was recorded."""
    path = directory / WHOLE
    found: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    return found


class Harness:
    """Workers, each with a sandbox of its own, and the results."""

    def __init__(self, options: argparse.Namespace, directory: Path, results: Path) -> None:
        self.made: list[Result] = []
        self.failed: list[str] = []
        self._options = options
        self._directory = directory
        self._results = results
        self._known = {(each.secret, each.row, each.kind) for each in _read(results)}
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        self._revision = revision()

    def rotate(self, secret: str) -> None:
        """Does all the cells of one secret that are asked for and not known yet."""
        if time.monotonic() > self._deadline:
            return
        todo: queue.SimpleQueue[Cell] = queue.SimpleQueue()
        planned = threading.Event()
        workers = [
            threading.Thread(target=self._work, args=(number, secret, todo, planned), name=f"{secret} {number}")
            for number in range(self._options.workers)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.5)  # an unlimited wait would not hear Ctrl-C

    def end(self) -> None:
        """Waits for the workers, which end what they started."""
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()

    def _work(self, number: int, secret: str, todo: "queue.SimpleQueue[Cell]", planned: threading.Event) -> None:
        trouble = 0
        try:
            while trouble < TROUBLE and not (planned.is_set() and todo.empty()):
                directory = self._directory / f"w{number}"
                _remove(directory)
                try:
                    with bench(directory, secret) as made:
                        self._use(made, number, todo, planned)
                except (FailedError, OSError, subprocess.SubprocessError) as error:
                    trouble += 1
                    self._note_trouble(secret, error)
                else:
                    trouble = 0
                if time.monotonic() > self._deadline:
                    return
        except EndedError:
            return
        finally:
            if number == 0:
                planned.set()

    def _use(self, made: Bench, number: int, todo: "queue.SimpleQueue[Cell]", planned: threading.Event) -> None:
        """Works on cells until there are none, or one of them has left the sandbox elsewhere than it should be."""
        mark, before = made.newest_request(), made.held_by_fly()
        made.deploy(made.generation + 1)
        wanted = trial.shape(made.inspect())
        wrong = trial.unsettled(made, made.generation, before=before, wanted=wanted) + trial.alarms(made.inspect())
        if wrong:
            raise FailedError(f"an undisturbed rotation is not as it should be: {wrong}")
        if number == 0 and not planned.is_set():
            for cell in self._chosen(made, mark):
                todo.put(cell)
            planned.set()
        while not planned.wait(0.5):
            if ENDING.is_set():
                raise EndedError
        while time.monotonic() < self._deadline:
            try:
                cell = todo.get_nowait()
            except queue.Empty:
                return
            result, printed = attempt(made, cell.position, cell.kind, wanted=wanted)
            self._note(result, printed)
            if result.outcome is Outcome.BROKEN:
                return

    def _chosen(self, made: Bench, mark: int) -> list[Cell]:
        names = self._options.kinds
        kinds = [kind for kind in KINDS if not names or kind.name in names]
        everything = positions(requests(made.requests(after=mark)))
        whole = {**_whole(self._directory), made.secret: len(cells(everything))}
        (self._directory / WHOLE).write_text(json.dumps(whole))
        rows = [each for each in everything if re.search(self._options.only, each.title)]
        found = [cell for cell in cells(rows, kinds) if (made.secret, *cell.key) not in self._known]
        print(f"{made.secret}: {len(rows)} requests, {len(found)} cells", flush=True)
        if self._options.sample:
            found = sample(found, self._options.sample, seed=self._options.seed)
        return found

    def _note(self, result: Result, printed: str) -> None:
        result = replace(result, revision=self._revision, date=datetime.now(UTC).date().isoformat())
        with self._lock:
            self.made.append(result)
            with self._results.open("a") as file:
                file.write(result.line() + "\n")
            if result.outcome is Outcome.BROKEN or result.traceback or not result.advised:
                kept = self._directory / "output"
                kept.mkdir(exist_ok=True)
                name = re.sub(r"[^A-Za-z0-9]+", "-", f"{result.secret} {result.row} {result.kind}")
                (kept / f"{name}.txt").write_text(f"{result.line()}\n\n{printed}")
            told = f": {result.broken}" if result.broken else ""
            print(
                f"{result.secret}: {result.row}: {result.kind}: {result.outcome} ({result.seconds:.0f} s){told}",
                flush=True,
            )

    def _note_trouble(self, secret: str, error: Exception) -> None:
        with self._lock:
            self.failed.append(f"{secret}: {error}")
            print(f"{secret}: no sandbox to work in: {error}", flush=True)


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


def _remove(directory: Path) -> None:
    if directory.exists():
        Workspace(directory=directory, environment={}).sandbox("stop")
        shutil.rmtree(directory)


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
