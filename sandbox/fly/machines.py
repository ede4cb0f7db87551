"""Machines as the database knows them: configuration, environment, events, leases, rollouts.

`supervisor.py` runs their processes, `machines_api.py` serves them. Configurations and environments are sealed: a
tenant's configuration holds secrets.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from sandbox.fly import secrets as app_secrets
from sandbox.fly.errors import Refusal
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from sandbox.fly.apps import App
    from sandbox.world import World

REGION: Final = "iad"
EVENTS_SHOWN: Final = 20
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class State(StrEnum):
    """A machine's state (fly.md 2.1); the sandbox uses no others."""

    CREATED = "created"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    RESTARTING = "restarting"
    REPLACING = "replacing"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


GONE: Final = frozenset({State.DESTROYING, State.DESTROYED})
SETTLED: Final = frozenset({State.CREATED, State.STARTED, State.STOPPED, State.DESTROYED})


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a health check. `instance` is the machine version that it was seen on; empty before any."""

    name: str
    status: str
    output: str
    updated_at: str
    instance: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as of one reading of the database."""

    id: str
    app: str
    name: str
    region: str
    state: State
    instance_id: str
    """Also its version: a new one with every update."""
    content: int
    """The version of the app's secrets' content that `environment` holds; -1 without secrets."""
    desired: State
    """`started` if the sandbox's next start boots it."""
    cordoned: bool
    checks: tuple[Check, ...]
    restart_count: int
    created_at: str
    updated_at: str
    process: int | None
    process_started: float | None
    sealed_config: bytes
    sealed_environment: bytes
    sealed_booted: bytes
    world: World = field(repr=False, compare=False)

    # Unsealed when asked for: most readers of many machines want neither.

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, as its client wrote it."""
        return unseal(self.world, self.sealed_config)

    @functools.cached_property
    def environment(self) -> dict[str, str]:
        """What the next boot gets: fixed by creation and update, not by start or restart."""
        return unseal(self.world, self.sealed_environment)

    @functools.cached_property
    def booted(self) -> dict[str, str]:
        """What the running process got; of a machine that does not run, the same as `environment`."""
        return unseal(self.world, self.sealed_booted)

    @property
    def healthy(self) -> bool:
        """Tell whether it is started and its current version passes all its checks."""
        return self.state is State.STARTED and all(
            check.status == "passing" and check.instance == self.instance_id for check in self.checks
        )

    @property
    def healthy_since(self) -> str | None:
        """When the last of its checks began to pass, RFC 3339; None for a machine that is not healthy or has no checks."""
        return max((check.updated_at for check in self.checks), default=None) if self.healthy else None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to change a machine. `expires_at` is in Unix seconds."""

    nonce: str
    owner: str
    description: str
    expires_at: int
    version: str


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        for statement in (
            """
            CREATE TABLE IF NOT EXISTS fly_machines (
                id TEXT PRIMARY KEY, app TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL, state TEXT NOT NULL,
                instance_id TEXT NOT NULL, config BLOB NOT NULL, environment BLOB NOT NULL, booted BLOB NOT NULL,
                content INTEGER NOT NULL, desired TEXT NOT NULL, cordoned INTEGER NOT NULL DEFAULT 0,
                checks TEXT NOT NULL DEFAULT '[]', restart_count INTEGER NOT NULL DEFAULT 0,
                created_at TEXT NOT NULL, updated_at TEXT NOT NULL, process INTEGER, process_started REAL
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS fly_machine_versions (
                machine TEXT NOT NULL, instance_id TEXT NOT NULL, config BLOB NOT NULL, created_at TEXT NOT NULL,
                PRIMARY KEY (machine, instance_id)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS fly_machine_events (
                id TEXT PRIMARY KEY, machine TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL,
                source TEXT NOT NULL, timestamp INTEGER NOT NULL, request TEXT
            )
            """,
            "CREATE INDEX IF NOT EXISTS fly_events_of_machine ON fly_machine_events (machine, id)",
            """
            CREATE TABLE IF NOT EXISTS fly_leases (
                machine TEXT PRIMARY KEY, nonce TEXT NOT NULL, owner TEXT NOT NULL, description TEXT NOT NULL,
                expires_at INTEGER NOT NULL, version TEXT NOT NULL
            )
            """,
            "CREATE TABLE IF NOT EXISTS fly_rollouts (app TEXT NOT NULL, content INTEGER NOT NULL, UNIQUE (app, content))",
        ):
            world.database.execute(statement)


