"""Does the sandbox's GitHub answer as GitHub does: statuses, bodies, headers, permissions, sealed secrets?"""

import base64
import time
from collections.abc import Callable
from typing import Any

import github
import jsonschema
import pytest
from nacl.public import PrivateKey, SealedBox

from tests.sandbox.test_github_support import REPOSITORY, RUNS, SECRETS, WORKFLOW, Hub, hub, sha256
from tests.unit.descriptions import FORMATS, load, translate

__all__ = ["hub"]

ENVIRONMENT = f"{REPOSITORY}/environments/production"
ENVIRONMENT_SECRETS = f"{ENVIRONMENT}/secrets"
DEPENDABOT_SECRETS = f"{REPOSITORY}/dependabot/secrets"
ORGANIZATION_SECRETS = "/orgs/Molecule-AI/actions/secrets"


# --- who is asking --------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_in_githubs_words(hub: Hub) -> None:
    with hub.client("ghp_wrong") as client:
        answer = client.get("/user")
    assert answer.status_code == 401
    assert answer.json() == {
        "message": "Bad credentials",
        "documentation_url": "https://docs.github.com/rest",
        "status": "401",
    }


def test_a_token_dies_when_it_is_revoked(hub: Hub) -> None:
    token = hub.token_for("leaver", scopes=["repo"])
    with hub.client(token) as client:
        assert client.get("/user").json()["login"] == "leaver"
        with hub.client(hub.site_administrator) as administrator:
            assert administrator.delete("/admin/users/leaver/authorizations").status_code == 204
        assert client.get("/user").status_code == 401


def test_only_the_site_administrator_makes_tokens(hub: Hub) -> None:
    with hub.client() as client:
        answer = client.post("/admin/users/molecule-operator/authorizations", json={"scopes": ["admin:org"]})
    assert answer.status_code == 403


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
def test_both_schemes_authenticate_and_scopes_are_shown(hub: Hub, scheme: str) -> None:
    with hub.client("") as client:
        answer = client.get("/user", headers={"Authorization": f"{scheme} {hub.token}"})
    assert answer.json()["login"] == "molecule-operator"
    assert answer.headers["X-OAuth-Scopes"] == "admin:org, repo, workflow"


def test_nobody_sees_a_private_repository_without_access(hub: Hub) -> None:
    """404, not 403: GitHub does not say that there is something to see."""
    strangers = ["", hub.token_for("stranger", scopes=["repo"]), hub.token_for("molecule-operator", scopes=["gist"])]
    for token in strangers:
        with hub.client(token) as client:
            assert client.get(REPOSITORY).status_code == 404
            assert client.get(RUNS).status_code == 404
    with hub.client(hub.token_for("stranger", scopes=["repo"])) as client:
        assert client.get(SECRETS).status_code == 404


def test_a_reader_may_see_runs_and_not_touch_secrets(hub: Hub) -> None:
    token = hub.token_for("reader", scopes=["repo"])
    with hub.client() as client:
        path = f"{REPOSITORY}/collaborators/reader"
        assert client.put(path, json={"permission": "pull"}).status_code == 204
    with hub.client(token) as client:
        assert client.get(RUNS).status_code == 200
        assert client.get(REPOSITORY).json()["permissions"]["push"] is False
        answer = client.put(f"{SECRETS}/STOLEN", json=hub.seal(SECRETS, "x"))
        assert (answer.status_code, answer.json()["message"]) == (403, "Must have admin rights to Repository.")
        assert client.post(f"{WORKFLOW}/dispatches", json={"ref": "main"}).status_code == 403
    assert "STOLEN" not in hub.actions_secrets()


@pytest.mark.parametrize(
    ("permissions", "read", "write"),
    [
        ({}, 403, 403),
        ({"secrets": "read"}, 200, 403),
        ({"secrets": "write"}, 200, 201),
        ({"actions": "write"}, 403, 403),
    ],
)
def test_a_fine_grained_token_needs_the_permission(
    hub: Hub, permissions: dict[str, str], read: int, write: int
) -> None:
    token = hub.token_for("molecule-operator", permissions=permissions)
    with hub.client(token) as client:
        assert client.get(SECRETS).status_code == read
        answer = client.put(f"{SECRETS}/FINE_GRAINED", json=hub.seal(SECRETS, "x"))
        assert answer.status_code == write
        assert answer.headers["X-Accepted-GitHub-Permissions"] == "secrets=write"
        assert "X-OAuth-Scopes" not in answer.headers
        if write == 403:
            assert answer.json()["message"] == "Resource not accessible by personal access token"
        else:
            client.delete(f"{SECRETS}/FINE_GRAINED")


