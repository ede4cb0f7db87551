# ruff: noqa: ARG001, FBT001 - what is wrong is drawn in every test, and columns of tables
"""Does what depends on the time go by the providers' clocks, where that of the machine is wrong?"""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from components import clock, http
from components.fly.client import FlyClient
from components.http import Api, ApiError
from components.stripe.signing_secrets import SigningSecrets

from .wire import Wire

COMPONENTS = Path(clock.__file__).parent
RIGHT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> Iterator[None]:
    clock.note(format_datetime(clock.machine()))
    yield
    clock.note(format_datetime(clock.machine()))


@pytest.fixture
def off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """The clock of the machine is wrong by that much."""
    wrong: timedelta = request.param
    monkeypatch.setattr(clock, "machine", lambda: RIGHT + wrong)
    return wrong


def answering(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response) -> None:
    """Every request is answered so."""
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: answer))
    monkeypatch.setattr(http, "client", lambda: client)


def dated(**headers: str) -> httpx.Response:
    return httpx.Response(200, json={}, headers={"date": format_datetime(RIGHT, usegmt=True), **headers})


WRONG = pytest.mark.parametrize("off", [DAY, -DAY, HOUR, -HOUR], indirect=True, ids=str)


@WRONG
def test_an_answer_of_a_provider_tells_the_time(off: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, dated())
    assert clock.utc_now() != RIGHT
    Api(system="Fly", base_url="https://fly.test", headers={}).call("GET", "/", operation="ask")
    assert clock.utc_now() == RIGHT
    assert clock.now() == "2026-11-26T12:00:00+00:00"
    assert clock.ahead() == off


@pytest.mark.parametrize("off", [timedelta(seconds=29), -timedelta(seconds=29)], indirect=True, ids=str)
def test_a_moment_is_no_difference(off: timedelta) -> None:
    clock.note(format_datetime(RIGHT, usegmt=True))
    assert clock.ahead() == timedelta(0)
    assert clock.utc_now() == RIGHT + off


@WRONG
@pytest.mark.parametrize(
    ("system", "headers"),
    [
        ("control plane", {}),
        ("the app", {}),
        ("Fly", {"age": "7200"}),
        ("Fly", {"date": "nonsense"}),
        ("Fly", {"date": ""}),
    ],
    ids=["control plane", "app", "out of a cache", "nonsense", "none"],
)
def test_who_is_no_provider_or_answers_out_of_a_cache_tells_nothing(
    off: timedelta, system: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, dated(**headers))
    Api(system=system, base_url="https://a.test", headers={}).call("GET", "/", operation="ask")
    assert clock.utc_now() == RIGHT + off


@WRONG
def test_a_clock_that_was_set_right_is_believed_again(off: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.note(format_datetime(RIGHT, usegmt=True))
    assert clock.ahead() == off
    monkeypatch.setattr(clock, "machine", lambda: RIGHT)
    clock.note(format_datetime(RIGHT, usegmt=True))
    assert clock.ahead() == timedelta(0)


@WRONG
def test_a_date_to_try_again_at_is_as_far_away_as_the_provider_means(
    off: timedelta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = dated(**{"retry-after": format_datetime(RIGHT + timedelta(seconds=7), usegmt=True)})
    answer.status_code = 429
    answering(monkeypatch, answer)
    with pytest.raises(ApiError) as failed:
        Api(system="Neon", base_url="https://neon.test", headers={}).call("GET", "/", operation="ask")
    assert failed.value.retry_after == 7


@WRONG
@pytest.mark.parametrize(("left", "live"), [(HOUR / 2, True), (-HOUR / 2, False)])
def test_a_token_lives_until_its_end_by_flys_clock(
    off: timedelta,
    left: timedelta,
    live: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = (RIGHT + left).isoformat()
    token = {"id": "t", "name": "n", "createdAt": "x", "revokedAt": None, "expiresAt": ends}
    page = {"nodes": [token], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    answer = httpx.Response(
        200,
        json={"data": {"app": {"limitedAccessTokens": page}}},
        headers={"date": format_datetime(RIGHT, usegmt=True)},
    )
    answering(monkeypatch, answer)
    assert [each.live for each in FlyClient("token").list_tokens(app="cp", profile="deploy")] == [live]


@WRONG
@pytest.mark.parametrize(("left", "open_still"), [(HOUR / 2, True), (-HOUR / 2, False)])
def test_a_window_of_stripes_is_open_as_long_as_it_is(off: timedelta, left: timedelta, open_still: bool) -> None:
    clock.note(format_datetime(RIGHT, usegmt=True))
    secrets = SigningSecrets(given="whsec_x", ends_old_at=(RIGHT + left).isoformat(), first=False)
    assert (secrets.obstacles() == []) is open_still


def test_nobody_else_asks_the_machine_for_the_time(wire: Wire) -> None:
    """Lengths of time are measured with `time.monotonic`, which no setting of a clock changes."""
    calls = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}
    found = [
        f"{path.relative_to(COMPONENTS)}:{node.lineno}"
        for path in COMPONENTS.rglob("*.py")
        if path != COMPONENTS / "clock.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in calls
    ]
    assert found == []
