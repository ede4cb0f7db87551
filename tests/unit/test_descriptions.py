"""Do the clients ask for what vendors describe (tests/specs), and do our tests answer them as vendors do?"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from components import http
from components.fly.client import AppSecret, FlyClient, Machine, MachineCheck, WrittenSecrets
from components.github.client import PAGE as GITHUB_PAGE
from components.github.client import Environment, GitHubClient, Repository, SecretMetadata, WorkflowRun
from components.keyring import Issued, Minted
from components.resend.client import Domain, DomainRecord, Email, ResendClient
from components.stripe.client import StripeClient, WebhookEndpoint
from components.upstash.client import Database, UpstashClient

from .descriptions import DESCRIPTIONS, Finding, translate
from .wire import Wire, reply

CLIENTS: Mapping[str, object] = {
    "fly": FlyClient(token="fo1_operator-token"),
    "github": GitHubClient(token="github-operator-token"),
    "resend": ResendClient("re_operator_key-with-full-access"),
    "stripe": StripeClient("sk_live_51operatoroperator"),
    "upstash": UpstashClient(email="operator@molecule.example", key="management-key-of-the-operator"),
}
# Other makers of requests, to systems that have no description here.
UNDESCRIBED_CLIENTS = {
    "control_plane/client.py",
    "dns/client.py",
    "neon/client.py",
    "upstash/rest.py",
    "verification/fly_app.py",
    "verification/stripe_api_key.py",
    "verification/stripe_webhook_secret.py",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a description does not say and is right all the same. Patterns, as of a shell.

    Attributes:
        where: As in `Finding`.
        reason: How we know.
        method: Of the client; with another one it is a mistake.
    """

    system: str
    operation: str
    where: str
    reason: str
    method: str = "*"

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is this one."""
        return self.system == finding.system and all(
            fnmatchcase(found, pattern)
            for found, pattern in ((finding.operation, self.operation), (finding.where, self.where))
        )


def known(system: str, operation: str, where: str, reason: str, *, method: str = "*") -> Known:
    return Known(system=system, operation=operation, where=where, reason=reason, method=method)


LEASE = "/apps/{app_name}/machines/{machine_id}/lease"
KNOWN = [
    known("fly", "POST /graphql", "request", "the description is of the Machines API alone"),
    known("fly", "GET /api/v1/apps/*/logs", "request", "logs are of the platform's API, which has no description"),
    known("fly", "POST /api/v1/releases", "request", "releases are of the platform's API, which has no description"),
    known("fly", "PATCH /api/v1/releases/*", "request", "releases are of the platform's API"),
    known(
        "fly", "POST /apps/{app_name}/secrets", "body values.*", "fly-go unsets with null; described are texts alone"
    ),
    known("fly", f"POST {LEASE}", "query ttl", "fly-go says the time in the query, the description in the body alone"),
    known(
        "fly",
        f"POST {LEASE}",
        "body",
        "fly-go refreshes without a body; the description requires one",
        method="refresh_lease",
    ),
    known("fly", f"POST {LEASE}", "answer status", "the description lacks the envelope"),
    known("fly", f"POST {LEASE}", "answer data", "the description lacks the envelope"),
    known(
        "fly",
        "POST /apps/{app_name}/machines/{machine_id}",
        "header fly-machine-lease-nonce",
        "described for the lease alone; fly-go sends it with every change of a machine",
        method="update_machine",
    ),
    known("github", "*", "header x-github-api-version", "documented for all operations, described for none"),
    known("stripe", "*", "header stripe-version", "documented for all operations, described for none"),
    known("stripe", "POST *", "header idempotency-key", "documented for all operations, described for none"),
    known("upstash", "GET *", "answer password", "in Upstash's Terraform provider and CLI, not in the description"),
    known("upstash", "GET *", "answer rest_token", "in Upstash's Terraform provider and CLI, not in the description"),
    known("upstash", "POST *", "answer password", "in older examples of Upstash's documentation and in its CLI"),
    known("upstash", "POST *", "answer rest_token", "in older examples of Upstash's documentation and in its CLI"),
]


@dataclass(frozen=True)
class Answer:
    """What a call asks for, and what it gets.

    Attributes:
        operation: As the description has it; method and path where it has none.
        body: Of the answer, less what the description requires and our client does not read. None for an answer without one.
        status: Of the answer.
        headers: Of the answer.
    """

    operation: str
    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call of a client's method, what it asks for and what it makes of the answers."""

    system: str
    method: str
    arguments: tuple[object, ...]
    options: Mapping[str, object]
    answers: tuple[Answer, ...] = ()
    result: object = None

    def answered(self, *answers: Answer, result: object = None) -> "Case":
        """The case with its answers, in turn, and what the method returns."""
        return replace(self, answers=answers, result=result)

    def run(self, wire: Wire) -> list[Finding]:
        """Makes the call and returns what the description does not know of its requests and answers."""
        description, first = DESCRIPTIONS[self.system], len(wire.requests)
        given: list[httpx.Response] = []

        def give(answer: Answer, request: httpx.Request) -> httpx.Response:
            operation, body = description.operation(request), answer.body
            asked = operation.name if operation else f"{request.method} {request.url.path}"
            assert asked == answer.operation
            if operation and answer.status < httpx.codes.BAD_REQUEST:
                schema = operation.schema_of_answer(answer.status)
                body = body if schema is None else description.complete(body, schema)
            given.append(reply(answer.status, body, **answer.headers))
            return given[-1]

        wire.will(*(partial(give, answer) for answer in self.answers))
        assert getattr(CLIENTS[self.system], self.method)(*self.arguments, **self.options) == self.result
        assert len(given) == len(self.answers)
        return [
            finding
            for request, response in zip(wire.requests[first:], given, strict=True)
            for finding in description.findings(request, response)
        ]


