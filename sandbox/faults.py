"""Faults that the operator injects: the n-th matching request fails, for `count` requests.

A fault matches by provider, method (`*` for any) and a regular expression that is searched in the request's path. For
GraphQL the root fields of the operation follow the path, so that `/graphql.*createLimitedAccessToken` matches that
mutation only. With `program_only` requests of consumers (machines, workflow runs) do not count. Faults are kept in the
database: they survive a restart, as do their counts.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sandbox.world import SandboxError

if TYPE_CHECKING:
    from sandbox.world import World


class Effect(StrEnum):
    """What happens to a request that a fault hits."""

    STATUS = "status"
    """Answered with a status; nothing is done."""
    TIMEOUT = "timeout"
    """Never answered; nothing is done. Ends when the client gives up."""
    DROP_BEFORE = "drop-before"
    """The connection is closed without an answer; nothing is done."""
    DROP_AFTER = "drop-after"
    """The request is carried out, then the connection is closed without an answer."""
    LATENCY = "latency"
    """Carried out and answered, after a delay."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One injected fault. `nth` counts matching requests from 1, since the fault was set."""

    provider: str
    method: str
    path: str
    nth: int
    count: int
    effect: Effect
    status: int = 0
    retry_after: int | None = None
    """Seconds, sent as the `Retry-After` header of a `STATUS` fault."""
    latency: int = 0
    """Milliseconds of a `LATENCY` fault."""
    program_only: bool = False
    """Whether only requests count that no consumer makes: those of an operator, and of what runs for one."""

    def matches(self, provider: str, method: str, target: str, *, consumer: str | None = None) -> bool:
        """Tell whether the request is one that this fault counts."""
        return (
            self.provider == provider
            and not (self.program_only and consumer is not None)
            and self.method.upper() in {"*", method.upper()}
            and re.search(self.path, target) is not None
        )


def parse(document: Any) -> Fault:  # noqa: ANN401 - any JSON that a client sends
    """Read a fault from the admin API's JSON. Raises `SandboxError` if it is not one."""
    try:
        fault = Fault(**{**document, "effect": Effect(document["effect"])})
        re.compile(fault.path)
        valid = fault.nth >= 1 and fault.count >= 1 and (fault.effect is not Effect.STATUS or fault.status in STATUSES)
    except (TypeError, ValueError, KeyError, re.error) as error:
        raise SandboxError(f"Not a fault: {error}") from error
    if not valid:
        raise SandboxError("Not a fault: --nth and --count start at 1, and --status is between 400 and 599.")
    return fault


STATUSES = range(400, 600)


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS faults (
                id INTEGER PRIMARY KEY, provider TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
                nth INTEGER NOT NULL, count INTEGER NOT NULL, effect TEXT NOT NULL, status INTEGER NOT NULL,
                retry_after INTEGER, latency INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0,
                program_only INTEGER NOT NULL DEFAULT 0
            )
            """
        )
        columns = [row["name"] for row in world.database.execute("PRAGMA table_info(faults)")]
        if "program_only" not in columns:  # a sandbox that was made before
            world.database.execute("ALTER TABLE faults ADD COLUMN program_only INTEGER NOT NULL DEFAULT 0")


def add(world: World, fault: Fault) -> None:
    """Inject a fault."""
    with world.database:
        world.database.execute(
            """
            INSERT INTO faults (provider, method, path, nth, count, effect, status, retry_after, latency, program_only)
            VALUES (:provider, :method, :path, :nth, :count, :effect, :status, :retry_after, :latency, :program_only)
            """,
            {**asdict(fault), "effect": str(fault.effect)},
        )


def clear(world: World) -> None:
    """Remove every fault."""
    with world.database:
        world.database.execute("DELETE FROM faults")


def listing(world: World) -> list[dict[str, Any]]:
    """Return every fault with `seen`, the number of requests that matched it so far."""
    return [dict(row) for row in world.database.execute("SELECT * FROM faults ORDER BY id")]


def strike(world: World, *, provider: str, method: str, target: str, consumer: str | None = None) -> Fault | None:
    """Count a request on every fault that it matches, and return the first one that hits it."""
    hit: Fault | None = None
    for row in listing(world):
        seen = row.pop("seen") + 1
        identifier = row.pop("id")
        fault = Fault(**{**row, "effect": Effect(row["effect"]), "program_only": bool(row["program_only"])})
        if not fault.matches(provider, method, target, consumer=consumer):
            continue
        with world.database:
            world.database.execute("UPDATE faults SET seen = ? WHERE id = ?", (seen, identifier))
        if hit is None and fault.nth <= seen < fault.nth + fault.count:
            hit = fault
    return hit
