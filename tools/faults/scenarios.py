"""What is rotated: the sections of the matrix. Pure.

A scenario is a stack with its settings, and what happens to it: a bump of every counter that it lists, or its first deployment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

KEY, SENDER = "SECRETS_ENCRYPTION_KEY", "RESEND_FROM_EMAIL"
STRIPE_KEY, WEBHOOK = "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"
SECRETS = (
    "FLY_API_TOKEN",
    "NEON_API_KEY",
    "RESEND_API_KEY",
    WEBHOOK,
    "DATABASE_URL",
    "TENANT_REDIS_URL",
    SENDER,
    KEY,
    STRIPE_KEY,
)
# Machines of tenants, where they hold the secret too.
WITH_TENANTS = ("TENANT_REDIS_URL", KEY)
TENANTS = 2
# Undisturbed rotations before the one that is recorded: a role that there is already is not made again.
WARM_UP = {"DATABASE_URL": 1}
REPROVISION_PATH = "/cp/admin/tenants/{slug}/reprovision"  # the sandbox's control plane has it there


class Step(StrEnum):
    """What an operator does to rotate."""

    UP = "pulumi up"
    REDEPLOY = "deployment"
    """Somebody deploys: every machine of the control plane restarts."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """See the module's docstring.

    Attributes:
        name: Heading in the document, and what results are kept under.
        secrets: What the stack lists, and what rotates.
        about: One line for the document; "" where the name says it.
        settings: Of the stack, from its first deployment on.
        later: Of the stack, from the rotation on.
        first: Whether the first deployment is what is disturbed, and not a bump.
        steps: What an undisturbed rotation takes.
        outage: Regular expressions of what the sandbox notices in an undisturbed rotation as well: the strategy announces it.
    """

    name: str
    secrets: tuple[str, ...]
    about: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    later: Mapping[str, str] = field(default_factory=dict)
    first: bool = False
    steps: tuple[Step, ...] = (Step.UP,)
    outage: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Its name as a folder's."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name)

    @property
    def tenants(self) -> int:
        """How many machines of tenants there are."""
        return TENANTS if {*WITH_TENANTS} & {*self.secrets} else 0

    @property
    def warm_up(self) -> int:
        """How many undisturbed rotations come before."""
        return 0 if self.first else max(WARM_UP.get(secret, 0) for secret in self.secrets)

    def announced(self, alarm: str) -> bool:
        """Whether something that the sandbox noticed is of the strategy's nature."""
        return any(re.search(each, alarm) for each in self.outage)


def _staged(secret: str) -> Scenario:
    return Scenario(
        name=f"{secret} staged",
        secrets=(secret,),
        about="`rollout: staged`: written, then somebody deploys, then verified and revoked by the next `pulumi up`",
        later={"rollout": "staged"},
        steps=(Step.UP, Step.REDEPLOY, Step.UP),
    )


def _first(name: str, *secrets: str) -> Scenario:
    return Scenario(
        name=name,
        secrets=secrets,
        about="the first `pulumi up` of the stack, which takes over from what was made by hand",
        first=True,
    )


SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        *(Scenario(name=secret, secrets=(secret,)) for secret in SECRETS),
        Scenario(
            name="STRIPE_WEBHOOK_SECRET supplied",
            secrets=(WEBHOOK,),
            about="`stripeWebhookSecret: supplied`: rolled in Stripe's Dashboard and handed in",
            settings={"stripeWebhookSecret": "supplied"},
        ),
        Scenario(
            name="DATABASE_URL reset",
            secrets=("DATABASE_URL",),
            about="`databaseStrategy: reset`: the control plane has no database until it has restarted, and that is not counted",
            settings={"databaseStrategy": "reset"},
            outage=(
                r"\bDATABASE_URL\b",
                r"^breakage of molecule-cp/\S+: .*postgres",
                r"^breakage of molecule-cp: .* 503$",
            ),
        ),
        Scenario(
            name="TENANT_REDIS_URL reset",
            secrets=("TENANT_REDIS_URL",),
            about="`redisStrategy: reset`: tenants have no Redis until they have restarted, and that is not counted",
            settings={"redisStrategy": "reset"},
            outage=(r"\b(TENANT_)?REDIS_URL\b", r"^breakage of molecule-(cp|tenant)/\S+: .*redis"),
        ),
        Scenario(
            name="SECRETS_ENCRYPTION_KEY reprovision",
            secrets=(KEY,),
            about="`encryptionStrategy: reprovision`: the control plane provisions every org anew",
            settings={"encryptionStrategy": "reprovision", "reprovisionPath": REPROVISION_PATH},
        ),
        *(_staged(secret) for secret in ("RESEND_API_KEY", WEBHOOK, STRIPE_KEY)),
        *(_first(f"{secret} first", secret) for secret in SECRETS),
        Scenario(
            name="all at once",
            secrets=SECRETS,
            about="every secret in one `pulumi up`, and one rolling restart",
        ),
        _first("all at once first", *SECRETS),
    )
}
"""By name, in the order in which a run begins them. A name is a secret's where that secret alone rotates, with the defaults."""
