"""Upstash's `ACL` commands, over the REST API of a database. No Pulumi here.

Source: Upstash's documentation, "REST API", "ACL SETUSER" and its neighbours. `GENTOKEN` is Upstash's own: a user's password has to be a token
that it made. Commands are sent as a JSON body: a command in the path would put a token into a URL.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from components.answers import reads_answers
from components.http import REPEATABLE, Api
from components.operator_credentials import endpoint
from components.upstash import SYSTEM
from components.upstash.client import failure_of


@dataclass(frozen=True, kw_only=True)
class User:
    """A user of a database.

    Attributes:
        name: As it authenticates.
        enabled: Whether it may.
    """

    name: str
    enabled: bool


def base_url(host: str) -> str:
    """Where a database's REST API is.

    UPSTASH_REDIS_REST_URL counts only where it leads to this machine (a sandbox): Upstash's own SDKs read that variable, so an operator's may
    well name another database.
    """
    told = endpoint("UPSTASH_REDIS_REST_URL", "")
    return told if told and _is_loopback(urlsplit(told).hostname or "") else f"https://{host}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@reads_answers
@dataclass(frozen=True, kw_only=True)
class AccessControl:
    """Manages the users of one database. Every command may be repeated.

    Attributes:
        host: The database's.
        token: Of the REST API, for the user `default`: no other may manage users.
    """

    host: str
    token: str = field(repr=False)

    def _run(self, *words: str, operation: str, secrets: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - JSON
        api = Api(
            system=SYSTEM,
            base_url=base_url(self.host),
            headers={"authorization": f"Bearer {self.token}"},
            secrets=[self.token],
            judge=failure_of,
        )
        answer = api.call("POST", "/", operation=operation, json=list(words), policy=REPEATABLE, secrets=secrets)
        return answer.json()["result"]

    def users(self) -> list[User]:
        """All users, `default` among them."""
        lines = self._run("ACL", "LIST", operation="list the users of the database")
        return [_user(str(line)) for line in lines]

    def generate_token(self, name: str) -> str:
        """Makes a token that `set_user` takes for a user. By itself it opens nothing."""
        operation = f"generate a token for user {name}"
        return str(self._run("ACL", "GENTOKEN", name, operation=operation))

    def set_user(self, name: str, token: str, rules: tuple[str, ...]) -> None:
        """Makes a user who has this token and these rules, and nothing else. In one command: it is complete, or it is not there."""
        operation = f"set up user {name}"
        # An error may repeat the rule that is wrong, so the token is concealed.
        words = ("ACL", "SETUSER", name, "reset", "on", f">{token}", *rules)
        self._run(*words, operation=operation, secrets=(token,))

    def delete_user(self, name: str) -> None:
        """Deletes a user and ends its connections. One that is not there is as good."""
        self._run("ACL", "DELUSER", name, operation=f"delete user {name}")


def _user(line: str) -> User:
    """Of a line such as `user app on #… ~* &* +@all`."""
    _, name, *rules = line.split()
    return User(name=name, enabled="on" in rules)
