"""Is the end of an old value read as it is meant, and is what is left of it told readably?"""

from datetime import UTC, datetime, timedelta

import pytest

from components.errors import RefusedError
from components.stripe.old_value import EXAMPLE, KEY_LIMIT, SIGNING_SECRET_LIMIT, TOLERANCE, end, moment, readable

from .wire import START


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T12:00:00Z",
        "2026-11-23t12:00:00z",
        "2026-11-23 12:00:00+00:00",
        "2026-11-23T13:00:00+01:00",
        "2026-11-23T06:30:00.000-05:30",
    ],
)
def test_a_time_with_a_zone_is_read(text: str) -> None:
    assert moment("NAME", text) == START


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T12:00:00",
        "2026-11-23",
        "2026-11-23T12:00Z",
        "20261123T120000Z",
        "2026-W48-1T12:00:00Z",
        "2026-11-31T12:00:00Z",
        "2026-11-23T24:30:00Z",
        "2026-11-23T12:00:00+25:00",
        "٢٠٢٦-11-23T12:00:00Z",
        " 2026-11-23T12:00:00Z",
        "2026-11-23T12:00:00Z\n",
        "tomorrow",
        "1795435200",
        "",
    ],
)
def test_anything_else_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(RefusedError, match="RFC 3339 time with a time zone") as refused:
        moment("NAME", text)
    assert "pulumi config set --path oldValueExpiresAt.NAME " in refused.value.next_step
    assert not text or text not in str(refused.value)


def test_the_example_is_one() -> None:
    assert moment("NAME", EXAMPLE).tzinfo is not None


@pytest.mark.parametrize("limit", [KEY_LIMIT, SIGNING_SECRET_LIMIT])
def test_an_end_is_as_late_as_stripe_allows_and_no_later(limit: timedelta) -> None:
    latest = START + limit + TOLERANCE
    assert end("NAME", latest.isoformat(), limit=limit, now=START) == latest
    too_late = (latest + timedelta(seconds=1)).isoformat()
    with pytest.raises(RefusedError, match=f"live on for {readable(limit)} at most") as refused:
        end("NAME", too_late, limit=limit, now=START)
    assert too_late in refused.value.happened
    assert "oldValueExpiresAt.NAME" in refused.value.next_step


def test_the_limits_are_stripes() -> None:
    assert (readable(KEY_LIMIT), readable(SIGNING_SECRET_LIMIT)) == ("7 d", "1 d")


def test_the_end_of_all_time_is_too_late() -> None:
    with pytest.raises(RefusedError, match="at most"):
        end("NAME", "9999-12-31T23:59:59-23:59", limit=KEY_LIMIT, now=START)


def test_an_end_may_be_over() -> None:
    assert end("NAME", "0001-01-01T00:00:00+23:59", limit=KEY_LIMIT, now=START) < datetime(2, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(hours=23, minutes=10), "23 h 10 min"),
        (timedelta(hours=23, minutes=10, seconds=59), "23 h 10 min"),
        (timedelta(days=6, hours=23, minutes=59), "6 d 23 h 59 min"),
        (timedelta(days=1, minutes=1), "1 d 1 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(minutes=1), "1 min"),
        (timedelta(seconds=59), "less than a minute"),
        (timedelta(0), "less than a minute"),
    ],
)
def test_what_is_left_is_readable(left: timedelta, text: str) -> None:
    assert readable(left) == text
