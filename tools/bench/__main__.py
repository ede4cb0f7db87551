"""`python -m tools.bench`: measures, and prints a table."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from tools.bench import fleet, growth, leaked, rotation, tables, tenants, threads, written
from tools.bench.parameters import Parameters
from tools.bench.rotation import Figures
from tools.bench.tables import Sheet
from tools.bench.threads import Arrangement

CELLS = ("10x1", "10x10", "50x10", "100x1", "100x50")
WIDE = 64  # operations that the engine begins at once, where it is told


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
    _add_parameters(found)
    found = commands.add_parser("fleet", help="time and memory of a rotation of many stacks against one")
    found.set_defaults(run=_fleet)
    found.add_argument("--stacks", type=int, default=50, help="stacks of the largest fleet (default 50)")
    found.add_argument("--parallel", type=int, default=4, help="engines at once (default 4)")
    found.add_argument("--failing", type=int, default=3, help="stacks of the largest fleet that fail (default 3)")
    _add_parameters(found)
    found = commands.add_parser(
        "growth", help="more secrets in one stack, over more apps and repositories, and more machines of tenants"
    )
    found.set_defaults(run=_growth)
    found.add_argument(
        "--cells",
        type=growth.cell,
        nargs="*",
        default=[growth.cell(each) for each in CELLS],
        metavar="SECRETSxAPPS",
        help=f"default {' '.join(CELLS)}",
    )
    found.add_argument(
        "--tenants", type=int, nargs="*", default=[10, 100, 1000], dest="tenant_counts", help="default 10 100 1000"
    )
    _add_parameters(found, less="tenants")
    found = commands.add_parser(
        "threads", help="many apps that restart at once, with more processes of the SDK's dynamic provider"
    )
    found.set_defaults(run=_threads)
    found.add_argument("--apps", type=int, nargs="*", default=[10, 50], help="default 10 50")
    found.add_argument("--seconds", type=float, default=15.0, help="that each app takes (default 15)")
    return parser


def _add_parameters(found: argparse.ArgumentParser, *, less: str = "") -> None:
    for each in fields(Parameters):
        if each.name != less:
            found.add_argument(
                f"--{each.name.replace('_', '-')}",
                type=type(each.default),
                default=each.default,
                help=f"of the sandbox (default {each.default})",
            )
    found.add_argument("--write", type=Path, metavar="DIR", help="write the figures and a plot to this folder, too")


def _parameters(options: argparse.Namespace) -> Parameters:
    return Parameters(
        **{each.name: getattr(options, each.name) for each in fields(Parameters) if hasattr(options, each.name)}
    )


def _show(console: Console, sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        # Wide ones are folded, not cut.
        table = Table(*(Column(each, overflow="fold") for each in sheet.headings), title=sheet.title)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        for note in sheet.notes:
            console.print(note, markup=False)


def _growth(options: argparse.Namespace, console: Console, directory: Path) -> int:
    parameters = _parameters(options)
    about = f"{written.circumstances()}. A sandbox of its own for each line. {parameters.about()}"
    console.print(about)
    found = growth.measure(directory, options.cells, parameters, console.print)
    moved = tenants.measure(directory, options.tenant_counts, parameters, console.print)
    sheets = [*(tables.of_secrets(found) if found else []), *([tables.of_tenants(moved)] if moved else [])]
    _show(console, sheets)
    if options.write:
        written.growth(options.write, found, moved, about)
    return 0


def _threads(options: argparse.Namespace, console: Console, directory: Path) -> int:
    console.print(f"{written.circumstances()}, apps that take {options.seconds:g} s each and do nothing")
    chosen = [
        Arrangement(apps=apps, providers=providers, parallel=parallel)
        for apps in options.apps
        for providers, parallel in ((0, 0), (2, 0), (4, 0), (0, WIDE), (4, WIDE), (-(-apps // 4), WIDE))
    ]
    found = threads.measure(directory, list(dict.fromkeys(chosen)), waits=options.seconds, tell=console.print)
    _show(console, [tables.of_threads(found)])
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
    parameters = replace(_parameters(options), tenants=0)
    about = (
        f"{written.circumstances()}. FLY_API_TOKEN on fleets of {', '.join(map(str, sizes))} stacks, {options.parallel} at once, on one "
        f"sandbox, {options.failing} of the largest fleet made to fail. {parameters}"
    )
    console.print(about)
    found = fleet.measure(
        directory,
        sizes=sizes,
        parallel=options.parallel,
        failing=options.failing,
        parameters=parameters,
        tell=console.print,
    )
    _show(console, [tables.of_fleet(found, parallel=options.parallel, cores=os.cpu_count() or 1)])
    if options.write:
        written.fleet(options.write, found, about, parallel=options.parallel)
    last = found[sizes[-1]]
    console.print(f"The last fleet, exit status {last.status}, says of those that failed:")
    for name, result in last.outcome["stacks"].items():
        if result["state"] != "verified":
            console.print(f"  {name}: {result['state']}: {result['error']['what']}", markup=False)
    verified = sum(result["state"] == "verified" for result in last.outcome["stacks"].values())
    console.print(f"and {verified} of its {sizes[-1]} stacks are verified.")
    return 0


def _rotation(options: argparse.Namespace, console: Console, directory: Path) -> int:
    parameters = _parameters(options)
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
