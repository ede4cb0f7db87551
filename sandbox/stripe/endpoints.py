"""Webhook endpoints and their signing secrets (providers.md 3c).

An endpoint's first secret is shown when the endpoint is made, and never again; a later one by the Dashboard, which
rolls it (`dashboard.py`). Each secret is a credential of its own: the first has the endpoint's id, a rolled one that
id with `.2`, `.3`. Their values are kept sealed, because events are signed with them.

`endpoints_api.py` serves them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sandbox import lag
from sandbox.stripe import keys
from sandbox.stripe.keys import PROVIDER, Realm
from sandbox.world import ROTATED_NAME, sha256, timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.world import Credential, World

Json = dict[str, Any]

KIND: Final = "signing secret"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where events go. `created` is in seconds since 1970."""

    id: str
    realm: Realm
    url: str
    enabled_events: tuple[str, ...]
    api_version: str | None
    description: str | None
    metadata: dict[str, str]
    connect: bool
    enabled: bool
    created: int
    deleted: bool

    def wants(self, type_: str) -> bool:
        """Tell whether events of a type go here while it is enabled."""
        return not self.connect and ("*" in self.enabled_events or type_ in self.enabled_events)

    @property
    def name(self) -> str:
        """What `inspect` calls its secrets: a rotated name in its metadata or description, else description or URL."""
        rotated = [text for text in [*self.metadata.values(), self.description or ""] if ROTATED_NAME.match(text)]
        return rotated[0] if rotated else self.description or self.url

    def document(self) -> Json:
        """Return it as the API shows it."""
        return {
            "id": self.id,
            "object": "webhook_endpoint",
            "api_version": self.api_version,
            "application": None,
            "created": self.created,
            "description": self.description,
            "enabled_events": list(self.enabled_events),
            "livemode": self.realm.livemode,
            "metadata": self.metadata,
            "status": "enabled" if self.enabled else "disabled",
            "url": self.url,
        }


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_endpoints (
                id TEXT PRIMARY KEY, account TEXT NOT NULL, livemode INTEGER NOT NULL, url TEXT NOT NULL,
                enabled_events TEXT NOT NULL, api_version TEXT, description TEXT, metadata TEXT NOT NULL,
                connect INTEGER NOT NULL, enabled INTEGER NOT NULL, created INTEGER NOT NULL, deleted_at TEXT
            )
            """
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_signing_secrets (
                credential TEXT PRIMARY KEY, endpoint TEXT NOT NULL, sealed BLOB NOT NULL
            )
            """
        )


# -- what there is -----------------------------------------------------------------------------------------------------


def listing(world: World, realm: Realm | None = None, *, deleted: bool = False) -> list[Endpoint]:
    """Return the endpoints of a realm or of all, the newest first; with `deleted` those that once were, too."""
    rows = world.database.execute("SELECT * FROM stripe_endpoints ORDER BY rowid DESC")
    found = [_endpoint(row) for row in rows]
    return [
        endpoint
        for endpoint in found
        if (realm is None or endpoint.realm == realm) and (deleted or not endpoint.deleted)
    ]


def listed(world: World, realm: Realm) -> list[Endpoint]:
    """Return the endpoints of a realm as lists show them, the newest first."""
    moment = timestamp(lag.shown(world, PROVIDER))
    rows = world.database.execute("SELECT id, deleted_at FROM stripe_endpoints").fetchall()
    there = {row["id"] for row in rows if row["deleted_at"] is None or row["deleted_at"] > moment}
    return [
        endpoint
        for endpoint in listing(world, realm, deleted=True)
        if endpoint.id in there and endpoint.created <= lag.shown(world, PROVIDER).timestamp()
    ]


