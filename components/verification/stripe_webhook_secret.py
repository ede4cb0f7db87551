"""Verification of STRIPE_WEBHOOK_SECRET: the control plane believes what is signed with the new secret, and nothing else.

The secret comes on standard input.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. Where the secret is that of a new endpoint: Stripe has the endpoint, and it is enabled. Where an operator rolled it in the Dashboard, Stripe
   is not asked: that needs no key of Stripe.
3. An event that is signed with the new secret and posted as Stripe would gets a 2xx.
4. The same event, signed with a random secret, gets exactly 400. Without this, a control plane that checks no signature would pass.

All of it within the window in which Stripe signs with the old secret, too, where there is one. After it, a control plane that passes has been
refusing events all the same, until it got the new secret; so that is refused, before the checks and after them.

`stripe trigger` and `stripe listen` prove nothing here: `listen` signs with a secret of its own. Signature: Stripe's documentation, "Verify
webhook signatures manually".
"""

import hashlib
import hmac
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from components import operator_credentials
from components.announcement import Announcement, Request, together
from components.clock import unix_time, utc_now
from components.http import REPEATABLE, Api, ApiError
from components.stripe.client import StripeClient, WebhookEndpoint
from components.stripe.issuer import webhook_url
from components.stripe.old_value import moment, readable
from components.stripe.signing_secrets import window_is_over
from components.verification import check
from components.verification.check import CheckFailedError, Subject
from components.verification.consumers import (
    ControlPlaneSettings,
    announce_machines,
    machines_run_the_new_value,
    written_at,
)

# Seconds. Consumers take a signature for 300 s (Stripe's libraries), in which all tries of one event have to fit.
PATIENCE = 20
LISTING_TIMEOUT = 30  # seconds that an endpoint which was just made may be missing in Stripe's list


@dataclass(frozen=True, kw_only=True)
class Settings(ControlPlaneSettings):
    """What this verification is told.

    Attributes:
        webhook_url: Where Stripe posts to; "" for `/webhooks/stripe` of the control plane.
        event_type: The type of the event that is posted: one that the control plane takes and does nothing about.
        endpoint: Whether the secret is that of a new endpoint, whose id is the credential's; else an operator rolled it in the Dashboard.
        window_ends_at: Until when Stripe signs with the old secret, too, RFC 3339; "" where there is no window.
        api_version: Without an endpoint to ask about: the version that its events are rendered in; "" names none in the event.
        livemode: Without an endpoint to ask about: whether it is of live mode.
    """

    webhook_url: str
    event_type: str
    endpoint: bool = True
    window_ends_at: str = ""
    api_version: str = ""
    livemode: bool = True


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    value = sys.stdin.read()
    # What has been verified in time may be verified again at any time.
    window_ends_at = "" if subject.verified_before else settings.window_ends_at
    fly = settings.fly()
    if window_ends_at and moment(subject.secret, window_ends_at) <= utc_now():
        written_at(
            fly, settings.app, subject.secret
        )  # whoever answers tells the time: it may be this machine's clock that is wrong
    assert_window_is_open(subject.secret, window_ends_at)
    stripe = StripeClient(operator_credentials.find(operator_credentials.STRIPE)) if settings.endpoint else None
    url = webhook_url(settings.webhook_url, settings.control_plane_url)
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
            "signed events": lambda: only_the_new_secret_is_believed(
                url, value, example(settings, stripe, subject.credential_id)
            ),
        }
    )
    assert_window_is_open(subject.secret, window_ends_at)


def assert_window_is_open(secret: str, ends_at: str) -> None:
    """Raises CheckFailedError once the window is over, with what to do. "" is no window."""
    if not ends_at:
        return
    end, now = moment(secret, ends_at), utc_now()
    if end <= now:
        over = window_is_over(end)
        raise CheckFailedError(f"{over.happened.rstrip('.')}: {over.next_step}")
    check.progress(f"Stripe signs with the old secret, too, for another {readable(end - now)}")


