"""The end of a secret that `decommission` names: every credential of its family is revoked, once nobody holds one. No Pulumi here (ADR 0012).

Every step may be repeated: what is unset stays so, what is revoked stays so. So a run that was cut off goes on with the next `pulumi up`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from components.errors import OperatorError
from components.fly.client import FlyClient, Machine
from components.github.client import GitHubClient
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Credential, Issued, sentence
from components.lifecycle import POLL_SECONDS, as_issued, not_listed, once_each, prove_death, still_accepted
from components.secret import Family


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """Where the machines of tenants hold a secret: nothing here takes it from them."""

    app: str
    variable: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be ended, and where it stands.

    Attributes:
        family: Whose credentials die.
        apps: For every Fly app that held it, whether every machine runs without it.
        repositories: The GitHub repositories whose workflows read it, `owner/name`.
        places: Where GitHub has it, as paths of the API (`GitHubSecret.secrets_path`); () for the Actions secrets of those repositories.
        tenants: Where machines of tenants hold it; None for nowhere.
        known: Credentials whose values can prove their death. Secret.
        proof_timeout: Seconds for the provider to refuse every dead credential.
        ci_timeout: Seconds for workflow runs to finish that may have started with the value; None where they are not waited for.
    """

    family: Family
    apps: Mapping[str, bool]
    repositories: Sequence[str] = ()
    places: Sequence[str] = ()
    tenants: Tenants | None = None
    known: tuple[Credential, ...] = field(default=(), repr=False)
    proof_timeout: float
    ci_timeout: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it. No values.

    Attributes:
        revoked: Credentials that are now proven dead.
        alive: Those that only their provider can end, and that it still accepts.
    """

    revoked: tuple[Issued, ...]
    alive: tuple[Issued, ...]


def holding(machines: Iterable[Machine], variable: str, known: Collection[Credential]) -> list[Machine]:
    """The machines that hold a credential of a family: any that has the variable, where not every value is known."""
    values = {each.value for each in known if each.value}
    all_known = bool(values) and all(each.value for each in known)
    return [
        machine
        for machine in machines
        if (held := (machine.config.get("env") or {}).get(variable)) is not None and (held in values or not all_known)
    ]


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """A family at its providers.

    Attributes:
        condemned: Its live credentials.
        dead: Those that are over.
        revokers: Who can revoke which, by id. The others only their provider can end.
    """

    condemned: tuple[Issued, ...]
    dead: tuple[Issued, ...]
    revokers: Mapping[str, Issuer]

    @property
    def ended(self) -> tuple[Issued, ...]:
        """Those that are revoked."""
        return tuple(each for each in self.condemned if each.credential_id in self.revokers)

    @property
    def left(self) -> tuple[Issued, ...]:
        """Those that only their provider can end."""
        return tuple(each for each in self.condemned if each.credential_id not in self.revokers)

    def still_accepted(self, issuers: Iterable[Issuer], known: Iterable[Credential]) -> set[str]:
        """The ids of what is left and not known to be refused. Raises ApiError where an answer proves neither."""
        ids = {each.credential_id for each in self.left}
        tellers = [each for each in known if each.credential_id in ids and each.value]
        unknown = ids - {each.credential_id for each in tellers}
        return still_accepted([issuer for issuer in issuers if not issuer.revokes], tellers) | unknown


def doomed(issuers: Sequence[Issuer], family: Family, known: Sequence[Credential]) -> Doomed:
    """Asks for a family. Nothing else of its provider is ever touched. Raises ApiError.

    Args:
        issuers: Who mints, first; then whoever minted before.
        family: Which.
        known: What the stack knows of it: a list may lag.
    """
    listed = [(issuer, each) for issuer in issuers for each in issuer.issued()]
    everything = once_each(each for _, each in listed)
    found = sentence(verified_id="", listed=everything, family=family, also=())
    revokers = {each.credential_id: issuer for issuer, each in reversed(listed) if issuer.revokes}
    revoking = [issuer for issuer in issuers if issuer.revokes]
    missing = not_listed(revoking, everything, known) if revoking else []
    late = tuple(as_issued(each, live=True) for each, refused in missing if not refused)
    return Doomed(
        condemned=(*found.condemned, *late),
        dead=(*found.dead, *(as_issued(each, live=False) for each, refused in missing if refused)),
        revokers={**revokers, **{each.credential_id: revoking[0] for each in late}},
    )


def decommission(
    issuers: Sequence[Issuer],
    order: Order,
    *,
    fly: Callable[[], FlyClient],
    github: Callable[[], GitHubClient],
    report: Callable[[str], None] = lambda _line: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Unsets a secret at GitHub and revokes its family, where no Fly app holds it any more.

    Args:
        issuers: Who mints, first; then whoever minted before, where the settings have changed since.
        order: What about.
        fly: Makes a client of Fly.
        github: Makes one of GitHub.
        report: Tells the operator what is waited for.
        sleep: Waits, given seconds.

    Raises:
        OperatorError: A location still holds it (nothing was revoked), a call failed, or a revoked credential is still accepted.
    """
    secret = order.family.secret
    left = sorted(app for app, unset in order.apps.items() if not unset)
    if left:
        raise OperatorError(
            f"{secret} is not decommissioned: Fly app {', '.join(left)} still holds it.",
            state="nothing was unset or revoked by this step; every credential is still alive.",
            next_step="`pulumi up` without --target: it unsets the secret, and then revokes.",
        )
    unset = f"{secret} is unset at {' and '.join(f'Fly app {app}' for app in sorted(order.apps)) or 'no Fly app'}"
    try:
        if order.tenants is not None:
            held_by = holding(fly().list_machines(order.tenants.app), order.tenants.variable, order.known)
            if held_by:
                raise OperatorError(
                    f"{secret} is not decommissioned: {len(held_by)} machines of {order.tenants.app} still hold it.",
                    state=f"{unset}; nothing was revoked, so tenants go on with it.",
                    next_step="`pulumi up` once no tenant needs it any more.",
                )
        for place in order.places or [f"/repos/{each}/actions/secrets" for each in order.repositories]:
            github().delete_secret(place, secret)
        for repository in order.repositories:
            _await_runs(github(), repository, order, unset=unset, report=report, sleep=sleep)
    except ApiError as error:
        raise OperatorError(
            f"{secret} is not decommissioned: {error}.",
            state=f"{unset}; it may still stand elsewhere. Nothing was revoked.",
            next_step="`pulumi up` again: it goes on with what is left.",
            contact=error.contact,
        ) from error
    try:
        return _revoke(issuers, order, sleep)
    except ApiError as error:
        raise OperatorError(
            f"{secret} is unset everywhere, but a credential of it may still be alive: {error}.",
            state="nobody holds it any more.",
            next_step="`pulumi up` again: it goes on with the revocation.",
            contact=error.contact,
        ) from error


