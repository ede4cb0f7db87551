"""Runs the machines: one child process each, with exactly the environment that its version was given.

Of tenants the first `PROCESSES` that boot are child processes; those beyond run inside the sandbox's own (`light.py`).
Machines boot a few at a time, the control plane's first, so that many do not stall the computer.

A process listens on a socket that the supervisor bound and handed over, so no port is ever guessed. Its standard input
is a pipe whose other end only the supervisor holds: when the supervisor dies, however it dies, the pipe closes and the
process ends itself. Processes that outlive even that are ended at the next start, by id and start time.

An update drains first: the proxy sends the machine nothing more, requests under way may finish, then SIGTERM, and
after the kill timeout SIGKILL. Changes of one machine never overlap: a newer one cancels the transition before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psutil

from sandbox import environments, illness, switches
from sandbox.fly import logs, machines
from sandbox.fly.light import LightMachine
from sandbox.fly.machines import Check, State
from sandbox.fly.tokens import parse_duration
from sandbox.world import HOST, timestamp

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sandbox.fly.machines import Machine
    from sandbox.world import World

KILL_TIMEOUT: Final = 5.0
"""Seconds between SIGTERM and SIGKILL (Fly's default `stop_config.timeout`)."""
MAX_RESTARTS: Final = 10
"""Restarts of a crashing machine in a row, unless its `restart.max_retries` says otherwise."""
LONGEST_BACKOFF: Final = 5.0
CONTROL_PLANE: Final = "sandbox.processes.control_plane"
"""What runs in a machine whose image is called like the app of a control plane."""
TENANT: Final = "sandbox.processes.tenant"
"""What runs in any other."""
BOOTING: Final = 4
"""Machines that boot at the same time; the next one begins when one of them listens, has ended, or took too long."""
LONGEST_BOOT: Final = 2.0
"""Seconds after which a machine that does not listen yet lets the next one begin."""
PROCESSES: Final = "tenant.processes"
_LIGHT: Final = {"SANDBOX_KEPT_CONNECTIONS": "1"}
"""What a light machine gets besides: PostgreSQL has a process for every connection."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_LINE_LIMIT: Final = 1 << 20


class Process(Protocol):
    """What runs in a machine: a child process, or a `LightMachine`."""

    @property
    def pid(self) -> int | None:
        """Its id; `None` if it is no process of its own."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; `None` while it runs."""

    async def wait(self) -> int:
        """Wait for its end and return the exit status."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal. Raises `ProcessLookupError` if it has ended."""

    def kill(self) -> None:
        """End it at once. Raises `ProcessLookupError` if it has ended."""


class Runtime:
    """What is known of a machine while the sandbox runs."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.port: int | None = None
        self.transition: asyncio.Task[None] | None = None
        self.watch: asyncio.Task[None] | None = None
        self.draining = False
        self.in_flight = 0
        """Requests that the proxy is handing to the process."""
        self.changed = asyncio.Event()
        self.listening = asyncio.Event()
        """Its process took a health check's connection, or has ended."""
        self.recheck = asyncio.Event()
        """Its health is to be checked now instead of when it is due."""

    def notify(self) -> None:
        """Wake everybody who waits for a change of the machine."""
        self.changed.set()
        self.changed = asyncio.Event()


class Supervisor:
    """The machines' processes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runtimes: dict[str, Runtime] = {}
        self._closing = False
        self._slots = asyncio.Semaphore(BOOTING)
        self._heavy: set[str] = set()
        """Tenants that are child processes, or are about to be."""

    def runtime(self, identifier: str) -> Runtime:
        """Return what is known of a machine."""
        return self._runtimes.setdefault(identifier, Runtime())

    def unhealthy(self) -> list[str]:
        """Return `<app>/<id>` of each machine that should run and is not healthy, but for those that are to be ill."""
        return [
            f"{machine.app}/{machine.id}"
            for machine in machines.listing(self._world)
            if machine.desired is State.STARTED
            and not machine.healthy
            and not illness.flag(self._world, machine.id).exists()
        ]

    # -- life of the sandbox ------------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """End what an earlier server left behind, then boot every machine that should run."""
        present = sorted(
            machines.listing(self._world), key=lambda machine: environments.is_tenant(self._world, machine.app)
        )
        for machine in present:
            end_stale(machine)
        illness.update(
            self._world, [machine for machine in present if environments.is_tenant(self._world, machine.app)]
        )
        for machine in present:
            if machine.state is State.DESTROYING:
                self.destroy(machine.id)
            elif machine.desired is State.STARTED:
                self.launch(machine.id)
            elif machine.state not in machines.SETTLED:
                self._settle(machine.id, State.STOPPED)

    async def shut_down(self) -> None:
        """End every process; the machines' last known states stay recorded."""
        self._closing = True
        runtimes = list(self._runtimes.values())
        for runtime in runtimes:
            for task in (runtime.transition, runtime.watch):
                if task is not None:
                    task.cancel()
        await asyncio.gather(*(_end(runtime.process, signal.SIGTERM, KILL_TIMEOUT) for runtime in runtimes))

    def examine(self) -> None:
        """Let tenants be as ill as the settings want them, and check all at once."""
        present = [
            machine
            for environment in environments.of(self._world)
            for machine in machines.listing(self._world, environment.tenant_app)
        ]
        illness.update(self._world, present)
        for machine in present:
            self.runtime(machine.id).recheck.set()

    # -- transitions --------------------------------------------------------------------------------------------------

    def launch(self, identifier: str) -> None:
        """Boot a machine that does not run."""
        machines.change(self._world, identifier, state=State.STARTING, desired=State.STARTED, restart_count=0)
        self._forget_checks(identifier)
        self._begin(identifier, self._boot(identifier))

    def replace(self, identifier: str) -> None:
        """Replace a machine's process by one of its current version."""
        self._begin(identifier, self._replace(identifier))

    def stop(self, identifier: str, *, kill_timeout: float | None = None, number: int = signal.SIGTERM) -> None:
        """Stop a machine. `kill_timeout` is in seconds."""
        machines.change(self._world, identifier, state=State.STOPPING, desired=State.STOPPED)

        async def stop() -> None:
            await self._terminate(identifier, kill_timeout=kill_timeout, number=number)
            self._settle(identifier, State.STOPPED)

        self._begin(identifier, stop())

    def restart(self, identifier: str, *, kill_timeout: float | None = None, number: int = signal.SIGTERM) -> None:
        """Restart a machine with the environment that it has: newer secrets need an update (fly.md 2.1)."""
        machines.change(self._world, identifier, state=State.RESTARTING, desired=State.STARTED, restart_count=0)
        self._forget_checks(identifier)

        async def restart() -> None:
            await self._terminate(identifier, kill_timeout=kill_timeout, number=number)
            await self._boot(identifier)

        self._begin(identifier, restart())

    def destroy(self, identifier: str) -> None:
        """Destroy a machine."""
        machines.change(self._world, identifier, state=State.DESTROYING, desired=State.DESTROYED)

        async def destroy() -> None:
            await self._terminate(identifier)
            machines.record_event(self._world, identifier, kind="destroy", status="destroyed", source="flyd")
            machines.release_lease(self._world, identifier)
            self._settle(identifier, State.DESTROYED)

        self._begin(identifier, destroy())

    def _forget_checks(self, identifier: str) -> None:
        config = machines.get(self._world, identifier).config
        machines.change(self._world, identifier, checks=machines.waiting_checks(self._world, config))

    def _begin(self, identifier: str, transition: Coroutine[Any, Any, None]) -> None:
        runtime = self.runtime(identifier)
        runtime.draining = True
        if runtime.transition is not None:
            runtime.transition.cancel()
        runtime.transition = self._world.spawn(transition)
        runtime.notify()

    def _settle(self, identifier: str, state: State) -> None:
        machine = machines.get(self._world, identifier)
        machines.change(
            self._world,
            identifier,
            state=state,
            booted=machines.seal(self._world, machine.environment),
            process=None,
            process_started=None,
        )
        self.runtime(identifier).notify()

    async def _replace(self, identifier: str) -> None:
        await self._terminate(identifier)
        if machines.get(self._world, identifier).desired is State.STARTED:
            machines.change(self._world, identifier, state=State.CREATED)
            self.runtime(identifier).notify()
            await self._boot(identifier)
        else:
            self._settle(identifier, State.STOPPED)

    async def _terminate(
        self, identifier: str, *, kill_timeout: float | None = None, number: int = signal.SIGTERM
    ) -> None:
        runtime = self.runtime(identifier)
        runtime.draining = True
        process = runtime.process
        if runtime.watch is not None:
            runtime.watch.cancel()
        if process is None:
            return
        if kill_timeout is None:
            config = machines.get(self._world, identifier).config
            kill_timeout = _seconds((config.get("stop_config") or {}).get("timeout"), KILL_TIMEOUT)
        deadline = time.monotonic() + kill_timeout
        while runtime.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - ends with a deadline
            await asyncio.sleep(0.01)
        await _end(process, number, kill_timeout)
        runtime.process = runtime.port = None
        self._heavy.discard(identifier)
        runtime.listening.set()
        self._record_exit(identifier, process.returncode or 0, requested=True, restarting=False)

    async def _boot(self, identifier: str) -> None:
        world, runtime = self._world, self.runtime(identifier)
        machines.change(world, identifier, state=State.STARTING)
        runtime.notify()
        await asyncio.sleep(world.number("boot_time"))
        await self._slots.acquire()
        try:
            machine = machines.get(world, identifier)
            if environments.is_tenant(world, machine.app):
                illness.update(world, [machine])
            process, port = await self._execute(machine)
        except BaseException:
            self._slots.release()
            raise
        runtime.listening = asyncio.Event()
        world.spawn(self._release(runtime.listening if machines.checks_of(machine.config) else None))
        runtime.process, runtime.port, runtime.draining = process, port, False
        started: dict[str, Any] = {"process": None, "process_started": None}
        if process.pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                started = {"process": process.pid, "process_started": psutil.Process(process.pid).create_time()}
        machines.change(
            world, identifier, state=State.STARTED, booted=machines.seal(world, machine.environment), **started
        )
        machines.record_event(world, identifier, kind="start", status="started", source="flyd")
        runtime.notify()
        runtime.watch = world.spawn(self._watch(machine, process, port))

    async def _release(self, listening: asyncio.Event | None) -> None:
        """Let the next machine boot when this one listens."""
        try:
            if listening is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listening.wait(), LONGEST_BOOT)
        finally:
            self._slots.release()

    async def _execute(self, machine: Machine) -> tuple[Process, int]:
        repository = str(machine.config.get("image", "")).rsplit("/", 1)[-1].split("@")[0].split(":")[0]
        module = CONTROL_PLANE if environments.is_control_plane(self._world, repository) else TENANT
        owner = environments.of_app(self._world, machine.app)
        if module == CONTROL_PLANE and owner is not None and owner.light:
            return await self._lighten(machine, control_plane=True)
        if module == TENANT:
            if len(self._heavy - {machine.id}) >= self._world.number(PROCESSES):
                self._heavy.discard(machine.id)
                return await self._lighten(machine)
            self._heavy.add(machine.id)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            # Bound, not listening: connections are refused until the process itself listens.
            listener.bind((HOST, 0))
            port: int = listener.getsockname()[1]
            descriptor = listener.fileno()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                str(descriptor),
                env=machine.environment | self._platform(machine, port),
                cwd="/",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(descriptor,),
                start_new_session=True,
                limit=_LINE_LIMIT,
            )
        return process, port

    async def _lighten(self, machine: Machine, *, control_plane: bool = False) -> tuple[Process, int]:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]

        def log(message: str) -> None:
            logs.write(self._world, app=machine.app, machine=machine.id, region=machine.region, message=message)

        light = LightMachine(
            self._world,
            consumer=f"{machine.app}/{machine.id}",
            environment=machine.environment | self._platform(machine, port) | _LIGHT,
            listener=listener,
            log=log,
            switches=switches.told(self._world, machine.app) if control_plane else None,
        )
        try:
            await light.listen()
        except BaseException:
            light.kill()
            raise
        return light, port

    def _platform(self, machine: Machine, port: int) -> dict[str, str]:
        """Return what every process gets besides its machine's environment."""
        environment = environments.of_app(self._world, machine.app) or environments.DEFAULT
        ill = (
            {illness.FLAG: str(illness.flag(self._world, machine.id))} if machine.app == environment.tenant_app else {}
        )
        return ill | {
            "PATH": os.defpath,
            "PYTHONPATH": str(_ROOT),
            "PYTHONUNBUFFERED": "1",
            "PORT": str(port),
            "FLY_FLAPS_BASE_URL": self._world.url("fly"),
            "SANDBOX_RIG_URL": self._world.url("rig"),
            "NEON_API_BASE_URL": f"{self._world.url('neon')}/api/v2",
            "RESEND_API_URL": self._world.url("resend"),
            "STRIPE_API_BASE_URL": self._world.url("stripe"),
            "TENANT_URL": self._world.url(environment.service("tenant")),
        }

    # -- a running process --------------------------------------------------------------------------------------------

    async def _watch(self, machine: Machine, process: Process, port: int) -> None:
        checks = self._world.spawn(self._check(machine, process, port))
        reader = self._world.spawn(self._read(machine, process))
        runtime = self.runtime(machine.id)
        listening = runtime.listening
        try:
            returncode = await process.wait()
            listening.set()
            await asyncio.wait([reader], timeout=1)  # its last words
        finally:
            checks.cancel()
        if self._closing or runtime.draining:
            return  # ended on the way down: the transition under way takes care of it
        runtime.process = runtime.port = None
        self._heavy.discard(machine.id)
        policy = machine.config.get("restart") or {}
        restarts = machines.get(self._world, machine.id).restart_count
        wanted = {"no": False, "always": True}.get(str(policy.get("policy", "on-failure")), returncode != 0)
        restarting = wanted and restarts < int(policy.get("max_retries") or MAX_RESTARTS)
        self._record_exit(machine.id, returncode, requested=False, restarting=restarting)
        if restarting:
            machines.change(
                self._world,
                machine.id,
                state=State.STARTING,
                restart_count=restarts + 1,
                checks=machines.waiting_checks(self._world, machine.config),
            )
            self._begin(machine.id, self._reboot(machine.id, restarts))
        else:
            machines.change(self._world, machine.id, desired=State.STOPPED)
            self._settle(machine.id, State.STOPPED)

    async def _reboot(self, identifier: str, restarts: int) -> None:
        await asyncio.sleep(min(self._world.number("restart_backoff") * 2**restarts, LONGEST_BACKOFF))
        await self._boot(identifier)

    def _record_exit(self, identifier: str, returncode: int, *, requested: bool, restarting: bool) -> None:
        code = 128 - returncode if returncode < 0 else returncode
        machines.record_event(
            self._world,
            identifier,
            kind="exit",
            status="stopped",
            source="flyd",
            request={
                "exit_event": {
                    "exit_code": code,
                    "guest_exit_code": code,
                    "exited_at": timestamp(self._world.now()),
                    "requested_stop": requested,
                    "restarting": restarting,
                    "oom_killed": False,
                    "guest_signal": -1,
                    "signal": -returncode if returncode < 0 else -1,
                    "error": "",
                },
                "restart_count": machines.get(self._world, identifier).restart_count,
            },
        )
        self.runtime(identifier).notify()

    async def _read(self, machine: Machine, process: Process) -> None:
        if not isinstance(process, asyncio.subprocess.Process) or process.stdout is None:
            return  # a light machine hands its lines over
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit
                continue
            if not line:
                return
            message = line.decode(errors="replace").rstrip()
            logs.write(self._world, app=machine.app, machine=machine.id, region=machine.region, message=message)

    # -- health checks ------------------------------------------------------------------------------------------------

    async def _check(self, machine: Machine, process: Process, port: int) -> None:
        """Check one version's process until cancelled.

        While the process is not listening yet, a refused connection is no result but tried again soon, for one check
        interval; Fly has a `grace_period` for this.
        """
        wanted = machines.checks_of(machine.config)
        if not wanted:
            return
        began, runtime = time.monotonic(), self.runtime(machine.id)
        known: dict[str, tuple[str, str]] = {}
        while True:
            interval = self._world.number("check_interval")
            booting = False
            runtime.recheck.clear()
            for name, check in sorted(wanted.items()):
                result = await _probe(process, port, check)
                if result[1] == _REFUSED and time.monotonic() - began < interval:
                    booting = True
                elif known.get(name) != result:
                    # Asked for the machine only when there is news: there may be a thousand of them.
                    self._record_check(machine, name, *result)
                    known[name] = result
            if not booting:
                runtime.listening.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.recheck.wait(), min(0.05, interval) if booting else interval)

    def _record_check(self, machine: Machine, name: str, status: str, output: str) -> None:
        current = machines.get(self._world, machine.id)
        if current.instance_id != machine.instance_id:
            return  # replaced meanwhile: this is news of the version before
        result = Check(
            name=name,
            status=status,
            output=output,
            updated_at=timestamp(self._world.now()),
            instance=machine.instance_id,
        )
        before = next((check for check in current.checks if check.name == name), None)
        if before is not None and replace(before, updated_at=result.updated_at) == result:
            return
        results = [check for check in current.checks if check.name != name and check.name in
                   machines.checks_of(machine.config)]  # fmt: skip
        results = sorted([*results, result], key=lambda check: check.name)
        machines.change(self._world, machine.id, checks=json.dumps([asdict(check) for check in results]))
        self.runtime(machine.id).notify()


