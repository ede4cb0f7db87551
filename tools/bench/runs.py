"""What the benchmarks do with a workspace, and ask its sandbox."""

import json
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from tools.workspace import STACK, FailedError, Workspace

LONGEST = 3600  # seconds for an update
Size = TypeVar("Size", bound=Hashable)
Cost = TypeVar("Cost")


def each_in_turn(
    sizes: Iterable[Size],
    measure: Callable[[Size], Cost],
    tell: Callable[[str], None],
    said: Callable[[Size, Cost], str],
) -> dict[Size, Cost]:
    """Measures one size after the other, and says what came of each as soon as it is known. Raises FailedError."""
    found: dict[Size, Cost] = {}
    for size in sizes:
        found[size] = measure(size)
        tell(said(size, found[size]))
    return found


def timed(stage: Workspace) -> float:
    """Seconds of an update. Raises FailedError."""
    began = time.monotonic()
    succeed(stage)
    return time.monotonic() - began


def succeed(stage: Workspace) -> None:
    """An update that has to succeed. Raises FailedError."""
    result = stage.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, timeout=LONGEST)
    if result.status != 0:
        raise FailedError(result.output)


def previewed(stage: Workspace) -> float:
    """Seconds of a preview without changes. Raises FailedError."""
    began = time.monotonic()
    stage.must("preview", "--stack", STACK, "--expect-no-changes")
    return time.monotonic() - began


def requests_of(stage: Workspace, after: int) -> list[dict[str, Any]]:
    """The requests that were recorded after this one."""
    return [json.loads(line) for line in stage.sandbox("requests", "--after", str(after)).splitlines()]


def last_request(stage: Workspace) -> int:
    """The number of the last request of all."""
    return int(requests_of(stage, 0)[-1]["number"])


def made(requests: Iterable[Mapping[str, Any]]) -> int:
    """How many were made by no consumer."""
    return sum(1 for each in requests if each["consumer"] is None)


def healthy_since(stage: Workspace) -> dict[str, datetime]:
    """When every machine became healthy that is."""
    return {
        machine["id"]: datetime.fromisoformat(machine["healthy_since"])
        for app in stage.inspect()["fly"]["apps"].values()
        for machine in app["machines"]
        if machine["healthy_since"]
    }
