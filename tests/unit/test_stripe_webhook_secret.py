"""Can each check of STRIPE_WEBHOOK_SECRET fail, and does an event hold up against Stripe's own library?"""

import io
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import stripe as stripe_sdk

from components.contacts import CONTACTS
from components.http import ApiError
from components.stripe.client import StripeClient
from components.verification import stripe_webhook_secret, stripe_webhook_secret_probe
from components.verification.check import CheckFailedError, Subject
from components.verification.stripe_webhook_secret import (
    Settings,
    event,
    example,
    only_the_new_secret_is_believed,
    post,
    signature,
    verify,
)

from .announced import assert_covered
from .fake_stripe import OPERATOR, URL, FakeStripe, endpoint
from .wire import START, Clock, Wire, booted, reply

SECRET = "whsec_ofTheNewEndpoint123456"
SUBJECT = Subject(secret="STRIPE_WEBHOOK_SECRET", generation=2, credential_id="we_1")
TOLD: dict[str, Any] = {"app": "cp", "url": "https://cp.test", "webhook_url": "", "event_type": "balance.available"}
# As for a secret that an operator rolled in the Dashboard.
ROLLED = {**TOLD, "endpoint": False, "api_version": "2025-01-01.acacia"}
WINDOW = {"window_ends_at": "2026-11-23T13:00:00+01:00"}  # START


class World(FakeStripe):
    """Stripe, Fly and a control plane that believes `self.secret`."""

    def __init__(self) -> None:
        super().__init__()
        self.secret: str | None = SECRET
        self.good, self.bad = 200, 400
        self.booted = 5
        self.version = "2025-01-01.acacia"
        self.events: list[dict[str, Any]] = []

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        if request.url.path == "/v1/apps/cp/secrets":
            secret = {"name": "STRIPE_WEBHOOK_SECRET", "digest": "d", "updated_at": START.isoformat()}
            return reply(200, {"secrets": [secret]})
        if request.url.path == "/v1/apps/cp/machines":
            machine = {"id": "m1", "state": "started", "instance_id": "v", "config": {}}
            return reply(200, [{**machine, "events": booted(self.booted)}])
        if request.url.host == "cp.test":
            return self._receive(request)
        return super().serve(request)

    def _receive(self, request: httpx.Request) -> httpx.Response:
        assert request.method == "POST"
        assert str(request.url) == URL
        if self.secret is not None:
            try:
                stripe_sdk.WebhookSignature.verify_header(
                    request.content.decode(), request.headers["stripe-signature"], self.secret, 300
                )
            except stripe_sdk.SignatureVerificationError:
                return reply(self.bad, {"error": "invalid signature"})
        self.events.append(json.loads(request.content))
        # Stripe's library for Go, which refuses other versions.
        return reply(self.good if self.events[-1]["api_version"] == self.version else 400)


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("STRIPE_API_KEY", OPERATOR)
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator")
    monkeypatch.delenv("STRIPE_API_BASE_URL", raising=False)
    world = World()
    wire.serve = world.serve
    hand_in(monkeypatch, SECRET)
    yield world
    assert_covered(wire.requests, stripe_webhook_secret.announce(TOLD, leaked=False))


def hand_in(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(value))


def believed() -> str:
    return only_the_new_secret_is_believed(URL, SECRET, example(Settings(**TOLD), StripeClient(OPERATOR), "we_1"))


def test_a_consumer_with_the_new_secret_passes(world: World) -> None:
    verify(TOLD, SUBJECT)
    (taken,) = world.events
    assert (taken["type"], taken["livemode"], taken["object"]) == ("balance.available", True, "event")


@pytest.mark.parametrize("livemode", [True, False])
def test_a_rolled_secret_needs_no_key_of_stripe_and_no_endpoint(
    world: World,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    livemode: bool,  # noqa: FBT001
) -> None:
    monkeypatch.delenv("STRIPE_API_KEY")
    verify({**ROLLED, "livemode": livemode}, replace(SUBJECT, credential_id="cp-rotation-g2"))
    (taken,) = world.events
    assert (taken["type"], taken["livemode"]) == ("balance.available", livemode)
    assert {request.url.host for request in wire.requests} == {"api.machines.dev", "cp.test"}


def test_a_consumer_with_another_secret_than_the_rolled_one_fails(world: World) -> None:
    world.secret = "whsec_old"
    with pytest.raises(CheckFailedError, match="signed with the new secret got 400"):
        verify(ROLLED, SUBJECT)
    assert not world.events


