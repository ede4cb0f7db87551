"""Fly deploy tokens as credentials of a family."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.announcement import Announcement, Request
from components.errors import RefusedError
from components.fly.client import FlyClient
from components.fly.shown import try_token
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Issued, Minted


@dataclass(frozen=True, kw_only=True)
class DeployTokens(Issuer):
    """Mints, lists and revokes the tokens of one app.

    Attributes:
        client: With an operator's token: a deploy token cannot mint another (superfly/fly_deploy, pull request 13).
        app: The app that the token is for: the control plane creates machines in it and the workflow pushes its image.
        profile: `deploy` (that app) or `deploy_organization` (every app of its organization).
        expiry: A Go duration.
    """

    client: FlyClient
    app: str
    profile: str
    expiry: str

    def mint(self, name: str) -> Minted:
        """Mints a token.

        Raises:
            ApiError: No token was minted, or (`ambiguous`) perhaps one whose value nobody has.
        """
        return self.client.create_token(app=self.app, name=name, profile=self.profile, expiry=self.expiry)

    def issued(self) -> list[Issued]:
        """Every token of the app (or organization), revoked ones too."""
        return self.client.list_tokens(app=self.app, profile=self.profile)

    def revoke(self, credential_id: str) -> None:
        """Revokes a token."""
        self.client.revoke_token(credential_id)

    def refuses(self, value: str) -> bool:
        """Whether Fly refuses the token: the Machines API of its app gives 401. Its caches may lag behind the revocation.

        Raises:
            ApiError: Fly gave an answer that proves neither.
        """
        try:
            try_token(value, self.app, operator=self.client)
        except ApiError as error:
            if error.refused:
                return True
            raise
        return False

    def announce_mint(self, name: str) -> Announcement:
        """A mutation."""
        reach = f"Fly app {self.app}" if self.profile == "deploy" else f"the organization of Fly app {self.app}"
        return Announcement(
            words=(f"a deploy token of {reach}, named {name}",),
            writes=(Request(system="fly", method="POST", path="/graphql createLimitedAccessToken"),),
        )

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """A mutation each."""
        path = "/graphql deleteLimitedAccessToken"
        return Announcement(writes=(Request(system="fly", method="POST", path=path, at_most=len(credential_ids)),))

    def obstacles(self) -> list[RefusedError]:
        """The app that tokens are for has to be there."""
        if self.client.app_exists(self.app):
            return []
        return [
            RefusedError(
                f"Fly has no app {self.app} that the operator token can see.",
                next_step="mend `deployTokenApp` in the stack's config, or use a token of its organization.",
            )
        ]
