"""What a rotation must never break, looked at all the time by the sandbox itself.

After every request that may have changed something, and several times a second (at light environments only once a second), the
checker looks at every place that holds a credential and at every provider. What it finds is kept for good, so that a moment of
it is not missed by who only looks at the end:

- **works**: every machine, and every repository's Actions secrets, hold credentials that their provider accepts at that moment.
- **held**: no credential is revoked (also not one whose revocation has yet to bite) while an app, a machine or a repository holds it.
- **two**: of one family no more than two credentials are live. Hand-made ones have a family each, and count for none.

Whoever breaks one on purpose finds it noted all the same: a strategy that resets a password in place (`works`, `held`), a third
credential after two rotations of which none was finished (`two`), a secret that somebody overwrote by hand with nonsense (`works`).

A violation names places, credentials and families, never a value. Passwords of PostgreSQL are compared with the verifiers that it
keeps, and not by connecting: a verification asks the server who is connected as which role.

Not looked at: `SECRETS_ENCRYPTION_KEY`, which no provider accepts or refuses, and what the machines of tenants hold but for `REDIS_URL`.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from sandbox import connections, environments
from sandbox.fly import apps, machines
from sandbox.fly import secrets as app_secrets
from sandbox.github import secret_stores, store
from sandbox.upstash import acl, databases
from sandbox.world import ROTATED_NAME, sha256, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sandbox.world import Credential, World

WORKS: Final = "works"
HELD: Final = "held"
TWO: Final = "two"
MOST_OF_A_FAMILY: Final = 2
INTERVAL: Final = 0.25
"""Seconds between two looks that no request causes: machines boot and end by themselves."""
LIGHT_INTERVAL: Final = 1.0
"""The same of light environments, at which nobody looks after requests: a look at a hundred takes 0.05 s."""
PROVIDERS: Final = {
    "FLY_API_TOKEN": "fly",
    "NEON_API_KEY": "neon",
    "RESEND_API_KEY": "resend",
    "STRIPE_API_KEY": "stripe",
    "STRIPE_WEBHOOK_SECRET": "stripe",
}
"""Who accepts the value of a variable."""
DATABASE_URL: Final = "DATABASE_URL"
REDIS_URLS: Final = frozenset({"TENANT_REDIS_URL", "REDIS_URL"})


@dataclass(frozen=True, kw_only=True)
class Held:
    """A value in a place. `consumer` is false where nobody works with it yet: an app's secrets are what machines boot with next."""

    place: str
    name: str
    value: str
    consumer: bool


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS violations (
                at TEXT NOT NULL, invariant TEXT NOT NULL, what TEXT NOT NULL, PRIMARY KEY (invariant, what)
            )
            """
        )


def listing(world: World) -> list[dict[str, str]]:
    """Return every violation with the moment at which it was first seen, oldest first."""
    return [dict(row) for row in world.database.execute("SELECT * FROM violations ORDER BY at, rowid")]


class Checker:
    """Looks at the invariants; see the module's docstring."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: set[tuple[str, str]] = set()
        self._changes = -1
        self._light = all(environment.light for environment in environments.of(world))
        self._verifiers: tuple[object, dict[str, str]] = (None, {})

    async def watch(self) -> None:
        """Look whenever something has changed, until it is cancelled."""
        while True:
            if self._world.database.total_changes != self._changes:
                self.look()
                self._changes = self._world.database.total_changes
            await asyncio.sleep(LIGHT_INTERVAL if self._light else INTERVAL)

    def after_change(self) -> None:
        """Look after a request that may have changed something."""
        if not self._light:
            self.look(tenants=False)

    def look(self, *, tenants: bool = True) -> None:
        """Look once. Without `tenants` their machines are left out: there may be a thousand, and requests should not wait for that."""
        issued = self._world.credentials.all()
        found = [*_too_many(issued), *self._broken(_held(self._world, tenants=tenants), issued)]
        for violation in found:
            if violation not in self._seen:
                self._seen.add(violation)
                invariant, what = violation
                with self._world.database:
                    self._world.database.execute(
                        "INSERT OR IGNORE INTO violations VALUES (?, ?, ?)",
                        (timestamp(self._world.now()), invariant, what),
                    )

    def _broken(self, held: Iterable[Held], issued: Iterable[Credential]) -> Iterator[tuple[str, str]]:
        credentials = {(each.provider, each.shown_sha256): each for each in issued}
        now, redis_takes, verifiers = self._world.now(), self._passwords_of_redis(), self._passwords_of_postgres()
        for each in held:
            if each.name in PROVIDERS:
                provider = PROVIDERS[each.name]
                credential = credentials.get((provider, sha256(each.value)))
                if credential is None:
                    works, which = False, "a value that it never issued"
                else:
                    works, which = credential.accepted(now), f"{credential.name} ({credential.identifier})"
                    if credential.revoked_at is not None:
                        yield HELD, f"{which} of {provider} is revoked, and is {each.name} of {each.place}"
            elif each.name == DATABASE_URL:
                # A server that does not answer refuses nobody.
                works = verifiers is None or _database_accepts(verifiers, each.value)
                which, provider = _user(each.value), "PostgreSQL"
            elif each.name in REDIS_URLS:
                works, which, provider = _redis_login(each.value) in redis_takes, _user(each.value), "Redis"
            else:
                continue
            if each.consumer and not works:
                yield WORKS, f"{each.name} of {each.place} is refused by {provider}: {which}"

    def _passwords_of_postgres(self) -> Mapping[str, str] | None:
        """What the server keeps of each role's password; None if it does not answer. Asked anew only when roles may have changed."""
        roles = self._world.database.execute("SELECT name, branch, updated_at FROM neon_roles").fetchall()
        pending = self._world.database.execute("SELECT count(*), max(id) FROM neon_changes").fetchone()
        stamp = ([tuple(row) for row in roles], tuple(pending))
        known, verifiers = self._verifiers
        if known != stamp:
            try:
                with connections.connect(self._world) as connection:
                    query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"
                    verifiers = {str(name): str(kept) for name, kept in connection.execute(query)}
            except connections.Error:
                return None
            self._verifiers = (stamp, verifiers)
        return verifiers

    def _passwords_of_redis(self) -> set[tuple[int, str, str]]:
        """Every user that is on, with its server's port and the SHA-256 of each of its passwords.

        Asked once a look: a thousand tenants hold the same.
        """
        return {
            (self._world.port(environments.redis_of(self._world, database.id)), name, rule.removeprefix("#"))
            for database in databases.all_of(self._world)
            for name, rules in acl.known(self._world, database.id).items()
            if "on" in rules
            for rule in rules
            if rule.startswith("#")
        }