def ulid() -> str:
    """Return a new ULID: 26 characters that sort by time."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def seal(world: World, document: Mapping[str, Any]) -> bytes:
    """Seal a JSON document."""
    return world.seal(json.dumps(document).encode())


def unseal(world: World, sealed: bytes) -> dict[str, Any]:
    """Open a document that `seal` made."""
    document: dict[str, Any] = json.loads(world.unseal(sealed))
    return document


def _machine(world: World, row: sqlite3.Row) -> Machine:
    columns = dict(row)
    sealed = {f"sealed_{name}": columns.pop(name) for name in ("config", "environment", "booted")}
    return Machine(
        **{
            **columns,
            **sealed,
            "world": world,
            "state": State(row["state"]),
            "desired": State(row["desired"]),
            "cordoned": bool(row["cordoned"]),
            "checks": tuple(Check(**check) for check in json.loads(row["checks"])),
        }
    )


def find(world: World, identifier: str) -> Machine | None:
    """Return a machine, destroyed ones too."""
    row = world.database.execute("SELECT * FROM fly_machines WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else _machine(world, row)


def get(world: World, identifier: str) -> Machine:
    """Return a machine that is known to exist. Raises `LookupError`."""
    machine = find(world, identifier)
    if machine is None:
        raise LookupError(identifier)
    return machine


def listing(world: World, app: str | None = None, *, gone: bool = False, only: str | None = None) -> list[Machine]:
    """Return the machines (of an app), by id; destroyed ones only with `gone`; `only` names an id or a version."""
    rows = world.database.execute(
        "SELECT * FROM fly_machines WHERE app = coalesce(?, app) AND (? OR state != 'destroyed') ORDER BY id"
        if only is None
        else """
            SELECT * FROM fly_machines WHERE app = coalesce(?, app) AND (? OR state != 'destroyed')
                AND (id = ? OR instance_id = ?)
            """,
        (app, gone) if only is None else (app, gone, only, only),
    )
    return [_machine(world, row) for row in rows.fetchall()]


def change(world: World, identifier: str, **columns: Any) -> None:  # noqa: ANN401 - columns of different types
    """Write columns of a machine, and `updated_at`."""
    columns["updated_at"] = timestamp(world.now())
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    with world.database:
        world.database.execute(
            f"UPDATE fly_machines SET {assignments} WHERE id = :id",  # noqa: S608 - our own column names
            {**columns, "id": identifier},
        )


def checks_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the checks that a configuration asks for, by the name under which their results appear."""
    checks = dict(config.get("checks") or {})
    for index, service in enumerate(config.get("services") or []):
        for check in service.get("checks") or []:
            kind, port = check.get("type", "tcp"), check.get("port") or service.get("internal_port")
            checks[f"servicecheck-{index:02d}-{kind}-{port}"] = check
    return checks


def waiting_checks(world: World, config: Mapping[str, Any]) -> str:
    """Return what the checks of a machine show before their first result, as the column `checks` holds it."""
    now = timestamp(world.now())
    return json.dumps(
        [
            {
                "name": name,
                "status": "warning",
                "output": "waiting for status update",
                "updated_at": now,
                "instance": "",
            }
            for name in sorted(checks_of(config))
        ]
    )


