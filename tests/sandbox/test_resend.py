"""Resend: keys and their permissions, domains, and emails from queued to delivered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import resend

from components.resend.client import ResendClient
from components.resend.sender import SenderAddresses
from tests.sandbox.checks import run_check
from tests.sandbox.running import until
from tests.unit.descriptions import load

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import httpx

    from tests.sandbox.running import Sandbox

DESCRIPTION = load("resend")
DOMAIN = "moleculesai.app"
EMAIL = {
    "from": f"Molecule AI <noreply@{DOMAIN}>",
    "to": ["delivered@resend.dev"],
    "subject": "Hello",
    "text": "Hello",
    "tags": [{"name": "organization", "value": "acme"}],
}
DEAD = {"statusCode": 400, "message": "API key is invalid", "name": "validation_error"}


def good(answer: httpx.Response, method: str, path: str, status: int = 200) -> Any:  # noqa: ANN401 - any JSON
    """Return the answer's JSON after checking it against Resend's description.

    That requires nothing; here each member that it describes must be there, except the optional ones of an email.
    """
    assert answer.status_code == status, answer.text
    operation = DESCRIPTION["paths"][path][method.lower()]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    body = answer.json()
    jsonschema.validate(body, {**schema, "components": DESCRIPTION["components"]}, jsonschema.Draft202012Validator)
    described = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    optional = {"html", "text", "tracking_subdomain"}
    assert set(described) - optional <= set(body), path
    for item in body.get("data", []):
        item_schema = described["data"]["items"]["$ref"].rpartition("/")[2]
        members = set(DESCRIPTION["components"]["schemas"][item_schema]["properties"])
        assert members - optional - {"object"} <= set(item), path
    return body


def mint(sandbox: Sandbox, name: str = "test", **body: object) -> dict[str, Any]:
    answer = sandbox.resend("POST", "/api-keys", {"name": name, **body})
    key: dict[str, Any] = good(answer, "POST", "/api-keys", 201)
    return key


def domain_id(sandbox: Sandbox) -> str:
    domains = good(sandbox.resend("GET", "/domains"), "GET", "/domains")["data"]
    return str(next(domain["id"] for domain in domains if domain["name"] == DOMAIN))


def error(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"statusCode", "message", "name"}
    assert body["statusCode"] == answer.status_code
    return answer.status_code, body["name"]


def test_a_key_from_its_creation_to_its_end(sandbox: Sandbox) -> None:
    key = mint(sandbox, "life")
    assert key["token"].startswith("re_")

    def listed() -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = good(sandbox.resend("GET", "/api-keys"), "GET", "/api-keys")["data"]
        return [each for each in data if each["id"] == key["id"]]

    assert listed()[0]["last_used_at"] is None
    good(sandbox.resend("GET", "/domains?limit=1", key=key["token"]), "GET", "/domains")
    assert listed()[0]["last_used_at"] is not None
    assert "permission" not in listed()[0]
    path = "/api-keys/{api_key_id}"
    good(sandbox.resend("PATCH", f"/api-keys/{key['id']}", {"name": "molecule-x-g1"}), "PATCH", path)
    assert listed()[0]["name"] == "molecule-x-g1"
    # It deletes itself: nothing stops it.
    deleted = good(sandbox.resend("DELETE", f"/api-keys/{key['id']}", key=key["token"]), "DELETE", path)
    assert deleted == {"object": "api_key", "id": key["id"], "deleted": True}
    assert listed() == []
    assert error(sandbox.resend("DELETE", f"/api-keys/{key['id']}")) == (404, "not_found")
    assert sandbox.resend("GET", "/domains", key=key["token"]).json() == DEAD


def test_a_dead_key_is_answered_as_chosen(sandbox: Sandbox) -> None:
    for key in ("re_wrong", mint(sandbox)["token"]):
        if key != "re_wrong":
            identifier = sandbox.resend("GET", "/api-keys").json()["data"][0]["id"]
            assert sandbox.resend("DELETE", f"/api-keys/{identifier}").status_code == 200
        assert sandbox.resend("GET", "/domains", key=key).json() == DEAD
        assert sandbox.resend("POST", "/emails", EMAIL, key=key).json() == DEAD
        with sandbox.setting(resend__dead_key_status=401):
            assert error(sandbox.resend("GET", "/domains", key=key)) == (401, "validation_error")
        with sandbox.setting(resend__dead_key_status=403):
            assert error(sandbox.resend("GET", "/domains", key=key)) == (403, "invalid_api_key")
    assert error(sandbox.resend("GET", "/domains", key="")) == (401, "missing_api_key")


def test_a_sending_key_only_sends_and_only_from_its_domain(sandbox: Sandbox) -> None:
    key = mint(sandbox, permission="sending_access", domain_id=domain_id(sandbox))["token"]
    for method, path in (("GET", "/domains"), ("GET", "/api-keys"), ("POST", "/api-keys"), ("GET", "/emails")):
        answer = sandbox.resend(method, path, key=key)
        assert error(answer) == (401, "restricted_api_key")
        assert answer.json()["message"] == "This API key is restricted to only send emails"
    sent = good(sandbox.resend("POST", "/emails", EMAIL, key=key), "POST", "/emails")
    assert error(sandbox.resend("GET", f"/emails/{sent['id']}", key=key)) == (401, "restricted_api_key")
    other = good(sandbox.resend("POST", "/domains", {"name": "other.example"}), "POST", "/domains", 201)
    assert other["status"] == "not_started"
    verified = sandbox.resend("POST", f"/domains/{other['id']}/verify")
    good(verified, "POST", "/domains/{domain_id}/verify")
    until(
        lambda: sandbox.resend("GET", f"/domains/{other['id']}").json()["status"] == "verified", what="it is verified"
    )
    answer = sandbox.resend("POST", "/emails", {**EMAIL, "from": "a@other.example"}, key=key)
    assert answer.status_code == 403
    assert answer.json()["message"] == "This API key is not authorized to send emails from other.example"
    good(sandbox.resend("POST", "/emails", {**EMAIL, "from": "a@other.example"}), "POST", "/emails")
    good(sandbox.resend("DELETE", f"/domains/{other['id']}"), "DELETE", "/domains/{domain_id}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "missing_required_field")),
        ({"name": "x" * 51}, (422, "validation_error")),
        ({"name": "n", "permission": "all"}, (422, "invalid_access")),
        ({"name": "n", "permission": "sending_access", "domain_id": "no"}, (404, "not_found")),
    ],
)
def test_a_wrong_key_is_not_made(sandbox: Sandbox, body: dict[str, Any], expected: tuple[int, str]) -> None:
    assert error(sandbox.resend("POST", "/api-keys", body)) == expected


def test_the_domain_and_what_can_be_wrong_with_it(sandbox: Sandbox) -> None:
    path = f"/domains/{domain_id(sandbox)}"
    domain = good(sandbox.resend("GET", path), "GET", "/domains/{domain_id}")
    assert domain["status"] == "verified"
    assert {record["record"] for record in domain["records"]} == {"SPF", "DKIM"}
    assert {record["status"] for record in domain["records"]} == {"verified"}
    message = f"The {DOMAIN} domain is not verified. Please, add and verify your domain on https://resend.com/domains"
    for setting, status in (("resend__domain_unverified", "pending"), ("resend__domain_failed", "failed")):
        with sandbox.setting(**{setting: DOMAIN}):
            domain = good(sandbox.resend("GET", path), "GET", "/domains/{domain_id}")
            assert domain["status"] == status
            records = {(record["record"], record["type"]): record["status"] for record in domain["records"]}
            spf = "verified" if status == "pending" else status
            assert records == {("SPF", "MX"): spf, ("SPF", "TXT"): spf, ("DKIM", "TXT"): status}
            answer = sandbox.resend("POST", "/emails", EMAIL)
            assert (error(answer), answer.json()["message"]) == ((403, "validation_error"), message)
    unknown = sandbox.resend("POST", "/emails", {**EMAIL, "from": "a@unknown.example"})
    assert error(unknown) == (403, "validation_error")
    assert error(sandbox.resend("GET", "/domains/no")) == (404, "not_found")


def test_an_email_is_queued_then_sent_then_delivered(sandbox: Sandbox) -> None:
    def state(identifier: str) -> str:
        answer = sandbox.resend("GET", f"/emails/{identifier}")
        return str(good(answer, "GET", "/emails/{email_id}")["last_event"])

    with sandbox.setting(resend__delivery_seconds=1):
        sent = good(sandbox.resend("POST", "/emails", EMAIL), "POST", "/emails")["id"]
        bounced = sandbox.resend("POST", "/emails", {**EMAIL, "to": "bounced+1@resend.dev"}).json()["id"]
    seen: list[str] = []

    def delivered() -> bool:
        seen.append(state(sent))
        return seen[-1] == "delivered"

    until(delivered, what="it is delivered")
    assert list(dict.fromkeys(seen)) == ["queued", "sent", "delivered"]
    until(lambda: state(bounced) == "bounced", what="it bounces")
    email = sandbox.resend("GET", f"/emails/{sent}").json()
    assert (email["from"], email["to"], email["text"]) == (EMAIL["from"], EMAIL["to"], "Hello")
    assert email["tags"] == EMAIL["tags"]
    found = next(each for each in sandbox.inspect()["resend"]["emails"] if each["id"] == sent)
    assert (found["to"], found["subject"], found["last_event"]) == (EMAIL["to"], "Hello", "delivered")
    assert found["from"] == EMAIL["from"]
    assert error(sandbox.resend("GET", "/emails/no")) == (404, "not_found")


def test_swallowed_emails_are_accepted_and_never_appear(sandbox: Sandbox) -> None:
    with sandbox.setting(resend__swallow_emails=1):
        sent = good(sandbox.resend("POST", "/emails", EMAIL), "POST", "/emails")["id"]
    assert sandbox.resend("GET", f"/emails/{sent}").status_code == 404
    assert sent not in [email["id"] for email in sandbox.inspect()["resend"]["emails"]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"to": None}, (422, "missing_required_field")),
        ({"subject": ""}, (422, "missing_required_field")),
        ({"text": None}, (422, "missing_required_field")),
        ({"from": "Molecule AI"}, (422, "invalid_from_address")),
        ({"to": "nobody"}, (422, "validation_error")),
        ({"to": ["a@b.example"] * 51}, (422, "validation_error")),
        ({"scheduled_at": "in 1 hour"}, (422, "invalid_parameter")),
        ({"from": "onboarding@resend.dev", "to": "a@b.example"}, (403, "validation_error")),
    ],
)
def test_a_wrong_email_is_not_sent(sandbox: Sandbox, change: dict[str, Any], expected: tuple[int, str]) -> None:
    assert error(sandbox.resend("POST", "/emails", {**EMAIL, **change})) == expected


def test_an_idempotency_key_sends_once(sandbox: Sandbox) -> None:
    def send(key: str, subject: str = "once") -> httpx.Response:
        return sandbox.resend("POST", "/emails", {**EMAIL, "subject": subject}, idempotency_key=key)

    first = good(send("k-1"), "POST", "/emails")["id"]
    assert send("k-1").json() == {"id": first}
    assert error(send("k-1", "twice")) == (409, "invalid_idempotent_request")
    assert error(send("k" * 257)) == (400, "invalid_idempotency_key")
    assert send("k-2").json()["id"] != first
    assert len([each for each in sandbox.inspect()["resend"]["emails"] if each["subject"] == "once"]) == 2


def test_pages(sandbox: Sandbox) -> None:
    for _ in range(4):
        sandbox.resend("POST", "/emails", EMAIL)
    newest = good(sandbox.resend("GET", "/emails?limit=3"), "GET", "/emails")
    assert newest["has_more"] is True
    identifiers = [email["id"] for email in newest["data"]]
    after = good(sandbox.resend("GET", f"/emails?limit=1&after={identifiers[0]}"), "GET", "/emails")
    assert ([email["id"] for email in after["data"]], after["has_more"]) == ([identifiers[1]], True)
    before = good(sandbox.resend("GET", f"/emails?before={identifiers[2]}"), "GET", "/emails")
    assert ([email["id"] for email in before["data"]], before["has_more"]) == (identifiers[:2], False)
    for query in ("limit=0", "limit=101", "after=no", f"after={identifiers[0]}&before={identifiers[0]}"):
        assert error(sandbox.resend("GET", f"/emails?{query}")) == (422, "validation_error")


def test_rate_limit_headers_always_and_refusals_if_switched_on(sandbox: Sandbox) -> None:
    answers = [sandbox.resend("GET", "/domains") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.headers["ratelimit-limit"] == "5" for answer in answers)
    assert {"ratelimit-remaining", "ratelimit-reset"} <= set(answers[0].headers)
    with sandbox.setting(rate_limits=1):
        answers = [sandbox.resend("GET", "/domains") for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert error(refused[0]) == (429, "rate_limit_exceeded")
    assert int(refused[0].headers["retry-after"]) >= 1


def test_what_is_not_there(sandbox: Sandbox) -> None:
    assert error(sandbox.resend("GET", "/nothing")) == (404, "not_found")
    assert error(sandbox.resend("PUT", "/emails")) == (405, "method_not_allowed")


@pytest.fixture
def sdk(sandbox: Sandbox) -> Iterator[None]:
    """Point the vendor's SDK, which has one global client, at the sandbox."""
    before = resend.api_key, resend.api_url
    resend.api_key, resend.api_url = sandbox.environment["RESEND_API_KEY"], sandbox.environment["RESEND_API_URL"]
    yield
    resend.api_key, resend.api_url = before


