"""What the machines' processes need of the sandbox and real ones would not: what they are to play, whom to tell.

Only they know its address (`SANDBOX_RIG_URL` in their environment).

- `GET /switches`: which failure to play (`switches.py`), and how the control plane reads its key.
- `POST /breakages {"what"}`: something refused the credential of the process that says so (header
  `sandbox-consumer`), and the one who refused is no service of the sandbox that could see it: PostgreSQL, Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import switches
from sandbox.middleware import CONSUMER_HEADER

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.world import World


def application(world: World) -> Starlette:
    """Return the service."""

    async def failures(request: Request) -> Response:
        app = request.headers.get(CONSUMER_HEADER, "").partition("/")[0]
        return JSONResponse(switches.told(world, app))

    async def breakage(request: Request) -> Response:
        consumer = request.headers.get(CONSUMER_HEADER, "unknown")
        world.record_breakage(consumer, str((await request.json())["what"]))
        return JSONResponse({}, 201)

    return Starlette(
        routes=[Route("/switches", failures, methods=["GET"]), Route("/breakages", breakage, methods=["POST"])]
    )
