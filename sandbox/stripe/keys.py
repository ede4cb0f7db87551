"""Accounts and their API keys: who calls, in which mode, and what a restricted key may do.

Contract: providers.md section 3. A secret key (`sk_`) may do everything in its account and mode, a restricted one
(`rk_`) what its permissions name, as Stripe's answers spell them (`rak_customer_write`; a write permission reads too).
Live and test mode of one account share nothing but the account.

Keys are made and rolled in the Dashboard only: `dashboard.py`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import string
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sandbox.stripe.errors import StripeError
from sandbox.world import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.world import Credential, World

PROVIDER: Final = "stripe"
API_VERSION: Final = "2026-08-26.dahlia"
"""The accounts' default version: that of the API description which the tests check against."""
KIND: Final = "api key"
"""What a credential's scope says of a key, beside the signing secrets of endpoints."""
_ALPHABET: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True)
class Realm:
    """An account in one of its modes: whatever belongs to one realm is unknown in every other."""

    account: str
    livemode: bool

    @property
    def mode(self) -> str:
        """`live` or `test`, as keys spell it."""
        return "live" if self.livemode else "test"


def identifier(prefix: str, length: int = 24) -> str:
    """Return a new random identifier of letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS stripe_accounts (
                id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, created INTEGER NOT NULL
            )
            """
        )


def create_account(world: World, *, name: str, email: str, account: str = "") -> str:
    """Make an account and return its id, a new one unless it is told."""
    account = account or identifier("acct_1", 15)
    with world.database:
        world.database.execute(
            "INSERT INTO stripe_accounts VALUES (?, ?, ?, ?)", (account, name, email, int(world.now().timestamp()))
        )
    return account


def accounts(world: World) -> list[dict[str, Any]]:
    """Return every account, the oldest first."""
    return [dict(row) for row in world.database.execute("SELECT * FROM stripe_accounts ORDER BY rowid")]


def issue(world: World, *, realm: Realm, name: str, permissions: Sequence[str] | None = None) -> tuple[Credential, str]:
    """Make a key and return it with its value. `permissions` makes it a restricted one."""
    kind = "sk" if permissions is None else "rk"
    value = identifier(f"{kind}_{realm.mode}_51{realm.account.removeprefix('acct_1')}", 82)
    credential = world.credentials.issue(
        provider=PROVIDER,
        identifier=identifier("mk_1", 15),
        name=name,
        value=value,
        scope={
            "kind": KIND,
            "account": realm.account,
            "livemode": realm.livemode,
            "permissions": None if permissions is None else list(permissions),
        },
    )
    return credential, value


def newest(world: World, name: str) -> Credential:
    """Return the key of this name that was made last and is live. Raises `SandboxError` if there is none."""
    now = world.now()
    found = [key for key in keys(world) if key.name == name and key.live(now)]
    if not found:
        live = ", ".join(sorted({repr(key.name) for key in keys(world) if key.live(now)}))
        raise SandboxError(f"There is no live key named {name!r}. Live keys: {live}.")
    return found[-1]


def keys(world: World) -> list[Credential]:
    """Return every key, live or not, the oldest first."""
    return [key for key in world.credentials.all(PROVIDER) if key.scope.get("kind") == KIND]


def roll(world: World, key: Credential, *, expires_in: float) -> str:
    """Replace a key by a new one of the same name and power, and return the new value.

    The old one is refused after `expires_in` seconds; with 0 at once (the setting `revocation_delay` still applies).
    """
    _, value = issue(world, realm=realm_of(key), name=key.name, permissions=key.scope["permissions"])
    end(world, key, after=expires_in)
    return value


def end(world: World, credential: Credential, *, after: float) -> None:
    """Let a key or a signing secret end in `after` seconds. It never postpones an earlier end."""
    if after > 0:
        world.credentials.expire(credential.identifier, provider=PROVIDER, at=world.now() + timedelta(seconds=after))
    else:
        world.credentials.revoke(credential.identifier, provider=PROVIDER)


def realm_of(key: Credential) -> Realm:
    """Return the account and mode of a key."""
    return Realm(account=key.scope["account"], livemode=key.scope["livemode"])


def masked(value: str) -> str:
    """Return what Stripe's messages show of a key: its kind, and its last four characters."""
    kind, _, rest = value.rpartition("_")
    return f"{kind}_****{rest[-4:]}" if kind else f"****{rest[-4:]}"


def authenticate(world: World, authorization: str) -> tuple[Credential, str]:
    """Return the key that an `Authorization` header carries, and its value: Bearer, or Basic with the key as the user.

    Raises `StripeError` 401: with the code `api_key_expired` for a key that once was, without a code otherwise.
    """
    scheme, _, rest = authorization.strip().partition(" ")
    value = rest.strip()
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    if not value or scheme.lower() not in {"basic", "bearer"}:
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
            "auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        )
    credential = world.credentials.find(PROVIDER, value)
    if credential is None or credential.scope.get("kind") != KIND:
        raise StripeError(401, f"Invalid API Key provided: {masked(value)}")
    if not credential.accepted(world.now()):
        raise StripeError(401, f"Expired API Key provided: {masked(value)}", code="api_key_expired")
    return credential, value


def require(key: Credential, value: str, permission: str) -> None:
    """Refuse a restricted key that lacks a permission: `StripeError` 403. Empty: none is needed."""
    held = key.scope["permissions"]
    if not permission or held is None or permission in held:
        return
    if permission.endswith("_read") and f"{permission.removesuffix('_read')}_write" in held:
        return
    raise StripeError(
        403,
        f"The provided key '{masked(value)}' does not have the required permissions for this endpoint on account "
        f"'{key.scope['account']}'. Having the '{permission}' permission would allow this request to continue.",
    )
