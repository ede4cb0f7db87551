"""Does the sandbox's Stripe answer and tell as Stripe does: keys, endpoints, signatures, retries, idempotency?"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
import stripe

from sandbox import stripe as service
from sandbox.stripe import checkout, forms, keys, wire
from sandbox.stripe.fixtures import make
from sandbox.stripe.keys import Realm
from sandbox.world import SandboxError, World, sha256
from tests.sandbox.running import run, until
from tests.sandbox.stripe_support import ENDPOINTS, Account, Receiver, signatures
from tests.unit.descriptions import load, translate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BALANCE = "/v1/balance"
CUSTOMERS = "/v1/customers"
SESSIONS = "/v1/checkout/sessions"
CHECKOUT = {
    "mode": "payment",
    "success_url": "https://example.com/done",
    "line_items[0][quantity]": "2",
    "line_items[0][price_data][currency]": "usd",
    "line_items[0][price_data][unit_amount]": "500",
    "line_items[0][price_data][product_data][name]": "Thing",
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    account = Account(tmp_path_factory.mktemp("stripe"))
    account.start()
    yield account
    account.stop()


@pytest.fixture(scope="module")
def test_key(account: Account) -> str:
    return account.dashboard("create-key", "--name", "tests", "--test")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


# -- who is asking -----------------------------------------------------------------------------------------------------


def test_both_schemes_authenticate_and_answers_name_request_and_version(account: Account) -> None:
    key = account.environment["STRIPE_API_KEY"]
    assert key.startswith("sk_live_")
    answer = account.stripe("GET", BALANCE, headers={"stripe-version": "2026-10-28.endive"})
    assert answer.json()["livemode"] is True
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["stripe-version"] == "2026-10-28.endive"
    basic = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    answer = account.stripe("GET", "/v1/account", headers={"authorization": basic})
    assert answer.json()["id"] == account.environment["STRIPE_ACCOUNT_ID"]
    assert account.stripe("GET", BALANCE, headers={"stripe-version": "yesterday"}).status_code == 400


@pytest.mark.parametrize("authorization", ["", "Basic !", "Basic", "Digest x", "Bearer"])
def test_without_a_key_the_answer_is_401(account: Account, authorization: str) -> None:
    answer = account.stripe("GET", BALANCE, headers={"authorization": authorization})
    assert answer.status_code == 401
    assert "code" not in answer.json()["error"]
    assert "did not provide an API key" in answer.json()["error"]["message"]


def test_a_key_that_never_was_is_refused_without_a_code(account: Account) -> None:
    answer = account.stripe("GET", BALANCE, key="sk_live_neverabcd")
    assert (answer.status_code, answer.json()["error"]) == (
        401,
        {"message": "Invalid API Key provided: sk_live_****abcd", "type": "invalid_request_error"},
    )
    secret = account.endpoint("https://example.com/none")
    assert account.stripe("GET", BALANCE, key=secret["secret"]).status_code == 401, "a signing secret is no key"
    account.done("DELETE", f"{ENDPOINTS}/{secret['id']}")


def test_a_rolled_key_is_refused_at_once_or_after_its_time_and_its_successor_works(account: Account) -> None:
    old = account.dashboard("create-key", "--name", "rolled")
    new = account.dashboard("roll-key", "--name", "rolled")
    refused = account.stripe("GET", BALANCE, key=old)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "api_key_expired"
    assert refused.json()["error"]["message"] == f"Expired API Key provided: sk_live_****{old[-4:]}"
    assert account.stripe("GET", BALANCE, key=new).status_code == 200

    newest = account.dashboard("roll-key", "--name", "rolled", "--expires-in", "2")
    assert [account.stripe("GET", BALANCE, key=key).status_code for key in (new, newest)] == [200, 200]
    states = {each["sha256"]: each for each in account.inspect()["credentials"] if each["name"] == "rolled"}
    assert states[sha256(new)]["expires_at"] is not None
    assert (states[sha256(old)]["live"], states[sha256(newest)]["live"]) == (False, True)
    assert {each["family"] for each in states.values()} == {"rolled"}
    until(lambda: account.stripe("GET", BALANCE, key=new).status_code == 401, what="the old key's time is over")
    assert account.stripe("GET", BALANCE, key=newest).status_code == 200


def test_the_time_of_an_old_key_can_be_ended(account: Account) -> None:
    shown = run("stripe", "create-key", "--dir", str(account.directory), "--name", "ended")
    assert (shown.returncode, shown.stderr) == (0, "")
    old = shown.stdout.strip()
    account.dashboard("roll-key", "--name", "ended", "--expires-in", "600")
    assert account.stripe("GET", BALANCE, key=old).status_code == 200
    account.dashboard("expire-key", "--name", "ended")
    assert account.stripe("GET", BALANCE, key=old).status_code == 401


def test_a_restricted_key_may_do_what_it_may(account: Account) -> None:
    key = account.dashboard("create-key", "--name", "weak", "--permission", "rak_customer_write")
    assert key.startswith("rk_live_")
    refused = account.stripe("GET", BALANCE, key=key)
    assert refused.status_code == 403
    assert "'rak_balance_read' permission" in refused.json()["error"]["message"]
    assert key not in refused.text
    assert account.stripe("GET", CUSTOMERS, key=key).status_code == 200, "who may write may read"
    reader = account.dashboard("create-key", "--name", "reader", "--permission", "rak_customer_read")
    assert account.stripe("GET", CUSTOMERS, key=reader).status_code == 200
    assert account.stripe("POST", CUSTOMERS, {"name": "no"}, key=reader).status_code == 403


def test_modes_and_accounts_do_not_see_each_other(account: Account, test_key: str) -> None:
    customer = account.done("POST", CUSTOMERS, {"name": "Live"})
    path = f"{CUSTOMERS}/{customer['id']}"
    refused = account.stripe("GET", path, key=test_key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "resource_missing")
    assert "a similar object exists in live mode, but a test mode key" in refused.json()["error"]["message"]
    other = account.dashboard("create-key", "--name", "foreign", "--other-account")
    assert account.done("GET", "/v1/account", key=other)["id"] != account.environment["STRIPE_ACCOUNT_ID"]
    assert "similar" not in account.stripe("GET", path, key=other).text
    assert account.done("GET", "/v1/account", key=test_key)["id"] == account.environment["STRIPE_ACCOUNT_ID"]
    assert account.done("GET", BALANCE, key=test_key)["livemode"] is False
    assert account.stripe("GET", BALANCE, headers={"stripe-account": "acct_1other"}).status_code == 403


@pytest.mark.parametrize(("livemode", "limit"), [(True, 100), (False, 25)])
def test_the_limit_of_the_mode_holds_when_it_is_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, livemode: bool, limit: int
) -> None:
    """Within one moment of the limit's own clock, so that the requests come faster than it allows on any machine."""
    monkeypatch.setattr(wire, "time", SimpleNamespace(monotonic=lambda: 1.0))
    with contextlib.closing(World(tmp_path)) as world:
        service.install(world)
        realm = Realm(account=keys.create_account(world, name="a", email="a@example.com"), livemode=livemode)
        headers = {"authorization": f"Bearer {keys.issue(world, realm=realm, name='k')[1]}"}

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(service.application(world))
            async with httpx.AsyncClient(transport=transport, base_url="http://stripe", headers=headers) as client:
                return [await client.get(BALANCE) for _ in range(2 * limit)]

        assert {answer.status_code for answer in asyncio.run(ask())} == {200}
        world.set("rate_limits", "1")
        answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers[:limit]] == [200] * limit
    late = [answer for answer in answers if answer.status_code == 429]
    assert late
    assert late[0].json()["error"]["code"] == "rate_limit"
    assert late[0].headers["stripe-rate-limited-reason"]


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "parsed"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a[1]=2&a[0]=1", {"a": ["1", "2"]}),
        ("a%5Bb%5D%5Bc%5D=1&a[b][d][]=2", {"a": {"b": {"c": "1", "d": ["2"]}}}),
        ("i[0][p][x]=1&i[0][q]=2&i[1][q]=3", {"i": [{"p": {"x": "1"}, "q": "2"}, {"q": "3"}]}),
        ("i[][p]=1&i[][q]=2&i[][p]=3", {"i": [{"p": "1", "q": "2"}, {"p": "3"}]}),
    ],
)
def test_a_form_spells_a_tree(form: str, parsed: object) -> None:
    assert forms.parse(form) == parsed


