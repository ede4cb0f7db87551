"""A PostgreSQL of a test's own for the engine's state: on loopback, and with passwords only."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from sandbox import connections
from sandbox.postgres import SERVICE, Postgres
from sandbox.world import HOST, World

NAME = "pulumi_state"


@dataclass(frozen=True, kw_only=True)
class StateDatabase:
    """A database that holds the state of stacks, as a team's administrator makes it.

    Attributes:
        url: What `PULUMI_BACKEND_URL` is, with the password in it.
        password: That of its role.
    """

    url: str
    password: str

    def objects(self) -> dict[str, str]:
        """What the engine keeps there, by key, as it stands in the table."""
        with psycopg.connect(self.url) as connection:
            return dict(
                connection.execute(
                    "SELECT key, convert_from(decode(data->>'data', 'base64'), 'UTF8') FROM pulumi_state"
                )
            )


@contextlib.contextmanager
def state_database(directory: Path) -> Iterator[StateDatabase]:
    """Starts a server in `directory`, makes a role and its database, and stops the server at the end."""
    world = World(directory)
    server = Postgres(world)
    server.start(new=True)
    try:
        password = secrets.token_urlsafe(24)
        role = sql.Identifier(NAME)
        with connections.connect(world) as administrator:
            administrator.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            connections.set_password(administrator, NAME, password)
            administrator.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        address = f"{HOST}:{world.port(SERVICE)}/{NAME}?sslmode=disable"
        yield StateDatabase(url=f"postgres://{NAME}:{password}@{address}", password=password)
    finally:
        asyncio.run(server.stop())
        world.close()
