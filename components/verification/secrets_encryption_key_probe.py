"""Probe of an encryption key, before it is delivered: its consumers read it as a key of 32 bytes. It comes on standard input."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement
from components.encryption.key import MisreadKeyError, load
from components.encryption.rows import Cipher
from components.verification import check


def probe(settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless the key on standard input is read by this loader, and decrypts what it has encrypted."""
    try:
        cipher = Cipher([load(sys.stdin.read(), settings["loader"])])
    except MisreadKeyError as error:
        raise check.CheckFailedError(f"the consumers would misread the new key: {error}") from None
    plaintext = os.urandom(64)
    if cipher.open(cipher.seal(plaintext)) != (0, plaintext):
        raise check.CheckFailedError("the new key does not decrypt what it has encrypted")
    check.progress("the consumers read the new key as one of 32 bytes")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(words=("its consumers read it as a key of 32 bytes",))


if __name__ == "__main__":
    check.run(probe)
