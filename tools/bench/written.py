"""Figures as files: JSON, a plot as SVG, and tables as Markdown."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tools.bench import tables
from tools.bench.critical_path import Chain
from tools.bench.fleet import Ran
from tools.bench.growth import Cell, Grown
from tools.bench.plot import Bar, bars
from tools.bench.rotation import SIZES, Figures
from tools.bench.tables import Sheet
from tools.bench.tenants import Moved
from tools.workspace import CHECKOUT, environment


def circumstances() -> str:
    """When, on what, with what versions."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as home:  # it writes logs there
        engine = subprocess.run(
            ["pulumi", "version"],  # noqa: S607
            env=environment(Path(home), {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        ).stdout.strip()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    versions = f"Pulumi {engine.removeprefix('v') or 'unknown'}, Python {platform.python_version()}"
    return f"{when}, commit {commit or 'unknown'}, {versions}, {os.cpu_count()} cores"


def rotation(directory: Path, figures: Figures, about: str) -> None:
    """Writes the figures, and bars of each size."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rotation.json").write_text(json.dumps({"about": about, **asdict(figures)}, indent=2) + "\n")
    groups = {
        f"{size} ({len(SIZES[size])})": [
            *_beside_the_least(each.seconds, each.chain, each.floor),
            Bar(label="the runbook, by a script", parts={"runbook": each.runbook}),
        ]
        for size, each in figures.rotations.items()
    }
    (directory / "rotation.svg").write_text(bars("Secrets rotated at once", groups, unit="s"))


def _beside_the_least(seconds: float, chain: Chain, floor: float) -> list[Bar]:
    least = Bar(label="critical path and floor", parts={"critical path": chain.seconds, "engine's floor": floor})
    return [least, Bar(label="pulumi up", parts={"pulumi up": seconds})]


def growth(directory: Path, found: Mapping[Cell, Grown], moved: Mapping[int, Moved], about: str) -> None:
    """Writes the figures of secrets and tenants, tables of them, and bars of each number of secrets."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = {
        "about": about,
        "secrets": [{**asdict(cell), **asdict(each)} for cell, each in found.items()],
        "tenants": [{"tenants": count, **asdict(each)} for count, each in moved.items()],
    }
    (directory / "growth.json").write_text(json.dumps(figures, indent=2) + "\n")
    sheets = [*(tables.of_secrets(found) if found else []), *([tables.of_tenants(moved)] if moved else [])]
    _document(directory / "growth.md", "Growth", about, sheets, drawn="growth" if found else "")
    if found:
        groups = {str(cell): _beside_the_least(each.up, each.chain, each.floor) for cell, each in found.items()}
        (directory / "growth.svg").write_text(bars("Secrets of one stack, all rotated at once", groups, unit="s"))


def fleet(directory: Path, found: Mapping[int, Ran], about: str, *, parallel: int) -> None:
    """Writes the figures of fleets, a table of them, and a bar of each size."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = ("seconds", "own", "together", "one", "status")
    figures = {
        "about": about,
        "stacks": [{"stacks": count, **{key: getattr(each, key) for key in kept}} for count, each in found.items()],
    }
    (directory / "fleet.json").write_text(json.dumps(figures, indent=2) + "\n")
    sheet = tables.of_fleet(found, parallel=parallel, cores=os.cpu_count() or 1)
    _document(directory / "fleet.md", "Many stacks", about, [sheet], drawn="fleet")
    groups = {
        f"{count} {'stack' if count == 1 else 'stacks'}": [
            Bar(label="a stack", parts={"seconds": each.seconds / count})
        ]
        for count, each in found.items()
    }
    (directory / "fleet.svg").write_text(bars("Time of a fleet, divided by its stacks", groups, unit="s"))


def _document(file: Path, title: str, about: str, sheets: Sequence[Sheet], *, drawn: str) -> None:
    """Says where it comes from: whoever edits it by hand loses that with the next run."""
    plot = f"\nAll figures: [{drawn}.json]({drawn}.json), drawn: ![bars]({drawn}.svg)\n" if drawn else ""
    head = f"# {title}\n\nWritten by `python -m tools.bench {file.stem} --write`. {about}\n{plot}"
    file.write_text("\n".join([head, *(sheet.markdown for sheet in sheets)]))
