"""Does the sandbox notice by itself, and for good, when what a rotation must never break is broken for a moment?"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from sandbox import invariants
from sandbox.world import sha256
from tests.sandbox.running import Sandbox, until

FAMILY = "molecule-cp-rotation-sandbox-FLY_API_TOKEN"


@pytest.fixture
def sandbox(fresh: Sandbox) -> Sandbox:
    fresh.start("--check-interval", "0.2", "--machines", "1")
    return fresh


def violations(sandbox: Sandbox, invariant: str) -> list[str]:
    return [each["what"] for each in sandbox.inspect()["violations"] if each["invariant"] == invariant]


def test_a_new_sandbox_violates_nothing(sandbox: Sandbox) -> None:
    sandbox.mint(name=f"{FAMILY}-g1")
    sandbox.mint(name=f"{FAMILY}-g2")
    sandbox.secrets(ANYTHING="else")
    assert sandbox.inspect()["violations"] == []
    assert sandbox.inspect()["breakages"] == []


def test_a_revoked_token_that_is_held_is_noticed_though_it_is_accepted_still(sandbox: Sandbox) -> None:
    with sandbox.setting(revocation_delay=60), sandbox.world() as world:
        held = sha256(sandbox.secret_value("FLY_API_TOKEN"))
        sandbox.revoke(next(each.identifier for each in world.credentials.all("fly") if each.shown_sha256 == held))
    noticed = violations(sandbox, invariants.HELD)
    assert any("Fly app molecule-cp" in each for each in noticed)
    assert any("machine molecule-cp/" in each for each in noticed)
    assert any("repository Molecule-AI/molecule-monorepo" in each for each in noticed)
    assert violations(sandbox, invariants.WORKS) == [], "it is accepted for another minute"


def test_a_machine_that_boots_with_nonsense_is_noticed_though_it_is_mended_later(sandbox: Sandbox) -> None:
    good = sandbox.secret_value("NEON_API_KEY")
    sandbox.secrets(NEON_API_KEY="napi_nonsense")
    assert violations(sandbox, invariants.WORKS) == [], "no machine has it yet"
    (machine,) = sandbox.machines()
    sandbox.roll()
    until(lambda: violations(sandbox, invariants.WORKS), what="the machine's new environment is noticed")
    sandbox.secrets(NEON_API_KEY=good)
    sandbox.roll()
    (noticed,) = violations(sandbox, invariants.WORKS)
    assert noticed.startswith(f"NEON_API_KEY of machine molecule-cp/{machine['id']} is refused by neon")
    assert "napi_nonsense" not in noticed


def test_a_third_live_credential_of_a_family_is_noticed(sandbox: Sandbox) -> None:
    for generation in (1, 2, 3):
        sandbox.mint(name=f"{FAMILY}-g{generation}")
    assert violations(sandbox, invariants.TWO) == [f"3 credentials of the family {FAMILY} are live"]


def test_a_password_that_the_server_no_longer_takes_is_noticed(sandbox: Sandbox) -> None:
    role = urlsplit(sandbox.secret_value("DATABASE_URL")).username
    branch = next(each for each in sandbox.inspect()["neon"]["branches"] if each["default"])
    sandbox.neon("POST", f"/projects/{branch['project']}/branches/{branch['id']}/roles/{role}/reset_password")
    until(lambda: violations(sandbox, invariants.WORKS), what="the reset is noticed")
    assert all(each.startswith("DATABASE_URL of machine") for each in violations(sandbox, invariants.WORKS))


@pytest.mark.parametrize(
    ("password", "fits"),
    [("pencil", True), ("pen", False)],
)
def test_a_password_is_compared_with_the_verifier_of_the_server(password: str, *, fits: bool) -> None:
    # RFC 7677, section 3: the exchange of user "user" with password "pencil".
    verifier = (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert invariants._fits(password, verifier) is fits
    assert invariants._fits(password, "") is False


def test_violations_are_kept_when_the_sandbox_stops(sandbox: Sandbox) -> None:
    for generation in (1, 2, 3):
        sandbox.mint(name=f"{FAMILY}-g{generation}")
    noticed = sandbox.inspect()["violations"]
    sandbox.stop()
    assert sandbox.inspect()["violations"] == noticed


def test_a_password_that_redis_no_longer_takes_is_noticed(sandbox: Sandbox) -> None:
    sandbox.reset_password()
    until(lambda: violations(sandbox, invariants.WORKS), what="the reset is noticed")
    assert all(each.startswith("TENANT_REDIS_URL of machine") for each in violations(sandbox, invariants.WORKS))
