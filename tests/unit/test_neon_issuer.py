"""Does the issuer mint in the right scope, and take only Neon's word that a key is dead?"""

import httpx
import pytest

from components import issuers, preflight
from components.errors import RefusedError
from components.http import ApiError
from components.neon.client import NeonClient
from components.neon.issuer import ApiKeys
from components.preflight import Candidate
from components.progress import Progress
from components.secret import Check, FlySecret, Issuer, Secret
from components.work import Work

from .wire import Wire, body_of, reply

VALUE = "napi_value-of-the-old-key"
ORGANIZATION = ApiKeys(client=NeonClient("napi_operator"), organization_id="org-1", project_id="")
PROJECT = ApiKeys(client=NeonClient("napi_operator"), organization_id="org-1", project_id="p-1")
PERSONAL = ApiKeys(client=NeonClient("napi_operator"), organization_id="", project_id="")
AUTH, READ_PROJECT = "GET /api/v2/auth", "GET /api/v2/projects/p-1"
PERSON = {"auth_method": "api_key_user"}
DEAD = {"code": "", "message": "supplied credentials do not pass authentication"}


@pytest.mark.parametrize("keys", [ORGANIZATION, PROJECT, PERSONAL])
def test_a_refused_key_is_dead(wire: Wire, keys: ApiKeys) -> None:
    wire.will(reply(401, DEAD))
    assert keys.refuses(VALUE)
    assert wire.lines == [AUTH]
    assert wire.last.headers["authorization"] == f"Bearer {VALUE}", "it is tried with its own value"


@pytest.mark.parametrize("keys", [ORGANIZATION, PROJECT, PERSONAL])
def test_an_accepted_key_is_alive(wire: Wire, keys: ApiKeys) -> None:
    wire.will(reply(200, {"auth_method": "api_key_org"}))
    assert not keys.refuses(VALUE)


@pytest.mark.parametrize("status", [403, 404])
def test_a_project_key_that_may_not_ask_who_it_is_is_alive_if_it_sees_its_project(wire: Wire, status: int) -> None:
    wire.will(reply(status), reply(200, {"project": {}}))
    assert not PROJECT.refuses(VALUE)
    assert wire.lines == [AUTH, READ_PROJECT]
    assert wire.last.headers["authorization"] == f"Bearer {VALUE}"


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("keys", [ORGANIZATION, PERSONAL])
def test_another_answer_is_no_verdict_on_a_key_of_another_scope(wire: Wire, keys: ApiKeys, status: int) -> None:
    wire.will(reply(status))
    with pytest.raises(ApiError):
        keys.refuses(VALUE)


@pytest.mark.parametrize("keys", [ORGANIZATION, PROJECT, PERSONAL])
@pytest.mark.parametrize("answer", [reply(400), reply(422), reply(500), httpx.ConnectError("refused")], ids=str)
def test_any_other_answer_is_no_verdict(wire: Wire, keys: ApiKeys, answer: httpx.Response | Exception) -> None:
    wire.will(*[answer] * 5)
    with pytest.raises(ApiError) as failed:
        keys.refuses(VALUE)
    assert VALUE not in str(failed.value)
    wire.answers.clear()


@pytest.mark.parametrize("keys", [ORGANIZATION, PERSONAL])
def test_without_a_project_there_is_nothing_to_look_for(wire: Wire, keys: ApiKeys) -> None:
    wire.will(reply(200, PERSON))
    assert keys.obstacles() == []
    assert wire.lines == [AUTH]
    assert wire.last.headers["authorization"] == "Bearer napi_operator"


@pytest.mark.parametrize("keys", [ORGANIZATION, PROJECT, PERSONAL])
def test_an_operators_key_that_cannot_mint_is_an_obstacle(wire: Wire, keys: ApiKeys) -> None:
    wire.will(reply(200, {"auth_method": "api_key_org"}))
    (obstacle,) = keys.obstacles()
    assert "one of an organization" in obstacle.happened
    assert "a personal key of an admin" in obstacle.next_step


