"""Tenants use what their machine was created with, break when it dies, and work again with what is good."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox import neon
from sandbox.processes import encryption, resp, tenant_database
from tests.sandbox.running import TENANT, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.sandbox.running import Sandbox

KEY = base64.b64encode(bytes(range(32))).decode()


def data(sandbox: Sandbox, method: str, slug: str, key: str, value: str | None = None) -> httpx.Response:
    """Read or write an organization's data through the control plane."""
    return sandbox.control_plane(method, f"/cp/orgs/{slug}/data/{key}", None if value is None else {"value": value})


def machine_of(sandbox: Sandbox, slug: str) -> dict[str, Any]:
    return next(machine for machine in sandbox.machines(TENANT) if machine["name"] == f"tenant-{slug}")


def change(sandbox: Sandbox, slug: str, **environment: str | None) -> None:
    """Change a tenant's environment, as a rotation does: through the Machines API."""
    machine = machine_of(sandbox, slug)
    merged = {**machine["config"]["env"], **environment}
    config = {**machine["config"], "env": {name: value for name, value in merged.items() if value is not None}}
    answer = sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": config})
    assert answer.status_code == 200, answer.text
    until(lambda: serves(sandbox, slug, answer.json()["instance_id"]), what=f"the tenant of {slug} serves again")


def serves(sandbox: Sandbox, slug: str, instance: str | None = None) -> bool:
    machine = machine_of(sandbox, slug)
    passing = all(check["status"] == "passing" for check in machine["checks"])
    return bool(machine["state"] == "started" and passing and instance in {None, machine["instance_id"]})


def breakages(sandbox: Sandbox, consumer: str) -> list[str]:
    return [each["what"] for each in sandbox.inspect()["breakages"] if each["consumer"] == consumer]


def log(sandbox: Sandbox) -> str:
    return sandbox.fly("GET", "/api/v1/apps/molecule-tenant/logs").text


def stored(sandbox: Sandbox, slug: str, key: str) -> bytes:
    """Return what lies in Redis."""
    organization = machine_of(sandbox, slug)["config"]["env"]["MOLECULE_ORG_ID"]
    database = sandbox.database()
    with resp.Connection(database["endpoint"], database["port"]) as connection:
        connection.authenticate("default", database["password"])
        value = connection.call("GET", f"org:{organization}:{key}")
    assert isinstance(value, bytes)
    return value


@pytest.fixture
def acme(sandbox: Sandbox) -> Iterator[str]:
    """Return the slug of an organization that is there for one test."""
    slug = f"acme-{os.urandom(4).hex()}"
    assert sandbox.provision(slug) == "running"
    until(lambda: serves(sandbox, slug), what="the tenant is healthy")
    yield slug
    assert sandbox.control_plane("DELETE", f"/cp/orgs/{slug}").status_code == 204


@pytest.fixture
def restored(sandbox: Sandbox) -> Iterator[None]:
    """Give the control plane a URL that works again."""
    yield
    sandbox.secrets(TENANT_REDIS_URL=sandbox.redis_url("default", sandbox.database()["password"]))
    sandbox.roll()


def test_a_tenant_keeps_its_organizations_data(sandbox: Sandbox, acme: str) -> None:
    broken = sandbox.inspect()["breakages"]
    environment = sandbox.environment_of(machine_of(sandbox, acme)["id"], "molecule-tenant")
    for ours, theirs in (
        ("TENANT_REDIS_URL", "REDIS_URL"),
        ("SECRETS_ENCRYPTION_KEY", "SECRETS_ENCRYPTION_KEY"),
    ):
        assert environment[theirs] == hashlib.sha256(sandbox.secret_value(ours).encode()).hexdigest()
    assert sandbox.tenant("GET", acme, "/health").json()["status"] == "ok"
    assert data(sandbox, "GET", acme, "greeting").status_code == 404
    assert data(sandbox, "PUT", acme, "greeting", "hällo").json() == {"key": "greeting", "value": "hällo"}
    assert data(sandbox, "GET", acme, "greeting").json() == {"key": "greeting", "value": "hällo"}
    assert sandbox.tenant("GET", acme, "/data/greeting").json()["value"] == "hällo"
    assert sandbox.tenant("PUT", acme, "/data/a%20b", {"value": "spaced"}).status_code == 200
    assert data(sandbox, "GET", acme, "a%20b").json() == {"key": "a b", "value": "spaced"}
    assert sandbox.tenant("PUT", acme, "/data/greeting", {"value": 1}).status_code == 400
    assert data(sandbox, "PUT", acme, "greeting").status_code == 400
    assert [sandbox.tenant("GET", acme, path).status_code for path in ("/env", "/data", "/nothing")] == [404] * 3
    assert data(sandbox, "GET", "no-such-org", "greeting").status_code == 404
    nobody = sandbox.control_plane("GET", f"/cp/orgs/{acme}/data/greeting", headers={})
    assert nobody.status_code == 401
    assert stored(sandbox, acme, "greeting").decode() == "hällo", "no key is needed for what is kept"
    assert sandbox.inspect()["breakages"] == broken
    assert "control-plane PUT /cp/orgs/{slug}/data/{key}" in sandbox.inspect()["requests"]


