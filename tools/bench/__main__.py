"""`python -m tools.bench`: measures, and prints a table."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.bench import fleet, growth, leaked, rotation, written
from tools.bench.rotation import Figures, Parameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 130)
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
    found = commands.add_parser("fleet", help="time and memory of a rotation of many stacks against one")
    found.set_defaults(run=_fleet)
    found.add_argument("--stacks", type=int, default=100, help="stacks of the largest fleet (default 100)")
    found.add_argument("--parallel", type=int, default=4, help="engines at once (default 4)")
    found.add_argument("--failing", type=int, default=3, help="stacks of the largest fleet that fail (default 3)")
    found = commands.add_parser("growth", help="more secrets in one stack, and more machines of tenants")
    found.set_defaults(run=_growth)
    found.add_argument("--secrets", type=int, nargs="*", default=[10, 50, 100], help="of a stack (default 10 50 100)")
    found.add_argument("--tenants", type=int, nargs="*", default=[10, 100, 1000], help="default 10 100 1000")
    return parser


def _growth(options: argparse.Namespace, console: Console, directory: Path) -> int:
    console.print(f"{written.circumstances()}, a sandbox of its own for each line, machines boot at once")
    table = Table(
        "secrets",
        "resources",
        "up",
        "floor",
        "ratio",
        "preview",
        "of the floor",
        "engine",
        "Python",
        "state",
        "requests",
    )
    for count, each in growth.secrets(directory, options.secrets, console.print).items():
        ours, floor = each.preview
        table.add_row(
            str(count),
            str(each.resources),
            f"{each.up:.1f} s",
            f"{each.floor:.1f} s",
            f"{each.up / each.floor:.2f}",
            f"{ours:.1f} s",
            f"{ours / floor:.2f}",
            *(f"{memory / 1e6:.0f} MB" for memory in each.memory),
            f"{each.state / 1e6:.2f} MB",
            str(each.requests),
        )
    console.print(table)
    table = Table("tenants", "up", "their machines", "a machine", "engine", "Python", "requests")
    for count, ran in growth.tenants(directory, options.tenants, console.print).items():
        table.add_row(
            str(count),
            f"{ran.up:.1f} s",
            f"{ran.rollout:.1f} s",
            f"{ran.rollout / count * 1000:.0f} ms",
            *(f"{memory / 1e6:.0f} MB" for memory in ran.memory),
            str(ran.requests),
        )
    console.print(table)
    return 0


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


def _fleet(options: argparse.Namespace, console: Console, directory: Path) -> int:
    sizes = sorted({1, *(size for size in (10,) if size < options.stacks), options.stacks})
    console.print(
        f"{written.circumstances()}, FLY_API_TOKEN on fleets of {', '.join(map(str, sizes))} stacks, {options.parallel} at once, one sandbox"
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
