"""Workflows, their runs and jobs.

Sources: GitHub's OpenAPI description (``actions/*-workflow*``, ``actions/*-job*``); GitHub changelog of 2026-02-19 for
``return_run_details``; messages of refusals as recorded in public issue threads.
"""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from starlette.responses import PlainTextResponse, Response

from sandbox.github import settings, shapes, store
from sandbox.github.runs import Runs
from sandbox.github.wire import (
    API_VERSIONS,
    Access,
    Call,
    Endpoint,
    GitHubError,
    Json,
    answer,
    empty,
    not_found,
    unprocessable,
)
from sandbox.world import World

_MOST_INPUTS: Final = 25
_LINK_LIFE: Final = 60.0
_SEARCH_LIMIT: Final = 1000
"""Results of a filtered list, whatever its `total_count` (OpenAPI description of the operation)."""


# --- workflows ------------------------------------------------------------------------------------------------------


def _shown_workflow(call: Call, workflow: store.Workflow) -> Json:
    repository = call.repository
    return {
        "id": workflow.id,
        "node_id": shapes.node_id("Workflow", workflow.id),
        "name": workflow.name,
        "path": workflow.path,
        "state": "active",
        "created_at": workflow.created_at,
        "updated_at": workflow.created_at,
        "url": f"{call.root}/repos/{repository.full_name}/actions/workflows/{workflow.id}",
        "html_url": f"{call.site}/{repository.full_name}/blob/{repository.default_branch}/{workflow.path}",
        "badge_url": f"{call.site}/{repository.full_name}/workflows/{workflow.name}/badge.svg",
    }


def _workflow(call: Call) -> store.Workflow:
    found = store.workflow(call.database, repository=call.repository, id_or_file=call.path("workflow_id"))
    if found is None:
        raise not_found()
    return found


async def _list_workflows(call: Call) -> Response:
    found = store.workflows(call.database, repository=call.repository)
    page, headers = call.paginate(found)
    shown = [_shown_workflow(call, workflow) for workflow in page]
    return answer({"total_count": len(found), "workflows": shown}, headers=headers)


async def _get_workflow(call: Call) -> Response:
    return answer(_shown_workflow(call, _workflow(call)))


async def _dispatch(call: Call) -> Response:
    workflow, body = _workflow(call), await call.json("ref")
    if "return_run_details" in body and call.world.number(settings.OLD_ENTERPRISE_SERVER):
        raise GitHubError(HTTPStatus.BAD_REQUEST, 'Invalid request.\n\n"return_run_details" is not a permitted key.')
    inputs = body.get("inputs") or {}
    if not isinstance(inputs, dict):
        raise unprocessable("Invalid request.\n\nFor 'properties/inputs', this is not an object.")
    if len(inputs) > _MOST_INPUTS:
        raise unprocessable(f"you may only define up to {_MOST_INPUTS} `inputs` for a `workflow_dispatch` event")
    head = store.head(call.database, repository=call.repository, ref=str(body["ref"]))
    if head is None:
        raise unprocessable(f"No ref found for: {body['ref']}")
    if "workflow_dispatch" not in workflow.events:
        raise unprocessable("Workflow does not have 'workflow_dispatch' trigger")
    if inputs:
        # The one workflow there is declares no inputs.
        raise unprocessable(f"Unexpected inputs provided: {sorted(inputs)}")
    branch, commit = head
    run = call.world.component(Runs).dispatch(
        workflow=workflow, event="workflow_dispatch", branch=branch, commit=commit, actor=call.user
    )
    if not body.get("return_run_details") and call.api_version == API_VERSIONS[0]:
        return empty()
    return answer(
        {
            "workflow_run_id": run.id,
            "run_url": f"{call.root}/repos/{call.repository.full_name}/actions/runs/{run.id}",
            "html_url": f"{call.site}/{call.repository.full_name}/actions/runs/{run.id}",
        }
    )


# --- runs -----------------------------------------------------------------------------------------------------------


