"""The secrets of the control plane: from whom, where to, and how each is proven. Plain data; `__main__.py` lists them."""

from collections.abc import Mapping

from components.github.destinations import Destinations
from components.secret import (
    Check,
    DependabotOrganizationSecret,
    DependabotSecret,
    EncryptedRows,
    FlySecret,
    GitHubSecret,
    Issuer,
    Random,
    Secret,
    Supplied,
    TenantMachines,
)
from components.settings import Settings

NOT_MANAGED: Mapping[str, str] = {
    "GITHUB_TOKEN": "it is built into GitHub Actions, which mints a new one for every job."
}


def fly_api_token(settings: Settings) -> Secret:
    """Coupled: it stands in two systems, and rotating only one of them breaks the other silently.

    The control plane creates and deletes the machines of tenants with it, and the workflow pushes their image, so it is a deploy token of
    the tenants' app.
    """
    return Secret(
        name="FLY_API_TOKEN",
        source=Issuer(
            kind="fly-deploy-token",
            settings={
                "app": settings.deploy_token_app,
                "profile": settings.deploy_token_profile,
                "expiry": settings.deploy_token_expiry,
            },
        ),
        fly=(FlySecret(app=settings.app),),
        repositories=_at_github(settings),
        coupled=True,
        choices={"deployTokenProfile": settings.deploy_token_profile},
        at_risk="Once the old token is revoked, whoever still has it breaks, and nobody is told: without the new one at Fly no tenant can be "
        "provisioned (401), without it at GitHub no image is published.",
        without="No tenant can be provisioned or deleted, and the workflow can publish no image.",
        probe=Check(module="fly_token_probe", settings={"app": settings.deploy_token_app}),
        verification=Check(
            module="fly_api_token",
            settings={
                **_disposable_org(settings),
                "tenant_app": settings.tenant_app,
                "repository": f"{settings.owner}/{settings.repository}",
                "workflow": settings.workflow,
                "ref": settings.workflow_ref,
                "workflow_timeout": settings.workflow_timeout,
                "ci_timeout": settings.ci_timeout,
                # Not said of the repository alone: a check that is told something new runs again.
                **({} if settings.github_destinations == Destinations() else {"places": _paths(settings)}),
            },
        ),
    )


def neon_api_key(settings: Settings) -> Secret:
    """The control plane makes a branch of its Neon project for every tenant."""
    organization = "" if settings.neon_key_scope == "personal" else settings.neon_organization
    return Secret(
        name="NEON_API_KEY",
        at_risk="With a key that Neon refuses, no tenant can be provisioned or deleted; those that run do not notice.",
        without="No tenant can be provisioned or deleted; those that run do not notice.",
        source=Issuer(
            kind="neon-api-key",
            settings={
                "organization_id": organization,
                "project_id": settings.neon_project if settings.neon_key_scope == "project" else "",
            },
        ),
        fly=(FlySecret(app=settings.app),),
        requires={"neonProject": settings.neon_project}
        | ({} if settings.neon_key_scope == "personal" else {"neonOrganization": settings.neon_organization}),
        choices={"neonKeyScope": settings.neon_key_scope, **_use(settings)},
        probe=Check(module="neon_api_key_probe", settings={"project": settings.neon_project}),
        verification=Check(
            module="neon_api_key",
            settings={
                **_disposable_org(settings),
                "organization": organization,
                "project": settings.neon_project,
                "branch_name": settings.neon_branch_name,
                "prove_use": settings.prove_use,
            },
        ),
    )


def database_url(settings: Settings) -> Secret:
    """Where the control plane keeps everything: rotated on request only. A wrong one takes the whole service down, and nothing else."""
    alternates = settings.database_strategy == "alternate"
    return Secret(
        name="DATABASE_URL",
        at_risk="A wrong URL takes the whole control plane down: nothing of it works without its database.",
        without="The control plane cannot live without it: nothing of it works without its database.",
        source=Issuer(
            kind="neon-role-password",
            settings={
                "project": settings.database_project,
                "branch": settings.database_branch,
                "database": settings.database_name,
                "pooled": "true" if settings.database_pooled else "false",
                "strategy": settings.database_strategy,
                "role": settings.database_role,
            },
        ),
        fly=(FlySecret(app=settings.app),),
        requires={"databaseProject": settings.database_project},
        choices={
            "databaseStrategy": settings.database_strategy,
            "databasePooled": _yes(settings.database_pooled),
            **_use(settings),
        },
        probe=Check(module="database_url_probe", settings={"every_table": alternates}),
        verification=Check(
            module="database_url",
            takes_value=True,
            settings={
                **_control_plane(settings),
                "overlaps": alternates,
                "prove_use": settings.prove_use,
                "timeout": settings.database_timeout,
            },
        ),
        overlaps=alternates,
    )


