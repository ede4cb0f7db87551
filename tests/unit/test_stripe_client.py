"""Does the Stripe client speak v1, and do its errors keep quiet about keys?"""

import httpx
import pytest

from components.http import ApiError
from components.stripe.client import VERSION, StripeClient, mode_of

from .fake_stripe import ACCOUNT, OPERATOR, FakeStripe, endpoint
from .wire import Wire, reply

CLIENT = StripeClient(OPERATOR)


@pytest.fixture
def stripe(wire: Wire) -> FakeStripe:
    stripe = FakeStripe()
    wire.serve = stripe.serve
    return stripe


@pytest.mark.usefixtures("stripe")
def test_calls_carry_the_key_and_a_pinned_version(wire: Wire) -> None:
    assert CLIENT.account() == ACCOUNT
    assert wire.last.headers["authorization"] == f"Bearer {OPERATOR}"
    assert wire.last.headers["stripe-version"] == VERSION
    assert str(wire.last.url) == "https://api.stripe.com/v1/account"


@pytest.mark.usefixtures("stripe")
def test_the_environment_says_where_stripe_is(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_BASE_URL", "http://stripe.test:1/")
    CLIENT.account()
    assert str(wire.last.url) == "http://stripe.test:1/v1/account"


def test_an_error_has_codes_and_none_of_stripes_words(wire: Wire) -> None:
    message = f"Expired API Key provided: sk_live_****{OPERATOR[-4:]}"
    error = {"message": message, "code": "api_key_expired", "type": "api_error"}
    wire.will(reply(401, {"error": error}, request_id="req_9"))
    with pytest.raises(ApiError) as failed:
        CLIENT.account()
    assert failed.value.refused
    assert "api_key_expired" in str(failed.value)
    assert "req_9" in str(failed.value)
    assert "Expired" not in str(failed.value)
    assert OPERATOR[-4:] not in str(failed.value)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "Invalid API Key provided: sk_live_****ator", "type": ["ator"]}},
        {"error": "sk_live_****ator"},
        ["sk_live_****ator"],
        None,
    ],
    ids=["code", "text", "list", "nothing"],
)
def test_what_is_no_code_stays_out_of_errors(wire: Wire, body: object) -> None:
    wire.will(reply(400, body))
    with pytest.raises(ApiError) as failed:
        CLIENT.account()
    assert "ator" not in str(failed.value).replace("operator", "")


def test_a_403_is_no_refusal_of_the_key(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/account"] = (403, {"message": "The provided key 'sk_live_****ator' does not have"})
    with pytest.raises(ApiError, match="lacks the permission") as failed:
        CLIENT.account()
    assert not failed.value.refused


def test_a_403_names_the_permission_and_nothing_else_of_stripes_words(wire: Wire) -> None:
    message = "The provided key 'rk_live_****ator' does not have … on account 'acct_1'. Having the 'rak_balance_read' permission would"
    wire.will(reply(403, {"error": {"message": message, "type": "invalid_request_error"}}))
    with pytest.raises(ApiError, match="lacks the permission: rak_balance_read, invalid_request_error") as failed:
        CLIENT.account()
    assert "ator'" not in str(failed.value)


@pytest.mark.parametrize(("status", "taken"), [(200, True), (403, True), (401, False)])
def test_a_key_that_is_not_401_is_alive(wire: Wire, status: int, taken: bool) -> None:  # noqa: FBT001
    wire.will(reply(status, {}))
    assert StripeClient("rk_live_1").authenticates() is taken


@pytest.mark.parametrize("status", [400, 404, 500])
def test_any_other_answer_does_not_tell_whether_a_key_lives(wire: Wire, status: int) -> None:
    wire.will(*[reply(status) for _ in range(5)])
    with pytest.raises(ApiError, match=f"status {status}"):
        StripeClient("rk_live_1").authenticates()


@pytest.mark.parametrize("livemode", [True, False])
def test_the_balance_tells_the_mode(stripe: FakeStripe, livemode: bool) -> None:  # noqa: FBT001
    stripe.livemode = livemode
    assert CLIENT.livemode() is livemode


@pytest.mark.parametrize(("key", "livemode"), [("rk_live_1", True), ("rk_test_1", False)])
def test_a_key_that_may_not_read_the_balance_tells_by_itself(wire: Wire, key: str, livemode: bool) -> None:  # noqa: FBT001
    wire.will(reply(403))
    assert StripeClient(key).livemode() is livemode


@pytest.mark.parametrize(("key", "status"), [("odd_key_1", 403), ("rk_live_1", 401), ("rk_live_1", 404)])
def test_any_other_answer_tells_no_mode(wire: Wire, key: str, status: int) -> None:
    wire.will(reply(status))
    with pytest.raises(ApiError):
        StripeClient(key).livemode()


@pytest.mark.parametrize(
    ("key", "mode"),
    [
        ("sk_live_a", "live"),
        ("rk_test_a", "test"),
        ("pk_live_a", None),
        ("sk_live_", None),
        ("sk_live_a\n", None),
        ("whsec_a", None),
    ],
)
def test_what_keys_begin_with(key: str, mode: str | None) -> None:
    assert mode_of(key) == mode


@pytest.mark.usefixtures("stripe")
def test_the_default_version_is_asked_for_without_one(wire: Wire) -> None:
    assert CLIENT.default_version() == "2025-01-01.acacia"
    assert "stripe-version" not in wire.last.headers


def test_every_page_is_read(stripe: FakeStripe, wire: Wire) -> None:
    stripe.endpoints = [endpoint(number) for number in (5, 4, 3, 2, 1)]
    stripe.page = 2
    assert [each.endpoint_id for each in CLIENT.webhook_endpoints()] == ["we_5", "we_4", "we_3", "we_2", "we_1"]
    assert [request.url.params.get("starting_after") for request in wire.requests] == [None, "we_4", "we_2"]


def test_an_endpoint_is_read_whole(stripe: FakeStripe) -> None:
    stripe.endpoints = [
        endpoint(0, api_version="2024-06-20", description="d", metadata={"a": "b"}, status="disabled", livemode=False)
    ]
    (found,) = CLIENT.webhook_endpoints()
    assert (found.api_version, found.description, found.metadata) == ("2024-06-20", "d", {"a": "b"})
    assert (found.enabled, found.livemode, found.enabled_events) == (False, False, ("customer.created",))
    assert found.created_at == "2026-09-21T14:13:20+00:00"


def test_a_deletion_may_be_repeated(stripe: FakeStripe) -> None:
    CLIENT.delete_webhook_endpoint("we_1")
    assert not stripe.endpoints
    CLIENT.delete_webhook_endpoint("we_1")


def test_a_deletion_that_failed_is_an_error(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/webhook_endpoints/we_1"] = (403, {})
    with pytest.raises(ApiError):
        CLIENT.delete_webhook_endpoint("we_1")


def test_a_creation_whose_first_try_is_under_way_is_repeated(stripe: FakeStripe, wire: Wire) -> None:
    original = CLIENT.webhook_endpoints()[0]
    wire.will(reply(409), httpx.ConnectError("gone"), reply(429))
    minted = CLIENT.clone_webhook_endpoint(original, connect=False, description="g1", idempotency_key="k")
    assert minted.value == "whsec_we_100"
    assert [request.headers["idempotency-key"] for request in wire.requests[1:]] == ["k"] * 4
    assert len(stripe.created_forms) == 1


def test_the_key_is_not_shown() -> None:
    assert OPERATOR not in repr(CLIENT)
