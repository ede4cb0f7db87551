"""Verification of FLY_API_TOKEN: every consumer works, and with the new value.

1. Every machine of the control plane has booted since the secret was written, and is healthy. That, and not `/health`, is what proves that
   the new value is in use: `/health` answers 200 with any token.
2. `/health` answers.
3. A disposable org gets its tenant machine, created by the control plane with its own token, and is deleted again.
4. A workflow run that this verification dispatched, after the repository's secret was written, succeeds: it logs in to the registry.
5. No CI run is left that started with the old value: it would lose its token half-way.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient, Org
from components.fly.client import FlyClient
from components.fly.rollout import health, should_run
from components.github.client import GitHubClient, WorkflowRun
from components.http import ApiError
from components.operator_credentials import endpoint
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, progress

SECRET = "FLY_API_TOKEN"  # noqa: S105 - a name
SLUG_PREFIX = "rotationtest-fly-"
DISPOSABLE_SLUG = re.compile(rf"{SLUG_PREFIX}[0-9a-f]{{12}}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this verification is told.

    Attributes:
        app: The control plane's app.
        tenant_app: Where tenants' machines are.
        url: The control plane.
        owner_user_id: Owner of the disposable org.
        repository: `owner/name`.
        workflow: The file name of the workflow that uses the secret.
        ref: The branch to run it on; "" for the default branch.
        org_timeout: Seconds for the org to be running, and again for it to be gone.
        workflow_timeout: Seconds for the workflow run.
        ci_timeout: Seconds for the runs that started with the old value to finish.
    """

    app: str
    tenant_app: str
    url: str
    owner_user_id: str
    repository: str
    workflow: str
    ref: str
    org_timeout: float
    workflow_timeout: float
    ci_timeout: float


def verify(raw: Mapping[str, Any]) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly = FlyClient(token=operator_credentials.find(operator_credentials.FLY))
    github = GitHubClient(token=operator_credentials.find(operator_credentials.GITHUB))
    control_plane = ControlPlaneClient(
        endpoint("CONTROL_PLANE_URL", settings.url), operator_credentials.find(operator_credentials.CONTROL_PLANE)
    )
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings),
            "health": lambda: _health(control_plane),
            "disposable org": lambda: disposable_org(control_plane, fly, settings),
            "workflow": lambda: workflow_succeeds(github, settings),
            "earlier CI runs": lambda: earlier_runs_are_finished(github, settings),
        }
    )


def machines_run_the_new_value(fly: FlyClient, settings: Settings) -> str:
    """Every machine that runs has booted after the secret was last written. Both times are of Fly's clock."""
    secret = fly.list_secrets(settings.app).get(SECRET)
    if secret is None:
        raise CheckFailedError(f"{settings.app} has no secret {SECRET}")
    if not secret.updated_at:
        raise CheckFailedError(f"Fly does not say when {SECRET} of {settings.app} was written")
    written = datetime.fromisoformat(secret.updated_at)
    machines = fly.list_machines(settings.app)
    for machine in machines:
        if not machine.updated_at or datetime.fromisoformat(machine.updated_at) < written:
            raise CheckFailedError(f"machine {machine.machine_id} of {settings.app} still runs with the value before")
        if should_run(machine) and (reason := health(machine, since=None)):
            raise CheckFailedError(f"machine {machine.machine_id} of {settings.app} is not healthy: {reason}")
    return f"{len(machines)} machines of {settings.app} run the new value"


def _health(control_plane: ControlPlaneClient) -> str:
    control_plane.assert_up()
    return "/health answers"


