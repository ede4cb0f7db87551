"""A client of the Fly APIs that a rotation needs. No Pulumi here.

Sources: Fly's Machines API (OpenAPI document), the GraphQL schema of fly-go, and what flyctl does with both. What is not documented is
marked "not established"; nothing here depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from components.answers import reads_answers
from components.clock import utc_now
from components.http import ONCE, REPEATABLE, Api, ApiError, Failure, RetryPolicy, failure_with, json_body, pages, part
from components.keyring import Issued, Minted, is_live
from components.operator_credentials import endpoint
from components.rate_limit import Limit, take_turn

MACAROON_PREFIXES = ("fm1r_", "fm1a_", "fm2_")
SCHEMES = {"bearer", "flyv1"}
LOG_PAGES = 50
CONFIGURING_EVENTS = frozenset({"launch", "update"})
DELETED_STATES = frozenset({"destroyed", "destroying"})
# "Working with the Machines API", "Rate limits": for each action and machine; where there is no machine, for each action and app.
LIMIT = Limit(rate=1, burst=3)
GET_MACHINE = "get machine"
LIMITS = {GET_MACHINE: Limit(rate=5, burst=10)}


def token_parts(token: str) -> tuple[list[str], list[str]]:
    """Splits a token into macaroons and others, as fly-go does (tokens/tokens.go): schemes in front are dropped, commas separate."""
    words = token.split()
    while words and words[0].lower() in SCHEMES:
        words = words[1:]
    parts = [part for part in "".join(words).split(",") if part]
    macaroons = [part for part in parts if part.startswith(MACAROON_PREFIXES)]
    return macaroons, [part for part in parts if part not in macaroons]


def machines_authorization(token: str) -> str:
    """The Authorization header of the Machines API: macaroons alone where there are any."""
    macaroons, others = token_parts(token)
    return f"FlyV1 {','.join(macaroons)}" if macaroons else f"Bearer {','.join(others)}"


def graphql_authorization(token: str) -> str:
    """The Authorization header of the GraphQL API: macaroons and others together."""
    macaroons, others = token_parts(token)
    return f"FlyV1 {','.join([*macaroons, *others])}" if macaroons else f"Bearer {','.join(others)}"


def platform_authorization(token: str) -> str:
    """The Authorization header of the releases API: always Bearer."""
    macaroons, others = token_parts(token)
    return f"Bearer {','.join([*macaroons, *others])}"


def machines_api() -> str:
    """The base URL of the Machines API."""
    return endpoint("FLY_FLAPS_BASE_URL", "https://api.machines.dev") + "/v1"


@dataclass(frozen=True, kw_only=True)
class MachineCheck:
    """One health check's newest result."""

    name: str
    status: str
    updated_at: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as Fly describes it.

    Attributes:
        machine_id: Fly's id.
        state: created, started, stopped, suspended, failed, …
        instance_id: The version of its configuration; changes with every update.
        region: Where it runs.
        host_status: ok, unknown or unreachable. Its configuration is complete only when ok.
        config: The whole configuration, to be sent back unchanged.
        checks: The newest results of its health checks.
        events: Newest first.
        updated_at: RFC 3339.
    """

    machine_id: str
    state: str
    instance_id: str
    region: str
    host_status: str
    config: Mapping[str, Any] = field(repr=False)
    checks: tuple[MachineCheck, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    updated_at: str = ""

    @property
    def configured_at(self) -> datetime | None:
        """When it was created or updated last, None where its events do not say. Since then it boots with the secrets of that moment.

        Not `updated_at`: that also moves when its state or the result of a check changes. And a mere restart is not enough: "existing
        machines must be updated to pick up newer secrets" (Fly, "Apps resource").
        """
        moments = [event["timestamp"] for event in self.events if event.get("type") in CONFIGURING_EVENTS]
        return datetime.fromtimestamp(max(moments) / 1000, UTC) if moments else None

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the configuration."""
        return self.config.get("metadata") or {}

    @property
    def has_checks(self) -> bool:
        """Whether the configuration has health checks, at the top or in a service."""
        return bool(self.config.get("checks")) or any(
            service.get("checks") for service in self.config.get("services") or []
        )


