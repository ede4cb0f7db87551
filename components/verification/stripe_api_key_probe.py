"""Probe of a Stripe key that an operator made, before it is delivered: right account, right mode, alive. It comes on standard input."""

import sys
from collections.abc import Mapping
from typing import Any

import httpx

from components import operator_credentials
from components.http import ApiError
from components.stripe.client import LIVE, StripeClient, mode_of
from components.stripe.operator_credentials import STRIPE
from components.verification import check
from components.verification.check import CheckFailedError


def probe(settings: Mapping[str, Any], _subject: check.Subject) -> None:
    """Raises CheckFailedError unless the key on standard input belongs to the operator's account and to the mode that is configured."""
    mode, value = settings["mode"], sys.stdin.read()
    if mode_of(value) != mode:
        raise CheckFailedError(
            f"the new value is no Stripe key of {mode} mode: those are sk_{mode}_… and rk_{mode}_…, without spaces"
        )
    account = StripeClient(operator_credentials.find(STRIPE)).account()
    client = StripeClient(value)
    try:
        live, own_account = client.livemode(), client.account()
    except ApiError as error:
        if error.status == httpx.codes.FORBIDDEN:
            raise CheckFailedError(
                "the new key may not read its account, so it cannot be told whose it is; give it that permission"
            ) from None
        raise CheckFailedError(f"Stripe does not take the new key: {error}") from None
    if live != (mode == LIVE):
        raise CheckFailedError(f"the new key is not of {mode} mode")
    if own_account != account:
        raise CheckFailedError(f"the new key belongs to account {own_account}, the operator's to {account}")
    check.progress(f"the new key belongs to account {account}, {mode} mode")


if __name__ == "__main__":
    check.run("STRIPE_API_KEY", probe)
