"""The organization and its apps."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.world import World

CONTROL_PLANE: Final = "molecule-cp"
TENANT: Final = "molecule-tenant"


@dataclass(frozen=True, kw_only=True)
class Organization:
    """A Fly organization. `identifier` is its GraphQL node id."""

    slug: str
    name: str
    identifier: str
    numeric: int


@dataclass(frozen=True, kw_only=True)
class App:
    """A Fly app. `identifier` is its GraphQL node id, `salt` goes into the digests of its secrets."""

    name: str
    identifier: str
    numeric: int
    organization: Organization
    salt: str
    created_at: str


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_organizations (
                slug TEXT PRIMARY KEY, name TEXT NOT NULL, identifier TEXT NOT NULL UNIQUE, numeric INTEGER NOT NULL
            )
            """
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_apps (
                name TEXT PRIMARY KEY, identifier TEXT NOT NULL UNIQUE, numeric INTEGER NOT NULL,
                organization TEXT NOT NULL, salt TEXT NOT NULL, created_at TEXT NOT NULL
            )
            """
        )


def create_organization(world: World, *, slug: str, name: str) -> None:
    """Create an organization."""
    with world.database:
        world.database.execute(
            "INSERT INTO fly_organizations VALUES (?, ?, ?, ?)", (slug, name, _identifier(), _number())
        )


def create(world: World, *, name: str, organization: str) -> None:
    """Create an app. Raises `sqlite3.IntegrityError` if the name is taken."""
    with world.database:
        world.database.execute(
            "INSERT INTO fly_apps VALUES (?, ?, ?, ?, ?, ?)",
            (name, _identifier(), _number(), organization, secrets.token_hex(16), timestamp(world.now())),
        )


def organization(world: World, *, slug: str | None = None, identifier: str | None = None) -> Organization | None:
    """Find an organization by its slug or its node id."""
    row = world.database.execute(
        "SELECT * FROM fly_organizations WHERE slug = ? OR identifier = ?", (slug, identifier)
    ).fetchone()
    return None if row is None else Organization(**row)


def find(world: World, *, name: str | None = None, identifier: str | None = None) -> App | None:
    """Find an app by its name or its node id."""
    row = world.database.execute(
        "SELECT * FROM fly_apps WHERE name = ? OR identifier = ?", (name, identifier)
    ).fetchone()
    return None if row is None else _app(world, row)


def listing(world: World, organization: str | None = None) -> list[App]:
    """Return all apps (of one organization, by its slug), by name."""
    rows = world.database.execute(
        "SELECT * FROM fly_apps WHERE organization = coalesce(?, organization) ORDER BY name", (organization,)
    )
    return [_app(world, row) for row in rows.fetchall()]


def _app(world: World, row: sqlite3.Row) -> App:
    owner = organization(world, slug=row["organization"])
    if owner is None:
        raise LookupError(row["organization"])
    columns: dict[str, Any] = dict(row)
    return App(**{**columns, "organization": owner})


def _identifier() -> str:
    return "".join(secrets.choice("023456789dgjklmnopqrvwxyz") for _ in range(16))


def _number() -> int:
    return 1_000_000 + secrets.randbelow(8_000_000)
