"""Databases in the management API (contract: providers.md section 4; tests/specs/upstash-developer-api.yml).

A database shows its password and REST tokens when it is asked for by its id, without `credentials=hide` and without
Credential Protection (setting); a list never shows them, which Upstash does not settle. Each environment has one, with a
Redis of its own behind it. None can be created or deleted here.

A reset replaces the password and both REST tokens at once (Upstash documentation, "Credential Protection": they "stop
working at once"). It is not idempotent: a repeated one makes yet another password. Whether it ends the open
connections is not documented; here it does, unless the setting `upstash.reset_keeps_connections` says otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox import environments
from sandbox.upstash import acl, settings
from sandbox.upstash.wire import Call, UpstashError
from sandbox.world import HOST, random_token, sha256, timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.upstash.wire import Handler
    from sandbox.world import World

REST_TOKEN: Final = "UPSTASH_REDIS_REST_TOKEN"  # noqa: S105 - the name under which it is kept
REGION: Final = "us-east-1"


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database with the credentials of its user `default`."""

    id: str
    name: str
    created_at: datetime
    credentials: dict[str, str]

    @property
    def password(self) -> str:
        """Of the user `default`."""
        return self.credentials["password"]


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS upstash_databases (
                id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at TEXT NOT NULL, credentials BLOB NOT NULL
            )
            """
        )


def _database(world: World, row: sqlite3.Row) -> Database:
    return Database(
        id=row["id"],
        name=row["name"],
        created_at=datetime.fromisoformat(row["created_at"]),
        credentials=json.loads(world.unseal(row["credentials"])),
    )


def all_of(world: World) -> list[Database]:
    """Return every database."""
    return [_database(world, row) for row in world.database.execute("SELECT * FROM upstash_databases ORDER BY rowid")]


def _get(world: World, identifier: str) -> Database:
    for database in all_of(world):
        if database.id == identifier:
            return database
    raise UpstashError(404, "database not found")


def add(world: World, name: str, *, identifier: str) -> Database:
    """Record a database; the server gets its user with `acl.resume`."""
    credentials = _new_credentials()
    with world.database:
        world.database.execute(
            "INSERT INTO upstash_databases VALUES (?, ?, ?, ?)",
            (identifier, name, timestamp(world.now()), world.seal(json.dumps(credentials).encode())),
        )
    database = _get(world, identifier)
    settle(world, database)
    return database


def _new_credentials() -> dict[str, str]:
    return {
        "password": random_token("AW"),
        "rest_token": random_token("AX"),
        "read_only_rest_token": random_token("Ah"),
    }


def settle(world: World, database: Database) -> None:
    """Let the user `default` and the credentials follow from what the database's row says, and from it alone.

    A reset is one write of that row; whatever a killed sandbox left undone after it is done at the next start.
    """
    for member, kind in (
        ("password", acl.PASSWORD),
        ("rest_token", acl.REST),
        ("read_only_rest_token", acl.REST_READ_ONLY),
    ):
        acl.issue(
            world,
            database=database.id,
            user=acl.DEFAULT,
            kind=kind,
            name=f"{database.name} {member}",
            value=database.credentials[member],
            password_sha256=sha256(database.password),
        )
    owner = next(
        (each for each in environments.of(world) if each.upstash_database == database.id), environments.DEFAULT
    )
    world.keep(owner.key(REST_TOKEN), database.credentials["rest_token"])
    acl.write(world, database.id, acl.DEFAULT, ["on", f"#{sha256(database.password)}", "~*", "&*", "+@all"])


def _shape(world: World, database: Database, *, credentials: bool) -> dict[str, Any]:
    paid = bool(world.number(settings.ACL_ENABLED))
    bare = bool(world.number(settings.BARE_ENDPOINT))
    shape = {
        "database_id": database.id,
        "database_name": database.name,
        "region": "global",
        "port": world.port(environments.redis_of(world, database.id)),
        "creation_time": int(database.created_at.timestamp()),
        "state": "active",
        "modifying_state": "",
        "endpoint": "beloved-stallion-58500" if bare else HOST,
        "tls": False,
        "type": "paid" if paid else "free",
        "budget": 360,
        "primary_region": REGION,
        "primary_members": [REGION],
        "all_members": [REGION],
        "eviction": False,
        "auto_upgrade": False,
        "consistent": False,
        "db_max_clients": 10000,
        "db_max_request_size": 10485760,
        "db_disk_threshold": 107374182400,
        "db_max_entry_size": 104857600,
        "db_memory_threshold": 3221225472,
        "db_max_commands_per_second": 10000,
        "db_request_limit": 8024278031528736858,
        "db_acl_enabled": "true" if paid else "false",
        "db_acl_default_user_status": "true",
    }
    return {**shape, **database.credentials} if credentials else shape


async def list_all(call: Call) -> Response:
    """`GET /redis/databases`."""
    return JSONResponse([_shape(call.world, database, credentials=False) for database in all_of(call.world)])


async def retrieve(call: Call) -> Response:
    """`GET /redis/database/{id}`."""
    database = _get(call.world, call.path("id"))
    hidden = call.request.query_params.get("credentials") == "hide"
    shown = not hidden and not call.world.number(settings.CREDENTIAL_PROTECTION)
    return JSONResponse(_shape(call.world, database, credentials=shown))


async def reset_password(call: Call) -> Response:
    """`POST /redis/reset-password/{id}`: another password and other REST tokens, and the ones before are dead."""
    world = call.world
    before = _get(world, call.path("id"))
    credentials = _new_credentials()
    # The server first: what was not answered may be lost, what was answered must hold.
    acl.reset_default(world, before.id, credentials["password"])
    with world.database:
        world.database.execute(
            "UPDATE upstash_databases SET credentials = ? WHERE id = ?",
            (world.seal(json.dumps(credentials).encode()), before.id),
        )
    database = _get(world, before.id)
    settle(world, database)
    shown = bool(world.number(settings.RESET_SHOWS_CREDENTIALS))
    return JSONResponse(_shape(world, database, credentials=shown))


ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/redis/databases", list_all),
    ("GET", "/redis/database/{id}", retrieve),
    ("POST", "/redis/reset-password/{id}", reset_password),
]
