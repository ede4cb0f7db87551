"""The re-encryption of the control plane's rows, on a real PostgreSQL: is not one row lost, whatever happens meanwhile?

Timings are printed (`pytest -s`), and none is asserted.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components import postgres
from components.control_plane.client import ControlPlaneClient, Org
from components.encryption import reencryption
from components.encryption.key import load
from components.encryption.reencryption import KnownKeys
from components.encryption.rows import BrokenOffError, Cipher, OrgInstances
from components.errors import OperatorError, RefusedError
from components.fly.client import FlyClient
from components.http import ApiError
from components.issuers import ISSUERS, Context
from components.keyring import Credential
from components.verification import check, secrets_encryption_key
from components.verification.check import CheckFailedError, Subject
from components.verification.secrets_encryption_key import control_plane_encrypts, rows_decrypt
from components.verification.tenant_machines import TenantMachines
from sandbox import connections, neon
from sandbox.processes import encryption
from tests.sandbox.running import TENANT, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from components.encryption.reencryption import Reencryption

ROWS = 10_000
NAME = "SECRETS_ENCRYPTION_KEY"
SETTINGS = {"project": neon.PROJECT, "branch": "", "database": "neondb", "role": "neondb_owner", "loader": "base64"}
SELECT = "SELECT id, database_url_encrypted, redis_url_encrypted FROM org_instances ORDER BY id"
Sealed = dict[uuid.UUID, tuple[bytes | None, bytes | None]]
Plain = dict[uuid.UUID, tuple[str | None, ...]]

CHILD = """
import json, sys
from components.encryption import reencryption, rows
told = json.load(sys.stdin)
rows.PAGE = 50
rows.OrgInstances.__init__.__kwdefaults__["page"] = 50
companion = reencryption.build(
    told["settings"], key=told["key"], keys_before=told["before"], config=lambda _key: None,
    report=lambda line: print(line, flush=True),
)
companion.check()
companion.forward()
"""


def say(line: str) -> None:
    """What was measured."""
    print(line)  # noqa: T201


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture(scope="module")
def filled(sandbox: Sandbox) -> Sandbox:
    """The module's sandbox, with many rows."""
    sandbox.quickly("seed-orgs", "--count", str(ROWS))
    return sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's environment."""
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def old(sandbox: Sandbox) -> Iterator[str]:
    """The key of the control plane. In the end every row has it again, or is gone."""
    key = sandbox.secret_value(NAME)
    yield key
    with admin(sandbox) as connection:
        lost = [each for each, values in sealed(sandbox).items() if None in opened(values, key)]
        connection.execute("DELETE FROM org_instances WHERE id = ANY(%s)", (lost,))


@contextlib.contextmanager
def admin(sandbox: Sandbox) -> Iterator[connections.Connection]:
    """A connection that may do everything."""
    with sandbox.world() as world, connections.connect(world) as connection:
        yield connection


def sealed(sandbox: Sandbox) -> Sealed:
    """The encrypted columns, by row, to the byte."""
    with admin(sandbox) as connection:
        return {row[0]: (row[1], row[2]) for row in connection.execute(SELECT)}


def opened(values: tuple[bytes | None, ...], key: str) -> list[str | None]:
    """Encrypted values in the clear, as the contract says; None where this key does not decrypt one."""
    cipher, found = AESGCM(base64.b64decode(key)), list[str | None]()
    for value in values:
        if value is None:
            found.append("")
            continue
        try:
            found.append(cipher.decrypt(value[:12], value[12:], None).decode())
        except (InvalidTag, ValueError):
            found.append(None)
    return found


def plain(rows: Sealed, key: str) -> Plain:
    """All rows in the clear."""
    return {each: tuple(opened(values, key)) for each, values in rows.items()}


