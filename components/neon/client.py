"""A client of the Neon API that a rotation needs. No Pulumi here.

Source: Neon's API reference, "API keys", "Projects" and "Branches". Answers to `create` carry the key; no other answer does.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from components.answers import reads_answers
from components.http import ONCE, REPEATABLE, Api, ApiError, RetryPolicy, failure_with, part
from components.keyring import Issued, Minted
from components.operator_credentials import endpoint

API_PATH = "/api/v2"
# What Neon's own SDK takes for the end of an operation, and how often and how long it looks (@neon/sdk 6.1.2).
SUCCEEDED = frozenset({"finished", "skipped"})
FAILED = frozenset({"failed", "error", "cancelled"})
OPERATION_POLL = 0.25  # seconds; Neon takes 11 requests a second (reference/api.md)
OPERATION_TIMEOUT = 300.0  # seconds
# 423 while another operation of the project runs: that is no failure, it only has to be waited for.
WHEN_LOCKED = RetryPolicy(attempts=12, first_wait=0.5, longest_wait=10)


def _explain(body: object) -> str:
    return str(body.get("message", "")) if isinstance(body, dict) else ""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch of a project.

    Attributes:
        branch_id: Neon's id.
        name: Its name.
        created_at: When it was made, by Neon's clock.
        default: Whether it is the project's default branch.
    """

    branch_id: str
    name: str
    created_at: datetime
    default: bool = False


