"""Users, organizations and API keys (contract: providers.md section 1, "API keys").

A key is personal, of an organization, or scoped to one project of an organization. Only a personal key of one of the
organization's admins mints the latter two (403 otherwise; Neon documents the rule, not the status). Names need not be
unique. A key that is unknown, revoked or another account's is 404 (not established; expected).
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox import lag
from sandbox.neon import settings
from sandbox.neon.wire import MINTING_ROUTE, OUTSIDE_PROJECT, PROVIDER, Call, Kind, NeonError, iso, named

if TYPE_CHECKING:
    from sandbox.neon.wire import Handler
    from sandbox.world import Credential, World

ADMIN: Final = "admin"
MEMBER: Final = "member"
LONGEST_NAME: Final = 64
ORGANIZATION_KEYS_DO_NOT_MINT: Final = "API keys of an organization are created with a personal API key of an admin"
_ALPHABET: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, kw_only=True)
class User:
    """A person."""

    id: str
    name: str
    email: str


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        for statement in (
            "CREATE TABLE IF NOT EXISTS neon_users (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS neon_organizations (id TEXT PRIMARY KEY, name TEXT NOT NULL)",
            """
            CREATE TABLE IF NOT EXISTS neon_members (
                organization TEXT NOT NULL, user TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (organization, user)
            )
            """,
        ):
            world.database.execute(statement)


def add_user(world: World, user: User, *, organization: str, role: str) -> None:
    """Let a user, who is created if need be, be a member of an organization."""
    with world.database:
        world.database.execute("INSERT OR IGNORE INTO neon_users VALUES (?, ?, ?)", (user.id, user.name, user.email))
        world.database.execute("INSERT INTO neon_members VALUES (?, ?, ?)", (organization, user.id, role))


def add_organization(world: World, *, identifier: str, name: str) -> bool:
    """Create an organization, unless it is there; tells whether it was not."""
    with world.database:
        added = world.database.execute("INSERT OR IGNORE INTO neon_organizations VALUES (?, ?)", (identifier, name))
    return added.rowcount > 0


def user(world: World, identifier: str) -> User:
    """Return a user who is known to exist."""
    row = world.database.execute("SELECT * FROM neon_users WHERE id = ?", (identifier,)).fetchone()
    return User(**dict(row))


def role(world: World, *, organization: str, member: str) -> str | None:
    """Return a user's role in an organization; `None` for somebody who is not its member."""
    row = world.database.execute(
        "SELECT role FROM neon_members WHERE organization = ? AND user = ?", (organization, member)
    ).fetchone()
    return None if row is None else str(row["role"])


def organizations_of(call: Call) -> list[str]:
    """Return the organizations that a key reaches."""
    if call.caller.organization is not None:
        return [call.caller.organization]
    rows = call.world.database.execute(
        "SELECT organization FROM neon_members WHERE user = ? ORDER BY 1", (call.caller.user,)
    )
    return [str(row["organization"]) for row in rows]


def mint(
    world: World, *, name: str, kind: Kind, owner: str, organization: str | None = None, project: str | None = None
) -> tuple[Credential, str]:
    """Issue a key and return it with its value, which is kept nowhere."""
    value = "napi_" + "".join(secrets.choice(_ALPHABET) for _ in range(64))
    scope = {"kind": str(kind), "user": owner, "organization": organization, "project": project}
    credential = world.credentials.issue(
        provider=PROVIDER,
        identifier=str(1_000_000 + secrets.randbelow(1_000_000_000)),
        name=name,
        value=value,
        scope={key: value for key, value in scope.items() if value is not None},
    )
    return credential, value


def _last_use(world: World, key: Credential) -> dict[str, Any]:
    row = world.database.execute("SELECT * FROM neon_key_uses WHERE id = ?", (key.identifier,)).fetchone()
    return {
        "last_used_at": None if row is None else row["at"],
        "last_used_from_addr": "" if row is None else row["address"],
    }


def _described(key: Credential) -> dict[str, Any]:
    described = {"id": int(key.identifier), "name": key.name, "created_at": iso(key.created_at)}
    if "project" in key.scope:
        described["project_id"] = key.scope["project"]
    return described


def _listed(world: World, key: Credential) -> dict[str, Any]:
    creator = user(world, key.scope["user"])
    return {
        **_described(key),
        "created_by": {"id": creator.id, "name": creator.name, "image": ""},
        **_last_use(world, key),
    }


def _live(call: Call, organization: str | None, *, listed: bool = False) -> list[Credential]:
    """Return the live keys of an organization, or the caller's personal ones, newest first; or with `listed` what a list shows of them."""
    now = call.world.now()
    return [
        key
        for key in reversed(lag.credentials(call.world, PROVIDER) if listed else call.world.credentials.all(PROVIDER))
        if key.live(now)
        and key.scope.get("organization") == organization
        and (organization is not None or key.scope["user"] == call.caller.user)
    ]


def _revoke(call: Call, organization: str | None) -> Response:
    key = next((key for key in _live(call, organization) if key.identifier == call.path("key")), None)
    if key is None:
        raise NeonError(404, "api key not found")
    call.world.credentials.revoke(key.identifier, provider=PROVIDER)
    last_use = _last_use(call.world, key)
    if last_use["last_used_at"] is None:
        del last_use["last_used_at"]
    return JSONResponse({**_described(key), "created_by": key.scope["user"], **last_use, "revoked": True})