def test_tenants_do_not_see_each_others_data(sandbox: Sandbox, acme: str) -> None:
    assert sandbox.provision("other-tenant") == "running"
    until(lambda: serves(sandbox, "other-tenant"), what="the other tenant is healthy")
    data(sandbox, "PUT", acme, "same", "ours")
    assert data(sandbox, "GET", "other-tenant", "same").status_code == 404
    data(sandbox, "PUT", "other-tenant", "same", "theirs")
    assert data(sandbox, "GET", acme, "same").json()["value"] == "ours"
    assert sandbox.control_plane("DELETE", "/cp/orgs/other-tenant").status_code == 204


@pytest.mark.usefixtures("restored")
def test_a_reset_breaks_running_tenants_until_their_machine_is_updated(sandbox: Sandbox, acme: str) -> None:
    data(sandbox, "PUT", acme, "kept", "value")
    consumer = f"molecule-tenant/{machine_of(sandbox, acme)['id']}"
    assert breakages(sandbox, consumer) == []
    after = sandbox.reset_password()
    answer = data(sandbox, "GET", acme, "kept")
    assert (answer.status_code, answer.json()) == (503, {"error": "redis refused the credential: WRONGPASS"})
    assert breakages(sandbox, consumer) == ["upstash redis GET as default: refused with WRONGPASS"]
    assert "GET /data/kept was answered 503" in breakages(sandbox, "molecule-tenant")
    assert sandbox.tenant("GET", acme, "/health").status_code == 200, "which proves nothing"
    # The control plane's new secret reaches new tenants only.
    new_url = sandbox.redis_url("default", after["password"])
    sandbox.secrets(TENANT_REDIS_URL=new_url)
    sandbox.roll()
    assert sandbox.provision("made-after-reset") == "running"
    until(lambda: serves(sandbox, "made-after-reset"), what="the new tenant is healthy")
    assert data(sandbox, "PUT", "made-after-reset", "a", "b").status_code == 200
    assert data(sandbox, "GET", acme, "kept").status_code == 503
    change(sandbox, acme, REDIS_URL=new_url)
    assert data(sandbox, "GET", acme, "kept").json()["value"] == "value"
    assert sandbox.control_plane("DELETE", "/cp/orgs/made-after-reset").status_code == 204
    assert after["password"] not in log(sandbox)


@pytest.mark.usefixtures("restored")
def test_with_users_nothing_breaks_until_the_old_one_is_deleted_under_a_tenant(sandbox: Sandbox, acme: str) -> None:
    old, new = (sandbox.redis_url(name, sandbox.acl_user(name)) for name in ("tenants-g1", "tenants-g2"))
    change(sandbox, acme, REDIS_URL=old)
    data(sandbox, "PUT", acme, "kept", "value")
    broken = sandbox.inspect()["breakages"]
    found = sandbox.inspect()["upstash"]["databases"][0]["users"]
    assert {"name": "tenants-g1", "enabled": True, "connections": 1} in found
    change(sandbox, acme, REDIS_URL=new)
    assert data(sandbox, "GET", acme, "kept").json()["value"] == "value"
    assert sandbox.acl("DELUSER", "tenants-g1") == 1
    assert data(sandbox, "GET", acme, "kept").json()["value"] == "value"
    assert sandbox.inspect()["breakages"] == broken
    # Now the mistake: the user that is in use.
    assert sandbox.acl("DELUSER", "tenants-g2") == 1
    assert data(sandbox, "GET", acme, "kept").status_code == 503
    consumer = f"molecule-tenant/{machine_of(sandbox, acme)['id']}"
    assert breakages(sandbox, consumer) == ["upstash redis GET as tenants-g2: refused with WRONGPASS"]


