"""What the tests of the sandbox's Stripe share: an account's hands, and somebody who is told of events."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from sandbox import cli
from tests.sandbox.running import Sandbox, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

ENDPOINTS = "/v1/webhook_endpoints"


class Account(Sandbox):
    """A sandbox with one control-plane machine and short pauses between deliveries."""

    def start(self, *arguments: str) -> None:
        """Start or resume it."""
        super().start("--machines", "1", "--check-interval", "0.2", "--restart-backoff", "0.02", *arguments)
        self.quickly("set", "stripe.retry_delay=0.05")

    def stripe(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Call Stripe, with the operator's key unless told otherwise."""
        authorization = {"authorization": f"Bearer {self.environment['STRIPE_API_KEY'] if key is None else key}"}
        url = self.environment["STRIPE_API_BASE_URL"] + path
        return self._client.request(method, url, headers={**authorization, **(headers or {})}, data=form)

    def done(self, method: str, path: str, form: Mapping[str, str] | None = None, *, key: str | None = None) -> Any:  # noqa: ANN401
        """Call Stripe, which must obey, and return its answer."""
        answer = self.stripe(method, path, form, key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def dashboard(self, action: str, *arguments: str) -> str:
        """Do something in the Dashboard and return what it shows."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert cli.main(["stripe", action, "--dir", str(self.directory), *arguments]) == 0
        return shown.getvalue().strip()

    def endpoint(self, url: str, *types: str, key: str | None = None, **form: str) -> dict[str, Any]:
        """Make an endpoint."""
        events = {f"enabled_events[{number}]": type_ for number, type_ in enumerate(types or ("*",))}
        made: dict[str, Any] = self.done("POST", ENDPOINTS, {"url": url, **events, **form}, key=key)
        return made

    def event(self, identifier: str) -> dict[str, Any]:
        """Return what `inspect` tells of an event."""
        return next(event for event in self.inspect()["stripe"]["events"] if event["id"] == identifier)

    def settled(self, identifier: str) -> dict[str, Any]:
        """Return an event when nothing of it is pending any more."""
        return until(
            lambda: event if not (event := self.event(identifier))["pending"] else None,
            what=f"{identifier} is delivered or given up",
        )


@dataclass(frozen=True)
class Delivery:
    """One request of a webhook."""

    body: bytes
    signature: str


class Receiver:
    """Somebody at a URL who is told of events, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.deliveries.append(Delivery(body, self.headers["stripe-signature"]))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def heard(self, event: str) -> list[Delivery]:
        """Return the deliveries of an event."""
        return [delivery for delivery in list(self.deliveries) if f'"{event}"'.encode() in delivery.body]


def signatures(header: str) -> Iterator[str]:
    """Return the `v1` signatures of a header."""
    return (part.removeprefix("v1=") for part in header.split(",") if part.startswith("v1="))