def environment(
    world: World,
    app: App,
    *,
    machine: str,
    config: Mapping[str, Any],
    skip_secrets: bool,
    min_secrets_version: int | None,
) -> tuple[dict[str, str], int]:
    """Return what a machine created or updated now boots with, and the content version of the secrets in it.

    The machine's own environment, then the app's secrets as of the newest available version, then Fly's names. Raises
    `Refusal` 412 if `min_secrets_version` is not available yet (text: fly.md 1.3).
    """
    version = app_secrets.available(world, app)
    if min_secrets_version is not None and min_secrets_version > version:
        raise Refusal(412, f"min_secrets_version {min_secrets_version} is not yet available on this app")
    values = {str(name): str(value) for name, value in (config.get("env") or {}).items()}
    if not skip_secrets:
        values |= {secret.name: secret.value for secret in app_secrets.snapshot(world, app, version)}
    values |= {"FLY_APP_NAME": app.name, "FLY_MACHINE_ID": machine}
    return values, -1 if skip_secrets else app_secrets.content(world, app, version)


def create(
    world: World,
    app: App,
    *,
    config: dict[str, Any],
    name: str | None,
    region: str | None,
    launch: bool,
    skip_secrets: bool = False,
    min_secrets_version: int | None = None,
) -> Machine:
    """Record a new machine; the supervisor boots it. Raises `Refusal` 409 for a name in use, 412 as `environment`."""
    identifier = secrets.token_hex(7)
    values, content = environment(
        world,
        app,
        machine=identifier,
        config=config,
        skip_secrets=skip_secrets,
        min_secrets_version=min_secrets_version,
    )
    taken = "SELECT 1 FROM fly_machines WHERE app = ? AND name = ? AND state != 'destroyed'"
    if name is not None and world.database.execute(taken, (app.name, name)).fetchone() is not None:
        raise Refusal(409, f"already_exists: unique machine name violation, machine named {name} already exists",
                      code="name_taken")  # fmt: skip
    instance, now, sealed = ulid(), timestamp(world.now()), seal(world, values)
    with world.database:
        world.database.execute(
            """
            INSERT INTO fly_machines (id, app, name, region, state, instance_id, config, environment, booted, content,
                                      desired, checks, created_at, updated_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                identifier,
                app.name,
                name or f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.randbelow(9000) + 1000}",
                region or REGION,
                State.CREATED,
                instance,
                seal(world, config),
                sealed,
                sealed,
                content,
                State.STARTED if launch else State.STOPPED,
                waiting_checks(world, config),
                now,
                now,
            ),
        )
        world.database.execute(
            "INSERT INTO fly_machine_versions VALUES (?, ?, ?, ?)", (identifier, instance, seal(world, config), now)
        )
    record_event(world, identifier, kind="launch", status="created", source="user")
    return get(world, identifier)


_ADJECTIVES: Final = ("autumn", "bold", "cold", "dark", "empty", "fragrant", "late", "polished", "summer", "wispy")
_NOUNS: Final = ("breeze", "brook", "cloud", "dew", "field", "leaf", "meadow", "pine", "river", "surf")


def update(
    world: World,
    app: App,
    machine: Machine,
    *,
    config: dict[str, Any],
    launch: bool,
    skip_secrets: bool,
    min_secrets_version: int | None,
) -> Machine:
    """Record a machine's new version; the supervisor replaces the process. Raises `Refusal` 412 as `environment`.

    Counts a rollout, see `rollouts`.
    """
    values, content = environment(
        world,
        app,
        machine=machine.id,
        config=config,
        skip_secrets=skip_secrets,
        min_secrets_version=min_secrets_version,
    )
    instance = ulid()
    change(
        world,
        machine.id,
        config=seal(world, config),
        environment=seal(world, values),
        content=content,
        instance_id=instance,
        desired=State.STARTED if launch else State.STOPPED,
        state=State.REPLACING,
        restart_count=0,
    )
    if not world.number("stale_checks"):
        change(world, machine.id, checks=waiting_checks(world, config))
    with world.database:
        world.database.execute(
            "INSERT INTO fly_machine_versions VALUES (?, ?, ?, ?)",
            (machine.id, instance, seal(world, config), timestamp(world.now())),
        )
        if content not in {-1, machine.content}:
            world.database.execute("INSERT OR IGNORE INTO fly_rollouts VALUES (?, ?)", (app.name, content))
    record_event(world, machine.id, kind="update", status="replacing", source="user")
    return get(world, machine.id)


def rollouts(world: World, app: str) -> int:
    """Return how many times new secrets were rolled out to the app's machines.

    Precisely: the number of distinct contents of the app's secrets that a machine was *updated* to from another
    content. So one rolling restart over all machines is 1 however many secrets it delivers, a roll-back is 1 more, and
    neither creation, restart, an update without new secrets, nor a write that changes no value (`flyctl secrets sync`
    unsets a name that does not exist) counts. Changes to a machine's own `config.env` are no secrets of the app.
    """
    row = world.database.execute("SELECT count(*) FROM fly_rollouts WHERE app = ?", (app,)).fetchone()
    return int(row[0])


def version_config(world: World, machine: str, instance: str) -> dict[str, Any] | None:
    """Return the configuration of one of a machine's versions."""
    row = world.database.execute(
        "SELECT config FROM fly_machine_versions WHERE machine = ? AND instance_id = ?", (machine, instance)
    ).fetchone()
    return None if row is None else unseal(world, row["config"])


def versions(world: World, machine: str) -> list[dict[str, Any]]:
    """Return the versions of a machine, newest first."""
    rows = world.database.execute(
        "SELECT * FROM fly_machine_versions WHERE machine = ? ORDER BY instance_id DESC", (machine,)
    )
    return [{"version": row["instance_id"], "user_config": unseal(world, row["config"])} for row in rows.fetchall()]


def record_event(
    world: World, machine: str, *, kind: str, status: str, source: str, request: Mapping[str, Any] | None = None
) -> str:
    """Record an event and return its id. `source` is `user` or `flyd`."""
    identifier = ulid()
    with world.database:
        world.database.execute(
            "INSERT INTO fly_machine_events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                identifier,
                machine,
                kind,
                status,
                source,
                time.time_ns() // 1_000_000,
                None if request is None else json.dumps(request),
            ),
        )
    return identifier


