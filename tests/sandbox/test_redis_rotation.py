"""Do the credentials of TENANT_REDIS_URL live and die as the program says, and do its checks find what is wrong? On a real Redis."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import pytest
import redis

from components.errors import OperatorError, RefusedError
from components.fly.client import FlyClient
from components.http import ApiError
from components.keyring import Credential, fingerprint
from components.lifecycle import RevocationOrder, Verdict, make_current, revoke_all_but
from components.secret import Family
from components.upstash.client import UpstashClient
from components.upstash.credentials import ACL, DEFAULT, RESET, RedisUsers
from components.upstash.rest import AccessControl
from components.upstash.server import accepts, other_connections
from components.verification.check import CheckFailedError
from components.verification.tenant_machines import TenantMachines
from components.verification.tenant_redis_url import new_user_is_used
from tests.sandbox.checks import run_check
from tests.sandbox.running import TENANT, Sandbox, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

FAMILY = Family(app="molecule-cp", stack="sandbox", secret="TENANT_REDIS_URL", longest_name=64)
USER = "molecule_tenants.molecule-cp-rotation-sandbox-TENANT_REDIS_URL-g"
RULES = "~* &* +@all"
HIDDEN = {"upstash__credential_protection": 1}


@pytest.fixture(autouse=True)
def operator(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of somebody who works against the sandbox."""
    for name, value in sandbox.environment.items():
        if name.startswith("UPSTASH_"):
            monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def no_users_left(sandbox: Sandbox) -> Iterator[None]:
    """Every test begins with `default` alone."""
    yield
    for name in sandbox.acl("USERS"):
        if name != DEFAULT:
            sandbox.acl("DELUSER", name)


def issuer(
    sandbox: Sandbox,
    keyring: Sequence[Credential] | None = (),
    *,
    strategy: str = ACL,
    rest_token: str = "",
    rules: str = RULES,
    user: str = "molecule_tenants",
    database: str | None = None,
) -> RedisUsers:
    environment = sandbox.environment
    return RedisUsers(
        client=UpstashClient(email=environment["UPSTASH_EMAIL"], key=environment["UPSTASH_API_KEY"]),
        database=environment["UPSTASH_REDIS_ID"] if database is None else database,
        strategy=strategy,
        user=user,
        rules=rules,
        rest_token=rest_token,
        keyring=tuple(keyring or ()),
    )


def turn(
    sandbox: Sandbox, generation: int, keyring: list[Credential] | None, *, strategy: str = ACL, before: str = ""
) -> tuple[Credential, list[Credential]]:
    """What the credential's provider does. `before`: the strategy of the last update, where it was another."""
    issuers = [issuer(sandbox, keyring, strategy=each) for each in (strategy, before) if each]
    return make_current(issuers, FAMILY, generation, keyring=keyring)


def revoke(
    sandbox: Sandbox,
    current: Credential,
    keyring: list[Credential],
    *also: str,
    strategy: str = ACL,
    before: str = "",
    rest_token: str = "",
) -> Verdict:
    """What the revocation's provider does."""
    order = RevocationOrder(
        family=FAMILY,
        verified=current,
        holdings={"Fly": fingerprint(current.value)},
        subject="s",
        verified_subject="s",
        known=tuple(keyring),
        also=also,
        proof_timeout=3,
    )
    issuers = [issuer(sandbox, keyring, strategy=each, rest_token=rest_token) for each in (strategy, before) if each]
    return revoke_all_but(issuers, order)


def default_url(sandbox: Sandbox) -> str:
    return sandbox.redis_url(DEFAULT, sandbox.database()["password"])


