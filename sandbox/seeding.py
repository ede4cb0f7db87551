"""Fills a new sandbox with the system that an operator adopts: nothing in it was made by the program.

The control plane `molecule-cp` runs and talks to Fly with a deploy token for `molecule-tenant` that somebody made by
hand; the same value is the Actions secret of the repository that publishes the tenants' image. Its keys of Neon,
Resend and Stripe were made by hand, too, and so were the role of its `DATABASE_URL` and its `SECRETS_ENCRYPTION_KEY`;
its tenants share the one password of their Redis at Upstash.
"""

from __future__ import annotations

import base64
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

from sandbox import control_plane_database, dns, github, neon, resend, stripe, upstash
from sandbox.fly import apps, machines, releases, tokens
from sandbox.fly import secrets as app_secrets
from sandbox.fly.apps import CONTROL_PLANE, TENANT
from sandbox.processes import encryption, tenant_machine
from sandbox.world import SandboxError, random_token

if TYPE_CHECKING:
    from sandbox.world import World

ORGANIZATION: Final = "molecule-ai"
OPERATOR: Final = "operator@molecule.example"
HAND_MADE: Final = "molecule-cp-rotation-20260101"
"""The runbook's way to name a token: by the day it was made."""
CONTROL_PLANE_IMAGE: Final = f"registry.fly.io/{CONTROL_PLANE}:deployment-01"


def seeded(world: World) -> bool:
    """Tell whether the world was filled."""
    return world.kept("FLY_ACCESS_TOKEN") is not None


def seed(world: World, *, machine_count: int) -> None:
    """Fill a new world, which `complete` ends. The machines are recorded only: the supervisor boots them.

    Raises `SandboxError` if an earlier attempt was interrupted.
    """
    if apps.find(world, name=CONTROL_PLANE) is not None:
        raise SandboxError(
            f"The first start of the sandbox in {world.directory} was interrupted; it is incomplete. Nothing was "
            "started. Delete that folder and start again."
        )
    apps.create_organization(world, slug=ORGANIZATION, name="Molecule AI")
    apps.create(world, name=CONTROL_PLANE, organization=ORGANIZATION)
    apps.create(world, name=TENANT, organization=ORGANIZATION)
    fly_api_token = _deploy_token(world)
    admin_token = random_token("cpadm_")
    encryption_key = base64.b64encode(os.urandom(encryption.KEY_LENGTH)).decode()
    app = apps.find(world, name=CONTROL_PLANE)
    if app is None:
        raise LookupError(CONTROL_PLANE)
    app_secrets.write(
        world,
        app,
        {
            "FLY_API_TOKEN": fly_api_token,
            "CP_ADMIN_API_TOKEN": admin_token,
            "SESSION_SECRET": random_token("", 48),
            **neon.seed(world),
            "SECRETS_ENCRYPTION_KEY": encryption_key,
            "RESEND_API_KEY": resend.seed(world),
            "RESEND_FROM_EMAIL": resend.FROM_EMAIL,
            **stripe.seed(world),
            "TENANT_REDIS_URL": upstash.seed(world),
        },
    )
    release = releases.create(
        world,
        app=CONTROL_PLANE,
        status="complete",
        strategy="rolling",
        image=CONTROL_PLANE_IMAGE,
        definition=None,
        user=OPERATOR,
    )
    dns.seed(world, domain=resend.DOMAIN)
    for _ in range(machine_count):
        _control_plane_machine(world, app, release)
    github.seed(world, fly_api_token=fly_api_token)
    world.keep("CP_ADMIN_API_TOKEN", admin_token)
    world.keep("SECRETS_ENCRYPTION_KEY", encryption_key)
    world.keep(control_plane_database.SESSION, random_token("cpses_"))


def complete(world: World, *, tenants: int) -> None:
    """End what `seed` began, with the control plane's tables there: add `tenants` organizations that run.

    They are `tenant-1` and so on, as the control plane would have made them with the secrets that it has: a row with
    encrypted columns, a branch (their databases are one, see `neon/computes.py`), a machine of molecule-tenant.
    """
    app = apps.find(world, name=TENANT)
    if app is None:
        raise LookupError(TENANT)
    slugs = [f"tenant-{number}" for number in range(1, tenants + 1)]
    held = control_plane_database.secrets(world)
    made = []
    for slug, (branch, url) in neon.add_tenants(world, slugs).items() if slugs else ():
        identifier = uuid.uuid4()
        body = tenant_machine.request(slug=slug, organization=str(identifier), database_url=url, control_plane=held)
        machine = machines.create(world, app, config=body["config"], name=body["name"], region=None, launch=True)
        made.append(
            control_plane_database.Organization(
                id=identifier,
                slug=slug,
                name=f"Tenant {slug.rpartition('-')[2]}",
                machine=machine.id,
                branch=branch,
                database_url=url,
                redis_url=held.get("TENANT_REDIS_URL"),
            )
        )
    control_plane_database.add(world, made)
    # Last: `seeded` reads it, so that an interrupted first start is noticed.
    world.keep("FLY_ACCESS_TOKEN", tokens.create_user_token(world, organization=ORGANIZATION, user=OPERATOR))


def _deploy_token(world: World) -> str:
    app = apps.find(world, name=TENANT)
    if app is None:
        raise LookupError(TENANT)
    _, header = tokens.mint(
        world,
        name=HAND_MADE,
        organization=app.organization,
        profile="deploy",
        parameters={"app_id": app.identifier},
        expiry="",
        user=OPERATOR,
    )
    return header


def _control_plane_machine(world: World, app: apps.App, release: releases.Release) -> None:
    machines.create(world, app, config=control_plane_config(release), name=None, region=None, launch=True)


def control_plane_config(release: releases.Release) -> dict[str, Any]:
    """Return a control-plane machine's configuration, as `fly deploy` writes it."""
    return {
        "image": CONTROL_PLANE_IMAGE,
        "env": {"PRIMARY_REGION": machines.REGION, "FLY_PROCESS_GROUP": "app", "NEON_PROJECT_ID": neon.PROJECT},
        "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512},
        "metadata": {
            "fly_flyctl_version": "0.4.87",
            "fly_platform_version": "v2",
            "fly_process_group": "app",
            "fly_release_id": release.id,
            "fly_release_version": str(release.version),
        },
        "restart": {"policy": "on-failure", "max_retries": 10},
        "services": [
            {
                "protocol": "tcp",
                "internal_port": 8080,
                "autostop": "off",
                "autostart": True,
                "ports": [
                    {"port": 80, "handlers": ["http"], "force_https": True},
                    {"port": 443, "handlers": ["http", "tls"]},
                ],
                "checks": [
                    {
                        "type": "http",
                        "port": 8080,
                        "method": "GET",
                        "path": "/health",
                        "interval": "15s",
                        "timeout": "2s",
                        "grace_period": "10s",
                    }
                ],
            }
        ],
    }
