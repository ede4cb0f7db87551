"""The control plane's billing: checkout pages, and what Stripe tells it (contract: control-plane.md).

Stripe is called with this process's own STRIPE_API_KEY, and deliveries are believed if they are signed with its own
STRIPE_WEBHOOK_SECRET. Without one of them billing is disabled: 503.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from sandbox.processes.database import DatabaseError
from sandbox.processes.service import MAX_BODY, call, environ, log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.processes.database import Database

    Answer = tuple[int, dict[str, Any]]
    """Status and JSON."""

TOLERANCE = 300
"""Seconds that a signature is good for (providers.md 3e)."""
PRICES = {"starter": 2_900, "pro": 9_900}
"""US cents a month, by plan."""
DISABLED = (503, {"error": "billing is disabled"})


def enabled() -> bool:
    """Tell whether this process has what billing needs."""
    return bool(environ().get("STRIPE_API_KEY")) and bool(environ().get("STRIPE_WEBHOOK_SECRET"))


class BillingError(Exception):
    """Stripe refused. The message may hold Stripe's own words, and with them part of a key."""


def stripe(
    method: str, path: str, form: Mapping[str, str] | None = None, *, idempotency_key: str | None = None
) -> tuple[int, Any]:
    """Call Stripe with this process's own key; raises `OSError` if there is no answer."""
    return call(
        environ()["STRIPE_API_BASE_URL"],
        method,
        path,
        form=form,
        token=f"Bearer {environ().get('STRIPE_API_KEY', '')}",
        headers={} if idempotency_key is None else {"idempotency-key": idempotency_key},
    )


def checkout(body: Mapping[str, Any], database: Database) -> Answer:
    """Answer `POST /cp/billing/checkout`: make a page at Stripe where the organization's plan can be paid."""
    if not enabled():
        return DISABLED
    plan, slug = body.get("plan"), body.get("org_slug")
    if plan not in PRICES or not isinstance(slug, str):
        return 400, {"error": f"org_slug must be a slug and plan one of {', '.join(PRICES)}"}
    urls = {name: str(body.get(name) or "") for name in ("success_url", "cancel_url")}
    if any(urllib.parse.urlsplit(url).scheme not in {"http", "https"} for url in urls.values()):
        return 400, {"error": "success_url and cancel_url must be URLs"}
    organization = database.find(slug)
    if organization is None:
        return 404, {"error": "org not found"}
    try:
        session = _created(
            "/v1/checkout/sessions",
            {
                **urls,
                "mode": "subscription",
                "customer": _customer(organization, database),
                "client_reference_id": organization["id"],
                "metadata[org_slug]": slug,
                "metadata[plan]": plan,
                "line_items[0][quantity]": "1",
                "line_items[0][price_data][currency]": "usd",
                "line_items[0][price_data][unit_amount]": str(PRICES[plan]),
                "line_items[0][price_data][recurring][interval]": "month",
                "line_items[0][price_data][product_data][name]": f"Molecule {plan}",
            },
        )
    except DatabaseError:
        raise
    except (OSError, BillingError) as error:
        log(f"checkout {slug} failed: {type(error).__name__}")
        return 502, {"error": f"billing provider: {error}"}
    return 200, {"url": session["url"], "id": session["id"]}


def _created(path: str, form: Mapping[str, str], *, idempotency_key: str | None = None) -> dict[str, Any]:
    status, answer = stripe("POST", path, form, idempotency_key=idempotency_key)
    if status != 200:  # noqa: PLR2004
        message = answer.get("error", {}) if isinstance(answer, dict) else {}
        raise BillingError(message.get("message", status) if isinstance(message, dict) else message)
    created: dict[str, Any] = answer
    return created


def _customer(organization: Mapping[str, Any], database: Database) -> str:
    """Return the organization's customer at Stripe, making it at its first checkout."""
    known = database.customer(organization["id"])
    if known is not None:
        return known
    created = _created(
        "/v1/customers",
        {"name": organization["name"], "metadata[org_slug]": organization["slug"]},
        idempotency_key=f"customer-{organization['id']}",
    )
    database.set_customer(organization["id"], created["id"])
    return str(created["id"])


def forget_customer(organization: Mapping[str, Any], database: Database) -> bool:
    """Delete an organization's customer at Stripe, if it has one (GDPR); `False` if it must be tried again."""
    slug, known = organization["slug"], database.customer(organization["id"])
    if known is None:
        return True
    if "STRIPE_API_KEY" not in environ():
        log(f"purge {slug} failed: it has a customer at Stripe, and billing is disabled")
        return False
    try:
        status, _ = stripe("DELETE", f"/v1/customers/{known}")
    except OSError as error:
        log(f"purge {slug} failed: {error}")
        return False
    if status not in {200, 404}:
        log(f"purge {slug} failed: Stripe answered {status} to the deletion of its customer")
        return False
    database.set_customer(organization["id"], None)
    return True


def receive(body: bytes | None, signature: str, database: Database) -> Answer:
    """Answer `POST /webhooks/stripe`; `body` is `None` if it is larger than the cap.

    An event that is known already is answered like a new one: during a rotation each arrives once for every endpoint.
    """
    if not enabled():
        return DISABLED
    if body is None:
        return 413, {"error": f"body is larger than {MAX_BODY} bytes"}
    if not signed(body, signature, environ()["STRIPE_WEBHOOK_SECRET"], now=time.time()):
        log("POST /webhooks/stripe: 400 invalid signature")
        return 400, {"error": "invalid signature"}
    try:
        event = json.loads(body)
        identifier, type_ = event["id"], event["type"]
    except (ValueError, KeyError, TypeError):
        return 400, {"error": "invalid payload"}
    new = database.record_event(str(identifier), str(type_))
    log(f"POST /webhooks/stripe: {identifier} {type_} {'accepted' if new else 'known already'}")
    return 200, {"received": True}


def signed(body: bytes, header: str, secret: str, *, now: float) -> bool:
    """Tell whether a `Stripe-Signature` is of this body, made with this secret, and not older than `TOLERANCE`.

    One good `v1` of several is enough; other schemes count for nothing. `now` is in seconds since 1970.
    """
    pairs = [part.strip().partition("=") for part in header.split(",")]
    moment = next((value for name, _, value in pairs if name == "t"), "")
    if not re.fullmatch(r"[0-9]{1,12}", moment) or abs(now - int(moment)) > TOLERANCE:
        return False
    expected = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    matches = [hmac.compare_digest(value.encode(), expected) for name, _, value in pairs if name == "v1"]
    return any(matches)
