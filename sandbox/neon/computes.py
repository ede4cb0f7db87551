"""What stands behind branches: databases and roles of the sandbox's PostgreSQL (`sandbox/postgres.py`).

A write of the API records what is to become of them (`enqueue`), due when its last operation is over; until then the
old password is good, and the operation is not over before it has been done. The record survives a kill. Operations
that end badly (`neon.operation_outcome`) change nothing here, though the API shows the new password.

Contract: providers.md section 1, "Postgres role passwords": when roles change, connections to the compute are dropped,
unless the setting `neon.keep_connections` is 1.

Deviation: all branches share one server, where names are unique. So the first branch of the sandbox (molecule-cp's)
has the names that the API shows; any other branch's database is called `neondb-<branch>`, and its roles
`<role>-<branch>`, as its connection URIs say. A child begins empty, and a branch has its database at once.

The branches of tenants that a sandbox begins with (`add_shared`) have roles of their own but one database between them:
a database is 7 MB and there may be a thousand. Nobody but who looks for the others' tables notices.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sandbox import postgres
from sandbox.neon import settings
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.world import World

DATABASE: Final = postgres.FIRST_DATABASE
SHARED: Final = f"{DATABASE}-shared"
"""The database of branches that have none of their own."""
OWNER: Final = "neondb_owner"
"""The role that every project begins with; it owns `DATABASE`."""
EFFECTIVE: Final = frozenset({"finished", "skipped"})
_LONGEST_NAME: Final = 63


class Action(StrEnum):
    """What is to be done at PostgreSQL."""

    CREATE_BRANCH = "create_branch"
    DELETE_BRANCH = "delete_branch"
    SET_ROLE = "set_role"
    """Create it or change its password, to the one that is stored."""
    DROP_ROLE = "drop_role"


@dataclass(frozen=True, kw_only=True)
class Change:
    """An action with all that it needs, so that it can run in another thread than the world's."""

    action: Action
    database: str
    roles: dict[str, str | None]
    """Passwords by name, as PostgreSQL knows them."""
    owner: str
    drop_connections: bool
    shared: bool
    """Whether the database is other branches', too."""


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS neon_changes (
                id INTEGER PRIMARY KEY, project TEXT NOT NULL, operation TEXT, due TEXT NOT NULL, action TEXT NOT NULL,
                branch TEXT NOT NULL, roles TEXT NOT NULL
            )
            """
        )
        world.database.execute("CREATE TABLE IF NOT EXISTS neon_shared (branch TEXT PRIMARY KEY)")


def _first(world: World, branch: str) -> bool:
    row = world.database.execute("SELECT id FROM neon_branches ORDER BY rowid LIMIT 1").fetchone()
    return row is not None and row["id"] == branch


def database_name(world: World, branch: str) -> str:
    """Return what PostgreSQL calls the database of a branch."""
    if _shared(world, branch):
        return SHARED
    return DATABASE if _first(world, branch) else f"{DATABASE}-{branch}"


def _shared(world: World, branch: str) -> bool:
    found = world.database.execute("SELECT 1 FROM neon_shared WHERE branch = ?", (branch,)).fetchone()
    return found is not None


def add_shared(world: World, branches: list[str], password: str) -> None:
    """Let branches, whose owners have this password, share one database, at once."""
    with world.database:
        world.database.executemany("INSERT INTO neon_shared VALUES (?)", [(branch,) for branch in branches])
    from sandbox import connections  # noqa: PLC0415 - see there
    from sandbox.neon import statements  # noqa: PLC0415

    owners = [role_name(world, branch, OWNER) for branch in branches]
    statements.create_shared(connections.parameters(world), SHARED, owners, password)


def role_name(world: World, branch: str, role: str) -> str:
    """Return what PostgreSQL calls the role of a branch."""
    if _first(world, branch):
        return role
    name = f"{role}-{branch}"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{hashlib.sha256(role.encode()).hexdigest()[:24]}-{branch}"
    return name


def enqueue(
    world: World, action: Action, *, project: str, branch: str, roles: list[str], operation: str | None, due: datetime
) -> None:
    """Record what is to be done from `due` on, when `operation` is over."""
    with world.database:
        world.database.execute(
            "INSERT INTO neon_changes (project, operation, due, action, branch, roles) VALUES (?, ?, ?, ?, ?, ?)",
            (project, operation, timestamp(due), action, branch, json.dumps(roles)),
        )


def pending(world: World, *, project: str | None = None, operation: str | None = None) -> bool:
    """Tell whether something is still to be done for a project, or for an operation."""
    row = world.database.execute(
        "SELECT 1 FROM neon_changes WHERE project = coalesce(?, project) AND operation IS coalesce(?, operation)",
        (project, operation),
    ).fetchone()
    return row is not None


def owns_objects(world: World, *, branch: str, role: str) -> bool:
    """Tell whether a role owns something in its branch's database."""
    from sandbox import connections  # noqa: PLC0415 - see there

    with connections.connect(world) as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_shdepend, pg_roles WHERE refobjid = pg_roles.oid AND deptype = 'o' AND rolname = %s",
            (role_name(world, branch, role),),
        ).fetchone()
    return found is not None


class Computes:
    """Does what was recorded, in its order, one after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._turn = asyncio.Lock()

    async def settle(self) -> None:
        """Do what is due, and see to it that the rest is done when it is."""
        world = self._world
        async with self._turn:
            waiting = set()
            for row in world.database.execute("SELECT * FROM neon_changes ORDER BY id").fetchall():
                wait = (datetime.fromisoformat(row["due"]) - world.now()).total_seconds()
                if row["project"] in waiting:
                    continue  # nothing overtakes what was asked for before
                if wait > 0:
                    waiting.add(row["project"])
                    world.spawn(self._later(wait))
                else:
                    await self._do(row)

    async def _later(self, wait: float) -> None:
        await asyncio.sleep(wait)
        await self.settle()

    async def _do(self, row: sqlite3.Row) -> None:
        world, change = self._world, self._change(row)
        failed = False
        from sandbox import connections  # noqa: PLC0415 - see there
        from sandbox.neon import statements  # noqa: PLC0415

        try:
            await asyncio.to_thread(statements.carry_out, connections.parameters(world), change)
        except connections.Error as error:
            failed = True
            # Not its text: PostgreSQL quotes what it was sent.
            sys.stderr.write(f"PostgreSQL did not {change.action} of {row['branch']}: {type(error).__name__}\n")
        with world.database:
            if failed and row["operation"] is not None:
                world.database.execute(
                    "UPDATE neon_operations SET outcome = 'failed' WHERE id = ?", (row["operation"],)
                )
            world.database.execute("DELETE FROM neon_changes WHERE id = ?", (row["id"],))

    def _change(self, row: sqlite3.Row) -> Change:
        world, branch = self._world, row["branch"]
        stored = {
            each["name"]: world.unseal(each["sealed_password"]).decode()
            for each in world.database.execute("SELECT * FROM neon_roles WHERE branch = ?", (branch,))
        }
        return Change(
            action=Action(row["action"]),
            database=database_name(world, branch),
            roles={role_name(world, branch, name): stored.get(name) for name in json.loads(row["roles"])},
            owner=role_name(world, branch, OWNER),
            drop_connections=not world.number(settings.KEEP_CONNECTIONS),
            shared=_shared(world, branch),
        )
