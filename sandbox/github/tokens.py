"""Personal access tokens: who holds one, and what it may do.

A classic token (``ghp_``) has scopes and may do whatever its user may within them; a fine-grained one
(``github_pat_``) has permissions, each ``read`` or ``write``. Source: GitHub documentation, "Managing your personal
access tokens", "Scopes for OAuth apps", "Permissions required for fine-grained personal access tokens".
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.github import store
from sandbox.world import Credential, World

PROVIDER: Final = "github"

_IMPLIED: Final[dict[str, frozenset[str]]] = {
    "repo": frozenset({"repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"}),
    "admin:org": frozenset({"write:org", "read:org"}),
    "write:org": frozenset({"read:org"}),
}
"""Scopes that hold others ("Scopes for OAuth apps", "Normalized scopes")."""


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Whoever a request's token belongs to.

    Attributes:
        user: The token's owner.
        credential: The token.
        scopes: Scopes of a classic token; None for a fine-grained one.
        permissions: Name and level (``read``, ``write``) of a fine-grained token's permissions; empty for a classic
            one.
    """

    user: store.Account
    credential: Credential
    scopes: frozenset[str] | None
    permissions: Mapping[str, str]

    def has_scope(self, scope: str) -> bool:
        """Tell whether a classic token has a scope, by itself or within another; a fine-grained one has none."""
        return self.scopes is not None and (
            not scope or scope in self.scopes or any(scope in _IMPLIED.get(held, ()) for held in self.scopes)
        )

    def has_permission(self, name: str, level: str) -> bool:
        """Tell whether a fine-grained token has a permission. Every one of them can read metadata."""
        held = "read" if name == "metadata" else self.permissions.get(name)
        return held in {"write", level}


def issue_classic(world: World, *, user: store.Account, name: str, scopes: Iterable[str]) -> tuple[Credential, str]:
    """Make a classic token.

    Returns:
        What is known of it, and its value, which is kept nowhere.
    """
    value = "ghp_" + secrets.token_hex(18)
    return _issue(world, user=user, name=name, value=value, scope={"scopes": sorted(scopes)}), value


def issue_fine_grained(
    world: World, *, user: store.Account, name: str, permissions: Mapping[str, str]
) -> tuple[Credential, str]:
    """Make a fine-grained token for all repositories of its user and of the user's organizations.

    Returns:
        What is known of it, and its value, which is kept nowhere.
    """
    value = f"github_pat_{secrets.token_hex(11)}_{secrets.token_hex(29)}"
    return _issue(world, user=user, name=name, value=value, scope={"permissions": dict(permissions)}), value


def _issue(world: World, *, user: store.Account, name: str, value: str, scope: dict[str, object]) -> Credential:
    return world.credentials.issue(
        provider=PROVIDER,
        identifier=str(1_000_000_000 + secrets.randbelow(1_000_000_000)),
        name=name,
        value=value,
        scope={"user": user.id, **scope},
    )


def authenticate(world: World, value: str) -> Viewer | None:
    """Return whose token this is; None if it is unknown, expired or revoked."""
    credential = world.credentials.authenticate(PROVIDER, value)
    if credential is None:
        return None
    scopes = credential.scope.get("scopes")
    return Viewer(
        user=store.known_account(world.database, credential.scope["user"]),
        credential=credential,
        scopes=None if scopes is None else frozenset(scopes),
        permissions=credential.scope.get("permissions", {}),
    )
