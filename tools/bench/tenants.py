"""What more machines of tenants cost: one rotation of TENANT_REDIS_URL, which every one of them gets, batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.bench.critical_path import Batch, batches
from tools.bench.growth import bump
from tools.bench.parameters import AT_ONCE, Parameters
from tools.bench.processes import watched
from tools.bench.runs import each_in_turn, healthy_since, last_request, made, requests_of, succeed, timed
from tools.workspace import STACK, workspace

REDIS, TENANT_APP = "TENANT_REDIS_URL", "molecule-tenant"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What so many machines of tenants cost.

    Attributes:
        up: Seconds of the update.
        rollout: Seconds from the update of the first tenant's machine until all of them are healthy.
        batches: How many of them there were.
        largest: Machines of the largest one.
        requests: That the update made.
        memory: Bytes at most of the largest process of each kind (`tools.bench.processes`).
    """

    up: float
    rollout: float
    batches: int
    largest: int
    requests: int
    memory: dict[str, int]

    @property
    def of_a_batch(self) -> float:
        """Seconds of one batch, with what lies between it and the next one."""
        return self.rollout / self.batches


def measure(
    directory: Path, counts: Sequence[int], parameters: Parameters, tell: Callable[[str], None]
) -> dict[int, Moved]:
    """Measures each number of tenants on a sandbox of its own. All tenants run inside the sandbox's process.

    Raises:
        FailedError: A command failed.
    """
    return each_in_turn(
        counts,
        lambda count: _measured(directory / f"tenants-{count}", replace(parameters, tenants=count)),
        tell,
        lambda count, each: (
            f"{count} tenants: {each.up:.1f} s, of which their machines {each.rollout:.1f} s, {each.batches} batches"
        ),
    )


def _measured(directory: Path, parameters: Parameters) -> Moved:
    with workspace(directory, *parameters.options, "--tenant-processes", "0") as stage:
        stage.must("config", "rm", "--stack", STACK, "rotations")
        bump(stage, [REDIS], 1)
        stage.sandbox("set", *AT_ONCE)
        succeed(stage)
        stage.sandbox("set", *parameters.settings)
        bump(stage, [REDIS], 2)
        mark = last_request(stage)
        with watched() as usage:
            seconds = timed(stage)
        requests = requests_of(stage, mark)
        rolled = batches(requests, TENANT_APP, healthy_since(stage))
    return moved(seconds, rolled, requests=made(requests), memory=usage.memory)


def moved(seconds: float, rolled: Sequence[Batch], *, requests: int, memory: dict[str, int]) -> Moved:
    """What the batches of a rollout took."""
    return Moved(
        up=seconds,
        rollout=(rolled[-1].ended - rolled[0].began).total_seconds(),
        batches=len(rolled),
        largest=max(len(each.machines) for each in rolled),
        requests=requests,
        memory=memory,
    )