@pytest.mark.parametrize("form", ["a[=1", "a]=1", "[a]=1", "a[b]=1&a=2", "a=1&a[b]=2", "a" + "[b]" * 20 + "=1"])
def test_a_form_that_spells_none_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|both|deep"):
        forms.parse(form)


def test_wrong_requests_are_refused_in_stripes_words(account: Account) -> None:
    def error(path: str, form: dict[str, str]) -> tuple[int, str | None, str | None]:
        answer = account.stripe("POST", path, form)
        return answer.status_code, answer.json()["error"].get("code"), answer.json()["error"].get("param")

    url = {"url": "https://example.com/x"}
    assert error(ENDPOINTS, {"enabled_events[]": "*"}) == (400, "parameter_missing", "url")
    assert error(ENDPOINTS, url) == (400, "parameter_missing", "enabled_events")
    assert error(ENDPOINTS, {**url, "enabled_events[]": "*", "secret": "x"}) == (400, "parameter_unknown", "secret")
    assert error(ENDPOINTS, {"url": "nowhere", "enabled_events[]": "*"}) == (400, "url_invalid", "url")
    assert error(ENDPOINTS, {**url, "enabled_events[]": "No Event"}) == (400, None, "enabled_events[0]")
    assert error(SESSIONS, {**CHECKOUT, "customer": "cus_none"}) == (400, "resource_missing", "customer")
    assert error(SESSIONS, {"mode": "payment", "success_url": "https://e.com"})[2] == "line_items"
    assert account.stripe("GET", "/v1/nothing").status_code == 404
    assert account.stripe("DELETE", BALANCE).status_code == 404
    assert account.stripe("GET", f"{CUSTOMERS}?limit=101").status_code == 400
    headers = {"content-type": "application/json"}
    assert account.stripe("POST", CUSTOMERS, {"name": "x"}, headers=headers).status_code == 400


