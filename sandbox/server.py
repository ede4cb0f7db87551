"""Serves the sandbox: every service on its own port, in one event loop of one process.

How to add a service
    Write a module with `install(world)`, which creates its tables (`CREATE TABLE IF NOT EXISTS`), and
    `application(world)`, which returns the `Starlette` application, and list it in `SERVICES`. Optional:
    `seed(world, ...)` fills a new world (called in `seeding.py`), `inspect(world)` adds to `inspect`; both work on
    the database alone. Background work starts in the application's lifespan with `world.spawn`.

What a module needs to know
    - `world.url("github")`, `world.url("fly")`, `world.url("registry")` (the same port as fly),
      `world.url("control-plane")` and `world.url("tenant")` (Fly's proxy for the apps molecule-cp, molecule-tenant).
    - There may be several environments (`environments.py`): `seed` is called for each, what is an environment's own is found
      by `environment.service(...)` (ports) and `environment.key(...)` (values that are kept).
    - `middleware.py` counts every request by its route's path and records breakages of consumers (header
      `sandbox-consumer`, answers 401 and 403): modules do neither themselves. A
      consumer that is refused otherwise than over HTTP tells it itself (`rig.py`).
    - Values for `python -m sandbox env` go through `world.keep(NAME, value)`; `github.seed` keeps `GITHUB_TOKEN`.
    - In-memory state: `world.component(Kind)` returns the world's one instance of `Kind(world)`.
    - `world.credentials.revoke(identifier, provider=...)`: identifiers are unique per provider only.
    - `github.seed(world, fly_api_token=VALUE)` is called once, on a new world, with the value of the hand-made deploy
      token that is also the Fly secret of molecule-cp.
    - A module's tables are read by `inspect` from another process while the server runs: commit what is acknowledged.

What others might expect otherwise
    - The admin service's bearer token is kept sealed in the database, not in a file of its own.
    - `inspect`, `env` and `stop` need no running server: they read the folder. `set` works on a stopped sandbox too.
    - `python -m sandbox set --dir DIR KEY=VALUE` and `unset --dir DIR KEY` change `world.SETTINGS`. A control plane that
      fails with a new secret: `control_plane.unhealthy_on_new=NAME`, `control_plane.crash_on_new=NAME` (`switches.py`).
    - Tenants can be made ill and well again: `tenant.unhealthy`, `tenant.unhealthy_on_new` (`illness.py`). The proxy sends
      nothing to a machine whose check fails, also if a request names it.
    - A machine's checks show `warning` from an update until their first result; `stale_checks=1` keeps showing the
      results of the version before, which careful clients must not believe.
    - Injected faults are never breakages.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import psutil
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox import (
    admin,
    control_plane_database,
    dns,
    environments,
    faults,
    fly,
    github,
    invariants,
    neon,
    postgres,
    redis,
    resend,
    rig,
    seeding,
    stripe,
    switches,
    upstash,
)
from sandbox.fly import proxy
from sandbox.fly.supervisor import Supervisor
from sandbox.middleware import CONNECTION, Observation
from sandbox.world import HOST, SandboxError, World

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from sandbox.environments import Environment


def _nothing(_world: World) -> None:
    pass


def _constant(name: str, _path: str) -> str:
    return name


@dataclass(frozen=True, kw_only=True)
class Service:
    """One stand-in: what `SERVICES` lists."""

    application: Callable[[World], Starlette]
    install: Callable[[World], None] = _nothing
    provider: Callable[[str], str] | None = None
    """Names the provider of a path; by default the service's name."""
    observed: bool = True
    """Whether requests are counted and faults injected."""


def _proxied(world: World, service: str) -> dict[str, str]:
    """The apps behind a service of which every environment has one, by what the world calls the port of each."""
    return {
        each.service(service): each.app if service == "control-plane" else each.tenant_app
        for each in environments.of(world)
    }


def _ports(world: World, service: str) -> list[str]:
    """What the world calls the ports that a service listens on."""
    return list(_proxied(world, service)) if service in environments.OWN_PORTS else [service]


