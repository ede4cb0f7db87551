"""An organization gets a fresh branch and machine, also if nobody can decrypt what was kept of the old ones."""

from __future__ import annotations

import base64
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from sandbox import neon
from sandbox.processes import encryption
from tests.sandbox.running import TENANT, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.sandbox.running import Sandbox

KEY = "SECRETS_ENCRYPTION_KEY"


def reprovision(sandbox: Sandbox, slug: str, confirm: object = None, **headers: str) -> httpx.Response:
    document = {"confirm": slug if confirm is None else confirm}
    path = f"/cp/admin/tenants/{slug}/reprovision"
    return sandbox.control_plane("POST", path, document, headers=headers or None)


def ended(sandbox: Sandbox, slug: str) -> str:
    """Wait for the end of a provisioning and return the status."""
    return until(
        lambda: status if (status := sandbox.status_of(slug)) != "provisioning" else None, what=f"{slug} is provisioned"
    )


def row_of(sandbox: Sandbox, slug: str) -> dict[str, Any]:
    with psycopg.connect(sandbox.secret_value("DATABASE_URL"), row_factory=dict_row) as connection:
        row = connection.execute(
            "SELECT * FROM org_instances JOIN organizations ON organizations.id = org_id WHERE slug = %s", (slug,)
        ).fetchone()
    assert row is not None
    return row


def machines_of(sandbox: Sandbox, slug: str) -> list[dict[str, Any]]:
    return [machine for machine in sandbox.machines(TENANT) if machine["config"]["metadata"]["molecule_org"] == slug]


def branches_of(sandbox: Sandbox, slug: str) -> list[str]:
    found = sandbox.neon("GET", f"/projects/{neon.PROJECT}/branches").json()["branches"]
    return [branch["id"] for branch in found if branch["name"] == slug]


def healthy(sandbox: Sandbox, slug: str) -> bool:
    return all(m["state"] == "started" and m["checks"][0]["status"] == "passing" for m in machines_of(sandbox, slug))


def assert_consistent(sandbox: Sandbox, slug: str) -> None:
    """The row, Neon and Fly agree: one branch, one machine, and columns under the present key that say what it has."""
    row, (machine,) = row_of(sandbox, slug), machines_of(sandbox, slug)
    assert ([row["branch_id"]], row["machine_id"]) == (branches_of(sandbox, slug), machine["id"])
    key = base64.b64decode(sandbox.secret_value(KEY))
    environment = machine["config"]["env"]
    assert encryption.decrypt(key, row["database_url_encrypted"]) == environment["DATABASE_URL"]
    assert encryption.decrypt(key, row["redis_url_encrypted"]) == environment["REDIS_URL"]
    assert environment[KEY] == sandbox.secret_value(KEY)
    until(lambda: healthy(sandbox, slug), what=f"the tenant of {slug} is healthy")
    assert sandbox.tenant("GET", slug, "/database").status_code == 200


@pytest.fixture
def acme(sandbox: Sandbox) -> Iterator[str]:
    """Return the slug of an organization that is there for one test."""
    slug = f"acme-{os.urandom(4).hex()}"
    assert sandbox.provision(slug) == "running"
    until(lambda: healthy(sandbox, slug), what="the tenant is healthy")
    yield slug
    assert sandbox.control_plane("DELETE", f"/cp/orgs/{slug}").status_code == 204


@pytest.fixture
def restored(sandbox: Sandbox) -> Iterator[None]:
    """Give the control plane back the secrets that it had."""
    before: dict[str, str | None] = {
        name: sandbox.secret_value(name) for name in (KEY, "NEON_API_KEY", "FLY_API_TOKEN")
    }
    yield
    sandbox.secrets(**before)
    sandbox.roll()


def test_an_organization_gets_a_fresh_branch_and_machine_and_keeps_its_data(sandbox: Sandbox, acme: str) -> None:
    path = f"/cp/orgs/{acme}/data/kept"
    assert sandbox.control_plane("PUT", path, {"value": "value"}).status_code == 200
    before, old = row_of(sandbox, acme), machines_of(sandbox, acme)[0]
    broken = sandbox.inspect()["breakages"]
    answer = reprovision(sandbox, acme)
    assert (answer.status_code, answer.json()["status"]) == (202, "provisioning")
    assert answer.json()["id"] == str(before["org_id"])
    assert ended(sandbox, acme) == "running"
    after = row_of(sandbox, acme)
    assert after["org_id"] == before["org_id"]
    assert after["branch_id"] != before["branch_id"]
    assert after["machine_id"] != before["machine_id"]
    assert sandbox.machine(old["id"], TENANT)["state"] == "destroyed"
    assert_consistent(sandbox, acme)
    assert sandbox.control_plane("GET", path).json()["value"] == "value", "its Redis is the same"
    assert sandbox.inspect()["breakages"] == broken
    assert "control-plane POST /cp/admin/tenants/{slug}/reprovision" in sandbox.inspect()["requests"]


def test_who_may_ask_and_how(sandbox: Sandbox, acme: str) -> None:
    before = row_of(sandbox, acme)
    session = {"cookie": f"mcp_session={sandbox.environment['CP_SESSION']}"}
    assert reprovision(sandbox, acme, **session).status_code == 401
    assert reprovision(sandbox, acme, authorization="Bearer no").status_code == 401
    assert reprovision(sandbox, acme, confirm="another").status_code == 400
    assert sandbox.control_plane("POST", f"/cp/admin/tenants/{acme}/reprovision").status_code == 400
    assert reprovision(sandbox, "no-such-org").status_code == 404
    assert row_of(sandbox, acme) == before