def companion(
    key: str,
    *before: str,
    operator: str = "",
    lines: list[str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Reencryption:
    return reencryption.build(
        {**SETTINGS, **(settings or {})},
        key=key,
        keys_before=before,
        config=lambda name: operator if name == reencryption.KEY_BEFORE else None,
        report=say if lines is None else lines.append,
    )


def table(cipher_page: int = 500) -> OrgInstances:
    return OrgInstances(reencryption.database_of(SETTINGS, lambda _key: None).uri, page=cipher_page)


def cipher(*keys: str) -> Cipher:
    return Cipher([load(key, "base64") for key in keys])


def add(sandbox: Sandbox, database_url: bytes | None, redis_url: bytes | None = None) -> uuid.UUID:
    """One more row."""
    org, row = uuid.uuid4(), uuid.uuid4()
    with admin(sandbox) as connection:
        connection.execute(
            "INSERT INTO organizations (id, slug, name, status) VALUES (%s, %s, 'n', 'running')", (org, f"o-{row}")
        )
        connection.execute(
            "INSERT INTO org_instances (id, org_id, database_url_encrypted, redis_url_encrypted) VALUES (%s, %s, %s, %s)",
            (row, org, database_url, redis_url),
        )
    return row


# -- forward and back --------------------------------------------------------------------------------------------------


def test_every_row_gets_the_new_key_and_gives_it_back(filled: Sandbox, old: str) -> None:
    empty = add(filled, None)
    half = add(filled, encryption.encrypt(base64.b64decode(old), "half"))
    before, new, lines = sealed(filled), new_key(), list[str]()
    with admin(filled) as connection:
        others = connection.execute(
            "SELECT id, org_id, machine_id, updated_at FROM org_instances ORDER BY id"
        ).fetchall()
    it = companion(new, old, lines=lines)
    began = time.perf_counter()
    it.check()
    checked = time.perf_counter()
    assert sealed(filled) == before, "a check changes nothing"
    it.forward()
    moved = time.perf_counter()
    after = sealed(filled)
    assert plain(after, new) == plain(before, old)
    assert after.keys() == before.keys()
    assert len(after) >= ROWS + 2
    assert (before[empty], after[empty]) == ((None, None), (None, None))
    assert opened(after[half], new) == ["half", ""]
    assert not any(any(opened(values, old)) for values in after.values()), "the old key is dead"
    nonces = [value[:12] for values in (*before.values(), *after.values()) for value in values if value is not None]
    assert len(set(nonces)) == len(nonces), "every nonce is fresh"
    with admin(filled) as connection:
        assert (
            others
            == connection.execute("SELECT id, org_id, machine_id, updated_at FROM org_instances ORDER BY id").fetchall()
        )
    it.forward()
    it.finish()
    assert sealed(filled) == after, "what has its new key is left alone"
    returning = time.perf_counter()
    it.back()
    returned = time.perf_counter()
    assert plain(sealed(filled), old) == plain(before, old)
    text = "\n".join(lines)
    count = sum(values != (None, None) for values in before.values())
    assert text.count(f" of {count:,} rows are encrypted with the new key") == 10, "a line for every tenth"
    assert f"5,500 of {count:,} rows are encrypted with the new key" in text
    assert f"{count:,} rows were encrypted with the new key in" in text
    assert f"all {2 * count - 1:,} encrypted values in {count:,} rows decrypt with the new key" in text
    assert f"{count:,} rows were encrypted with the key before in" in text
    assert new not in text
    assert old not in text
    say(
        f"\n{count:,} rows: check {checked - began:.2f} s, forward {moved - checked:.2f} s, back {returned - returning:.2f} s"
    )


def test_rows_under_several_known_keys_all_get_the_new_one(filled: Sandbox, old: str) -> None:
    other, new = new_key(), new_key()
    row = add(
        filled, encryption.encrypt(base64.b64decode(other), "one"), encryption.encrypt(base64.b64decode(old), "two")
    )
    by_chance = b"\x02" + os.urandom(11)
    chance = add(filled, by_chance + AESGCM(base64.b64decode(old)).encrypt(by_chance, b"by chance", None))
    has_it = encryption.encrypt(base64.b64decode(new), "done")
    done = add(filled, has_it, encryption.encrypt(base64.b64decode(old), "not yet"))
    it = companion(new, old, operator=other, lines=[])
    it.check()
    it.forward()
    assert opened(sealed(filled)[row], new) == ["one", "two"]
    assert opened(sealed(filled)[chance], new) == ["by chance", ""]
    assert sealed(filled)[done][0] == has_it, "a value that has the new key is left alone"
    assert opened(sealed(filled)[done], new) == ["done", "not yet"]
    it.back()
    assert opened(sealed(filled)[row], old) == ["one", "two"]


def test_what_writers_write_meanwhile_is_not_overwritten(filled: Sandbox, old: str) -> None:
    new, key = new_key(), base64.b64decode(old)
    expected = plain(sealed(filled), old)
    rows = list(expected)
    ended, passes, deleted = threading.Event(), threading.Event(), set[uuid.UUID]()
    uri = filled.secret_value("DATABASE_URL")

    def write(mine: list[uuid.UUID]) -> None:
        with psycopg.connect(uri, autocommit=True) as connection:
            for number in range(100_000):
                if ended.is_set():
                    return
                row = random.choice(mine)  # noqa: S311
                if number % 50 == 49:
                    connection.execute("DELETE FROM org_instances WHERE id = %s", (row,))
                    deleted.add(row)
                    mine.remove(row)
                    continue
                text = f"written meanwhile {number}"
                value = encryption.encrypt(key, text)
                if number % 2:
                    connection.execute("UPDATE org_instances SET redis_url_encrypted = %s WHERE id = %s", (value, row))
                    expected[row] = (expected[row][0], text)
                else:
                    connection.execute(
                        "UPDATE org_instances SET database_url_encrypted = %s WHERE id = %s", (value, row)
                    )
                    expected[row] = (text, expected[row][1])
                if number > 100:
                    passes.set()

    writers = [threading.Thread(target=write, args=(rows[start::2],)) for start in range(2)]
    for writer in writers:
        writer.start()
    lines = list[str]()
    it = companion(new, old, lines=lines)
    try:
        assert passes.wait(60)
        it.forward()
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    written = sum(text is not None and text.startswith("written") for values in expected.values() for text in values)
    it.finish()
    expected = {row: values for row, values in expected.items() if row not in deleted}
    assert plain(sealed(filled), new) == expected
    say(f"\n{written} values written and {len(deleted)} rows deleted meanwhile; " + "; ".join(lines[-4:]))
    it.back()


def test_whoever_writes_on_with_the_key_before_is_not_taken_for_done(filled: Sandbox, old: str) -> None:
    row = add(filled, encryption.encrypt(base64.b64decode(old), "again and again"))
    new, lines = new_key(), list[str]()
    value = encryption.encrypt(base64.b64decode(old), "again and again")

    class Stubborn(OrgInstances):
        """Somebody writes with the key before, between every two pages."""

        def _pages(self) -> Iterator[Any]:
            with admin(filled) as connection:
                connection.execute("UPDATE org_instances SET database_url_encrypted = %s WHERE id = %s", (value, row))
            return super()._pages()

    it = companion(new, old, lines=lines)
    patch = pytest.MonkeyPatch()
    patch.setattr(reencryption, "OrgInstances", Stubborn)
    it.forward()
    assert "1 of " in lines[-1]
    assert "once those have restarted" in lines[-1]
    with pytest.raises(OperatorError, match="Somebody goes on writing"):
        it.finish()
    patch.undo()
    it.finish()
    assert opened(sealed(filled)[row], new) == ["again and again", ""]
    it.back()


def test_after_a_kill_in_the_middle_it_goes_on_where_it_stopped(filled: Sandbox, old: str) -> None:
    before, new = sealed(filled), new_key()
    told = json.dumps({"settings": SETTINGS, "key": new, "before": [old]})
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(told)
        child.stdin.close()
        seen = ""
        for line in child.stdout:
            seen += line
            if "0 of " in line and "rows are encrypted with the new key" in line:
                break
        child.kill()
        assert child.wait() == -9, seen
        with table() as rows:
            survey = rows.survey(cipher(new, old))
        assert survey.unreadable == 0
        assert survey.under[0] > 0, "some have the new key"
        assert survey.under[1] > 0, "some do not: it was in the middle"
        say(f"\nkilled with {survey.under[0]:,} of {survey.values:,} values under the new key")
    lines = list[str]()
    it = companion(new, old, lines=lines)
    it.check()
    it.forward()
    assert plain(sealed(filled), new) == plain(before, old)
    say("\n".join(lines[:1] + lines[-2:]))
    it.back()
    assert plain(sealed(filled), old) == plain(before, old)


# -- what stops it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (encryption.encrypt(os.urandom(32), "lost"), "1 of .* encrypted values decrypt with no key that is known"),
        (b"", "1 of .* encrypted values decrypt with no key that is known"),
        (b"\x02" + os.urandom(80), "begin with the mark of a later format"),
    ],
    ids=["another key", "empty", "later format"],
)
def test_a_row_that_no_key_decrypts_is_named_and_nothing_is_touched(
    filled: Sandbox, old: str, value: bytes, said: str
) -> None:
    row = add(filled, encryption.encrypt(base64.b64decode(old), "readable"), value)
    before = sealed(filled)
    it = companion(new_key(), old, lines=[])
    with pytest.raises(OperatorError, match=said) as refused:
        it.check()
    assert str(row) in refused.value.happened
    assert refused.value.state == "nothing was changed."
    assert sealed(filled) == before
    with pytest.raises(OperatorError, match="after the rows were checked") as late:
        it.forward()
    assert str(row) in late.value.happened
    assert sealed(filled)[row][1] == value, "what cannot be read is left as it is"
    with pytest.raises(OperatorError):
        it.back()
    expected = {each: values for each, values in plain(before, old).items() if each != row}
    assert {each: values for each, values in plain(sealed(filled), old).items() if each != row} == expected


