"""One, five and all secrets rotated by `pulumi up`, beside the engine's floor and beside the runbook done by a script, on one sandbox."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.critical_path import Chain, critical_path, restarts
from tools.bench.floors import floor_of, resources_of, turn
from tools.bench.parameters import Parameters
from tools.bench.runbook import SECRETS
from tools.bench.runs import healthy_since, last_request, made, requests_of, succeed, timed
from tools.workspace import CHECKOUT, STACK, FailedError, Workspace, exports, workspace

APP, TENANT_APP = "molecule-cp", "molecule-tenant"
SIZES: Mapping[str, tuple[str, ...]] = {
    "one": ("FLY_API_TOKEN",),
    "five": ("FLY_API_TOKEN", "NEON_API_KEY", "DATABASE_URL", "RESEND_API_KEY", "STRIPE_WEBHOOK_SECRET"),
    "all": tuple(SECRETS),
}
PREVIEWS = 5  # of each kind, in turns


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """What one rotation took.

    Attributes:
        seconds: `pulumi up`, from start to end.
        floor: The same of the program that does nothing.
        chain: The critical path.
        runbook: Seconds that the script took.
        restarts: Machines that `pulumi up` restarted, and the script.
        requests: That they made.
    """

    seconds: float
    floor: float
    chain: Chain
    runbook: float
    restarts: tuple[int, int]
    requests: tuple[int, int]

    @property
    def of_the_least(self) -> float:
        """How many times as long as the critical path and the engine's floor."""
        return self.seconds / (self.chain.seconds + self.floor)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured.

    Attributes:
        rotations: By size.
        resources: Of the stack with all secrets; the floor's program has as many.
        preview: Seconds of a preview without changes, the program's and the floor's: the medians.
    """

    rotations: Mapping[str, Rotated]
    resources: int
    preview: tuple[float, float]


@dataclass
class _Bench:
    stage: Workspace
    old: dict[str, str] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)


def measure(directory: Path, parameters: Parameters) -> Figures:
    """Measures all of it.

    Args:
        directory: New or empty.
        parameters: Of the sandbox.

    Raises:
        FailedError: A command failed.
    """
    with workspace(directory, *parameters.options) as stage:
        stage.sandbox("set", f"github.build_seconds={parameters.workflow}")
        bench = _Bench(stage=stage)
        stage.configure("stripeAccount", exports(stage.sandbox("env"))["STRIPE_ACCOUNT_ID"])
        stage.must("config", "rm", "--stack", STACK, "rotations")
        _bump(bench, SECRETS)
        succeed(stage)
        floor = floor_of(stage, _turns(bench, SECRETS), tenants=1, repositories=1)
        succeed(floor)
        resources = resources_of(stage)
        if (found := resources_of(floor)) != resources:
            raise FailedError(f"the stack has {resources} resources, and the floor's program {found}")
        preview = _previews(stage, floor)
        measured = {size: _rotate(bench, floor, secrets) for size, secrets in SIZES.items()}
        outputs = stage.outputs()["secrets"]
        bench.old = {name: outputs[name]["credential_id"] for name in SECRETS}
        runbook = {size: _runbook(bench, secrets) for size, secrets in SIZES.items()}
    return Figures(
        rotations={
            size: Rotated(
                seconds=seconds,
                floor=floored,
                chain=chain,
                runbook=runbook[size][0],
                restarts=(restarted, runbook[size][1]),
                requests=(requests, runbook[size][2]),
            )
            for size, (seconds, floored, chain, restarted, requests) in measured.items()
        },
        resources=resources,
        preview=preview,
    )


def _rotate(bench: _Bench, floor: Workspace, secrets: Sequence[str]) -> tuple[float, float, Chain, int, int]:
    stage = bench.stage
    _bump(bench, secrets)
    turn(floor, _turns(bench, secrets))
    floored = timed(floor)
    mark = last_request(stage)
    seconds = timed(stage)
    requests = requests_of(stage, mark)
    healthy = healthy_since(stage)
    chain = critical_path(
        requests,
        secrets=secrets,
        app=dict.fromkeys(secrets, APP),
        tenant_app=TENANT_APP,
        healthy_since=healthy,
        held_by_tenants={"TENANT_REDIS_URL"},
        in_repository={"FLY_API_TOKEN"},
    )
    return seconds, floored, chain, _restarts(requests, healthy), made(requests)


def _runbook(bench: _Bench, secrets: Sequence[str]) -> tuple[float, int, int]:
    """The script. What it leaves behind is nothing that the stack knows of: it comes last."""
    stage = bench.stage
    mark = last_request(stage)
    supplied = {name: _supplied(bench, name, int(time.time())) for name in secrets}
    order = {
        "stack": str(stage.program_directory / "stacks" / f"Pulumi.{STACK}.yaml"),
        "secrets": {name: {"old": bench.old[name], "supplied": supplied[name]} for name in secrets},
    }
    began = time.monotonic()
    completed = subprocess.run(
        [sys.executable, "-m", "tools.bench.runbook"],
        cwd=CHECKOUT,
        env=dict(stage.environment),
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if completed.returncode != 0:
        raise FailedError("the runbook's script failed")
    bench.old |= json.loads(completed.stdout)["current"]
    requests = requests_of(stage, mark)
    return seconds, _restarts(requests, healthy_since(stage)), made(requests)


def _bump(bench: _Bench, secrets: Iterable[str]) -> None:
    for name in secrets:
        generation = bench.generations.get(name, 0) + 1
        if supplied := _supplied(bench, name, generation):
            bench.stage.hand_in(name, supplied)
        bench.stage.set_generation(name, generation)
        bench.generations[name] = generation


def _supplied(bench: _Bench, name: str, number: int) -> str:
    """What no API mints. Secret."""
    if name == "RESEND_FROM_EMAIL":
        return f"Molecule AI <hello-{number}@moleculesai.app>"
    if name == "STRIPE_API_KEY":
        return bench.stage.stripe("roll-key", "--expires-in", "3600")
    return ""


def _turns(bench: _Bench, secrets: Iterable[str]) -> list[int]:
    """Those of all secrets, of which these change."""
    for name in secrets:
        bench.turns[name] = bench.turns.get(name, 0) + 1
    return [bench.turns[name] for name in SECRETS]


def _previews(stage: Workspace, floor: Workspace) -> tuple[float, float]:
    """In turns, so that whatever else the machine does hits both."""
    ours: list[float] = []
    floored: list[float] = []
    for _ in range(PREVIEWS):
        for each, found in ((stage, ours), (floor, floored)):
            began = time.monotonic()
            each.must("preview", "--stack", STACK, "--expect-no-changes")
            found.append(time.monotonic() - began)
    return median(ours), median(floored)


def _restarts(requests: Sequence[Mapping[str, Any]], healthy: Mapping[str, datetime]) -> int:
    return sum(restarts(requests, app, healthy) for app in (APP, TENANT_APP))
