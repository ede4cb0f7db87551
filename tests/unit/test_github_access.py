"""Is everything refused that would keep a secret from its place at GitHub, or its verification from proving anything?"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from components.errors import RefusedError
from components.github import access
from components.github.client import GitHubClient
from components.github.destinations import parse
from components.http import ApiError
from components.secret import Check, DependabotSecret, RepositorySecret, Secret, Supplied

from .wire import Wire, reply

CLIENT = GitHubClient(token="t")
SECRET = Secret(name="TOKEN", source=Supplied(), fly=(), verification=Check(module="fly_app"))
OWN = {"name": "TOKEN", "created_at": "x", "updated_at": "2026-11-26T18:33:03Z"}
KEY = {"key_id": "1", "key": "k"}
REPOSITORY = {"id": 7, "private": True, "owner": {"type": "Organization"}, "permissions": {"push": True}}
GOOD: Mapping[str, Any] = {
    "/repos/o/r": REPOSITORY,
    "/repos/o/r/actions/workflows/publish.yml": {},
    "/repos/o/r/actions/secrets/public-key": KEY,
    "/repos/o/r/actions/organization-secrets": {"total_count": 0, "secrets": []},
    "/repos/o/r/environments": {"total_count": 2, "environments": [{"name": "prod"}, {"name": "staging"}]},
    "/repos/o/r/environments/prod": {"id": 1, "name": "prod", "protection_rules": []},
    "/repos/o/r/environments/prod/secrets/public-key": KEY,
    "/repos/o/r/dependabot/secrets/public-key": KEY,
    "/orgs/o/actions/secrets/public-key": KEY,
    "/orgs/o/dependabot/secrets/public-key": KEY,
}
PROD, ORGANIZATION = {"environments": ["prod"]}, {"organization": "private"}
EVERYWHERE = {"repository": True, "dependabot": True, "dependabotOrganization": "all", **PROD, **ORGANIZATION}
GONE: Any = None


def serve(wire: Wire, changed: Mapping[str, Any]) -> None:
    answers = {**GOOD, **changed}

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        if isinstance(found, int):
            return reply(found, {"message": "no"})
        return reply(404, {"message": "Not Found"}) if found is None else reply(200, found)

    wire.serve = answer


def check(
    wire: Wire, raw: Mapping[str, Any], changed: Mapping[str, Any], *, ends_a_value: bool = True
) -> tuple[list[RefusedError], list[str]]:
    serve(wire, changed)
    places = parse(raw, repository="r").locations(owner="o", repository="r", workflow="publish.yml")
    secret = replace(SECRET, repositories=places)
    found = access.check(CLIENT, secret, access.look(CLIENT, [secret]), ends_a_value=ends_a_value)
    assert {request.method for request in wire.requests} == {"GET"}
    return found


@pytest.mark.parametrize("raw", [{}, PROD, ORGANIZATION, {"organization": "selected"}, EVERYWHERE])
def test_an_operator_who_may_do_everything_gets_through(wire: Wire, raw: Mapping[str, Any]) -> None:
    assert check(wire, raw, {}) == ([], [])


@pytest.mark.parametrize(
    ("raw", "changed", "said"),
    [
        (PROD, {"/repos/o/r": GONE}, "has no repository o/r"),
        (ORGANIZATION, {"/repos/o/r": {**REPOSITORY, "permissions": {}}}, "may read o/r but not write to it"),
        (PROD, {"/repos/o/r/actions/workflows/publish.yml": GONE}, "no workflow publish.yml"),
        (
            {},
            {"/repos/o/r/actions/secrets/public-key": 403},
            "may not see the Actions secrets of o/r. `Secrets: write`",
        ),
        (
            PROD,
            {"/repos/o/r/environments/prod": GONE},
            "no environment prod that the operator's GitHub token can see. It has the environments prod, staging.",
        ),
        (
            PROD,
            {"/repos/o/r/environments/prod": GONE, "/repos/o/r/environments": {"total_count": 0, "environments": []}},
            "It has none.",
        ),
        (
            PROD,
            {"/repos/o/r/environments/prod/secrets/public-key": 403},
            "secrets of GitHub environment prod of o/r. `Environments: write`",
        ),
        (
            ORGANIZATION,
            {"/orgs/o/actions/secrets/public-key": 403},
            "secrets of GitHub organization o. `Organization secrets: write`",
        ),
        (ORGANIZATION, {"/orgs/o/actions/secrets/public-key": GONE}, "secrets of GitHub organization o. `admin:org`"),
        (ORGANIZATION, {"/repos/o/r": {**REPOSITORY, "owner": {"type": "User"}}}, "o is a user"),
        (ORGANIZATION, {"/repos/o/r": {**REPOSITORY, "private": False}}, "o/r is public"),
        (
            EVERYWHERE,
            {"/repos/o/r/dependabot/secrets/public-key": 403},
            "Dependabot of o/r. `Dependabot secrets: write`",
        ),
        (
            EVERYWHERE,
            {"/orgs/o/dependabot/secrets/public-key": 403},
            "Dependabot of organization o. `Organization dependabot secrets: write`",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(
    wire: Wire, raw: Mapping[str, Any], changed: Mapping[str, Any], said: str
) -> None:
    (error,), warnings = check(wire, raw, changed)
    happened, _, right = said.partition(" `")
    assert happened in error.happened
    assert right in error.next_step
    assert warnings == []


@pytest.mark.parametrize(
    ("raw", "changed", "place"),
    [
        (PROD, {"/repos/o/r/actions/secrets/TOKEN": OWN}, "The repository o/r has a TOKEN too"),
        (ORGANIZATION, {"/repos/o/r/actions/secrets/TOKEN": OWN}, "The repository o/r has a TOKEN too"),
        (
            PROD,
            {"/repos/o/r/actions/organization-secrets": {"total_count": 1, "secrets": [OWN]}},
            "The organization o has a TOKEN too",
        ),
    ],
)
def test_another_value_that_the_workflow_may_read(
    wire: Wire, raw: Mapping[str, Any], changed: Mapping[str, Any], place: str
) -> None:
    (error,), warnings = check(wire, raw, changed)
    assert error.happened.startswith(place)
    assert "delete it there" in error.next_step
    assert warnings == []
    # Where nothing is revoked, nobody can lose a value by it: the change of the key itself.
    errors, (warning,) = check(wire, raw, changed, ends_a_value=False)
    assert errors == []
    assert warning.startswith(place)
    assert "The next rotation is refused" in warning


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        ({"repository": True}, {"/repos/o/r/actions/organization-secrets": {"total_count": 1, "secrets": [OWN]}}),
        (ORGANIZATION, {"/repos/o/r/actions/organization-secrets": {"total_count": 1, "secrets": [OWN]}}),
        ({"repository": True, **PROD}, {"/repos/o/r/actions/secrets/TOKEN": OWN}),
    ],
)
def test_what_is_written_or_never_read_is_no_other_value(
    wire: Wire, raw: Mapping[str, Any], changed: Mapping[str, Any]
) -> None:
    assert check(wire, raw, changed) == ([], [])


def test_what_only_dependabot_reads_needs_no_workflow(wire: Wire) -> None:
    serve(wire, {"/repos/o/r/actions/workflows/publish.yml": GONE})
    place = DependabotSecret(owner="o", repository="r", workflow="publish.yml")
    secret = replace(SECRET, repositories=(place,))
    assert access.check(CLIENT, secret, access.look(CLIENT, [secret]), ends_a_value=True) == ([], [])


def test_a_place_that_many_secrets_go_to_is_looked_at_once(wire: Wire) -> None:
    serve(wire, {})
    places = parse({"repository": True}, repository="r").locations(owner="o", repository="r", workflow="publish.yml")
    one = replace(SECRET, repositories=places)
    access.look(CLIENT, [one])
    asked = len(wire.requests)
    many = [replace(one, name=f"TOKEN_{number}") for number in range(20)]
    seen = access.look(CLIENT, many)
    assert len(wire.requests) == 2 * asked
    for secret in many:
        assert access.check(CLIENT, secret, seen, ends_a_value=True) == ([], [])


def test_environments_with_their_own_are_named(wire: Wire) -> None:
    """Another stack's, perhaps: no obstacle."""
    own = {"/repos/o/r/environments/staging/secrets/TOKEN": OWN}
    errors, (warning,) = check(wire, {}, own)
    assert errors == []
    assert "TOKEN stands in the environment staging of o/r too" in warning
    assert check(wire, PROD, own) == ([], [])


