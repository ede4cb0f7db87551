"""Neon API keys as credentials of a family."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.announcement import Announcement, Request
from components.errors import RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Issued, Minted
from components.neon.client import API_PATH, NeonClient, keys_path

ORGANIZATION_KEY = "api_key_org"  # as `GET /auth` calls one


@dataclass(frozen=True, kw_only=True)
class ApiKeys(Issuer):
    """Mints, lists and revokes keys of one scope.

    Attributes:
        client: With a personal key of an admin of the organization: no other key can mint (Neon's documentation, "Manage API keys").
        organization_id: "" for personal keys.
        project_id: "" unless the key is for one project of the organization.
    """

    client: NeonClient
    organization_id: str
    project_id: str

    def mint(self, name: str) -> Minted:
        """Mints a key."""
        return self.client.create_key(self.organization_id, name=name, project_id=self.project_id)

    def announce_mint(self, name: str) -> Announcement:
        """One request."""
        kind = "a personal API key at Neon"
        if self.organization_id:
            kind = f"an API key of Neon organization {self.organization_id}"
        if self.project_id:
            kind += f" for project {self.project_id}"
        path = API_PATH + keys_path(self.organization_id)
        return Announcement(
            words=(f"{kind}, named {name}",), writes=(Request(system="neon", method="POST", path=path),)
        )

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """A request each."""
        path = f"{API_PATH}{keys_path(self.organization_id)}/{{id}}"
        return Announcement(writes=(Request(system="neon", method="DELETE", path=path, at_most=len(credential_ids)),))

    def obstacles(self) -> list[RefusedError]:
        """The operator's key has to be a person's, and the project that a key is for has to be there."""
        if self.client.authenticate() == ORGANIZATION_KEY:
            return [
                RefusedError(
                    "The operator's Neon key is one of an organization: it cannot mint another.",
                    next_step="export NEON_API_KEY with a personal key of an admin of the organization.",
                )
            ]
        if not self.project_id or self.client.can_see_project(self.project_id):
            return []
        return [
            RefusedError(
                f"Neon has no project {self.project_id} that the operator's key can see.",
                next_step="mend `neonProject` in the stack's config, or use a key of an admin of its organization.",
            )
        ]

    def issued(self) -> list[Issued]:
        """The keys of the organization, or the operator's own."""
        return self.client.list_keys(self.organization_id)

    def revoke(self, credential_id: str) -> None:
        """Revokes a key."""
        self.client.revoke_key(self.organization_id, credential_id)

    def refuses(self, value: str) -> bool:
        """Whether Neon answers 401 to the key."""
        try:
            NeonClient(value).authenticate()
        except ApiError as error:
            if error.refused:
                return True
            # It is not documented whether a project-scoped key may ask who it is.
            if error.status in {403, 404} and self.project_id:
                return not NeonClient(value).can_see_project(self.project_id)
            raise
        return False
