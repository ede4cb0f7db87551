"""What every answer of GitHub's API has in common: errors, headers, pages, and who is asking.

Sources: GitHub documentation, "REST API" → "Getting started", "Troubleshooting", "Rate limits", "Using pagination",
"API versions", "Scopes for OAuth apps"; the wording of errors as recorded in public issue threads.

GitHub's habits that clients rely on, kept here:

- Whoever may not read a private repository is told that it does not exist (404), never that it is forbidden; 403 is
  for those who may see a thing and not do what they ask.
- An error's ``status`` is a string.
- A request without ``User-Agent``, and one that asks for an unknown API version, is refused.
- Everything is served at the root, as api.github.com does, and under ``/api/v3``, as GitHub Enterprise Server does;
  URLs in answers follow the caller.
"""

import hashlib
import json
import re
import secrets
import sqlite3
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.github import settings, store, tokens
from sandbox.world import World

Json = dict[str, object]
Item = TypeVar("Item")

DOCUMENTATION: Final = "https://docs.github.com/rest"
API_VERSIONS: Final = ("2022-11-28", "2026-03-10")
"""The first is what a request without ``X-GitHub-Api-Version`` gets (GitHub documentation, "API versions")."""

ENTERPRISE_PREFIX: Final = "/api/v3"
_LARGEST_PAGE: Final = 100
_DEFAULT_PAGE: Final = 30
_HOUR: Final = 3600


class GitHubError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        message: What GitHub says.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def not_found() -> GitHubError:
    """Return the answer for what does not exist and for what the caller must not know to exist."""
    return GitHubError(HTTPStatus.NOT_FOUND, "Not Found")


def unprocessable(message: str) -> GitHubError:
    """Return the answer for a well-formed request that cannot be obeyed."""
    return GitHubError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