def test_an_idempotency_key_replays_the_first_answer_with_its_secret_and_refuses_another_request(
    account: Account,
) -> None:
    form = {"url": "https://example.com/once", "enabled_events[]": "customer.created"}
    headers = {"idempotency-key": "once-only"}
    assert account.stripe("POST", ENDPOINTS, {**form, "enabled_events[]": "?"}, headers=headers).status_code == 400
    first = account.stripe("POST", ENDPOINTS, form, headers=headers)
    again = account.stripe("POST", ENDPOINTS, form, headers=headers)
    assert first.json() == again.json()
    assert first.json()["secret"].startswith("whsec_")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"] != again.headers["request-id"]
    assert "idempotent-replayed" not in first.headers
    others = [
        account.stripe("POST", ENDPOINTS, {**form, "description": "x"}, headers=headers),
        account.stripe("POST", CUSTOMERS, form, headers=headers),
        account.stripe("POST", ENDPOINTS, form, headers={"idempotency-key": "x" * 256}),
    ]
    for other in others:
        assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
    urls = [each["url"] for each in account.done("GET", ENDPOINTS)["data"]]
    assert urls.count(form["url"]) == 1
    account.done("DELETE", f"{ENDPOINTS}/{first.json()['id']}")


def test_lists_come_in_pages(account: Account, test_key: str) -> None:
    made = [account.done("POST", CUSTOMERS, {"name": str(n)}, key=test_key)["id"] for n in range(5)][::-1]

    def page(query: str) -> tuple[list[str], bool]:
        found = account.done("GET", f"{CUSTOMERS}?{query}", key=test_key)
        return [each["id"] for each in found["data"]], found["has_more"]

    assert page("limit=2") == (made[:2], True)
    assert page(f"limit=3&starting_after={made[1]}") == (made[2:], False)
    assert page(f"limit=1&ending_before={made[2]}") == ([made[1]], True)
    assert account.stripe("GET", f"{CUSTOMERS}?starting_after=cus_none", key=test_key).status_code == 400
    client = stripe.StripeClient(test_key, base_addresses={"api": account.environment["STRIPE_API_BASE_URL"]})
    listed = client.v1.customers.list({"limit": 2})
    assert [customer.id for customer in listed.auto_paging_iter()] == made


