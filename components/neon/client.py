"""A client of the Neon API that a rotation needs. No Pulumi here.

Source: Neon's API reference, "API keys", "Projects" and "Branches". Answers to `create` carry the key; no other answer does.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from components.http import ONCE, REPEATABLE, Api, ApiError, RetryPolicy, failure_with
from components.keyring import Issued, Minted
from components.operator_credentials import endpoint


def _explain(body: object) -> str:
    return str(body.get("message", "")) if isinstance(body, dict) else ""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch of a project.

    Attributes:
        branch_id: Neon's id.
        name: Its name.
        created_at: When it was made, by Neon's clock.
    """

    branch_id: str
    name: str
    created_at: datetime


@dataclass(frozen=True)
class NeonClient:
    """Calls Neon with one key. The base follows NEON_API_BASE_URL."""

    key: str = field(repr=False)

    def _call(
        self, method: str, path: str, *, operation: str, policy: RetryPolicy, json: object = None
    ) -> httpx.Response:
        api = Api(
            system="Neon",
            base_url=endpoint("NEON_API_BASE_URL", "https://console.neon.tech/api/v2"),
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
            self._call("GET", f"/projects/{project_id}", operation=f"read project {project_id}", policy=REPEATABLE)
        except ApiError as error:
            if error.status in {403, 404}:
                return False
            raise
        return True

    def branches(self, project_id: str) -> list[Branch]:
        """The branches of a project."""
        operation = f"list the branches of project {project_id}"
        body = self._call("GET", f"/projects/{project_id}/branches", operation=operation, policy=REPEATABLE).json()
        return [
            Branch(branch_id=each["id"], name=each["name"], created_at=datetime.fromisoformat(each["created_at"]))
            for each in body["branches"]
        ]

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
            "GET", _keys_path(organization_id), operation="list the API keys", policy=REPEATABLE
        ).json()
        return keys

    def create_key(self, organization_id: str, *, name: str, project_id: str = "") -> Minted:
        """Mints a key. Not repeatable: Neon has no idempotency keys, and names are not unique."""
        body = {"key_name": name, **({"project_id": project_id} if project_id else {})}
        answer = self._call(
            "POST", _keys_path(organization_id), operation=f"mint key {name}", json=body, policy=ONCE
        ).json()
        return Minted(credential_id=str(answer["id"]), value=answer["key"], created_at=answer["created_at"])

    def revoke_key(self, organization_id: str, key_id: str) -> None:
        """Revokes a key, at once and for good. One that is gone already (404) is as good."""
        try:
            self._call(
                "DELETE", f"{_keys_path(organization_id)}/{key_id}", operation=f"revoke key {key_id}", policy=REPEATABLE
            )
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def _keys_path(organization_id: str) -> str:
    return f"/organizations/{organization_id}/api_keys" if organization_id else "/api_keys"
