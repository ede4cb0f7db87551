"""What the four threads of the SDK's dynamic provider cost where many apps restart at once, and what more of its processes gain and cost.

The program is that of the floor (`floor/`), whose apps take as long as a rollout: an explicit `pulumi.ProviderResource("pulumi-python", …)`
makes the engine start one more process with four more threads. How many operations the engine itself begins at once is `--parallel`, by
default four times the number of cores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.floors import floor_of, turn
from tools.bench.processes import PROVIDER, watched
from tools.bench.runs import previewed, succeed
from tools.workspace import engine_only

PARALLEL = "PULUMI_PARALLEL"  # the variable for `--parallel`


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """How the apps are worked on.

    Attributes:
        apps: How many there are.
        providers: Processes of their own that they share, in turn; 0 for the one of all dynamic resources.
        parallel: Operations that the engine begins at once; 0 for its default.
    """

    apps: int
    providers: int
    parallel: int


@dataclass(frozen=True, kw_only=True)
class Took:
    """What an update of all apps took.

    Attributes:
        up: Its seconds.
        preview: Seconds of a preview without changes.
        together: Bytes at most of all processes of the update at one time.
        provider: Processor seconds of all processes of dynamic resources.
    """

    up: float
    preview: float
    together: int
    provider: float


def measure(
    directory: Path, chosen: Sequence[Arrangement], *, waits: float, tell: Callable[[str], None]
) -> dict[Arrangement, Took]:
    """Measures them, one after the other.

    Args:
        directory: New or empty.
        chosen: What to measure.
        waits: Seconds that each app takes.
        tell: Is told how far it is.

    Raises:
        FailedError: A command failed.
    """
    found = {}
    for number, each in enumerate(chosen):
        took = found[each] = _measured(directory / str(number), each, waits=waits)
        tell(f"{each.apps} apps, {each.providers} processes, parallel {each.parallel or 'by default'}: {took.up:.1f} s")
    return found


def _measured(directory: Path, arrangement: Arrangement, *, waits: float) -> Took:
    variables = {PARALLEL: str(arrangement.parallel)} if arrangement.parallel else {}
    stage = engine_only(directory, variables)
    apps = arrangement.apps
    floor = floor_of(stage, [1] * apps, tenants=0, repositories=0, probed=False, apps=apps)
    floor.configure("floor:providers", str(arrangement.providers))
    succeed(floor)
    preview = previewed(floor)
    floor.configure("floor:waits", str(waits))
    turn(floor, [2] * apps)
    began = time.monotonic()
    with watched() as usage:
        succeed(floor)
    return Took(
        up=time.monotonic() - began,
        preview=preview,
        together=usage.together,
        provider=usage.time.get(PROVIDER, 0.0),
    )