class Load:
    """Reads and writes without a pause, with one URL: over a connection that it keeps, and over new ones."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._end = threading.Event()
        self.calls = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._use, args=(kept,)) for kept in (True, False)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _use(self, kept: bool) -> None:  # noqa: FBT001 - which of the two
        client = redis.Redis.from_url(self._url, decode_responses=True, retry=None)
        key = f"{self._name}:{kept}"
        while not self._end.is_set():
            try:
                client.set(key, "value")
                assert client.get(key) == "value"
            except redis.RedisError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.calls += 1
            if not kept:
                client.close()
        client.close()


# -- acl ---------------------------------------------------------------------------------------------------------------


def test_users_take_over_from_each_other_without_one_failed_command(sandbox: Sandbox) -> None:
    by_hand = default_url(sandbox)
    keyring: list[Credential] | None = None
    old = by_hand
    for generation in (1, 2, 3):
        with Load(old, "old") as before:
            current, keyring = turn(sandbox, generation, keyring)
            with Load(current.value, "new") as after:
                until(lambda: min(before.calls, after.calls) > 50, what="both are used")
        assert before.failures == after.failures == []
        verdict = revoke(sandbox, current, keyring)
        assert current.credential_id == f"{USER}{generation}"
        assert [each.name for each in verdict.revoked] == (
            [f"{FAMILY.prefix}{generation - 1}"] if generation > 1 else []
        )
        assert [each.credential_id for each in verdict.unmanaged] == [DEFAULT]
        assert accepts(current.value)
        assert accepts(old) is (old == by_hand), "what the program did not make is not touched"
        old = current.value


def test_the_end_of_a_user_ends_its_connections(sandbox: Sandbox) -> None:
    first, keyring = turn(sandbox, 1, None)
    second, keyring = turn(sandbox, 2, keyring)
    with redis.Redis.from_url(first.value, retry=None) as connected:
        connected.ping()
        revoke(sandbox, second, keyring)
        with pytest.raises(redis.ConnectionError):
            connected.ping()
    assert not accepts(first.value)
    assert issuer(sandbox).refuses(first.value)
    issuer(sandbox).revoke(first.credential_id)  # once more is harmless
    assert accepts(second.value)


def test_going_back_ends_the_newer_user_and_its_name_is_not_used_again_while_it_is_known(sandbox: Sandbox) -> None:
    first, keyring = turn(sandbox, 1, None)
    revoke(sandbox, first, keyring)
    second, keyring = turn(sandbox, 2, keyring)
    back, keyring = turn(sandbox, 1, keyring)
    assert back == first
    revoke(sandbox, back, keyring)
    assert not accepts(second.value)
    again, keyring = turn(sandbox, 2, keyring)
    # A token that is dead must not be taken for the one of a user who lives.
    assert again.credential_id == f"{USER}2_2"
    assert again.name == second.name
    assert accepts(again.value)
    assert [each.name for each in revoke(sandbox, again, keyring).revoked] == [first.name]


@pytest.mark.parametrize("crash", ["GENTOKEN", "SETUSER", "done"])
def test_a_crash_while_minting_leaves_nothing_that_lives(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    first, keyring = turn(sandbox, 1, None)

    class KilledError(Exception):
        pass

    def killed(access: AccessControl, name: str, token: str, rules: tuple[str, ...]) -> None:
        if crash == "SETUSER":  # Upstash has taken the user, but not the rule that lets it in
            assert access._run("ACL", "SETUSER", name, f">{token}", "off", *rules, operation="crash") == "OK"
        if crash == "done":
            done(access, name, token, rules)
        raise KilledError

    done = AccessControl.set_user
    with monkeypatch.context() as patch:
        patch.setattr(AccessControl, "set_user", killed)
        with pytest.raises(KilledError):
            turn(sandbox, 2, keyring)
    second, keyring = turn(sandbox, 2, keyring)
    assert second.credential_id == f"{USER}2", "the one of the crash is revoked by its name, or was never on"
    assert accepts(second.value)
    revoke(sandbox, second, keyring)
    assert sorted(sandbox.acl("USERS")) == sorted([DEFAULT, second.credential_id])
    assert not accepts(first.value)
    (line,) = [line for line in sandbox.acl("LIST") if line.startswith(f"user {second.credential_id} ")]
    assert line.count("#") == 1, "one password, not that of the crash beside it"


def test_after_a_lost_state_a_user_that_tenants_hold_is_left_alone(sandbox: Sandbox) -> None:
    first, _ = turn(sandbox, 1, None)
    with Load(first.value, "tenant") as tenant:
        second, keyring = turn(sandbox, 1, None)
        until(lambda: tenant.calls > 50, what="it is used")
    assert tenant.failures == []
    assert second.credential_id == f"{USER}1_2"
    revoke(sandbox, second, keyring)
    assert accepts(second.value)
    assert not accepts(first.value), "proven by the list: nobody knows its token any more"


def test_another_name_for_users_does_not_lose_those_before(sandbox: Sandbox) -> None:
    first, keyring = turn(sandbox, 1, None)
    issuers = [issuer(sandbox, keyring, user="other"), issuer(sandbox, keyring)]
    second, keyring = make_current(issuers, FAMILY, 2, keyring=keyring)
    assert second.credential_id.startswith("other.")
    foreign = sandbox.acl_user("somebody.else-g1")
    assert [each.name for each in revoke(sandbox, second, keyring).revoked] == [first.name]
    assert not accepts(first.value)
    assert accepts(sandbox.redis_url("somebody.else-g1", foreign))


def test_the_hand_made_password_is_ended_when_it_is_asked_for(sandbox: Sandbox) -> None:
    by_hand = default_url(sandbox)
    rest_token = sandbox.database()["rest_token"]
    first, keyring = turn(sandbox, 1, None)
    current, keyring = turn(sandbox, 2, keyring)
    # The settings have changed as well, so that two issuers look.
    verdict = revoke(sandbox, current, keyring, DEFAULT, before=ACL)
    assert {each.credential_id for each in verdict.revoked} == {DEFAULT, first.credential_id}
    assert verdict.unmanaged == ()
    assert not accepts(by_hand)
    assert not accepts(first.value)
    assert accepts(current.value)
    assert sandbox.rest("PING", token=rest_token).status_code == 401
    # With another REST token the next rotation goes on, although the operator's environment has the one before.
    assert issuer(sandbox, rest_token=rest_token).obstacles() == []
    newest, keyring = turn(sandbox, 3, keyring)
    assert [each.name for each in revoke(sandbox, newest, keyring).revoked] == [current.name]


def test_a_password_that_lives_on_is_found_out(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    current, keyring = turn(sandbox, 1, None)
    monkeypatch.setattr(UpstashClient, "reset_password", lambda client, database: client.database(database))
    with pytest.raises(OperatorError, match="still listed as alive"):
        revoke(sandbox, current, keyring, DEFAULT)


def test_without_a_paid_plan_acl_is_refused_and_reset_is_not(sandbox: Sandbox) -> None:
    assert issuer(sandbox).obstacles() == []
    with sandbox.setting(upstash__acl_enabled=0):
        (error,) = issuer(sandbox).obstacles()
        assert "ACL is not available on the free plan" in error.happened
        assert "redisStrategy reset" in error.next_step
        assert issuer(sandbox, strategy=RESET).obstacles() == []
        assert [each.credential_id for each in issuer(sandbox, strategy=RESET).issued()] == [DEFAULT]
        with pytest.raises(ApiError, match="free plan"):
            issuer(sandbox).issued()


def test_protected_credentials_need_the_operators_rest_token(sandbox: Sandbox) -> None:
    rest_token = sandbox.database()["rest_token"]
    with sandbox.setting(**HIDDEN):
        (error,) = issuer(sandbox).obstacles()
        assert "UPSTASH_REDIS_REST_TOKEN" in error.next_step
        assert "upstashRedisRestToken" in error.next_step
        with pytest.raises(RefusedError):
            issuer(sandbox).mint("n")
        (error,) = issuer(sandbox, rest_token="stale-token-of-before").obstacles()
        assert "is refused" in error.happened
        assert "stale-token-of-before" not in str(error)
        helped = issuer(sandbox, rest_token=rest_token)
        assert helped.obstacles() == []
        minted = helped.mint(f"{FAMILY.prefix}1")
        assert accepts(minted.value)
        current = Credential(
            generation=1,
            credential_id=minted.credential_id,
            name=f"{FAMILY.prefix}1",
            value=minted.value,
            created_at="",
        )
        # The new REST token would be lost with the answer.
        with pytest.raises(OperatorError, match="was not reset: Credential Protection"):
            revoke(sandbox, current, [current], DEFAULT, rest_token=rest_token)
        assert helped.obstacles() == []
    assert accepts(default_url(sandbox))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"database": "not-there"}, "no database not-there"),
        ({"user": "a.b"}, "`redisUser` is 'a.b'"),
        ({"rules": "~* +@all nopass"}, "cannot be a rule for keys, channels or commands: nopass"),
        ({"rules": "~* +client|list on >x"}, "commands: +client|list on >x"),
        ({"rules": "~* -flushall"}, "allows no command"),
    ],
)
def test_what_stands_in_the_way_is_said(sandbox: Sandbox, changed: dict[str, str], said: str) -> None:
    (error,) = issuer(sandbox, **changed).obstacles()  # type: ignore[arg-type]
    assert said in error.happened
    assert error.next_step


def test_a_bare_endpoint_is_a_host_of_upstash(sandbox: Sandbox) -> None:
    with sandbox.setting(upstash__bare_endpoint=1):
        minted = issuer(sandbox).mint(f"{FAMILY.prefix}1")
        port = sandbox.database()["port"]
        assert minted.value.endswith(f"@beloved-stallion-58500.upstash.io:{port}")
        with pytest.raises(ApiError) as failed:
            issuer(sandbox).refuses(minted.value)
    assert failed.value.status is None
    assert minted.value not in str(failed.value)
    assert minted.value.rpartition("@")[0].rpartition(":")[2] not in str(failed.value)


# -- reset -------------------------------------------------------------------------------------------------------------


def test_reset_ends_the_old_password_at_once(sandbox: Sandbox) -> None:
    by_hand = default_url(sandbox)
    assert "cannot use Redis" in issuer(sandbox, strategy=RESET).outage
    assert (issuer(sandbox).outage, issuer(sandbox).warnings()) == ("", [])
    first, keyring = turn(sandbox, 1, None, strategy=RESET)
    assert not accepts(by_hand)
    assert accepts(first.value)
    assert revoke(sandbox, first, keyring, strategy=RESET).unmanaged == ()
    second, keyring = turn(sandbox, 2, keyring, strategy=RESET)
    assert not accepts(first.value)
    revoke(sandbox, second, keyring, strategy=RESET)
    assert accepts(second.value), "a revocation resets nothing"
    with pytest.raises(OperatorError, match="nothing was revoked"):
        revoke(sandbox, second, keyring, DEFAULT, strategy=RESET)
    assert accepts(second.value)
    back, keyring = turn(sandbox, 1, keyring, strategy=RESET)
    assert back.value not in {first.value, second.value}, "a dead password does not come back: another one is made"
    assert accepts(back.value)


@pytest.mark.parametrize(
    ("settings", "works"),
    [
        ({"upstash__credential_protection": 0}, True),
        ({"upstash__reset_shows_credentials": 0}, True),
        (HIDDEN, True),
        ({**HIDDEN, "upstash__reset_shows_credentials": 0}, False),
    ],
    ids=str,
)
def test_a_new_password_is_found_where_upstash_shows_it(
    *, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], works: bool
) -> None:
    monkeypatch.setattr("components.upstash.credentials.LOOK_SECONDS", 0.01)
    old = default_url(sandbox)
    try:
        with sandbox.setting(**settings):
            if works:
                first, keyring = turn(sandbox, 1, None, strategy=RESET)
                assert accepts(first.value)
                assert revoke(sandbox, first, keyring, strategy=RESET).unmanaged == ()
                second, keyring = turn(sandbox, 2, keyring, strategy=RESET)
                revoke(sandbox, second, keyring, strategy=RESET)
                assert (accepts(first.value), accepts(second.value)) == (False, True)
                third, _ = turn(sandbox, 2, keyring, strategy=RESET)
                assert third == second, "what lives is not made again"
            else:
                assert "Credential Protection" in issuer(sandbox, strategy=RESET).warnings()[0]
                with pytest.raises(OperatorError, match="does not show the new one") as failed:
                    turn(sandbox, 1, None, strategy=RESET)
                assert "are dead" in failed.value.state
                assert "Credential Protection" in failed.value.next_step
        assert not accepts(old)
    finally:
        assert accepts(default_url(sandbox))


@pytest.mark.parametrize(("effect", "done"), [("--drop-after", True), ("--drop-before", False)])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_reset_whose_answer_is_lost(
    *, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, effect: str, done: bool, hidden: bool
) -> None:
    monkeypatch.setattr("components.upstash.credentials.LOOK_SECONDS", 0.01)
    old = default_url(sandbox)
    with (
        sandbox.setting(upstash__credential_protection=int(hidden)),
        sandbox.fault("--provider", "upstash", "--match", "POST", "/redis/reset-password/", effect),
    ):
        if hidden:
            with pytest.raises(OperatorError, match="may have been reset") as unknown:
                turn(sandbox, 1, None, strategy=RESET)
            assert "may be dead" in unknown.value.state
        elif done:
            first, _ = turn(sandbox, 1, None, strategy=RESET)
            assert accepts(first.value)
        else:
            with pytest.raises(OperatorError, match="could not mint"):
                turn(sandbox, 1, None, strategy=RESET)
    assert accepts(old) is not done


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_password_that_somebody_else_has_reset_does_not_live(sandbox: Sandbox, hidden: int) -> None:
    with sandbox.setting(upstash__credential_protection=hidden):
        first, keyring = turn(sandbox, 1, None, strategy=RESET)
        sandbox.reset_password()
        with pytest.raises(OperatorError, match="does not list the verified credential"):
            revoke(sandbox, first, keyring, strategy=RESET)
        again, _ = turn(sandbox, 1, keyring, strategy=RESET)
        assert again.value != first.value
        assert accepts(again.value)


def test_from_reset_to_acl_and_back(sandbox: Sandbox) -> None:
    first, keyring = turn(sandbox, 1, None, strategy=RESET)
    second, keyring = turn(sandbox, 2, keyring, before=RESET)
    assert accepts(first.value), "both work until the new one is verified"
    third, keyring = turn(sandbox, 3, keyring)
    assert first in keyring, "it is not forgotten"
    revoke(sandbox, third, keyring, before=RESET)
    assert [accepts(each.value) for each in (first, second, third)] == [False, False, True]
    fourth, keyring = turn(sandbox, 4, keyring, strategy=RESET, before=ACL)
    assert accepts(third.value)
    revoke(sandbox, fourth, keyring, strategy=RESET, before=ACL)
    assert [accepts(each.value) for each in (third, fourth)] == [False, True]
    # Listed by the issuer of before alone, it is not ended by that of now: it is what consumers have just got.
    assert [each.credential_id for each in issuer(sandbox, [], strategy=RESET).issued()] == [DEFAULT]
    with pytest.raises(OperatorError, match="that is the user"):
        issuer(sandbox, keyring, strategy=RESET).revoke(DEFAULT)
    assert accepts(fourth.value)


# -- the checks --------------------------------------------------------------------------------------------------------

SETTINGS = {
    "app": "molecule-cp",
    "tenant_app": "molecule-tenant",
    "variable": "REDIS_URL",
    "url": "https://set.by.the.environment.test",
    "owner_user_id": "user-1",
    "overlaps": True,
    "prove_use": False,
    "org_timeout": 15,
}


def check(sandbox: Sandbox, module: str, settings: dict[str, object], value: str) -> subprocess.CompletedProcess[str]:
    """Run a check that must not show the password in a URL."""
    password = value.rpartition("@")[0].rpartition(":")[2]
    return run_check(module, value, settings, sandbox.environment, hidden=(password,))


def test_the_probe_uses_a_user_as_tenants_do(sandbox: Sandbox) -> None:
    minted = issuer(sandbox).mint(f"{FAMILY.prefix}1")
    keys = sandbox.rest("DBSIZE").json()["result"]
    done = check(sandbox, "tenant_redis_url_probe", {"rules": RULES}, minted.value)
    assert done.returncode == 0, done.stderr
    assert sandbox.rest("DBSIZE").json()["result"] == keys, "the key is deleted again"
    narrow = "~org:* +@read +@write +ping -del"
    limited = issuer(sandbox, rules=narrow).mint(f"{FAMILY.prefix}2")
    refused = check(sandbox, "tenant_redis_url_probe", {"rules": narrow}, limited.value)
    assert refused.returncode == 1
    assert "NoPermissionError" in refused.stderr
    assert "`redisRules`" in refused.stderr
    allowed = issuer(sandbox, rules="~org:* +@read +@write +ping").mint(f"{FAMILY.prefix}3")
    assert check(sandbox, "tenant_redis_url_probe", {"rules": narrow}, allowed.value).returncode == 0
    issuer(sandbox).revoke(minted.credential_id)
    dead = check(sandbox, "tenant_redis_url_probe", {"rules": RULES}, minted.value)
    assert dead.returncode == 1
    assert "refuses the new user or password" in dead.stderr


def give(sandbox: Sandbox, slug: str, **env: str) -> None:
    """Update a tenant's machine with other variables."""
    machine = next(each for each in sandbox.machines(TENANT) if each["name"] == f"tenant-{slug}")
    config = {**machine["config"], "env": {**machine["config"]["env"], **env}}
    answer = sandbox.fly("POST", f"{TENANT}/machines/{machine['id']}", {"config": config, "region": machine["region"]})
    assert answer.status_code == 200, answer.text
    version = answer.json()["instance_id"]

    def healthy() -> bool:
        now = sandbox.fly("GET", f"{TENANT}/machines/{machine['id']}").json()
        passing = all(each["status"] == "passing" for each in now.get("checks") or [])
        return now["instance_id"] == version and now["state"] == "started" and passing

    until(healthy, what=f"{slug} is healthy")


