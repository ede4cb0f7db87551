"""A small client of Redis' protocol (RESP2), blocking, on the standard library alone.

Written by hand because there are many tenants: importing the `redis` package costs a process 15 MB and several times what
all else of a tenant takes to start; this costs it less than 1 MB. Source of the protocol: Redis documentation, "Redis
serialization protocol specification".
"""

from __future__ import annotations

import socket
import threading
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Reply: TypeAlias = "bytes | int | RedisError | list[Reply] | None"
TIMEOUT = 5.0
"""Seconds until a connection or an answer must have come."""
PORT = 6379


class RedisError(Exception):
    """An error that Redis answered; its text starts with a code such as `WRONGPASS`."""

    @property
    def code(self) -> str:
        """The error's first word."""
        return str(self).partition(" ")[0]


REFUSALS = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})
"""Codes of errors whose reason is the credential."""


class Address(NamedTuple):  # a dataclass would cost each process the import of `inspect`
    """What a `redis://` URL says. `password` is never shown."""

    host: str
    port: int
    user: str
    password: str
    database: int

    def __repr__(self) -> str:
        return f"Address({self.user}@{self.host}:{self.port}/{self.database})"


def parse(url: str) -> Address:
    """Read a URL `redis://user:password@host:port/database`; all but the host may be missing.

    Raises `ValueError` for anything else. `rediss://` is refused, too: the sandbox has no TLS.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "redis" or not parts.hostname:
        raise ValueError("not a redis:// URL")  # never the URL itself: it holds the password
    try:
        return Address(
            host=parts.hostname,
            port=parts.port or PORT,
            user=urllib.parse.unquote(parts.username or "") or "default",
            password=urllib.parse.unquote(parts.password or ""),
            database=int(parts.path.strip("/") or 0),
        )
    except ValueError:
        raise ValueError("not a redis:// URL") from None


class Connection:
    """One connection. Raises `OSError` if it cannot be made; a context manager that closes it."""

    def __init__(self, host: str, port: int, *, timeout: float = TIMEOUT) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._answers.close()
        self._socket.close()

    def call(self, *words: str | bytes) -> Reply:
        """Send a command and return its reply.

        Raises:
            RedisError: Redis refused the command.
            OSError: The connection ended, or no answer came in time.
        """
        self._socket.sendall(_command(words))
        reply = self._reply()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def authenticate(self, user: str, password: str) -> None:
        """Authenticate; raises as `call` does."""
        self.call("AUTH", user, password)

    def _line(self) -> bytes:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection")
        return line[:-2]

    def _reply(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode(errors="replace"))
        if kind not in {b":", b"$", b"*"}:
            raise ConnectionAbortedError("what answers is no Redis")
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"*":
            return [self._reply() for _ in range(number)]
        content = self._answers.read(number + 2)
        if len(content) != number + 2:
            raise ConnectionResetError("Redis closed the connection")
        return content[:-2]


def _command(words: Sequence[str | bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        content = word.encode() if isinstance(word, str) else word
        parts.append(b"$%d\r\n%b\r\n" % (len(content), content))
    return b"".join(parts)


class Client:
    """Uses one address from many threads: connects at first use, keeps the connection, replaces a dropped one once."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def call(self, *words: str | bytes) -> Reply:
        """Send a command and return its reply; raises as `Connection.call` does, also for a refused authentication.

        A command whose answer was lost is sent again: use only what may be done twice.
        """
        with self._lock:
            kept = self._connection is not None
            try:
                return self._call(words)
            except OSError:
                if not kept:
                    raise
                return self._call(words)

    def connect(self) -> None:
        """Connect and authenticate, unless that is done; raises as `call` does."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()

    def close(self) -> None:
        """Close the connection, if there is one; another call makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _call(self, words: Sequence[str | bytes]) -> Reply:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection.call(*words)
        except OSError:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise

    def _connect(self) -> Connection:
        address = self._address
        connection = Connection(address.host, address.port)
        try:
            if address.password:
                connection.authenticate(address.user, address.password)
            if address.database:
                connection.call("SELECT", str(address.database))
        except BaseException:
            connection.close()
            raise
        return connection
