"""Asks a Redis server over TCP, as its consumers do. No Pulumi here; redis-py is imported only when it is asked.

Messages never carry the URL or what redis-py says of a connection: both may hold the password.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from components.calls import ApiError, conceal
from components.upstash import SYSTEM

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT = 15  # seconds to connect, and for one answer
PROBE_LIFETIME = 60  # seconds after which Redis itself deletes a probe's key, should the probe be killed


def password_of(url: str) -> str:
    """The password of a Redis URL."""
    return unquote(urlsplit(url).password or "")


def accepts(url: str) -> bool:
    """Whether the server takes user and password of this URL.

    Raises:
        ApiError: There was no answer, or one that proves neither.
    """
    from redis.exceptions import AuthenticationError, NoPermissionError  # noqa: PLC0415

    with _errors(url, "authenticate"), _client(url) as client:
        try:
            # Connects and authenticates.
            connection = client.connection_pool.get_connection()
        except (AuthenticationError, NoPermissionError):
            return False
        client.connection_pool.release(connection)
        try:
            client.ping()
        except NoPermissionError:  # it is in; it may do little
            return True
        except AuthenticationError:  # NOAUTH: it never was
            return False
    return True


def assert_reads_and_writes(url: str, key: str, value: str) -> None:
    """Writes a key, reads it and deletes it again.

    Raises:
        ApiError: The server refused one of that, or did not answer.
    """
    with _errors(url, f"use key {key}"), _client(url) as client:
        client.set(key, value, ex=PROBE_LIFETIME)
        try:
            read = client.get(key)
        finally:
            client.delete(key)
        if read != value:
            raise ApiError(SYSTEM, f"use key {key}", status=None, reason="it holds something else than was written")


@contextmanager
def other_connections(url: str) -> Iterator[Callable[[], int]]:
    """Gives a function that counts the server's connections of this URL's user, less its own.

    Raises:
        ApiError: With status 400 where the server refuses to list them, or does not say whose they are.
    """
    operation = "list the connections of the server"
    with _errors(url, operation), _client(url) as client:
        user = unquote(urlsplit(url).username or "") or "default"
        own = str(client.client_id())

        def count() -> int:
            with _errors(url, operation):
                listed: list[dict[str, Any]] = client.client_list()
            if not all("user" in each for each in listed):
                raise ApiError(
                    SYSTEM, operation, status=HTTPStatus.BAD_REQUEST, reason="it does not say whose they are"
                )
            return sum(each["user"] == user and str(each.get("id")) != own for each in listed)

        yield count


@contextmanager
def _client(url: str) -> Iterator["Redis"]:
    """A client that keeps one connection, says nothing of itself and tries nothing twice."""
    from redis import Redis  # noqa: PLC0415 - every update would pay for it

    client = Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        retry=None,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        single_connection_client=False,
        max_connections=1,
        driver_info=None,
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _errors(url: str, operation: str) -> Iterator[None]:
    """Turns what redis-py raises into ApiError. `from None`: the original carries the connection with its password."""
    from redis.exceptions import RedisError, ResponseError  # noqa: PLC0415

    try:
        yield
    except ResponseError as error:
        # What the server says is worth reading, less what it may repeat.
        reason = conceal(f"{type(error).__name__}: {error}", _concealed(url))
        raise ApiError(SYSTEM, operation, status=HTTPStatus.BAD_REQUEST, reason=reason) from None
    except (RedisError, OSError, ValueError) as error:
        raise ApiError(SYSTEM, operation, status=None, reason=type(error).__name__) from None


def _concealed(url: str) -> tuple[str, ...]:
    try:
        return (url, urlsplit(url).password or "", password_of(url))
    except ValueError:
        return (url,)
