"""The Machines REST API (contract: fly.md 1.2, 2.1, 3.4): app lookup, secrets, machines, leases, tokens.

Refusals are `{"error": text}`. Where fly.md does not establish a status or a text, the docstring of the endpoint says
what was chosen.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.fly import apps, machines, tokens
from sandbox.fly import secrets as app_secrets
from sandbox.fly.errors import Refusal, json_object
from sandbox.fly.machines import GONE, SETTLED, State
from sandbox.fly.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.fly.apps import App
    from sandbox.fly.machines import Lease, Machine
    from sandbox.fly.secrets import AppSecret
    from sandbox.world import World

NONCE_HEADER: Final = "fly-machine-lease-nonce"
DEFAULT_LEASE: Final = 13
"""Seconds; flyctl's."""
LONGEST_WAIT: Final = 60.0
"""Seconds."""
_WAITABLE: Final = {"started", "stopped", "suspended", "destroyed", "failed", "settled", "created"}


def _integer(value: Any, name: str) -> int | None:  # noqa: ANN401 - any JSON or a query parameter
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise Refusal(400, f"invalid {name}") from error


class RateLimits:
    """Token buckets of the documented limits (fly.md section 4), if the setting `rate_limits` is 1."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, action: str, subject: str) -> None:
        """Count a request. Raises `Refusal` 429."""
        if not self._world.number("rate_limits"):
            return
        rate, burst = (5.0, 10.0) if action == "get machine" else (1.0, 3.0)
        now = time.monotonic()
        level, then = self._buckets.get((action, subject), (burst, now))
        level = min(burst, level + (now - then) * rate)
        if level < 1:
            self._buckets[action, subject] = (level, now)
            raise Refusal(429, "rate limit exceeded")
        self._buckets[action, subject] = (level - 1, now)


def secret_json(secret: AppSecret) -> dict[str, Any]:
    """Return a secret as the API shows it: never with its value (fly.md 1.2)."""
    return {
        "name": secret.name,
        "digest": secret.digest,
        "created_at": secret.created_at,
        "updated_at": secret.updated_at,
    }


def machine_json(world: World, machine: Machine, *, summary: bool = False) -> dict[str, Any]:
    """Return a machine as the API shows it."""
    image = str(machine.config.get("image", ""))
    registry, _, rest = image.partition("/")
    repository, _, tag = rest.partition(":")
    document: dict[str, Any] = {
        "id": machine.id,
        "name": machine.name,
        "state": machine.state,
        "region": machine.region,
        "instance_id": machine.instance_id,
        "version": machine.instance_id,
        "private_ip": f"fdaa:0:1:a7b:{machine.id[:4]}:{machine.id[4:8]}:{machine.id[8:12]}:2",
        "config": machine.config,
        "image_ref": {"registry": registry, "repository": repository, "tag": tag or "latest", "digest": ""},
        "created_at": machine.created_at,
        "updated_at": machine.updated_at,
        "host_status": "ok",
        "cordoned": machine.cordoned,
    }
    if machine.checks:
        document["checks"] = [
            {"name": c.name, "status": c.status, "output": c.output, "updated_at": c.updated_at} for c in machine.checks
        ]
    if summary:
        del document["config"]
    else:
        document["events"] = machines.events(world, machine.id)
    return document


def app_json(world: World, app: App) -> dict[str, Any]:
    """Return an app as the API shows it (fly.md section 5)."""
    return {
        "id": app.identifier,
        "name": app.name,
        "internal_numeric_id": app.numeric,
        "network": "default",
        "status": "deployed" if machines.listing(world, app.name) else "pending",
        "machine_count": len(machines.listing(world, app.name)),
        "volume_count": 0,
        "organization": {
            "name": app.organization.name,
            "slug": app.organization.slug,
            "internal_numeric_id": app.organization.numeric,
        },
        "cname_target": f"{app.name}.fly.dev",
        "app_role": "",
        "app_url": f"https://{app.name}.fly.dev",
    }


def _lease_json(lease: Lease) -> dict[str, Any]:
    return {
        "status": "success",
        "data": {
            "nonce": lease.nonce,
            "expires_at": lease.expires_at,
            "owner": lease.owner,
            "description": lease.description,
            "version": lease.version,
        },
    }


class _Apps:
    """Apps and their secrets."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._limits = world.component(RateLimits)

    def _app(self, request: Request, action: str) -> App:
        app = tokens.authorized_app(self._world, request, request.path_params["app"])
        self._limits.take(action, app.name)
        return app

    async def list_apps(self, request: Request) -> Response:
        """GET /v1/apps?org_slug=: the apps that the token reaches."""
        caller = tokens.principal(self._world, request)
        slug = request.query_params.get("org_slug")
        if slug is None:
            raise Refusal(400, "org_slug is required")
        found = [app for app in apps.listing(self._world, slug) if caller.reaches(app)]
        if not found and (organization := apps.organization(self._world, slug=slug)) is not None:
            if not caller.belongs_to(organization):
                raise Refusal(403, "unauthorized")
        elif not found:
            raise Refusal(404, "organization not found")
        return JSONResponse(
            {"total_apps": len(found), "apps": [app_json(self._world, app) for app in found]},
        )

    async def get_app(self, request: Request) -> Response:
        return JSONResponse(app_json(self._world, self._app(request, "get app")))

    async def ip_assignments(self, request: Request) -> Response:
        self._app(request, "list ips")
        return JSONResponse({"ips": []})

    async def deploy_token(self, request: Request) -> Response:
        """POST /v1/apps/{app}/deploy_token: a deploy token without a name of its choice (fly.md 3.1)."""
        app = self._app(request, "deploy token")
        caller = tokens.principal(self._world, request)
        if not caller.may_mint(app.organization):
            raise Refusal(403, "unauthorized")
        expiry = str((await json_object(request)).get("expiry") or "")
        try:
            _, header = tokens.mint(
                self._world,
                name="flyctl deploy token",
                organization=app.organization,
                profile="deploy",
                parameters={"app_id": app.identifier},
                expiry=expiry,
                user=caller.user() or "",
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        return JSONResponse({"token": header})

    # -- secrets ------------------------------------------------------------------------------------------------------

    def _snapshot(self, request: Request, app: App) -> list[AppSecret]:
        # flyctl sends `version`, the OpenAPI calls it `min_version` (fly.md 1.2).
        for name in ("version", "min_version"):
            wanted = _integer(request.query_params.get(name), name)
            if wanted is not None and wanted > app_secrets.available(self._world, app):
                raise Refusal(412, f"{name} {wanted} is not yet available on this app")
        return app_secrets.snapshot(self._world, app)

    async def list_secrets(self, request: Request) -> Response:
        app = self._app(request, "list secrets")
        return JSONResponse({"secrets": [secret_json(secret) for secret in self._snapshot(request, app)]})

    async def update_secrets(self, request: Request) -> Response:
        """POST /v1/apps/{app}/secrets: sets, and unsets what is `null`. Answers with the secrets that it set."""
        app = self._app(request, "update secrets")
        values = (await json_object(request)).get("values")
        if not isinstance(values, dict) or not values:
            raise Refusal(400, "invalid request: values is required")
        version = self._write(app, values)
        written = [secret_json(s) for s in app_secrets.snapshot(self._world, app) if s.name in values]
        return JSONResponse({"secrets": written, "version": version, "Version": version})

    async def get_secret(self, request: Request) -> Response:
        app, name = self._app(request, "get secret"), request.path_params["name"]
        for secret in self._snapshot(request, app):
            if secret.name == name:
                return JSONResponse(secret_json(secret))
        raise Refusal(404, f"secret {name} not found")

    async def set_secret(self, request: Request) -> Response:
        app, name = self._app(request, "set secret"), request.path_params["name"]
        value = (await json_object(request)).get("value")
        if not isinstance(value, str):
            raise Refusal(400, "invalid request: value is required")
        version = self._write(app, {name: value})
        secret = next(s for s in app_secrets.snapshot(self._world, app) if s.name == name)
        return JSONResponse({**secret_json(secret), "version": version, "Version": version}, 201)

    async def delete_secret(self, request: Request) -> Response:
        app = self._app(request, "delete secret")
        version = self._write(app, {request.path_params["name"]: None})
        return JSONResponse({"version": version, "Version": version})

    def _write(self, app: App, values: dict[str, Any]) -> int:
        for name, value in values.items():
            if not app_secrets.NAME.fullmatch(name):
                raise Refusal(400, f"invalid secret name {name!r}")
            if not isinstance(value, str | None):
                raise Refusal(400, f"invalid value of secret {name}: expected a string or null")
        return app_secrets.write(self._world, app, values)


class _Machines:
    """Machines and their leases."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._supervisor = world.component(Supervisor)
        self._limits = world.component(RateLimits)

    def _machine(self, request: Request, action: str, *, gone: bool = False) -> tuple[App, Machine]:
        """Return the machine that a path names. A destroyed one is found only with `gone`."""
        app = tokens.authorized_app(self._world, request, request.path_params["app"])
        machine = machines.find(self._world, request.path_params["machine"])
        if machine is None or machine.app != app.name or (machine.state in GONE and not gone):
            raise Refusal(404, f"machine not found: {request.path_params['machine']}")
        self._limits.take(action, machine.id)
        return app, machine

    def _leased(self, request: Request, action: str) -> tuple[App, Machine]:
        """Return the machine, if nobody else holds its lease."""
        app, machine = self._machine(request, action)
        machines.require_lease(self._world, machine.id, request.headers.get(NONCE_HEADER))
        return app, machine

    def _owner(self, request: Request) -> str:
        return tokens.principal(self._world, request).owner()

    async def list_machines(self, request: Request) -> Response:
        """GET /v1/apps/{app}/machines with the filters of fly.md 2.1; `limit` and `cursor` page by machine id."""
        app = tokens.authorized_app(self._world, request, request.path_params["app"])
        self._limits.take("list machines", app.name)
        query = request.query_params
        found = machines.listing(self._world, app.name, gone=_true(query.get("include_deleted")))
        states = {state for value in query.getlist("state") for state in value.split(",") if state}
        if states:
            found = [machine for machine in found if machine.state in states]
        if query.get("region"):
            found = [machine for machine in found if machine.region in query["region"].split(",")]
        for name, value in query.multi_items():
            if name.startswith("metadata."):
                key = name.removeprefix("metadata.")
                found = [m for m in found if (m.config.get("metadata") or {}).get(key) == value]
        headers = {}
        limit, cursor = _integer(query.get("limit"), "limit"), query.get("cursor", "")
        found = [machine for machine in found if machine.id > cursor]
        if limit is not None and 0 < limit < len(found):
            found = found[:limit]
            headers["fly-next-cursor"] = found[-1].id
        documents = [machine_json(self._world, m, summary=_true(query.get("summary"))) for m in found]
        if _true(query.get("include_leases")):
            for document in documents:
                held = machines.lease(self._world, document["id"])
                if held is not None:
                    document["lease"] = _lease_json(held)["data"]
        return JSONResponse(documents, headers=headers)

    async def get_machine(self, request: Request) -> Response:
        _, machine = self._machine(request, "get machine", gone=True)
        document = machine_json(self._world, machine)
        version = request.query_params.get("version")
        if version:
            config = machines.version_config(self._world, machine.id, version)
            if config is None:
                raise Refusal(404, f"machine version not found: {version}")
            document |= {"config": config, "instance_id": version, "version": version}
        return JSONResponse(document)

    async def create_machine(self, request: Request) -> Response:
        app = tokens.authorized_app(self._world, request, request.path_params["app"])
        self._limits.take("create machine", app.name)
        body = await json_object(request)
        config = body.get("config")
        if not isinstance(config, dict) or not config.get("image"):
            raise Refusal(400, "invalid_argument: config.image is required")
        launch = not body.get("skip_launch")
        machine = machines.create(
            self._world,
            app,
            config=config,
            name=body.get("name"),
            region=body.get("region"),
            launch=launch,
            skip_secrets=bool(body.get("skip_secrets")),
            min_secrets_version=_integer(body.get("min_secrets_version"), "min_secrets_version"),
        )
        nonce = self._lease_with(request, machine, body)
        if launch:
            self._supervisor.launch(machine.id)
        return JSONResponse(machine_json(self._world, machines.get(self._world, machine.id)) | nonce)

    async def update_machine(self, request: Request) -> Response:
        """POST /v1/apps/{app}/machines/{id}: replaces the whole configuration and, unless `skip_launch`, starts it.

        `current_version` other than the machine's: 409, and nothing changes. `region` and `name` are ignored if they
        are the machine's and refused otherwise.
        """
        app, machine = self._leased(request, "update machine")
        body = await json_object(request)
        config = body.get("config")
        if not isinstance(config, dict) or not config.get("image"):
            raise Refusal(400, "invalid_argument: config.image is required")
        for field, value in (("region", machine.region), ("name", machine.name)):
            if body.get(field) not in {None, "", value}:
                raise Refusal(400, f"invalid_argument: {field} of a machine cannot be changed")
        expected = body.get("current_version")
        if expected and expected != machine.instance_id:
            raise Refusal(409, f"aborted: current_version {expected} is not the machine's, {machine.instance_id}")
        machine = machines.update(
            self._world,
            app,
            machine,
            config=config,
            launch=not body.get("skip_launch"),
            skip_secrets=bool(body.get("skip_secrets")),
            min_secrets_version=_integer(body.get("min_secrets_version"), "min_secrets_version"),
        )
        nonce = self._lease_with(request, machine, body)
        self._supervisor.replace(machine.id)
        return JSONResponse(machine_json(self._world, machine) | nonce)

    def _lease_with(self, request: Request, machine: Machine, body: dict[str, Any]) -> dict[str, str]:
        seconds = _integer(body.get("lease_ttl"), "lease_ttl")
        if not seconds:
            return {}
        lease = machines.acquire_lease(
            self._world,
            machine,
            owner=self._owner(request),
            nonce=request.headers.get(NONCE_HEADER),
            seconds=seconds,
            description="",
        )
        return {"nonce": lease.nonce}

    async def destroy_machine(self, request: Request) -> Response:
        """DELETE /v1/apps/{app}/machines/{id}?force=: a machine that runs is destroyed only with `force` (412)."""
        _, machine = self._leased(request, "destroy machine")
        if machine.state not in {State.CREATED, State.STOPPED} and not _true(request.query_params.get("force")):
            raise Refusal(412, "failed_precondition: unable to destroy machine, not currently stopped or suspended")
        self._supervisor.destroy(machine.id)
        return JSONResponse({"ok": True})

    async def start_machine(self, request: Request) -> Response:
        _, machine = self._leased(request, "start machine")
        if machine.state not in {State.CREATED, State.STOPPED}:
            raise Refusal(412, f"failed_precondition: unable to start machine from current state: '{machine.state}'")
        self._supervisor.launch(machine.id)
        return JSONResponse({"previous_state": machine.state, "migrated": False, "new_host": ""})

    async def stop_machine(self, request: Request) -> Response:
        _, machine = self._leased(request, "stop machine")
        body = await json_object(request)
        if machine.state not in {State.CREATED, State.STOPPED}:
            self._supervisor.stop(
                machine.id, number=_signal(body.get("signal")), kill_timeout=_kill_timeout(body.get("timeout"))
            )
        return JSONResponse({"ok": True})

    async def restart_machine(self, request: Request) -> Response:
        """POST .../restart: the same version and environment again. Newer secrets need an update (fly.md 2.1)."""
        _, machine = self._leased(request, "restart machine")
        query = request.query_params
        force = _true(query.get("force_stop"))
        self._supervisor.restart(
            machine.id,
            number=signal.SIGKILL if force else _signal(query.get("signal")),
            kill_timeout=_kill_timeout(query.get("timeout")),
        )
        return JSONResponse({"ok": True})

    async def signal_machine(self, request: Request) -> Response:
        _, machine = self._leased(request, "signal machine")
        process = self._supervisor.runtime(machine.id).process
        if process is None or process.returncode is not None:
            raise Refusal(412, f"failed_precondition: machine not started, currently '{machine.state}'")
        process.send_signal(_signal((await json_object(request)).get("signal")))
        return JSONResponse({"ok": True})

    async def wait(self, request: Request) -> Response:
        """GET .../wait: blocks until the machine (at `version`) is in one of the states; 408 after `timeout`."""
        _, machine = self._machine(request, "wait", gone=True)
        query = request.query_params
        states = {state for value in query.getlist("state") for state in value.split(",") if state} or {"started"}
        if not states <= _WAITABLE:
            raise Refusal(400, f"invalid_argument: cannot wait for state {', '.join(sorted(states - _WAITABLE))}")
        version = query.get("version") or query.get("instance_id")
        seconds = _integer((query.get("timeout") or "60").removesuffix("s"), "timeout")
        deadline = time.monotonic() + min(max(seconds or 0, 1), LONGEST_WAIT)
        runtime = self._supervisor.runtime(machine.id)
        while True:
            changed = runtime.changed
            machine = machines.get(self._world, machine.id)
            reached = machine.state in states or ("settled" in states and machine.state in SETTLED)
            if reached and version in {None, "", machine.instance_id}:
                last = machines.events(self._world, machine.id, 1)
                return JSONResponse(
                    {
                        "ok": True,
                        "event_id": last[0]["id"] if last else "",
                        "state": machine.state,
                        "version": machine.instance_id,
                    }
                )
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    await changed.wait()
            except TimeoutError as error:
                raise Refusal(
                    408,
                    "deadline_exceeded: machine failed to reach desired state, "
                    f"{','.join(sorted(states))}, currently {machine.state}",
                ) from error

    async def events(self, request: Request) -> Response:
        _, machine = self._machine(request, "events", gone=True)
        limit = _integer(request.query_params.get("limit"), "limit")
        return JSONResponse(machines.events(self._world, machine.id, limit or machines.EVENTS_SHOWN))

    async def versions(self, request: Request) -> Response:
        _, machine = self._machine(request, "versions")
        return JSONResponse(machines.versions(self._world, machine.id))

    async def processes(self, request: Request) -> Response:
        """GET .../ps: one process that listens, or none (fly.md 2.2)."""
        _, machine = self._machine(request, "ps")
        process = self._supervisor.runtime(machine.id).process
        if process is None:
            return JSONResponse([])
        services = machine.config.get("services") or [{}]
        port = services[0].get("internal_port") or 8080
        sockets = [{"proto": "tcp", "address": f"0.0.0.0:{port}"}]
        return JSONResponse([{"pid": 1, "command": "/app", "listen_sockets": sockets}])

    async def cordon(self, request: Request) -> Response:
        _, machine = self._leased(request, "cordon")
        machines.change(self._world, machine.id, cordoned=1)
        return JSONResponse({"ok": True})

    async def uncordon(self, request: Request) -> Response:
        _, machine = self._leased(request, "uncordon")
        machines.change(self._world, machine.id, cordoned=0)
        return JSONResponse({"ok": True})

    # -- metadata -----------------------------------------------------------------------------------------------------

    async def get_metadata(self, request: Request) -> Response:
        _, machine = self._machine(request, "get metadata")
        return JSONResponse(machine.config.get("metadata") or {})

    async def get_metadata_value(self, request: Request) -> Response:
        _, machine = self._machine(request, "get metadata")
        value = (machine.config.get("metadata") or {}).get(request.path_params["key"])
        if value is None:
            raise Refusal(404, "metadata key not found")
        return JSONResponse({"value": value})

    async def set_metadata_value(self, request: Request) -> Response:
        _, machine = self._leased(request, "set metadata")
        value = (await json_object(request)).get("value")
        if not isinstance(value, str):
            raise Refusal(400, "invalid request: value is required")
        self._change_metadata(machine, (machine.config.get("metadata") or {}) | {request.path_params["key"]: value})
        return Response(status_code=204)

    async def delete_metadata_value(self, request: Request) -> Response:
        _, machine = self._leased(request, "delete metadata")
        metadata = dict(machine.config.get("metadata") or {})
        metadata.pop(request.path_params["key"], None)
        self._change_metadata(machine, metadata)
        return Response(status_code=204)

    def _change_metadata(self, machine: Machine, metadata: dict[str, str]) -> None:
        """Change the metadata; neither a restart nor a new version (fly.md 2.1)."""
        config = machines.seal(self._world, machine.config | {"metadata": metadata})
        machines.change(self._world, machine.id, config=config)

    # -- leases -------------------------------------------------------------------------------------------------------

    async def acquire_lease(self, request: Request) -> Response:
        """POST .../lease: takes it, or extends it with its nonce; a nonce whose lease is over takes a new one."""
        _, machine = self._machine(request, "lease")
        body = await json_object(request)
        ttl = request.query_params.get("ttl") or body.get("ttl")
        lease = machines.acquire_lease(
            self._world,
            machine,
            owner=self._owner(request),
            nonce=request.headers.get(NONCE_HEADER),
            seconds=_integer(ttl, "ttl") or DEFAULT_LEASE,
            description=str(body.get("description") or ""),
        )
        return JSONResponse(_lease_json(lease), 201)

    async def show_lease(self, request: Request) -> Response:
        _, machine = self._machine(request, "get lease")
        lease = machines.lease(self._world, machine.id)
        if lease is None:
            raise Refusal(404, "lease not found")
        return JSONResponse(_lease_json(lease))

    async def release_lease(self, request: Request) -> Response:
        """DELETE .../lease: 404 without a lease, 409 with another's."""
        _, machine = self._leased(request, "release lease")
        if machines.lease(self._world, machine.id) is None:
            raise Refusal(404, "lease not found")
        machines.release_lease(self._world, machine.id)
        return JSONResponse({"ok": True})


class _Tokens:
    """Token introspection (fly.md 3.4)."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def current(self, request: Request) -> Response:
        caller = tokens.principal(self._world, request)
        found = []
        for credential in caller.credentials:
            organization = apps.organization(self._world, slug=credential.scope["organization"])
            app = credential.scope["app"]
            found.append(
                {
                    "token_id": credential.identifier,
                    "org_slug": credential.scope["organization"],
                    "organization": organization.name if organization else "",
                    "apps": ["*"] if app is None else [app],
                    "user": credential.scope["user"] if credential.scope["profile"] == "user" else "",
                }
            )
        return JSONResponse({"tokens": found})

    async def authenticate(self, request: Request) -> Response:
        """POST /v1/tokens/authenticate: 200 for tokens that are accepted, else 400; caveats are not modelled."""
        header = str((await json_object(request)).get("header") or "")
        if tokens.authenticate(self._world, header) is None:
            raise Refusal(400, "token validation error")
        return JSONResponse([{"header": header, "caveats": []}])

    async def authorize(self, request: Request) -> Response:
        """POST /v1/tokens/authorize: 200 if the tokens reach `access.app_name`; else 400 (status not established)."""
        body = await json_object(request)
        caller = tokens.authenticate(self._world, str(body.get("header") or ""))
        name = (body.get("access") or {}).get("app_name")
        app = apps.find(self._world, name=name)
        if caller is None or (name and (app is None or not caller.reaches(app))):
            raise Refusal(400, "unauthorized")
        return JSONResponse({})


def _true(value: str | None) -> bool:
    return value is not None and value.lower() in {"1", "true", "yes"}


def _signal(name: Any) -> int:  # noqa: ANN401 - any JSON
    """Read `SIGTERM`, `TERM` or a number. Raises `Refusal` 400."""
    if name in {None, ""}:
        return signal.SIGTERM
    text = str(name).upper()
    if text.isdigit():
        return int(text)
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except KeyError as error:
        raise Refusal(400, f"invalid_argument: unknown signal {name}") from error


def _kill_timeout(value: Any) -> float | None:  # noqa: ANN401 - any JSON: nanoseconds, or a Go duration
    """Return seconds. Raises `Refusal` 400."""
    if value in {None, "", 0, "0"}:
        return None
    if isinstance(value, int | float):
        return value / 1e9
    try:
        return float(value) if str(value).isdigit() else tokens.parse_duration(str(value)).total_seconds()
    except ValueError as error:
        raise Refusal(400, f"invalid_argument: {error}") from error


def routes(world: World) -> list[Route]:
    """Return the API's routes."""
    app, machine, token = _Apps(world), _Machines(world), _Tokens(world)
    of_app = "/v1/apps/{app}"
    of_machine = of_app + "/machines/{machine}"
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/v1/apps", app.list_apps),
        ("GET", of_app, app.get_app),
        ("GET", of_app + "/ip_assignments", app.ip_assignments),
        ("POST", of_app + "/deploy_token", app.deploy_token),
        ("GET", of_app + "/secrets", app.list_secrets),
        ("POST", of_app + "/secrets", app.update_secrets),
        ("GET", of_app + "/secrets/{name}", app.get_secret),
        ("POST", of_app + "/secrets/{name}", app.set_secret),
        ("DELETE", of_app + "/secrets/{name}", app.delete_secret),
        ("GET", of_app + "/machines", machine.list_machines),
        ("POST", of_app + "/machines", machine.create_machine),
        ("GET", of_machine, machine.get_machine),
        ("POST", of_machine, machine.update_machine),
        ("DELETE", of_machine, machine.destroy_machine),
        ("POST", of_machine + "/start", machine.start_machine),
        ("POST", of_machine + "/stop", machine.stop_machine),
        ("POST", of_machine + "/restart", machine.restart_machine),
        ("POST", of_machine + "/signal", machine.signal_machine),
        ("GET", of_machine + "/wait", machine.wait),
        ("GET", of_machine + "/events", machine.events),
        ("GET", of_machine + "/versions", machine.versions),
        ("GET", of_machine + "/ps", machine.processes),
        ("POST", of_machine + "/cordon", machine.cordon),
        ("POST", of_machine + "/uncordon", machine.uncordon),
        ("GET", of_machine + "/metadata", machine.get_metadata),
        ("GET", of_machine + "/metadata/{key}", machine.get_metadata_value),
        ("POST", of_machine + "/metadata/{key}", machine.set_metadata_value),
        ("DELETE", of_machine + "/metadata/{key}", machine.delete_metadata_value),
        ("POST", of_machine + "/lease", machine.acquire_lease),
        ("GET", of_machine + "/lease", machine.show_lease),
        ("DELETE", of_machine + "/lease", machine.release_lease),
        ("GET", "/v1/tokens/current", token.current),
        ("POST", "/v1/tokens/authenticate", token.authenticate),
        ("POST", "/v1/tokens/authorize", token.authorize),
    ]
    return [Route(path, handler, methods=[method]) for method, path, handler in table]