def test_a_user_without_the_permission_breaks_a_tenant(sandbox: Sandbox, acme: str) -> None:
    token = str(sandbox.acl("GENTOKEN", "reader"))
    sandbox.acl("SETUSER", "reader", "on", f">{token}", "~*", "+get")
    change(sandbox, acme, REDIS_URL=sandbox.redis_url("reader", token))
    assert data(sandbox, "GET", acme, "none").status_code == 404
    assert data(sandbox, "PUT", acme, "none", "value").status_code == 503
    consumer = f"molecule-tenant/{machine_of(sandbox, acme)['id']}"
    assert breakages(sandbox, consumer) == ["upstash redis SET as reader: refused with NOPERM"]
    sandbox.acl("DELUSER", "reader")


def test_a_dropped_connection_is_made_again(sandbox: Sandbox, acme: str) -> None:
    data(sandbox, "PUT", acme, "kept", "value")
    token = sandbox.acl_user("dropped")
    change(sandbox, acme, REDIS_URL=sandbox.redis_url("dropped", token))
    data(sandbox, "GET", acme, "kept")
    broken = sandbox.inspect()["breakages"]
    # Another user of the same name: the connection is cut, the credential stays good.
    sandbox.acl("DELUSER", "dropped")
    sandbox.acl("SETUSER", "dropped", "on", f">{token}", "~*", "+@all")
    assert data(sandbox, "GET", acme, "kept").json()["value"] == "value"
    assert sandbox.inspect()["breakages"] == broken
    sandbox.acl("DELUSER", "dropped")


def test_a_redis_that_does_not_answer_is_no_refusal(sandbox: Sandbox, acme: str) -> None:
    change(sandbox, acme, REDIS_URL="redis://default:x@127.0.0.1:1")
    answer = data(sandbox, "GET", acme, "kept")
    assert (answer.status_code, answer.json()["error"]) == (503, "redis does not answer: ConnectionRefusedError")
    assert breakages(sandbox, f"molecule-tenant/{machine_of(sandbox, acme)['id']}") == []
    for url in (None, "rediss://default:x@127.0.0.1:1", "redis://default:x@127.0.0.1:no"):
        change(sandbox, acme, REDIS_URL=url)
        assert data(sandbox, "GET", acme, "kept").status_code == 503
    assert "REDIS_URL is not a redis:// URL" in log(sandbox)


def test_what_control_plane_and_tenant_exchange_is_sealed(sandbox: Sandbox, acme: str) -> None:
    """As whoever listens between them would see it, and with none of the sandbox's own code."""
    key = AESGCM(base64.b64decode(sandbox.secret_value("SECRETS_ENCRYPTION_KEY")))
    nonce = os.urandom(12)
    sealed = base64.b64encode(nonce + key.encrypt(nonce, "hällo".encode(), None)).decode()
    answers = [
        sandbox.tenant("PUT", acme, "/data/x?sealed=1", {"sealed": sealed}).json(),
        sandbox.tenant("GET", acme, "/data/x?sealed=1").json(),
    ]
    for answer in answers:
        assert sorted(answer) == ["key", "sealed"]
        content = base64.b64decode(answer["sealed"])
        assert key.decrypt(content[:12], content[12:], None).decode() == "hällo"
    assert len({sealed, *(answer["sealed"] for answer in answers)}) == 3, "a nonce is used once"
    assert data(sandbox, "GET", acme, "x").json() == {"key": "x", "value": "hällo"}
    assert sandbox.tenant("GET", acme, "/data/none?sealed=1").status_code == 404
    data(sandbox, "PUT", acme, "x", "from the control plane")
    assert sandbox.tenant("GET", acme, "/data/x").json()["value"] == "from the control plane"


