"""Does the issuer mint for the domain that it is told, refuse one that cannot send, and take only Resend's word for a death?"""

import httpx
import pytest

from components import issuers
from components.http import ApiError
from components.resend.client import ResendClient
from components.resend.issuer import SendingKeys

from .wire import Wire, body_of, reply

VALUE = "re_value_of-the-old-key"
KEYS = SendingKeys(client=ResendClient("re_operator"), domain="molecule.example")


def domains(status: str = "verified", name: str = "molecule.example") -> httpx.Response:
    others = [{"id": "d0", "name": "another.example", "status": "verified"}]
    return reply(200, {"has_more": False, "data": [*others, {"id": "d1", "name": name, "status": status}]})


def failure(status: int, name: str, message: str) -> httpx.Response:
    return reply(status, {"statusCode": status, "message": message, "name": name})


def test_a_key_is_minted_for_the_domain(wire: Wire) -> None:
    wire.will(domains(), reply(201, {"id": "k1", "token": "re_new"}))
    minted = KEYS.mint("g1")
    assert (minted.credential_id, minted.value) == ("k1", "re_new")
    assert minted.created_at.endswith("+00:00")
    assert body_of(wire.last) == {"name": "g1", "permission": "sending_access", "domain_id": "d1"}


def test_without_the_domain_nothing_is_minted(wire: Wire) -> None:
    wire.will(domains(name="other.example"))
    with pytest.raises(ApiError, match=r"no domain molecule\.example") as failed:
        KEYS.mint("g1")
    assert not failed.value.ambiguous
    assert wire.lines == ["GET /domains"]


def test_a_verified_domain_is_no_obstacle(wire: Wire) -> None:
    wire.will(domains())
    assert KEYS.obstacles() == []


@pytest.mark.parametrize("status", ["not_started", "pending", "failed", "partially_verified", "partially_failed"])
def test_a_domain_of_any_other_status_is_one(wire: Wire, status: str) -> None:
    wire.will(domains(status))
    (obstacle,) = KEYS.obstacles()
    assert f"molecule.example has the status {status}" in obstacle.happened
    assert "resendDomain" in obstacle.next_step


def test_a_domain_that_is_not_there_is_one(wire: Wire) -> None:
    wire.will(domains(name="other.example"))
    (obstacle,) = KEYS.obstacles()
    assert "is not in this account" in obstacle.happened


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "validation_error", "API key is invalid"),
        failure(401, "validation_error", "API key is invalid"),
        failure(403, "invalid_api_key", "API key is invalid"),
    ],
    ids=lambda answer: str(answer.status_code),
)
def test_a_dead_key_is_refused_in_every_form(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    assert KEYS.refuses(VALUE)
    assert wire.last.headers["authorization"] == f"Bearer {VALUE}", "it is tried with its own value"


@pytest.mark.parametrize(
    "answer", [domains(), failure(401, "restricted_api_key", "This API key is restricted to only send emails")], ids=str
)
def test_a_live_key_is_not(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    assert not KEYS.refuses(VALUE)


@pytest.mark.parametrize(
    "answer",
    [reply(400), reply(401), reply(403), failure(404, "not_found", ""), reply(500), httpx.ConnectError("refused")],
    ids=str,
)
def test_any_other_answer_than_a_refusal_proves_neither(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(*[answer] * 5)
    with pytest.raises(ApiError) as failed:
        KEYS.refuses(VALUE)
    assert VALUE not in str(failed.value)
    wire.answers.clear()


def test_the_settings_of_the_map_become_the_issuer(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESEND_API_KEY", "re_from_the-environment")
    issuer = issuers.ISSUERS["resend-sending-key"].build(
        {"domain": "another.example"}, issuers.Context(config=lambda _key: None)
    )
    wire.will(domains(), reply(201, {"id": "k1", "token": "re_new"}), reply(200, {"data": []}), reply(200))
    issuer.mint("g1")
    assert issuer.issued() == []
    issuer.revoke("k1")
    assert body_of(wire.requests[1])["domain_id"] == "d0"
    assert wire.lines[2:] == ["GET /api-keys", "DELETE /api-keys/k1"]
    assert {each.headers["authorization"] for each in wire.requests} == {"Bearer re_from_the-environment"}
