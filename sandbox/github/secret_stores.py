"""Secrets of Actions and Dependabot: sealed boxes in, metadata out.

A *store* is a set of secrets with a key pair of its own: each repository has one for Actions and one for Dependabot,
each deployment environment has one, each organization has two. Sources: GitHub's OpenAPI description (operations
``actions/*-secret``, ``dependabot/*-secret``); GitHub documentation, "Encrypting secrets for the REST API" (libsodium
sealed boxes), "Using secrets in GitHub Actions" (names); messages of refusals as recorded in public issue threads.

What the sandbox does and a mock does not: it opens the box. A value that was sealed for another store, or not at all,
is refused with 422, as by GitHub; the plaintext is sealed again, by the world, before it is stored.
"""

import base64
import re
import secrets
import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox
from starlette.responses import Response

from sandbox.github import shapes, store
from sandbox.github.wire import Access, Call, Endpoint, Json, answer, empty, not_found, unprocessable
from sandbox.world import World, sha256

_BASE64: Final = "^(?:[A-Za-z0-9+\\/]{4})*(?:[A-Za-z0-9+\\/]{2}==|[A-Za-z0-9+\\/]{3}=|[A-Za-z0-9+\\/]{4})$"
_LARGEST_VALUE: Final = 48 * 1024
"""Bytes of a plaintext (GitHub documentation, "Using secrets in GitHub Actions", "Limits for secrets")."""
_VISIBILITIES: Final = ("all", "private", "selected")


def repository_store(repository: store.Repository, application: str) -> str:
    """Name the store of a repository; `application` is ``actions`` or ``dependabot``."""
    return f"repository/{repository.id}/{application}"


def environment_store(environment_id: int) -> str:
    """Name the store of a deployment environment."""
    return f"environment/{environment_id}/actions"


def organization_store(organization: store.Account, application: str) -> str:
    """Name the store of an organization; `application` is ``actions`` or ``dependabot``."""
    return f"organization/{organization.id}/{application}"


# --- the stores themselves ------------------------------------------------------------------------------------------


def _key(world: World, store_name: str) -> tuple[str, PrivateKey]:
    """Return a store's key id and key, made when they are first asked for."""
    with world.database as database:
        database.execute(
            "INSERT OR IGNORE INTO github_keys VALUES (?, ?, ?)",
            (
                store_name,
                str(10**17 + secrets.randbelow(9 * 10**17)),
                world.seal(bytes(PrivateKey.generate())),
            ),
        )
        row = database.execute(
            "SELECT key_id, sealed_private_key FROM github_keys WHERE store = ?", (store_name,)
        ).fetchone()
    return row["key_id"], PrivateKey(world.unseal(row["sealed_private_key"]))


def write(
    world: World,
    *,
    store_name: str,
    name: str,
    value: bytes,
    visibility: str | None = None,
    selected: list[int] | None = None,
) -> bool:
    """Write a secret.

    Returns:
        Whether it is new.
    """
    now = store.timestamp(world)
    with world.database as database:
        known = database.execute(
            "SELECT 1 FROM github_secrets WHERE store = ? AND name = ?", (store_name, name)
        ).fetchone()
        database.execute(
            "INSERT INTO github_secrets VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (store, name) DO UPDATE"
            " SET sealed_value = excluded.sealed_value, visibility = excluded.visibility,"
            " updated_at = excluded.updated_at",
            (store_name, name, world.seal(value), visibility, now),
        )
        if selected is not None or visibility not in {None, "selected"}:
            _select(database, store_name, name, selected or [])
    return known is None


def _select(database: sqlite3.Connection, store_name: str, name: str, selected: list[int]) -> None:
    database.execute("DELETE FROM github_secret_repositories WHERE store = ? AND name = ?", (store_name, name))
    database.executemany(
        "INSERT OR IGNORE INTO github_secret_repositories SELECT ?, ?, id FROM github_repositories WHERE id = ?",
        [(store_name, name, id_) for id_ in selected],
    )


def values(world: World, store_name: str) -> dict[str, str]:
    """Return every secret of a store, in plaintext."""
    rows = world.database.execute("SELECT name, sealed_value FROM github_secrets WHERE store = ?", (store_name,))
    return {row["name"]: world.unseal(row["sealed_value"]).decode(errors="replace") for row in rows.fetchall()}


def visible_to(world: World, repository: store.Repository, application: str) -> list[sqlite3.Row]:
    """Return the rows of an organization's secrets that a repository may use."""
    return world.database.execute(
        "SELECT s.* FROM github_secrets s WHERE s.store = ?1 AND (s.visibility = 'all'"
        " OR (s.visibility = 'private' AND ?2) OR EXISTS (SELECT 1 FROM github_secret_repositories r"
        " WHERE r.store = s.store AND r.name = s.name AND r.repository_id = ?3)) ORDER BY s.name",
        (organization_store(repository.owner, application), repository.private, repository.id),
    ).fetchall()


