"""Verification of DATABASE_URL: the control plane reads its database with the new role and password.

The URL comes on standard input.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. The list of orgs, which is read from the database, is answered.
3. While it is, the server shows connections of the new role other than this check's own. With `reset` the role is the same as before, but then
   the old password is dead, and what answers has the new one.
"""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.announcement import Announcement, together
from components.control_plane.client import ControlPlaneClient
from components.postgres import other_connections
from components.verification import check
from components.verification.check import Deadline, Subject, progress
from components.verification.consumers import (
    ControlPlaneSettings,
    announce_machines,
    health_answers,
    machines_run_the_new_value,
    outage,
)


@dataclass(frozen=True, kw_only=True)
class Settings(ControlPlaneSettings):
    """What this verification is told.

    Attributes:
        overlaps: Whether the password before works beside the new one.
        prove_use: Whether the server has to show connections of the new role.
        timeout: Seconds for that.
    """

    overlaps: bool
    prove_use: bool
    timeout: float


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    uri = sys.stdin.read()
    fly, control_plane = settings.fly(), settings.control_plane()
    checks = {
        "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
        "health": lambda: health_answers(control_plane),
        "database": lambda: orgs_are_read(control_plane),
    }
    if settings.prove_use:
        checks["use"] = lambda: new_role_is_used(control_plane, uri, settings.timeout)
    check.together(checks)
    if not settings.overlaps:
        progress(outage(dead_since=subject.minted_at))


def orgs_are_read(control_plane: ControlPlaneClient) -> str:
    """The control plane answers what it has to read from its database."""
    return f"the control plane reads its database ({len(control_plane.orgs())} orgs)"


def new_role_is_used(control_plane: ControlPlaneClient, uri: str, timeout: float) -> str:
    """The server has connections of the new role that are not this check's. The control plane may hold one only while it answers."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            control_plane.orgs()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        with other_connections(uri) as count:
            Deadline(timeout).poll(lambda: count() > 0, waiting_for="a connection of the control plane as the new role")
    finally:
        ended.set()
        asking.join()
    return "the control plane connects as the new role"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows; it makes nothing."""
    words = ["the control plane reads its database"]
    if settings["prove_use"]:
        words.append("the server shows it connected as the new role")
    return together([announce_machines(settings["app"]), Announcement(words=tuple(words))])


if __name__ == "__main__":
    check.run(verify)
