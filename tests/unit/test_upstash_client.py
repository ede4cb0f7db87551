"""Does the client read Upstash as Upstash writes, and keep keys and passwords out of messages?"""

import base64
from typing import Any

import httpx
import pytest

from components.http import ApiError
from components.upstash.client import Database, UpstashClient

from .wire import Wire, reply

KEY = "management-key-of-the-operator"
CLIENT = UpstashClient(email="operator@molecule.example", key=KEY)
BASIC = base64.b64encode(f"operator@molecule.example:{KEY}".encode()).decode()
SHOWN: dict[str, Any] = {
    "database_id": "d-1",
    "endpoint": "eu1-happy-cat-1.upstash.io",
    "port": 6379,
    "tls": True,
    "state": "active",
}
CREDENTIALS = {"password": "the-password", "rest_token": "the-rest-token", "read_only_rest_token": "reads"}
DATABASE = Database(
    host="eu1-happy-cat-1.upstash.io",
    port=6379,
    tls=True,
    state="active",
    password="the-password",
    rest_token="the-rest-token",
)


def test_a_database_is_read_as_the_account(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTASH_API_URL", raising=False)
    wire.will(reply(200, SHOWN | CREDENTIALS), reply(200, SHOWN | CREDENTIALS))
    assert CLIENT.database("d-1") == DATABASE
    assert str(wire.last.url) == "https://api.upstash.com/v2/redis/database/d-1"
    assert wire.last.headers["authorization"] == f"Basic {BASIC}"
    monkeypatch.setenv("UPSTASH_API_URL", "http://127.0.0.1:1/v2/")
    CLIENT.database("d/1")
    assert str(wire.last.url) == "http://127.0.0.1:1/v2/redis/database/d%2F1"


def test_nothing_shows_a_credential() -> None:
    for secret in (KEY, "the-password", "the-rest-token"):
        assert secret not in repr(CLIENT) + repr(DATABASE)


def test_protected_credentials_are_empty(wire: Wire) -> None:
    wire.will(reply(200, SHOWN))
    database = CLIENT.database("d-1")
    assert (database.password, database.rest_token) == ("", "")


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("beloved-stallion-58500", "beloved-stallion-58500.upstash.io"),
        ("eu1-happy-cat-1.upstash.io", "eu1-happy-cat-1.upstash.io"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_endpoint_may_be_a_slug(wire: Wire, endpoint: str, host: str) -> None:
    wire.will(reply(200, SHOWN | {"endpoint": endpoint}))
    assert CLIENT.database("d-1").host == host


@pytest.mark.parametrize(("tls", "scheme"), [(True, "rediss"), (False, "redis")])
def test_a_url_is_encoded(wire: Wire, tls: bool, scheme: str) -> None:  # noqa: FBT001 - a column
    wire.will(reply(200, SHOWN | {"tls": tls}))
    url = CLIENT.database("d-1").url("a:b", "p/@?#%")
    assert url == f"{scheme}://a%3Ab:p%2F%40%3F%23%25@eu1-happy-cat-1.upstash.io:6379"


def test_a_reset_is_answered_with_the_database(wire: Wire) -> None:
    wire.will(reply(200, SHOWN | CREDENTIALS), reply(200, SHOWN))
    assert CLIENT.reset_password("d-1") == DATABASE
    assert wire.lines == ["POST /v2/redis/reset-password/d-1"]
    assert wire.last.content == b""
    assert CLIENT.reset_password("d-1").password == ""


@pytest.mark.parametrize("answer", [reply(429), reply(500), reply(503), httpx.ReadTimeout("late")], ids=str)
def test_a_reset_is_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError, match="reset the password of database d-1"):
        CLIENT.reset_password("d-1")
    assert len(wire.requests) == 1


def test_a_look_is_repeated(wire: Wire) -> None:
    wire.will(reply(503), httpx.ConnectError("down"), reply(200, SHOWN))
    CLIENT.database("d-1")
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(401, {"error": "Unauthorized"}), "Unauthorized"),
        (reply(404, {"message": "no such database"}), "no such database"),
        (httpx.Response(400, text="invalid\nrequest"), "invalid request"),
        (reply(400, ["unheard of"]), "Bad Request"),
        (reply(400), "Bad Request"),
    ],
)
def test_a_failure_is_said_in_upstashs_words(wire: Wire, answer: httpx.Response, said: str) -> None:
    wire.will(answer)
    with pytest.raises(ApiError) as failed:
        CLIENT.database("d-1")
    assert failed.value.reason == said
    assert failed.value.status == answer.status_code
    assert failed.value.system == "Upstash"


@pytest.mark.parametrize(
    "answer",
    [
        reply(400, {"error": f"bad {KEY}"}),
        httpx.Response(400, text=f"bad header Basic {BASIC}"),
        httpx.ConnectError(f"no {KEY} {BASIC}"),
    ],
    ids=str,
)
def test_no_message_holds_the_key(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.serve = lambda _request: reply(500)
    wire.will(answer)
    with pytest.raises(ApiError) as failed:
        CLIENT.reset_password("d-1")
    for secret in (KEY, BASIC):
        assert secret not in str(failed.value)
        assert secret not in repr(failed.value)