def events(world: World, machine: str, limit: int = EVENTS_SHOWN) -> list[dict[str, Any]]:
    """Return a machine's last events, newest first; timestamps in milliseconds."""
    rows = world.database.execute(
        "SELECT * FROM fly_machine_events WHERE machine = ? ORDER BY timestamp DESC, rowid DESC LIMIT ?",
        (machine, limit),
    )
    found = []
    for row in rows.fetchall():
        event = {key: row[key] for key in ("id", "type", "status", "source", "timestamp")}
        if row["request"] is not None:
            event["request"] = json.loads(row["request"])
        found.append(event)
    return found


def lease(world: World, machine: str) -> Lease | None:
    """Return the lease that is held on a machine, if it has not expired."""
    row = world.database.execute(
        "SELECT nonce, owner, description, expires_at, version FROM fly_leases WHERE machine = ? AND expires_at > ?",
        (machine, time.time()),
    ).fetchone()
    return None if row is None else Lease(**row)


def require_lease(world: World, machine: str, nonce: str | None) -> None:
    """Raise `Refusal` 409 if somebody else holds a lease on the machine (text: fly.md 2.1)."""
    held = lease(world, machine)
    if held is not None and held.nonce != nonce:
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(held.expires_at))
        raise Refusal(409, f"machine ID {machine} lease currently held by {held.owner}, expires at {expires}")


def acquire_lease(
    world: World, machine: Machine, *, owner: str, nonce: str | None, seconds: int, description: str
) -> Lease:
    """Take the lease, or extend it with its nonce. Raises `Refusal` as `require_lease`."""
    require_lease(world, machine.id, nonce)
    held = lease(world, machine.id)
    taken = Lease(
        nonce=secrets.token_hex(6) if held is None else held.nonce,
        owner=owner if held is None else held.owner,
        description=description if held is None else held.description,
        expires_at=int(time.time()) + seconds,
        version=machine.instance_id,
    )
    with world.database:
        world.database.execute(
            "INSERT OR REPLACE INTO fly_leases VALUES (?, ?, ?, ?, ?, ?)",
            (machine.id, taken.nonce, taken.owner, taken.description, taken.expires_at, taken.version),
        )
    return taken


def release_lease(world: World, machine: str) -> None:
    """Give the lease up."""
    with world.database:
        world.database.execute("DELETE FROM fly_leases WHERE machine = ?", (machine,))
