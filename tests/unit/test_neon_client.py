"""Does the client read Neon as Neon writes, and keep keys out of messages?"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from components.http import ApiError
from components.keyring import Issued
from components.neon.client import NeonClient

from .wire import Clock, Wire, body_of, reply

KEY = "napi_operator-key-of-an-admin"
CLIENT = NeonClient(KEY)
CREATOR = {"id": "user-1", "name": "Operator", "image": ""}
# Neon's answer to a missing, a wrong and a revoked key alike.
UNAUTHENTICATED = {"request_id": "r-1", "code": "", "message": "supplied credentials do not pass authentication"}


def listed(key_id: int, name: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "id": key_id,
        "name": name,
        "created_at": "2026-11-23T12:00:00Z",
        "created_by": CREATOR,
        "last_used_at": None,
        "last_used_from_addr": "",
        **changed,
    }


def test_a_call_goes_to_neon_with_the_key(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEON_API_BASE_URL", raising=False)
    wire.will(reply(200, {"auth_method": "api_key_user"}), reply(200, {"auth_method": "api_key_org"}))
    assert CLIENT.authenticate() == "api_key_user"
    assert str(wire.last.url) == "https://console.neon.tech/api/v2/auth"
    assert wire.last.headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("NEON_API_BASE_URL", "http://127.0.0.1:1/api/v2/")
    assert CLIENT.authenticate() == "api_key_org"
    assert str(wire.last.url) == "http://127.0.0.1:1/api/v2/auth"
    assert KEY not in repr(CLIENT)


def test_a_refused_key_is_said_in_neons_words(wire: Wire) -> None:
    wire.will(reply(401, UNAUTHENTICATED))
    with pytest.raises(ApiError, match="do not pass authentication") as failed:
        CLIENT.authenticate()
    assert failed.value.refused
    assert failed.value.system == "Neon"


@pytest.mark.parametrize("answer", [reply(400, {"message": f"bad {KEY}"}), httpx.ConnectError(f"no {KEY}")], ids=str)
def test_no_message_holds_the_key(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError) as failed:
        CLIENT.create_key("org-1", name="n")
    assert KEY not in str(failed.value)
    assert KEY not in repr(failed.value)


@pytest.mark.parametrize("body", [None, [], {"message": "x"}, {}])
def test_an_answer_of_any_form_is_an_error_and_no_crash(wire: Wire, body: object) -> None:
    wire.will(reply(418, body))
    with pytest.raises(ApiError, match="418"):
        CLIENT.authenticate()


@pytest.mark.parametrize("status", [423, 429, 503])
def test_what_neon_calls_transient_is_tried_again(wire: Wire, status: int) -> None:
    wire.will(reply(status, {"message": "later"}), reply(200, {"auth_method": "api_key_user"}))
    assert CLIENT.authenticate() == "api_key_user"


@pytest.mark.parametrize(("status", "sees"), [(200, True), (403, False), (404, False)])
def test_whether_a_key_sees_a_project(wire: Wire, status: int, sees: bool) -> None:  # noqa: FBT001 - a column
    wire.will(reply(status, {"project": {"id": "p-1"}}))
    assert CLIENT.can_see_project("p-1") is sees
    assert wire.lines == ["GET /api/v2/projects/p-1"]


@pytest.mark.parametrize("status", [400, 401, 500])
def test_any_other_answer_says_nothing_about_the_project(wire: Wire, status: int) -> None:
    wire.serve = lambda _request: reply(status, UNAUTHENTICATED)
    with pytest.raises(ApiError):
        CLIENT.can_see_project("p-1")


def test_branches(wire: Wire) -> None:
    wire.will(
        reply(200, {"branches": [{"id": "br-1", "name": "main", "created_at": "2026-11-23T12:00:00Z", "more": 1}]})
    )
    (branch,) = CLIENT.branches("p-1")
    assert (branch.branch_id, branch.name) == ("br-1", "main")
    assert branch.created_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert wire.lines == ["GET /api/v2/projects/p-1/branches"]


SCOPES = [("", "/api/v2/api_keys"), ("org-1", "/api/v2/organizations/org-1/api_keys")]


@pytest.mark.parametrize(("organization", "path"), SCOPES)
def test_keys_are_a_bare_list_of_live_ones(wire: Wire, organization: str, path: str) -> None:
    wire.will(reply(200, [listed(5, "a"), listed(6, "b", project_id="p-1")]))
    assert CLIENT.list_keys(organization) == [
        Issued(credential_id="5", name="a", live=True, created_at="2026-11-23T12:00:00Z"),
        Issued(credential_id="6", name="b", live=True, created_at="2026-11-23T12:00:00Z"),
    ]
    assert wire.lines == [f"GET {path}"]


@pytest.mark.parametrize(
    ("keys", "moment"),
    [
        ([], None),
        ([listed(5, "a")], None),
        ([listed(6, "b", last_used_at="2026-11-23T12:00:00Z")], None),
        (
            [listed(6, "b", last_used_at="2026-11-23T12:00:00Z"), listed(5, "a", last_used_at="2026-11-23T13:00:00Z")],
            datetime(2026, 11, 23, 13, tzinfo=UTC),
        ),
    ],
)
def test_when_a_key_was_last_used(wire: Wire, keys: list[dict[str, Any]], moment: datetime | None) -> None:
    wire.will(reply(200, keys))
    assert CLIENT.last_used_at("org-1", "5") == moment


@pytest.mark.parametrize(("organization", "path"), SCOPES)
@pytest.mark.parametrize("project", ["", "p-1"])
def test_a_key_is_minted(wire: Wire, organization: str, path: str, project: str) -> None:
    # In this answer the creator is an id, in the list a person.
    wire.will(
        reply(200, {"id": 7, "key": "napi_new", "name": "n", "created_at": "2026-11-23T12:00:00Z", "created_by": "u"})
    )
    minted = CLIENT.create_key(organization, name="n", project_id=project)
    assert (minted.credential_id, minted.value, minted.created_at) == ("7", "napi_new", "2026-11-23T12:00:00Z")
    assert wire.lines == [f"POST {path}"]
    assert body_of(wire.last) == {"key_name": "n", **({"project_id": "p-1"} if project else {})}


@pytest.mark.parametrize(
    "answer", [reply(403), reply(423), reply(429), reply(500), reply(503), httpx.ReadTimeout("late")], ids=str
)
def test_minting_is_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError, match="mint key n"):
        CLIENT.create_key("org-1", name="n")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(("organization", "path"), SCOPES)
@pytest.mark.parametrize("status", [200, 404])
def test_a_key_is_revoked_or_was_before(wire: Wire, organization: str, path: str, status: int) -> None:
    wire.will(reply(status, {"message": "api key not found"}))
    CLIENT.revoke_key(organization, "7")
    assert wire.lines == [f"DELETE {path}/7"]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_revocation_that_neon_refuses_is_an_error(wire: Wire, status: int) -> None:
    wire.will(reply(status, {"message": "no"}))
    with pytest.raises(ApiError, match="revoke key 7"):
        CLIENT.revoke_key("org-1", "7")


def test_a_revocation_is_repeated(wire: Wire) -> None:
    wire.will(httpx.ReadTimeout("late"), reply(404))
    CLIENT.revoke_key("org-1", "7")
    assert len(wire.requests) == 2


# Roles

ROLES = "/api/v2/projects/p-1/branches/br-1/roles"
PASSWORD = "npg_the-new-password"


def armed(*operations: str) -> dict[str, Any]:
    """What Neon answers to a write of a role."""
    return {
        "role": {"branch_id": "br-1", "name": "cp_a", "password": PASSWORD, "protected": False},
        "operations": [{"id": each, "action": "apply_config", "status": "running"} for each in operations],
    }


def operation(status: str) -> httpx.Response:
    return reply(200, {"operation": {"id": "op", "action": "apply_config", "status": status}})


def test_neons_own_roles_are_not_listed(wire: Wire) -> None:
    wire.will(reply(200, {"roles": [{"name": "cp_a"}, {"name": "web_access", "protected": True}]}))
    assert CLIENT.roles("p-1", "br-1") == ["cp_a"]
    assert wire.last.url.path == ROLES


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (CLIENT.create_role, ROLES, {"role": {"name": "cp_a"}}),
        (CLIENT.reset_role_password, f"{ROLES}/cp_a/reset_password", None),
    ],
    ids=["create", "reset"],
)
def test_a_password_is_returned_once_every_operation_is_over(
    wire: Wire,
    clock: Clock,
    call: Callable[[str, str, str], str],
    path: str,
    body: object,
) -> None:
    wire.will(reply(201, armed("op-1", "op-2")), operation("running"), operation("finished"), operation("skipped"))
    assert call("p-1", "br-1", "cp_a") == PASSWORD
    first, *polls = wire.requests
    assert (first.method, first.url.path) == ("POST", path)
    assert (body_of(first) if first.content else None) == body
    assert [each.url.path.rpartition("/")[2] for each in polls] == ["op-1", "op-1", "op-2"]
    assert clock.naps


@pytest.mark.parametrize("status", ["failed", "error", "cancelled"])
def test_a_failed_operation_gives_no_password(wire: Wire, status: str) -> None:
    wire.will(reply(201, armed("op-1")), operation(status))
    with pytest.raises(ApiError, match=status) as failed:
        CLIENT.create_role("p-1", "br-1", "cp_a")
    assert PASSWORD not in str(failed.value)


def test_a_locked_project_is_waited_for(wire: Wire, clock: Clock) -> None:
    wire.will(reply(423, {"message": "project already has running operations"}), reply(200, armed()))
    assert CLIENT.reset_role_password("p-1", "br-1", "cp_a") == PASSWORD
    assert clock.naps


def test_a_role_whose_creation_got_no_answer_is_there_the_second_time(wire: Wire) -> None:
    wire.will(httpx.ReadTimeout("no answer"), reply(409, {"message": "role already exists"}))
    with pytest.raises(ApiError, match="already exists") as failed:
        CLIENT.create_role("p-1", "br-1", "cp_a")
    assert failed.value.status == 409


def test_an_endless_operation_is_given_up(wire: Wire, clock: Clock) -> None:
    wire.will(reply(201, armed("op-1")))
    wire.serve = lambda _request: operation("running")
    with pytest.raises(ApiError, match="running"):
        CLIENT.create_role("p-1", "br-1", "cp_a")
    assert 200 < sum(clock.naps) < 400


def test_how_to_connect_is_asked_with_all_that_decides_it(wire: Wire) -> None:
    wire.will(reply(200, {"uri": "postgresql://cp_a:x@ep.neon.tech/neondb"}))
    uri = CLIENT.connection_uri("p-1", branch="br-1", database="neondb", role="cp_a", pooled=True)
    assert uri == "postgresql://cp_a:x@ep.neon.tech/neondb"
    assert dict(wire.last.url.params) == {
        "branch_id": "br-1",
        "database_name": "neondb",
        "role_name": "cp_a",
        "pooled": "true",
    }


def test_the_default_branch_is_found(wire: Wire) -> None:
    both = [
        {"id": "br-1", "name": "dev", "created_at": "2026-11-23T12:00:00Z", "default": False},
        {"id": "br-2", "name": "main", "created_at": "2026-11-23T12:00:00Z", "default": True},
    ]
    wire.will(reply(200, {"branches": both}), reply(200, {"branches": both[:1]}))
    assert CLIENT.default_branch("p-1") == "br-2"
    with pytest.raises(ApiError, match="default branch"):
        CLIENT.default_branch("p-1")
