"""The database's users, and Upstash's `ACL` commands (Upstash documentation, "ACL SETUSER" and its neighbours).

The rules of each user are the world's: they are written down after every change and given to the real server at each
start. The server itself decides who may connect and do what. On it every user lacks the command `acl`: over TCP its
own `ACL` would know nothing of Upstash's rules, and so is refused (NOPERM). Every user also has the server's internal
password, with which the REST API acts as that user. Neither is ever shown.

Deviations from Upstash: `ACL` works over REST only, and of the users only `default` may use it, except for WHOAMI.
`AUTH` over TCP takes a GENTOKEN's token, not the password wrapped in it. Which texts Upstash's errors have is not
known, nor how weak a password GENTOKEN refuses. A revocation is immediate, whatever `revocation_delay` says.

Among the credentials of `inspect` is a token from the moment on in which a user has it as a password: what GENTOKEN
answered and nobody used opens nothing. It is live while that user is on and has it.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sandbox import environments, redis
from sandbox.processes.resp import RedisError
from sandbox.upstash import settings
from sandbox.upstash.wire import PROVIDER
from sandbox.world import random_token, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.processes.resp import Connection, Reply
    from sandbox.world import World

DEFAULT: Final = "default"
READ_ONLY: Final = f"{redis.INTERNAL}read-only"
"""The server's user for the read-only REST token."""
_READ_ONLY_RULES: Final = ("on", "~*", "&*", "+@read", "+ping", "+echo", "-keys", "-scan", "-randomkey", "-dump")
PASSWORD: Final = "password"  # noqa: S105 - a kind of credential
REST: Final = "rest"
REST_READ_ONLY: Final = "rest_read_only"
ACL_TOKEN: Final = "acl"  # noqa: S105 - a kind of credential
KINDS_OF_REST: Final = frozenset({REST, REST_READ_ONLY, ACL_TOKEN})
"""Kinds of credentials that are bearer tokens of the REST API."""
SHORTEST_PASSWORD: Final = 16
FEWEST_CHARACTERS: Final = 8
"""A password given to GENTOKEN needs so many different characters."""
_HARMLESS: Final = frozenset(
    "on off allkeys resetkeys allchannels resetchannels allcommands nocommands resetpass reset".split()  # noqa: SIM905
)
_COMMAND: Final = re.compile(r"[+-]@?[a-z0-9-]+", re.IGNORECASE)
_HASH: Final = re.compile(r"![0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class User:
    """A user as the server has it, without what is internal. `passwords` are SHA-256 in hex."""

    name: str
    enabled: bool
    passwords: list[str]
    keys: list[str]
    channels: list[str]
    commands: str

    def rules(self) -> list[str]:
        """Return the rules that make a new user this one."""
        return [
            "on" if self.enabled else "off",
            *(f"#{digest}" for digest in self.passwords),
            *(f"~{pattern}" for pattern in self.keys),
            *(f"&{pattern}" for pattern in self.channels),
            *self.commands.split(),
        ]


def parse(line: str, internal: str) -> User:
    """Read a line of the server's `ACL LIST`. `internal` is the SHA-256 of the password that is not shown."""
    _, name, *words = line.split(" ")
    return User(
        name=name,
        enabled="on" in words,
        passwords=[word[1:] for word in words if word[0] == "#" and word[1:] != internal],
        keys=[word[1:] for word in words if word[0] == "~"],
        channels=[word[1:] for word in words if word[0] == "&"],
        commands=" ".join(word for word in words if word[0] in "+-" and word != "-acl"),
    )


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        for statement in (
            """
            CREATE TABLE IF NOT EXISTS upstash_users (
                database TEXT NOT NULL, name TEXT NOT NULL, rules TEXT NOT NULL, PRIMARY KEY (database, name)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS upstash_generated_tokens (
                token_sha256 TEXT PRIMARY KEY, database TEXT NOT NULL, user TEXT NOT NULL, wrapped_sha256 TEXT NOT NULL
            )
            """,
        ):
            world.database.execute(statement)


# -- what the world knows ----------------------------------------------------------------------------------------------


def known(world: World, database: str) -> dict[str, list[str]]:
    """Return the rules of each user by its name."""
    rows = world.database.execute("SELECT * FROM upstash_users WHERE database = ? ORDER BY rowid", (database,))
    return {row["name"]: json.loads(row["rules"]) for row in rows}


def write(world: World, database: str, name: str, rules: list[str]) -> None:
    """Write a user's rules down."""
    with world.database:
        world.database.execute(
            """
            INSERT INTO upstash_users VALUES (?, ?, ?)
            ON CONFLICT (database, name) DO UPDATE SET rules = excluded.rules
            """,
            (database, name, json.dumps(rules)),
        )
    reconcile(world, database)


def reconcile(world: World, database: str) -> None:
    """Let credentials live or die with the passwords of the users that are on."""
    accepted = {(name, rule[1:]) for name, rules in known(world, database).items() if "on" in rules for rule in rules}
    for credential in world.credentials.all(PROVIDER):
        scope = credential.scope
        if scope.get("database") != database:
            continue
        if (scope["user"], scope["password_sha256"]) not in accepted:
            world.credentials.revoke(credential.identifier, provider=PROVIDER, at_once=True)
        elif credential.revoked_at is not None:
            world.credentials.restore(credential.identifier, provider=PROVIDER)


def issue(world: World, *, database: str, user: str, kind: str, name: str, value: str, password_sha256: str) -> None:
    """Record a credential that lives as long as its user is on and has the password."""
    if world.credentials.find(PROVIDER, value) is None:
        world.credentials.issue(
            provider=PROVIDER,
            identifier=str(uuid.uuid4()),
            name=name,
            value=value,
            scope={"kind": kind, "database": database, "user": user, "password_sha256": password_sha256},
        )


# -- what the server knows ---------------------------------------------------------------------------------------------


def resume(world: World, database: str) -> None:
    """Give the server, which just started, its users."""
    reconcile(world, database)
    with redis.connect(world, service=environments.redis_of(world, database)) as connection:
        for name, rules in {**known(world, database), READ_ONLY: list(_READ_ONLY_RULES)}.items():
            _apply(world, connection, name, ["reset", *rules])


def _apply(world: World, connection: Connection, name: str, rules: list[str]) -> None:
    connection.call("ACL", "SETUSER", name, *rules, f"#{sha256(redis.password(world))}", "-acl")


def users(world: World, connection: Connection) -> list[User]:
    """Return the server's users without the internal ones."""
    internal = sha256(redis.password(world))
    lines = connection.call("ACL", "LIST")
    found = (
        [parse(line.decode(), internal) for line in lines if isinstance(line, bytes)] if isinstance(lines, list) else []
    )
    return [user for user in found if not user.name.startswith(redis.INTERNAL)]


def reset_default(world: World, database: str, password: str) -> None:
    """Give `default` another password in the place of all it has on the server, and end its connections."""
    with redis.connect(world, service=environments.redis_of(world, database)) as connection:
        _apply(world, connection, DEFAULT, ["resetpass", f"#{sha256(password)}"])
        if not world.number(settings.RESET_KEEPS_CONNECTIONS):
            connection.call("CLIENT", "KILL", "USER", DEFAULT)


# -- commands ----------------------------------------------------------------------------------------------------------


def execute(world: World, database: str, caller: str, words: list[str]) -> Reply:
    """Carry an `ACL` command out; `words` follow `ACL`. Raises `RedisError`."""
    subcommand, arguments = words[0].upper() if words else "", words[1:]
    if subcommand == "WHOAMI":
        return caller.encode()
    if not world.number(settings.ACL_ENABLED):
        raise RedisError("ERR ACL is not available on the free plan")
    if caller != DEFAULT:
        raise RedisError("NOPERM this user has no permissions to run the 'acl' command or its subcommand")
    if subcommand not in _COMMANDS:
        raise RedisError("ERR unknown subcommand for 'acl' command")
    counts, command = _COMMANDS[subcommand]
    if len(arguments) not in counts:
        raise RedisError(f"ERR wrong number of arguments for 'acl|{subcommand.lower()}' command")
    with redis.connect(world, service=environments.redis_of(world, database)) as connection:
        return command(_Context(world=world, connection=connection, database=database), *arguments)


@dataclass(frozen=True, kw_only=True)
class _Context:
    world: World
    connection: Connection
    database: str

    def users(self) -> list[User]:
        return users(self.world, self.connection)

    def find(self, name: str) -> User | None:
        return next((user for user in self.users() if user.name == name), None)


def _list(context: _Context) -> Reply:
    return [f"user {' '.join((user.name, *user.rules()))}".encode() for user in context.users()]


def _names(context: _Context) -> Reply:
    return [user.name.encode() for user in context.users()]


def _describe(context: _Context, name: str) -> Reply:
    user = context.find(name)
    if user is None:
        return None
    return [
        b"flags",
        [b"on" if user.enabled else b"off"],
        b"passwords",
        [digest.encode() for digest in user.passwords],
        b"commands",
        user.commands.encode(),
        b"keys",
        [pattern.encode() for pattern in user.keys],
        b"channels",
        [pattern.encode() for pattern in user.channels],
    ]


def _set_user(context: _Context, name: str, *rules: str) -> Reply:
    if name == DEFAULT or name.startswith(redis.INTERNAL):
        raise RedisError("ERR The 'default' user cannot be modified")
    for rule in rules:
        _check(context, name, rule)
    try:
        _apply(context.world, context.connection, name, list(rules))
    except RedisError as error:
        # The server repeats the rule, and with it a password that is to be removed.
        reason = str(error).rpartition(": ")[2]
        raise RedisError(f"ERR Error in ACL SETUSER: {reason}") from None
    for token in (rule[1:] for rule in rules if rule.startswith(">")):
        _issue(context, name, ACL_TOKEN, name, token, sha256(token))
    user = context.find(name)
    if user is None:
        raise AssertionError(name)
    write(context.world, context.database, name, user.rules())
    return b"OK"


def _issue(context: _Context, user: str, kind: str, name: str, value: str, password_sha256: str) -> None:
    issue(
        context.world,
        database=context.database,
        user=user,
        kind=kind,
        name=name,
        value=value,
        password_sha256=password_sha256,
    )


def _check(context: _Context, name: str, rule: str) -> None:
    """Raise `RedisError` for a rule that Upstash does not take."""
    if rule.startswith(">"):
        row = context.world.database.execute(
            "SELECT 1 FROM upstash_generated_tokens WHERE token_sha256 = ? AND database = ? AND user = ?",
            (sha256(rule[1:]), context.database, name),
        ).fetchone()
        if row is None:
            raise RedisError("ERR Error in ACL SETUSER modifier '>': a password must be generated with ACL GENTOKEN")
    elif rule.startswith("#"):
        raise RedisError("ERR Error in ACL SETUSER modifier '#': hashed passwords are not supported, use ACL GENTOKEN")
    elif rule.lower() == "nopass":
        raise RedisError("ERR Error in ACL SETUSER modifier 'nopass': not supported")
    elif rule[:1] in {"+", "-"} and "|" in rule:
        raise RedisError("ERR Error in ACL SETUSER: rules for subcommands are not supported")
    elif not (
        rule.lower() in _HARMLESS or rule[:1] in {"~", "&", "<"} or _HASH.fullmatch(rule) or _COMMAND.fullmatch(rule)
    ):
        raise RedisError("ERR Error in ACL SETUSER: Syntax error")


def _delete_users(context: _Context, *names: str) -> Reply:
    if DEFAULT in names:
        raise RedisError("ERR The 'default' user cannot be removed")
    there = {user.name for user in context.users()} & set(names)
    if there:
        context.connection.call("ACL", "DELUSER", *sorted(there))  # the server ends their connections
    with context.world.database:
        for name in there:
            context.world.database.execute(
                "DELETE FROM upstash_users WHERE database = ? AND name = ?", (context.database, name)
            )
    reconcile(context.world, context.database)
    return len(there)


def _generate_token(context: _Context, name: str, password: str | None = None) -> Reply:
    if password is not None and (len(password) < SHORTEST_PASSWORD or len(set(password)) < FEWEST_CHARACTERS):
        raise RedisError("ERR The password is too weak")
    token = random_token("AY")
    with context.world.database:
        context.world.database.execute(
            "INSERT INTO upstash_generated_tokens VALUES (?, ?, ?, ?)",
            (sha256(token), context.database, name, sha256(password or random_token(""))),
        )
    return token.encode()


def _rest_token(context: _Context, name: str, password: str) -> Reply:
    user = context.find(name)
    wrapping = context.world.database.execute(
        "SELECT token_sha256 FROM upstash_generated_tokens WHERE wrapped_sha256 = ? AND database = ? AND user = ?",
        (sha256(password), context.database, name),
    )
    candidates = [sha256(password), *(row["token_sha256"] for row in wrapping)]
    found = next((digest for digest in candidates if user is not None and digest in user.passwords), None)
    if found is None:
        raise RedisError(f'ERR Wrong password or user "{name}" does not exist')
    token = random_token("AY")
    _issue(context, name, REST, f"REST token of {name}", token, found)
    reconcile(context.world, context.database)  # of a user that is off it is dead
    return token.encode()


def _categories(context: _Context, *arguments: str) -> Reply:
    return context.connection.call("ACL", "CAT", *arguments)


def _password(context: _Context, *arguments: str) -> Reply:
    return context.connection.call("ACL", "GENPASS", *arguments)


def _nothing(_context: _Context) -> Reply:
    return b"OK"


_COMMANDS: Final[dict[str, tuple[range, Callable[..., Reply]]]] = {
    "LIST": (range(1), _list),
    "USERS": (range(1), _names),
    "GETUSER": (range(1, 2), _describe),
    "SETUSER": (range(1, 1000), _set_user),
    "DELUSER": (range(1, 1000), _delete_users),
    "GENTOKEN": (range(1, 3), _generate_token),
    "RESTTOKEN": (range(2, 3), _rest_token),
    "CAT": (range(2), _categories),
    "GENPASS": (range(2), _password),
    "SAVE": (range(1), _nothing),
    "LOAD": (range(1), _nothing),
}
"""With how many arguments each may come. SAVE and LOAD have nothing to do: every change is kept at once."""
