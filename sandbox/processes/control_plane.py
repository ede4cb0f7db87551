"""The control plane `molecule-cp`, as far as its clients show it (contract: control-plane.md).

Provisioning is real: it creates the tenant's branch at Neon and its machine at Fly with the NEON_API_KEY and the
FLY_API_TOKEN of this process's own environment, and a purge deletes both and sends a confirmation through Resend.
What has to do with Stripe is in `billing.py`, what it keeps in PostgreSQL, with DATABASE_URL, in `database.py`.
`GET /health` touches nothing: a 200 is no proof that a secret works. Whatever else is asked for is answered 503 if the
database cannot be asked, and 500 if an organization's columns do not decrypt with SECRETS_ENCRYPTION_KEY. With a key
that is none the process does not start.

`POST /cp/admin/tenants/{slug}/reprovision {"confirm": slug}` gives an organization a fresh branch and a fresh machine in
place of those that it has: 202, and its status tells the end; 409 while it is being provisioned. Neither that nor a
purge decrypts anything: both work for an organization whose columns were encrypted with a key that is lost.

Without NEON_PROJECT_ID (a machine of a sandbox that had no Neon) organizations get no branch; without RESEND_API_KEY
no mail is sent, as the runbook says ("DisabledProvider silently no-ops").
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
import time
import urllib.parse
import uuid
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from sandbox.processes import billing, encryption, tenant_data, tenant_machine
from sandbox.processes.database import KEPT, Database, DatabaseError, attempt
from sandbox.processes.service import FatalError, Handler, call, current, environ, log, run, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SLUG = re.compile(r"[a-z][a-z0-9-]{2,31}")
PROVISIONING_TIMEOUT = 60
"""Seconds within which a tenant's machine must have started."""

NEON_PATIENCE = 30.0
"""Seconds that a write waits while others' operations run on the project (423)."""
NEON_PAUSE = 0.1
"""Seconds between two attempts."""
EMAIL_TIMEOUT = 10.0
"""Seconds; somebody waits for the purge's answer meanwhile."""
DEFAULT_OWNER_EMAIL = "delivered@resend.dev"


def tenant_app() -> str:
    """Return the Fly app of the tenants."""
    return environ().get("TENANT_APP", tenant_machine.APP)


def database() -> Database:
    """Return this machine's database. `boot` has looked at the key."""

    def connect() -> Database:
        key = encryption_key(hexadecimal=_switches()["key_encoding"] == "hex")
        return Database(
            environ().get("DATABASE_URL", ""), key, most_kept=int(environ().get("SANDBOX_KEPT_CONNECTIONS", KEPT))
        )

    return current().once("database", connect)


def _switches() -> dict[str, Any]:
    """Return what this machine is to play (`rig.py`), as it was at its boot."""

    def ask() -> dict[str, Any]:
        _, switches = call(environ()["SANDBOX_RIG_URL"], "GET", "/switches")
        found: dict[str, Any] = switches
        return found

    return current().once("switches", ask)


def encryption_key(*, hexadecimal: bool) -> bytes:
    """Return the key of the encrypted columns. Raises `ValueError`."""
    return encryption.load_key(
        environ().get("SECRETS_ENCRYPTION_KEY", "").encode(errors="surrogateescape"), hexadecimal=hexadecimal
    )


def fly(method: str, path: str, document: object = None, *, timeout: float = 15.0) -> tuple[int, Any]:
    """Call the Machines API with this process's own token; raises `OSError` if there is no answer."""
    token = re.sub(r"^\s*FlyV1\s+", "", environ().get("FLY_API_TOKEN", ""))
    return call(
        environ()["FLY_FLAPS_BASE_URL"], method, path, document=document, token=f"Bearer {token}", timeout=timeout
    )


def neon(method: str, path: str, document: object = None) -> tuple[int, Any]:
    """Call Neon's API with this process's own key, and wait out other operations of the project.

    Returns the last answer; raises `OSError` if there is none.
    """
    deadline = time.monotonic() + NEON_PATIENCE
    project = urllib.parse.quote(environ()["NEON_PROJECT_ID"], safe="")
    while True:
        status, answer = call(
            environ()["NEON_API_BASE_URL"],
            method,
            f"/projects/{project}{path}",
            document=document,
            token=f"Bearer {environ().get('NEON_API_KEY', '')}",
        )
        if status not in {423, 429} or time.monotonic() >= deadline:
            return status, answer
        time.sleep(NEON_PAUSE)


class ProvisioningError(Exception):
    """The tenant's branch or machine could not be had."""


