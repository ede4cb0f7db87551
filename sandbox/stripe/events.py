"""Events: what happened in a realm, who is told, and whether anybody heard.

An event is made for whatever the API or the Dashboard changes, and for what `python -m sandbox stripe emit` makes up. It
is due at every enabled endpoint that wants its type when it happens; `deliveries.py` sends it there.

An event is **lost** if nobody ever accepted it, no retry is pending, and somebody wanted it: an endpoint of its realm,
one that is deleted or disabled by now included, for whoever deletes the only endpoint hears nothing of what happens next.
If the control plane's was among them, the loss is recorded as a breakage of the control plane.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sandbox import environments
from sandbox.stripe import endpoints, keys
from sandbox.stripe.errors import missing
from sandbox.stripe.keys import API_VERSION, Realm
from sandbox.stripe.wire import PAGE, Operation
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from sandbox.stripe.wire import Call
    from sandbox.world import World

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened. `document` is as the API shows it, without `pending_webhooks`."""

    id: str
    realm: Realm
    type: str
    document: Json


def install(world: World) -> None:
    """Create the tables.

    A delivery is pending while it has a `next_at`. `wanted` and `control_plane` say who would have had to be told.
    """
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_events (
                id TEXT PRIMARY KEY, account TEXT NOT NULL, livemode INTEGER NOT NULL, type TEXT NOT NULL,
                document TEXT NOT NULL, wanted INTEGER NOT NULL, control_plane INTEGER NOT NULL, lost_at TEXT
            )
            """
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_deliveries (
                event TEXT NOT NULL, endpoint TEXT NOT NULL, accepted INTEGER NOT NULL DEFAULT 0, next_at TEXT,
                PRIMARY KEY (event, endpoint)
            )
            """
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_attempts (
                event TEXT NOT NULL, endpoint TEXT NOT NULL, at TEXT NOT NULL, status INTEGER, failure TEXT,
                signatures INTEGER NOT NULL
            )
            """
        )


def record(
    world: World,
    realm: Realm,
    *,
    type_: str,
    subject: Json,
    previous: Mapping[str, Any] | None = None,
    origin: Json | None = None,
) -> Event:
    """Record an event and at whom it is due; `deliveries.emit` sends it, too.

    Args:
        world: The world.
        realm: Where it happened.
        type_: Its type, such as `customer.created`.
        subject: The object after it.
        previous: The changed members' values before it, for an update.
        origin: `id` and `idempotency_key` of the request that caused it, if one did.
    """
    data: Json = {"object": subject}
    if previous is not None:
        data["previous_attributes"] = dict(previous)
    event = Event(
        id=keys.identifier("evt_1"),
        realm=realm,
        type=type_,
        document={
            "id": "",
            "object": "event",
            "api_version": API_VERSION,
            "created": int(world.now().timestamp()),
            "data": data,
            "livemode": realm.livemode,
            "request": origin or {"id": None, "idempotency_key": None},
            "type": type_,
        },
    )
    event.document["id"] = event.id
    wanting = [endpoint for endpoint in endpoints.listing(world, realm, deleted=True) if endpoint.wants(type_)]
    at = timestamp(world.now())
    with world.database:
        world.database.execute(
            "INSERT INTO stripe_events VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                event.id,
                realm.account,
                realm.livemode,
                type_,
                json.dumps(event.document),
                bool(wanting),
                any(environments.of_url(world, endpoint.url) is not None for endpoint in wanting),
            ),
        )
        world.database.executemany(
            "INSERT INTO stripe_deliveries (event, endpoint, next_at) VALUES (?, ?, ?)",
            [(event.id, endpoint.id, at) for endpoint in wanting if endpoint.enabled and not endpoint.deleted],
        )
    settle(world, event.id)
    return event


def get(world: World, identifier: str) -> Event | None:
    """Return an event."""
    row = world.database.execute("SELECT * FROM stripe_events WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else _event(row)


def _event(row: sqlite3.Row) -> Event:
    return Event(
        id=row["id"],
        realm=Realm(account=row["account"], livemode=bool(row["livemode"])),
        type=row["type"],
        document=json.loads(row["document"]),
    )


def rendered(world: World, event: Event, *, api_version: str | None = None) -> Json:
    """Return an event as the API and deliveries show it. The version is only named: objects look the same in each."""
    pending = world.database.execute(
        "SELECT count(*) FROM stripe_deliveries WHERE event = ? AND NOT accepted", (event.id,)
    ).fetchone()[0]
    return {
        **event.document,
        "api_version": api_version or event.document["api_version"],
        "pending_webhooks": pending,
    }


def settle(world: World, identifier: str) -> None:
    """Note that an event is lost if it is; see the module's docstring. A loss is noted once."""
    row = world.database.execute("SELECT * FROM stripe_events WHERE id = ?", (identifier,)).fetchone()
    hope = world.database.execute(
        "SELECT 1 FROM stripe_deliveries WHERE event = ? AND (accepted OR next_at IS NOT NULL)", (identifier,)
    ).fetchone()
    if hope is not None or not row["wanted"] or row["lost_at"] is not None:
        return
    with world.database:
        world.database.execute(
            "UPDATE stripe_events SET lost_at = ? WHERE id = ?", (timestamp(world.now()), identifier)
        )
    if row["control_plane"]:
        realm = Realm(account=row["account"], livemode=bool(row["livemode"]))
        wanting = endpoints.listing(world, realm, deleted=True)
        told = [environments.of_url(world, endpoint.url) for endpoint in wanting if endpoint.wants(row["type"])]
        app = next((each.app for each in told if each is not None), environments.DEFAULT.app)
        world.record_breakage(app, f"stripe event {identifier} ({row['type']}) was never accepted")