def test_without_a_key_before_it_is_asked_for(filled: Sandbox, old: str) -> None:
    before = sealed(filled)
    with pytest.raises(RefusedError, match="not known: this stack has not minted one yet") as refused:
        companion(new_key()).check()
    assert "pulumi config set --secret encryptionKeyBefore" in refused.value.next_step
    with pytest.raises(RefusedError, match="`encryptionKeyBefore` decrypts none"):
        companion(new_key(), operator=new_key()).check()
    companion(new_key(), operator=old, lines=[]).check()
    assert sealed(filled) == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"role": "nobody"}, "Neon does not know how to reach"),
        ({"database": "another"}, "Neon does not know how to reach"),
        ({"project": "no-such-project"}, "Neon does not know how to reach|could not be looked at"),
    ],
)
def test_a_database_that_neon_does_not_know_is_refused(
    filled: Sandbox, old: str, settings: dict[str, str], said: str
) -> None:
    del filled
    with pytest.raises(OperatorError, match=said) as refused:
        companion(new_key(), old, settings=settings).check()
    assert refused.value.state == "nothing was changed."


@pytest.fixture
def stranger(filled: Sandbox) -> Iterator[Callable[[str], str]]:
    """Gives a role these rights on the table, and returns how it connects."""
    role, password = "stranger", "a-password-of-a-stranger"
    uri = filled.secret_value("DATABASE_URL")
    address = uri.rpartition("@")[2]
    with admin(filled) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        connection.execute(f"GRANT CONNECT ON DATABASE neondb TO {role}")

    def give(rights: str) -> str:
        with admin(filled) as connection:
            connection.execute(f"REVOKE ALL ON org_instances FROM {role}")
            if rights:
                connection.execute(f"GRANT {rights} ON org_instances TO {role}")
        return f"postgresql://{role}:{password}@{address}"

    yield give
    with admin(filled) as connection:
        connection.execute("ALTER TABLE org_instances DISABLE ROW LEVEL SECURITY")
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [
        ("", "no right to SELECT and UPDATE"),
        ("SELECT", "no right to UPDATE"),
        (
            "SELECT (id, database_url_encrypted, redis_url_encrypted), UPDATE (redis_url_encrypted)",
            "no right to UPDATE",
        ),
        ("UPDATE", "no right to SELECT"),
        ("SELECT, UPDATE", ""),
        ("SELECT, UPDATE (database_url_encrypted, redis_url_encrypted)", ""),
    ],
)
def test_a_role_without_rights_is_refused(stranger: Callable[[str], str], rights: str, lacking: str) -> None:
    uri = stranger(rights)
    with OrgInstances(lambda: uri) as rows:
        faults = rows.obstacles()
    assert [lacking in each.happened for each in faults] == ([True] if lacking else [])


