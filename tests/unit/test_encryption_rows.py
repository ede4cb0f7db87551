"""Is a value what the contract says, and is the key found that decrypts it? What a database does with it is in tests/sandbox."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from components.encryption.rows import Cipher, Database, Row, Survey, _Table, _Tally
from components.neon.client import NeonClient
from sandbox.processes import encryption

from .wire import Wire, reply

KEYS = tuple(bytes([number]) * 32 for number in range(3))


@given(st.text(max_size=200), st.integers(0, 2))
def test_the_key_is_found_that_a_consumer_encrypted_with(text: str, number: int) -> None:
    assert Cipher(KEYS).open(encryption.encrypt(KEYS[number], text)) == (number, text.encode())


@given(st.text(max_size=200))
def test_a_consumer_reads_what_is_encrypted_here(text: str) -> None:
    sealed = Cipher(KEYS).seal(text.encode())
    assert encryption.decrypt(KEYS[0], sealed) == text
    assert len(sealed) == 12 + len(text.encode()) + 16


def test_every_value_has_a_nonce_of_its_own() -> None:
    cipher = Cipher(KEYS)
    assert len({cipher.seal(b"the same")[:12] for _ in range(1000)}) == 1000


def test_a_value_that_begins_like_a_later_format_by_chance_is_read() -> None:
    nonce = b"\x02" + bytes(11)
    sealed = nonce + AESGCM(KEYS[1]).encrypt(nonce, b"text", None)
    opened = Cipher(KEYS).open(sealed)
    assert opened == (1, b"text")
    tally = _Tally(3)
    tally.add(Row((1,), (sealed, None)), [opened, None])
    assert (tally.survey().unreadable, tally.survey().later_format) == (0, 0)


@pytest.mark.parametrize(
    "sealed", [b"", b"\x00", bytes(12), bytes(27), bytes(28), bytes(range(60)), b"\x02" + bytes(90)]
)
def test_what_no_key_decrypts_is_none(sealed: bytes) -> None:
    assert Cipher(KEYS).open(sealed) is None
    assert Cipher([]).open(sealed) is None


def test_one_bit_less_is_no_value() -> None:
    sealed = bytearray(Cipher(KEYS).seal(b"text"))
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert Cipher(KEYS).open(bytes(changed)) is None


def test_a_survey_counts_and_names_without_contents() -> None:
    cipher, tally = Cipher(KEYS), _Tally(3)
    sealed = [encryption.encrypt(key, "postgresql://password@host") for key in KEYS]
    for number in range(10):
        values = (sealed[number % 3], b"\x02unreadable" if number > 2 else None)
        tally.add(Row((number, "x"), values), [None if each is None else cipher.open(each) for each in values])
    survey = tally.survey()
    assert survey.under == (4, 3, 3)
    assert (survey.rows, survey.values, survey.elsewhere) == (10, 17, 6)
    assert (survey.unreadable, survey.later_format) == (7, 7)
    assert survey.unreadable_rows == ("3, x", "4, x", "5, x", "6, x", "7, x")
    assert "password" not in repr(tally) + repr(survey) + repr(Row((1,), (sealed[0],)))
    assert Survey().elsewhere == 0


BYTEA = {"database_url_encrypted": "bytea", "redis_url_encrypted": "bytea"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (_Table(key=("id",), types=BYTEA), []),
        (_Table(), ["no table org_instances"]),
        (_Table(key=("id",), types={**BYTEA, "redis_url_encrypted": "text"}), ["redis_url_encrypted is text"]),
        (_Table(key=("id",), types={"database_url_encrypted": "bytea"}), ["redis_url_encrypted is missing"]),
        (_Table(types=BYTEA), ["no primary key"]),
        (_Table(key=("id",), types=BYTEA, missing=("SELECT", "UPDATE")), ["no right to SELECT and UPDATE"]),
        (_Table(key=("id",), types=BYTEA, missing=("UPDATE",), hidden=True), ["no right to UPDATE", "Row-level"]),
    ],
)
def test_what_keeps_rows_from_being_read_and_written_is_said(table: _Table, said: list[str]) -> None:
    faults = table.faults()
    assert len(faults) == len(said)
    for fault, text in zip(faults, said, strict=True):
        assert text in fault.happened


@pytest.mark.parametrize("branch", ["", "br-2"])
def test_neon_is_asked_how_to_connect_directly(wire: Wire, branch: str) -> None:
    branches = reply(
        200, {"branches": [{"id": "br-1", "name": "m", "created_at": "2026-11-23T12:00:00Z", "default": True}]}
    )
    wire.will(*([] if branch else [branches]), reply(200, {"uri": "postgresql://owner:pw@host/db"}))
    database = Database(client=NeonClient("napi_k"), project="p", branch=branch, database="db", role="owner")
    assert database.uri() == "postgresql://owner:pw@host/db"
    assert dict(wire.last.url.params) == {
        "branch_id": branch or "br-1",
        "database_name": "db",
        "role_name": "owner",
        "pooled": "false",
    }
    assert "pw" not in repr(database)
    assert "napi_k" not in repr(database)