def _shown_run(call: Call, run: store.Run) -> Json:
    repository = call.repository
    base = f"{call.root}/repos/{repository.full_name}"
    url = f"{base}/actions/runs/{run.id}"
    workflow = store.known_workflow(call.database, run.workflow_id)
    commit = store.commit(call.database, repository=repository, sha=run.sha)
    actor = shapes.account(call, store.known_account(call.database, run.actor_id))
    return {
        "id": run.id,
        "name": workflow.name,
        "node_id": shapes.node_id("WorkflowRun", run.id),
        "check_suite_id": run.id + 1,
        "check_suite_node_id": shapes.node_id("CheckSuite", run.id + 1),
        "head_branch": run.branch,
        "head_sha": run.sha,
        "path": workflow.path,
        "display_title": commit.message if commit and run.event == "push" else workflow.name,
        "run_number": run.number,
        "run_attempt": run.attempt,
        "event": run.event,
        "status": run.status,
        "conclusion": run.conclusion,
        "workflow_id": run.workflow_id,
        "url": url,
        "html_url": f"{call.site}/{repository.full_name}/actions/runs/{run.id}",
        "pull_requests": [],
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "run_started_at": run.started_at,
        "actor": actor,
        "triggering_actor": actor,
        "referenced_workflows": [],
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{base}/check-suites/{run.id + 1}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{run.attempt - 1}" if run.attempt > 1 else None,
        "workflow_url": f"{base}/actions/workflows/{run.workflow_id}",
        "head_commit": shapes.simple_commit(commit) if commit else None,
        "repository": shapes.minimal_repository(call, repository),
        "head_repository": shapes.minimal_repository(call, repository),
    }


@dataclass(frozen=True, kw_only=True)
class Period:
    """A range of times, to the second, both ends included; None is open."""

    first: datetime | None = None
    last: datetime | None = None

    def __contains__(self, moment: datetime) -> bool:
        return (self.first is None or self.first <= moment) and (self.last is None or moment <= self.last)


_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def parse_created(text: str) -> Period:
    """Read GitHub's search syntax for dates ("Understanding the search syntax", "Query for dates").

    ``>=T``, ``>T``, ``<=T``, ``<T``, ``T..T``, ``T..*``, ``*..T`` or ``T``; each ``T`` a date, or a date and time,
    which is UTC without an offset.

    Raises:
        ValueError: It is none of these.
    """
    comparison = re.fullmatch(r"(>=|<=|>|<)?(.+)", text)
    if comparison is None:
        raise ValueError(text)
    sign, rest = comparison.groups()
    if sign is None:
        start, dots, end = rest.partition("..")
        return Period(
            first=None if start == "*" else _moment(start)[0],
            last=None if dots and end == "*" else _moment(end if dots else start)[1],
        )
    first, last = _moment(rest)
    match sign:
        case ">=":
            return Period(first=first)
        case ">":
            return Period(first=last + _SECOND)
        case "<=":
            return Period(last=last)
        case _:
            return Period(last=first - _SECOND)


def _moment(text: str) -> tuple[datetime, datetime]:
    """Return the first and the last second that a date, or a date and time, stands for."""
    # A `+` that a client did not escape arrives as a blank.
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment, moment + _DAY - _SECOND if len(text) == len("2026-01-01") else moment


def _filters(call: Call) -> list[Callable[[store.Run], bool]]:
    """Return what the query demands of a run.

    Raises:
        GitHubError: 422, `created` cannot be read.
    """
    demands: list[Callable[[store.Run], bool]] = []
    if event := call.query("event"):
        demands.append(lambda run: run.event == event)
    if branch := call.query("branch"):
        demands.append(lambda run: run.branch == branch)
    if sha := call.query("head_sha"):
        demands.append(lambda run: run.sha == sha)
    if status := call.query("status"):
        demands.append(lambda run: status in {run.status, run.conclusion})
    if suite := call.query("check_suite_id"):
        demands.append(lambda run: str(run.id + 1) == suite)
    if actor := call.query("actor"):
        account = store.account(call.database, login=actor)
        demands.append(lambda run: account is not None and run.actor_id == account.id)
    if created := call.query("created"):
        try:
            period = parse_created(created)
        except ValueError:
            raise unprocessable("Invalid value for created.") from None
        demands.append(lambda run: datetime.fromisoformat(run.created_at) in period)
    return demands