def for_job(world: World, *, repository: store.Repository, environment: str | None) -> dict[str, str]:
    """Return what a job may read: an environment's secrets before the repository's before the organization's.

    The order is GitHub's ("Using secrets in GitHub Actions", "Naming your secrets"). Dependabot's are not among them.
    """
    found = {
        row["name"]: world.unseal(row["sealed_value"]).decode(errors="replace")
        for row in visible_to(world, repository, "actions")
    }
    found |= values(world, repository_store(repository, "actions"))
    if environment is not None:
        row = store.environment(world.database, repository=repository, name=environment)
        if row is not None:
            found |= values(world, environment_store(row["id"]))
    return found


def forget(world: World, store_name: str) -> None:
    """Delete every secret of a store that is no more."""
    with world.database as database:
        database.execute("DELETE FROM github_secrets WHERE store = ?", (store_name,))


def fingerprints(world: World, store_name: str) -> dict[str, dict[str, str]]:
    """Return SHA-256 (of the plaintext) and time of the last write of a store's secrets."""
    rows = world.database.execute(
        "SELECT name, updated_at FROM github_secrets WHERE store = ? ORDER BY name", (store_name,)
    )
    plaintexts = values(world, store_name)
    return {
        row["name"]: {"sha256": sha256(plaintexts[row["name"]]), "updated_at": row["updated_at"]}
        for row in rows.fetchall()
    }


# --- the API --------------------------------------------------------------------------------------------------------


def _name(call: Call) -> str:
    """Return the path's secret name, in capitals: GitHub's names have no case.

    Raises:
        GitHubError: 422, GitHub allows no such name.
    """
    name = call.path("secret_name")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise unprocessable(
            "Secret names can only contain alphanumeric characters ([a-z], [A-Z], [0-9]) or underscores (_)."
            " Spaces are not allowed. Must start with a letter ([a-z], [A-Z]) or underscores (_)."
        )
    if name.upper().startswith("GITHUB_"):
        raise unprocessable("Secret names must not start with GITHUB_.")
    return name.upper()


def _open(call: Call, store_name: str, body: Json) -> bytes:
    """Open the sealed box of a request.

    Raises:
        GitHubError: 422, it is not base64, or not a box, or sealed for another key.
    """
    encrypted = body["encrypted_value"]
    if not isinstance(encrypted, str) or not re.fullmatch(_BASE64, encrypted):
        raise unprocessable(f"Invalid request.\n\n{encrypted} does not match /{_BASE64}/.")
    key_id, key = _key(call.world, store_name)
    refusal = unprocessable("Bad request - validation failed due to an improperly encrypted secret")
    if body["key_id"] != key_id:
        raise refusal
    try:
        value = SealedBox(key).decrypt(base64.b64decode(encrypted))
    except (CryptoError, ValueError):
        raise refusal from None
    if len(value) > _LARGEST_VALUE:
        raise unprocessable("Secret value is too large: the limit is 48 KB.")
    return value


