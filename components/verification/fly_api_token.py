"""Verification of FLY_API_TOKEN: every consumer works, and with the new value.

1. Every machine of the control plane has booted since the secret was written, and is healthy. That, and not `/health`, is what proves that
   the new value is in use: `/health` answers 200 with any token.
2. `/health` answers.
3. A disposable org gets its tenant machine, created by the control plane with its own token, and is deleted again.
4. A workflow run that this verification dispatched, after the repository's secret was written, succeeds: it logs in to the registry.
5. No CI run is left that started with the old value: it would lose its token half-way. Where the old value has leaked, that is put up with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components import operator_credentials
from components.announcement import Announcement, Request, together
from components.control_plane.client import Org
from components.fly.client import FlyClient
from components.github.client import GitHubClient, WorkflowRun
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, Subject, progress
from components.verification.consumers import (
    DisposableOrg,
    DisposableOrgSettings,
    announce_machines,
    announce_org,
    health_answers,
    machines_run_the_new_value,
)
from components.verification.tenant_machines import await_gone, machine_of

ORG = "rotationtest-fly"


@dataclass(frozen=True, kw_only=True)
class Settings(DisposableOrgSettings):
    """What this verification is told.

    Attributes:
        tenant_app: Where tenants' machines are.
        repository: `owner/name`.
        workflow: The file name of the workflow that uses the secret.
        ref: The branch to run it on; "" for the default branch.
        workflow_timeout: Seconds for the workflow run.
        ci_timeout: Seconds for the runs that started with the old value to finish.
        places: Where GitHub has the secrets that its workflows read, as paths of the API; () for the repository's own.
    """

    tenant_app: str
    repository: str
    workflow: str
    ref: str
    workflow_timeout: float
    ci_timeout: float
    places: Sequence[str] = ()

    @property
    def secrets_paths(self) -> Sequence[str]:
        """Where the secret is read from."""
        return self.places or (f"/repos/{self.repository}/actions/secrets",)


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly, org = settings.fly(), settings.disposable_org(ORG)
    github = GitHubClient(token=operator_credentials.find(operator_credentials.GITHUB))
    checks = {
        "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
        "health": lambda: health_answers(org.control_plane),
        "disposable org": lambda: org_gets_a_machine(org, fly, settings),
        "workflow": lambda: workflow_succeeds(github, settings),
    }
    # Whoever has a leaked token can use it for as long as these would be waited for.
    if not subject.leaked:
        checks["earlier CI runs"] = lambda: earlier_runs_are_finished(github, settings, subject)
    check.together(checks)


def org_gets_a_machine(disposable: DisposableOrg, fly: FlyClient, settings: Settings) -> str:
    """An org is provisioned with the control plane's own token, and deleted again with its machine."""
    machine_ids: list[str] = []

    def has_a_machine(org: Org) -> None:
        machine_ids.append(machine_of(fly, settings.tenant_app, org).machine_id)

    org = disposable.use(has_a_machine)
    await_gone(fly, settings.tenant_app, machine_ids[0], org, timeout=settings.org_timeout)
    return f"org {org.slug} got its machine {machine_ids[0]}, and both are deleted again"


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


def earlier_runs_are_finished(github: GitHubClient, settings: Settings, subject: Subject) -> str:
    """Waits for every run that was queued before, or in the same second as, the write of the secret: it may hold the old value."""
    written = max(_written(github, path, subject.secret) for path in settings.secrets_paths)
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


def _written(github: GitHubClient, secrets_path: str, name: str) -> datetime:
    """When the secret of a place was last written."""
    shown = github.secret(secrets_path, name)
    if shown is None:
        raise CheckFailedError(f"GitHub has no secret {name} at {secrets_path} any more: somebody deleted it meanwhile")
    return shown.updated_at


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:
    """What this verification shows, and what it takes."""
    repository, workflow = settings["repository"], settings["workflow"]
    run = Announcement(
        words=(f"a dispatched run of {workflow} succeeds",),
        dispatches=(f"{workflow} of {repository}",),
        writes=(
            Request(
                system="github", method="POST", path=f"/repos/{repository}/actions/workflows/{workflow}/dispatches"
            ),
        ),
    )
    return together(
        [
            announce_machines(settings["app"]),
            Announcement(words=("/health answers",)),
            announce_org(ORG, proof=f"a disposable org gets its machine in {settings['tenant_app']}"),
            run,
            Announcement(
                costs=(
                    f"CI runs of {repository} that started with the value before are not waited for: they lose it half-way",
                )
            )
            if leaked
            else Announcement(words=("CI runs that started with the value before have finished",)),
        ]
    )


if __name__ == "__main__":
    check.run(verify)
