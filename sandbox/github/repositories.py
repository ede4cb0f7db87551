"""Accounts, repositories, and the little of git that starts a run: a commit through the contents API.

Sources: GitHub's OpenAPI description (``users/*``, ``orgs/get``, ``repos/*``, ``rate-limit/get``, ``meta/get``);
GitHub Enterprise Server documentation, REST API, "Enterprise administration" → "Users", for ``/admin``: that is how
tests get a user of another role or a token of fewer scopes. (One thing there is the sandbox's own: ``permissions``
instead of ``scopes`` makes a fine-grained token, for which GitHub has no API.)
"""

import base64
import binascii
import hashlib
import sqlite3
from http import HTTPStatus
from typing import Final

import yaml
from starlette.responses import Response

from sandbox.github import secret_stores, shapes, store, tokens
from sandbox.github.runs import Runs
from sandbox.github.wire import (
    Access,
    Call,
    Endpoint,
    GitHubError,
    Json,
    RateLimits,
    answer,
    empty,
    not_found,
    unprocessable,
)

_ROLES: Final = {"pull": store.Role.READ, "push": store.Role.WRITE, "admin": store.Role.ADMIN}


async def _rate_limit(call: Call) -> Response:
    state = call.world.component(RateLimits).state(call.viewer.user.id if call.viewer else 0)
    return answer({"resources": {"core": state, "search": state, "graphql": state}, "rate": state})


async def _meta(call: Call) -> Response:
    return answer({"verifiable_password_authentication": False, "actions": [], "domains": {"website": [call.site]}})


async def _zen(_: Call) -> Response:
    return answer({})


async def _viewer(call: Call) -> Response:
    return answer(shapes.private_user(call, call.user))


async def _user(call: Call) -> Response:
    found = store.account(call.database, login=call.path("username"))
    if found is None:
        raise not_found()
    return answer(shapes.user(call, found))


async def _organization(call: Call) -> Response:
    return answer(shapes.organization(call, call.organization))


async def _organization_repositories(call: Call) -> Response:
    user = call.viewer.user if call.viewer else None
    visible = [
        repository
        for repository in store.repositories(call.database, owner=call.organization)
        if store.role_in_repository(call.database, repository=repository, user=user) is not None
    ]
    page, headers = call.paginate(visible)
    return answer([shapes.minimal_repository(call, repository) for repository in page], headers=headers)


async def _repository(call: Call) -> Response:
    return answer(shapes.repository(call, call.repository))


# --- git ------------------------------------------------------------------------------------------------------------


def _branch_of(call: Call, ref: str) -> tuple[str, store.Commit]:
    found = store.head(call.database, repository=call.repository, ref=ref)
    if found is None:
        raise not_found()
    return found


async def _branches(call: Call) -> Response:
    names = store.branches(call.database, repository=call.repository)
    page, headers = call.paginate(names)
    return answer([_shown_branch(call, name) for name in page], headers=headers)


def _shown_branch(call: Call, name: str) -> Json:
    _, commit = _branch_of(call, name)
    url = f"{call.root}/repos/{call.repository.full_name}/commits/{commit.sha}"
    return {"name": name, "commit": {"sha": commit.sha, "url": url}, "protected": False}


async def _branch(call: Call) -> Response:
    name, commit = _branch_of(call, call.path("branch"))
    return answer({"name": name, "commit": shapes.commit(call, commit), "protected": False})


async def _commit(call: Call) -> Response:
    found = store.commit(call.database, repository=call.repository, sha=call.path("ref"))
    return answer(shapes.commit(call, found or _branch_of(call, call.path("ref"))[1]))


