"""`python -m tools.bench`: measures, and prints a table."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.bench import fleet, leaked


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")
    found = commands.add_parser("leaked", help="how long a leaked token stays good, beside a routine rotation")
    found.set_defaults(run=_leaked)
    found.add_argument(
        "--ci-seconds", type=float, default=60.0, help="how long the CI run takes that is under way (default 60)"
    )
    found = commands.add_parser("fleet", help="time and memory of a rotation of many stacks against one")
    found.set_defaults(run=_fleet)
    found.add_argument("--stacks", type=int, default=100, help="stacks of the largest fleet (default 100)")
    found.add_argument("--parallel", type=int, default=4, help="engines at once (default 4)")
    found.add_argument("--failing", type=int, default=3, help="stacks of the largest fleet that fail (default 3)")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 130)
    console.print(
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory() as directory:
        options.run(options, console, Path(directory))
    return 0


def _leaked(options: argparse.Namespace, console: Console, directory: Path) -> None:
    console.print(f"A CI run of {options.ci_seconds:g} s under way, on two sandboxes at the same time")
    console.print(_table(leaked.measure(directory, ci_seconds=options.ci_seconds)))


def _fleet(options: argparse.Namespace, console: Console, directory: Path) -> None:
    sizes = sorted({1, *(size for size in (10,) if size < options.stacks), options.stacks})
    console.print(
        f"FLY_API_TOKEN on fleets of {', '.join(map(str, sizes))} stacks, {options.parallel} at once, one sandbox"
    )
    found = fleet.measure(
        directory, sizes=sizes, parallel=options.parallel, failing=options.failing, tell=console.print
    )
    first = found[sizes[0]]
    table = Table(
        "stacks", "took", "a stack", "of one", "command, peak", "of one", "engine of a stack", "all, peak", "of one"
    )
    for size, ran in found.items():
        table.add_row(
            str(size),
            f"{ran.seconds:.0f} s",
            f"{ran.seconds / size:.1f} s",
            f"{ran.seconds / size / first.seconds:.2f}",
            f"{ran.own / 1e6:.0f} MB",
            f"{ran.own / first.own:.2f}",
            f"{ran.one / 1e6:.0f} MB",
            f"{ran.together / 1e6:.0f} MB",
            f"{ran.together / first.together:.2f}",
        )
    console.print(table)
    last = found[sizes[-1]]
    console.print(f"The last fleet, exit status {last.status}, says of those that failed:")
    for name, result in last.outcome["stacks"].items():
        if result["state"] != "verified":
            console.print(f"  {name}: {result['state']}: {result['error']['what']}", markup=False)
    verified = sum(result["state"] == "verified" for result in last.outcome["stacks"].values())
    console.print(f"and {verified} of its {sizes[-1]} stacks are verified.")


def _table(deaths: dict[str, leaked.Death]) -> Table:
    routine = deaths["routine"]
    table = Table("reason", "old token dead after", "of routine", "pulumi up took")
    for reason, death in deaths.items():
        table.add_row(reason, f"{death.died:.1f} s", f"{death.died / routine.died:.2f}", f"{death.ended:.1f} s")
    return table


if __name__ == "__main__":
    sys.exit(main())
