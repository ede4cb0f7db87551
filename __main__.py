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

rotate(
    settings,
    [FLY_API_TOKEN],
    not_managed={"GITHUB_TOKEN": "it is built into GitHub Actions, which mints a new one for every job."},
)
