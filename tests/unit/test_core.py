"""Do the decisions of the core, put together as the engine puts them together, keep the promises of DESIGN.md, section 2, whatever happens?

State, counters and the outcome of every step are drawn: minted, delivered, verified, revoked, failed, killed, staged, left out, abandoned.
The provider is one in memory (`FakeIssuer`); what is decided, in which order, and from which state is the program's own.
"""

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from components import own_state
from components.errors import OperatorError, RefusedError
from components.keyring import Credential, fingerprint
from components.lifecycle import RevocationOrder, make_current, revoke_all_but
from components.secret import Family, Location
from components.settings import assert_no_step_back
from components.work import Action

from .fake_issuer import FakeIssuer
from .test_work import ALL_STEPS, DELIVERIES, FLY, SECRET, Stack, steps_of
from .wire import Clock

HAND_MADE = "made by hand"
FAMILY = Family(app="cp", stack="prod", secret=SECRET.name, longest_name=255)
# Not GitHub, which shows no value: an update of one of its secrets that was carried out and not saved is noticed by nothing here.
CUT_OFF = ("turn", *DELIVERIES[:2], "revoke")
ASKED = DELIVERIES[:2]  # what Fly shows of its apps tells a value that the state does not know of


@dataclass
class Real(Stack):
    """The engine of `test_work.Stack`, with a provider that mints and revokes, and with what consumers really hold.

    Attributes:
        issuer: The provider.
        held: What each location holds, whatever the state says.
        unproven: Whether anything was revoked although what is held is not what was verified.
        orphaned: Whether a credential may have been minted whose value nobody got, and no credential was made current since. Such a one is
            looked for by the next turn or revocation, and by no other update.
        running: What machines of the Fly app run with: a secret that is staged is not what they booted with.
    """

    issuer: FakeIssuer = field(default_factory=FakeIssuer)
    held: dict[str, str] = field(default_factory=lambda: dict.fromkeys(DELIVERIES, HAND_MADE))
    running: str = HAND_MADE
    unproven: bool = False
    orphaned: bool = False

    def act(
        self,
        generation: int,
        *,
        fails: str = "",
        killed: bool = False,
        without: Collection[str] = (),
        staged: bool = False,
    ) -> list[str]:
        """Runs an update, and returns what it did.

        Args:
            generation: The counter.
            fails: The step that fails, without an effect where a failure has none.
            killed: Whether it is carried out instead, and the engine ends before it has saved that.
            without: Steps that `--target` leaves out.
            staged: Whether machines are not restarted, and hence nothing is verified.
        """
        done: list[str] = []
        for name, step in self._steps(generation):
            if name in without or (staged and name in {"verify", "revoke"}):
                continue
            if name == fails and not killed:
                return done
            if name == "verify" and self.running != self.held[str(FLY)]:
                return done  # every verification looks whether all machines have booted since (`machines_run_the_new_value`)
            try:
                outputs = step()
            except OperatorError:
                self.orphaned |= name == "turn"
                raise
            if outputs is not None and name in DELIVERIES:
                self._delivered(name, staged=staged)
            if name == str(FLY) and not staged:
                self.running = self.held[name]
            if name == fails:
                self.orphaned |= name == "turn"
                return done
            if outputs is None:
                continue
            self.orphaned &= name != "revoke"
            done.append(name)
            kind, key, values = outputs
            self.resources[key] = (kind, values)
        return done

    def _delivered(self, place: str, *, staged: bool) -> None:
        self.held[place] = self._current["value"]
        if place == str(FLY) and not staged:
            self.running = self._current["value"]

    @property
    def drifted(self) -> list[Location]:
        """Locations that do not hold what the state says."""
        known = [each for each in self.secret.locations if self._in_state(str(each)) and str(each) in ASKED]
        return [each for each in known if self.held[str(each)] != self._in_state(str(each))]

    def _delivery(self, place: Location) -> tuple[str, str, dict[str, Any]] | None:
        known = self._in_state(str(place))
        if str(place) in ASKED and known and self.held[str(place)] != self._current["value"]:
            # The resource looks at Fly, and writes again.
            kind, key = own_state.APP_TYPE if place is FLY else own_state.TENANTS_TYPE, str(getattr(place, "app", ""))
            name = self.secret.name if place is FLY else str(getattr(place, "variable", ""))
            return kind, key, {**self._outputs(key), name: self._current["value"]}
        return super()._delivery(place)

    def _credential(self, generation: int) -> tuple[str, str, dict[str, Any]] | None:
        known = self._outputs(self.secret.name)
        if known.get("generation") == generation:
            return None
        keyring = [Credential.from_properties(each) for each in known["keyring"]] if known else None
        current, ring = make_current(
            [self.issuer], FAMILY, generation, keyring=keyring, keep_from=self.progress.keep_from
        )
        return (
            own_state.CREDENTIAL_TYPE,
            self.secret.name,
            {
                "generation": generation,
                "turn": str(int(known.get("turn", 0)) + 1),
                "salt": "pepper",
                "credential_id": current.credential_id,
                "created_at": current.created_at,
                "value": current.value,
                "keyring": [each.properties() for each in ring],
            },
        )

    def _revocation(self) -> tuple[str, str, dict[str, Any]] | None:
        if f"verification-{self.secret.name}" not in self.resources:
            raise OperatorError(
                "not verified yet", state="", next_step=""
            )  # the engine begins no resource before what it depends on
        outputs = super()._revocation()
        if outputs is None:
            return None
        report = json.loads(self._outputs(f"verification-{self.secret.name}")["stdout"])
        known = tuple(Credential.from_properties(each) for each in self._current["keyring"])
        order = RevocationOrder(
            family=FAMILY,
            verified=known[0],
            holdings={place: fingerprint(self._in_state(place)) for place in DELIVERIES},
            subject=self._subject,
            verified_subject=report["subject"],
            known=known,
            also=(),
            proof_timeout=0,
            tenants_behind=lambda value: [] if self.held[DELIVERIES[1]] == value else ["a machine"],
        )
        revoke_all_but([self.issuer], order, sleep=Clock().sleep)
        self.unproven |= report["subject"] != self._subject
        return outputs

    def _in_state(self, place: str) -> str:
        """What the engine believes a location to hold."""
        location = next(each for each in self.secret.locations if str(each) == place)
        outputs = self._delivery_outputs(location)
        return str(outputs)

    def _delivery_outputs(self, location: Any) -> object:  # noqa: ANN401 - any location
        if location is FLY:
            return self._outputs(location.app).get(self.secret.name, "")
        if hasattr(location, "variable"):
            return self._outputs(location.app).get(location.variable, "")
        return self._outputs(f"{location.repository}-{self.secret.name}").get("value", "")


