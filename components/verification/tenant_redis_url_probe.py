"""Probe of the tenants' Redis URL, before it is delivered: the server takes it, and it may write, read and delete a key.

It comes on standard input.
"""

import secrets
import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement
from components.calls import ApiError
from components.upstash.server import accepts, assert_reads_and_writes
from components.verification import check


def probe(settings: Mapping[str, Any], subject: check.Subject) -> None:
    """Raises CheckFailedError unless the URL on standard input can be used as tenants use it."""
    url = sys.stdin.read()
    key = key_within(settings["rules"], f"rotation-probe:{subject.credential_id}")
    try:
        if not accepts(url):
            raise check.CheckFailedError("Redis refuses the new user or password")
        assert_reads_and_writes(url, key, secrets.token_hex())
    except ApiError as error:
        hint = " (what its user may do is `redisRules`)" if settings["rules"] and error.status else ""
        raise check.CheckFailedError(f"the new Redis URL does not work: {error}{hint}", contact=error.contact) from None
    check.progress("Redis takes the new user; it reads, writes and deletes")


def key_within(rules: str, key: str) -> str:
    """A key that these rules let a user use, with `key` in it: of the first pattern for keys, where that does not allow all."""
    patterns = [rule[1:] for rule in rules.split() if rule.startswith("~")]
    if not patterns or "*" in patterns or "*" not in patterns[0]:
        return key
    return patterns[0].replace("*", key, 1).replace("*", "")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=("Redis takes it; it reads, writes and deletes a key",))


if __name__ == "__main__":
    check.run(probe)
