"""Can the checks of SECRETS_ENCRYPTION_KEY fail that need no database? The others are in tests/sandbox."""

import base64
import sys

import pytest

from components.encryption.rows import Cipher
from components.verification import secrets_encryption_key, secrets_encryption_key_probe
from components.verification.check import CheckFailedError, Subject

KEY, OLD = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SUBJECT = Subject(secret="SECRETS_ENCRYPTION_KEY", generation=2, credential_id="c")


def read(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(sys.stdin, "read", lambda: value, raising=False)


@pytest.mark.parametrize(("value", "loader"), [(KEY, "base64"), (KEY, "hex"), ("ab" * 32, "hex"), ("r" * 32, "base64")])
def test_a_key_that_is_read_is_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str, loader: str
) -> None:
    read(monkeypatch, value)
    secrets_encryption_key_probe.probe({"loader": loader}, SUBJECT)
    assert value not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["ab" * 32, "", KEY + "\n", "short"])
def test_a_key_that_is_misread_is_not(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    read(monkeypatch, value)
    with pytest.raises(CheckFailedError, match="would misread") as failed:
        secrets_encryption_key_probe.probe({"loader": "base64"}, SUBJECT)
    assert not value or value.strip() not in str(failed.value)
    told = dict.fromkeys(secrets_encryption_key.Settings.__dataclass_fields__, "base64")
    with pytest.raises(CheckFailedError, match="misread the key"):
        secrets_encryption_key.verify(told, SUBJECT)


def test_a_round_trip_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read(monkeypatch, KEY)
    monkeypatch.setattr(Cipher, "open", lambda _self, _sealed: (0, b"another text"))
    with pytest.raises(CheckFailedError, match="does not decrypt"):
        secrets_encryption_key_probe.probe({"loader": "base64"}, SUBJECT)
