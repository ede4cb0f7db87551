"""The admin service: for the command line, on loopback, behind a random bearer token.

The token is kept sealed in the sandbox's database (`world.kept(ADMIN_TOKEN)`): who may read the folder may use it.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import faults, illness, switches
from sandbox.fly.supervisor import Supervisor
from sandbox.stripe import dashboard
from sandbox.world import ADMIN_TOKEN, SETTINGS, SandboxError, random_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.world import World

    _Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """The running server's life."""

    def __init__(self, _world: World) -> None:
        self.stop = asyncio.Event()
        self.started = False


def application(world: World) -> Starlette:
    """Return the service. Each answer is JSON; 401 without the token, 400 with `error` for a wrong request."""
    token = world.kept(ADMIN_TOKEN)
    if token is None:
        token = random_token("")
        world.keep(ADMIN_TOKEN, token)
    expected = f"Bearer {token}"
    service = _Admin(world)
    table: list[tuple[str, str, _Handler]] = [
        ("GET", "/health", service.health),
        ("GET", "/faults", service.list_faults),
        ("POST", "/faults", service.add_fault),
        ("DELETE", "/faults", service.clear_faults),
        ("GET", "/settings", service.settings),
        ("PATCH", "/settings", service.change_settings),
        ("POST", "/stripe/{action}", service.stripe_dashboard),
        ("POST", "/stop", service.stop),
    ]
    return Starlette(
        routes=[Route(path, _guarded(handler, expected), methods=[method]) for method, path, handler in table]
    )


def _guarded(handler: _Handler, expected: str) -> _Handler:
    async def guard(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected.encode()):
            raise HTTPException(401)
        try:
            return await handler(request)
        except SandboxError as error:
            return JSONResponse({"error": str(error)}, 400)

    return guard


class _Admin:
    def __init__(self, world: World) -> None:
        self._world = world

    async def health(self, _request: Request) -> Response:
        """Tell whether the server has started and every machine that should run is healthy."""
        started = self._world.component(Control).started
        unhealthy = self._world.component(Supervisor).unhealthy()
        return JSONResponse({"ready": started and not unhealthy, "unhealthy": unhealthy})

    async def list_faults(self, _request: Request) -> Response:
        return JSONResponse({"faults": faults.listing(self._world)})

    async def add_fault(self, request: Request) -> Response:
        faults.add(self._world, faults.parse(await request.json()))
        return JSONResponse({}, 201)

    async def clear_faults(self, _request: Request) -> Response:
        faults.clear(self._world)
        return JSONResponse({})

    async def settings(self, _request: Request) -> Response:
        return JSONResponse({name: self._world.text(name) for name in SETTINGS})

    async def change_settings(self, request: Request) -> Response:
        for name, value in (await request.json()).items():
            switches.change(self._world, name, str(value))
            if name in illness.SWITCHES:
                self._world.component(Supervisor).examine()
        return JSONResponse({})

    async def stripe_dashboard(self, request: Request) -> Response:
        """Do what people do in Stripe's Dashboard. The answer may hold a new key, which is shown nowhere else."""
        return JSONResponse(dashboard.act(self._world, request.path_params["action"], await request.json()))

    async def stop(self, _request: Request) -> Response:
        # The answer must leave before the server closes its connections.
        asyncio.get_running_loop().call_later(0.05, self._world.component(Control).stop.set)
        return JSONResponse({}, 202)
