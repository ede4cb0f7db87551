"""Does the client read GitHub as GitHub writes, page by page, and identify the run that it dispatched?"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from components.github.client import Environment, GitHubClient, SecretMetadata
from components.http import ApiError

from .wire import Clock, Wire, body_of, reply

TOKEN = "github-operator-token"
CLIENT = GitHubClient(token=TOKEN)
REPOSITORY = "o/r"
SECRETS = "/repos/o/r/actions/secrets"
DISPATCHES = "POST /repos/o/r/actions/workflows/publish.yml/dispatches"


def run(run_id: int, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "id": run_id,
        "status": "queued",
        "conclusion": None,
        "created_at": "2026-11-23T12:00:00Z",
        "html_url": f"https://github.test/{run_id}",
        **changed,
    }


def test_a_call_carries_what_github_asks_for(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.will(reply(200, {"permissions": {}}), reply(200, {"permissions": {}}))
    CLIENT.can_push(REPOSITORY)
    assert str(wire.last.url) == "https://api.github.com/repos/o/r"
    assert wire.last.headers["authorization"] == f"Bearer {TOKEN}"
    assert wire.last.headers["accept"] == "application/vnd.github+json"
    assert wire.last.headers["x-github-api-version"] == "2022-11-28"
    monkeypatch.setenv("GITHUB_BASE_URL", "http://127.0.0.1:1/api/v3/")
    CLIENT.can_push(REPOSITORY)
    assert str(wire.last.url) == "http://127.0.0.1:1/api/v3/repos/o/r"
    assert TOKEN not in repr(CLIENT)


@pytest.mark.parametrize(
    ("status", "body", "may"),
    [
        (200, {"permissions": {"push": True}}, True),
        (200, {"permissions": {"admin": True, "push": False}}, True),
        (200, {"permissions": {"pull": True, "push": False}}, False),
        (200, {"permissions": None}, False),
        (200, {}, False),
        (404, {"message": "Not Found"}, None),
        (403, {"message": "Resource not accessible by personal access token"}, None),
    ],
)
def test_can_push(wire: Wire, status: int, body: object, may: bool | None) -> None:  # noqa: FBT001 - a column
    wire.will(reply(status, body))
    assert CLIENT.can_push(REPOSITORY) is may


LOOKS: dict[str, Callable[[], bool]] = {
    "/repos/o/r/actions/secrets/public-key": lambda: CLIENT.may_see_secrets(SECRETS),
    "/repos/o/r/actions/workflows/publish.yml": lambda: CLIENT.has_workflow(REPOSITORY, "publish.yml"),
}


@pytest.mark.parametrize("path", LOOKS)
@pytest.mark.parametrize(("status", "may"), [(200, True), (403, False), (404, False)])
def test_what_the_token_may_see(wire: Wire, path: str, status: int, may: bool) -> None:  # noqa: FBT001 - a column
    refusal = {"message": "Resource not accessible by personal access token"}
    wire.will(reply(status, {} if may else refusal))
    assert LOOKS[path]() is may
    assert wire.lines == [f"GET {path}"]


@pytest.mark.parametrize("path", LOOKS)
@pytest.mark.parametrize("status", [401, 422, 500])
def test_what_proves_neither_is_an_error(wire: Wire, path: str, status: int) -> None:
    wire.serve = lambda _request: reply(status, {"message": "no"})
    with pytest.raises(ApiError):
        LOOKS[path]()


@pytest.mark.parametrize("path", LOOKS)
def test_a_limit_is_not_taken_for_a_missing_right(wire: Wire, path: str) -> None:
    wire.will(reply(403, {"message": "secondary rate limit"}, retry_after="1"), reply(200, {}))
    assert LOOKS[path]()


def test_a_refused_token_is_an_error(wire: Wire) -> None:
    wire.will(reply(401, {"message": "Bad credentials"}, x_github_request_id="A:1"))
    with pytest.raises(ApiError, match="Bad credentials") as failed:
        CLIENT.can_push(REPOSITORY)
    assert failed.value.refused
    assert failed.value.request_id == "A:1"


def test_a_limit_of_github_does_not_mean_that_there_is_no_repository(wire: Wire) -> None:
    limited = reply(403, {"message": "You have exceeded a secondary rate limit"}, retry_after="1")
    wire.will(limited, reply(200, {"permissions": {"push": True}}))
    assert CLIENT.can_push(REPOSITORY) is True


def test_a_limit_without_retry_after_is_awaited_until_its_reset(wire: Wire, clock: Clock) -> None:
    headers = {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(time.time()) + 20)}
    wire.will(
        reply(403, {"message": "API rate limit exceeded"}, **headers), reply(200, {"permissions": {"push": True}})
    )
    assert CLIENT.can_push(REPOSITORY) is True
    assert 15 <= clock.naps[0] <= 20


def test_a_limit_that_lasts_too_long_is_an_error_and_not_a_missing_repository(wire: Wire) -> None:
    headers = {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(time.time()) + 3000)}
    wire.will(reply(403, {"message": "API rate limit exceeded"}, **headers))
    with pytest.raises(ApiError, match="rate limit"):
        CLIENT.can_push(REPOSITORY)


def test_the_metadata_of_a_secret(wire: Wire) -> None:
    wire.will(reply(200, {"name": "A", "created_at": "x", "updated_at": "2026-11-23T12:00:00Z"}))
    assert CLIENT.secret(SECRETS, "A") == SecretMetadata(updated_at=datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert wire.lines == ["GET /repos/o/r/actions/secrets/A"]


ABSENCES: dict[str, Callable[[], object]] = {
    "/repos/o/r/actions/secrets/A": lambda: CLIENT.secret(SECRETS, "A"),
    "/repos/o/r/environments/prod": lambda: CLIENT.environment("/repos/o/r/environments/prod"),
    "/repos/o/r": lambda: CLIENT.repository(REPOSITORY),
}


@pytest.mark.parametrize("path", ABSENCES)
def test_what_is_not_there_is_none_and_what_may_not_be_seen_is_an_error(wire: Wire, path: str) -> None:
    wire.will(reply(404, {"message": "Not Found"}), reply(403, {"message": "no"}))
    assert ABSENCES[path]() is None
    with pytest.raises(ApiError, match="no"):
        ABSENCES[path]()
    assert wire.lines == [f"GET {path}"] * 2


@pytest.mark.parametrize(
    ("rules", "waits"),
    [([], False), (None, False), (["wait_timer"], False), (["wait_timer", "required_reviewers"], True)],
)
def test_an_environment_that_waits_for_people(wire: Wire, rules: list[str] | None, waits: bool) -> None:  # noqa: FBT001 - a column
    shown = None if rules is None else [{"id": 1, "node_id": "n", "type": each} for each in rules]
    body = {"id": 1, "name": "prod"}
    wire.will(reply(200, body if shown is None else {**body, "protection_rules": shown}))
    assert CLIENT.environment("/repos/o/r/environments/prod") == Environment(waits_for_people=waits)


def test_lists_are_read_to_their_end(wire: Wire) -> None:
    names = [f"e{number}" for number in range(101)]
    shown = [{"id": 1, "name": each} for each in names]
    wire.will(
        reply(200, {"total_count": 101, "environments": shown[:100]}),
        reply(200, {"total_count": 101, "environments": shown[100:]}),
    )
    assert CLIENT.environments(REPOSITORY) == names
    assert [each.url.params["page"] for each in wire.requests] == ["1", "2"]


def test_a_dispatch_is_answered_with_its_run(wire: Wire) -> None:
    wire.will(reply(200, {"workflow_run_id": 77, "run_url": "u", "html_url": "h"}))
    assert CLIENT.dispatch(REPOSITORY, "publish.yml", ref="main") == 77
    assert wire.lines == [DISPATCHES]
    assert body_of(wire.last) == {"ref": "main", "return_run_details": True}


def test_a_github_that_does_not_say_the_run(wire: Wire) -> None:
    wire.will(reply(204))
    assert CLIENT.dispatch(REPOSITORY, "publish.yml", ref="main") is None


def test_an_enterprise_server_that_does_not_know_the_field(wire: Wire) -> None:
    wire.will(reply(400, {"message": "return_run_details is not a permitted key"}), reply(204))
    assert CLIENT.dispatch(REPOSITORY, "publish.yml", ref="main") is None
    assert [body_of(each) for each in wire.requests] == [{"ref": "main", "return_run_details": True}, {"ref": "main"}]


@pytest.mark.parametrize("answer", [reply(404), reply(422), reply(500), reply(503), httpx.ReadTimeout("late")], ids=str)
def test_a_dispatch_is_never_repeated(wire: Wire, answer: httpx.Response | Exception) -> None:
    wire.will(answer)
    with pytest.raises(ApiError):
        CLIENT.dispatch(REPOSITORY, "publish.yml", ref="main")
    assert len(wire.requests) == 1


def test_a_run(wire: Wire) -> None:
    wire.will(reply(200, run(5, status="completed", conclusion="failure")), reply(200, run(5, status="in_progress")))
    finished, under_way = CLIENT.run(REPOSITORY, 5), CLIENT.run(REPOSITORY, 5)
    assert (finished.run_id, finished.finished, finished.conclusion) == (5, True, "failure")
    assert finished.created_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert (under_way.finished, under_way.conclusion) == (False, "")
    assert wire.lines == ["GET /repos/o/r/actions/runs/5"] * 2


def test_only_dispatched_runs_of_the_workflow_are_asked_for(wire: Wire) -> None:
    wire.will(reply(200, {"total_count": 1, "workflow_runs": [run(9)]}))
    assert [each.run_id for each in CLIENT.dispatched_runs(REPOSITORY, "publish.yml")] == [9]
    assert wire.lines == ["GET /repos/o/r/actions/workflows/publish.yml/runs"]
    assert wire.last.url.params["event"] == "workflow_dispatch"


def listing(runs: Callable[[str], list[dict[str, Any]]]) -> Callable[[httpx.Request], httpx.Response]:
    def serve(request: httpx.Request) -> httpx.Response:
        parameters = request.url.params
        found = runs(parameters["status"])
        size, page = int(parameters["per_page"]), int(parameters["page"])
        return reply(200, {"total_count": len(found), "workflow_runs": found[(page - 1) * size : page * size]})

    return serve


def test_unfinished_runs_are_all_runs_that_are_not_completed(wire: Wire) -> None:
    by_status = {
        "queued": [run(number) for number in range(1000, 1201)],
        "in_progress": [run(3, status="in_progress"), run(1, status="in_progress")],
        "waiting": [run(2, status="waiting")],
        "requested": [run(4, status="requested")],
        "pending": [run(1, status="pending")],
        "completed": [run(7, status="completed")],
    }
    wire.serve = listing(lambda status: by_status.get(status, []))
    found = [each.run_id for each in CLIENT.unfinished_runs(REPOSITORY)]
    assert found == [1, 2, 3, 4, *range(1000, 1201)]


@pytest.mark.parametrize("before", ["requested", "waiting", "pending", "queued"])
@pytest.mark.parametrize("moment", range(5))
def test_a_run_that_moves_on_while_runs_are_listed_is_not_missed(wire: Wire, before: str, moment: int) -> None:
    asked: list[str] = []

    def runs(status: str) -> list[dict[str, Any]]:
        now = before if len(asked) <= moment else "in_progress"
        asked.append(status)
        return [run(1, status=now)] if status == now else []

    wire.serve = listing(runs)
    assert [each.run_id for each in CLIENT.unfinished_runs(REPOSITORY)] == [1]
