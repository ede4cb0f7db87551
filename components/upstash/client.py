"""A client of Upstash's management API ("Developer API"). No Pulumi here.

Source: Upstash's OpenAPI description, and what it does not say from Upstash's Terraform provider and CLI: that `password` and `rest_token` are
among a database's members, unless Credential Protection hides them. Whether the answer to a reset has them is not settled: both are handled.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from components.answers import reads_answers
from components.http import ONCE, REPEATABLE, Api, Failure, RetryPolicy, json_body, part
from components.operator_credentials import endpoint
from components.upstash import SYSTEM

DOMAIN = "upstash.io"  # of a database whose endpoint is shown as a slug alone


def failure_of(response: httpx.Response) -> Failure | None:
    """Upstash explains a failure as `{"error"}`, as `{"message"}` or in plain text (its CLI knows all three)."""
    body = json_body(response)
    said = str(body.get("error") or body.get("message") or "") if isinstance(body, dict) else ""
    if response.is_success:
        # The REST API of a database answers a command that failed with 400; should it ever be 200, it is no success.
        failed = isinstance(body, dict) and set(body) == {"error"}
        return Failure(status=httpx.codes.BAD_REQUEST, reason=said) if failed else None
    return Failure(status=response.status_code, reason=said or (response.text if body is None else ""))


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database as the management API shows it.

    Attributes:
        host: Where it listens, in full.
        port: For Redis' own protocol.
        tls: Whether it wants TLS there.
        state: active, suspended or passive.
        password: Of the user `default`; "" where Upstash does not show it (Credential Protection).
        rest_token: Of the REST API, which stands for `default`; "" as above.
    """

    host: str
    port: int
    tls: bool
    state: str
    password: str = field(repr=False)
    rest_token: str = field(repr=False)

    def url(self, user: str, password: str) -> str:
        """What a client of Redis connects with. Secret."""
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{self.host}:{self.port}"


def _database(body: Mapping[str, Any]) -> Database:
    shown = str(body.get("endpoint") or "")
    return Database(
        host=shown if "." in shown or not shown else f"{shown}.{DOMAIN}",
        port=int(body.get("port") or 6379),
        tls=bool(body.get("tls", True)),
        state=str(body.get("state") or ""),
        password=str(body.get("password") or ""),
        rest_token=str(body.get("rest_token") or ""),
    )


@reads_answers
@dataclass(frozen=True, kw_only=True)
class UpstashClient:
    """Calls the management API as one account. The base follows UPSTASH_API_URL.

    Attributes:
        email: Of the account.
        key: A management key of it.
    """

    email: str
    key: str = field(repr=False)

    def _call(self, method: str, path: str, *, operation: str, policy: RetryPolicy) -> Database:
        basic = base64.b64encode(f"{self.email}:{self.key}".encode()).decode()
        api = Api(
            system=SYSTEM,
            base_url=endpoint("UPSTASH_API_URL", "https://api.upstash.com/v2"),
            headers={"authorization": f"Basic {basic}"},
            secrets=[self.key, basic],
            judge=failure_of,
        )
        return _database(api.call(method, path, operation=operation, policy=policy).json())

    def database(self, database_id: str) -> Database:
        """One database, with its credentials unless Upstash hides them. Raises ApiError 404 where the account has none of that id."""
        path = f"/redis/database/{part(database_id)}"
        return self._call("GET", path, operation=f"read database {database_id}", policy=REPEATABLE)

    def reset_password(self, database_id: str) -> Database:
        """Gives `default` another password, and the database other REST tokens. Those before are dead at once.

        Not repeatable: each call makes yet another password. The answer may lack it.
        """
        path = f"/redis/reset-password/{part(database_id)}"
        return self._call("POST", path, operation=f"reset the password of database {database_id}", policy=ONCE)
