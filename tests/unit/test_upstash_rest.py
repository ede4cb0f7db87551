"""Are users managed as Upstash's documentation says, and do tokens stay out of URLs and messages?"""

import httpx
import pytest

from components.http import ApiError
from components.upstash.rest import AccessControl, User, base_url

from .wire import Wire, body_of, reply

BEARER = "standard-rest-token-of-default"
TOKEN = "AYtoken-of-a-new-user"
ACCESS = AccessControl(host="eu1-happy-cat-1.upstash.io", token=BEARER)


@pytest.fixture(autouse=True)
def no_url_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTASH_REDIS_REST_URL", raising=False)


def test_users_are_listed_with_the_standard_token(wire: Wire) -> None:
    lines = ["user default on #ab ~* &* +@all", "user app off #cd #ef ~on &on -@all +get", "user bare on"]
    wire.will(reply(200, {"result": lines}))
    assert ACCESS.users() == [
        User(name="default", enabled=True),
        User(name="app", enabled=False),
        User(name="bare", enabled=True),
    ]
    assert str(wire.last.url) == "https://eu1-happy-cat-1.upstash.io/"
    assert wire.last.headers["authorization"] == f"Bearer {BEARER}"
    assert body_of(wire.last) == ["ACL", "LIST"]
    assert BEARER not in repr(ACCESS)


def test_a_user_is_set_up_with_a_token_that_upstash_made(wire: Wire) -> None:
    wire.will(reply(200, {"result": TOKEN}), reply(200, {"result": "OK"}), reply(200, {"result": 1}))
    assert ACCESS.generate_token("app") == TOKEN
    assert body_of(wire.last) == ["ACL", "GENTOKEN", "app"]
    ACCESS.set_user("app", TOKEN, ("~*", "+@all"))
    assert body_of(wire.last) == ["ACL", "SETUSER", "app", "reset", "on", f">{TOKEN}", "~*", "+@all"]
    assert TOKEN not in str(wire.last.url)
    ACCESS.delete_user("app")
    assert body_of(wire.last) == ["ACL", "DELUSER", "app"]


@pytest.mark.parametrize(
    "answer",
    [
        reply(400, {"error": f"ERR Error in ACL SETUSER modifier '>{TOKEN}': Syntax error"}),
        reply(401, {"error": f"WRONGPASS {BEARER}"}),
        httpx.Response(502, text=f"upstream: {BEARER}{TOKEN}"),
        httpx.ReadTimeout(f"late {TOKEN}"),
    ],
    ids=str,
)
def test_no_message_holds_a_token(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.serve = lambda _request: answer if isinstance(answer, httpx.Response) else reply(503)
    wire.will(answer)
    with pytest.raises(ApiError, match="set up user app") as failed:
        ACCESS.set_user("app", TOKEN, ("+@all",))
    for secret in (TOKEN, BEARER):
        assert secret not in str(failed.value)
        assert secret not in repr(failed.value)


def test_an_error_is_none_of_the_less_for_a_200(wire: Wire) -> None:
    wire.will(reply(200, {"error": "ERR ACL is not available"}))
    with pytest.raises(ApiError, match="ERR ACL is not available") as failed:
        ACCESS.users()
    assert failed.value.status == 400


def test_every_command_may_be_repeated(wire: Wire) -> None:
    for call, result in (
        (ACCESS.users, []),
        (lambda: ACCESS.generate_token("app"), "t"),
        (lambda: ACCESS.set_user("app", TOKEN, ()), "OK"),
        (lambda: ACCESS.delete_user("app"), 0),
    ):
        wire.will(httpx.ReadTimeout("late"), reply(503), reply(200, {"result": result}))
        call()
    assert len(wire.requests) == 12


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://another-database.upstash.io", "https://mine.upstash.io"),
        ("https://127.0.0.1.example.com", "https://mine.upstash.io"),
        ("", "https://mine.upstash.io"),
    ],
)
def test_a_url_of_the_environment_counts_for_a_sandbox_alone(
    monkeypatch: pytest.MonkeyPatch, told: str, url: str
) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", told)
    assert base_url("mine.upstash.io") == url