def _file(call: Call, branch: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = call.database.execute(
        "SELECT * FROM github_files WHERE repository_id = ? AND branch = ? AND path = ?",
        (call.repository.id, branch, call.path("path")),
    ).fetchone()
    return row


def _shown_file(call: Call, row: sqlite3.Row) -> Json:
    repository, path = f"{call.root}/repos/{call.repository.full_name}", row["path"]
    return {
        "type": "file",
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": row["sha"],
        "size": len(row["content"]),
        "url": f"{repository}/contents/{path}?ref={row['branch']}",
        "html_url": f"{call.site}/{call.repository.full_name}/blob/{row['branch']}/{path}",
        "git_url": f"{repository}/git/blobs/{row['sha']}",
        "download_url": None,
    }


async def _get_contents(call: Call) -> Response:
    branch, _ = _branch_of(call, call.query("ref") or call.repository.default_branch)
    row = _file(call, branch)
    if row is None:
        raise not_found()
    content = base64.b64encode(row["content"]).decode()
    return answer(_shown_file(call, row) | {"content": content, "encoding": "base64"})


async def _put_contents(call: Call) -> Response:
    body = await call.json("message", "content")
    branch, _ = _branch_of(call, str(body.get("branch") or call.repository.default_branch))
    known = _file(call, branch)
    if known is not None and body.get("sha") is None:
        raise unprocessable('Invalid request.\n\n"sha" wasn\'t supplied.')
    if known is not None and body["sha"] != known["sha"]:
        raise GitHubError(HTTPStatus.CONFLICT, f"{call.path('path')} does not match {body['sha']}")
    try:
        content = base64.b64decode(str(body["content"]))
    except binascii.Error:
        raise unprocessable("content is not valid Base64") from None
    # Git names a blob by SHA-1; it is a name here, not a protection.
    sha = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
    with call.database:
        call.database.execute(
            "INSERT OR REPLACE INTO github_files VALUES (?, ?, ?, ?, ?)",
            (call.repository.id, branch, call.path("path"), sha, content),
        )
    if branch == call.repository.default_branch:
        _read_workflow(call, content)
    commit = store.add_commit(
        call.world, repository=call.repository, branch=branch, message=str(body["message"]), author=call.user
    )
    call.world.component(Runs).push(repository=call.repository, branch=branch, commit=commit, actor=call.user)
    row = _file(call, branch)
    if row is None:
        raise not_found()
    return answer(
        {"content": _shown_file(call, row), "commit": shapes.commit(call, commit)["commit"] | {"sha": commit.sha}},  # type: ignore[operator]
        HTTPStatus.OK if known else HTTPStatus.CREATED,
    )


def _read_workflow(call: Call, content: bytes) -> None:
    """Take the deployment environment that a workflow's job declares from its file; a file that is no workflow declares none.

    The rest of it is not heeded: GitHub takes every file, and finds fault with a workflow when it is to run.
    """
    workflow = next(
        (each for each in store.workflows(call.database, repository=call.repository) if each.path == call.path("path")),
        None,
    )
    if workflow is None:
        return
    try:
        jobs = yaml.safe_load(content)["jobs"].values()
        declared = next((job["environment"] for job in jobs if "environment" in job), None)
        name = declared["name"] if isinstance(declared, dict) else declared
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        name = None
    store.set_workflow_environment(call.world, workflow=workflow, environment=name)


# --- deployment environments ----------------------------------------------------------------------------------------


def _shown_environment(call: Call, row: sqlite3.Row) -> Json:
    return {
        "id": row["id"],
        "node_id": shapes.node_id("Environment", row["id"]),
        "name": row["name"],
        "url": f"{call.root}/repos/{call.repository.full_name}/environments/{row['name']}",
        "html_url": f"{call.site}/{call.repository.full_name}/deployments/activity_log",
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
        "protection_rules": [],
        "deployment_branch_policy": None,
    }


async def _environments(call: Call) -> Response:
    rows = store.environments(call.database, repository=call.repository)
    page, headers = call.paginate(rows)
    shown = [_shown_environment(call, row) for row in page]
    return answer({"total_count": len(rows), "environments": shown}, headers=headers)


async def _get_environment(call: Call) -> Response:
    row = store.environment(call.database, repository=call.repository, name=call.path("environment_name"))
    if row is None:
        raise not_found()
    return answer(_shown_environment(call, row))


async def _put_environment(call: Call) -> Response:
    store.add_environment(call.world, repository=call.repository, name=call.path("environment_name"))
    return await _get_environment(call)


async def _delete_environment(call: Call) -> Response:
    row = store.environment(call.database, repository=call.repository, name=call.path("environment_name"))
    if row is None:
        raise not_found()
    secret_stores.forget(call.world, secret_stores.environment_store(row["id"]))
    with call.database:
        call.database.execute("DELETE FROM github_environments WHERE id = ?", (row["id"],))
    return empty()


# --- administration -------------------------------------------------------------------------------------------------


def _named_user(call: Call) -> store.Account:
    found = store.account(call.database, login=call.path("username"))
    if found is None:
        raise not_found()
    return found


async def _put_collaborator(call: Call) -> Response:
    permission = str((await call.json()).get("permission", "push"))
    if permission not in _ROLES:
        raise unprocessable("Validation Failed")
    store.set_collaborator(call.world, repository=call.repository, user=_named_user(call), role=_ROLES[permission])
    # GitHub answers 201 with an invitation to strangers, 204 to members of the owning organization.
    return empty()


async def _create_user(call: Call) -> Response:
    login = str((await call.json("login"))["login"])
    if store.account(call.database, login=login) is not None:
        raise unprocessable("Validation Failed")
    return answer(shapes.account(call, store.add_account(call.world, login=login, type_="User")), HTTPStatus.CREATED)


async def _create_impersonation_token(call: Call) -> Response:
    body, user = await call.json(), _named_user(call)
    scopes, permissions = body.get("scopes"), body.get("permissions")
    name = f"impersonation of {user.login}"
    if isinstance(permissions, dict):
        credential, value = tokens.issue_fine_grained(call.world, user=user, name=name, permissions=permissions)
    elif isinstance(scopes, list):
        credential, value = tokens.issue_classic(call.world, user=user, name=name, scopes=map(str, scopes))
    else:
        raise unprocessable('Invalid request.\n\n"scopes" wasn\'t supplied.')
    shown = {"id": int(credential.identifier), "token": value, "scopes": scopes, "note": name}
    return answer(shown, HTTPStatus.CREATED)


async def _delete_impersonation_tokens(call: Call) -> Response:
    user = _named_user(call)
    for credential in call.world.credentials.all(tokens.PROVIDER):
        if credential.name == f"impersonation of {user.login}":
            call.world.credentials.revoke(credential.identifier, provider=tokens.PROVIDER)
    return empty()


_ANYBODY: Final = Access(anonymous=True)
_READER: Final = Access(role=store.Role.READ, anonymous=True)
_CODE_READER: Final = Access(role=store.Role.READ, permission=("contents", "read"), anonymous=True)
_CODE_WRITER: Final = Access(role=store.Role.WRITE, scope="repo", permission=("contents", "write"))
_ADMINISTRATOR: Final = Access(role=store.Role.ADMIN, scope="repo", permission=("administration", "write"))
_SITE_ADMINISTRATOR: Final = Access(scope="site_admin", permission=("site_admin", "write"))
_REPOSITORY: Final = "/repos/{owner}/{repo}"

ENDPOINTS: Final = [
    Endpoint(method="GET", path="/", access=_ANYBODY, handler=_zen),
    Endpoint(method="GET", path="/meta", access=_ANYBODY, handler=_meta),
    Endpoint(method="GET", path="/rate_limit", access=_ANYBODY, handler=_rate_limit),
    Endpoint(method="GET", path="/user", access=Access(), handler=_viewer),
    Endpoint(method="GET", path="/users/{username}", access=_ANYBODY, handler=_user),
    Endpoint(method="GET", path="/orgs/{org}", access=_ANYBODY, handler=_organization),
    Endpoint(method="GET", path="/orgs/{org}/repos", access=_ANYBODY, handler=_organization_repositories),
    Endpoint(method="GET", path=_REPOSITORY, access=_READER, handler=_repository),
    Endpoint(method="GET", path=f"{_REPOSITORY}/branches", access=_CODE_READER, handler=_branches),
    Endpoint(method="GET", path=f"{_REPOSITORY}/branches/{{branch:path}}", access=_CODE_READER, handler=_branch),
    Endpoint(method="GET", path=f"{_REPOSITORY}/commits/{{ref:path}}", access=_CODE_READER, handler=_commit),
    Endpoint(method="GET", path=f"{_REPOSITORY}/contents/{{path:path}}", access=_CODE_READER, handler=_get_contents),
    Endpoint(method="PUT", path=f"{_REPOSITORY}/contents/{{path:path}}", access=_CODE_WRITER, handler=_put_contents),
    Endpoint(method="GET", path=f"{_REPOSITORY}/environments", access=_READER, handler=_environments),
    Endpoint(
        method="GET", path=f"{_REPOSITORY}/environments/{{environment_name}}", access=_READER, handler=_get_environment
    ),
    Endpoint(
        method="PUT",
        path=f"{_REPOSITORY}/environments/{{environment_name}}",
        access=_ADMINISTRATOR,
        handler=_put_environment,
    ),
    Endpoint(
        method="DELETE",
        path=f"{_REPOSITORY}/environments/{{environment_name}}",
        access=_ADMINISTRATOR,
        handler=_delete_environment,
    ),
    Endpoint(
        method="PUT",
        path=f"{_REPOSITORY}/collaborators/{{username}}",
        access=_ADMINISTRATOR,
        handler=_put_collaborator,
    ),
    Endpoint(method="POST", path="/admin/users", access=_SITE_ADMINISTRATOR, handler=_create_user),
    Endpoint(
        method="POST",
        path="/admin/users/{username}/authorizations",
        access=_SITE_ADMINISTRATOR,
        handler=_create_impersonation_token,
    ),
    Endpoint(
        method="DELETE",
        path="/admin/users/{username}/authorizations",
        access=_SITE_ADMINISTRATOR,
        handler=_delete_impersonation_tokens,
    ),
]
