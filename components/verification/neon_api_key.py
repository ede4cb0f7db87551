"""Verification of NEON_API_KEY: the control plane makes a Neon branch with the new key.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org `keytest-<timestamp>` is provisioned, and it is not taken on trust: its branch is there at Neon, and Neon's list says
   that the new key has been used since. The runbook's "wait 60 s" proves nothing for an org that waits for a payment.
3. The org is deleted, whatever happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import operator_credentials
from components.announcement import Announcement, together
from components.control_plane.client import Org
from components.neon.client import NeonClient
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, Subject
from components.verification.consumers import (
    DisposableOrg,
    DisposableOrgSettings,
    announce_machines,
    announce_org,
    machines_run_the_new_value,
)

ORG = "keytest"


@dataclass(frozen=True, kw_only=True)
class Settings(DisposableOrgSettings):
    """What this verification is told.

    Attributes:
        organization: Whose keys are listed; "" for the operator's own.
        project: In which branches are made.
        branch_name: What the name of an org's branch contains, with {slug} and {org_id} filled in.
        prove_use: Whether Neon's list must say that the new key was used.
    """

    organization: str
    project: str
    branch_name: str
    prove_use: bool


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly, org = settings.fly(), settings.disposable_org(ORG)
    neon = NeonClient(operator_credentials.find(operator_credentials.NEON))
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
            "disposable org": lambda: org_gets_a_branch(org, neon, settings, subject),
        }
    )


def org_gets_a_branch(disposable: DisposableOrg, neon: NeonClient, settings: Settings, subject: Subject) -> str:
    """An org is provisioned with the new key, and deleted again with its branch."""
    branches_before = {branch.branch_id for branch in neon.branches(settings.project)}
    used_before = neon.last_used_at(settings.organization, subject.credential_id)
    made: list[str] = []

    def has_a_branch(org: Org) -> None:
        wanted = settings.branch_name.format(slug=org.slug, org_id=org.org_id)
        made.extend(
            branch.branch_id
            for branch in neon.branches(settings.project)
            if branch.branch_id not in branches_before and wanted in branch.name
        )
        if not made:
            raise CheckFailedError(
                f"org {org.slug} is said to be running, but project {settings.project} has no new branch {wanted}"
            )
        if settings.prove_use:
            Deadline(settings.org_timeout).poll(
                lambda: neon.last_used_at(settings.organization, subject.credential_id) != used_before,
                waiting_for="Neon to say that the control plane used the new key",
            )

    org = disposable.use(has_a_branch)
    Deadline(settings.org_timeout).poll(
        lambda: made[0] not in {branch.branch_id for branch in neon.branches(settings.project)},
        waiting_for=f"the branch {made[0]} of the deleted org {org.slug} to be gone",
    )
    return f"org {org.slug} got its branch {made[0]} with the new key, and both are deleted again"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    proof = f"a disposable org gets its branch of Neon project {settings['project']}, made with the new key"
    return together([announce_machines(settings["app"]), announce_org(ORG, proof=proof)])


if __name__ == "__main__":
    check.run(verify)
