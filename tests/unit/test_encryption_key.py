"""Is a key read as its consumers read it, and is one refused that they would misread?"""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encryption.key import MisreadKeyError, fault_of_encoding, load
from sandbox.processes.encryption import load_key

KEY = bytes(range(32))
BASE64, DIGITS = base64.b64encode(KEY).decode(), KEY.hex()
keys = st.binary(min_size=32, max_size=32)


@given(keys)
def test_base64_of_32_bytes_is_read_by_every_loader(key: bytes) -> None:
    text = base64.b64encode(key).decode()
    assert load(text, "base64") == load(text, "hex") == key


@given(keys)
def test_hex_digits_are_read_by_their_own_loader_alone(key: bytes) -> None:
    assert load(key.hex(), "hex") == load(key.hex().upper(), "hex") == key
    with pytest.raises(MisreadKeyError, match=r"64 hex digits.* 48 bytes.*without encryption") as refused:
        load(key.hex(), "base64")
    assert key.hex()[:8] not in str(refused.value)


@pytest.mark.parametrize("text", ["k" * 32, "0123456789abcdef" * 2, "p@ssw0rd! " * 3 + "ab"])
@pytest.mark.parametrize("loader", ["base64", "hex"])
def test_32_characters_are_32_raw_bytes(text: str, loader: str) -> None:
    assert load(text, loader) == text.encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither"),
        ("short", "neither"),
        (base64.b64encode(KEY[:31]).decode(), "neither"),
        (base64.b64encode(KEY + b"x").decode(), "neither"),
        (BASE64.rstrip("="), "neither"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "neither"),
        (BASE64[:-2] + "5=", "neither"),
        (BASE64 + "\n", "line end"),
        (" " + BASE64, "space"),
        (DIGITS + "\n", "line end"),
        (DIGITS[:-1], "neither"),
        ("g" * 64, "neither"),
        ("é" * 32, "neither"),
    ],
)
@pytest.mark.parametrize("loader", ["base64", "hex"])
def test_what_is_no_key_is_refused_and_nothing_of_it_is_said(text: str, reason: str, loader: str) -> None:
    with pytest.raises(MisreadKeyError, match=reason) as refused:
        load(text, loader)
    assert not text.strip() or text.strip()[:8] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_hex_digits_are_named_where_they_would_have_been_read() -> None:
    with pytest.raises(MisreadKeyError, match="nor 64 hex digits"):
        load("short", "hex")
    with pytest.raises(MisreadKeyError, match=r"nor 32 raw bytes$"):
        load("short", "base64")


@given(st.one_of(st.binary(max_size=70), keys.map(base64.b64encode), keys.map(lambda key: key.hex().encode())))
def test_no_key_is_read_differently_than_by_the_consumers(text: bytes) -> None:
    for loader in ("base64", "hex"):
        try:
            read = load(text.decode("utf-8", "surrogateescape"), loader)
        except MisreadKeyError:
            continue
        assert read == load_key(text, hexadecimal=loader == "hex")


@pytest.mark.parametrize(
    ("encoding", "loader", "fault"),
    [("base64", "base64", ""), ("base64", "hex", ""), ("hex", "hex", ""), ("hex", "base64", "64 hex digits")],
)
def test_an_encoding_that_does_not_fit_the_loader_is_found_out_without_a_key(
    encoding: str, loader: str, fault: str
) -> None:
    said = fault_of_encoding(encoding, loader)
    assert fault in said
    assert bool(said) is bool(fault)
    assert KEY.hex() not in said


def test_random_keys_of_both_encodings_are_what_their_loader_takes() -> None:
    for _ in range(100):
        key = os.urandom(32)
        assert load(base64.b64encode(key).decode(), "base64") == key
        assert load(key.hex(), "hex") == key
