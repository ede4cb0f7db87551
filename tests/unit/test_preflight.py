"""Is everything that an operator's credentials cannot do refused before anything is touched, by reading alone?"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from components import preflight
from components.errors import RefusedError
from components.secret import Check, FlySecret, Issuer, RepositorySecret, Secret

from .wire import Wire, body_of, reply

SECRET = Secret(
    name="FLY_API_TOKEN",
    issuer=Issuer(kind="fly-deploy-token", settings={"app": "tokens", "profile": "deploy", "expiry": "24h"}),
    fly=(FlySecret(app="cp"),),
    repositories=(RepositorySecret(owner="o", repository="r"),),
    probe=Check(module="probe"),
    verification=Check(module="verification"),
)
TOKENS = {
    "nodes": [{"id": "t1", "name": "n", "createdAt": "2026-11-23T12:00:00Z", "revokedAt": None, "expiresAt": None}]
}
MACHINE = {"id": "m1", "state": "started", "instance_id": "v1"}
VALUES = {
    "FLY_ACCESS_TOKEN": "fo1_operator-token",
    "GITHUB_TOKEN": "github-operator-token",
    "CP_ADMIN_API_TOKEN": "control-plane-admin-token",
}
GOOD: Mapping[str, tuple[int, Any]] = {
    "GET /v1/apps/cp": (200, {}),
    "GET /v1/apps/tokens": (200, {}),
    "GET /v1/apps/tenant": (200, {}),
    "GET /v1/apps/cp/machines": (200, [MACHINE]),
    "POST /graphql": (
        200,
        {"data": {"app": {"limitedAccessTokens": {**TOKENS, "pageInfo": {"hasNextPage": False, "endCursor": None}}}}},
    ),
    "GET /repos/o/r": (200, {"permissions": {"push": True}}),
    "GET /cp/admin/orgs": (200, {"orgs": []}),
}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with all credentials."""
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


def serving(changed: Mapping[str, tuple[int, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    answers = {**GOOD, **changed}
    return lambda request: reply(*answers[f"{request.method} {request.url.path}"])


def check(also: dict[str, list[str]] | None = None) -> None:
    preflight.check(
        [SECRET],
        also=also or {},
        control_plane_url="https://cp.test",
        tenant_app="tenant",
        config=lambda _key: None,
    )


def only_read(wire: Wire) -> bool:
    return all(
        request.method == "GET"
        or (request.url.path == "/graphql" and re.match(r"\s*(query\b|\{)", body_of(request)["query"]))
        for request in wire.requests
    )


def test_an_operator_who_may_do_everything_gets_through_and_nothing_is_written(wire: Wire) -> None:
    wire.serve = serving({})
    check({"FLY_API_TOKEN": ["t1"]})
    assert set(wire.lines) == set(GOOD)
    assert only_read(wire)


REFUSALS: list[tuple[Mapping[str, tuple[int, Any]], tuple[str, ...]]] = [
    ({"GET /v1/apps/cp": (404, {})}, ("Fly", "cp")),
    ({"GET /v1/apps/tenant": (403, {})}, ("Fly", "tenant")),
    ({"GET /v1/apps/tokens": (404, {})}, ("Fly", "tokens")),
    ({"GET /v1/apps/cp/machines": (200, [])}, ("cp", "no machines")),
    ({"GET /v1/apps/cp": (401, {"error": "token validation error"})}, ("Fly", "FLY_ACCESS_TOKEN", "validation error")),
    ({"GET /v1/apps/cp": (500, {"error": "down"})}, ("Fly", "500")),
    (
        {"POST /graphql": (200, {"errors": [{"message": "You must be authenticated to view this."}]})},
        ("FLY_ACCESS_TOKEN",),
    ),
    ({"GET /repos/o/r": (404, {})}, ("GitHub", "o/r")),
    ({"GET /repos/o/r": (200, {"permissions": {"pull": True}})}, ("o/r", "not write")),
    ({"GET /repos/o/r": (401, {"message": "Bad credentials"})}, ("GitHub", "GITHUB_TOKEN", "Bad credentials")),
    ({"GET /repos/o/r": (503, {})}, ("GitHub", "503")),
    ({"GET /cp/admin/orgs": (401, {"error": "no"})}, ("control plane", "CP_ADMIN_API_TOKEN")),
    ({"GET /cp/admin/orgs": (502, {})}, ("control plane", "502")),
]


@pytest.mark.parametrize(("changed", "said"), REFUSALS)
def test_what_stands_in_the_way_is_said(
    wire: Wire, changed: Mapping[str, tuple[int, Any]], said: tuple[str, ...]
) -> None:
    wire.serve = serving(changed)
    with pytest.raises(RefusedError) as refused:
        check()
    for part in said:
        assert part in refused.value.happened
    assert refused.value.next_step
    assert "nothing was changed" in str(refused.value)
    assert not any(value in str(refused.value) for value in VALUES.values())
    assert only_read(wire)


def test_an_unmanaged_credential_that_fly_does_not_list_is_refused(wire: Wire) -> None:
    wire.serve = serving({})
    with pytest.raises(RefusedError) as refused:
        check({"FLY_API_TOKEN": ["t1", "gone"]})
    assert "gone" in refused.value.happened
    assert "t1," not in refused.value.happened
    assert "revokeUnmanaged.FLY_API_TOKEN" in refused.value.happened


def test_everything_that_stands_in_the_way_is_said_at_once(wire: Wire) -> None:
    wire.serve = serving(
        {
            "GET /v1/apps/cp": (404, {}),
            "GET /v1/apps/tenant": (404, {}),
            "GET /repos/o/r": (404, {}),
            "GET /cp/admin/orgs": (401, {}),
        }
    )
    with pytest.raises(RefusedError) as refused:
        check()
    for part in ("app cp", "app tenant", "o/r", "CP_ADMIN_API_TOKEN"):
        assert part in refused.value.happened
    assert "4. " in refused.value.happened


def test_missing_credentials_are_all_named_and_nothing_is_asked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.delenv(name)
    with pytest.raises(RefusedError) as refused:
        check()
    for name in VALUES:
        assert f"export {name}" in refused.value.next_step
    assert wire.requests == []


def test_the_control_plane_of_the_environment_comes_first(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_URL", "http://127.0.0.1:9/")
    wire.serve = serving({})
    check()
    asked = next(each for each in wire.requests if each.url.path == "/cp/admin/orgs")
    assert (asked.url.host, asked.url.port) == ("127.0.0.1", 9)
