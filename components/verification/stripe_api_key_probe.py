"""Probe of a Stripe key that an operator handed in, before it is delivered: right account, right mode, alive. It comes on standard input."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.announcement import Announcement
from components.stripe.keys import SecretKeys
from components.verification import check
from components.verification.check import CheckFailedError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this probe is told.

    Attributes:
        mode: `live` or `test`.
        account: The account's id, `acct_…`.
    """

    mode: str
    account: str


def probe(raw: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError with everything that keeps the key on standard input from working."""
    settings = Settings(**raw)
    found = SecretKeys(given=sys.stdin.read(), mode=settings.mode, account=settings.account).obstacles()
    if found:
        raise CheckFailedError("; ".join(f"{each.happened.rstrip('.')}: {each.next_step}" for each in found))
    check.progress(f"the new key belongs to account {settings.account}, {settings.mode} mode")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=(f"it belongs to {settings['account']}, {settings['mode']} mode",))


if __name__ == "__main__":
    check.run(probe)