SERVICES: Final[dict[str, Service]] = {
    "fly": Service(application=fly.application, install=fly.install, provider=fly.provider),
    "github": Service(application=github.application, install=github.install),
    "neon": Service(application=neon.application, install=neon.install),
    "resend": Service(application=resend.application, install=resend.install),
    "upstash": Service(application=upstash.application, install=upstash.install),
    "dns": Service(application=dns.application, install=dns.install),
    "stripe": Service(application=stripe.application, install=stripe.install),
    "control-plane": Service(application=lambda world: proxy.application(world, _proxied(world, "control-plane"))),
    "tenant": Service(application=lambda world: proxy.application(world, _proxied(world, "tenant"))),
    "rig": Service(application=rig.application, observed=False),
    "admin": Service(application=admin.application, observed=False),
}


def install(world: World, present: Sequence[Environment] = ()) -> None:
    """Create every service's tables. A new world gets these environments."""
    environments.install(world, present)
    faults.install(world)
    invariants.install(world)
    for service in SERVICES.values():
        service.install(world)


def inspect(world: World) -> dict[str, Any]:
    """Return what DESIGN.md section 6 calls `inspect`, from the databases alone.

    More keys than there: `violations` (`invariants.py`), `rate_limited` (`World.rate_limited`), `neon`, `postgres`,
    `resend`, `stripe`, `upstash`, `control_plane`, `environments` (from their modules), a
    credential's `expires_at` and `refused_from` (when its revocation bites; a credential is not `live` from its
    revocation on, though it may be accepted until then).

    A credential's `family` is the part before `-g<N>` of a name `<app>-rotation-<stack>-<SECRET>-g<N>`, which all
    generations of one secret share; any other name is its own family.
    """
    now = world.now()

    def moment(value: Any) -> str | None:  # noqa: ANN401 - datetime or None
        return None if value is None else value.isoformat().replace("+00:00", "Z")

    return {
        "credentials": [
            {
                "provider": credential.provider,
                "family": credential.family,
                "id": credential.identifier,
                "name": credential.name,
                "live": credential.live(now),
                "created_at": moment(credential.created_at),
                "revoked_at": moment(credential.revoked_at),
                "sha256": credential.shown_sha256,
                "refused_from": moment(credential.refused_from),
                "expires_at": moment(credential.expires_at),
            }
            for credential in world.credentials.all()
        ],
        "fly": fly.inspect(world),
        "github": github.inspect(world),
        "neon": neon.inspect(world),
        "postgres": postgres.inspect(world),
        "resend": resend.inspect(world),
        "stripe": stripe.inspect(world),
        "upstash": upstash.inspect(world),
        "control_plane": control_plane_database.inspect(world),
        "environments": environments.inspect(world),
        "breakages": world.breakages(),
        "violations": invariants.listing(world),
        "requests": world.requests(),
        "rate_limited": world.rate_limited(),
    }