def test_an_organizations_secrets_need_admin_org(hub: Hub) -> None:
    with hub.client(hub.token_for("molecule-operator", scopes=["repo"])) as client:
        answer = client.get(ORGANIZATION_SECRETS)
    assert answer.status_code == 403
    assert answer.headers["X-Accepted-OAuth-Scopes"] == "admin:org"


def test_the_rate_limit_is_counted_and_enforced(hub: Hub) -> None:
    with hub.client() as client:
        first = client.get("/user")
        assert client.get("/rate_limit").json()["rate"]["used"] == int(first.headers["X-RateLimit-Used"])
        with hub.setting(github__rate_limit=first.headers["X-RateLimit-Used"]):
            answer = client.get("/user")
        assert answer.status_code == 403
        assert answer.json()["message"].startswith("API rate limit exceeded")
        assert answer.headers["X-RateLimit-Remaining"] == "0"
        assert int(answer.headers["X-RateLimit-Reset"]) > time.time()


# --- the form of answers --------------------------------------------------------------------------------------------


def test_what_every_answer_carries(hub: Hub) -> None:
    with hub.client() as client:
        first, second = client.get(REPOSITORY), client.get(REPOSITORY)
        assert first.headers["X-GitHub-Request-Id"] != second.headers["X-GitHub-Request-Id"]
        assert first.headers["X-GitHub-Api-Version-Selected"] == "2022-11-28"
        assert first.headers["Content-Type"] == "application/json; charset=utf-8"
        assert int(first.headers["X-RateLimit-Remaining"]) == int(second.headers["X-RateLimit-Remaining"]) + 1
        unchanged = client.get(REPOSITORY, headers={"If-None-Match": first.headers["ETag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_requests_that_github_refuses_outright(hub: Hub) -> None:
    with hub.client() as client:
        assert client.get("/user", headers={"User-Agent": ""}).status_code == 403
        assert client.get("/user", headers={"X-GitHub-Api-Version": "1999-01-01"}).status_code == 400
        assert client.post(f"{WORKFLOW}/dispatches", content=b"{").json()["message"] == "Problems parsing JSON"
        for answer in (client.get("/no/such/path"), client.delete("/user")):
            assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")


def test_names_of_owners_and_repositories_have_no_case(hub: Hub) -> None:
    with hub.client() as client:
        assert client.get("/repos/molecule-ai/MOLECULE-monorepo").json()["full_name"] == "Molecule-AI/molecule-monorepo"


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return load("github-actions-subset")


def check(
    description: dict[str, Any], template: str, body: object, *, method: str = "get", status: str = "200"
) -> None:
    """Validate a body against the OpenAPI description's schema of an answer."""
    schema = description["paths"][template][method]["responses"][status]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(
        {"components": translate(description["components"]), "allOf": [translate(schema)]},
        format_checker=FORMATS,
    ).validate(body)


def test_answers_fit_githubs_own_description(hub: Hub, description: dict[str, Any]) -> None:
    run = hub.wait(hub.dispatch())
    repository, workflow = "/repos/{owner}/{repo}", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}"
    secrets, environment = f"{repository}/actions/secrets", f"{repository}/environments/{{environment_name}}/secrets"
    with hub.client() as client:
        client.put(ENVIRONMENT).raise_for_status()
        hub.put_secret("DESCRIBED", "x", store=ENVIRONMENT_SECRETS)
        hub.put_secret("DESCRIBED", "x", store=DEPENDABOT_SECRETS)
        organization = {
            f"/orgs/{{org}}/{application}/secrets": f"/orgs/Molecule-AI/{application}/secrets"
            for application in ("actions", "dependabot")
        }
        number = client.get(REPOSITORY).json()["id"]
        for path in organization.values():
            body = hub.seal(path, "x") | {"visibility": "selected", "selected_repository_ids": [number]}
            client.put(f"{path}/DESCRIBED", json=body).raise_for_status()
        for template, path in {
            "/user": "/user",
            "/rate_limit": "/rate_limit",
            "/orgs/{org}": "/orgs/Molecule-AI",
            repository: REPOSITORY,
            secrets: SECRETS,
            f"{secrets}/public-key": f"{SECRETS}/public-key",
            f"{secrets}/{{secret_name}}": f"{SECRETS}/FLY_API_TOKEN",
            environment: ENVIRONMENT_SECRETS,
            f"{environment}/public-key": f"{ENVIRONMENT_SECRETS}/public-key",
            f"{environment}/{{secret_name}}": f"{ENVIRONMENT_SECRETS}/DESCRIBED",
            f"{repository}/environments": f"{REPOSITORY}/environments",
            f"{repository}/environments/{{environment_name}}": ENVIRONMENT,
            f"{repository}/dependabot/secrets/public-key": f"{DEPENDABOT_SECRETS}/public-key",
            f"{repository}/dependabot/secrets/{{secret_name}}": f"{DEPENDABOT_SECRETS}/DESCRIBED",
            f"{repository}/actions/organization-secrets": f"{REPOSITORY}/actions/organization-secrets",
            **{f"{template}/public-key": f"{path}/public-key" for template, path in organization.items()},
            **{f"{template}/{{secret_name}}": f"{path}/DESCRIBED" for template, path in organization.items()},
            **{
                f"{template}/{{secret_name}}/repositories": f"{path}/DESCRIBED/repositories"
                for template, path in organization.items()
            },
            workflow: WORKFLOW,
            f"{workflow}/runs": f"{WORKFLOW}/runs",
            f"{repository}/actions/runs": RUNS,
            f"{repository}/actions/runs/{{run_id}}": f"{RUNS}/{run['id']}",
        }.items():
            check(description, template, client.get(path).json())
        details = client.post(f"{WORKFLOW}/dispatches", json={"ref": "main", "return_run_details": True})
        check(description, f"{workflow}/dispatches", details.json(), method="post")
        for path in organization.values():
            client.delete(f"{path}/DESCRIBED").raise_for_status()


def test_the_description_check_can_fail(description: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(description, "/repos/{owner}/{repo}/actions/secrets/public-key", {"key_id": "1"})


# --- secrets --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_secret(hub: Hub) -> None:
    with hub.client() as client:
        created = hub.put_secret("LIFE", "one")
        assert (created.status_code, created.json()) == (201, {})
        first = client.get(f"{SECRETS}/LIFE").json()
        assert set(first) == {"name", "created_at", "updated_at"}
        assert hub.actions_secrets()["LIFE"] == {"sha256": sha256("one"), "updated_at": first["updated_at"]}

        time.sleep(1.1)  # the resolution of `updated_at`
        updated = hub.put_secret("LIFE", "one")
        assert (updated.status_code, updated.content) == (204, b"")
        second = client.get(f"{SECRETS}/LIFE").json()
        assert second["created_at"] == first["created_at"]
        assert second["updated_at"] > first["updated_at"]

        hub.put_secret("life", "two")
        assert hub.actions_secrets()["LIFE"]["sha256"] == sha256("two")
        assert client.get(f"{SECRETS}/lIfE").json()["name"] == "LIFE"

        assert client.delete(f"{SECRETS}/life").status_code == 204
        assert client.get(f"{SECRETS}/LIFE").status_code == 404
        assert client.delete(f"{SECRETS}/LIFE").status_code == 404
        assert "LIFE" not in hub.actions_secrets()


@pytest.mark.parametrize("name", ["1ST", "WITH-DASH", "WITH.DOT", "WITH%20BLANK", "GITHUB_ANYTHING"])
def test_names_that_github_refuses(hub: Hub, name: str) -> None:
    answer = hub.put_secret(name, "x")
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("Secret names ")


def _sealed_for_another_key(hub: Hub) -> dict[str, str]:
    box = SealedBox(PrivateKey.generate().public_key)
    return hub.seal(SECRETS, "x") | {"encrypted_value": base64.b64encode(box.encrypt(b"x")).decode()}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_sealed_for_another_key, "Bad request - validation failed due to an improperly encrypted secret"),
        (
            lambda hub: hub.seal(SECRETS, "x") | {"key_id": "123"},
            "Bad request - validation failed due to an improperly encrypted secret",
        ),
        (
            lambda hub: hub.seal(SECRETS, "x") | {"encrypted_value": base64.b64encode(b"plain text").decode()},
            "Bad request - validation failed due to an improperly encrypted secret",
        ),
        (lambda hub: hub.seal(DEPENDABOT_SECRETS, "x"), "Bad request - validation failed due to an improperly"),
        (lambda hub: hub.seal(SECRETS, "x") | {"encrypted_value": "not base64!"}, "Invalid request.\n\nnot base64!"),
        (
            lambda hub: {"encrypted_value": hub.seal(SECRETS, "x")["encrypted_value"]},
            'Invalid request.\n\n"key_id" wasn\'t supplied.',
        ),
    ],
    ids=["other key", "wrong key_id", "not sealed", "other store", "not base64", "no key_id"],
)
def test_a_value_that_cannot_be_opened_is_refused(
    hub: Hub, body: Callable[[Hub], dict[str, str]], message: str
) -> None:
    before = hub.actions_secrets()["FLY_API_TOKEN"]
    with hub.client() as client:
        answer = client.put(f"{SECRETS}/FLY_API_TOKEN", json=body(hub))
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(message)
    assert hub.actions_secrets()["FLY_API_TOKEN"] == before


