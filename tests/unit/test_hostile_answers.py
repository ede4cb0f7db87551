"""Whatever a provider answers, every method of every client ends with a result or an error that an operator can read.

Such an error has one line, is of bounded length, has nothing in it that moves a cursor, and no value of the answer or of the request.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components import clock, http
from components.answers import reads_answer
from components.control_plane.client import ControlPlaneClient
from components.dns.client import txt_records
from components.errors import OperatorError
from components.fly.client import FlyClient, Machine
from components.github.client import GitHubClient
from components.http import REPEATABLE, Api, ApiError
from components.neon.client import NeonClient
from components.resend.client import ResendClient
from components.secret import OrganizationSecret, RepositorySecret
from components.stripe.client import StripeClient, WebhookEndpoint
from components.upstash.client import UpstashClient
from components.upstash.rest import AccessControl
from tools.ci.conversation import Conversation

from .wire import Wire, reply

CANARY = "canary-5f0c9e1b7d3a"  # a value in an answer, and in a request
LONGEST = 1500  # characters of a whole error: an operation, a reason, a request id and our own words
MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
MACHINE = Machine(machine_id="m1", state="started", instance_id="i1", region="fra", host_status="ok", config={})
ENDPOINT = WebhookEndpoint(
    endpoint_id="we_1",
    url="https://cp.test/hook",
    enabled_events=("*",),
    api_version="",
    description="",
    metadata={},
    enabled=True,
    livemode=True,
    created=1,
)
FLY, GITHUB, NEON = FlyClient(CANARY), GitHubClient(CANARY), NeonClient(CANARY)
RESEND, STRIPE = ResendClient(CANARY), StripeClient(CANARY)
UPSTASH, ACCESS = UpstashClient(email="a@b.test", key=CANARY), AccessControl(host="db.test", token=CANARY)
CONTROL_PLANE, CONVERSATION = ControlPlaneClient("https://cp.test", CANARY), Conversation(CANARY)
PLACE = "/repos/o/r/actions/secrets"
CALLS: dict[str, Callable[[], object]] = {
    "fly.app_exists": lambda: FLY.app_exists("app"),
    "fly.list_secrets": lambda: FLY.list_secrets("app"),
    "fly.write_secrets": lambda: FLY.write_secrets("app", {"A": CANARY}),
    "fly.list_machines": lambda: FLY.list_machines("app"),
    "fly.get_machine": lambda: FLY.get_machine("app", "m1"),
    "fly.acquire_lease": lambda: FLY.acquire_lease("app", "m1", seconds=10, description="d"),
    "fly.refresh_lease": lambda: FLY.refresh_lease("app", "m1", "nonce", seconds=10),
    "fly.release_lease": lambda: FLY.release_lease("app", "m1", "nonce"),
    "fly.update_machine": lambda: FLY.update_machine(
        "app", MACHINE, config={"env": {"A": CANARY}}, nonce="n", min_secrets_version=1, skip_launch=False
    ),
    "fly.wait_until_started": lambda: FLY.wait_until_started("app", "m1", instance_id="i1", seconds=1),
    "fly.log_lines_since": lambda: FLY.log_lines_since("app", MOMENT),
    "fly.create_release": lambda: FLY.create_release("app"),
    "fly.finish_release": lambda: FLY.finish_release("r1", "complete"),
    "fly.create_token": lambda: FLY.create_token(app="app", name="n", profile="deploy", expiry="1h"),
    "fly.list_tokens": lambda: FLY.list_tokens(app="app", profile="deploy"),
    "fly.list_tokens of an organization": lambda: FLY.list_tokens(app="app", profile="deploy_organization"),
    "fly.revoke_token": lambda: FLY.revoke_token("t1"),
    "github.can_push": lambda: GITHUB.can_push("o/r"),
    "github.may_see_secrets": lambda: GITHUB.may_see_secrets(PLACE),
    "github.has_workflow": lambda: GITHUB.has_workflow("o/r", "w.yml"),
    "github.default_branch": lambda: GITHUB.default_branch("o/r"),
    "github.secret": lambda: GITHUB.secret(PLACE, "A"),
    "github.secrets": lambda: GITHUB.secrets(PLACE),
    "github.selected_repositories": lambda: GITHUB.selected_repositories("/orgs/o/actions/secrets", "A"),
    "github.organization_secrets": lambda: GITHUB.organization_secrets("o/r"),
    "github.environments": lambda: GITHUB.environments("o/r"),
    "github.environment": lambda: GITHUB.environment("/repos/o/r/environments/e"),
    "github.repository": lambda: GITHUB.repository("o/r"),
    "github.delete_secret": lambda: GITHUB.delete_secret(PLACE, "A"),
    "github.dispatch": lambda: GITHUB.dispatch("o/r", "w.yml", ref="main"),
    "github.run": lambda: GITHUB.run("o/r", 1),
    "github.dispatched_runs": lambda: GITHUB.dispatched_runs("o/r", "w.yml"),
    "github.unfinished_runs": lambda: GITHUB.unfinished_runs("o/r"),
    "neon.authenticate": NEON.authenticate,
    "neon.can_see_project": lambda: NEON.can_see_project("p"),
    "neon.branches": lambda: NEON.branches("p"),
    "neon.default_branch": lambda: NEON.default_branch("p"),
    "neon.roles": lambda: NEON.roles("p", "b"),
    "neon.create_role": lambda: NEON.create_role("p", "b", "r"),
    "neon.reset_role_password": lambda: NEON.reset_role_password("p", "b", "r"),
    "neon.await_operation": lambda: NEON.await_operation("p", "o"),
    "neon.connection_uri": lambda: NEON.connection_uri("p", branch="b", database="d", role="r", pooled=True),
    "neon.list_keys": lambda: NEON.list_keys("org"),
    "neon.last_used_at": lambda: NEON.last_used_at("org", "1"),
    "neon.create_key": lambda: NEON.create_key("org", name="n"),
    "neon.revoke_key": lambda: NEON.revoke_key("org", "1"),
    "resend.authenticates": RESEND.authenticates,
    "resend.domain_id": lambda: RESEND.domain_id("d.test"),
    "resend.domains": RESEND.domains,
    "resend.domain": lambda: RESEND.domain("d"),
    "resend.emails_since": lambda: RESEND.emails_since(MOMENT),
    "resend.list_keys": RESEND.list_keys,
    "resend.last_used_at": lambda: RESEND.last_used_at("k"),
    "resend.create_key": lambda: RESEND.create_key(name="n", domain_id="d", created_at="2026-11-23T12:00:00Z"),
    "resend.delete_key": lambda: RESEND.delete_key("k"),
    "stripe.account": STRIPE.account,
    "stripe.authenticates": STRIPE.authenticates,
    "stripe.livemode": STRIPE.livemode,
    "stripe.default_version": STRIPE.default_version,
    "stripe.webhook_endpoints": STRIPE.webhook_endpoints,
    "stripe.clone_webhook_endpoint": lambda: STRIPE.clone_webhook_endpoint(
        ENDPOINT, connect=False, description="d", idempotency_key="k"
    ),
    "stripe.delete_webhook_endpoint": lambda: STRIPE.delete_webhook_endpoint("we_1"),
    "upstash.database": lambda: UPSTASH.database("d"),
    "upstash.reset_password": lambda: UPSTASH.reset_password("d"),
    "access.users": ACCESS.users,
    "access.generate_token": lambda: ACCESS.generate_token("u"),
    "access.set_user": lambda: ACCESS.set_user("u", CANARY, ("+@all",)),
    "access.delete_user": lambda: ACCESS.delete_user("u"),
    "control_plane.assert_up": CONTROL_PLANE.assert_up,
    "control_plane.orgs": CONTROL_PLANE.orgs,
    "control_plane.create_org": lambda: CONTROL_PLANE.create_org(slug="s", name="n", owner_user_id="u"),
    "control_plane.reprovision": lambda: CONTROL_PLANE.reprovision("/orgs/{slug}/again", "s"),
    "control_plane.delete_org": lambda: CONTROL_PLANE.delete_org("s"),
    "conversation.account": CONVERSATION.account,
    "conversation.comment": lambda: CONVERSATION.comment("o/r", 1, "<!-- m -->", "body"),
    "conversation.report": lambda: CONVERSATION.report("o/r", "<!-- m -->", title="t", body="b"),
    "conversation.all_clear": lambda: CONVERSATION.all_clear("o/r", "<!-- m -->", comment="c"),
    "txt_records": lambda: txt_records("d.test"),
}
CLIENTS = {
    "fly": FLY,
    "github": GITHUB,
    "neon": NEON,
    "resend": RESEND,
    "stripe": STRIPE,
    "upstash": UPSTASH,
    "access": ACCESS,
    "control_plane": CONTROL_PLANE,
    "conversation": CONVERSATION,
}

# Names that the clients look for, so that a drawn answer gets past the first line of a method at times.
MEMBERS = """
    _ Answer access account_id action app attributes branches category checks code config created created_at createdAt
    createLimitedAccessToken currentReleaseUnprocessed data default default_branch digest enabled_events endpoint endCursor
    env error errors events expiresAt extensions has_more hasNextPage host_status html_url id instance_id instance_status
    key last_used_at limitedAccessToken limitedAccessTokens livemode login message meta metadata name next_token nodes nonce
    operation operations organization orgs pageInfo password permissions port project_id protected push records release
    result revokedAt role roles secret secrets services slug state status Status timestamp token tokenHeader type updated_at
    uri url user version workflow_run_id workflow_runs body number
