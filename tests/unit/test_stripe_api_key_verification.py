"""Can each check of STRIPE_API_KEY fail, and is what it made deleted whatever happened?"""

import io
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from components.verification import stripe_api_key, stripe_api_key_probe
from components.verification.check import CheckFailedError, Subject

from .announced import assert_covered
from .fake_control_plane import FakeControlPlane
from .fake_stripe import ACCOUNT, NEW, FakeStripe
from .wire import Wire, body_of, booted, reply

SUBJECT = Subject(secret="STRIPE_API_KEY", generation=2, credential_id="given")
SESSION = "session-of-somebody"
TOLD = {
    "app": "cp",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "plan": "starter",
    "checkout_host": "checkout.stripe.com",
    "return_url": "https://app.test/",
    "org_timeout": 60,
}


class World(FakeControlPlane):
    """The same with its shop."""

    def __init__(self) -> None:
        super().__init__("STRIPE_API_KEY")
        self.page = reply(200, {"url": "https://checkout.stripe.com/c/pay/cs_live_1", "id": "cs_live_1"})
        self.asked: list[Any] = []

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Sells to whoever is signed in."""
        if (request.method, request.url.path) != ("POST", "/cp/billing/checkout"):
            return super().serve(request)
        if request.headers.get("cookie") != f"mcp_session={SESSION}":
            return reply(401, {"error": "unauthorized"})
        self.asked.append(body_of(request))
        return self.page


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator")
    monkeypatch.setenv("CP_ADMIN_API_TOKEN", "admin")
    monkeypatch.setenv("CP_SESSION", SESSION)
    world = World()
    wire.serve = world.serve
    yield world
    assert_covered(wire.requests, stripe_api_key.announce(TOLD, leaked=False))


def test_a_working_key_passes(world: World) -> None:
    stripe_api_key.verify(TOLD, SUBJECT)
    (asked,) = world.asked
    assert re.fullmatch(r"rotationtest-stripe-\d{10}", asked["org_slug"])
    assert world.slugs("create") == world.slugs("delete") == [asked["org_slug"]]
    assert asked["plan"] == "starter"
    assert asked["success_url"] == asked["cancel_url"] == "https://app.test/"
    assert not world.orgs, "the org is deleted"


@pytest.mark.parametrize(
    "url",
    [
        "http://checkout.stripe.com/c/pay/cs_1",
        "https://checkout.stripe.com.evil.test/c",
        "https://evil.test/checkout.stripe.com",
        "https://[checkout.stripe.com",
        "",
        None,
    ],
)
def test_a_page_elsewhere_fails(world: World, url: str | None) -> None:
    world.page = reply(200, {"url": url})
    with pytest.raises(CheckFailedError, match="checkout page of org rotationtest-stripe-"):
        stripe_api_key.verify(TOLD, SUBJECT)
    assert not world.orgs, "the org is deleted"


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), reply(200, [])], ids=["html", "list"])
def test_an_answer_without_a_url_fails(world: World, answer: httpx.Response) -> None:
    world.page = answer
    with pytest.raises(CheckFailedError, match="host none"):
        stripe_api_key.verify(TOLD, SUBJECT)


def test_the_host_is_a_setting(world: World) -> None:
    world.page = reply(200, {"url": "https://pay.test/c"})
    stripe_api_key.verify({**TOLD, "checkout_host": "pay.test"}, SUBJECT)
    assert not world.orgs


@pytest.mark.parametrize("status", [400, 502])
def test_a_refused_checkout_fails_without_stripes_words(world: World, status: int) -> None:
    world.page = reply(status, {"error": "billing provider: Expired API Key provided: sk_live_****abcd"})
    with pytest.raises(CheckFailedError, match=f"status {status}") as failed:
        stripe_api_key.verify(TOLD, SUBJECT)
    assert "abcd" not in str(failed.value)
    assert "Expired" not in str(failed.value)
    assert "CP_SESSION" not in str(failed.value), "the session is not to blame"
    assert not world.orgs, "the org is deleted"


def test_a_session_that_is_over_fails_and_is_not_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CP_SESSION", "session-that-is-over")
    with pytest.raises(CheckFailedError, match=r"status 401.*CP_SESSION") as failed:
        stripe_api_key.verify(TOLD, SUBJECT)
    assert "session-that-is-over" not in str(failed.value)
    assert not world.orgs


def test_machines_with_the_value_before_fail(world: World) -> None:
    world.machines[1]["events"] = booted(-5)
    with pytest.raises(CheckFailedError, match="still runs with the value before"):
        stripe_api_key.verify(TOLD, SUBJECT)
    assert not world.orgs


# The probe.


@pytest.fixture
def stripe(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> FakeStripe:
    stripe = FakeStripe()
    wire.serve = stripe.serve
    hand_in(monkeypatch, NEW)
    return stripe


def hand_in(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(value))


def probe(mode: str = "live") -> None:
    stripe_api_key_probe.probe({"mode": mode, "account": ACCOUNT}, SUBJECT)


def test_a_key_of_the_account_and_mode_passes(stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    stripe.accounts["rk_test_1"] = ACCOUNT
    stripe.livemode = False
    hand_in(monkeypatch, "rk_test_1")
    probe("test")


def test_a_key_of_another_account_fails_with_what_to_do(stripe: FakeStripe) -> None:
    stripe.accounts[NEW] = "acct_other"
    with pytest.raises(CheckFailedError, match=r"belongs to account acct_other.*hand in a key of"):
        probe()


def test_a_dead_key_fails(stripe: FakeStripe) -> None:
    del stripe.accounts[NEW]
    with pytest.raises(CheckFailedError, match="is refused by Stripe") as failed:
        probe()
    assert NEW[-4:] not in str(failed.value)


@pytest.mark.usefixtures("stripe")
@pytest.mark.parametrize("value", ["", "pk_live_1", "whsec_1", "sk_test_1", f"{NEW}\n"])
def test_what_is_no_key_of_the_mode_fails(monkeypatch: pytest.MonkeyPatch, wire: Wire, value: str) -> None:
    hand_in(monkeypatch, value)
    with pytest.raises(CheckFailedError, match=r"no Stripe key|is of test mode"):
        probe()
    assert not wire.requests, "it is not sent anywhere"


def test_a_key_that_stripe_calls_one_of_the_other_mode_fails(stripe: FakeStripe) -> None:
    stripe.livemode = False
    with pytest.raises(CheckFailedError, match="is of test mode"):
        probe()


def test_a_restricted_key_that_hides_its_account_fails(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/account"] = (403, {})
    with pytest.raises(CheckFailedError, match="may not read its account"):
        probe()
