"""What values that an operator rolled in Stripe's Dashboard have in common: Stripe ends the one before, at a time chosen there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from components.announcement import Announcement
from components.clock import utc_now
from components.errors import RefusedError
from components.given import GivenValues
from components.stripe.old_value import moment


@dataclass(frozen=True, kw_only=True)
class RolledValues(GivenValues):
    """Values that were rolled in the Dashboard.

    Attributes:
        ends_old_at: When Stripe ends the value before, RFC 3339, as chosen in the Dashboard; "" where nobody said.
        clock: Tells the time.
        secret: The name of the secret, for messages.
    """

    ends_old_at: str = ""
    clock: Callable[[], datetime] = field(default=utc_now, repr=False, compare=False)
    secret: ClassVar[str]

    @property
    def old_value_lives_until(self) -> str:
        """As the operator said it."""
        return self.ends_old_at

    def may_return(self, value: str) -> bool:
        """Until Stripe ends it."""
        return self.refuses(value) is not True

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:  # noqa: ARG002
        """Up to Stripe."""
        when = f"at {self.ends_old_at}" if self.ends_old_at else "at the time that was chosen in its Dashboard"
        return Announcement(words=(f"Stripe ends the one before, {when}; it is watched until then",))

    @property
    def left(self) -> timedelta | None:
        """How long the value before lives on, less than nothing once it is over; None where nobody said, or said what is no time."""
        try:
            return moment(self.secret, self.ends_old_at) - self.clock() if self.ends_old_at else None
        except RefusedError:  # an obstacle tells
            return None

    @property
    def hand_in(self) -> str:
        """The command that hands a value in; it asks for the value, which so gets into no shell history."""
        return f"`pulumi config set --secret --path supplied.{self.secret}`"