@pytest.mark.usefixtures("sdk")
def test_the_vendors_sdk(sandbox: Sandbox) -> None:
    key = resend.ApiKeys.create({"name": "by the SDK", "permission": "sending_access", "domain_id": domain_id(sandbox)})
    assert key["id"] in [each["id"] for each in resend.ApiKeys.list({"limit": 100})["data"]]
    assert resend.Domains.get(domain_id(sandbox))["status"] == "verified"
    operator, resend.api_key = resend.api_key, key["token"]
    sent = resend.Emails.send(
        {"from": str(EMAIL["from"]), "to": ["delivered@resend.dev"], "subject": "SDK", "text": "Hello"}
    )
    with pytest.raises(resend.exceptions.ResendError, match="restricted to only send emails"):
        resend.Emails.get(sent["id"])
    resend.api_key = operator
    until(lambda: resend.Emails.get(sent["id"])["last_event"] == "delivered", what="it is delivered")
    resend.ApiKeys.remove(key["id"])
    resend.api_key = key["token"]
    with pytest.raises(resend.exceptions.ResendError, match="API key is invalid"):
        resend.Domains.list()


# RESEND_FROM_EMAIL, as the program rotates it

SENDER = f'"Molecule, Inc." <hello@{DOMAIN}>'


def senders(sandbox: Sandbox, text: str) -> SenderAddresses:
    return SenderAddresses(client=ResendClient(sandbox.environment["RESEND_API_KEY"]), given=text)


