"""What every answer of Stripe's v1 API has in common: who asks, parameters, idempotency, versions, limits, pages.

Sources: providers.md section 3; Stripe API reference, "Authentication", "Errors", "Idempotent requests", "Pagination",
"Request IDs", "Versioning"; Stripe documentation, "Rate limits". The wording of errors is as recorded in public issues.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from sandbox.stripe import forms, keys
from sandbox.stripe.errors import StripeError, invalid, missing
from sandbox.world import timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from starlette.requests import Request

    from sandbox.stripe.forms import Value
    from sandbox.stripe.keys import Realm
    from sandbox.world import World

Json = dict[str, Any]

IDEMPOTENCY_LIFETIME: Final = timedelta(hours=24)
"""Stripe may forget a key after this time ("Idempotent requests")."""
_LONGEST_KEY: Final = 255
_DEFAULT_PAGE: Final = 10
_LARGEST_PAGE: Final = 100
_RATES: Final = {True: 100.0, False: 25.0}
"""Requests a second, by `livemode` (Stripe documentation, "Rate limits")."""
PAGE: Final = frozenset({"limit", "starting_after", "ending_before"})
"""The parameters of every list."""
VERSION: Final = re.compile(r"20\d\d-\d\d-\d\d(\.[a-z]+)?")
_METADATA_KEYS: Final = 50
_LONGEST_METADATA_NAME: Final = 40
_LONGEST_METADATA_VALUE: Final = 500


def install(world: World) -> None:
    """Create the table. Answers are sealed: one may hold a signing secret, which a replay shows again."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_idempotency (
                account TEXT NOT NULL, livemode INTEGER NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL,
                parameters TEXT NOT NULL, request TEXT NOT NULL, sealed BLOB NOT NULL, at TEXT NOT NULL,
                PRIMARY KEY (account, livemode, key)
            )
            """
        )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, after authentication."""

    world: World
    realm: Realm
    parameters: dict[str, Value]
    path_parameters: dict[str, Any]
    request_id: str
    idempotency_key: str | None

    @property
    def origin(self) -> Json:
        """What an event that this request causes tells of it."""
        return {"id": self.request_id, "idempotency_key": self.idempotency_key}

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.path_parameters[name])

    def text(self, name: str) -> str | None:
        """Return a text; `None` if it is not sent or empty, which is how v1 unsets a value. Raises `StripeError`."""
        value = self.parameters.get(name)
        if value is None or isinstance(value, str):
            return value or None
        raise invalid("Invalid string: must be a string", name)

    def required(self, name: str) -> str:
        """Return a text that must be sent. Raises `StripeError`."""
        value = self.text(name)
        if value is None:
            raise invalid(f"Missing required param: {name}.", name, "parameter_missing")
        return value

    def boolean(self, name: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - a default, by position
        """Return a truth value. Raises `StripeError`."""
        value = self.text(name)
        if value not in {None, "true", "false"}:
            raise invalid(f"Invalid boolean: {value}", name)
        return default if value is None else value == "true"

    def integer(self, name: str, default: int) -> int:
        """Return a whole number. Raises `StripeError`."""
        value = self.text(name)
        if value is not None and not re.fullmatch(r"-?[0-9]{1,12}", value):
            raise invalid(f"Invalid integer: {value}", name, "parameter_invalid_integer")
        return default if value is None else int(value)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; empty if it is not sent. Raises `StripeError`."""
        value = self.parameters.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise invalid("Invalid array", name)
        return list(value)

    def metadata(self, before: dict[str, str]) -> dict[str, str]:
        """Return an object's metadata after this request: names are added, and removed by an empty value.

        Raises `StripeError`.
        """
        sent = self.parameters.get("metadata", {})
        if sent == "":
            return {}
        if isinstance(sent, list):
            # Names that are numbers look like indexes.
            sent = {str(index): item for index, item in enumerate(sent)}
        if not isinstance(sent, dict) or not all(isinstance(value, str) for value in sent.values()):
            raise invalid("Invalid hash: metadata maps names to texts", "metadata")
        after = {name: value for name, value in {**before, **sent}.items() if value}
        if (
            len(after) > _METADATA_KEYS
            or any(len(name) > _LONGEST_METADATA_NAME for name in after)
            or any(len(value) > _LONGEST_METADATA_VALUE for value in after.values())
        ):
            raise invalid("Metadata can have up to 50 keys of up to 40 characters, and values of up to 500", "metadata")
        return after

    def page(self, kind: str, items: Sequence[Json], url: str) -> Json:
        """Return the list that the query asks for; `items` are newest first. Raises `StripeError`."""
        limit = self.integer("limit", _DEFAULT_PAGE)
        if not 1 <= limit <= _LARGEST_PAGE:
            raise invalid(f"Invalid limit: must be between 1 and {_LARGEST_PAGE}", "limit")
        after, before = self.text("starting_after"), self.text("ending_before")
        if after is not None and before is not None:
            raise invalid("You can only use one of starting_after and ending_before", "starting_after")
        cursor, param = (after, "starting_after") if after is not None else (before, "ending_before")
        identifiers = [item["id"] for item in items]
        if cursor is not None and cursor not in identifiers:
            raise missing(kind, cursor, param=param, status=400)
        position = -1 if cursor is None else identifiers.index(cursor)
        if before is not None:
            data, more = items[max(0, position - limit) : position], position > limit
        else:
            rest = items[position + 1 :]
            data, more = rest[:limit], len(rest) > limit
        return {"object": "list", "data": list(data), "has_more": more, "url": url}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the API.

    `permission` is what a restricted key needs, `parameters` are the names that the handler reads or ignores: any
    other is refused; `None` checks none. A handler does not wait for anything: no two requests with one idempotency key can overlap.
    """

    method: str
    path: str
    permission: str
    handler: Callable[[Call], Json]
    parameters: frozenset[str] | None = frozenset()


class RateLimits:
    """A token bucket for each account and mode, if the setting `rate_limits` is 1."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._buckets: dict[Realm, tuple[float, float]] = {}

    def take(self, realm: Realm) -> bool:
        """Count a request; `False` if it is one too many."""
        if not self._world.number("rate_limits"):
            return True
        rate, now = _RATES[realm.livemode], time.monotonic()
        level, then = self._buckets.get(realm, (rate, now))
        level = min(rate, level + (now - then) * rate)
        within = level >= 1
        self._buckets[realm] = (level - within, now)
        return within


def routes(world: World, operations: Iterable[Operation]) -> list[Route]:
    """Return routes that authenticate, check and then call the operations' handlers."""

    def serve(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await _answer(world, request, operation)

        return handle

    return [Route(each.path, serve(each), methods=[each.method]) for each in operations]


def unknown(world: World) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of unknown paths and methods: both are 404, after authentication."""

    async def handle(request: Request, _: Exception) -> Response:
        def refuse(_: Call) -> Json:
            raise StripeError(
                404,
                f"Unrecognized request URL ({request.method}: {request.url.path}). Please see https://stripe.com/docs or "
                "we can help at https://support.stripe.com/.",
            )

        operation = Operation(
            method=request.method, path=request.url.path, permission="", handler=refuse, parameters=None
        )
        return await _answer(world, request, operation)

    return handle


async def _answer(world: World, request: Request, operation: Operation) -> Response:
    request_id = keys.identifier("req_", 14)
    headers = {"request-id": request_id, "cache-control": "no-cache, no-store", "access-control-allow-origin": "*"}
    try:
        body = (await request.body()).decode(errors="replace")
    except ClientDisconnect:
        return Response(status_code=400)
    try:
        status, document = 200, _execute(world, request, operation, body, headers)
    except StripeError as error:
        status, document = error.status, error.document()
    return Response(json.dumps(document, indent=2), status, headers, "application/json")


def _execute(world: World, request: Request, operation: Operation, body: str, headers: dict[str, str]) -> Json:
    """Check a request and carry it out. Raises `StripeError`; `headers` gets what goes with the answer either way."""
    try:
        key, value = keys.authenticate(world, request.headers.get("authorization", ""))
    except StripeError:
        headers["www-authenticate"] = 'Basic realm="Stripe"'
        raise
    realm = keys.realm_of(key)
    account = request.headers.get("stripe-account", realm.account)
    if account != realm.account:
        raise StripeError(
            403,
            f"The provided key '{keys.masked(value)}' does not have access to account '{account}' (or that account does "
            "not exist). Application access may have been revoked.",
            code="account_invalid",
        )
    version = request.headers.get("stripe-version", keys.API_VERSION)
    if not VERSION.fullmatch(version):
        raise StripeError(400, f"Invalid Stripe API version: {version}")
    headers["stripe-version"] = version
    if not world.component(RateLimits).take(realm):
        headers["stripe-rate-limited-reason"] = "global-rate"
        raise StripeError(
            429,
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
            code="rate_limit",
        )
    keys.require(key, value, operation.permission)
    call = Call(
        world=world,
        realm=realm,
        parameters=_parameters(request, body),
        path_parameters=request.path_params,
        request_id=headers["request-id"],
        idempotency_key=request.headers.get("idempotency-key") if request.method == "POST" else None,
    )
    if call.idempotency_key is None:
        return _carry_out(call, operation)
    headers["idempotency-key"] = call.idempotency_key
    return _once(call, request.url.path, operation, headers)


def _carry_out(call: Call, operation: Operation) -> Json:
    for name in call.parameters:
        if operation.parameters is not None and name not in operation.parameters | {"expand"}:
            raise invalid(f"Received unknown parameter: {name}", name, "parameter_unknown")
    return operation.handler(call)


def _parameters(request: Request, body: str) -> dict[str, Value]:
    if request.method == "POST" and body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise StripeError(
                400,
                "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have "
                "any questions, we can help at https://support.stripe.com/.",
            )
    try:
        return forms.parse(body if request.method == "POST" else request.url.query)
    except ValueError as error:
        raise StripeError(400, f"Invalid request: {error}") from error


def _once(call: Call, path: str, operation: Operation, headers: dict[str, str]) -> Json:
    """Carry out a request, or replay the answer that its idempotency key got before.

    Only what was carried out is kept: a request that was refused for its parameters may be sent again with other ones
    ("Idempotent requests": a validation error saves no result).
    """
    key, database = call.idempotency_key or "", call.world.database
    if len(key) > _LONGEST_KEY:
        raise StripeError(
            400, f"Idempotency keys can be up to {_LONGEST_KEY} characters long", kind="idempotency_error"
        )
    digest = hashlib.sha256(json.dumps(call.parameters, sort_keys=True).encode()).hexdigest()
    with database:
        database.execute(
            "DELETE FROM stripe_idempotency WHERE at < ?", (timestamp(call.world.now() - IDEMPOTENCY_LIFETIME),)
        )
    row = database.execute(
        "SELECT * FROM stripe_idempotency WHERE account = ? AND livemode = ? AND key = ?",
        (call.realm.account, call.realm.livemode, key),
    ).fetchone()
    if row is None:
        document = _carry_out(call, operation)
        with database:
            database.execute(
                "INSERT INTO stripe_idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    call.realm.account,
                    call.realm.livemode,
                    key,
                    path,
                    digest,
                    call.request_id,
                    call.world.seal(json.dumps(document).encode()),
                    timestamp(call.world.now()),
                ),
            )
        return document
    headers["original-request"] = row["request"]
    if row["path"] != path:
        raise StripeError(
            400,
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{path}' vs '{row['path']}'). Try using a key other than '{key}' if you meant to execute a different "
            "request.",
            kind="idempotency_error",
        )
    if row["parameters"] != digest:
        raise StripeError(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
            f"a key other than '{key}' if you meant to execute a different request.",
            kind="idempotency_error",
        )
    headers["idempotent-replayed"] = "true"
    replayed: Json = json.loads(call.world.unseal(row["sealed"]))
    return replayed
