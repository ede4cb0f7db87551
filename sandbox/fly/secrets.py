"""App secrets: versions, digests, what a machine boots with (contract: fly.md section 1).

Every write makes a new version of the whole set. The digest is salted per app and stable: equal values give equal
digests, other apps other ones. Whether Fly's is so is not established (fly.md 1.4): clients must treat it as opaque.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.world import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.fly.apps import App
    from sandbox.world import World

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class AppSecret:
    """A secret as of one version. Times are RFC 3339."""

    name: str
    value: str
    digest: str
    created_at: str
    updated_at: str


def install(world: World) -> None:
    """Create the tables.

    `content` is the version at which a value last changed: it stays when a write sets what was set, or unsets what was
    not there.
    """
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_secret_versions (
                app TEXT NOT NULL, version INTEGER NOT NULL, content INTEGER NOT NULL, written_at TEXT NOT NULL,
                PRIMARY KEY (app, version)
            )
            """
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_secret_values (
                app TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, sealed BLOB, created_at TEXT NOT NULL,
                updated_at TEXT NOT NULL, PRIMARY KEY (app, name, version)
            )
            """
        )


def write(world: World, app: App, values: Mapping[str, str | None]) -> int:
    """Set secrets, unset those whose value is `None` (a missing one is no error), and return the new version."""
    before = {secret.name: secret for secret in snapshot(world, app)}
    version = newest(world, app) + 1
    changed = any(
        before[name].value != value if name in before else value is not None for name, value in values.items()
    )
    now = timestamp(world.now())
    with world.database:
        world.database.execute(
            "INSERT INTO fly_secret_versions VALUES (?, ?, ?, ?)",
            (app.name, version, version if changed else content(world, app, version - 1), now),
        )
        world.database.executemany(
            "INSERT INTO fly_secret_values VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    app.name,
                    name,
                    version,
                    None if value is None else world.seal(value.encode()),
                    before[name].created_at if name in before else now,
                    now,
                )
                for name, value in values.items()
            ],
        )
    return version


def newest(world: World, app: App) -> int:
    """Return the version of the last write; 0 before the first."""
    row = world.database.execute("SELECT max(version) FROM fly_secret_versions WHERE app = ?", (app.name,)).fetchone()
    return row[0] or 0


def available(world: World, app: App) -> int:
    """Return the newest version that machines can boot with: written at least the setting `secrets_lag` ago."""
    until = world.now() - timedelta(seconds=world.number("secrets_lag"))
    rows = world.database.execute(
        "SELECT version, written_at FROM fly_secret_versions WHERE app = ? ORDER BY version DESC", (app.name,)
    )
    return next((row["version"] for row in rows if datetime.fromisoformat(row["written_at"]) <= until), 0)


def content(world: World, app: App, version: int) -> int:
    """Return the version at which the values of `version` were first so; see `install`."""
    row = world.database.execute(
        "SELECT content FROM fly_secret_versions WHERE app = ? AND version = ?", (app.name, version)
    ).fetchone()
    return 0 if row is None else row["content"]


def snapshot(world: World, app: App, version: int | None = None) -> list[AppSecret]:
    """Return the secrets as of a version (the newest by default), by name."""
    rows = world.database.execute(
        """
        SELECT name, sealed, created_at, updated_at, max(version) FROM fly_secret_values
        WHERE app = ? AND version <= ? GROUP BY name ORDER BY name
        """,
        (app.name, newest(world, app) if version is None else version),
    )
    found = []
    for row in rows.fetchall():
        if row["sealed"] is None:
            continue
        value = world.unseal(row["sealed"]).decode()
        found.append(
            AppSecret(
                name=row["name"],
                value=value,
                digest=digest(app, value),
                created_at=row["created_at"],
                updated_at=row["updated_at"],
            )
        )
    return found


def digest(app: App, value: str) -> str:
    """Return 16 hex digits that tell nothing of the value; see the module's docstring."""
    return hmac.new(bytes.fromhex(app.salt), value.encode(), hashlib.sha256).hexdigest()[:16]
