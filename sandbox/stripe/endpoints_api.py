"""The API of webhook endpoints: `/v1/webhook_endpoints` (providers.md 3c).

The answer to a creation is the only one with the `secret`; there is no call that rolls it.

Deviations from Stripe: a live endpoint's URL may be `http`, since everything here is on loopback; an event type only has
to look like one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sandbox.stripe import endpoints
from sandbox.stripe.deliveries import Deliveries
from sandbox.stripe.errors import StripeError, invalid, missing
from sandbox.stripe.wire import PAGE, VERSION, Call, Operation

if TYPE_CHECKING:
    from sandbox.stripe.endpoints import Endpoint

Json = dict[str, Any]

LIMIT: Final = 16
"""Endpoints in each mode of an account (providers.md 3c)."""
_EVENT: Final = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)+")
_PATH: Final = "/v1/webhook_endpoints"


def _create(call: Call) -> Json:
    url, events = _url(call.required("url")), _events(call)
    if not events:
        raise invalid("Missing required param: enabled_events.", "enabled_events", "parameter_missing")
    version = call.text("api_version")
    if version is not None and not VERSION.fullmatch(version):
        raise invalid(f"Invalid api_version: {version}", "api_version")
    metadata, connect = call.metadata({}), call.boolean("connect")
    if len(endpoints.listing(call.world, call.realm)) >= LIMIT:
        raise StripeError(400, f"You have reached the maximum of {LIMIT} {call.realm.mode} webhook endpoints.")
    endpoint, secret = endpoints.create(
        call.world,
        realm=call.realm,
        url=url,
        enabled_events=events,
        api_version=version,
        description=call.text("description"),
        metadata=metadata,
        connect=connect,
    )
    return {**endpoint.document(), "secret": secret}


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", "url", "url_invalid")
    return url


def _events(call: Call) -> list[str]:
    events = call.texts("enabled_events")
    for number, event in enumerate(events):
        if not _EVENT.fullmatch(event):
            raise invalid(f"Invalid enabled_events[{number}]: {event}", f"enabled_events[{number}]")
    return events


def _find(call: Call) -> Endpoint:
    identifier = call.path("webhook_endpoint")
    endpoint = endpoints.get(call.world, identifier)
    if endpoint is None or endpoint.deleted or endpoint.realm != call.realm:
        raise missing("webhook endpoint", identifier, param="webhook_endpoint")
    return endpoint


def _list(call: Call) -> Json:
    documents = [endpoint.document() for endpoint in endpoints.listed(call.world, call.realm)]
    return call.page("webhook endpoint", documents, _PATH)


def _get(call: Call) -> Json:
    return _find(call).document()


def _update(call: Call) -> Json:
    before = _find(call)
    after = replace(
        before,
        url=_url(call.required("url")) if "url" in call.parameters else before.url,
        enabled_events=tuple(_events(call)) or before.enabled_events,
        description=call.text("description") if "description" in call.parameters else before.description,
        metadata=call.metadata(before.metadata),
        enabled=not call.boolean("disabled", not before.enabled),
    )
    endpoints.save(call.world, after)
    return after.document()


def _delete(call: Call) -> Json:
    endpoint = _find(call)
    endpoints.delete(call.world, endpoint)
    call.world.component(Deliveries).cancel(endpoint.id)
    return {"id": endpoint.id, "object": "webhook_endpoint", "deleted": True}


_ONE: Final = f"{_PATH}/{{webhook_endpoint}}"
_CHANGEABLE: Final = frozenset({"url", "enabled_events", "description", "metadata"})

OPERATIONS: Final = (
    Operation(
        method="POST",
        path=_PATH,
        permission="rak_webhook_write",
        handler=_create,
        parameters=_CHANGEABLE | {"api_version", "connect"},
    ),
    Operation(method="GET", path=_PATH, permission="rak_webhook_read", handler=_list, parameters=PAGE),
    Operation(method="GET", path=_ONE, permission="rak_webhook_read", handler=_get),
    Operation(
        method="POST",
        path=_ONE,
        permission="rak_webhook_write",
        handler=_update,
        parameters=_CHANGEABLE | {"disabled"},
    ),
    Operation(method="DELETE", path=_ONE, permission="rak_webhook_write", handler=_delete),
)