def call(system: str, method: str, *arguments: object, **options: object) -> Case:
    return Case(system=system, method=method, arguments=arguments, options=options)


MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHOWN = "2026-11-23T12:00:00Z"

# Fly

APP, MACHINES = "/apps/{app_name}", "/apps/{app_name}/machines"
CONFIG = {
    "image": "registry.test/cp:1",
    "env": {"A": "1"},
    "metadata": {"fly_process_group": "app"},
    "checks": {"http": {"type": "http", "port": 8080}},
    "services": [{"internal_port": 8080, "checks": [{"type": "tcp"}]}],
    "guest": {"cpus": 1, "memory_mb": 256},
}
MACHINE_SHOWN = {
    "id": "m1",
    "state": "started",
    "instance_id": "I1",
    "region": "ams",
    "host_status": "ok",
    "config": CONFIG,
    "checks": [{"name": "http", "status": "passing", "updated_at": SHOWN}],
    "events": [{"id": "e1", "type": "launch", "timestamp": 1_795_435_200_000}],
    "updated_at": SHOWN,
}
MACHINE = Machine(
    machine_id="m1",
    state="started",
    instance_id="I1",
    region="ams",
    host_status="ok",
    config=CONFIG,
    checks=(MachineCheck(name="http", status="passing", updated_at=SHOWN),),
    events=({"id": "e1", "type": "launch", "timestamp": 1_795_435_200_000},),
    updated_at=SHOWN,
)
TOKENS = {
    "nodes": [{"id": "t1", "name": "n", "createdAt": SHOWN, "revokedAt": None, "expiresAt": None}],
    "pageInfo": {"hasNextPage": False, "endCursor": None},
}
TOKEN = {"id": "t9", "tokenHeader": "FlyV1 fm2_x", "createdAt": SHOWN}
FLY = [
    call("fly", "app_exists", "cp").answered(Answer(f"GET {APP}", {"id": "i", "name": "cp"}), result=True),
    call("fly", "list_secrets", "cp").answered(
        Answer(f"GET {APP}/secrets", {"secrets": [{"name": "A", "digest": "d", "updated_at": SHOWN}]}),
        result={"A": AppSecret(name="A", digest="d", updated_at=SHOWN)},
    ),
    call("fly", "write_secrets", "cp", {"A": "value-of-a", "B": None}).answered(
        Answer(f"POST {APP}/secrets", {"secrets": [{"name": "A", "digest": "d"}], "version": 7}),
        result=WrittenSecrets(version=7, digests={"A": "d"}),
    ),
    call("fly", "write_secrets", "cp", {"A": "value-of-a"}).answered(
        Answer(f"POST {APP}/secrets", {"secrets": [], "Version": 7}), result=WrittenSecrets(version=7, digests={})
    ),
    call("fly", "list_machines", "cp").answered(Answer(f"GET {MACHINES}", [MACHINE_SHOWN]), result=[MACHINE]),
    call("fly", "get_machine", "cp", "m1").answered(
        Answer(f"GET {MACHINES}/{{machine_id}}", MACHINE_SHOWN), result=MACHINE
    ),
    call("fly", "acquire_lease", "cp", "m1", seconds=60, description="rotation").answered(
        Answer(f"POST {LEASE}", {"status": "success", "data": {"nonce": "abc", "expires_at": 1}}, status=201),
        result="abc",
    ),
    call("fly", "refresh_lease", "cp", "m1", "abc", seconds=60).answered(
        Answer(f"POST {LEASE}", {"status": "success", "data": {"nonce": "abc", "expires_at": 1}}, status=201)
    ),
    call("fly", "release_lease", "cp", "m1", "abc").answered(Answer(f"DELETE {LEASE}")),
    call(
        "fly",
        "update_machine",
        "cp",
        MACHINE,
        config={**CONFIG, "metadata": {"new": "1"}},
        nonce="abc",
        min_secrets_version=7,
        skip_launch=False,
    ).answered(Answer(f"POST {MACHINES}/{{machine_id}}", MACHINE_SHOWN), result=MACHINE),
    call("fly", "wait_until_started", "cp", "m1", instance_id="I1", seconds=60).answered(
        Answer(f"GET {MACHINES}/{{machine_id}}/wait", {"ok": True}), result=True
    ),
    call("fly", "log_lines_since", "cp", MOMENT).answered(
        Answer(
            "GET /api/v1/apps/cp/logs",
            {"data": [{"attributes": {"timestamp": SHOWN, "message": "a line"}}], "meta": {"next_token": "1"}},
        ),
        Answer("GET /api/v1/apps/cp/logs", {"data": [], "meta": {"next_token": "1"}}),
        result=["a line"],
    ),
    call("fly", "create_release", "cp").answered(
        Answer("POST /graphql", {"data": {"app": {"currentReleaseUnprocessed": None}}}),
        Answer("POST /api/v1/releases", {"release": {"id": "r9", "version": 9}}, status=201),
        Answer("PATCH /api/v1/releases/r9", {}),
        result=("r9", 9),
    ),
    call("fly", "finish_release", "r9", "complete").answered(Answer("PATCH /api/v1/releases/r9", {})),
    call("fly", "create_token", app="tenant", name="g1", profile="deploy", expiry="24h").answered(
        Answer("POST /graphql", {"data": {"app": {"id": "a", "organization": {"id": "o", "slug": "s"}}}}),
        Answer("POST /graphql", {"data": {"createLimitedAccessToken": {"limitedAccessToken": TOKEN}}}),
        result=Minted(credential_id="t9", value="FlyV1 fm2_x", created_at=SHOWN),
    ),
    call("fly", "list_tokens", app="tenant", profile="deploy").answered(
        Answer("POST /graphql", {"data": {"app": {"limitedAccessTokens": TOKENS}}}),
        result=[Issued(credential_id="t1", name="n", live=True, created_at=SHOWN)],
    ),
    call("fly", "revoke_token", "t1").answered(Answer("POST /graphql", {"data": {}})),
]

