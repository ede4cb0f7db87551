"""registry.fly.io: as much of the Docker registry API as a login, a push and a look at the result need.

Basic authentication with user name `x` and a token as the password; any other user name is refused even with a good
token (contract: control-plane.md). A token reaches the repository of each app that it reaches. Served under `/v2/` of
Fly's port; requests count for the provider `registry`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.fly import apps, tokens
from sandbox.middleware import challenge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.fly.tokens import Principal
    from sandbox.world import World

USER: Final = "x"
_VERSION: Final = {"docker-distribution-api-version": "registry/2.0"}
_DEFAULT_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        for statement in (
            """
            CREATE TABLE IF NOT EXISTS registry_blobs (
                repository TEXT NOT NULL, digest TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (repository, digest)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS registry_manifests (
                repository TEXT NOT NULL, digest TEXT NOT NULL, type TEXT NOT NULL, content BLOB NOT NULL,
                PRIMARY KEY (repository, digest)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS registry_tags (
                repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, tag)
            )
            """,
        ):
            world.database.execute(statement)


class _Error(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"errors": [{"code": code, "message": message, "detail": None}]}, status, _VERSION)


class _Registry:
    def __init__(self, world: World) -> None:
        self._world = world
        self._uploads: dict[str, bytearray] = {}

    def _principal(self, request: Request) -> Principal:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
            except ValueError:
                user = password = ""
            caller = tokens.authenticate(self._world, password) if user == USER else None
            if caller is not None:
                return caller
        else:
            challenge(request.scope)
        raise _Error(401, "UNAUTHORIZED", "authentication required")

    def _repository(self, request: Request) -> str:
        name: str = request.path_params["repository"]
        caller = self._principal(request)
        app = apps.find(self._world, name=name.split("/", maxsplit=1)[0])
        if app is None or not caller.reaches(app):
            raise _Error(403, "DENIED", "requested access to the resource is denied")
        return name

    async def base(self, request: Request) -> Response:
        self._principal(request)
        return JSONResponse({}, headers=_VERSION)

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def get_blob(self, request: Request) -> Response:
        repository, digest = self._repository(request), request.path_params["digest"]
        row = self._world.database.execute(
            "SELECT content FROM registry_blobs WHERE repository = ? AND digest = ?", (repository, digest)
        ).fetchone()
        if row is None:
            raise _Error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = _VERSION | {"docker-content-digest": digest}
        return Response(row["content"], headers=headers, media_type="application/octet-stream")

    async def begin_upload(self, request: Request) -> Response:
        repository = self._repository(request)
        identifier = str(uuid.uuid4())
        content = bytearray(await request.body())
        if "digest" in request.query_params:
            return self._store(repository, request.query_params["digest"], bytes(content))
        self._uploads[identifier] = content
        return self._progress(repository, identifier)

    async def continue_upload(self, request: Request) -> Response:
        repository, identifier = self._repository(request), request.path_params["upload"]
        self._upload(identifier).extend(await request.body())
        return self._progress(repository, identifier)

    async def finish_upload(self, request: Request) -> Response:
        repository, identifier = self._repository(request), request.path_params["upload"]
        content = self._upload(identifier) + await request.body()
        response = self._store(repository, request.query_params.get("digest", ""), bytes(content))
        del self._uploads[identifier]
        return response

    def _upload(self, identifier: str) -> bytearray:
        upload = self._uploads.get(identifier)
        if upload is None:
            raise _Error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return upload

    def _progress(self, repository: str, identifier: str) -> Response:
        headers = _VERSION | {
            "location": f"/v2/{repository}/blobs/uploads/{identifier}",
            "docker-upload-uuid": identifier,
            "range": f"0-{max(len(self._uploads[identifier]) - 1, 0)}",
        }
        return Response(status_code=202, headers=headers)

    def _store(self, repository: str, digest: str, content: bytes) -> Response:
        if digest != _digest(content):
            raise _Error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        with self._world.database:
            self._world.database.execute(
                "INSERT OR REPLACE INTO registry_blobs VALUES (?, ?, ?)", (repository, digest, content)
            )
        headers = _VERSION | {"location": f"/v2/{repository}/blobs/{digest}", "docker-content-digest": digest}
        return Response(status_code=201, headers=headers)

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def get_manifest(self, request: Request) -> Response:
        repository, reference = self._repository(request), request.path_params["reference"]
        row = self._world.database.execute(
            """
            SELECT * FROM registry_manifests WHERE repository = :repository AND digest = coalesce(
                (SELECT digest FROM registry_tags WHERE repository = :repository AND tag = :reference), :reference)
            """,
            {"repository": repository, "reference": reference},
        ).fetchone()
        if row is None:
            raise _Error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        headers = _VERSION | {"docker-content-digest": row["digest"], "content-type": row["type"]}
        return Response(row["content"], headers=headers)

    async def put_manifest(self, request: Request) -> Response:
        """PUT a manifest; the blobs that it names must be there (404 MANIFEST_BLOB_UNKNOWN)."""
        repository, reference = self._repository(request), request.path_params["reference"]
        content = await request.body()
        digest = _digest(content)
        try:
            document: dict[str, Any] = json.loads(content)
            named = [entry["digest"] for entry in [document.get("config"), *document.get("layers", [])] if entry]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _Error(400, "MANIFEST_INVALID", "manifest invalid") from error
        if reference.startswith("sha256:") and reference != digest:
            raise _Error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        database = self._world.database
        for blob in named:
            if not database.execute(
                "SELECT 1 FROM registry_blobs WHERE repository = ? AND digest = ?", (repository, blob)
            ).fetchone():
                raise _Error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
        media_type = request.headers.get("content-type", _DEFAULT_TYPE)
        with database:
            database.execute(
                "INSERT OR REPLACE INTO registry_manifests VALUES (?, ?, ?, ?)",
                (repository, digest, media_type, content),
            )
            if not reference.startswith("sha256:"):
                database.execute(
                    "INSERT OR REPLACE INTO registry_tags VALUES (?, ?, ?)", (repository, reference, digest)
                )
        headers = _VERSION | {"location": f"/v2/{repository}/manifests/{digest}", "docker-content-digest": digest}
        return Response(status_code=201, headers=headers)

    async def list_tags(self, request: Request) -> Response:
        repository = self._repository(request)
        rows = self._world.database.execute(
            "SELECT tag FROM registry_tags WHERE repository = ? ORDER BY tag", (repository,)
        )
        return JSONResponse({"name": repository, "tags": [row["tag"] for row in rows]}, headers=_VERSION)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except _Error as error:
            if error.response.status_code == 401:  # noqa: PLR2004 - unauthorized
                error.response.headers["www-authenticate"] = 'Basic realm="registry.fly.io"'
            return error.response

    return answer


def routes(world: World) -> list[Route]:
    """Return the endpoints."""
    registry = _Registry(world)
    repository = "/v2/{repository:path}"
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/v2/", registry.base),
        ("GET", repository + "/tags/list", registry.list_tags),
        ("GET", repository + "/manifests/{reference}", registry.get_manifest),
        ("PUT", repository + "/manifests/{reference}", registry.put_manifest),
        ("POST", repository + "/blobs/uploads/", registry.begin_upload),
        ("PATCH", repository + "/blobs/uploads/{upload}", registry.continue_upload),
        ("PUT", repository + "/blobs/uploads/{upload}", registry.finish_upload),
        ("GET", repository + "/blobs/{digest}", registry.get_blob),
    ]
    return [Route(path, _answering(handler), methods=[method]) for method, path, handler in table]
