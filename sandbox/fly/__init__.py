"""Fly.io: the Machines API, GraphQL, releases, logs and the registry on one port, and the proxies of its apps.

Contract: `fly.md`; each module's docstring names its section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from sandbox.fly import apps, graphql, logs, machines, machines_api, registry, releases
from sandbox.fly import secrets as app_secrets
from sandbox.fly.errors import Refusal, RequestIdentifier, answer_refusal
from sandbox.fly.machines import State
from sandbox.world import sha256

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.world import World


def install(world: World) -> None:
    """Create all tables."""
    for module in (apps, app_secrets, machines, releases, registry, logs):
        module.install(world)


def provider(path: str) -> str:
    """Name the provider that a path of Fly's port belongs to."""
    return "registry" if path.startswith("/v2/") or path == "/v2" else "fly"


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def application(world: World) -> Starlette:
    """Return the service."""
    return Starlette(
        routes=[
            *machines_api.routes(world),
            *graphql.routes(world),
            *releases.routes(world),
            *logs.routes(world),
            *registry.routes(world),
        ],
        middleware=[Middleware(RequestIdentifier)],
        exception_handlers={Refusal: answer_refusal, HTTPException: _answer_http_error},
    )


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `fly` in `inspect` (DESIGN.md section 6), destroyed machines left out.

    A machine's `env_sha256` is of the environment that its process booted with; for one that does not run, of what it
    would boot with. `rollouts` is defined in `machines.rollouts`.
    """
    found: dict[str, Any] = {}
    for app in apps.listing(world):
        found[app.name] = {
            "machines": [
                {
                    "id": machine.id,
                    "name": machine.name,
                    "state": machine.state,
                    "healthy": machine.healthy,
                    "healthy_since": machine.healthy_since,
                    "instance_id": machine.instance_id,
                    "region": machine.region,
                    "env_sha256": {name: sha256(value) for name, value in sorted(machine.booted.items())},
                }
                for machine in machines.listing(world, app.name)
                if machine.state is not State.DESTROYED
            ],
            "secrets": {
                secret.name: {"digest": secret.digest, "sha256": sha256(secret.value)}
                for secret in app_secrets.snapshot(world, app)
            },
            "rollouts": machines.rollouts(world, app.name),
        }
    return {"apps": found}