def test_a_list_comes_in_pages(hub: Hub) -> None:
    for number in range(5):
        hub.put_secret(f"PAGE_{number}", "x")
    with hub.client(prefix="/api/v3") as client:
        names, path, pages = [], f"{SECRETS}?per_page=2", 0
        while path:
            answer = client.get(path)
            body = answer.json()
            assert len(body["secrets"]) <= 2
            names += [secret["name"] for secret in body["secrets"]]
            path, pages = answer.links.get("next", {}).get("url", ""), pages + 1
        assert names == sorted(hub.actions_secrets())
        assert body["total_count"] == len(names)
        assert pages == (len(names) + 1) // 2
        assert answer.links["first"]["url"].startswith(f"{hub.url}/api/v3{SECRETS}?")


def test_no_plaintext_on_disk(hub: Hub) -> None:
    value = "sentinel-5f1e7c3a"
    hub.put_secret("SENTINEL", value)
    hub.put_secret("SENTINEL", value + "-2")
    assert hub.actions_secrets()["SENTINEL"]["sha256"] == sha256(value + "-2")
    for file in hub.directory.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert value.encode() not in content, file
            assert hub.token.encode() not in content, file


def test_every_store_is_a_store_of_its_own(hub: Hub) -> None:
    with hub.client() as client:
        client.put(ENVIRONMENT).raise_for_status()
        stores = [SECRETS, ENVIRONMENT_SECRETS, DEPENDABOT_SECRETS, ORGANIZATION_SECRETS]
        stores.append("/orgs/Molecule-AI/dependabot/secrets")
        keys = {client.get(f"{store}/public-key").json()["key"] for store in stores}
        assert len(keys) == len(stores)
        for number, store in enumerate(stores):
            body = hub.seal(store, "x") | ({"visibility": "all"} if store.startswith("/orgs") else {})
            assert client.put(f"{store}/STORE_{number}", json=body).status_code == 201
        for number, store in enumerate(stores):
            names = {secret["name"] for secret in client.get(store).json()["secrets"] if "STORE_" in secret["name"]}
            assert names == {f"STORE_{number}"}
        for number, store in enumerate(stores):
            assert client.delete(f"{store}/STORE_{number}").status_code == 204
        missing = f"{REPOSITORY}/environments/nowhere/secrets"
        assert client.get(missing).status_code == 404
        assert client.get(f"{missing}/public-key").status_code == 404
        assert client.put(f"{missing}/A", json=hub.seal(ENVIRONMENT_SECRETS, "x")).status_code == 404