class _TransportInScope(H11Protocol):
    """HTTP protocol that shows an application its connection, so that a fault can cut it.

    ASGI has no message for "close without an answer": an application that returns early makes uvicorn send a 500.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        application = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - uvicorn's own types
            scope.setdefault("extensions", {})[CONNECTION] = transport
            await application(scope, receive, send)

        self.app = with_transport


class _Server(uvicorn.Server):
    """One of several servers in this process: signals are handled once, in `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Application(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def _server(application: _Application) -> _Server:
    return _Server(
        uvicorn.Config(
            cast("Any", application),
            http=_TransportInScope,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            backlog=1024,
        )
    )


def _listen(world: World, service: str, *, new: bool) -> socket.socket:
    """Bind the service's port. On a new world another port is chosen if somebody just took it."""
    for _ in range(20):
        # Only where the protocol is named does asyncio switch Nagle's algorithm off, which costs 40 ms an answer.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = world.port(service)
        try:
            listener.bind((HOST, port))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if not new:
                raise SandboxError(
                    f"Port {port} of the service {service} is taken by another program ({error.strerror}). Nothing was "
                    "started. End that program, or start a sandbox in a new folder."
                ) from error
            world.forget_port(service)
        else:
            listener.setblocking(False)
            return listener
    raise SandboxError(f"No port found for the service {service}.")


async def serve(
    directory: Path,
    *,
    machines: int,
    settings: dict[str, str],
    tenants: int = 0,
    present: Sequence[Environment] = (environments.DEFAULT,),
) -> None:
    """Run the sandbox until SIGTERM, SIGINT or `admin.Control.stop`.

    Args:
        directory: The sandbox's folder; an existing one is resumed.
        machines: Number of control-plane machines of a new sandbox.
        settings: Settings to change before the start.
        tenants: Number of organizations that each environment of a new sandbox begins with, each with its tenant's machine.
        present: The environments of a new sandbox; another one has those that it was made with.

    Raises:
        SandboxError: The folder is in use by another server, or a port is taken.
    """
    _allow_many_files()
    world = World(directory)
    async with contextlib.AsyncExitStack() as resources:
        resources.enter_context(_exclusive(world))
        resources.callback(world.close)
        control = world.component(admin.Control)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, control.stop.set)
        install(world, present)
        for name, value in settings.items():
            switches.change(world, name, value)
        new = not seeding.seeded(world)
        if not new and not postgres.exists(world):
            raise SandboxError(
                f"The sandbox in {world.directory} was made before sandboxes had a PostgreSQL, and its control plane "
                "needs one. Nothing was started. Start a sandbox in a new folder."
            )
        listeners = {name: [_listen(world, port, new=new) for port in _ports(world, name)] for name in SERVICES}
        # Whatever happens from here on, both are stopped, after everything that uses them.
        database, store = world.component(postgres.Postgres), world.component(redis.Servers)
        resources.push_async_callback(database.stop)
        database.start(new=new)
        resources.push_async_callback(store.stop)
        await store.start(new=new)
        if new:
            seeding.seed(world, machine_count=machines)
        upstash.resume(world)
        await neon.resume(world)
        control_plane_database.install(world)
        if new:
            seeding.complete(world, tenants=tenants)
        checker = world.component(invariants.Checker)
        servers = {
            name: _server(
                Observation(
                    service.application(world),
                    world,
                    service.provider or functools.partial(_constant, name),
                    apps={world.port(port): app for port, app in _proxied(world, name).items()}
                    if name in environments.OWN_PORTS
                    else None,
                    after_change=checker.after_change,
                )
                if service.observed
                else service.application(world)
            )
            for name, service in SERVICES.items()
        }
        running = [
            asyncio.create_task(server.serve(sockets=listeners[name]), name=name) for name, server in servers.items()
        ]
        supervisor = world.component(Supervisor)
        try:
            while not all(server.started for server in servers.values()):
                if any(task.done() for task in running):
                    await asyncio.gather(*running)
                    raise SandboxError("A service ended at its start; the lines above say why.")
                await asyncio.sleep(0.01)
            await supervisor.resume()
            stripe.resume(world, ready=lambda: not supervisor.unhealthy())
            control.started = True
            world.spawn(checker.watch())
            await control.stop.wait()
        finally:
            for server in servers.values():
                server.should_exit = True
            await stripe.pause(world)
            await supervisor.shut_down()
            await asyncio.gather(*running, return_exceptions=True)
            await world.cancel_tasks()


def _allow_many_files() -> None:
    """Raise the limit of open files as far as anybody may: a light machine has three, a child process two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _exclusive(world: World) -> Generator[None]:
    """Hold the folder's lock, and note this process in `sandbox.pid` for `stop` while it is held."""
    lock = os.open(world.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SandboxError(f"A sandbox runs in {world.directory} already.") from error
        process = psutil.Process()
        note = world.directory / "sandbox.pid"
        note.write_text(json.dumps({"pid": process.pid, "started": process.create_time()}))
        try:
            yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        os.close(lock)