@pytest.mark.parametrize("status", [403, 404])
def test_a_token_without_a_right_to_environments_may_write_to_the_repository(wire: Wire, status: int) -> None:
    assert check(wire, {}, {"/repos/o/r/environments": status}) == ([], [])


def test_an_environment_that_waits_for_people_is_named(wire: Wire) -> None:
    rules = [{"id": 1, "node_id": "n", "type": "required_reviewers"}]
    errors, (warning,) = check(
        wire, PROD, {"/repos/o/r/environments/prod": {"id": 1, "name": "prod", "protection_rules": rules}}
    )
    assert errors == []
    assert "workflowTimeout" in warning


def test_the_ids_of_selected_repositories(wire: Wire) -> None:
    raw = {"organization": "selected", "dependabotOrganization": "selected", "selectedRepositories": ["s", "r"]}
    places = parse(raw, repository="r").locations(owner="o", repository="r", workflow="publish.yml")
    serve(wire, {"/repos/o/s": {"id": 8}})
    assert access.repository_ids(CLIENT, [replace(SECRET, repositories=places)]) == {"r": 7, "s": 8}
    assert len(wire.requests) == 2
    serve(wire, {})
    with pytest.raises(RefusedError, match=re.escape("GitHub has no repository o/s")):
        access.repository_ids(CLIENT, [replace(SECRET, repositories=places)])
    serve(wire, {"/repos/o/r": 401})
    with pytest.raises(ApiError):
        access.repository_ids(CLIENT, [replace(SECRET, repositories=places)])


@pytest.mark.parametrize(
    ("places", "delay", "fast"),
    [(80, 0, False), (81, 0, True), (81, 749, True), (81, 750, False), (81, None, False)],
)
def test_more_writes_than_github_takes_in_a_minute(places: int, delay: int | None, fast: bool) -> None:  # noqa: FBT001
    secrets = [replace(SECRET, repositories=(RepositorySecret(owner="o", repository="r", workflow="w.yml"),))] * places
    warning = access.too_fast(secrets, write_delay_ms=delay)
    assert bool(warning) == fast
    assert not fast or f"{places} secrets" in warning
    assert not fast or f"is {delay}: take it off, or set it to 750 or more" in warning
