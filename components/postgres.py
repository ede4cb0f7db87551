"""Connections to a PostgreSQL server. No Pulumi here; psycopg is imported only when a server is asked.

No error carries a URI or what libpq says: its messages name host and user, and quote what is wrong with a URI.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from components.calls import ApiError

if TYPE_CHECKING:
    import psycopg

PASSWORD_REFUSED = ("28P01", "28000")  # invalid_password, invalid_authorization_specification
CONNECT_TIMEOUT = 15  # seconds; an idle compute of Neon wakes within a few
# A server that is gone without a word is noticed after about half a minute (libpq, "Parameter Key Words").
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
APPLICATION = "secret-rotation"


class PasswordRefusedError(ApiError):
    """The server takes neither the role nor its password."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL", "connect", status=None, reason="the role or its password is refused", sent=False)

    def __str__(self) -> str:
        return f"{self.system}: could not connect: {self.reason}"


def connect(uri: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connects. Every statement commits itself.

    Raises:
        PasswordRefusedError: The server takes neither the role nor its password.
        ApiError: There was no answer, or one that proves neither.
    """
    import psycopg  # noqa: PLC0415 - every update would pay for it

    # What it logs of a connection that is lost is libpq's own text; whoever asked gets an error.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    try:
        return psycopg.connect(
            uri, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name=APPLICATION, **KEEPALIVE
        )
    except psycopg.Error as error:
        if is_refusal(error.sqlstate, str(error)):
            raise PasswordRefusedError from None
        raise failure(error, "connect") from None


def failure(error: "psycopg.Error", operation: str) -> ApiError:
    """What is said of an error of psycopg: its class and SQLSTATE. To be raised `from None`."""
    reason = f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return ApiError("PostgreSQL", operation, status=None, reason=reason)


def accepts(uri: str) -> bool:
    """Whether the server takes the password of this URI, by connecting and selecting 1.

    Raises:
        ApiError: There was no answer, or one that proves neither. Never carries the URI.
    """
    import psycopg  # noqa: PLC0415

    try:
        with connect(uri) as connection:
            connection.execute("SELECT 1")
    except PasswordRefusedError:
        return False
    except psycopg.Error as error:
        raise failure(error, "connect") from None
    return True


def is_refusal(sqlstate: str | None, message: str) -> bool:
    """Whether a failure to connect says that the password or the role is refused: libpq gives no SQLSTATE while connecting."""
    if sqlstate in PASSWORD_REFUSED:
        return True
    return sqlstate is None and (
        "password authentication failed" in message
        or "no password supplied" in message  # the URI has none: Neon may not keep the role's
        or ('role "' in message and ("does not exist" in message or "not permitted to log in" in message))
    )


def tables_without_rights(uri: str) -> list[str]:
    """The tables of the database that this role may not read and write.

    Raises:
        ApiError: The server could not be asked.
    """
    import psycopg  # noqa: PLC0415

    query = """
        SELECT name FROM (SELECT format('%I.%I', schemaname, tablename) AS name, schemaname FROM pg_tables) tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND NOT (
            has_schema_privilege(schemaname, 'USAGE') AND has_table_privilege(name, 'SELECT')
            AND has_table_privilege(name, 'INSERT') AND has_table_privilege(name, 'UPDATE')
            AND has_table_privilege(name, 'DELETE')
        ) ORDER BY name
    """
    try:
        with psycopg.connect(uri, connect_timeout=CONNECT_TIMEOUT) as connection:
            return [str(row[0]) for row in connection.execute(query)]
    except psycopg.Error as error:
        raise ApiError("PostgreSQL", "ask for the role's rights", status=None, reason=type(error).__name__) from None


@contextmanager
def other_connections(uri: str) -> Iterator[Callable[[], int]]:
    """Gives a function that counts the server's connections of this URI's role, less its own.

    Raises:
        ApiError: The server could not be asked.
    """
    import psycopg  # noqa: PLC0415

    try:
        with connect(uri) as connection:

            def count() -> int:
                query = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
                row = connection.execute(query).fetchone()
                return int(row[0]) if row else 0

            yield count
    except psycopg.Error as error:
        raise failure(error, "ask for its connections") from None
