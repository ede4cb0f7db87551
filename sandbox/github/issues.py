"""Issues, their comments and labels, as deep as a workflow goes that reports in them.

Sources: GitHub's OpenAPI description (operations ``issues/*``); GitHub documentation, "REST API endpoints for issues":
a pull request is an issue there, and its conversation is that issue's comments; messages of refusals as recorded in
public issue threads.
"""

import sqlite3
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from sandbox.github import shapes, store
from sandbox.github.wire import Access, Call, Endpoint, GitHubError, Json, answer, not_found, unprocessable
from sandbox.world import World

_LARGEST_BODY: Final = 65_536
"""Characters of a body."""
_STATES: Final = ("open", "closed")
_REASONS: Final = ("completed", "not_planned", "duplicate", "reopened", None)
_NEW_LABEL: Final = "ededed"
"""The colour of a label that was made by being used."""


# --- labels ---------------------------------------------------------------------------------------------------------


def _label(call: Call, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = call.database.execute(
        "SELECT * FROM github_labels WHERE repository_id = ? AND name = ?", (call.repository.id, name)
    ).fetchone()
    return row


def _add_label(call: Call, *, name: str, color: str = _NEW_LABEL, description: str | None = None) -> sqlite3.Row:
    with call.database:
        call.database.execute(
            "INSERT INTO github_labels (repository_id, name, color, description) VALUES (?, ?, ?, ?)",
            (call.repository.id, name, color, description),
        )
    row = _label(call, name)
    if row is None:
        raise not_found()
    return row


def _shown_label(call: Call, row: sqlite3.Row) -> Json:
    return {
        "id": row["id"],
        "node_id": shapes.node_id("Label", row["id"]),
        "url": f"{call.root}/repos/{call.repository.full_name}/labels/{row['name']}",
        "name": row["name"],
        "description": row["description"],
        "color": row["color"],
        "default": False,
    }


async def _create_label(call: Call) -> Response:
    body = await call.json("name")
    name, description = str(body["name"]), body.get("description")
    if _label(call, name) is not None:
        raise unprocessable("Validation Failed")
    row = _add_label(
        call,
        name=name,
        color=str(body.get("color", _NEW_LABEL)),
        description=None if description is None else str(description),
    )
    return answer(_shown_label(call, row), HTTPStatus.CREATED)


def _labels_of(database: sqlite3.Connection, issue_id: int) -> list[sqlite3.Row]:
    return database.execute(
        "SELECT github_labels.* FROM github_labels JOIN github_issue_labels ON label_id = github_labels.id"
        " WHERE issue_id = ? ORDER BY name",
        (issue_id,),
    ).fetchall()


def _set_labels(call: Call, issue_id: int, names: object) -> None:
    """Give an issue these labels and no others; dropped without a word where the caller may not push."""
    if not isinstance(names, list):
        raise unprocessable("Invalid request.")
    if (call.role or 0) < store.Role.WRITE:
        return
    labels = [_label(call, str(name)) or _add_label(call, name=str(name)) for name in names]
    with call.database:
        call.database.execute("DELETE FROM github_issue_labels WHERE issue_id = ?", (issue_id,))
        call.database.executemany(
            "INSERT OR IGNORE INTO github_issue_labels VALUES (?, ?)", [(issue_id, label["id"]) for label in labels]
        )


# --- issues ---------------------------------------------------------------------------------------------------------


def _body(value: object) -> str | None:
    if value is None:
        return None
    if len(str(value)) > _LARGEST_BODY:
        raise unprocessable(f"body is too long (maximum is {_LARGEST_BODY} characters)")
    return str(value)


def _issue(call: Call) -> sqlite3.Row:
    row: sqlite3.Row | None = call.database.execute(
        "SELECT * FROM github_issues WHERE repository_id = ? AND number = ?",
        (call.repository.id, call.number("issue_number")),
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def _may_change(call: Call, row: sqlite3.Row) -> None:
    """Let those pass who wrote it, and those who may push."""
    if row["author_id"] != call.user.id and (call.role or 0) < store.Role.WRITE:
        raise GitHubError(HTTPStatus.FORBIDDEN, "Must have admin rights to Repository.")


def _shown_issue(call: Call, row: sqlite3.Row) -> Json:
    url = f"{call.root}/repos/{call.repository.full_name}/issues/{row['number']}"
    comments = call.database.execute(
        "SELECT count(*) FROM github_issue_comments WHERE issue_id = ?", (row["id"],)
    ).fetchone()
    return {
        "id": row["id"],
        "node_id": shapes.node_id("Issue", row["id"]),
        "url": url,
        "repository_url": f"{call.root}/repos/{call.repository.full_name}",
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": f"{call.site}/{call.repository.full_name}/issues/{row['number']}",
        "number": row["number"],
        "state": row["state"],
        "state_reason": row["state_reason"],
        "title": row["title"],
        "body": row["body"],
        "user": shapes.account(call, store.known_account(call.database, row["author_id"])),
        "labels": [_shown_label(call, label) for label in _labels_of(call.database, row["id"])],
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "locked": False,
        "comments": comments[0],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "closed_at": row["closed_at"],
        "author_association": "MEMBER",
    }


async def _list_issues(call: Call) -> Response:
    state = call.query("state") or "open"
    if state not in {*_STATES, "all"}:
        raise unprocessable("Validation Failed")
    rows = call.database.execute(
        "SELECT * FROM github_issues WHERE repository_id = ? ORDER BY number DESC", (call.repository.id,)
    ).fetchall()
    found = [_shown_issue(call, row) for row in rows if state in {"all", row["state"]}]
    if creator := call.query("creator"):
        account = store.account(call.database, login=creator)
        if account is None:
            raise unprocessable("Validation Failed")
        found = [issue for issue in found if _part(issue, "user")["id"] == account.id]
    for name in filter(None, call.query("labels").split(",")):
        found = [issue for issue in found if name in _names(issue)]
    page, headers = call.paginate(found)
    return answer(page, headers=headers)


def _part(issue: Json, name: str) -> Any:  # noqa: ANN401 - JSON
    return issue[name]


def _names(issue: Json) -> Sequence[str]:
    return [label["name"] for label in _part(issue, "labels")]


async def _create_issue(call: Call) -> Response:
    body = await call.json("title")
    text, now = _body(body.get("body")), store.timestamp(call.world)
    with call.database:
        (last,) = call.database.execute(
            "SELECT coalesce(max(number), 0) FROM github_issues WHERE repository_id = ?", (call.repository.id,)
        ).fetchone()
        row = call.database.execute(
            "INSERT INTO github_issues (repository_id, number, author_id, title, body, state, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, 'open', ?, ?) RETURNING *",
            (call.repository.id, last + 1, call.user.id, str(body["title"]), text, now, now),
        ).fetchone()
    _set_labels(call, row["id"], body.get("labels", []))
    return answer(_shown_issue(call, row), HTTPStatus.CREATED)


async def _get_issue(call: Call) -> Response:
    return answer(_shown_issue(call, _issue(call)))


async def _update_issue(call: Call) -> Response:
    row, body = _issue(call), await call.json()
    _may_change(call, row)
    state, reason = body.get("state", row["state"]), body.get("state_reason", row["state_reason"])
    if state not in _STATES or reason not in _REASONS:
        raise unprocessable("Validation Failed")
    now = store.timestamp(call.world)
    closed_at = (row["closed_at"] or now) if state == "closed" else None
    if state == "closed" and "state_reason" not in body:
        reason = "completed"
    elif state == "open" and row["state"] == "closed":
        reason = "reopened"
    text = _body(body["body"]) if "body" in body else row["body"]
    with call.database:
        row = call.database.execute(
            "UPDATE github_issues SET title = ?, body = ?, state = ?, state_reason = ?, updated_at = ?, closed_at = ?"
            " WHERE id = ? RETURNING *",
            (str(body.get("title", row["title"])), text, state, reason, now, closed_at, row["id"]),
        ).fetchone()
    if "labels" in body:
        _set_labels(call, row["id"], body["labels"])
    return answer(_shown_issue(call, row))


# --- comments -------------------------------------------------------------------------------------------------------


def _shown_comment(call: Call, row: sqlite3.Row, number: int) -> Json:
    repository = f"{call.root}/repos/{call.repository.full_name}"
    return {
        "id": row["id"],
        "node_id": shapes.node_id("IssueComment", row["id"]),
        "url": f"{repository}/issues/comments/{row['id']}",
        "html_url": f"{call.site}/{call.repository.full_name}/issues/{number}#issuecomment-{row['id']}",
        "issue_url": f"{repository}/issues/{number}",
        "body": row["body"],
        "user": shapes.account(call, store.known_account(call.database, row["author_id"])),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "author_association": "MEMBER",
    }


async def _comment_text(call: Call) -> str:
    text = _body((await call.json("body"))["body"])
    if not text:
        raise unprocessable("Validation Failed")
    return text


async def _list_comments(call: Call) -> Response:
    issue = _issue(call)
    rows = call.database.execute(
        "SELECT * FROM github_issue_comments WHERE issue_id = ? ORDER BY id", (issue["id"],)
    ).fetchall()
    page, headers = call.paginate(rows)
    return answer([_shown_comment(call, row, issue["number"]) for row in page], headers=headers)


async def _create_comment(call: Call) -> Response:
    issue, text, now = _issue(call), await _comment_text(call), store.timestamp(call.world)
    with call.database:
        row = call.database.execute(
            "INSERT INTO github_issue_comments (issue_id, author_id, body, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?) RETURNING *",
            (issue["id"], call.user.id, text, now, now),
        ).fetchone()
    return answer(_shown_comment(call, row, issue["number"]), HTTPStatus.CREATED)


def _comment(call: Call) -> sqlite3.Row:
    row: sqlite3.Row | None = call.database.execute(
        "SELECT github_issue_comments.*, number FROM github_issue_comments"
        " JOIN github_issues ON issue_id = github_issues.id WHERE github_issue_comments.id = ? AND repository_id = ?",
        (call.number("comment_id"), call.repository.id),
    ).fetchone()
    if row is None:
        raise not_found()
    return row


async def _get_comment(call: Call) -> Response:
    row = _comment(call)
    return answer(_shown_comment(call, row, row["number"]))


async def _update_comment(call: Call) -> Response:
    found = _comment(call)
    _may_change(call, found)
    text = await _comment_text(call)
    with call.database:
        row = call.database.execute(
            "UPDATE github_issue_comments SET body = ?, updated_at = ? WHERE id = ? RETURNING *",
            (text, store.timestamp(call.world), found["id"]),
        ).fetchone()
    return answer(_shown_comment(call, row, found["number"]))


def shown(world: World, repository: store.Repository) -> list[dict[str, Any]]:
    """Return what `inspect` tells of a repository's issues, oldest first."""
    rows = world.database.execute(
        "SELECT * FROM github_issues WHERE repository_id = ? ORDER BY number", (repository.id,)
    ).fetchall()
    return [
        {
            "number": row["number"],
            "title": row["title"],
            "state": row["state"],
            "body": row["body"],
            "labels": [label["name"] for label in _labels_of(world.database, row["id"])],
            "comments": [
                comment["body"]
                for comment in world.database.execute(
                    "SELECT body FROM github_issue_comments WHERE issue_id = ? ORDER BY id", (row["id"],)
                )
            ],
        }
        for row in rows
    ]


_ISSUES: Final = "/repos/{owner}/{repo}/issues"
_READ: Final = Access(role=store.Role.READ, permission=("issues", "read"), anonymous=True)
_WRITE: Final = Access(role=store.Role.READ, permission=("issues", "write"))
"""Whoever may read a repository may open issues and comment; what else they may is for the handlers to say."""
_PUSH: Final = Access(role=store.Role.WRITE, permission=("issues", "write"))

ENDPOINTS: Final = [
    Endpoint(method="GET", path=_ISSUES, access=_READ, handler=_list_issues),
    Endpoint(method="POST", path=_ISSUES, access=_WRITE, handler=_create_issue),
    Endpoint(method="GET", path=f"{_ISSUES}/comments/{{comment_id}}", access=_READ, handler=_get_comment),
    Endpoint(method="PATCH", path=f"{_ISSUES}/comments/{{comment_id}}", access=_WRITE, handler=_update_comment),
    Endpoint(method="GET", path=f"{_ISSUES}/{{issue_number}}", access=_READ, handler=_get_issue),
    Endpoint(method="PATCH", path=f"{_ISSUES}/{{issue_number}}", access=_WRITE, handler=_update_issue),
    Endpoint(method="GET", path=f"{_ISSUES}/{{issue_number}}/comments", access=_READ, handler=_list_comments),
    Endpoint(method="POST", path=f"{_ISSUES}/{{issue_number}}/comments", access=_WRITE, handler=_create_comment),
    Endpoint(method="POST", path="/repos/{owner}/{repo}/labels", access=_PUSH, handler=_create_label),
]
