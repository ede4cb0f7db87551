"""Is a signing secret taken only within its window, and is an operator told how long that lasts?"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from components.errors import RefusedError
from components.stripe.signing_secrets import SigningSecrets

from .wire import START, Wire

VALUE = "whsec_brandNewBrandNew0123456789"
LEFT = timedelta(hours=23, minutes=10)
ENDS_AT = (START + LEFT).isoformat()
SECRETS = SigningSecrets(given=VALUE, ends_old_at=ENDS_AT, first=False, clock=lambda: START)


def after(moment: datetime) -> SigningSecrets:
    """The same at another time."""
    return replace(SECRETS, clock=lambda: moment)


def refusal(secrets: SigningSecrets) -> RefusedError:
    (found,) = secrets.obstacles()
    assert VALUE not in str(found)
    return found


@pytest.fixture(autouse=True)
def nobody_is_asked(wire: Wire) -> None:
    """`wire` fails a test that makes a request."""


def test_a_secret_within_its_window_is_good() -> None:
    assert SECRETS.obstacles() == []
    assert SECRETS.old_value_lives_until == ENDS_AT
    assert not SECRETS.revokes
    assert VALUE not in repr(SECRETS)
    assert SECRETS.mint("g2").value == VALUE


@pytest.mark.parametrize(
    "value",
    ["", "whsec_", "sk_live_1", "whsec", f"{VALUE}\n", f" {VALUE}", "whsec_a b", "whsec_a\tb", "whsec_a\u200bb"],
)
def test_what_is_no_signing_secret_is_refused(value: str) -> None:
    (found,) = replace(SECRETS, given=value).obstacles()
    assert "whsec_…" in found.happened
    assert "supplied.STRIPE_WEBHOOK_SECRET" in found.next_step
    assert len(value) < 8 or value.strip() not in str(found)


def test_without_a_window_a_secret_is_refused_with_how_to_say_it() -> None:
    found = refusal(replace(SECRETS, ends_old_at=""))
    assert (
        "pulumi config set --path oldValueExpiresAt.STRIPE_WEBHOOK_SECRET <RFC 3339 time that the Dashboard shows>"
        in found.next_step
    )


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("text", ["tomorrow", "2026-11-24T11:00:00", "2026-11-24T12:06:00Z"])
def test_a_window_that_stripe_does_not_know_is_refused(text: str, first: bool) -> None:  # noqa: FBT001
    found = refusal(replace(SECRETS, ends_old_at=text, first=first))
    assert "oldValueExpiresAt.STRIPE_WEBHOOK_SECRET" in found.next_step


def test_a_window_may_last_24_hours() -> None:
    assert replace(SECRETS, ends_old_at="2026-11-24T12:00:00Z").obstacles() == []


def test_a_window_that_is_over_is_refused_with_what_to_do() -> None:
    assert after(START + LEFT - timedelta(seconds=1)).obstacles() == []
    found = refusal(after(START + LEFT))
    assert f"ended at {ENDS_AT}" in found.happened
    assert "Stripe signs with the new secret only" in found.happened
    for step in ("roll the secret again", "supplied.STRIPE_WEBHOOK_SECRET", "bump the counter", "resend"):
        assert step in found.next_step


def test_what_is_taken_over_needs_no_window() -> None:
    assert replace(SECRETS, ends_old_at="", first=True).obstacles() == []


def test_what_is_taken_over_may_have_a_window() -> None:
    assert replace(after(START + LEFT - timedelta(seconds=1)), first=True).obstacles() == []


def test_what_is_taken_over_with_a_window_that_is_over_is_refused_with_how_to_take_it_away() -> None:
    found = refusal(replace(after(START + LEFT), first=True))
    assert f"ended at {ENDS_AT}" in found.happened
    assert "pulumi config rm --path 'oldValueExpiresAt.STRIPE_WEBHOOK_SECRET'" in found.next_step
    assert "roll the secret again" not in found.next_step, "nothing was lost: the secret in use is taken over"
    assert replace(after(START + LEFT), ends_old_at="", first=True).obstacles() == [], "that helps"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(replace(SECRETS, given="", ends_old_at="").obstacles()) == 2


def test_what_is_left_of_the_window_is_told() -> None:
    (told,) = SECRETS.warnings()
    assert "23 h 10 min left" in told
    assert ENDS_AT in told
    (told,) = after(START + timedelta(hours=23)).warnings()
    assert "10 min left" in told
    assert after(START + LEFT).warnings() == [], "then it is an obstacle"
    assert replace(SECRETS, ends_old_at="", first=True).warnings() == []
    assert replace(SECRETS, ends_old_at="tomorrow").warnings() == [], "an obstacle tells"


def test_the_old_secret_is_dead_once_the_window_is_over() -> None:
    assert not after(START + LEFT - timedelta(seconds=1)).refuses("whsec_old")
    assert after(START + LEFT).refuses("whsec_old")


def test_without_a_window_only_what_is_taken_over_has_no_old_secret() -> None:
    assert replace(SECRETS, ends_old_at="", first=True).refuses("whsec_old")
    assert not replace(SECRETS, ends_old_at="", first=False).refuses("whsec_old")
    assert not replace(SECRETS, ends_old_at="tomorrow").refuses("whsec_old")


def test_one_that_stripe_has_ended_may_not_return() -> None:
    assert after(START + LEFT - timedelta(seconds=1)).may_return("whsec_old")
    assert not after(START + LEFT).may_return("whsec_old")