def test_with_different_keys_control_plane_and_tenant_cannot_talk(sandbox: Sandbox, acme: str) -> None:
    data(sandbox, "PUT", acme, "kept", "value")
    change(sandbox, acme, SECRETS_ENCRYPTION_KEY=KEY)
    consumer = f"molecule-tenant/{machine_of(sandbox, acme)['id']}"
    planes = {f"molecule-cp/{machine['id']}" for machine in sandbox.machines()}
    before = len(sandbox.inspect()["breakages"])
    # The tenant cannot open what is written.
    assert data(sandbox, "PUT", acme, "kept", "lost").status_code == 500
    assert breakages(sandbox, consumer) == [
        "a value that the control plane sealed, or wants sealed: no key here that fits"
    ]
    assert not planes & {each["consumer"] for each in sandbox.inspect()["breakages"][before:]}
    # The control plane cannot open what is read.
    before = len(sandbox.inspect()["breakages"])
    assert data(sandbox, "GET", acme, "kept").status_code == 500
    found = sandbox.inspect()["breakages"][before:]
    assert f"a value that the tenant of {acme} sealed cannot be opened" in [
        each["what"] for each in found if each["consumer"] in planes
    ]
    assert "GET /cp/orgs/" + acme + "/data/kept was answered 500" in breakages(sandbox, "molecule-cp")
    assert not [each for each in found if each["consumer"] == consumer]
    # Directly it needs no key, and nothing was lost.
    assert sandbox.tenant("GET", acme, "/data/kept").json()["value"] == "value"
    assert sandbox.tenant("PUT", acme, "/data/kept", {"value": "anew"}).status_code == 200
    change(sandbox, acme, SECRETS_ENCRYPTION_KEY=sandbox.secret_value("SECRETS_ENCRYPTION_KEY"))
    assert data(sandbox, "GET", acme, "kept").json()["value"] == "anew"


@pytest.mark.parametrize("key", [None, "f" * 64, "too-short"])
def test_without_a_usable_key_a_tenant_carries_on_but_cannot_talk_to_the_control_plane(
    sandbox: Sandbox, acme: str, key: str | None
) -> None:
    data(sandbox, "PUT", acme, "kept", "value")
    change(sandbox, acme, SECRETS_ENCRYPTION_KEY=key)
    if key is not None:
        assert f"SECRETS_ENCRYPTION_KEY: got {48 if len(key) == 64 else 9} bytes, expected 32" in log(sandbox)
    assert sandbox.tenant("GET", acme, "/health").status_code == 200
    assert sandbox.tenant("GET", acme, "/data/kept").json()["value"] == "value"
    assert sandbox.tenant("PUT", acme, "/data/kept", {"value": "anew"}).status_code == 200
    consumer = f"molecule-tenant/{machine_of(sandbox, acme)['id']}"
    assert breakages(sandbox, consumer) == []
    assert [data(sandbox, *call).status_code for call in (("GET", acme, "kept"), ("PUT", acme, "kept", "v"))] == [
        500,
        500,
    ]
    assert len(breakages(sandbox, consumer)) == 2
    assert sandbox.tenant("GET", acme, "/data/kept").json()["value"] == "anew"


def test_a_tenant_uses_its_own_database_until_its_password_is_reset(sandbox: Sandbox, acme: str) -> None:
    machine = machine_of(sandbox, acme)
    url = machine["config"]["env"]["DATABASE_URL"]
    branches = sandbox.neon("GET", f"/projects/{neon.PROJECT}/branches").json()["branches"]
    branch = next(each["id"] for each in branches if each["name"] == acme)
    broken = sandbox.inspect()["breakages"]
    answer = sandbox.tenant("GET", acme, "/database")
    assert (answer.status_code, answer.json()) == (200, {"database": f"neondb-{branch}"})
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE notes (text text)")
    assert sandbox.inspect()["breakages"] == broken
    role = f"/projects/{neon.PROJECT}/branches/{branch}/roles/{neon.OWNER}"
    with sandbox.setting(neon__operation_seconds=0):
        assert sandbox.neon("POST", f"{role}/reset_password").status_code == 200
    query = f"database_name=neondb&role_name={neon.OWNER}&branch_id={branch}"
    new = sandbox.neon("GET", f"/projects/{neon.PROJECT}/connection_uri?{query}").json()["uri"]
    answer = sandbox.tenant("GET", acme, "/database")
    assert (answer.status_code, answer.json()) == (503, {"error": "the database refused the credential"})
    consumer = f"molecule-tenant/{machine['id']}"
    assert breakages(sandbox, consumer) == ["postgres: the credential of DATABASE_URL was refused"]
    assert data(sandbox, "PUT", acme, "kept", "value").status_code == 200, "its Redis is another matter"
    change(sandbox, acme, DATABASE_URL=new)
    assert sandbox.tenant("GET", acme, "/database").status_code == 200