def tenants(sandbox: Sandbox, value: str) -> TenantMachines:
    """The machines of tenants that hold a URL."""
    return TenantMachines(
        fly=FlyClient(sandbox.environment["FLY_ACCESS_TOKEN"]), app="molecule-tenant", variable="REDIS_URL", value=value
    )


def test_a_verification_passes_only_where_every_tenant_of_this_server_has_moved(sandbox: Sandbox) -> None:
    for slug in ("moved", "stays", "own-redis"):
        assert sandbox.provision(slug) == "running"
    new = issuer(sandbox).mint(f"{FAMILY.prefix}2").value
    give(sandbox, "own-redis", REDIS_URL="redis://default:secret@redis.customer.example:6379")

    def verify(**changed: object) -> subprocess.CompletedProcess[str]:
        time.sleep(
            1.1
        )  # a slug is one second's; what the control plane still does for the one before must not get mixed up with it
        return check(sandbox, "tenant_redis_url", {**SETTINGS, **changed}, new)

    give(sandbox, "moved", REDIS_URL=new)
    sandbox.secrets(TENANT_REDIS_URL=new)
    stays = next(each for each in sandbox.machines(TENANT) if each["name"] == "tenant-stays")
    done = verify()
    assert done.returncode == 1
    assert "still runs with the value before" in done.stderr
    left = f"1 of 2 machines of molecule-tenant do not run well with the new REDIS_URL: {stays['id']} (org stays) has another value"
    assert left in done.stderr

    sandbox.roll()
    assert sandbox.fly("POST", f"{TENANT}/machines/{stays['id']}/stop").status_code == 200
    until(lambda: sandbox.fly("GET", f"{TENANT}/machines/{stays['id']}").json()["state"] == "stopped", what="it stops")
    done = verify()
    assert done.returncode == 1, "one that is stopped will boot with the old one"
    assert stays["id"] in done.stderr
    assert "still runs" not in done.stderr

    give(sandbox, "stays", REDIS_URL=new)
    done = verify()
    assert done.returncode == 0, done.stderr
    assert "2 machines of molecule-tenant hold the new REDIS_URL" in done.stderr
    assert "both are deleted again" in done.stderr
    orgs = sandbox.control_plane("GET", "/cp/admin/orgs?limit=500").json()["orgs"]
    assert not [org for org in orgs if org["slug"].startswith("redistest-")]

    unused = issuer(sandbox).mint(f"{FAMILY.prefix}7").value
    with pytest.raises(CheckFailedError, match=r"connect to Redis as the new user: not within 2 s .*`proveUse`"):
        new_user_is_used(unused, 2, by=tenants(sandbox, new))
    with other_connections(new) as count:
        assert count() >= 1
    done = verify(prove_use=True)
    assert done.returncode == 0, done.stderr
    assert "tenants connect to Redis as the new user" in done.stderr

    narrow = issuer(sandbox, rules="~* +get +set +ping +del").mint(f"{FAMILY.prefix}3").value
    with pytest.raises(CheckFailedError, match="allow CLIENT in `redisRules`, or set `proveUse` to false"):
        new_user_is_used(narrow, 4, by=tenants(sandbox, new))
