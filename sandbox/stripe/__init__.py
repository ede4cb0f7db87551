"""The sandbox's Stripe: keys that really expire, endpoints that are really told, with every signature that is due.

- `keys`, `errors`, `forms`, `wire`: who may ask, and what every answer has in common.
- `account`, `customers`, `checkout`, `endpoints_api`, `events`: the API, one module per area; `objects`, `endpoints`: what
  there is.
- `deliveries`: sends events until they are accepted.
- `dashboard`, `commands`: what people do in the Dashboard, such as rolling a key; no API does it.

Contract: providers.md section 3. Deviations from Stripe: only v1, and of it only what the program and its verifications
use; no object is ever expanded, versions are named and change nothing, Connect is left out.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette

from sandbox import environments
from sandbox.stripe import (
    account,
    checkout,
    customers,
    dashboard,
    deliveries,
    endpoints,
    endpoints_api,
    events,
    keys,
    objects,
    settings,
    wire,
)
from sandbox.stripe.keys import Realm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.environments import Environment
    from sandbox.world import World

__all__ = ["application", "inspect", "install", "pause", "resume", "seed", "settings"]

WEBHOOK_PATH: Final = "/webhooks/stripe"
SUBSCRIBED: Final = (
    "checkout.session.completed",
    "checkout.session.expired",
    "customer.created",
    "customer.deleted",
    "customer.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.updated",
)
"""Events that the control plane's endpoint wants."""


def install(world: World) -> None:
    """Create the tables."""
    for module in (keys, wire, objects, endpoints, events):
        module.install(world)


def application(world: World) -> Starlette:
    """Return the API."""
    operations = [
        *account.OPERATIONS,
        *customers.OPERATIONS,
        *checkout.OPERATIONS,
        *endpoints_api.OPERATIONS,
        *events.OPERATIONS,
    ]
    unknown = wire.unknown(world)
    return Starlette(
        routes=wire.routes(world, operations),
        exception_handlers={HTTPStatus.NOT_FOUND: unknown, HTTPStatus.METHOD_NOT_ALLOWED: unknown},
    )


def resume(world: World, *, ready: Callable[[], bool]) -> None:
    """Begin to send events, what is pending first, when `ready` says that the machines they go to are healthy."""
    world.component(deliveries.Deliveries).resume(ready)


async def pause(world: World) -> None:
    """Stop to send events."""
    await world.component(deliveries.Deliveries).pause()


def seed(world: World, environment: Environment = environments.DEFAULT) -> dict[str, str]:
    """Fill a new world: an account, and what the control plane's needs. Return the control plane's Fly secrets.

    A first environment also gets a neighbour whose account is none of anybody's here. Two environments may have one account,
    in different modes. Keeps for `python -m sandbox env`, for this environment: `STRIPE_API_KEY` (the operator's own key of
    the same account and mode), `STRIPE_ACCOUNT_ID`, `STRIPE_WEBHOOK_ENDPOINT_ID`.
    """
    account = environment.stripe_account
    if account not in {row["id"] for row in keys.accounts(world)}:
        account = keys.create_account(world, name="Molecule AI", email="billing@molecule.example", account=account)
    if environment.primary:
        keys.create_account(world, name="Somebody Else", email="billing@elsewhere.example")
    realm = Realm(account=account, livemode=environment.livemode)
    _, api_key = keys.issue(world, realm=realm, name=f"{environment.app} secret key")
    operators = dashboard.OPERATOR_KEY if environment.primary else f"{dashboard.OPERATOR_KEY} of {environment.name}"
    _, operator = keys.issue(world, realm=realm, name=operators)
    endpoint, signing_secret = endpoints.create(
        world,
        realm=realm,
        url=world.url(environment.service("control-plane")) + WEBHOOK_PATH,
        enabled_events=list(SUBSCRIBED),
        description=f"{environment.app} webhooks",
    )
    for name, value in (
        ("STRIPE_API_KEY", operator),
        ("STRIPE_ACCOUNT_ID", account),
        ("STRIPE_WEBHOOK_ENDPOINT_ID", endpoint.id),
    ):
        world.keep(environment.key(name), value)
    return {"STRIPE_API_KEY": api_key, "STRIPE_WEBHOOK_SECRET": signing_secret}


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `stripe` in `inspect`. `lost` counts the events that are lost, as `events.py` defines it."""
    found = events.inspect(world)
    return {
        "accounts": [row["id"] for row in keys.accounts(world)],
        "endpoints": endpoints.inspect(world),
        "events": found,
        "lost": sum(event["lost"] for event in found),
    }
