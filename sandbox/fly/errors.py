"""What the Fly APIs have in common: JSON bodies, refusals, and the header that every answer carries."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Refusal(Exception):  # noqa: N818 - an answer more than an error
    """An answer `{"error": text}`, with `status` where Fly gives a code (contract: fly.md section 0)."""

    def __init__(self, status: int, error: str, *, code: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.code = code


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body's JSON object; an empty body is an empty object. Raises `Refusal` 400."""
    body = await request.body()
    try:
        document = json.loads(body) if body else {}
    except ValueError as error:
        raise Refusal(400, f"invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(400, "invalid request: expected a JSON object")
    return document


async def answer_refusal(_request: Request, refusal: Exception) -> Response:
    """Write a `Refusal` as Fly does."""
    if not isinstance(refusal, Refusal):
        raise TypeError(refusal)
    body = {"error": refusal.error}
    if refusal.code is not None:
        body["status"] = refusal.code
    return JSONResponse(body, refusal.status)


class RequestIdentifier:
    """ASGI middleware that adds `fly-request-id` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_identifier(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["fly-request-id"] = f"{secrets.token_hex(13).upper()}-lhr"
            await send(message)

        await self.app(scope, receive, with_identifier)
