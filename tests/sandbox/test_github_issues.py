"""Issues, comments and labels of the sandbox's GitHub: what a workflow that reports in them meets."""

from typing import Any

import jsonschema
import pytest

from tests.sandbox.test_github import check
from tests.sandbox.test_github_support import REPOSITORY, Hub, hub
from tests.unit.descriptions import load

__all__ = ["hub"]

ISSUES = f"{REPOSITORY}/issues"
TEMPLATE = "/repos/{owner}/{repo}/issues"


def opened(hub: Hub, **body: object) -> dict[str, Any]:
    with hub.client() as client:
        answer = client.post(ISSUES, json={"title": "Drift", **body})
    assert answer.status_code == 201, answer.text
    issue: dict[str, Any] = answer.json()
    return issue


def reader(hub: Hub) -> str:
    token = hub.token_for("reporter", scopes=["repo"])
    with hub.client() as client:
        client.put(f"{REPOSITORY}/collaborators/reporter", json={"permission": "pull"}).raise_for_status()
    return token


def test_answers_fit_githubs_own_description(hub: Hub) -> None:
    description = load("github-actions-subset")
    with hub.client() as client:
        issue = opened(hub, body="text", labels=["described"])
        url = f"{ISSUES}/{issue['number']}"
        check(description, TEMPLATE, issue, method="post", status="201")
        check(description, TEMPLATE, client.get(ISSUES).json())
        check(description, f"{TEMPLATE}/{{issue_number}}", client.get(url).json())
        closed = client.patch(url, json={"state": "closed"}).json()
        check(description, f"{TEMPLATE}/{{issue_number}}", closed, method="patch")
        comment = client.post(f"{url}/comments", json={"body": "one"}).json()
        check(description, f"{TEMPLATE}/{{issue_number}}/comments", comment, method="post", status="201")
        check(description, f"{TEMPLATE}/{{issue_number}}/comments", client.get(f"{url}/comments").json())
        path = f"{ISSUES}/comments/{comment['id']}"
        check(description, f"{TEMPLATE}/comments/{{comment_id}}", client.get(path).json())
        changed = client.patch(path, json={"body": "two"}).json()
        check(description, f"{TEMPLATE}/comments/{{comment_id}}", changed, method="patch")
        label = client.post(f"{REPOSITORY}/labels", json={"name": "made", "color": "f00000"}).json()
        check(description, "/repos/{owner}/{repo}/labels", label, method="post", status="201")
    with pytest.raises(jsonschema.ValidationError):
        check(description, TEMPLATE, [{"number": 1}])


def test_the_life_of_an_issue(hub: Hub) -> None:
    issue = opened(hub, body="first", labels=["nightly"])
    url = f"{ISSUES}/{issue['number']}"
    with hub.client() as client:
        assert [issue["state"], issue["body"], issue["labels"][0]["name"]] == ["open", "first", "nightly"]
        assert client.patch(url, json={"body": "second"}).json()["body"] == "second"
        closed = client.patch(url, json={"state": "closed", "state_reason": "not_planned"}).json()
        assert (closed["state"], closed["state_reason"], closed["body"]) == ("closed", "not_planned", "second")
        assert closed["closed_at"] is not None
        opened_again = client.patch(url, json={"state": "open"}).json()
        assert (opened_again["state_reason"], opened_again["closed_at"]) == ("reopened", None)
        client.patch(url, json={"state": "closed"})
    shown = hub.inspect()["github"]["repositories"]["Molecule-AI/molecule-monorepo"]["issues"]
    assert shown[issue["number"] - 1] == {
        "number": issue["number"],
        "title": "Drift",
        "state": "closed",
        "body": "second",
        "labels": ["nightly"],
        "comments": [],
    }


