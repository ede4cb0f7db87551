"""The secret map of the control plane: which secret, from whom, where to, and how it is proven.

Bump a counter (`pulumi config set --path 'rotations.FLY_API_TOKEN' 2`), look (`pulumi preview`), rotate (`pulumi up`).
"""

from components.rotation import load_settings, rotate
from components.secret import Check, FlySecret, Issuer, RepositorySecret, Secret

settings = load_settings()

# Coupled: it stands in two systems, and rotating only one of them breaks the other silently. The control plane creates and deletes the
# machines of tenants with it, and the workflow pushes their image, so it is a deploy token of the tenants' app.
FLY_API_TOKEN = Secret(
    name="FLY_API_TOKEN",
    issuer=Issuer(
        kind="fly-deploy-token",
        settings={
            "app": settings.deploy_token_app,
            "profile": settings.deploy_token_profile,
            "expiry": settings.deploy_token_expiry,
        },
    ),
    fly=(FlySecret(app=settings.app),),
    repositories=(RepositorySecret(owner=settings.owner, repository=settings.repository),),
    probe=Check(module="fly_token_probe", settings={"app": settings.deploy_token_app}),
    verification=Check(
        module="fly_api_token",
        settings={
            "app": settings.app,
            "tenant_app": settings.tenant_app,
            "url": settings.control_plane_url,
            "owner_user_id": settings.org_owner_user_id,
            "repository": f"{settings.owner}/{settings.repository}",
            "workflow": settings.workflow,
            "ref": settings.workflow_ref,
            "org_timeout": settings.org_timeout,
            "workflow_timeout": settings.workflow_timeout,
            "ci_timeout": settings.ci_timeout,
        },
    ),
)

# The control plane makes a branch of its Neon project for every tenant.
NEON_API_KEY = Secret(
    name="NEON_API_KEY",
    issuer=Issuer(
        kind="neon-api-key",
        settings={
            "organization_id": "" if settings.neon_key_scope == "personal" else settings.neon_organization,
            "project_id": settings.neon_project if settings.neon_key_scope == "project" else "",
        },
    ),
    fly=(FlySecret(app=settings.app),),
    requires={"neonProject": settings.neon_project}
    | ({} if settings.neon_key_scope == "personal" else {"neonOrganization": settings.neon_organization}),
    probe=Check(module="neon_api_key_probe", settings={"project": settings.neon_project}),
    verification=Check(
        module="neon_api_key",
        settings={
            "app": settings.app,
            "url": settings.control_plane_url,
            "owner_user_id": settings.org_owner_user_id,
            "organization": "" if settings.neon_key_scope == "personal" else settings.neon_organization,
            "project": settings.neon_project,
            "branch_name": settings.neon_branch_name,
            "prove_use": settings.prove_use,
            "org_timeout": settings.org_timeout,
        },
    ),
)

# Best effort for the control plane: with a wrong key mails are skipped, and nobody is told but its log.
RESEND_API_KEY = Secret(
    name="RESEND_API_KEY",
    issuer=Issuer(kind="resend-sending-key", settings={"domain": settings.resend_domain}),
    fly=(FlySecret(app=settings.app),),
    requires={"resendDomain": settings.resend_domain},
    probe=Check(module="resend_api_key_probe"),
    verification=Check(
        module="resend_api_key",
        settings={
            "app": settings.app,
            "url": settings.control_plane_url,
            "owner_user_id": settings.org_owner_user_id,
            "subject": settings.purge_mail_subject,
            "prove_use": settings.prove_use,
            "org_timeout": settings.org_timeout,
            "mail_timeout": settings.mail_timeout,
        },
    ),
)

# Independent of STRIPE_API_KEY. Stripe rolls a secret in its Dashboard only, so the endpoint is cloned: until the old one is deleted every
# event arrives twice, and each machine takes the one that is signed with the secret that it holds.
STRIPE_WEBHOOK_SECRET = Secret(
    name="STRIPE_WEBHOOK_SECRET",
    issuer=Issuer(
        kind="stripe-webhook-endpoint",
        settings={
            "webhook_url": settings.stripe_webhook_url,
            "control_plane_url": settings.control_plane_url,
            "mode": settings.stripe_mode,
            "connect": "true" if settings.stripe_connect else "false",
        },
    ),
    fly=(FlySecret(app=settings.app),),
    probe=Check(module="stripe_webhook_secret_probe"),
    verification=Check(
        module="stripe_webhook_secret",
        takes_value=True,
        settings={
            "app": settings.app,
            "url": settings.control_plane_url,
            "webhook_url": settings.stripe_webhook_url,
            "event_type": settings.stripe_test_event,
        },
    ),
)

rotate(
    settings,
    [FLY_API_TOKEN, NEON_API_KEY, RESEND_API_KEY, STRIPE_WEBHOOK_SECRET],
    not_managed={"GITHUB_TOKEN": "it is built into GitHub Actions, which mints a new one for every job."},
)
