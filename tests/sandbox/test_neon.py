"""Neon: keys and what they reach, branches and operations, roles; as its API and its SDK see them."""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import neon_api  # type: ignore[import-untyped]
import pytest

from sandbox import neon
from sandbox.neon import wire
from tests.sandbox.running import until

if TYPE_CHECKING:
    import httpx

    from tests.sandbox.running import Sandbox

PROJECT = f"/projects/{neon.PROJECT}"
BRANCHES = f"{PROJECT}/branches"
KEYS = f"/organizations/{neon.ORGANIZATION}/api_keys"
UNAUTHENTICATED = "supplied credentials do not pass authentication"
LOCKED = "project already has running conflicting operations, scheduling of new ones is prohibited"


def good(answer: httpx.Response, status: int = 200) -> Any:  # noqa: ANN401 - any JSON
    assert answer.status_code == status, answer.text
    return answer.json()


def mint(sandbox: Sandbox, *, project: str | None = None, name: str = "test") -> dict[str, Any]:
    body = {"key_name": name} | ({} if project is None else {"project_id": project})
    key: dict[str, Any] = good(sandbox.neon("POST", KEYS, body))
    return key


def idle(sandbox: Sandbox, project: str = neon.PROJECT) -> None:
    """Wait until no operation runs."""
    until(
        lambda: all(
            operation["status"] not in {"scheduling", "running"}
            for operation in sandbox.neon("GET", f"/projects/{project}/operations").json()["operations"]
        ),
        what="the project's operations are over",
    )


def default_branch(sandbox: Sandbox) -> str:
    branches = sandbox.neon("GET", BRANCHES).json()["branches"]
    return str(next(branch["id"] for branch in branches if branch["default"]))


def test_a_personal_key_from_its_creation_to_its_end(sandbox: Sandbox) -> None:
    created = good(sandbox.neon("POST", "/api_keys", {"key_name": "mine"}))
    assert set(created) == {"id", "key", "name", "created_at", "created_by"}
    assert (created["name"], created["created_by"]) == ("mine", neon.OPERATOR.id)
    assert created["key"].startswith("napi_")
    item = next(key for key in good(sandbox.neon("GET", "/api_keys")) if key["id"] == created["id"])
    assert set(item) == {"id", "name", "created_at", "created_by", "last_used_at", "last_used_from_addr"}
    assert item["created_by"] == {"id": neon.OPERATOR.id, "name": neon.OPERATOR.name, "image": ""}
    assert item["last_used_at"] is None
    seen = good(sandbox.neon("GET", "/auth", key=created["key"]))
    assert (seen["account_id"], seen["auth_method"]) == (neon.OPERATOR.id, "api_key_user")
    item = next(key for key in good(sandbox.neon("GET", "/api_keys")) if key["id"] == created["id"])
    assert item["last_used_at"] is not None
    assert item["last_used_from_addr"] == "127.0.0.1"
    revoked = good(sandbox.neon("DELETE", f"/api_keys/{created['id']}"))
    assert (revoked["revoked"], revoked["created_by"], revoked["id"]) == (True, neon.OPERATOR.id, created["id"])
    assert created["id"] not in [key["id"] for key in good(sandbox.neon("GET", "/api_keys"))]
    assert sandbox.neon("DELETE", f"/api_keys/{created['id']}").status_code == 404
    assert sandbox.neon("GET", "/auth", key=created["key"]).status_code == 401


def test_what_does_not_authenticate_is_refused_alike(sandbox: Sandbox) -> None:
    dead = mint(sandbox)
    good(sandbox.neon("DELETE", f"{KEYS}/{dead['id']}"))
    for key in ("", "napi_wrong", dead["key"]):
        answer = sandbox.neon("GET", "/auth", key=key, x_request_id="r-1")
        assert (answer.status_code, answer.json()) == (
            401,
            {"request_id": "r-1", "code": "", "message": UNAUTHENTICATED},
        )
    uuid.UUID(sandbox.neon("GET", "/auth", key="no").json()["request_id"])
    with sandbox.setting(revocation_delay=60):
        late = mint(sandbox)
        good(sandbox.neon("DELETE", f"{KEYS}/{late['id']}"))
        good(sandbox.neon("GET", "/auth", key=late["key"]))


