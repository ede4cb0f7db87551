"""What happens around every request to every service: counting, injected faults, breakages.

A refused call of a consumer is a breakage: a consumer (a Fly machine, a workflow run) names itself in the header
`sandbox-consumer`; if the answer is 401 or 403, or the service calls `refused(scope, why)` because its protocol says
so otherwise (GraphQL answers 200), the middleware records it. Injected faults are no breakages.

After whatever is no mere read the invariants are looked at (`invariants.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final, Protocol

import graphql
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.routing import Match

from sandbox import faults
from sandbox.faults import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.applications import Starlette
    from starlette.types import Message, Receive, Scope, Send

    from sandbox.faults import Fault
    from sandbox.world import World

CONSUMER_HEADER: Final = "sandbox-consumer"
CONNECTION: Final = "sandbox.connection"
"""Where `server.py` puts the request's transport in `scope["extensions"]`."""
_REFUSAL: Final = "sandbox.refusal"
_CHALLENGE: Final = "sandbox.challenge"
_CONVERTOR: Final = re.compile(r":[a-z]+(?=})")
"""How Starlette writes `{repository:path}`."""
_NAMING: Final = frozenset({"id", "name", "slug", "app", "appId", "app_id", "appName", "organizationId"})
"""Variables of GraphQL requests that name something. What others hold may be secret."""
_REFUSED: Final = frozenset({401, 403})
_READS: Final = frozenset({"GET", "HEAD"})
_NO_API: Final = frozenset({"control-plane", "tenant"})
"""What the setting `api_latency` is not about."""


class _Connection(Protocol):
    def abort(self) -> None: ...


def refused(scope: Scope, why: str) -> None:
    """Note that the credential of this request was refused although the status does not say so."""
    scope[_REFUSAL] = why


def challenge(scope: Scope) -> None:
    """Note that this 401 asks for a credential and refuses none."""
    scope[_CHALLENGE] = True