def _row(call: Call, store_name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = call.database.execute(
        "SELECT * FROM github_secrets WHERE store = ? AND name = ?", (store_name, call.path("secret_name").upper())
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def _shown(call: Call, row: sqlite3.Row) -> Json:
    body: Json = {"name": row["name"], "created_at": row["created_at"], "updated_at": row["updated_at"]}
    if row["visibility"] is not None:
        body["visibility"] = row["visibility"]
    if row["visibility"] == "selected":
        application = row["store"].rpartition("/")[2]
        login = call.path("org") if "org" in call.request.path_params else call.repository.owner.login
        body["selected_repositories_url"] = f"{call.root}/orgs/{login}/{application}/secrets/{row['name']}/repositories"
    return body


def _list(call: Call, rows: list[sqlite3.Row]) -> Response:
    page, headers = call.paginate(rows)
    return answer({"total_count": len(rows), "secrets": [_shown(call, row) for row in page]}, headers=headers)


def _store_endpoints(
    base: str, find: Callable[[Call], str], *, read: Access, change: Access, organization: bool = False
) -> list[Endpoint]:
    """Return the five operations that every store has, below the path `base`.

    Args:
        base: Path template that ends with ``/secrets``.
        find: Names the store that a request's path means; raises `GitHubError` 404 if there is none.
        read: What reading asks of the caller.
        change: What writing and deleting ask of the caller.
        organization: Whether a secret has a visibility.
    """

    async def public_key(call: Call) -> Response:
        key_id, key = _key(call.world, find(call))
        return answer({"key_id": key_id, "key": base64.b64encode(bytes(key.public_key)).decode()})

    async def list_secrets(call: Call) -> Response:
        rows = call.database.execute("SELECT * FROM github_secrets WHERE store = ? ORDER BY name", (find(call),))
        return _list(call, rows.fetchall())

    async def get(call: Call) -> Response:
        return answer(_shown(call, _row(call, find(call))))

    async def put(call: Call) -> Response:
        store_name, name = find(call), _name(call)
        required = ("encrypted_value", "key_id", *(["visibility"] if organization else []))
        body = await call.json(*required)
        visibility = body.get("visibility") if organization else None
        if organization and visibility not in _VISIBILITIES:
            raise unprocessable(f"Invalid request.\n\n{visibility} is not a member of {list(_VISIBILITIES)}.")
        selected = body.get("selected_repository_ids")
        created = write(
            call.world,
            store_name=store_name,
            name=name,
            value=_open(call, store_name, body),
            visibility=visibility if isinstance(visibility, str) else None,
            selected=[int(id_) for id_ in selected] if isinstance(selected, list) else None,
        )
        return answer({}, HTTPStatus.CREATED) if created else empty()

    async def delete(call: Call) -> Response:
        row = _row(call, find(call))
        with call.database:
            _select(call.database, row["store"], row["name"], [])
            call.database.execute(
                "DELETE FROM github_secrets WHERE store = ? AND name = ?", (row["store"], row["name"])
            )
        return empty()

    return [
        Endpoint(method="GET", path=f"{base}/public-key", access=read, handler=public_key),
        Endpoint(method="GET", path=base, access=read, handler=list_secrets),
        Endpoint(method="GET", path=f"{base}/{{secret_name}}", access=read, handler=get),
        Endpoint(method="PUT", path=f"{base}/{{secret_name}}", access=change, handler=put),
        Endpoint(method="DELETE", path=f"{base}/{{secret_name}}", access=change, handler=delete),
    ]


def _selection_endpoints(application: str, *, read: Access, change: Access) -> list[Endpoint]:
    """Return the operations on the repositories that an organization's secret is selected for."""

    def ids(call: Call, row: sqlite3.Row) -> list[int]:
        rows = call.database.execute(
            "SELECT repository_id FROM github_secret_repositories WHERE store = ? AND name = ? ORDER BY 1",
            (row["store"], row["name"]),
        )
        return [each["repository_id"] for each in rows.fetchall()]

    async def list_selected(call: Call) -> Response:
        found = ids(call, _row(call, organization_store(call.organization, application)))
        page, headers = call.paginate(found)
        shown = [shapes.minimal_repository(call, store.known_repository(call.database, id_)) for id_ in page]
        return answer({"total_count": len(found), "repositories": shown}, headers=headers)

    async def set_selected(call: Call) -> Response:
        row = _row(call, organization_store(call.organization, application))
        wanted = (await call.json("selected_repository_ids"))["selected_repository_ids"]
        if not isinstance(wanted, list):
            raise unprocessable("Invalid request.\n\nselected_repository_ids is not an array.")
        with call.database:
            _select(call.database, row["store"], row["name"], [int(id_) for id_ in wanted])
        return empty()

    path = f"/orgs/{{org}}/{application}/secrets/{{secret_name}}/repositories"
    return [
        Endpoint(method="GET", path=path, access=read, handler=list_selected),
        Endpoint(method="PUT", path=path, access=change, handler=set_selected),
    ]


def _environment_of(call: Call) -> str:
    row = store.environment(call.database, repository=call.repository, name=call.path("environment_name"))
    if row is None:
        raise not_found()
    return environment_store(row["id"])


def _endpoints() -> list[Endpoint]:
    found: list[Endpoint] = []
    for application, permission in (("actions", "secrets"), ("dependabot", "dependabot_secrets")):

        def in_repository(call: Call, application: str = application) -> str:
            return repository_store(call.repository, application)

        def in_organization(call: Call, application: str = application) -> str:
            return organization_store(call.organization, application)

        async def organization_secrets(call: Call, application: str = application) -> Response:
            return _list(call, visible_to(call.world, call.repository, application))

        # Who may write to a repository may list and set its secrets (GitHub documentation, REST API, "Secrets":
        # "authenticated users must have collaborator access to a repository to create, update, or read secrets").
        read = Access(role=store.Role.WRITE, scope="repo", permission=(permission, "read"))
        change = Access(role=store.Role.WRITE, scope="repo", permission=(permission, "write"))
        found += _store_endpoints(
            f"/repos/{{owner}}/{{repo}}/{application}/secrets", in_repository, read=read, change=change
        )
        found.append(
            Endpoint(
                method="GET",
                path=f"/repos/{{owner}}/{{repo}}/{application}/organization-secrets",
                access=read,
                handler=organization_secrets,
            )
        )
        read = Access(role=store.Role.ADMIN, scope="admin:org", permission=(f"organization_{permission}", "read"))
        change = Access(role=store.Role.ADMIN, scope="admin:org", permission=(f"organization_{permission}", "write"))
        found += _store_endpoints(
            f"/orgs/{{org}}/{application}/secrets", in_organization, read=read, change=change, organization=True
        )
        found += _selection_endpoints(application, read=read, change=change)
    # By the repository's number as well, as go-github asks (and GitHub's description did until 2024).
    for repository in ("/repos/{owner}/{repo}", "/repositories/{repository_id}"):
        found += _store_endpoints(
            f"{repository}/environments/{{environment_name}}/secrets",
            _environment_of,
            read=Access(role=store.Role.WRITE, scope="repo", permission=("environments", "read")),
            change=Access(role=store.Role.WRITE, scope="repo", permission=("environments", "write")),
        )
    return found


ENDPOINTS: Final = _endpoints()
