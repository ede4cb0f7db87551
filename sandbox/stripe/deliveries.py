"""Sends events to endpoints until they are accepted: signed with every accepted secret, tried again after failures.

Contract: providers.md 3c and 3e. A 2xx accepts; anything else, a redirect too, is a failure. Each attempt is recorded
with its status and the number of its signatures. What was pending when the sandbox stopped is sent when it runs again;
an attempt that the stop cut off counts as none, so that its event may arrive twice, as Stripe's may.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx

from sandbox.middleware import CONSUMER_HEADER
from sandbox.stripe import endpoints, events, settings
from sandbox.world import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.stripe.endpoints import Endpoint
    from sandbox.stripe.events import Event
    from sandbox.stripe.keys import Realm
    from sandbox.world import World

PATIENCE: Final = 60.0
"""Seconds that a start of the sandbox waits for the control plane before events are sent."""
_LONGEST_BACKOFF: Final = 16
"""Times the setting `stripe.retry_delay`."""


def signature(secrets: Sequence[str], body: bytes, *, at: int) -> str:
    """Return the header `Stripe-Signature` of a body, with one `v1` for each secret; `at` is in seconds since 1970."""
    signed = f"{at}.".encode() + body
    return ",".join(
        [f"t={at}", *(f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets)]
    )


def emit(
    world: World,
    realm: Realm,
    *,
    type_: str,
    subject: dict[str, Any],
    previous: Mapping[str, Any] | None = None,
    origin: dict[str, Any] | None = None,
) -> Event:
    """Record an event (`events.record`) and send it."""
    event = events.record(world, realm, type_=type_, subject=subject, previous=previous, origin=origin)
    world.component(Deliveries).begin(event.id)
    return event


class Deliveries:
    """The deliveries under way: one task for each event and endpoint."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._client: httpx.AsyncClient | None = None
        self._resumption: asyncio.Task[None] | None = None

    def resume(self, ready: Callable[[], bool]) -> None:
        """Send what is pending and whatever comes, from when `ready` says that the receivers are up.

        `PATIENCE` bounds the wait: a control plane that does not come up is not spared its deliveries for ever.
        """
        self._resumption = self._world.spawn(self._resume(ready))

    async def _resume(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready() and time.monotonic() < deadline:  # noqa: ASYNC110 - machines tell nobody
            await asyncio.sleep(0.05)
        self._client = httpx.AsyncClient(
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=False,  # noqa: S501 - to loopback only, and to load the certificates takes 0.03 s
        )
        for row in self._world.database.execute(
            "SELECT DISTINCT event FROM stripe_deliveries WHERE next_at IS NOT NULL"
        ).fetchall():
            self.begin(row["event"])

    async def pause(self) -> None:
        """Stop sending, before those who are sent to stop. Nothing pending is lost."""
        client, self._client = self._client, None
        tasks = [*self._tasks.values(), *filter(None, [self._resumption])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if client is not None:
            await client.aclose()

    def begin(self, event: str) -> None:
        """Send an event to where it is due."""
        if self._client is None:
            return
        for row in self._world.database.execute(
            "SELECT endpoint FROM stripe_deliveries WHERE event = ? AND next_at IS NOT NULL", (event,)
        ).fetchall():
            key = (event, row["endpoint"])
            if key not in self._tasks:
                self._tasks[key] = self._world.spawn(self._deliver(self._client, *key))

    def cancel(self, endpoint: str) -> None:
        """Give up what is pending for an endpoint."""
        database = self._world.database
        pending = database.execute(
            "SELECT event FROM stripe_deliveries WHERE endpoint = ? AND next_at IS NOT NULL", (endpoint,)
        ).fetchall()
        with database:
            database.execute("UPDATE stripe_deliveries SET next_at = NULL WHERE endpoint = ?", (endpoint,))
        for row in pending:
            events.settle(self._world, row["event"])

    async def _deliver(self, client: httpx.AsyncClient, event: str, endpoint: str) -> None:
        try:
            while (at := self._next(event, endpoint)) is not None:
                await asyncio.sleep(max(0.0, (at - self._world.now()).total_seconds()))
                await self._attempt(client, event, endpoint)
        finally:
            del self._tasks[event, endpoint]

    def _next(self, event: str, endpoint: str) -> datetime | None:
        row = self._world.database.execute(
            "SELECT next_at FROM stripe_deliveries WHERE event = ? AND endpoint = ?", (event, endpoint)
        ).fetchone()
        return None if row["next_at"] is None else datetime.fromisoformat(row["next_at"])

    async def _attempt(self, client: httpx.AsyncClient, event_id: str, endpoint_id: str) -> None:
        event, endpoint = events.get(self._world, event_id), endpoints.get(self._world, endpoint_id)
        if event is None or endpoint is None:
            raise LookupError(event_id, endpoint_id)
        if endpoint.deleted or not endpoint.enabled:
            self._schedule(event_id, endpoint_id, None)
            return
        secrets = endpoints.secrets(self._world, endpoint_id)
        status, failure = await self._send(client, event, endpoint, secrets)
        accepted = status is not None and httpx.codes.is_success(status)
        with self._world.database:
            self._world.database.execute(
                "INSERT INTO stripe_attempts VALUES (?, ?, ?, ?, ?, ?)",
                (event_id, endpoint_id, timestamp(self._world.now()), status, failure, len(secrets)),
            )
            if accepted:
                self._world.database.execute(
                    "UPDATE stripe_deliveries SET accepted = 1, next_at = NULL WHERE event = ? AND endpoint = ?",
                    (event_id, endpoint_id),
                )
        if not accepted:
            self._schedule(event_id, endpoint_id, self._backoff(event_id, endpoint_id))

    async def _send(
        self, client: httpx.AsyncClient, event: Event, endpoint: Endpoint, secrets: Sequence[str]
    ) -> tuple[int | None, str | None]:
        """Send an event once; return the status, or else the failure."""
        document = events.rendered(self._world, event, api_version=endpoint.api_version)
        body = json.dumps(document, indent=2).encode()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "accept": "*/*; q=0.5, application/xml",
            "cache-control": "no-cache",
            "stripe-signature": signature(secrets, body, at=int(time.time())),
            CONSUMER_HEADER: "stripe",
        }
        patience = self._world.number(settings.DELIVERY_TIMEOUT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                try:
                    answer = await client.post(endpoint.url, content=body, headers=headers, timeout=None)
                except httpx.HTTPError as error:
                    return None, type(error).__name__
                return answer.status_code, None
        return None, "timeout"

    def _backoff(self, event: str, endpoint: str) -> datetime | None:
        """Return when to try again; `None` if that was the last attempt."""
        tried = self._world.database.execute(
            "SELECT count(*) FROM stripe_attempts WHERE event = ? AND endpoint = ?", (event, endpoint)
        ).fetchone()[0]
        if tried >= self._world.number(settings.ATTEMPTS):
            return None
        factor = min(2 ** (tried - 1), _LONGEST_BACKOFF)
        return self._world.now() + timedelta(seconds=factor * self._world.number(settings.RETRY_DELAY))

    def _schedule(self, event: str, endpoint: str, at: datetime | None) -> None:
        """Note when to try again, unless the endpoint was deleted meanwhile; `None` gives up."""
        with self._world.database:
            self._world.database.execute(
                "UPDATE stripe_deliveries SET next_at = ? WHERE event = ? AND endpoint = ? AND next_at IS NOT NULL",
                (None if at is None else timestamp(at), event, endpoint),
            )
        events.settle(self._world, event)
