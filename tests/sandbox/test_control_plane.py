"""The control plane: organizations, who may ask, and that it really uses its own Fly token."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.sandbox.running import TENANT, until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandbox

ADMIN = "/cp/admin"


def delete(sandbox: Sandbox, slug: str) -> httpx.Response:
    return sandbox.control_plane("DELETE", f"{ADMIN}/tenants/{slug}", {"confirm": slug})


def tenants(sandbox: Sandbox) -> list[str]:
    return [machine["name"] for machine in sandbox.machines(TENANT)]


def test_health(sandbox: Sandbox) -> None:
    answer = sandbox.control_plane("GET", "/health", headers={})
    assert (answer.status_code, answer.json()) == (200, {"service": "molecule-cp", "status": "ok"})


def test_an_organization_gets_a_machine_with_its_environment_and_loses_it(sandbox: Sandbox) -> None:
    assert sandbox.provision("keytest-1") == "running"
    machine = next(m for m in sandbox.machines(TENANT) if m["name"] == "tenant-keytest-1")
    assert machine["config"]["image"] == "registry.fly.io/molecule-tenant:latest"
    organization = sandbox.control_plane("GET", "/cp/orgs/keytest-1").json()
    environment = sandbox.environment_of(machine["id"], "molecule-tenant")
    assert environment["MOLECULE_ORG_ID"] == hashlib.sha256(organization["id"].encode()).hexdigest()
    answer = until(
        lambda: (
            found
            if (
                found := httpx.get(
                    sandbox.environment["TENANT_URL"] + "/health",
                    headers={"fly-force-instance-id": machine["id"]},
                    trust_env=False,
                )
            ).status_code
            == 200
            else None
        ),
        what="the tenant answers",
    )
    assert answer.json()["org_id"] == organization["id"]
    assert sandbox.control_plane("DELETE", f"{ADMIN}/tenants/keytest-1", {"confirm": "other"}).status_code == 400
    assert delete(sandbox, "keytest-1").status_code == 204
    assert sandbox.status_of("keytest-1") is None
    until(lambda: "tenant-keytest-1" not in tenants(sandbox), what="the machine is destroyed")
    assert delete(sandbox, "keytest-1").status_code == 404


@pytest.mark.parametrize("slug", ["ab", "1abc", "Abc", "a_bc", "a" * 33, "", None, 7, "abc\n"])
def test_a_wrong_slug_is_refused(sandbox: Sandbox, slug: object) -> None:
    assert sandbox.control_plane("POST", f"{ADMIN}/orgs", {"slug": slug, "name": "n"}).status_code == 400


def test_a_slug_is_taken_once(sandbox: Sandbox) -> None:
    body = {"slug": "taken-slug", "name": "n", "owner_user_id": "u"}
    assert sandbox.control_plane("POST", f"{ADMIN}/orgs", body).status_code == 201
    assert sandbox.control_plane("POST", f"{ADMIN}/orgs", body).status_code == 409
    until(lambda: sandbox.status_of("taken-slug") == "running", what="it is provisioned")
    assert delete(sandbox, "taken-slug").status_code == 204


def test_who_may_ask(sandbox: Sandbox) -> None:
    session = {"cookie": f"mcp_session={sandbox.environment['CP_SESSION']}"}
    for headers in ({}, {"authorization": "Bearer no"}, {"cookie": "mcp_session=no"}):
        for method, path in (
            ("POST", "/cp/orgs"),
            ("GET", "/cp/orgs"),
            ("DELETE", "/cp/orgs/a-slug"),
            ("POST", f"{ADMIN}/orgs"),
            ("GET", f"{ADMIN}/orgs"),
            ("DELETE", f"{ADMIN}/tenants/a-slug"),
        ):
            assert sandbox.control_plane(method, path, headers=headers).status_code == 401, (method, path)
    assert sandbox.control_plane("GET", f"{ADMIN}/orgs", headers=session).status_code == 401
    created = sandbox.control_plane("POST", "/cp/orgs", {"slug": "by-session", "name": "n"}, headers=session)
    assert (created.status_code, created.json()["status"]) == (201, "provisioning")
    until(lambda: sandbox.status_of("by-session") == "running", what="it is provisioned")
    assert sandbox.control_plane("GET", "/cp/orgs/by-session", headers=session).json()["status"] == "running"
    assert sandbox.control_plane("DELETE", "/cp/orgs/by-session", headers=session).status_code == 204


def test_with_a_dead_token_health_is_fine_and_provisioning_fails_and_a_new_one_heals(sandbox: Sandbox) -> None:
    assert sandbox.provision("before-it-dies") == "running"
    dead = next(c for c in sandbox.inspect()["credentials"] if c["name"] == "molecule-cp-rotation-20260101")
    breakages = len(sandbox.inspect()["breakages"])
    sandbox.revoke(dead["id"])
    assert sandbox.control_plane("GET", "/health").status_code == 200
    assert sandbox.provision("with-dead-token") == "failed"
    purge = delete(sandbox, "before-it-dies")
    assert purge.status_code == 500
    assert purge.json()["error"] == "purge cascade failed; retry the request to resume"
    assert delete(sandbox, "before-it-dies").json()["purge_id"] == purge.json()["purge_id"]
    found = sandbox.inspect()["breakages"][breakages:]
    machines = {f"molecule-cp/{machine['id']}" for machine in sandbox.machines()}
    assert {breakage["consumer"] for breakage in found} <= machines | {"molecule-cp"}
    assert any(breakage["consumer"] in machines and "401" in breakage["what"] for breakage in found)
    logs = sandbox.fly("GET", "/api/v1/apps/molecule-cp/logs").text
    assert "provisioning failed: with-dead-token: Fly answered 401" in logs

    value = sandbox.mint(app="molecule-tenant")["tokenHeader"]
    sandbox.secrets(FLY_API_TOKEN=value)
    assert sandbox.provision("staged-only") == "failed"
    sandbox.roll()
    assert sandbox.provision("healed-again") == "running"
    for slug in ("before-it-dies", "with-dead-token", "staged-only", "healed-again"):
        assert delete(sandbox, slug).status_code == 204
    assert value.removeprefix("FlyV1 ") not in logs


def test_a_token_of_the_wrong_app_provisions_nothing(sandbox: Sandbox) -> None:
    old = sandbox.secret_value("FLY_API_TOKEN")
    sandbox.secrets(FLY_API_TOKEN=sandbox.mint(app="molecule-cp")["tokenHeader"])
    sandbox.roll()
    assert sandbox.provision("wrong-scope") == "failed"
    sandbox.secrets(FLY_API_TOKEN=old)
    sandbox.roll()
    assert delete(sandbox, "wrong-scope").status_code == 204


def test_the_seed_is_a_system_that_somebody_built_by_hand(fresh: Sandbox) -> None:
    fresh.start("--machines", "3")
    seen = fresh.inspect()
    app = seen["fly"]["apps"]["molecule-cp"]
    assert len(app["machines"]) == 3
    assert all(machine["healthy"] and machine["state"] == "started" for machine in app["machines"])
    assert {"FLY_API_TOKEN", "CP_ADMIN_API_TOKEN", "SESSION_SECRET"} <= set(app["secrets"])
    assert {"NEON_API_KEY", "RESEND_API_KEY", "RESEND_FROM_EMAIL"} <= set(app["secrets"])
    assert app["rollouts"] == 0
    assert seen["fly"]["apps"]["molecule-tenant"] == {"machines": [], "secrets": {}, "rollouts": 0}
    used = app["secrets"]["FLY_API_TOKEN"]["sha256"]
    assert {machine["env_sha256"]["FLY_API_TOKEN"] for machine in app["machines"]} == {used}
    actions = seen["github"]["repositories"]["Molecule-AI/molecule-monorepo"]["secrets"]["FLY_API_TOKEN"]
    assert actions["sha256"] == used
    assert seen["breakages"] == []
    config = fresh.machines()[0]["config"]
    assert config["metadata"]["fly_platform_version"] == "v2"
    assert config["metadata"]["fly_process_group"] == "app"
    assert len(fresh.machines()[0]["checks"]) == 1
    fresh.roll()
    assert fresh.inspect()["fly"]["apps"]["molecule-cp"]["rollouts"] == 0, "nothing new was rolled out"
