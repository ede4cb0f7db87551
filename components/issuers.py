"""Who can mint credentials: the one table to extend for a new provider."""

from collections.abc import Callable, Mapping
from typing import Protocol

from components import operator_credentials
from components.fly.client import FlyClient
from components.fly.issuer import DeployTokens
from components.keyring import Issued, Minted

ConfigLookup = Callable[[str], str | None]


class Issuer(Protocol):
    """What the life of a credential needs from its provider. All methods raise `ApiError`."""

    def mint(self, name: str) -> Minted:
        """Mints a credential with that remote name and returns it with its value, which is shown only once."""
        ...

    def issued(self) -> list[Issued]:
        """All credentials at this provider, those of other families too."""
        ...

    def revoke(self, credential_id: str) -> None:
        """Revokes a credential. Repeating it is harmless."""
        ...

    def refuses(self, value: str) -> bool:
        """Whether the provider refuses this value. An error where the answer proves neither."""
        ...


def _fly_deploy_tokens(settings: Mapping[str, str], config: ConfigLookup) -> Issuer:
    client = FlyClient(token=operator_credentials.find(operator_credentials.FLY, config))
    return DeployTokens(client=client, app=settings["app"], profile=settings["profile"], expiry=settings["expiry"])


# The keys are kept in the state of every stack: never rename one.
ISSUERS: Mapping[str, Callable[[Mapping[str, str], ConfigLookup], Issuer]] = {
    "fly-deploy-token": _fly_deploy_tokens,
}
