"""Does the client say to Fly what Fly reads (wire contract: flyctl, fly-go, the Machines API), and read what Fly says?"""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from components.fly import client as fly
from components.fly.client import FlyClient, Machine
from components.http import ApiError
from components.rate_limit import Limit

from .wire import START, Clock, Wire, body_of, booted, reply

TOKEN = "fo1_operator-token"
CLIENT = FlyClient(token=TOKEN)
MACHINE = Machine(
    machine_id="m1",
    state="started",
    instance_id="I1",
    region="ams",
    host_status="ok",
    config={"image": "registry.test/cp", "env": {"A": "1"}, "metadata": {"fly_process_group": "app"}},
)


@pytest.mark.parametrize(
    ("token", "machines", "graphql", "platform"),
    [
        ("fo1_user", "Bearer fo1_user", "Bearer fo1_user", "Bearer fo1_user"),
        ("fm2_a", "FlyV1 fm2_a", "FlyV1 fm2_a", "Bearer fm2_a"),
        ("fm1r_a", "FlyV1 fm1r_a", "FlyV1 fm1r_a", "Bearer fm1r_a"),
        ("fm1a_a", "FlyV1 fm1a_a", "FlyV1 fm1a_a", "Bearer fm1a_a"),
        ("FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "Bearer fm2_a,fm2_b"),
        ("FlyV1 fm2_a,fo1_u,fm2_b", "FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b,fo1_u", "Bearer fm2_a,fm2_b,fo1_u"),
        ("Bearer fo1_user", "Bearer fo1_user", "Bearer fo1_user", "Bearer fo1_user"),
        ("bearer flyv1 FLYV1 fm2_a", "FlyV1 fm2_a", "FlyV1 fm2_a", "Bearer fm2_a"),
        (" FlyV1 fm2_a, fm2_b\n", "FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "Bearer fm2_a,fm2_b"),
        ("fm2_a,,", "FlyV1 fm2_a", "FlyV1 fm2_a", "Bearer fm2_a"),
        ("plain", "Bearer plain", "Bearer plain", "Bearer plain"),
    ],
)
def test_authorization(token: str, machines: str, graphql: str, platform: str) -> None:
    assert fly.machines_authorization(token) == machines
    assert fly.graphql_authorization(token) == graphql
    assert fly.platform_authorization(token) == platform


def test_each_api_gets_its_own_form_of_the_token_and_its_own_base(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_UIEX_BASE_URL", "http://uiex.test")
    both = FlyClient(token="FlyV1 fm2_a,fo1_u")
    wire.will(
        reply(200, {"secrets": []}),
        reply(200, {"data": {"app": {"currentReleaseUnprocessed": None}}}),
        reply(201, {"release": {"id": "r", "version": 3}}),
        reply(200, {}),
    )
    both.list_secrets("cp")
    both.create_release("cp")
    assert [(str(each.url), each.headers["authorization"]) for each in wire.requests] == [
        ("https://api.machines.dev/v1/apps/cp/secrets", "FlyV1 fm2_a"),
        ("https://api.fly.io/graphql", "FlyV1 fm2_a,fo1_u"),
        ("http://uiex.test/api/v1/releases", "Bearer fm2_a,fo1_u"),
        ("http://uiex.test/api/v1/releases/r", "Bearer fm2_a,fo1_u"),
    ]


def test_the_bases_follow_the_variables_of_flyctl(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("FLY_API_BASE_URL", "http://127.0.0.1:2")
    wire.will(reply(200, []), reply(200, {"data": {}}), reply(200, {}))
    CLIENT.list_machines("cp")
    CLIENT.revoke_token("t")
    CLIENT.finish_release("r", "complete")
    assert [str(each.url) for each in wire.requests] == [
        "http://127.0.0.1:1/v1/apps/cp/machines",
        "http://127.0.0.1:2/graphql",
        "http://127.0.0.1:2/api/v1/releases/r",
    ]


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(CLIENT)


@pytest.mark.parametrize(("status", "exists"), [(200, True), (403, False), (404, False)])
def test_app_exists(wire: Wire, status: int, exists: bool) -> None:  # noqa: FBT001 - a column
    wire.will(reply(status, {"error": "x"}))
    assert CLIENT.app_exists("cp") is exists
    assert wire.lines == ["GET /v1/apps/cp"]


def test_an_app_of_a_token_that_is_refused_is_not_said_to_be_missing(wire: Wire) -> None:
    wire.will(reply(401, {"error": "Authenticate: token validation error"}))
    with pytest.raises(ApiError) as failed:
        CLIENT.app_exists("cp")
    assert failed.value.refused
    assert "token validation error" in str(failed.value)


@pytest.mark.parametrize(
    ("body", "explanation"),
    [
        ({"error": "old", "message": "new"}, "new"),
        ({"error": "old"}, "old"),
        ({"message": ""}, "Bad Request"),
        (["odd"], "Bad Request"),
    ],
)
def test_flys_explanation_is_the_message_else_the_error(wire: Wire, body: object, explanation: str) -> None:
    wire.will(reply(400, body, fly_request_id="01ABC"))
    with pytest.raises(ApiError) as failed:
        CLIENT.list_secrets("cp")
    assert failed.value.reason == explanation
    assert failed.value.request_id == "01ABC"


# Secrets


def test_secrets_are_listed_by_name(wire: Wire) -> None:
    wire.will(
        reply(200, {"secrets": [{"name": "A", "digest": "d", "updated_at": "2026-11-23T12:00:00Z"}, {"name": "B"}]})
    )
    listed = CLIENT.list_secrets("cp")
    assert listed["A"] == fly.AppSecret(name="A", digest="d", updated_at="2026-11-23T12:00:00Z")
    assert listed["B"] == fly.AppSecret(name="B", digest="", updated_at="")


@pytest.mark.parametrize("body", [{"secrets": None}, {}, {"secrets": []}])
def test_an_app_may_have_no_secrets(wire: Wire, body: object) -> None:
    wire.will(reply(200, body))
    assert CLIENT.list_secrets("cp") == {}


@pytest.mark.parametrize("version", [{"version": 7}, {"Version": 7}, {"version": 7, "Version": 7}])
def test_secrets_are_written_in_one_call(wire: Wire, version: dict[str, int]) -> None:
    wire.will(reply(200, {"secrets": [{"name": "A", "digest": "d"}, {"name": "C", "digest": "e"}], **version}))
    written = CLIENT.write_secrets("cp", {"A": "value-of-a", "B": None})
    assert wire.lines == ["POST /v1/apps/cp/secrets"]
    assert body_of(wire.last) == {"values": {"A": "value-of-a", "B": None}}
    assert written == fly.WrittenSecrets(version=7, digests={"A": "d", "C": "e"})


def test_an_answer_without_digests(wire: Wire) -> None:
    wire.will(reply(200, {"version": 7}))
    written = CLIENT.write_secrets("cp", {"A": "value-of-a", "B": None})
    assert (written.version, written.digests) == (7, {})
    assert wire.lines == ["POST /v1/apps/cp/secrets"]


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_a_write_of_secrets_is_repeated(wire: Wire, status: int) -> None:
    wire.will(
        reply(status, {"error": "conflict"}), reply(200, {"version": 2, "secrets": [{"name": "A", "digest": "d"}]})
    )
    assert CLIENT.write_secrets("cp", {"A": "value-of-a"}).version == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_write_names_the_secrets_but_not_their_values(wire: Wire, status: int) -> None:
    wire.will(reply(status, {"error": "the value value-of-a is bad"}))
    with pytest.raises(ApiError) as failed:
        CLIENT.write_secrets("cp", {"B": "value-of-b", "A": "value-of-a"})
    assert "A, B" in str(failed.value)
    assert "value-of-a" not in str(failed.value)


# Machines


def machine(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"id": "m1", "state": "started", "instance_id": "I1", "region": "ams", "config": {"image": "i"}, **changed}


def test_machines_are_sorted_and_the_destroyed_left_out(wire: Wire) -> None:
    states = {"m3": "started", "m1": "stopped", "m2": "destroyed", "m4": "destroying", "m0": "suspended"}
    wire.will(reply(200, [machine(id=each, state=state) for each, state in states.items()]))
    assert [each.machine_id for each in CLIENT.list_machines("cp")] == ["m0", "m1", "m3"]


def test_a_machine_is_read_as_it_is(wire: Wire) -> None:
    config = {"image": "i", "services": [{"checks": [{"type": "http"}]}], "unknown": {"kept": True}}
    wire.will(
        reply(
            200,
            machine(
                config=config,
                host_status="unreachable",
                updated_at="2026-11-23T12:00:00Z",
                events=[{"id": "e", "type": "start"}],
                checks=[
                    {"name": "http", "status": "passing", "updated_at": "2026-11-23T12:00:01Z"},
                    {"name": "bg_deployments_compat_http", "status": "critical"},
                    {"name": "tcp", "status": "critical"},
                ],
            ),
        )
    )
    read = CLIENT.get_machine("cp", "m1")
    assert wire.lines == ["GET /v1/apps/cp/machines/m1"]
    assert read.config == config
    assert read.host_status == "unreachable"
    assert read.events == ({"id": "e", "type": "start"},)
    assert [(each.name, each.status, each.updated_at) for each in read.checks] == [
        ("http", "passing", "2026-11-23T12:00:01Z"),
        ("tcp", "critical", ""),
    ]


def test_what_fly_leaves_out_is_empty(wire: Wire) -> None:
    wire.will(reply(200, {"id": "m1", "state": "created", "config": None, "checks": None, "events": None}))
    read = CLIENT.get_machine("cp", "m1")
    assert (read.host_status, read.config, read.checks, read.events, read.metadata) == ("ok", {}, (), (), {})


@pytest.mark.parametrize(
    ("config", "has"),
    [
        ({}, False),
        ({"services": None}, False),
        ({"checks": {}}, False),
        ({"services": [{"checks": []}, {}]}, False),
        ({"checks": {"a": {}}}, True),
        ({"services": [{}, {"checks": [{"type": "tcp"}]}]}, True),
    ],
)
def test_where_checks_are_configured(config: dict[str, Any], has: bool) -> None:  # noqa: FBT001 - a column
    assert fly._machine(machine(config=config)).has_checks is has


@pytest.mark.parametrize(
    ("events", "moment"),
    [
        ([], None),
        (None, None),
        (booted(1.25), START + timedelta(seconds=1.25)),
        (booted(1.25, "launch"), START + timedelta(seconds=1.25)),
        ([*booted(2), *booted(1, "launch")], START + timedelta(seconds=2)),
        ([*booted(1, "launch"), *booted(2)], START + timedelta(seconds=2)),
        ([*booted(9, "start"), *booted(8, "exit"), *booted(2)], START + timedelta(seconds=2)),
        (booted(9, "start"), None),
        ([{"type": "exit"}, *booted(2)], START + timedelta(seconds=2)),
    ],
)
def test_a_machine_was_configured_when_it_was_created_or_updated_last(
    events: list[dict[str, Any]] | None, moment: datetime | None
) -> None:
    assert fly._machine(machine(events=events, updated_at="2026-11-23T13:00:00Z")).configured_at == moment


def test_an_update_sends_the_whole_config_and_guards_it(wire: Wire) -> None:
    wire.will(reply(200, machine(instance_id="I2")))
    config = {**MACHINE.config, "metadata": {"fly_process_group": "app", "new": "1"}}
    updated = CLIENT.update_machine(
        "cp", MACHINE, config=config, nonce="nonce-1", min_secrets_version=7, skip_launch=False
    )
    assert updated.instance_id == "I2"
    assert wire.lines == ["POST /v1/apps/cp/machines/m1"]
    assert wire.last.headers["fly-machine-lease-nonce"] == "nonce-1"
    assert body_of(wire.last) == {
        "config": config,
        "region": "ams",
        "skip_launch": False,
        "skip_secrets": False,
        "min_secrets_version": 7,
        "current_version": "I1",
    }


@pytest.mark.parametrize("answer", [reply(503), reply(500), reply(409), httpx.ReadTimeout("late")], ids=str)
def test_an_update_is_a_restart_and_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError):
        CLIENT.update_machine("cp", MACHINE, config={}, nonce="n", min_secrets_version=1, skip_launch=True)
    assert len(wire.requests) == 1


def test_a_lease_is_taken_kept_and_given_back(wire: Wire) -> None:
    wire.will(reply(201, {"status": "success", "data": {"nonce": "abc", "expires_at": 1}}), reply(201, {}), reply(200))
    nonce = CLIENT.acquire_lease("cp", "m1", seconds=60, description="rotation")
    CLIENT.refresh_lease("cp", "m1", nonce, seconds=60)
    CLIENT.release_lease("cp", "m1", nonce)
    path = "/v1/apps/cp/machines/m1/lease"
    assert wire.lines == [f"POST {path}", f"POST {path}", f"DELETE {path}"]
    assert [each.url.params.get("ttl") for each in wire.requests] == ["60", "60", None]
    assert [each.headers.get("fly-machine-lease-nonce") for each in wire.requests] == [None, "abc", "abc"]


def test_a_lease_that_is_held_is_not_asked_for_again(wire: Wire) -> None:
    wire.will(reply(409, {"error": "machine ID m1 lease currently held by x@tokens.fly.io"}))
    with pytest.raises(ApiError, match="currently held"):
        CLIENT.acquire_lease("cp", "m1", seconds=60, description="rotation")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(("asked", "sent"), [(0, "1"), (1, "1"), (60, "60"), (300, "60")])
def test_a_wait_is_for_the_new_version_and_as_long_as_fly_allows(wire: Wire, asked: int, sent: str) -> None:
    wire.will(reply(200, {"ok": True}))
    assert CLIENT.wait_until_started("cp", "m1", instance_id="I2", seconds=asked)
    assert wire.lines == ["GET /v1/apps/cp/machines/m1/wait"]
    assert dict(wire.last.url.params) == {"state": "started", "timeout": sent, "version": "I2"}


@pytest.mark.parametrize("status", [408, 503, 429])
def test_a_wait_that_was_too_short_is_no_failure(wire: Wire, status: int) -> None:
    wire.will(reply(status, {"error": "deadline_exceeded"}))
    assert not CLIENT.wait_until_started("cp", "m1", instance_id="I2", seconds=5)
    assert len(wire.requests) == 1


def test_a_wait_that_is_refused_is_one(wire: Wire) -> None:
    wire.will(reply(401, {"error": "unauthorized"}))
    with pytest.raises(ApiError):
        CLIENT.wait_until_started("cp", "m1", instance_id="I2", seconds=5)


# Releases


def test_a_release_carries_on_what_the_present_one_says(wire: Wire) -> None:
    current = {"configDefinition": {"app": "cp"}, "imageRef": "registry.test/cp:1"}
    wire.will(
        reply(200, {"data": {"app": {"currentReleaseUnprocessed": current}}}),
        reply(200, {"release": {"id": "r9", "version": 9}}),
        reply(200, {}),
    )
    assert CLIENT.create_release("cp") == ("r9", 9)
    assert body_of(wire.requests[0])["variables"] == {"name": "cp"}
    assert body_of(wire.requests[1]) == {
        "app_name": "cp",
        "build_id": 0,
        "definition": {"app": "cp"},
        "image": "registry.test/cp:1",
        "strategy": "ROLLING",
    }
    assert wire.lines[2] == "PATCH /api/v1/releases/r9"
    assert body_of(wire.requests[2]) == {"status": "running", "metadata": None}


# GraphQL


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "m", "extensions": {"code": "UNAUTHORIZED"}}, 401),
        ({"message": "You must be authenticated to view this."}, 401),
        ({"message": "You must be authenticated to view this.", "extensions": None}, 401),
        ({"message": "m", "extensions": {"code": "NOT_FOUND"}}, 404),
        ({"message": "m", "extensions": {"code": "SERVER_ERROR"}}, 500),
        ({"message": "m", "extensions": {"code": "SERVICE_UNAVAILABLE"}}, 503),
        ({"message": "m", "extensions": {"code": "MAINTENANCE"}}, 503),
        ({"message": "m", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}, 500),
        ({"message": "m", "extensions": {"code": "INVALID"}}, 422),
        ({"message": "m"}, 422),
    ],
)
def test_an_error_of_graphql_gets_the_status_that_rest_would_give(
    wire: Wire, error: dict[str, Any], status: int
) -> None:
    wire.serve = lambda _request: reply(200, {"data": None, "errors": [error]}, fly_request_id="01ABC")
    with pytest.raises(ApiError) as failed:
        CLIENT.revoke_token("t1")
    assert failed.value.status == status
    assert str(error["message"]) in failed.value.reason
    assert failed.value.request_id == "01ABC"


