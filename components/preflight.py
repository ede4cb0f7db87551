"""Refusals that need a look at the providers: before anything is touched, in preview as well as in an update. Reads only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import httpx

from components import at_once, operator_credentials
from components.announcement import NOTHING
from components.control_plane.client import ControlPlaneClient
from components.errors import RefusedError, refusals
from components.fly.client import FlyClient, Machine
from components.github import access
from components.github.client import GitHubClient
from components.given import GivenValues
from components.http import ApiError
from components.impact import Finding
from components.issuer import Issuer
from components.issuers import ISSUERS, ConfigLookup, Context
from components.keyring import Issued
from components.lifecycle import alive_but_not_listed
from components.operator_credentials import OperatorCredential, endpoint
from components.progress import Progress
from components.secret import Secret
from components.work import Work


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A secret for which more is to be done than a delivery.

    Attributes:
        secret: Which one.
        work: What is to be done.
        generation: The one that it is to have.
        name: The remote name of that.
        progress: How far it is.
        supplied: The value that the operator has handed in; "" for none. Secret.
        also: Unmanaged credentials that are to be revoked.
    """

    secret: Secret
    work: Work
    generation: int
    name: str
    progress: Progress
    supplied: str = field(default="", repr=False)
    also: Sequence[str] = ()

    def issuer(self, config: ConfigLookup) -> Issuer:
        """Who hands out its credentials."""
        context = Context(
            config=config,
            given=self.supplied,
            keyring=self.progress.keyring,
            keep_from=self.progress.keep_from,
        )
        return ISSUERS[self.secret.source.kind].build(self.secret.source.settings, context)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found out by reading.

    Attributes:
        secrets: Of each secret.
        machines: Of every app that secrets are delivered to, and of the tenants'.
        warnings: What the operator should know, although it is no obstacle: one sentence each.
    """

    secrets: dict[str, Finding] = field(default_factory=dict)
    machines: dict[str, Sequence[Machine]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check(
    candidates: Iterable[Candidate],
    *,
    control_plane_url: str,
    tenant_app: str,
    config: ConfigLookup,
    known: Mapping[str, Sequence[Machine]] | None = None,
) -> Findings:
    """Looks whether the operator's credentials reach everything that these secrets need, and what is there.

    Args:
        candidates: What this update is going to rotate.
        control_plane_url: Where verification goes.
        tenant_app: Where verification looks for the tenant's machine.
        config: Looks a key of the stack's config up.
        known: The machines of apps that were listed a moment ago, with the same credential: those apps are not asked about again.

    Raises:
        RefusedError: With everything that is missing.
    """
    candidates = list(candidates)
    findings = Findings()
    issuers, not_there = _by_issuer(candidates, config)
    apps = {location.app for each in candidates for location in each.secret.fly}
    at_github = [each for each in candidates if each.secret.repositories]
    examinations: list[tuple[Callable[[], list[RefusedError]], OperatorCredential | None]] = [
        *(
            (
                partial(_fly, app, config, findings, delivered_to=app in apps, known=(known or {}).get(app)),
                operator_credentials.FLY,
            )
            for app in sorted({*apps, tenant_app})
        ),
        *(
            (partial(_issuer, issuer, of_it, findings), ISSUERS[of_it[0].secret.source.kind].operator)
            for issuer, of_it in issuers
        ),
        (partial(_control_plane, control_plane_url, candidates, config, findings), operator_credentials.CONTROL_PLANE),
    ]
    if at_github:
        examinations.append((partial(_github, at_github, config, findings), operator_credentials.GITHUB))
    errors = {str(error): error for error in not_there}
    for found in at_once.ask(partial(_examined, examine, credential) for examine, credential in examinations):
        # Two secrets of one issuer find the same fault.
        errors |= {str(error): error for error in found}
    findings.warnings.sort(key=lambda warning: _place(warning, candidates))
    if errors:
        raise refusals(list(errors.values()))
    return findings


def _examined(examine: Callable[[], list[RefusedError]], credential: OperatorCredential | None) -> list[RefusedError]:
    """What an examination has found. That it could not be made is a fault, too."""
    try:
        return examine()
    except RefusedError as error:
        return [error]
    except ApiError as error:
        return [no_access(error, credential)]


def _place(warning: str, candidates: Sequence[Candidate]) -> tuple[int, str]:
    """The warnings of a secret stand where it does, those of none at the end: not as answers happened to come."""
    names = [each.secret.name for each in candidates]
    name = warning.partition(":")[0]
    return (names.index(name), "") if name in names else (len(names), warning)


def _fly(
    app: str, config: ConfigLookup, findings: Findings, *, delivered_to: bool, known: Sequence[Machine] | None
) -> list[RefusedError]:
    # Whoever has just listed machines of an app sees it.
    client = FlyClient(operator_credentials.find(operator_credentials.FLY, config))
    if not known and not client.app_exists(app):
        return [
            RefusedError(
                f"Fly has no app {app} that the operator token can see.",
                next_step="mend the name in the stack's config (app, tenantApp), or use a token of its organization.",
            )
        ]
    findings.machines[app] = known or client.list_machines(app)
    if delivered_to and not findings.machines[app]:
        return [
            RefusedError(
                f"Fly app {app} has no machines, so nothing would run with a new value.",
                next_step=f"deploy {app} first.",
            )
        ]
    return []


def _by_issuer(
    candidates: Iterable[Candidate], config: ConfigLookup
) -> tuple[list[tuple[Issuer, list[Candidate]]], list[RefusedError]]:
    """The candidates of each issuer, because an equal one that is asked again would be told the same; and what some lack to ask anybody."""
    found: list[tuple[Issuer, list[Candidate]]] = []
    lacking: list[RefusedError] = []
    for each in candidates:
        try:
            issuer = each.issuer(config)
        except RefusedError as error:
            lacking.append(error)
            continue
        of_it = next((others for known, others in found if known == issuer), None)
        if of_it is None:
            found.append((issuer, [each]))
        else:
            of_it.append(each)
    return found, lacking


def _issuer(issuer: Issuer, candidates: Sequence[Candidate], findings: Findings) -> list[RefusedError]:
    if obstacles := _obstacles(issuer):
        return obstacles
    issued, warnings = tuple(issuer.issued()), issuer.warnings()
    faults = []
    for candidate in candidates:
        findings.warnings.extend(f"{candidate.secret.name}: {warning}" for warning in warnings)
        faults += _candidate(candidate, issuer, issued, findings)
    return faults


def _candidate(
    candidate: Candidate, issuer: Issuer, issued: Sequence[Issued], findings: Findings
) -> list[RefusedError]:
    secret, work, progress = candidate.secret, candidate.work, candidate.progress
    late = alive_but_not_listed([issuer], issued, progress.keyring, keep_from=progress.keep_from)
    findings.secrets[secret.name] = Finding(
        issued=(*issued, *late),
        revokes=issuer.revokes,
        minting=issuer.announce_mint(candidate.name) if work.mints else NOTHING,
        outage=issuer.outage if work.changes_values else "",
        ending=issuer.announce_revocation,
    )
    return [*_cannot_return(candidate, issuer, issued), *_not_listed(candidate, issued)]


def _obstacles(issuer: Issuer) -> list[RefusedError]:
    if isinstance(issuer, GivenValues) and not issuer.given:
        # Nothing at hand: the state has the value, or Pulumi is going to generate it.
        return issuer.obstacles_beside_the_value()
    return issuer.obstacles()


def _cannot_return(candidate: Candidate, issuer: Issuer, issued: Iterable[Issued]) -> list[RefusedError]:
    """Where a counter was set back: the value of that generation has to be alive still."""
    if not candidate.work.turns or candidate.work.mints:
        return []
    known = next(each for each in candidate.progress.keyring if each.generation == candidate.generation and each.value)
    listed = [each.live for each in issued if each.credential_id == known.credential_id]
    # A list may lag. One that is not there at all may come back where its provider is known to take it.
    lives = any(listed) or (not listed and issuer.revokes and issuer.refuses(known.value) is False)
    if lives and issuer.may_return(known.value):
        return []
    newest = max(each.generation for each in candidate.progress.keyring)
    name = candidate.secret.name
    return [
        RefusedError(
            f"Generation {candidate.generation} of {name} cannot come back: its provider does not take it any more.",
            next_step=f"keep generation {candidate.progress.current}, or rotate once more: "
            f"pulumi config set --path 'rotations.{name}' {newest + 1}",
        )
    ]


def _not_listed(candidate: Candidate, issued: Iterable[Issued]) -> list[RefusedError]:
    missing = sorted(set(candidate.also) - {each.credential_id for each in issued})
    if not missing:
        return []
    return [
        RefusedError(
            f"`revokeUnmanaged.{candidate.secret.name}` lists {', '.join(missing)}, which the provider does not list.",
            next_step="take the ids from the stack output `secrets`.",
        )
    ]


def _github(candidates: Iterable[Candidate], config: ConfigLookup, findings: Findings) -> list[RefusedError]:
    client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, config))
    candidates = list(candidates)
    seen = access.look(client, [each.secret for each in candidates])
    checked = at_once.ask(
        partial(
            access.check,
            client,
            each.secret,
            seen,
            # Whether a value that somebody may still read comes to its end once this has been verified.
            ends_a_value=bool(each.also) or (each.work.turns and each.progress.verified > 0),
        )
        for each in candidates
    )
    for candidate, (_, warnings) in zip(candidates, checked, strict=True):
        findings.warnings.extend(f"{candidate.secret.name}: {warning}" for warning in warnings)
    # Of a place that several secrets go to, once.
    return list({str(fault): fault for faults, _ in checked for fault in faults}.values())


def _control_plane(
    url: str, candidates: Iterable[Candidate], config: ConfigLookup, findings: Findings
) -> list[RefusedError]:
    token = operator_credentials.find(operator_credentials.CONTROL_PLANE, config)
    try:
        ControlPlaneClient(endpoint("CONTROL_PLANE_URL", url), token).orgs()
    except ApiError as error:
        dead = [each.secret.name for each in candidates if _is_dead(each, config)]
        if not (error.transient or error.ambiguous) or not dead:
            raise
        findings.warnings.append(
            f"{error}. What it runs with of {', '.join(dead)} is dead or may be, and it cannot work with that: this update delivers "
            "another value."
        )
    return []


def _is_dead(candidate: Candidate, config: ConfigLookup) -> bool:
    """Whether what consumers run with is refused by its provider: an update that has reset it was cut off, or somebody else did.

    To wait for consumers to answer would then be to wait for ever. Before the first verification nobody knows their value.
    """
    progress = candidate.progress
    if not progress.verified:
        return not candidate.secret.overlaps
    issuer = candidate.issuer(config)
    values = [progress.value_of(each) for each in {progress.verified, progress.current} - {candidate.generation}]
    with suppress(ApiError):
        return any(value and issuer.refuses(value) for value in values)
    return False


def no_access(error: ApiError, credential: OperatorCredential | None) -> RefusedError:
    """What is said where a provider does not let itself be asked with the operator's credential."""
    if credential is not None and (error.refused or error.status == httpx.codes.FORBIDDEN):
        return RefusedError(
            f"{error.system} refused the operator's credential ({credential.variables[0]}): {error.reason}",
            next_step=f"export {credential.variables[0]} with {credential.description}.",
            contact=error.contact,
        )
    if error.status is not None and httpx.codes.is_success(error.status):
        strange = "see whether its API has changed, or something else answers in its place (a proxy?); then try again."
        return RefusedError(str(error), next_step=strange, contact=error.contact)
    return RefusedError(str(error), next_step="try again once it answers.", contact=error.contact)