def test_the_version_of_a_rolled_secrets_events_is_a_setting(world: World) -> None:
    with pytest.raises(CheckFailedError, match="signed with the new secret got 400"):
        verify({**ROLLED, "api_version": ""}, SUBJECT)
    assert world.events[-1]["api_version"] is None


# The window.


def at(monkeypatch: pytest.MonkeyPatch, *moments: datetime) -> None:
    """Says what time it is, look after look."""
    looks = iter(moments)
    monkeypatch.setattr(stripe_webhook_secret, "utc_now", lambda: next(looks))


def test_within_the_window_the_verification_passes(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at(monkeypatch, *[START - timedelta(hours=23, minutes=10)] * 2, START - timedelta(seconds=1))
    verify({**ROLLED, **WINDOW}, SUBJECT)
    assert len(world.events) == 1
    assert "for another 23 h 10 min" in capsys.readouterr().err


@pytest.mark.parametrize("told", [TOLD, ROLLED], ids=["endpoint", "rolled"])
def test_after_the_window_nothing_is_asked_but_the_time(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    at(monkeypatch, START, START)
    monkeypatch.delenv("STRIPE_API_KEY")
    with pytest.raises(CheckFailedError, match=r"ended at 2026-11-23T13:00:00\+01:00.*roll the secret again") as failed:
        verify({**told, **WINDOW}, SUBJECT)
    assert "bump the counter" in str(failed.value)
    assert "resend them" in str(failed.value)
    assert not world.events
    assert [request.url.path for request in wire.requests] == ["/v1/apps/cp/secrets"]


def test_a_window_that_is_over_by_the_clock_of_the_machine_alone_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, START + timedelta(hours=1), START - timedelta(minutes=1), START - timedelta(seconds=1))
    verify({**ROLLED, **WINDOW}, SUBJECT)
    assert len(world.events) == 1


def test_a_window_that_ends_while_the_checks_run_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, *[START - timedelta(seconds=1)] * 2, START)
    with pytest.raises(CheckFailedError, match="ended at"):
        verify({**ROLLED, **WINDOW}, SUBJECT)
    assert len(world.events) == 1, "the checks have run"


def test_without_a_window_nobody_asks_for_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch)
    verify(ROLLED, SUBJECT)
    assert world.events


def test_what_was_verified_in_time_is_verified_again_at_any_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch)  # nobody asks
    verify({**ROLLED, **WINDOW}, replace(SUBJECT, verified_before=True))
    assert len(world.events) == 1


def test_what_was_verified_in_time_may_fail_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch)
    world.secret = "whsec_old"
    with pytest.raises(CheckFailedError, match="signed with the new secret got 400"):
        verify({**ROLLED, **WINDOW}, replace(SUBJECT, verified_before=True))


# The consumer.


def test_the_webhook_url_comes_before_the_control_planes(world: World) -> None:
    verify({**TOLD, "url": "https://elsewhere.test", "webhook_url": URL}, SUBJECT)
    assert len(world.events) == 1


@pytest.mark.usefixtures("world")
def test_the_environments_control_plane_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_URL", "https://cp.test/")
    verify({**TOLD, "url": "https://elsewhere.test"}, SUBJECT)


def test_a_consumer_with_the_old_secret_fails(world: World) -> None:
    world.secret = "whsec_old"
    with pytest.raises(CheckFailedError, match="signed with the new secret got 400"):
        verify(TOLD, SUBJECT)


def test_a_consumer_that_believes_everybody_fails(world: World) -> None:
    world.secret = None
    with pytest.raises(CheckFailedError, match="signed with a random secret got 200"):
        verify(TOLD, SUBJECT)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_random_secret_has_to_get_400_and_nothing_else(world: World, status: int) -> None:
    world.bad = status
    with pytest.raises(CheckFailedError, match=f"random secret got {status}"):
        believed()


@pytest.mark.parametrize("status", [302, 404])
def test_the_new_secret_has_to_get_2xx(world: World, status: int) -> None:
    world.good = status
    with pytest.raises(CheckFailedError, match=f"new secret got {status}"):
        believed()


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("status", [200, 201, 204])
def test_every_2xx_is_good(world: World, status: int) -> None:
    world.good = status
    believed()


def test_a_consumer_that_is_down_is_no_verdict(world: World) -> None:
    world.bad = 503
    with pytest.raises(ApiError) as failed:
        believed()
    assert failed.value.status == 503


