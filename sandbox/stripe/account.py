"""`GET /v1/account` and `GET /v1/balance`: which account a key belongs to, and that it is alive (providers.md 3g)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.stripe import keys
from sandbox.stripe.wire import Operation

if TYPE_CHECKING:
    from sandbox.stripe.wire import Call

Json = dict[str, Any]


def _account(call: Call) -> Json:
    """Live and test mode show the same account: nothing in it tells the mode."""
    row = next(row for row in keys.accounts(call.world) if row["id"] == call.realm.account)
    return {
        "id": row["id"],
        "object": "account",
        "business_profile": {"name": row["name"], "url": "https://moleculesai.app", "mcc": None, "support_email": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": row["created"],
        "default_currency": "usd",
        "details_submitted": True,
        "email": row["email"],
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


def _balance(call: Call) -> Json:
    funds = {"amount": 0, "currency": "usd", "source_types": {"card": 0}}
    return {"object": "balance", "available": [funds], "livemode": call.realm.livemode, "pending": [funds]}


OPERATIONS: Final = (
    Operation(method="GET", path="/v1/account", permission="rak_accounts_kyc_basic_read", handler=_account),
    Operation(method="GET", path="/v1/balance", permission="rak_balance_read", handler=_balance),
)