def test_rows_that_may_be_hidden_from_the_role_are_not_taken_for_none(
    filled: Sandbox, stranger: Callable[[str], str]
) -> None:
    uri = stranger("SELECT, UPDATE")
    with admin(filled) as connection:
        connection.execute("ALTER TABLE org_instances ENABLE ROW LEVEL SECURITY")
    with OrgInstances(lambda: uri) as rows:
        assert ["Row-level security" in each.happened for each in rows.obstacles()] == [True]
    with table() as owner:
        assert owner.obstacles() == [], "it does not apply to the owner"


def test_a_password_that_is_refused_is_said_and_not_shown(filled: Sandbox) -> None:
    uri = filled.secret_value("DATABASE_URL")
    user = uri.partition("//")[2].partition(":")[0]
    wrong = f"postgresql://{user}:wrong-password@{uri.rpartition('@')[2]}"
    with OrgInstances(lambda: wrong) as rows:
        (fault,) = rows.obstacles()
    assert "refuses the role" in fault.happened
    assert "wrong-password" not in str(fault)


# -- a database that comes and goes ------------------------------------------------------------------------------------


def cut(sandbox: Sandbox) -> int:
    """Ends every connection of a re-encryption, and returns how many there were."""
    with admin(sandbox) as connection:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'secret-rotation'"
        )
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def test_connections_that_are_cut_again_and_again_are_made_anew(filled: Sandbox, old: str) -> None:
    before, new, cuts, later = sealed(filled), new_key(), list[int](), list[threading.Timer]()

    def report(line: str) -> None:
        """Cuts after every tenth: at once, and in the middle of whatever comes next."""
        if "rows are encrypted with" in line:
            cuts.append(cut(filled))
            later.append(threading.Timer(0.06, lambda: cuts.append(cut(filled))))
            later[-1].start()

    known = KnownKeys(loader="base64", stack=(old,), operator="")
    database = reencryption.database_of(SETTINGS, lambda _key: None)
    it = reencryption.Reencryption(database, key=new, known=known, report=report, sleep=lambda _seconds: None)
    it.check()
    it.forward()
    assert plain(sealed(filled), new) == plain(before, old)
    it.back()
    for each in later:
        each.join()
    assert plain(sealed(filled), old) == plain(before, old)
    assert len(cuts) == 40
    assert sum(cuts) > 15
    say(f"\n{sum(cuts)} connections cut")