def disposable_org(control_plane: ControlPlaneClient, fly: FlyClient, settings: Settings) -> str:
    """An org is provisioned with the control plane's own token, and deleted again, whatever happened."""
    # Left by a verification that was killed. The engine's lock lets one update of the stack run at a time.
    for org in control_plane.orgs():
        if DISPOSABLE_SLUG.fullmatch(org.slug):
            progress(f"deleting the disposable org {org.slug} of an earlier verification")
            control_plane.delete_org(org.slug)
    slug = SLUG_PREFIX + secrets.token_hex(6)
    try:
        org = control_plane.create_org(slug=slug, name="Secret rotation test", owner_user_id=settings.owner_user_id)
        _await_running(control_plane, org, Deadline(settings.org_timeout))
        machine_id = _tenant_machine(fly, settings.tenant_app, org)
    except BaseException:
        _delete_quietly(control_plane, slug)
        raise
    control_plane.delete_org(slug)
    Deadline(settings.org_timeout).poll(
        lambda: machine_id not in {machine.machine_id for machine in fly.list_machines(settings.tenant_app)},
        waiting_for=f"the tenant machine {machine_id} of the deleted org {slug} to be gone",
    )
    return f"org {slug} got its machine {machine_id}, and both are deleted again"


def _await_running(control_plane: ControlPlaneClient, org: Org, deadline: Deadline) -> None:
    seen = False  # a list that is cut off at its limit may never show it

    def running() -> bool:
        nonlocal seen
        status = next((each.status for each in control_plane.orgs() if each.org_id == org.org_id), "missing")
        if status == "failed" or (status == "missing" and seen):
            raise CheckFailedError(
                f"the control plane could not provision the disposable org {org.slug}: its status is {status}"
            )
        seen = seen or status != "missing"
        return status == "running"

    deadline.poll(running, waiting_for=f"org {org.slug} to be running")


def _tenant_machine(fly: FlyClient, app: str, org: Org) -> str:
    for machine in fly.list_machines(app):
        if (machine.config.get("env") or {}).get("MOLECULE_ORG_ID") == org.org_id:
            return machine.machine_id
    raise CheckFailedError(f"org {org.slug} is said to be running, but {app} has no machine of it")


def _delete_quietly(control_plane: ControlPlaneClient, slug: str) -> None:
    """Cleans up on the way out of an error, which must not be replaced by another."""
    try:
        control_plane.delete_org(slug)
    except ApiError as error:
        progress(f"the disposable org {slug} is left: {error}; the next verification deletes it")


def workflow_succeeds(github: GitHubClient, settings: Settings) -> str:
    """A run that was dispatched here, and no other, succeeds."""
    repository, workflow = settings.repository, settings.workflow
    before = {run.run_id for run in github.dispatched_runs(repository, workflow)}
    ref = settings.ref or github.default_branch(repository)
    run_id = github.dispatch(repository, workflow, ref=ref)
    deadline = Deadline(settings.workflow_timeout)
    candidates: list[WorkflowRun] = []

    def finished() -> bool:
        # A GitHub that does not name the run: ours is among those that were not there before. All of them have to succeed.
        new = (
            [run for run in github.dispatched_runs(repository, workflow) if run.run_id not in before]
            if run_id is None
            else None
        )
        candidates[:] = [github.run(repository, run_id)] if new is None and run_id is not None else new or []
        return bool(candidates) and all(run.finished for run in candidates)

    deadline.poll(finished, waiting_for=f"{workflow} of {repository} ({f'run {run_id}' if run_id else 'dispatched'})")
    for run in candidates:
        if run.conclusion != "success":
            raise CheckFailedError(f"run {run.run_id} of {workflow} ended as {run.conclusion}: {run.url}")
    return f"run {', '.join(str(run.run_id) for run in candidates)} of {workflow} succeeded"


def earlier_runs_are_finished(github: GitHubClient, settings: Settings) -> str:
    """Waits for every run that was queued before, or in the same second as, the write of the secret: it may hold the old value."""
    written = github.secret_updated_at(settings.repository, SECRET)
    seen: set[int] = set()
    empty_answers = 0

    def none_left() -> bool:
        nonlocal empty_answers
        left = [run for run in github.unfinished_runs(settings.repository) if run.created_at <= written]
        for run in left:
            if run.run_id not in seen:
                seen.add(run.run_id)
                progress(f"waiting for run {run.run_id}, which started with the old value: {run.url}")
        empty_answers = 0 if left else empty_answers + 1
        return empty_answers > 1  # see `unfinished_runs`

    Deadline(settings.ci_timeout).poll(none_left, waiting_for="CI runs that started with the old value to finish")
    return f"{len(seen)} had to finish"


if __name__ == "__main__":
    check.run(SECRET, verify)
