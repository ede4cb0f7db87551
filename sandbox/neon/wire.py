"""What every answer of Neon's API has in common: errors, request ids, rate limits, pages, and who is asking.

Contract: providers.md section 1. An error is `{"request_id", "code", "message"}` with an empty `code`; `request_id` is
the caller's `X-Request-ID`, else a new one.

An organization key asking for something of a person is answered 404 "not allowed for organization API keys" (recorded
in Neon's own clients), and a key outside its project likewise in words recorded there; since neither is a 401 or a
403, both are reported as refusals of a credential to the middleware.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.middleware import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from starlette.requests import Request

    from sandbox.world import Credential, World

    Handler = Callable[["Call"], Awaitable[Response]]

T = TypeVar("T")

PROVIDER: Final = "neon"
PREFIX: Final = "/api/v2"
MINTING_ROUTE: Final = "/organizations/{organization}/api_keys"
UNAUTHENTICATED: Final = "supplied credentials do not pass authentication"
ORGANIZATION_KEY: Final = "not allowed for organization API keys"
OUTSIDE_PROJECT: Final = "not allowed to perform actions outside the project this key is scoped to"
_IDENTIFIER: Final = re.compile(r"[a-z0-9-]{1,60}")
_LARGEST_PAGE: Final = 1000


class Kind(StrEnum):
    """What a key belongs to."""

    PERSONAL = "personal"
    ORGANIZATION = "organization"
    PROJECT = "project"


class NeonError(Exception):
    """An answer that is not a success.

    Args:
        status: HTTP status.
        message: What Neon says.
        refusal: Whether the key is the reason although the status is neither 401 nor 403.
        retry_after: Seconds for the header `Retry-After`.
    """

    def __init__(self, status: int, message: str, *, refusal: bool = False, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.refusal = refusal
        self.retry_after = retry_after


def iso(moment: datetime) -> str:
    """Write a moment as Neon does: RFC 3339 in UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose key a request carries. `organization` is set for all but personal keys, `project` for project keys."""

    credential: Credential
    kind: Kind
    user: str
    organization: str | None
    project: str | None

    @property
    def account(self) -> str:
        """What the key acts for, and what the rate limit counts for."""
        return self.user if self.organization is None else self.organization


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, after authentication."""

    world: World
    request: Request
    caller: Caller

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        """Return a parameter of the query; empty if it is not there."""
        return self.request.query_params.get(name, "")

    def person(self) -> str:
        """Return the user of a personal key. Raises `NeonError` 404 for any other key."""
        if self.caller.kind is not Kind.PERSONAL:
            raise NeonError(404, ORGANIZATION_KEY, refusal=True)
        return self.caller.user

    async def json(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty body is an empty object. Raises `NeonError` 400."""
        body = await self.request.body()
        try:
            document = json.loads(body) if body else {}
        except ValueError as error:
            raise NeonError(400, "request body has an error: failed to decode request body") from error
        if not isinstance(document, dict):
            raise NeonError(400, "request body has an error: doesn't match schema")
        return document

    def page(self, items: Sequence[T], identifier: Callable[[T], str]) -> tuple[list[T], dict[str, Any]]:
        """Cut out the page that `limit` (1 to 1000) and `cursor` (the last item's id) ask for.

        Returns its items, and the member `pagination` if there may be more. Raises `NeonError` 400 for a wrong limit.
        """
        text = self.query("limit")
        limit = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else (_LARGEST_PAGE if not text else 0)
        if not 1 <= limit <= _LARGEST_PAGE:
            raise NeonError(400, "parameter limit has an error: must be from 1 to 1000")
        cursor, rest = self.query("cursor"), list(items)
        if cursor:
            places = [place for place, item in enumerate(rest) if identifier(item) == cursor]
            rest = rest[places[0] + 1 :] if places else []
        found = rest[:limit]
        return found, {"pagination": {"cursor": identifier(found[-1])}} if len(rest) > limit else {}


def named(value: Any, what: str, *, longest: int) -> str:  # noqa: ANN401 - any JSON
    """Return a name from a body. Raises `NeonError` 400 if it is missing, empty or longer than `longest` bytes."""
    if not isinstance(value, str) or not value or len(value.encode()) > longest:
        raise NeonError(400, f"request body has an error: {what} must have from 1 to {longest} characters")
    return value


def identifier(value: str, what: str) -> str:
    """Return a project's or branch's id of a path. Raises `NeonError` 404 if it cannot be one."""
    if not _IDENTIFIER.fullmatch(value):
        raise NeonError(404, f"{what} not found")
    return value


class RateLimits:
    """Token buckets of the documented limits, if the setting `rate_limits` is 1; a restart fills them.

    700 requests a minute for an account, 40 a second on a route, 10 a second where organization keys are minted.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, account: str, method: str, route: str) -> None:
        """Count a request. Raises `NeonError` 429 with `Retry-After`."""
        if not self._world.number("rate_limits"):
            return
        self._spend(("account", account), 700 / 60, 700)
        self._spend((account, f"{method} {route}"), 40, 40)
        if (method, route) == ("POST", MINTING_ROUTE):
            self._spend((account, "minting"), 10, 10)

    def _spend(self, bucket: tuple[str, str], rate: float, burst: float) -> None:
        now = time.monotonic()
        level, then = self._buckets.get(bucket, (burst, now))
        level = min(burst, level + (now - then) * rate)
        self._buckets[bucket] = (level - 1 if level >= 1 else level, now)
        if level < 1:
            raise NeonError(429, "too many requests", retry_after=math.ceil((1 - level) / rate))


def install(world: World) -> None:
    """Create the table of the keys' last uses."""
    with world.database:
        world.database.execute(
            "CREATE TABLE IF NOT EXISTS neon_key_uses (id TEXT PRIMARY KEY, at TEXT NOT NULL, address TEXT NOT NULL)"
        )


def _authenticate(world: World, request: Request) -> Caller:
    """Return whose key a request carries, and note its use. Raises `NeonError` 401: missing, wrong and dead alike."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    credential = world.credentials.authenticate(PROVIDER, value.strip()) if scheme.lower() == "bearer" else None
    if credential is None:
        raise NeonError(401, UNAUTHENTICATED)
    address = "" if request.client is None else request.client.host
    with world.database:
        world.database.execute(
            "INSERT INTO neon_key_uses VALUES (:id, :at, :address) "
            "ON CONFLICT (id) DO UPDATE SET at = excluded.at, address = excluded.address",
            {"id": credential.identifier, "at": iso(world.now()), "address": address},
        )
    scope = credential.scope
    return Caller(
        credential=credential,
        kind=Kind(scope["kind"]),
        user=scope["user"],
        organization=scope.get("organization"),
        project=scope.get("project"),
    )


def _failure(request: Request, error: NeonError) -> Response:
    if error.refusal:
        refused(request.scope, f"refused with {error.status}: {error.message}")
    request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
    return JSONResponse(
        {"request_id": request_id, "code": "", "message": error.message},
        error.status,
        {} if error.retry_after is None else {"retry-after": str(error.retry_after)},
    )


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer for unknown paths (404) and methods (405). Neon's words for these are not recorded."""
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    return _failure(request, NeonError(error.status_code, error.detail.lower()))


def routes(world: World, table: Sequence[tuple[str, str, Handler]]) -> list[Route]:
    """Return routes under `/api/v2` that authenticate and count before they call a handler."""

    def serve(route: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                caller = _authenticate(world, request)
                world.component(RateLimits).take(caller.account, request.method, route)
                return await handler(Call(world=world, request=request, caller=caller))
            except NeonError as error:
                return _failure(request, error)

        return handle

    return [Route(PREFIX + path, serve(path, handler), methods=[method]) for method, path, handler in table]
