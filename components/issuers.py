"""Who hands out credentials: the one table to extend for a new provider."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from components import operator_credentials
from components.encryption.issuer import EncryptionKeys
from components.encryption.reencryption import KEY_BEFORE, database_of
from components.errors import RefusedError
from components.fly.client import FlyClient
from components.fly.issuer import DeployTokens
from components.given import GivenValues
from components.issuer import Issuer
from components.keyring import Credential
from components.neon.client import NeonClient
from components.neon.issuer import ApiKeys
from components.neon.roles import RolePasswords
from components.operator_credentials import OperatorCredential, endpoint
from components.resend.client import ResendClient
from components.resend.issuer import SendingKeys
from components.resend.sender import SenderAddresses
from components.stripe.client import StripeClient
from components.stripe.issuer import WebhookEndpoints, webhook_url
from components.stripe.keys import SecretKeys
from components.stripe.signing_secrets import SigningSecrets
from components.upstash.client import UpstashClient
from components.upstash.credentials import RedisUsers

ConfigLookup = Callable[[str], str | None]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an issuer is built from, beside its settings.

    Attributes:
        config: Looks a key of the stack's config up.
        given: The value that Pulumi generated or the operator supplied. Secret.
        keyring: What the stack knows.
        keep_from: Earlier generations of a given value are over.
    """

    config: ConfigLookup
    given: str = field(default="", repr=False)
    keyring: tuple[Credential, ...] = ()
    keep_from: int = 0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of issuer.

    Attributes:
        build: Makes one from the settings of a secret's source.
        operator: Whose credential it needs; None for none.
        longest_name: Characters that the provider allows in a name.
    """

    build: Callable[[Mapping[str, str], Context], Issuer]
    operator: OperatorCredential | None
    longest_name: int = 255


def _fly_deploy_tokens(settings: Mapping[str, str], context: Context) -> Issuer:
    client = FlyClient(token=operator_credentials.find(operator_credentials.FLY, context.config))
    return DeployTokens(client=client, app=settings["app"], profile=settings["profile"], expiry=settings["expiry"])


def _neon_api_keys(settings: Mapping[str, str], context: Context) -> Issuer:
    client = NeonClient(operator_credentials.find(operator_credentials.NEON, context.config))
    return ApiKeys(client=client, organization_id=settings["organization_id"], project_id=settings["project_id"])


def _neon_role_passwords(settings: Mapping[str, str], context: Context) -> Issuer:
    return RolePasswords(
        client=NeonClient(operator_credentials.find(operator_credentials.NEON, context.config)),
        project=settings["project"],
        branch=settings["branch"],
        database=settings["database"],
        pooled=settings["pooled"] == "true",
        strategy=settings["strategy"],
        role=settings["role"],
        keyring=context.keyring,
        keep_from=context.keep_from,
    )


def _upstash_redis_users(settings: Mapping[str, str], context: Context) -> Issuer:
    rest_token = ""
    with suppress(RefusedError):  # needed only where Upstash hides the database's own
        rest_token = operator_credentials.find(operator_credentials.UPSTASH_REST_TOKEN, context.config)
    return RedisUsers(
        client=UpstashClient(
            email=operator_credentials.find(operator_credentials.UPSTASH_EMAIL, context.config),
            key=operator_credentials.find(operator_credentials.UPSTASH, context.config),
        ),
        database=settings["database"],
        strategy=settings["strategy"],
        user=settings["user"],
        rules=settings["rules"],
        rest_token=rest_token,
        keyring=context.keyring,
    )


def _resend_sending_keys(settings: Mapping[str, str], context: Context) -> Issuer:
    client = ResendClient(operator_credentials.find(operator_credentials.RESEND, context.config))
    return SendingKeys(client=client, domain=settings["domain"])


def _resend_senders(_settings: Mapping[str, str], context: Context) -> Issuer:
    client = ResendClient(operator_credentials.find(operator_credentials.RESEND, context.config))
    return SenderAddresses(client=client, given=context.given, keyring=context.keyring, keep_from=context.keep_from)


def _stripe_webhook_endpoints(settings: Mapping[str, str], context: Context) -> Issuer:
    client = StripeClient(operator_credentials.find(operator_credentials.STRIPE, context.config))
    url = webhook_url(settings["webhook_url"], endpoint("CONTROL_PLANE_URL", settings["control_plane_url"]))
    return WebhookEndpoints(
        client=client, url=url, livemode=settings["mode"] == "live", connect=settings["connect"] == "true"
    )


def _given_values(_settings: Mapping[str, str], context: Context) -> Issuer:
    return GivenValues(given=context.given, keyring=context.keyring, keep_from=context.keep_from)


def _stripe_secret_keys(settings: Mapping[str, str], context: Context) -> Issuer:
    return SecretKeys(
        mode=settings["mode"],
        account=settings["account"],
        ends_old_at=settings["ends_old_at"],
        given=context.given,
        keyring=context.keyring,
        keep_from=context.keep_from,
    )


def _stripe_signing_secrets(settings: Mapping[str, str], context: Context) -> Issuer:
    return SigningSecrets(
        first=context.keep_from == 0,
        ends_old_at=settings["ends_old_at"],
        given=context.given,
        keyring=context.keyring,
        keep_from=context.keep_from,
    )


def _encryption_keys(settings: Mapping[str, str], context: Context) -> Issuer:
    return EncryptionKeys(
        database=database_of(settings, context.config),
        fly=FlyClient(token=operator_credentials.find(operator_credentials.FLY, context.config)),
        app=settings["app"],
        tenant_app=settings["tenant_app"],
        max_unavailable=float(settings["max_unavailable"]),
        strategy=settings["strategy"],
        encoding=settings["encoding"],
        loader=settings["loader"],
        reprovision_path=settings["reprovision_path"],
        key_before=context.config(KEY_BEFORE) or "",
        given=context.given,
        keyring=context.keyring,
        keep_from=context.keep_from,
    )


# The keys are kept in the state of every stack: never rename one. Neon and Resend document how long a name may be; the others allow far
# longer ones than any here.
ISSUERS: Mapping[str, Kind] = {
    "fly-deploy-token": Kind(build=_fly_deploy_tokens, operator=operator_credentials.FLY),
    "neon-api-key": Kind(build=_neon_api_keys, operator=operator_credentials.NEON, longest_name=64),
    "neon-role-password": Kind(build=_neon_role_passwords, operator=operator_credentials.NEON),
    "resend-sending-key": Kind(build=_resend_sending_keys, operator=operator_credentials.RESEND, longest_name=50),
    "resend-sender": Kind(build=_resend_senders, operator=operator_credentials.RESEND),
    "stripe-webhook-endpoint": Kind(build=_stripe_webhook_endpoints, operator=operator_credentials.STRIPE),
    "stripe-secret-key": Kind(build=_stripe_secret_keys, operator=None),
    "stripe-signing-secret": Kind(build=_stripe_signing_secrets, operator=None),
    # How long a user's name may be at Upstash is not documented; a URL with such a name is handed to every kind of client.
    "upstash-redis-user": Kind(build=_upstash_redis_users, operator=operator_credentials.UPSTASH, longest_name=64),
    "encryption-key": Kind(build=_encryption_keys, operator=operator_credentials.NEON),
    "given": Kind(build=_given_values, operator=None),
}
