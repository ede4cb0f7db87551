"""The control plane `molecule-cp`, as far as its clients show it (contract: control-plane.md).

Provisioning is real: it creates the tenant's branch at Neon and its machine at Fly with the NEON_API_KEY and the
FLY_API_TOKEN of this process's own environment, and a purge deletes both and sends a confirmation through Resend.
What has to do with Stripe is in `billing.py`.
`GET /health` touches nothing: a 200 is no proof that a secret works.

Without NEON_PROJECT_ID (a machine of a sandbox that had no Neon) organizations get no branch; without RESEND_API_KEY
no mail is sent, as the runbook says ("DisabledProvider silently no-ops").
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sys
import threading
import time
import urllib.parse
import uuid
from http.cookies import SimpleCookie
from typing import Any

from sandbox.processes import billing
from sandbox.processes.service import Handler, call, log, run

SLUG = re.compile(r"[a-z][a-z0-9-]{2,31}")
TENANT_APP = "molecule-tenant"
TENANT_IMAGE = f"registry.fly.io/{TENANT_APP}:latest"
PROVISIONING_TIMEOUT = 60
"""Seconds within which a tenant's machine must have started."""
TENANT_ENVIRONMENT = {
    "TENANT_REDIS_URL": "REDIS_URL",
    "SECRETS_ENCRYPTION_KEY": "SECRETS_ENCRYPTION_KEY",
}
"""What a tenant's machine gets from this environment, and under which name."""

NEON_PATIENCE = 30.0
"""Seconds that a write waits while others' operations run on the project (423)."""
NEON_PAUSE = 0.1
"""Seconds between two attempts."""
EMAIL_TIMEOUT = 10.0
"""Seconds; somebody waits for the purge's answer meanwhile."""
DEFAULT_OWNER_EMAIL = "delivered@resend.dev"

unhealthy = threading.Event()


def database(method: str, path: str, document: object = None) -> tuple[int, Any]:
    """Call the database; raises `OSError` if there is no answer."""
    return call(os.environ["CONTROL_PLANE_DATABASE_URL"], method, path, document=document)


def fly(method: str, path: str, document: object = None, *, timeout: float = 15.0) -> tuple[int, Any]:
    """Call the Machines API with this process's own token; raises `OSError` if there is no answer."""
    token = re.sub(r"^\s*FlyV1\s+", "", os.environ.get("FLY_API_TOKEN", ""))
    return call(
        os.environ["FLY_FLAPS_BASE_URL"], method, path, document=document, token=f"Bearer {token}", timeout=timeout
    )


def neon(method: str, path: str, document: object = None) -> tuple[int, Any]:
    """Call Neon's API with this process's own key, and wait out other operations of the project.

    Returns the last answer; raises `OSError` if there is none.
    """
    deadline = time.monotonic() + NEON_PATIENCE
    project = urllib.parse.quote(os.environ["NEON_PROJECT_ID"], safe="")
    while True:
        status, answer = call(
            os.environ["NEON_API_BASE_URL"],
            method,
            f"/projects/{project}{path}",
            document=document,
            token=f"Bearer {os.environ.get('NEON_API_KEY', '')}",
        )
        if status not in {423, 429} or time.monotonic() >= deadline:
            return status, answer
        time.sleep(NEON_PAUSE)


class ProvisioningError(Exception):
    """The tenant's branch or machine could not be had."""


def provision(organization: dict[str, Any]) -> None:
    """Create the organization's branch and machine, wait until the latter runs, and record the outcome."""
    slug = organization["slug"]
    try:
        machine = _create_machine(organization, _create_branch(organization))
        _wait_started(machine)
    except (OSError, ProvisioningError) as error:
        log(f"provisioning failed: {slug}: {error}")
        database("PATCH", f"/organizations/{slug}", {"status": "failed"})
        return
    log(f"provision {slug}: machine {machine} runs")
    database("PATCH", f"/organizations/{slug}", {"status": "running"})


def _create_branch(organization: dict[str, Any]) -> str | None:
    """Create the organization's branch and return the URL of its database; `None` without a Neon project."""
    if "NEON_PROJECT_ID" not in os.environ:
        return None
    slug = organization["slug"]
    status, created = neon("POST", "/branches", {"branch": {"name": slug}, "endpoints": [{"type": "read_write"}]})
    if status != 201:  # noqa: PLR2004
        raise ProvisioningError(f"Neon answered {status} to the creation of a branch")
    # At once: a purge must find the branch whatever comes after.
    database("PATCH", f"/organizations/{slug}", {"branch": created["branch"]["id"]})
    url: str = created["connection_uris"][0]["connection_uri"]
    return url


