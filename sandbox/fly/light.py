"""Light machines: tenants that run inside the sandbox's own process, each with its own environment, port and connection.

What a tenant does is `processes/tenant.py`, the same as in a process of its own; here are its socket and what the
supervisor knows of a process (`supervisor.Process`): it logs, ends on signals and exits with a status. What it waits for
(Redis, PostgreSQL), it waits for in one of a few threads that all light machines share.

Deviations: it has no process id, a memory of its own or a standard input, and a signal that nothing handles ends it
at once as the system would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from sandbox.processes.service import MAX_BODY, TIMEOUT
from sandbox.processes.tenant import FatalError, Tenant

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from sandbox.world import World

THREADS: Final = 16
"""Requests that wait at the same time; the others wait for them."""
_GRACEFUL: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_HARMLESS: Final = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
_HEAD_LIMIT: Final = 1 << 16


class Threads:
    """The threads that the light machines of a world share."""

    def __init__(self, _world: World) -> None:
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="light-machine")


class LightMachine:
    """One boot of one machine.

    Args:
        world: Where its breakages are recorded.
        consumer: `<app>/<machine>`, who they are of.
        environment: What it boots with.
        listener: A bound socket, on which it will listen.
        log: Takes its log lines; called in the world's thread.
    """

    def __init__(
        self,
        world: World,
        *,
        consumer: str,
        environment: Mapping[str, str],
        listener: socket.socket,
        log: Callable[[str], None],
    ) -> None:
        self._world = world
        self._consumer = consumer
        self._loop = asyncio.get_running_loop()
        self._threads = world.component(Threads)
        self._write = log
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._ended = asyncio.Event()
        self._tenant: Tenant | None = None
        self.pid: int | None = None
        self.returncode: int | None = None
        try:
            self._tenant = Tenant(environment, self._log, self._report)
        except FatalError:
            self._exit(1)
        else:
            self._threads.pool.submit(self._tenant.connect)

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
            if self._tenant is not None:  # its connection may be in use: that thread must not hold the loop up
                self._threads.pool.submit(self._tenant.close)

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
        if self._tenant is None or self._server is None:
            raise ConnectionRefusedError
        status, document = self._tenant.health()
        return status, json.dumps(document)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
        with contextlib.suppress(OSError, ValueError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            status, document = await self._answer(reader)
            body = json.dumps(document).encode()
            head = (
                f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nserver: molecule\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length") or 0)
        body = await asyncio.wait_for(reader.readexactly(length), TIMEOUT) if length <= MAX_BODY else None
        if self._tenant is None:
            raise ConnectionResetError
        return await self._loop.run_in_executor(self._threads.pool, self._tenant.answer, method, target, body)