# GitHub

REPOSITORY = "/repos/{owner}/{repo}"
WORKFLOW = f"{REPOSITORY}/actions/workflows/{{workflow_id}}"


def run_shown(run_id: int) -> dict[str, object]:
    return {
        "id": run_id,
        "status": "completed",
        "conclusion": "failure",
        "created_at": SHOWN,
        "html_url": "https://github.test/r",
    }


def run(run_id: int) -> WorkflowRun:
    return WorkflowRun(
        run_id=run_id, status="completed", conclusion="failure", created_at=MOMENT, url="https://github.test/r"
    )


def runs(operation: str, *run_ids: int) -> Answer:
    return Answer(operation, {"workflow_runs": [run_shown(run_id) for run_id in run_ids]})


DETAILS = {"workflow_run_id": 77, "run_url": "https://github.test/u", "html_url": "https://github.test/h"}
# Where a client finds the secrets of each place, and where they are described.
STORES = {
    "/repos/o/r/actions/secrets": f"{REPOSITORY}/actions/secrets",
    "/repos/o/r/dependabot/secrets": f"{REPOSITORY}/dependabot/secrets",
    "/repos/o/r/environments/e%2F1/secrets": f"{REPOSITORY}/environments/{{environment_name}}/secrets",
    "/orgs/o/actions/secrets": "/orgs/{org}/actions/secrets",
    "/orgs/o/dependabot/secrets": "/orgs/{org}/dependabot/secrets",
}
ROLES = {"admin": False, "pull": True, "push": True}
GITHUB = [
    call("github", "can_push", "o/r").answered(Answer(f"GET {REPOSITORY}", {"permissions": ROLES}), result=True),
    *(
        call("github", "may_see_secrets", path).answered(
            Answer(f"GET {described}/public-key", {"key_id": "1", "key": "k"}), result=True
        )
        for path, described in STORES.items()
    ),
    *(
        call("github", "secret", path, "A").answered(
            Answer(
                f"GET {described}/{{secret_name}}",
                {"name": "A", "created_at": SHOWN, "updated_at": SHOWN}
                | ({"visibility": "private"} if path.startswith("/orgs") else {}),
            ),
            result=SecretMetadata(updated_at=MOMENT, visibility="private" if path.startswith("/orgs") else ""),
        )
        for path, described in STORES.items()
    ),
    *(
        call("github", "secrets", path).answered(
            Answer(
                f"GET {STORES[path]}",
                {"total_count": 1, "secrets": [{"name": "A", "created_at": SHOWN, "updated_at": SHOWN}]},
            ),
            result={"A": SecretMetadata(updated_at=MOMENT, visibility="")},
        )
        # The others are described in the same words.
        for path in ("/repos/o/r/actions/secrets", "/repos/o/r/environments/e%2F1/secrets")
    ),
    *(
        call("github", "selected_repositories", path, "A").answered(
            Answer(
                f"GET {STORES[path]}/{{secret_name}}/repositories",
                {"total_count": 2, "repositories": [{"id": 8}, {"id": 7}]},
            ),
            result=[7, 8],
        )
        for path in STORES
        if path.startswith("/orgs")
    ),
    call("github", "organization_secrets", "o/r").answered(
        Answer(f"GET {REPOSITORY}/actions/organization-secrets", {"total_count": 1, "secrets": [{"name": "A"}]}),
        result=["A"],
    ),
    call("github", "environments", "o/r").answered(
        Answer(f"GET {REPOSITORY}/environments", {"total_count": 1, "environments": [{"name": "staging"}]}),
        result=["staging"],
    ),
    call("github", "environment", "/repos/o/r/environments/e%2F1").answered(
        Answer(
            f"GET {REPOSITORY}/environments/{{environment_name}}",
            {"name": "e/1", "protection_rules": [{"id": 1, "node_id": "n", "type": "required_reviewers"}]},
        ),
        result=Environment(waits_for_people=True),
    ),
    call("github", "repository", "o/r").answered(
        Answer(f"GET {REPOSITORY}", {"id": 7, "private": True, "owner": {"type": "Organization"}}),
        result=Repository(repository_id=7, private=True, of_organization=True),
    ),
    call("github", "has_workflow", "o/r", "publish.yml").answered(Answer(f"GET {WORKFLOW}", {}), result=True),
    call("github", "default_branch", "o/r").answered(
        Answer(f"GET {REPOSITORY}", {"default_branch": "trunk"}), result="trunk"
    ),
    *(
        call("github", "delete_secret", path, "A").answered(Answer(f"DELETE {described}/{{secret_name}}", status=204))
        for path, described in STORES.items()
    ),
    call("github", "dispatch", "o/r", "publish.yml", ref="main").answered(
        Answer(f"POST {WORKFLOW}/dispatches", DETAILS), result=77
    ),
    call("github", "dispatch", "o/r", "publish.yml", ref="main").answered(
        Answer(f"POST {WORKFLOW}/dispatches", {"message": "not a permitted key"}, status=400),
        Answer(f"POST {WORKFLOW}/dispatches", status=204),
    ),
    call("github", "run", "o/r", 5).answered(
        Answer(f"GET {REPOSITORY}/actions/runs/{{run_id}}", run_shown(5)), result=run(5)
    ),
    call("github", "dispatched_runs", "o/r", "publish.yml").answered(runs(f"GET {WORKFLOW}/runs", 9), result=[run(9)]),
    call("github", "unfinished_runs", "o/r").answered(
        runs(f"GET {REPOSITORY}/actions/runs", *range(GITHUB_PAGE)),
        *(runs(f"GET {REPOSITORY}/actions/runs", number) for number in range(5)),
        result=[run(number) for number in range(GITHUB_PAGE)],
    ),
]

