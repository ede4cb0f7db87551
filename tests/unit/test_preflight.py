"""Is everything that an operator's credentials cannot do refused before anything is touched, by reading alone?"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from components import preflight
from components.errors import RefusedError
from components.http import ApiError
from components.issuers import ISSUERS, Context, Kind
from components.secret import Check, FlySecret, Issuer, Random, RepositorySecret, Secret, Supplied, TenantMachines
from components.settings import Progress

from .fake_issuer import FakeIssuer
from .wire import Wire, body_of, reply

SECRET = Secret(
    name="FLY_API_TOKEN",
    source=Issuer(kind="fly-deploy-token", settings={"app": "tokens", "profile": "deploy", "expiry": "24h"}),
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


def check(
    also: dict[str, list[str]] | None = None,
    secrets: Iterable[Secret] = (SECRET,),
    *,
    supplied: Mapping[str, str] | None = None,
    progress: Mapping[str, Progress] | None = None,
) -> list[str]:
    return preflight.check(
        secrets,
        supplied=supplied or {},
        progress=progress or {},
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
    assert check({"FLY_API_TOKEN": ["t1"]}) == []
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


# Whom to call


@pytest.mark.parametrize(
    ("path", "answer", "contact"),
    [
        ("GET /v1/apps/cp", (401, {}), "Fly:"),
        ("GET /v1/apps/cp", (503, {}), "Fly:"),
        ("POST /graphql", (500, {}), "Fly:"),
        ("GET /repos/o/r", (401, {}), "GitHub"),
        ("GET /repos/o/r", (503, {}), "GitHub"),
        ("GET /v1/apps/cp", (404, {}), ""),
        ("GET /repos/o/r", (404, {}), ""),
        ("GET /cp/admin/orgs", (401, {}), ""),
        ("GET /cp/admin/orgs", (503, {}), ""),
    ],
)
def test_who_refuses_or_is_down_is_named_with_whom_to_call(
    wire: Wire, path: str, answer: tuple[int, Any], contact: str
) -> None:
    wire.serve = serving({path: answer})
    with pytest.raises(RefusedError) as refused:
        check()
    assert refused.value.contact.startswith(contact)
    assert bool(refused.value.contact) is bool(contact)
    assert ("Help:" in str(refused.value)) is bool(contact)


def test_everybody_to_call_is_named_once(wire: Wire) -> None:
    wire.serve = serving({"GET /v1/apps/cp": (503, {}), "POST /graphql": (500, {}), "GET /repos/o/r": (503, {})})
    with pytest.raises(RefusedError) as refused:
        check()
    assert str(refused.value).count("Help:") == 1
    lines = [line.strip() for line in refused.value.contact.splitlines()]
    assert [line.partition(":")[0] for line in lines] == ["Fly", "GitHub and GHCR"]


# Issuers


def use(monkeypatch: pytest.MonkeyPatch, build: Callable[[Mapping[str, str], Context], FakeIssuer]) -> Secret:
    """A secret of an issuer that needs nobody's credential."""
    monkeypatch.setattr(preflight, "ISSUERS", {**ISSUERS, "fake": Kind(build=build, operator=None)})
    return replace(SECRET, name="HANDED", source=Supplied(kind="fake", settings={"account": "1"}), repositories=())


@pytest.mark.parametrize("source", [Random(), Supplied()])
def test_a_value_that_no_provider_mints_needs_no_providers_credential(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, source: Random | Supplied
) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    wire.serve = serving({})
    assert check(secrets=[replace(SECRET, source=source, repositories=())]) == []
    assert "POST /graphql" not in wire.lines
    assert not any(line.startswith("GET /repos") for line in wire.lines)


def test_an_unmanaged_credential_of_a_given_value_is_refused(wire: Wire) -> None:
    wire.serve = serving({})
    with pytest.raises(RefusedError, match="gone"):
        check({"FLY_API_TOKEN": ["gone"]}, [replace(SECRET, source=Supplied())])


def test_the_issuer_gets_what_was_handed_in_and_how_far_its_secret_is(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.serve = serving({})
    built: list[tuple[Mapping[str, str], Context]] = []

    def build(settings: Mapping[str, str], context: Context) -> FakeIssuer:
        built.append((settings, context))
        return FakeIssuer()

    secret = use(monkeypatch, build)
    progress = {"HANDED": Progress(verified=4, oldest_alive=3), "OTHER": Progress(verified=9)}
    check(secrets=[secret], supplied={"HANDED": "value", "OTHER": "no"}, progress=progress)
    ((settings, context),) = built
    assert settings == {"account": "1"}
    assert (context.given, context.keep_from) == ("value", 3)
    assert "value" not in repr(context)
    check(secrets=[secret])
    assert (built[1][1].given, built[1][1].keep_from) == ("", 0)


class _Warning(FakeIssuer):
    """Has something to say that is no obstacle."""

    def warnings(self) -> list[str]:
        return ["it ends on Monday.", "it is the last one."]


def test_what_an_operator_should_know_is_returned_with_the_name_of_the_secret(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Warning())
    assert check(secrets=[SECRET, secret]) == ["HANDED: it ends on Monday.", "HANDED: it is the last one."]


class _Obstructed(_Warning):
    """Has an obstacle, and is not asked any further."""

    def obstacles(self) -> list[RefusedError]:
        return [RefusedError("the key is of another account", next_step="hand in another one")]

    def warnings(self) -> list[str]:
        raise AssertionError("asked in spite of the obstacle")


def test_an_obstacle_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Obstructed())
    with pytest.raises(RefusedError, match="another account"):
        check(secrets=[secret])


class _Down(FakeIssuer):
    """Refuses, as somebody whose credential is not the operator's."""

    def obstacles(self) -> list[RefusedError]:
        raise ApiError("Upstash", "look", status=self.status, reason="no")


@pytest.mark.parametrize("status", [401, 403, 503, None])
def test_a_refusal_without_an_operator_blames_no_operators_credential(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Down(status=status))
    with pytest.raises(RefusedError, match="Upstash") as refused:
        check(secrets=[secret])
    assert "export" not in refused.value.next_step
    assert refused.value.contact.startswith("Upstash:")


def test_how_many_machines_of_tenants_restart_is_said_once_for_all_their_secrets(wire: Wire) -> None:
    def machine(number: int, *variables: str) -> dict[str, Any]:
        return {**MACHINE, "id": f"t{number}", "config": {"env": dict.fromkeys(variables, "a-value")}}

    tenants = [machine(1, "REDIS_URL", "KEY"), machine(2, "KEY"), machine(3), machine(4, "OTHER")]
    wire.serve = serving({"GET /v1/apps/tenant/machines": (200, tenants)})

    def held(variable: str, *, reprovisions: bool = False) -> Secret:
        location = TenantMachines(app="tenant", variable=variable, reprovisions=reprovisions)
        return replace(SECRET, name=f"S_{variable}", tenants=location)

    (said,) = check(secrets=[held("REDIS_URL"), held("KEY")])
    assert said.startswith("2 machines of tenant have KEY or REDIS_URL in their environment: each is updated")
    assert "a-value" not in said
    assert check(secrets=[held("KEY", reprovisions=True)]) == []