def test_issues_are_listed_newest_first_by_state_label_and_creator(hub: Hub) -> None:
    first, second = opened(hub, labels=["listed"]), opened(hub, labels=["listed", "more"])
    with hub.client() as client:

        def numbers(**query: str) -> list[int]:
            return [each["number"] for each in client.get(ISSUES, params={"labels": "listed", **query}).json()]

        assert numbers() == [second["number"], first["number"]]
        assert numbers(labels="listed,more") == [second["number"]]
        assert numbers(per_page="1", page="2") == [first["number"]]
        assert numbers(creator="molecule-operator") == [second["number"], first["number"]]
        assert numbers(creator="site-admin") == []
        client.patch(f"{ISSUES}/{first['number']}", json={"state": "closed"})
        assert numbers() == [second["number"]]
        assert numbers(state="closed") == [first["number"]]
        assert numbers(state="all") == [second["number"], first["number"]]
        assert client.get(ISSUES, params={"state": "half"}).status_code == 422


def test_comments_are_kept_in_order_and_changed_in_place(hub: Hub) -> None:
    url = f"{ISSUES}/{opened(hub)['number']}/comments"
    with hub.client() as client:
        ids = [client.post(url, json={"body": text}).json()["id"] for text in ("one", "two")]
        assert client.patch(f"{ISSUES}/comments/{ids[0]}", json={"body": "changed"}).status_code == 200
        assert [(each["id"], each["body"]) for each in client.get(url).json()] == [(ids[0], "changed"), (ids[1], "two")]
        assert client.get(f"{ISSUES}/comments/99999999").status_code == 404
        assert client.post(f"{ISSUES}/99999999/comments", json={"body": "x"}).status_code == 404


def test_what_github_refuses(hub: Hub) -> None:
    url = f"{ISSUES}/{opened(hub)['number']}"
    with hub.client() as client:
        assert client.post(ISSUES, json={}).status_code == 422
        assert client.post(f"{url}/comments", json={"body": ""}).status_code == 422
        assert client.patch(url, json={"state": "half"}).status_code == 422
        too_long = client.post(f"{url}/comments", json={"body": "x" * 65_537})
        assert too_long.json()["message"] == "body is too long (maximum is 65536 characters)"
        assert client.post(f"{url}/comments", json={"body": "x" * 65_536}).status_code == 201
        for status in (201, 422):
            assert client.post(f"{REPOSITORY}/labels", json={"name": "twice"}).status_code == status


def test_a_reader_may_open_and_comment_and_change_what_is_theirs(hub: Hub) -> None:
    foreign = f"{ISSUES}/{opened(hub)['number']}"
    token = reader(hub)
    with hub.client() as client:
        foreign_comment = client.post(f"{foreign}/comments", json={"body": "the operator's"}).json()["id"]
    with hub.client(token) as client:
        mine = client.post(ISSUES, json={"title": "Mine", "labels": ["dropped"]}).json()
        assert mine["labels"] == []
        assert client.patch(f"{ISSUES}/{mine['number']}", json={"state": "closed"}).status_code == 200
        assert client.patch(foreign, json={"state": "closed"}).status_code == 403
        comment = client.post(f"{foreign}/comments", json={"body": "mine"}).json()["id"]
        assert client.patch(f"{ISSUES}/comments/{comment}", json={"body": "still mine"}).status_code == 200
        assert client.patch(f"{ISSUES}/comments/{foreign_comment}", json={"body": "mine?"}).status_code == 403
        assert client.post(f"{REPOSITORY}/labels", json={"name": "made"}).status_code == 403


@pytest.mark.parametrize(("permissions", "status"), [({"issues": "read"}, 403), ({"issues": "write"}, 201)])
def test_a_fine_grained_token_needs_the_permission(hub: Hub, permissions: dict[str, str], status: int) -> None:
    with hub.client(hub.token_for("molecule-operator", permissions=permissions)) as client:
        assert client.get(ISSUES).status_code == 200
        assert client.post(ISSUES, json={"title": "x"}).status_code == status