# Resend

DOMAIN_SHOWN = {
    "id": "d1",
    "name": "a.example",
    "status": "verified",
    "created_at": SHOWN,
    "region": "eu-west-1",
    "capabilities": {"sending": "disabled", "receiving": "enabled"},
}
DOMAIN = Domain(domain_id="d1", name="a.example", status="verified", sending=False)
RECORD = {"record": "SPF", "name": "send", "type": "MX", "status": "verified", "value": "v"}
MAIL = {
    "id": "m1",
    "from": "A <a@b.example>",
    "subject": "s",
    "to": ["c@d.example"],
    "last_event": "sent",
    "created_at": SHOWN,
}


def page(operation: str, *items: object, more: bool = False) -> Answer:
    return Answer(operation, {"object": "list", "has_more": more, "data": list(items)})


def key_shown(key_id: str) -> dict[str, object]:
    return {"id": key_id, "name": "n", "created_at": SHOWN, "last_used_at": SHOWN}


RESEND = [
    call("resend", "authenticates").answered(page("GET /domains"), result=True),
    call("resend", "domain_id", "a.example").answered(page("GET /domains", DOMAIN_SHOWN), result=("d1", "verified")),
    call("resend", "domains").answered(
        page("GET /domains", DOMAIN_SHOWN, more=True), page("GET /domains", DOMAIN_SHOWN), result=[DOMAIN, DOMAIN]
    ),
    call("resend", "domain", "d1").answered(
        Answer(
            "GET /domains/{domain_id}", {"object": "domain", **DOMAIN_SHOWN, "records": [{**RECORD, "ttl": "Auto"}]}
        ),
        result=replace(DOMAIN, records=(DomainRecord(**RECORD),)),
    ),
    call("resend", "emails_since", MOMENT).answered(
        page("GET /emails", MAIL),
        result=[
            Email(
                email_id="m1",
                sender="A <a@b.example>",
                subject="s",
                to=("c@d.example",),
                last_event="sent",
                created_at=MOMENT,
            )
        ],
    ),
    call("resend", "list_keys").answered(
        page("GET /api-keys", key_shown("k1"), more=True),
        page("GET /api-keys", key_shown("k2")),
        result=[Issued(credential_id=each, name="n", live=True, created_at=SHOWN) for each in ("k1", "k2")],
    ),
    call("resend", "last_used_at", "k1").answered(page("GET /api-keys", key_shown("k1")), result=MOMENT),
    call("resend", "create_key", name="n", domain_id="d1", created_at=SHOWN).answered(
        Answer("POST /api-keys", {"id": "k1", "token": "re_new"}, status=201),
        result=Minted(credential_id="k1", value="re_new", created_at=SHOWN),
    ),
    call("resend", "delete_key", "k1").answered(
        Answer("DELETE /api-keys/{api_key_id}", {"object": "api_key", "id": "k1", "deleted": True})
    ),
]

