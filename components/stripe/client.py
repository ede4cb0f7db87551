"""A client of the Stripe API that a rotation needs. No Pulumi here.

Source: Stripe's API reference and OpenAPI document, "Webhook Endpoints", "Account", "Balance", "Idempotent requests". Stripe's own messages
show the last characters of a key, so none of them gets into an error: only its codes do, and the name of a permission. A refused key is 401;
a 403 comes from a key that is alive and lacks a permission.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from components.answers import reads_answers
from components.http import REPEATABLE, Api, ApiError, Failure, RetryPolicy, json_body, pages, part
from components.keyring import Minted
from components.operator_credentials import endpoint

VERSION = "2026-08-26.dahlia"  # whatever the account's default is, answers have the form that this client reads
PAGE = 100  # the largest
CODE = re.compile(r"[a-z0-9_]{1,64}")
# As Stripe words a 403: which permission would allow the request.
PERMISSION = re.compile(r"'(rak_[a-z_]{1,60})' permission")
MEANINGS: Mapping[int, str] = {
    401: "the key is refused",
    403: "the key is alive, but lacks the permission",
    404: "there is no such object in this account and mode",
    409: "a request with the same idempotency key is under way",
    429: "too many requests",
}
# With its idempotency key a creation may be repeated; 409 means that the first try is still under way ("Idempotent requests").
WITH_IDEMPOTENCY_KEY = RetryPolicy(also=frozenset({httpx.codes.CONFLICT}))


def _failure(response: httpx.Response) -> Failure | None:
    """Explains a failure in our own words and Stripe's codes."""
    if response.is_success:
        return None
    body = json_body(response)
    error = body.get("error") if isinstance(body, dict) else None
    named = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    codes = [each for each in named if isinstance(each, str) and CODE.fullmatch(each)]
    if isinstance(error, dict) and (permission := PERMISSION.search(str(error.get("message")))):
        codes.insert(0, permission[1])
    meaning = MEANINGS.get(response.status_code, "")
    return Failure(status=response.status_code, reason=": ".join([*([meaning] if meaning else []), ", ".join(codes)]))


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoint:
    """Where Stripe sends events. Whether it is one for Connect cannot be read.

    Attributes:
        endpoint_id: Stripe's id, `we_…`.
        url: Where events are posted to.
        enabled_events: Their types; `*` is all.
        api_version: The version that they are rendered in; "" for the account's default.
        description: "" for none.
        metadata: The account's own notes.
        enabled: Whether events are sent.
        livemode: Live or test mode.
        created: Seconds since 1970, by Stripe's clock.
    """

    endpoint_id: str
    url: str
    enabled_events: tuple[str, ...]
    api_version: str
    description: str
    metadata: Mapping[str, str]
    enabled: bool
    livemode: bool
    created: int

    @property
    def created_at(self) -> str:
        """RFC 3339."""
        return datetime.fromtimestamp(self.created, UTC).isoformat()


