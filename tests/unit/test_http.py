"""Are calls repeated as the policy says and no further, and can no message carry a secret?"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import calls, http
from components.contacts import CONTACTS
from components.errors import RefusedError
from components.http import ONCE, REPEATABLE, Api, ApiError, Failure, RetryPolicy, failure_with

from .wire import Clock, Wire, body_of, reply

TOKEN = "operator-token-0123456789"
client_of_the_process = http.client  # the fixture `wire` puts another one in its place
API = Api(
    system="Fly",
    base_url="https://api.test",
    headers={"authorization": f"Bearer {TOKEN}"},
    secrets=[TOKEN],
    judge=failure_with(lambda body: str(body.get("error", "")) if isinstance(body, dict) else ""),
)


def call(policy: RetryPolicy = ONCE) -> httpx.Response:
    return API.call("GET", "/things", operation="read the things", policy=policy)


def failure(policy: RetryPolicy = ONCE) -> ApiError:
    with pytest.raises(ApiError) as failed:
        call(policy)
    return failed.value


def test_a_call_is_made_as_it_was_told(wire: Wire) -> None:
    wire.will(reply(200, {"ok": True}))
    response = API.call(
        "POST",
        "/things",
        operation="make a thing",
        json={"a": 1},
        parameters={"limit": 5},
        headers={"x-nonce": "n"},
    )
    assert response.json() == {"ok": True}
    assert str(wire.last.url) == "https://api.test/things?limit=5"
    assert body_of(wire.last) == {"a": 1}
    assert wire.last.headers["authorization"] == f"Bearer {TOKEN}"
    assert wire.last.headers["x-nonce"] == "n"


@pytest.mark.parametrize("status", sorted(calls.TRANSIENT))
def test_a_transient_status_is_tried_again(wire: Wire, status: int) -> None:
    wire.will(reply(status), reply(status), reply(200, {}))
    assert call(REPEATABLE).status_code == 200
    assert len(wire.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 409, 410, 412, 422, 501])
def test_any_other_status_is_not_tried_again(wire: Wire, status: int) -> None:
    wire.will(reply(status))
    assert failure(REPEATABLE).status == status
    assert len(wire.requests) == 1


def test_a_status_that_the_policy_names_is_tried_again(wire: Wire) -> None:
    wire.will(reply(409), reply(200, {}))
    assert call(RetryPolicy(also=frozenset({409}))).status_code == 200


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_no_more_calls_are_made_than_the_policy_allows(wire: Wire, attempts: int) -> None:
    wire.serve = lambda _request: reply(503)
    assert failure(RetryPolicy(attempts=attempts)).status == 503
    assert len(wire.requests) == attempts


def test_a_call_that_may_be_made_once_is_made_once(wire: Wire) -> None:
    wire.will(httpx.ReadTimeout("timed out"))
    assert failure(ONCE).status is None
    assert len(wire.requests) == 1


def test_a_lost_connection_is_tried_again(wire: Wire) -> None:
    wire.will(httpx.ConnectError("refused"), httpx.ReadTimeout("late"), reply(200, {}))
    assert call(REPEATABLE).status_code == 200


def test_the_waits_grow_up_to_the_longest(wire: Wire, clock: Clock) -> None:
    wire.serve = lambda _request: reply(503)
    failure(RetryPolicy(attempts=8, first_wait=0.5, longest_wait=4))
    assert len(clock.naps) == 7
    assert 0.5 <= clock.naps[0] <= 1
    assert clock.naps[2] > clock.naps[0]
    assert max(clock.naps) <= 4


def test_a_wait_that_the_system_asks_for_in_seconds_is_obeyed(wire: Wire, clock: Clock) -> None:
    wire.will(reply(429, retry_after="7"), reply(503, retry_after="0"), reply(200, {}))
    call(REPEATABLE)
    assert clock.naps == [7, 0]


def test_a_wait_that_the_system_asks_for_as_a_date_is_obeyed(wire: Wire, clock: Clock) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    wire.will(reply(429, retry_after=at), reply(200, {}))
    call(REPEATABLE)
    assert 25 <= clock.naps[0] <= 30


@pytest.mark.parametrize("header", ["", "soon", "-5", "nan", "Mon, 23 Nov 2020 12:00:00 GMT"])
def test_a_wait_that_makes_no_sense_or_is_over_does_not_hold_a_call_up(wire: Wire, clock: Clock, header: str) -> None:
    wire.will(reply(429, retry_after=header), reply(200, {}))
    call(REPEATABLE)
    assert clock.naps[0] <= 1


def test_a_date_without_a_zone_is_no_crash(wire: Wire) -> None:
    wire.will(reply(429, retry_after="Mon, 23 Nov 2026 12:00:00"))
    assert failure().status == 429


@pytest.mark.parametrize("header", ["61", "86400", "inf"])
def test_a_wait_that_is_too_long_ends_the_call(wire: Wire, clock: Clock, header: str) -> None:
    wire.will(reply(429, retry_after=header))
    assert failure(REPEATABLE).status == 429
    assert clock.naps == []
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(wire: Wire, status: int) -> None:
    wire.will(reply(status, location="https://elsewhere.test/"))
    assert failure(REPEATABLE).status == status
    assert [request.url.host for request in wire.requests] == ["api.test"]


@pytest.mark.parametrize(
    ("status", "ambiguous", "transient", "refused"),
    [
        (None, True, True, False),
        (400, False, False, False),
        (401, False, False, True),
        (403, False, False, False),
        (404, False, False, False),
        (408, True, True, False),
        (409, False, False, False),
        (412, False, False, False),
        (422, False, False, False),
        (423, False, True, False),
        (425, False, True, False),
        (429, False, True, False),
        (500, True, True, False),
        (501, True, False, False),
        (502, True, True, False),
        (503, True, True, False),
        (504, True, True, False),
    ],
)
def test_what_an_error_means(status: int | None, ambiguous: bool, transient: bool, refused: bool) -> None:  # noqa: FBT001 - columns
    error = ApiError("Fly", "do it", status=status, reason="r")
    assert (error.ambiguous, error.transient, error.refused) == (ambiguous, transient, refused)


def test_a_message_names_system_operation_status_reason_and_request(wire: Wire) -> None:
    wire.will(reply(422, {"error": "no such thing"}, x_request_id="req-1"))
    text = str(failure())
    for part in ("Fly", "read the things", "422", "no such thing", "req-1"):
        assert part in text


def test_an_answer_may_be_a_failure_whatever_its_status(wire: Wire, clock: Clock) -> None:
    def judge(response: httpx.Response) -> Failure | None:
        body = http.json_body(response)
        return None if body == {"ok": True} else Failure(status=503, reason=f"{TOKEN} is not ok", retry_after=3)

    wire.will(reply(200, {"ok": False}), reply(200, {"ok": True}), reply(200, {"ok": False}, retry_after="4"))
    api = replace(API, judge=judge)
    assert api.call("GET", "/things", operation="read", policy=REPEATABLE).status_code == 200
    assert clock.naps == [3]
    with pytest.raises(ApiError) as failed:
        api.call("GET", "/things", operation="read")
    assert (failed.value.status, failed.value.retry_after) == (503, 4)
    assert TOKEN not in str(failed.value)


@pytest.mark.parametrize(
    "api",
    [
        replace(API, headers={"authorization": "Bearer \N{HORIZONTAL ELLIPSIS}"}),
        replace(API, base_url="http://host:port"),
    ],
)
def test_a_request_that_cannot_be_made_is_an_error_like_any_other(api: Api) -> None:
    with pytest.raises(ApiError):
        api.call("GET", "/things", operation="read")


def test_a_body_that_is_not_explained_stays_out_of_the_message(wire: Wire) -> None:
    wire.will(reply(500, {"detail": "internals"}), httpx.Response(502, text="<html>internals</html>"))
    for _ in range(2):
        assert "internals" not in str(failure())


def test_neither_query_nor_header_gets_into_a_message(wire: Wire) -> None:
    wire.will(reply(400, {"error": "bad"}, x_internal="a header of theirs"))
    with pytest.raises(ApiError) as failed:
        API.call("GET", "/things", operation="read", parameters={"q": "in-the-query"}, headers={"x-own": "in-a-header"})
    for text in (str(failed.value), repr(failed.value)):
        assert "in-the-query" not in text
        assert "in-a-header" not in text
        assert "a header of theirs" not in text


def test_the_request_is_not_shown_with_the_error(wire: Wire) -> None:
    wire.will(httpx.ConnectError(f"could not send {TOKEN}"))
    error = failure()
    assert error.__suppress_context__
    assert TOKEN not in str(error) + repr(error)


def test_a_long_reason_is_cut_and_on_one_line(wire: Wire) -> None:
    wire.will(reply(400, {"error": "a\n  b " + "x" * 5000}))
    text = str(failure())
    assert "\n" not in text
    assert "a b x" in text
    assert len(text) < 500


# No letter that a message has of itself: a secret that is a part of every message could not be told from it.
secrets = st.text(
    "\\\"'%$/+=:;~^\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}\N{PILE OF POO}", min_size=9, max_size=40
)


@given(secrets, secrets, st.sampled_from([400, 401, 422, 500, 503]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_secret_gets_out_whatever_the_server_echoes(
    wire: Wire,
    token: str,
    value: str,
    status: int,
    lost: bool,  # noqa: FBT001 - drawn
) -> None:
    echo = f"bad header Bearer {token} in values A {value} at /x?key={value}"
    wire.will(httpx.ReadError(echo) if lost else reply(status, {"error": echo}))
    api = replace(API, headers={}, secrets=[token])
    with pytest.raises(ApiError) as failed:
        api.call("POST", "/x", operation="write", json={"values": {"A": value}}, secrets=[value])
    for text in (str(failed.value), failed.value.reason, *map(str, failed.value.args)):
        assert token not in text
        assert value not in text


A, B = "fm2_aaaaaaaaaaaa", "fm2_bbbbbbbbbbbb"


@pytest.mark.parametrize(
    "secret",
    [
        A,
        f"FlyV1 {A}",
        f"{A},{B}",
        f"FlyV1 {A},{B}",
        f"{A},{A}-and-more",
    ],
)
def test_a_part_of_a_secret_is_concealed_too(secret: str) -> None:
    parts = [part for part in (A, B, "-and-more") if part in secret]
    for echoed in (
        secret,
        secret.removeprefix("FlyV1 "),
        *secret.removeprefix("FlyV1 ").split(","),
        f"Bearer {secret}",
    ):
        concealed = http.conceal(f"token {echoed} is bad", [secret])
        assert not any(part in concealed for part in parts), echoed


def test_the_name_of_a_scheme_is_no_secret() -> None:
    assert http.conceal("FlyV1 tokens only", ["FlyV1 fm2_aaaaaaaaaaaa"]) == "FlyV1 tokens only"


class _BadServer(BaseHTTPRequestHandler):
    """Echoes the token where HTTP/1.1 lets a server write freely."""

    def do_GET(self) -> None:
        self.send_response(400, f"bad {TOKEN}")
        self.send_header("content-length", "0")
        self.send_header("x-request-id", f"req-{TOKEN}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def bad_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _BadServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_token_in_the_status_line_or_in_a_request_id_is_concealed(
    bad_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with httpx.Client(trust_env=False) as client:
        monkeypatch.setattr(http, "client", lambda: client)
        with pytest.raises(ApiError) as failed:
            Api(system="Fly", base_url=bad_server, headers={}, secrets=[TOKEN]).call("GET", "/", operation="read")
    assert TOKEN not in str(failed.value)


def test_the_client_of_the_process_follows_no_redirects_and_gives_up_in_the_end() -> None:
    assert client_of_the_process() is client_of_the_process()
    assert client_of_the_process().follow_redirects is False
    assert http.TIMEOUT.connect is not None
    assert http.TIMEOUT.read is not None
    assert http.TIMEOUT.read > 60, "Fly's wait call answers after up to 60 s"


CALLED = {None, 401, 403, 408, 423, 425, 429, 500, 501, 502, 503, 504}


@pytest.mark.parametrize("status", [None, 400, 401, 403, 404, 408, 409, 412, 422, 423, 425, 429, 500, 501, 502, 503])
def test_whom_to_call_is_said_where_a_system_refuses_or_is_down(status: int | None) -> None:
    error = ApiError("Fly", "do it", status=status, reason="r")
    assert error.contact == (CONTACTS["Fly"] if status in CALLED else "")
    assert ApiError("control plane", "do it", status=status, reason="r").contact == "", "its operator is who reads this"


def test_nobody_is_called_about_a_request_that_could_not_be_made() -> None:
    assert ApiError("Fly", "do it", status=None, reason="no such host:port", sent=False).contact == ""


@pytest.mark.parametrize("answer", [reply(429, retry_after="90"), reply(503), httpx.ConnectError("refused")], ids=str)
def test_an_answer_that_stays_bad_says_whom_to_call(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(*[answer] * 5)
    assert failure(REPEATABLE).contact == CONTACTS["Fly"]
    wire.answers.clear()


@pytest.mark.parametrize(
    ("environment", "named", "read", "connect"),
    [
        ("", None, 75, 10),
        ("3", None, 3, 3),
        ("120", None, 120, 10),
        ("3", 10, 3, 3),
        ("30", 10, 10, 10),
    ],
)
def test_the_environment_says_how_long_an_answer_is_waited_for(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    named: float | None,
    read: float,
    connect: float,
) -> None:
    monkeypatch.setenv(http.TIMEOUT_VARIABLE, environment)
    wire.will(reply(200, {}))
    API.call("GET", "/things", operation="read the things", timeout=named)
    assert wire.last.extensions["timeout"]["read"] == read
    assert wire.last.extensions["timeout"]["connect"] == connect


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(http.TIMEOUT_VARIABLE, text)
    with pytest.raises(RefusedError, match="no number of seconds"):
        call()
    assert wire.requests == []
