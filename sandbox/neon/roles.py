"""PostgreSQL roles of branches as the API knows them; what PostgreSQL knows of them is made in `computes.py`.

Contract: providers.md section 1, "Postgres role passwords". A password is stored, and so revealed and part of the
connection URI, from the moment of the reset, though only the old one is good until the operation is over.

Deviation: a connection URI names 127.0.0.1 instead of the compute's host, has no TLS, and there is no pooler: with
`pooled=true` it is the same. What it calls database and role is told in `computes.py`.
"""

from __future__ import annotations

import secrets
import urllib.parse
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sandbox import postgres
from sandbox.neon import computes
from sandbox.neon.wire import NeonError, iso
from sandbox.world import HOST, timestamp

if TYPE_CHECKING:
    from sandbox.world import World

OWNER: Final = computes.OWNER
DATABASE: Final = computes.DATABASE
LONGEST_NAME: Final = 63
"""Bytes."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role of one branch."""

    branch: str
    name: str
    sealed_password: bytes
    created_at: datetime
    updated_at: datetime


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS neon_roles (
                branch TEXT NOT NULL, name TEXT NOT NULL, sealed_password BLOB NOT NULL, created_at TEXT NOT NULL,
                updated_at TEXT NOT NULL, PRIMARY KEY (branch, name)
            )
            """
        )


def listing(world: World, branch: str) -> list[Role]:
    """Return a branch's roles, oldest first."""
    return [
        Role(
            branch=row["branch"],
            name=row["name"],
            sealed_password=row["sealed_password"],
            created_at=datetime.fromisoformat(row["created_at"]),
            updated_at=datetime.fromisoformat(row["updated_at"]),
        )
        for row in world.database.execute("SELECT * FROM neon_roles WHERE branch = ? ORDER BY rowid", (branch,))
    ]


def get(world: World, *, branch: str, name: str) -> Role:
    """Return a role. Raises `NeonError` 404."""
    for role in listing(world, branch):
        if role.name == name:
            return role
    raise NeonError(404, "role not found")


def _new_password() -> str:
    return f"npg_{secrets.token_hex(12)}"


def add(world: World, *, branch: str, name: str) -> str:
    """Create a role and return its password."""
    password, now = _new_password(), timestamp(world.now())
    with world.database:
        world.database.execute(
            "INSERT INTO neon_roles VALUES (?, ?, ?, ?, ?)", (branch, name, world.seal(password.encode()), now, now)
        )
    return password


def reset(world: World, *, branch: str, name: str) -> str:
    """Give a role a new password and return it."""
    password = _new_password()
    with world.database:
        world.database.execute(
            "UPDATE neon_roles SET sealed_password = ?, updated_at = ? WHERE branch = ? AND name = ?",
            (world.seal(password.encode()), timestamp(world.now()), branch, name),
        )
    return password


def delete(world: World, *, branch: str, name: str) -> None:
    """Delete a role."""
    with world.database:
        world.database.execute("DELETE FROM neon_roles WHERE branch = ? AND name = ?", (branch, name))


def copy(world: World, *, source: str, target: str) -> None:
    """Give a new branch its parent's roles. What happens to the parent's later does not reach them."""
    with world.database:
        world.database.execute(
            """
            INSERT INTO neon_roles (branch, name, sealed_password, created_at, updated_at)
            SELECT ?, name, sealed_password, created_at, updated_at FROM neon_roles WHERE branch = ?
            """,
            (target, source),
        )


def password(world: World, role: Role) -> str:
    """Return a role's stored password."""
    return world.unseal(role.sealed_password).decode()


def uri(world: World, *, branch: str, role: str) -> str:
    """Return the connection URI of a role, which holds its password. Raises `NeonError` 404."""
    secret = password(world, get(world, branch=branch, name=role))
    name = urllib.parse.quote(computes.role_name(world, branch, role), safe="")
    address = f"{HOST}:{world.port(postgres.SERVICE)}"
    return f"postgresql://{name}:{secret}@{address}/{computes.database_name(world, branch)}?sslmode=disable"


def role_json(role: Role) -> dict[str, Any]:
    """Return a role as the API shows it, without its password."""
    return {
        "branch_id": role.branch,
        "name": role.name,
        "protected": False,
        "authentication_method": "password",
        "created_at": iso(role.created_at),
        "updated_at": iso(role.updated_at),
    }
