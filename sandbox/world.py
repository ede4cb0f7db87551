"""The truth of one sandbox, kept in one folder.

`World` owns everything that outlives a process: a SQLite database (`world.sqlite`), the key that seals every stored
secret value (`vault.key`), the ports, the settings, the credentials that the providers issued, and what was observed
(requests, breakages). Every module that stands in for an external system creates its own tables in `install(world)`.

Refusals:
- No value of a token or secret is stored in plain: credentials are kept as SHA-256, all else sealed with Fernet. The
  key lies next to the database (0600): this protects against a leaked log or table, not against the folder's owner.
- Only one event loop of one process writes. The command line reads the same database while the server runs (WAL).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import socket
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from pathlib import Path

HOST: Final = "127.0.0.1"
"""The only address that anything of the sandbox listens on."""

READY_TIMEOUT: Final = 60.0
"""Seconds within which every machine must be healthy after a start."""

ADMIN_TOKEN: Final = "SANDBOX_ADMIN_TOKEN"  # noqa: S105 - the name under which the admin service's token is kept

PORTS: Final = range(15000, 32000)
"""Below Linux's ephemeral range, so that no outgoing connection takes a stopped sandbox's port."""
PORTS_VARIABLE: Final = "SANDBOX_PORTS"
"""`FIRST-LAST` narrows `PORTS` for new sandboxes: of several that start and stop at once, none takes a stopped one's port."""

ALIASES: Final = {"registry": "fly"}
"""Services that answer on another service's port."""

ROTATED_NAME: Final = re.compile(r"^(?P<family>.+-rotation-.+)-g(?P<generation>[0-9]+)$")
"""`<app>-rotation-<stack>-<SECRET>-g<N>`, the remote name of a credential that the program minted (DESIGN.md 2.1)."""

T = TypeVar("T")


class SandboxError(Exception):
    """A failure whose message tells the operator what happened and what to do next."""


def timestamp(moment: datetime) -> str:
    """Write `moment` as RFC 3339 in UTC with microseconds, as Fly does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def sha256(value: str) -> str:
    """Return the SHA-256 of `value` in hex."""
    return hashlib.sha256(value.encode()).hexdigest()


def family_of(name: str) -> str:
    """Return the family that a credential's name tells: the part before `-g<N>` of a rotated name, else the name."""
    match = ROTATED_NAME.match(name)
    return match["family"] if match else name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A number or text that changes the sandbox's behaviour, settable at start and at run time."""

    default: float | str
    description: str


