"""`/v1/customers`: what a checkout makes and a purge deletes. Every change is an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.stripe import deliveries, keys, objects
from sandbox.stripe.errors import missing
from sandbox.stripe.wire import PAGE, Operation

if TYPE_CHECKING:
    from sandbox.stripe.keys import Realm
    from sandbox.stripe.wire import Call

Json = dict[str, Any]

_PATH: Final = "/v1/customers"
_ONE: Final = f"{_PATH}/{{customer}}"
_TEXTS: Final = frozenset({"name", "email", "description", "phone"})


def new(realm: Realm, *, created: int, **values: object) -> Json:
    """Return a customer; `created` is in seconds since 1970."""
    return {
        "id": keys.identifier("cus_", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": created,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": None,
        "invoice_prefix": keys.identifier("", 8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": realm.livemode,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
        **values,
    }


def _create(call: Call) -> Json:
    values = {name: call.text(name) for name in sorted(_TEXTS)}
    customer = new(call.realm, created=int(call.world.now().timestamp()), metadata=call.metadata({}), **values)
    objects.save(call.world, call.realm, customer)
    deliveries.emit(call.world, call.realm, type_="customer.created", subject=customer, origin=call.origin)
    return customer


def _list(call: Call) -> Json:
    email = call.text("email")
    found = objects.listing(call.world, call.realm, "customer")
    return call.page("customer", [each for each in found if email is None or each["email"] == email], _PATH)


def _get(call: Call) -> Json:
    return objects.find(call.world, call.realm, "customer", call.path("customer"))


def _existing(call: Call) -> Json:
    customer = _get(call)
    if customer.get("deleted"):
        raise missing("customer", customer["id"])
    return customer


def _update(call: Call) -> Json:
    before = _existing(call)
    after = {
        **before,
        **{name: call.text(name) for name in sorted(_TEXTS) if name in call.parameters},
        "metadata": call.metadata(before["metadata"]),
    }
    previous = {name: value for name, value in before.items() if after[name] != value}
    objects.save(call.world, call.realm, after)
    if previous:
        deliveries.emit(
            call.world, call.realm, type_="customer.updated", subject=after, previous=previous, origin=call.origin
        )
    return after


def _delete(call: Call) -> Json:
    customer = _existing(call)
    objects.delete(call.world, customer["id"])
    deliveries.emit(call.world, call.realm, type_="customer.deleted", subject=customer, origin=call.origin)
    return {"id": customer["id"], "object": "customer", "deleted": True}


_WRITABLE: Final = _TEXTS | {"metadata"}

OPERATIONS: Final = (
    Operation(method="POST", path=_PATH, permission="rak_customer_write", handler=_create, parameters=_WRITABLE),
    Operation(method="GET", path=_PATH, permission="rak_customer_read", handler=_list, parameters=PAGE | {"email"}),
    Operation(method="GET", path=_ONE, permission="rak_customer_read", handler=_get),
    Operation(method="POST", path=_ONE, permission="rak_customer_write", handler=_update, parameters=_WRITABLE),
    Operation(method="DELETE", path=_ONE, permission="rak_customer_write", handler=_delete),
)
