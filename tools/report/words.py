"""Times in plain words, the same for every reader: UTC, because a page without a script cannot know the reader's zone."""

from datetime import datetime

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def when(moment: datetime | None) -> str:
    """A moment to the second, `26 Nov 2026, 18:40:07 UTC`."""
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC" if moment else "not known"


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the one unit that matters: `12 days`. A clock that is ahead of ours makes it `less than a minute`."""
    return coarse((now - since).total_seconds())


def coarse(seconds: float) -> str:
    """A span in one unit. Days are the largest, because ages are compared with limits that are given in days."""
    for unit, length in (("day", DAY), ("hour", HOUR), ("minute", MINUTE)):
        if seconds >= length:
            return count(int(seconds // length), unit)
    return "less than a minute"


def exact(seconds: float) -> str:
    """A span in its two largest units: `2 min 41 s`."""
    whole = max(0, round(seconds))
    days, hours, minutes, rest = whole // DAY, whole % DAY // HOUR, whole % HOUR // MINUTE, whole % MINUTE
    parts = [(days, " d"), (hours, " h"), (minutes, " min"), (rest, " s")]
    first = next((number for number, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    return " ".join(f"{amount}{unit}" for amount, unit in parts[first : first + 2] if amount or len(parts) - 1 == first)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 day`, `2 days`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listing(names: list[str]) -> str:
    """Names as a sentence lists them: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
