"""A tenant's use of its `DATABASE_URL`: whether the organization's own database answers.

psycopg is imported at the first use, as in `database.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.processes.database import TIMEOUT, refused

if TYPE_CHECKING:
    from collections.abc import Callable


def check(url: str, report: Callable[[str], None]) -> tuple[int, dict[str, str]]:
    """Connect, ask for the time, and return status and answer; a refused credential is reported."""
    if not url.startswith(("postgres://", "postgresql://")):
        return 501, {"error": "DATABASE_URL is not a postgresql:// URL"}
    import psycopg  # noqa: PLC0415 - see the module's docstring

    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT) as connection:
            connection.execute("SELECT now()")
            return 200, {"database": connection.info.dbname}
    except psycopg.Error as error:
        # Not its text: it may hold parts of the URL.
        if refused(error):
            report("postgres: the credential of DATABASE_URL was refused")
            return 503, {"error": "the database refused the credential"}
        return 503, {"error": f"the database does not answer: {type(error).__name__}"}