async def _create(call: Call, kind: Kind, organization: str | None, project: str | None, body: Any) -> Response:  # noqa: ANN401
    key, value = mint(
        call.world,
        name=named(body.get("key_name"), "key_name", longest=LONGEST_NAME),
        kind=kind,
        owner=call.caller.user,
        organization=organization,
        project=project,
    )
    return JSONResponse({**_described(key), "key": value, "created_by": call.caller.user})


def _administered(call: Call) -> str:
    """Return the organization of the path, whose keys the caller may see and revoke.

    An organization key may, as it is documented to be an admin of its organization; a project key may not.
    """
    organization = call.path("organization")
    if call.caller.kind is Kind.PROJECT:
        raise NeonError(404, OUTSIDE_PROJECT, refusal=True)
    if organization not in organizations_of(call):
        raise NeonError(404, "organization not found", refusal=True)
    if (
        call.caller.kind is Kind.PERSONAL
        and role(call.world, organization=organization, member=call.caller.user) != ADMIN
    ):
        raise NeonError(403, "user must be an admin of the organization")
    return organization


async def list_personal(call: Call) -> Response:
    """`GET /api_keys`: a bare array."""
    call.person()
    return JSONResponse([_listed(call.world, key) for key in _live(call, None, listed=True)])


async def create_personal(call: Call) -> Response:
    """`POST /api_keys`: 200, the only answer with the value."""
    call.person()
    return await _create(call, Kind.PERSONAL, None, None, await call.json())


async def revoke_personal(call: Call) -> Response:
    """`DELETE /api_keys/{key_id}`."""
    call.person()
    return _revoke(call, None)


async def list_organization(call: Call) -> Response:
    """`GET /organizations/{org_id}/api_keys`: project-scoped ones too, with `project_id`."""
    organization = _administered(call)
    return JSONResponse([_listed(call.world, key) for key in _live(call, organization, listed=True)])


async def create_organization(call: Call) -> Response:
    """`POST /organizations/{org_id}/api_keys`, with `project_id` for a project-scoped key."""
    organization = _administered(call)
    if call.caller.kind is not Kind.PERSONAL:
        raise NeonError(403, ORGANIZATION_KEYS_DO_NOT_MINT)
    body = await call.json()
    project = body.get("project_id")
    if project is None:
        return await _create(call, Kind.ORGANIZATION, organization, None, body)
    known = call.world.database.execute(
        "SELECT 1 FROM neon_projects WHERE id = ? AND organization = ?", (project, organization)
    ).fetchone()
    if known is None:
        raise NeonError(404, "project not found")
    return await _create(call, Kind.PROJECT, organization, project, body)


async def revoke_organization(call: Call) -> Response:
    """`DELETE /organizations/{org_id}/api_keys/{key_id}`."""
    return _revoke(call, _administered(call))


async def auth(call: Call) -> Response:
    """`GET /auth`: the cheap check that a key is good."""
    caller = call.caller
    if caller.kind is Kind.PROJECT and call.world.number(settings.NO_AUTH_FOR_PROJECT_KEYS):
        raise NeonError(404, OUTSIDE_PROJECT, refusal=True)
    method = "api_key_user" if caller.kind is Kind.PERSONAL else "api_key_org"
    return JSONResponse(
        {"account_id": caller.account, "auth_method": method, "auth_data": caller.credential.identifier}
    )


async def me(call: Call) -> Response:
    """`GET /users/me`: for personal keys only. Nothing in it is billed; the limits are made up."""
    found = user(call.world, call.person())
    first, _, last = found.name.partition(" ")
    account = {"email": found.email, "image": "", "login": found.email, "name": found.name, "provider": "github"}
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), "")
    return JSONResponse(
        {
            "id": found.id,
            "login": found.email,
            "email": found.email,
            "name": first,
            "last_name": last,
            "image": "",
            "plan": "scale",
            "auth_accounts": [account],
            "active_seconds_limit": 0,
            "projects_limit": 100,
            "branches_limit": 500,
            "max_autoscaling_limit": 8,
            "billing_account": {
                "state": "active",
                "payment_source": {"type": ""},
                "subscription_type": "scale",
                "payment_method": "none",
                "quota_reset_at_last": "2026-01-01T00:00:00Z",
                "name": found.name,
                "email": found.email,
                **{f"address_{part}": text for part, text in address.items()},
            },
        }
    )


async def my_organizations(call: Call) -> Response:
    """`GET /users/me/organizations`."""
    call.person()
    rows = [
        call.world.database.execute("SELECT * FROM neon_organizations WHERE id = ?", (identifier,)).fetchone()
        for identifier in organizations_of(call)
    ]
    return JSONResponse({"organizations": [{"id": row["id"], "name": row["name"], "plan": "scale"} for row in rows]})


ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/auth", auth),
    ("GET", "/users/me", me),
    ("GET", "/users/me/organizations", my_organizations),
    ("GET", "/api_keys", list_personal),
    ("POST", "/api_keys", create_personal),
    ("DELETE", "/api_keys/{key}", revoke_personal),
    ("GET", MINTING_ROUTE, list_organization),
    ("POST", MINTING_ROUTE, create_organization),
    ("DELETE", f"{MINTING_ROUTE}/{{key}}", revoke_organization),
]
