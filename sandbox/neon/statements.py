"""What is said to PostgreSQL to make it what Neon's API says it is; see `computes.py`.

Runs in a thread of its own, and is imported only there: see `sandbox/connections.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from sandbox import postgres
from sandbox.connections import set_password, verifier_of
from sandbox.neon.computes import Action

if TYPE_CHECKING:
    from sandbox.connections import Connection
    from sandbox.neon.computes import Change


def carry_out(parameters: dict[str, Any], change: Change) -> None:
    """Do it. Raises `connections.Error`; what was done before that stays, and is not done twice by another attempt."""
    with psycopg.connect(**parameters) as connection:
        database = sql.Identifier(change.database)
        match change.action:
            case Action.CREATE_BRANCH:
                _create_roles(connection, change)
                _create_database(connection, change)
                _arm_roles(connection, change)
            case Action.DELETE_BRANCH if change.shared:
                _retire_roles(connection, parameters, change)
            case Action.DELETE_BRANCH:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
                for role in change.roles:
                    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
            case Action.SET_ROLE:
                _create_roles(connection, change)
                _arm_roles(connection, change)
                _drop_connections(connection, change)
            case Action.DROP_ROLE:
                _retire_roles(connection, parameters, change)


def create_shared(parameters: dict[str, Any], name: str, owners: list[str], password: str) -> None:
    """Create a database that many branches share, and a role for each, all with one password. Raises as `carry_out`."""
    with psycopg.connect(**parameters) as connection:
        database, group = sql.Identifier(name), sql.Identifier(postgres.ROLE_GROUP)
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1 STRATEGY FILE_COPY").format(database))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        connection.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(database, group))
        # The verifier does not depend on the role's name, and takes a thousand times as long as the statement.
        verifier = sql.Literal(verifier_of(connection, name, password))
        with connection.transaction():
            for owner in owners:
                role = sql.Identifier(owner)
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {} PASSWORD {}").format(role, group, verifier))


def _retire_roles(connection: Connection, parameters: dict[str, Any], change: Change) -> None:
    # Nobody may come back between the end of the connections and the end of the role.
    for role in _present(connection, change.roles):
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
    _drop_connections(connection, change)
    _drop_roles(parameters, change)


def _present(connection: Connection, roles: dict[str, str | None]) -> list[str]:
    found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (list(roles),))
    return [row[0] for row in found]


def _create_database(connection: Connection, change: Change) -> None:
    database, owner = sql.Identifier(change.database), sql.Identifier(change.owner)
    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (change.database,)).fetchone()
    if known is None:
        # Copying files is quicker than logging pages, and nobody else writes to the template.
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template1 STRATEGY FILE_COPY").format(database, owner)
        )
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    else:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))


def _create_roles(connection: Connection, change: Change) -> None:
    """Create those that are not there yet, without a password: nobody can log in with them."""
    for role in set(change.roles) - set(_present(connection, change.roles)):
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(role), sql.Identifier(postgres.ROLE_GROUP))
        )


def _arm_roles(connection: Connection, change: Change) -> None:
    """Let the roles in: to the branch's database, with their passwords."""
    for role, password in change.roles.items():
        connection.execute(
            sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(sql.Identifier(change.database), sql.Identifier(role))
        )
        if password is not None:
            set_password(connection, role, password)


def _drop_roles(parameters: dict[str, Any], change: Change) -> None:
    with psycopg.connect(**{**parameters, "dbname": change.database}) as connection:
        for role in _present(connection, change.roles):
            # What it was granted, not what it owns: who owns something is not deleted (`owns_objects`).
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _drop_connections(connection: Connection, change: Change) -> None:
    if change.drop_connections:
        connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = %s AND usename <> %s AND (NOT %s OR usename = ANY(%s))
            """,
            (change.database, postgres.ADMINISTRATOR, change.shared, list(change.roles)),
        )