""".split()  # noqa: SIM905 - a hundred words
NASTY = st.sampled_from(
    [
        f"{CANARY}\x1b[2J\x1b]0;title\x07",
        f"\r\n::add-mask::{CANARY}\n::set-output name=a::b",
        "##[command]x",
        "\N{RIGHT-TO-LEFT OVERRIDE}txt\x00\x9b31m\N{LINE SEPARATOR}",
        "\ud800",
        "../../other?x=1#y",
        "x" * 3000,
        "2026-11-23T12:00:00Z",
        "2026-11-23",
        "99999-99-99",
        "must be authenticated",
        "invalid_api_key",
        "ok",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -1, 0, 1.5, float("nan"), float("inf")])
    | st.text(max_size=8)
    | NASTY
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6),
    max_leaves=25,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "x-request-id",
            "fly-request-id",
            "request-id",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "date",
            "location",
            "stripe-version",
            "content-type",
        ]
    ),
    st.sampled_from(
        ["0", "-1", "61", "nan", "inf", "Mon, 99 Foo 99999 99:99:99 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"]
    )
    | st.sampled_from([f"{CANARY}\x1b[2J", "x" * 5000, "text/html; charset=utf-16", "https://elsewhere.test/"]),
    max_size=3,
)


@dataclass(frozen=True)
class Hostile:
    """An answer: its status, its body to the byte, its headers."""

    status: int
    body: bytes
    headers: dict[str, str]

    def __call__(self, _request: httpx.Request) -> httpx.Response:
        """The answer, whatever was asked."""
        # Strings of headers that are no ASCII arrive as Latin-1.
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        return httpx.Response(self.status, content=self.body, headers=headers)


STATUSES = st.sampled_from(
    [200, 200, 200, 200, 201, 202, 204, 301, 302, 400, 401, 403, 404, 409, 412, 422, 429, 500, 503]
)
BODIES = (
    JSON.map(lambda each: json.dumps(each).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"", b"[" * 100_000, b"{", b'"\\ud800"', b"9" * 5000, f"<html>{CANARY}</html>".encode()])
)
ANSWERS = st.builds(Hostile, STATUSES, BODIES, HEADERS)


@pytest.fixture(autouse=True)
def few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_PAGES", 5)


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What providers say of the time here is kept from other tests."""
    monkeypatch.setattr(clock, "_ahead", timedelta(0))