def get(world: World, identifier: str) -> Endpoint | None:
    """Return an endpoint, deleted or not."""
    row = world.database.execute("SELECT * FROM stripe_endpoints WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else _endpoint(row)


def _endpoint(row: sqlite3.Row) -> Endpoint:
    return Endpoint(
        id=row["id"],
        realm=Realm(account=row["account"], livemode=bool(row["livemode"])),
        url=row["url"],
        enabled_events=tuple(json.loads(row["enabled_events"])),
        api_version=row["api_version"],
        description=row["description"],
        metadata=json.loads(row["metadata"]),
        connect=bool(row["connect"]),
        enabled=bool(row["enabled"]),
        created=row["created"],
        deleted=row["deleted_at"] is not None,
    )


def credentials(world: World, endpoint: str) -> list[Credential]:
    """Return an endpoint's signing secrets, live or not, the oldest first."""
    return [
        credential
        for credential in world.credentials.all(PROVIDER)
        if credential.scope.get("kind") == KIND and credential.scope["endpoint"] == endpoint
    ]


def secrets(world: World, endpoint: str) -> list[str]:
    """Return the values that events are signed with now, the newest first."""
    now = world.now()
    accepted = [credential for credential in credentials(world, endpoint) if credential.accepted(now)]
    return [_value(world, credential.identifier) for credential in reversed(accepted)]


def _value(world: World, credential: str) -> str:
    row = world.database.execute(
        "SELECT sealed FROM stripe_signing_secrets WHERE credential = ?", (credential,)
    ).fetchone()
    return world.unseal(row["sealed"]).decode()


# -- changes -----------------------------------------------------------------------------------------------------------


def create(
    world: World,
    *,
    realm: Realm,
    url: str,
    enabled_events: list[str],
    api_version: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    connect: bool = False,
) -> tuple[Endpoint, str]:
    """Make an endpoint and return it with its signing secret."""
    endpoint = Endpoint(
        id=keys.identifier("we_1"),
        realm=realm,
        url=url,
        enabled_events=tuple(enabled_events),
        api_version=api_version,
        description=description,
        metadata=metadata or {},
        connect=connect,
        enabled=True,
        created=int(world.now().timestamp()),
        deleted=False,
    )
    save(world, endpoint)
    return endpoint, add_secret(world, endpoint)


def save(world: World, endpoint: Endpoint) -> None:
    """Add an endpoint, or change what can be changed of it; its secrets follow its name."""
    with world.database:
        world.database.execute(
            """
            INSERT INTO stripe_endpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE SET
                url = excluded.url, enabled_events = excluded.enabled_events, description = excluded.description,
                metadata = excluded.metadata, enabled = excluded.enabled
            """,
            (
                endpoint.id,
                endpoint.realm.account,
                endpoint.realm.livemode,
                endpoint.url,
                json.dumps(endpoint.enabled_events),
                endpoint.api_version,
                endpoint.description,
                json.dumps(endpoint.metadata),
                endpoint.connect,
                endpoint.enabled,
                endpoint.created,
            ),
        )
    for credential in credentials(world, endpoint.id):
        world.credentials.rename(credential.identifier, endpoint.name, provider=PROVIDER)


def add_secret(world: World, endpoint: Endpoint) -> str:
    """Make another signing secret and return it; the ones before stay."""
    number = len(credentials(world, endpoint.id)) + 1
    identifier = endpoint.id if number == 1 else f"{endpoint.id}.{number}"
    value = keys.identifier("whsec_", 32)
    with world.database:
        world.database.execute(
            "INSERT INTO stripe_signing_secrets VALUES (?, ?, ?)", (identifier, endpoint.id, world.seal(value.encode()))
        )
    world.credentials.issue(
        provider=PROVIDER,
        identifier=identifier,
        name=endpoint.name,
        value=value,
        scope={
            "kind": KIND,
            "account": endpoint.realm.account,
            "livemode": endpoint.realm.livemode,
            "endpoint": endpoint.id,
        },
    )
    return value


def delete(world: World, endpoint: Endpoint) -> None:
    """Delete an endpoint and end its secrets."""
    with world.database:
        world.database.execute(
            "UPDATE stripe_endpoints SET deleted_at = ? WHERE id = ?", (timestamp(world.now()), endpoint.id)
        )
    for credential in credentials(world, endpoint.id):
        world.credentials.revoke(credential.identifier, provider=PROVIDER)


def inspect(world: World) -> list[Json]:
    """Return the endpoints that are not deleted, the oldest first, with the SHA-256 of their accepted secrets."""
    return [
        {
            "id": endpoint.id,
            "account": endpoint.realm.account,
            "livemode": endpoint.realm.livemode,
            "url": endpoint.url,
            "enabled_events": list(endpoint.enabled_events),
            "status": "enabled" if endpoint.enabled else "disabled",
            "secrets_sha256": [sha256(value) for value in secrets(world, endpoint.id)],
        }
        for endpoint in reversed(listing(world))
    ]
