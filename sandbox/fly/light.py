"""Light machines: they run inside the sandbox's own process, each with its own environment, port and connections.

What a tenant does is `processes/tenant.py`, and what a control plane does `processes/control_plane.py`, the same as in
processes of their own; here are their sockets and what the supervisor knows of a process (`supervisor.Process`): it logs,
ends on signals and exits with a status. What they wait for (Redis, PostgreSQL, other services), they wait for in one of a
few threads that all light machines share: tenants some, and control planes others, because these wait for those.

Deviations: it has no process id, a memory of its own or a standard input, and a signal that nothing handles ends it
at once as the system would.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from sandbox.processes import control_plane, service
from sandbox.processes.service import MAX_BODY, TIMEOUT, FatalError
from sandbox.processes.tenant import Tenant
from sandbox.world import HOST

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from sandbox.world import World

THREADS: Final = 16
"""Requests of tenants, and of control planes, that wait at the same time; the others wait for them."""
_GRACEFUL: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_HARMLESS: Final = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
_HEAD_LIMIT: Final = 1 << 16


class Threads:
    """The threads that the light machines of a world share."""

    def __init__(self, _world: World) -> None:
        self.tenants = ThreadPoolExecutor(THREADS, thread_name_prefix="light-tenant")
        self.control_planes = ThreadPoolExecutor(THREADS, thread_name_prefix="light-control-plane")


class Program(Protocol):
    """What a light machine runs."""

    def connect(self) -> None:
        """Make connections, right after the boot."""

    def close(self) -> None:
        """Let go of what is open."""

    def health(self) -> tuple[int, dict[str, Any]]:
        """Answer a health check: status and JSON. It waits for nothing."""

    def exchange(self, head: bytes, body: bytes | None) -> bytes:
        """Return the whole answer to a request; `body` is `None` if it was too long."""


class LightTenant:
    """A tenant. Raises `FatalError` if it does not start."""

    def __init__(
        self, environment: Mapping[str, str], log: Callable[[str], None], report: Callable[[str], None]
    ) -> None:
        self._tenant = Tenant(environment, log, report)
        self.connect, self.close, self.health = self._tenant.connect, self._tenant.close, self._tenant.health

    def exchange(self, head: bytes, body: bytes | None) -> bytes:
        """Answer a request."""
        method, target, _ = head.decode("latin-1").split(" ", 2)
        status, document = self._tenant.answer(method, target, body)
        content = json.dumps(document).encode()
        first = (
            f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nserver: molecule\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return first.encode() + content


class LightControlPlane:
    """A control plane. Raises `FatalError` if it does not start.

    Args:
        environment: What it boots with, and where the sandbox is.
        switches: What it would be told by the rig (`rig.py`), if it asked.
        log: Writes a line to its log.
    """

    def __init__(self, environment: Mapping[str, str], switches: dict[str, Any], log: Callable[[str], None]) -> None:
        self._machine = service.Machine(dict(environment), log)
        self._machine.once("switches", lambda: switches)
        service.within(self._machine, control_plane.boot)

    def connect(self) -> None:
        """Nothing: a control plane connects when it is asked for something."""

    def close(self) -> None:
        """Close its connections to the database."""
        service.within(self._machine, lambda: control_plane.database().close())

    def health(self) -> tuple[int, dict[str, Any]]:
        """Answer a health check."""
        ill = self._machine.unhealthy.is_set()
        status = HTTPStatus.SERVICE_UNAVAILABLE if ill else HTTPStatus.OK
        return status, {"service": "molecule-cp", "status": "unhealthy" if ill else "ok"}

    def exchange(self, head: bytes, body: bytes | None) -> bytes:
        """Answer a request."""
        return service.within(self._machine, lambda: _Exchange(head + (body or b"")).answered())


class _Exchange(control_plane.ControlPlane):
    """One request of the control plane's HTTP interface, without a socket."""

    def __init__(self, request: bytes) -> None:  # not the base class's, which serves a socket
        self.rfile: Any = io.BytesIO(request)
        self.wfile: Any = io.BytesIO()
        self.client_address = (HOST, 0)

    def answered(self) -> bytes:
        """Return the whole answer."""
        self.handle_one_request()
        answer: bytes = self.wfile.getvalue()
        return answer


class LightMachine:
    """One boot of one machine.

    Args:
        world: Where its breakages are recorded.
        consumer: `<app>/<machine>`, who they are of.
        environment: What it boots with.
        listener: A bound socket, on which it will listen.
        log: Takes its log lines; called in the world's thread.
        switches: Of a control plane: what it is to play (`switches.py`). None for a tenant.
    """

    def __init__(
        self,
        world: World,
        *,
        consumer: str,
        environment: Mapping[str, str],
        listener: socket.socket,
        log: Callable[[str], None],
        switches: dict[str, Any] | None = None,
    ) -> None:
        self._world = world
        self._consumer = consumer
        self._loop = asyncio.get_running_loop()
        threads = world.component(Threads)
        self._pool = threads.tenants if switches is None else threads.control_planes
        self._write = log
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._ended = asyncio.Event()
        self._program: Program | None = None
        self.pid: int | None = None
        self.returncode: int | None = None
        try:
            if switches is None:
                self._program = LightTenant(environment, self._log, self._report)
            else:
                self._program = LightControlPlane(environment, switches, self._log)
        except FatalError as error:
            self._log(f"fatal: {error}")
            self._exit(1)
        else:
            self._pool.submit(self._program.connect)

    async def listen(self) -> None:
        """Take requests from now on."""
        if self.returncode is None:
            self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=_HEAD_LIMIT, backlog=128)

    # -- as a process -------------------------------------------------------------------------------------------------

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        await self._ended.wait()
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """Do what a process would. Raises `ProcessLookupError` if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        if number in _HARMLESS:
            return
        if number in _GRACEFUL:
            self._close()
            self._world.spawn(self._finish())
        else:
            for request in self._requests:
                request.cancel()
            self._exit(-number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def _finish(self) -> None:
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._exit(0)

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._listener.close()

    def _exit(self, status: int) -> None:
        if self.returncode is None:
            self._close()
            self.returncode = status
            self._ended.set()
            if self._program is not None:  # its connection may be in use: that thread must not hold the loop up
                self._pool.submit(self._program.close)

    # -- what it tells ------------------------------------------------------------------------------------------------

    def _log(self, message: str) -> None:
        self._loop.call_soon_threadsafe(self._write, message)

    def _report(self, what: str) -> None:
        """Record a breakage before the answer leaves, as a process does that calls the sandbox."""

        async def record() -> None:
            self._world.record_breakage(self._consumer, what)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(record(), self._loop).result(TIMEOUT)

    # -- requests -----------------------------------------------------------------------------------------------------

    def health(self) -> tuple[int, str]:
        """Answer a health check, without its way over a socket: status and body."""
        if self._program is None or self._server is None:
            raise ConnectionRefusedError
        status, document = self._program.health()
        return status, json.dumps(document)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
        with contextlib.suppress(OSError, ValueError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.write(await self._answer(reader))
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        _, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length") or 0)
        body = await asyncio.wait_for(reader.readexactly(length), TIMEOUT) if length <= MAX_BODY else None
        if self._program is None:
            raise ConnectionResetError
        return await self._loop.run_in_executor(self._pool, self._program.exchange, head, body)
