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

from sandbox import environments
from sandbox.resend import domains, emails, keys, settings, wire

if TYPE_CHECKING:
    from sandbox.environments import Environment
    from sandbox.world import World

DOMAIN: Final = environments.DEFAULT.resend_domain
FROM_EMAIL: Final = f"Molecule AI <noreply@{DOMAIN}>"

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


def seed(world: World, environment: Environment = environments.DEFAULT) -> dict[str, str]:
    """Fill a new world and return what a control plane holds: a sending key that somebody made by hand, and a sender.

    Keeps `RESEND_API_KEY` (the operator's, with full access), for all environments.
    """
    known = {domain.name: domain for domain in domains.all_of(world)}
    name = environment.resend_domain
    domain = known.get(name) or domains.add(world, name, verified=True)
    if world.kept("RESEND_API_KEY") is None:
        _, operator = keys.mint(world, name="operator", permission=wire.FULL_ACCESS)
        world.keep("RESEND_API_KEY", operator)
    _, value = keys.mint(world, name=f"{environment.app} production", permission=wire.SENDING_ACCESS, domain=domain.id)
    return {"RESEND_API_KEY": value, "RESEND_FROM_EMAIL": f"Molecule AI <noreply@{name}>"}


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
