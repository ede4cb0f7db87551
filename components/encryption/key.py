"""How the consumers of SECRETS_ENCRYPTION_KEY read it: a key that they would misread is found out before they get it.

The loaders are those that the consumers' own tests show: `base64` takes standard base64 of 32 bytes, or 32 raw bytes; `hex` takes 64 hex
digits, too. 64 hex digits are also valid base64, of 48 bytes: a loader of the first kind then says "expected 32", and outside production it
carries on *without encryption*.
"""

import base64
import binascii
import re

KEY_LENGTH = 32  # bytes: AES-256
BASE64, HEX = "base64", "hex"
HEX_KEY = re.compile(rb"[0-9a-fA-F]{64}")
TRAP = (
    "it is 64 hex digits, and a consumer that takes base64 reads those as 48 bytes, not 32: it does not start, or outside production carries "
    "on without encryption"
)


class MisreadKeyError(ValueError):
    """A key that its consumers would misread. The text reads after "the key is misread:" and says nothing about the key."""


def load(text: str, loader: str) -> bytes:
    """The key, as consumers with this loader read it.

    Args:
        text: The value of the variable. Secret.
        loader: `base64` or `hex`.

    Raises:
        MisreadKeyError: They would not find a key of 32 bytes in it.
    """
    raw = text.encode("utf-8", "surrogateescape")
    is_hex = HEX_KEY.fullmatch(raw) is not None
    if is_hex and loader == HEX:
        return bytes.fromhex(raw.decode())
    if is_hex:
        raise MisreadKeyError(TRAP)
    if (decoded := _base64(raw)) is not None and len(decoded) == KEY_LENGTH:
        return decoded
    if len(raw) == KEY_LENGTH:
        return raw
    if raw != raw.strip():
        raise MisreadKeyError("there is a space or a line end before or after it")
    digits = " nor 64 hex digits" if loader == HEX else ""
    raise MisreadKeyError(f"it is neither standard base64 of {KEY_LENGTH} bytes nor {KEY_LENGTH} raw bytes{digits}")


def fault_of_encoding(encoding: str, loader: str) -> str:
    """Why a new key that is written so would be misread, "" where it would not: what a preview can say before there is a key."""
    sample = bytes(range(KEY_LENGTH))
    try:
        read = load(sample.hex() if encoding == HEX else base64.b64encode(sample).decode(), loader)
    except MisreadKeyError as error:
        return str(error)
    return "" if read == sample else "it is read as another key"


def _base64(text: bytes) -> bytes | None:
    """What standard base64 says; None where it is none."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    # Python takes text that other decoders refuse: bits that are left over, padding in excess.
    return decoded if base64.b64encode(decoded) == text else None