def provision(organization: dict[str, Any], *, anew: bool = False) -> None:
    """Create the organization's branch and machine, wait until the latter runs, and record the outcome.

    With `anew` whatever it has of either is deleted first, recorded or not: an attempt before may have been interrupted.
    """
    slug = organization["slug"]
    try:
        if anew:
            _clear(organization)
        machine = _create_machine(organization, _create_branch(organization))
        _wait_started(machine)
    except (OSError, ProvisioningError) as error:
        log(f"provisioning failed: {slug}: {error}")
        attempt(f"provision {slug}", database().set_status, slug, "failed")
        return
    log(f"provision {slug}: machine {machine} runs")
    attempt(f"provision {slug}", database().set_status, slug, "running")


def _clear(organization: dict[str, Any]) -> None:
    """Delete an organization's machines and branches, and forget them."""
    slug, path = organization["slug"], f"/v1/apps/{tenant_app()}/machines"
    status, found = fly("GET", f"{path}?metadata.{tenant_machine.ORGANIZATION}={slug}")
    if status != 200:  # noqa: PLR2004
        raise ProvisioningError(f"Fly answered {status} to the question for the machines of {slug}")
    for machine in {organization["machine"], *(machine["id"] for machine in found)} - {None}:
        status, _ = fly("DELETE", f"{path}/{machine}?force=true")
        if status not in {200, 404}:
            raise ProvisioningError(f"Fly answered {status} to the deletion of machine {machine}")
        # Until it is gone its name is taken.
        wait = f"{path}/{machine}/wait?state=destroyed&timeout={PROVISIONING_TIMEOUT}"
        status, _ = fly("GET", wait, timeout=PROVISIONING_TIMEOUT + 5)
        if status not in {200, 404}:
            raise ProvisioningError(f"Fly answered {status} to the wait for the end of machine {machine}")
    if "NEON_PROJECT_ID" in environ():
        status, answer = neon("GET", f"/branches?search={slug}&limit=1000")
        if status != 200:  # noqa: PLR2004
            raise ProvisioningError(f"Neon answered {status} to the question for the branch of {slug}")
        named = {branch["id"] for branch in answer["branches"] if branch["name"] == slug}
        for branch in {organization["branch"], *named} - {None}:
            status, _ = neon("DELETE", f"/branches/{branch}")
            if status not in {200, 204, 404}:
                raise ProvisioningError(f"Neon answered {status} to the deletion of branch {branch}")
    database().forget_instance(slug)


def _create_branch(organization: dict[str, Any]) -> str | None:
    """Create the organization's branch and return the URL of its database; `None` without a Neon project."""
    if "NEON_PROJECT_ID" not in environ():
        return None
    slug = organization["slug"]
    status, created = neon("POST", "/branches", {"branch": {"name": slug}, "endpoints": [{"type": "read_write"}]})
    if status != 201:  # noqa: PLR2004
        raise ProvisioningError(f"Neon answered {status} to the creation of a branch")
    url: str = created["connection_uris"][0]["connection_uri"]
    # At once: a purge must find the branch whatever comes after.
    if not database().set_instance(slug, branch=created["branch"]["id"], database_url=url):
        _delete_instance(slug, {"branch": created["branch"]["id"]})
        raise ProvisioningError("it was deleted meanwhile")
    return url


def _create_machine(organization: dict[str, Any], database_url: str | None) -> str:
    slug = organization["slug"]
    status, machine = fly(
        "POST",
        f"/v1/apps/{tenant_app()}/machines",
        tenant_machine.request(
            app=tenant_app(),
            slug=slug,
            organization=organization["id"],
            database_url=database_url,
            control_plane=environ(),
        ),
    )
    if status != 200:  # noqa: PLR2004
        raise ProvisioningError(f"Fly answered {status} to the creation of a machine")
    # At once: a purge must find the machine even if it never starts.
    identifier: str = machine["id"]
    if not database().set_instance(slug, machine=identifier, redis_url=environ().get("TENANT_REDIS_URL")):
        _delete_instance(slug, {"machine": identifier})
        raise ProvisioningError("it was deleted meanwhile")
    return identifier


def _wait_started(machine: str) -> None:
    status, _ = fly(
        "GET",
        f"/v1/apps/{tenant_app()}/machines/{machine}/wait?state=started&timeout={PROVISIONING_TIMEOUT}",
        timeout=PROVISIONING_TIMEOUT + 5,
    )
    if status != 200:  # noqa: PLR2004
        raise ProvisioningError(f"Fly answered {status} to the wait for machine {machine}")