def _await_runs(
    github: GitHubClient,
    repository: str,
    order: Order,
    *,
    unset: str,
    report: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Waits for every workflow run that may have started with the value: it would lose it half-way."""
    if order.ci_timeout is None:
        return
    deadline = time.monotonic() + order.ci_timeout
    # Twice, see `GitHubClient.unfinished_runs`. Those that start later find no secret.
    concerned = {run.run_id: run for _ in range(2) for run in github.unfinished_runs(repository)}
    for run in concerned.values():
        report(f"waiting for run {run.run_id}, which may have started with {order.family.secret}: {run.url}")
    empty_answers = 0 if concerned else 2
    while empty_answers < 2:  # noqa: PLR2004 - likewise
        runs = [run for run in github.unfinished_runs(repository) if run.run_id in concerned]
        empty_answers = 0 if runs else empty_answers + 1
        if runs and time.monotonic() > deadline:
            raise OperatorError(
                f"{order.family.secret} is not decommissioned: run {runs[0].run_id} of {repository}, which may have started with it, has "
                f"not finished within {order.ci_timeout:g} s: {runs[0].url}",
                state=f"{unset} and at {repository}; nothing was revoked.",
                next_step="`pulumi up` once it has finished, or cancel it.",
            )
        if runs:
            sleep(POLL_SECONDS)


def _revoke(issuers: Sequence[Issuer], order: Order, sleep: Callable[[float], None]) -> Outcome:
    found = doomed(issuers, order.family, order.known)
    for each in found.ended:
        found.revokers[each.credential_id].revoke(each.credential_id)
    known_ids = {each.credential_id for each in order.known}
    # By a run whose proof failed.
    died_before = [each for each in found.dead if each.credential_id in known_ids]
    revoking = [issuer for issuer in issuers if issuer.revokes]
    if revoking:
        prove_death(
            revoking,
            (*found.ended, *found.dead),
            family=order.family,
            known=order.known,
            timeout=order.proof_timeout,
            state="it is unset everywhere, so nobody holds it any more.",
            sleep=sleep,
        )
    alive = found.still_accepted(issuers, order.known)
    return Outcome(
        revoked=(*found.ended, *died_before, *(each for each in found.left if each.credential_id not in alive)),
        alive=tuple(each for each in found.left if each.credential_id in alive),
    )