def test_a_moment_of_absence_is_none(world: World, wire: Wire) -> None:
    def away(_request: httpx.Request) -> httpx.Response:
        return reply(503)

    wire.will(world.serve, httpx.ConnectError("refused"))
    wire.answers.insert(0, world.serve)  # endpoints, default version, then the first post
    wire.will(away)
    believed()
    assert len(world.events) == 1


def test_machines_with_the_value_before_fail(world: World) -> None:
    world.booted = -5
    with pytest.raises(CheckFailedError, match="machine m1 of cp still runs with the value before"):
        verify(TOLD, SUBJECT)


def test_an_endpoint_that_is_not_listed_yet_is_waited_for(world: World, clock: Clock) -> None:
    there, world.endpoints = world.endpoints, []

    def catch_up() -> None:
        world.endpoints = there

    clock.on_sleep = catch_up
    verify(TOLD, SUBJECT)
    assert len(world.events) == 1


@pytest.mark.parametrize(
    ("endpoints", "reason"), [([], "has no webhook endpoint"), ([endpoint(1, status="disabled")], "is disabled")]
)
def test_the_endpoint_has_to_be_enabled(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    nothing_is_ending: threading.Event,
    endpoints: list[dict[str, Any]],
    reason: str,
) -> None:
    world.endpoints = endpoints
    with pytest.raises(CheckFailedError, match=reason):
        verify(TOLD, SUBJECT)
    nothing_is_ending.clear()  # the probe is another process
    hand_in(monkeypatch, SECRET)
    with pytest.raises(CheckFailedError, match=reason):
        stripe_webhook_secret_probe.probe({}, SUBJECT)


def test_the_event_is_of_the_endpoints_version(world: World) -> None:
    world.endpoints = [endpoint(1, api_version="2024-06-20")]
    world.version = "2024-06-20"
    believed()


def test_no_message_holds_the_secret(world: World) -> None:
    world.secret = "whsec_old"
    with pytest.raises(CheckFailedError) as failed:
        believed()
    assert SECRET not in str(failed.value)


def test_a_post_without_an_answer_does_not_show_the_secret(wire: Wire) -> None:
    wire.will(*[httpx.ConnectError(f"no {SECRET}")] * 5)
    with pytest.raises(ApiError) as failed:
        post(URL, b"{}", SECRET)
    assert SECRET not in str(failed.value)


def test_signature_and_event_hold_up_against_stripes_library() -> None:
    body = event("balance.available", api_version="2024-06-20", livemode=False)
    header = signature(body, SECRET, at=json.loads(body)["created"])
    built = stripe_sdk.Webhook.construct_event(body.decode(), header, SECRET)
    assert (built.type, built.api_version, built.livemode) == ("balance.available", "2024-06-20", False)
    with pytest.raises(stripe_sdk.SignatureVerificationError):
        stripe_sdk.Webhook.construct_event(body.decode(), header, "whsec_other")


def test_every_event_is_another() -> None:
    made = [event("a.b", api_version="", livemode=True) for _ in range(2)]
    assert len({json.loads(each)["id"] for each in made}) == 2
    assert json.loads(made[0])["api_version"] is None


@pytest.mark.usefixtures("world")
def test_the_probe_takes_a_signing_secret_of_an_enabled_endpoint() -> None:
    stripe_webhook_secret_probe.probe({}, SUBJECT)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("told", [{}, {"endpoint": False}], ids=["endpoint", "rolled"])
@pytest.mark.parametrize("value", ["", "whsec_", "whsec_x\n", "whsec_x y", OPERATOR])
def test_the_probe_takes_nothing_else(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, value: str, told: dict[str, bool]
) -> None:
    hand_in(monkeypatch, value)
    with pytest.raises(CheckFailedError, match="no signing secret") as failed:
        stripe_webhook_secret_probe.probe(told, SUBJECT)
    assert not value.strip("whsec_\n") or value not in str(failed.value)
    assert not wire.requests


@pytest.mark.usefixtures("world")
def test_the_probe_of_a_rolled_secret_needs_no_key_of_stripe(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_API_KEY")
    stripe_webhook_secret_probe.probe({"endpoint": False}, SUBJECT)
    assert not wire.requests


def test_a_probe_that_stripe_does_not_answer_fails(world: World) -> None:
    world.accounts = {}
    with pytest.raises(CheckFailedError, match="could not be looked at") as failed:
        stripe_webhook_secret_probe.probe({}, SUBJECT)
    assert failed.value.contact == CONTACTS["Stripe"]
