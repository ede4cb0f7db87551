"""The command line: `python -m tools.fleet rotate SECRET... --stacks NAME... [--soak 10m] [--parallel 4]`.

Bumps secrets on stacks in order, and proves each before the next: preview, confirmation, update, soak. The same command goes on after a
failure, an interruption or a crash, and bumps nothing twice. Exit status: 0 every stack is verified, 1 one is not, 2 it was refused before
anything was touched.
"""

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

from components.errors import OperatorError, RefusedError
from components.secret import LEAKED, ROUTINE
from tools.fleet import engine, outcome, show, variables
from tools.fleet.rotation import Fleet, Options
from tools.workspace import CHECKOUT

UNITS = {"s": 1, "m": 60, "h": 3600}
LOGS = ".fleet"


def main(arguments: Sequence[str], *, checkout: Path = CHECKOUT) -> int:
    """Runs one command and returns an exit status."""
    options = _parser().parse_args(arguments)
    reporter = show.reporter(json=options.json)
    try:
        done = _rotate(options, reporter, checkout, os.environ)
    except OperatorError as error:
        if options.json:
            print(json.dumps(outcome.refused(error)), flush=True)
        else:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return outcome.REFUSED
    reporter.say("\n" + show.closing(done.results))
    if done.changed:
        shown = ", ".join(done.changed[:5]) + (f" and {len(done.changed) - 5} more" if len(done.changed) > 5 else "")  # noqa: PLR2004
        reporter.say(f"\nThe counters are in the stacks' config: commit {shown}.")
    if options.json:
        print(json.dumps(outcome.data(done)), flush=True)
    return done.status


def _rotate(
    options: argparse.Namespace, reporter: show.Plain, checkout: Path, environment: Mapping[str, str]
) -> outcome.Outcome:
    asks = not options.yes and not options.dry_run
    if asks and not sys.stdin.isatty():
        raise RefusedError(
            "There is nobody to confirm it: standard input is no terminal.",
            next_step="look with `--dry-run`, then run it with `--yes`.",
        )
    began = datetime.now().astimezone()
    fleet = Fleet(
        checkout=checkout,
        options=Options(
            secrets=tuple(dict.fromkeys(options.secrets)),
            patterns=tuple(options.stacks),
            in_order=options.in_order,
            parallel=options.parallel,
            to=options.to,
            reason=options.reason,
            soak=options.soak,
            each=options.confirm == "stack",
            keep_going=options.keep_going,
            anew=options.new,
            dry_run=options.dry_run,
        ),
        environment=environment,
        given=variables.load(options.variables) if options.variables else {},
        command=engine.command(),
        reporter=reporter,
        confirm=_Question(reporter) if asks else None,
        logs=options.logs or checkout / LOGS / f"{began:%Y%m%d-%H%M%S}-{os.getpid()}",
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        fleet.interrupt()
        if isinstance(fleet.confirm, _Question) and fleet.confirm.asking:
            raise KeyboardInterrupt

    # A terminal that is closed is no reason to leave an engine half-way either.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return fleet.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Question:
    """Asks on the terminal."""

    def __init__(self, reporter: show.Plain) -> None:
        self._reporter = reporter
        self.asking = False

    def __call__(self, question: str) -> bool:
        self._reporter.say(f"{question} [y/N]")
        self.asking = True
        try:
            return sys.stdin.readline().strip().lower() in {"y", "yes"}
        except KeyboardInterrupt:
            return False
        finally:
            self.asking = False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.fleet", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    rotate = commands.add_parser(
        "rotate",
        help="rotate secrets across stacks",
        description=__doc__,
        epilog=variables.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rotate.add_argument("secrets", nargs="+", metavar="SECRET", help="names of secrets, as `rotations` lists them")
    rotate.add_argument(
        "--stacks", nargs="+", required=True, metavar="NAME", help="stacks, or patterns such as 'prod-*' or '*'"
    )
    rotate.add_argument(
        "--in-order",
        action="store_true",
        help="each name or pattern after the one before, beside the order of the config key `after`",
    )
    rotate.add_argument(
        "--parallel", type=_count, default=4, metavar="N", help="stacks at once, within a wave (default 4)"
    )
    rotate.add_argument("--to", type=_count, metavar="GENERATION", help="this generation instead of each stack's next")
    rotate.add_argument(
        "--reason",
        choices=(ROUTINE, LEAKED),
        default="",
        help="`leaked`: nothing waits that does not have to; the config says so until the stack is verified",
    )
    rotate.add_argument(
        "--soak",
        type=_duration,
        default=timedelta(),
        metavar="10m",
        help="how long a wave is verified before the next one begins",
    )
    rotate.add_argument("--yes", action="store_true", help="do not ask")
    rotate.add_argument(
        "--confirm", choices=("wave", "stack"), default="wave", help="what is asked about (default wave)"
    )
    rotate.add_argument("--keep-going", action="store_true", help="go on with the others when a stack has failed")
    rotate.add_argument("--new", action="store_true", help="begin another rotation, though one is not finished")
    rotate.add_argument("--dry-run", action="store_true", help="preview every stack, and change nothing")
    rotate.add_argument("--variables", type=Path, metavar="FILE", help="passphrases and variables per stack, see below")
    rotate.add_argument(
        "--logs", type=Path, metavar="FOLDER", help=f"where what the engines print is kept (default {LOGS}/<time>)"
    )
    rotate.add_argument(
        "--json", action="store_true", help="print what came of it as one JSON object; progress goes to standard error"
    )
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]+)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 2h")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
