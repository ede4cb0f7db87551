"""The control plane as a consumer of its database and of its encryption key: what a rotation of either breaks and heals."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import dict_row

from sandbox import neon
from sandbox.processes import encryption
from tests.sandbox.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandbox

PROJECT = f"/projects/{neon.PROJECT}"
REDIS_URL = "redis://default:redis-password@127.0.0.1:6379"
KEY = "SECRETS_ENCRYPTION_KEY"


def rows(sandbox: Sandbox, slug: str = "%") -> list[dict[str, Any]]:
    """Return instances as somebody who may read the database sees them."""
    with psycopg.connect(sandbox.secret_value("DATABASE_URL"), row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT * FROM org_instances JOIN organizations ON organizations.id = org_id WHERE slug LIKE %s", (slug,)
        ).fetchall()


def decrypted(sandbox: Sandbox, column: bytes, key: bytes | None = None) -> str:
    """Decrypt a column as the contract says, and not with the sandbox's own code."""
    key = base64.b64decode(sandbox.secret_value(KEY)) if key is None else key
    return AESGCM(key).decrypt(column[:12], column[12:], None).decode()


def uri(sandbox: Sandbox, role: str) -> str:
    answer = sandbox.neon("GET", f"{PROJECT}/connection_uri?database_name=neondb&role_name={role}")
    return str(answer.json()["uri"])


def reset(sandbox: Sandbox, role: str) -> str:
    """Reset a role's password and return the URI with the new one."""
    branch = next(b["id"] for b in sandbox.neon("GET", f"{PROJECT}/branches").json()["branches"] if b["default"])
    answer = sandbox.neon("POST", f"{PROJECT}/branches/{branch}/roles/{role}/reset_password")
    assert answer.status_code == 200, answer.text
    return uri(sandbox, role)


def add_role(sandbox: Sandbox, role: str) -> str:
    branch = next(b["id"] for b in sandbox.neon("GET", f"{PROJECT}/branches").json()["branches"] if b["default"])
    answer = sandbox.neon("POST", f"{PROJECT}/branches/{branch}/roles", {"role": {"name": role}})
    assert answer.status_code == 201, answer.text
    return uri(sandbox, role)


def statuses(sandbox: Sandbox, *paths: str) -> list[int]:
    return [sandbox.control_plane("GET", path).status_code for path in paths]


def logs(sandbox: Sandbox) -> str:
    return sandbox.fly("GET", "/api/v1/apps/molecule-cp/logs").text


def new_breakages(sandbox: Sandbox, before: int) -> list[tuple[str, str]]:
    return [(each["consumer"], each["what"]) for each in sandbox.inspect()["breakages"][before:]]


@pytest.fixture
def restored(sandbox: Sandbox) -> Iterator[None]:
    """Give the control plane back the key that it had, and the URI that is good then."""
    key, redis_url = sandbox.secret_value(KEY), sandbox.secret_value("TENANT_REDIS_URL")
    yield
    sandbox.secrets(**{KEY: key, "DATABASE_URL": uri(sandbox, "molecule_cp"), "TENANT_REDIS_URL": redis_url})
    sandbox.roll()


@pytest.fixture
def instant(sandbox: Sandbox) -> Iterator[None]:
    """Let Neon's operations take no time."""
    with sandbox.setting(neon__operation_seconds=0):
        yield


# -- the database ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restored", "instant")
def test_a_reset_breaks_the_control_plane_and_a_new_url_heals_it(sandbox: Sandbox) -> None:
    session = {"cookie": f"mcp_session={sandbox.environment['CP_SESSION']}"}
    assert sandbox.provision("before-reset") == "running"
    before = len(sandbox.inspect()["breakages"])
    new = reset(sandbox, "molecule_cp")
    assert statuses(sandbox, "/health") == [200]
    assert statuses(sandbox, "/cp/admin/orgs", "/cp/orgs/before-reset", "/cp/orgs") == [503, 503, 503]
    assert sandbox.control_plane("GET", "/cp/orgs", headers=session).status_code == 503
    body = {"slug": "while-broken", "name": "n"}
    assert sandbox.control_plane("POST", "/cp/admin/orgs", body).status_code == 503
    found = new_breakages(sandbox, before)
    machines = {f"molecule-cp/{machine['id']}" for machine in sandbox.machines()}
    assert {what for consumer, what in found if consumer in machines} == {
        "postgres: the credential of DATABASE_URL was refused"
    }
    assert ("molecule-cp", "GET /cp/admin/orgs was answered 503") in found
    sandbox.secrets(DATABASE_URL=new)
    sandbox.roll()
    before = len(sandbox.inspect()["breakages"])
    assert statuses(sandbox, "/cp/admin/orgs", "/cp/orgs/before-reset") == [200, 200]
    assert sandbox.control_plane("DELETE", "/cp/orgs/before-reset").status_code == 204
    assert new_breakages(sandbox, before) == []
    assert str(psycopg.conninfo.conninfo_to_dict(new)["password"]) not in logs(sandbox)