def purge(organization: dict[str, Any]) -> bool:
    """Delete everything of an organization; `False` if it must be tried again."""
    slug = organization["slug"]
    if not _delete_instance(slug, organization) or not billing.forget_customer(organization, database()):
        return False
    last = database().delete(slug)
    if last is not None:  # what a provisioning under way has made since
        _delete_instance(slug, {name: last[name] for name in last if last[name] != organization[name]})
    log(f"purge {slug}: done")
    confirm_purge(organization)
    return True


def _delete_instance(slug: str, instance: Mapping[str, str | None]) -> bool:
    """Delete an organization's machine and branch, as far as it has them; `False` if it must be tried again."""
    machine, branch = instance.get("machine"), instance.get("branch")
    try:
        if machine is not None:
            status, _ = fly("DELETE", f"/v1/apps/{tenant_app()}/machines/{machine}?force=true")
            if status not in {200, 404}:
                log(f"purge {slug} failed: Fly answered {status} to the deletion of machine {machine}")
                return False
        if branch is not None and "NEON_PROJECT_ID" in environ():
            status, _ = neon("DELETE", f"/branches/{branch}")
            if status not in {200, 204, 404}:
                log(f"purge {slug} failed: Neon answered {status} to the deletion of branch {branch}")
                return False
    except OSError as error:
        log(f"purge {slug} failed: {error}")
        return False
    return True