# -- endpoints and events ----------------------------------------------------------------------------------------------


def test_an_endpoint_shows_its_secret_once(account: Account) -> None:
    made = account.endpoint(
        "https://example.com/a", "customer.created", description="molecule-cp-rotation-t-STRIPE_WEBHOOK_SECRET-g2"
    )
    path = f"{ENDPOINTS}/{made['id']}"
    secret = made.pop("secret")
    assert account.done("GET", path) == made
    changed = account.done("POST", path, {"metadata[a]": "1", "metadata[b]": "2", "disabled": "true"})
    assert changed == {**made, "metadata": {"a": "1", "b": "2"}, "status": "disabled"}
    assert account.done("POST", path, {"metadata[a]": ""})["metadata"] == {"b": "2"}
    credential = next(each for each in account.inspect()["credentials"] if each["id"] == made["id"])
    assert credential["sha256"] == sha256(secret)
    assert (credential["provider"], credential["live"]) == ("stripe", True)
    assert credential["family"] == "molecule-cp-rotation-t-STRIPE_WEBHOOK_SECRET"
    assert account.done("DELETE", path) == {"id": made["id"], "object": "webhook_endpoint", "deleted": True}
    assert account.stripe("GET", path).status_code == 404
    credential = next(each for each in account.inspect()["credentials"] if each["id"] == made["id"])
    assert not credential["live"]


def test_there_are_at_most_sixteen_endpoints(account: Account, test_key: str) -> None:
    made = [account.endpoint("https://example.com/many", key=test_key)["id"] for _ in range(16)]
    refused = account.stripe("POST", ENDPOINTS, {"url": "https://e.com", "enabled_events[]": "*"}, key=test_key)
    assert refused.status_code == 400
    assert "maximum of 16 test webhook endpoints" in refused.json()["error"]["message"]
    for identifier in made:
        account.done("DELETE", f"{ENDPOINTS}/{identifier}", key=test_key)


def test_what_happens_is_told_to_who_wants_to_know_and_the_vendors_library_believes_it(
    account: Account, test_key: str, receiver: Receiver
) -> None:
    made = account.endpoint(receiver.url, "customer.created", key=test_key, api_version="2025-01-27.acacia")
    customer = account.done("POST", CUSTOMERS, {"name": "Told"}, key=test_key)
    account.done("DELETE", f"{CUSTOMERS}/{customer['id']}", key=test_key)
    delivery = until(lambda: receiver.deliveries[0] if receiver.deliveries else None, what="it is told")
    construct: Any = stripe.Webhook.construct_event
    event = construct(delivery.body, delivery.signature, made["secret"])
    assert (event.type, event.data.object.id, event.livemode) == ("customer.created", customer["id"], False)
    assert event.api_version == "2025-01-27.acacia"
    with pytest.raises(stripe.SignatureVerificationError):
        construct(delivery.body, delivery.signature, "whsec_other")
    with pytest.raises(stripe.SignatureVerificationError):
        construct(delivery.body + b" ", delivery.signature, made["secret"])
    account.settled(event.id)
    assert len(receiver.deliveries) == 1, "nobody is told what they did not ask for"
    account.done("POST", f"{ENDPOINTS}/{made['id']}", {"disabled": "true"}, key=test_key)
    account.done("POST", CUSTOMERS, {"name": "Silent"}, key=test_key)
    types = [event["type"] for event in account.done("GET", "/v1/events?limit=3", key=test_key)["data"]]
    assert types == ["customer.created", "customer.deleted", "customer.created"]
    time.sleep(0.2)
    assert len(receiver.deliveries) == 1
    account.done("DELETE", f"{ENDPOINTS}/{made['id']}", key=test_key)


