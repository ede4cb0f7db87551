"""Signing secrets of a webhook endpoint that an operator rolls in Stripe's Dashboard and hands in.

Stripe signs every event with the old and the new secret until the old one ends, at most 24 hours later (its documentation, "Webhooks", "Roll
endpoint signing secrets"). Within that window a consumer works with either, so that is when the new one has to be delivered and verified.
Once the window is over, every event that a consumer with the old secret got has been refused: that is no rotation any more, but an outage,
and it is refused rather than called a success.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from components.errors import RefusedError
from components.stripe.old_value import SIGNING_SECRET_LIMIT, end, missing, readable
from components.stripe.rolled import RolledValues

SECRET = "STRIPE_WEBHOOK_SECRET"  # noqa: S105 - a name
# What is visible and no space: a copy from a browser may bring along what nobody sees.
FORM = re.compile(r"whsec_[!-~]+")


def is_signing_secret(value: str) -> bool:
    """Whether a value has the form of a signing secret. Stripe has no call that takes one and tells more."""
    return FORM.fullmatch(value) is not None


def window_is_over(ends_at: datetime) -> RefusedError:
    """What is said after the end of the window, and what to do about it."""
    return RefusedError(
        f"The window in which Stripe signed with the old {SECRET}, too, ended at {ends_at.isoformat()}: Stripe signs with the new secret "
        "only, and whoever holds the old one refuses every event.",
        next_step="roll the secret again in Stripe's Dashboard and let the old one live on, hand the new one in "
        f"(`pulumi config set --secret --path supplied.{SECRET}`, and `oldValueExpiresAt.{SECRET}` with the time that the Dashboard shows), "
        "bump the counter, `pulumi up`. Events that have been refused since then are in the Dashboard: resend them from there.",
    )


@dataclass(frozen=True, kw_only=True)
class SigningSecrets(RolledValues):
    """Signing secrets of one endpoint.

    Attributes:
        first: Whether nothing of this secret has been verified before: the secret in use is taken over, so there need not be a window.
    """

    first: bool
    secret: ClassVar[str] = SECRET

    def refuses(self, value: str) -> bool:  # noqa: ARG002 - Stripe cannot be asked about a secret
        """Whether the window is over: then Stripe signs with no earlier secret. Where there is no window there is none to sign with."""
        return self.first if self.left is None else self.left <= timedelta(0)

    def obstacles(self) -> list[RefusedError]:
        """The value has to be a signing secret, and there has to be a window that is not over."""
        found = []
        if not is_signing_secret(self.given):
            found.append(
                RefusedError(
                    "The webhook signing secret that was handed in is none: those are whsec_…, without spaces or line ends.",
                    next_step=f"copy it from the endpoint's page in Stripe's Dashboard and hand it in: {self.hand_in}.",
                )
            )
        return found + self.obstacles_beside_the_value()

    def obstacles_beside_the_value(self) -> list[RefusedError]:
        """There has to be a window that is not over."""
        window = self._fault_of_the_window()
        return [] if window is None else [window]

    def warnings(self) -> list[str]:
        """How long the window lasts."""
        if self.left is None or self.left <= timedelta(0):
            return []
        left = readable(self.left)
        return [
            f"Stripe signs with the old {SECRET}, too, until {self.ends_old_at}: {left} left to deliver and to verify the new one."
        ]

    def _fault_of_the_window(self) -> RefusedError | None:
        if not self.ends_old_at:
            return None if self.first else missing(SECRET)
        now = self.clock()
        try:
            ends_at = end(SECRET, self.ends_old_at, limit=SIGNING_SECRET_LIMIT, now=now)
        except RefusedError as error:
            return error
        if ends_at > now:
            return None
        if self.first:
            return RefusedError(
                f"`oldValueExpiresAt.{SECRET}` says that the old secret ended at {ends_at.isoformat()}, so that there is nothing to wait for.",
                next_step=f"pulumi config rm --path 'oldValueExpiresAt.{SECRET}': a secret that is taken over needs no window.",
            )
        return window_is_over(ends_at)