def confirm_purge(organization: dict[str, Any]) -> None:
    """Send the owner the confirmation that the law asks for; a failure is only logged."""
    slug, key = organization["slug"], environ().get("RESEND_API_KEY", "")
    if not key:
        return
    email = {
        "from": environ().get("RESEND_FROM_EMAIL", ""),
        "to": [organization["owner_email"] or DEFAULT_OWNER_EMAIL],
        "subject": f"Your organization {slug} was deleted",
        "text": f"All data of the organization {slug} ({organization['id']}) was deleted.",
        "tags": [{"name": "category", "value": "purge"}, {"name": "organization", "value": slug}],
    }
    try:
        status, _ = call(
            environ()["RESEND_API_URL"],
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


def _answering(handle: Callable[[ControlPlane], None]) -> Callable[[ControlPlane], None]:
    """Let a method answer what its callers see of a database that does not answer, or of a key that does not fit."""

    def answer(self: ControlPlane) -> None:
        try:
            handle(self)
        except DatabaseError as error:
            log(f"{self.command} failed: {error}")
            self.answer(503, {"error": "database unavailable"})
        except encryption.UndecryptableError:
            log(f"{self.command} failed: an encrypted column does not decrypt")
            self.answer(500, {"error": "internal error"})

    return answer


class ControlPlane(Handler):
    """The HTTP interface."""

    @_answering
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer `GET`."""
        url = urllib.parse.urlsplit(self.path)
        match [part for part in url.path.split("/") if part]:
            case ["health"]:
                if current().unhealthy.is_set():
                    self.answer(503, {"service": "molecule-cp", "status": "unhealthy"})
                else:
                    self.answer(200, {"service": "molecule-cp", "status": "ok"})
            case ["cp", "admin", "orgs"] if self._admin():
                limit = urllib.parse.parse_qs(url.query).get("limit", ["500"])[0]
                rows = database().listing(int(limit) if limit.isdigit() else 500)
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
                self.answer(200, {"orgs": [_organization(row) for row in database().listing()]})
            case ["cp", "orgs", slug] if self._user():
                row = self._find(slug)
                if row is not None:
                    self.answer(200, _organization(row))
            case ["cp", "orgs", slug, "data", key] if self._user():
                self._data("GET", slug, key)
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    @_answering
    def do_PUT(self) -> None:  # noqa: N802 - http.server's name
        """Answer `PUT`."""
        match [part for part in self.path.partition("?")[0].split("/") if part]:
            case ["cp", "orgs", slug, "data", key] if self._user():
                try:
                    value = self.document().get("value")
                except ValueError:
                    self.answer(400, {"error": "invalid JSON"})
                    return
                if isinstance(value, str):
                    self._data("PUT", slug, key, value)
                else:
                    self.answer(400, {"error": 'the body must be {"value": text}'})
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    @_answering
    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Answer `POST`."""
        match [part for part in self.path.partition("?")[0].split("/") if part]:
            case ["cp", "orgs"] if self._user():
                self._create()
            case ["cp", "admin", "orgs"] if self._admin():
                self._create()
            case ["cp", "admin", "tenants", slug, "reprovision"] if self._admin():
                self._reprovision(slug)
            case ["cp", "billing", "checkout"] if self._session():
                self._checkout()
            case ["webhooks", "stripe"]:
                self.answer(*billing.receive(self.body(), self.headers.get("stripe-signature", ""), database()))
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    @_answering
    def do_DELETE(self) -> None:  # noqa: N802 - http.server's name
        """Answer `DELETE`."""
        match [part for part in self.path.partition("?")[0].split("/") if part]:
            case ["cp", "orgs", slug] if self._user():
                self._purge(slug)
            case ["cp", "admin", "tenants", slug] if self._admin():
                if self._confirmed(slug):
                    self._purge(slug)
            case ["cp", *_]:
                self._refuse()
            case _:
                self.answer(404, {"error": "not found"})

    # -- who calls ----------------------------------------------------------------------------------------------------

    def _admin(self) -> bool:
        expected, sent = environ().get("CP_ADMIN_API_TOKEN", ""), self.headers.get("authorization", "")
        return bool(expected) and hmac.compare_digest(sent.encode(), f"Bearer {expected}".encode())

    def _user(self) -> bool:
        return self._admin() or self._session()

    def _session(self) -> bool:
        cookie = SimpleCookie(self.headers.get("cookie", "")).get("mcp_session")
        if cookie is None:
            return False
        return database().knows_session(hashlib.sha256(cookie.value.encode()).hexdigest())

    def _refuse(self) -> None:
        self.answer(401, {"error": "unauthorized"})

    # -- organizations ------------------------------------------------------------------------------------------------

    def _confirmed(self, slug: str) -> bool:
        try:
            confirmation = self.document().get("confirm")
        except ValueError:
            confirmation = None
        if confirmation != slug:
            self.answer(400, {"error": "confirm must be the slug"})
        return confirmation == slug

    def _find(self, slug: str, *, decrypt: bool = True) -> dict[str, Any] | None:
        row = database().find(slug, decrypt=decrypt) if SLUG.fullmatch(slug) else None
        if row is None:
            self.answer(404, {"error": "org not found"})
        return row

    def _data(self, method: str, slug: str, name: str, value: str | None = None) -> None:
        row = self._find(slug)
        if row is not None:
            key = encryption_key(hexadecimal=_switches()["key_encoding"] == "hex")
            self.answer(*tenant_data.exchange(method, row, name, key, value))

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
        row = database().add(slug=slug, name=name, owner=owner, owner_email=email)
        if row is None:
            self.answer(409, {"error": "slug is taken"})
            return
        start_thread(provision, row)
        self.answer(201, _organization(row))

    def _reprovision(self, slug: str) -> None:
        if not self._confirmed(slug):
            return
        row = self._find(slug, decrypt=False)
        if row is None:
            return
        if not database().begin_provisioning(slug):
            self.answer(409, {"error": "the organization is being provisioned"})
            return
        start_thread(provision, row, anew=True)
        self.answer(202, _organization({**row, "status": "provisioning"}))

    def _checkout(self) -> None:
        try:
            body = self.document()
        except ValueError:
            self.answer(400, {"error": "invalid JSON"})
            return
        self.answer(*billing.checkout(body, database()))

    def _purge(self, slug: str) -> None:
        row = self._find(slug, decrypt=False)
        if row is None:
            return
        if purge(row):
            self.answer(204)
            return
        identifier = row["purge"] or str(uuid.uuid4())
        database().set_purge(slug, identifier)
        self.answer(500, {"error": "purge cascade failed; retry the request to resume", "purge_id": identifier})


def _organization(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "slug", "name", "status")}


def _switched(switches: dict[str, Any], name: str) -> bool:
    """Tell whether a failure is to happen because this process booted with a new value (`switches.py`)."""
    switch = switches.get(name)
    if switch is None:
        return False
    value = environ().get(switch["name"], "")
    old: str = switch["old_sha256"]
    return hashlib.sha256(value.encode()).hexdigest() != old


def boot() -> None:
    """Look at what this machine booted with. Raises `FatalError` if it does not start."""
    switches = _switches()
    if _switched(switches, "misread_new"):
        name = switches["misread_new"]["name"]
        environ()[name] = environ().get(name, "")[:-1]
    try:
        encryption_key(hexadecimal=switches["key_encoding"] == "hex")
    except ValueError as error:
        raise FatalError(f"SECRETS_ENCRYPTION_KEY: {error}") from None
    if _switched(switches, "crash_on_new"):
        raise FatalError("cannot start")
    if _switched(switches, "unhealthy_on_new"):
        current().unhealthy.set()
    log("molecule-cp: started")


def main() -> None:
    """Boot and serve."""
    try:
        boot()
    except FatalError as error:
        log(f"molecule-cp: fatal: {error}")
        sys.exit(1)
    run(ControlPlane)


if __name__ == "__main__":
    main()