def test_during_an_overlap_events_carry_a_signature_for_each_secret(account: Account, receiver: Receiver) -> None:
    made = account.endpoint(receiver.url, "customer.subscription.updated")
    construct: Any = stripe.Webhook.construct_event

    def signed_by() -> tuple[str, str]:
        event = account.dashboard("emit", "customer.subscription.updated")
        delivery = until(lambda: next(iter(receiver.heard(event)), None), what="it is told")
        attempt = next(a for a in account.settled(event)["deliveries"] if a["endpoint"] == made["id"])
        assert attempt["signatures"] == len(list(signatures(delivery.signature)))
        good = []
        for name, secret in (("old", made["secret"]), ("new", new)):
            try:
                construct(delivery.body, delivery.signature, secret)
            except stripe.SignatureVerificationError:
                continue
            good.append(name)
        return " ".join(good), str(attempt["signatures"])

    new = ""
    assert signed_by() == ("old", "1")
    new = account.dashboard("roll-webhook-secret", "--endpoint", made["id"])
    assert new != made["secret"]
    assert signed_by() == ("old new", "2")
    shown = next(each for each in account.inspect()["stripe"]["endpoints"] if each["id"] == made["id"])
    assert shown["secrets_sha256"] == [sha256(new), sha256(made["secret"])]
    account.dashboard("expire-webhook-secret", "--endpoint", made["id"])
    assert signed_by() == ("new", "1")
    made["secret"] = new
    new = account.dashboard("roll-webhook-secret", "--endpoint", made["id"], "--overlap", "0")
    assert signed_by() == ("new", "1")
    made["secret"] = new
    new = account.dashboard("roll-webhook-secret", "--endpoint", made["id"], "--overlap", "1")
    until(lambda: signed_by() == ("new", "1"), what="the overlap is over")
    account.done("DELETE", f"{ENDPOINTS}/{made['id']}")


def test_a_delivery_is_tried_until_it_is_accepted(account: Account, test_key: str, receiver: Receiver) -> None:
    made = account.endpoint(receiver.url, key=test_key)
    receiver.status = 302
    event = account.dashboard("emit", "customer.created", "--test")
    until(lambda: len(receiver.heard(event)) >= 2, what="it is tried again")
    state = account.event(event)
    assert (state["accepted"], state["lost"], state["pending"]) == (False, False, 1)
    assert account.done("GET", f"/v1/events/{event}", key=test_key)["pending_webhooks"] == 1
    receiver.status = 204
    state = account.settled(event)
    assert [attempt["status"] for attempt in state["deliveries"]][-2:] == [302, 204]
    assert state["accepted"]
    assert account.done("GET", f"/v1/events/{event}", key=test_key)["pending_webhooks"] == 0
    account.done("DELETE", f"{ENDPOINTS}/{made['id']}", key=test_key)


def test_an_endpoint_that_is_disabled_is_not_told_again(account: Account, test_key: str, receiver: Receiver) -> None:
    made = account.endpoint(receiver.url, key=test_key)
    receiver.status = 500
    with account.setting(stripe__attempts=1000):
        event = account.dashboard("emit", "customer.created", "--test")
        until(lambda: receiver.heard(event), what="the first attempt")
        account.done("POST", f"{ENDPOINTS}/{made['id']}", {"disabled": "true"}, key=test_key)
        assert account.settled(event)["lost"]
    account.done("DELETE", f"{ENDPOINTS}/{made['id']}", key=test_key)


