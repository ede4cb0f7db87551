"""Tokens at Fly: how they are sent, what they reach, how they are minted, listed and revoked."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox.fly.tokens import parse_duration, values
from tests.sandbox.running import CONTROL_PLANE, TENANT, until

if TYPE_CHECKING:
    from typing import Any

    from tests.sandbox.running import Sandbox

REFUSED = {"error": "Authenticate: token validation error"}
TOKENS = """
query($app: String!) {
  app(name: $app) { limitedAccessTokens { totalCount nodes { id name token tokenHeader revokedAt expiresAt user { email } } } }
}
"""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer fm2_a", ["fm2_a"]),
        ("FlyV1 fm2_a,fo1_b", ["fm2_a", "fo1_b"]),
        ("bearer flyv1 FlyV1 fm2_a", ["fm2_a"]),
        ("FlyV1 fm2_a, FlyV1 fm2_b", ["fm2_a", "fm2_b"]),
        ("fo1_b", ["fo1_b"]),
        ("Bearer ", []),
        ("", []),
    ],
)
def test_header_forms(header: str, expected: list[str]) -> None:
    assert values(header) == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h0m0s", 86400), ("1h30m", 5400), ("1.5h", 5400), ("300ms", 0.3), ("1m1s", 61)]
)
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "1d", "h", "-1h", "1 h"])
def test_what_go_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


def test_a_token_authenticates_in_every_form_that_clients_send(sandbox: Sandbox) -> None:
    header = sandbox.mint()["tokenHeader"]
    assert header.startswith("FlyV1 fm2_")
    bare = header.removeprefix("FlyV1 ")
    for form in (header, f"Bearer {bare}", f"Bearer {header}", f"flyv1 fm2_bad,{bare}", f"FlyV1 {bare},fo1_bad"):
        assert sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=form).status_code == 200, form[:12]
        assert "errors" not in sandbox.graphql('{ app(name: "molecule-cp") { id } }', authorization=form)


def test_unknown_and_missing_tokens_are_refused(sandbox: Sandbox) -> None:
    for form in ("Bearer fm2_no", "FlyV1 fm2_no", "Bearer fo1_no", "Basic eDp5"):
        answer = sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=form)
        assert (answer.status_code, answer.json()) == (401, REFUSED)
        assert answer.headers["fly-request-id"]
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization="").status_code == 401
    for form in ("", "Bearer fo1_no"):
        answer = sandbox.fly("POST", "/graphql", {"query": "{ viewer { email } }"}, authorization=form)
        assert answer.status_code == 200
        assert answer.json()["errors"] == [
            {"message": "You must be authenticated to view this.", "extensions": {"code": "UNAUTHORIZED"}}
        ]


def test_a_deploy_token_reaches_its_app_only(sandbox: Sandbox) -> None:
    token = sandbox.mint(app="molecule-tenant")["tokenHeader"]
    assert sandbox.fly("GET", f"{TENANT}/machines", authorization=token).status_code == 200
    for method, path, body in (
        ("GET", f"{CONTROL_PLANE}/machines", None),
        ("GET", f"{CONTROL_PLANE}/secrets", None),
        ("POST", f"{CONTROL_PLANE}/secrets", {"values": {"A": "b"}}),
        ("GET", CONTROL_PLANE, None),
        ("GET", "/v1/apps/no-such-app", None),
        ("GET", "/api/v1/apps/molecule-cp/releases", None),
        ("GET", "/api/v1/apps/molecule-cp/logs", None),
    ):
        answer = sandbox.fly(method, path, body, authorization=token)
        assert (answer.status_code, answer.json()) == (403, {"error": "unauthorized"}), path
    found = sandbox.graphql('{ app(name: "molecule-cp") { id } }', authorization=token)
    assert found["data"] == {"app": None}
    assert found["errors"][0]["message"] == "Could not find App"
    assert found["errors"][0]["extensions"] == {"code": "NOT_FOUND"}


def test_an_organization_token_reaches_every_app_and_the_user_too(sandbox: Sandbox) -> None:
    token = sandbox.mint(profile="deploy_organization")["tokenHeader"]
    for app in (CONTROL_PLANE, TENANT):
        assert sandbox.fly("GET", f"{app}/machines", authorization=token).status_code == 200
        assert sandbox.fly("GET", f"{app}/machines").status_code == 200
    assert sandbox.fly("GET", "/v1/apps/no-such-app").status_code == 404


def test_only_a_user_mints_and_revokes(sandbox: Sandbox) -> None:
    victim = sandbox.mint()
    for profile in ("deploy", "deploy_organization"):
        token = sandbox.mint(profile=profile)["tokenHeader"]
        organization = sandbox.graphql('{ organization(slug: "molecule-ai") { id } }')["data"]["organization"]["id"]
        minted = sandbox.graphql(
            "mutation($i: CreateLimitedAccessTokenInput!) { createLimitedAccessToken(input: $i) { limitedAccessToken { id } } }",
            {"i": {"name": "n", "organizationId": organization, "profile": "deploy_organization"}},
            authorization=token,
        )
        assert minted["errors"][0]["extensions"]["code"] == "UNAUTHORIZED"
        revoked = sandbox.graphql(
            "mutation($i: DeleteLimitedAccessTokenInput!) { deleteLimitedAccessToken(input: $i) { token } }",
            {"i": {"id": victim["id"]}},
            authorization=token,
        )
        assert revoked["errors"][0]["extensions"]["code"] == "UNAUTHORIZED"
        assert sandbox.fly("POST", f"{CONTROL_PLANE}/deploy_token", {}, authorization=token).status_code == 403
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=victim["tokenHeader"]).status_code == 200


@pytest.mark.parametrize(
    "change",
    [{"profile": "unknown"}, {"profileParams": {}}, {"profileParams": {"app_id": "none"}}, {"expiry": "a day"}],
)
def test_a_wrong_request_mints_nothing(sandbox: Sandbox, change: dict[str, object]) -> None:
    app = sandbox.graphql('{ app(name: "molecule-cp") { id organization { id } } }')["data"]["app"]
    count = len(sandbox.inspect()["credentials"])
    wanted = {
        "name": "wrong",
        "organizationId": app["organization"]["id"],
        "profile": "deploy",
        "profileParams": {"app_id": app["id"]},
    }
    answer = sandbox.graphql(
        "mutation($i: CreateLimitedAccessTokenInput!) { createLimitedAccessToken(input: $i) { limitedAccessToken { id } } }",
        {"i": wanted | change},
    )
    assert answer["errors"]
    assert len(sandbox.inspect()["credentials"]) == count


def test_a_revoked_token_is_refused_everywhere_stays_listed_and_can_be_revoked_again(sandbox: Sandbox) -> None:
    token = sandbox.mint(app="molecule-tenant", name="to-be-revoked")
    other = sandbox.mint(app="molecule-tenant")
    assert "errors" not in sandbox.revoke(token["id"])
    header = token["tokenHeader"]
    refused = sandbox.fly("GET", f"{TENANT}/machines", authorization=header)
    assert (refused.status_code, refused.json()) == (401, REFUSED)
    assert sandbox.fly("GET", "/v1/tokens/current", authorization=header).status_code == 401
    answer = sandbox.graphql('{ app(name: "molecule-tenant") { id } }', authorization=header)
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHORIZED"
    assert sandbox.fly("GET", f"{TENANT}/machines", authorization=other["tokenHeader"]).status_code == 200
    assert "errors" not in sandbox.revoke(token["id"])
    nodes = sandbox.graphql(TOKENS, {"app": "molecule-tenant"})["data"]["app"]["limitedAccessTokens"]["nodes"]
    listed = next(node for node in nodes if node["id"] == token["id"])
    assert listed["revokedAt"]
    assert listed["user"]["email"]
    assert next(node for node in nodes if node["id"] == other["id"])["revokedAt"] is None
    assert sandbox.revoke("no-such-id")["errors"][0]["extensions"]["code"] == "NOT_FOUND"


def test_a_list_shows_no_value(sandbox: Sandbox) -> None:
    token = sandbox.mint()
    value = token["tokenHeader"].removeprefix("FlyV1 ")
    listed = sandbox.graphql(TOKENS, {"app": "molecule-cp"})
    assert any(n["id"] == token["id"] for n in listed["data"]["app"]["limitedAccessTokens"]["nodes"])
    assert value not in str(listed)


def test_a_revocation_bites_after_the_delay(sandbox: Sandbox) -> None:
    token = sandbox.mint()

    def status() -> int:
        return sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=token["tokenHeader"]).status_code

    with sandbox.setting(revocation_delay=1.5):
        began = time.monotonic()
        sandbox.revoke(token["id"])
    assert status() == 200
    listed = next(c for c in sandbox.inspect()["credentials"] if c["id"] == token["id"])
    assert listed["live"] is False
    until(lambda: status() == 401, what="the revoked token is refused")
    assert time.monotonic() - began >= 1.5


def test_an_expired_token_is_refused(sandbox: Sandbox) -> None:
    token = sandbox.mint(expiry="1s")
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=token["tokenHeader"]).status_code == 200
    until(
        lambda: sandbox.fly("GET", "/v1/tokens/current", authorization=token["tokenHeader"]).status_code == 401,
        what="the token expires",
    )
    assert next(c for c in sandbox.inspect()["credentials"] if c["id"] == token["id"])["live"] is False


def test_introspection(sandbox: Sandbox) -> None:
    token = sandbox.mint(app="molecule-tenant")
    current = sandbox.fly("GET", "/v1/tokens/current", authorization=token["tokenHeader"]).json()["tokens"]
    assert [(entry["token_id"], entry["org_slug"], entry["apps"]) for entry in current] == [
        (token["id"], "molecule-ai", ["molecule-tenant"])
    ]
    header = token["tokenHeader"]
    for path, body, status in (
        ("authenticate", {"header": header}, 200),
        ("authenticate", {"header": "FlyV1 fm2_no"}, 400),
        ("authorize", {"header": header, "access": {"app_name": "molecule-tenant", "action": "rw"}}, 200),
        ("authorize", {"header": header, "access": {"app_name": "molecule-cp", "action": "rw"}}, 400),
    ):
        assert sandbox.fly("POST", f"/v1/tokens/{path}", body, authorization="").status_code == status


def test_the_deploy_token_endpoint_mints_for_the_app(sandbox: Sandbox) -> None:
    token = sandbox.fly("POST", f"{TENANT}/deploy_token", {"expiry": "1h"}).json()["token"]
    assert sandbox.fly("GET", f"{TENANT}/machines", authorization=token).status_code == 200
    assert sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization=token).status_code == 403


def test_a_refused_consumer_is_a_breakage_and_nobody_else(sandbox: Sandbox) -> None:
    before = sandbox.inspect()["breakages"]
    sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization="Bearer fm2_no")
    assert sandbox.inspect()["breakages"] == before
    sandbox.fly("GET", f"{CONTROL_PLANE}/machines", authorization="Bearer fm2_no", consumer="molecule-cp/1")
    sandbox.fly("POST", "/graphql", {"query": "{ viewer { email } }"}, authorization="", consumer="molecule-cp/2")
    sandbox.fly("GET", "/v1/apps/no-such-app", consumer="molecule-cp/3")
    found = sandbox.inspect()["breakages"][len(before) :]
    assert [breakage["consumer"] for breakage in found] == ["molecule-cp/1", "molecule-cp/2"]
    assert "401" in found[0]["what"]
    assert "UNAUTHORIZED" in found[1]["what"]


def test_counts_are_by_template_and_root_field(sandbox: Sandbox) -> None:
    def counted() -> list[int]:
        requests = sandbox.inspect()["requests"]
        return [requests.get(name, 0) for name in names]

    names = (
        "fly GET /v1/apps/{app}/machines/{machine}",
        "fly POST /graphql app,viewer",
        "control-plane GET /health",
        "registry GET /v2/{repository}/tags/list",
    )
    before = counted()
    sandbox.fly("GET", f"{CONTROL_PLANE}/machines/none")
    sandbox.graphql('{ app(name: "molecule-cp") { id } viewer { email } }')
    sandbox.control_plane("GET", "/health")
    httpx.get(sandbox.environment["FLY_REGISTRY_URL"] + "/v2/molecule-tenant/tags/list")
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1, 1]


def test_requests_are_noted_with_who_made_them(sandbox: Sandbox) -> None:
    def noted(after: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in sandbox.command("requests", "--after", str(after)).splitlines()]

    last = noted(0)[-1]["number"]
    sandbox.fly("GET", f"{CONTROL_PLANE}/machines/none?summary=true")
    sandbox.fly("GET", f"{CONTROL_PLANE}/machines", consumer="a test")
    sandbox.graphql("{ viewer { email } }")
    mine = [
        (each["provider"], each["method"], each["target"], each["template"], each["status"])
        for each in noted(last)
        if each["consumer"] is None
    ]
    assert mine == [
        ("fly", "GET", f"{CONTROL_PLANE}/machines/none", "/v1/apps/{app}/machines/{machine}", 404),
        ("fly", "POST", "/graphql viewer", "/graphql viewer", 200),
    ]
    assert "a test" in {each["consumer"] for each in noted(last)}
    assert last not in {each["number"] for each in noted(last)}