def inspect(world: World) -> list[Json]:
    """Return every event with every attempt to deliver it, the oldest first.

    An attempt's `status` is the answer's; without one it is `None`, and `failure` says why. `pending` counts the
    endpoints at which the event is still due.
    """
    attempts: dict[str, list[Json]] = {}
    for row in world.database.execute("SELECT * FROM stripe_attempts ORDER BY rowid"):
        attempts.setdefault(row["event"], []).append(
            {key: row[key] for key in ("endpoint", "status", "failure", "at", "signatures")}
        )
    rows = world.database.execute(
        """
        SELECT e.*, coalesce(max(d.accepted), 0) AS accepted, count(d.next_at) AS pending
        FROM stripe_events e LEFT JOIN stripe_deliveries d ON d.event = e.id GROUP BY e.id ORDER BY e.rowid
        """
    )
    return [
        {
            "id": row["id"],
            "type": row["type"],
            "livemode": bool(row["livemode"]),
            "deliveries": attempts.get(row["id"], []),
            "accepted": bool(row["accepted"]),
            "pending": row["pending"],
            "lost": row["lost_at"] is not None,
        }
        for row in rows
    ]


# -- the API -----------------------------------------------------------------------------------------------------------


def _list(call: Call) -> Json:
    type_, types = call.text("type"), call.texts("types")
    rows = call.world.database.execute(
        "SELECT * FROM stripe_events WHERE account = ? AND livemode = ? ORDER BY rowid DESC",
        (call.realm.account, call.realm.livemode),
    )
    found = [
        rendered(call.world, event)
        for event in map(_event, rows.fetchall())
        if (type_ is None or _matches(event.type, type_)) and (not types or event.type in types)
    ]
    return call.page("event", found, "/v1/events")


def _matches(type_: str, pattern: str) -> bool:
    """Tell whether a type is the one asked for, or of the group that ends in `*` (API reference, "List all events")."""
    return type_.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else type_ == pattern


def _get(call: Call) -> Json:
    event = get(call.world, call.path("id"))
    if event is None or event.realm != call.realm:
        raise missing("event", call.path("id"))
    return rendered(call.world, event)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/events",
        permission="rak_event_read",
        handler=_list,
        parameters=PAGE | {"type", "types"},
    ),
    Operation(method="GET", path="/v1/events/{id}", permission="rak_event_read", handler=_get),
)