def test_an_event_that_nobody_ever_accepts_is_lost(account: Account, test_key: str, receiver: Receiver) -> None:
    lost = account.inspect()["stripe"]["lost"]
    made = account.endpoint(receiver.url, "customer.deleted", key=test_key)
    receiver.status = 500
    with account.setting(stripe__attempts=2):
        given_up = account.settled(account.dashboard("emit", "customer.deleted", "--test"))
    assert [attempt["status"] for attempt in given_up["deliveries"]] == [500, 500]
    assert given_up["lost"]
    pending = account.dashboard("emit", "customer.deleted", "--test")
    account.done("DELETE", f"{ENDPOINTS}/{made['id']}", key=test_key)
    assert account.event(pending)["lost"], "whoever would have been tried again is gone"
    assert account.event(account.dashboard("emit", "customer.deleted", "--test"))["lost"], "nobody is told"
    assert account.inspect()["stripe"]["lost"] == lost + 3
    assert not any("was never accepted" in each["what"] for each in account.inspect()["breakages"])


def test_there_are_only_events_that_can_be_made_up() -> None:
    with pytest.raises(SandboxError, match=r"customer\.subscription\.updated"):
        make(Realm(account="acct_1", livemode=True), "invoice.paid", now=0)


# -- the vendor's library and description ------------------------------------------------------------------------------


def test_the_vendors_library_works_unchanged(account: Account) -> None:
    client = stripe.StripeClient(
        account.environment["STRIPE_API_KEY"], base_addresses={"api": account.environment["STRIPE_API_BASE_URL"]}
    )
    customer = client.v1.customers.create({"name": "Ada", "metadata": {"org": "one"}}, {"idempotency_key": "ada"})
    assert client.v1.customers.create({"name": "Ada", "metadata": {"org": "one"}}, {"idempotency_key": "ada"}).id == (
        customer.id
    )
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "Eve"}, {"idempotency_key": "ada"})
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "success_url": "https://example.com/done",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 100,
                        "product_data": {"name": "x"},
                        "recurring": {"interval": "month"},
                    },
                }
            ],
        }
    )
    assert session.url is not None
    assert session.url.startswith("https://checkout.stripe.com/c/pay/cs_live_")
    assert client.v1.checkout.sessions.expire(session.id).url is None
    assert client.v1.customers.update(customer.id, {"name": "Countess"}).name == "Countess"
    client.v1.customers.delete(customer.id)
    assert getattr(client.v1.customers.retrieve(customer.id), "deleted", False) is True
    endpoint = client.v1.webhook_endpoints.create({"url": "https://example.com/sdk", "enabled_events": ["*"]})
    assert endpoint.secret is not None
    client.v1.webhook_endpoints.update(endpoint.id, {"enabled_events": ["customer.created", "customer.deleted"]})
    assert client.v1.webhook_endpoints.retrieve(endpoint.id).enabled_events == ["customer.created", "customer.deleted"]
    client.v1.webhook_endpoints.delete(endpoint.id)
    wrong = stripe.StripeClient("sk_live_no", base_addresses={"api": account.environment["STRIPE_API_BASE_URL"]})
    with pytest.raises(stripe.AuthenticationError):
        wrong.v1.balance.retrieve()


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return load("stripe-subset")


def check(description: dict[str, Any], schema: object, body: object) -> None:
    """Validate a body; members that the description does not know are refused where it names any."""
    components = translate(description["components"])
    jsonschema.Draft202012Validator({"components": components, "allOf": [translate(schema)]}).validate(body)
    if isinstance(schema, dict) and "$ref" in schema and isinstance(body, dict):
        named = description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        assert body.keys() <= named.keys(), body.keys() - named.keys()