SETTINGS: Final[dict[str, Setting]] = {
    "revocation_delay": Setting(default=0.0, description="seconds until a revocation bites"),
    "boot_time": Setting(default=0.0, description="seconds that a machine needs to boot, on top of its process's own"),
    "api_latency": Setting(
        default=0.0, description="seconds that every provider takes to answer, on top; not control planes and tenants"
    ),
    "check_interval": Setting(default=1.0, description="seconds between two health checks of a machine"),
    "secrets_lag": Setting(default=0.0, description="seconds until written secrets can be booted with (412 before)"),
    "rate_limits": Setting(
        default=0.0, description="1 switches the documented rate limits of Fly's machines, Neon, Resend and Stripe on"
    ),
    "restart_backoff": Setting(default=0.2, description="seconds before a crashed machine's first restart; doubles"),
    "stale_checks": Setting(
        default=0.0, description="1 keeps showing the results of the version before until the first new one"
    ),
    "proxy_patience": Setting(default=5.0, description="seconds that the proxy waits for a machine to come up"),
    "tenant.processes": Setting(
        default=50.0, description="tenants that are processes of their own; those that boot beyond run in the sandbox's"
    ),
    "tenant.unhealthy": Setting(
        default="", description="SLUG,SLUG (or APP/SLUG): the tenants of these organizations fail their check now"
    ),
    "tenant.unhealthy_on_new": Setting(
        default="",
        description="NAME:SLUG,SLUG: these tenants fail their check once booted with another value of NAME than now",
    ),
    "control_plane.unhealthy_on_new": Setting(
        default="",
        description="NAME (or APP/NAME): control planes booted with another value of NAME than now fail their check",
    ),
    "control_plane.crash_on_new": Setting(
        default="",
        description="NAME (or APP/NAME): control planes booted with another value of NAME than now exit at boot",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Credential:
    """What a provider knows of a token that it issued. The value is not among it."""

    provider: str
    family: str
    identifier: str
    name: str
    scope: dict[str, Any]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    refused_from: datetime | None
    """When the revocation bites: `revoked_at` and the delay set at that time."""
    shown_sha256: str
    """Of what the provider showed to whoever minted it, and what consumers therefore hold."""

    def live(self, now: datetime) -> bool:
        """Tell whether it is neither revoked nor expired. It may be accepted for a while after its revocation."""
        return self.revoked_at is None and not self.expired(now)

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now

    def accepted(self, now: datetime) -> bool:
        """Tell whether the provider still accepts it."""
        return not self.expired(now) and (self.refused_from is None or now < self.refused_from)


class Credentials:
    """The tokens that the providers issued, as SHA-256 of their values."""

    def __init__(self, world: World) -> None:
        self._world = world
        with world.database:
            world.database.execute(
                """
                CREATE TABLE IF NOT EXISTS credentials (
                    provider TEXT NOT NULL, identifier TEXT NOT NULL, family TEXT NOT NULL, name TEXT NOT NULL,
                    value_sha256 TEXT NOT NULL, shown_sha256 TEXT NOT NULL, scope TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT,
                    revoked_at TEXT, refused_from TEXT,
                    PRIMARY KEY (provider, identifier)
                )
                """
            )
            world.database.execute(
                "CREATE UNIQUE INDEX IF NOT EXISTS credential_values ON credentials (provider, value_sha256)"
            )

    def issue(
        self,
        *,
        provider: str,
        identifier: str,
        name: str,
        value: str,
        family: str | None = None,
        scope: dict[str, Any] | None = None,
        expires_at: datetime | None = None,
        shown: str | None = None,
    ) -> Credential:
        """Record a new token. `scope` is the provider's own note of what the token may do.

        `shown` is what the provider shows to whoever mints it, where that is more than `value` (a scheme in front).

        Without `family`, `family_of(name)`. Raises `sqlite3.IntegrityError` if the provider already issued the
        identifier or the value.
        """
        now = self._world.now()
        with self._world.database:
            self._world.database.execute(
                """
                INSERT INTO credentials
                    (provider, identifier, family, name, value_sha256, shown_sha256, scope, created_at, expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (
                    provider,
                    identifier,
                    family_of(name) if family is None else family,
                    name,
                    sha256(value),
                    sha256(value if shown is None else shown),
                    json.dumps(scope or {}),
                    timestamp(now),
                    None if expires_at is None else timestamp(expires_at),
                ),
            )
        credential = self.get(provider, identifier)
        if credential is None:
            raise AssertionError(identifier)
        return credential

    def authenticate(self, provider: str, value: str) -> Credential | None:
        """Return the credential with this value, unless it is unknown, expired, or its revocation bites already."""
        credential = self.find(provider, value)
        if credential is None or not credential.accepted(self._world.now()):
            return None
        return credential

    def find(self, provider: str, value: str) -> Credential | None:
        """Return the credential with this value, accepted or not."""
        row = self._world.database.execute(
            "SELECT * FROM credentials WHERE provider = ? AND value_sha256 = ?", (provider, sha256(value))
        ).fetchone()
        return None if row is None else _credential(row)

    def get(self, provider: str, identifier: str) -> Credential | None:
        """Return the credential with this identifier, live or not."""
        row = self._world.database.execute(
            "SELECT * FROM credentials WHERE provider = ? AND identifier = ?", (provider, identifier)
        ).fetchone()
        return None if row is None else _credential(row)

    def all(self, provider: str | None = None) -> list[Credential]:
        """Return all credentials, live or not, oldest first."""
        rows = self._world.database.execute(
            "SELECT * FROM credentials WHERE provider = coalesce(?, provider) ORDER BY created_at, rowid", (provider,)
        )
        return [_credential(row) for row in rows]

    def rename(self, identifier: str, name: str, *, provider: str, family: str | None = None) -> None:
        """Give it another name and family; without `family`, `family_of(name)`."""
        with self._world.database:
            self._world.database.execute(
                "UPDATE credentials SET name = ?, family = ? WHERE identifier = ? AND provider = ?",
                (name, family_of(name) if family is None else family, identifier, provider),
            )

    def expire(self, identifier: str, *, provider: str, at: datetime) -> None:
        """Let it end at a moment; it never postpones an earlier end."""
        with self._world.database:
            self._world.database.execute(
                """
                UPDATE credentials SET expires_at = min(coalesce(expires_at, :at), :at)
                WHERE identifier = :identifier AND provider = :provider
                """,
                {"at": timestamp(at), "identifier": identifier, "provider": provider},
            )

    def revoke(self, identifier: str, *, provider: str | None = None, at_once: bool = False) -> bool:
        """Revoke it; it is refused after the setting `revocation_delay`, or at once. Returns whether it exists.

        A repeated revocation changes nothing.
        """
        now = self._world.now()
        delay = 0.0 if at_once else self._world.number("revocation_delay")
        refused_from = now + timedelta(seconds=delay)
        with self._world.database:
            self._world.database.execute(
                """
                UPDATE credentials SET revoked_at = ?, refused_from = ?
                WHERE identifier = ? AND provider = coalesce(?, provider) AND revoked_at IS NULL
                """,
                (timestamp(now), timestamp(refused_from), identifier, provider),
            )
        row = self._world.database.execute(
            "SELECT 1 FROM credentials WHERE identifier = ? AND provider = coalesce(?, provider)",
            (identifier, provider),
        ).fetchone()
        return row is not None

    def restore(self, identifier: str, *, provider: str) -> None:
        """Undo its revocation: for providers whose users get back a credential that they had."""
        with self._world.database:
            self._world.database.execute(
                "UPDATE credentials SET revoked_at = NULL, refused_from = NULL WHERE identifier = ? AND provider = ?",
                (identifier, provider),
            )


def _credential(row: sqlite3.Row) -> Credential:
    return Credential(
        provider=row["provider"],
        family=row["family"],
        identifier=row["identifier"],
        name=row["name"],
        scope=json.loads(row["scope"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        expires_at=_moment(row["expires_at"]),
        revoked_at=_moment(row["revoked_at"]),
        refused_from=_moment(row["refused_from"]),
        shown_sha256=row["shown_sha256"],
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class World:
    """One sandbox's truth. See the module's docstring.

    Args:
        directory: The sandbox's folder.
        create: Whether to make it if it holds no sandbox; otherwise `SandboxError`.
    """

    def __init__(self, directory: Path, *, create: bool = True) -> None:
        self.directory = directory.resolve()
        path = self.directory / "world.sqlite"
        if not create and not path.exists():
            raise SandboxError(
                f"There is no sandbox in {self.directory}. Start one: python -m sandbox start --dir {directory}"
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fernet = Fernet(_read_or_create(self.directory / "vault.key", Fernet.generate_key))
        _read_or_create(path, bytes)  # SQLite would make it readable for all; its WAL takes over this file's mode
        self.database = sqlite3.connect(path, timeout=30.0)
        self.database.row_factory = sqlite3.Row
        # Every commit is kept over a kill -9: it is in the kernel's cache. Only a power cut can spoil the folder, and then
        # a sandbox is made anew, as it has to be for its PostgreSQL's sake.
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = OFF")
        with self.database:
            # Locked first: a command that opens a world which its server is making would find the schema changed under it.
            self.database.execute("BEGIN IMMEDIATE")
            for statement in (
                "CREATE TABLE IF NOT EXISTS ports (service TEXT PRIMARY KEY, port INTEGER NOT NULL)",
                "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
                "CREATE TABLE IF NOT EXISTS requests (request TEXT PRIMARY KEY, count INTEGER NOT NULL)",
                (
                    "CREATE TABLE IF NOT EXISTS request_log (number INTEGER PRIMARY KEY, at TEXT NOT NULL, provider TEXT NOT NULL,"
                    " method TEXT NOT NULL, target TEXT NOT NULL, template TEXT NOT NULL, consumer TEXT, status INTEGER,"
                    " agent TEXT, answered_at TEXT, app TEXT, about TEXT)"
                ),
                "CREATE TABLE IF NOT EXISTS breakages (at TEXT NOT NULL, consumer TEXT NOT NULL, what TEXT NOT NULL)",
            ):
                self.database.execute(statement)
            columns = {row["name"] for row in self.database.execute("PRAGMA table_info(request_log)")}
            for column in {"app", "about"} - columns:  # made by an earlier version
                self.database.execute(f"ALTER TABLE request_log ADD COLUMN {column} TEXT")
        self.credentials = Credentials(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._components: dict[Any, Any] = {}

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # -- time, sealing ------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt a value that goes into the database."""
        return self._fernet.encrypt(plaintext)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned. Raises `cryptography.fernet.InvalidToken` if it is not of this world."""
        return self._fernet.decrypt(sealed)

    def keep(self, name: str, value: str) -> None:
        """Keep a value that the operator gets from `python -m sandbox env`, sealed, under its environment name."""
        with self.database:
            self.database.execute(
                "INSERT INTO kept VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
                (name, self.seal(value.encode())),
            )

    def kept(self, name: str) -> str | None:
        """Return what `keep` was given last under this name."""
        row = self.database.execute("SELECT sealed FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else self.unseal(row["sealed"]).decode()

    # -- settings -----------------------------------------------------------------------------------------------------

    def set(self, name: str, value: str) -> None:
        """Change a setting; an empty value restores the default.

        Raises `SandboxError` for an unknown name or a value of the wrong kind.
        """
        setting = SETTINGS.get(name)
        if setting is None:
            raise SandboxError(f"There is no setting {name}. Settings: {', '.join(sorted(SETTINGS))}.")
        if value and isinstance(setting.default, float):
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if not 0 <= number < float("inf"):
                raise SandboxError(f"{name} is a number that is not negative ({setting.description}), not {value!r}.")
        with self.database:
            if value:
                self.database.execute(
                    "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (name, value),
                )
            else:
                self.database.execute("DELETE FROM settings WHERE name = ?", (name,))

    def text(self, name: str) -> str:
        """Return a setting's value. Raises `KeyError` for an unknown name."""
        row = self.database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return str(SETTINGS[name].default) if row is None else str(row["value"])

    def number(self, name: str) -> float:
        """Return a numeric setting's value; durations are in seconds. Raises `KeyError` for an unknown name."""
        return float(self.text(name))

    # -- observations -------------------------------------------------------------------------------------------------

    def record_breakage(self, consumer: str, what: str) -> None:
        """Record that something which a rotation must not break was broken. `what` holds no secret value."""
        with self.database:
            self.database.execute("INSERT INTO breakages VALUES (?, ?, ?)", (timestamp(self.now()), consumer, what))

    def breakages(self) -> list[dict[str, str]]:
        """Return all recorded breakages, oldest first."""
        return [dict(row) for row in self.database.execute("SELECT * FROM breakages ORDER BY at, rowid")]

    def record_request(
        self,
        provider: str,
        method: str,
        *,
        target: str,
        path_template: str,
        consumer: str | None = None,
        agent: str | None = None,
        app: str | None = None,
        about: str = "",
    ) -> int:
        """Count a request under `<provider> <METHOD> <path template>`, and note it. The middleware does this for every service.

        Args:
            provider: Of the service.
            method: HTTP method.
            target: The path, without its query; of GraphQL with the root fields behind it.
            path_template: The path with names for its variable parts.
            consumer: Which consumer made it; None for anybody else, above all the operator.
            agent: What it says of itself in `User-Agent`.
            app: Which Fly app it is handed to, of a request to Fly's proxy: only the port tells.
            about: What it names besides its path: its query, or of GraphQL the names and ids among its variables.

        Returns:
            Its number, for `record_status`.
        """
        with self.database:
            self.database.execute(
                "INSERT INTO requests VALUES (?, 1) ON CONFLICT (request) DO UPDATE SET count = count + 1",
                (f"{provider} {method} {path_template}",),
            )
            row = self.database.execute(
                """
                INSERT INTO request_log (at, provider, method, target, template, consumer, agent, app, about)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (timestamp(self.now()), provider, method, target, path_template, consumer, agent, app, about),
            )
        return int(row.lastrowid or 0)

    def record_status(self, number: int, status: int) -> None:
        """Note how a request was answered."""
        with self.database:
            self.database.execute(
                "UPDATE request_log SET status = ?, answered_at = ? WHERE number = ?",
                (status, timestamp(self.now()), number),
            )

    def request_log(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the requests whose number is above `after`, oldest first.

        A number is given when a request arrives; `status` is None until it is answered.
        """
        rows = self.database.execute("SELECT * FROM request_log WHERE number > ? ORDER BY number", (after,))
        return [dict(row) for row in rows]

    def requests(self) -> dict[str, int]:
        """Return the number of requests since the sandbox's creation, by `<provider> <METHOD> <path template>`."""
        return {row["request"]: row["count"] for row in self.database.execute("SELECT * FROM requests ORDER BY 1")}

    def rate_limited(self) -> dict[str, int]:
        """Return how many requests were answered 429 since the sandbox's creation, as `requests` names them; injected ones count."""
        rows = self.database.execute(
            "SELECT provider || ' ' || method || ' ' || template AS request, COUNT(*) AS count FROM request_log"
            " WHERE status = 429 GROUP BY request ORDER BY request"
        )
        return {row["request"]: row["count"] for row in rows}

    # -- ports --------------------------------------------------------------------------------------------------------

    def port(self, service: str) -> int:
        """Return the service's port, choosing a free one if it has none yet. It stays the same over restarts."""
        service = ALIASES.get(service, service)
        row = self.database.execute("SELECT port FROM ports WHERE service = ?", (service,)).fetchone()
        if row is not None:
            return int(row["port"])
        taken = {row["port"] for row in self.database.execute("SELECT port FROM ports")}
        allowed = _allowed_ports(os.environ.get(PORTS_VARIABLE, ""))
        for candidate in random.SystemRandom().sample(allowed, min(200, len(allowed))):
            if candidate in taken or not _free(candidate):
                continue
            with self.database:
                # The command line may ask for the same service's port at this moment, from a process of its own.
                self.database.execute(
                    "INSERT INTO ports VALUES (?, ?) ON CONFLICT (service) DO NOTHING", (service, candidate)
                )
            row = self.database.execute("SELECT port FROM ports WHERE service = ?", (service,)).fetchone()
            return int(row["port"])
        raise SandboxError(f"No free port found between {allowed.start} and {allowed.stop - 1} for {service}.")

    def forget_port(self, service: str) -> None:
        """Let the next `port` choose anew: for a port that was taken by others before it was ever used."""
        with self.database:
            self.database.execute("DELETE FROM ports WHERE service = ?", (service,))

    def url(self, service: str) -> str:
        """Return the service's base URL, without a slash at its end."""
        return f"http://{HOST}:{self.port(service)}"

    # -- life ---------------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a background task that is cancelled when the sandbox stops."""
        import asyncio  # noqa: PLC0415 - no command of the command line waits for it in vain

        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel_tasks(self) -> None:
        """Cancel every background task and wait until all are done."""
        import asyncio  # noqa: PLC0415

        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def component(self, kind: Callable[[World], T]) -> T:
        """Return this world's one instance of `kind`, making it at first use: for state that lives in memory only."""
        if kind not in self._components:
            self._components[kind] = kind(self)
        instance: T = self._components[kind]
        return instance


def _read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the file's content; if it is missing, create it readable by the owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        content = make()
        file.write(content)
    return content


def _allowed_ports(text: str) -> range:
    """Return the ports of `FIRST-LAST`, or all where the text is empty. Raises `SandboxError` for any other text."""
    if not text:
        return PORTS
    first, _, last = text.partition("-")
    if first.isdigit() and last.isdigit() and int(first) <= int(last) and {int(first), int(last)} <= set(PORTS):
        return range(int(first), int(last) + 1)
    raise SandboxError(
        f"{PORTS_VARIABLE} has to be FIRST-LAST, within {PORTS.start}-{PORTS.stop - 1}, and is {text!r}."
    )


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def random_token(prefix: str, length: int = 32) -> str:
    """Return a new token of `length` random bytes, URL-safe, after `prefix`."""
    return prefix + secrets.token_urlsafe(length)
