"""Objects for events that nobody caused: what `stripe trigger` makes really, `emit` makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.stripe import checkout, customers, keys
from sandbox.world import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.stripe.keys import Realm

Json = dict[str, Any]

_MONTH: Final = 30 * 24 * 3600


def subscription(realm: Realm, *, created: int, **values: object) -> Json:
    """Return a subscription without items; `created` is in seconds since 1970."""
    return {
        "id": keys.identifier("sub_1"),
        "object": "subscription",
        "application": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": created,
        "billing_mode": {"type": "classic"},
        "billing_schedules": [],
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": "usd",
        "customer": keys.identifier("cus_", 14),
        "default_payment_method": None,
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": False, "url": "/v1/subscription_items"},
        "livemode": realm.livemode,
        "metadata": {},
        "start_date": created - _MONTH,
        "status": "active",
        **values,
    }


_Made = tuple[Json, Json | None]
_MAKERS: Final[dict[str, Callable[[Realm, int], _Made]]] = {
    "checkout.session.completed": lambda realm, now: (
        checkout.new(realm, created=now, status="complete", payment_status="paid", url=None),
        None,
    ),
    "checkout.session.expired": lambda realm, now: (
        checkout.new(realm, created=now, status="expired", url=None),
        None,
    ),
    "customer.created": lambda realm, now: (customers.new(realm, created=now), None),
    "customer.deleted": lambda realm, now: (customers.new(realm, created=now), None),
    "customer.updated": lambda realm, now: (customers.new(realm, created=now, name="After"), {"name": "Before"}),
    "customer.subscription.created": lambda realm, now: (subscription(realm, created=now), None),
    "customer.subscription.deleted": lambda realm, now: (
        subscription(realm, created=now, status="canceled", canceled_at=now, ended_at=now),
        None,
    ),
    "customer.subscription.updated": lambda realm, now: (
        subscription(realm, created=now, cancel_at_period_end=True),
        {"cancel_at_period_end": False},
    ),
}


def make(realm: Realm, type_: str, *, now: int) -> _Made:
    """Return the object of an event and, for an update, what it had before; `now` is in seconds since 1970.

    Raises `SandboxError` for a type that there is nothing to make up for.
    """
    maker = _MAKERS.get(type_)
    if maker is None:
        raise SandboxError(f"The sandbox makes no event {type_!r} up. It makes: {', '.join(sorted(_MAKERS))}.")
    return maker(realm, now)
