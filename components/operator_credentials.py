"""The credentials that mint others, and where the APIs are. Both are read at call time.

The environment comes first, because the engine gives `refresh` and `destroy` the provider configuration of the last update: a token that
has since been changed in the stack's config would not reach them. Encrypted config comes second.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from components.errors import RefusedError


@dataclass(frozen=True, kw_only=True)
class OperatorCredential:
    """Where one operator credential is found.

    Attributes:
        description: What it is and which rights it needs.
        variables: Environment variables, the first that is set counts.
        config_key: The key of the stack's config that is read otherwise.
    """

    description: str
    variables: tuple[str, ...]
    config_key: str


FLY = OperatorCredential(
    description="a Fly token that may mint deploy tokens (`fly auth token`, or an organization token)",
    variables=("FLY_ACCESS_TOKEN", "FLY_API_TOKEN"),
    config_key="flyAccessToken",
)
GITHUB = OperatorCredential(
    description="a GitHub token that may write Actions secrets and run workflows of the repository",
    variables=("GITHUB_TOKEN",),
    config_key="github:token",  # pulumi-github's own key: the provider reads it too
)
CONTROL_PLANE = OperatorCredential(
    description="the admin token of the control plane",
    variables=("CP_ADMIN_API_TOKEN",),
    config_key="controlPlaneAdminToken",
)


NEON = OperatorCredential(
    description="a personal Neon API key of an admin of the organization",
    variables=("NEON_API_KEY",),
    config_key="neonApiKey",
)
RESEND = OperatorCredential(
    description="a Resend API key with full access",
    variables=("RESEND_API_KEY",),
    config_key="resendApiKey",
)
STRIPE = OperatorCredential(
    description="a Stripe key of the control plane's account: a secret key, or a restricted one that may write webhook endpoints",
    variables=("STRIPE_API_KEY",),
    config_key="stripeApiKey",
)
CONTROL_PLANE_SESSION = OperatorCredential(
    description="the cookie `mcp_session` of a user of the control plane who is signed in and may buy for a disposable org",
    variables=("CP_SESSION",),
    config_key="controlPlaneSession",
)
UPSTASH = OperatorCredential(
    description="a management key of the Upstash account that has the tenants' database",
    variables=("UPSTASH_API_KEY",),
    config_key="upstashApiKey",
)
UPSTASH_EMAIL = OperatorCredential(
    description="the email address of the Upstash account, without which its management key is none",
    variables=("UPSTASH_EMAIL",),
    config_key="upstashEmail",
)
UPSTASH_REST_TOKEN = OperatorCredential(
    description="the standard REST token of the tenants' database, needed only where Upstash hides it (Credential Protection)",
    variables=("UPSTASH_REDIS_REST_TOKEN",),
    config_key="upstashRedisRestToken",
)
ALL = (
    FLY,
    GITHUB,
    CONTROL_PLANE,
    NEON,
    RESEND,
    STRIPE,
    CONTROL_PLANE_SESSION,
    UPSTASH,
    UPSTASH_EMAIL,
    UPSTASH_REST_TOKEN,
)


def variable_of_config(key: str) -> str:
    """The environment variable that carries a config value to a check, which has no access to the stack's config."""
    return "ROTATION_CONFIG_" + "".join(letter if letter.isalnum() else "_" for letter in key)


def _config_of_a_check(key: str) -> str | None:
    return os.environ.get(variable_of_config(key))


def find(credential: OperatorCredential, config: Callable[[str], str | None] = _config_of_a_check) -> str:
    """The value of an operator credential.

    Args:
        credential: Which one.
        config: Looks a key up in the stack's config.

    Raises:
        RefusedError: It is in neither place.
    """
    for variable in credential.variables:
        if value := os.environ.get(variable, "").strip():
            return value
    if value := (config(credential.config_key) or "").strip():
        return value
    raise RefusedError(
        f"There is no operator token: {credential.description}.",
        next_step=f"export {credential.variables[0]}, or `pulumi config set --secret {credential.config_key}`.",
    )


def endpoint(variable: str, default: str) -> str:
    """The base URL of an API, without a slash at the end: that of the environment, else the provider's public one."""
    return (os.environ.get(variable) or default).rstrip("/")