def enabled_endpoint(stripe: StripeClient, endpoint_id: str) -> WebhookEndpoint:
    """The endpoint. Raises CheckFailedError unless Stripe has it and sends events there."""
    listed: list[WebhookEndpoint] = []

    def is_listed() -> bool:
        listed[:] = [each for each in stripe.webhook_endpoints() if each.endpoint_id == endpoint_id]
        return bool(listed)

    check.wait(is_listed, LISTING_TIMEOUT, waiting_for=f"Stripe to list webhook endpoint {endpoint_id}")
    found = next(iter(listed), None)
    if found is None:
        raise CheckFailedError(f"Stripe has no webhook endpoint {endpoint_id}")
    if not found.enabled:
        raise CheckFailedError(f"webhook endpoint {endpoint_id} is disabled, so Stripe sends no events there")
    return found


def example(settings: Settings, stripe: StripeClient | None, endpoint_id: str) -> bytes:
    """An event as Stripe renders it for the endpoint.

    Args:
        settings: Says how, where Stripe is not asked.
        stripe: Who is asked about the endpoint; None for nobody.
        endpoint_id: Which one.
    """
    if stripe is None:
        return event(settings.event_type, api_version=settings.api_version, livemode=settings.livemode)
    registered = enabled_endpoint(stripe, endpoint_id)
    # Some of Stripe's libraries refuse an event of another version than those that Stripe sends.
    version = registered.api_version or stripe.default_version()
    return event(settings.event_type, api_version=version, livemode=registered.livemode)


def only_the_new_secret_is_believed(url: str, secret: str, body: bytes) -> str:
    """An event signed with the secret is taken; signed with another one it is refused."""
    status = post(url, body, secret)
    if not httpx.codes.is_success(status):
        raise CheckFailedError(f"an event signed with the new secret got {status} from {url}, and not 2xx")
    status = post(url, body, f"whsec_{secrets.token_hex(16)}")
    if status != httpx.codes.BAD_REQUEST:
        raise CheckFailedError(f"an event signed with a random secret got {status} from {url}, and not 400")
    return "an event signed with the new secret is taken, and one signed with another is refused"


def event(event_type: str, *, api_version: str, livemode: bool) -> bytes:
    """An event that no customer and no object of Stripe stands behind; its id is a new one."""
    document = {
        "id": f"evt_rotation_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": api_version or None,
        "created": unix_time(),
        "data": {"object": {"object": "balance", "available": [], "livemode": livemode, "pending": []}},
        "livemode": livemode,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }
    return json.dumps(document).encode()


def signature(body: bytes, secret: str, *, at: int) -> str:
    """The header `Stripe-Signature`; `at` is in seconds since 1970. The key is the whole secret, with its `whsec_`."""
    return f"t={at},v1=" + hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, secret: str) -> int:
    """Posts an event as Stripe does and returns the status. Repeatable: consumers know an event by its id.

    Raises:
        ApiError: There was no answer, or only ones that may pass.
    """
    headers = {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": signature(body, secret, at=unix_time()),
    }
    api = Api(system="control plane", base_url=url, headers=headers, secrets=[secret])
    try:
        answer = api.call(
            "POST", "", operation="post a signed event", content=body, policy=REPEATABLE, timeout=PATIENCE
        )
    except ApiError as error:
        if error.status is None or error.transient:
            raise
        return error.status
    return answer.status_code


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    path = urlsplit(webhook_url(settings["webhook_url"], settings["url"])).path
    events = Announcement(
        words=("an event signed with the new secret is taken, and one signed with another is refused with 400",),
        makes=(f"two events of type {settings['event_type']}",),
        writes=(Request(system="control-plane", method="POST", path=path, at_most=2),),
    )
    return together([announce_machines(settings["app"]), events])


if __name__ == "__main__":
    check.run(verify)
