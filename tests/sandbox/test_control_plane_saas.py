"""The control plane as a consumer of Neon and Resend: what happens when its own keys are good, dead or missing."""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox import neon
from tests.sandbox.running import TENANT, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandbox

DOMAIN = "moleculesai.app"
KEYS = f"/organizations/{neon.ORGANIZATION}/api_keys"


def branches(sandbox: Sandbox) -> list[str]:
    return [branch["name"] for branch in sandbox.inspect()["neon"]["branches"]]


def emails(sandbox: Sandbox, slug: str) -> list[dict[str, Any]]:
    return [email for email in sandbox.inspect()["resend"]["emails"] if slug in email["subject"].split()]


def logs(sandbox: Sandbox) -> str:
    return sandbox.fly("GET", "/api/v1/apps/molecule-cp/logs").text


def runs(sandbox: Sandbox, slug: str) -> bool:
    return sandbox.status_of(slug) == "running"


def purge(sandbox: Sandbox, slug: str) -> int:
    return sandbox.control_plane("DELETE", f"/cp/orgs/{slug}").status_code


def breakages(sandbox: Sandbox, word: str) -> list[str]:
    """Return the breakages of control-plane machines in which `word` occurs."""
    machines = {f"molecule-cp/{machine['id']}" for machine in sandbox.machines()}
    found = sandbox.inspect()["breakages"]
    return [each["what"] for each in found if each["consumer"] in machines and word in each["what"]]


@pytest.fixture
def restored(sandbox: Sandbox) -> Iterator[None]:
    """Give the control plane back the secrets that it had."""
    names = ("NEON_API_KEY", "RESEND_API_KEY", "RESEND_FROM_EMAIL")
    before: dict[str, str | None] = {name: sandbox.secret_value(name) for name in names}
    yield
    sandbox.secrets(**before)
    sandbox.roll()


def test_an_organization_gets_a_branch_and_loses_it_and_its_owner_is_told(sandbox: Sandbox) -> None:
    body = {"slug": "with-branch", "name": "Test", "owner_user_id": "u", "owner_email": "owner@resend.dev"}
    assert sandbox.control_plane("POST", "/cp/admin/orgs", body).status_code == 201
    until(lambda: sandbox.status_of("with-branch") == "running", what="it is provisioned")
    assert "with-branch" in branches(sandbox)
    # The tenant got the URL of this very branch.
    project = f"/projects/{neon.PROJECT}"
    branch = sandbox.neon("GET", f"{project}/branches?search=with-branch").json()["branches"][0]["id"]
    query = f"database_name=neondb&role_name=neondb_owner&branch_id={branch}"
    uri = sandbox.neon("GET", f"{project}/connection_uri?{query}").json()["uri"]
    machine = next(m for m in sandbox.machines(TENANT) if m["name"] == "tenant-with-branch")
    environment = sandbox.environment_of(machine["id"], "molecule-tenant")
    assert environment["DATABASE_URL"] == hashlib.sha256(uri.encode()).hexdigest()
    assert purge(sandbox, "with-branch") == 204
    assert "with-branch" not in branches(sandbox)
    until(lambda: emails(sandbox, "with-branch")[0]["last_event"] == "delivered", what="the mail is delivered")
    assert emails(sandbox, "with-branch")[0]["to"] == ["owner@resend.dev"]
    # A verifier finds it by what the API shows.
    listed = sandbox.resend("GET", "/emails").json()["data"]
    found = next(email for email in listed if "with-branch" in email["subject"])
    email = sandbox.resend("GET", f"/emails/{found['id']}").json()
    assert {"name": "organization", "value": "with-branch"} in email["tags"]
    assert email["from"] == "Molecule AI <noreply@moleculesai.app>"
    assert sandbox.inspect()["breakages"] == []


def test_organizations_at_the_same_time_wait_for_each_others_operations(sandbox: Sandbox) -> None:
    slugs = [f"together-{number}" for number in range(4)]
    with sandbox.setting(neon__operation_seconds=0.2):
        for slug in slugs:
            answer = sandbox.control_plane("POST", "/cp/admin/orgs", {"slug": slug, "name": "n"})
            assert answer.status_code == 201
        for slug in slugs:
            until(functools.partial(runs, sandbox, slug), what=f"{slug} is provisioned")
        assert set(slugs) <= set(branches(sandbox))
        assert [purge(sandbox, slug) for slug in slugs] == [204] * 4
    assert not set(slugs) & set(branches(sandbox))
    assert emails(sandbox, "together-0")[0]["to"] == ["delivered@resend.dev"]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("pause", [0.0, 0.15, 0.3, 0.5])
def test_an_organization_that_is_deleted_while_it_is_provisioned_leaves_nothing(sandbox: Sandbox, pause: float) -> None:
    slug = f"hasty-{int(pause * 100)}"
    body = {"slug": slug, "name": "Hasty", "owner_user_id": "u"}
    assert sandbox.control_plane("POST", "/cp/admin/orgs", body).status_code == 201
    time.sleep(pause)
    assert purge(sandbox, slug) == 204

    def left() -> bool:
        machines = [machine["name"] for machine in sandbox.machines(TENANT)]
        return f"tenant-{slug}" in machines or slug in branches(sandbox)

    time.sleep(1.0)  # whatever was under way is over
    until(lambda: not left(), what="the machine and the branch are gone")