_REFUSED: Final = "connect: connection refused"


async def _probe(process: Process, port: int, check: dict[str, Any]) -> tuple[str, str]:
    """Carry a check out and return its status and output."""
    try:
        if isinstance(process, LightMachine) and check.get("path") == "/health":
            answered, said = process.health()
            return "passing" if answered == HTTPStatus.OK else "critical", said
        async with asyncio.timeout(_seconds(check.get("timeout"), 2.0)):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                if check.get("type", "http") == "tcp":
                    return "passing", "Success"
                method, path = check.get("method") or "GET", check.get("path") or "/"
                writer.write(
                    f"{method} {path} HTTP/1.0\r\nHost: {HOST}\r\nUser-Agent: Consul Health Check\r\n\r\n".encode()
                )
                answer = (await reader.read(4096)).decode(errors="replace")
            finally:
                writer.close()
    except ConnectionRefusedError:
        return "critical", _REFUSED
    except TimeoutError:
        return "critical", "context deadline exceeded"
    except OSError as error:
        return "critical", f"connect: {error.strerror}"
    status_line, _, rest = answer.partition("\r\n")
    body = rest.partition("\r\n\r\n")[2]
    code = status_line.split(" ")[1] if " " in status_line else ""
    return "passing" if code.startswith("2") else "critical", body[:500] or status_line


def _seconds(value: Any, default: float) -> float:  # noqa: ANN401 - a Go duration, or nanoseconds as a number
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return parse_duration(value).total_seconds()
    if isinstance(value, int | float) and value > 0:
        return value / 1e9
    return default


async def _end(process: Process | None, number: int, kill_timeout: float) -> None:
    """End a process: the signal, and after the timeout SIGKILL."""
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        await asyncio.wait_for(process.wait(), kill_timeout)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def end_stale(machine: Machine) -> None:
    """Kill the process that a dead server left behind, if it is still the one that was recorded."""
    if machine.process is None or machine.process_started is None:
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(machine.process)
        if abs(process.create_time() - machine.process_started) < 0.01:  # noqa: PLR2004 - clock ticks are 10 ms
            process.kill()
