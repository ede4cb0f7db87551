"""Fly's GraphQL API, executed against its real schema (contract: fly.md 1.7, 2.2, 3 and section 5).

What the sandbox does not model answers with the neutral value of its type (null, zero, an empty list), so that any
valid query works.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import graphql
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.fly import apps, machines, releases, tokens
from sandbox.fly import secrets as app_secrets
from sandbox.middleware import refused

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.fly.apps import App, Organization
    from sandbox.fly.machines import Machine
    from sandbox.fly.releases import Release
    from sandbox.fly.tokens import Principal
    from sandbox.world import Credential, World

    _Info = graphql.GraphQLResolveInfo[Any]

SCHEMA: Final = Path(__file__).with_name("schema.graphql")
_NEUTRAL: Final[dict[str, Any]] = {
    "String": "",
    "ID": "",
    "Int": 0,
    "Float": 0.0,
    "Boolean": False,
    "BigInt": "0",
    "ISO8601DateTime": "1970-01-01T00:00:00Z",
    "JSON": {},
}


@dataclass(frozen=True, kw_only=True)
class _Context:
    world: World
    caller: Principal


def _error(message: str, code: str) -> graphql.GraphQLError:
    return graphql.GraphQLError(message, extensions={"code": code})


# -- objects, as the schema names their fields; a function is called only when its field is asked for ------------------


def _organization(context: _Context, organization: Organization) -> dict[str, Any]:
    def limited(_info: _Info, **_arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        if not context.caller.belongs_to(organization):
            return []
        return [_token(context, t) for t in tokens.listed(context.world, organization=organization.slug)]

    def own_apps(_info: _Info, **_arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        return _reachable(context, organization.slug)

    return {
        "__typename": "Organization",
        "id": organization.identifier,
        "internalNumericId": str(organization.numeric),
        "slug": organization.slug,
        "rawSlug": organization.slug,
        "name": organization.name,
        "type": "SHARED",
        "billingStatus": "CURRENT",
        "viewerRole": "admin",
        "paidPlan": True,
        "apps": own_apps,
        "limitedAccessTokens": limited,
    }


def _app(context: _Context, app: App) -> dict[str, Any]:
    world = context.world

    def latest() -> Release | None:
        return next(iter(releases.listing(world, app.name, 1)), None)

    def current(_info: _Info) -> dict[str, Any] | None:
        release = latest()
        return None if release is None else _release(release)

    def limited(_info: _Info, **_arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        return [_token(context, token) for token in tokens.listed(world, app=app.name)]

    def all_machines(_info: _Info, **_arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        return [_machine(context, app, machine) for machine in machines.listing(world, app.name)]

    def all_releases(_info: _Info, **_arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        return [_release(release) for release in releases.listing(world, app.name)]

    deployed = bool(machines.listing(world, app.name))
    return {
        "__typename": "App",
        "id": app.identifier,
        "internalNumericId": app.numeric,
        "name": app.name,
        "hostname": f"{app.name}.fly.dev",
        "cnameTarget": f"{app.name}.fly.dev",
        "appUrl": f"https://{app.name}.fly.dev",
        "deployed": deployed,
        "status": "deployed" if deployed else "pending",
        "network": "default",
        "platformVersion": "machines",
        "createdAt": app.created_at,
        "version": lambda _info: release.version if (release := latest()) else 0,
        "organization": _organization(context, app.organization),
        "secrets": lambda _info: _secrets(world, app),
        "currentRelease": current,
        "currentReleaseUnprocessed": current,
        "releases": all_releases,
        "releasesUnprocessed": all_releases,
        "limitedAccessTokens": limited,
        "machines": all_machines,
    }


def _secrets(world: World, app: App) -> list[dict[str, Any]]:
    return [
        {
            "__typename": "Secret",
            "id": f"{app.identifier}-{secret.name}",
            "name": secret.name,
            "digest": secret.digest,
            "createdAt": secret.updated_at,
        }
        for secret in app_secrets.snapshot(world, app)
    ]


def _machine(context: _Context, app: App, machine: Machine) -> dict[str, Any]:
    return {
        "__typename": "Machine",
        "id": machine.id,
        "name": machine.name,
        "state": machine.state,
        "region": machine.region,
        "instanceId": machine.instance_id,
        "config": machine.config,
        "createdAt": machine.created_at,
        "updatedAt": machine.updated_at,
        "app": lambda _info: _app(context, app),
    }


def _release(release: Release) -> dict[str, Any]:
    return {
        "__typename": "Release",
        "id": release.id,
        "version": release.version,
        "status": release.status,
        "stable": release.status == "complete",
        "inProgress": release.status in {"pending", "running"},
        "deploymentStrategy": release.strategy.upper(),
        "imageRef": release.image,
        "configDefinition": release.definition,
        "metadata": release.metadata,
        "createdAt": release.created_at,
        "updatedAt": release.updated_at,
        "user": _user(release.user),
    }


def _user(email: str) -> dict[str, Any]:
    return {"__typename": "User", "id": f"user-{email}", "email": email, "name": email, "username": email}


def _token(context: _Context, credential: Credential, header: str | None = None) -> dict[str, Any]:
    """Describe a token. Its value is in `tokenHeader` of the answer that minted it, and nowhere else."""
    scope = credential.scope
    return {
        "__typename": "LimitedAccessToken",
        "id": credential.identifier,
        "name": credential.name,
        "profile": scope["profile"],
        "profileParams": scope["parameters"],
        "token": scope["root"],
        "tokenHeader": header,
        "createdAt": credential.created_at.isoformat(),
        "expiresAt": None if credential.expires_at is None else credential.expires_at.isoformat(),
        "revokedAt": None if credential.revoked_at is None else credential.revoked_at.isoformat(),
        "user": _user(scope["user"]),
        "organization": lambda _info: _organization(context, _find_organization(context, slug=scope["organization"])),
    }


def _reachable(context: _Context, slug: str | None = None) -> list[dict[str, Any]]:
    return [_app(context, app) for app in apps.listing(context.world, slug) if context.caller.reaches(app)]


def _find_organization(context: _Context, *, slug: str | None = None, identifier: str | None = None) -> Organization:
    organization = apps.organization(context.world, slug=slug, identifier=identifier)
    if organization is None or not any(
        credential.scope["organization"] == organization.slug for credential in context.caller.credentials
    ):
        raise _error("Could not find Organization", "NOT_FOUND")
    return organization


def _find_app(context: _Context, *, name: str | None = None, identifier: str | None = None) -> App:
    app = apps.find(context.world, name=name, identifier=identifier)
    if app is None or not context.caller.reaches(app):
        raise _error("Could not find App", "NOT_FOUND")
    return app


# -- root fields -------------------------------------------------------------------------------------------------------


class _Queries:
    """The query fields that the sandbox models, by their names in the schema."""

    def app(self, info: _Info, *, name: str | None = None, **other: str | None) -> Any:  # noqa: ANN401
        return _app(info.context, _find_app(info.context, name=name, identifier=other.get("id")))

    def apps(self, info: _Info, **_arguments: Any) -> Any:  # noqa: ANN401
        return _reachable(info.context)

    def organization(
        self, info: _Info, *, slug: str | None = None, name: str | None = None, **other: str | None
    ) -> Any:  # noqa: ANN401
        found = _find_organization(info.context, slug=slug or name, identifier=other.get("id"))
        return _organization(info.context, found)

    def organizations(self, info: _Info, **_arguments: Any) -> Any:  # noqa: ANN401
        context: _Context = info.context
        slugs = sorted({str(credential.scope["organization"]) for credential in context.caller.credentials})
        return [_organization(context, _find_organization(context, slug=slug)) for slug in slugs]

    def personalOrganization(self, info: _Info) -> Any:  # noqa: ANN401, N802 - the schema's name
        return self.organizations(info)[0]

    def viewer(self, info: _Info) -> Any:  # noqa: ANN401
        context: _Context = info.context
        user = context.caller.user()
        if user is not None:
            return _user(user)
        return {"__typename": "Macaroon", "email": context.caller.owner()}

    def currentUser(self, info: _Info) -> Any:  # noqa: ANN401, N802 - the schema's name
        user = info.context.caller.user()
        if user is None:
            raise _error("You must be authenticated to view this.", "UNAUTHORIZED")
        return _user(user)

    def machine(self, info: _Info, *, machineId: str) -> Any:  # noqa: ANN401, N803 - the schema's name
        machine = machines.find(info.context.world, machineId)
        if machine is None:
            raise _error("Could not find Machine", "NOT_FOUND")
        return _machine(info.context, _find_app(info.context, name=machine.app), machine)

    def node(self, info: _Info, *, id: str) -> Any:  # noqa: A002, ANN401 - the schema's name
        context: _Context = info.context
        app = apps.find(context.world, identifier=id)
        if app is not None and context.caller.reaches(app):
            return _app(context, app)
        organization = apps.organization(context.world, identifier=id)
        if organization is not None and context.caller.belongs_to(organization):
            return _organization(context, organization)
        credential = tokens.find_limited(context.world, identifier=id, token=None)
        if credential is not None and _may_revoke(context, credential):
            return _token(context, credential)
        return None


class _Mutations:
    """The mutation fields that the sandbox models, by their names in the schema."""

    def createLimitedAccessToken(  # noqa: N802 - the schema's name
        self,
        info: _Info,
        *,
        input: dict[str, Any],  # noqa: A002 - the schema's name
    ) -> Any:  # noqa: ANN401
        context: _Context = info.context
        organization = _find_organization(context, identifier=input["organizationId"])
        if not context.caller.may_mint(organization):
            raise _error("Not authorized to access this createlimitedaccesstoken", "UNAUTHORIZED")
        try:
            credential, header = tokens.mint(
                context.world,
                name=input["name"],
                organization=organization,
                profile=input["profile"],
                parameters=input.get("profileParams") or {},
                expiry=input.get("expiry") or "",
                user=context.caller.user() or "",
            )
        except ValueError as error:
            raise _error(str(error), "UNPROCESSABLE") from error
        return {
            "clientMutationId": input.get("clientMutationId"),
            "limitedAccessToken": _token(context, credential, header),
        }

    def deleteLimitedAccessToken(  # noqa: N802 - the schema's name
        self,
        info: _Info,
        *,
        input: dict[str, Any],  # noqa: A002 - the schema's name
    ) -> Any:  # noqa: ANN401
        """Revoke; a repetition reports success (fly.md 3.3)."""
        context: _Context = info.context
        credential = tokens.find_limited(context.world, identifier=input.get("id"), token=input.get("token"))
        if credential is None:
            raise _error("Could not find LimitedAccessToken", "NOT_FOUND")
        if not _may_revoke(context, credential):
            raise _error("Not authorized to access this deletelimitedaccesstoken", "UNAUTHORIZED")
        context.world.credentials.revoke(credential.identifier, provider=tokens.PROVIDER)
        return {
            "clientMutationId": input.get("clientMutationId"),
            "token": credential.scope["root"],
            "revokedBy": context.caller.user(),
        }

    def setSecrets(self, info: _Info, *, input: dict[str, Any]) -> Any:  # noqa: A002, ANN401, N802
        """Set secrets the old way (fly.md 1.7): values that change nothing are the error UNCHANGED."""
        context: _Context = info.context
        app = _find_app(context, name=input["appId"], identifier=input["appId"])
        values: dict[str, str | None] = {secret["key"]: secret["value"] for secret in input["secrets"]}
        before = {secret.name: secret.value for secret in app_secrets.snapshot(context.world, app)}
        if input.get("replaceAll"):
            values = dict.fromkeys(before) | values
        return self._write(context, app, values, before, input)

    def unsetSecrets(self, info: _Info, *, input: dict[str, Any]) -> Any:  # noqa: A002, ANN401, N802
        """Unset secrets the old way (fly.md 1.7)."""
        context: _Context = info.context
        app = _find_app(context, name=input["appId"], identifier=input["appId"])
        before = {secret.name: secret.value for secret in app_secrets.snapshot(context.world, app)}
        return self._write(context, app, dict.fromkeys(input["keys"]), before, input)

    def _write(
        self,
        context: _Context,
        app: App,
        values: dict[str, str | None],
        before: dict[str, str],
        inputs: dict[str, Any],
    ) -> dict[str, Any]:
        if not any(before.get(name) != value for name, value in values.items()):
            raise _error("No change detected to secrets", "UNCHANGED")
        if not all(app_secrets.NAME.fullmatch(name) for name in values):
            raise _error("Secret names must be valid environment variable names", "UNPROCESSABLE")
        app_secrets.write(context.world, app, values)
        release = next(iter(releases.listing(context.world, app.name, 1)), None)
        return {
            "clientMutationId": inputs.get("clientMutationId"),
            "app": _app(context, app),
            "release": None if release is None else _release(release),
        }


def _may_revoke(context: _Context, credential: Credential) -> bool:
    organization = apps.organization(context.world, slug=credential.scope["organization"])
    return organization is not None and context.caller.may_mint(organization)


# -- execution ---------------------------------------------------------------------------------------------------------


def _resolve(source: Any, info: _Info, **arguments: Any) -> Any:  # noqa: ANN401 - any type of the schema
    """Resolve a field from a dictionary or a root object, paginate connections, and default what is not modelled."""
    if isinstance(source, dict):
        value = source.get(info.field_name)
    else:
        value = getattr(source, info.field_name, None)
        if value is None and isinstance(source, _Mutations):
            raise _error(f"The sandbox does not offer the mutation {info.field_name}", "NOT_FOUND")
    if callable(value):
        value = value(info, **arguments)
    kind = graphql.get_nullable_type(info.return_type)
    if isinstance(value, list) and isinstance(kind, graphql.GraphQLObjectType):
        return _connection(value, arguments)
    if value is None and isinstance(info.return_type, graphql.GraphQLNonNull):
        return _neutral(kind)
    return value


def _neutral(kind: Any) -> Any:  # noqa: ANN401 - any type of the schema
    if isinstance(kind, graphql.GraphQLList):
        return []
    if isinstance(kind, graphql.GraphQLEnumType):
        return next(iter(kind.values.values())).value
    if isinstance(kind, graphql.GraphQLObjectType):
        return _connection([], {}) if kind.name.endswith("Connection") else {"__typename": kind.name}
    return _NEUTRAL.get(getattr(kind, "name", ""))


def _connection(nodes: list[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a Relay connection; a cursor is the node's position."""
    positions = list(range(len(nodes)))
    after, before = arguments.get("after"), arguments.get("before")
    if after:
        positions = [position for position in positions if position > int(after)]
    if before:
        positions = [position for position in positions if position < int(before)]
    if arguments.get("first") is not None:
        positions = positions[: arguments["first"]]
    if arguments.get("last") is not None:
        positions = positions[max(len(positions) - arguments["last"], 0) :]
    return {
        "nodes": [nodes[position] for position in positions],
        "edges": [{"cursor": str(position), "node": nodes[position]} for position in positions],
        "totalCount": len(nodes),
        "pageInfo": {
            "hasNextPage": bool(positions) and positions[-1] < len(nodes) - 1,
            "hasPreviousPage": bool(positions) and positions[0] > 0,
            "startCursor": str(positions[0]) if positions else None,
            "endCursor": str(positions[-1]) if positions else None,
        },
    }


