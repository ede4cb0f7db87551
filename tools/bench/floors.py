"""The engine's floor: a program with as many resources as a stack of ours, which do nothing (`floor/`)."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.workspace import CHECKOUT, STACK, Workspace

PROGRAM = Path(__file__).parent / "floor"


def floor_of(
    stage: Workspace,
    turns: Sequence[int],
    *,
    tenants: int,
    repositories: int,
    generated: bool = False,
    probed: bool = True,
    apps: int = 1,
) -> Workspace:
    """The program beside a workspace, on the same backend. Nothing of it is deployed yet.

    Args:
        stage: Whose engine and backend it has.
        turns: A number for each secret, whose change changes what it consists of.
        tenants: How many apps of tenants there are.
        repositories: How many of the secrets a repository holds.
        generated: Whether Pulumi generates the values.
        probed: Whether there are probes.
        apps: How many apps there are; the secrets are dealt out to them in turn.
    """
    directory = stage.directory / "floor"
    program = directory / "program"
    shutil.copytree(PROGRAM, program)
    (program / ".venv").symlink_to(CHECKOUT / ".venv")
    floor = Workspace(directory=directory, environment=stage.environment)
    floor.must("stack", "init", STACK)
    told = {
        "tenants": tenants,
        "repositories": repositories,
        "generated": generated,
        "probed": probed,
        "apps": apps,
    }
    for key, value in told.items():
        floor.configure(f"floor:{key}", json.dumps(value))
    turn(floor, turns)
    return floor


def turn(floor: Workspace, turns: Sequence[int]) -> None:
    """Says what is to change with the next update."""
    numbers = [part for index, each in enumerate(turns) for part in ("--plaintext", f"floor:turns[{index}]={each}")]
    floor.must("config", "set-all", "--stack", STACK, "--path", *numbers)


def resources_of(stage: Workspace) -> int:
    """How many resources a stack has, less its providers."""
    exported = json.loads(stage.must("stack", "export", "--stack", STACK))
    return sum(1 for each in exported["deployment"]["resources"] if not each["type"].startswith("pulumi:providers:"))
