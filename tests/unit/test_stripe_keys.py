"""Is a key that was handed in refused for what is wrong with it, and never shown?"""

from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from components.errors import RefusedError
from components.http import ApiError
from components.keyring import Credential
from components.stripe.keys import SecretKeys

from .fake_stripe import ACCOUNT, NEW, OPERATOR, FakeStripe
from .wire import START, Wire, reply

KEYS = SecretKeys(given=NEW, mode="live", account=ACCOUNT, clock=lambda: START)


@pytest.fixture
def stripe(wire: Wire) -> FakeStripe:
    stripe = FakeStripe()
    wire.serve = stripe.serve
    return stripe


def refusal(keys: SecretKeys) -> RefusedError:
    """The only obstacle; it shows neither the key nor its end."""
    (found,) = keys.obstacles()
    assert "supplied.STRIPE_API_KEY" in found.next_step
    assert len(keys.given) < 4 or keys.given[-4:] not in str(found)
    return found


@pytest.mark.usefixtures("stripe")
def test_a_key_of_the_account_and_mode_is_good(wire: Wire) -> None:
    assert KEYS.obstacles() == []
    assert {request.headers["authorization"] for request in wire.requests} == {f"Bearer {NEW}"}


def test_a_restricted_key_of_test_mode_is_good_where_it_is_wanted(stripe: FakeStripe) -> None:
    stripe.accounts["rk_test_1"] = ACCOUNT
    stripe.livemode = False
    assert replace(KEYS, given="rk_test_1", mode="test").obstacles() == []


@pytest.mark.parametrize(
    "value", ["", "pk_live_51brandnewbrandnew", "whsec_51brandnew", f"{NEW}\n", f" {NEW}", "sk_live_51brand newnew"]
)
def test_what_is_no_key_is_sent_nowhere(wire: Wire, value: str) -> None:
    assert "is no Stripe key" in refusal(replace(KEYS, given=value)).happened
    assert not wire.requests


def test_a_key_that_begins_with_the_other_mode_is_sent_nowhere(wire: Wire) -> None:
    found = refusal(replace(KEYS, given="sk_test_51brandnew"))
    assert "is of test mode; this stack's is live mode" in found.happened
    assert "stripeMode" in found.next_step
    assert not wire.requests


def test_a_key_that_stripe_calls_one_of_the_other_mode_is_refused(stripe: FakeStripe) -> None:
    stripe.livemode = False
    assert "is of test mode" in refusal(KEYS).happened


def test_a_dead_key_is_refused(stripe: FakeStripe) -> None:
    del stripe.accounts[NEW]
    found = refusal(KEYS)
    assert "is refused by Stripe" in found.happened
    assert "roll the key" in found.next_step


def test_a_key_that_dies_between_two_calls_is_refused(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/account"] = (401, {"code": "api_key_expired"})
    assert "is refused by Stripe (the key is refused: api_key_expired" in refusal(KEYS).happened


def test_a_key_of_another_account_is_refused(stripe: FakeStripe) -> None:
    stripe.accounts[NEW] = "acct_1other"
    assert f"belongs to account acct_1other, and not to {ACCOUNT}" in refusal(KEYS).happened


@pytest.mark.parametrize(
    ("message", "permission"),
    [
        ("", "rak_accounts_kyc_basic_read"),
        (f"The provided key 'rk_live_****{NEW[-4:]}' … Having the 'rak_other_read' permission would", "rak_other_read"),
    ],
    ids=["unnamed", "named"],
)
def test_a_key_that_may_not_read_its_account_is_told_which_permission_it_lacks(
    stripe: FakeStripe, message: str, permission: str
) -> None:
    stripe.refuse["/v1/account"] = (403, {"message": message})
    found = refusal(KEYS)
    assert "may not read its account" in found.happened
    assert f"`{permission}`" in found.next_step


def test_a_key_that_may_only_not_read_the_balance_is_good(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/balance"] = (403, {})
    assert KEYS.obstacles() == []


def test_a_stripe_that_does_not_answer_is_no_fault_of_the_key(wire: Wire) -> None:
    wire.will(*[httpx.ConnectError(f"no {NEW}")] * 5)
    with pytest.raises(ApiError) as failed:
        KEYS.obstacles()
    assert NEW not in str(failed.value)


# The end of the old key.


@pytest.mark.usefixtures("stripe")
def test_the_end_of_the_old_key_is_known_as_it_was_said() -> None:
    ends_at = (START + timedelta(days=7)).isoformat()
    keys = replace(KEYS, ends_old_at=ends_at)
    assert keys.obstacles() == []
    assert keys.old_value_lives_until == ends_at
    assert keys.warnings() == [f"Stripe ends the old key at {ends_at}: 7 d left to deliver the new one."]
    assert KEYS.old_value_lives_until == ""
    assert KEYS.warnings() == []


@pytest.mark.usefixtures("stripe")
def test_an_old_key_that_has_ended_is_no_obstacle_but_a_reason_to_hurry() -> None:
    keys = replace(KEYS, ends_old_at=START.isoformat())
    assert keys.obstacles() == []
    assert keys.warnings() == [
        f"Stripe ended the old key at {START.isoformat()}: whoever holds it is refused until the new one is delivered."
    ]


@pytest.mark.usefixtures("stripe")
@pytest.mark.parametrize("text", ["tomorrow", "2026-11-24T12:00:00", "2026-12-01T12:00:00Z"])
def test_an_end_that_stripe_does_not_know_is_refused(text: str) -> None:
    keys = replace(KEYS, ends_old_at=text)
    (found,) = keys.obstacles()
    assert "oldValueExpiresAt.STRIPE_API_KEY" in found.next_step


def test_what_is_no_time_gives_no_warning_beside_its_refusal() -> None:
    assert replace(KEYS, ends_old_at="tomorrow").warnings() == []


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(replace(KEYS, given="", ends_old_at="tomorrow").obstacles()) == 2


# The death of the old key.


def test_only_a_refused_key_is_dead(stripe: FakeStripe) -> None:
    assert not KEYS.refuses(OPERATOR)
    assert KEYS.refuses("sk_live_51gone")
    stripe.refuse["/v1/balance"] = (403, {})
    assert not KEYS.refuses(OPERATOR)


@pytest.mark.parametrize("status", [404, 503])
def test_any_other_answer_proves_neither(wire: Wire, status: int) -> None:
    wire.will(*[reply(status) for _ in range(5)])
    with pytest.raises(ApiError):
        KEYS.refuses(OPERATOR)


def test_the_key_is_taken_as_it_is_and_nothing_is_revoked(wire: Wire) -> None:
    old = Credential(generation=1, credential_id="g1", name="g1", value="sk_live_51old", created_at="")
    keys = replace(KEYS, keyring=(old,))
    assert not keys.revokes
    assert (keys.mint("g2").value, keys.mint("g2").credential_id) == (NEW, "g2")
    assert [each.credential_id for each in keys.issued()] == ["g1"]
    keys.revoke("g1")
    assert not wire.requests


def test_a_representation_shows_no_key() -> None:
    assert NEW not in repr(KEYS)
