"""The sandbox's Upstash: a database that is a real Redis, its management API, and its REST API.

- `wire`, `databases`: the management API under `/v2`.
- `acl`: the database's users, and Upstash's rules for them.
- `rest`: commands over HTTP, on the same port.

Clients that speak Redis' own protocol connect to the server itself (`sandbox.redis`): its refusals are its own.

Deviations from Upstash: no TLS, so URLs are `redis://`, not `rediss://`; one account; Redis 6.2. Of
the calls that this description does not list none is there (404, or a command of that name). `wire`, `databases`,
`acl` and `rest` name what else differs.

Requests are counted, and faults are set, under the provider `upstash`. What consumers are refused over TCP nobody sees
but themselves: they tell it to the sandbox (`sandbox/rig.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox import environments, redis
from sandbox.upstash import acl, databases, rest, settings, wire
from sandbox.world import HOST, random_token

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.environments import Environment
    from sandbox.world import World

DATABASE: Final = "molecule-tenants"
DATABASE_ID: Final = environments.DEFAULT.upstash_database
"""The same in every sandbox, so that a stack's config can name it."""
EMAIL: Final = "operator@molecule.example"

__all__ = ["application", "inspect", "install", "resume", "seed", "settings"]


def install(world: World) -> None:
    """Create all tables."""
    for module in (databases, acl):
        module.install(world)


def application(world: World) -> Starlette:
    """Return the service."""
    return Starlette(
        routes=[
            *wire.routes(world, databases.ENDPOINTS),
            Route(f"{wire.PREFIX}/{{path:path}}", _unknown),
            *rest.routes(world),
        ],
        exception_handlers={HTTPException: _answer_http_error},
    )


async def _unknown(_request: Request) -> Response:
    return JSONResponse({"error": "not found"}, 404)


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def seed(world: World, environment: Environment = environments.DEFAULT) -> dict[str, str]:
    """Fill a new world, and return the URL of the tenants' Redis that a control plane holds, if there is one.

    Keeps `UPSTASH_EMAIL` and `UPSTASH_API_KEY` for all environments, `UPSTASH_REDIS_ID` and `UPSTASH_REDIS_REST_TOKEN` for this one.
    """
    if world.kept("UPSTASH_API_KEY") is None:
        key = random_token("")
        world.credentials.issue(
            provider=wire.PROVIDER, identifier=str(uuid4()), name="operator", value=key, scope={"kind": wire.MANAGEMENT}
        )
        world.keep(wire.EMAIL, EMAIL)
        world.keep("UPSTASH_API_KEY", key)
    if not environment.has_redis:
        return {}
    name = DATABASE if environment.primary else f"{DATABASE}-{environment.name}"
    database = databases.add(world, name, identifier=environment.upstash_database)
    world.keep(environment.key("UPSTASH_REDIS_ID"), database.id)
    port = world.port(environment.service(redis.SERVICE))
    return {"TENANT_REDIS_URL": f"redis://{acl.DEFAULT}:{database.password}@{HOST}:{port}"}


def resume(world: World) -> None:
    """Give the server, which just started, the users that the world knows."""
    for database in databases.all_of(world):
        databases.settle(world, database)
        acl.resume(world, database.id)


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `upstash` in `inspect`. Connections are counted on the running server, else 0."""
    found = databases.all_of(world)
    connections = {each.id: redis.connections(world, service=environments.redis_of(world, each.id)) for each in found}
    return {
        "databases": [
            {
                "id": database.id,
                "name": database.name,
                "users": [
                    {"name": name, "enabled": "on" in rules, "connections": connections[database.id].get(name, 0)}
                    for name, rules in acl.known(world, database.id).items()
                ],
            }
            for database in found
        ]
    }
