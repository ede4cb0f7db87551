"""What belongs to a realm and is shown as it was made: customers, checkout sessions, subscriptions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import missing
from sandbox.stripe.keys import Realm

if TYPE_CHECKING:
    import sqlite3

    from sandbox.world import World

Json = dict[str, Any]


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_objects (
                id TEXT PRIMARY KEY, account TEXT NOT NULL, livemode INTEGER NOT NULL, kind TEXT NOT NULL,
                document TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0
            )
            """
        )


def save(world: World, realm: Realm, document: Json) -> None:
    """Add an object, or replace it."""
    with world.database:
        world.database.execute(
            """
            INSERT INTO stripe_objects (id, account, livemode, kind, document) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET document = excluded.document
            """,
            (document["id"], realm.account, realm.livemode, document["object"], json.dumps(document)),
        )


def delete(world: World, identifier: str) -> None:
    """Delete an object: lists leave it out, and `find` returns that it is deleted."""
    with world.database:
        world.database.execute("UPDATE stripe_objects SET deleted = 1 WHERE id = ?", (identifier,))


def find(world: World, realm: Realm, kind: str, identifier: str, *, param: str = "id", status: int = 404) -> Json:
    """Return an object; of a deleted one only `id`, `object` and `deleted`. Raises `StripeError` if it never was."""
    row: sqlite3.Row | None = world.database.execute(
        "SELECT * FROM stripe_objects WHERE id = ? AND kind = ? AND account = ?", (identifier, kind, realm.account)
    ).fetchone()
    if row is None:
        raise missing(kind, identifier, param=param, status=status)
    if bool(row["livemode"]) != realm.livemode:
        other = Realm(account=realm.account, livemode=not realm.livemode).mode
        note = f"; a similar object exists in {other} mode, but a {realm.mode} mode key was used to make this request."
        raise missing(kind, identifier, param=param, status=status, note=note)
    if row["deleted"]:
        return {"id": identifier, "object": kind, "deleted": True}
    document: Json = json.loads(row["document"])
    return document


def listing(world: World, realm: Realm, kind: str) -> list[Json]:
    """Return a realm's objects of a kind that are not deleted, the newest first."""
    rows = world.database.execute(
        """
        SELECT document FROM stripe_objects WHERE account = ? AND livemode = ? AND kind = ? AND NOT deleted
        ORDER BY rowid DESC
        """,
        (realm.account, realm.livemode, kind),
    )
    return [json.loads(row["document"]) for row in rows]
