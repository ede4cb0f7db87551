"""Signing secrets of Stripe webhook endpoints as credentials of a family.

Stripe has no call that rolls a signing secret (only its Dashboard does), and shows it only when an endpoint is made. So a new secret is that
of a new endpoint: a copy of the one in use, with the same URL. While both live, every event arrives twice, with the same id and one signature
each: the consumer refuses one of the two, and accepts the other. Deleting the old endpoint is the revocation.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from components.announcement import Announcement, Request
from components.errors import RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Issued, Minted
from components.stripe.client import LIVE, TEST, StripeClient, WebhookEndpoint

LIMIT = 16  # endpoints in each mode of an account (Stripe's documentation, "Webhooks")
PATH = "/webhooks/stripe"


def webhook_url(configured: str, control_plane_url: str) -> str:
    """The URL that Stripe posts to: `configured`, or the control plane's own where that is ""."""
    return configured or control_plane_url + PATH


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoints(Issuer):
    """Clones, lists and deletes the webhook endpoints of one URL.

    Attributes:
        client: With a key of the account that may write webhook endpoints.
        url: The endpoints' URL, to the letter.
        livemode: The mode that the endpoints have to be of.
        connect: Whether they get the events of connected accounts; Stripe's answers do not say, so it cannot be copied.
    """

    client: StripeClient
    url: str
    livemode: bool = True
    connect: bool = False

    def mint(self, name: str) -> Minted:
        """Clones the newest enabled endpoint of the URL; its description is the credential's name."""
        operation = f"create webhook endpoint {name}"
        endpoints = self.client.webhook_endpoints()
        original = self._original(endpoints)
        if original is None:
            reason = f"there is no enabled webhook endpoint of {self.url} to copy"
            raise ApiError("Stripe", operation, status=httpx.codes.NOT_FOUND, reason=reason)
        if len(endpoints) >= LIMIT:
            raise ApiError("Stripe", operation, status=httpx.codes.BAD_REQUEST, reason=_full(len(endpoints)))
        return self.client.clone_webhook_endpoint(
            original, connect=self.connect, description=name, idempotency_key=str(uuid.uuid4())
        )

    def issued(self) -> list[Issued]:
        """The endpoints of the URL. A disabled one counts as alive, because it can be enabled again."""
        return [
            Issued(
                credential_id=each.endpoint_id,
                name=each.description or each.endpoint_id,
                live=True,
                created_at=each.created_at,
            )
            for each in self._of_the_url(self.client.webhook_endpoints())
        ]

    def revoke(self, credential_id: str) -> None:
        """Deletes an endpoint: Stripe signs nothing with its secret any more."""
        self.client.delete_webhook_endpoint(credential_id)

    def refuses(self, value: str) -> bool | None:
        """None: Stripe has no call that takes a signing secret."""

    def announce_mint(self, name: str) -> Announcement:
        """One request."""
        return Announcement(
            words=(f"a copy of the Stripe webhook endpoint of {self.url}, described as {name}",),
            writes=(Request(system="stripe", method="POST", path="/v1/webhook_endpoints"),),
        )

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """A request each."""
        path = "/v1/webhook_endpoints/{id}"
        return Announcement(writes=(Request(system="stripe", method="DELETE", path=path, at_most=len(credential_ids)),))

    def obstacles(self) -> list[RefusedError]:
        """The key has to be of the right mode, and there has to be an endpoint to copy and room for its copy."""
        wanted = LIVE if self.livemode else TEST
        if self.client.livemode() != self.livemode:
            return [
                RefusedError(
                    f"The operator's Stripe key is of {TEST if self.livemode else LIVE} mode; the webhook endpoint is of {wanted} mode.",
                    next_step=f"use a key of {wanted} mode, or mend `stripeMode` in the stack's config.",
                )
            ]
        try:
            endpoints = self.client.webhook_endpoints()
        except ApiError as error:
            if error.status != httpx.codes.FORBIDDEN:
                raise
            return [
                RefusedError(
                    "The operator's Stripe key may not list webhook endpoints.",
                    next_step="give the restricted key the permission to write webhook endpoints, or use a secret key.",
                )
            ]
        errors = []
        if self._original(endpoints) is None:
            errors.append(
                RefusedError(
                    f"Stripe has no enabled webhook endpoint of {self.url} in {wanted} mode that could be copied.",
                    next_step="mend `stripeWebhookUrl` in the stack's config, or make or enable the endpoint in Stripe's Dashboard.",
                )
            )
        # With two of the URL, the copy may be there already, and only its verification is left to do.
        elif len(endpoints) >= LIMIT and len(self._of_the_url(endpoints)) == 1:
            errors.append(
                RefusedError(f"At Stripe, {_full(len(endpoints))}.", next_step="delete one in its Dashboard.")
            )
        return errors

    def _of_the_url(self, endpoints: list[WebhookEndpoint]) -> list[WebhookEndpoint]:
        return [each for each in endpoints if each.url == self.url]

    def _original(self, endpoints: list[WebhookEndpoint]) -> WebhookEndpoint | None:
        """The newest enabled one; among those of one second, the one that Stripe lists first."""
        enabled = [each for each in self._of_the_url(endpoints) if each.enabled]
        return max(enabled, key=lambda each: each.created, default=None)


def _full(count: int) -> str:
    return f"the account has {count} webhook endpoints already, and no mode of it can have more than {LIMIT}"