# Stripe

ENDPOINTS = "/v1/webhook_endpoints"
ENDPOINT_SHOWN = {
    "id": "we_1",
    "url": "https://cp.test/webhooks/stripe",
    "enabled_events": ["customer.created", "customer.deleted"],
    "api_version": "2024-06-20",
    "description": "d",
    "metadata": {"a": "b"},
    "status": "enabled",
    "livemode": True,
    "created": 1_795_435_200,
}
ENDPOINT = WebhookEndpoint(
    endpoint_id="we_1",
    url="https://cp.test/webhooks/stripe",
    enabled_events=("customer.created", "customer.deleted"),
    api_version="2024-06-20",
    description="d",
    metadata={"a": "b"},
    enabled=True,
    livemode=True,
    created=1_795_435_200,
)
PLAIN = replace(ENDPOINT, api_version="", metadata={}, enabled_events=("*",))


def endpoints(*, more: bool = False, **headers: str) -> Answer:
    body = {"data": [ENDPOINT_SHOWN], "has_more": more, "url": ENDPOINTS}
    return Answer(f"GET {ENDPOINTS}", body, headers=headers)


def clone(original: WebhookEndpoint, *, connect: bool) -> Case:
    made = {**ENDPOINT_SHOWN, "id": "we_2", "secret": "whsec_2"}
    return call(
        "stripe", "clone_webhook_endpoint", original, connect=connect, description="g2", idempotency_key="k"
    ).answered(
        Answer(f"POST {ENDPOINTS}", made),
        result=Minted(credential_id="we_2", value="whsec_2", created_at=ENDPOINT.created_at),
    )


STRIPE = [
    call("stripe", "account").answered(Answer("GET /v1/account", {"id": "acct_1"}), result="acct_1"),
    call("stripe", "authenticates").answered(Answer("GET /v1/balance", {}), result=True),
    call("stripe", "livemode").answered(Answer("GET /v1/balance", {"livemode": True}), result=True),
    call("stripe", "default_version").answered(endpoints(stripe_version="2024-06-20"), result="2024-06-20"),
    call("stripe", "webhook_endpoints").answered(endpoints(more=True), endpoints(), result=[ENDPOINT, ENDPOINT]),
    clone(ENDPOINT, connect=True),
    clone(PLAIN, connect=False),
    call("stripe", "delete_webhook_endpoint", "we_1").answered(
        Answer(f"DELETE {ENDPOINTS}/{{webhook_endpoint}}", {"id": "we_1"})
    ),
]