def routes(world: World) -> list[Route]:
    """Return the endpoint. It answers 200 to every well-formed request, errors too (fly.md section 0)."""
    document = graphql.parse(SCHEMA.read_text(encoding="utf-8"), no_location=True)
    schema = graphql.build_ast_schema(document, assume_valid=True, assume_valid_sdl=True)

    async def execute(request: Request) -> Response:
        caller = tokens.authenticate(world, request.headers.get("authorization", ""))
        if caller is None:
            refused(request.scope, "refused as UNAUTHORIZED")
            return _answer([_error("You must be authenticated to view this.", "UNAUTHORIZED")])
        try:
            body: dict[str, Any] = json.loads(await request.body())
            query = graphql.parse(body["query"])
            operation = graphql.get_operation_ast(query, body.get("operationName"))
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"errors": [{"message": f"invalid request: {error}"}]}, 400)
        except graphql.GraphQLError as error:
            return _answer([error])
        invalid = graphql.validate(schema, query)
        if invalid or operation is None:
            return _answer(invalid or [_error("No operation found", "INVALID_ARGUMENTS")])
        mutation = operation.operation is graphql.OperationType.MUTATION
        result = graphql.execute_sync(
            schema,
            query,
            root_value=_Mutations() if mutation else _Queries(),
            context_value=_Context(world=world, caller=caller),
            variable_values=body.get("variables"),
            operation_name=body.get("operationName") or None,
            field_resolver=_resolve,
        )
        if any((error.extensions or {}).get("code") == "UNAUTHORIZED" for error in result.errors or ()):
            refused(request.scope, "refused as UNAUTHORIZED")
        return _answer(result.errors, result.data)

    return [Route("/graphql", execute, methods=["POST"])]


def _answer(errors: list[graphql.GraphQLError] | None, data: dict[str, Any] | None = None) -> Response:
    answer: dict[str, Any] = {"data": data}
    if errors:
        answer["errors"] = [error.formatted for error in errors]
    return JSONResponse(answer)
