"""The lines that machines write, and the endpoint that flyctl reads them from (contract: fly.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.fly import tokens
from sandbox.fly.errors import Refusal
from sandbox.world import timestamp

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.world import World

PAGE: Final = 100
KEPT: Final = 20_000
"""Lines, of all apps together."""


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS fly_logs (
                id INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, machine TEXT NOT NULL, region TEXT NOT NULL,
                at TEXT NOT NULL, message TEXT NOT NULL
            )
            """
        )
        world.database.execute("CREATE INDEX IF NOT EXISTS fly_logs_of_app ON fly_logs (app, id)")


def write(world: World, *, app: str, machine: str, region: str, message: str) -> None:
    """Record a line."""
    with world.database:
        line = world.database.execute(
            "INSERT INTO fly_logs (app, machine, region, at, message) VALUES (?, ?, ?, ?, ?)",
            (app, machine, region, timestamp(world.now()), message),
        ).lastrowid
        world.database.execute("DELETE FROM fly_logs WHERE id <= ?", ((line or 0) - KEPT,))


def routes(world: World) -> list[Route]:
    """Return the endpoint. Without `next_token` it answers with the newest lines."""

    async def read(request: Request) -> Response:
        app = tokens.authorized_app(world, request, request.path_params["app"])
        query = request.query_params
        token = query.get("next_token") or ""
        if token and not token.isdigit():
            raise Refusal(400, "invalid next_token")
        filters = [("machine", query.get("instance")), ("region", query.get("region"))]
        wanted = [(column, value) for column, value in filters if value]
        condition = " AND ".join(["app = ?", "id > ?", *(f"{column} = ?" for column, _ in wanted)])
        order = "ASC" if token else "DESC"
        rows = world.database.execute(
            f"SELECT * FROM fly_logs WHERE {condition} ORDER BY id {order} LIMIT {PAGE}",  # noqa: S608 - columns above
            (app.name, int(token or 0), *(value for _, value in wanted)),
        ).fetchall()
        rows.sort(key=lambda row: int(row["id"]))
        return JSONResponse(
            {
                "data": [
                    {
                        "id": str(row["id"]),
                        "type": "log",
                        "attributes": {
                            "timestamp": row["at"],
                            "message": row["message"],
                            "level": "info",
                            "instance": row["machine"],
                            "region": row["region"],
                            "meta": {
                                "instance": row["machine"],
                                "region": row["region"],
                                "event": {"provider": "app"},
                            },
                        },
                    }
                    for row in rows
                ],
                "meta": {"next_token": str(rows[-1]["id"]) if rows else token},
            }
        )

    return [Route("/api/v1/apps/{app}/logs", read, methods=["GET"])]
