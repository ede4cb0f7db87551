"""Is exactly one credential of a family alive after a rotation, whatever failed before, and none revoked too early?"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from components import lifecycle
from components.clock import now
from components.contacts import CONTACTS
from components.errors import OperatorError
from components.given import GivenValues
from components.http import ApiError
from components.keyring import Credential, Issued, fingerprint
from components.lifecycle import RevocationOrder, Verdict, make_current, revoke_all_but, still_accepted
from components.secret import Family

from .fake_issuer import FakeIssuer, Watched
from .wire import Clock

FAMILY = Family(app="cp", stack="prod", secret="API_TOKEN", longest_name=255)


def order(
    verified: Credential, keyring: Sequence[Credential], *, also: Sequence[str] = (), timeout: float = 30
) -> RevocationOrder:
    return RevocationOrder(
        family=FAMILY,
        verified=verified,
        holdings=dict.fromkeys(["Fly app cp", "GitHub repository o/r"], fingerprint(verified.value)),
        subject="turn 1",
        verified_subject="turn 1",
        known=tuple(keyring),
        also=tuple(also),
        proof_timeout=timeout,
    )


def revoke(issuer: FakeIssuer, it: RevocationOrder, clock: Clock | None = None) -> Verdict:
    return revoke_all_but([issuer], it, sleep=(clock or Clock()).sleep)


def two_generations() -> tuple[FakeIssuer, Credential, list[Credential]]:
    """Generation 1 is old, generation 2 is current."""
    issuer = FakeIssuer()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    return issuer, current, keyring


# Minting


def test_a_first_deployment_mints() -> None:
    issuer = FakeIssuer()
    current, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    assert issuer.alive == {current.credential_id: FAMILY.credential_name(1)}
    assert current.value == issuer.values[current.credential_id]
    assert keyring == [current]


def test_without_a_keyring_nothing_is_revoked() -> None:
    issuer = FakeIssuer()
    issuer.seed("in-use", FAMILY.credential_name(3))
    issuer.seed("twin", FAMILY.credential_name(4))
    current, keyring = make_current([issuer], FAMILY, 4, keyring=None)
    assert issuer.revoked == []
    assert current.credential_id not in {"in-use", "twin"}
    assert keyring[0] is current
    assert {each.credential_id for each in keyring[1:]} == {"in-use", "twin"}
    assert {each.value for each in keyring[1:]} == {""}, "their values are not known"


def test_a_credential_without_a_known_value_is_not_made_current() -> None:
    issuer = FakeIssuer()
    issuer.seed("in-use", FAMILY.credential_name(1))
    _, keyring = make_current([issuer], FAMILY, 2, keyring=None)
    current, _ = make_current([issuer], FAMILY, 1, keyring=keyring)
    assert current.value
    assert current.credential_id != "in-use"
    assert "in-use" in issuer.alive


def test_what_was_found_without_a_value_dies_with_proof_by_the_list(clock: Clock) -> None:
    issuer = FakeIssuer()
    issuer.seed("in-use", FAMILY.credential_name(1))
    current, keyring = make_current([issuer], FAMILY, 2, keyring=None)
    issuer._listed = 0
    issuer.lists_live = 3
    revoke(issuer, order(current, keyring), clock)
    assert list(issuer.alive) == [current.credential_id]
    assert not [each for each in issuer.calls if each.startswith("try")]
    assert len(clock.naps) == 2


def test_a_bump_keeps_the_old_one_alive() -> None:
    issuer, current, keyring = two_generations()
    assert [each.generation for each in keyring] == [2, 1]
    assert keyring[0] is current
    assert len(issuer.alive) == 2


def test_going_back_uses_the_old_value_again_and_revokes_nothing() -> None:
    issuer, _, keyring = two_generations()
    first = keyring[1]
    before = list(issuer.calls)
    current, after = make_current([issuer], FAMILY, 1, keyring=keyring)
    assert current == first
    assert sorted(each.generation for each in after) == [1, 2]
    assert issuer.calls[len(before) :] == ["list", "try id-1"]


def test_an_orphan_of_a_crash_is_revoked_before_minting() -> None:
    issuer, _, keyring = two_generations()
    issuer.seed("orphan", FAMILY.credential_name(3))
    current, _ = make_current([issuer], FAMILY, 3, keyring=keyring)
    assert issuer.revoked == ["orphan"]
    assert issuer.calls.index("revoke orphan") < issuer.calls.index(f"mint {FAMILY.credential_name(3)}")
    assert current.credential_id in issuer.alive


def test_credentials_of_others_are_left_alone() -> None:
    issuer, _, keyring = two_generations()
    issuer.seed("other stack", replace(FAMILY, stack="prod-2").credential_name(1))
    issuer.seed("by hand", "ci")
    make_current([issuer], FAMILY, 3, keyring=keyring)
    assert issuer.revoked == []


def test_a_credential_in_use_after_a_lost_state_survives_a_bump_before_its_successor_is_verified() -> None:
    issuer = FakeIssuer()
    issuer.seed("in-use", FAMILY.credential_name(1))
    # The state is lost; generation 2 is minted beside what the consumers hold, and its delivery fails. The operator bumps once more.
    _, keyring = make_current([issuer], FAMILY, 2, keyring=None)
    make_current([issuer], FAMILY, 3, keyring=keyring)
    assert "in-use" in issuer.alive


@pytest.mark.parametrize(("status", "maybe"), [(None, True), (500, True), (401, False), (422, False)])
def test_an_answer_that_was_lost_is_told_from_a_refusal(status: int | None, maybe: bool) -> None:  # noqa: FBT001 - a column
    issuer = FakeIssuer(fail_at=2, status=status)
    with pytest.raises(OperatorError) as failed:
        make_current([issuer], FAMILY, 1, keyring=None)
    assert ("may have been minted" in failed.value.state) == maybe
    assert "every old credential is still alive" in failed.value.state
    assert "pulumi up" in failed.value.next_step


# Revoking


def test_after_a_revocation_only_the_verified_credential_lives() -> None:
    issuer, current, keyring = two_generations()
    verdict = revoke(issuer, order(current, keyring))
    assert list(issuer.alive) == [current.credential_id]
    assert [each.credential_id for each in verdict.revoked] == [keyring[1].credential_id]


def test_revoking_again_revokes_nothing() -> None:
    issuer, current, keyring = two_generations()
    died = revoke(issuer, order(current, keyring)).revoked
    before = issuer.revoked
    again = revoke(issuer, order(current, keyring)).revoked
    assert [each.credential_id for each in again] == [each.credential_id for each in died], "still known as dead"
    assert issuer.revoked == before


def test_an_abandoned_newer_credential_dies() -> None:
    issuer, newer, keyring = two_generations()
    current, keyring = make_current([issuer], FAMILY, 1, keyring=keyring)
    revoke(issuer, order(current, keyring))
    assert list(issuer.alive) == [current.credential_id]
    assert newer.credential_id in issuer.dead


def test_a_credential_that_nobody_manages_lives_and_is_named() -> None:
    issuer, current, keyring = two_generations()
    issuer.seed("by hand", "ci")
    issuer.seed("asked for", "old ci")
    issuer.seed("other stack", replace(FAMILY, stack="prod-2").credential_name(1))
    issuer.seed("other secret", replace(FAMILY, secret="OTHER_TOKEN").credential_name(1))
    verdict = revoke(issuer, order(current, keyring, also=["asked for"]))
    assert {each.credential_id for each in verdict.unmanaged} == {"by hand", "other stack"}
    assert set(issuer.alive) == {current.credential_id, "by hand", "other stack", "other secret"}


def test_an_id_that_the_provider_does_not_list_is_refused_before_anything_is_revoked() -> None:
    issuer, current, keyring = two_generations()
    with pytest.raises(OperatorError, match="mistyped") as refused:
        revoke(issuer, order(current, keyring, also=["mistyped"]))
    assert issuer.revoked == []
    assert "revokeUnmanaged" in refused.value.next_step


def test_where_the_issuers_settings_have_changed_what_was_minted_before_dies_too() -> None:
    before = FakeIssuer()
    first, keyring = make_current([before], FAMILY, 1, keyring=None)
    # One provider, seen through the settings of then and of now: each lists its own app.
    after = FakeIssuer(alive=before.alive, dead=before.dead, values=before.values, hides={first.credential_id})
    current, keyring = make_current([after, before], FAMILY, 2, keyring=keyring)
    assert [each.generation for each in keyring] == [2, 1]
    revoke_all_but([after, before], order(current, keyring), sleep=Clock().sleep)
    assert list(before.alive) == [current.credential_id]


@pytest.mark.parametrize("location", ["Fly app cp", "GitHub repository o/r"])
@pytest.mark.parametrize("held", ["", fingerprint("another value")])
def test_nothing_is_revoked_while_a_location_holds_another_value(location: str, held: str) -> None:
    issuer, current, keyring = two_generations()
    it = order(current, keyring)
    calls = list(issuer.calls)
    with pytest.raises(OperatorError, match=location) as refused:
        revoke(issuer, replace(it, holdings={**it.holdings, location: held}))
    assert issuer.calls == calls
    assert "both values work" in refused.value.state


def test_nothing_is_revoked_while_the_locations_are_not_verified_as_they_are() -> None:
    issuer, current, keyring = two_generations()
    calls = list(issuer.calls)
    with pytest.raises(OperatorError, match="not verified"):
        revoke(issuer, replace(order(current, keyring), verified_subject="turn 0"))
    assert issuer.calls == calls


@pytest.mark.parametrize("gone", [True, False], ids=["not listed", "revoked by hand"])
def test_nothing_is_revoked_where_the_verified_credential_is_not_alive(gone: bool) -> None:  # noqa: FBT001 - a column
    issuer, current, keyring = two_generations()
    name = issuer.alive.pop(current.credential_id)
    if not gone:
        issuer.dead[current.credential_id] = name
    with pytest.raises(OperatorError, match=current.credential_id) as refused:
        revoke(issuer, order(current, keyring))
    assert issuer.revoked == []
    assert "bump the counter" in refused.value.next_step


def test_death_is_proven_with_the_value_that_is_known(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    issuer.still_accepted = 3
    old = keyring[1].credential_id
    revoke(issuer, order(current, keyring), clock)
    assert issuer.calls.count(f"try {old}") == 4
    assert f"try {current.credential_id}" not in issuer.calls
    assert clock.naps == [lifecycle.POLL_SECONDS] * 3


def test_death_is_proven_by_the_list_where_the_value_is_not_known(clock: Clock) -> None:
    issuer, current, _ = two_generations()
    issuer._listed = 0
    issuer.lists_live = 4
    revoke(issuer, order(current, [current]), clock)
    assert not [each for each in issuer.calls if each.startswith("try")]
    assert len(clock.naps) == 3


def test_one_that_was_revoked_by_an_earlier_run_is_proven_dead_too(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    old = keyring[1].credential_id
    issuer.revoke(old)
    issuer.still_accepted = 1
    revoke(issuer, order(current, keyring), clock)
    assert issuer.calls.count(f"try {old}") == 2


@pytest.mark.parametrize("known", [True, False], ids=["by value", "by list"])
def test_a_credential_that_is_accepted_for_too_long_is_an_error(clock: Clock, known: bool) -> None:  # noqa: FBT001 - a column
    issuer, current, keyring = two_generations()
    old = keyring[1].credential_id
    issuer.still_accepted = issuer.lists_live = 10**9
    with pytest.raises(OperatorError, match=old) as failed:
        revoke(issuer, order(current, keyring if known else [current], timeout=30), clock)
    assert "30 s" in failed.value.happened
    assert 30 <= sum(clock.naps) <= 34
    assert keyring[1].value not in str(failed.value)
    # Once the provider has noticed, the next run gets through.
    issuer.still_accepted = issuer.lists_live = 0
    revoke(issuer, order(current, keyring))


# Lists that lag


@pytest.mark.parametrize("cannot_be_asked", [False, True])
def test_one_that_is_not_listed_yet_is_neither_forgotten_nor_taken_for_an_orphan_later(
    cannot_be_asked: bool,  # noqa: FBT001 - a column
) -> None:
    issuer = FakeIssuer(cannot_be_asked=cannot_be_asked, stale=[])
    in_use, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    _, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    issuer.stale = None
    _, keyring = make_current([issuer], FAMILY, 3, keyring=keyring)
    assert issuer.revoked == []
    assert [each.generation for each in keyring] == [3, 2, 1]
    back, _ = make_current([issuer], FAMILY, 1, keyring=keyring)
    assert back == in_use


def test_one_that_nobody_can_be_asked_about_is_forgotten_once_its_generation_is_over() -> None:
    issuer, _, keyring = two_generations()
    issuer.cannot_be_asked, issuer.stale = True, []
    _, keyring = make_current([issuer], FAMILY, 3, keyring=keyring, keep_from=2)
    assert [each.generation for each in keyring] == [3, 2]


def test_one_that_is_refused_is_not_made_current_again_however_alive_it_is_listed() -> None:
    issuer, current, keyring = two_generations()
    issuer.stale = issuer.issued()
    issuer.revoke(current.credential_id)
    again, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    assert again.credential_id in issuer.alive
    assert [each.credential_id for each in keyring] == [again.credential_id, "id-1"]


def test_a_verified_one_that_is_not_listed_yet_is_known_by_its_value(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    issuer.stale = [each for each in issuer.issued() if each.credential_id != current.credential_id]
    verdict = revoke(issuer, order(current, keyring), clock)
    assert list(issuer.alive) == [current.credential_id]
    assert [each.credential_id for each in verdict.revoked] == ["id-1"]
    assert clock.naps == []


def test_a_verified_one_that_nobody_can_be_asked_about_is_waited_for(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    everything = issuer.issued()
    issuer.cannot_be_asked = True
    issuer.stale = [each for each in everything if each.credential_id != current.credential_id]

    def catch_up(seconds: float) -> None:
        clock.sleep(seconds)
        issuer.stale = None

    revoke_all_but([issuer], order(current, keyring), sleep=catch_up)
    assert list(issuer.alive) == [current.credential_id]
    assert len(clock.naps) == 1


def test_a_verified_one_that_is_never_listed_is_an_error_after_the_deadline(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    issuer.cannot_be_asked, issuer.stale = True, []
    with pytest.raises(OperatorError, match="does not list the verified credential"):
        revoke(issuer, order(current, keyring, timeout=30), clock)
    assert 30 <= sum(clock.naps) <= 34
    assert issuer.revoked == []


@pytest.mark.parametrize("cannot_be_asked", [False, True])
def test_one_that_was_abandoned_before_it_was_listed_dies_too(cannot_be_asked: bool) -> None:  # noqa: FBT001 - a column
    issuer = FakeIssuer()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    issuer.stale = issuer.issued()
    _, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    issuer.cannot_be_asked = cannot_be_asked
    current, keyring = make_current([issuer], FAMILY, 1, keyring=keyring)
    revoke(issuer, order(current, keyring))
    assert list(issuer.alive) == ["id-1"]


def test_one_that_is_listed_no_more_and_accepted_on_is_proven_dead_by_the_next_run_too(clock: Clock) -> None:
    issuer, current, keyring = two_generations()
    issuer.still_accepted = 10**9
    with pytest.raises(OperatorError, match="still accepted"):
        revoke(issuer, order(current, keyring), clock)
    issuer.stale = [each for each in issuer.issued() if each.live]  # as Neon and Resend do
    with pytest.raises(OperatorError, match="still accepted"):
        revoke(issuer, order(current, keyring), clock)
    issuer.still_accepted = 0
    verdict = revoke(issuer, order(current, keyring))
    assert [each.credential_id for each in verdict.revoked] == ["id-1"]


def test_what_the_list_alone_calls_alive_is_not_said_to_be_accepted(clock: Clock) -> None:
    issuer, current, _ = two_generations()
    issuer.stale = issuer.issued()
    with pytest.raises(OperatorError, match="still listed as alive"):
        revoke(issuer, order(current, [current]), clock)


# Failures


def rotate(issuer: FakeIssuer, generation: int, keyring: list[Credential] | None) -> list[Credential]:
    """A rotation as the engine does it: minting is saved before anything else runs."""
    current, saved = make_current([issuer], FAMILY, generation, keyring=keyring)
    revoke(issuer, order(current, saved))
    return saved


@pytest.mark.parametrize("after_acting", [False, True], ids=["before acting", "after acting"])
@pytest.mark.parametrize("fail_at", range(1, 12))
@pytest.mark.parametrize("orphan", [False, True], ids=["clean", "with an orphan"])
@pytest.mark.parametrize("first", [False, True], ids=["bump", "first deployment"])
def test_one_failure_at_any_call_and_a_retry_leave_one_live_credential(
    fail_at: int,
    after_acting: bool,  # noqa: FBT001 - a column
    orphan: bool,  # noqa: FBT001 - a column
    first: bool,  # noqa: FBT001 - a column
) -> None:
    issuer = FakeIssuer()
    keyring = None if first else rotate(issuer, 1, None)
    if orphan:
        issuer.seed("orphan", FAMILY.credential_name(2))
    issuer.calls.clear()
    issuer.fail_at, issuer.after_acting = fail_at, after_acting
    in_use = keyring[0] if keyring else None
    current = None
    try:
        current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
        revoke(issuer, order(current, keyring))
    except OperatorError:
        if in_use is not None and current is None:
            assert in_use.credential_id in issuer.alive
        current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
        revoke(issuer, order(current, keyring))
    assert list(issuer.alive) == [current.credential_id]
    assert keyring is not None
    assert keyring[0].value == issuer.values[current.credential_id]


@dataclass
class Held:
    """What consumers hold, as the provider of the credential cannot see."""

    credential: Credential | None = None
    verified: Credential | None = None
    keyring: list[Credential] | None = None
    others: set[str] = field(default_factory=set)


class Rotations(RuleBasedStateMachine):
    """Bumps, steps back, crashes, lost answers, lists that lag, lazy revocations and hand-made credentials in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.issuer = FakeIssuer()
        self.held = Held()

    @initialize(cannot_be_asked=st.booleans())
    def begin(self, cannot_be_asked: bool) -> None:  # noqa: FBT001 - drawn
        """With one kind of provider or the other."""
        self.issuer.cannot_be_asked = cannot_be_asked

    @rule(up=st.integers(1, 2))
    def bump(self, up: int) -> None:
        """A higher counter."""
        newest = max((each.generation for each in self.held.keyring or []), default=0)
        self._turn(newest + up)

    @precondition(lambda self: self.held.verified is not None)
    @rule()
    def go_back(self) -> None:
        """The counter of the generation verified last."""
        assert self.held.verified is not None
        self._turn(self.held.verified.generation)

    def _turn(self, generation: int) -> None:
        # A failure that was armed hits this call or the next one.
        try:
            _, self.held.keyring = make_current(
                [self.issuer],
                FAMILY,
                generation,
                keyring=self.held.keyring,
                keep_from=0 if self.held.verified is None else self.held.verified.generation,
            )
        except OperatorError:
            return

    @precondition(lambda self: self.held.keyring)
    @rule()
    def deliver(self) -> None:
        """Every location gets the current value."""
        assert self.held.keyring
        self.held.credential = self.held.keyring[0]

    @precondition(lambda self: self.held.credential is not None and self.held.keyring)
    @rule()
    def revoke(self) -> None:
        """The revocation, as far as it is allowed."""
        assert self.held.keyring
        assert self.held.credential is not None
        current = self.held.keyring[0]
        holdings = {"Fly app cp": fingerprint(self.held.credential.value)}
        it = replace(order(current, self.held.keyring, timeout=0), holdings=holdings)
        try:
            revoke(self.issuer, it)
        except OperatorError:
            return
        self.held.verified = current
        if self.issuer.stale is None:
            family = [each for each, name in self.issuer.alive.items() if FAMILY.generation_of(name) is not None]
            assert family == [current.credential_id]
        known = {each.credential_id for each in self.held.keyring} - {current.credential_id}
        assert not known & {*self.issuer.alive}, "what the stack knows it can end, whatever is listed"

    @precondition(lambda self: self.issuer.stale is None)
    @rule()
    def lag(self) -> None:
        """From now on the list shows what was true at this moment."""
        self.issuer.stale = [
            Issued(credential_id=each, name=name, live=each in self.issuer.alive, created_at="then")
            for each, name in (self.issuer.alive | self.issuer.dead).items()
        ]

    @precondition(lambda self: self.issuer.stale is not None)
    @rule()
    def catch_up(self) -> None:
        """The list shows what is true."""
        self.issuer.stale = None

    @rule(times=st.sampled_from([0, 1, 10**9]))
    def be_lazy(self, times: int) -> None:
        """What is revoked is accepted on for a while, or for good."""
        self.issuer.still_accepted = times

    @rule(number=st.integers(1, 4), after=st.booleans(), status=st.sampled_from([None, 401, 429, 500]))
    def arm(self, number: int, after: bool, status: int | None) -> None:  # noqa: FBT001 - drawn
        """One of the next calls fails."""
        self.issuer.fail_at, self.issuer.after_acting = len(self.issuer.calls) + number, after
        self.issuer.status = status

    @rule()
    def make_one_by_hand(self) -> None:
        """Somebody mints outside of the program."""
        credential_id = f"hand-{len(self.issuer.values)}"
        self.issuer.seed(credential_id, "ci")
        self.held.others.add(credential_id)

    @invariant()
    def consumers_work(self) -> None:
        """What is held is alive."""
        assert self.held.credential is None or self.held.credential.credential_id in self.issuer.alive

    @invariant()
    def what_others_made_lives(self) -> None:
        """Nothing that others made is touched."""
        assert self.held.others <= set(self.issuer.alive)


