"""Does the client read Resend as Resend writes, and judge a key by every answer that was ever recorded?"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from components.http import ApiError
from components.keyring import Issued
from components.resend import client as client_module
from components.resend.client import PAGE, Domain, DomainRecord, ResendClient

from .wire import Clock, Wire, body_of, reply

KEY = "re_operator_key-with-full-access"
CLIENT = ResendClient(KEY)
CREATED = "2026-11-23 12:00:00.674981+00"  # as Resend writes a moment


def failure(status: int, name: str, message: str) -> httpx.Response:
    return reply(status, {"statusCode": status, "message": message, "name": name})


def pages(items: list[dict[str, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    def serve(request: httpx.Request) -> httpx.Response:
        after, limit = request.url.params.get("after"), int(request.url.params["limit"])
        start = 1 + [each["id"] for each in items].index(after) if after else 0
        page = items[start : start + limit]
        return reply(200, {"object": "list", "has_more": start + limit < len(items), "data": page})

    return serve


def key(key_id: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"id": key_id, "name": f"name of {key_id}", "created_at": CREATED, "last_used_at": None, **changed}


def mail(mail_id: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    sent = {"subject": "s", "to": ["a@b.example"], "last_event": "sent", "created_at": CREATED}
    return {"id": mail_id, **sent, **changed}


def test_a_call_goes_to_resend_with_the_key(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESEND_API_URL", raising=False)
    wire.serve = pages([])
    assert CLIENT.authenticates()
    assert str(wire.last.url) == "https://api.resend.com/domains?limit=1"
    assert wire.last.headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("RESEND_API_URL", "http://127.0.0.1:1/")
    assert CLIENT.authenticates()
    assert str(wire.last.url) == "http://127.0.0.1:1/domains?limit=1"
    assert KEY not in repr(CLIENT)


# Recorded with keys that were revoked (400, 401), and documented (403).
DEAD = [
    failure(400, "validation_error", "API key is invalid"),
    failure(401, "validation_error", "API key is invalid"),
    failure(403, "invalid_api_key", "API key is invalid"),
    failure(403, "invalid_api_key", "another text"),
    failure(401, "invalid_api_key", ""),
]


@pytest.mark.parametrize("answer", DEAD, ids=lambda answer: answer.text)
def test_a_dead_key_is_dead_in_every_form(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    assert not CLIENT.authenticates()


@pytest.mark.parametrize("answer", DEAD, ids=lambda answer: answer.text)
def test_a_dead_operator_key_is_a_refusal(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    with pytest.raises(ApiError) as failed:
        CLIENT.list_keys()
    assert failed.value.refused


def test_a_key_that_may_only_send_is_alive(wire: Wire) -> None:
    wire.will(failure(401, "restricted_api_key", "This API key is restricted to only send emails"))
    assert CLIENT.authenticates()


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "validation_error", "another complaint"),
        failure(403, "validation_error", "The example.com domain is not verified."),
        failure(404, "not_found", "API key is invalid"),
        failure(422, "invalid_api_key", "API key is invalid"),
        failure(451, "security_error", "x"),
        reply(403, ["API key is invalid"]),
        reply(403),
        failure(401, "missing_api_key", "Missing API Key"),
        reply(401),
    ],
    ids=lambda answer: f"{answer.status_code} {answer.text}",
)
def test_any_other_refusal_is_no_verdict(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    with pytest.raises(ApiError, match=str(answer.status_code)):
        CLIENT.authenticates()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_limit_or_an_outage_is_no_verdict_either(wire: Wire, status: int) -> None:
    wire.serve = lambda _request: failure(status, "rate_limit_exceeded", "Too many requests.")
    with pytest.raises(ApiError, match=str(status)):
        CLIENT.authenticates()
    assert len(wire.requests) > 1


@pytest.mark.parametrize("answer", [failure(422, "x", f"bad {KEY}"), httpx.ConnectError(f"no {KEY}")], ids=str)
def test_no_message_holds_the_key(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError) as failed:
        CLIENT.create_key(name="n", domain_id="d", created_at="")
    assert KEY not in str(failed.value)
    assert KEY not in repr(failed.value)


def test_a_domain_is_found_on_any_page(wire: Wire) -> None:
    wire.serve = pages(
        [{"id": f"d{number}", "name": f"{number}.example", "status": "pending"} for number in range(2 * PAGE + 1)]
    )
    assert CLIENT.domain_id(f"{2 * PAGE}.example") == (f"d{2 * PAGE}", "pending")
    assert [each.url.params.get("after") for each in wire.requests] == [None, f"d{PAGE - 1}", f"d{2 * PAGE - 1}"]
    assert CLIENT.domain_id("missing.example") is None


def test_a_domain_comes_with_its_records(wire: Wire) -> None:
    spf = {
        "record": "SPF",
        "name": "send",
        "type": "MX",
        "ttl": "Auto",
        "status": "verified",
        "value": "v",
        "priority": 10,
    }
    wire.will(
        reply(
            200,
            {
                "object": "domain",
                "id": "d1",
                "name": "a.example",
                "status": "partially_failed",
                "capabilities": {"sending": "disabled", "receiving": "enabled"},
                "records": [spf, {"record": "DKIM", "name": "k._domainkey", "type": "TXT", "status": None}],
            },
        )
    )
    assert CLIENT.domain("d1") == Domain(
        domain_id="d1",
        name="a.example",
        status="partially_failed",
        sending=False,
        records=(
            DomainRecord(record="SPF", name="send", type="MX", status="verified", value="v"),
            DomainRecord(record="DKIM", name="k._domainkey", type="TXT", status="", value=""),
        ),
    )
    assert wire.lines == ["GET /domains/d1"]


@pytest.mark.parametrize(
    ("capabilities", "sending"),
    [(None, True), ({}, True), ({"sending": "enabled"}, True), ({"sending": "disabled"}, False)],
)
def test_a_domain_sends_unless_resend_says_otherwise(wire: Wire, capabilities: object, sending: bool) -> None:  # noqa: FBT001
    wire.serve = pages([{"id": "d1", "name": "a.example", "status": "verified", "capabilities": capabilities}])
    assert CLIENT.domains() == [Domain(domain_id="d1", name="a.example", status="verified", sending=sending)]


def test_a_domain_that_is_gone_is_an_error(wire: Wire) -> None:
    wire.will(failure(404, "not_found", "Domain not found"))
    with pytest.raises(ApiError, match=r"read domain d1: status 404: not_found: Domain not found"):
        CLIENT.domain("d1")


def test_keys_are_listed_page_by_page(wire: Wire) -> None:
    wire.serve = pages([key(f"k{number}") for number in range(PAGE + 1)])
    keys = CLIENT.list_keys()
    assert keys[0] == Issued(credential_id="k0", name="name of k0", live=True, created_at=CREATED)
    assert [each.credential_id for each in keys] == [f"k{number}" for number in range(PAGE + 1)]
    assert wire.lines == ["GET /api-keys"] * 2


def test_an_empty_page_ends_the_list_whatever_it_says(wire: Wire) -> None:
    wire.will(reply(200, {"object": "list", "has_more": True, "data": []}))
    assert CLIENT.list_keys() == []


@pytest.mark.parametrize(
    ("keys", "moment"),
    [
        ([key("other", last_used_at=CREATED)], None),
        ([key("mine")], None),
        ([key("mine", last_used_at=CREATED)], datetime(2026, 11, 23, 12, 0, 0, 674981, tzinfo=UTC)),
        ([key("mine", last_used_at="2026-11-23T12:00:00.000Z")], datetime(2026, 11, 23, 12, tzinfo=UTC)),
    ],
)
def test_when_a_key_was_last_used(wire: Wire, keys: list[dict[str, Any]], moment: datetime | None) -> None:
    wire.serve = pages(keys)
    assert CLIENT.last_used_at("mine") == moment


def test_mails_that_are_young_enough(wire: Wire) -> None:
    wire.serve = pages(
        [
            mail(
                "new",
                **{"from": "A <a@b.example>"},
                subject="Your org",
                to=["a@b.example", "c@d.example"],
                last_event="delivered",
            ),
            mail("bare", subject=None, to=None, last_event=None),
            mail("old", created_at="2026-11-23 11:59:59+00"),
        ]
    )
    new, bare = CLIENT.emails_since(datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert (new.email_id, new.subject, new.last_event) == ("new", "Your org", "delivered")
    assert new.to == ("a@b.example", "c@d.example")
    assert (new.sender, bare.sender) == ("A <a@b.example>", "")
    assert (bare.email_id, bare.subject, bare.to, bare.last_event) == ("bare", "", (), "")
    assert wire.lines == ["GET /emails"]
    assert wire.last.url.params["limit"] == str(PAGE)


def test_a_key_is_minted_that_may_only_send_for_one_domain(wire: Wire) -> None:
    wire.will(reply(201, {"id": "k1", "token": "re_new"}))
    minted = CLIENT.create_key(name="n", domain_id="d1", created_at="2026-11-23T12:00:00+00:00")
    assert (minted.credential_id, minted.value, minted.created_at) == ("k1", "re_new", "2026-11-23T12:00:00+00:00")
    assert wire.lines == ["POST /api-keys"]
    assert body_of(wire.last) == {"name": "n", "permission": "sending_access", "domain_id": "d1"}


@pytest.mark.parametrize("answer", [reply(403), reply(409), reply(500), reply(503), httpx.ReadTimeout("late")], ids=str)
def test_minting_is_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError, match="mint key n"):
        CLIENT.create_key(name="n", domain_id="d1", created_at="")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [reply(200, {"object": "api_key", "id": "k1", "deleted": True}), reply(200), failure(404, "not_found", "gone")],
    ids=lambda answer: f"{answer.status_code} {answer.text}",
)
def test_a_key_is_deleted_or_was_before(wire: Wire, answer: httpx.Response) -> None:
    wire.will(answer)
    CLIENT.delete_key("k1")
    assert wire.lines == ["DELETE /api-keys/k1"]


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_deletion_that_resend_refuses_is_an_error(wire: Wire, status: int) -> None:
    wire.will(failure(status, "x", "no"))
    with pytest.raises(ApiError, match="delete key k1"):
        CLIENT.delete_key("k1")


@pytest.fixture
def two_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts until Resend has told."""
    monkeypatch.setattr(client_module, "REQUESTS_A_SECOND", 2)


