"""The control plane and the machines of its app, as verifications see them, behind the wire: all is well until a test says otherwise.

The test of a verification extends it with the other systems that this verification asks.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from .wire import at, body_of, booted, one_machine, reply

Answers = dict[str, Callable[..., httpx.Response]]


def machine(machine_id: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A machine as Fly lists it, which has booted after the write of the secret."""
    return {
        "id": machine_id,
        "state": "started",
        "instance_id": "v",
        "updated_at": at(5),
        "events": booted(5),
        "config": {},
        **changed,
    }


class FakeControlPlane:
    """Orgs, and two machines of the app `cp` that run with the new value of its secret.

    Attributes:
        secret: As Fly lists it; None where the app has none.
        status_of_new_orgs: What each list of the orgs says of those that were created, in turn; the last one stays.
        creation: Statuses with which creations are answered, in turn; 201 after them. 400 and 401 create nothing.
        deletion: Statuses with which deletions are answered, in turn; 204 after them. Others delete nothing.
        log: What was done, in order: `create <slug>`, `delete <slug>`.
    """

    def __init__(self, secret: str) -> None:
        self.lock = threading.RLock()
        self.secret: dict[str, Any] | None = {"name": secret, "digest": "d", "updated_at": at(0)}
        self.machines = [machine("m1"), machine("m2")]
        self.orgs: list[dict[str, str]] = []
        self.status_of_new_orgs = ["running"]
        self.creation: list[int] = []
        self.deletion: list[int] = []
        self.log: list[str] = []

    def has_orgs(self, *slugs: str) -> None:
        """Adds orgs that were there before."""
        self.orgs += [{"id": slug, "slug": slug, "instance_status": "running"} for slug in slugs]

    def slugs(self, verb: str) -> list[str]:
        """The orgs that were created or deleted, in order."""
        return [line.split()[1] for line in self.log if line.startswith(f"{verb} ")]

    def created(self, slug: str) -> None:
        """What comes with a new org; its id is `id-of-<slug>`. Nothing here."""

    def deleted(self, slug: str) -> None:
        """What goes with an org. Nothing here."""

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request of the wire."""
        return self.answer(request.method, request.url.path, body_of(request), dict(request.url.params))

    def answer(self, method: str, path: str, body: Any, parameters: Mapping[str, str]) -> httpx.Response:  # noqa: ANN401 - JSON
        """Answers one request."""
        with self.lock:
            for pattern, act in self.answers(body, parameters).items():
                if match := re.fullmatch(pattern, f"{method} {path}"):
                    return act(*match.groups())
        raise AssertionError(f"unexpected: {method} {path}")

    def answers(self, body: Any, parameters: Mapping[str, str]) -> Answers:  # noqa: ANN401 - JSON
        """What is served, by a pattern of `METHOD path`, whose groups are the arguments."""
        del parameters
        return {
            "GET /v1/apps/cp/secrets": lambda: reply(200, {"secrets": [self.secret] if self.secret else []}),
            "GET /v1/apps/cp/machines": lambda: reply(200, self.machines),
            r"GET /v1/apps/cp/machines/(\w+)": lambda machine_id: one_machine(self.machines, machine_id),
            "GET /health": lambda: reply(200, {"status": "ok"}),
            "GET /cp/admin/orgs": self.list_orgs,
            "POST /cp/admin/orgs": lambda: self._create_org(body["slug"]),
            "DELETE /cp/admin/tenants/(.*)": self._delete_org,
        }

    def list_orgs(self) -> httpx.Response:
        """Lists the orgs, and moves the new ones on."""
        new = [org for org in self.orgs if org["slug"] in self.slugs("create")]
        for org in new:
            org["instance_status"] = self.status_of_new_orgs[0]
        if new and len(self.status_of_new_orgs) > 1:
            self.status_of_new_orgs.pop(0)
        return reply(200, {"orgs": self.orgs})

    def _create_org(self, slug: str) -> httpx.Response:
        self.log.append(f"create {slug}")
        status = self.creation.pop(0) if self.creation else 201
        if status in {400, 401}:
            return reply(status)
        org = {"id": f"id-of-{slug}", "slug": slug}
        self.orgs.append({**org, "instance_status": "provisioning"})
        self.created(slug)
        return reply(status, {**org, "status": "provisioning"})

    def _delete_org(self, slug: str) -> httpx.Response:
        self.log.append(f"delete {slug}")
        if self.deletion and (status := self.deletion.pop(0)) != 204:
            return reply(status)
        self.orgs = [org for org in self.orgs if org["slug"] != slug]
        self.deleted(slug)
        return reply(204)
