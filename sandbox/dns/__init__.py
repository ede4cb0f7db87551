"""The sandbox's DNS, as a public resolver shows it over HTTPS (Google's "JSON API for DNS over HTTPS").

- `zones`: the names that there are, and their TXT records.
- `resolver`: the API.

Deviations from a public resolver: it knows only TXT records, and of no other names than the sandbox's own (NXDOMAIN). The
records that Resend looks for are not among them: `sandbox.resend.domains` says by itself which it has found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette

from sandbox.dns import resolver, settings, zones

if TYPE_CHECKING:
    from sandbox.world import World

DMARC_RECORD: Final = "v=DMARC1; p=none"

__all__ = ["application", "install", "seed", "settings"]


def install(world: World) -> None:
    """Create all tables."""
    zones.install(world)


def application(world: World) -> Starlette:
    """Return the service."""
    return Starlette(routes=resolver.routes(world))


def seed(world: World, *, domain: str) -> None:
    """Fill a new world: a domain that mail is sent from has a DMARC record."""
    if not zones.texts(world, zones.dmarc_name(domain)):
        zones.add(world, zones.dmarc_name(domain), DMARC_RECORD)