@dataclass(frozen=True, kw_only=True)
class Access:
    """What an endpoint asks of its caller.

    Attributes:
        role: The least role in the repository or organization of the path; None for endpoints without one.
        scope: The scope that a classic token needs; empty if any will do.
        permission: Name and level of the permission that a fine-grained token needs.
        anonymous: Whether the endpoint answers without a token.
    """

    role: store.Role | None = None
    scope: str = ""
    permission: tuple[str, str] = ("metadata", "read")
    anonymous: bool = False


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, after authentication.

    Attributes:
        world: The sandbox.
        request: The request as received.
        viewer: Whose token it carries; None without a token.
        role: The viewer's role in the repository or organization of the path.
    """

    world: World
    request: Request
    viewer: tokens.Viewer | None
    role: store.Role | None
    found_repository: store.Repository | None
    found_organization: store.Account | None

    @property
    def database(self) -> sqlite3.Connection:
        """The world's database."""
        return self.world.database

    @property
    def repository(self) -> store.Repository:
        """The repository that the path names.

        Raises:
            GitHubError: 404, there is none.
        """
        if self.found_repository is None:
            raise not_found()
        return self.found_repository

    @property
    def organization(self) -> store.Account:
        """The organization that the path names.

        Raises:
            GitHubError: 404, there is none.
        """
        if self.found_organization is None:
            raise not_found()
        return self.found_organization

    @property
    def user(self) -> store.Account:
        """The user whose token the request carries.

        Raises:
            GitHubError: 401, it carries none.
        """
        if self.viewer is None:
            raise GitHubError(HTTPStatus.UNAUTHORIZED, "Requires authentication")
        return self.viewer.user

    @property
    def site(self) -> str:
        """Base URL of the pages for people."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}"

    @property
    def root(self) -> str:
        """Base URL of the API as the caller addressed it, with ``/api/v3`` if they used that."""
        prefix = ENTERPRISE_PREFIX if self.request.url.path.startswith(f"{ENTERPRISE_PREFIX}/") else ""
        return self.site + prefix

    @property
    def api_version(self) -> str:
        """The requested API version, or the default one."""
        return self.request.headers.get("X-GitHub-Api-Version", API_VERSIONS[0])

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    def number(self, name: str) -> int:
        """Return a numeric parameter of the path.

        Raises:
            GitHubError: 404, it is not a number.
        """
        value = self.path(name)
        if not re.fullmatch(r"[0-9]{1,18}", value):
            raise not_found()
        return int(value)

    def query(self, name: str) -> str:
        """Return a parameter of the query; empty if it is not there."""
        return self.request.query_params.get(name, "")

    async def json(self, *required: str) -> Json:
        """Return the body, which holds the `required` members.

        Raises:
            GitHubError: 400, the body is no JSON object; 422, a member is missing.
        """
        try:
            body = json.loads(await self.request.body() or b"{}")
        except ValueError:
            raise GitHubError(HTTPStatus.BAD_REQUEST, "Problems parsing JSON") from None
        if not isinstance(body, dict):
            raise GitHubError(HTTPStatus.BAD_REQUEST, "Body should be a JSON object")
        for name in required:
            if name not in body:
                raise unprocessable(f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        return body

    def paginate(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, str]]:
        """Cut out the page that the query asks for (``per_page`` of 1 to 100, else 30; ``page`` from 1).

        Returns:
            Its items, and the ``Link`` header if there is another page.
        """

        def read(name: str, default: int) -> int:
            value = self.query(name)
            return int(value) if re.fullmatch(r"[0-9]{1,9}", value) and int(value) > 0 else default

        size, page = min(read("per_page", _DEFAULT_PAGE), _LARGEST_PAGE), read("page", 1)
        last = max(1, -(-len(items) // size))
        targets: dict[str, int] = {}
        if page > 1:
            targets |= {"prev": min(page - 1, last)}
        if page < last:
            targets |= {"next": page + 1, "last": last}
        if page > 1:
            targets |= {"first": 1}
        base = self.root + self.request.url.path.removeprefix(ENTERPRISE_PREFIX)
        links = []
        for relation, target in targets.items():
            parameters = dict(self.request.query_params) | {"page": str(target)}
            links.append(f'<{base}?{urllib.parse.urlencode(parameters)}>; rel="{relation}"')
        return list(items[(page - 1) * size : page * size]), ({"Link": ", ".join(links)} if links else {})


Handler = Callable[[Call], Awaitable[Response]]


def answer(body: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json; charset=utf-8")


def empty(status: HTTPStatus = HTTPStatus.NO_CONTENT) -> Response:
    """Return an answer without a body."""
    return Response(status_code=status)


class RateLimits:
    """Requests of each user in the current hour; kept in memory, so a restart of the sandbox begins a new hour."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._windows: dict[int, tuple[float, int]] = {}

    def state(self, user: int) -> Json:
        """Return the numbers as ``GET /rate_limit`` shows them; `user` 0 is everybody without a token."""
        now = time.time()
        start, used = self._windows.get(user, (now, 0))
        if now - start >= _HOUR:
            start, used = now, 0
        limit = int(self._world.number(settings.RATE_LIMIT)) if user else 60
        used = min(used, limit)
        return {"limit": limit, "remaining": limit - used, "reset": int(start) + _HOUR, "used": used}

    def count(self, user: int) -> bool:
        """Count a request.

        Returns:
            Whether it is within the limit.
        """
        now = time.time()
        start, used = self._windows.get(user, (now, 0))
        if now - start >= _HOUR:
            start, used = now, 0
        self._windows[user] = (start, used + 1)
        return not user or used < int(self._world.number(settings.RATE_LIMIT))


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation of the API.

    Attributes:
        method: HTTP method.
        path: Path template, without ``/api/v3``.
        access: What it asks of its caller; checked before the handler is called.
        handler: What answers.
    """

    method: str
    path: str
    access: Access
    handler: Handler


class _EitherPrefixRoute(Route):
    """A route that also answers under ``/api/v3``, with one path template for both: requests are counted by it."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], *, methods: list[str]) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.path_regex = re.compile(f"^(?:{ENTERPRISE_PREFIX})?{self.path_regex.pattern.removeprefix('^')}")


async def _serve(world: World, request: Request, access: Access, handler: Handler) -> Response:
    headers = {
        "X-GitHub-Request-Id": "{:04X}:{:06X}:{:08X}:{:08X}:{:08X}".format(
            *(secrets.randbelow(65536) for _ in "12345")
        ),
        "X-GitHub-Media-Type": "github.v3; format=json",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Expose-Headers": "ETag, Link, Location, Retry-After, X-GitHub-Request-Id, X-OAuth-Scopes, "
        "X-Accepted-OAuth-Scopes, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Used, X-RateLimit-Reset",
    }
    try:
        response = await _answer(world, request, access, handler, headers)
    except GitHubError as error:
        body = {"message": error.message, "documentation_url": DOCUMENTATION, "status": str(int(error.status))}
        response = answer(body, error.status)
    if request.method == "GET" and response.status_code == HTTPStatus.OK:
        etag = f'W/"{hashlib.sha256(bytes(response.body)).hexdigest()}"'
        headers |= {"ETag": etag, "Cache-Control": "private, max-age=60, s-maxage=60"}
        if request.headers.get("If-None-Match") == etag:
            response = empty(HTTPStatus.NOT_MODIFIED)
    response.headers.update(headers)
    return response