class Observation:
    """ASGI middleware around one service.

    Args:
        application: The service.
        world: Where requests and breakages are recorded and faults are looked up.
        provider: Names the provider of a path, for counts and faults: one port may serve several.
        apps: The Fly app behind each port, where the service is Fly's proxy.
        after_change: Called after every request that is no mere read.
    """

    def __init__(
        self,
        application: Starlette,
        world: World,
        provider: Callable[[str], str],
        *,
        apps: Mapping[int, str] | None = None,
        after_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._application = application
        self._world = world
        self._provider = provider
        self._apps = apps or {}
        self._after_change = after_change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; see the module's docstring."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        provider, method = self._provider(scope["path"]), scope["method"]
        target, template = scope["path"], self._template(scope)
        # Upstash takes tokens in the query, too.
        about = "" if provider == "upstash" else scope["query_string"].decode("latin-1")
        if method == "POST" and scope["path"] == "/graphql":
            body = await _body(receive)
            receive = _replay(body, receive)
            fields, about = root_fields(body), named(body)
            target, template = f"{target} {fields}", f"{template} {fields}"
        elif method == "POST" and provider == "upstash" and scope["path"] == "/":
            body = await _body(receive)
            receive = _replay(body, receive)
            target = f"{target} {command(body)}"
        consumer = Headers(scope=scope).get(CONSUMER_HEADER)
        app = self._apps.get((scope.get("server") or ("", 0))[1])
        number = self._world.record_request(
            provider,
            method,
            target=target,
            path_template=template,
            consumer=consumer,
            agent=Headers(scope=scope).get("user-agent"),
            app=app,
            about=about,
        )
        send = self._noting(number, send)
        fault = faults.strike(self._world, provider=provider, method=method, target=target, consumer=consumer)
        if provider not in _NO_API and (latency := self._world.number("api_latency")):
            await asyncio.sleep(latency)
        if fault is None:
            await self._observed(scope, receive, send, f"{provider} {method} {target}")
        else:
            await self._failing(fault, scope, receive, send, f"{provider} {method} {target}")
        if method not in _READS:
            self._after_change()

    def _noting(self, number: int, send: Send) -> Send:
        """Note the status before the answer leaves, so that who saw the answer finds it."""

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._world.record_status(number, message["status"])
            await send(message)

        return note

    async def _observed(self, scope: Scope, receive: Receive, send: Send, request: str) -> None:
        consumer = Headers(scope=scope).get(CONSUMER_HEADER)
        if consumer is None:
            await self._application(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            # Recorded before the answer leaves, so that who saw the answer finds the breakage.
            if message["type"] == "http.response.start":
                refusal = scope.get(_REFUSAL)
                if refusal is None and message["status"] in _REFUSED and not scope.get(_CHALLENGE):
                    refusal = f"refused with {message['status']}"
                if refusal is not None:
                    self._world.record_breakage(consumer, f"{request}: {refusal}")
            await send(message)

        await self._application(scope, receive, watch)

    async def _failing(self, fault: Fault, scope: Scope, receive: Receive, send: Send, request: str) -> None:
        match fault.effect:
            case Effect.STATUS:
                await _body(receive)
                headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
                text = f"injected fault: {fault.status}"
                response = JSONResponse({"error": text, "message": text}, fault.status, headers)
                await response(scope, receive, send)
            case Effect.TIMEOUT:
                await _disconnected(receive)
            case Effect.DROP_BEFORE:
                await _drop(scope, receive)
            case Effect.DROP_AFTER:
                await self._observed(scope, receive, _discard, request)
                await _drop(scope, receive)
            case Effect.LATENCY:
                await asyncio.sleep(fault.latency / 1000)
                await self._observed(scope, receive, send, request)

    def _template(self, scope: Scope) -> str:
        partial = ""
        for route in self._application.router.routes:
            match, _ = route.matches(scope)
            path = _CONVERTOR.sub("", str(getattr(route, "path", "")))
            if match is Match.FULL:
                return path
            if match is Match.PARTIAL:
                partial = partial or path
        return partial or "(unknown path)"


def root_fields(body: bytes) -> str:
    """Return the root fields of a GraphQL request's operation, comma-separated; `(invalid)` if it has none."""
    try:
        document: dict[str, Any] = json.loads(body)
        operation = graphql.get_operation_ast(
            graphql.parse(document["query"], no_location=True), document.get("operationName")
        )
        selections = operation.selection_set.selections if operation else ()
    except (ValueError, KeyError, TypeError, graphql.GraphQLError):
        selections = ()
    names = [selection.name.value for selection in selections if isinstance(selection, graphql.FieldNode)]
    return ",".join(names) or "(invalid)"


def named(body: bytes) -> str:
    """Return what a GraphQL request's variables name, comma-separated: the values of `_NAMING` among them, and no others."""

    def values(variable: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
        if isinstance(variable, list):
            for each in variable:
                yield from values(each)
        elif isinstance(variable, dict):
            for key, each in variable.items():
                if key in _NAMING and isinstance(each, str):
                    yield each
                else:
                    yield from values(each)

    try:
        return ",".join(values(json.loads(body).get("variables")))
    except (ValueError, AttributeError):
        return ""


def command(body: bytes) -> str:
    """Return the name of the Redis command that a request of Upstash's REST API carries, with its subcommand; `(invalid)` if it has none.

    The other words may be secret.
    """
    try:
        words = json.loads(body)
        name = str(words[0]).upper()
        return f"{name} {str(words[1]).upper()}" if name == "ACL" else name
    except (ValueError, LookupError, TypeError):
        return "(invalid)"


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _discard(_message: Message) -> None:
    pass


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(scope: Scope, receive: Receive) -> None:
    connection: _Connection = scope["extensions"][CONNECTION]
    connection.abort()
    await _disconnected(receive)  # else uvicorn would find the connection open and answer 500