def test_a_second_request_is_refused_while_the_first_is_under_way(sandbox: Sandbox, acme: str) -> None:
    with sandbox.setting(boot_time=1):
        assert reprovision(sandbox, acme).status_code == 202
        answers = [reprovision(sandbox, acme) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [409] * 3
        assert ended(sandbox, acme) == "running"
    assert len(machines_of(sandbox, acme)) == len(branches_of(sandbox, acme)) == 1
    assert_consistent(sandbox, acme)


@pytest.mark.usefixtures("restored")
def test_neither_it_nor_a_deletion_decrypts_anything(sandbox: Sandbox, acme: str) -> None:
    assert sandbox.provision("to-be-deleted") == "running"
    before = row_of(sandbox, acme)
    sandbox.secrets(**{KEY: base64.b64encode(os.urandom(32)).decode()})
    sandbox.roll()
    assert sandbox.control_plane("GET", f"/cp/orgs/{acme}").status_code == 500
    broken = sandbox.inspect()["breakages"]
    assert reprovision(sandbox, acme).status_code == 202
    assert sandbox.control_plane("DELETE", "/cp/orgs/to-be-deleted").status_code == 204
    assert ended(sandbox, acme) == "running"
    assert sandbox.inspect()["breakages"] == broken
    assert row_of(sandbox, acme)["database_url_encrypted"] != before["database_url_encrypted"]
    assert_consistent(sandbox, acme)
    assert sandbox.control_plane("GET", f"/cp/orgs/{acme}").status_code == 200
    assert sandbox.control_plane("PUT", f"/cp/orgs/{acme}/data/a", {"value": "b"}).status_code == 200
    assert not branches_of(sandbox, "to-be-deleted")
    assert not machines_of(sandbox, "to-be-deleted")


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("fly", "DELETE", "/machines/"),
        ("fly", "GET", "/wait"),
        ("neon", "DELETE", "/branches/"),
        ("neon", "POST", "/branches"),
        ("fly", "POST", "molecule-tenant/machines$"),
    ],
)
def test_what_failed_is_resumed_by_asking_again(
    sandbox: Sandbox, acme: str, provider: str, method: str, path: str
) -> None:
    with sandbox.fault("--provider", provider, "--match", method, path, "--status", "500"):
        assert reprovision(sandbox, acme).status_code == 202
        assert ended(sandbox, acme) == "failed"
    assert reprovision(sandbox, acme).status_code == 202
    assert ended(sandbox, acme) == "running"
    assert_consistent(sandbox, acme)


@pytest.mark.parametrize(("provider", "path"), [("neon", "/branches"), ("fly", "molecule-tenant/machines$")])
def test_what_was_made_and_never_recorded_is_found_by_its_name(
    sandbox: Sandbox, acme: str, provider: str, path: str
) -> None:
    drop = ("--provider", provider, "--match", "POST", path, "--drop-after")
    with sandbox.setting(neon__operation_seconds=0), sandbox.fault(*drop):
        assert reprovision(sandbox, acme).status_code == 202
        assert ended(sandbox, acme) == "failed"
    assert len(branches_of(sandbox, acme)) == 1
    assert reprovision(sandbox, acme).status_code == 202
    assert ended(sandbox, acme) == "running"
    assert_consistent(sandbox, acme)


def test_what_was_interrupted_counts_as_over_after_a_while(sandbox: Sandbox, acme: str) -> None:
    with psycopg.connect(sandbox.secret_value("DATABASE_URL"), autocommit=True) as connection:
        statement = "UPDATE organizations SET status = 'provisioning', provisioning_since = now() - %s::interval WHERE slug = %s"
        connection.execute(statement, ("100 seconds", acme))
        assert reprovision(sandbox, acme).status_code == 409
        connection.execute(statement, ("121 seconds", acme))
    assert reprovision(sandbox, acme).status_code == 202
    assert ended(sandbox, acme) == "running"
    assert_consistent(sandbox, acme)


def test_it_waits_for_the_end_of_the_old_machine(sandbox: Sandbox, acme: str) -> None:
    (machine,) = machines_of(sandbox, acme)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a Redis that accepts and never answers
        environment = {**machine["config"]["env"], "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}"}
        config = {**machine["config"], "env": environment}
        updated = sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": config}).json()
        until(
            lambda: (
                (now := machines_of(sandbox, acme)[0])["instance_id"] == updated["instance_id"]
                and now["checks"][0]["status"] == "passing"
            ),
            what="it serves again",
        )
        # Until this is answered, after 5 s, the machine does not end.
        request = threading.Thread(target=sandbox.tenant, args=("GET", acme, "/data/x"))
        request.start()
        held = silent.accept()  # kept open
        assert reprovision(sandbox, acme).status_code == 202
        assert ended(sandbox, acme) == "running"
        request.join()
        held[0].close()
    assert_consistent(sandbox, acme)


def test_a_row_without_a_machine_gets_one(sandbox: Sandbox) -> None:
    sandbox.quickly("seed-orgs", "--count", "1")
    assert machines_of(sandbox, "seeded-1") == []
    assert reprovision(sandbox, "seeded-1").status_code == 202
    assert ended(sandbox, "seeded-1") == "running"
    assert_consistent(sandbox, "seeded-1")
    assert sandbox.control_plane("DELETE", "/cp/orgs/seeded-1").status_code == 204