@pytest.mark.parametrize("name", [None, "", "x" * 65, 7])
def test_a_wrong_key_name_is_refused(sandbox: Sandbox, name: object) -> None:
    assert sandbox.neon("POST", "/api_keys", {"key_name": name}).status_code == 400


def test_an_organization_key_administers_the_organization_but_mints_nothing(sandbox: Sandbox) -> None:
    key = mint(sandbox)
    assert "project_id" not in key
    seen = good(sandbox.neon("GET", "/auth", key=key["key"]))
    assert (seen["account_id"], seen["auth_method"]) == (neon.ORGANIZATION, "api_key_org")
    assert good(sandbox.neon("GET", "/projects", key=key["key"]))["projects"][0]["id"] == neon.PROJECT
    assert key["id"] in [listed["id"] for listed in good(sandbox.neon("GET", KEYS, key=key["key"]))]
    assert sandbox.neon("POST", KEYS, {"key_name": "n"}, key=key["key"]).status_code == 403
    assert sandbox.neon("POST", KEYS, {"key_name": "n", "project_id": neon.PROJECT}, key=key["key"]).status_code == 403
    for method, path in (("GET", "/users/me"), ("GET", "/api_keys"), ("POST", "/api_keys")):
        answer = sandbox.neon(method, path, key=key["key"])
        assert (answer.status_code, answer.json()["message"]) == (404, "not allowed for organization API keys")
    good(sandbox.neon("DELETE", f"{KEYS}/{key['id']}", key=key["key"]))
    assert sandbox.neon("GET", "/projects", key=key["key"]).status_code == 401


def test_a_member_who_is_no_admin_mints_no_key_of_the_organization(sandbox: Sandbox) -> None:
    with sandbox.world() as world:
        member = world.kept("NEON_MEMBER_API_KEY")
    assert member is not None
    good(sandbox.neon("GET", PROJECT, key=member))
    assert sandbox.neon("POST", KEYS, {"key_name": "n"}, key=member).status_code == 403
    operators = good(sandbox.neon("POST", "/api_keys", {"key_name": "not yours"}))
    assert sandbox.neon("DELETE", f"/api_keys/{operators['id']}", key=member).status_code == 404
    good(sandbox.neon("DELETE", f"/api_keys/{operators['id']}"))


def test_a_project_key_reaches_its_project_and_nothing_else(sandbox: Sandbox) -> None:
    other = good(sandbox.neon("POST", "/projects", {"project": {"name": "other"}}), 201)["project"]["id"]
    key = mint(sandbox, project=neon.PROJECT)
    assert key["project_id"] == neon.PROJECT
    listed = next(each for each in good(sandbox.neon("GET", KEYS)) if each["id"] == key["id"])
    assert listed["project_id"] == neon.PROJECT
    good(sandbox.neon("GET", PROJECT, key=key["key"]))
    good(sandbox.neon("GET", BRANCHES, key=key["key"]))
    good(sandbox.neon("GET", "/auth", key=key["key"]))
    assert [project["id"] for project in good(sandbox.neon("GET", "/projects", key=key["key"]))["projects"]] == [
        neon.PROJECT
    ]
    for method, path in (
        ("GET", f"/projects/{other}"),
        ("GET", f"/projects/{other}/branches"),
        ("POST", "/projects"),
        ("GET", KEYS),
        ("POST", KEYS),
        ("DELETE", f"{KEYS}/{key['id']}"),
        ("GET", "/api_keys"),
    ):
        assert sandbox.neon(method, path, key=key["key"]).status_code == 404, (method, path)
    with sandbox.setting(neon__no_auth_for_project_keys=1):
        assert sandbox.neon("GET", "/auth", key=key["key"]).status_code == 404
    assert sandbox.neon("POST", KEYS, {"key_name": "n", "project_id": "no-such-1"}).status_code == 404
    assert good(sandbox.neon("DELETE", f"{KEYS}/{key['id']}"))["project_id"] == neon.PROJECT