def assert_readable(text: str, *, secret: bool = True) -> None:
    assert not secret or CANARY not in text, "nothing secret"
    assert len(text) < LONGEST
    assert all(line.isprintable() for line in text.split("\n")), repr(text)
    assert not any(line.lstrip().startswith("::") for line in text.split("\n"))


def assert_readable_error(error: Exception, *, secret: bool = True) -> None:
    assert_readable(str(error), secret=secret)
    assert_readable(repr(error), secret=secret)
    assert "\n" not in str(error)


def test_every_method_of_every_client_is_called() -> None:
    methods = {
        f"{name}.{method}"
        for name, client in CLIENTS.items()
        for kind in type(client).__mro__
        if name != "conversation" or kind is Conversation
        for method, member in vars(kind).items()
        if callable(member) and not method.startswith("_")
    }
    assert methods == {name.split(" ")[0] for name in CALLS} - {"txt_records"}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=4))
@example(answers=[Hostile(200, b"[]", {})])
@example(answers=[Hostile(200, b"{}", {})])
@example(answers=[Hostile(200, b"null", {})])
@example(answers=[Hostile(200, b"5", {})])
@example(answers=[Hostile(200, b"[" * 100_000, {})])
@example(answers=[Hostile(200, b'{"errors": [5], "Status": [], "data": {"id": []}}', {})])
@example(answers=[Hostile(403, b"5", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"})])
def test_an_answer_of_any_form_is_a_result_or_a_readable_error(
    wire: Wire, call: Callable[[], object], answers: list[Hostile]
) -> None:
    wire.requests.clear()
    turn: Iterator[Hostile] = iter(answers)
    wire.serve = next(turn, answers[-1])
    try:
        call()
    except (ApiError, OperatorError) as error:
        # A DNS service is told no secret, so it has none to give away.
        assert_readable_error(error, secret=call is not CALLS["txt_records"])
    finally:
        wire.serve = None


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_client_follows_a_redirect(wire: Wire, call: Callable[[], object]) -> None:
    for status in (301, 302, 303, 307, 308):
        answer = reply(status, location="https://elsewhere.test/")
        wire.serve = lambda _request, answer=answer: answer
        with pytest.raises(ApiError) as failed:
            call()
        assert failed.value.status == status
    assert "elsewhere.test" not in {request.url.host for request in wire.requests}


API = Api(system="Fly", base_url="https://api.test", headers={}, secrets=[CANARY])


def read(**options: Any) -> httpx.Response:  # noqa: ANN401 - Api.call's own
    return API.call("GET", "/things", operation="read the things", **options)


class Endless(httpx.SyncByteStream):
    """A body without an end, and how much of it was taken."""

    def __init__(self, piece: bytes) -> None:
        self.piece, self.taken, self.closed = piece, 0, False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.taken += len(self.piece)
            assert self.taken < 10 * http.LARGEST_ANSWER, "this is read for ever"
            yield self.piece

    def close(self) -> None:
        """The connection is given up."""
        self.closed = True


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_an_end_is_not_read_to_the_end(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 4 * 1024**2)
    body = Endless(b"x" * 65_536)
    wire.will(httpx.Response(status, stream=body))
    with pytest.raises(ApiError, match=f"status {status}.* larger than 4 MiB") as failed:
        read()
    assert body.taken <= http.LARGEST_ANSWER + 65_536
    assert body.closed
    assert failed.value.ambiguous is (status != 404), "it may have acted all the same"


def test_an_answer_that_is_as_large_as_may_be_is_read(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 1000)
    wire.will(httpx.Response(200, content=b"x" * 1000), httpx.Response(200, content=b"x" * 1001))
    assert len(read().content) == 1000
    with pytest.raises(ApiError):
        read()


def test_what_counts_is_the_size_of_an_answer_decompressed(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 1024**2)
    bomb = gzip.compress(b"0" * 50 * 1024**2)
    assert len(bomb) < 65_536
    wire.will(httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"content-encoding": "gzip"}))
    with pytest.raises(ApiError, match="larger than 1 MiB"):
        read()


def test_an_answer_that_is_compressed_is_read(wire: Wire) -> None:
    body = gzip.compress(b'{"a": "\xc3\xa9"}')
    wire.will(httpx.Response(200, stream=httpx.ByteStream(body), headers={"content-encoding": "gzip"}))
    assert read().json() == {"a": "\N{LATIN SMALL LETTER E WITH ACUTE}"}


def test_a_bomb_in_a_bomb_is_not_decompressed_at_all(wire: Wire) -> None:
    bomb = gzip.compress(gzip.compress(b"0" * 10 * 1024**2))
    wire.will(httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"content-encoding": "gzip, gzip"}))
    with pytest.raises(ApiError, match="compressed more than once"):
        read()