def test_a_database_that_stays_away_ends_it_with_what_is_true(filled: Sandbox, old: str) -> None:
    before, new = sealed(filled), new_key()
    good = reencryption.database_of(SETTINGS, lambda _key: None).uri
    naps = list[float]()
    gone = threading.Event()
    uri = "postgresql://nobody:the-password@127.0.0.1:1/none"
    rows = OrgInstances(lambda: uri if gone.is_set() else good(), page=100, sleep=naps.append)

    def progress(done: int, _total: int) -> None:
        if done >= 3000 and not gone.is_set():
            gone.set()
            cut(filled)

    with rows, pytest.raises(BrokenOffError) as broken:
        rows.reencrypt(cipher(new, old), progress=progress)
    assert (broken.value.done, broken.value.total) == (3000, sum(each != (None, None) for each in before.values()))
    assert len(naps) >= 5
    assert sum(naps) < 60
    assert "the-password" not in str(broken.value)
    with table() as rows:
        survey = rows.survey(cipher(new, old))
    assert survey.under[0] >= 3000
    assert survey.unreadable == 0
    it = companion(new, old, lines=[])
    it.forward()
    assert plain(sealed(filled), new) == plain(before, old)
    it.back()


# -- the issuer --------------------------------------------------------------------------------------------------------