def _list(call: Call, runs: list[store.Run]) -> Response:
    now = call.world.now().timestamp()
    demands = _filters(call)
    found = [run for run in runs if run.listed_from <= now and all(demand(run) for demand in demands)]
    page, headers = call.paginate(found[:_SEARCH_LIMIT] if demands else found)
    shown = [_shown_run(call, run) for run in page]
    return answer({"total_count": len(found), "workflow_runs": shown}, headers=headers)


async def _list_runs(call: Call) -> Response:
    return _list(call, store.runs(call.database, repository=call.repository))


async def _list_workflow_runs(call: Call) -> Response:
    workflow = _workflow(call)
    runs = store.runs(call.database, repository=call.repository)
    return _list(call, [run for run in runs if run.workflow_id == workflow.id])


def _run(call: Call) -> store.Run:
    found = store.run(call.database, repository=call.repository, id_=call.number("run_id"))
    if found is None:
        raise not_found()
    return found


async def _get_run(call: Call) -> Response:
    return answer(_shown_run(call, _run(call)))


async def _delete_run(call: Call) -> Response:
    run = _run(call)
    if run.status != "completed":
        raise GitHubError(HTTPStatus.FORBIDDEN, "Cannot delete a workflow run that is not completed.")
    store.delete_run(call.world, run=run)
    return empty()


async def _cancel(call: Call) -> Response:
    run = _run(call)
    if run.status == "completed":
        raise GitHubError(HTTPStatus.CONFLICT, "Cannot cancel a workflow run that is completed.")
    call.world.component(Runs).cancel(run)
    return answer({}, HTTPStatus.ACCEPTED)


async def _rerun(call: Call) -> Response:
    run = _run(call)
    if run.status != "completed":
        raise GitHubError(HTTPStatus.FORBIDDEN, "This workflow is already running")
    call.world.component(Runs).rerun(run)
    return answer({}, HTTPStatus.CREATED)


class LogLinks:
    """Links to logs that need no token, as those of GitHub's storage; good for a minute."""

    def __init__(self, _: World) -> None:
        self._links: dict[str, tuple[int, float]] = {}

    def make(self, job_id: int) -> str:
        """Return the key of a new link to the log of a job."""
        now = time.monotonic()
        self._links = {key: link for key, link in self._links.items() if link[1] > now}
        key = secrets.token_urlsafe(24)
        self._links[key] = (job_id, now + _LINK_LIFE)
        return key

    def job(self, key: str) -> int | None:
        """Return the job that a key is for; None if it is unknown or too old."""
        job_id, end = self._links.get(key, (None, 0.0))
        return job_id if end > time.monotonic() else None


# --- jobs -----------------------------------------------------------------------------------------------------------


def _shown_job(call: Call, job: store.Job, run: store.Run) -> Json:
    base = f"{call.root}/repos/{call.repository.full_name}"
    workflow = store.known_workflow(call.database, run.workflow_id)
    page = f"{call.site}/{call.repository.full_name}/actions/runs/{run.id}/job/{job.id}"
    return {
        "id": job.id,
        "run_id": run.id,
        "run_url": f"{base}/actions/runs/{run.id}",
        "run_attempt": job.attempt,
        "node_id": shapes.node_id("CheckRun", job.id),
        "head_sha": run.sha,
        "head_branch": run.branch,
        "url": f"{base}/actions/jobs/{job.id}",
        "html_url": page,
        "status": job.status,
        "conclusion": job.conclusion,
        "created_at": job.created_at,
        "started_at": job.started_at or job.created_at,
        "completed_at": job.completed_at,
        "name": "publish",
        "workflow_name": workflow.name,
        "steps": job.steps,
        "check_run_url": f"{base}/check-runs/{job.id}",
        "labels": ["ubuntu-latest"],
        "runner_id": 1 if job.started_at else None,
        "runner_name": "sandbox" if job.started_at else None,
        "runner_group_id": 0 if job.started_at else None,
        "runner_group_name": "GitHub Actions" if job.started_at else None,
    }


