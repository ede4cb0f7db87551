"""How long a value that was rolled in Stripe's Dashboard lives on: chosen there by whoever rolls it, and told by no API.

So the operator says it, and this reads what they said.
"""

import re
from datetime import datetime, timedelta

from components.errors import RefusedError

KEY_LIMIT = timedelta(days=7)  # for an old key (Stripe's documentation, "API keys", "Rolling keys")
SIGNING_SECRET_LIMIT = timedelta(hours=24)  # for an old signing secret ("Webhooks", "Roll endpoint signing secrets")
# The Dashboard shows minutes, and the clock of whoever runs this may be behind Stripe's.
TOLERANCE = timedelta(minutes=5)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
EXAMPLE = "2026-11-24T09:30:00+00:00"


def config_key(secret: str) -> str:
    """Where the operator says when the value before ends."""
    return f"oldValueExpiresAt.{secret}"


def moment(secret: str, text: str) -> datetime:
    """The time that an operator wrote.

    Raises:
        RefusedError: It is no time, or one without a zone. The text is not repeated: it may have been pasted into the wrong place.
    """
    try:
        if RFC_3339.fullmatch(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:  # no such day or hour
        pass
    raise RefusedError(
        f"`{config_key(secret)}` is not an RFC 3339 time with a time zone.",
        next_step=f"`{_command(secret)}`: the time at which the Dashboard ends the old value, written like {EXAMPLE}.",
    )


def end(secret: str, text: str, *, limit: timedelta, now: datetime) -> datetime:
    """When Stripe ends the value before.

    Args:
        secret: Whose.
        text: What the operator wrote.
        limit: How long Stripe lets such a value live on at most.
        now: The time.

    Raises:
        RefusedError: It is no time, or a later one than Stripe allows.
    """
    ends_at = moment(secret, text)
    if ends_at - now > limit + TOLERANCE:
        raise RefusedError(
            f"`{config_key(secret)}` is {text}, in {readable(ends_at - now)}: Stripe lets an old value of that kind live on for "
            f"{readable(limit)} at most.",
            next_step=f"`{_command(secret)}`: the time that the Dashboard shows, with its time zone.",
        )
    return ends_at


def missing(secret: str) -> RefusedError:
    """What is said where a time is needed and there is none."""
    return RefusedError(
        f"Nobody said until when Stripe accepts the old value of {secret}.",
        next_step=f"`{_command(secret)}`: the time that the Dashboard shows for the old value, written like {EXAMPLE}.",
    )


def _command(secret: str) -> str:
    return f"pulumi config set --path {config_key(secret)} <RFC 3339 time that the Dashboard shows>"


def readable(left: timedelta) -> str:
    """A length of time in days, hours and minutes, rounded down: nobody is promised more than there is."""
    minutes = int(left.total_seconds()) // 60
    if minutes < 1:
        return "less than a minute"
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join(f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if number)