def issuer(*values: str, operator: str = "") -> Any:  # noqa: ANN401 - what the program builds
    keyring = tuple(
        Credential(generation=number, credential_id=f"c{number}", name="n", value=value, created_at="")
        for number, value in enumerate(values, 1)
    )
    settings = {
        **SETTINGS,
        "app": "molecule-cp",
        "tenant_app": "molecule-tenant",
        "max_unavailable": "0.33",
        "strategy": "reencrypt",
        "encoding": "base64",
        "reprovision_path": "",
    }
    context = Context(config=lambda name: operator if name == "encryptionKeyBefore" else None, keyring=keyring)
    return ISSUERS["encryption-key"].build(settings, context)


def test_the_preview_says_what_it_costs_and_an_old_key_is_proven_dead_by_the_rows(filled: Sandbox, old: str) -> None:
    del filled
    assert issuer(old).obstacles_beside_the_value() == []
    assert issuer(operator=old).obstacles_beside_the_value() == []
    (fault,) = issuer().obstacles_beside_the_value()
    assert "not known" in fault.happened
    (fault,) = issuer(new_key()).obstacles_beside_the_value()
    assert "decrypt with no key that is known" in fault.happened
    costs = [issuer(old).outage, *issuer(old).warnings()]
    say("\n" + "\n".join(costs))
    with table() as rows:
        survey = rows.survey(cipher(old))
    assert f"{survey.values:,} encrypted values of {survey.rows:,} orgs" in costs[0]
    assert survey.rows > ROWS * 0.9
    assert not issuer(old).refuses(old)
    assert issuer(old).refuses(new_key())


# -- verification ------------------------------------------------------------------------------------------------------


def told(sandbox: Sandbox) -> dict[str, Any]:
    """What the verification is told."""
    return {
        **SETTINGS,
        "app": "molecule-cp",
        "tenant_app": "molecule-tenant",
        "variable": NAME,
        "url": sandbox.environment["CONTROL_PLANE_URL"],
        "owner_user_id": "user-1",
        "reprovisions": False,
        "org_timeout": 30,
    }


def control_plane_of(sandbox: Sandbox) -> ControlPlaneClient:
    return ControlPlaneClient(sandbox.environment["CONTROL_PLANE_URL"], sandbox.environment["CP_ADMIN_API_TOKEN"])


def test_rows_and_a_control_plane_with_another_key_are_found(filled: Sandbox, old: str) -> None:
    new = new_key()
    org = secrets_encryption_key.Settings(**told(filled)).disposable_org("reencrypttest")
    database = reencryption.database_of(SETTINGS, lambda _key: None)
    assert "encrypted values in" in rows_decrypt(database, cipher(old), patience=0)
    with pytest.raises(CheckFailedError, match="do not decrypt with the new key"):
        rows_decrypt(database, cipher(new), patience=0)
    assert "values with the new key" in control_plane_encrypts(org, database, cipher(old))
    with pytest.raises(CheckFailedError, match="do not decrypt with the new key"):
        control_plane_encrypts(org, database, cipher(new))
    assert not any(org.slug.startswith("reencrypttest-") for org in control_plane_of(filled).orgs())


def test_a_control_plane_that_encrypts_nothing_proves_nothing(filled: Sandbox, old: str) -> None:
    class Idle(ControlPlaneClient):
        """Says that the org runs, and does nothing."""

        def create_org(self, *, slug: str, name: str, owner_user_id: str) -> Org:
            del name, owner_user_id
            return Org(org_id="id", slug=slug, status="running")

        def orgs(self) -> list[Org]:
            return [Org(org_id="id", slug="slug", status="running")]

        def delete_org(self, slug: str) -> None:
            deleted.append(slug)

    deleted = list[str]()
    settings = secrets_encryption_key.Settings(**{**told(filled), "org_timeout": 2})
    org = replace(settings.disposable_org("reencrypttest"), control_plane=Idle("", ""))
    with pytest.raises(CheckFailedError, match="encrypted values of org reencrypttest-"):
        control_plane_encrypts(org, reencryption.database_of(SETTINGS, lambda _key: None), cipher(old))
    assert len(deleted) == 1


