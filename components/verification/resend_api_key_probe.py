"""Probe of a Resend API key, before it is delivered: Resend knows it. The key comes on standard input."""

import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement
from components.http import ApiError
from components.resend.client import ResendClient
from components.verification import check


def probe(_settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless Resend knows the key on standard input."""
    try:
        known = ResendClient(sys.stdin.read()).authenticates()
    except ApiError as error:
        raise check.CheckFailedError(
            f"Resend did not say whether it knows the new key: {error}", contact=error.contact
        ) from None
    if not known:
        raise check.CheckFailedError("Resend does not know the new key")
    check.progress("Resend knows the new key")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=("Resend knows it",))


if __name__ == "__main__":
    check.run(probe)
