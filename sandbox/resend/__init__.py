"""The sandbox's Resend: API keys, sending domains, and emails that arrive without leaving the sandbox.

- `wire`: what every answer has in common; authentication, rate limit headers, pages.
- `keys`, `domains`, `emails`: the API, one module per area.

Deviations from Resend: batches, templates, schedules, audiences, webhooks and the rest of its description are not
there (404 or 422); there is one team.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from sandbox.resend import domains, emails, keys, settings, wire

if TYPE_CHECKING:
    from sandbox.world import World

DOMAIN: Final = "moleculesai.app"
FROM_EMAIL: Final = f"Molecule AI <noreply@{DOMAIN}>"
HAND_MADE: Final = "molecule-cp production"

__all__ = ["application", "inspect", "install", "seed", "settings"]


def install(world: World) -> None:
    """Create all tables."""
    for module in (wire, domains, emails):
        module.install(world)


def application(world: World) -> Starlette:
    """Return the service."""
    return Starlette(
        routes=wire.routes(world, [*keys.ENDPOINTS, *domains.ENDPOINTS, *emails.ENDPOINTS]),
        exception_handlers={HTTPException: wire.answer_http_error},
    )


def seed(world: World) -> str:
    """Fill a new world and return the sending key that molecule-cp holds, which somebody made by hand.

    Keeps `RESEND_API_KEY` (the operator's, with full access).
    """
    domain = domains.add(world, DOMAIN, verified=True)
    _, operator = keys.mint(world, name="operator", permission=wire.FULL_ACCESS)
    world.keep("RESEND_API_KEY", operator)
    _, value = keys.mint(world, name=HAND_MADE, permission=wire.SENDING_ACCESS, domain=domain.id)
    return value


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `resend` in `inspect`."""
    return {
        "domains": [
            {"id": domain.id, "name": domain.name, "status": domains.status(world, domain)}
            for domain in domains.all_of(world)
        ],
        "emails": [
            {
                "id": email.id,
                "from": email.sender,
                "to": email.to,
                "subject": email.subject,
                "last_event": emails.last_event(world, email),
                "created_at": wire.written(email.created_at),
            }
            for email in emails.all_of(world)
        ],
    }
