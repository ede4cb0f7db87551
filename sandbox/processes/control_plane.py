"""The control plane `molecule-cp`, as far as its clients show it (contract: control-plane.md).

Provisioning is real: it creates the tenant's machine through the Machines API with the FLY_API_TOKEN of this process's
own environment. `GET /health` touches nothing: a 200 is no proof that a secret works.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sys
import threading
import urllib.parse
import uuid
from http.cookies import SimpleCookie
from typing import Any

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


class ProvisioningError(Exception):
    """The tenant's machine could not be had."""


def provision(organization: dict[str, Any]) -> None:
    """Create the organization's machine, wait until it runs, and record the outcome."""
    slug = organization["slug"]
    try:
        machine = _create_machine(organization)
        _wait_started(machine)
    except (OSError, ProvisioningError) as error:
        log(f"provision {slug} failed: {error}")
        database("PATCH", f"/organizations/{slug}", {"status": "failed"})
        return
    log(f"provision {slug}: machine {machine} runs")
    database("PATCH", f"/organizations/{slug}", {"status": "running"})


def _create_machine(organization: dict[str, Any]) -> str:
    environment = {"MOLECULE_ORG_ID": organization["id"], "PORT": "8080"}
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
    database("DELETE", f"/organizations/{slug}")
    log(f"purge {slug}: done")
    return True


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
        if self._admin():
            return True
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
        status, row = database("POST", "/organizations", {"slug": slug, "name": name, "owner": owner})
        if status != 201:  # noqa: PLR2004
            self.answer(409, {"error": "slug is taken"})
            return
        # No daemon: a machine on its way down finishes what it began.
        threading.Thread(target=provision, args=(row,)).start()
        self.answer(201, _organization(row))

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
    log("molecule-cp: started")
    run(ControlPlane)


if __name__ == "__main__":
    main()
