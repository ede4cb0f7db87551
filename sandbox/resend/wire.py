"""What every answer of Resend's API has in common: errors, rate limit headers, pages, and who is asking.

Contract: providers.md section 2. An error is `{"statusCode", "message", "name"}`.

What a wrong or revoked key is answered is not settled: Resend's documentation says 403 `invalid_api_key`; recorded are
400 and 401, both `validation_error` "API key is invalid". The setting `resend.dead_key_status` chooses, for every
method alike. Since the default is no 401, it is reported to the middleware as the refusal that it is.
"""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.middleware import refused
from sandbox.resend import settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from starlette.requests import Request

    from sandbox.world import Credential, World

    Handler = Callable[["Call"], Awaitable[Response]]

T = TypeVar("T")

PROVIDER: Final = "resend"
FULL_ACCESS: Final = "full_access"
SENDING_ACCESS: Final = "sending_access"
DEAD_KEY: Final = "API key is invalid"
RESTRICTED_KEY: Final = "This API key is restricted to only send emails"
_DEAD_KEY_NAMES: Final = {400: "validation_error", 401: "validation_error", 403: "invalid_api_key"}
_LARGEST_PAGE: Final = 100
_DEFAULT_PAGE: Final = 20


class ResendError(Exception):
    """An answer that is not a success.

    Args:
        status: HTTP status.
        name: Resend's name of the error.
        message: What Resend says.
        refusal: Whether the key is the reason although the status may be neither 401 nor 403.
    """

    def __init__(self, status: int, name: str, message: str, *, refusal: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message
        self.refusal = refusal


def written(moment: datetime) -> str:
    """Write a moment as Resend does: `2023-04-03 22:13:42.674981+00`."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f+00")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, after authentication."""

    world: World
    request: Request
    key: Credential

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    async def json(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty body is an empty object. Raises `ResendError` 400."""
        body = await self.request.body()
        try:
            document = json.loads(body) if body else {}
        except ValueError as error:
            raise ResendError(400, "validation_error", "The request body is not valid JSON.") from error
        if not isinstance(document, dict):
            raise ResendError(400, "validation_error", "The request body must be a JSON object.")
        return document

    def page(self, items: Sequence[T], identifier: Callable[[T], str]) -> tuple[list[T], bool]:
        """Cut out the page that `limit` (1 to 100) and `after` or `before` (an item's id, exclusive) ask for.

        Returns its items and whether there are more. Raises `ResendError` 422 for wrong parameters.
        """
        query = self.request.query_params
        text, after, before = query.get("limit", str(_DEFAULT_PAGE)), query.get("after"), query.get("before")
        limit = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0
        if not 1 <= limit <= _LARGEST_PAGE:
            raise ResendError(422, "validation_error", "The `limit` must be a number from 1 to 100.")
        if after is not None and before is not None:
            raise ResendError(422, "validation_error", "The `after` and `before` parameters exclude each other.")
        identifiers = [identifier(item) for item in items]
        wanted = after if after is not None else before
        if wanted is not None and wanted not in identifiers:
            raise ResendError(422, "validation_error", "The cursor is no id of this list.")
        if after is not None:
            rest = list(items[identifiers.index(after) + 1 :])
            return rest[:limit], len(rest) > limit
        if before is not None:
            rest = list(items[: identifiers.index(before)])
            return rest[-limit:], len(rest) > limit
        return list(items[:limit]), len(items) > limit


def listing(data: list[dict[str, Any]], *, has_more: bool) -> Response:
    """Return the answer of a list."""
    return JSONResponse({"object": "list", "has_more": has_more, "data": data})


def required(body: dict[str, Any], *names: str) -> None:
    """Raise `ResendError` 422 for the first of the members that is missing or empty."""
    for name in names:
        if not body.get(name):
            raise ResendError(422, "missing_required_field", f"Missing `{name}` field.")


class RateLimit:
    """The team's requests in the current second, across all its keys; refused only if the setting `rate_limits` is 1."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._start = 0.0
        self._used = 0

    def take(self) -> tuple[dict[str, str], bool]:
        """Count a request; return the headers of its answer, and whether it is within the limit."""
        now, limit = time.monotonic(), int(self._world.number(settings.RATE_LIMIT))
        if now - self._start >= 1:
            self._start, self._used = now, 0
        self._used += 1
        left = math.ceil(self._start + 1 - now)
        headers = {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(limit - self._used, 0)),
            "ratelimit-reset": str(left),
        }
        within = self._used <= limit or not self._world.number("rate_limits")
        return headers if within else {**headers, "retry-after": str(left)}, within


def install(world: World) -> None:
    """Create the table of the keys' last uses."""
    with world.database:
        world.database.execute("CREATE TABLE IF NOT EXISTS resend_key_uses (id TEXT PRIMARY KEY, at TEXT NOT NULL)")


def _authenticate(world: World, request: Request, *, sending: bool) -> Credential:
    """Return the key that a request carries, and note its use.

    Raises `ResendError`: 401 without a key, and for a sending key that does anything but send; else as the setting
    says. A restricted key counts as used: it did authenticate.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise ResendError(401, "missing_api_key", "Missing API Key")
    key = world.credentials.authenticate(PROVIDER, value.strip())
    if key is None:
        status = int(world.number(settings.DEAD_KEY_STATUS))
        status = status if status in _DEAD_KEY_NAMES else 400
        raise ResendError(status, _DEAD_KEY_NAMES[status], DEAD_KEY, refusal=True)
    with world.database:
        world.database.execute(
            "INSERT INTO resend_key_uses VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at",
            (key.identifier, written(world.now())),
        )
    if key.scope["permission"] != FULL_ACCESS and not sending:
        raise ResendError(401, "restricted_api_key", RESTRICTED_KEY)
    return key


def _refuse_beyond(headers: dict[str, str], *, within: bool) -> None:
    if not within:
        limit = headers["ratelimit-limit"]
        raise ResendError(
            429, "rate_limit_exceeded", f"Too many requests. You can only make {limit} requests per second."
        )


def _failure(request: Request, error: ResendError) -> Response:
    if error.refusal:
        refused(request.scope, f"refused with {error.status}: {error.message}")
    return JSONResponse({"statusCode": error.status, "message": error.message, "name": error.name}, error.status)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer for unknown paths (404 `not_found`) and methods (405 `method_not_allowed`)."""
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    name, message = (
        ("method_not_allowed", "Method is not allowed for the requested path.")
        if error.status_code == 405  # noqa: PLR2004
        else ("not_found", "The requested endpoint does not exist.")
    )
    return _failure(request, ResendError(error.status_code, name, message))


def routes(world: World, table: Sequence[tuple[str, str, Handler]]) -> list[Route]:
    """Return routes that count and authenticate before they call a handler. A sending key may only `POST /emails`."""

    def serve(handler: Handler, *, sending: bool) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            headers, within = world.component(RateLimit).take()
            try:
                _refuse_beyond(headers, within=within)
                key = _authenticate(world, request, sending=sending)
                response = await handler(Call(world=world, request=request, key=key))
            except ResendError as error:
                response = _failure(request, error)
            response.headers.update(headers)
            return response

        return handle

    return [
        Route(path, serve(handler, sending=(method, path) == ("POST", "/emails")), methods=[method])
        for method, path, handler in table
    ]