def test_rows_that_change_in_time_are_waited_for_where_orgs_are_provisioned_anew(filled: Sandbox, old: str) -> None:
    row = add(filled, encryption.encrypt(os.urandom(32), "of a key that is gone"))

    def provision_anew() -> None:
        value = encryption.encrypt(base64.b64decode(old), "anew")
        with admin(filled) as connection:
            connection.execute("UPDATE org_instances SET database_url_encrypted = %s WHERE id = %s", (value, row))

    later = threading.Timer(1.5, provision_anew)
    later.start()
    database = reencryption.database_of(SETTINGS, lambda _key: None)
    assert "encrypted values in" in rows_decrypt(database, cipher(old), patience=20)
    later.join()


def test_the_whole_rotation_is_verified_and_what_is_left_behind_is_found(
    filled: Sandbox, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filled.provision("tenant-of-old") == "running"
    new = new_key()
    database = reencryption.database_of(SETTINGS, lambda _key: None)

    def verify() -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(new))
        try:
            secrets_encryption_key.verify(told(filled), Subject(secret=NAME, generation=2, credential_id="c"))
        finally:  # a process ends after a check
            check._ending.clear()

    estimate = issuer(old).interruption()
    it = companion(new, old, lines=[])
    it.check()
    filled.secrets(**{NAME: new})
    times = [time.perf_counter()]
    it.forward()
    times.append(time.perf_counter())
    late = add(filled, encryption.encrypt(base64.b64decode(old), "written by a machine that has not restarted yet"))
    filled.roll()
    times.append(time.perf_counter())
    with pytest.raises(CheckFailedError, match=r"1 of .* encrypted values do not decrypt") as straggler:
        rows_decrypt(database, cipher(new), patience=0)
    assert str(late) in str(straggler.value)
    it.finish()
    with pytest.raises(CheckFailedError, match=r"tenants: .* has another value"):
        verify()
    machine = next(each for each in filled.machines(TENANT) if each["name"] == "tenant-tenant-of-old")
    machine["config"]["env"][NAME] = new
    times.append(time.perf_counter())
    answer = filled.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": machine["config"]})
    assert answer.status_code == 200, answer.text
    fly = FlyClient(filled.environment["FLY_ACCESS_TOKEN"])
    tenants = TenantMachines(fly=fly, app="molecule-tenant", variable=NAME, value=new)
    said = tenants.assert_hold(patience=0, health_patience=30)
    times.append(time.perf_counter())
    assert f"machines of molecule-tenant hold the new {NAME}" in said
    verify()
    assert not any(org.slug.startswith("reencrypttest-") for org in control_plane_of(filled).orgs())
    assert issuer(new, old).refuses(old)
    assert filled.control_plane("DELETE", "/cp/orgs/tenant-of-old").status_code == 204
    filled.secrets(**{NAME: old})
    it.back()
    filled.roll()
    measured = ", ".join(f"{times[end] - times[end - 1]:.1f}" for end in (1, 2, 4))
    say(f"\nestimated {estimate}; measured {measured} s")


# -- the server --------------------------------------------------------------------------------------------------------


def test_a_server_is_asked_whether_it_takes_a_password(filled: Sandbox) -> None:
    uri = filled.secret_value("DATABASE_URL")
    address = uri.rpartition("@")[2]
    assert postgres.accepts(uri)
    assert not postgres.accepts(f"postgresql://molecule_cp:wrong-password@{address}")
    assert not postgres.accepts(f"postgresql://nobody-at-all:wrong-password@{address}")
    assert not postgres.accepts(f"postgresql://molecule_cp@{address}")
    for unreachable in (
        "postgresql://molecule_cp:the-password@127.0.0.1:1/neondb",
        "postgresql://u:the-password@[::/x",
    ):
        with pytest.raises(ApiError, match="could not connect") as failed:
            postgres.accepts(unreachable)
        assert "the-password" not in str(failed.value)
    with postgres.other_connections(uri) as count:
        before = count()
        with psycopg.connect(uri):
            assert count() == before + 1