def test_a_sender_is_judged_by_what_resend_and_the_dns_say(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RESEND_API_URL", "DNS_OVER_HTTPS_URL"):
        monkeypatch.setenv(name, sandbox.environment[name])
    good_one = senders(sandbox, SENDER)
    assert (good_one.obstacles(), good_one.warnings()) == ([], [])
    assert "is not in this account" in str(senders(sandbox, f"a@mail.{DOMAIN}").obstacles()[0])
    assert senders(sandbox, f"a@mail.{DOMAIN}").warnings() == [], "the record of the organization counts"
    with sandbox.setting(resend__domain_unverified=DOMAIN):
        (obstacle,) = good_one.obstacles()
    assert "has the status pending" in str(obstacle)
    assert "DKIM TXT resend._domainkey (pending)." in str(obstacle)
    assert "SPF" not in str(obstacle)
    with sandbox.setting(resend__domain_failed=DOMAIN):
        assert "SPF MX send (failed), SPF TXT send (failed), DKIM TXT" in str(good_one.obstacles()[0])
    with sandbox.setting(dns__no_dmarc=DOMAIN):
        assert f"{DOMAIN} has no DMARC record" in good_one.warnings()[0]
        assert good_one.obstacles() == []
    with sandbox.fault("--provider", "dns", "--match", "GET", ".", "--status", "500", "--count", "2"):
        assert "could not be looked up" in good_one.warnings()[0]


def checked(sandbox: Sandbox, module: str, value: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return run_check(module, value, settings, sandbox.environment)


def verified(sandbox: Sandbox, value: str) -> subprocess.CompletedProcess[str]:
    return checked(
        sandbox,
        "resend_from_email",
        value,
        app="molecule-cp",
        url="",
        owner_user_id="user-1",
        subject="{slug}",
        org_timeout=30,
        mail_timeout=3,
    )


def test_the_probe_says_what_is_wrong_before_delivery(sandbox: Sandbox) -> None:
    done = checked(sandbox, "resend_from_email_probe", SENDER)
    assert (done.returncode, json.loads(done.stdout)["generation"]) == (0, 2), done.stderr
    with sandbox.setting(resend__domain_unverified=DOMAIN):
        done = checked(sandbox, "resend_from_email_probe", SENDER)
    assert done.returncode == 1
    assert "DKIM TXT resend._domainkey (pending)" in done.stderr


def test_only_a_mail_from_the_new_sender_verifies_it(sandbox: Sandbox) -> None:
    before = sandbox.secret_value("RESEND_FROM_EMAIL")
    try:
        sandbox.secrets(RESEND_FROM_EMAIL=SENDER)
        done = verified(sandbox, SENDER)
        assert done.returncode == 1, "the machines have the value before"
        found_out = ("still runs with the value before", "was sent from another sender")
        assert any(reason in done.stderr for reason in found_out)
        sandbox.roll()
        done = verified(sandbox, SENDER)
        assert done.returncode == 0, done.stderr
        assert "was sent from the new sender" in done.stderr
        newest = sandbox.inspect()["resend"]["emails"][0]
        assert newest["from"] == SENDER
        assert newest["subject"].startswith("Your organization rotationtest-from-")
        done = verified(sandbox, f"Another <hello@{DOMAIN}>")
        assert done.returncode == 1
        assert "was sent from another sender than RESEND_FROM_EMAIL" in done.stderr
        with sandbox.setting(resend__domain_unverified=DOMAIN):
            done = verified(sandbox, SENDER)
        assert done.returncode == 1
        assert "has logged `purge confirmation email failed`" in done.stderr
        with sandbox.setting(resend__swallow_emails=1):
            done = verified(sandbox, SENDER)
        assert done.returncode == 1
        assert "not within 3 s" in done.stderr
        assert DOMAIN not in done.stderr
    finally:
        sandbox.secrets(RESEND_FROM_EMAIL=before)
        sandbox.roll()
    orgs = sandbox.control_plane("GET", "/cp/admin/orgs").json()["orgs"]
    assert [org for org in orgs if org["slug"].startswith("rotationtest")] == []


def test_generations_are_one_family_and_nothing_secret_is_on_disk(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    keys = [mint(fresh, f"molecule-cp-rotation-sandbox-RESEND_API_KEY-g{number}") for number in (1, 2)]
    sent = fresh.resend("POST", "/emails", {**EMAIL, "text": "between you and me"}).json()["id"]
    assert fresh.resend("DELETE", f"/api-keys/{keys[0]['id']}").status_code == 200
    fresh.stop()
    values = [keys[0]["token"], keys[1]["token"], fresh.environment["RESEND_API_KEY"], "between you and me"]
    for path in fresh.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [value[:5] for value in values if value.encode() in content], path
    fresh.start()
    assert fresh.resend("GET", "/domains", key=keys[0]["token"]).json() == DEAD
    assert fresh.resend("GET", "/domains", key=keys[1]["token"]).status_code == 200
    assert fresh.resend("GET", f"/emails/{sent}").json()["text"] == "between you and me"
    seen = [
        key for key in fresh.inspect()["credentials"] if key["family"] == "molecule-cp-rotation-sandbox-RESEND_API_KEY"
    ]
    assert [(key["provider"], key["live"]) for key in seen] == [("resend", False), ("resend", True)]
