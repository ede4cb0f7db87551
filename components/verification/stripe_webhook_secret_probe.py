"""Probe of a webhook signing secret, before it is delivered: it looks like one, and Stripe signs with it. It comes on standard input.

Stripe has no call that takes a signing secret, so what can be asked is whether its endpoint is there and enabled; and where an operator
rolled it in the Dashboard, not even that without a key of Stripe.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import operator_credentials
from components.announcement import Announcement
from components.http import ApiError
from components.stripe.client import StripeClient
from components.stripe.signing_secrets import is_signing_secret
from components.verification import check
from components.verification.check import CheckFailedError
from components.verification.stripe_webhook_secret import enabled_endpoint


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this probe is told.

    Attributes:
        endpoint: Whether the secret is that of a new endpoint, whose id is the credential's; else an operator rolled it in the Dashboard.
    """

    endpoint: bool = True


def probe(raw: Mapping[str, Any], subject: check.Subject) -> None:
    """Raises CheckFailedError unless standard input holds a signing secret, and its endpoint is enabled where there is a new one."""
    settings = Settings(**raw)
    if not is_signing_secret(sys.stdin.read()):
        giver = "Stripe gave" if settings.endpoint else "was handed in"
        raise CheckFailedError(f"what {giver} is no signing secret: it does not have the form whsec_…, without spaces")
    if not settings.endpoint:
        check.progress("it has the form of a signing secret")
        return
    client = StripeClient(operator_credentials.find(operator_credentials.STRIPE))
    try:
        endpoint = enabled_endpoint(client, subject.credential_id)
    except ApiError as error:
        raise CheckFailedError(
            f"the new webhook endpoint could not be looked at: {error}", contact=error.contact
        ) from None
    check.progress(f"webhook endpoint {endpoint.endpoint_id} is enabled")


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this probe shows."""
    return Announcement(
        words=("its endpoint is enabled" if settings["endpoint"] else "it has the form of a signing secret",)
    )


if __name__ == "__main__":
    check.run(probe)
