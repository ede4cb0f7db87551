"""Releases, and what else flyctl asks of api.fly.io besides GraphQL (contract: fly.md 2.2, section 5)."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.fly import apps, tokens
from sandbox.fly.errors import Refusal, json_object
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

    from sandbox.world import World

PAGE: Final = 20
_IN_PROGRESS: Final = {"pending", "running"}


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release of an app. `version` counts from 1 per app."""

    id: str
    app: str
    version: int
    status: str
    strategy: str
    image: str
    definition: Any
    user: str
    created_at: str
    updated_at: str
    metadata: Any

    def document(self) -> dict[str, Any]:
        """Return it as flyctl reads it."""
        return {
            "id": self.id,
            "version": self.version,
            "status": self.status,
            "stable": self.status == "complete",
            "in_progress": self.status in _IN_PROGRESS,
            "strategy": self.strategy,
            "description": "Release",
            "reason": "",
            "user": {"email": self.user, "name": self.user},
            "image_ref": self.image,
            "definition": self.definition,
            "metadata": self.metadata,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_releases (
                id TEXT PRIMARY KEY, app TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL,
                strategy TEXT NOT NULL, image TEXT NOT NULL, definition BLOB NOT NULL, user TEXT NOT NULL,
                created_at TEXT NOT NULL, updated_at TEXT NOT NULL, metadata TEXT NOT NULL, UNIQUE (app, version)
            )
            """
        )


def create(
    world: World,
    *,
    app: str,
    status: str,
    strategy: str,
    image: str,
    definition: Any,  # noqa: ANN401 - any JSON
    user: str,
) -> Release:
    """Record the app's next release. `definition` is the app's configuration as JSON; it is sealed."""
    row = world.database.execute("SELECT max(version) FROM fly_releases WHERE app = ?", (app,)).fetchone()
    identifier, now = secrets.token_hex(12), timestamp(world.now())
    with world.database:
        world.database.execute(
            "INSERT INTO fly_releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'null')",
            (
                identifier,
                app,
                (row[0] or 0) + 1,
                status,
                strategy,
                image,
                world.seal(json.dumps(definition).encode()),
                user,
                now,
                now,
            ),
        )
    return find(world, identifier)


def find(world: World, identifier: str) -> Release:
    """Return a release. Raises `Refusal` 404."""
    row = world.database.execute("SELECT * FROM fly_releases WHERE id = ?", (identifier,)).fetchone()
    if row is None:
        raise Refusal(404, "release not found")
    return _release(world, row)


def listing(world: World, app: str, limit: int | None = None) -> list[Release]:
    """Return an app's releases, newest first."""
    rows = world.database.execute(
        "SELECT * FROM fly_releases WHERE app = ? ORDER BY version DESC LIMIT ?", (app, limit or -1)
    )
    return [_release(world, row) for row in rows.fetchall()]


def _release(world: World, row: sqlite3.Row) -> Release:
    return Release(
        **{
            **dict(row),
            "definition": json.loads(world.unseal(row["definition"])),
            "metadata": json.loads(row["metadata"]),
        }
    )


def routes(world: World) -> list[Route]:
    """Return the endpoints."""

    async def create_release(request: Request) -> Response:
        body = await json_object(request)
        app = tokens.authorized_app(world, request, str(body.get("app_name") or body.get("app_id") or ""))
        release = create(
            world,
            app=app.name,
            status="pending",
            strategy=str(body.get("strategy") or "ROLLING").lower(),
            image=str(body.get("image") or ""),
            definition=body.get("definition"),
            user=tokens.principal(world, request).owner(),
        )
        return JSONResponse({"release": release.document()}, 201)

    async def update_release(request: Request) -> Response:
        release = find(world, request.path_params["release"])
        tokens.authorized_app(world, request, release.app)
        body = await json_object(request)
        with world.database:
            world.database.execute(
                "UPDATE fly_releases SET status = ?, metadata = ?, updated_at = ? WHERE id = ?",
                (
                    str(body.get("status") or release.status),
                    json.dumps(body.get("metadata") or release.metadata),
                    timestamp(world.now()),
                    release.id,
                ),
            )
        return JSONResponse({"release": find(world, release.id).document()})

    async def list_releases(request: Request) -> Response:
        app = tokens.authorized_app(world, request, request.path_params["app"])
        limit = request.query_params.get("limit") or str(PAGE)
        if not limit.isdigit():
            raise Refusal(400, "invalid limit")
        return JSONResponse({"releases": [release.document() for release in listing(world, app.name, int(limit))]})

    async def organizations(request: Request) -> Response:
        """List the caller's organizations; the path is not established (fly.md section 0 names only the call)."""
        caller = tokens.principal(world, request)
        slugs = sorted({str(credential.scope["organization"]) for credential in caller.credentials})
        found = [organization for slug in slugs if (organization := apps.organization(world, slug=slug)) is not None]
        return JSONResponse(
            {"organizations": [{"id": o.identifier, "slug": o.slug, "name": o.name, "type": "SHARED"} for o in found]}
        )

    async def metrics(_request: Request) -> Response:
        return JSONResponse({})

    return [
        Route("/api/v1/releases", create_release, methods=["POST"]),
        Route("/api/v1/releases/{release}", update_release, methods=["PATCH"]),
        Route("/api/v1/apps/{app}/releases", list_releases, methods=["GET"]),
        Route("/api/v1/organizations", organizations, methods=["GET"]),
        Route("/metrics_post", metrics, methods=["POST"]),
    ]