async def _answer(
    world: World, request: Request, access: Access, handler: Handler, headers: dict[str, str]
) -> Response:
    if not request.headers.get("User-Agent"):
        raise GitHubError(
            HTTPStatus.FORBIDDEN,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        )
    viewer = _authenticate(world, request)
    user = viewer.user.id if viewer else 0
    limits = world.component(RateLimits)
    free = request.url.path.removeprefix(ENTERPRISE_PREFIX) == "/rate_limit"
    within = free or limits.count(user)
    for name, value in limits.state(user).items():
        headers[f"X-RateLimit-{name.capitalize()}"] = str(value)
    headers["X-RateLimit-Resource"] = "core"
    if viewer and viewer.scopes is not None:
        headers["X-OAuth-Scopes"] = ", ".join(sorted(viewer.scopes))
        headers["X-Accepted-OAuth-Scopes"] = access.scope
    elif viewer:
        headers["X-Accepted-GitHub-Permissions"] = "=".join(access.permission)
    if not within:
        raise GitHubError(HTTPStatus.FORBIDDEN, f"API rate limit exceeded for user ID {user}.")
    version = request.headers.get("X-GitHub-Api-Version", API_VERSIONS[0])
    if version not in API_VERSIONS:
        raise GitHubError(HTTPStatus.BAD_REQUEST, f"{version} is not a supported version of the GitHub API.")
    headers["X-GitHub-Api-Version-Selected"] = version
    return await handler(_admit(world, request, access, viewer))


def _authenticate(world: World, request: Request) -> tokens.Viewer | None:
    """Return whose token a request carries.

    Raises:
        GitHubError: 401, the token is unknown, expired or revoked.
    """
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return None
    viewer = tokens.authenticate(world, value.strip()) if scheme.lower() in {"bearer", "token"} else None
    if viewer is None:
        raise GitHubError(HTTPStatus.UNAUTHORIZED, "Bad credentials")
    return viewer


def _admit(world: World, request: Request, access: Access, viewer: tokens.Viewer | None) -> Call:
    """Find what the path names and check that the viewer may do to it what the endpoint does.

    Raises:
        GitHubError: 401, a token is needed; 403, this one may not; 404, there is no such thing for this viewer.
    """
    if viewer is None and not access.anonymous:
        raise GitHubError(HTTPStatus.UNAUTHORIZED, "Requires authentication")
    parameters = request.path_params
    user = viewer.user if viewer else None
    repository: store.Repository | None = None
    organization: store.Account | None = None
    role: store.Role | None = None
    if "repo" in parameters or "repository_id" in parameters:
        # By its number, too: GitHub redirects from there after a repository was renamed, and clients of environments use it.
        repository = (
            store.repository(world.database, owner=parameters["owner"], name=parameters["repo"])
            if "repo" in parameters
            else store.numbered_repository(world.database, parameters["repository_id"])
        )
        if repository is None:
            raise not_found()
        role = store.role_in_repository(world.database, repository=repository, user=user)
        if role is None or (
            # A classic token without `repo` does not show its user's private repositories at all.
            repository.private and viewer is not None and viewer.scopes is not None and not viewer.has_scope("repo")
        ):
            raise not_found()
    elif "org" in parameters:
        organization = store.account(world.database, login=parameters["org"])
        if organization is None or organization.type != "Organization":
            raise not_found()
        if user is not None:
            role = store.role_in_organization(world.database, organization=organization, user=user)
    _check_power(access, viewer, role)
    return Call(
        world=world,
        request=request,
        viewer=viewer,
        role=role,
        found_repository=repository,
        found_organization=organization,
    )


def _check_power(access: Access, viewer: tokens.Viewer | None, role: store.Role | None) -> None:
    if access.role is not None and (role is None or role < access.role):
        raise GitHubError(HTTPStatus.FORBIDDEN, "Must have admin rights to Repository.")
    if viewer is None or viewer.has_scope(access.scope) or viewer.has_permission(*access.permission):
        return
    raise GitHubError(
        HTTPStatus.FORBIDDEN,
        "Resource not accessible by personal access token"
        if viewer.scopes is None
        else f"Your token has not been granted the required scopes: {access.scope}.",
    )


def routes(world: World, endpoints: Sequence[Endpoint]) -> list[Route]:
    """Return routes that authenticate, check and then call the endpoints' handlers."""

    def serve(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await _serve(world, request, endpoint.access, endpoint.handler)

        return handle

    return [_EitherPrefixRoute(each.path, serve(each), methods=[each.method]) for each in endpoints]


def nothing_here(world: World) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of unknown paths and methods: both are 404, in GitHub's words."""

    async def refuse(_: Call) -> Response:
        raise not_found()

    async def handle(request: Request, _: Exception) -> Response:
        return await _serve(world, request, Access(anonymous=True), refuse)

    return handle