def test_an_environments_secrets_are_found_by_the_number_of_the_repository(hub: Hub) -> None:
    """As go-github asks, hence pulumi-github."""
    with hub.client(prefix="/api/v3") as client:
        client.put(ENVIRONMENT).raise_for_status()
        number = client.get(REPOSITORY).json()["id"]
        numbered = f"/repositories/{number}/environments/production/secrets"
        assert client.get(f"{numbered}/public-key").json() == client.get(f"{ENVIRONMENT_SECRETS}/public-key").json()
        assert client.put(f"{numbered}/NUMBERED", json=hub.seal(ENVIRONMENT_SECRETS, "x")).status_code == 201
        assert client.get(f"{ENVIRONMENT_SECRETS}/NUMBERED").status_code == 200
        shown = hub.inspect()["github"]["repositories"]["Molecule-AI/molecule-monorepo"]["environments"]["production"]
        assert shown["secrets"]["NUMBERED"]["sha256"] == sha256("x")
        for other in ("0", "x", "9" * 19):
            assert client.get(f"/repositories/{other}/environments/production/secrets").status_code == 404
    with hub.client(hub.token_for("numberless", scopes=["repo"])) as client:
        assert client.get(numbered).status_code == 404


def test_an_environment_takes_its_secrets_with_it(hub: Hub) -> None:
    gone = f"{REPOSITORY}/environments/gone"
    with hub.client() as client:
        client.put(gone).raise_for_status()
        assert hub.put_secret("A", "x", store=f"{gone}/secrets").status_code == 201
        assert client.delete(gone).status_code == 204
        assert client.get(f"{gone}/secrets/A").status_code == 404
        assert client.delete(gone).status_code == 404
        client.put(gone).raise_for_status()
        assert client.get(f"{gone}/secrets").json()["total_count"] == 0


