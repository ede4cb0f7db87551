"""The REST API of the database (Upstash documentation, "REST API"): commands over HTTP, on the same port as `/v2`.

A bearer token, or `_token` in the query, stands for a user; the command is carried out on the real server as that user,
so its permissions are the server's. `ACL` is Upstash's own (`acl.py`). Not there: commands that need a connection of
their own (AUTH, SUBSCRIBE, MONITOR, blocking ones; 400), and RESP2 as the answer's format (400).
"""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import environments, redis
from sandbox.middleware import refused
from sandbox.processes.resp import REFUSALS, RedisError
from sandbox.upstash import acl
from sandbox.upstash.wire import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.processes.resp import Connection, Reply
    from sandbox.world import World

WRONG_PASSWORD: Final = "WRONGPASS invalid password"  # noqa: S105 - an error's text
METHODS: Final = ["GET", "HEAD", "POST", "PUT"]
_UNAVAILABLE: Final = frozenset(
    (  # noqa: SIM905 - a list of words
        "AUTH HELLO QUIT RESET CLIENT SELECT MONITOR SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE MULTI EXEC DISCARD WATCH "
        "UNWATCH BLPOP BRPOP BRPOPLPUSH BLMOVE BZPOPMIN BZPOPMAX WAIT"
    ).split()
)


@dataclass(frozen=True, kw_only=True)
class _Caller:
    """Who a token stands for: the user's name, and its name on the server."""

    database: str
    user: str
    server_user: str


class _RestError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _authenticate(world: World, request: Request) -> _Caller:
    """Return who calls. Raises `_RestError` 401."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    token = value.strip() if scheme.lower() == "bearer" else request.query_params.get("_token", "")
    credential = world.credentials.authenticate(PROVIDER, token)
    if credential is None or credential.scope["kind"] not in acl.KINDS_OF_REST:
        raise _RestError(401, WRONG_PASSWORD)
    user = credential.scope["user"]
    if credential.scope["kind"] == acl.REST_READ_ONLY:
        return _Caller(database=credential.scope["database"], user=f"{user}_ro", server_user=acl.READ_ONLY)
    return _Caller(database=credential.scope["database"], user=user, server_user=user)


def _words(command: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """Return a command's words. Raises `_RestError` 400 if it is none."""
    if not isinstance(command, list) or not command:
        raise _RestError(400, "ERR empty command")
    words = []
    for part in command:
        if isinstance(part, bool | list | dict | None):
            raise _RestError(400, "ERR failed to parse command: unsupported argument")
        words.append(str(part))
    return words


async def _json(request: Request) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise _RestError(400, "ERR failed to parse command") from error


def _run(connection: Connection, words: list[str]) -> Reply:
    """Carry one command out; an error is returned, not raised."""
    if words[0].upper() in _UNAVAILABLE:
        return RedisError(f"ERR Command is not available: '{words[0]}'")
    try:
        return connection.call(*words)
    except RedisError as error:
        return error


class _Rest:
    def __init__(self, world: World) -> None:
        self._world = world

    def _connect(self, caller: _Caller) -> Connection:
        """Connect as the caller. Raises `OSError`, or `RedisError` if it is off."""
        service = environments.redis_of(self._world, caller.database)
        return redis.connect(self._world, caller.server_user, service=service)

    async def _execute(self, caller: _Caller, commands: list[list[str]]) -> list[Reply]:
        """Carry commands out one after the other, and return their replies, errors among them."""
        try:
            connection = self._connect(caller)
        except RedisError:  # the user is off
            raise _RestError(401, WRONG_PASSWORD) from None
        replies: list[Reply] = []
        with connection:
            for words in commands:
                if words[0].upper() == "ACL":
                    try:
                        replies.append(acl.execute(self._world, caller.database, caller.user, words[1:]))
                    except RedisError as error:
                        replies.append(error)
                else:
                    # The world's database belongs to this thread, the server's answer may take its time in another.
                    replies.append(await asyncio.to_thread(_run, connection, words))
        return replies

    async def _transaction(self, caller: _Caller, commands: list[list[str]]) -> list[Reply]:
        """Carry commands out at once. Raises `_RestError` 400 if the server discards them."""
        unavailable = _UNAVAILABLE | {"ACL"}
        for words in commands:
            if words[0].upper() in unavailable:
                raise _RestError(400, f"ERR Command is not available: '{words[0]}'")

        def run(connection: Connection) -> Reply:
            connection.call("MULTI")
            for words in commands:
                connection.call(*words)
            return connection.call("EXEC")

        try:
            with self._connect(caller) as connection:
                replies = await asyncio.to_thread(run, connection)
        except RedisError as error:
            raise _RestError(400, str(error)) from None
        return replies if isinstance(replies, list) else []

    async def one(self, request: Request) -> Response:
        """`POST /` with a command as a JSON array; or the command in the path, a body being its last word."""
        caller = _authenticate(self._world, request)
        path = request.url.path.strip("/")
        if path:
            words = [urllib.parse.unquote(part) for part in request.scope["raw_path"].decode().strip("/").split("/")]
            body = await request.body() if request.method in {"POST", "PUT"} else b""
            words += [body.decode(errors="replace")] if body else []
            for name, value in request.query_params.multi_items():
                words += [] if name == "_token" else [name, value] if value else [name]
        else:
            words = _words(await _json(request))
        reply = (await self._execute(caller, [words]))[0]
        return JSONResponse(self._shape(request, reply), 400 if isinstance(reply, RedisError) else 200)

    async def pipeline(self, request: Request) -> Response:
        """`POST /pipeline`: commands one after the other; an error of one does not stop the others."""
        caller = _authenticate(self._world, request)
        replies = await self._execute(caller, await _commands(request))
        return JSONResponse([self._shape(request, reply) for reply in replies])

    async def transaction(self, request: Request) -> Response:
        """`POST /multi-exec`: commands as one transaction."""
        caller = _authenticate(self._world, request)
        replies = await self._transaction(caller, await _commands(request))
        return JSONResponse([self._shape(request, reply) for reply in replies])

    def _shape(self, request: Request, reply: Reply) -> dict[str, Any]:
        if isinstance(reply, RedisError):
            if reply.code in REFUSALS:
                refused(request.scope, f"refused with {reply.code}")
            return {"error": str(reply)}
        return {"result": _result(reply, encoded=request.headers.get("upstash-encoding") == "base64")}


async def _commands(request: Request) -> list[list[str]]:
    document = await _json(request)
    if not isinstance(document, list):
        raise _RestError(400, "ERR failed to parse pipeline")
    return [_words(command) for command in document]


def _result(reply: Reply, *, encoded: bool) -> Any:  # noqa: ANN401 - any JSON
    match reply:
        case bytes():
            return base64.b64encode(reply).decode() if encoded and reply != b"OK" else reply.decode(errors="replace")
        case list():
            return [_result(each, encoded=encoded) for each in reply]
        case RedisError():
            return str(reply)
        case _:
            return reply


def routes(world: World) -> list[Route]:
    """Return the routes; the last one takes any path."""
    service = _Rest(world)

    def serve(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except _RestError as error:
                return JSONResponse({"error": error.message}, error.status)
            except OSError as error:
                return JSONResponse({"error": f"ERR the database does not answer: {type(error).__name__}"}, 503)

        return handle

    return [
        Route("/", serve(service.one), methods=["POST"]),
        Route("/pipeline", serve(service.pipeline), methods=["POST"]),
        Route("/multi-exec", serve(service.transaction), methods=["POST"]),
        Route("/{command:path}", serve(service.one), methods=METHODS),
    ]