def test_a_branch_while_its_operation_runs_and_after(sandbox: Sandbox) -> None:
    idle(sandbox)
    with sandbox.setting(neon__operation_seconds=1):
        body = {"branch": {"name": "acme"}, "endpoints": [{"type": "read_write"}]}
        created = good(sandbox.neon("POST", BRANCHES, body), 201)
        branch = created["branch"]
        assert (branch["name"], branch["current_state"], branch["default"]) == ("acme", "init", False)
        assert branch["parent_id"] == default_branch(sandbox)
        assert [operation["action"] for operation in created["operations"]] == ["create_branch", "start_compute"]
        assert [operation["status"] for operation in created["operations"]] == ["running", "scheduling"]
        for method, path in (
            ("POST", BRANCHES),
            ("DELETE", f"{BRANCHES}/{branch['id']}"),
            ("POST", f"{BRANCHES}/{branch['id']}/roles"),
            ("POST", f"{BRANCHES}/{branch['id']}/roles/neondb_owner/reset_password"),
        ):
            document = {"role": {"name": "r"}} if path.endswith("roles") else None
            answer = sandbox.neon(method, path, document)
            assert (answer.status_code, answer.json()["message"]) == (423, LOCKED), (method, path)
        good(sandbox.neon("GET", f"{BRANCHES}/{branch['id']}"))
        idle(sandbox)
    operation = good(sandbox.neon("GET", f"{PROJECT}/operations/{created['operations'][0]['id']}"))["operation"]
    assert (operation["status"], operation["total_duration_ms"]) == ("finished", 1000)
    assert good(sandbox.neon("GET", f"{BRANCHES}/{branch['id']}"))["branch"]["current_state"] == "ready"
    assert sandbox.neon("POST", BRANCHES, body).status_code == 409
    found = good(sandbox.neon("GET", f"{BRANCHES}?search=acme"))["branches"]
    assert [each["id"] for each in found] == [branch["id"]]
    assert branch["id"] in [each["id"] for each in sandbox.inspect()["neon"]["branches"]]
    assert sandbox.neon("DELETE", f"{BRANCHES}/{default_branch(sandbox)}").status_code == 422
    good(sandbox.neon("DELETE", f"{BRANCHES}/{branch['id']}"))
    answer = sandbox.neon("GET", f"{BRANCHES}/{branch['id']}", x_request_id="r-2")
    assert answer.json() == {"request_id": "r-2", "code": "", "message": "branch not found"}
    assert branch["id"] not in [each["id"] for each in sandbox.inspect()["neon"]["branches"]]
    idle(sandbox)


def test_an_operation_can_end_badly(sandbox: Sandbox) -> None:
    idle(sandbox)
    with sandbox.setting(neon__operation_outcome="failed", neon__operation_seconds=0.01):
        created = good(sandbox.neon("POST", BRANCHES, {"branch": {"name": "unlucky"}}), 201)
    path = f"{PROJECT}/operations/{created['operations'][0]['id']}"
    until(lambda: sandbox.neon("GET", path).json()["operation"]["status"] == "failed", what="it failed")
    assert sandbox.neon("GET", path).json()["operation"]["error"]
    good(sandbox.neon("DELETE", f"{BRANCHES}/{created['branch']['id']}"))


def test_pages(sandbox: Sandbox) -> None:
    idle(sandbox)
    with sandbox.setting(neon__operation_seconds=0):
        branch = good(sandbox.neon("POST", BRANCHES, {"branch": {"name": "paged"}}), 201)["branch"]["id"]
        good(sandbox.neon("DELETE", f"{BRANCHES}/{branch}"))
    idle(sandbox)
    everything = [each["id"] for each in good(sandbox.neon("GET", f"{PROJECT}/operations"))["operations"]]
    assert len(everything) >= 2
    found: list[str] = []
    cursor = ""
    while True:
        page = good(sandbox.neon("GET", f"{PROJECT}/operations?limit=1&cursor={cursor}"))
        found += [each["id"] for each in page["operations"]]
        if "pagination" not in page:
            break
        cursor = page["pagination"]["cursor"]
    assert found == everything
    assert sandbox.neon("GET", f"{PROJECT}/operations?limit=1001").status_code == 400