def _machine(body: Mapping[str, Any]) -> Machine:
    machine = Machine(
        machine_id=body["id"],
        state=body["state"],
        instance_id=body.get("instance_id", ""),
        region=body.get("region", ""),
        host_status=body.get("host_status") or "ok",
        config=body.get("config") or {},
        # Synthetic checks of a deployment say nothing about the machine (flyctl drops them too).
        checks=tuple(
            MachineCheck(
                name=check.get("name", ""), status=check.get("status", ""), updated_at=check.get("updated_at") or ""
            )
            for check in body.get("checks") or []
            if not check.get("name", "").startswith("bg_deployments_compat")
        ),
        events=tuple(body.get("events") or []),
        updated_at=body.get("updated_at") or "",
    )
    # What is derived from the answer fails here if it fails at all, where that is an error of Fly's answer.
    _ = machine.configured_at, machine.metadata, machine.has_checks
    return machine


@dataclass(frozen=True, kw_only=True)
class AppSecret:
    """A secret of an app as Fly lists it: the value cannot be read.

    Attributes:
        digest: Opaque. How it is made is not documented, so it is only ever compared with an earlier answer.
        updated_at: RFC 3339, "" where Fly does not say.
    """

    name: str
    digest: str
    updated_at: str


@dataclass(frozen=True, kw_only=True)
class WrittenSecrets:
    """The answer to a write of secrets.

    Attributes:
        version: The app's secrets version; machines that must see this write are updated with it as `min_secrets_version`.
        digests: Of every secret of the app.
    """

    version: int
    digests: Mapping[str, str]


def _explain(body: object) -> str:
    if not isinstance(body, dict):
        return ""
    return str(body.get("message") or body.get("error") or "")


# What REST would answer for the codes that flyctl knows (superfly/graphql).
GRAPHQL_STATUSES = {
    "UNAUTHORIZED": 401,
    "NOT_FOUND": 404,
    "SERVER_ERROR": 500,
    "INTERNAL_SERVER_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "MAINTENANCE": 503,
}


def _graphql_failure(response: httpx.Response) -> Failure | None:
    """GraphQL answers 200 whatever happened: the failure is in the body."""
    body = json_body(response)
    errors = body.get("errors") if isinstance(body, dict) else None
    if not errors:
        return failure_with(_explain)(response)
    code = (errors[0].get("extensions") or {}).get("code", "")
    message = str(errors[0].get("message", ""))
    # The text is what flyctl's users see; the code is missing in some recorded answers.
    fallback = 401 if "must be authenticated" in message else 422
    return Failure(status=GRAPHQL_STATUSES.get(code, fallback), reason=message or code)


