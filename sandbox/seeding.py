"""Fills a new sandbox with the system that an operator adopts: nothing in it was made by the program.

The control plane `molecule-cp` runs and talks to Fly with a deploy token for `molecule-tenant` that somebody made by
hand; the same value is the Actions secret of the repository that publishes the tenants' image. Its keys of Neon,
Resend and Stripe were made by hand, too, and so were the role of its `DATABASE_URL` and its `SECRETS_ENCRYPTION_KEY`;
its tenants share the one password of their Redis at Upstash. Every environment (`environments.py`) is filled like that,
under names of its own.
"""

from __future__ import annotations

import base64
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

from sandbox import control_plane_database, dns, environments, github, neon, resend, stripe, upstash
from sandbox.fly import apps, machines, releases, tokens
from sandbox.fly import secrets as app_secrets
from sandbox.processes import encryption, tenant_machine
from sandbox.world import SandboxError, random_token

if TYPE_CHECKING:
    from sandbox.environments import Environment
    from sandbox.world import World

ORGANIZATION: Final = "molecule-ai"
OPERATOR: Final = "operator@molecule.example"
HAND_MADE: Final = "rotation-20260101"
"""The runbook's way to name a token, after the app: by the day it was made."""


def seeded(world: World) -> bool:
    """Tell whether the world was filled."""
    return world.kept("FLY_ACCESS_TOKEN") is not None


def seed(world: World, *, machine_count: int) -> None:
    """Fill a new world, which `complete` ends. The machines are recorded only: the supervisor boots them.

    Raises `SandboxError` if an earlier attempt was interrupted.
    """
    present = environments.of(world)
    if apps.find(world, name=present[0].app) is not None:
        raise SandboxError(
            f"The first start of the sandbox in {world.directory} was interrupted; it is incomplete. Nothing was "
            "started. Delete that folder and start again."
        )
    apps.create_organization(world, slug=ORGANIZATION, name="Molecule AI")
    for environment in present:
        _seed(world, environment, machine_count=machine_count)


def _seed(world: World, environment: Environment, *, machine_count: int) -> None:
    apps.create(world, name=environment.app, organization=ORGANIZATION)
    apps.create(world, name=environment.tenant_app, organization=ORGANIZATION)
    fly_api_token = _deploy_token(world, environment)
    admin_token = random_token("cpadm_")
    encryption_key = base64.b64encode(os.urandom(encryption.KEY_LENGTH)).decode()
    app = _app(world, environment.app)
    app_secrets.write(
        world,
        app,
        {
            "FLY_API_TOKEN": fly_api_token,
            "CP_ADMIN_API_TOKEN": admin_token,
            "SESSION_SECRET": random_token("", 48),
            **neon.seed(world, environment),
            "SECRETS_ENCRYPTION_KEY": encryption_key,
            **resend.seed(world, environment),
            **stripe.seed(world, environment),
            **upstash.seed(world, environment),
        },
    )
    release = releases.create(
        world,
        app=environment.app,
        status="complete",
        strategy="rolling",
        image=_image(environment),
        definition=None,
        user=OPERATOR,
    )
    dns.seed(world, domain=environment.resend_domain)
    for _ in range(machine_count):
        config = control_plane_config(release, environment)
        machines.create(world, app, config=config, name=None, region=None, launch=True)
    github.seed(world, environment, fly_api_token=fly_api_token)
    world.keep(environment.key("CP_ADMIN_API_TOKEN"), admin_token)
    world.keep(environment.key("SECRETS_ENCRYPTION_KEY"), encryption_key)
    world.keep(environment.key(control_plane_database.SESSION), random_token("cpses_"))


def complete(world: World, *, tenants: int) -> None:
    """End what `seed` began, with the control planes' tables there: add `tenants` organizations that run to each environment.

    They are `tenant-1` and so on, as the control plane would have made them with the secrets that it has: a row with
    encrypted columns, a branch (their databases are one, see `neon/computes.py`), a machine of the tenants' app.
    """
    for environment in environments.of(world):
        if tenants:
            _add_tenants(world, environment, [f"tenant-{number}" for number in range(1, tenants + 1)])
    # Last: `seeded` reads it, so that an interrupted first start is noticed.
    world.keep("FLY_ACCESS_TOKEN", tokens.create_user_token(world, organization=ORGANIZATION, user=OPERATOR))


def _add_tenants(world: World, environment: Environment, slugs: list[str]) -> None:
    app = _app(world, environment.tenant_app)
    held = control_plane_database.secrets(world, environment)
    made = []
    for slug, (branch, url) in neon.add_tenants(world, slugs, environment).items():
        identifier = uuid.uuid4()
        body = tenant_machine.request(
            app=environment.tenant_app,
            slug=slug,
            organization=str(identifier),
            database_url=url,
            control_plane=held,
        )
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
    control_plane_database.add(world, made, environment)


def _app(world: World, name: str) -> apps.App:
    app = apps.find(world, name=name)
    if app is None:
        raise LookupError(name)
    return app


def _deploy_token(world: World, environment: Environment) -> str:
    app = _app(world, environment.tenant_app)
    _, header = tokens.mint(
        world,
        name=f"{environment.app}-{HAND_MADE}",
        organization=app.organization,
        profile="deploy",
        parameters={"app_id": app.identifier},
        expiry="",
        user=OPERATOR,
    )
    return header


def _image(environment: Environment) -> str:
    return f"registry.fly.io/{environment.app}:deployment-01"


def control_plane_config(release: releases.Release, environment: Environment = environments.DEFAULT) -> dict[str, Any]:
    """Return a control-plane machine's configuration, as `fly deploy` writes it."""
    # A control plane of its own takes the app of its tenants for granted; only another one is told.
    other = {} if environment.tenant_app == apps.TENANT else {"TENANT_APP": environment.tenant_app}
    return {
        "image": _image(environment),
        "env": {
            "PRIMARY_REGION": machines.REGION,
            "FLY_PROCESS_GROUP": "app",
            "NEON_PROJECT_ID": environment.neon_project,
            **other,
        },
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
