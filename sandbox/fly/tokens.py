"""Fly's tokens: how they are sent, what they may do, how they are minted and revoked (contract: fly.md 0 and 3).

A user token may do everything in its organization; a token of profile `deploy` reaches one app, one of profile
`deploy_organization` all apps of the organization. Only user tokens mint and revoke (fly.md 3.1).

Deploy tokens look like macaroons (`fm2_...`) but are opaque: a client that parses them (flyctl) cannot use them. What
the schema calls `token`, "the root of the macaroon", is here an identifier without power, in the answer of
`createLimitedAccessToken` too: `tokenHeader` is the only place that ever shows a value.
"""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sandbox import lag
from sandbox.fly import apps
from sandbox.fly.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from sandbox.fly.apps import App, Organization
    from sandbox.world import Credential, World

PROVIDER: Final = "fly"
SCHEME: Final = re.compile(r"^\s*(?:(?:bearer|flyv1)\s+)+", re.IGNORECASE)
DEFAULT_EXPIRY: Final = timedelta(hours=175_200)
"""flyctl's default and what an empty expiry means here."""
PROFILES: Final = frozenset({"deploy", "deploy_organization"})
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Principal:
    """Who calls: the accepted tokens of one request, at least one."""

    credentials: Sequence[Credential]

    def user(self) -> str | None:
        """Return the e-mail address of the user whose own token is among them."""
        return next((str(c.scope["user"]) for c in self.credentials if c.scope["profile"] == "user"), None)

    def owner(self) -> str:
        """Return what a lease calls its owner."""
        return self.user() or f"{self.credentials[0].identifier}@tokens.fly.io"

    def reaches(self, app: App) -> bool:
        """Tell whether one of the tokens may use the app."""
        return any(
            credential.scope["organization"] == app.organization.slug and credential.scope["app"] in {None, app.name}
            for credential in self.credentials
        )

    def belongs_to(self, organization: Organization) -> bool:
        """Tell whether one of the tokens reaches the whole organization."""
        return any(
            credential.scope["organization"] == organization.slug and credential.scope["app"] is None
            for credential in self.credentials
        )

    def may_mint(self, organization: Organization) -> bool:
        """Tell whether one of the tokens may mint and revoke tokens of the organization."""
        return any(
            credential.scope["organization"] == organization.slug and credential.scope["profile"] == "user"
            for credential in self.credentials
        )


def values(authorization: str) -> list[str]:
    """Return the tokens of an `Authorization` header: comma-separated, each perhaps after `Bearer` or `FlyV1`."""
    parts = (SCHEME.sub("", part).strip() for part in authorization.split(","))
    return [part for part in parts if part and part.lower() not in {"bearer", "flyv1"}]


def authenticate(world: World, authorization: str) -> Principal | None:
    """Return who sends this header; `None` if none of its tokens is accepted."""
    found = [world.credentials.authenticate(PROVIDER, value) for value in values(authorization)]
    credentials = [credential for credential in found if credential is not None]
    return Principal(credentials) if credentials else None


def principal(world: World, request: Request) -> Principal:
    """Return who calls. Raises `Refusal` 401 (texts: fly.md 3.4)."""
    authorization = request.headers.get("authorization", "")
    caller = authenticate(world, authorization)
    if caller is None:
        text = "Authenticate: token validation error" if values(authorization) else "no tokens found in header"
        raise Refusal(401, text)
    return caller


def authorized_app(world: World, request: Request, name: str) -> App:
    """Return the app if the caller may use it.

    Raises `Refusal`: 401; 403 `unauthorized` for a token without access (also to a name that does not exist); 404.
    """
    caller = principal(world, request)
    app = apps.find(world, name=name)
    if app is not None and caller.reaches(app):
        return app
    if app is None and caller.user() is not None:
        raise Refusal(404, "app not found")
    raise Refusal(403, "unauthorized")


def parse_duration(text: str) -> timedelta:
    """Read a Go duration such as `24h0m0s`. Raises `ValueError`."""
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise ValueError(f"time: invalid duration {text!r}")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))


def create_user_token(world: World, *, organization: str, user: str) -> str:
    """Issue a user token, as a sign-in does, and return its value."""
    value = f"fo1_{secrets.token_urlsafe(32)}"
    world.credentials.issue(
        provider=PROVIDER,
        identifier=f"user-{secrets.token_hex(6)}",
        name=f"user {user}",
        value=value,
        scope={"profile": "user", "organization": organization, "app": None, "user": user},
    )
    return value


def mint(
    world: World,
    *,
    name: str,
    organization: Organization,
    profile: str,
    parameters: dict[str, Any],
    expiry: str,
    user: str,
) -> tuple[Credential, str]:
    """Mint a limited access token and return it with its header, `FlyV1 fm2_...`.

    Names need not be unique. Raises `ValueError` for an unknown profile, an app that is not of the organization, or a
    duration that Go would not read.
    """
    if profile not in PROFILES:
        raise ValueError(f"Profile {profile!r} is unknown")
    app = None
    if profile == "deploy":
        app = apps.find(world, identifier=str(parameters.get("app_id")))
        if app is None or app.organization != organization:
            raise ValueError("Could not find App")
    lifetime = parse_duration(expiry) if expiry else DEFAULT_EXPIRY
    value = "fm2_" + base64.b64encode(secrets.token_bytes(96)).decode()
    header = f"FlyV1 {value}"
    credential = world.credentials.issue(
        provider=PROVIDER,
        shown=header,
        identifier="".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(26)),
        name=name,
        value=value,
        scope={
            "profile": profile,
            "parameters": parameters,
            "organization": organization.slug,
            "app": None if app is None else app.name,
            "user": user,
            "root": str(uuid.uuid4()),
        },
        expires_at=world.now() + (lifetime or DEFAULT_EXPIRY),
    )
    return credential, header


def listed(world: World, *, organization: str | None = None, app: str | None = None) -> list[Credential]:
    """Return the limited access tokens, revoked ones too, of an organization or of an app, as lists show them, oldest first."""
    return [
        credential
        for credential in lag.credentials(world, PROVIDER)
        if credential.scope["profile"] in PROFILES
        and (organization is None or credential.scope["organization"] == organization)
        and (app is None or credential.scope["app"] == app)
    ]


def find_limited(world: World, *, identifier: str | None, token: str | None) -> Credential | None:
    """Find a limited access token by its id, by its root, or by its value."""
    for credential in world.credentials.all(PROVIDER):
        if credential.scope["profile"] not in PROFILES:
            continue
        if credential.identifier == identifier or (token is not None and credential.scope["root"] == token):
            return credential
    if token is not None and (parts := values(token)):
        return world.credentials.find(PROVIDER, parts[0])
    return None
