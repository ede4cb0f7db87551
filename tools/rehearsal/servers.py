"""What the real servers behind the sandbox say of a value: PostgreSQL of a database URL, Redis of its URL, the encrypted rows of a key."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import redis

from sandbox import connections
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.processes import encryption
from sandbox.world import World

COLUMNS = ("database_url_encrypted", "redis_url_encrypted")


def fly_secret(directory: Path, name: str) -> str:
    """The value that Fly has for a secret of the control plane, which no API of Fly's shows.

    Args:
        directory: The sandbox's folder.
        name: The secret.
    """
    with contextlib.closing(World(directory, create=False)) as world:
        app = apps.find(world, name=apps.CONTROL_PLANE)
        if app is None:
            raise LookupError(apps.CONTROL_PLANE)
        return next(secret.value for secret in app_secrets.snapshot(world, app) if secret.name == name)


def postgres_refuses(url: str) -> bool:
    """Whether PostgreSQL refuses a URL because of its role or password."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            return True
        raise
    return False


def redis_refuses(url: str) -> bool:
    """Whether Redis refuses a URL because of its user or password."""
    with redis.Redis.from_url(url, protocol=2) as client:
        try:
            return not client.ping()
        except redis.AuthenticationError:
            return True


def sealed_values(directory: Path) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Every encrypted value of the control plane's rows, by row and column."""
    with contextlib.closing(World(directory, create=False)) as world, connections.connect(world) as connection:
        query = "SELECT id::text, database_url_encrypted, redis_url_encrypted FROM org_instances"
        rows = connection.execute(query).fetchall()
    for row in rows:
        for column, sealed in zip(COLUMNS, row[1:], strict=True):
            if sealed is not None:
                yield (row[0], column), sealed


def plaintexts(directory: Path, key: str) -> dict[tuple[str, str], str]:
    """What the encrypted values say that decrypt with a key."""
    loaded = encryption.load_key(key.encode())
    found = {}
    for where, sealed in sealed_values(directory):
        with contextlib.suppress(encryption.UndecryptableError):
            found[where] = encryption.decrypt(loaded, sealed)
    return found


REFUSES: Mapping[str, Callable[[Path, str], bool]] = {
    "DATABASE_URL": lambda _directory, url: postgres_refuses(url),
    "TENANT_REDIS_URL": lambda _directory, url: redis_refuses(url),
    "SECRETS_ENCRYPTION_KEY": lambda directory, key: not plaintexts(directory, key),
}
