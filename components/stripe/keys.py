"""Stripe keys that an operator rolls in Stripe's Dashboard and hands in.

No key of an ordinary account can mint another: only a Stripe App that Stripe has approved can (its documentation, "Managed API keys"). So
nothing is minted here, and nothing is revoked: Stripe ends the old key, at the time that was chosen when it was rolled. What can be done by
reading is done before the key is delivered: whose it is, of which mode, and whether it lives.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import httpx

from components.errors import RefusedError
from components.http import ApiError
from components.stripe.client import LIVE, TEST, StripeClient, mode_of
from components.stripe.old_value import KEY_LIMIT, end, readable
from components.stripe.rolled import RolledValues

# What a restricted key needs for `GET /v1/account`, as Stripe's answers call it; where one names another, that one counts.
ACCOUNT_PERMISSION = "rak_accounts_kyc_basic_read"


@dataclass(frozen=True, kw_only=True)
class SecretKeys(RolledValues):
    """Secret or restricted keys of one account, in one mode of it.

    Attributes:
        mode: `live` or `test`.
        account: The account's id, `acct_…`.
    """

    mode: str
    account: str
    secret: ClassVar[str] = "STRIPE_API_KEY"  # noqa: S105 - a name

    def refuses(self, value: str) -> bool:
        """Whether Stripe refuses the key. One that lacks a permission lives."""
        return not StripeClient(value).authenticates()

    def obstacles(self) -> list[RefusedError]:
        """The key has to be one of this account and mode that lives, and the end of the old one has to be one that Stripe allows."""
        return [*self._faults_of_the_key(), *self.obstacles_beside_the_value()]

    def obstacles_beside_the_value(self) -> list[RefusedError]:
        """The end of the old key has to be one that Stripe allows."""
        if self.ends_old_at:
            try:
                end(self.secret, self.ends_old_at, limit=KEY_LIMIT, now=self.clock())
            except RefusedError as error:
                return [error]
        return []

    def warnings(self) -> list[str]:
        """How long the old key lives, where that is known. One that has ended is no obstacle, but the reason to hurry."""
        if self.left is None:
            return []
        if self.left > timedelta(0):
            return [
                f"Stripe ends the old key at {self.ends_old_at}: {readable(self.left)} left to deliver the new one."
            ]
        return [
            f"Stripe ended the old key at {self.ends_old_at}: whoever holds it is refused until the new one is delivered."
        ]

    def _faults_of_the_key(self) -> list[RefusedError]:
        found = mode_of(self.given)
        if found is None:
            return [
                self._refused(
                    f"is no Stripe key: those are sk_{self.mode}_… and rk_{self.mode}_…, without spaces or line ends"
                )
            ]
        if found != self.mode:
            return [self._refused_mode(found)]
        client = StripeClient(self.given)
        try:
            livemode = client.livemode()
            account = client.account()
        except ApiError as error:
            if error.refused:
                return [
                    self._refused(
                        f"is refused by Stripe ({error.reason}): it has expired, was deleted, or never was one"
                    )
                ]
            if error.status != httpx.codes.FORBIDDEN:
                raise
            named = re.search(r"\brak_[a-z_]+", error.reason)
            permission = named[0] if named else ACCOUNT_PERMISSION
            return [
                RefusedError(
                    f"The Stripe key that was handed in may not read its account ({error.reason}), so it cannot be told whose it is.",
                    next_step=f"give the restricted key the permission `{permission}` in Stripe's Dashboard, or hand in a key that has it: "
                    f"{self.hand_in}.",
                )
            ]
        if livemode != (self.mode == LIVE):
            return [self._refused_mode(LIVE if livemode else TEST)]
        if account != self.account:
            return [
                RefusedError(
                    f"The Stripe key that was handed in belongs to account {account}, and not to {self.account}.",
                    next_step=f"hand in a key of {self.account}: {self.hand_in}; or mend the account in the stack's config.",
                )
            ]
        return []

    def _refused(self, reason: str) -> RefusedError:
        return RefusedError(
            f"The Stripe key that was handed in {reason}.",
            next_step=f"roll the key in Stripe's Dashboard and hand in the new one: {self.hand_in}.",
        )

    def _refused_mode(self, found: str) -> RefusedError:
        return RefusedError(
            f"The Stripe key that was handed in is of {found} mode; this stack's is {self.mode} mode.",
            next_step=f"hand in a key of {self.mode} mode: {self.hand_in}; or mend `stripeMode` in the stack's config.",
        )
