"""Connections of the sandbox's own to its PostgreSQL, as the administrator.

Imports psycopg, which takes a tenth of a second: this module is imported only where a connection is made, so that no
command of the command line waits for it in vain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from sandbox import postgres
from sandbox.world import HOST

if TYPE_CHECKING:
    from sandbox.world import World

Connection = psycopg.Connection[tuple[Any, ...]]
Error: Final = psycopg.Error


def parameters(world: World, *, database: str = postgres.FIRST_DATABASE, password: str | None = None) -> dict[str, Any]:
    """Return what to connect with, for use in another thread than the world's. Every statement commits itself."""
    return {
        "host": HOST,
        "port": world.port(postgres.SERVICE),
        "user": postgres.ADMINISTRATOR,
        "password": (world.kept(postgres.PASSWORD) or "") if password is None else password,
        "dbname": database,
        "sslmode": "disable",
        "connect_timeout": 10,
        "application_name": "sandbox",
        "autocommit": True,
    }


def connect(world: World, *, password: str | None = None, database: str = postgres.FIRST_DATABASE) -> Connection:
    """Connect to a database, by default the first. Raises `Error`."""
    return psycopg.connect(**parameters(world, password=password, database=database))


def verifier_of(connection: Connection, role: str, password: str) -> str:
    """Return what PostgreSQL keeps of a password."""
    return connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()


def set_password(connection: Connection, role: str, password: str) -> None:
    """Set a role's password. What is sent is its verifier: no statement ever holds a password."""
    verifier = verifier_of(connection, role, password)
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))
