"""Fly's proxy in front of an app: what `https://<app>.fly.dev` is.

It hands each request to a machine that is started, not cordoned, and whose checks do not fail; a
machine without a check result yet gets requests only if there is no other. If a machine refuses the connection, the
next one is tried: nothing was sent yet. If none is left, the request waits for the setting `proxy_patience`, as Fly
holds requests while a machine starts, then 503. `fly-force-instance-id` and `fly-prefer-instance-id` name a machine.

A request that got no answer or a 5xx is recorded as a breakage of the app: that is what its users see.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Final

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.fly import machines
from sandbox.fly.machines import State
from sandbox.fly.supervisor import Supervisor
from sandbox.world import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from sandbox.fly.machines import Machine
    from sandbox.world import World

TIMEOUT: Final = 60.0
"""Seconds until a machine must have answered."""
PATHS: Final = (
    "/health",
    "/cp/orgs",
    "/cp/orgs/{slug}",
    "/cp/orgs/{slug}/data/{key}",
    "/cp/admin/orgs",
    "/cp/admin/tenants/{slug}",
    "/cp/admin/tenants/{slug}/reprovision",
    "/cp/billing/checkout",
    "/webhooks/stripe",
    "/data/{key}",
    "/database",
    "/{path:path}",
)
"""Requests are counted under these; all are forwarded alike."""
METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_OWN_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection, and those that the proxy writes itself."""
_SERVER_ERROR: Final = 500


class _Proxy:
    def __init__(self, world: World, app: str, client: httpx.AsyncClient) -> None:
        self._world = world
        self._app = app
        self._supervisor = world.component(Supervisor)
        self._turn = itertools.count()
        self._client = client

    def _candidates(self, request: Request) -> list[Machine]:
        """Return the machines that may get the request, best first."""
        forced = request.headers.get("fly-force-instance-id")
        present = machines.listing(self._world, self._app, only=forced)
        routable = [
            machine
            for machine in present
            if machine.state is State.STARTED
            and not machine.cordoned
            and not any(check.status == "critical" for check in machine.checks)
        ]
        if forced:
            return routable
        turn = next(self._turn)
        rotated = [routable[(turn + offset) % len(routable)] for offset in range(len(routable))]
        preferred = request.headers.get("fly-prefer-instance-id")
        # Python's sort is stable: the rotation holds among equals.
        return sorted(
            rotated,
            key=lambda machine: (preferred not in {machine.id, machine.instance_id}, not machine.healthy),
        )

    async def handle(self, request: Request) -> Response:
        """Hand a request to a machine, and record what its sender must not see."""
        response = await self._forward(request)
        if response.status_code >= _SERVER_ERROR:
            self._world.record_breakage(
                self._app, f"{request.method} {request.url.path} was answered {response.status_code}"
            )
        return response

    async def _forward(self, request: Request) -> Response:
        body = await request.body()
        deadline = time.monotonic() + self._world.number("proxy_patience")
        while True:
            for machine in self._candidates(request):
                runtime = self._supervisor.runtime(machine.id)
                if runtime.port is None:
                    continue
                runtime.in_flight += 1
                try:
                    return await self._send(request, body, machine, runtime.port)
                except httpx.ConnectError:
                    continue
                except httpx.HTTPError as error:
                    return PlainTextResponse(f"machine {machine.id}: {type(error).__name__}", 502)
                finally:
                    runtime.in_flight -= 1
            if time.monotonic() >= deadline:
                return PlainTextResponse("no healthy machine", 503)
            await asyncio.sleep(0.02)

    async def _send(self, request: Request, body: bytes, machine: Machine, port: int) -> Response:
        headers = [(k, v) for k, v in request.headers.items() if k not in _OWN_HEADERS]
        headers += [("x-forwarded-for", HOST), ("x-forwarded-proto", "https"), ("host", f"{self._app}.fly.dev")]
        url = httpx.URL(f"http://{HOST}:{port}").copy_with(
            raw_path=(request.scope.get("raw_path") or request.url.path.encode())
            + (b"?" + request.scope["query_string"] if request.scope["query_string"] else b"")
        )
        answer = await self._client.request(request.method, url, headers=headers, content=body)
        response = Response(answer.content, answer.status_code)
        for name, value in answer.headers.multi_items():
            if name.lower() not in _OWN_HEADERS:
                response.headers.append(name, value)
        response.headers["fly-machine-id"] = machine.id
        return response


def application(world: World, proxied: Mapping[str, str]) -> Starlette:
    """Return the proxy of one or more apps. Each is on a port of its own, by which `proxied` knows it."""
    client = _client()
    proxies = {world.port(service): _Proxy(world, app, client) for service, app in proxied.items()}

    async def handle(request: Request) -> Response:
        return await proxies[request.scope["server"][1]].handle(request)

    @contextlib.asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    return Starlette(routes=[Route(path, handle, methods=METHODS) for path in PATHS], lifespan=lifespan)


def _client() -> httpx.AsyncClient:
    # A connection that was kept could be closed by the machine just when it is used again: each is used once.
    return httpx.AsyncClient(
        timeout=TIMEOUT,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        trust_env=False,
        verify=False,  # noqa: S501 - it never speaks TLS, and to load the certificates takes 0.03 s
    )
