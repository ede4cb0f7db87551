"""API keys (contract: providers.md section 2).

Lists show neither permission nor domain. A deleted key is refused at once (setting `revocation_delay`), also if it
deleted itself. A name has at most 50 characters (Resend documentation, "Create API key").
"""

from __future__ import annotations

import secrets
import string
import uuid
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox import lag
from sandbox.resend import domains
from sandbox.resend.wire import (
    FULL_ACCESS,
    PROVIDER,
    SENDING_ACCESS,
    Call,
    ResendError,
    listing,
    required,
    written,
)

if TYPE_CHECKING:
    from sandbox.resend.wire import Handler
    from sandbox.world import Credential, World

LONGEST_NAME: Final = 50
_ALPHABET: Final = string.ascii_letters + string.digits


def mint(world: World, *, name: str, permission: str, domain: str | None = None) -> tuple[Credential, str]:
    """Issue a key and return it with its value, which is kept nowhere. `domain` is an id."""

    def part(length: int) -> str:
        return "".join(secrets.choice(_ALPHABET) for _ in range(length))

    value = f"re_{part(8)}_{part(24)}"
    credential = world.credentials.issue(
        provider=PROVIDER,
        identifier=str(uuid.uuid4()),
        name=name,
        value=value,
        scope={"permission": permission, "domain": domain},
    )
    return credential, value


def _live(world: World, *, listed: bool = False) -> list[Credential]:
    """Return the live keys, newest first; or with `listed` what a list shows of them."""
    now = world.now()
    known = lag.credentials(world, PROVIDER) if listed else world.credentials.all(PROVIDER)
    return [key for key in reversed(known) if key.live(now)]


def _find(call: Call) -> Credential:
    for key in _live(call.world):
        if key.identifier == call.path("key"):
            return key
    raise ResendError(404, "not_found", "API key not found")


def _name(body: dict[str, Any]) -> str:
    required(body, "name")
    name = str(body["name"])
    if len(name) > LONGEST_NAME:
        raise ResendError(422, "validation_error", f"The `name` must have at most {LONGEST_NAME} characters.")
    return name


async def create(call: Call) -> Response:
    """`POST /api-keys`: 201, the only answer with the token. There is no idempotency key here."""
    body = await call.json()
    name, permission, domain = _name(body), body.get("permission", FULL_ACCESS), body.get("domain_id")
    if permission not in {FULL_ACCESS, SENDING_ACCESS}:
        raise ResendError(422, "invalid_access", "Access must be 'full_access' | 'sending_access'")
    if permission == FULL_ACCESS:
        domain = None
    elif domain is not None:
        domain = domains.get(call.world, str(domain)).id
    key, value = mint(call.world, name=name, permission=permission, domain=domain)
    return JSONResponse({"id": key.identifier, "token": value}, 201)


async def list_all(call: Call) -> Response:
    """`GET /api-keys`, newest first."""
    uses = {row["id"]: row["at"] for row in call.world.database.execute("SELECT * FROM resend_key_uses")}
    page, more = call.page(_live(call.world, listed=True), lambda key: key.identifier)
    return listing(
        [
            {
                "id": key.identifier,
                "name": key.name,
                "created_at": written(key.created_at),
                "last_used_at": uses.get(key.identifier),
            }
            for key in page
        ],
        has_more=more,
    )


async def rename(call: Call) -> Response:
    """`PATCH /api-keys/{api_key_id}`."""
    key, name = _find(call), _name(await call.json())
    call.world.credentials.rename(key.identifier, name, provider=PROVIDER)
    return JSONResponse({"object": "api_key", "id": key.identifier})


async def delete(call: Call) -> Response:
    """`DELETE /api-keys/{api_key_id}`; 404 for one that is unknown or deleted."""
    key = _find(call)
    call.world.credentials.revoke(key.identifier, provider=PROVIDER)
    return JSONResponse({"object": "api_key", "id": key.identifier, "deleted": True})


ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("POST", "/api-keys", create),
    ("GET", "/api-keys", list_all),
    ("PATCH", "/api-keys/{key}", rename),
    ("DELETE", "/api-keys/{key}", delete),
]
