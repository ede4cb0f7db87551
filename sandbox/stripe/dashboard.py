"""What people do in Stripe's Dashboard, because no API does it (providers.md 3b, 3c): keys and signing secrets.

The admin service offers each action under `/stripe/<action>`, the command line as `python -m sandbox stripe <action>`.
As in the Dashboard a new value is shown once, in the answer, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.stripe import deliveries, endpoints, fixtures, keys
from sandbox.stripe.keys import Realm
from sandbox.world import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.stripe.endpoints import Endpoint
    from sandbox.world import World

Json = dict[str, Any]

CONTROL_PLANE_KEY: Final = "molecule-cp secret key"
"""Name of the key that the control plane holds; every key that it is rolled into has the same."""
OPERATOR_KEY: Final = "operator"
OVERLAP: Final = 86_400.0
"""Seconds that Stripe lets an old signing secret live at most (providers.md 3c)."""
LONGEST_EXPIRY: Final = 7 * 86_400.0
"""Seconds that an old key may live on (providers.md 3b)."""


def act(world: World, action: str, document: Json) -> Json:
    """Carry out an action. Raises `SandboxError` if there is none of this name, or it cannot be done."""
    found = _ACTIONS.get(action)
    if found is None:
        raise SandboxError(f"Stripe's Dashboard has no {action}. It has: {', '.join(_ACTIONS)}.")
    return found(world, document)


def _accounts(world: World) -> list[str]:
    """Return the control plane's account and the other one."""
    accounts = [account["id"] for account in keys.accounts(world)]
    if not accounts:
        raise SandboxError(
            "This sandbox is older than its Stripe, and has no account there. Start one in a new folder."
        )
    return accounts


def _roll_key(world: World, document: Json) -> Json:
    after = float(document.get("expires_in") or 0)
    if not 0 <= after <= LONGEST_EXPIRY:
        raise SandboxError(f"An old key can live on for at most {LONGEST_EXPIRY:.0f} seconds (7 days).")
    key = keys.newest(world, document.get("name") or CONTROL_PLANE_KEY)
    return {"value": keys.roll(world, key, expires_in=after)}


def _expire_key(world: World, document: Json) -> Json:
    """End every key of a name but the newest."""
    newest = keys.newest(world, document.get("name") or CONTROL_PLANE_KEY)
    ended = [
        key
        for key in keys.keys(world)
        if key.name == newest.name and key.identifier != newest.identifier and key.live(world.now())
    ]
    for key in ended:
        keys.end(world, key, after=0)
    return {"expired": [key.identifier for key in ended]}


def _create_key(world: World, document: Json) -> Json:
    accounts = _accounts(world)
    realm = Realm(
        account=accounts[1] if document.get("other_account") else accounts[0], livemode=not document.get("test")
    )
    permissions = document.get("permissions")
    _, value = keys.issue(world, realm=realm, name=document["name"], permissions=permissions)
    return {"value": value}


def _endpoint(world: World, document: Json) -> Endpoint:
    """Return the endpoint that is named, or else the only live one of the first account that is there."""
    identifier = document.get("endpoint")
    realm = Realm(account=_accounts(world)[0], livemode=True)
    found = [each for each in endpoints.listing(world, None if identifier else realm) if identifier in {None, each.id}]
    if len(found) != 1:
        names = ", ".join(f"{endpoint.id} ({endpoint.url})" for endpoint in endpoints.listing(world))
        raise SandboxError(f"Name one endpoint: --endpoint ID. Endpoints: {names or 'none'}.")
    return found[0]


def _roll_webhook_secret(world: World, document: Json) -> Json:
    overlap = OVERLAP if document.get("overlap") is None else float(document["overlap"])
    if not 0 <= overlap <= OVERLAP:
        raise SandboxError(f"An old signing secret can live on for at most {OVERLAP:.0f} seconds (24 hours).")
    endpoint = _endpoint(world, document)
    before = endpoints.credentials(world, endpoint.id)
    value = endpoints.add_secret(world, endpoint)
    for credential in before:
        keys.end(world, credential, after=overlap)
    return {"value": value, "endpoint": endpoint.id}


def _expire_webhook_secret(world: World, document: Json) -> Json:
    endpoint = _endpoint(world, document)
    old = [each for each in endpoints.credentials(world, endpoint.id)[:-1] if each.live(world.now())]
    for credential in old:
        keys.end(world, credential, after=0)
    return {"expired": [credential.identifier for credential in old]}


def _emit(world: World, document: Json) -> Json:
    realm = Realm(account=_accounts(world)[0], livemode=not document.get("test"))
    subject, previous = fixtures.make(realm, document["type"], now=int(world.now().timestamp()))
    event = deliveries.emit(world, realm, type_=document["type"], subject=subject, previous=previous)
    return {"event": event.id}


_ACTIONS: Final[dict[str, Callable[[World, Json], Json]]] = {
    "roll-key": _roll_key,
    "expire-key": _expire_key,
    "create-key": _create_key,
    "roll-webhook-secret": _roll_webhook_secret,
    "expire-webhook-secret": _expire_webhook_secret,
    "emit": _emit,
}
