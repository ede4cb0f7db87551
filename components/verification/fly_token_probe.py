"""Probe of a Fly token, before it is delivered: it reaches the machines of its app. The token comes on standard input."""

import sys
from collections.abc import Mapping
from typing import Any

from components import operator_credentials
from components.announcement import Announcement
from components.fly.client import FlyClient
from components.fly.shown import try_token
from components.http import ApiError
from components.verification import check


def probe(settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless the token on standard input reaches its app."""
    app = settings["app"]
    operator = FlyClient(token=operator_credentials.find(operator_credentials.FLY))
    try:
        try_token(sys.stdin.read(), app, operator=operator)
    except ApiError as error:
        raise check.CheckFailedError(
            f"the new token does not reach the machines of {app}: {error}", contact=error.contact
        ) from None
    check.progress(f"the new token reaches the machines of {app}")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=(f"it reaches the machines of {settings['app']}",))


if __name__ == "__main__":
    check.run(probe)
