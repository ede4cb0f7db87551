"""The control plane's billing: it really uses its own key and signing secret, and a wrong rotation is felt."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.processes import billing
from sandbox.stripe.deliveries import signature
from sandbox.world import sha256
from tests.sandbox.running import until
from tests.sandbox.stripe_support import ENDPOINTS, Account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

HOOK = "/webhooks/stripe"
CHECKOUT = "/cp/billing/checkout"
URLS = {"success_url": "https://molecule.example/done", "cancel_url": "https://molecule.example/no"}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    account = Account(tmp_path_factory.mktemp("billing"))
    account.start()
    yield account
    account.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Account]:
    account = Account(tmp_path / "sandbox")
    account.start()
    yield account
    account.stop()


def session(account: Account) -> dict[str, str]:
    return {"cookie": f"mcp_session={account.environment['CP_SESSION']}"}


def buy(account: Account, slug: str, **body: object) -> httpx.Response:
    return account.control_plane(
        "POST", CHECKOUT, {"org_slug": slug, "plan": "pro", **URLS, **body}, headers=session(account)
    )


def post(account: Account, event: dict[str, Any], secret: str, *, at: float | None = None) -> httpx.Response:
    """Post an event as Stripe would."""
    body = json.dumps(event).encode()
    header = signature([secret], body, at=int(time.time() if at is None else at))
    return account._client.post(
        account.environment["CONTROL_PLANE_URL"] + HOOK, content=body, headers={"stripe-signature": header}
    )


def copies(account: Account, event: str) -> int:
    """Return how often the control plane accepted an event."""
    found = [each["copies"] for each in account.inspect()["control_plane"]["events"] if each["id"] == event]
    return int(found[0]) if found else 0


@contextlib.contextmanager
def events_all_the_time(account: Account) -> Iterator[list[str]]:
    """Make events until the block ends."""
    made: list[str] = []
    end = threading.Event()

    def make() -> None:
        while not end.is_set():
            made.append(account.done("POST", "/v1/customers", {"name": "Somebody"})["id"])
            time.sleep(0.02)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield made
    finally:
        end.set()
        thread.join()


def all_settled(account: Account) -> list[dict[str, Any]]:
    """Return all events when none is pending."""

    def settled() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = account.inspect()["stripe"]["events"]
        return found if not any(event["pending"] for event in found) else None

    return until(settled, what="every event is accepted or given up")


# -- checkout ----------------------------------------------------------------------------------------------------------


def test_a_checkout_is_a_page_at_stripe_and_a_purge_forgets_the_customer(account: Account) -> None:
    assert account.provision("buyer-one") == "running"
    answer = buy(account, "buyer-one")
    assert answer.status_code == 200, answer.text
    assert answer.json()["url"].startswith("https://checkout.stripe.com/")
    made = account.done("GET", f"/v1/checkout/sessions/{answer.json()['id']}")
    assert (made["url"], made["livemode"], made["amount_total"]) == (answer.json()["url"], True, 9900)
    assert made["metadata"] == {"org_slug": "buyer-one", "plan": "pro"}
    again = account.done("GET", f"/v1/checkout/sessions/{buy(account, 'buyer-one', plan='starter').json()['id']}")
    assert again["customer"] == made["customer"]
    assert account.control_plane("DELETE", "/cp/orgs/buyer-one").status_code == 204
    assert account.done("GET", f"/v1/customers/{made['customer']}")["deleted"] is True
    events = [event for event in all_settled(account) if event["type"] in {"customer.created", "customer.deleted"}]
    assert [event["type"] for event in events] == ["customer.created", "customer.deleted"]
    assert all(event["accepted"] and copies(account, event["id"]) == 1 for event in events)


def test_who_may_buy_what(account: Account) -> None:
    assert account.provision("buyer-two") == "running"
    body = {"org_slug": "buyer-two", "plan": "pro", **URLS}
    for headers in ({}, {"cookie": "mcp_session=no"}, {"authorization": "Bearer x"}, None):
        assert account.control_plane("POST", CHECKOUT, body, headers=headers).status_code == 401
    assert buy(account, "buyer-two", plan="free").status_code == 400
    assert buy(account, "buyer-two", success_url="here").status_code == 400
    assert buy(account, "nobody").status_code == 404
    assert account.control_plane("DELETE", "/cp/orgs/buyer-two").status_code == 204


def test_with_a_dead_key_health_is_fine_and_a_checkout_fails_until_the_new_key_is_deployed(fresh: Account) -> None:
    assert fresh.provision("buyer") == "running"
    assert buy(fresh, "buyer").status_code == 200
    old = fresh.secret_value("STRIPE_API_KEY")
    new = fresh.dashboard("roll-key")
    assert fresh.control_plane("GET", "/health").status_code == 200
    answer = buy(fresh, "buyer")
    assert answer.status_code == 502
    assert f"Expired API Key provided: sk_live_****{old[-4:]}" in answer.text
    purge = fresh.control_plane("DELETE", "/cp/orgs/buyer")
    assert purge.status_code == 500
    refused = [each for each in fresh.inspect()["breakages"] if each["what"].startswith("stripe ")]
    assert any("/v1/checkout/sessions" in each["what"] and "401" in each["what"] for each in refused)
    assert all(each["consumer"].startswith("molecule-cp/") for each in refused)
    fresh.secrets(STRIPE_API_KEY=new)
    assert buy(fresh, "buyer").status_code == 502, "staged is not deployed"
    fresh.roll()
    assert buy(fresh, "buyer").status_code == 200
    assert fresh.control_plane("DELETE", "/cp/orgs/buyer").status_code == 204
    used = fresh.inspect()["fly"]["apps"]["molecule-cp"]["secrets"]["STRIPE_API_KEY"]["sha256"]
    live = [each for each in fresh.inspect()["credentials"] if each["sha256"] == used]
    assert [each["live"] for each in live] == [True]
    logs = fresh.fly("GET", "/api/v1/apps/molecule-cp/logs").text
    assert old[-4:] not in logs


def test_without_its_variables_billing_is_disabled_and_with_a_key_of_another_mode_it_is_noticed(fresh: Account) -> None:
    assert fresh.provision("buyer") == "running"
    fresh.secrets(STRIPE_API_KEY=fresh.dashboard("create-key", "--name", "test", "--test"))
    fresh.roll()
    answer = buy(fresh, "buyer").json()
    assert "/cs_test_" in answer["url"]
    assert fresh.stripe("GET", f"/v1/checkout/sessions/{answer['id']}").status_code == 404
    fresh.secrets(STRIPE_API_KEY=None)
    fresh.roll()
    assert buy(fresh, "buyer").status_code == 503
    assert post(fresh, {"id": "evt_1", "type": "x"}, fresh.secret_value("STRIPE_WEBHOOK_SECRET")).status_code == 503


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_signature_is_checked_and_an_event_counts_once(account: Account) -> None:
    secret = account.secret_value("STRIPE_WEBHOOK_SECRET")
    breakages = len(account.inspect()["breakages"])
    event = {"id": "evt_probe", "type": "customer.subscription.updated"}
    refused = post(account, event, "whsec_other")
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid signature"})
    assert post(account, event, secret, at=time.time() - 400).status_code == 400
    assert post(account, event, secret, at=time.time() + 400).status_code == 400
    url = account.environment["CONTROL_PLANE_URL"] + HOOK
    assert account._client.post(url, content=b"{}").status_code == 400
    assert account._client.post(url, content=b"x" * (1 << 20) + b"x").status_code == 413
    assert copies(account, "evt_probe") == 0
    assert [post(account, event, secret).status_code for _ in range(2)] == [200, 200]
    assert copies(account, "evt_probe") == 2
    assert len(account.inspect()["breakages"]) == breakages, "whoever posts nonsense breaks nothing"
    assert account.inspect()["stripe"]["lost"] == 0
    logs = account.fly("GET", "/api/v1/apps/molecule-cp/logs").text
    assert "400 invalid signature" in logs
    assert secret not in logs


def test_any_good_signature_counts_and_other_schemes_do_not() -> None:
    body, now = b"{}", 1_700_000_000
    good = signature(["whsec_a"], body, at=now)
    two = signature(["whsec_b", "whsec_a"], body, at=now)
    for header, accepted in {
        good: True,
        two: True,
        good.replace("v1=", "v0="): False,
        signature(["whsec_b"], body, at=now): False,
        good.partition(",")[2]: False,
        "t=now,v1=x": False,
        "": False,
    }.items():
        assert billing.signed(body, header, "whsec_a", now=now) is accepted, header
    assert billing.signed(body, good, "whsec_a", now=now + 300)
    assert not billing.signed(body, good, "whsec_a", now=now + 301)
    assert not billing.signed(b"{ }", good, "whsec_a", now=now)


def test_a_rotation_with_a_second_endpoint_loses_nothing_and_tells_everything_twice(fresh: Account) -> None:
    old = fresh.environment["STRIPE_WEBHOOK_ENDPOINT_ID"]
    with events_all_the_time(fresh) as made:
        before = fresh.done("GET", f"{ENDPOINTS}/{old}")
        new = fresh.endpoint(before["url"], *before["enabled_events"])
        count = len(made)
        until(lambda: len(made) > count + 1, what="something happens that only the old secret opens")
        fresh.secrets(STRIPE_WEBHOOK_SECRET=new["secret"])
        fresh.roll()
        count = len(made)
        until(lambda: len(made) > count + 3, what="more happens")
        fresh.done("DELETE", f"{ENDPOINTS}/{old}")
        until(lambda: len(made) > count + 6, what="more happens")
    events = all_settled(fresh)
    assert len(events) == len(made)
    assert all(event["accepted"] for event in events)
    assert {each["endpoint"] for event in events for each in event["deliveries"] if each["status"] == 400} == {
        old,
        new["id"],
    }
    assert all(copies(fresh, event["id"]) >= 1 for event in events)
    assert fresh.inspect()["stripe"]["lost"] == 0
    assert fresh.inspect()["breakages"] == []


def test_a_rotation_of_the_secret_with_an_overlap_loses_nothing(fresh: Account) -> None:
    with events_all_the_time(fresh) as made:
        new = fresh.dashboard("roll-webhook-secret")
        fresh.secrets(STRIPE_WEBHOOK_SECRET=new)
        fresh.roll()
        fresh.dashboard("expire-webhook-secret")
        count = len(made)
        until(lambda: len(made) > count + 3, what="more happens")
    events = all_settled(fresh)
    statuses = {each["status"] for event in events for each in event["deliveries"]}
    assert statuses == {200}, "not even a retry"
    assert {each["signatures"] for event in events for each in event["deliveries"]} >= {1, 2}
    assert all(copies(fresh, event["id"]) == 1 for event in events)
    assert fresh.inspect()["breakages"] == []
    used = fresh.inspect()["fly"]["apps"]["molecule-cp"]["secrets"]["STRIPE_WEBHOOK_SECRET"]["sha256"]
    live = [each for each in fresh.inspect()["credentials"] if each["sha256"] == used]
    assert [(each["live"], each["id"]) for each in live] == [
        (True, f"{fresh.environment['STRIPE_WEBHOOK_ENDPOINT_ID']}.2")
    ]
    assert used == sha256(new)


def test_a_secret_that_is_rolled_without_telling_the_control_plane_loses_events(fresh: Account) -> None:
    fresh.dashboard("roll-webhook-secret", "--overlap", "0")
    with fresh.setting(stripe__attempts=2):
        event = fresh.settled(fresh.dashboard("emit", "customer.subscription.updated"))
    assert [each["status"] for each in event["deliveries"]] == [400, 400]
    assert event["lost"]
    assert fresh.inspect()["stripe"]["lost"] == 1
    assert [(each["consumer"], event["id"] in each["what"]) for each in fresh.inspect()["breakages"]] == [
        ("molecule-cp", True)
    ]


def test_an_endpoint_that_is_deleted_before_there_is_another_loses_events(fresh: Account) -> None:
    old = fresh.environment["STRIPE_WEBHOOK_ENDPOINT_ID"]
    before = fresh.done("GET", f"{ENDPOINTS}/{old}")
    fresh.done("DELETE", f"{ENDPOINTS}/{old}")
    unheard = fresh.event(fresh.dashboard("emit", "customer.deleted"))
    assert (unheard["lost"], unheard["deliveries"]) == (True, [])
    assert len(fresh.inspect()["breakages"]) == 1
    new = fresh.endpoint(before["url"], *before["enabled_events"])
    pending = fresh.dashboard("emit", "customer.deleted")
    fresh.secrets(STRIPE_WEBHOOK_SECRET=new["secret"])
    fresh.roll()
    assert fresh.settled(pending)["accepted"], "what was refused meanwhile is told again"
    assert fresh.inspect()["stripe"]["lost"] == 1


def test_an_event_waits_while_the_control_plane_is_away(fresh: Account) -> None:
    machine = fresh.machines()[0]["id"]
    fresh.quickly("set", "proxy_patience=0.1", "stripe.retry_delay=0.2")
    fresh.fly("POST", f"/v1/apps/molecule-cp/machines/{machine}/stop")
    until(lambda: fresh.machine(machine)["state"] == "stopped", what="it is stopped")
    event = fresh.dashboard("emit", "customer.deleted")
    until(lambda: fresh.event(event)["deliveries"], what="an attempt")
    fresh.fly("POST", f"/v1/apps/molecule-cp/machines/{machine}/start")
    state = fresh.settled(event)
    assert state["deliveries"][0]["status"] == 503
    assert state["accepted"]
    assert copies(fresh, event) == 1