# Upstash

DATABASE_SHOWN = {"endpoint": "happy-cat-1", "port": 6379, "tls": True, "state": "active"}
CREDENTIALS_SHOWN = {"password": "p", "rest_token": "r"}
DATABASE = Database(host="happy-cat-1.upstash.io", port=6379, tls=True, state="active", password="p", rest_token="r")
PROTECTED = replace(DATABASE, password="", rest_token="")
UPSTASH = [
    call("upstash", method, "d1").answered(Answer(operation, {**DATABASE_SHOWN, **credentials}), result=result)
    for method, operation in (
        ("database", "GET /redis/database/{id}"),
        ("reset_password", "POST /redis/reset-password/{id}"),
    )
    for credentials, result in ((CREDENTIALS_SHOWN, DATABASE), ({}, PROTECTED))
]
CASES = [*FLY, *GITHUB, *RESEND, *STRIPE, *UPSTASH]


def knows(case: Case, finding: Finding) -> list[Known]:
    return [each for each in KNOWN if each.covers(finding) and fnmatchcase(case.method, each.method)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.system}-{case.method}")
def test_requests_are_as_described_and_described_answers_are_understood(wire: Wire, case: Case) -> None:
    assert [str(finding) for finding in case.run(wire) if not knows(case, finding)] == []


def test_what_is_known_to_be_described_loosely_still_is(wire: Wire) -> None:
    needed = [each for case in CASES for finding in case.run(wire) for each in knows(case, finding)]
    assert [each for each in KNOWN if each not in needed] == []


