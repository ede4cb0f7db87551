"""Who can mint credentials: the one table to extend for a new provider."""

from collections.abc import Callable, Mapping
from typing import Protocol

from components import operator_credentials
from components.errors import RefusedError
from components.fly.client import FlyClient
from components.fly.issuer import DeployTokens
from components.keyring import Issued, Minted
from components.neon.client import NeonClient
from components.neon.issuer import ApiKeys
from components.operator_credentials import OperatorCredential, endpoint
from components.resend.client import ResendClient
from components.resend.issuer import SendingKeys
from components.stripe.client import StripeClient
from components.stripe.issuer import WebhookEndpoints, webhook_url

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

    @property
    def proves_by_value(self) -> bool:
        """Whether `refuses` can tell; False where only the provider's list can."""
        ...

    def obstacles(self) -> list[RefusedError]:
        """What would keep a new credential from working, found by reading: in a preview too."""
        ...


def _fly_deploy_tokens(settings: Mapping[str, str], config: ConfigLookup) -> Issuer:
    client = FlyClient(token=operator_credentials.find(operator_credentials.FLY, config))
    return DeployTokens(client=client, app=settings["app"], profile=settings["profile"], expiry=settings["expiry"])


def _neon_api_keys(settings: Mapping[str, str], config: ConfigLookup) -> Issuer:
    client = NeonClient(operator_credentials.find(operator_credentials.NEON, config))
    return ApiKeys(client=client, organization_id=settings["organization_id"], project_id=settings["project_id"])


def _resend_sending_keys(settings: Mapping[str, str], config: ConfigLookup) -> Issuer:
    client = ResendClient(operator_credentials.find(operator_credentials.RESEND, config))
    return SendingKeys(client=client, domain=settings["domain"])


def _stripe_webhook_endpoints(settings: Mapping[str, str], config: ConfigLookup) -> Issuer:
    client = StripeClient(operator_credentials.find(operator_credentials.STRIPE, config))
    url = webhook_url(settings["webhook_url"], endpoint("CONTROL_PLANE_URL", settings["control_plane_url"]))
    return WebhookEndpoints(
        client=client, url=url, livemode=settings["mode"] == "live", connect=settings["connect"] == "true"
    )


# Whose credential mints. The keys of both tables are kept in the state of every stack: never rename one.
OPERATORS: Mapping[str, OperatorCredential] = {
    "fly-deploy-token": operator_credentials.FLY,
    "neon-api-key": operator_credentials.NEON,
    "resend-sending-key": operator_credentials.RESEND,
    "stripe-webhook-endpoint": operator_credentials.STRIPE,
}
# Characters that each allows in a name. Neon and Resend document theirs; the others are far longer than any name here.
LONGEST_NAMES: Mapping[str, int] = {
    "fly-deploy-token": 255,
    "neon-api-key": 64,
    "resend-sending-key": 50,
    "stripe-webhook-endpoint": 255,
}

ISSUERS: Mapping[str, Callable[[Mapping[str, str], ConfigLookup], Issuer]] = {
    "fly-deploy-token": _fly_deploy_tokens,
    "neon-api-key": _neon_api_keys,
    "resend-sending-key": _resend_sending_keys,
    "stripe-webhook-endpoint": _stripe_webhook_endpoints,
}
