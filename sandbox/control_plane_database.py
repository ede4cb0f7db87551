"""Where the control plane keeps its organizations: stands in for its PostgreSQL.

All control-plane machines share it. Only they know its address (`CONTROL_PLANE_DATABASE_URL` in their environment).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import switches
from sandbox.world import sha256, timestamp

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

    from sandbox.world import World

_COLUMNS: Final = ("status", "machine", "purge", "branch")
_LATER_COLUMNS: Final = {"branch": "TEXT", "owner_email": "TEXT NOT NULL DEFAULT ''"}
"""What sandboxes made before do not have yet."""


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS control_plane_organizations (
                id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, owner TEXT NOT NULL,
                status TEXT NOT NULL, machine TEXT, purge TEXT, created_at TEXT NOT NULL
            )
            """
        )
        world.database.execute("CREATE TABLE IF NOT EXISTS control_plane_sessions (value_sha256 TEXT PRIMARY KEY)")
        world.database.execute(
            "CREATE TABLE IF NOT EXISTS control_plane_customers (organization TEXT PRIMARY KEY, customer TEXT NOT NULL)"
        )
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS control_plane_events (
                id TEXT PRIMARY KEY, type TEXT NOT NULL, received_at TEXT NOT NULL, copies INTEGER NOT NULL
            )
            """
        )
        present = {row["name"] for row in world.database.execute("PRAGMA table_info(control_plane_organizations)")}
        for name, kind in _LATER_COLUMNS.items():
            if name not in present:
                world.database.execute(f"ALTER TABLE control_plane_organizations ADD COLUMN {name} {kind}")


def add_session(world: World, value: str) -> None:
    """Sign a user in: `value` is the cookie `mcp_session`."""
    with world.database:
        world.database.execute("INSERT INTO control_plane_sessions VALUES (?)", (sha256(value),))


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `control_plane` in `inspect`: Stripe's events that were accepted, and how often each came."""
    rows = world.database.execute("SELECT * FROM control_plane_events ORDER BY received_at, rowid")
    return {"events": [{"id": row["id"], "type": row["type"], "copies": row["copies"]} for row in rows]}


def application(world: World) -> Starlette:
    """Return the service: rows by slug, 404 for none, 409 for a slug in use."""
    database = world.database

    def row_of(slug: str) -> dict[str, Any] | None:
        row: sqlite3.Row | None = database.execute(
            "SELECT * FROM control_plane_organizations WHERE slug = ?", (slug,)
        ).fetchone()
        return None if row is None else dict(row)

    async def insert(request: Request) -> Response:
        body = await request.json()
        if row_of(body["slug"]) is not None:
            return JSONResponse({"error": "slug is taken"}, 409)
        with database:
            database.execute(
                """
                INSERT INTO control_plane_organizations (id, slug, name, owner, owner_email, status, created_at)
                VALUES (?, ?, ?, ?, ?, 'provisioning', ?)
                """,
                (
                    str(uuid.uuid4()),
                    body["slug"],
                    body["name"],
                    body["owner"],
                    body.get("owner_email", ""),
                    timestamp(world.now()),
                ),
            )
        return JSONResponse(row_of(body["slug"]), 201)

    async def select_all(request: Request) -> Response:
        rows = database.execute(
            "SELECT * FROM control_plane_organizations ORDER BY created_at DESC LIMIT ?",
            (int(request.query_params.get("limit", "500")),),
        )
        return JSONResponse([dict(row) for row in rows.fetchall()])

    async def select(request: Request) -> Response:
        row = row_of(request.path_params["slug"])
        return JSONResponse({"error": "no such row"}, 404) if row is None else JSONResponse(row)

    async def update(request: Request) -> Response:
        slug, body = request.path_params["slug"], await request.json()
        values = {name: body[name] for name in _COLUMNS if name in body}
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        with database:
            database.execute(
                f"UPDATE control_plane_organizations SET {assignments} WHERE slug = :slug",  # noqa: S608 - _COLUMNS
                {**values, "slug": slug},
            )
        return await select(request)

    async def delete(request: Request) -> Response:
        with database:
            database.execute("DELETE FROM control_plane_organizations WHERE slug = ?", (request.path_params["slug"],))
        return Response(status_code=204)

    async def session(request: Request) -> Response:
        known = database.execute(
            "SELECT 1 FROM control_plane_sessions WHERE value_sha256 = ?", (request.path_params["digest"],)
        ).fetchone()
        return JSONResponse({}, 200 if known else 404)

    async def failures(_request: Request) -> Response:
        return JSONResponse(switches.document(world))

    return Starlette(
        routes=[
            Route("/organizations", insert, methods=["POST"]),
            Route("/organizations", select_all, methods=["GET"]),
            Route("/organizations/{slug}", select, methods=["GET"]),
            Route("/organizations/{slug}", update, methods=["PATCH"]),
            Route("/organizations/{slug}", delete, methods=["DELETE"]),
            Route("/sessions/{digest}", session, methods=["GET"]),
            *_billing(world),
            Route("/switches", failures, methods=["GET"]),
        ]
    )


def _billing(world: World) -> list[Route]:
    """Return the routes of organizations' customers at Stripe and of Stripe's events."""
    database = world.database

    async def customer(request: Request) -> Response:
        row = database.execute(
            "SELECT * FROM control_plane_customers WHERE organization = ?", (request.path_params["organization"],)
        ).fetchone()
        return JSONResponse({"error": "no such row"}, 404) if row is None else JSONResponse(dict(row))

    async def set_customer(request: Request) -> Response:
        body = await request.json()
        with database:
            database.execute(
                "INSERT OR REPLACE INTO control_plane_customers VALUES (?, ?)",
                (request.path_params["organization"], body["customer"]),
            )
        return await customer(request)

    async def delete_customer(request: Request) -> Response:
        with database:
            database.execute(
                "DELETE FROM control_plane_customers WHERE organization = ?", (request.path_params["organization"],)
            )
        return Response(status_code=204)

    async def add_event(request: Request) -> Response:
        """Record an event: 201, or 200 for one that is there already."""
        body = await request.json()
        with database:
            row = database.execute(
                """
                INSERT INTO control_plane_events VALUES (?, ?, ?, 1)
                ON CONFLICT (id) DO UPDATE SET copies = copies + 1 RETURNING copies
                """,
                (body["id"], body["type"], timestamp(world.now())),
            ).fetchone()
        return JSONResponse({}, 201 if row["copies"] == 1 else 200)

    return [
        Route("/customers/{organization}", customer, methods=["GET"]),
        Route("/customers/{organization}", set_customer, methods=["PUT"]),
        Route("/customers/{organization}", delete_customer, methods=["DELETE"]),
        Route("/events", add_event, methods=["POST"]),
    ]