def test_roles_and_their_passwords(sandbox: Sandbox) -> None:
    with sandbox.setting(neon__operation_seconds=0):
        roles = f"{BRANCHES}/{default_branch(sandbox)}/roles"
        created = good(sandbox.neon("POST", roles, {"role": {"name": "cp_b"}}), 201)
        first = created["role"]["password"]
        assert created["operations"][0]["action"] == "apply_config"
        assert good(sandbox.neon("GET", f"{roles}/cp_b/reveal_password")) == {"password": first}
        assert sandbox.neon("POST", roles, {"role": {"name": "cp_b"}}).status_code == 409
        assert "password" not in good(sandbox.neon("GET", f"{roles}/cp_b"))["role"]
        listed = good(sandbox.neon("GET", roles))["roles"]
        assert [role["name"] for role in listed] == ["neondb_owner", "molecule_cp", "cp_b"]
        assert not any("password" in role for role in listed)
        child = good(sandbox.neon("POST", BRANCHES, {"branch": {"name": "child"}}), 201)["branch"]["id"]
        second = good(sandbox.neon("POST", f"{roles}/cp_b/reset_password"))["role"]["password"]
        assert second != first
        uri = good(sandbox.neon("GET", f"{PROJECT}/connection_uri?database_name=neondb&role_name=cp_b"))["uri"]
        assert f"cp_b:{second}@127.0.0.1:" in uri
        pooled = f"{PROJECT}/connection_uri?database_name=neondb&role_name=cp_b&pooled=true"
        assert good(sandbox.neon("GET", pooled))["uri"] == uri
        inherited = good(sandbox.neon("GET", f"{BRANCHES}/{child}/roles/cp_b/reveal_password"))
        assert inherited == {"password": first}, "a reset of the parent does not reach the child"
        assert sandbox.neon("GET", f"{PROJECT}/connection_uri?database_name=neondb").status_code == 400
        for path in (f"{roles}/nobody/reveal_password", f"{roles}/nobody"):
            assert sandbox.neon("GET", path).status_code == 404
        assert sandbox.neon("POST", f"{roles}/nobody/reset_password").status_code == 404
        good(sandbox.neon("DELETE", f"{BRANCHES}/{child}"))
        good(sandbox.neon("DELETE", f"{roles}/cp_b"))
        assert sandbox.neon("DELETE", f"{roles}/cp_b").status_code == 204


def test_a_project_that_stores_no_passwords(sandbox: Sandbox) -> None:
    wanted = {"project": {"name": "forgetful", "store_passwords": False}}
    created = good(sandbox.neon("POST", "/projects", wanted), 201)
    path = f"/projects/{created['project']['id']}/branches/{created['branch']['id']}/roles/neondb_owner/reveal_password"
    assert sandbox.neon("GET", path).status_code == 412


def test_rate_limits_as_documented(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("sandbox.neon.wire.time.monotonic", lambda: clock[0])

    def taken(method: str, route: str, *, most: int) -> int:
        """Count the requests of one instant that are within the limits."""
        limits = wire.RateLimits(world)
        with contextlib.suppress(wire.NeonError):
            for number in range(most):
                limits.take("account", method, route if route != "any" else f"/{number % 50}")
            return most
        return number

    with sandbox.world() as world:
        assert taken("GET", "/auth", most=1000) == 1000, "off by default"
        with sandbox.setting(rate_limits=1):
            assert taken("GET", "/auth", most=1000) == 40
            assert taken("POST", wire.MINTING_ROUTE, most=1000) == 10
            assert taken("GET", "any", most=1000) == 700
            limits = wire.RateLimits(world)
            for _ in range(10):
                limits.take("account", "POST", wire.MINTING_ROUTE)
            clock[0] += 0.1
            limits.take("account", "POST", wire.MINTING_ROUTE)


def test_a_rate_limited_request_says_when_to_try_again(sandbox: Sandbox) -> None:
    with sandbox.setting(rate_limits=1), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sandbox.neon("POST", KEYS, {"key_name": ""}), range(60)))
    refusals = [answer for answer in answers if answer.status_code == 429]
    assert refusals
    assert int(refusals[0].headers["retry-after"]) >= 1
    assert {answer.status_code for answer in answers} == {400, 429}


