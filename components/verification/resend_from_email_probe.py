"""Probe of a sender, before it is delivered: it is one, and Resend sends for its domain. It comes on standard input.

Checked in preview and again before delivery: what a domain's DNS holds is not the program's, and hours may lie between.
"""

import sys
from collections.abc import Mapping
from typing import Any

from components import operator_credentials
from components.announcement import Announcement
from components.http import ApiError
from components.resend.client import ResendClient
from components.resend.sender import SenderAddresses
from components.verification import check
from components.verification.check import CheckFailedError


def probe(_settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless standard input holds a sender that Resend sends for."""
    client = ResendClient(operator_credentials.find(operator_credentials.RESEND))
    senders = SenderAddresses(client=client, given=sys.stdin.read())
    try:
        obstacles = senders.obstacles()
    except ApiError as error:
        raise CheckFailedError(
            f"Resend did not say whether it sends for the domain: {error}", contact=error.contact
        ) from None
    if obstacles:
        raise CheckFailedError(" ".join(f"{each.happened} What helps: {each.next_step}" for each in obstacles))
    for warning in senders.warnings():
        check.progress(f"warning: {warning}")
    check.progress("Resend sends for the domain of the new sender")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=("it is a sender, and Resend sends for its domain",))


if __name__ == "__main__":
    check.run(probe)
