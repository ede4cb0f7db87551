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

from tools.bench import leaked


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")
    found = commands.add_parser("leaked", help="how long a leaked token stays good, beside a routine rotation")
    found.add_argument(
        "--ci-seconds", type=float, default=60.0, help="how long the CI run takes that is under way (default 60)"
    )
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    console.print(
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"a CI run of {options.ci_seconds:g} s under way, on two sandboxes at the same time"
    )
    with tempfile.TemporaryDirectory() as directory:
        deaths = leaked.measure(Path(directory), ci_seconds=options.ci_seconds)
    console.print(_table(deaths))
    return 0


def _table(deaths: dict[str, leaked.Death]) -> Table:
    routine = deaths["routine"]
    table = Table("reason", "old token dead after", "of routine", "pulumi up took")
    for reason, death in deaths.items():
        table.add_row(reason, f"{death.died:.1f} s", f"{death.died / routine.died:.2f}", f"{death.ended:.1f} s")
    return table


if __name__ == "__main__":
    sys.exit(main())
