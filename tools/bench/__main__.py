"""`python -m tools.bench`: measures, and prints a table."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.bench import leaked, rotation, written
from tools.bench.rotation import Figures, Parameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory() as directory:
        return int(options.run(options, console, Path(directory)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")
    found = commands.add_parser("leaked", help="how long a leaked token stays good, beside a routine rotation")
    found.set_defaults(run=_leaked)
    found.add_argument(
        "--ci-seconds", type=float, default=60.0, help="how long the CI run takes that is under way (default 60)"
    )
    found = commands.add_parser(
        "rotation", help="`pulumi up` beside the runbook done by a script, and beside its floor"
    )
    found.set_defaults(run=_rotation)
    for each in fields(Parameters):
        found.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=type(each.default),
            default=each.default,
            help=f"of the sandbox (default {each.default})",
        )
    found.add_argument("--write", type=Path, metavar="DIR", help="write the figures and a plot to this folder, too")
    return parser


def _leaked(options: argparse.Namespace, console: Console, directory: Path) -> int:
    console.print(
        f"{written.circumstances()}, a CI run of {options.ci_seconds:g} s under way, on two sandboxes at once"
    )
    deaths = leaked.measure(directory, ci_seconds=options.ci_seconds)
    routine = deaths["routine"]
    table = Table("reason", "old token dead after", "of routine", "pulumi up took")
    for reason, death in deaths.items():
        table.add_row(reason, f"{death.died:.1f} s", f"{death.died / routine.died:.2f}", f"{death.ended:.1f} s")
    console.print(table)
    return 0


def _rotation(options: argparse.Namespace, console: Console, directory: Path) -> int:
    parameters = Parameters(**{each.name: getattr(options, each.name) for each in fields(Parameters)})
    circumstances = f"{written.circumstances()}. {parameters}"
    console.print(circumstances)
    figures = rotation.measure(directory, parameters)
    for table in _tables(figures):
        console.print(table)
    if options.write:
        written.rotation(options.write, figures, circumstances)
    return 0


def _tables(figures: Figures) -> list[Table]:
    ratios = Table(
        "secrets",
        "pulumi up",
        "critical path",
        "floor",
        "up ÷ (path + floor)",
        "runbook",
        "runbook ÷ up",
        title="Ratios",
    )
    work = Table("secrets", "machines restarted", "by the runbook", "requests", "by the runbook", title="Work")
    for size, each in figures.rotations.items():
        ratios.add_row(
            size,
            f"{each.seconds:.1f} s",
            f"{each.chain.seconds:.1f} s",
            f"{each.floor:.1f} s",
            f"{each.of_the_least:.2f}",
            f"{each.runbook:.1f} s",
            f"{each.runbook / each.seconds:.2f}",
        )
        work.add_row(size, *(str(number) for pair in (each.restarts, each.requests) for number in pair))
    path = Table(
        "step", "seconds", title=f"Critical path of all secrets, through {figures.rotations['all'].chain.secret}"
    )
    for step in figures.rotations["all"].chain.steps:
        path.add_row(step.what, f"{step.seconds:.2f}")
    ours, floor = figures.preview
    preview = Table(
        "preview without changes", "of the floor", "ratio", title=f"Preview of {figures.resources} resources"
    )
    preview.add_row(f"{ours:.2f} s", f"{floor:.2f} s", f"{ours / floor:.2f}")
    return [ratios, work, path, preview]


if __name__ == "__main__":
    sys.exit(main())
