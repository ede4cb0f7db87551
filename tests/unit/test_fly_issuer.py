"""Does the issuer tell a token that Fly refuses from one that it merely could not try?"""

import httpx
import pytest

from components import issuers
from components.fly.client import FlyClient
from components.fly.issuer import DeployTokens
from components.http import ApiError

from .wire import Wire, body_of, reply

TOKENS = DeployTokens(client=FlyClient(token="fo1_operator"), app="tenant", profile="deploy", expiry="24h0m0s")
VALUE = "FlyV1 fm2_of-the-old-credential"
NONE = reply(200, [])  # no machine, so that the token is tried by a list (`test_fly_shown.py` has the other way)


def test_a_refused_operator_is_no_refused_token(wire: Wire) -> None:
    wire.will(reply(401), reply(200, []))
    assert not TOKENS.refuses(VALUE)


def test_a_refused_token_is_refused(wire: Wire) -> None:
    wire.will(NONE, reply(401, {"error": "Authenticate: token validation error"}))
    assert TOKENS.refuses(VALUE)
    assert wire.lines == ["GET /v1/apps/tenant/machines"] * 2
    assert wire.requests[0].headers["authorization"] == "Bearer fo1_operator", "whether there is a machine to try it on"
    assert wire.last.headers["authorization"] == VALUE, "it is tried with its own value, not with the operator's"


def test_an_accepted_token_is_not(wire: Wire) -> None:
    wire.will(NONE, reply(200, []))
    assert not TOKENS.refuses(VALUE)


@pytest.mark.parametrize("answer", [reply(403), reply(404), reply(500), httpx.ConnectError("refused")], ids=str)
def test_any_other_answer_proves_neither(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(NONE, *[answer] * 5)
    with pytest.raises(ApiError) as failed:
        TOKENS.refuses(VALUE)
    assert VALUE not in str(failed.value)
    wire.answers.clear()


def test_the_settings_of_the_map_become_the_token(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_from-the-environment")
    issuer = issuers.ISSUERS["fly-deploy-token"].build(
        {"app": "tenant", "profile": "deploy", "expiry": "5h0m0s"}, issuers.Context(config=lambda _key: None)
    )
    wire.will(
        reply(200, {"data": {"app": {"id": "a", "organization": {"id": "o", "slug": "s"}}}}),
        reply(
            200,
            {
                "data": {
                    "createLimitedAccessToken": {
                        "limitedAccessToken": {"id": "t", "tokenHeader": "v", "createdAt": "c"}
                    }
                }
            },
        ),
    )
    assert issuer.mint("family-g1").credential_id == "t"
    assert wire.last.headers["authorization"] == "Bearer fo1_from-the-environment"
    sent = body_of(wire.last)["variables"]["input"]
    assert (sent["name"], sent["expiry"], sent["profileParams"]) == ("family-g1", "5h0m0s", {"app_id": "a"})


def test_the_rest_is_passed_on(wire: Wire) -> None:
    empty = {"limitedAccessTokens": {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}}
    wire.will(reply(200, {"data": {"app": empty}}), reply(200, {"data": {}}))
    assert TOKENS.issued() == []
    TOKENS.revoke("t1")
    assert body_of(wire.requests[0])["variables"]["name"] == "tenant"
    assert body_of(wire.requests[1])["variables"] == {"input": {"id": "t1"}}


@pytest.mark.parametrize(("status", "may"), [(200, True), (401, False)])
def test_a_token_may_return_while_fly_takes_it(wire: Wire, status: int, may: bool) -> None:  # noqa: FBT001 - a column
    wire.will(NONE, reply(status, [] if may else {"error": "Authenticate: token validation error"}))
    assert TOKENS.may_return(VALUE) is may
