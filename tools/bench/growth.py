"""What more secrets in one stack, and more machines of tenants, cost.

Secrets: values that Pulumi generates, all on the control plane's app, all bumped at once, beside a program with the same resources that do
nothing. Tenants: TENANT_REDIS_URL, which every machine of a tenant gets.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

from tools.bench.critical_path import UPDATE
from tools.bench.floors import floor_of, resources_of, turn
from tools.workspace import STACK, FailedError, Workspace, workspace

PROGRAM = '''"""As many secrets as the benchmark asks for."""

from components.rotation import load_settings, rotate
from components.secret import Check, FlySecret, Random, Secret

settings = load_settings()
check = Check(module="fly_app", settings={"app": settings.app})


def secret(number: int) -> Secret:
    """One of them."""
    return Secret(
        name=f"BENCH_{number:03}",
        source=Random(length=32, encoding="base64"),
        fly=(FlySecret(app=settings.app),),
        verification=check,
    )


rotate(settings, [secret(number) for number in range(COUNT)], not_managed={})
'''
SAMPLES = 0.2  # seconds between two looks at the memory
REDIS, TENANT_APP = "TENANT_REDIS_URL", "molecule-tenant"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What a stack of so many secrets costs.

    Attributes:
        resources: Of the stack; the floor's program has as many.
        up: Seconds of an update that rotates all of them.
        floor: The same of the program that does nothing.
        preview: Seconds of a preview without changes, and of the floor's.
        memory: Bytes at most of the engine, and of the largest process of Python.
        state: Bytes of the stack's state.
        requests: That the update made.
    """

    resources: int
    up: float
    floor: float
    preview: tuple[float, float]
    memory: tuple[int, int]
    state: int
    requests: int


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """What so many machines of tenants cost.

    Attributes:
        up: Seconds of the update.
        rollout: Seconds from the first update of a tenant's machine to the last.
        memory: As above.
        requests: That the update made.
    """

    up: float
    rollout: float
    memory: tuple[int, int]
    requests: int


@dataclass
class _Peak:
    engine: int = 0
    python: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Looks at all processes below this one until it is told to stop."""
        me = psutil.Process()
        while not self._over.wait(SAMPLES):
            for each in me.children(recursive=True):
                try:
                    name, used = each.name(), each.memory_info().rss
                except psutil.Error:
                    continue
                if name == "pulumi":
                    self.engine = max(self.engine, used)
                elif name.startswith("python"):
                    self.python = max(self.python, used)

    def stop(self) -> None:
        """The end of it."""
        self._over.set()


@contextmanager
def _peak() -> Iterator[_Peak]:
    peak = _Peak()
    thread = threading.Thread(target=peak.watch)
    thread.start()
    try:
        yield peak
    finally:
        peak.stop()
        thread.join()


def secrets(directory: Path, counts: Sequence[int], tell: Callable[[str], None]) -> dict[int, Secrets]:
    """Measures stacks of so many secrets, one after the other, each on a sandbox of its own.

    Raises:
        FailedError: A command failed.
    """
    found = {}
    for count in counts:
        found[count] = _secrets(directory / f"secrets-{count}", count)
        tell(f"{count} secrets: {found[count].up:.1f} s, floor {found[count].floor:.1f} s")
    return found


def _secrets(directory: Path, count: int) -> Secrets:
    with workspace(directory) as stage:
        (stage.program_directory / "__main__.py").write_text(PROGRAM.replace("COUNT", str(count)))
        stage.must("config", "rm", "--stack", STACK, "rotations")
        names = [f"BENCH_{number:03}" for number in range(count)]
        _bump(stage, names, 1)
        _up(stage)
        floor = floor_of(stage, [1] * count, tenants=0, repositories=0, generated=True, probed=False)
        _up(floor)
        resources = resources_of(stage)
        if (same := resources_of(floor)) != resources:
            raise FailedError(f"the stack has {resources} resources, and the floor's program {same}")
        preview = _preview(stage), _preview(floor)
        _bump(stage, names, 2)
        turn(floor, [2] * count)
        floored = _up(floor)
        mark = _requests(stage)
        with _peak() as peak:
            seconds = _up(stage)
        state = next(stage.state_directory.glob(f".pulumi/stacks/molecule-secrets/{STACK}.json")).stat().st_size
        return Secrets(
            resources=resources,
            up=seconds,
            floor=floored,
            preview=preview,
            memory=(peak.engine, peak.python),
            state=state,
            requests=_requests(stage) - mark,
        )


def tenants(directory: Path, counts: Sequence[int], tell: Callable[[str], None]) -> dict[int, Tenants]:
    """Measures one rotation of TENANT_REDIS_URL with so many machines of tenants, each on a sandbox of its own.

    Raises:
        FailedError: A command failed.
    """
    found = {}
    for count in counts:
        found[count] = _tenants(directory / f"tenants-{count}", count)
        tell(f"{count} tenants: {found[count].up:.1f} s, of which their machines {found[count].rollout:.1f} s")
    return found


def _tenants(directory: Path, count: int) -> Tenants:
    with workspace(directory, "--tenants", str(count), "--tenant-processes", "0") as stage:
        stage.must("config", "rm", "--stack", STACK, "rotations")
        _bump(stage, [REDIS], 1)
        _up(stage)
        _bump(stage, [REDIS], 2)
        mark = _requests(stage)
        with _peak() as peak:
            seconds = _up(stage)
        log = [json.loads(line) for line in stage.sandbox("requests", "--after", str(mark)).splitlines()]
        times = [
            datetime.fromisoformat(each["at"]).timestamp()
            for each in log
            if each["template"] == UPDATE and each["target"].startswith(f"/v1/apps/{TENANT_APP}/")
        ]
        return Tenants(
            up=seconds,
            rollout=max(times) - min(times),
            memory=(peak.engine, peak.python),
            requests=_requests(stage) - mark,
        )


def _bump(stage: Workspace, names: Sequence[str], generation: int) -> None:
    counters = [part for name in names for part in ("--plaintext", f"rotations.{name}={generation}")]
    stage.must("config", "set-all", "--stack", STACK, "--path", *counters)


def _up(stage: Workspace) -> float:
    began = time.monotonic()
    result = stage.up()
    if result.status != 0:
        raise FailedError(result.output)
    return time.monotonic() - began


def _preview(stage: Workspace) -> float:
    began = time.monotonic()
    stage.must("preview", "--stack", STACK, "--expect-no-changes")
    return time.monotonic() - began


def _requests(stage: Workspace) -> int:
    counted: Mapping[str, int] = stage.inspect()["requests"]
    return sum(counted.values())
