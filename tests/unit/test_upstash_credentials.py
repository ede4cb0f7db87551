"""What the sandbox's Upstash does not do: a database that is not active, answers that come late or never, names of others.

The life of credentials is tried on a real Redis (tests/sandbox/test_redis_rotation.py).
"""

from typing import Any

import httpx
import pytest

from components.errors import OperatorError
from components.http import ApiError
from components.keyring import Credential
from components.secret import Family
from components.upstash import credentials
from components.upstash.client import UpstashClient
from components.upstash.credentials import ACL, RESET, RedisUsers

from .wire import Clock, Wire, reply

FAMILY = Family(app="cp", stack="prod.eu", secret="TENANT_REDIS_URL", longest_name=64)
NAME = FAMILY.credential_name(2)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(credentials, "time", clock)
    monkeypatch.delenv("UPSTASH_API_URL", raising=False)
    monkeypatch.delenv("UPSTASH_REDIS_REST_URL", raising=False)


def issuer(strategy: str = ACL, *keyring: Credential) -> RedisUsers:
    return RedisUsers(
        client=UpstashClient(email="operator@molecule.example", key="management-key"),
        database="d-1",
        strategy=strategy,
        user="tenants",
        rules="~* +@all",
        keyring=keyring,
    )


def shown(password: str = "", **changed: Any) -> httpx.Response:  # noqa: ANN401 - JSON
    """A database as Upstash answers it; without a password, Credential Protection is on."""
    found = {"password": password, "rest_token": f"rest-of-{password}"} if password else {}
    return reply(200, {"endpoint": "happy-cat-1", "port": 6379, "tls": True, "state": "active", **found, **changed})


def users(*lines: str) -> httpx.Response:
    return reply(200, {"result": ["user default on #a ~* +@all", *lines]})


@pytest.mark.parametrize("strategy", [ACL, RESET])
@pytest.mark.parametrize(("state", "said"), [("suspended", "is suspended, not active"), ("passive", "is passive")])
def test_a_database_has_to_be_active(wire: Wire, strategy: str, state: str, said: str) -> None:
    wire.will(shown("old", state=state))
    (error,) = issuer(strategy).obstacles()
    assert said in error.happened


@pytest.mark.parametrize("status", [401, 403])
def test_a_management_key_that_is_refused_is_not_taken_for_an_obstacle_of_the_database(wire: Wire, status: int) -> None:
    wire.will(reply(status, {"error": "Unauthorized"}))
    with pytest.raises(ApiError) as failed:
        issuer().obstacles()
    assert failed.value.status == status


def test_a_password_that_is_shown_late_is_waited_for(wire: Wire, clock: Clock) -> None:
    wire.will(shown("old"), shown(), shown("old"), reply(404), shown("new"))
    assert issuer(RESET).mint(NAME).value == "rediss://default:new@happy-cat-1.upstash.io:6379"
    assert len(clock.naps) == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([reply(503)], [reply(404)] * 5, "may have been reset"),
        ([httpx.ReadTimeout("late")], [shown()] * 5, "may have been reset"),
        ([shown()], [shown("old")] * 5, "was reset"),
        ([shown()], [shown()] * 5, "was reset"),
        ([shown()], [reply(404)] * 5, "was reset"),
    ],
)
def test_a_password_that_is_never_shown_is_said_with_what_is_dead(
    wire: Wire, before: list[httpx.Response | Exception], after: list[httpx.Response], said: str
) -> None:
    wire.will(shown("old"), *before, *after)
    with pytest.raises(OperatorError, match=said) as failed:
        issuer(RESET).mint(NAME)
    assert ("may be dead" in failed.value.state) is ("may" in said)
    assert wire.lines.count("POST /v2/redis/reset-password/d-1") == 1, "no second reset"


@pytest.mark.parametrize(
    "answer", [reply(400), reply(401), reply(429), reply(503), httpx.ConnectError("down")], ids=str
)
def test_a_reset_that_was_not_carried_out_is_an_ordinary_failure(
    wire: Wire, answer: httpx.Response | Exception
) -> None:
    wire.will(shown("old"), answer)
    wire.serve = lambda _request: shown("old")
    with pytest.raises(ApiError, match="reset the password"):
        issuer(RESET).mint(NAME)


def test_whose_a_user_is_says_its_name(wire: Wire) -> None:
    names = [f"tenants.{NAME}", f"other.{NAME}_2", "app.v2", "plain", f"tenants.{NAME}_x", NAME, "a.b-g1_2_3"]
    wire.will(shown("old"), users(*(f"user {name} on" for name in names), "user tenants.off off"))
    listed = {each.credential_id: each for each in issuer().issued()}
    assert {name: listed[name].name for name in names} == {
        f"tenants.{NAME}": NAME,
        f"other.{NAME}_2": NAME,
        "app.v2": "app.v2",
        "plain": "plain",
        f"tenants.{NAME}_x": f"tenants.{NAME}_x",
        NAME: "eu-TENANT_REDIS_URL-g2",
        "a.b-g1_2_3": "a.b-g1_2_3",
    }
    ours = [name for name in names if FAMILY.generation_of(listed[name].name) is not None]
    assert ours == [f"tenants.{NAME}", f"other.{NAME}_2"]
    assert [name for name, each in listed.items() if not each.live] == ["tenants.off"]
    assert list(listed)[-1] == "default", "the last to be revoked: that replaces the REST token"


def test_a_default_that_is_switched_off_does_not_live(wire: Wire) -> None:
    wire.will(shown("old"), reply(200, {"result": ["user default off"]}))
    assert [each.live for each in issuer().issued()] == [False]


def test_the_end_of_default_is_asked_for_once(wire: Wire) -> None:
    ending = issuer()
    wire.will(shown("old"), shown("new"))
    ending.revoke("default")
    assert wire.lines[-1] == "POST /v2/redis/reset-password/d-1"
    wire.will(shown("new"))
    ending.revoke("default")
    assert wire.lines.count("POST /v2/redis/reset-password/d-1") == 1
    of_before = Credential(
        generation=1,
        credential_id="default/cp-g1",
        name="cp-g1",
        value="rediss://default:of-g1@happy-cat-1.upstash.io:6379",
        created_at="",
    )
    wire.will(shown("new"))
    issuer(ACL, of_before).revoke("default/cp-g1")
    assert wire.lines.count("POST /v2/redis/reset-password/d-1") == 1, "what is there now is another password"


def test_no_value_shows() -> None:
    assert "rest-token" not in repr(
        RedisUsers(
            client=UpstashClient(email="e", key="management-key"),
            database="d",
            strategy=ACL,
            user="u",
            rules="",
            rest_token="rest-token",
        )
    )