def _create_machine(organization: dict[str, Any], database_url: str | None) -> str:
    environment = {"MOLECULE_ORG_ID": organization["id"], "PORT": "8080"}
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    for ours, theirs in TENANT_ENVIRONMENT.items():
        if ours in os.environ:
            environment[theirs] = os.environ[ours]
    status, machine = fly(
        "POST",
        f"/v1/apps/{TENANT_APP}/machines",
        {
            "name": f"tenant-{organization['slug']}",
            "config": {
                "image": TENANT_IMAGE,
                "env": environment,
                "metadata": {"molecule_org": organization["slug"]},
                "checks": {"health": {"type": "http", "port": 8080, "path": "/health", "interval": "15s",
                                      "timeout": "2s"}},
                "restart": {"policy": "on-failure", "max_retries": 10},
            },
        },
    )  # fmt: skip
    if status != 200:  # noqa: PLR2004
        raise ProvisioningError(f"Fly answered {status} to the creation of a machine")
    # At once: a purge must find the machine even if it never starts.
    database("PATCH", f"/organizations/{organization['slug']}", {"machine": machine["id"]})
    identifier: str = machine["id"]
    return identifier


def _wait_started(machine: str) -> None:
    status, _ = fly(
        "GET",
        f"/v1/apps/{TENANT_APP}/machines/{machine}/wait?state=started&timeout={PROVISIONING_TIMEOUT}",
        timeout=PROVISIONING_TIMEOUT + 5,
    )
    if status != 200:  # noqa: PLR2004
        raise ProvisioningError(f"Fly answered {status} to the wait for machine {machine}")


def purge(organization: dict[str, Any]) -> bool:
    """Delete everything of an organization; `False` if it must be tried again."""
    slug, machine = organization["slug"], organization["machine"]
    if machine is not None:
        try:
            status, _ = fly("DELETE", f"/v1/apps/{TENANT_APP}/machines/{machine}?force=true")
        except OSError as error:
            log(f"purge {slug} failed: {error}")
            return False
        if status not in {200, 404}:
            log(f"purge {slug} failed: Fly answered {status} to the deletion of machine {machine}")
            return False
    if not _delete_branch(slug, organization["branch"]) or not billing.forget_customer(organization, database):
        return False
    database("DELETE", f"/organizations/{slug}")
    log(f"purge {slug}: done")
    confirm_purge(organization)
    return True


def _delete_branch(slug: str, branch: str | None) -> bool:
    """Delete an organization's branch, if it has one; `False` if it must be tried again."""
    if branch is None or "NEON_PROJECT_ID" not in os.environ:
        return True
    try:
        status, _ = neon("DELETE", f"/branches/{branch}")
    except OSError as error:
        log(f"purge {slug} failed: {error}")
        return False
    if status not in {200, 204, 404}:
        log(f"purge {slug} failed: Neon answered {status} to the deletion of branch {branch}")
        return False
    return True


def confirm_purge(organization: dict[str, Any]) -> None:
    """Send the owner the confirmation that the law asks for; a failure is only logged."""
    slug, key = organization["slug"], os.environ.get("RESEND_API_KEY", "")
    if not key:
        return
    email = {
        "from": os.environ.get("RESEND_FROM_EMAIL", ""),
        "to": [organization["owner_email"] or DEFAULT_OWNER_EMAIL],
        "subject": f"Your organization {slug} was deleted",
        "text": f"All data of the organization {slug} ({organization['id']}) was deleted.",
        "tags": [{"name": "category", "value": "purge"}, {"name": "organization", "value": slug}],
    }
    try:
        status, _ = call(
            os.environ["RESEND_API_URL"],
            "POST",
            "/emails",
            document=email,
            token=f"Bearer {key}",
            timeout=EMAIL_TIMEOUT,
        )
    except OSError as error:
        log(f"purge confirmation email failed: org={slug} error={type(error).__name__}")
        return
    if status != 200:  # noqa: PLR2004
        log(f"purge confirmation email failed: org={slug} status={status}")