async def _list_jobs(call: Call) -> Response:
    run = _run(call)
    found = store.jobs(call.database, run_id=run.id, attempt=None if call.query("filter") == "all" else run.attempt)
    page, headers = call.paginate(found)
    shown = [_shown_job(call, job, run) for job in page]
    return answer({"total_count": len(found), "jobs": shown}, headers=headers)


def _job(call: Call) -> tuple[store.Job, store.Run]:
    for job in store.jobs(call.database, id_=call.number("job_id")):
        run = store.run(call.database, repository=call.repository, id_=job.run_id)
        if run is not None:
            return job, run
    raise not_found()


async def _get_job(call: Call) -> Response:
    return answer(_shown_job(call, *_job(call)))


async def _job_logs(call: Call) -> Response:
    # GitHub redirects to a link that is good for a minute and needs no token.
    job, _ = _job(call)
    key = call.world.component(LogLinks).make(job.id)
    return Response(status_code=HTTPStatus.FOUND, headers={"Location": f"{call.site}/_logs/{key}"})


async def _log(call: Call) -> Response:
    job_id = call.world.component(LogLinks).job(call.path("key"))
    for job in store.jobs(call.database, id_=job_id) if job_id is not None else []:
        return PlainTextResponse(job.log)
    raise not_found()


_REPOSITORY: Final = "/repos/{owner}/{repo}"
_ACTIONS: Final = f"{_REPOSITORY}/actions"
_READ: Final = Access(role=store.Role.READ, permission=("actions", "read"), anonymous=True)
_WRITE: Final = Access(role=store.Role.WRITE, scope="repo", permission=("actions", "write"))

ENDPOINTS: Final = [
    Endpoint(method="GET", path=f"{_ACTIONS}/workflows", access=_READ, handler=_list_workflows),
    Endpoint(method="GET", path=f"{_ACTIONS}/workflows/{{workflow_id}}", access=_READ, handler=_get_workflow),
    Endpoint(method="POST", path=f"{_ACTIONS}/workflows/{{workflow_id}}/dispatches", access=_WRITE, handler=_dispatch),
    Endpoint(
        method="GET", path=f"{_ACTIONS}/workflows/{{workflow_id}}/runs", access=_READ, handler=_list_workflow_runs
    ),
    Endpoint(method="GET", path=f"{_ACTIONS}/runs", access=_READ, handler=_list_runs),
    Endpoint(method="GET", path=f"{_ACTIONS}/runs/{{run_id}}", access=_READ, handler=_get_run),
    Endpoint(method="DELETE", path=f"{_ACTIONS}/runs/{{run_id}}", access=_WRITE, handler=_delete_run),
    Endpoint(method="POST", path=f"{_ACTIONS}/runs/{{run_id}}/cancel", access=_WRITE, handler=_cancel),
    Endpoint(method="POST", path=f"{_ACTIONS}/runs/{{run_id}}/force-cancel", access=_WRITE, handler=_cancel),
    Endpoint(method="POST", path=f"{_ACTIONS}/runs/{{run_id}}/rerun", access=_WRITE, handler=_rerun),
    Endpoint(method="GET", path=f"{_ACTIONS}/runs/{{run_id}}/jobs", access=_READ, handler=_list_jobs),
    Endpoint(method="GET", path=f"{_ACTIONS}/jobs/{{job_id}}", access=_READ, handler=_get_job),
    Endpoint(method="GET", path=f"{_ACTIONS}/jobs/{{job_id}}/logs", access=_READ, handler=_job_logs),
    Endpoint(method="GET", path="/_logs/{key}", access=Access(anonymous=True), handler=_log),
]