def test_a_project_that_is_there_is_no_obstacle(wire: Wire) -> None:
    wire.will(reply(200, PERSON), reply(200, {"project": {}}))
    assert PROJECT.obstacles() == []
    assert wire.lines == [AUTH, READ_PROJECT]
    assert wire.last.headers["authorization"] == "Bearer napi_operator"


@pytest.mark.parametrize("status", [403, 404])
def test_a_project_that_is_not_is_one(wire: Wire, status: int) -> None:
    wire.will(reply(200, PERSON), reply(status))
    (obstacle,) = PROJECT.obstacles()
    assert "no project p-1" in obstacle.happened
    assert "neonProject" in obstacle.next_step


MINTED = {"id": 7, "key": "napi_new", "name": "g1", "created_at": "2026-11-23T12:00:00Z"}


@pytest.mark.parametrize(
    ("settings", "path", "body"),
    [
        ({"organization_id": "", "project_id": ""}, "/api/v2/api_keys", {"key_name": "g1"}),
        (
            {"organization_id": "org-1", "project_id": ""},
            "/api/v2/organizations/org-1/api_keys",
            {"key_name": "g1"},
        ),
        (
            {"organization_id": "org-1", "project_id": "p-1"},
            "/api/v2/organizations/org-1/api_keys",
            {"key_name": "g1", "project_id": "p-1"},
        ),
    ],
)
def test_the_settings_of_the_map_become_the_scope(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], path: str, body: dict[str, str]
) -> None:
    monkeypatch.setenv("NEON_API_KEY", "napi_from-the-environment")
    issuer = issuers.ISSUERS["neon-api-key"].build(settings, issuers.Context(config=lambda _key: None))
    wire.will(reply(200, MINTED), reply(200, []), reply(200, {}))
    assert issuer.mint("g1").credential_id == "7"
    assert issuer.issued() == []
    issuer.revoke("7")
    assert wire.lines == [f"POST {path}", f"GET {path}", f"DELETE {path}/7"]
    assert body_of(wire.requests[0]) == body
    assert {each.headers["authorization"] for each in wire.requests} == {"Bearer napi_from-the-environment"}


def test_the_key_of_a_member_who_is_no_admin_is_refused_before_anything_is_touched(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLY_ACCESS_TOKEN", "NEON_API_KEY", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    answers = {
        "/v1/apps/cp": reply(200, {}),
        "/v1/apps/tenant": reply(200, {}),
        "/v1/apps/cp/machines": reply(200, [{"id": "m", "state": "started", "instance_id": "v"}]),
        "/v1/apps/tenant/machines": reply(200, []),
        "/cp/admin/orgs": reply(200, {"orgs": []}),
        "/api/v2/auth": reply(200, PERSON),
        "/api/v2/organizations/org-1/api_keys": reply(403, {"message": "user must be an admin of the organization"}),
    }
    wire.serve = lambda request: answers[request.url.path]
    secret = Secret(
        name="NEON_API_KEY",
        source=Issuer(kind="neon-api-key", settings={"organization_id": "org-1", "project_id": ""}),
        fly=(FlySecret(app="cp"),),
        probe=Check(module="probe"),
        verification=Check(module="verification"),
    )
    with pytest.raises(RefusedError) as refused:
        preflight.check(
            [
                Candidate(
                    secret=secret,
                    work=Work(turns=True, mints=True),
                    generation=1,
                    name="family-g1",
                    progress=Progress(),
                )
            ],
            control_plane_url="https://cp.test",
            tenant_app="tenant",
            config=lambda _key: None,
        )
    assert "must be an admin of the organization" in refused.value.happened
    assert "a personal Neon API key of an admin" in refused.value.next_step
    assert {each.method for each in wire.requests} == {"GET"}