def test_what_is_no_gzip_is_an_error_like_any_other(wire: Wire) -> None:
    wire.will(httpx.Response(200, stream=httpx.ByteStream(CANARY.encode()), headers={"content-encoding": "gzip"}))
    with pytest.raises(ApiError) as failed:
        read()
    assert failed.value.ambiguous
    assert_readable(str(failed.value))


def test_an_answer_that_trickles_is_given_up(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 1
            return self.now

    monkeypatch.setattr(http, "time", Slow())
    body = Endless(b"x")
    wire.will(httpx.Response(200, stream=body))
    with pytest.raises(ApiError, match="did not end within 75 s") as failed:
        read()
    assert body.taken < 100
    assert failed.value.ambiguous
    assert failed.value.status is None


@pytest.mark.parametrize(
    "call",
    [
        RESEND.domains,
        STRIPE.webhook_endpoints,
        lambda: FLY.list_tokens(app="app", profile="deploy"),
        lambda: GITHUB.unfinished_runs("o/r"),
    ],
)
def test_a_list_without_an_end_is_given_up(wire: Wire, call: Callable[[], object]) -> None:
    run = {"id": 1, "created_at": "2026-11-23T12:00:00Z"}
    item = {"id": "x", "name": "n", "status": "s", "createdAt": "", "revokedAt": None, "expiresAt": None}
    page = {"pageInfo": {"hasNextPage": True, "endCursor": "c"}, "nodes": [item]}
    body = {"has_more": True, "workflow_runs": [run] * 100}
    listed = {**body, "data": [item]}
    graphql = {"data": {"app": {"limitedAccessTokens": page}}}
    wire.serve = lambda request: reply(200, graphql if request.url.path == "/graphql" else listed)
    with pytest.raises(ApiError, match="EndlessPagesError"):
        call()
    assert len(wire.requests) == http.MOST_PAGES


def test_an_answer_that_mints_and_cannot_be_read_may_have_minted(wire: Wire) -> None:
    wire.will(reply(200, {"id": 5, "name": CANARY}, x_request_id="req-1"))
    with pytest.raises(ApiError) as failed:
        NEON.create_key("org", name="molecule-neon-7")
    error = failed.value
    assert error.ambiguous
    assert not error.transient, "to try again would mint once more"
    for said in ("Neon", "mint key molecule-neon-7", "not as documented", "neon/client.py:", "req-1", "status 200"):
        assert said in str(error)
    assert_readable(str(error))


@pytest.mark.parametrize(
    "value", [5, None, [], {"a": CANARY}, True, f"{CANARY}\n", f"{CANARY}\x00", "\ud800"], ids=repr
)
def test_a_minted_value_that_no_consumer_could_take_is_refused_before_anybody_has_it(wire: Wire, value: object) -> None:
    mints: list[tuple[Callable[[], object], object]] = [
        (lambda: NEON.create_key("org", name="n"), {"id": 1, "key": value, "created_at": "2026-11-23T12:00:00Z"}),
        (lambda: RESEND.create_key(name="n", domain_id="d", created_at=""), {"id": "1", "token": value}),
    ]
    for call, body in mints:
        wire.will(httpx.Response(200, content=json.dumps(body).encode()))
        with pytest.raises(ApiError, match="not as documented") as failed:
            call()
        assert_readable(str(failed.value))


def test_an_error_of_ours_is_not_taken_for_one_of_an_answer() -> None:
    @reads_answer
    def wrong() -> str:
        nothing: dict[str, str] = {}
        return nothing["nothing was asked"]

    with pytest.raises(KeyError):
        wrong()


def test_a_client_that_asks_another_one_says_which_answer_was_wrong(wire: Wire) -> None:
    wire.will(reply(200, {"branches": [{"id": "b"}]}))
    with pytest.raises(ApiError, match="could not list the branches of project p"):
        NEON.default_branch("p")


@pytest.mark.parametrize("name", ["..", ".", "", "a\nb", "a\x00", "a\x1b[2J"])
@pytest.mark.parametrize(
    "call",
    [
        FLY.list_secrets,
        lambda name: FLY.get_machine("app", name),
        lambda name: GITHUB.repository(f"{name}/r"),
        lambda name: GITHUB.repository(f"o/{name}"),
        lambda name: GITHUB.delete_secret(PLACE, name),
        NEON.branches,
        lambda name: NEON.revoke_key("org", name),
        RESEND.delete_key,
        STRIPE.delete_webhook_endpoint,
        UPSTASH.database,
        CONTROL_PLANE.delete_org,
    ],
)
def test_what_is_no_name_is_not_asked_for(wire: Wire, call: Callable[[str], object], name: str) -> None:
    with pytest.raises(OperatorError, match="no name or id") as failed:
        call(name)
    assert wire.requests == []
    assert_readable(str(failed.value))


PATHS: list[tuple[Callable[[str], object], str]] = [
    (FLY.list_secrets, "/v1/apps/NAME/secrets"),
    (lambda name: FLY.write_secrets(name, {}), "/v1/apps/NAME/secrets"),
    (lambda name: FLY.get_machine("app", name), "/v1/apps/app/machines/NAME"),
    (lambda name: FLY.log_lines_since(name, MOMENT), "/api/v1/apps/NAME/logs"),
    (lambda name: FLY.finish_release(name, "failed"), "/api/v1/releases/NAME"),
    (lambda name: GITHUB.can_push(f"o/{name}"), "/repos/o/NAME"),
    (lambda name: GITHUB.delete_secret(PLACE, name), "/repos/o/r/actions/secrets/NAME"),
    (lambda name: GITHUB.has_workflow("o/r", name), "/repos/o/r/actions/workflows/NAME"),
    (lambda name: NEON.roles("p", name), "/api/v2/projects/p/branches/NAME/roles"),
    (lambda name: NEON.create_key(name, name="n"), "/api/v2/organizations/NAME/api_keys"),
    (lambda name: NEON.revoke_key("", name), "/api/v2/api_keys/NAME"),
    (RESEND.domain, "/domains/NAME"),
    (RESEND.delete_key, "/api-keys/NAME"),
    (STRIPE.delete_webhook_endpoint, "/v1/webhook_endpoints/NAME"),
    (UPSTASH.reset_password, "/v2/redis/reset-password/NAME"),
    (CONTROL_PLANE.delete_org, "/cp/admin/tenants/NAME"),
    (lambda name: CONTROL_PLANE.reprovision("/orgs/{slug}/again", name), "/orgs/NAME/again"),
]


@pytest.mark.parametrize(("call", "path"), PATHS, ids=[path for _, path in PATHS])
@pytest.mark.parametrize(
    "name", ["../x", "a/../../b", "a?b=c", "a#b", "a%2fb", "a b", "a;b", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_a_name_leads_nowhere_else(wire: Wire, call: Callable[[str], object], path: str, name: str) -> None:
    wire.will(reply(404))
    with suppress(ApiError, OperatorError):
        call(name)
    assert len(wire.requests) == 1
    asked = wire.last.url
    before, after = path.split("NAME")
    raw = asked.raw_path.decode()
    assert raw.startswith(before)
    assert raw.endswith(after)
    assert not set(raw.removeprefix(before).removesuffix(after)) & set("/?#"), raw
    assert asked.path == path.replace("NAME", name), "and it is that very name"


def test_a_retry_is_bounded_by_what_it_reads(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 10)
    wire.serve = lambda _request: httpx.Response(200, content=b"x" * 11)
    with pytest.raises(ApiError):
        read(policy=REPEATABLE)
    assert len(wire.requests) == 1, "the next one would be as large"


@pytest.mark.parametrize("path", ["/..", "/a/../b", "/a/./b", "/a/..?x=1"])
def test_no_path_is_resolved(wire: Wire, path: str) -> None:
    with pytest.raises(ApiError, match="no path of it") as failed:
        API.call("GET", path, operation="read")
    assert wire.requests == []
    assert not failed.value.ambiguous


@pytest.mark.parametrize("name", ["a/../b", "a?b", "a#b"])
def test_a_place_at_github_leads_nowhere_else(name: str) -> None:
    places = (
        RepositorySecret(owner="o", repository=name, workflow="w.yml"),
        OrganizationSecret(owner=name, repository="r", workflow="w.yml", visibility="all"),
    )
    for place in places:
        path = place.secrets_path
        assert path.endswith("/actions/secrets")
        assert not set("?#") & set(path)