@reads_answers
@dataclass(frozen=True)
class NeonClient:
    """Calls Neon with one key. The base follows NEON_API_BASE_URL."""

    key: str = field(repr=False)

    def _call(
        self, method: str, path: str, *, operation: str, policy: RetryPolicy, json: object = None
    ) -> httpx.Response:
        api = Api(
            system="Neon",
            base_url=endpoint("NEON_API_BASE_URL", f"https://console.neon.tech{API_PATH}"),
            headers={"authorization": f"Bearer {self.key}"},
            secrets=[self.key],
            judge=failure_with(_explain),
        )
        return api.call(method, path, operation=operation, json=json, policy=policy)

    def authenticate(self) -> str:
        """Which kind of key this is, for example `api_key_org`. Raises ApiError 401 for a key that Neon refuses."""
        body = self._call("GET", "/auth", operation="ask who the key belongs to", policy=REPEATABLE).json()
        return str(body.get("auth_method", ""))

    def can_see_project(self, project_id: str) -> bool:
        """Whether the key reaches the project."""
        try:
            self._call(
                "GET", f"/projects/{part(project_id)}", operation=f"read project {project_id}", policy=REPEATABLE
            )
        except ApiError as error:
            if error.status in {403, 404}:
                return False
            raise
        return True

    def branches(self, project_id: str) -> list[Branch]:
        """The branches of a project."""
        operation = f"list the branches of project {project_id}"
        body = self._call(
            "GET", f"/projects/{part(project_id)}/branches", operation=operation, policy=REPEATABLE
        ).json()
        return [
            Branch(
                branch_id=each["id"],
                name=each["name"],
                created_at=datetime.fromisoformat(each["created_at"]),
                default=bool(each.get("default")),
            )
            for each in body["branches"]
        ]

    def default_branch(self, project_id: str) -> str:
        """The id of a project's default branch."""
        found = next((branch.branch_id for branch in self.branches(project_id) if branch.default), None)
        if found is None:
            operation = f"find the default branch of project {project_id}"
            raise ApiError("Neon", operation, status=404, reason="Neon names none")
        return found

    # Roles of a branch.

    def roles(self, project_id: str, branch_id: str) -> list[str]:
        """The names of a branch's roles that are not Neon's own."""
        path = f"/projects/{part(project_id)}/branches/{part(branch_id)}/roles"
        body = self._call("GET", path, operation=f"list the roles of branch {branch_id}", policy=REPEATABLE).json()
        return [each["name"] for each in body["roles"] if not each.get("protected")]

    def create_role(self, project_id: str, branch_id: str, name: str) -> str:
        """Makes a role and returns its password, once it works. Roles made so may read and write all tables (`neon_superuser`)."""
        path = f"/projects/{part(project_id)}/branches/{part(branch_id)}/roles"
        answer = self._call(
            "POST", path, operation=f"create role {name}", json={"role": {"name": name}}, policy=WHEN_LOCKED
        )
        return self._password(project_id, answer)

    def reset_role_password(self, project_id: str, branch_id: str, name: str) -> str:
        """Gives a role a new password and returns it, once it works and the old one does not. May be repeated: the last one counts."""
        path = f"/projects/{part(project_id)}/branches/{part(branch_id)}/roles/{part(name)}/reset_password"
        answer = self._call("POST", path, operation=f"reset the password of role {name}", policy=WHEN_LOCKED)
        return self._password(project_id, answer)

    def _password(self, project_id: str, answer: httpx.Response) -> str:
        body = answer.json()
        for operation in body["operations"]:
            self.await_operation(project_id, operation["id"])
        return str(body["role"]["password"])

    def await_operation(self, project_id: str, operation_id: str) -> None:
        """Waits until an operation is over.

        Raises:
            ApiError: It failed, or did not end within `OPERATION_TIMEOUT`.
        """
        path = f"/projects/{part(project_id)}/operations/{part(operation_id)}"
        deadline = time.monotonic() + OPERATION_TIMEOUT
        while True:
            answer = self._call("GET", path, operation=f"look at operation {operation_id}", policy=REPEATABLE).json()
            found = answer["operation"]
            if found["status"] in SUCCEEDED:
                return
            if found["status"] in FAILED or time.monotonic() > deadline:
                operation = f"finish operation {operation_id} ({found['action']})"
                raise ApiError("Neon", operation, status=None, reason=f"its status is {found['status']}")
            time.sleep(OPERATION_POLL)

    def connection_uri(self, project_id: str, *, branch: str, database: str, role: str, pooled: bool) -> str:
        """How to connect as a role. Carries a password: secret."""
        parameters = {"branch_id": branch, "database_name": database, "role_name": role, "pooled": str(pooled).lower()}
        path = f"/projects/{part(project_id)}/connection_uri?{urlencode(parameters)}"
        return str(self._call("GET", path, operation=f"read how role {role} connects", policy=REPEATABLE).json()["uri"])

    # Keys. `organization_id` "" means personal keys.

    def list_keys(self, organization_id: str) -> list[Issued]:
        """The live keys: Neon lists no revoked ones."""
        return [
            Issued(credential_id=str(each["id"]), name=each["name"], live=True, created_at=each["created_at"])
            for each in self._keys(organization_id)
        ]

    def last_used_at(self, organization_id: str, key_id: str) -> datetime | None:
        """When a key was last used; None for never, or for a key that is not listed."""
        for each in self._keys(organization_id):
            if str(each["id"]) == key_id and each.get("last_used_at"):
                return datetime.fromisoformat(each["last_used_at"])
        return None

    def _keys(self, organization_id: str) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = self._call(
            "GET", keys_path(organization_id), operation="list the API keys", policy=REPEATABLE
        ).json()
        return keys

    def create_key(self, organization_id: str, *, name: str, project_id: str = "") -> Minted:
        """Mints a key. Not repeatable: Neon has no idempotency keys, and names are not unique."""
        body = {"key_name": name, **({"project_id": project_id} if project_id else {})}
        answer = self._call(
            "POST", keys_path(organization_id), operation=f"mint key {name}", json=body, policy=ONCE
        ).json()
        return Minted(credential_id=str(answer["id"]), value=answer["key"], created_at=answer["created_at"])

    def revoke_key(self, organization_id: str, key_id: str) -> None:
        """Revokes a key, at once and for good. One that is gone already (404) is as good."""
        try:
            self._call(
                "DELETE",
                f"{keys_path(organization_id)}/{part(key_id)}",
                operation=f"revoke key {key_id}",
                policy=REPEATABLE,
            )
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def keys_path(organization_id: str) -> str:
    """Where the keys of an organization are, "" for the operator's own."""
    return f"/organizations/{part(organization_id)}/api_keys" if organization_id else "/api_keys"
