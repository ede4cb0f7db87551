"""What SECRETS_ENCRYPTION_KEY encrypts: columns of `org_instances` (contract: control-plane.md), and what travels.

A control plane and a tenant seal the data that they exchange: `{"sealed": base64(nonce || ciphertext || tag)}`. That is
the sandbox's own reading of why both hold the key. What a tenant stores is not encrypted with it: a new key loses no data.

AES-256-GCM: `nonce(12) || ciphertext || tag(16)`, no associated data. The library is imported at the first use: a
machine that encrypts nothing boots without it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

KEY_LENGTH = 32
"""Bytes."""
NONCE_LENGTH = 12
"""Bytes."""


class UndecryptableError(Exception):
    """What is stored was not encrypted with this process's key, or not at all."""


def load_key(text: bytes, *, hexadecimal: bool = False) -> bytes:
    """Return the key that `SECRETS_ENCRYPTION_KEY` holds: standard base64 of 32 bytes, or 32 raw bytes.

    64 hex digits are valid base64 of 48 bytes: they count as hex only if `hexadecimal` says so. Raises `ValueError`
    whose message says how many bytes there are; it holds nothing of the key.
    """
    if hexadecimal and re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.decode())
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = text
    if len(key) == KEY_LENGTH:
        return key
    if len(text) == KEY_LENGTH:
        return text
    raise ValueError(f"got {len(key)} bytes, expected {KEY_LENGTH}")


def encrypt(key: bytes, plaintext: str) -> bytes:
    """Return what is to be stored."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see the module's docstring

    nonce = os.urandom(NONCE_LENGTH)
    return nonce + AESGCM(key).encrypt(nonce, plaintext.encode(), None)


def decrypt(key: bytes, sealed: bytes) -> str:
    """Return what is stored, in the clear. Raises `UndecryptableError`."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see the module's docstring
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        return AESGCM(key).decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], None).decode()
    except (InvalidTag, ValueError):
        raise UndecryptableError("what is stored cannot be decrypted with SECRETS_ENCRYPTION_KEY") from None


def seal(key: bytes, plaintext: str) -> str:
    """Return what travels instead of a value."""
    return base64.b64encode(encrypt(key, plaintext)).decode()


def unseal(key: bytes | None, sealed: object) -> str:
    """Return the value that `seal` was given. Raises `UndecryptableError`, also without a key or for anything else."""
    if key is None or not isinstance(sealed, str):
        raise UndecryptableError("what was sent cannot be opened with SECRETS_ENCRYPTION_KEY")
    try:
        return decrypt(key, base64.b64decode(sealed, validate=True))
    except (binascii.Error, UndecryptableError):
        raise UndecryptableError("what was sent cannot be opened with SECRETS_ENCRYPTION_KEY") from None