def test_every_method_of_the_clients_is_among_the_cases() -> None:
    methods = {
        (system, name)
        for system, client in CLIENTS.items()
        for name, member in vars(type(client)).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    assert {(case.system, case.method) for case in CASES} == methods


def test_every_other_maker_of_requests_is_of_a_system_without_a_description() -> None:
    components = Path(http.__file__).parent
    described = {Path(inspect.getfile(type(client))).relative_to(components).as_posix() for client in CLIENTS.values()}
    makers = {
        path.relative_to(components).as_posix()
        for path in components.rglob("*.py")
        if path.name != "http.py"
        and re.search(r"\bApi\(|\bhttpx\.(Client|get|post|request)\(", path.read_text("utf-8"))
    }
    assert makers == described | UNDESCRIBED_CLIENTS


# The answers of the clients' own tests


@dataclass(frozen=True)
class Exchange:
    """A request that a test saw, and what it was answered with."""

    test: str
    request: httpx.Request
    response: httpx.Response


class Recorder:
    """A plugin of pytest: remembers what goes over the wire, and in which test."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._test = ""

    @pytest.hookimpl
    def pytest_runtest_call(self, item: pytest.Function) -> None:
        """A test begins."""
        self._test = item.originalname

    def record(self, system: str) -> None:
        """Runs the tests of a system's client."""
        handle = Wire.handle

        def remember(wire: Wire, request: httpx.Request) -> httpx.Response:
            response = handle(wire, request)
            self.exchanges.append(Exchange(self._test, request, response))
            return response

        module = Path(__file__).with_name(f"test_{system}_client.py")
        without = [f"-pno:{name}" for name in ("cacheprovider", "faulthandler", "xdist")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Wire, "handle", remember)
            assert pytest.main([str(module), *without, "--override-ini=addopts="], plugins=[self]) == pytest.ExitCode.OK


NULL = "how a null is read: Go and Ruby write one for what is empty"
PLACEHOLDER = "a member that no client reads has no value of its own"
# By test: what its answers have that is not described.
ON_PURPOSE = [
    ("test_app_exists", known("fly", f"GET {APP}", "answer error", "the body is one for all statuses")),
    ("test_an_app_may_have_no_secrets", known("fly", f"GET {APP}/secrets", "answer secrets", NULL)),
    (
        "test_a_machine_is_read_as_it_is",
        known("fly", f"GET {MACHINES}/{{machine_id}}", "answer config.unknown", "what is unknown has to be kept"),
    ),
    ("test_what_fly_leaves_out_is_empty", known("fly", f"GET {MACHINES}/{{machine_id}}", "answer checks", NULL)),
    ("test_what_fly_leaves_out_is_empty", known("fly", f"GET {MACHINES}/{{machine_id}}", "answer config", NULL)),
    ("test_what_fly_leaves_out_is_empty", known("fly", f"GET {MACHINES}/{{machine_id}}", "answer events", NULL)),
    ("test_can_push", known("github", f"GET {REPOSITORY}", "answer permissions", NULL)),
    (
        "test_the_metadata_of_a_secret",
        known("github", f"GET {REPOSITORY}/actions/secrets/{{secret_name}}", "answer created_at", PLACEHOLDER),
    ),
    (
        "test_a_dispatch_is_answered_with_its_run",
        known("github", f"POST {WORKFLOW}/dispatches", "answer *_url", PLACEHOLDER),
    ),
    (
        "test_a_domain_comes_with_its_records",
        known("resend", "GET /domains/{domain_id}", "answer records.1.status", NULL),
    ),
    (
        "test_a_domain_sends_unless_resend_says_otherwise",
        known("resend", "GET /domains", "answer data.0.capabilities", NULL),
    ),
    *(
        ("test_mails_that_are_young_enough", known("resend", "GET /emails", f"answer data.1.{member}", NULL))
        for member in ("to", "subject", "last_event")
    ),
    (
        "test_a_key_is_deleted_or_was_before",
        known("resend", "DELETE /api-keys/{api_key_id}", "answer", "that it succeeded is all that counts"),
    ),
    *(
        (test, known("upstash", operation, "answer read_only_rest_token", PLACEHOLDER))
        for test, operation in (
            ("test_a_database_is_read_as_the_account", "GET /redis/database/{id}"),
            ("test_a_reset_is_answered_with_the_database", "POST /redis/reset-password/{id}"),
        )
    ),
]


@pytest.mark.parametrize("system", CLIENTS)
def test_the_answers_of_the_clients_own_tests_are_excerpts_of_described_ones(system: str) -> None:
    recorder = Recorder()
    recorder.record(system)
    assert recorder.exchanges
    expected = [(test, each) for test, each in ON_PURPOSE if each.system == system]
    needed, wrong = [], []
    for exchange in recorder.exchanges:
        for finding in DESCRIPTIONS[system].findings(exchange.request, exchange.response, excerpt=True):
            covering = [(test, each) for test, each in expected if test == exchange.test and each.covers(finding)]
            needed += covering
            if not covering and not any(each.covers(finding) for each in KNOWN):
                wrong.append(f"{exchange.test}: {finding}")
    assert wrong == []
    assert [each for each in expected if each not in needed] == []


def test_the_envelope_of_a_lease_holds_a_lease() -> None:
    lease = DESCRIPTIONS["fly"].validator({"$ref": "#/components/schemas/Lease"})
    bodies = [answer.body for case in FLY for answer in case.answers if answer.operation == f"POST {LEASE}"]
    assert bodies
    for body in bodies:
        assert isinstance(body, dict)
        lease.validate(body["data"])


# The checks themselves


def request(method: str, url: str, *, form: str = "", **options: Any) -> httpx.Request:  # noqa: ANN401 - httpx's own
    if form:
        options |= {"content": form, "headers": {"content-type": "application/x-www-form-urlencoded"}}
    return httpx.Request(method, "https://api.test" + url, **options)


ENDPOINT_FORM = "url=https://a.example&enabled_events[]=*"


@pytest.mark.parametrize(
    ("system", "asked", "where"),
    [
        ("fly", request("GET", "/v1/apps/cp/secret"), "request"),
        ("fly", request("GET", "/apps/cp/secrets"), "request"),
        ("fly", request("PUT", "/v1/apps/cp/secrets", json={}), "request"),
        ("fly", request("GET", "/v1/apps/cp/machines/m1/wait?version=1&time_out=5"), "query time_out"),
        ("fly", request("GET", "/v1/apps/cp/machines/m1/wait?timeout=long"), "query timeout"),
        ("fly", request("GET", "/v1/apps/cp/machines/m1/wait?state=begun"), "query state"),
        ("fly", request("DELETE", "/v1/apps/cp/machines/m1/lease"), "header fly-machine-lease-nonce"),
        ("fly", request("GET", "/v1/apps/cp", headers={"fly-nonsense": "1"}), "header fly-nonsense"),
        ("fly", request("POST", "/v1/apps/cp/secrets", json={"value": {}}), "body value"),
        ("fly", request("POST", "/v1/apps/cp/secrets", json={"values": {"A": 1}}), "body values.A"),
        ("fly", request("POST", "/v1/apps/cp/secrets"), "body"),
        ("fly", request("POST", "/v1/apps/cp/machines/m1", json={"config": {"imag": "i"}}), "body config.imag"),
        ("github", request("GET", "/repos/o/r/actions/runs/latest"), "path run_id"),
        ("github", request("GET", "/repos/o/r/actions/runs?per_page=all"), "query per_page"),
        ("github", request("POST", "/repos/o/r/actions/workflows/w/dispatches", json={"inputs": {}}), "body"),
        ("github", request("POST", "/repos/o/r/actions/workflows/w/dispatches", json={"ref": "m", "x": 1}), "body x"),
        ("resend", request("GET", "/domains?limit=101"), "query limit"),
        ("resend", request("GET", "/domains", json={}), "body"),
        ("resend", request("POST", "/api-keys", json={"name": "n", "permission": "send"}), "body permission"),
        ("resend", request("POST", "/api-keys", form="name=n"), "body"),
        ("stripe", request("POST", ENDPOINTS, form="url=https://a.example"), "body"),
        ("stripe", request("POST", ENDPOINTS, form=f"{ENDPOINT_FORM}&secret=x"), "body secret"),
        ("stripe", request("POST", ENDPOINTS, form=f"{ENDPOINT_FORM}&connect=yes"), "body connect"),
        ("stripe", request("POST", ENDPOINTS, form=f"{ENDPOINT_FORM}&metadata[a][b]=c"), "body metadata.a"),
        ("stripe", request("POST", ENDPOINTS, form="url=https://a.example&enabled_events=*"), "body enabled_events"),
        ("upstash", request("GET", "/v2/redis/databases/d1"), "request"),
        ("upstash", request("GET", "/redis/database/d1"), "request"),
        ("upstash", request("GET", "/v2/redis/database/d1?hide=1"), "query hide"),
        ("upstash", request("POST", "/v2/redis/reset-password/d1", json={}), "body"),
        ("stripe", request("POST", ENDPOINTS, json={"url": "https://a.example", "enabled_events": ["*"]}), "body"),
    ],
    ids=lambda value: f"{value.method} {value.url.raw_path.decode()}" if isinstance(value, httpx.Request) else value,
)
def test_a_mistake_in_a_request_is_found(system: str, asked: httpx.Request, where: str) -> None:
    found = DESCRIPTIONS[system].findings(asked, reply(500))
    assert where in [each.where for each in found]


@pytest.mark.parametrize(
    ("response", "excerpt", "where"),
    [
        (reply(202, {}), False, "status"),
        (reply(200), False, "answer"),
        (reply(200, {"workflow_runs": []}), False, "answer"),
        (reply(200, {"workflow_runs": [{"ident": 1}]}), True, "answer workflow_runs.0.ident"),
        (reply(200, {"workflow_runs": [{"id": "1"}]}), True, "answer workflow_runs.0.id"),
        (reply(200, {"workflow_runs": [{"created_at": "today"}]}), True, "answer workflow_runs.0.created_at"),
    ],
    ids=str,
)
def test_a_mistake_in_an_answer_is_found(response: httpx.Response, excerpt: bool, where: str) -> None:  # noqa: FBT001
    found = DESCRIPTIONS["github"].findings(request("GET", "/repos/o/r/actions/runs"), response, excerpt=excerpt)
    assert [each.where for each in found] == [where]


def test_what_fits_is_no_finding() -> None:
    form = f"{ENDPOINT_FORM}&connect=true&metadata[a]=1&description=1&expand[]=a&api_version=2024-06-20"
    assert DESCRIPTIONS["stripe"].findings(request("POST", ENDPOINTS, form=form), reply(400)) == []
    wait = request("GET", "/v1/apps/cp/machines/m1/wait?timeout=5&state=started")
    assert DESCRIPTIONS["fly"].findings(wait, reply(200, {"ok": True})) == []


def test_translation_leaves_data_and_the_names_of_members_alone() -> None:
    said = {
        "type": "object",
        "nullable": True,
        "required": ["nullable"],
        "properties": {"nullable": {"type": "string", "nullable": True, "example": {"nullable": True}}},
    }
    member = {"anyOf": [{"type": "string", "example": {"nullable": True}}, {"type": "null"}]}
    translated = {"type": "object", "required": ["nullable"], "properties": {"nullable": member}}
    assert translate(said) == {"anyOf": [translated, {"type": "null"}]}
    closed = {"type": "object", "properties": {"nullable": member}, "additionalProperties": False}
    assert translate(said, closed=True, excerpt=True) == {"anyOf": [closed, {"type": "null"}]}


@pytest.mark.parametrize(("value", "fits"), [({"a": 1, "b": 2}, True), ({"a": 1, "c": 3}, False)])
def test_what_adds_up_is_closed_as_a_whole(value: object, fits: bool) -> None:  # noqa: FBT001 - a column
    parts = [{"type": "object", "properties": {name: {"type": "integer"}}} for name in "ab"]
    schema = translate({"allOf": parts}, closed=True)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is fits
