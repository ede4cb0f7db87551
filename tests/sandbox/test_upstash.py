"""Upstash: the management API, the users and their tokens, and what the real Redis makes of them."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import psutil
import pytest
import redis
import yaml

from sandbox.processes import resp
from tests.sandbox.running import Sandbox, alive, children, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

DESCRIPTION = yaml.safe_load((Path(__file__).parents[1] / "specs" / "upstash-developer-api.yml").read_text("utf-8"))
CREDENTIALS = {"password", "rest_token", "read_only_rest_token"}
WRONG = {"error": "WRONGPASS invalid password"}


def good(answer: httpx.Response, method: str, path: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the answer's JSON after checking it against Upstash's description."""
    assert answer.status_code == 200, answer.text
    schema = DESCRIPTION["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    body = answer.json()
    jsonschema.validate(body, {**schema, "components": DESCRIPTION["components"]}, jsonschema.Draft202012Validator)
    described = set(DESCRIPTION["components"]["schemas"]["Database"]["properties"])
    for database in body if isinstance(body, list) else [body]:
        assert set(database) <= described | CREDENTIALS
    return body


@contextlib.contextmanager
def client(sandbox: Sandbox, user: str, password: str) -> Iterator[redis.Redis]:
    """Connect as anybody's client does; nothing is tried twice."""
    url = sandbox.redis_url(user, password)
    found = redis.Redis.from_url(url, decode_responses=True, retry=None, socket_timeout=30)
    try:
        yield found
    finally:
        found.close()


def accepted(sandbox: Sandbox, user: str, password: str) -> bool:
    """Tell whether the server lets a client in, asked in its own protocol over a bare socket."""
    database = sandbox.database()
    with resp.Connection(database["endpoint"], database["port"]) as connection:
        try:
            connection.authenticate(user, password)
        except resp.RedisError as error:
            assert error.code == "WRONGPASS"  # noqa: PT017 - the other branch is no failure
            return False
        return connection.call("PING") == b"PONG"


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def users(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    found = sandbox.inspect()["upstash"]["databases"][0]["users"]
    return {user["name"]: user for user in found}


def live(sandbox: Sandbox, value: str) -> bool:
    digest = hashlib.sha256(value.encode()).hexdigest()
    found = [each for each in sandbox.inspect()["credentials"] if each["sha256"] == digest]
    assert len(found) == 1
    assert found[0]["provider"] == "upstash"
    return bool(found[0]["live"])


# -- management --------------------------------------------------------------------------------------------------------


def test_the_management_api_is_as_described(sandbox: Sandbox) -> None:
    listed = good(sandbox.upstash("GET", "/redis/databases"), "GET", "/redis/databases")
    assert [database["database_name"] for database in listed] == ["molecule-tenants"]
    assert not CREDENTIALS & set(listed[0])
    path = f"/redis/database/{sandbox.environment['UPSTASH_REDIS_ID']}"
    database = good(sandbox.upstash("GET", path), "GET", "/redis/database/{id}")
    assert set(database) - set(listed[0]) == CREDENTIALS
    assert (database["tls"], database["db_acl_enabled"], database["type"]) == (False, "true", "paid")
    assert good(sandbox.upstash("GET", f"{path}?credentials=hide"), "GET", "/redis/database/{id}") == listed[0]
    assert sandbox.secret_value("TENANT_REDIS_URL") == sandbox.redis_url("default", database["password"])
    assert sandbox.environment["UPSTASH_REDIS_REST_TOKEN"] == database["rest_token"]


def test_the_management_api_wants_its_account(sandbox: Sandbox) -> None:
    email, key = sandbox.environment["UPSTASH_EMAIL"], sandbox.environment["UPSTASH_API_KEY"]
    for account in ((email, "wrong"), ("else@molecule.example", key), (email, sandbox.database()["rest_token"])):
        answer = sandbox.upstash("GET", "/redis/databases", account=account)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert sandbox.upstash("GET", "/redis/database/no").status_code == 404
    assert sandbox.upstash("POST", "/redis/reset-password/no").status_code == 404
    assert sandbox.upstash("GET", "/nothing").status_code == 404
    assert live(sandbox, key)


def test_a_reset_replaces_everything_at_once(sandbox: Sandbox) -> None:
    before = sandbox.database()
    with client(sandbox, "default", before["password"]) as connected:
        connected.set("kept", "over a reset")
        after = good(
            sandbox.upstash("POST", f"/redis/reset-password/{before['database_id']}"),
            "POST",
            "/redis/reset-password/{id}",
        )
        assert after == sandbox.database()
        assert not {before[name] for name in CREDENTIALS} & {after[name] for name in CREDENTIALS}
        # The kept connection is cut, a new one is refused.
        with pytest.raises(redis.ConnectionError):
            connected.get("kept")
        with pytest.raises(redis.AuthenticationError):
            connected.get("kept")
    assert not accepted(sandbox, "default", before["password"])
    for token in ("rest_token", "read_only_rest_token"):
        answer = sandbox.rest("GET", "kept", token=before[token])
        assert (answer.status_code, answer.json()) == (401, WRONG)
        assert sandbox.rest("GET", "kept", token=after[token]).json() == {"result": "over a reset"}
    with client(sandbox, "default", after["password"]) as connected:
        assert connected.get("kept") == "over a reset"
    assert [live(sandbox, before[name]) for name in sorted(CREDENTIALS)] == [False] * 3
    assert [live(sandbox, after[name]) for name in sorted(CREDENTIALS)] == [True] * 3


def test_a_reset_may_leave_connections_open(sandbox: Sandbox) -> None:
    with (
        sandbox.setting(upstash__reset_keeps_connections=1),
        client(sandbox, "default", sandbox.database()["password"]) as connected,
    ):
        assert connected.ping()
        assert users(sandbox)["default"]["connections"] == 1
        sandbox.reset_password()
        assert connected.ping()


def test_protected_credentials_are_shown_once(sandbox: Sandbox) -> None:
    with sandbox.setting(upstash__credential_protection=1):
        shown = sandbox.reset_password()
        assert set(shown) >= CREDENTIALS
        assert not CREDENTIALS & set(sandbox.database())
        assert sandbox.rest("PING", token=shown["rest_token"]).json() == {"result": "PONG"}
    with sandbox.setting(upstash__reset_shows_credentials=0):
        assert not CREDENTIALS & set(sandbox.reset_password())
    assert set(sandbox.database()) >= CREDENTIALS


def test_an_endpoint_may_be_a_slug(sandbox: Sandbox) -> None:
    with sandbox.setting(upstash__bare_endpoint=1):
        assert sandbox.database()["endpoint"] == "beloved-stallion-58500"


@pytest.mark.parametrize(
    ("effect", "done"), [(("--status", "503"), False), (("--drop-before",), False), (("--drop-after",), True)]
)
def test_a_reset_that_fails(*, sandbox: Sandbox, effect: tuple[str, ...], done: bool) -> None:
    before = sandbox.database()["password"]
    with (
        sandbox.fault("--provider", "upstash", "--match", "POST", "/redis/reset-password/", *effect),
        contextlib.suppress(Exception),
    ):
        sandbox.reset_password()
    assert accepted(sandbox, "default", before) is not done
    assert accepted(sandbox, "default", sandbox.database()["password"])


# -- REST --------------------------------------------------------------------------------------------------------------


def test_commands_over_rest(sandbox: Sandbox) -> None:
    url, token = sandbox.environment["UPSTASH_REDIS_REST_URL"], sandbox.database()["rest_token"]
    ping = sandbox._client.get(f"{url}/ping", headers={"authorization": f"Bearer {token}"})
    assert ping.json() == {"result": "PONG"}
    assert sandbox.rest("SET", "rest", "ä", "EX", 100).json() == {"result": "OK"}
    assert sandbox.rest("GET", "rest").json() == {"result": "ä"}
    assert sandbox.rest("GET", "nothing").json() == {"result": None}
    assert refusal(sandbox.rest("INCR", "rest")) == "ERR value is not an integer or out of range"
    answer = sandbox.rest(["SET", "p", "1"], ["INCR", "p"], ["NO"], ["MGET", "p", "none"], path="/pipeline")
    assert [list(each) for each in answer.json()] == [["result"], ["result"], ["error"], ["result"]]
    assert [each.get("result") for each in answer.json()] == ["OK", 2, None, ["2", None]]
    answer = sandbox.rest(["SET", "m", "1"], ["INCR", "m"], path="/multi-exec")
    assert answer.json() == [{"result": "OK"}, {"result": 2}]
    assert "ERR" in refusal(sandbox.rest(["SET", "m"], ["INCR", "m"], path="/multi-exec"))
    for words in (("AUTH", "x"), ("SUBSCRIBE", "c"), ("BLPOP", "l", "1"), ("CONFIG", "GET", "*"), ("SHUTDOWN",)):
        assert refusal(sandbox.rest(*words)).startswith("ERR")


def test_commands_in_the_path_and_encoded_answers(sandbox: Sandbox) -> None:
    token, url = sandbox.database()["rest_token"], sandbox.environment["UPSTASH_REDIS_REST_URL"]
    get = sandbox._client.get
    assert get(f"{url}/set/path/a%2Fb?_token={token}").json() == {"result": "OK"}
    assert get(f"{url}/get/path?_token={token}").json() == {"result": "a/b"}
    encoded = get(f"{url}/get/path?_token={token}", headers={"upstash-encoding": "base64"}).json()
    assert encoded == {"result": base64.b64encode(b"a/b").decode()}
    posted = sandbox._client.post(f"{url}/set/path?EX=100&_token={token}", content="body")
    assert posted.json() == {"result": "OK"}
    assert get(f"{url}/get/path?_token={token}").json() == {"result": "body"}
    assert sandbox._client.delete(f"{url}/get/path").status_code == 405


def test_a_read_only_token_only_reads(sandbox: Sandbox) -> None:
    token = sandbox.database()["read_only_rest_token"]
    sandbox.rest("SET", "read", "1")
    assert sandbox.rest("GET", "read", token=token).json() == {"result": "1"}
    assert sandbox.rest("PING", token=token).json() == {"result": "PONG"}
    for words in (("SET", "read", "2"), ("KEYS", "*"), ("ACL", "LIST"), ("FLUSHALL",)):
        answer = sandbox.rest(*words, token=token)
        assert refusal(answer).startswith("NOPERM")


def test_wrong_tokens_are_refused(sandbox: Sandbox) -> None:
    for token in ("wrong", sandbox.database()["password"], sandbox.environment["UPSTASH_API_KEY"], "x y"):
        answer = sandbox.rest("PING", token=token)
        assert (answer.status_code, answer.json()) == (401, WRONG)
    answer = sandbox._client.get(sandbox.environment["UPSTASH_REDIS_REST_URL"] + "/ping")
    assert (answer.status_code, answer.json()) == (401, WRONG)


def test_a_consumer_that_is_refused_is_a_breakage(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    fresh.rest("PING", token="wrong", consumer="some/consumer")
    fresh.rest("SET", "a", "b", token=fresh.database()["read_only_rest_token"], consumer="some/consumer")
    found = [each["what"] for each in fresh.inspect()["breakages"] if each["consumer"] == "some/consumer"]
    assert found == ["upstash POST / PING: refused with 401", "upstash POST / SET: refused with NOPERM"]
    assert fresh.inspect()["requests"]["upstash POST /"] == 2


# -- users -------------------------------------------------------------------------------------------------------------


def test_a_user_from_its_creation_to_its_end(sandbox: Sandbox) -> None:
    token = str(sandbox.acl("GENTOKEN", "app"))
    assert "app" not in sandbox.acl("USERS")
    assert not accepted(sandbox, "app", token)
    assert sandbox.rest("PING", token=token).status_code == 401
    assert sandbox.acl("SETUSER", "app", "on", f">{token}", "~app:*", "+get", "+set", "+ping") == "OK"
    assert live(sandbox, token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert any(line.startswith(f"user app on #{digest} ~app:* -@all +") for line in sandbox.acl("LIST"))
    described = sandbox.acl("GETUSER", "app")
    described = dict(zip(described[::2], described[1::2], strict=True))
    assert (described["flags"], described["passwords"], described["keys"]) == (["on"], [digest], ["app:*"])
    assert set(described["commands"].split()) == {"-@all", "+get", "+set", "+ping"}
    assert sandbox.acl("GETUSER", "nobody") is None
    with client(sandbox, "app", token) as connected:
        connected.set("app:a", "1")
        for forbidden in (("SET", "b", "1"), ("DEL", "app:a"), ("ACL", "WHOAMI"), ("ACL", "SETUSER", "app", "nopass")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                connected.execute_command(*forbidden)  # type: ignore[no-untyped-call]
        # Cumulative, and at once on a connection that is open.
        sandbox.acl("SETUSER", "app", "+del")
        assert connected.delete("app:a") == 1
        sandbox.acl("SETUSER", "app", "-del")
        with pytest.raises(redis.exceptions.NoPermissionError):
            connected.delete("app:a")
        assert sandbox.rest("SET", "app:rest", "1", token=token).json() == {"result": "OK"}
        assert refusal(sandbox.rest("SET", "other", "1", token=token)).startswith("NOPERM")
        assert sandbox.rest("ACL", "WHOAMI", token=token).json() == {"result": "app"}
        assert refusal(sandbox.rest("ACL", "LIST", token=token)).startswith("NOPERM")
        assert users(sandbox)["app"] == {"name": "app", "enabled": True, "connections": 1}
        assert sandbox.acl("DELUSER", "app", "nobody") == 1
        with pytest.raises(redis.ConnectionError):
            connected.get("app:rest")
    assert not accepted(sandbox, "app", token)
    assert sandbox.rest("PING", token=token).status_code == 401
    assert not live(sandbox, token)
    assert "app" not in users(sandbox)


def test_two_tokens_overlap_and_each_can_be_retired(sandbox: Sandbox) -> None:
    first = sandbox.acl_user("pair")
    second, third = (str(sandbox.acl("GENTOKEN", "pair")) for _ in range(2))
    sandbox.acl("SETUSER", "pair", f">{second}", f">{third}")
    assert [accepted(sandbox, "pair", token) for token in (first, second, third)] == [True] * 3
    with client(sandbox, "pair", first) as connected:
        connected.ping()
        sandbox.acl("SETUSER", "pair", f"<{first}")
        sandbox.acl("SETUSER", "pair", f"!{hashlib.sha256(second.encode()).hexdigest()}")
        connected.ping()  # who is in stays in: the server asks for the password once
    assert [accepted(sandbox, "pair", token) for token in (first, second, third)] == [False, False, True]
    assert [live(sandbox, token) for token in (first, second, third)] == [False, False, True]
    assert sandbox.rest("PING", token=first).status_code == 401
    # Back again, then switched off and on as a whole, then without any password.
    sandbox.acl("SETUSER", "pair", f">{first}")
    assert [accepted(sandbox, "pair", first), live(sandbox, first)] == [True, True]
    sandbox.acl("SETUSER", "pair", "off")
    assert [accepted(sandbox, "pair", first), live(sandbox, first), users(sandbox)["pair"]["enabled"]] == [False] * 3
    assert sandbox.rest("PING", token=first).status_code == 401
    sandbox.acl("SETUSER", "pair", "on")
    assert [accepted(sandbox, "pair", first), live(sandbox, first)] == [True, True]
    sandbox.acl("SETUSER", "pair", "resetpass")
    assert [accepted(sandbox, "pair", token) for token in (first, second, third)] == [False] * 3
    sandbox.acl("SETUSER", "pair", "reset")
    assert sandbox.acl("GETUSER", "pair")[1::2] == [["off"], [], "-@all", [], []]
    sandbox.acl("DELUSER", "pair")


def test_rules_that_upstash_does_not_take(sandbox: Sandbox) -> None:
    token = sandbox.acl_user("strict")
    others = str(sandbox.acl("GENTOKEN", "other"))
    before = sandbox.acl("GETUSER", "strict")
    for rule in (
        ">a-password-of-ones-own",
        f">{others}",
        f"#{'a' * 64}",
        "nopass",
        "+client|list",
        "(+get)",
        "what",
        "",
    ):
        error = refusal(sandbox.rest("ACL", "SETUSER", "strict", "+@all", rule))
        assert error.startswith("ERR")
        assert others not in error
    # All or nothing; and what is not there cannot be removed, without repeating it.
    assert "does not exist" in refusal(sandbox.rest("ACL", "SETUSER", "strict", "off", "<secret-not-there"))
    assert "secret" not in refusal(sandbox.rest("ACL", "SETUSER", "strict", "<secret-not-there"))
    assert sandbox.acl("GETUSER", "strict") == before
    assert accepted(sandbox, "strict", token)
    assert "default" in refusal(sandbox.rest("ACL", "SETUSER", "default", "on"))
    assert "default" in refusal(sandbox.rest("ACL", "DELUSER", "strict", "default"))
    assert "strict" in sandbox.acl("USERS")
    for words in (("GENTOKEN",), ("SETUSER",), ("DELUSER",), ("RESTTOKEN", "strict"), ("LIST", "x"), ("DRYRUN",), ()):
        assert refusal(sandbox.rest("ACL", *words)).startswith("ERR")
    sandbox.acl("DELUSER", "strict")


def test_what_is_internal_is_not_shown(sandbox: Sandbox) -> None:
    with sandbox.world() as world:
        internal = hashlib.sha256((world.kept("SANDBOX_REDIS_PASSWORD") or "").encode()).hexdigest()
    lines = " ".join(sandbox.acl("LIST"))
    assert "sandbox:" not in lines
    assert internal not in lines
    assert sandbox.acl("USERS") == ["default"]
    assert sandbox.acl("WHOAMI") == "default"
    assert "read" in sandbox.acl("CAT")
    assert len(sandbox.acl("GENPASS")) == 64
    assert sandbox.acl("SAVE") == "OK"
    for name in ("sandbox:administrator", "sandbox:read-only"):
        assert sandbox.acl("GETUSER", name) is None
        assert sandbox.acl("DELUSER", name) == 0
        assert refusal(sandbox.rest("ACL", "SETUSER", name, "off")).startswith("ERR")


def test_tokens_from_passwords(sandbox: Sandbox) -> None:
    assert "weak" in refusal(sandbox.rest("ACL", "GENTOKEN", "wrapped", "weak"))
    password = "a-Password-with-16+"
    token = str(sandbox.acl("GENTOKEN", "wrapped", password))
    assert "Wrong password" in refusal(sandbox.rest("ACL", "RESTTOKEN", "wrapped", token))
    sandbox.acl("SETUSER", "wrapped", "on", f">{token}", "~*", "+@all")
    fresh_tokens = [str(sandbox.acl("RESTTOKEN", "wrapped", value)) for value in (token, password)]
    assert len({token, *fresh_tokens}) == 3
    for each in fresh_tokens:
        assert sandbox.rest("ACL", "WHOAMI", token=each).json() == {"result": "wrapped"}
        assert live(sandbox, each)
    default = str(sandbox.acl("RESTTOKEN", "default", sandbox.database()["password"]))
    assert sandbox.rest("PING", token=default).json() == {"result": "PONG"}
    sandbox.acl("DELUSER", "wrapped")
    sandbox.reset_password()
    for each in (*fresh_tokens, default):
        assert sandbox.rest("PING", token=each).status_code == 401
        assert not live(sandbox, each)


def test_the_free_plan_has_no_acl(sandbox: Sandbox) -> None:
    with sandbox.setting(upstash__acl_enabled=0):
        assert (sandbox.database()["db_acl_enabled"], sandbox.database()["type"]) == ("false", "free")
        assert "free plan" in refusal(sandbox.rest("ACL", "GENTOKEN", "app"))
        assert sandbox.rest("PING").json() == {"result": "PONG"}


# -- life --------------------------------------------------------------------------------------------------------------


def server_process(sandbox: Sandbox) -> psutil.Process:
    return psutil.Process(int((sandbox.directory / "redis" / "redis.pid").read_text()))


def ended(process: psutil.Process) -> bool:
    return not alive(process)


def test_users_and_data_survive_a_stop_and_a_kill(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    token = fresh.acl_user("survivor")
    fresh.acl("SETUSER", "survivor", "resetkeys", "~mine:*", "-@dangerous")
    dead = str(fresh.acl("GENTOKEN", "survivor"))
    fresh.acl("SETUSER", "survivor", f">{dead}")
    fresh.acl("SETUSER", "survivor", f"<{dead}")
    rest = str(fresh.acl("RESTTOKEN", "survivor", token))
    before = fresh.reset_password()
    listed = fresh.acl("LIST")
    for number, end in enumerate((fresh.stop, fresh.kill)):
        with client(fresh, "survivor", token) as connected:
            connected.set("mine:number", str(number))
        process = server_process(fresh)
        end()
        until(functools.partial(ended, process), what="Redis ends with its sandbox")
        assert run("stop", "--dir", str(fresh.directory)).returncode == 0
        fresh.start()
        assert fresh.database() == before
        assert fresh.acl("LIST") == listed
        assert accepted(fresh, "default", before["password"])
        assert not accepted(fresh, "survivor", dead)
        assert (live(fresh, token), live(fresh, dead), live(fresh, rest)) == (True, False, True)
        assert fresh.rest("GET", "mine:number", token=rest).json() == {"result": str(number)}
        with client(fresh, "survivor", token) as connected, pytest.raises(redis.exceptions.NoPermissionError):
            connected.get("other")


@pytest.mark.parametrize("command", ["start", "stop"])
def test_a_redis_that_outlived_its_sandbox_is_ended(fresh: Sandbox, command: str) -> None:
    fresh.start("--machines", "1")
    server, process = fresh.process(), server_process(fresh)
    for watcher in server.children():
        if watcher.name() in {"sh", "dash", "bash"}:
            os.kill(watcher.pid, signal.SIGKILL)
    fresh.kill()
    assert alive(process)
    if command == "start":
        fresh.start()
        assert fresh.rest("PING").json() == {"result": "PONG"}
    else:
        fresh.stop()
    assert not alive(process)


def test_a_process_of_somebody_else_is_left_alone(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    fresh.stop()
    (fresh.directory / "redis" / "redis.pid").write_text(str(os.getpid()))
    fresh.start()
    assert fresh.rest("PING").json() == {"result": "PONG"}


def test_a_taken_port_is_named(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    port = fresh.database()["port"]
    fresh.stop()
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", port))
        thief.listen()
        failed = run("start", "--dir", str(fresh.directory), "--detach")
    assert failed.returncode == 1
    assert f"Port {port} of the service redis is taken" in failed.stderr
    assert not (fresh.directory / "postgres" / "data" / "postmaster.pid").exists(), "PostgreSQL was stopped again"
    fresh.start()
    processes = children(fresh.process())
    assert {"postgres", "redis-server"} <= {process.name() for process in processes}
    fresh.stop()
    assert not any(alive(process) for process in processes)


def test_two_sandboxes_have_a_redis_each(tmp_path: Path, sandbox: Sandbox) -> None:
    other = Sandbox(tmp_path / "other")
    try:
        other.start("--machines", "1")
        assert other.database()["port"] != sandbox.database()["port"]
        token = other.acl_user("app")
        other.rest("SET", "whose", "other")
        assert sandbox.rest("GET", "whose").json() == {"result": None}
        assert not accepted(sandbox, "app", token)
        assert not accepted(sandbox, "default", other.database()["password"])
        assert sandbox.upstash("GET", "/redis/databases", account=(
            other.environment["UPSTASH_EMAIL"], other.environment["UPSTASH_API_KEY"])).status_code == 401  # fmt: skip
        other.stop()
        assert sandbox.rest("PING").json() == {"result": "PONG"}
    finally:
        other.stop()


def test_no_credential_lies_in_the_folder_or_in_a_command_line(fresh: Sandbox) -> None:
    fresh.start("--machines", "1")
    with fresh.world() as world:
        values = [world.kept("SANDBOX_REDIS_PASSWORD") or ""]
    values += [fresh.database()[name] for name in CREDENTIALS] + [fresh.acl_user("app")]
    values += [fresh.reset_password()[name] for name in CREDENTIALS] + [fresh.environment["UPSTASH_API_KEY"]]
    with client(fresh, "app", values[4]) as connected:
        connected.ping()
    server = fresh.process()
    lines = [" ".join(process.cmdline()) for process in (server, *server.children(recursive=True))]
    contents = [path.read_bytes() for path in fresh.directory.rglob("*") if path.is_file()]
    assert not any(value in line for value in values for line in lines)
    assert not any(value.encode() in content for value in values for content in contents)
    assert fresh.directory.joinpath("redis").stat().st_mode & 0o077 == 0
