"""A client of the GitHub API for verification: repositories, secrets' metadata, workflow runs. No Pulumi here.

Source: GitHub's REST API description, "Actions". The secrets themselves are written by pulumi-github.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from components.answers import reads_answers
from components.clock import utc_now
from components.http import ONCE, REPEATABLE, Api, ApiError, Failure, failure_with, pages, part
from components.operator_credentials import endpoint

PAGE = 100
FINISHED = "completed"


def _explain(body: object) -> str:
    return str(body.get("message", "")) if isinstance(body, dict) else ""


def _failure(response: httpx.Response) -> Failure | None:
    """GitHub answers 403 as well as 429 over its rate limits (REST API documentation, "Rate limits")."""
    failure = failure_with(_explain)(response)
    if failure is None or failure.status != httpx.codes.FORBIDDEN:
        return failure
    if "retry-after" in response.headers:
        return Failure(status=httpx.codes.TOO_MANY_REQUESTS, reason=failure.reason)
    if response.headers.get("x-ratelimit-remaining") == "0":
        reset = float(response.headers.get("x-ratelimit-reset", 0))
        return Failure(
            status=httpx.codes.TOO_MANY_REQUESTS,
            reason=failure.reason,
            retry_after=max(0.0, reset - utc_now().timestamp()),
        )
    return failure


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """One run of a workflow.

    Attributes:
        run_id: GitHub's id.
        status: queued, in_progress, completed, …
        conclusion: success, failure, … once completed, else "".
        created_at: When it was queued.
        url: For people.
    """

    run_id: int
    status: str
    conclusion: str
    created_at: datetime
    url: str

    @property
    def finished(self) -> bool:
        """Whether it has come to a conclusion."""
        return self.status == FINISHED


def _run(body: Mapping[str, Any]) -> WorkflowRun:
    return WorkflowRun(
        run_id=int(body["id"]),
        status=body.get("status") or "",
        conclusion=body.get("conclusion") or "",
        created_at=datetime.fromisoformat(body["created_at"]),
        url=body.get("html_url") or "",
    )


@dataclass(frozen=True, kw_only=True)
class SecretMetadata:
    """What GitHub shows of a secret.

    Attributes:
        updated_at: When it was last written, in whole seconds of GitHub's clock.
        visibility: Of an organization's secret; "" for others.
    """

    updated_at: datetime
    visibility: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A deployment environment.

    Attributes:
        waits_for_people: Whether a job that declares it starts only once somebody has approved.
    """

    waits_for_people: bool


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository.

    Attributes:
        repository_id: GitHub's id.
        private: Whether it is private, or internal.
        of_organization: Whether its owner is an organization, and no user.
    """

    repository_id: int
    private: bool
    of_organization: bool


@reads_answers
@dataclass(frozen=True)
class GitHubClient:
    """Calls GitHub with one token.

    Attributes:
        token: The token.
        base_url: Where the API is; "" follows `GITHUB_BASE_URL`, the variable that pulumi-github reads.
    """

    token: str = field(repr=False)
    base_url: str = ""

    def _call(self, method: str, path: str, *, operation: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - Api.call's own
        api = Api(
            system="GitHub",
            base_url=self.base_url or endpoint("GITHUB_BASE_URL", "https://api.github.com"),
            headers={
                "authorization": f"Bearer {self.token}",
                "accept": "application/vnd.github+json",
                "x-github-api-version": "2022-11-28",
            },
            secrets=[self.token],
            judge=_failure,
            request_id_header="x-github-request-id",
        )
        return api.call(method, path, operation=operation, **options)

    def can_push(self, repository: str) -> bool | None:
        """Whether the token may push to the repository (`owner/name`); None where it cannot see it.

        Raises:
            ApiError: GitHub refused the token, or did not answer.
        """
        try:
            body = self._call(
                "GET",
                f"/repos/{repository_path(repository)}",
                operation=f"read repository {repository}",
                policy=REPEATABLE,
            ).json()
        except ApiError as error:
            # GitHub answers 404 for "no access" as well.
            if error.status in {403, 404}:
                return None
            raise
        permissions = body.get("permissions") or {}
        return bool(permissions.get("push") or permissions.get("admin"))

    def may_see_secrets(self, secrets_path: str) -> bool:
        """Whether the token may see the secrets of a place (`GitHubSecret.secrets_path`): who may not, may not write one either."""
        return self._may_read(f"{secrets_path}/public-key", what=f"the key for secrets at {secrets_path}")

    def secret(self, secrets_path: str, name: str) -> SecretMetadata | None:
        """What GitHub shows of a secret, None where there is none, or the token may not see it. The value cannot be read.

        Args:
            secrets_path: Of a `GitHubSecret`.
            name: Of the secret.

        Raises:
            ApiError: GitHub refused the token, or did not answer.
        """
        operation = f"read the metadata of secret {name} at {secrets_path}"
        body = self._find(f"{secrets_path}/{part(name)}", operation=operation)
        return None if body is None else _metadata(body)

    def secrets(self, secrets_path: str) -> dict[str, SecretMetadata] | None:
        """What GitHub shows of all secrets of a place, by name; None where there is no such place, or the token may not see them.

        Raises:
            ApiError: GitHub refused the token, or did not answer.
        """
        try:
            found = self._all_of(secrets_path, "secrets", operation=f"list the secrets at {secrets_path}")
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return {str(each["name"]): _metadata(each) for each in found}

    def selected_repositories(self, secrets_path: str, name: str) -> list[int]:
        """The ids of the repositories that may read an organization's secret of visibility `selected`, in order."""
        path = f"{secrets_path}/{part(name)}/repositories"
        operation = f"list the repositories that may read secret {name}"
        return sorted(int(each["id"]) for each in self._all_of(path, "repositories", operation=operation))

    def organization_secrets(self, repository: str) -> list[str]:
        """The names of the organization's Actions secrets that a repository (`owner/name`) may read."""
        path = f"/repos/{repository_path(repository)}/actions/organization-secrets"
        return [
            str(each["name"])
            for each in self._all_of(path, "secrets", operation=f"list the organization's secrets for {repository}")
        ]

    def environments(self, repository: str) -> list[str]:
        """The names of the deployment environments of a repository (`owner/name`)."""
        path = f"/repos/{repository_path(repository)}/environments"
        return [
            str(each["name"])
            for each in self._all_of(path, "environments", operation=f"list the environments of {repository}")
        ]

    def environment(self, environment_path: str) -> Environment | None:
        """A deployment environment (`EnvironmentSecret.environment_path`); None where there is none that the token can see."""
        body = self._find(environment_path, operation=f"read {environment_path}")
        if body is None:
            return None
        rules = {str(each.get("type")) for each in body.get("protection_rules") or ()}
        return Environment(waits_for_people="required_reviewers" in rules)

    def repository(self, repository: str) -> Repository | None:
        """A repository (`owner/name`); None where there is none that the token can see."""
        body = self._find(f"/repos/{repository_path(repository)}", operation=f"read repository {repository}")
        if body is None:
            return None
        return Repository(
            repository_id=int(body["id"]),
            private=bool(body.get("private")),
            of_organization=(body.get("owner") or {}).get("type") == "Organization",
        )

    def _find(self, path: str, *, operation: str) -> Mapping[str, Any] | None:
        """What is at a path; None where GitHub says 404: there is nothing, or nothing that the token may see."""
        try:
            body: Mapping[str, Any] = self._call("GET", path, operation=operation, policy=REPEATABLE).json()
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return body

    def _all_of(self, path: str, key: str, *, operation: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        count = pages()
        while True:
            page = next(count)
            parameters = {"per_page": PAGE, "page": page}
            body = self._call("GET", path, operation=operation, parameters=parameters, policy=REPEATABLE).json()
            found.extend(body[key])
            if len(body[key]) < PAGE:
                break
        return found

    def has_workflow(self, repository: str, workflow: str) -> bool:
        """Whether there is a workflow of that file name, and the token may see it."""
        return self._may_read(
            f"/repos/{repository_path(repository)}/actions/workflows/{part(workflow)}", what=f"workflow {workflow}"
        )

    def _may_read(self, path: str, *, what: str) -> bool:
        try:
            self._call("GET", path, operation=f"read {what}", policy=REPEATABLE)
        except ApiError as error:
            # GitHub answers 404 for "no access" as well. 403 is a limit of requests, too: that one is transient, and says so.
            if error.status == httpx.codes.NOT_FOUND or (
                error.status == httpx.codes.FORBIDDEN and error.retry_after is None
            ):
                return False
            raise
        return True

    def default_branch(self, repository: str) -> str:
        """The repository's default branch."""
        body = self._call(
            "GET", f"/repos/{repository_path(repository)}", operation=f"read repository {repository}", policy=REPEATABLE
        ).json()
        return str(body["default_branch"])

    def delete_secret(self, secrets_path: str, name: str) -> None:
        """Deletes a secret of a place (`GitHubSecret.secrets_path`). One that is not there is no error."""
        try:
            self._call(
                "DELETE",
                f"{secrets_path}/{part(name)}",
                operation=f"delete secret {name} at {secrets_path}",
                policy=REPEATABLE,
            )
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def dispatch(self, repository: str, workflow: str, *, ref: str) -> int | None:
        """Starts a workflow run and returns its id, or None where this GitHub does not say it.

        GitHub answers with the run since 2026-02 when asked to; GitHub Enterprise Server up to 3.20 refuses the field with 400.
        """
        path = f"/repos/{repository_path(repository)}/actions/workflows/{part(workflow)}/dispatches"
        operation = f"start workflow {workflow} of {repository}"
        try:
            response = self._call(
                "POST", path, operation=operation, json={"ref": ref, "return_run_details": True}, policy=ONCE
            )
        except ApiError as error:
            if error.status != httpx.codes.BAD_REQUEST:
                raise
            response = self._call("POST", path, operation=operation, json={"ref": ref}, policy=ONCE)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        return int(response.json()["workflow_run_id"])

    def run(self, repository: str, run_id: int) -> WorkflowRun:
        """One run."""
        path = f"/repos/{repository_path(repository)}/actions/runs/{run_id}"
        return _run(self._call("GET", path, operation=f"read workflow run {run_id}", policy=REPEATABLE).json())

    def dispatched_runs(self, repository: str, workflow: str) -> list[WorkflowRun]:
        """The newest runs of a workflow that were dispatched, newest first, one page."""
        body = self._call(
            "GET",
            f"/repos/{repository_path(repository)}/actions/workflows/{part(workflow)}/runs",
            operation=f"list the runs of workflow {workflow}",
            parameters={"event": "workflow_dispatch", "per_page": PAGE},
            policy=REPEATABLE,
        ).json()
        return [_run(each) for each in body["workflow_runs"]]

    def unfinished_runs(self, repository: str) -> list[WorkflowRun]:
        """All runs of the repository that are not completed, whatever workflow.

        Statuses are asked for in the order in which a run passes through them, so that one that moves on meanwhile is not missed. One
        that waits for an approval between two jobs moves back: whoever relies on there being none has to ask twice.
        """
        runs: dict[int, WorkflowRun] = {}
        for status in ("requested", "pending", "waiting", "queued", "in_progress"):
            count = pages()
            while True:
                page = next(count)
                body = self._call(
                    "GET",
                    f"/repos/{repository_path(repository)}/actions/runs",
                    operation=f"list the unfinished runs of {repository}",
                    parameters={"status": status, "per_page": PAGE, "page": page},
                    policy=REPEATABLE,
                ).json()
                runs |= {each["id"]: _run(each) for each in body["workflow_runs"]}
                if len(body["workflow_runs"]) < PAGE:
                    break
        return sorted(runs.values(), key=lambda run: run.run_id)


def _metadata(body: Mapping[str, Any]) -> SecretMetadata:
    return SecretMetadata(
        updated_at=datetime.fromisoformat(body["updated_at"]), visibility=body.get("visibility") or ""
    )


def repository_path(repository: str) -> str:
    """`owner/name` as two parts of a path."""
    owner, slash, name = repository.partition("/")
    return f"{part(owner)}/{part(name)}" if slash else part(repository)
