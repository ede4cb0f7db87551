"""Probe of a webhook signing secret, before it is delivered: it looks like one, and Stripe signs with it. It comes on standard input.

Stripe has no call that takes a signing secret, so what can be asked is whether its endpoint is there and enabled.
"""

import sys
from collections.abc import Mapping
from typing import Any

from components import operator_credentials
from components.http import ApiError
from components.stripe.client import StripeClient
from components.verification import check
from components.verification.check import CheckFailedError
from components.verification.stripe_webhook_secret import SECRET, enabled_endpoint

PREFIX = "whsec_"


def probe(_settings: Mapping[str, Any], subject: check.Subject) -> None:
    """Raises CheckFailedError unless standard input holds a signing secret and its endpoint is enabled."""
    value = sys.stdin.read()
    if not value.startswith(PREFIX) or value.strip() in {PREFIX, ""} or value != value.strip():
        raise CheckFailedError(f"what Stripe gave is no signing secret: it does not have the form {PREFIX}…")
    client = StripeClient(operator_credentials.find(operator_credentials.STRIPE))
    try:
        endpoint = enabled_endpoint(client, subject.credential_id)
    except ApiError as error:
        raise CheckFailedError(f"the new webhook endpoint could not be looked at: {error}") from None
    check.progress(f"webhook endpoint {endpoint.endpoint_id} is enabled")


if __name__ == "__main__":
    check.run(SECRET, probe)
