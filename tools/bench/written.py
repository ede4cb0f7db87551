"""Figures as files: JSON, and a plot as SVG."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tools.bench.plot import Bar, bars
from tools.bench.rotation import SIZES, Figures
from tools.workspace import CHECKOUT


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
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{when}, commit {commit or 'unknown'}, Python {platform.python_version()}, {os.cpu_count()} cores"


def rotation(directory: Path, figures: Figures, about: str) -> None:
    """Writes the figures, and bars of each size."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rotation.json").write_text(json.dumps({"about": about, **asdict(figures)}, indent=2) + "\n")
    groups = {
        f"{size} ({len(SIZES[size])})": [
            Bar(
                label="critical path and floor",
                parts={"critical path": each.chain.seconds, "engine's floor": each.floor},
            ),
            Bar(label="pulumi up", parts={"pulumi up": each.seconds}),
            Bar(label="the runbook, by a script", parts={"runbook": each.runbook}),
        ]
        for size, each in figures.rotations.items()
    }
    (directory / "rotation.svg").write_text(bars("Secrets rotated at once", groups, unit="s"))