def test_with_a_dead_neon_key_nothing_is_provisioned_and_a_new_one_heals(sandbox: Sandbox) -> None:
    key = sandbox.neon("POST", KEYS, {"key_name": "to die"}).json()
    sandbox.secrets(NEON_API_KEY=key["key"])
    sandbox.roll()
    assert sandbox.provision("before-neon-dies") == "running"
    assert not breakages(sandbox, "neon")
    assert sandbox.neon("DELETE", f"{KEYS}/{key['id']}").status_code == 200
    assert sandbox.control_plane("GET", "/health").status_code == 200
    assert sandbox.provision("neon-is-dead") == "failed"
    assert "neon-is-dead" not in branches(sandbox)
    assert "tenant-neon-is-dead" not in [machine["name"] for machine in sandbox.machines(TENANT)]
    assert "provisioning failed: neon-is-dead: Neon answered 401" in logs(sandbox)
    assert breakages(sandbox, "neon POST /api/v2/projects/cool-sea-89357706/branches: refused with 401")
    assert purge(sandbox, "before-neon-dies") == 500
    new = sandbox.neon("POST", KEYS, {"key_name": "new", "project_id": neon.PROJECT}).json()
    sandbox.secrets(NEON_API_KEY=new["key"])
    sandbox.roll()
    assert sandbox.provision("neon-heals") == "running"
    for slug in ("before-neon-dies", "neon-is-dead", "neon-heals"):
        assert purge(sandbox, slug) == 204
    assert set(branches(sandbox)) == {"production"}
    assert key["key"] not in logs(sandbox)
    assert new["key"] not in logs(sandbox)


@pytest.mark.usefixtures("restored")
def test_a_key_of_another_project_breaks_provisioning(sandbox: Sandbox) -> None:
    other = sandbox.neon("POST", "/projects", {"project": {"name": "other"}}).json()["project"]["id"]
    key = sandbox.neon("POST", KEYS, {"key_name": "elsewhere", "project_id": other}).json()
    sandbox.secrets(NEON_API_KEY=key["key"])
    sandbox.roll()
    assert sandbox.provision("elsewhere") == "failed"
    assert breakages(sandbox, "outside the project")
    assert purge(sandbox, "elsewhere") == 204


@pytest.mark.usefixtures("restored")
def test_with_a_dead_resend_key_the_purge_succeeds_and_only_the_log_tells(sandbox: Sandbox) -> None:
    key = sandbox.resend("POST", "/api-keys", {"name": "to die", "permission": "sending_access"}).json()
    sandbox.secrets(RESEND_API_KEY=key["token"])
    sandbox.roll()
    for slug in ("mail-works", "mail-is-dead"):
        assert sandbox.provision(slug) == "running"
    assert purge(sandbox, "mail-works") == 204
    assert len(emails(sandbox, "mail-works")) == 1
    assert sandbox.resend("DELETE", f"/api-keys/{key['id']}").status_code == 200
    assert purge(sandbox, "mail-is-dead") == 204
    assert emails(sandbox, "mail-is-dead") == []
    until(lambda: "purge confirmation email failed: org=mail-is-dead status=400" in logs(sandbox), what="it is logged")
    assert breakages(sandbox, "resend POST /emails: refused with 400: API key is invalid")
    assert key["token"] not in logs(sandbox)


def test_from_an_unverified_domain_no_mail_is_sent(sandbox: Sandbox) -> None:
    assert sandbox.provision("unverified") == "running"
    with sandbox.setting(resend__domain_unverified=DOMAIN):
        assert purge(sandbox, "unverified") == 204
    assert emails(sandbox, "unverified") == []
    until(lambda: "purge confirmation email failed: org=unverified status=403" in logs(sandbox), what="it is logged")


def test_a_swallowed_mail_leaves_no_trace(sandbox: Sandbox) -> None:
    assert sandbox.provision("swallowed") == "running"
    with sandbox.setting(resend__swallow_emails=1):
        assert purge(sandbox, "swallowed") == 204
    assert emails(sandbox, "swallowed") == []
    assert "org=swallowed" not in logs(sandbox)


def test_a_mail_that_gets_no_answer_is_logged(sandbox: Sandbox) -> None:
    assert sandbox.provision("unanswered") == "running"
    with sandbox.fault("--provider", "resend", "--match", "POST", "^/emails$", "--drop-before"):
        assert purge(sandbox, "unanswered") == 204
    until(lambda: "purge confirmation email failed: org=unanswered error=" in logs(sandbox), what="it is logged")


@pytest.mark.usefixtures("restored")
def test_without_a_resend_key_mail_is_silently_off(sandbox: Sandbox) -> None:
    sandbox.secrets(RESEND_API_KEY=None)
    sandbox.roll()
    assert sandbox.provision("mail-is-off") == "running"
    assert purge(sandbox, "mail-is-off") == 204
    assert emails(sandbox, "mail-is-off") == []
    assert "org=mail-is-off" not in logs(sandbox)


def test_a_machine_of_a_sandbox_without_neon_provisions_without_branches(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    machine = fresh.machines()[0]
    config = machine["config"]
    del config["env"]["NEON_PROJECT_ID"]
    answer = fresh.update({**machine, "config": config})
    assert answer.status_code == 200, answer.text
    fresh.wait_healthy(answer.json())
    assert fresh.provision("no-branch") == "running"
    assert branches(fresh) == ["production"]
    assert purge(fresh, "no-branch") == 204


def test_a_sandbox_from_before_there_was_a_postgresql_says_so(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    fresh.stop()
    shutil.rmtree(fresh.directory / "postgres")
    failed = run("start", "--dir", str(fresh.directory), "--detach")
    assert failed.returncode == 1
    assert "was made before sandboxes had a PostgreSQL" in failed.stderr
