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

_COLUMNS: Final = ("status", "machine", "purge")


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


def add_session(world: World, value: str) -> None:
    """Sign a user in: `value` is the cookie `mcp_session`."""
    with world.database:
        world.database.execute("INSERT INTO control_plane_sessions VALUES (?)", (sha256(value),))


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
                "INSERT INTO control_plane_organizations VALUES (?, ?, ?, ?, 'provisioning', NULL, NULL, ?)",
                (str(uuid.uuid4()), body["slug"], body["name"], body["owner"], timestamp(world.now())),
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
            Route("/switches", failures, methods=["GET"]),
        ]
    )
