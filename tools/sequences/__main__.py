"""The command line of the sequences: `python -m tools.sequences --help`."""

import argparse
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tools.sequences.course import SECRETS, Course, course
from tools.sequences.steps import draw
from tools.workspace import CHECKOUT

DIRECTORY = CHECKOUT / ".sequences"


def main(arguments: Sequence[str] | None = None) -> int:
    """Walks sequences, and returns an exit status: 0 only if nothing was wrong."""
    options = _parser().parse_args(arguments)
    unknown = sorted({*options.secrets} - {*SECRETS})
    if unknown:
        print(f"Not a secret that this can rotate: {', '.join(unknown)}. There are: {', '.join(SECRETS)}.")
        return 2
    signal.signal(signal.SIGTERM, _end)
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    directory: Path = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    todo = [options.seed + number for number in range(options.runs)]
    wrong: list[str] = []
    walked = steps = ups = struck = 0
    while todo and time.monotonic() < until:
        shutil.rmtree(directory / "w0", ignore_errors=True)
        with course(directory / "w0", options.secrets) as made:
            while todo and time.monotonic() < until:
                seed = todo.pop(0)
                found = _walk(made, seed, options, directory)
                walked, steps = walked + 1, steps + options.length + 1
                wrong += found
                if found:
                    break  # the next one begins on a new sandbox
            ups, struck = ups + made.ups, struck + made.struck
    print(f"{walked} sequences, {steps} steps, {ups} runs of `pulumi up`, {struck} faults struck: {len(wrong)} wrong")
    return 1 if wrong else 0


def _end(*_: object) -> NoReturn:
    sys.exit(143)  # unwinds: the sandbox is stopped


def _walk(made: Course, seed: int, options: argparse.Namespace, directory: Path) -> list[str]:
    again = f"--secrets {','.join(options.secrets)} --length {options.length} --runs 1 --seed {seed}"
    sequence = draw(options.secrets, length=options.length, seed=seed)
    made.printed.clear()
    began = time.monotonic()
    found = made.walk(sequence)
    print(f"seed {seed}: {'; '.join(found) or 'holds'} ({time.monotonic() - began:.0f} s)", flush=True)
    if found:
        log = directory / f"{seed}.log"
        log.write_text("\n".join([*map(str, sequence), "", *made.printed, "", *found]))
        print(f"  again: python -m tools.sequences {again}; what was printed: {log}", flush=True)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.sequences", description=__doc__)
    parser.add_argument(
        "--secrets",
        type=lambda text: text.split(","),
        default=["FLY_API_TOKEN", "NEON_API_KEY"],
        help=f"NAME,NAME that rotate together, of {', '.join(SECRETS)}; FLY_API_TOKEN,NEON_API_KEY by default",
    )
    parser.add_argument("--runs", type=int, default=10, help="sequences, each with the seed of the one before plus 1")
    parser.add_argument("--length", type=int, default=10, help="steps of each, before the end that settles")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the first sequence; printed")
    parser.add_argument("--minutes", type=float, help="begin no sequence after this time")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="for the sandbox and what was printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
