"""Probe of a database URL, before it is delivered: the server takes it, and its role may do what the control plane needs.

The URL comes on standard input.
"""

import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement
from components.calls import ApiError
from components.postgres import accepts, tables_without_rights
from components.verification import check


def probe(settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless the URL on standard input connects and answers `SELECT 1`.

    A role of the program's own (`every_table`) must be able to read and write every table: the control plane's may have been another one.
    """
    uri = sys.stdin.read()
    try:
        accepted = accepts(uri)
        forbidden = tables_without_rights(uri) if accepted and settings["every_table"] else []
    except ApiError as error:
        raise check.CheckFailedError(
            f"the new database URL could not be tried: {error}", contact=error.contact
        ) from None
    if not accepted:
        raise check.CheckFailedError("the database refuses the new role or password")
    if forbidden:
        raise check.CheckFailedError(f"the new role may not read and write {', '.join(forbidden)}: grant it that")
    check.progress("the database takes the new password")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=("the database takes it",))


if __name__ == "__main__":
    check.run(probe)