def test_answers_fit_stripes_own_description(account: Account, description: dict[str, Any]) -> None:
    def answer(method: str, template: str, path: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        body: dict[str, Any] = account.done(method, path, form)
        responses = description["paths"][template][method.lower()]["responses"]
        check(description, responses["200"]["content"]["application/json"]["schema"], body)
        return body

    def component(name: str, body: object) -> None:
        check(description, {"$ref": f"#/components/schemas/{name}"}, body)

    one, session = f"{ENDPOINTS}/{{webhook_endpoint}}", f"{SESSIONS}/{{session}}"
    answer("GET", "/v1/account", "/v1/account")
    answer("GET", BALANCE, BALANCE)
    made = answer("POST", ENDPOINTS, ENDPOINTS, {"url": "https://example.com/d", "enabled_events[]": "*"})
    answer("GET", ENDPOINTS, ENDPOINTS)
    answer("GET", one, f"{ENDPOINTS}/{made['id']}")
    answer("POST", one, f"{ENDPOINTS}/{made['id']}", {"description": "d"})
    answer("DELETE", one, f"{ENDPOINTS}/{made['id']}")
    opened = answer("POST", SESSIONS, SESSIONS, CHECKOUT)
    assert opened["amount_total"] == 1000
    answer("GET", session, f"{SESSIONS}/{opened['id']}")
    answer("POST", f"{session}/expire", f"{SESSIONS}/{opened['id']}/expire")
    answer("GET", SESSIONS, SESSIONS)
    event = account.dashboard("emit", "customer.subscription.updated")
    shown = answer("GET", "/v1/events/{id}", f"/v1/events/{event}")
    component("subscription", shown["data"]["object"])
    answer("GET", "/v1/events", "/v1/events")
    customer = account.done("POST", CUSTOMERS, {"name": "n", "email": "n@example.com"})
    component("customer", customer)
    component("deleted_customer", account.done("DELETE", f"{CUSTOMERS}/{customer['id']}"))
    component("error", account.stripe("GET", BALANCE, key="sk_live_no").json())
    form = description["paths"][SESSIONS]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    assert checkout.OPERATIONS[0].parameters == frozenset(form["schema"]["properties"]) - {"expand"}


def test_the_description_check_can_fail(description: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/deleted_customer"}
    with pytest.raises(jsonschema.ValidationError):
        check(description, schema, {"id": "cus_1", "object": "customer"})
    with pytest.raises(AssertionError):
        check(description, schema, {"id": "cus_1", "object": "customer", "deleted": True, "more": 1})


# -- over a restart ----------------------------------------------------------------------------------------------------


def test_nothing_is_lost_over_a_restart_and_nothing_is_readable(tmp_path: Path, receiver: Receiver) -> None:
    account = Account(tmp_path / "sandbox")
    account.start()
    try:
        old = account.dashboard("create-key", "--name", "k")
        new = account.dashboard("roll-key", "--name", "k")
        receiver.status = 500
        form = {"url": receiver.url, "enabled_events[]": "*"}
        headers = {"idempotency-key": "over-a-restart"}
        made = account.stripe("POST", ENDPOINTS, form, headers=headers).json()
        rolled = account.dashboard("roll-webhook-secret", "--endpoint", made["id"])
        account.quickly("set", "stripe.retry_delay=1")
        customer = account.done("POST", CUSTOMERS, {"name": "Kept"})
        until(lambda: receiver.deliveries, what="the first attempt")
        held = [account.secret_value(name) for name in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET")]
        environment = dict(account.environment)
        before = account.inspect()
        account.stop()
        receiver.status = 200
        assert account.inspect()["breakages"] == before["breakages"] == []
        values = [old, new, made["secret"], rolled, environment["STRIPE_API_KEY"], *held]
        assert len(set(values)) == 7
        for path in account.directory.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not [value for value in values if value.encode() in content], path

        account.start()
        assert account.environment == environment
        event = account.inspect()["stripe"]["events"][0]
        state = account.settled(event["id"])
        assert [a["status"] for a in state["deliveries"] if a["endpoint"] == made["id"]][-1] == 200
        assert len(list(signatures(receiver.deliveries[-1].signature))) == 2
        assert account.stripe("GET", BALANCE, key=old).json()["error"]["code"] == "api_key_expired"
        assert account.stripe("GET", BALANCE, key=new).status_code == 200
        assert account.done("GET", f"{CUSTOMERS}/{customer['id']}")["name"] == "Kept"
        assert account.stripe("POST", ENDPOINTS, form, headers=headers).json() == made
        assert account.inspect()["stripe"]["lost"] == 0
    finally:
        account.stop()