class Core(RuleBasedStateMachine):
    """One secret at all kinds of locations."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Real()
        self.asked = 1

    # The operator

    @rule(up=st.integers(1, 3))
    def bump(self, up: int) -> None:
        """The counter goes up."""
        self.asked += up

    @rule()
    def go_back(self) -> None:
        """The counter goes back to what is verified."""
        self.asked = self.stack.progress.verified or self.asked

    @precondition(lambda self: self.stack.progress.verified > 1)
    @rule()
    def go_too_far_back(self) -> None:
        """Refused, by name and with what is allowed."""
        progress = self.stack.progress
        with pytest.raises(RefusedError, match=f"generation {progress.verified}, which was verified last"):
            assert_no_step_back({SECRET.name: progress.verified - 1}, {SECRET.name: progress})

    @rule()
    def update(self) -> None:
        """A plain update without a failure finishes, does what was foreseen, and leaves nothing to do."""
        assert_no_step_back({SECRET.name: self.asked}, {SECRET.name: self.stack.progress})
        foreseen = self.stack.work(self.asked, drifted=self.stack.drifted)
        assert self.stack.act(self.asked) == steps_of(foreseen)
        self._is_settled()

    @rule(fails=st.sampled_from(ALL_STEPS))
    def fail(self, fails: str) -> None:
        """A step fails, and has changed nothing."""
        self._try(fails=fails)

    @rule(at=st.sampled_from(CUT_OFF))
    def kill(self, at: str) -> None:
        """A step is carried out, and the engine is killed before it saves that."""
        self._try(fails=at, killed=True)

    @precondition(lambda self: self.stack.progress.has_verification)  # what was never made can be left out by nothing
    @rule(without=st.sets(st.sampled_from(ALL_STEPS[1:])))
    def target(self, without: set[str]) -> None:
        """Some resources are left out."""
        self._try(without=without)

    @rule()
    def stage(self) -> None:
        """Written, and nobody restarts: nothing is verified and nothing is revoked."""
        revoked = list(self.stack.issuer.revoked)
        orphans_may_go = self.stack.progress.current != self.asked
        work = self.stack.work(self.asked, held_back=True)
        assert not work.verifies
        assert not work.revokes
        assert work.action is not Action.VERIFY or work.probes
        self._try(staged=True)
        assert orphans_may_go or self.stack.issuer.revoked == revoked

    @rule()
    def deploy(self) -> None:
        """Somebody else restarts the machines."""
        self.stack.running = self.stack.held[str(FLY)]

    @rule(number=st.integers(1, 3), after=st.booleans())
    def disturb(self, number: int, after: bool) -> None:  # noqa: FBT001 - drawn
        """One of the next calls of the provider fails, in whichever update; then that update, and no more."""
        issuer = self.stack.issuer
        issuer.fail_at, issuer.after_acting = len(issuer.calls) + number, after
        self._try()
        issuer.fail_at = 0

    def _try(self, **how: Any) -> None:  # noqa: ANN401 - arguments of act
        with contextlib.suppress(OperatorError):
            self.stack.act(self.asked, **how)

    def _is_settled(self) -> None:
        stack, progress = self.stack, self.stack.progress
        value = progress.value_of(self.asked)
        assert {*stack.held.values(), stack.running} == {value}
        known = {each.credential_id for each in progress.keyring}
        alive = [each for each in stack.issuer.alive if each in known or not stack.orphaned]
        assert [FAMILY.generation_of(stack.issuer.alive[each]) for each in alive] == [self.asked]
        assert (progress.current, progress.verified) == (self.asked, self.asked)
        assert not stack.work(self.asked).pending, "the next preview shows no change"
        assert stack.unfinished() == ""

    # What is true at every moment

    @invariant()
    def consumers_work(self) -> None:
        """Whatever a location holds, or a machine runs with, is alive, or was there before."""
        alive = {self.stack.issuer.values[each] for each in self.stack.issuer.alive}
        assert {*self.stack.held.values(), self.stack.running} <= alive | {HAND_MADE}

    @invariant()
    def nothing_is_revoked_on_the_strength_of_another_verification(self) -> None:
        """What was verified is this turn of the credential, held by every location as it is now."""
        assert not self.stack.unproven

    @invariant()
    def what_is_verified_can_come_back(self) -> None:
        """Its credential lives, and its value is known, until its successor is verified."""
        progress = self.stack.progress
        if progress.verified:
            value = progress.value_of(progress.verified)
            assert value in {self.stack.issuer.values[each] for each in self.stack.issuer.alive}

    @invariant()
    def what_is_half_done_is_said(self) -> None:
        """With generations, and never with a value."""
        said = self.stack.unfinished()
        assert "value of" not in said
        assert (
            bool(said) or self.stack.progress.current == self.stack.progress.verified or not self.stack.progress.current
        )


Core.TestCase.settings = settings(
    max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestCore = Core.TestCase