def test_an_error_of_graphql_that_passes_is_tried_again(wire: Wire) -> None:
    busy = {"data": None, "errors": [{"message": "m", "extensions": {"code": "SERVICE_UNAVAILABLE"}}]}
    wire.will(reply(200, busy), reply(200, {"data": {}}))
    CLIENT.revoke_token("t1")
    assert len(wire.requests) == 2


def test_an_error_of_graphql_does_not_carry_the_token(wire: Wire) -> None:
    wire.serve = lambda _request: reply(200, {"errors": [{"message": f"bad token {TOKEN}"}]})
    with pytest.raises(ApiError) as failed:
        CLIENT.revoke_token("t1")
    assert TOKEN not in str(failed.value) + repr(failed.value)


APP = {"data": {"app": {"id": "app-id", "organization": {"id": "org-id", "slug": "o"}}}}
MINTED = {
    "data": {
        "createLimitedAccessToken": {
            "limitedAccessToken": {"id": "t9", "tokenHeader": "FlyV1 fm2_x", "createdAt": "2026-11-23T12:00:00Z"}
        }
    }
}


@pytest.mark.parametrize(("profile", "parameters"), [("deploy", {"app_id": "app-id"}), ("deploy_organization", {})])
def test_a_token_is_minted_for_the_app_or_its_organization(
    wire: Wire, profile: str, parameters: dict[str, str]
) -> None:
    wire.will(reply(200, APP), reply(200, MINTED))
    minted = CLIENT.create_token(app="tenant", name="family-g1", profile=profile, expiry="24h0m0s")
    assert (minted.credential_id, minted.value) == ("t9", "FlyV1 fm2_x")
    assert body_of(wire.requests[0])["variables"] == {"name": "tenant"}
    assert "createLimitedAccessToken" in body_of(wire.requests[1])["query"]
    assert body_of(wire.requests[1])["variables"]["input"] == {
        "name": "family-g1",
        "organizationId": "org-id",
        "profile": profile,
        "profileParams": parameters,
        "expiry": "24h0m0s",
    }