def _held(world: World, *, tenants: bool) -> Iterator[Held]:
    """Every value in every place."""
    for environment in environments.of(world):
        app = apps.find(world, name=environment.app)
        if app is None:
            continue
        for name, value in _secrets(world, app, app_secrets.newest(world, app)).items():
            yield Held(place=f"Fly app {app.name}", name=name, value=value, consumer=False)
        yield from _held_by_machines(world, app.name)
        if tenants:
            yield from _held_by_machines(world, environment.tenant_app, only="REDIS_URL")
    for place, store_name in _secret_stores(world):
        for name, value in secret_stores.values(world, store_name).items():
            yield Held(place=place, name=name, value=value, consumer=True)


def _secret_stores(world: World) -> Iterator[tuple[str, str]]:
    """Every place at GitHub that holds secrets, with the name of its store."""
    for repository in store.repositories(world.database):
        yield f"repository {repository.full_name}", secret_stores.repository_store(repository, "actions")
        yield f"Dependabot of {repository.full_name}", secret_stores.repository_store(repository, "dependabot")
        for row in store.environments(world.database, repository=repository):
            yield f"environment {row['name']} of {repository.full_name}", secret_stores.environment_store(row["id"])
    for organization in store.organizations(world.database):
        yield f"organization {organization.login}", secret_stores.organization_store(organization, "actions")
        yield f"Dependabot of {organization.login}", secret_stores.organization_store(organization, "dependabot")


def _held_by_machines(world: World, app: str, *, only: str = "") -> Iterator[Held]:
    rows = world.database.execute(
        "SELECT id, booted FROM fly_machines WHERE app = ? AND state NOT IN ('destroying', 'destroyed')", (app,)
    )
    for row in rows.fetchall():
        for variable, value in _unsealed(world, row["booted"]).items():
            if only in {"", variable}:
                yield Held(place=f"machine {app}/{row['id']}", name=variable, value=value, consumer=True)


@functools.lru_cache(maxsize=512)
def _secrets(world: World, app: apps.App, version: int) -> Mapping[str, str]:
    """What an app's secrets were as of a version never changes, and there may be a hundred apps."""
    return {secret.name: secret.value for secret in app_secrets.snapshot(world, app, version)}


@functools.lru_cache(maxsize=2048)
def _unsealed(world: World, sealed: bytes) -> Mapping[str, Any]:
    """The same environment is looked at many times, and there may be a thousand."""
    return machines.unseal(world, sealed)


def _too_many(credentials: Iterable[Credential]) -> Iterator[tuple[str, str]]:
    live = Counter(
        each.family for each in credentials if each.revoked_at is None and ROTATED_NAME.match(each.name) is not None
    )
    for family, count in live.items():
        if count > MOST_OF_A_FAMILY:
            yield TWO, f"{count} credentials of the family {family} are live"


@functools.lru_cache(maxsize=256)
def _redis_login(url: str) -> tuple[int, str, str]:
    """Of a Redis URL: the port, the user, and the SHA-256 of the password."""
    parts = urlsplit(url)
    user = unquote(parts.username or "") or acl.DEFAULT
    return parts.port or 0, user, sha256(unquote(parts.password or ""))


def _user(url: str) -> str:
    return f"user {unquote(urlsplit(url).username or '') or acl.DEFAULT}"


def _database_accepts(verifiers: Mapping[str, str], url: str) -> bool:
    """Whether the server takes role and password."""
    parts = urlsplit(url)
    return _fits(unquote(parts.password or ""), verifiers.get(unquote(parts.username or ""), ""))


@functools.lru_cache(maxsize=4096)
def _fits(password: str, verifier: str) -> bool:
    """Whether a password is that of a SCRAM-SHA-256 verifier of PostgreSQL (RFC 5802, section 3; PostgreSQL, "pg_authid")."""
    try:
        _, rounds_and_salt, keys = verifier.split("$")
        rounds, salt = rounds_and_salt.split(":")
        stored, _ = keys.split(":")
    except ValueError:
        return False
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client).digest(), base64.b64decode(stored))
