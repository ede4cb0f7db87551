"""`GET /resolve`: 200 with a DNS status, whatever that is; 400 for what is no question."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.dns import zones

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.world import World

NO_ERROR: Final = 0
NAME_ERROR: Final = 3
TYPES: Final = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "CAA": 257, "ANY": 255}
LONGEST_NAME: Final = 253
TTL: Final = 300
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_STRING: Final = 255
"""Characters of one string of a TXT record; a longer text is several."""


def routes(world: World) -> list[Route]:
    """Return the API."""

    async def resolve(request: Request) -> Response:
        name = request.query_params.get("name", "").lower().removesuffix(".")
        kind = _type(request.query_params.get("type", "1"))
        if kind is None or len(name) > LONGEST_NAME or not all(map(_LABEL.fullmatch, name.split("."))):
            return JSONResponse({"error": "Invalid name or type."}, 400)
        texts = zones.texts(world, name)
        answer: dict[str, Any] = {
            "Status": NAME_ERROR if texts is None else NO_ERROR,
            "TC": False,
            "RD": True,
            "RA": True,
            "AD": False,
            "CD": False,
            "Question": [{"name": f"{name}.", "type": kind}],
        }
        if texts and kind in {TYPES["TXT"], TYPES["ANY"]}:
            answer["Answer"] = [
                {"name": f"{name}.", "type": TYPES["TXT"], "TTL": TTL, "data": _data(text)} for text in texts
            ]
        return JSONResponse(answer)

    return [Route("/resolve", resolve, methods=["GET"])]


def _type(text: str) -> int | None:
    if text.upper() in TYPES:
        return TYPES[text.upper()]
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,4}", text) else None


def _data(text: str) -> str:
    """Write a text as strings in quotes. In ASCII a JSON string escapes quotes and backslashes as DNS does."""
    return " ".join(json.dumps(text[start : start + _STRING]) for start in range(0, len(text), _STRING) or [0])
