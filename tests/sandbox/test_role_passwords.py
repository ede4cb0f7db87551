"""Do the passwords of roles live and die at a real PostgreSQL as the program says, and do its checks of DATABASE_URL find what is wrong?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from components.http import ApiError
from components.lifecycle import RevocationOrder, make_current, revoke_all_but
from components.neon.client import NeonClient
from components.neon.roles import ALTERNATE, RESET, RolePasswords
from components.postgres import accepts, other_connections, tables_without_rights
from components.secret import Family
from sandbox import connections, neon
from tests.sandbox.checks import run_check
from tests.sandbox.running import Sandbox, until
from tools.workspace import exports

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from components.keyring import Credential

FAMILY = Family(app="cp", stack="prod", secret="DATABASE_URL", longest_name=255)
HAND_MADE = "molecule_cp"
PROBE, VERIFICATION = "database_url_probe", "database_url"
TOLD = {"app": "molecule-cp", "url": "https://set.by.the.environment.test", "overlaps": True, "timeout": 3}


@pytest.fixture(scope="module")
def environment(sandbox: Sandbox) -> Mapping[str, str]:
    return exports(sandbox.command("env"))


@pytest.fixture(autouse=True)
def _operator(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEON_API_BASE_URL", "NEON_API_KEY"):
        monkeypatch.setenv(name, environment[name])


def issuer(
    environment: Mapping[str, str], keyring: Sequence[Credential], strategy: str = ALTERNATE, *, verified: int = 0
) -> RolePasswords:
    return RolePasswords(
        client=NeonClient(environment["NEON_API_KEY"]),
        project=neon.PROJECT,
        branch="",
        database="neondb",
        pooled=False,
        strategy=strategy,
        role=HAND_MADE,
        keyring=tuple(keyring),
        keep_from=verified,
    )


def order(verified: Credential, known: Sequence[Credential], *also: str) -> RevocationOrder:
    return RevocationOrder(
        family=FAMILY,
        verified=verified,
        holdings={},
        subject="s",
        verified_subject="s",
        known=tuple(known),
        also=also,
        proof_timeout=10,
    )


def test_a_new_role_works_beside_the_old_one_until_that_is_revoked(
    environment: Mapping[str, str], sandbox: Sandbox
) -> None:
    hand_made = sandbox.secret_value("DATABASE_URL")
    first, known = make_current([issuer(environment, [])], FAMILY, 1, keyring=None)
    second, known = make_current([issuer(environment, known)], FAMILY, 2, keyring=known)
    assert [accepts(each) for each in (hand_made, first.value, second.value)] == [True, True, True]
    assert {urlsplit(each.value).username for each in known} == {"molecule_cp_a", "molecule_cp_b"}
    verdict = revoke_all_but([issuer(environment, known)], order(second, known))
    assert [each.name for each in verdict.revoked] == [first.name]
    assert {HAND_MADE, "neondb_owner"} <= {each.credential_id for each in verdict.unmanaged}
    assert [accepts(each) for each in (hand_made, first.value, second.value)] == [True, False, True]
    third, known = make_current([issuer(environment, known, verified=2)], FAMILY, 3, keyring=known)
    assert urlsplit(third.value).username == "molecule_cp_a", "the idle role is used again"
    assert accepts(second.value)
    revoke_all_but([issuer(environment, known)], order(third, known))


def test_the_new_role_reads_and_writes_what_others_made(environment: Mapping[str, str], sandbox: Sandbox) -> None:
    current, _ = make_current([issuer(environment, [])], FAMILY, 1, keyring=None)
    role = sql.Identifier(str(urlsplit(current.value).username))
    assert tables_without_rights(current.value) == []
    with sandbox.world() as world, connections.connect(world) as administrator:
        administrator.execute("CREATE TABLE locked (id int); ALTER TABLE locked OWNER TO cloud_admin")
        administrator.execute("CREATE SCHEMA closed; CREATE TABLE closed.things (id int)")
        administrator.execute(sql.SQL("REVOKE neon_superuser FROM {}").format(role))
    assert {"closed.things", "public.locked"} <= set(tables_without_rights(current.value))
    done = check(environment, PROBE, current.value, {"every_table": True})
    assert done.returncode == 1
    assert "public.locked" in done.stderr
    assert check(environment, PROBE, current.value, {"every_table": False}).returncode == 0
    with sandbox.world() as world, connections.connect(world) as administrator:
        administrator.execute("DROP TABLE locked; DROP SCHEMA closed CASCADE")
        administrator.execute(sql.SQL("GRANT neon_superuser TO {}").format(role))


def check(
    environment: Mapping[str, str], module: str, value: str, settings: Mapping[str, object]
) -> subprocess.CompletedProcess[str]:
    """Run a check that must not show the password in a URL."""
    return run_check(module, value, settings, environment, hidden=(str(urlsplit(value).password),))


def test_a_refused_url_fails_the_probe_and_is_not_shown(environment: Mapping[str, str], sandbox: Sandbox) -> None:
    wrong = sandbox.secret_value("DATABASE_URL").replace("npg_", "npg_wrong")
    done = check(environment, PROBE, wrong, {"every_table": True})
    assert done.returncode == 1
    assert "the database refuses the new role or password" in done.stderr
    nobody = "postgresql://molecule_cp:npg_secret-word@127.0.0.1:1/neondb"
    done = check(environment, PROBE, nobody, {"every_table": True})
    assert done.returncode == 1
    assert "could not be tried" in done.stderr


def test_a_server_that_is_not_there_proves_nothing() -> None:
    with pytest.raises(ApiError) as failed:
        accepts("postgresql://molecule_cp:npg_secret-word@127.0.0.1:1/neondb")
    assert "npg_secret-word" not in str(failed.value) + repr(failed.value)
    assert failed.value.__cause__ is None


def test_connections_of_others_are_counted(environment: Mapping[str, str]) -> None:
    current, _ = make_current([issuer(environment, [])], FAMILY, 1, keyring=None)
    with other_connections(current.value) as count:
        assert count() == 0
        with psycopg.connect(current.value):
            assert count() == 1
        until(lambda: count() == 0, what="the connection is over")


@pytest.fixture
def own(fresh: Sandbox) -> tuple[Sandbox, Mapping[str, str]]:
    fresh.start("--check-interval", "0.2")
    return fresh, exports(fresh.command("env"))


def test_with_one_role_the_old_password_dies_with_the_mint(
    own: tuple[Sandbox, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, environment = own
    for name in ("NEON_API_BASE_URL", "NEON_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    hand_made = sandbox.secret_value("DATABASE_URL")
    it = issuer(environment, [], RESET)
    assert not it.overlaps
    assert it.obstacles() == []
    assert "dies as soon as" in it.outage
    first, known = make_current([it], FAMILY, 1, keyring=None)
    assert [accepts(each) for each in (hand_made, first.value)] == [False, True]
    second, known = make_current([issuer(environment, known, RESET)], FAMILY, 2, keyring=known)
    assert [accepts(each) for each in (first.value, second.value)] == [False, True]
    verdict = revoke_all_but([issuer(environment, known, RESET)], order(second, known))
    assert accepts(second.value), "the revocation of the old password must not reset the one in use"
    assert first.name in {each.name for each in verdict.revoked}


def test_what_is_missing_at_neon_is_said_before_anything_is_minted(environment: Mapping[str, str]) -> None:
    it = issuer(environment, [])
    assert "databaseProject" in replace(it, project="no-such-project").obstacles()[0].next_step
    assert "databaseBranch" in replace(it, branch="br-none").obstacles()[0].next_step
    assert "databaseRole" in replace(it, strategy=RESET, role="nobody").obstacles()[0].next_step


def test_the_control_plane_has_to_use_the_role_that_is_verified(
    environment: Mapping[str, str], sandbox: Sandbox
) -> None:
    in_use = sandbox.secret_value("DATABASE_URL")
    done = check(environment, VERIFICATION, in_use, {**TOLD, "prove_use": True})
    assert done.returncode == 0, done.stderr
    assert "the control plane connects as the new role" in done.stderr
    not_in_use, _ = make_current([issuer(environment, [])], FAMILY, 1, keyring=None)
    done = check(environment, VERIFICATION, not_in_use.value, {**TOLD, "prove_use": True})
    assert done.returncode == 1
    assert "a connection of the control plane as the new role: not within 3 s" in done.stderr
    assert check(environment, VERIFICATION, not_in_use.value, {**TOLD, "prove_use": False}).returncode == 0


def test_a_control_plane_that_cannot_read_its_database_is_found_out(
    environment: Mapping[str, str], sandbox: Sandbox
) -> None:
    url = sandbox.secret_value("DATABASE_URL")
    with sandbox.fault(
        "--provider", "control-plane", "--match", "GET", "/cp/admin/orgs", "--status", "503", "--count", "99"
    ):
        done = check(environment, VERIFICATION, url, {**TOLD, "prove_use": False})
    assert done.returncode == 1
    assert "database: " in done.stderr
    assert "503" in done.stderr


def test_without_an_overlap_the_outage_is_told(environment: Mapping[str, str], sandbox: Sandbox) -> None:
    url = sandbox.secret_value("DATABASE_URL")
    done = check(environment, VERIFICATION, url, {**TOLD, "prove_use": False, "overlaps": False})
    assert done.returncode == 0, done.stderr
    assert "consumers had no working value for at most" in done.stderr