@pytest.mark.parametrize("answer", [reply(503), reply(429), httpx.ReadTimeout("late")], ids=str)
def test_minting_is_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(reply(200, APP), answer)
    with pytest.raises(ApiError):
        CLIENT.create_token(app="tenant", name="family-g1", profile="deploy", expiry="24h")
    assert len(wire.requests) == 2


def node(token_id: str, *, revoked: str | None = None, expires: str | None = None) -> dict[str, Any]:
    return {
        "id": token_id,
        "name": f"name of {token_id}",
        "createdAt": "2026-11-23T12:00:00Z",
        "revokedAt": revoked,
        "expiresAt": expires,
    }


@pytest.mark.parametrize("profile", ["deploy", "deploy_organization"])
def test_tokens_are_listed_to_the_last_page(wire: Wire, profile: str) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    pages = [
        ([node("t1"), node("t2", revoked=past)], {"hasNextPage": True, "endCursor": "c1"}),
        ([node("t3", expires=past), node("t4", expires=future)], {"hasNextPage": True, "endCursor": "c2"}),
        (None, {"hasNextPage": False, "endCursor": None}),
    ]
    for nodes, information in pages:
        connection = {"limitedAccessTokens": {"nodes": nodes, "pageInfo": information}}
        wire.will(reply(200, {"data": {"app": connection if profile == "deploy" else {"organization": connection}}}))
    listed = CLIENT.list_tokens(app="tenant", profile=profile)
    assert [(each.credential_id, each.live) for each in listed] == [
        ("t1", True),
        ("t2", False),
        ("t3", False),
        ("t4", True),
    ]
    assert listed[0].name == "name of t1"
    sent = [body_of(each) for each in wire.requests]
    assert [each["variables"] for each in sent] == [{"name": "tenant", "after": each} for each in (None, "c1", "c2")]
    for each in sent:
        words = each["query"].replace("{", " ").replace("}", " ").split()
        assert "token" not in words, "with that field the answer would carry secrets"
        assert "tokenHeader" not in words
        assert ("organization" in words) == (profile == "deploy_organization")