Rotations.TestCase.settings = settings(
    max_examples=100, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRotations = Rotations.TestCase


@given(
    st.text("\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}", min_size=9),
    st.text("\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}", min_size=9),
)
def test_no_message_shows_a_value(old: str, new: str) -> None:
    assume(old != new)
    issuer, current, keyring = two_generations()
    it = replace(order(current, keyring), verified=replace(current, value=new), holdings={"here": fingerprint(old)})
    with pytest.raises(OperatorError) as refused:
        revoke(issuer, it)
    assert new not in str(refused.value) + repr(refused.value) + repr(it)


def test_now_is_utc_in_whole_seconds() -> None:
    text = now()
    parsed = datetime.fromisoformat(text)
    assert parsed.utcoffset() is not None
    assert parsed.microsecond == 0
    assert text.endswith("+00:00")


class _ProvesNothing(FakeIssuer):
    """The issuer of now is asked about a token of another app: its 403 proves neither life nor death."""

    def refuses(self, value: str) -> bool:
        raise ApiError("provider", f"try {len(value)} characters", status=403, reason="another app")


def test_a_token_of_the_settings_before_is_proven_dead_by_the_issuer_of_before() -> None:
    issuer, current, keyring = two_generations()
    blind = _ProvesNothing(alive=issuer.alive, dead=issuer.dead, values=issuer.values)
    issuer.still_accepted = 2
    verdict = revoke_all_but([blind, issuer], order(current, keyring), sleep=lambda _seconds: None)
    assert [each.credential_id for each in verdict.revoked] == [keyring[1].credential_id]


def test_answers_that_prove_nothing_at_all_are_an_error() -> None:
    issuer, current, keyring = two_generations()
    blind = _ProvesNothing(alive=issuer.alive, dead=issuer.dead, values=issuer.values)
    with pytest.raises(OperatorError, match="may still be alive"):
        revoke_all_but([blind], order(current, keyring), sleep=lambda _seconds: None)


# Credentials that only their provider can end


def watched_generations() -> tuple[Watched, Credential, list[Credential]]:
    """Generation 1 is old, generation 2 is current, and their provider ends old ones itself."""
    issuer = Watched()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    return issuer, current, keyring


def test_an_old_one_that_its_provider_has_to_end_is_reported_alive_and_holds_nothing_up(clock: Clock) -> None:
    issuer, current, keyring = watched_generations()
    verdict = revoke(issuer, order(current, keyring), clock)
    assert [each.credential_id for each in verdict.alive] == [keyring[1].credential_id]
    assert verdict.revoked == ()
    assert len(issuer.alive) == 2
    assert clock.naps == []


def test_an_old_one_that_its_provider_has_ended_is_reported_dead() -> None:
    issuer, current, keyring = watched_generations()
    issuer.end(keyring[1].credential_id)
    verdict = revoke(issuer, order(current, keyring))
    assert [each.credential_id for each in verdict.revoked] == [keyring[1].credential_id]
    assert verdict.alive == ()


def test_an_old_one_that_is_listed_but_refused_is_reported_dead() -> None:
    issuer, current, keyring = watched_generations()
    issuer.end(keyring[1].credential_id)
    issuer._listed, issuer.lists_live = 0, 1
    verdict = revoke(issuer, order(current, keyring))
    assert [each.credential_id for each in verdict.revoked] == [keyring[1].credential_id]
    assert verdict.alive == ()


def test_an_old_one_whose_value_is_not_known_is_not_called_dead_while_it_is_listed_alive() -> None:
    issuer = Watched()
    issuer.seed("in-use", FAMILY.credential_name(1))
    current, keyring = make_current([issuer], FAMILY, 2, keyring=None)
    verdict = revoke(issuer, order(current, keyring))
    assert "in-use" in issuer.alive
    assert verdict.revoked == ()


def test_what_nobody_manages_is_not_watched() -> None:
    issuer, current, keyring = watched_generations()
    issuer.seed("hand", "by hand")
    by_hand = replace(keyring[1], credential_id="hand", name="by hand", value="value of hand")
    verdict = revoke(issuer, order(current, [*keyring, by_hand]))
    assert [each.credential_id for each in verdict.alive] == [keyring[1].credential_id]
    assert [each.credential_id for each in verdict.unmanaged] == ["hand"]


@pytest.mark.parametrize("status", [401, 500, None])
def test_a_provider_that_does_not_say_whether_an_old_one_lives_is_an_error(status: int | None) -> None:
    issuer, current, keyring = watched_generations()
    issuer.calls.clear()
    issuer.fail_at, issuer.status = 2, status
    with pytest.raises(OperatorError, match="may still be alive"):
        revoke(issuer, order(current, keyring))


@pytest.mark.parametrize("gone", [True, False], ids=["not listed", "ended"])
def test_a_verified_one_that_is_not_alive_is_an_error_there_too(gone: bool) -> None:  # noqa: FBT001 - a column
    issuer, current, keyring = watched_generations()
    issuer.end(current.credential_id)
    if gone:
        del issuer.dead[current.credential_id]
    with pytest.raises(OperatorError, match=current.credential_id):
        revoke(issuer, order(current, keyring))


@pytest.mark.parametrize("change", ["holdings", "subject"])
def test_nothing_is_looked_at_before_everything_is_verified(change: str) -> None:
    issuer, current, keyring = watched_generations()
    issuer.calls.clear()
    it = order(current, keyring)
    it = replace(it, subject="turn 2") if change == "subject" else replace(it, holdings={"Fly app cp": ""})
    with pytest.raises(OperatorError, match="not revoked"):
        revoke(issuer, it)
    assert issuer.calls == []


def test_still_accepted_are_those_whose_value_nobody_refuses() -> None:
    issuer, _, keyring = watched_generations()
    unknown = replace(keyring[1], credential_id="unknown", value="")
    assert still_accepted([issuer], [*keyring, unknown]) == {each.credential_id for each in keyring}
    issuer.end(keyring[1].credential_id)
    assert still_accepted([issuer], [*keyring, unknown]) == {keyring[0].credential_id}
    assert "try stranger" not in issuer.calls, "a value that is not known is not asked about"


class _ByItsListAlone(FakeIssuer):
    """A provider that has no call that takes the value (Stripe's webhook endpoints)."""

    def refuses(self, value: str) -> bool | None:
        assert value
        return None


def test_death_is_proven_by_the_list_where_nobody_can_be_asked_about_the_value(clock: Clock) -> None:
    issuer = _ByItsListAlone()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    issuer._listed = 0
    issuer.lists_live = 4
    verdict = revoke(issuer, order(current, keyring), clock)
    assert [each.credential_id for each in verdict.revoked] == [keyring[1].credential_id]
    assert clock.naps == [lifecycle.POLL_SECONDS] * 3


def test_a_list_that_lags_says_nothing_about_what_is_proven_by_its_value(clock: Clock) -> None:
    class Lagging(FakeIssuer):
        """Lists as live for ever what its value proves dead."""

        def issued(self) -> list[Issued]:
            return [replace(each, live=each.live or each.credential_id == old) for each in super().issued()]

    issuer = Lagging()
    issuer.seed("hand-made", "by hand")
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    old = keyring[1].credential_id
    verdict = revoke(issuer, replace(order(current, keyring), also=("hand-made",)), clock)
    assert {each.credential_id for each in verdict.revoked} == {old, "hand-made"}
    assert clock.naps == []


def test_who_cannot_be_asked_leaves_the_answer_to_who_can() -> None:
    issuer, _, keyring = two_generations()
    issuer.revoke(keyring[1].credential_id)
    alone = _ByItsListAlone()
    assert still_accepted([alone, issuer], keyring) == {keyring[0].credential_id}
    assert still_accepted([alone], keyring) == {each.credential_id for each in keyring}, "nobody is known to refuse one"
    with pytest.raises(ApiError, match="another app"):
        still_accepted([alone, _ProvesNothing()], keyring)


class _NeverAsked(GivenValues):
    """Values that are handed in, and of which nothing tells whether they are dead."""

    def refuses(self, value: str) -> bool:
        return not value


@pytest.mark.parametrize("given_by", [GivenValues, _NeverAsked], ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("minted_by", [FakeIssuer, _ByItsListAlone], ids=lambda kind: str(kind.__name__))
def test_what_was_minted_before_its_secret_was_handed_in_is_not_called_dead_while_it_lives(
    minted_by: type[FakeIssuer], given_by: type[GivenValues]
) -> None:
    # `stripeWebhookSecret: supplied` after `endpoint`.
    before = minted_by()
    first, keyring = make_current([before], FAMILY, 1, keyring=None)
    handing = given_by(given="handed in", keyring=tuple(keyring), keep_from=1)
    current, keyring = make_current([handing, before], FAMILY, 2, keyring=keyring)
    it = order(current, keyring)
    after = given_by(given="", keyring=tuple(keyring))
    verdict = revoke_all_but([after, before], it, sleep=Clock().sleep)
    assert [each.credential_id for each in verdict.unmanaged] == [first.credential_id]
    assert (verdict.revoked, verdict.alive) == ((), ())
    assert list(before.alive) == [first.credential_id], "the value in use may have been rolled from it"
    assert before.revoked == []


@pytest.mark.parametrize("minted_by", [FakeIssuer, _ByItsListAlone], ids=lambda kind: str(kind.__name__))
def test_what_was_handed_in_before_its_secret_was_minted_is_over_once_that_is_verified(
    minted_by: type[FakeIssuer], clock: Clock
) -> None:
    # `stripeWebhookSecret: endpoint` after `supplied`.
    handing = GivenValues(given="handed in")
    first, keyring = make_current([handing], FAMILY, 1, keyring=None)
    after = minted_by(values={first.credential_id: first.value})
    before = GivenValues(given="", keyring=tuple(keyring), keep_from=1)
    current, keyring = make_current([after, before], FAMILY, 2, keyring=keyring)
    before = GivenValues(given="", keyring=tuple(keyring))
    verdict = revoke_all_but([after, before], order(current, keyring), sleep=clock.sleep)
    assert list(after.alive) == [current.credential_id]
    assert (verdict.revoked, verdict.alive, verdict.unmanaged) == ((), (), ())
    assert after.revoked == [], "the provider does not know it"
    assert not [each for each in after.calls if each.startswith("try")]
    assert [each.credential_id for each in keyring] == [current.credential_id, first.credential_id]
    before = GivenValues(given="", keyring=tuple(keyring), keep_from=2)
    _, keyring = make_current([after, before], FAMILY, 3, keyring=keyring)
    assert [each.generation for each in keyring] == [3, 2], "dropped"


def test_what_was_handed_in_before_is_told_from_what_was_minted_before() -> None:
    # `endpoint`, then `supplied`, then `supplied` again: the endpoint of the first one stays, the old value of the second is over.
    before = FakeIssuer()
    first, keyring = make_current([before], FAMILY, 1, keyring=None)
    handing = GivenValues(given="handed in", keyring=tuple(keyring), keep_from=1)
    second, keyring = make_current([handing, before], FAMILY, 2, keyring=keyring)
    handing = GivenValues(given="handed in later", keyring=tuple(keyring), keep_from=1)
    current, keyring = make_current([handing, before], FAMILY, 3, keyring=keyring)
    verdict = revoke_all_but(
        [GivenValues(given="", keyring=tuple(keyring)), before], order(current, keyring), sleep=Clock().sleep
    )
    assert [each.credential_id for each in verdict.unmanaged] == [first.credential_id]
    assert [each.credential_id for each in verdict.revoked] == [second.credential_id]
    assert list(before.alive) == [first.credential_id]


def test_death_is_not_proven_by_who_takes_what_is_handed_in(clock: Clock) -> None:
    # `endpoint`, `supplied`, and `endpoint` again: the first endpoint is revoked now, and lives on for a while.
    minting = FakeIssuer()
    first, keyring = make_current([minting], FAMILY, 1, keyring=None)
    handing = GivenValues(given="handed in", keyring=tuple(keyring), keep_from=1)
    _, keyring = make_current([handing, minting], FAMILY, 2, keyring=keyring)
    before = GivenValues(given="", keyring=tuple(keyring), keep_from=1)
    current, keyring = make_current([minting, before], FAMILY, 3, keyring=keyring)
    minting.still_accepted = 3
    before = GivenValues(given="", keyring=tuple(keyring))
    verdict = revoke_all_but([minting, before], order(current, keyring), sleep=clock.sleep)
    assert clock.naps == [lifecycle.POLL_SECONDS] * 3
    assert [each.credential_id for each in verdict.revoked] == [first.credential_id]


def test_a_watched_one_is_not_called_dead_by_who_minted_before_and_never_heard_of_it() -> None:
    before = FakeIssuer()
    first, keyring = make_current([before], FAMILY, 1, keyring=None)
    watching = Watched(values={first.credential_id: first.value})
    second, keyring = make_current([watching, before], FAMILY, 2, keyring=keyring)
    current, keyring = make_current([watching, before], FAMILY, 3, keyring=keyring)
    verdict = revoke_all_but([watching, before], order(current, keyring), sleep=Clock().sleep)
    assert before.refuses(second.value)
    assert [each.credential_id for each in verdict.alive] == [second.credential_id]
    assert [each.credential_id for each in verdict.unmanaged] == [first.credential_id]
    assert verdict.revoked == ()


# Whom to call


CALLED = [(None, True), (401, True), (403, True), (429, True), (500, True), (503, True), (404, False), (422, False)]


@pytest.mark.parametrize(("status", "called"), CALLED)
@pytest.mark.parametrize("number", [1, 2], ids=["the list", "the mint"])
def test_a_mint_that_fails_says_whom_to_call(status: int | None, called: bool, number: int) -> None:  # noqa: FBT001 - a column
    issuer = FakeIssuer(system="Neon", status=status, fail_at=number)
    with pytest.raises(OperatorError) as failed:
        make_current([issuer], FAMILY, 1, keyring=None)
    assert failed.value.contact == (CONTACTS["Neon"] if called else "")
    assert ("Help:" in str(failed.value)) is called


@pytest.mark.parametrize(("status", "called"), CALLED)
@pytest.mark.parametrize("number", [1, 2, 3], ids=["the list", "the revocation", "the proof"])
def test_a_revocation_that_fails_says_whom_to_call(status: int | None, called: bool, number: int) -> None:  # noqa: FBT001 - a column
    issuer, current, keyring = two_generations()
    issuer.calls.clear()
    issuer.system, issuer.status, issuer.fail_at = "Resend", status, number
    with pytest.raises(OperatorError) as failed:
        revoke(issuer, order(current, keyring))
    assert failed.value.contact == (CONTACTS["Resend"] if called else "")
    assert ("Help:" in str(failed.value)) is called


# Machines of tenants


def test_nothing_is_revoked_while_a_tenant_holds_another_value() -> None:
    issuer, current, keyring = two_generations()
    asked: list[str] = []

    def behind(value: str) -> list[str]:
        asked.append(value)
        return ["machine m1 of tenant", "machine m7 of tenant"]

    before = len(issuer.calls)
    with pytest.raises(OperatorError, match=r"machine m1 of tenant, machine m7 of tenant .* generation 2") as held:
        revoke(issuer, replace(order(current, keyring), tenants_behind=behind))
    assert "nothing was revoked" in held.value.state
    assert asked == [current.value]
    assert len(issuer.calls) == before


def test_fly_that_does_not_answer_holds_the_revocation() -> None:
    issuer, current, keyring = two_generations()

    def behind(_value: str) -> list[str]:
        raise ApiError("Fly", "list the machines", status=503, reason="down")

    with pytest.raises(OperatorError, match="may still be alive"):
        revoke(issuer, replace(order(current, keyring), tenants_behind=behind))
    assert issuer.revoked == []


# An issuer whose new credential ends the one before


class _WithoutOverlap(FakeIssuer):
    """One password, which is replaced."""

    overlaps = False


def test_a_mint_that_fails_does_not_promise_what_it_may_have_ended() -> None:
    issuer = _WithoutOverlap()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    issuer.fail_at, issuer.status = len(issuer.calls) + 2, 500
    with pytest.raises(OperatorError) as failed:
        make_current([issuer], FAMILY, 2, keyring=keyring)
    assert "The value before may be dead already" in failed.value.state
    assert "alive" not in failed.value.state


def test_a_revocation_that_is_held_does_not_promise_what_the_mint_has_ended() -> None:
    issuer = _WithoutOverlap()
    _, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    current, keyring = make_current([issuer], FAMILY, 2, keyring=keyring)
    for held in (
        replace(order(current, keyring), holdings={"Fly app cp": fingerprint("another")}),
        replace(order(current, keyring), verified_subject="turn 0"),
    ):
        with pytest.raises(OperatorError) as failed:
            revoke(issuer, held)
        assert "has ended the value before" in failed.value.state
        assert "both values work" not in failed.value.state


@pytest.mark.parametrize("value", ["", "canary-value\n", "canary\x00value"], ids=repr)
def test_a_minted_value_that_no_consumer_could_take_is_delivered_to_nobody(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    issuer = FakeIssuer()
    current, keyring = make_current([issuer], FAMILY, 1, keyring=None)
    mint = issuer.mint
    with monkeypatch.context() as broken:
        broken.setattr(issuer, "mint", lambda name: replace(mint(name), value=value))
        with pytest.raises(OperatorError, match="cannot be delivered") as failed:
            make_current([issuer], FAMILY, 2, keyring=keyring)
    assert "canary" not in str(failed.value) + repr(failed.value)
    assert "every old one is still alive" in failed.value.state
    assert current.credential_id in issuer.alive
    minted, _ = make_current([issuer], FAMILY, 2, keyring=keyring)
    assert issuer.alive.keys() == {current.credential_id, minted.credential_id}, (
        "the next run has revoked the one that was lost"
    )
