"""Stripe's webhook endpoints in memory, as far as a rotation sees them."""

import json
from typing import Any
from urllib.parse import parse_qsl

import httpx

from .wire import reply

URL = "https://cp.test/webhooks/stripe"
OPERATOR = "sk_live_51operatoroperator"
NEW = "sk_live_51brandnewbrandnew"
ACCOUNT = "acct_1own"


def endpoint(number: int, **changed: object) -> dict[str, Any]:
    """An endpoint as Stripe shows it; a higher number is a later one."""
    return {
        "id": f"we_{number}",
        "object": "webhook_endpoint",
        "api_version": None,
        "application": None,
        "created": 1_790_000_000 + number,
        "description": None,
        "enabled_events": ["customer.created"],
        "livemode": True,
        "metadata": {},
        "status": "enabled",
        "url": URL,
        **changed,
    }


class FakeStripe:
    """Serves `/v1`; all is well until a test says otherwise.

    Attributes:
        endpoints: The newest first.
        page: The most endpoints in one answer.
        refuse: Status and error by path, for the keys in `refused_keys` or, where that is empty, for all.
        accounts: The account of every key; another key is refused.
        replays: The answers to creations, by idempotency key.
        lost: Creations whose answer is lost, before one arrives.
    """

    def __init__(self) -> None:
        self.endpoints = [endpoint(1)]
        self.page = 100
        self.refuse: dict[str, tuple[int, dict[str, str]]] = {}
        self.refused_keys: set[str] = set()
        self.accounts = {OPERATOR: ACCOUNT, NEW: ACCOUNT}
        self.livemode = True
        self.default_version = "2025-01-01.acacia"
        self.replays: dict[str, dict[str, Any]] = {}
        self.created_forms: list[list[tuple[str, str]]] = []
        self.lost = 0

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        key = request.headers["authorization"].removeprefix("Bearer ")
        path = request.url.path
        if key not in self.accounts:
            return self.error(401, message=f"Invalid API Key provided: sk_live_****{key[-4:]}")
        if path in self.refuse and (not self.refused_keys or key in self.refused_keys):
            status, error = self.refuse[path]
            return self.error(status, **error)
        if path == "/v1/account":
            return reply(200, {"id": self.accounts[key]})
        if path == "/v1/balance":
            return reply(200, {"livemode": self.livemode})
        if request.method == "POST":
            return self._create(request)
        if request.method == "DELETE":
            return self._delete(path.rpartition("/")[2])
        return self._list(request)

    @staticmethod
    def error(status: int, **error: str) -> httpx.Response:
        """An error as Stripe words it."""
        return reply(status, {"error": {"type": "invalid_request_error", **error}}, request_id="req_1")

    def _list(self, request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("starting_after")
        start = 0 if after is None else [each["id"] for each in self.endpoints].index(after) + 1
        size = min(self.page, int(request.url.params["limit"]))
        page = self.endpoints[start : start + size]
        body = {"object": "list", "data": page, "has_more": start + size < len(self.endpoints)}
        return reply(200, body, stripe_version=request.headers.get("stripe-version", self.default_version))

    def _create(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        form = parse_qsl(request.content.decode(), keep_blank_values=True)
        idempotency_key = request.headers.get("idempotency-key", f"none-{len(self.replays)}")
        if idempotency_key not in self.replays:
            self.created_forms.append(form)
            made = endpoint(
                100 + len(self.replays),
                url=dict(form)["url"],
                description=dict(form).get("description"),
                enabled_events=[value for name, value in form if name == "enabled_events[]"],
            )
            self.endpoints.insert(0, made)
            self.replays[idempotency_key] = {**made, "secret": f"whsec_{made['id']}"}
        if self.lost:
            self.lost -= 1
            raise httpx.ReadError("lost", request=request)
        return reply(200, json.loads(json.dumps(self.replays[idempotency_key])))

    def _delete(self, endpoint_id: str) -> httpx.Response:
        if endpoint_id not in {each["id"] for each in self.endpoints}:
            return self.error(404, code="resource_missing")
        self.endpoints = [each for each in self.endpoints if each["id"] != endpoint_id]
        return reply(200, {"id": endpoint_id, "deleted": True})