def test_a_token_is_revoked_by_its_id(wire: Wire, clock: Clock) -> None:
    wire.will(reply(502), reply(200, {"data": {"deleteLimitedAccessToken": {"clientMutationId": None}}}))
    CLIENT.revoke_token("t1")
    assert body_of(wire.last)["variables"] == {"input": {"id": "t1"}}
    assert "deleteLimitedAccessToken" in body_of(wire.last)["query"]
    assert len(clock.naps) == 1


def test_an_environment_that_fly_quotes_is_not_repeated(wire: Wire) -> None:
    machine = Machine(
        machine_id="m",
        state="started",
        instance_id="v",
        region="ams",
        host_status="ok",
        config={"env": {"URL": "the-old-password"}},
    )
    wire.will(reply(422, {"error": "config.env: URL=the-new-password is odd, was the-old-password"}))
    with pytest.raises(ApiError) as failed:
        CLIENT.update_machine(
            "cp",
            machine,
            config={"env": {"URL": "the-new-password"}},
            nonce="n",
            min_secrets_version=1,
            skip_launch=False,
        )
    assert "config.env" in str(failed.value)
    assert "the-new-password" not in str(failed.value) + repr(failed.value)
    assert "the-old-password" not in repr(machine)


def test_each_call_takes_its_turn(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """By action and machine, or app where the action is on no machine; GraphQL and releases have no limit that is known."""
    turns: list[tuple[str, str, Limit]] = []
    monkeypatch.setattr(fly, "take_turn", lambda *turn: turns.append(turn))
    machine = {"id": "m1", "state": "started"}
    lease = {"data": {"nonce": "n"}}
    wire.will(
        reply(200, {"name": "cp"}), reply(200, {}), reply(200, {"version": 1}), reply(200, []), reply(200, machine)
    )
    CLIENT.app_exists("cp")
    CLIENT.list_secrets("cp")
    CLIENT.write_secrets("cp", {"A": "1"})
    CLIENT.list_machines("cp")
    CLIENT.get_machine("cp", "m1")
    wire.will(reply(201, lease), reply(201, lease), reply(200), reply(200, machine), reply(200, {"ok": True}))
    CLIENT.acquire_lease("cp", "m1", seconds=9, description="d")
    CLIENT.refresh_lease("cp", "m1", "n", seconds=9)
    CLIENT.release_lease("cp", "m1", "n")
    CLIENT.update_machine("cp", MACHINE, config={}, nonce="n", min_secrets_version=1, skip_launch=False)
    CLIENT.wait_until_started("cp", "m1", instance_id="I1", seconds=5)
    wire.will(reply(200, {}), reply(200, {"data": {}}))
    CLIENT.finish_release("r", "complete")
    CLIENT.revoke_token("t")

    usual, often = Limit(rate=1, burst=3), Limit(rate=5, burst=10)
    assert {api for api, _call, _limit in turns} == {"https://api.machines.dev/v1"}
    assert [(call, limit) for _api, call, limit in turns] == [
        ("get app cp", usual),
        ("list secrets cp", usual),
        ("update secrets cp", usual),
        ("list machines cp", usual),
        ("get machine m1", often),
        ("lease m1", usual),
        ("lease m1", usual),
        ("release lease m1", usual),
        ("update machine m1", usual),
        ("wait m1", usual),
    ]


def test_calls_that_come_together_wait_for_their_turns(wire: Wire, turns: Clock) -> None:
    wire.will(*[reply(200, []) for _ in range(8)])
    for _ in range(8):
        FlyClient(token="another").list_machines("cp")
    assert sum(turns.naps) == pytest.approx(6, abs=0.2), "two at once, then one a second, whatever the token"
