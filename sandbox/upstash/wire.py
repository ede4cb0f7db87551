"""What every answer of Upstash's management API has in common (contract: providers.md section 4).

Authentication is HTTP Basic with the account's email and a management key. An error is `{"error": text}`; Upstash's
own texts are not documented.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from sandbox.world import World

    Handler = Callable[["Call"], Awaitable[Response]]

PROVIDER: Final = "upstash"
PREFIX: Final = "/v2"
EMAIL: Final = "UPSTASH_EMAIL"
"""Under which the account's email is kept."""
MANAGEMENT: Final = "management"


class UpstashError(Exception):
    """An answer that is not a success: its HTTP status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, after authentication."""

    world: World
    request: Request

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])


def _authenticate(world: World, request: Request) -> None:
    """Raise `UpstashError` 401 unless the request carries the account's email and a live management key."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        email, _, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        email = key = ""
    credential = world.credentials.authenticate(PROVIDER, key)
    account = world.kept(EMAIL) or ""
    if (
        scheme.lower() != "basic"
        or credential is None
        or credential.scope["kind"] != MANAGEMENT
        or not hmac.compare_digest(email.encode(), account.encode())
    ):
        raise UpstashError(401, "Unauthorized")


def routes(world: World, table: Sequence[tuple[str, str, Handler]]) -> list[Route]:
    """Return routes that authenticate before they call a handler."""

    def serve(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                _authenticate(world, request)
                return await handler(Call(world=world, request=request))
            except UpstashError as error:
                return JSONResponse({"error": error.message}, error.status)

        return handle

    return [Route(PREFIX + path, serve(handler), methods=[method]) for method, path, handler in table]