def test_the_vendors_sdk(sandbox: Sandbox) -> None:
    client = neon_api.NeonAPI(
        sandbox.environment["NEON_API_KEY"], base_url=f"{sandbox.environment['NEON_API_BASE_URL']}/"
    )
    assert client.me().id == neon.OPERATOR.id
    key = client.api_key_create(key_name="by the SDK")
    assert key.id in [item.id for item in client.api_keys()]
    assert client.api_key_revoke(key.id).revoked is True
    assert client.project(neon.PROJECT).project.id == neon.PROJECT
    assert neon.PROJECT in [project.id for project in client.projects().projects]
    idle(sandbox)
    created = client.branch_create(neon.PROJECT, branch={"name": "by-sdk"}, endpoints=[{"type": "read_write"}])
    branch = created.branch.id
    idle(sandbox)
    assert client.operation(neon.PROJECT, created.operations[0].id).operation.status.value == "finished"
    assert branch in [item.id for item in client.branches(neon.PROJECT).branches]
    assert client.endpoints(neon.PROJECT).endpoints
    assert client.role_create(neon.PROJECT, branch, "sdk_role").role.password
    idle(sandbox)
    assert client.role_password_reset(neon.PROJECT, branch, "sdk_role").role.password
    assert "sdk_role" in [role.name for role in client.roles(neon.PROJECT, branch).roles]
    assert client.connection_uri(neon.PROJECT, "neondb", "neondb_owner").uri.startswith("postgresql://")
    idle(sandbox)
    client.branch_delete(neon.PROJECT, branch)
    with pytest.raises(neon_api.NeonAPIError, match=UNAUTHENTICATED):
        neon_api.NeonAPI(key.key, base_url=f"{sandbox.environment['NEON_API_BASE_URL']}/").me()
    idle(sandbox)


def test_what_is_not_there(sandbox: Sandbox) -> None:
    assert sandbox.neon("GET", "/nothing").json()["message"] == "not found"
    assert sandbox.neon("PUT", "/auth").status_code == 405
    assert sandbox.neon("GET", "/projects/No_Such").json()["message"] == "project not found"
    assert sandbox.neon("GET", f"{PROJECT}/operations/no").status_code == 404


def test_generations_are_one_family_and_nothing_secret_is_on_disk(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    keys = [mint(fresh, name=f"molecule-cp-rotation-sandbox-NEON_API_KEY-g{number}") for number in (1, 2)]
    with fresh.setting(neon__operation_seconds=0):
        roles = f"{BRANCHES}/{default_branch(fresh)}/roles"
        password = good(fresh.neon("POST", roles, {"role": {"name": "r"}}), 201)["role"]["password"]
    good(fresh.neon("DELETE", f"{KEYS}/{keys[0]['id']}"))
    fresh.stop()
    values = [keys[0]["key"], keys[1]["key"], password, fresh.environment["NEON_API_KEY"]]
    files = [path for path in fresh.directory.rglob("*") if path.is_file()]
    assert any(path.name == "world.sqlite" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [value[:9] for value in values if value.encode() in content], path
    fresh.start()
    assert fresh.neon("GET", "/auth", key=keys[0]["key"]).status_code == 401
    good(fresh.neon("GET", "/auth", key=keys[1]["key"]))
    assert good(fresh.neon("GET", f"{roles}/r/reveal_password")) == {"password": password}
    family = "molecule-cp-rotation-sandbox-NEON_API_KEY"
    seen = [key for key in fresh.inspect()["credentials"] if key["family"] == family]
    assert [(key["provider"], key["name"][-2:], key["live"]) for key in seen] == [
        ("neon", "g1", False),
        ("neon", "g2", True),
    ]
