"""Is what somebody else did at GitHub told from what pulumi-github wrote, by nothing but times and readers?"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from components.github import drift
from components.github.client import GitHubClient
from components.github.drift import when
from components.http import ApiError
from components.progress import GitHubWrite, Progress, State
from components.secret import (
    Check,
    EnvironmentSecret,
    GitHubSecret,
    OrganizationSecret,
    RepositorySecret,
    Secret,
    Supplied,
)

from .wire import Wire, reply

PLACE: dict[str, Any] = {"owner": "o", "repository": "r", "workflow": "publish.yml"}
REPOSITORY = RepositorySecret(**PLACE)
ENVIRONMENT = EnvironmentSecret(**PLACE, environment="e/1")
SELECTED = OrganizationSecret(**PLACE, visibility="selected", selected=("r", "s"))
IDS = {"r": 7, "s": 8}
WRITTEN = GitHubWrite(repository="r", words="repository r", updated_at="2026-11-26 18:33:03 +0000 UTC")
TO_BOTH = replace(WRITTEN, visibility="selected", selected=(7, 8))
SHOWN = {"name": "A", "created_at": "x", "updated_at": "2026-11-26T18:33:03Z"}
LATER = {**SHOWN, "updated_at": "2026-11-26T18:33:04Z"}
ORG = {**SHOWN, "visibility": "selected"}
READERS = "/orgs/o/actions/secrets/A/repositories"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-26 18:33:03 +0000 UTC", datetime(2026, 11, 26, 18, 33, 3, tzinfo=UTC)),
        ("2026-11-26 18:33:03.25 +0000 UTC", datetime(2026, 11, 26, 18, 33, 3, tzinfo=UTC)),
        ("2026-11-26 19:33:03 +0100 CET", datetime(2026, 11, 26, 19, 33, 3, tzinfo=timezone(timedelta(hours=1)))),
        ("2026-11-26T18:33:03+00:00", datetime(2026, 11, 26, 18, 33, 3, tzinfo=UTC)),
        ("None", None),
        ("", None),
    ],
)
def test_times_of_pulumi_github(text: str, time: datetime | None) -> None:
    assert when(text) == time


@pytest.mark.parametrize(
    ("location", "written", "answers", "said"),
    [
        (REPOSITORY, WRITTEN, {"/repos/o/r/actions/secrets/A": SHOWN}, ""),
        (
            REPOSITORY,
            WRITTEN,
            {"/repos/o/r/actions/secrets/A": LATER},
            "since the last update: GitHub says 2026-11-26T18:33:04Z, the state 2026-11-26T18:33:03Z",
        ),
        (
            REPOSITORY,
            WRITTEN,
            {"/repos/o/r/actions/secrets/public-key": {}},
            "somebody deleted A of o/r since the last update",
        ),
        (
            REPOSITORY,
            replace(WRITTEN, updated_at=""),
            {"/repos/o/r/actions/secrets/A": SHOWN},
            "the state does not say when",
        ),
        (ENVIRONMENT, WRITTEN, {"/repos/o/r/environments/e/1/secrets/A": LATER}, "A of environment e/1 of o/r since"),
        (SELECTED, TO_BOTH, {"/orgs/o/actions/secrets/A": ORG, READERS: {"repositories": [{"id": 8}, {"id": 7}]}}, ""),
        (
            SELECTED,
            TO_BOTH,
            {"/orgs/o/actions/secrets/A": ORG, READERS: {"repositories": [{"id": 8}]}},
            "by other repositories",
        ),
        (SELECTED, replace(TO_BOTH, selected=(7,)), {"/orgs/o/actions/secrets/A": ORG}, "by other repositories"),
        (
            SELECTED,
            TO_BOTH,
            {"/orgs/o/actions/secrets/A": {**ORG, "visibility": "all"}},
            "visible to `all` and is to be to `selected`",
        ),
        (
            SELECTED,
            replace(WRITTEN, visibility="all"),
            {"/orgs/o/actions/secrets/A": {**ORG, "visibility": "all"}},
            "visible to `all` and is to be to `selected`",
        ),
    ],
)
def test_why_a_place_is_written_to_again(
    wire: Wire, location: GitHubSecret, written: GitHubWrite, answers: Mapping[str, Any], said: str
) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        return reply(404, {"message": "Not Found"}) if found is None else reply(200, found)

    wire.serve = serve
    client = GitHubClient(token="t")
    why = drift.reason(client, location, "A", written, selected=drift.wanted_ids(location, IDS))
    assert said in why
    assert bool(said) == bool(why)
    assert {request.method for request in wire.requests} == {"GET"}


def test_a_place_that_the_token_may_not_see_is_not_called_deleted(wire: Wire) -> None:
    wire.serve = lambda _request: reply(404, {"message": "Not Found"})
    with pytest.raises(ApiError, match="see the secrets of environment e/1 of o/r") as failed:
        drift.reason(GitHubClient(token="t"), ENVIRONMENT, "A", WRITTEN)
    assert failed.value.status == 404


def test_only_what_was_written_is_looked_at(wire: Wire) -> None:
    secret = Secret(
        name="A",
        source=Supplied(),
        fly=(),
        repositories=(REPOSITORY, ENVIRONMENT),
        verification=Check(module="fly_app"),
    )
    state = State(progress={"A": Progress(github_writes={REPOSITORY.key: WRITTEN})})
    wire.serve = lambda _request: reply(200, LATER)
    found = drift.look(GitHubClient(token="t"), [secret], state, repository_ids={})
    assert {name: set(places) for name, places in found.items()} == {"A": {REPOSITORY}}
    assert wire.lines == ["GET /repos/o/r/actions/secrets/A"]


def test_many_secrets_of_a_place_are_listed_once(wire: Wire) -> None:
    names = ["A", "B", "C"]
    secrets = [
        Secret(name=each, source=Supplied(), fly=(), repositories=(REPOSITORY,), verification=Check(module="fly_app"))
        for each in names
    ]
    state = State(progress={each: Progress(github_writes={REPOSITORY.key: WRITTEN}) for each in names})
    listed = [{**SHOWN, "name": "A"}, {**LATER, "name": "B"}, {**LATER, "name": "SOMEBODYS"}]
    answers = {
        "/repos/o/r/actions/secrets": {"total_count": 3, "secrets": listed},
        "/repos/o/r/actions/secrets/public-key": {},
    }
    wire.serve = lambda request: reply(200, answers[request.url.path])
    found = drift.look(GitHubClient(token="t"), secrets, state, repository_ids={})
    assert sorted(found) == ["B", "C"]
    assert "somebody else set B" in found["B"][REPOSITORY]
    assert "somebody deleted C" in found["C"][REPOSITORY]
    assert len(wire.lines) == 2, "the list, and whether what is not in it may be seen"
