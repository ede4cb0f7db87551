"""Is a rotation safe at providers whose lists of credentials lag behind what was minted and revoked?"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from components.errors import OperatorError
from components.issuers import ISSUERS, Context
from components.lifecycle import RevocationOrder, make_current, revoke_all_but
from components.secret import Family
from sandbox import neon
from tools.workspace import exports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from components.issuer import Issuer
    from components.keyring import Credential
    from tests.sandbox.running import Sandbox

LAG = 3600  # seconds: for the length of a test, a list shows nothing that the test did
LAG_OF_STRIPE = 10  # seconds: it has to show the endpoint that is copied
KINDS: Mapping[str, Mapping[str, str]] = {
    "fly-deploy-token": {"app": "molecule-tenant", "profile": "deploy", "expiry": "8760h0m0s"},
    "neon-api-key": {"organization_id": neon.ORGANIZATION, "project_id": neon.PROJECT},
    "resend-sending-key": {"domain": "moleculesai.app"},
    "stripe-webhook-endpoint": {"webhook_url": "", "control_plane_url": "", "mode": "live", "connect": "false"},
    "neon-role-password": {
        "project": neon.PROJECT,
        "branch": "",
        "database": "neondb",
        "pooled": "false",
        "strategy": "alternate",
        "role": "lagging",
    },
}
MINTED_BY_NAME = [kind for kind in KINDS if kind != "neon-role-password"]


@pytest.fixture(scope="module")
def environment(sandbox: Sandbox) -> Mapping[str, str]:
    return exports(sandbox.command("env"))


@pytest.fixture(autouse=True)
def _operator(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        if name.startswith(("FLY_", "NEON_", "RESEND_", "STRIPE_", "CONTROL_PLANE_URL")):
            monkeypatch.setenv(name, value)


@dataclass
class Stack:
    """What a stack knows of one secret, and what the provider really has of its family."""

    kind: str
    family: Family
    sandbox: Sandbox
    keyring: list[Credential] | None = None
    verified: int = 0
    waited: list[float] = field(default_factory=list)

    def issuer(self) -> Issuer:
        """As the provider of the resource builds it."""
        context = Context(config=lambda _key: None, keyring=tuple(self.keyring or ()), keep_from=self.verified)
        return ISSUERS[self.kind].build(KINDS[self.kind], context)

    def turn(self, generation: int) -> Credential:
        """Makes a generation current."""
        current, self.keyring = make_current(
            [self.issuer()], self.family, generation, keyring=self.keyring, keep_from=self.verified
        )
        return current

    def revoke(self, *, timeout: float = 4) -> None:
        """Revokes all but the current one, as if that had been verified."""
        assert self.keyring
        known: Sequence[Credential] = self.keyring
        order = RevocationOrder(
            family=self.family,
            verified=known[0],
            holdings={},
            subject="s",
            verified_subject="s",
            known=tuple(known),
            also=(),
            proof_timeout=timeout,
        )
        revoke_all_but([self.issuer()], order, sleep=self._wait)
        self.verified = known[0].generation

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        time.sleep(seconds)

    def alive(self) -> list[str]:
        """The generations that are alive, by the truth."""
        with self.sandbox.world() as world:
            return sorted(
                each.name.rpartition("-")[2]
                for each in world.credentials.all()
                if each.family == self.family.prefix.removesuffix("-g") and each.live(world.now())
            )


@pytest.fixture
def stack(request: pytest.FixtureRequest, sandbox: Sandbox) -> Stack:
    kind, secret = request.param, request.node.name.upper().replace("[", "_").replace("]", "")[-16:]
    return Stack(
        kind=kind,
        family=Family(app="cp", stack="lag", secret=secret, longest_name=ISSUERS[kind].longest_name),
        sandbox=sandbox,
    )


@contextlib.contextmanager
def lagging(stack: Stack, seconds: float | None = None) -> Iterator[None]:
    provider = stack.kind.partition("-")[0]
    usual = LAG_OF_STRIPE if provider == "stripe" else LAG
    with stack.sandbox.setting(**{f"{provider}__list_lag": usual if seconds is None else seconds}):
        while provider == "stripe" and stack.issuer().obstacles():
            time.sleep(0.5)
        yield


@pytest.mark.parametrize("stack", KINDS, indirect=True)
def test_what_is_in_use_and_not_listed_yet_survives_bumps(stack: Stack) -> None:
    with lagging(stack):
        in_use = stack.turn(1)
        stack.turn(2)
    third = stack.turn(3)  # the list has caught up, and nothing has been verified: consumers may hold any of them
    issuer = stack.issuer()
    assert issuer.refuses(in_use.value) is not True
    assert {each.generation for each in stack.keyring or ()} == {1, 2, 3}
    if stack.kind in MINTED_BY_NAME:
        assert stack.alive() == ["g1", "g2", "g3"]
    stack.revoke()
    assert stack.issuer().refuses(third.value) is not True
    if stack.kind in MINTED_BY_NAME:
        assert stack.alive() == ["g3"]


@pytest.mark.parametrize("stack", [kind for kind in MINTED_BY_NAME if kind != "stripe-webhook-endpoint"], indirect=True)
def test_a_rotation_is_finished_whatever_the_list_shows(stack: Stack) -> None:
    stack.turn(1)
    stack.revoke()
    with lagging(stack):
        stack.turn(2)
        stack.revoke()
        assert stack.alive() == ["g2"]
        stack.turn(3)
        assert stack.turn(2).generation == 2  # abandoned before it was listed
        stack.revoke()
        assert stack.alive() == ["g2"]
    assert stack.waited == [], "values prove it"


@pytest.mark.parametrize("stack", ["stripe-webhook-endpoint"], indirect=True)
def test_where_no_value_can_be_tried_the_list_is_waited_for(stack: Stack) -> None:
    stack.turn(1)
    stack.revoke()
    with lagging(stack, 3):
        stack.turn(2)
        stack.revoke(timeout=20)
    assert stack.waited
    assert stack.alive() == ["g2"]
    with lagging(stack):
        stack.turn(3)
        with pytest.raises(OperatorError, match="does not list the verified credential"):
            stack.revoke()
        assert stack.alive() == ["g2", "g3"], "nothing was revoked"
    stack.revoke()
    assert stack.alive() == ["g3"]


@pytest.mark.parametrize("stack", MINTED_BY_NAME, indirect=True)
def test_an_orphan_that_is_not_listed_is_found_by_the_next_rotation(stack: Stack) -> None:
    stack.turn(1)
    stack.revoke()
    known = stack.keyring
    stack.turn(2)
    stack.keyring = known  # a crash: nobody has the value
    with lagging(stack):
        stack.turn(2)
        assert stack.alive() == ["g1", "g2", "g2"]
    stack.revoke()
    assert stack.alive() == ["g2"]