def tenant_redis_url(settings: Settings) -> Secret:
    """Shared by all tenants, whose machines keep what they were created with: the largest blast radius of all."""
    acl = settings.redis_strategy == "acl"
    rules = settings.redis_rules if acl else ""
    return Secret(
        name="TENANT_REDIS_URL",
        at_risk="All tenants share it, and keep what they were created with: whoever still has the old URL once its user is gone cannot use "
        "Redis.",
        without="Orgs that are made from now on have no Redis.",
        kept="" if acl else "its password is that of `default`, which only another one ends.",
        source=Issuer(
            kind="upstash-redis-user",
            settings={
                "database": settings.upstash_database,
                "strategy": settings.redis_strategy,
                "user": settings.redis_user if acl else "",
                "rules": rules,
            },
        ),
        fly=(FlySecret(app=settings.app),),
        tenants=TenantMachines(app=settings.tenant_app, variable="REDIS_URL", same_server=True),
        requires={"upstashDatabase": settings.upstash_database},
        choices={
            "redisStrategy": settings.redis_strategy,
            **({"redisRules": settings.redis_rules, **_use(settings)} if acl else {}),
        },
        probe=Check(module="tenant_redis_url_probe", settings={"rules": rules}),
        verification=Check(
            module="tenant_redis_url",
            takes_value=True,
            settings={
                **_disposable_org(settings),
                "tenant_app": settings.tenant_app,
                "variable": "REDIS_URL",
                "overlaps": acl,
                # With `reset` the user is the same as before, so its connections prove nothing. But then the old password is dead.
                "prove_use": settings.prove_use and acl,
            },
        ),
        overlaps=acl,
    )


def secrets_encryption_key(settings: Settings) -> Secret:
    """Dangerous: what is encrypted with the key before is lost to whoever has the new one. Rotated only where it is compromised.

    Every tenant's machine has it, too, and new ones get it from the control plane, so that goes first.
    """
    reprovisions = settings.encryption_strategy == "reprovision"
    rows = {
        "project": settings.database_project,
        "branch": settings.database_branch,
        "database": settings.database_name,
        "role": settings.encryption_role,
        "loader": settings.encryption_key_loader,
    }
    return Secret(
        name="SECRETS_ENCRYPTION_KEY",
        at_risk="What is encrypted with a key that nobody has is lost: the database and Redis URLs of every tenant. A tenant that misreads "
        "the key goes on without encryption.",
        kept="what is encrypted with it could be read by nobody any more.",
        source=Random(
            length=32,
            encoding="hex" if settings.encryption_key_encoding == "hex" else "base64",
            kind="encryption-key",
            settings={
                **rows,
                "app": settings.app,
                "tenant_app": settings.tenant_app,
                "max_unavailable": str(settings.max_unavailable),
                "strategy": settings.encryption_strategy,
                "encoding": settings.encryption_key_encoding,
                "reprovision_path": settings.reprovision_path,
            },
        ),
        fly=(FlySecret(app=settings.app),),
        tenants=TenantMachines(app=settings.tenant_app, variable="SECRETS_ENCRYPTION_KEY", reprovisions=reprovisions),
        rows=None if reprovisions else EncryptedRows(settings=rows),
        requires={"databaseProject": settings.database_project}
        | ({"reprovisionPath": settings.reprovision_path} if reprovisions else {}),
        choices={
            "encryptionStrategy": settings.encryption_strategy,
            "encryptionKeyEncoding": settings.encryption_key_encoding,
            "encryptionKeyLoader": settings.encryption_key_loader,
        },
        probe=Check(module="secrets_encryption_key_probe", settings={"loader": settings.encryption_key_loader}),
        verification=Check(
            module="secrets_encryption_key",
            takes_value=True,
            settings={
                **_disposable_org(settings),
                **rows,
                "tenant_app": settings.tenant_app,
                "variable": "SECRETS_ENCRYPTION_KEY",
                "reprovisions": reprovisions,
            },
        ),
        only_if_compromised=True,
    )


def resend_api_key(settings: Settings) -> Secret:
    """Best effort for the control plane: with a wrong key mails are skipped, and nobody is told but its log."""
    return Secret(
        name="RESEND_API_KEY",
        at_risk="Mails are skipped, and only the log of the control plane says so (`purge confirmation email failed`); erasure itself goes on.",
        without="No mail is sent, and only the log of the control plane says so; erasure itself goes on.",
        source=Issuer(kind="resend-sending-key", settings={"domain": settings.resend_domain}),
        fly=(FlySecret(app=settings.app),),
        requires={"resendDomain": settings.resend_domain},
        choices=_use(settings),
        probe=Check(module="resend_api_key_probe"),
        verification=Check(
            module="resend_api_key",
            settings={**_purge_mail(settings), "prove_use": settings.prove_use},
        ),
        may_be_staged=True,
    )


def resend_from_email(settings: Settings) -> Secret:
    """No secret, but a trap: mails from a domain that Resend has not verified are refused, and nothing checks that at deploy time."""
    return Secret(
        name="RESEND_FROM_EMAIL",
        at_risk="Resend refuses every mail of a domain that it has not verified (403), and only the log of the control plane says so.",
        without="No mail is sent, and only the log of the control plane says so.",
        source=Supplied(kind="resend-sender"),
        fly=(FlySecret(app=settings.app),),
        probe=Check(module="resend_from_email_probe"),
        verification=Check(module="resend_from_email", takes_value=True, settings=_purge_mail(settings)),
    )