def test_a_database_that_does_not_answer_is_no_refusal(sandbox: Sandbox, acme: str) -> None:
    change(sandbox, acme, DATABASE_URL="postgresql://u:secret@127.0.0.1:1/d")
    answer = sandbox.tenant("GET", acme, "/database")
    assert (answer.status_code, answer.json()["error"]) == (503, "the database does not answer: OperationalError")
    assert breakages(sandbox, f"molecule-tenant/{machine_of(sandbox, acme)['id']}") == []


def test_what_the_control_plane_keeps_is_what_its_tenant_has(sandbox: Sandbox, acme: str) -> None:
    environment = machine_of(sandbox, acme)["config"]["env"]
    with psycopg.connect(sandbox.secret_value("DATABASE_URL")) as connection:
        columns = connection.execute(
            "SELECT database_url_encrypted, redis_url_encrypted FROM org_instances WHERE org_id = %s",
            (environment["MOLECULE_ORG_ID"],),
        ).fetchone()
    assert columns is not None
    key = base64.b64decode(sandbox.secret_value("SECRETS_ENCRYPTION_KEY"))
    assert [encryption.decrypt(key, column) for column in columns] == [
        environment["DATABASE_URL"],
        environment["REDIS_URL"],
    ]


def test_a_stopped_tenant_is_a_breakage_and_no_crash(sandbox: Sandbox, acme: str) -> None:
    machine = machine_of(sandbox, acme)
    with sandbox.setting(proxy_patience=0.1):
        assert sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}/stop").status_code == 200
        answer = data(sandbox, "GET", acme, "kept")
    assert (answer.status_code, answer.json()) == (503, {"error": "the tenant answered 503"})


def test_a_tenant_is_light(sandbox: Sandbox, acme: str) -> None:
    identifier = machine_of(sandbox, acme)["id"]
    found = [child for child in sandbox.process().children() if child.environ().get("FLY_MACHINE_ID") == identifier]
    assert len(found) == 1
    assert isinstance(found[0], psutil.Process)
    assert found[0].memory_info().rss < 40e6


def test_a_key_opens_only_its_own() -> None:
    key = bytes(range(32))
    assert encryption.decrypt(key, encryption.encrypt(key, "text")) == "text"
    assert encryption.encrypt(key, "text") != encryption.encrypt(key, "text")
    for other in (b"", b"short", b"x" * 40, encryption.encrypt(bytes(32), "text")):
        with pytest.raises(encryption.UndecryptableError):
            encryption.decrypt(key, other)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", ("h", 6379, "default", "", 0)),
        ("redis://:p%40ss@h:1/2", ("h", 1, "default", "p@ss", 2)),
        ("redis://u:p@h:1", ("h", 1, "u", "p", 0)),
    ],
)
def test_a_redis_url(url: str, expected: tuple[str, int, str, str, int]) -> None:
    address = resp.parse(url)
    assert (address.host, address.port, address.user, address.password, address.database) == expected
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize("url", ["", "rediss://u:secret@h", "redis://", "redis://u:secret@h:x", "redis://u:secret@h/x"])
def test_what_is_no_redis_url(url: str) -> None:
    with pytest.raises(ValueError, match="not a redis:// URL") as raised:
        resp.parse(url)
    assert "secret" not in str(raised.value)


def test_without_a_postgres_url_the_database_is_not_tried() -> None:
    assert [tenant_database.check(url, pytest.fail)[0] for url in ("", "mysql://h/d")] == [501, 501]
