"""Is a signing secret minted as a faithful copy, once, and is its death provable?"""

import pytest

from components.http import ApiError
from components.stripe.client import StripeClient
from components.stripe.issuer import LIMIT, WebhookEndpoints, webhook_url

from .fake_stripe import OPERATOR, URL, FakeStripe, endpoint
from .wire import Wire

ENDPOINTS = WebhookEndpoints(client=StripeClient(OPERATOR), url=URL)


@pytest.fixture
def stripe(wire: Wire) -> FakeStripe:
    stripe = FakeStripe()
    wire.serve = stripe.serve
    return stripe


def elsewhere(count: int) -> list[dict[str, object]]:
    return [endpoint(50 + number, url="https://elsewhere.test/") for number in range(count)]


def test_no_value_is_proof(wire: Wire) -> None:
    assert ENDPOINTS.refuses("whsec_x") is None
    assert wire.requests == []


def test_a_copy_has_everything_but_the_description(stripe: FakeStripe) -> None:
    stripe.endpoints = [
        endpoint(
            1,
            enabled_events=["customer.created", "invoice.paid"],
            api_version="2024-06-20",
            description="by hand",
            metadata={"team": "billing & more", "x": "y"},
        )
    ]
    minted = ENDPOINTS.mint("family-g1")
    assert (minted.credential_id, minted.value) == ("we_100", "whsec_we_100")
    assert minted.created_at.startswith("2026-09-21T14:15:")
    assert sorted(stripe.created_forms[0]) == [
        ("api_version", "2024-06-20"),
        ("description", "family-g1"),
        ("enabled_events[]", "customer.created"),
        ("enabled_events[]", "invoice.paid"),
        ("metadata[team]", "billing & more"),
        ("metadata[x]", "y"),
        ("url", URL),
    ]


def test_no_version_is_copied_as_none(stripe: FakeStripe) -> None:
    ENDPOINTS.mint("family-g1")
    assert {name for name, _ in stripe.created_forms[0]} == {"url", "enabled_events[]", "description"}


def test_connect_is_a_setting(stripe: FakeStripe) -> None:
    WebhookEndpoints(client=ENDPOINTS.client, url=URL, connect=True).mint("family-g1")
    assert ("connect", "true") in stripe.created_forms[0]


def test_the_newest_enabled_one_of_the_url_is_copied(stripe: FakeStripe) -> None:
    stripe.endpoints = [
        endpoint(9, enabled_events=["wrong.url"], url=f"{URL}/"),
        endpoint(8, enabled_events=["wrong.disabled"], status="disabled"),
        endpoint(3, enabled_events=["wrong.older"]),
        endpoint(7, enabled_events=["right.one"]),
    ]
    ENDPOINTS.mint("family-g1")
    assert ("enabled_events[]", "right.one") in stripe.created_forms[0]


def test_a_lost_answer_makes_no_second_endpoint(stripe: FakeStripe) -> None:
    stripe.lost = 2
    assert ENDPOINTS.mint("family-g1").value == "whsec_we_100"
    assert len(stripe.endpoints) == 2


def test_every_minting_is_a_new_one(stripe: FakeStripe) -> None:
    assert ENDPOINTS.mint("family-g1") != ENDPOINTS.mint("family-g1")
    assert len(stripe.endpoints) == 3


@pytest.mark.parametrize("endpoints", [[], [endpoint(1, status="disabled")], [endpoint(1, url="https://other.test/")]])
def test_nothing_to_copy_is_an_error_and_an_obstacle(stripe: FakeStripe, endpoints: list[dict[str, object]]) -> None:
    stripe.endpoints = endpoints
    with pytest.raises(ApiError, match="no enabled webhook endpoint") as failed:
        ENDPOINTS.mint("family-g1")
    assert not failed.value.ambiguous
    (obstacle,) = ENDPOINTS.obstacles()
    assert "no enabled webhook endpoint" in str(obstacle)
    assert not stripe.created_forms


def test_a_full_account_is_an_error_before_anything_is_sent(stripe: FakeStripe) -> None:
    stripe.endpoints = [endpoint(1), *elsewhere(LIMIT - 1)]
    with pytest.raises(ApiError, match="16 webhook endpoints already"):
        ENDPOINTS.mint("family-g1")
    assert not stripe.created_forms
    (obstacle,) = ENDPOINTS.obstacles()
    assert "16 webhook endpoints already" in str(obstacle)


def test_one_free_place_is_enough(stripe: FakeStripe) -> None:
    stripe.endpoints = [endpoint(1), *elsewhere(LIMIT - 2)]
    assert ENDPOINTS.obstacles() == []
    ENDPOINTS.mint("family-g1")
    assert ENDPOINTS.obstacles() == [], "the next run, which verifies what this one minted, must get through"


def test_a_key_of_the_other_mode_is_an_obstacle(stripe: FakeStripe) -> None:
    assert ENDPOINTS.obstacles() == []
    stripe.livemode = False
    (obstacle,) = ENDPOINTS.obstacles()
    assert "key is of test mode; the webhook endpoint is of live mode" in str(obstacle)
    assert WebhookEndpoints(client=ENDPOINTS.client, url=URL, livemode=False).obstacles() == []


def test_a_key_without_the_permission_is_an_obstacle(stripe: FakeStripe) -> None:
    stripe.refuse["/v1/webhook_endpoints"] = (403, {})
    (obstacle,) = ENDPOINTS.obstacles()
    assert "may not list" in str(obstacle)
    assert "restricted key" in obstacle.next_step


def test_a_dead_key_is_an_error(stripe: FakeStripe) -> None:
    stripe.accounts = {}
    with pytest.raises(ApiError) as failed:
        ENDPOINTS.obstacles()
    assert failed.value.refused


def test_only_endpoints_of_the_url_are_listed(stripe: FakeStripe) -> None:
    stripe.endpoints = [
        endpoint(3, description="family-g1"),
        endpoint(2, status="disabled"),
        endpoint(1, url="https://other.test/"),
    ]
    assert [(each.credential_id, each.name, each.live) for each in ENDPOINTS.issued()] == [
        ("we_3", "family-g1", True),
        ("we_2", "we_2", True),
    ]


@pytest.mark.usefixtures("stripe")
def test_what_is_revoked_is_not_listed_any_more() -> None:
    minted = ENDPOINTS.mint("family-g1")
    ENDPOINTS.revoke("we_1")
    ENDPOINTS.revoke("we_1")
    assert [each.credential_id for each in ENDPOINTS.issued()] == [minted.credential_id]


def test_the_url_is_the_control_planes_unless_it_is_set() -> None:
    assert webhook_url("", "https://cp.test") == "https://cp.test/webhooks/stripe"
    assert webhook_url("https://api.test/hook", "https://cp.test") == "https://api.test/hook"


def test_a_signing_secret_may_return_as_long_as_its_endpoint_is_listed(wire: Wire) -> None:
    assert ENDPOINTS.may_return("whsec_x"), "there is no call that could tell: the list does"
    assert wire.requests == []