def stripe_api_key(settings: Settings) -> Secret:
    """No key can mint another: it is rolled in Stripe's Dashboard and handed in.

    Stripe ends the old one by itself, at the time that was chosen there.
    """
    return Secret(
        name="STRIPE_API_KEY",
        at_risk="Nobody can buy, and erasure cannot delete customers at Stripe.",
        without="Nobody can buy, and erasure cannot delete customers at Stripe.",
        source=Supplied(
            kind="stripe-secret-key",
            settings={
                "mode": settings.stripe_mode,
                "account": settings.stripe_account,
                "ends_old_at": settings.old_value_expires_at.get("STRIPE_API_KEY", ""),
            },
        ),
        fly=(FlySecret(app=settings.app),),
        requires={"stripeAccount": settings.stripe_account},
        probe=Check(
            module="stripe_api_key_probe", settings={"mode": settings.stripe_mode, "account": settings.stripe_account}
        ),
        verification=Check(
            module="stripe_api_key",
            settings={
                **_disposable_org(settings),
                "plan": settings.checkout_plan,
                "checkout_host": settings.checkout_host,
                "return_url": settings.checkout_return_url or settings.control_plane_url,
            },
        ),
        may_be_staged=True,
    )


def stripe_webhook_secret(settings: Settings) -> Secret:
    """Independent of STRIPE_API_KEY, and two ways to a new one, because Stripe rolls a secret in its Dashboard only.

    `endpoint` clones the endpoint: until the old one is deleted every event arrives twice, and each machine takes the one that is signed
    with the secret that it holds. `supplied` takes the secret that was rolled in the Dashboard, while Stripe signs with both, for at most
    24 hours.
    """
    cloned = settings.stripe_webhook_secret == "endpoint"  # noqa: S105 - where it comes from
    window_ends_at = settings.old_value_expires_at.get("STRIPE_WEBHOOK_SECRET", "")
    return Secret(
        name="STRIPE_WEBHOOK_SECRET",
        at_risk="Stripe's events are refused (400): payments are not noticed until the events are sent again.",
        without="Stripe's events are refused, and where it was the only endpoint they are not sent any more: payments are not noticed.",
        source=Issuer(
            kind="stripe-webhook-endpoint",
            settings={
                "webhook_url": settings.stripe_webhook_url,
                "control_plane_url": settings.control_plane_url,
                "mode": settings.stripe_mode,
                "connect": "true" if settings.stripe_connect else "false",
            },
        )
        if cloned
        else Supplied(kind="stripe-signing-secret", settings={"ends_old_at": window_ends_at}),
        fly=(FlySecret(app=settings.app),),
        choices={
            "stripeWebhookSecret": settings.stripe_webhook_secret,
            **({"stripeConnect": _yes(settings.stripe_connect)} if cloned else {}),
        },
        probe=Check(module="stripe_webhook_secret_probe", settings={"endpoint": cloned}),
        verification=Check(
            module="stripe_webhook_secret",
            takes_value=True,
            settings={
                **_control_plane(settings),
                "webhook_url": settings.stripe_webhook_url,
                "event_type": settings.stripe_test_event,
                "endpoint": cloned,
                "window_ends_at": "" if cloned else window_ends_at,
                "api_version": settings.stripe_event_version,
                "livemode": settings.stripe_mode == "live",
            },
        ),
        may_be_staged=True,
    )


def _at_github(settings: Settings) -> tuple[GitHubSecret, ...]:
    """Those of the config, if there is a repository."""
    return settings.github_destinations.locations(
        owner=settings.owner, repository=settings.repository, workflow=settings.workflow
    )


def _paths(settings: Settings) -> list[str]:
    """Where GitHub has the secrets that a workflow may read: not Dependabot's."""
    return [
        place.secrets_path
        for place in _at_github(settings)
        if not isinstance(place, DependabotSecret | DependabotOrganizationSecret)
    ]


def _control_plane(settings: Settings) -> dict[str, object]:
    """What `ControlPlaneSettings` in `components.verification.consumers` need."""
    return {"app": settings.app, "url": settings.control_plane_url}


def _disposable_org(settings: Settings) -> dict[str, object]:
    """What `DisposableOrgSettings` there need."""
    return {
        **_control_plane(settings),
        "owner_user_id": settings.org_owner_user_id,
        "org_timeout": settings.org_timeout,
    }


def _purge_mail(settings: Settings) -> dict[str, object]:
    """What `PurgeMailSettings` in `components.verification.purge_mail` need."""
    return {
        **_disposable_org(settings),
        "subject": settings.purge_mail_subject,
        "mail_timeout": settings.mail_timeout,
    }


def _yes(chosen: bool) -> str:  # noqa: FBT001 - one value, as the config writes it
    return "true" if chosen else "false"


def _use(settings: Settings) -> dict[str, str]:
    """Part of the choices of every secret whose use can be proven: a verification without that proof proves less."""
    return {"proveUse": _yes(settings.prove_use)}
