"""The time, as it is kept in the state, shown to operators and compared with what providers say.

It is that of the providers. Where the clock of this machine differs from theirs by more than a moment (what they say in the header `Date` of
every answer), it is corrected by the difference: a window of Stripe's, an age or a signature is wrong by as much as the clock is.
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The header has whole seconds, and an answer may be under way for a while: less than that is no difference.
MOMENT = timedelta(seconds=30)
# A machine without a battery begins in 1970, which is corrected; a system that tells another age than ours is not believed.
YEARS = range(2026, 2100)

_ahead = timedelta(0)


def machine() -> datetime:
    """What the clock of this machine says, UTC."""
    return datetime.now(UTC)


def note(date: str | None) -> None:
    """Takes note of the header `Date` of an answer that a provider has just given (RFC 9110, section 6.6.1)."""
    global _ahead  # noqa: PLW0603 - one machine has one clock
    if not date:
        return
    try:
        theirs = parsedate_to_datetime(date)
        # A date without a zone is UTC (RFC 9110, section 5.6.7).
        difference = machine() - theirs.replace(tzinfo=theirs.tzinfo or UTC)
    except (ValueError, OverflowError):
        return
    if theirs.year not in YEARS:
        return
    _ahead = difference if abs(difference) > MOMENT else timedelta(0)


def believe(ahead: timedelta) -> None:
    """Takes over what another process of this machine has found `ahead` to be, by an answer that is used here, too."""
    global _ahead  # noqa: PLW0603 - as above
    _ahead = ahead


def ahead() -> timedelta:
    """By how much the clock of this machine is ahead of the providers' (negative: behind); nothing where it is right or nobody was asked."""
    return _ahead


def utc_now() -> datetime:
    """The providers' time, as far as one has answered yet."""
    return machine() - _ahead


def unix_time() -> int:
    """The same in seconds since 1970."""
    return int(utc_now().timestamp())


def now() -> str:
    """RFC 3339, UTC, whole seconds."""
    return utc_now().replace(microsecond=0).isoformat()
