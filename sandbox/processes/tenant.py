"""A tenant: keeps its organization's data, with what its machine was created with (contract: control-plane.md).

- `GET /health`: the process is up. It touches nothing; 503 while the sandbox plays this tenant's illness (`illness.py`).
- `GET` and `PUT /data/{key}` (`{"value": text}`): in the Redis of `REDIS_URL`, under the organization's own prefix. 503
  if Redis refuses the credential or does not answer.
- The same with `?sealed=1`, which is how the control plane asks: the value travels sealed with `SECRETS_ENCRYPTION_KEY`
  (`encryption.py`). 500, and a breakage, if this tenant cannot open what was sent or has no usable key.
- `GET /database`: asks the database of `DATABASE_URL` whether it is there (`tenant_database.py`).

With a key that is none it carries on without encryption, unless `MOLECULE_ENV` is `production`: what happens there is not
known, and here the process ends.

The environment is fixed at boot: a tenant keeps using the credential it was given until its machine is updated. Its
connection to Redis is made right after the boot and kept, as a real application's is: a password that was changed is
noticed when the connection has to be made again.

`Tenant` is all of that but for the process around it: `main` is one, `sandbox/fly/light.py` runs many in one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sandbox.processes import encryption, resp, tenant_database
from sandbox.processes.service import FatalError, Handler, log, report_breakage, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Answer = tuple[int, dict[str, Any]]
    """Status and JSON."""

ILLNESS = "SANDBOX_ILLNESS"
"""Names a file: while it exists, the tenant is unhealthy."""


class Unavailable(Exception):  # noqa: N818 - a state, not a mistake
    """The data cannot be had; the message is for the answer, and holds no value."""


class Store:
    """The organization's part of the Redis that all tenants share. Every method raises `Unavailable`."""

    def __init__(self, url: str, organization: str, log: Callable[[str], None], report: Callable[[str], None]) -> None:
        self._prefix = f"org:{organization}:"
        self._log = log
        self._report = report
        self._client: resp.Client | None = None
        try:
            self._address = resp.parse(url) if url else None
        except ValueError as error:
            log(f"tenant: REDIS_URL is {error}")
            self._address = None
        if self._address is not None:
            self._client = resp.Client(self._address)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()

    def connect(self) -> None:
        """Make the connection, where there is a Redis."""
        if self._client is not None:
            self._attempt("AUTH", self._client.connect)

    def get(self, key: str) -> str | None:
        """Return a value, or `None`."""
        stored = self._call("GET", self._prefix + key)
        return stored.decode(errors="replace") if isinstance(stored, bytes) else None

    def put(self, key: str, value: str) -> None:
        """Store a value."""
        self._call("SET", self._prefix + key, value)

    def _call(self, *words: str | bytes) -> resp.Reply:
        if self._client is None:
            raise Unavailable("REDIS_URL is not usable")
        return self._attempt(str(words[0]), functools.partial(self._client.call, *words))

    def _attempt(self, command: str, act: Callable[[], resp.Reply]) -> resp.Reply:
        try:
            return act()
        except resp.RedisError as error:
            self._log(f"tenant: redis answered {error.code}")
            if error.code in resp.REFUSALS:
                user = self._address.user if self._address is not None else ""
                self._report(f"upstash redis {command} as {user}: refused with {error.code}")
                raise Unavailable(f"redis refused the credential: {error.code}") from None
            raise Unavailable(f"redis answered {error.code}") from None
        except OSError as error:
            self._log(f"tenant: redis does not answer: {type(error).__name__}")
            raise Unavailable(f"redis does not answer: {type(error).__name__}") from None


class Tenant:
    """What a tenant answers.

    Args:
        environment: That of its machine.
        log: Writes a line to the machine's log.
        report: Tells the sandbox of a breakage (`service.report_breakage`).

    Raises:
        FatalError: It does not start.
    """

    def __init__(
        self, environment: Mapping[str, str], log: Callable[[str], None], report: Callable[[str], None]
    ) -> None:
        self._environment = environment
        self._log = log
        self._report = report
        self._key: bytes | None = None
        text = environment.get("SECRETS_ENCRYPTION_KEY", "")
        try:
            self._key = encryption.load_key(os.fsencode(text)) if text else None
        except ValueError as error:
            log(f"tenant: SECRETS_ENCRYPTION_KEY: {error}")
            if environment.get("MOLECULE_ENV") == "production":
                raise FatalError(str(error)) from None
        organization = environment.get("MOLECULE_ORG_ID", "unknown")
        self._store = Store(environment.get("REDIS_URL", ""), organization, log, report)
        log(f"tenant: started, encryption {'off' if self._key is None else 'on'}")

    def connect(self) -> None:
        """Make the connection to Redis; a failure is logged, and tried again by the first request."""
        with contextlib.suppress(Unavailable):
            self._store.connect()

    def close(self) -> None:
        """Let go of what is open."""
        self._store.close()

    def answer(self, method: str, target: str, body: bytes | None) -> Answer:
        """Answer a request; `target` is its path with the query, `body` is `None` if it was too long."""
        path, _, query = target.partition("?")
        sealed = bool(urllib.parse.parse_qs(query).get("sealed"))
        match method, *(urllib.parse.unquote(part) for part in path.split("/") if part):
            case "GET", "health":
                return self.health()
            case "GET", "database":
                return tenant_database.check(self._environment.get("DATABASE_URL", ""), self._report)
            case (("GET" | "PUT"), "data", key):
                try:
                    return self._data(key, None if method == "GET" else _document(body), sealed=sealed)
                except Unavailable as error:
                    return HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
                except encryption.UndecryptableError as error:
                    self._log(f"tenant: {error}")
                    self._report("a value that the control plane sealed, or wants sealed: no key here that fits")
                    return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}
        return HTTPStatus.NOT_FOUND, {"error": "not found"}

    def health(self) -> Answer:
        """Answer `GET /health`."""
        organization = self._environment.get("MOLECULE_ORG_ID", "")
        if os.path.exists(self._environment.get(ILLNESS, "")):  # noqa: PTH110 - pathlib would double a tenant's start
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "unhealthy", "org_id": organization}
        return HTTPStatus.OK, {"status": "ok", "org_id": organization}

    def _data(self, key: str, document: dict[str, Any] | None, *, sealed: bool) -> Answer:
        if sealed and self._key is None:
            raise encryption.UndecryptableError("SECRETS_ENCRYPTION_KEY is not usable")
        if document is None:
            value = self._store.get(key)
            if value is None:
                return HTTPStatus.NOT_FOUND, {"error": "no such key"}
        else:
            value = encryption.unseal(self._key, document.get("sealed")) if sealed else document.get("value")
            if not isinstance(value, str):
                return HTTPStatus.BAD_REQUEST, {"error": 'the body must be {"value": text}'}
            self._store.put(key, value)
        if sealed and self._key is not None:
            return HTTPStatus.OK, {"key": key, "sealed": encryption.seal(self._key, value)}
        return HTTPStatus.OK, {"key": key, "value": value}


def _document(body: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class _Handler(Handler):
    tenant: Tenant

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        self.answer(*self.tenant.answer(self.command, self.path, self.body()))

    do_PUT = do_GET  # noqa: N815 - http.server's name


def main() -> None:
    """Boot and serve."""
    try:
        _Handler.tenant = Tenant(os.environ, log, report_breakage)
    except FatalError:
        sys.exit(1)
    threading.Thread(target=_Handler.tenant.connect, daemon=True).start()
    run(_Handler)


if __name__ == "__main__":
    main()
