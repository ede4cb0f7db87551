"""Lists that lag, as those of a provider do whose reads are served by replicas (eventual consistency).

`fly.list_lag=SECONDS` and so on let a provider's lists of credentials show what was true that long ago: what was minted since is not there
yet, and what was revoked since is still there, alive. Everything else is as it is: a credential that was minted authenticates at once, one
that is named by its id is found, and one that was revoked is refused (but see `revocation_delay`). Neon's list of roles lags with that of
its keys. Upstash's users have no such switch: who lists them asks the Redis server itself.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sandbox.world import SETTINGS, Setting

if TYPE_CHECKING:
    from datetime import datetime

    from sandbox.world import Credential, World

PROVIDERS: Final = ("fly", "neon", "resend", "stripe")

SETTINGS.update(
    {
        f"{provider}.list_lag": Setting(
            default=0.0, description=f"seconds by which {provider}'s lists of credentials are behind"
        )
        for provider in PROVIDERS
    }
)


def shown(world: World, provider: str) -> datetime:
    """Return the moment whose truth a provider's lists show."""
    return world.now() - timedelta(seconds=world.number(f"{provider}.list_lag"))


def credentials(world: World, provider: str) -> list[Credential]:
    """Return a provider's credentials as its lists show them, oldest first."""
    moment = shown(world, provider)
    return [
        replace(each, revoked_at=None, refused_from=None)
        if each.revoked_at is not None and each.revoked_at > moment
        else each
        for each in world.credentials.all(provider)
        if each.created_at <= moment
    ]
