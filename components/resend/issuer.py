"""Resend API keys as credentials of a family."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.announcement import Announcement, Request
from components.clock import now
from components.errors import RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Issued, Minted
from components.resend.client import ResendClient


@dataclass(frozen=True, kw_only=True)
class SendingKeys(Issuer):
    """Mints, lists and deletes keys that may only send mail for one domain.

    Attributes:
        client: With a full-access key: one that may only send can do nothing else.
        domain: The domain's name.
    """

    client: ResendClient
    domain: str

    def mint(self, name: str) -> Minted:
        """Mints a key for the domain."""
        found = self.client.domain_id(self.domain)
        if found is None:
            raise ApiError("Resend", f"mint key {name}", status=404, reason=f"the account has no domain {self.domain}")
        # Resend's answer does not say when.
        return self.client.create_key(name=name, domain_id=found[0], created_at=now())

    def announce_mint(self, name: str) -> Announcement:
        """One request."""
        return Announcement(
            words=(f"a Resend API key that may only send, for domain {self.domain}, named {name}",),
            writes=(Request(system="resend", method="POST", path="/api-keys"),),
        )

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """A request each."""
        path = "/api-keys/{id}"
        return Announcement(writes=(Request(system="resend", method="DELETE", path=path, at_most=len(credential_ids)),))

    def obstacles(self) -> list[RefusedError]:
        """The domain has to be verified: every mail from another one is refused with 403."""
        found = self.client.domain_id(self.domain)
        if found is not None and found[1] == "verified":
            return []
        status = "is not in this account" if found is None else f"has the status {found[1]}"
        return [
            RefusedError(
                f"Resend would refuse every mail: domain {self.domain} {status}.",
                next_step="verify it (resend.com/domains), or mend `resendDomain` in the stack's config.",
            )
        ]

    def issued(self) -> list[Issued]:
        """Every live key of the account."""
        return self.client.list_keys()

    def revoke(self, credential_id: str) -> None:
        """Deletes a key."""
        self.client.delete_key(credential_id)

    def refuses(self, value: str) -> bool:
        """Whether Resend does not know the key any more."""
        return not ResendClient(value).authenticates()