def test_an_organizations_secret_is_seen_where_it_is_visible(hub: Hub) -> None:
    with hub.client() as client:
        repository_id = client.get(REPOSITORY).json()["id"]
        body = hub.seal(ORGANIZATION_SECRETS, "x")
        path, listed = f"{ORGANIZATION_SECRETS}/SHARED", f"{REPOSITORY}/actions/organization-secrets"
        assert client.put(path, json=body).status_code == 422
        assert client.put(path, json=body | {"visibility": "everybody"}).status_code == 422
        assert client.put(path, json=body | {"visibility": "selected"}).status_code == 201
        assert client.get(listed).json()["total_count"] == 0
        chosen = {"selected_repository_ids": [repository_id]}
        assert client.put(f"{path}/repositories", json=chosen).status_code == 204
        assert [each["id"] for each in client.get(f"{path}/repositories").json()["repositories"]] == [repository_id]
        assert [secret["name"] for secret in client.get(listed).json()["secrets"]] == ["SHARED"]
        assert client.put(path, json=body | {"visibility": "private"}).status_code == 204
        assert [secret["visibility"] for secret in client.get(listed).json()["secrets"]] == ["private"]
        assert client.delete(path).status_code == 204


# --- a client that nobody here wrote --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/api/v3"])
def test_pygithub_works_unchanged(hub: Hub, prefix: str) -> None:
    with github.Github(base_url=hub.url + prefix, auth=github.Auth.Token(hub.token), per_page=2) as client:
        assert client.get_user().login == "molecule-operator"
        repository = client.get_repo("Molecule-AI/molecule-monorepo")
        assert repository.permissions is not None
        assert repository.permissions.admin

        secret = repository.create_secret("PYGITHUB", f"value {prefix}")
        assert hub.actions_secrets()["PYGITHUB"]["sha256"] == sha256(f"value {prefix}")
        assert "PYGITHUB" in [each.name for each in repository.get_secrets()]
        assert repository.get_secret("PYGITHUB").updated_at.tzinfo is not None
        secret.delete()
        with pytest.raises(github.UnknownObjectException):
            repository.get_secret("PYGITHUB")

        workflow = repository.get_workflow("publish-platform-image.yml")
        assert workflow.create_dispatch("main", throw=True)
        run_id = hub.dispatch()
        hub.wait(run_id)
        run = repository.get_workflow_run(run_id)
        assert (run.status, run.conclusion, run.head_sha) == (
            "completed",
            "success",
            repository.get_branch("main").commit.sha,
        )
        assert run_id in [each.id for each in workflow.get_runs(event="workflow_dispatch", branch="main")]
        assert [step.conclusion for step in next(iter(run.jobs())).steps] == ["success"] * 3


def test_pygithub_is_told_of_refusals(hub: Hub) -> None:
    with (
        github.Github(base_url=hub.url, auth=github.Auth.Token("ghp_wrong"), retry=None) as client,
        pytest.raises(github.BadCredentialsException),
    ):
        client.get_repo("Molecule-AI/molecule-monorepo")