class ControlPlane(Handler):
    """The HTTP interface."""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer `GET`."""
        url = urllib.parse.urlsplit(self.path)
        match [part for part in url.path.split("/") if part]:
            case ["health"]:
                if unhealthy.is_set():
                    self.answer(503, {"service": "molecule-cp", "status": "unhealthy"})
                else:
                    self.answer(200, {"service": "molecule-cp", "status": "ok"})
            case ["cp", "admin", "orgs"] if self._admin():
                limit = urllib.parse.parse_qs(url.query).get("limit", ["500"])[0]
                _, rows = database("GET", f"/organizations?limit={int(limit) if limit.isdigit() else 500}")
                self.answer(
                    200,
                    {
                        "orgs": [
                            {
                                "id": row["id"],
                                "slug": row["slug"],
                                "instance_status": row["status"],
                                "created_at": row["created_at"],
                            }
                            for row in rows
                        ]
                    },
                )
            case ["cp", "orgs"] if self._user():
                _, rows = database("GET", "/organizations")
                self.answer(200, {"orgs": [_organization(row) for row in rows]})
            case ["cp", "orgs", slug] if self._user():
                status, row = self._find(slug)
                if status == 200:  # noqa: PLR2004
                    self.answer(200, _organization(row))
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Answer `POST`."""
        match [part for part in self.path.partition("?")[0].split("/") if part]:
            case ["cp", "orgs"] if self._user():
                self._create()
            case ["cp", "admin", "orgs"] if self._admin():
                self._create()
            case ["cp", "billing", "checkout"] if self._session():
                self._checkout()
            case ["webhooks", "stripe"]:
                self.answer(*billing.receive(self.body(), self.headers.get("stripe-signature", ""), database))
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    def do_DELETE(self) -> None:  # noqa: N802 - http.server's name
        """Answer `DELETE`."""
        match [part for part in self.path.partition("?")[0].split("/") if part]:
            case ["cp", "orgs", slug] if self._user():
                self._purge(slug)
            case ["cp", "admin", "tenants", slug] if self._admin():
                try:
                    confirmation = self.document().get("confirm")
                except ValueError:
                    confirmation = None
                if confirmation == slug:
                    self._purge(slug)
                else:
                    self.answer(400, {"error": "confirm must be the slug"})
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    # -- who calls ----------------------------------------------------------------------------------------------------

    def _admin(self) -> bool:
        expected, sent = os.environ.get("CP_ADMIN_API_TOKEN", ""), self.headers.get("authorization", "")
        return bool(expected) and hmac.compare_digest(sent.encode(), f"Bearer {expected}".encode())

    def _user(self) -> bool:
        return self._admin() or self._session()

    def _session(self) -> bool:
        cookie = SimpleCookie(self.headers.get("cookie", "")).get("mcp_session")
        if cookie is None:
            return False
        status, _ = database("GET", f"/sessions/{hashlib.sha256(cookie.value.encode()).hexdigest()}")
        return status == 200  # noqa: PLR2004

    def _refuse(self) -> None:
        self.answer(401, {"error": "unauthorized"})

    # -- organizations ------------------------------------------------------------------------------------------------

    def _find(self, slug: str) -> tuple[int, dict[str, Any]]:
        status, row = (404, {}) if not SLUG.fullmatch(slug) else database("GET", f"/organizations/{slug}")
        if status != 200:  # noqa: PLR2004
            self.answer(404, {"error": "org not found"})
        return status, row

    def _create(self) -> None:
        try:
            body = self.document()
        except ValueError:
            self.answer(400, {"error": "invalid JSON"})
            return
        slug, name = body.get("slug"), body.get("name")
        if not isinstance(slug, str) or not SLUG.fullmatch(slug) or not isinstance(name, str) or not name:
            self.answer(400, {"error": "slug must match ^[a-z][a-z0-9-]{2,31}$ and name must not be empty"})
            return
        owner = str(body.get("owner_user_id") or "")
        email = str(body.get("owner_email") or "")
        status, row = database(
            "POST", "/organizations", {"slug": slug, "name": name, "owner": owner, "owner_email": email}
        )
        if status != 201:  # noqa: PLR2004
            self.answer(409, {"error": "slug is taken"})
            return
        # No daemon: a machine on its way down finishes what it began.
        threading.Thread(target=provision, args=(row,)).start()
        self.answer(201, _organization(row))

    def _checkout(self) -> None:
        try:
            body = self.document()
        except ValueError:
            self.answer(400, {"error": "invalid JSON"})
            return
        self.answer(*billing.checkout(body, database))

    def _purge(self, slug: str) -> None:
        status, row = self._find(slug)
        if status != 200:  # noqa: PLR2004
            return
        if purge(row):
            self.answer(204)
            return
        identifier = row["purge"] or str(uuid.uuid4())
        database("PATCH", f"/organizations/{slug}", {"purge": identifier})
        self.answer(500, {"error": "purge cascade failed; retry the request to resume", "purge_id": identifier})


def _organization(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "slug", "name", "status")}


def _switched(switches: dict[str, Any], name: str) -> bool:
    """Tell whether a failure is to happen because this process booted with a new value (`switches.py`)."""
    switch = switches.get(name)
    if switch is None:
        return False
    value = os.environ.get(switch["name"], "")
    old: str = switch["old_sha256"]
    return hashlib.sha256(value.encode()).hexdigest() != old


def main() -> None:
    """Boot and serve."""
    _, switches = database("GET", "/switches")
    if _switched(switches, "crash_on_new"):
        log("molecule-cp: fatal: cannot start")
        sys.exit(1)
    if _switched(switches, "unhealthy_on_new"):
        unhealthy.set()
    if _switched(switches, "misread_new"):
        name = switches["misread_new"]["name"]
        os.environ[name] = os.environ.get(name, "")[:-1]
    log("molecule-cp: started")
    run(ControlPlane)


if __name__ == "__main__":
    main()
