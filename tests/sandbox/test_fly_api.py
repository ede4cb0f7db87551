"""What flyctl and other clients ask of Fly besides machines: GraphQL, releases, logs; and the OpenAPI description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.sandbox.running import CONTROL_PLANE, until
from tests.unit.descriptions import load

if TYPE_CHECKING:
    import httpx

    from tests.sandbox.running import Sandbox

APPCOMPACT = """
query ($appName: String!) {
  appcompact: app(name: $appName) {
    id internalNumericId name hostname cnameTarget deployed network status appUrl platformVersion
    organization { id internalNumericId slug paidPlan }
    postgresAppRole: role { name }
  }
}
"""
DESCRIPTION = load("fly-machines")


def validate(answer: httpx.Response, path: str, method: str = "get") -> None:
    """Check an answer against the OpenAPI description of its operation."""
    responses = DESCRIPTION["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses
    schema = next(iter(responses[str(answer.status_code)].get("content", {"": {}}).values())).get("schema", {})
    jsonschema.validate(answer.json(), {**schema, "components": DESCRIPTION["components"]})
    if "$ref" in schema:
        # The description requires nothing, so that any object is valid: there must be something that it names.
        named = DESCRIPTION["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]["properties"]
        assert set(answer.json()) & set(named)


def test_answers_are_as_the_openapi_description_says(sandbox: Sandbox) -> None:
    app, machine = "/apps/{app_name}", "/apps/{app_name}/machines/{machine_id}"
    identifier = sandbox.machines()[0]["id"]
    own = f"{CONTROL_PLANE}/machines/{identifier}"
    validate(sandbox.fly("GET", "/v1/apps?org_slug=molecule-ai"), "/apps")
    validate(sandbox.fly("GET", CONTROL_PLANE), app)
    validate(sandbox.fly("GET", f"{CONTROL_PLANE}/secrets"), f"{app}/secrets")
    validate(sandbox.fly("POST", f"{CONTROL_PLANE}/secrets", {"values": {"A": "b"}}), f"{app}/secrets", "post")
    validate(sandbox.fly("POST", f"{CONTROL_PLANE}/secrets", {}), f"{app}/secrets", "post")
    named = f"{app}/secrets/{{secret_name}}"
    validate(sandbox.fly("POST", f"{CONTROL_PLANE}/secrets/A", {"value": "b"}), named, "post")
    validate(sandbox.fly("GET", f"{CONTROL_PLANE}/secrets/A"), named)
    validate(sandbox.fly("DELETE", f"{CONTROL_PLANE}/secrets/A"), named, "delete")
    validate(sandbox.fly("GET", f"{CONTROL_PLANE}/machines"), f"{app}/machines")
    validate(sandbox.fly("GET", own), machine)
    validate(sandbox.fly("GET", f"{own}/wait?state=started"), f"{machine}/wait")
    validate(sandbox.fly("GET", f"{own}/events"), f"{machine}/events")
    validate(sandbox.fly("GET", f"{own}/versions"), f"{machine}/versions")
    validate(sandbox.fly("GET", f"{own}/metadata"), f"{machine}/metadata")
    validate(sandbox.fly("GET", f"{own}/ps"), f"{machine}/ps")
    validate(sandbox.fly("GET", "/v1/tokens/current"), "/tokens/current")
    validate(sandbox.fly("GET", "/v1/tokens/current", authorization="Bearer no"), "/tokens/current")
    config = {"image": "registry.fly.io/molecule-tenant:latest"}
    created = sandbox.fly("POST", "/v1/apps/molecule-tenant/machines", {"config": config, "skip_launch": True})
    validate(created, f"{app}/machines", "post")
    path = f"/v1/apps/molecule-tenant/machines/{created.json()['id']}"
    validate(sandbox.fly("POST", path, {"config": config, "skip_launch": True}), machine, "post")
    # The description lacks the envelope (fly.md section 6).
    lease = sandbox.fly("POST", f"{path}/lease?ttl=5").json()
    schema = {"$ref": "#/components/schemas/Lease", "components": DESCRIPTION["components"]}
    jsonschema.validate(lease["data"], schema)
    sandbox.fly("DELETE", path, nonce=lease["data"]["nonce"])


def test_appcompact(sandbox: Sandbox) -> None:
    found = sandbox.graphql(APPCOMPACT, {"appName": "molecule-cp"})["data"]["appcompact"]
    assert found["name"] == "molecule-cp"
    assert found["deployed"] is True
    assert found["platformVersion"] == "machines"
    assert isinstance(found["internalNumericId"], int)
    assert isinstance(found["organization"]["internalNumericId"], str)
    assert found["organization"]["slug"] == "molecule-ai"


def test_flyctls_own_queries(sandbox: Sandbox) -> None:
    viewer = sandbox.graphql(
        "query { viewer { __typename ... on User { id email enablePaidHobby } ... on Macaroon { email } } }"
    )
    assert viewer["data"]["viewer"]["__typename"] == "User"
    token = sandbox.mint()["tokenHeader"]
    macaroon = sandbox.graphql("{ viewer { __typename ... on Macaroon { email } } }", authorization=token)
    assert macaroon["data"]["viewer"]["__typename"] == "Macaroon"
    latest = sandbox.graphql(
        "query LatestImage($appName: String!) { app(name: $appName) { currentReleaseUnprocessed { id version imageRef configDefinition } } }",
        {"appName": "molecule-cp"},
    )["data"]["app"]["currentReleaseUnprocessed"]
    assert latest["version"] >= 1
    assert latest["imageRef"] == "registry.fly.io/molecule-cp:deployment-01"
    tokens = sandbox.graphql(
        'query { organization(slug: "molecule-ai") { limitedAccessTokens { nodes { id name expiresAt revokedAt user { email } } } } }'
    )["data"]["organization"]["limitedAccessTokens"]["nodes"]
    assert "molecule-cp-rotation-20260101" in [token["name"] for token in tokens]


def test_connections_are_paged(sandbox: Sandbox) -> None:
    for _ in range(3):
        sandbox.mint(name="paged")
    query = """
    query($after: String) { app(name: "molecule-cp") { limitedAccessTokens(first: 2, after: $after) {
      totalCount nodes { id } edges { cursor node { id } } pageInfo { hasNextPage endCursor } } } }
    """
    seen: list[str] = []
    after = None
    while True:
        page = sandbox.graphql(query, {"after": after})["data"]["app"]["limitedAccessTokens"]
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert len(page["nodes"]) <= 2
        seen += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len(seen) == len(set(seen)) == page["totalCount"] >= 3


def test_a_field_that_is_not_modelled_is_neutral_and_a_wrong_one_an_error(sandbox: Sandbox) -> None:
    answer = sandbox.graphql(
        '{ app(name: "molecule-cp") { volumes { totalCount nodes { id } } ipAddresses { nodes { address } } regions { code } } }'
    )
    assert answer["data"]["app"]["volumes"] == {"totalCount": 0, "nodes": []}
    assert "errors" not in answer
    wrong = sandbox.graphql('{ app(name: "molecule-cp") { noSuchField } }')
    assert "noSuchField" in wrong["errors"][0]["message"]
    assert sandbox.graphql("{ app(")["errors"]
    malformed = sandbox.fly("POST", "/graphql", None)
    assert malformed.status_code == 400


def test_legacy_secrets(sandbox: Sandbox) -> None:
    app = sandbox.graphql('{ app(name: "molecule-tenant") { id } }')["data"]["app"]["id"]
    mutation = "mutation($i: SetSecretsInput!) { setSecrets(input: $i) { app { secrets { name digest createdAt } } release { id } } }"
    wanted = {"i": {"appId": app, "secrets": [{"key": "LEGACY", "value": "v"}]}}
    done = sandbox.graphql(mutation, wanted)
    assert "LEGACY" in [secret["name"] for secret in done["data"]["setSecrets"]["app"]["secrets"]]
    assert sandbox.graphql(mutation, wanted)["errors"][0]["extensions"]["code"] == "UNCHANGED"
    unset = sandbox.graphql(
        "mutation($i: UnsetSecretsInput!) { unsetSecrets(input: $i) { app { secrets { name } } } }",
        {"i": {"appId": app, "keys": ["LEGACY"]}},
    )
    assert "LEGACY" not in str(unset["data"])


def test_releases_are_created_finished_and_listed(sandbox: Sandbox) -> None:
    body = {"app_name": "molecule-cp", "build_id": 0, "definition": {"a": 1}, "image": "i", "strategy": "ROLLING"}
    created = sandbox.fly("POST", "/api/v1/releases", body)
    assert created.status_code == 201
    release = created.json()["release"]
    path = f"/api/v1/releases/{release['id']}"
    metadata = {"post_deployment_info": {"flyctl_version": "0.4.87"}}
    finished = sandbox.fly("PATCH", path, {"status": "complete", "metadata": metadata})
    assert finished.json()["release"]["status"] == "complete"
    listed = sandbox.fly("GET", "/api/v1/apps/molecule-cp/releases?limit=1").json()["releases"]
    assert [(entry["id"], entry["version"], entry["status"]) for entry in listed] == [
        (release["id"], release["version"], "complete")
    ]
    current = sandbox.graphql('{ app(name: "molecule-cp") { currentReleaseUnprocessed { id configDefinition } } }')
    assert current["data"]["app"]["currentReleaseUnprocessed"] == {"id": release["id"], "configDefinition": {"a": 1}}
    assert sandbox.fly("PATCH", "/api/v1/releases/none", {}).status_code == 404
    token = sandbox.mint(app="molecule-tenant")["tokenHeader"]
    assert sandbox.fly("PATCH", path, {"status": "failed"}, authorization=token).status_code == 403
    assert sandbox.fly("POST", "/metrics_post", []).status_code == 200


def test_logs_are_followed_by_their_token(sandbox: Sandbox) -> None:
    path = "/api/v1/apps/molecule-cp/logs"
    first = until(
        lambda: answer if (answer := sandbox.fly("GET", path).json())["data"] else None, what="there are log lines"
    )
    assert "molecule-cp: started" in [line["attributes"]["message"] for line in first["data"]]
    token = first["meta"]["next_token"]
    assert sandbox.fly("GET", f"{path}?next_token={token}").json() == {"data": [], "meta": {"next_token": token}}
    machine = sandbox.machines()[0]
    sandbox.wait_healthy(sandbox.update(machine).json())
    more = until(lambda: sandbox.fly("GET", f"{path}?next_token={token}").json()["data"], what="the machine's new line")
    assert {line["attributes"]["instance"] for line in more} == {machine["id"]}
    assert sandbox.fly("GET", f"{path}?next_token=x").status_code == 400
    only = sandbox.fly("GET", f"{path}?instance={machine['id']}").json()["data"]
    assert {line["attributes"]["instance"] for line in only} == {machine["id"]}


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/apps/molecule-cp/wrong", 404)])
def test_an_unknown_path_is_an_error_in_fly_s_form(sandbox: Sandbox, path: str, status: int) -> None:
    answer: Any = sandbox.fly("GET", path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert answer.headers["fly-request-id"]
