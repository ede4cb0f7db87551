"""What every machine's process has in common: its socket, its end, and calls to other services.

Kept light, because there are many: standard library only, one thread per request.

Several machines may run in one process (`sandbox/fly/light.py`): which of them a thread works for is told by its context
(`Machine`). A machine that is a process of its own needs none: its environment is the process's.
"""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import json
import os
import signal
import socket
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

T = TypeVar("T")


class Machine:
    """One boot of one machine.

    Args:
        environment: What it booted with.
        write: Writes a line to its log.
    """

    def __init__(self, environment: MutableMapping[str, str], write: Callable[[str], None]) -> None:
        self.environment = environment
        self.write = write
        self.unhealthy = threading.Event()
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` returned the first time; there is one of each name in a machine."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made


class FatalError(Exception):
    """The machine's program does not start; the message says why and holds no value."""


def _print(message: str) -> None:
    print(message, flush=True)  # noqa: T201 - standard output is a machine's log


_PROCESS = Machine(os.environ, _print)
_CURRENT: contextvars.ContextVar[Machine] = contextvars.ContextVar("machine", default=_PROCESS)


def current() -> Machine:
    """Return the machine that this thread works for."""
    return _CURRENT.get()


def within(of: Machine, act: Callable[[], T]) -> T:
    """Do something for a machine of this process."""

    def run() -> T:
        _CURRENT.set(of)
        return act()

    return contextvars.copy_context().run(run)


def environ() -> MutableMapping[str, str]:
    """Return the environment of the machine that this thread works for."""
    return current().environment


def start_thread(target: Callable[..., object], *arguments: object, **named: object) -> None:
    """Start a thread that works for the same machine. No daemon: a machine on its way down finishes what it began."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(target, *arguments), kwargs=named).start()


MAX_BODY = 1 << 20
TIMEOUT = 15.0
"""Seconds until another service must have answered."""


class Handler(BaseHTTPRequestHandler):
    """A request handler that reads and writes JSON. HTTP/1.0: a connection serves one request."""

    server_version = "molecule"
    sys_version = ""
    wbufsize = -1
    """Answers leave in one piece: of two, the second would wait for the first one's acknowledgement (Nagle), 40 ms."""

    def document(self) -> dict[str, Any]:
        """Return the body's JSON object. Raises `ValueError` if it is none or too long."""
        length = int(self.headers.get("content-length") or 0)
        if length > MAX_BODY:
            raise ValueError("body too large")
        document = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004 - part of what the body says
        return document

    def body(self) -> bytes | None:
        """Return the body as it was sent; `None`, after reading it to its end, if it is longer than `MAX_BODY`."""
        left = int(self.headers.get("content-length") or 0)
        if left <= MAX_BODY:
            return self.rfile.read(left)
        while left > 0 and (part := self.rfile.read(min(left, MAX_BODY))):
            left -= len(part)
        return None

    def answer(self, status: int, document: object = None) -> None:
        """Answer with JSON, or without a body."""
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if document is not None:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing: health checks would fill the log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that `server_close` waits for requests under way
    request_queue_size = 128


def run(handler: type[Handler]) -> None:
    """Serve on the socket whose descriptor is the first argument, until SIGTERM; requests under way are finished."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _Server(("", 0), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    server.server_address = server.socket.getsockname()
    server.server_activate()

    def end(_number: int, _frame: object) -> None:
        # `shutdown` waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def _end_with_parent() -> None:
    """End this process when the supervisor's end of the pipe closes: it never writes to it."""
    while os.read(0, 1):
        pass
    os._exit(1)


def log(message: str) -> None:
    """Write a log line. It never holds a secret value."""
    current().write(message)


def report_breakage(what: str) -> None:
    """Tell the sandbox what broke in this process and the sandbox does not see; no value in it."""
    with contextlib.suppress(OSError, KeyError):
        call(environ()["SANDBOX_RIG_URL"], "POST", "/breakages", document={"what": what})


def call(
    base: str,
    method: str,
    path: str,
    *,
    document: object = None,
    form: Mapping[str, str] | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> tuple[int, Any]:
    """Call another service and return status and JSON. The call names this machine as the consumer.

    The body is `document` as JSON, or `form` as a form.

    Raises `OSError` if there is no answer.
    """
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    sent = {
        **(headers or {}),
        "content-type": "application/json" if form is None else "application/x-www-form-urlencoded",
        "sandbox-consumer": f"{environ()['FLY_APP_NAME']}/{environ()['FLY_MACHINE_ID']}",
    }
    if token is not None:
        sent["authorization"] = token
    body = None if document is None else json.dumps(document)
    if form is not None:
        body = urllib.parse.urlencode(form)
    try:
        connection.request(method, url.path + path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()
    try:
        return answer.status, json.loads(content) if content else None
    except ValueError:
        return answer.status, None