@pytest.mark.usefixtures("two_a_second")
def test_calls_of_all_keys_take_turns(wire: Wire, turns: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the team's, and no call says whose a key is."""
    wire.serve = pages([])
    for key_number in range(5):
        ResendClient(f"re_key-{key_number}").authenticates()
    assert sum(turns.naps) >= 2, "five calls take two seconds at two a second"
    before = len(turns.naps)
    monkeypatch.setenv("RESEND_API_URL", "http://127.0.0.1:1/")
    CLIENT.authenticates()
    assert len(turns.naps) == before, "another Resend"


def test_turns_are_as_close_as_resend_says(wire: Wire, turns: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESEND_API_URL", "http://generous.test")
    wire.serve = lambda _request: reply(200, {"data": []}, ratelimit_limit="10")
    CLIENT.domains()
    turns.naps.clear()
    for _ in range(11):
        CLIENT.domains()
    assert 0.6 <= sum(turns.naps) <= 2


@pytest.mark.usefixtures("two_a_second")
@pytest.mark.parametrize("told", ["", "0", "-1", "many", "1.5", "9" * 50])
def test_what_is_no_number_of_requests_is_not_believed(
    wire: Wire, turns: Clock, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv("RESEND_API_URL", "http://strange.test")
    wire.serve = lambda _request: reply(200, {"data": []}, ratelimit_limit=told)
    for _ in range(5):
        CLIENT.domains()
    assert 2 <= sum(turns.naps) <= 3


def test_a_key_is_minted_once_the_team_has_a_request_left(wire: Wire) -> None:
    too_many = failure(429, "rate_limit_exceeded", "Too many requests.")
    wire.will(too_many, too_many, reply(201, {"id": "k", "token": "re_new"}))
    assert CLIENT.create_key(name="n", domain_id="d", created_at=CREATED).credential_id == "k"
    assert len(wire.requests) == 3


@pytest.mark.usefixtures("two_a_second")
def test_who_waits_for_a_mail_leaves_half_of_the_requests(wire: Wire, turns: Clock) -> None:
    wire.serve = pages([])
    for _ in range(5):
        CLIENT.emails_since(datetime(2026, 1, 1, tzinfo=UTC))
    assert sum(turns.naps) == pytest.approx(4, abs=0.2)