@reads_answers
@dataclass(frozen=True)
class FlyClient:
    """Calls Fly with one token. The bases follow the variables that flyctl reads."""

    token: str = field(repr=False)
    system: str = "Fly"

    def _machines(self, action: str, subject: str) -> Api:
        """The Machines API for one action on `subject`: a machine's id, or an app where the action is not one on a machine."""
        base_url = machines_api()
        return Api(
            system=self.system,
            base_url=base_url,
            take_turn=partial(take_turn, base_url, f"{action} {subject}", LIMITS.get(action, LIMIT)),
            headers={"authorization": machines_authorization(self.token)},
            secrets=[self.token],
            judge=failure_with(_explain),
            request_id_header="fly-request-id",
        )

    def _platform(self) -> Api:
        default = endpoint("FLY_API_BASE_URL", "https://api.fly.io")
        return Api(
            system=self.system,
            base_url=endpoint("FLY_UIEX_BASE_URL", default) + "/api/v1",
            headers={"authorization": platform_authorization(self.token)},
            secrets=[self.token],
            judge=failure_with(_explain),
            request_id_header="fly-request-id",
        )

    # Apps and secrets

    def app_exists(self, app: str) -> bool:
        """Whether the token can see the app.

        Raises:
            ApiError: Fly refused the token, or did not answer.
        """
        try:
            self._machines("get app", app).call(
                "GET", f"/apps/{part(app)}", operation=f"look up app {app}", policy=REPEATABLE
            )
        except ApiError as error:
            if error.status in {403, 404}:
                return False
            raise
        return True

    def list_secrets(self, app: str) -> dict[str, AppSecret]:
        """The app's secrets by name, without their values."""
        body = (
            self._machines("list secrets", app)
            .call("GET", f"/apps/{part(app)}/secrets", operation=f"list the secrets of app {app}", policy=REPEATABLE)
            .json()
        )
        return {
            each["name"]: AppSecret(
                name=each["name"], digest=each.get("digest", ""), updated_at=each.get("updated_at") or ""
            )
            for each in body.get("secrets") or []
        }

    def write_secrets(self, app: str, values: Mapping[str, str | None]) -> WrittenSecrets:
        """Sets secrets (and unsets those whose value is None) in one write; machines keep what they booted with.

        Repeated on transient errors, and on 409 (another write of the app's secrets is under way): the same write twice only raises
        the version.
        """
        body = (
            self._machines("update secrets", app)
            .call(
                "POST",
                f"/apps/{part(app)}/secrets",
                operation=f"write the secrets {', '.join(sorted(values))} of app {app}",
                json={"values": dict(values)},
                policy=RetryPolicy(also=frozenset({409})),
                secrets=[value for value in values.values() if value],
            )
            .json()
        )
        return WrittenSecrets(
            # Older answers spell it with a capital (fly-go, flaps/secrets_types.go).
            version=int(body.get("version") or body["Version"]),
            digests={each["name"]: each.get("digest", "") for each in body.get("secrets") or []},
        )

    # Machines

    def list_machines(self, app: str) -> list[Machine]:
        """The app's machines, less destroyed ones, sorted by id."""
        body = (
            self._machines("list machines", app)
            .call("GET", f"/apps/{part(app)}/machines", operation=f"list the machines of app {app}", policy=REPEATABLE)
            .json()
        )
        machines = [_machine(each) for each in body]
        return sorted((each for each in machines if each.state not in DELETED_STATES), key=lambda each: each.machine_id)

    def get_machine(self, app: str, machine_id: str) -> Machine:
        """One machine."""
        path = f"/apps/{part(app)}/machines/{part(machine_id)}"
        return _machine(
            self._machines(GET_MACHINE, machine_id)
            .call("GET", path, operation=f"read machine {machine_id}", policy=REPEATABLE)
            .json()
        )

    def acquire_lease(self, app: str, machine_id: str, *, seconds: int, description: str) -> str:
        """Takes the machine's lease and returns its nonce.

        Args:
            app: The machine's app.
            machine_id: The machine.
            seconds: After which Fly gives the lease up by itself.
            description: Shown to whoever finds the lease held.

        Raises:
            ApiError: With status 409 where somebody else holds it.
        """
        body = (
            self._machines("lease", machine_id)
            .call(
                "POST",
                f"/apps/{part(app)}/machines/{part(machine_id)}/lease",
                operation=f"take the lease of machine {machine_id}",
                parameters={"ttl": seconds},
                json={"ttl": seconds, "description": description},
                policy=ONCE,
            )
            .json()
        )
        return str(body["data"]["nonce"])

    def refresh_lease(self, app: str, machine_id: str, nonce: str, *, seconds: int) -> None:
        """Keeps a lease for `seconds` more."""
        self._machines("lease", machine_id).call(
            "POST",
            f"/apps/{part(app)}/machines/{part(machine_id)}/lease",
            operation=f"refresh the lease of machine {machine_id}",
            parameters={"ttl": seconds},
            headers={"fly-machine-lease-nonce": nonce},
            policy=REPEATABLE,
        )

    def release_lease(self, app: str, machine_id: str, nonce: str) -> None:
        """Gives a lease back."""
        self._machines("release lease", machine_id).call(
            "DELETE",
            f"/apps/{part(app)}/machines/{part(machine_id)}/lease",
            operation=f"release the lease of machine {machine_id}",
            headers={"fly-machine-lease-nonce": nonce},
            policy=REPEATABLE,
        )

    def update_machine(
        self,
        app: str,
        machine: Machine,
        *,
        config: Mapping[str, Any],
        nonce: str,
        min_secrets_version: int,
        skip_launch: bool,
    ) -> Machine:
        """Replaces the machine's configuration, which restarts it with the app's secrets of at least `min_secrets_version`.

        Not repeatable: every call is a restart. `current_version` makes Fly refuse (409) if the machine has changed meanwhile.
        """
        body = {
            "config": dict(config),
            "region": machine.region,
            "skip_launch": skip_launch,
            "skip_secrets": False,
            "min_secrets_version": min_secrets_version,
            "current_version": machine.instance_id,
        }
        response = self._machines("update machine", machine.machine_id).call(
            "POST",
            f"/apps/{part(app)}/machines/{part(machine.machine_id)}",
            operation=f"update machine {machine.machine_id}",
            json=body,
            headers={"fly-machine-lease-nonce": nonce},
            policy=ONCE,
            # Fly may quote what it was sent, and the environment of a tenant's machine holds secrets.
            secrets=[str(value) for value in (config.get("env") or {}).values()],
        )
        return _machine(response.json())

    def wait_until_started(self, app: str, machine_id: str, *, instance_id: str, seconds: int) -> bool:
        """Waits up to `seconds` (1 to 60) for the machine to run that version; False where it does not yet."""
        try:
            self._machines("wait", machine_id).call(
                "GET",
                f"/apps/{part(app)}/machines/{part(machine_id)}/wait",
                operation=f"wait for machine {machine_id}",
                parameters={"state": "started", "timeout": max(1, min(60, seconds)), "version": instance_id},
                policy=RetryPolicy(attempts=1),
            )
        except ApiError as error:
            if error.transient:
                return False
            raise
        return True

    # Logs

    def log_lines_since(self, app: str, moment: datetime) -> list[str]:
        """The app's log lines that are younger than `moment`, as far as Fly still has them."""
        lines: list[str] = []
        token = ""
        for _page in range(LOG_PAGES):
            body = (
                self._platform()
                .call(
                    "GET",
                    f"/apps/{part(app)}/logs",
                    operation=f"read the logs of app {app}",
                    parameters={"next_token": token} if token else None,
                    policy=REPEATABLE,
                )
                .json()
            )
            entries = [each["attributes"] for each in body.get("data") or []]
            lines.extend(
                each.get("message", "") for each in entries if datetime.fromisoformat(each["timestamp"]) >= moment
            )
            following = (body.get("meta") or {}).get("next_token") or ""
            if not entries or not following or following == token:
                break
            token = following
        return lines

    # Releases: optional for correctness, but `flyctl secrets list` calls secrets staged that no release covers.

    def create_release(self, app: str) -> tuple[str, int]:
        """Records a release with the app's present configuration and image, as running. Returns its id and version.

        The definition is copied from the present release: flyctl reads it back when it restarts the app the next time.
        """
        current = (
            self._graphql(
                "query($name: String!) { app(name: $name) { currentReleaseUnprocessed { configDefinition imageRef } } }",
                {"name": app},
                operation=f"read the present release of app {app}",
                policy=REPEATABLE,
            )["app"]["currentReleaseUnprocessed"]
            or {}
        )
        release = (
            self._platform()
            .call(
                "POST",
                "/releases",
                operation=f"record a release of app {app}",
                json={
                    "app_name": app,
                    "build_id": 0,
                    "definition": current.get("configDefinition") or {},
                    "image": current.get("imageRef") or "",
                    "strategy": "ROLLING",
                },
            )
            .json()["release"]
        )
        self.finish_release(str(release["id"]), "running")
        return str(release["id"]), int(release["version"])

    def finish_release(self, release_id: str, status: str) -> None:
        """Sets a release's status: running, complete, failed or interrupted."""
        self._platform().call(
            "PATCH",
            f"/releases/{part(release_id)}",
            operation=f"mark release {release_id} as {status}",
            json={"status": status, "metadata": None},
            policy=REPEATABLE,
        )

    # Tokens

    def _graphql(
        self, query: str, variables: Mapping[str, object], *, operation: str, policy: RetryPolicy
    ) -> dict[str, Any]:
        api = Api(
            system=self.system,
            base_url=endpoint("FLY_API_BASE_URL", "https://api.fly.io"),
            headers={"authorization": graphql_authorization(self.token)},
            secrets=[self.token],
            judge=_graphql_failure,
            request_id_header="fly-request-id",
        )
        body = {"query": query, "variables": variables}
        data: dict[str, Any] = api.call("POST", "/graphql", operation=operation, json=body, policy=policy).json()[
            "data"
        ]
        return data

    def create_token(self, *, app: str, name: str, profile: str, expiry: str) -> Minted:
        """Mints a token. Not repeatable: every success is one more live token.

        Args:
            app: The app that a token of profile `deploy` is for, and whose organization a token of another profile is for.
            name: Remote name.
            profile: `deploy` (one app) or `deploy_organization`.
            expiry: A Go duration, for example "8760h0m0s".
        """
        looked_up = self._graphql(
            "query($name: String!) { app(name: $name) { id organization { id slug } } }",
            {"name": app},
            operation=f"look up app {app}",
            policy=REPEATABLE,
        )["app"]
        data = self._graphql(
            """mutation CreateLimitedAccessToken($input: CreateLimitedAccessTokenInput!) {
                 createLimitedAccessToken(input: $input) { limitedAccessToken { id tokenHeader createdAt } }
               }""",
            {
                "input": {
                    "name": name,
                    "organizationId": looked_up["organization"]["id"],
                    "profile": profile,
                    "profileParams": {"app_id": looked_up["id"]} if profile == "deploy" else {},
                    "expiry": expiry,
                }
            },
            operation=f"mint token {name}",
            policy=ONCE,
        )
        token = data["createLimitedAccessToken"]["limitedAccessToken"]
        return Minted(credential_id=token["id"], value=token["tokenHeader"], created_at=token["createdAt"])

    def list_tokens(self, *, app: str, profile: str) -> list[Issued]:
        """The tokens of the app (profile `deploy`) or of its organization, revoked ones too.

        Never asks for the field `token`: with it, the answer would carry secrets.
        """
        connection = "limitedAccessTokens(after: $after) { nodes { id name createdAt revokedAt expiresAt } pageInfo { hasNextPage endCursor } }"
        fields = connection if profile == "deploy" else f"organization {{ {connection} }}"
        tokens: list[Issued] = []
        after: str | None = None
        count = pages()
        while True:
            next(count)
            owner = self._graphql(
                f"query($name: String!, $after: String) {{ app(name: $name) {{ {fields} }} }}",
                {"name": app, "after": after},
                operation=f"list the tokens of app {app}",
                policy=REPEATABLE,
            )["app"]
            page = (owner if profile == "deploy" else owner["organization"])["limitedAccessTokens"]
            now = utc_now()
            tokens.extend(
                Issued(
                    credential_id=node["id"],
                    name=node["name"],
                    live=is_live(revoked_at=node["revokedAt"], expires_at=node["expiresAt"], now=now),
                    created_at=node["createdAt"],
                )
                for node in page["nodes"] or []
            )
            if not page["pageInfo"]["hasNextPage"]:
                return tokens
            after = page["pageInfo"]["endCursor"]

    def revoke_token(self, token_id: str) -> None:
        """Revokes a token. Repeating it is harmless: Fly reports success again."""
        self._graphql(
            """mutation($input: DeleteLimitedAccessTokenInput!) {
                 deleteLimitedAccessToken(input: $input) { clientMutationId }
               }""",
            {"input": {"id": token_id}},
            operation=f"revoke token {token_id}",
            policy=REPEATABLE,
        )