@pytest.mark.usefixtures("restored", "instant")
def test_two_roles_take_turns_and_nobody_notices(sandbox: Sandbox) -> None:
    before = len(sandbox.inspect()["breakages"])
    assert statuses(sandbox, *["/cp/admin/orgs"] * 4) == [200] * 4
    second = add_role(sandbox, "molecule_cp_b")  # cuts the connections that the machines keep
    assert statuses(sandbox, *["/cp/admin/orgs"] * 4) == [200] * 4
    sandbox.secrets(DATABASE_URL=second)
    sandbox.roll()
    reset(sandbox, "molecule_cp")
    assert statuses(sandbox, *["/cp/admin/orgs"] * 4) == [200] * 4
    assert sandbox.provision("by-the-second") == "running"
    assert sandbox.control_plane("DELETE", "/cp/orgs/by-the-second").status_code == 204
    assert new_breakages(sandbox, before) == []


@pytest.mark.usefixtures("restored", "instant")
def test_a_kept_connection_outlives_a_reset_that_cuts_none(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__keep_connections=1):
        for _ in range(4):
            assert statuses(sandbox, "/cp/admin/orgs") == [200]
        new = reset(sandbox, "molecule_cp")
        assert statuses(sandbox, *["/cp/admin/orgs"] * 2) == [200, 200], "the trap: it works until it reconnects"
        sandbox.roll()
        assert statuses(sandbox, "/cp/admin/orgs") == [503]
    sandbox.secrets(DATABASE_URL=new)
    sandbox.roll()
    assert statuses(sandbox, "/cp/admin/orgs") == [200]


# -- encrypted columns -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restored")
def test_rows_are_encrypted_as_the_contract_says(sandbox: Sandbox) -> None:
    sandbox.secrets(TENANT_REDIS_URL=REDIS_URL)
    sandbox.roll()
    before = sandbox.inspect()["control_plane"]
    assert sandbox.provision("encrypted") == "running"
    (row,) = rows(sandbox, "encrypted")
    with psycopg.connect(decrypted(sandbox, row["database_url_encrypted"])) as connection:
        assert connection.info.dbname == f"neondb-{row['branch_id']}"
    assert decrypted(sandbox, row["redis_url_encrypted"]) == REDIS_URL
    assert len(row["redis_url_encrypted"]) == 12 + len(REDIS_URL) + 16
    with pytest.raises(InvalidTag):
        decrypted(sandbox, row["redis_url_encrypted"], os.urandom(32))
    after = sandbox.inspect()["control_plane"]
    assert [after[name] - before[name] for name in ("orgs", "rows_encrypted")] == [1, 1]
    assert REDIS_URL not in str(sandbox.inspect())
    assert sandbox.control_plane("DELETE", "/cp/orgs/encrypted").status_code == 204
    assert rows(sandbox, "encrypted") == []


@pytest.mark.usefixtures("restored")
def test_under_another_key_the_organizations_are_broken_until_their_rows_are_written_anew(sandbox: Sandbox) -> None:
    assert sandbox.provision("old-key") == "running"
    old = base64.b64decode(sandbox.secret_value(KEY))
    new = os.urandom(32)
    sandbox.secrets(**{KEY: base64.b64encode(new).decode()})
    assert statuses(sandbox, "/cp/orgs/old-key") == [200], "only staged"
    sandbox.roll()
    before = len(sandbox.inspect()["breakages"])
    assert statuses(sandbox, "/health", "/cp/admin/orgs", "/cp/orgs/old-key") == [200, 200, 500]
    found = [what for _, what in new_breakages(sandbox, before)]
    assert "postgres: org_instances.database_url_encrypted of old-key does not decrypt" in found
    assert "GET /cp/orgs/old-key was answered 500" in found
    (row,) = rows(sandbox, "old-key")
    columns = [row["database_url_encrypted"], row["redis_url_encrypted"]]
    anew = [encryption.encrypt(new, decrypted(sandbox, column, old)) for column in columns]
    with psycopg.connect(sandbox.secret_value("DATABASE_URL")) as connection:
        connection.execute(
            """
            UPDATE org_instances SET database_url_encrypted = %s, redis_url_encrypted = %s
            WHERE org_id = %s AND database_url_encrypted = %s AND redis_url_encrypted = %s
            """,
            (*anew, row["org_id"], *columns),
        )
    assert statuses(sandbox, "/cp/orgs/old-key") == [200]
    assert sandbox.control_plane("DELETE", "/cp/orgs/old-key").status_code == 204


