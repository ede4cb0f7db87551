"""Is every request that changes something announced by who makes it: issuers and rollouts, held against what they really ask for?"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from components.announcement import Request
from components.errors import OperatorError
from components.fly import rollout
from components.fly.client import FlyClient
from components.fly.rollout import Rollout, RolloutPolicy
from components.issuer import Issuer
from components.issuers import ISSUERS, Context
from components.keyring import Credential
from components.tenants import rollout as tenant_rollout
from components.tenants.rollout import Environments, deliver
from components.upstash import credentials

from .announced import assert_announced, assert_needed, changes
from .fake_fly import FakeFly
from .fake_stripe import OPERATOR, URL, FakeStripe, endpoint
from .wire import Clock, Wire, body_of, reply

NAME = "cp-rotation-prod-TOKEN-g2"
Serve = Callable[[httpx.Request], httpx.Response]
CREATED = "2026-11-23T12:00:00Z"


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """An operator with all credentials, and no waiting."""
    for name, value in {
        "FLY_ACCESS_TOKEN": "fo1_operator",
        "NEON_API_KEY": "napi_operator",
        "RESEND_API_KEY": "re_operator",
        "STRIPE_API_KEY": OPERATOR,
        "UPSTASH_EMAIL": "operator@molecule.example",
        "UPSTASH_API_KEY": "management-key",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(credentials, "time", clock)
    monkeypatch.setattr(tenant_rollout, "time", clock)


def known(*credential_ids: str, value: str = "value") -> tuple[Credential, ...]:
    """A keyring with these credentials, the newest first."""
    numbers = range(len(credential_ids), 0, -1)
    return tuple(
        Credential(
            generation=number,
            credential_id=each,
            name=f"cp-rotation-prod-TOKEN-g{number}",
            value=value,
            created_at=CREATED,
        )
        for number, each in zip(numbers, credential_ids, strict=True)
    )


# Providers


def fly(request: httpx.Request) -> httpx.Response:
    """Mints and revokes deploy tokens."""
    query = body_of(request)["query"]
    if "createLimitedAccessToken" in query:
        token = {"id": "t2", "tokenHeader": "FlyV1 new", "createdAt": CREATED}
        return reply(200, {"data": {"createLimitedAccessToken": {"limitedAccessToken": token}}})
    return reply(200, {"data": {"app": {"id": "a", "organization": {"id": "o", "slug": "s"}}}})


@dataclass
class Neon:
    """Keys, and the roles of one branch."""

    roles: list[str] = field(default_factory=lambda: ["owner"])
    lost: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        path = request.url.path.removeprefix("/api/v2")
        role = {"role": {"name": "r", "password": "p"}, "operations": [{"id": "op-1"}]}
        if path.endswith("/api_keys"):
            return reply(200, {"id": 7, "key": "napi_new", "name": NAME, "created_at": CREATED})
        if path.endswith("/branches"):
            branch = {"id": "br-1", "name": "main", "created_at": CREATED, "default": True}
            return reply(200, {"branches": [branch]})
        if path.endswith("/roles") and request.method == "GET":
            return reply(200, {"roles": [{"name": each} for each in self.roles]})
        if path.endswith("/roles"):
            self.roles.append(body_of(request)["role"]["name"])
            return reply(409, {"message": "there is one"}) if self.lost else reply(201, role)
        if path.endswith("/reset_password"):
            return reply(200, role)
        if "/operations/" in path:
            return reply(200, {"operation": {"id": "op-1", "action": "apply_config", "status": "finished"}})
        if path.endswith("/connection_uri"):
            return reply(200, {"uri": "postgresql://r:stored@ep-1.neon.tech/db"})
        return reply(200, {})


def upstash(request: httpx.Request) -> httpx.Response:
    """One database that shows its password until it is reset."""
    if request.url.path == "/":
        words = body_of(request)
        answers: dict[str, Any] = {
            "LIST": ["user default on #a ~* +@all", f"user tenants.{NAME} on #b ~* +@all"],
            "GENTOKEN": "token",
        }
        return reply(200, {"result": answers.get(words[1], "OK")})
    password = "new" if request.method == "POST" else "old"
    body = {"endpoint": "happy-cat-1", "port": 6379, "tls": True, "state": "active"}
    return reply(200, {**body, "password": password, "rest_token": "rest"})


def resend(request: httpx.Request) -> httpx.Response:
    """One verified domain."""
    if request.method == "POST":
        return reply(201, {"id": "k2", "token": "re_new"})
    if request.method == "DELETE":
        return reply(200)
    return reply(200, {"has_more": False, "data": [{"id": "d1", "name": "molecule.example", "status": "verified"}]})


def stripe() -> Serve:
    """An account with three endpoints of the URL."""
    fake = FakeStripe()
    fake.endpoints = [endpoint(number) for number in (3, 2, 1)]
    return fake.serve


@dataclass(frozen=True)
class Case:
    """An issuer, and what is minted and ended with it.

    Attributes:
        kind: A key of ISSUERS.
        settings: Of its source.
        serve: Makes the provider.
        doomed: Ids that end.
        keyring: What the stack knows.
        words: What the announcement of minting says.
        wasted: Whether a request is announced that is made only where an answer is lost.
    """

    kind: str
    settings: Mapping[str, str]
    serve: Callable[[], Serve]
    doomed: Sequence[str]
    words: str
    keyring: tuple[Credential, ...] = ()
    wasted: bool = False


FLY_TOKEN = {"app": "tenant", "expiry": "24h0m0s"}
ROLES = {"project": "p", "branch": "", "database": "db", "pooled": "false", "role": "app"}
REDIS = {"database": "d-1", "user": "tenants", "rules": "~* +@all"}
ENDPOINT = {"webhook_url": URL, "control_plane_url": "https://cp.test", "mode": "live", "connect": "false"}
CASES = {
    "fly app": Case(
        "fly-deploy-token",
        {**FLY_TOKEN, "profile": "deploy"},
        lambda: fly,
        ["t1", "t0"],
        "deploy token of Fly app tenant",
    ),
    "fly organization": Case(
        "fly-deploy-token",
        {**FLY_TOKEN, "profile": "deploy_organization"},
        lambda: fly,
        ["t1"],
        "the organization of Fly app tenant",
    ),
    "neon personal": Case(
        "neon-api-key", {"organization_id": "", "project_id": ""}, Neon, ["1", "2"], "a personal API key"
    ),
    "neon organization": Case(
        "neon-api-key", {"organization_id": "org-1", "project_id": ""}, Neon, ["1"], "organization org-1"
    ),
    "neon project": Case(
        "neon-api-key", {"organization_id": "org-1", "project_id": "p-1"}, Neon, ["1"], "for project p-1"
    ),
    "first role": Case(
        "neon-role-password",
        {**ROLES, "strategy": "alternate"},
        Neon,
        ["owner"],
        "role app_a of database db, made anew",
        wasted=True,
    ),
    "idle role": Case(
        "neon-role-password",
        {**ROLES, "strategy": "alternate"},
        lambda: Neon(["owner", "app_a", "app_b"]),
        ["app_a/cp-rotation-prod-TOKEN-g1", "app_c/cp-rotation-prod-TOKEN-g0"],
        "a new password of role app_b",
        keyring=known("app_a/cp-rotation-prod-TOKEN-g1"),
    ),
    "role of a branch": Case(
        "neon-role-password",
        {**ROLES, "branch": "br-9", "strategy": "alternate"},
        Neon,
        ["owner"],
        "app_a",
        wasted=True,
    ),
    "role whose creation is lost": Case(
        "neon-role-password", {**ROLES, "strategy": "alternate"}, lambda: Neon(lost=True), ["owner"], "app_a"
    ),
    "role reset": Case(
        "neon-role-password",
        {**ROLES, "role": "owner", "strategy": "reset"},
        Neon,
        ["other"],
        "a new password of role owner",
    ),
    "redis user": Case(
        "upstash-redis-user",
        {**REDIS, "strategy": "acl"},
        lambda: upstash,
        ["tenants-g1", "tenants-g0"],
        f"user tenants.{NAME}_2",
    ),
    "redis user and the password made by hand": Case(
        "upstash-redis-user", {**REDIS, "strategy": "acl"}, lambda: upstash, ["tenants-g1", "default"], "user tenants."
    ),
    "redis reset": Case(
        "upstash-redis-user",
        {**REDIS, "strategy": "reset"},
        lambda: upstash,
        ["default/g1"],
        "a new password of user default",
    ),
    "redis reset after users": Case(
        "upstash-redis-user",
        {**REDIS, "strategy": "reset"},
        lambda: upstash,
        ["tenants-g1", "default/g1"],
        "a new password",
    ),
    "resend": Case(
        "resend-sending-key",
        {"domain": "molecule.example"},
        lambda: resend,
        ["k1", "k0"],
        "for domain molecule.example",
    ),
    "stripe endpoint": Case(
        "stripe-webhook-endpoint", ENDPOINT, stripe, ["we_1", "we_2"], f"webhook endpoint of {URL}"
    ),
}


def issuer_of(case: Case) -> Issuer:
    context = Context(config=lambda _key: None, keyring=case.keyring)
    return ISSUERS[case.kind].build(case.settings, context)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_minting_asks_for_is_announced(wire: Wire, case: Case) -> None:
    wire.serve = case.serve()
    announced = issuer_of(case).announce_mint(NAME)
    assert changes(wire.requests) == [], "a preview only reads"
    issuer_of(case).mint(NAME)
    made = changes(wire.requests)
    assert made, "it would be strange if nothing were minted"
    assert_announced(made, announced.writes)
    assert case.words in " ".join(announced.words)
    if not case.wasted:
        assert_needed(made, announced.writes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_remote_name_is_said_where_there_is_one(wire: Wire, case: Case) -> None:
    wire.serve = case.serve()
    (words,) = issuer_of(case).announce_mint(NAME).words
    named = case.kind != "neon-role-password" and case.settings.get("strategy") != "reset"
    assert (NAME in words) == named


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_ending_asks_for_is_announced(wire: Wire, case: Case) -> None:
    issuer = issuer_of(case)
    announced = issuer.announce_revocation(case.doomed)
    assert wire.requests == [], "it reads nothing"
    wire.serve = case.serve()
    for each in case.doomed:
        issuer.revoke(each)
    made = changes(wire.requests)
    assert_announced(made, announced.writes)
    if case.settings.get("strategy") != "reset" or case.kind != "upstash-redis-user":
        assert made
        assert_needed(made, announced.writes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_end_takes_no_request(case: Case) -> None:
    assert sum(each.at_most or 0 for each in issuer_of(case).announce_revocation([]).writes) == 0


GIVEN = {
    "given": {},
    "resend-sender": {},
    "stripe-secret-key": {"mode": "live", "account": "acct_1", "ends_old_at": "2026-11-30T12:00:00Z"},
    "stripe-signing-secret": {"ends_old_at": ""},
    "encryption-key": {
        "project": "p",
        "branch": "",
        "database": "db",
        "role": "owner",
        "app": "cp",
        "tenant_app": "tenant",
        "max_unavailable": "0.33",
        "strategy": "reencrypt",
        "encoding": "hex",
        "loader": "hex",
        "reprovision_path": "",
    },
}


@pytest.mark.parametrize("kind", GIVEN)
def test_a_value_that_is_given_asks_nobody(wire: Wire, kind: str) -> None:
    issuer = ISSUERS[kind].build(GIVEN[kind], Context(config=lambda _key: None, given="a-value"))
    assert issuer.announce_mint(NAME).writes == ()
    ending = issuer.announce_revocation(["old"])
    assert ending.writes == ()
    assert ending.words, "how the old one ends is said"
    assert issuer.mint(NAME).value == "a-value"
    issuer.revoke("old")
    assert wire.requests == []


def test_of_every_kind_of_issuer_the_announcements_are_tried() -> None:
    assert {case.kind for case in CASES.values()} | GIVEN.keys() == ISSUERS.keys()


def test_who_ends_a_rolled_value_and_when_is_said() -> None:
    said = {
        kind: ISSUERS[kind].build(GIVEN[kind], Context(config=lambda _key: None)).announce_revocation(["old"]).words[0]
        for kind in GIVEN
    }
    assert "Stripe ends the one before, at 2026-11-30T12:00:00Z" in said["stripe-secret-key"]
    assert "at the time that was chosen in its Dashboard" in said["stripe-signing-secret"]
    assert "no row decrypts with it" in said["encryption-key"]
    assert "nobody takes it any more" in said["given"]


# Rollouts

CLIENT = FlyClient(token="fo1_operator")
POLICY = RolloutPolicy(max_unavailable=0.33, health_timeout=30, secrets_timeout=20, lease_timeout=20)


@pytest.fixture
def app(wire: Wire, clock: Clock) -> FakeFly:
    """An app of three machines that run with the old value."""
    app = FakeFly(clock, 3, value="old")
    wire.serve = app.serve
    return app


def roll(app: FakeFly, *, value: str = "new") -> None:
    Rollout(CLIENT, "cp", POLICY).deliver({"TOKEN": value}, previous={"TOKEN": "old"}, finished_version=app.version)


def test_what_a_rollout_asks_for_is_announced(wire: Wire, app: FakeFly) -> None:
    roll(app)
    made = changes(wire.requests)
    announced = rollout.announce("cp", staged=False).writes
    assert_announced(made, announced)
    assert_needed(made, announced)
    assert sum(path.endswith("/secrets") for _, _, path in made) == 1


@pytest.mark.parametrize(
    "failing",
    [{"new"}, {"m2 new"}, {"m3 new"}, {"new", "old"}],
    ids=["the first", "the second", "the last", "the way back"],
)
def test_the_way_back_is_announced(wire: Wire, app: FakeFly, failing: set[str]) -> None:
    app.sick = failing
    with pytest.raises(OperatorError):
        roll(app)
    made = changes(wire.requests)
    assert_announced(made, rollout.announce("cp", staged=False).writes)
    assert sum(path.endswith("/secrets") for _, _, path in made) == 2


def test_a_lease_that_is_renewed_is_announced(wire: Wire, app: FakeFly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "LEASE_RENEWAL", 0.002)
    renewed = threading.Event()

    def renew(kind: str, _path: str, number: int) -> None:
        # Fly takes a while over the first wait; the lock is free meanwhile.
        if kind == "GET /machines/ID/wait" and number == 1:
            app.lock.release()
            try:
                assert renewed.wait(60)
            finally:
                app.lock.acquire()
        if "renew m1" in app.log:
            renewed.set()

    app.faults.append(renew)
    roll(app)
    assert "renew m1" in app.log
    assert_announced(changes(wire.requests), rollout.announce("cp", staged=False).writes)


def test_an_update_that_is_tried_again_is_announced(wire: Wire, app: FakeFly) -> None:
    late = reply(412, {"error": "min_secrets_version 2 is not yet available"})
    app.faults.append(lambda kind, _path, number: late if (kind, number) == ("POST /machines/ID", 1) else None)
    roll(app)
    made = changes(wire.requests)
    assert sum(re.fullmatch("/v1/apps/cp/machines/m[0-9]", path) is not None for _, _, path in made) == 4
    assert_announced(made, rollout.announce("cp", staged=False).writes)


def test_what_staging_asks_for_is_announced(wire: Wire, app: FakeFly) -> None:
    Rollout(CLIENT, "cp", POLICY).stage({"TOKEN": "new"})
    announced = rollout.announce("cp", staged=True).writes
    made = changes(wire.requests)
    assert made == [("fly", "POST", "/v1/apps/cp/secrets")]
    assert_announced(made, announced)
    assert_needed(made, announced)
    assert app.booted["m1"] == "old"


def test_another_app_is_not_announced(wire: Wire, app: FakeFly) -> None:
    roll(app)
    with pytest.raises(AssertionError, match="was not announced"):
        assert_announced(changes(wire.requests), rollout.announce("cp-2", staged=False).writes)


TENANTS = ("old", "new")


@pytest.mark.parametrize("sick", [set(), {"m2 new"}], ids=["well", "one fails"])
def test_what_a_delivery_to_tenants_asks_for_is_announced(wire: Wire, clock: Clock, sick: set[str]) -> None:
    tenants = FakeFly(clock, 0)
    tenants.variable = "KEY"
    tenants.sick = sick
    for number in range(1, 4):
        tenants.add(f"m{number}", environment={"KEY": "old"}, metadata={"molecule_org": f"org-{number}"})
    wire.serve = tenants.serve
    environments = Environments(client=CLIENT, app="cp", variables={"KEY": "new"}, same_server=(), overlaps=("KEY",))
    if sick:
        with pytest.raises(OperatorError):
            deliver(environments, POLICY)
    else:
        deliver(environments, POLICY)
    made = changes(wire.requests)
    assert_announced(made, tenant_rollout.announce("cp").writes)
    assert_needed(made, tenant_rollout.announce("cp").writes)


def test_reprovisioning_is_announced_as_often_as_there_are_orgs() -> None:
    plain = tenant_rollout.announce("tenant").writes
    anew = tenant_rollout.announce("tenant", reprovision_path="/cp/admin/tenants/{slug}/reprovision").writes
    assert set(anew) - set(plain) == {
        Request(system="control-plane", method="POST", path="/cp/admin/tenants/{slug}/reprovision", at_most=None)
    }
    assert anew[-1].covers("control-plane", "POST", "/cp/admin/tenants/org-1/reprovision")
    assert {each.at_most for each in plain} == {None}
