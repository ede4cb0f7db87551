"""`/v1/checkout/sessions`: pages on checkout.stripe.com, as far as their makers see them. Nobody can pay here.

There are no prices: a line item brings its own (`price_data`). Parameters that a hosted page does not need for its URL
are accepted and not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sandbox.stripe import deliveries, keys, objects
from sandbox.stripe.errors import invalid, missing
from sandbox.stripe.wire import PAGE, Operation

if TYPE_CHECKING:
    from sandbox.stripe.keys import Realm
    from sandbox.stripe.wire import Call

Json = dict[str, Any]

LIFETIME: Final = 24 * 3600
"""Seconds until a session expires (API reference, `expires_at`)."""
_PATH: Final = "/v1/checkout/sessions"
_ONE: Final = f"{_PATH}/{{session}}"
_KIND: Final = "checkout.session"
_MODES: Final = frozenset({"payment", "setup", "subscription"})
_PARAMETERS: Final = frozenset(
    """
    adaptive_pricing after_expiration allow_promotion_codes automatic_tax billing_address_collection branding_settings
    cancel_url client_reference_id consent_collection currency custom_fields custom_text customer customer_account
    customer_creation customer_email customer_update discounts excluded_payment_method_types expires_at
    integration_identifier invoice_creation line_items locale managed_payments metadata mode name_collection
    optional_items origin_context payment_intent_data payment_method_collection payment_method_configuration
    payment_method_data payment_method_options payment_method_types permissions phone_number_collection
    redirect_on_completion return_url saved_payment_method_options setup_intent_data shipping_address_collection
    shipping_options submit_type subscription_data success_url tax_id_collection ui_mode wallet_options
    """.split()  # noqa: SIM905 - as a list it is 50 lines
)


def new(realm: Realm, *, created: int, **values: object) -> Json:
    """Return an open session with its page; `created` is in seconds since 1970."""
    identifier = keys.identifier(f"cs_{realm.mode}_a1", 56)
    return {
        "id": identifier,
        "object": _KIND,
        "allow_promotion_codes": None,
        "amount_subtotal": None,
        "amount_total": None,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": None,
        "client_reference_id": None,
        "client_secret": None,
        "consent": None,
        "consent_collection": None,
        "created": created,
        "currency": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "customer_creation": None,
        "customer_details": None,
        "customer_email": None,
        "expires_at": created + LIFETIME,
        "invoice": None,
        "livemode": realm.livemode,
        "locale": None,
        "metadata": {},
        "mode": "payment",
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always",
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "setup_intent": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": None,
        "total_details": None,
        "ui_mode": "hosted_page",
        "url": f"https://checkout.stripe.com/c/pay/{identifier}#{keys.identifier('fid', 40)}",
        **values,
    }


def _create(call: Call) -> Json:
    mode = call.required("mode")
    if mode not in _MODES:
        raise invalid(f"Invalid mode: must be one of {', '.join(sorted(_MODES))}", "mode")
    if (call.text("ui_mode") or "hosted_page") not in {"hosted", "hosted_page"}:
        raise invalid("Invalid ui_mode: the sandbox makes hosted pages only", "ui_mode")
    success, cancel = _address(call, "success_url"), _address(call, "cancel_url")
    if success is None:
        raise invalid("Missing required param: success_url.", "success_url", "parameter_missing")
    currency, amount = _price(call, mode)
    customer = call.text("customer")
    if customer is not None:
        found = objects.find(call.world, call.realm, "customer", customer, param="customer", status=400)
        if found.get("deleted"):
            raise missing("customer", customer, param="customer", status=400)
    session = new(
        call.realm,
        created=int(call.world.now().timestamp()),
        amount_subtotal=amount,
        amount_total=amount,
        cancel_url=cancel,
        client_reference_id=call.text("client_reference_id"),
        currency=currency,
        customer=customer,
        customer_email=call.text("customer_email"),
        metadata=call.metadata({}),
        mode=mode,
        success_url=success,
    )
    objects.save(call.world, call.realm, session)
    return session


def _address(call: Call, name: str) -> str | None:
    url = call.text(name)
    if url is not None and urlsplit(url).scheme not in {"http", "https"}:
        raise invalid("Not a valid URL", name, "url_invalid")
    return url


def _price(call: Call, mode: str) -> tuple[str | None, int | None]:
    """Return currency and sum of the line items. Raises `StripeError`."""
    items = call.parameters.get("line_items", [])
    if mode == "setup":
        return call.text("currency"), None
    if not isinstance(items, list) or not items:
        raise invalid(f"Missing required param: line_items in {mode} mode.", "line_items", "parameter_missing")
    currency, total = None, 0
    for number, item in enumerate(items):
        where = f"line_items[{number}]"
        if isinstance(item, dict) and isinstance(item.get("price"), str):
            raise missing("price", item["price"], param=f"{where}[price]", status=400)
        price = item.get("price_data") if isinstance(item, dict) else None
        if not isinstance(price, dict) or not {"currency", "unit_amount", "product_data"} <= price.keys():
            raise invalid(f"Missing required param: {where}[price_data].", f"{where}[price_data]", "parameter_missing")
        if mode == "subscription" and not isinstance(price.get("recurring"), dict):
            raise invalid("Prices of a subscription are recurring", f"{where}[price_data][recurring]")
        amount, quantity = str(price["unit_amount"]), str(item.get("quantity", "1"))
        if not amount.isdecimal() or not quantity.isdecimal():
            raise invalid(f"Invalid integer: {amount}", f"{where}[price_data][unit_amount]")
        currency, total = str(price["currency"]).lower(), total + int(amount) * int(quantity)
    return currency, total


def _list(call: Call) -> Json:
    customer, status = call.text("customer"), call.text("status")
    found = [
        session
        for session in (_aged(call, each) for each in objects.listing(call.world, call.realm, _KIND))
        if (customer is None or session["customer"] == customer) and (status is None or session["status"] == status)
    ]
    return call.page(_KIND, found, _PATH)


def _aged(call: Call, session: Json) -> Json:
    """Return how a session is shown now: an old one has expired, and lost its URL."""
    over = session["status"] == "open" and session["expires_at"] <= call.world.now().timestamp()
    return {**session, "status": "expired", "url": None} if over else session


def _get(call: Call) -> Json:
    return _aged(call, objects.find(call.world, call.realm, _KIND, call.path("session"), param="session"))


def _expire(call: Call) -> Json:
    session = _get(call)
    if session["status"] != "open":
        raise invalid(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This one\'s is {session["status"]}.',
            "session",
        )
    expired = {**session, "status": "expired", "url": None}
    objects.save(call.world, call.realm, expired)
    deliveries.emit(call.world, call.realm, type_="checkout.session.expired", subject=expired, origin=call.origin)
    return expired


_WRITE: Final = "rak_checkout_session_write"
_READ: Final = "rak_checkout_session_read"

OPERATIONS: Final = (
    Operation(method="POST", path=_PATH, permission=_WRITE, handler=_create, parameters=_PARAMETERS),
    Operation(method="GET", path=_PATH, permission=_READ, handler=_list, parameters=PAGE | {"customer", "status"}),
    Operation(method="GET", path=_ONE, permission=_READ, handler=_get),
    Operation(method="POST", path=f"{_ONE}/expire", permission=_WRITE, handler=_expire),
)
