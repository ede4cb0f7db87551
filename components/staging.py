"""`rollout: staged`: secrets are written, and machines get them at their next restart, whoever causes it. No Pulumi here.

Until every machine runs with a staged secret nothing can be verified, and so nothing is revoked: what is in the state for both is left as
it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from components.errors import RefusedError, refusals
from components.fly.client import FlyClient
from components.fly.rollout import has_booted_since
from components.progress import Progress
from components.secret import Secret
from components.settings import STAGED


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A secret that this update does not verify.

    Attributes:
        reason: For the operator: what is missing.
        has_verification: Whether the state has a verification of it, of an earlier generation.
        has_revocation: The same for a revocation.
    """

    reason: str
    has_verification: bool
    has_revocation: bool


def assert_may_be_staged(pending: Iterable[Secret], *, rollout: str) -> None:
    """Refuses to stage what its consumers need at once.

    Raises:
        RefusedError: With every such secret.
    """
    if rollout != STAGED:
        return
    errors = [
        RefusedError(
            f"{secret.name} cannot be staged: every machine has to get it in the same update.",
            next_step="pulumi config set rollout rolling",
        )
        for secret in pending
        if not secret.may_be_staged
    ]
    if errors:
        raise refusals(errors)


def held_back(
    client: FlyClient, secrets: Iterable[Secret], generations: Mapping[str, int], progress: Mapping[str, Progress]
) -> dict[str, HeldBack]:
    """Of the secrets of a stack that stages, those whose machines do not all run with the requested generation.

    Raises:
        ApiError: Fly did not answer.
    """
    secrets = [secret for secret in secrets if secret.fly]
    apps = sorted({location.app for secret in secrets for location in secret.fly})
    machines = {app: client.list_machines(app) for app in apps}
    listed = {app: client.list_secrets(app) for app in apps}
    found: dict[str, HeldBack] = {}
    for secret in secrets:
        known = progress.get(secret.name, Progress())
        held_by = [(location.app, listed[location.app].get(secret.name)) for location in secret.fly]
        if known.current != generations[secret.name] or any(
            held is None or known.delivered.get(app) != held.digest for app, held in held_by
        ):
            reason = "it is written to Fly by this update"
        else:
            behind = [
                machine.machine_id
                for app, held in held_by
                for machine in machines[app]
                if held is None
                or not held.updated_at
                or not has_booted_since(machine, datetime.fromisoformat(held.updated_at))
            ]
            if not behind:
                continue
            reason = f"not restarted since: {', '.join(behind)}"
        found[secret.name] = HeldBack(
            reason=reason, has_verification=known.has_verification, has_revocation=known.has_revocation
        )
    return found
