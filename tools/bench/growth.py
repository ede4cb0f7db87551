"""What more secrets in one stack, and more apps and repositories that they go to, cost: time, requests, memory, state.

Each secret is a deploy token of a Fly app, minted and revoked at Fly, and goes to that app and to one repository. All of them are rotated at
once. Beside it: a program with the same resources and dependencies that do nothing (`floor/`), and the critical path of the recorded requests.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.github.access import WRITES_A_MINUTE
from tools.bench.critical_path import Chain, critical_path, restarts
from tools.bench.floors import floor_of, resources_of, turn
from tools.bench.parameters import AT_ONCE, Parameters
from tools.bench.processes import watched
from tools.bench.runs import each_in_turn, healthy_since, last_request, made, previewed, requests_of, succeed, timed
from tools.workspace import STACK, FailedError, Workspace, workspace

PROGRAM = '''"""As many secrets as the benchmark asks for, dealt out to its apps and repositories in turn."""

from components.rotation import load_settings, rotate
from components.secret import Check, FlySecret, Issuer, RepositorySecret, Secret

settings = load_settings()
places = PLACES


def secret(number: int) -> Secret:
    """One of them."""
    app, owner, repository, workflow = places[number % len(places)]
    return Secret(
        name=f"BENCH_{number:03}",
        source=Issuer(kind="fly-deploy-token", settings={"app": app, "profile": "deploy", "expiry": "8760h0m0s"}),
        fly=(FlySecret(app=app),),
        repositories=(RepositorySecret(owner=owner, repository=repository, workflow=workflow),),
        probe=Check(module="fly_token_probe", settings={"app": app}),
        verification=Check(module="fly_app", settings={"app": app}),
    )


rotate(settings, [secret(number) for number in range(COUNT)], not_managed={})
'''
PREVIEWS = 3  # of each kind, in turns


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How much there is of what.

    Attributes:
        secrets: In one stack.
        places: Apps, and as many repositories.
    """

    secrets: int
    places: int

    def __str__(self) -> str:
        return f"{self.secrets} secrets, {self.places} {'app' if self.places == 1 else 'apps'}"


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What it costs to rotate all secrets of such a stack.

    Attributes:
        resources: Of the stack; the floor's program has as many.
        up: Seconds of the update that rotates all of them.
        floor: The same of the program that does nothing.
        chain: The critical path.
        restarts: Machines that were restarted.
        requests: That the update made.
        preview: Seconds of a preview without changes, and of the floor's: the medians.
        memory: Bytes at most of the largest process of each kind (`tools.bench.processes`).
        processors: Seconds of the processors that each kind took.
        state: Bytes of the stack's state.
    """

    resources: int
    up: float
    floor: float
    chain: Chain
    restarts: int
    requests: int
    preview: tuple[float, float]
    memory: dict[str, int]
    processors: dict[str, float]
    state: int

    @property
    def of_the_least(self) -> float:
        """How many times as long as the critical path and the engine's floor."""
        return self.up / (self.chain.seconds + self.floor)


def cell(text: str) -> Cell:
    """A cell of the command line: `50x10` are fifty secrets over ten apps.

    Raises:
        ValueError: It is none, or not every app would get a secret.
    """
    secrets, places = (int(part) for part in text.split("x"))
    if not 1 <= places <= secrets:
        raise ValueError(text)
    return Cell(secrets=secrets, places=places)


def pace_of(cell: Cell) -> float:
    """Seconds that GitHub's limit asks to leave after each write; 0 where an update does not write that much (`components.github.access`)."""
    return 60 / WRITES_A_MINUTE if cell.secrets > WRITES_A_MINUTE else 0.0


def measure(
    directory: Path, chosen: Sequence[Cell], parameters: Parameters, tell: Callable[[str], None]
) -> dict[Cell, Grown]:
    """Measures them, one after the other, each on a sandbox of its own.

    Raises:
        FailedError: A command failed.
    """
    return each_in_turn(
        chosen,
        lambda cell: _measured(directory / f"{cell.secrets}-{cell.places}", cell, parameters),
        tell,
        lambda cell, each: (
            f"{cell}: {each.up:.1f} s, floor {each.floor:.1f} s, path {each.chain.seconds:.1f} s: {each.of_the_least:.2f}"
        ),
    )


def _measured(directory: Path, cell: Cell, parameters: Parameters) -> Grown:
    environments = [STACK, *(f"place-{number:02}" for number in range(2, cell.places + 1))]
    # No tenants: nothing goes to them here.
    options = [*replace(parameters, tenants=0).options, "--environment", ",".join(environments), "--light"]
    with workspace(directory, *options) as stage:
        apps = write_program(stage, environments, cell.secrets)
        names = [f"BENCH_{number:03}" for number in range(cell.secrets)]
        pace = pace_of(cell)
        if pace:
            stage.configure("github:writeDelayMs", str(round(pace * 1000)))
        bump(stage, names, 1)
        stage.sandbox("set", *AT_ONCE)
        succeed(stage)
        stage.sandbox("set", *parameters.settings)
        floor = floor_of(stage, [1] * cell.secrets, tenants=0, repositories=cell.secrets, apps=cell.places)
        succeed(floor)
        resources = resources_of(stage)
        if (same := resources_of(floor)) != resources:
            raise FailedError(f"the stack has {resources} resources, and the floor's program {same}")
        ours, floored = zip(*((previewed(stage), previewed(floor)) for _ in range(PREVIEWS)), strict=True)
        bump(stage, names, 2)
        turn(floor, [2] * cell.secrets)
        least = timed(floor)
        mark = last_request(stage)
        with watched() as usage:
            seconds = timed(stage)
        requests, healthy = requests_of(stage, mark), healthy_since(stage)
        state = next(stage.state_directory.glob(f".pulumi/stacks/molecule-secrets/{STACK}.json")).stat().st_size
    return Grown(
        resources=resources,
        up=seconds,
        floor=least,
        chain=critical_path(
            requests,
            secrets=names,
            app={name: apps[number % len(apps)] for number, name in enumerate(names)},
            tenant_app="",
            healthy_since=healthy,
            held_by_tenants=(),
            in_repository=names,
            pace=pace,
        ),
        restarts=sum(restarts(requests, app, healthy) for app in apps),
        requests=made(requests),
        preview=(sorted(ours)[PREVIEWS // 2], sorted(floored)[PREVIEWS // 2]),
        memory=usage.memory,
        processors=usage.time,
        state=state,
    )


def write_program(stage: Workspace, environments: Sequence[str], count: int) -> list[str]:
    """Replaces the program by one with so many secrets; returns the apps that they go to, in turn."""
    stage.sandbox("stacks", "--to", str(stage.program_directory / "stacks"), "--environment", STACK)
    stage.must("config", "rm", "--stack", STACK, "rotations")
    present = stage.inspect()["environments"]
    places = [
        (present[name]["app"], *present[name]["repository"].split("/"), "publish-platform-image.yml")
        for name in environments
    ]
    program = PROGRAM.replace("PLACES", json.dumps(places)).replace("COUNT", str(count))
    (stage.program_directory / "__main__.py").write_text(program)
    return [app for app, *_ in places]


def bump(stage: Workspace, names: Sequence[str], generation: int) -> None:
    """Sets the counters of these secrets."""
    counters = [part for name in names for part in ("--plaintext", f"rotations.{name}={generation}")]
    stage.must("config", "set-all", "--stack", STACK, "--path", *counters)
