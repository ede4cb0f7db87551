"""Probe of a Neon API key, before it is delivered: Neon knows it, and it reaches the project. The key comes on standard input."""

import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement
from components.http import ApiError
from components.neon.client import NeonClient
from components.verification import check


def probe(settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless the key on standard input reaches the project."""
    project = settings["project"]
    try:
        reaches = NeonClient(sys.stdin.read()).can_see_project(project)
    except ApiError as error:
        raise check.CheckFailedError(f"Neon does not take the new key: {error}", contact=error.contact) from None
    if not reaches:
        raise check.CheckFailedError(f"the new key does not reach project {project}")
    check.progress(f"the new key reaches project {project}")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=(f"it reaches Neon project {settings['project']}",))


if __name__ == "__main__":
    check.run(probe)