@reads_answers
@dataclass(frozen=True)
class StripeClient:
    """Calls Stripe with one key. The base follows STRIPE_API_BASE_URL. All methods raise `ApiError`."""

    key: str = field(repr=False)

    def _call(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        policy: RetryPolicy = REPEATABLE,
        form: Sequence[tuple[str, str]] = (),
        parameters: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = VERSION,
    ) -> httpx.Response:
        """Makes one call. `version` "" leaves it to the account's default."""
        api = Api(
            system="Stripe",
            base_url=endpoint("STRIPE_API_BASE_URL", "https://api.stripe.com"),
            headers={"authorization": f"Bearer {self.key}"} | ({"stripe-version": version} if version else {}),
            secrets=[self.key],
            judge=_failure,
            request_id_header="request-id",
        )
        body = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        return api.call(
            method,
            path,
            operation=operation,
            content=urlencode(form).encode() if form else None,
            parameters=parameters,
            headers={**(headers or {}), **body},
            policy=policy,
        )

    # The key itself.

    def account(self) -> str:
        """The id of the account that the key belongs to. A restricted key may lack the permission (403)."""
        return str(self._call("GET", "/v1/account", operation="read the account of the key").json()["id"])

    def authenticates(self) -> bool:
        """Whether Stripe takes the key. One that lacks the permission (403) is alive; any other failure tells neither."""
        try:
            self._call("GET", "/v1/balance", operation="see whether the key is taken")
        except ApiError as error:
            if not error.refused and error.status != httpx.codes.FORBIDDEN:
                raise
            return not error.refused
        return True

    def livemode(self) -> bool:
        """Whether the key is of live mode. Where it may not read the balance (403), what it begins with tells."""
        try:
            answer = self._call("GET", "/v1/balance", operation="read the mode of the key")
        except ApiError as error:
            if error.status != httpx.codes.FORBIDDEN or (mode := mode_of(self.key)) is None:
                raise
            return mode == LIVE
        return bool(answer.json()["livemode"])

    def default_version(self) -> str:
        """The account's default version; "" where Stripe does not say. Every answer names the version that it was made in."""
        answer = self._call(
            "GET",
            "/v1/webhook_endpoints",
            operation="read the account's default version",
            parameters={"limit": 1},
            version="",
        )
        return str(answer.headers.get("stripe-version", ""))

    # Webhook endpoints, of the key's account and mode.

    def webhook_endpoints(self) -> list[WebhookEndpoint]:
        """All of them, the newest first."""
        items: list[dict[str, Any]] = []
        parameters: dict[str, str | int] = {"limit": PAGE}
        count = pages()
        while True:
            next(count)
            body = self._call(
                "GET", "/v1/webhook_endpoints", operation="list the webhook endpoints", parameters=parameters
            ).json()
            items.extend(body["data"])
            if not body.get("has_more") or not body["data"]:
                return [_webhook_endpoint(each) for each in items]
            parameters = {"limit": PAGE, "starting_after": body["data"][-1]["id"]}

    def clone_webhook_endpoint(
        self, original: WebhookEndpoint, *, connect: bool, description: str, idempotency_key: str
    ) -> Minted:
        """Makes an endpoint like another one. Only this answer carries its signing secret.

        Args:
            original: Gives URL, events, version and metadata.
            connect: Whether it gets the events of connected accounts instead of the account's own.
            description: Its own.
            idempotency_key: The same for every try: then Stripe makes one endpoint only, and repeats its first answer.
        """
        form = [
            ("url", original.url),
            *(("enabled_events[]", each) for each in original.enabled_events),
            ("description", description),
            *((f"metadata[{name}]", value) for name, value in original.metadata.items()),
        ]
        if original.api_version:
            form.append(("api_version", original.api_version))
        if connect:
            form.append(("connect", "true"))
        answer = self._call(
            "POST",
            "/v1/webhook_endpoints",
            operation=f"create webhook endpoint {description}",
            form=form,
            headers={"idempotency-key": idempotency_key},
            policy=WITH_IDEMPOTENCY_KEY,
        ).json()
        created = _webhook_endpoint(answer)
        return Minted(credential_id=created.endpoint_id, value=answer["secret"], created_at=created.created_at)

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        """Deletes an endpoint, and with it whatever Stripe has still to send there. One that is gone already (404) is as good."""
        try:
            self._call(
                "DELETE",
                f"/v1/webhook_endpoints/{part(endpoint_id)}",
                operation=f"delete webhook endpoint {endpoint_id}",
            )
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


LIVE, TEST = "live", "test"


def mode_of(key: str) -> str | None:
    """`live` or `test`, by what a secret or restricted key begins with; None for what is neither."""
    found = re.fullmatch(r"(?:sk|rk)_(live|test)_[A-Za-z0-9_]+", key)
    return found[1] if found else None


def _webhook_endpoint(body: Mapping[str, Any]) -> WebhookEndpoint:
    return WebhookEndpoint(
        endpoint_id=body["id"],
        url=body["url"],
        enabled_events=tuple(body["enabled_events"]),
        api_version=body.get("api_version") or "",
        description=body.get("description") or "",
        metadata=body.get("metadata") or {},
        enabled=body["status"] == "enabled",
        livemode=body["livemode"],
        created=body["created"],
    )