@pytest.mark.usefixtures("restored")
def test_with_a_key_that_it_misreads_the_control_plane_does_not_start(sandbox: Sandbox) -> None:
    hexadecimal = os.urandom(32).hex()
    sandbox.secrets(**{KEY: hexadecimal})
    machine = sandbox.machines()[0]
    assert sandbox.update(machine).status_code == 200
    until(lambda: "SECRETS_ENCRYPTION_KEY: got 48 bytes, expected 32" in logs(sandbox), what="it says why")
    assert hexadecimal not in logs(sandbox)
    assert sandbox.provision("on-the-other") == "running", "the other machine has the old key"
    with sandbox.setting(control_plane__key_encoding="hex"):
        answer = sandbox.update(machine)
        assert answer.status_code == 200, answer.text
        sandbox.wait_healthy(answer.json())
    assert sandbox.control_plane("DELETE", "/cp/orgs/on-the-other").status_code in {204, 500}
    sandbox.secrets(**{KEY: None})
    answer = sandbox.update(machine)
    until(lambda: "SECRETS_ENCRYPTION_KEY: got 0 bytes, expected 32" in logs(sandbox), what="it says why")


@pytest.mark.usefixtures("restored")
def test_switches_can_be_combined(sandbox: Sandbox) -> None:
    with sandbox.setting(control_plane__key_encoding="hex", control_plane__misread_new=KEY):
        sandbox.roll()
        sandbox.secrets(**{KEY: os.urandom(32).hex()})
        machine = sandbox.machines()[0]
        assert sandbox.update(machine).status_code == 200
        until(lambda: "SECRETS_ENCRYPTION_KEY: got 63 bytes, expected 32" in logs(sandbox), what="it says why")
        sandbox.quickly("unset", "control_plane.misread_new")
        answer = sandbox.update(machine)
        assert answer.status_code == 200, answer.text
        sandbox.wait_healthy(answer.json())


@pytest.mark.parametrize(
    ("text", "hexadecimal", "key"),
    [
        (base64.b64encode(b"k" * 32), False, b"k" * 32),
        (base64.b64encode(b"k" * 32), True, b"k" * 32),
        (b"\xff" * 32, False, b"\xff" * 32),
        (b"a" * 32, False, b"a" * 32),
        (b"ab" * 32, True, b"\xab" * 32),
        (b"ab" * 32, False, "got 48 bytes, expected 32"),
        (base64.b64encode(b"k" * 16), False, "got 16 bytes, expected 32"),
        (base64.urlsafe_b64encode(b"\xff" * 32), False, "got 44 bytes, expected 32"),
        (b"", False, "got 0 bytes, expected 32"),
    ],
)
def test_what_the_loader_takes_for_a_key(*, text: bytes, hexadecimal: bool, key: bytes | str) -> None:
    if isinstance(key, bytes):
        assert encryption.load_key(text, hexadecimal=hexadecimal) == key
    else:
        with pytest.raises(ValueError, match=key):
            encryption.load_key(text, hexadecimal=hexadecimal)


def test_many_organizations_for_rehearsals(sandbox: Sandbox) -> None:
    before = sandbox.inspect()["control_plane"]
    began = time.monotonic()
    sandbox.quickly("seed-orgs", "--count", "10000")
    assert time.monotonic() - began < 60
    sandbox.quickly("seed-orgs", "--count", "2")
    after = sandbox.inspect()["control_plane"]
    assert [after[name] - before[name] for name in ("orgs", "rows_encrypted")] == [10002, 10002]
    (row,) = rows(sandbox, "seeded-10002")
    assert decrypted(sandbox, row["database_url_encrypted"]).startswith("postgresql://")
    assert decrypted(sandbox, row["redis_url_encrypted"]).startswith("redis://")
    assert statuses(sandbox, "/cp/orgs/seeded-1") == [200]
    assert sandbox.control_plane("DELETE", "/cp/orgs/seeded-1").status_code == 204
