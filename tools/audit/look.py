"""Compares a stack with what its providers show. Reads only: whatever cannot be read is a finding, and the rest is looked at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from components import drift, operator_credentials, preflight, secret_map
from components import settings as configuration
from components.errors import OperatorError
from components.fly.client import FlyClient
from components.github import access as github_access
from components.github import drift as github_drift
from components.github.client import GitHubClient
from components.github.destinations import KEY as GITHUB_DESTINATIONS
from components.http import ApiError
from components.impact import age_since
from components.issuers import ISSUERS, Context
from components.keyring import Issued, sentence
from components.operator_credentials import OperatorCredential
from components.progress import Progress, State
from components.secret import Family, Issuer, Secret
from components.settings import STAGED, Settings
from components.work import left_behind, unfinished_business
from tools.audit.findings import Audit, Finding, Kind, Looked
from tools.audit.stack import Config, Exported

MAP: tuple[Callable[[Settings], Secret], ...] = (
    secret_map.fly_api_token,
    secret_map.neon_api_key,
    secret_map.database_url,
    secret_map.tenant_redis_url,
    secret_map.secrets_encryption_key,
    secret_map.resend_api_key,
    secret_map.resend_from_email,
    secret_map.stripe_api_key,
    secret_map.stripe_webhook_secret,
)
# A provider that does not answer, one that may not be asked, one that answers with something else than is documented.
UNREADABLE = (ApiError, OperatorError, LookupError, TypeError, ValueError)
UP = "`pulumi preview`, then `pulumi up`."


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack that is audited.

    Attributes:
        name: Its name, without organization and project.
        config: Secret.
        exported: Secret.
        settings: What the config says.
        secrets: Those that `rotations` lists.
        generations: What it asks for.
        now: The time, with its zone.
    """

    name: str
    config: Config = field(repr=False)
    exported: Exported = field(repr=False)
    settings: Settings
    secrets: tuple[Secret, ...]
    generations: Mapping[str, int]
    now: datetime

    @property
    def state(self) -> State:
        """As the program reads it. Secret."""
        return self.exported.state


def stack_of(name: str, config: Config, exported: Exported, *, now: datetime) -> tuple[Stack, tuple[str, ...]]:
    """A stack as its config and its state describe it, and what `rotations` lists that is not in the secret map.

    Args:
        name: The stack, as it was named.
        config: Its config.
        exported: Its state.
        now: The time, with its zone.

    Raises:
        OperatorError: The config is wrong, so that it is not known what it is about.
    """
    settings = configuration.load(
        config.get,
        owner=config.get("github:owner"),
        old_values=config.get_object("oldValueExpiresAt"),
        compromised=config.get_object("compromised"),
        reasons=config.get_object("reasons"),
        max_age_days=config.get_object("maxAgeDays"),
        github_destinations=config.get_object(GITHUB_DESTINATIONS),
    )
    raw = config.get_object("rotations")
    mapped = {secret.name: secret for secret in (function(settings) for function in MAP)}
    unknown = [str(each) for each in raw if each not in mapped] if isinstance(raw, Mapping) else []
    listed = {key: each for key, each in raw.items() if key in mapped} if isinstance(raw, Mapping) else raw
    generations = configuration.rotations(listed, managed=mapped, not_managed={})
    stack = Stack(
        name=name.rpartition("/")[2],
        config=config,
        exported=exported,
        settings=settings,
        secrets=tuple(secret for secret in mapped.values() if secret.name in generations),
        generations=generations,
        now=now,
    )
    return stack, tuple(unknown)


def audit(name: str, config: Config, exported: Exported, *, strict: bool, now: datetime) -> Audit:
    """Looks at every location and every family of a stack.

    Args:
        name: The stack, as it was named.
        config: Its config.
        exported: Its state.
        strict: Whether credentials that the program does not manage are findings.
        now: The time, with its zone.

    Raises:
        OperatorError: The config is wrong, so that it is not known what to look at.
    """
    stack, unknown = stack_of(name, config, exported, now=now)
    found = [
        *_interrupted(exported),
        *(_not_in_the_map(each) for each in unknown),
        *(each for secret in stack.secrets for each in _of_progress(stack, secret)),
        *_of_fly(stack),
        *_of_github(stack),
        *(each for secret in stack.secrets for each in _of_family(stack, secret)),
    ]
    order = ["", *(function(stack.settings).name for function in MAP)]
    found.sort(key=lambda each: order.index(each.secret) if each.secret in order else len(order))
    return Audit(
        stack=name,
        secrets={secret.name: _looked(stack, secret) for secret in stack.secrets},
        findings=tuple(each for each in found if strict or each.kind is not Kind.UNMANAGED),
        information=tuple(each for each in found if not strict and each.kind is Kind.UNMANAGED),
    )


def _looked(stack: Stack, secret: Secret) -> Looked:
    progress = stack.state.of(secret.name)
    return Looked(
        requested=stack.generations[secret.name],
        current=progress.current,
        verified=progress.verified,
        verified_at=progress.verified_at,
        age=age_since(progress.minted_at, max_age_days=stack.settings.max_age_days.get(secret.name), now=stack.now),
        locations=tuple(str(each) for each in secret.locations),
        overridden=progress.overridden,
    )


def _interrupted(exported: Exported) -> Iterator[Finding]:
    for each in exported.left:
        yield Finding(
            kind=Kind.INTERRUPTED,
            secret="",
            where="state",
            what=f"an update is running, or one was interrupted: {each}",
            next_step="if none is running, `pulumi up`: it goes on.",
        )


def _not_in_the_map(name: str) -> Finding:
    return Finding(
        kind=Kind.UNSEEN,
        secret=name,
        where="`rotations`",
        what="could not be looked at: `rotations` lists it, and components/secret_map.py has no such secret",
        next_step="add it to the map and to MAP in tools/audit/look.py, or take it off `rotations`.",
    )


def _of_progress(stack: Stack, secret: Secret) -> Iterator[Finding]:
    """What config and state alone tell."""
    progress, requested = stack.state.of(secret.name), stack.generations[secret.name]
    unfinished = unfinished_business(secret, progress, stack.state.tenants)
    if progress.current != requested:
        has = f"the last one minted is {progress.current}" if progress.current else "nothing of it is deployed"
        unfinished = f"the config asks for generation {requested}; {has}" + (f"; {unfinished}" if unfinished else "")
    if unfinished:
        staged = "restart the machines that have it staged, then " if stack.settings.rollout == STAGED else ""
        yield Finding(kind=Kind.UNFINISHED, secret=secret.name, where="state", what=unfinished, next_step=staged + UP)
    age = _looked(stack, secret).age
    if age.overdue:
        yield Finding(
            kind=Kind.OVERDUE,
            secret=secret.name,
            where="state",
            what=f"the value in use is {age.days} days old; it was to be rotated by {age.rotate_by}",
            next_step=_bump(secret, progress),
        )


def _bump(secret: Secret, progress: Progress) -> str:
    newest = max((each.generation for each in progress.keyring), default=progress.current)
    return f"pulumi config set --path 'rotations.{secret.name}' {max(newest, progress.current) + 1}, then {UP}"


def _of_fly(stack: Stack) -> Iterator[Finding]:
    """Fly apps and machines of tenants, one by one, so that one that does not answer hides no other."""
    holders = [
        *(
            (
                [each for each in stack.secrets if any(location.app == app for location in each.fly)],
                f"Fly app {app}",
                replace(stack.state, apps={app: known}, tenants={}),
            )
            for app, known in stack.state.apps.items()
        ),
        *(
            (
                [each for each in stack.secrets if each.tenants is not None and each.tenants.app == app],
                f"machines of Fly app {app}",
                replace(stack.state, apps={}, tenants={app: values}),
            )
            for app, values in stack.state.tenants.items()
        ),
    ]
    for secrets, where, part in holders:
        if not secrets:
            continue
        try:
            client = FlyClient(operator_credentials.find(operator_credentials.FLY, stack.config.get))
            seen = drift.look(
                client, secrets, part, generations=stack.generations, staged=stack.settings.rollout == STAGED
            )
        except UNREADABLE as error:
            for secret in secrets:
                yield _unseen(secret, where, error, operator_credentials.FLY)
            continue
        for name, places in seen.drifted.items():
            for place, why in places.items():
                yield Finding(
                    kind=Kind.DRIFT,
                    secret=name,
                    where=str(place),
                    what=why,
                    next_step=f"find out who it was; {UP} It writes the stack's value there again.",
                )


def _of_github(stack: Stack) -> Iterator[Finding]:
    for secret in stack.secrets:
        for location in secret.repositories:
            written = stack.state.of(secret.name).github_writes.get(location.key)
            if written is None:
                continue  # not delivered there yet, which is unfinished
            try:
                client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, stack.config.get))
                ids = github_access.repository_ids(client, [secret])
                why = github_drift.reason(
                    client,
                    location,
                    secret.name,
                    written,
                    selected=github_drift.wanted_ids(location, ids),
                )
            except UNREADABLE as error:
                yield _unseen(secret, str(location), error, operator_credentials.GITHUB)
                continue
            if why:
                yield Finding(
                    kind=Kind.DRIFT,
                    secret=secret.name,
                    where=str(location),
                    what=why,
                    next_step=f"find out who it was; {UP} It writes the stack's value there again.",
                )
        yield from _beside(stack, secret)
        for left in left_behind(secret, stack.state.of(secret.name)):
            yield Finding(kind=Kind.UNFINISHED, secret=secret.name, where="GitHub", what=left, next_step=UP)


def _beside(stack: Stack, secret: Secret) -> Iterator[Finding]:
    """Secrets of the same name that the stack does not write and its workflow may read: what a change of `githubDestinations` leaves."""
    if not stack.state.of(secret.name).github_writes or not github_access.may_be_hidden(secret):
        return
    try:
        client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, stack.config.get))
        found = github_access.other_values(client, secret)
    except UNREADABLE as error:
        yield _unseen(secret, "GitHub", error, operator_credentials.GITHUB)
        return
    for happened, setting in found:
        yield Finding(
            kind=Kind.DRIFT,
            secret=secret.name,
            where="GitHub",
            what=happened,
            next_step="delete it there once no job needs it any more; or have it written as well "
            f"(`pulumi config set --path githubDestinations.{setting}`).",
        )


def _of_family(stack: Stack, secret: Secret) -> Iterator[Finding]:
    """What the provider lists, against what the state knows."""
    if not isinstance(secret.source, Issuer):
        return  # nobody can be asked which values there are
    progress, kind = stack.state.of(secret.name), ISSUERS[secret.source.kind]
    where = f"issuer {secret.source.kind}"
    try:
        configuration.assert_configured([secret])
        listed = _issued(stack, secret, progress)
    except UNREADABLE as error:
        yield _unseen(secret, where, error, kind.operator)
        return
    family = Family(app=stack.settings.app, stack=stack.name, secret=secret.name, longest_name=kind.longest_name)
    yield from credentials_of(secret, progress, listed, family, where=where)


def _issued(stack: Stack, secret: Secret, progress: Progress) -> list[Issued]:
    """What is listed where credentials are minted now, and where the state says that some were."""
    described = [secret.source, *stack.exported.issuers.get(secret.name, ())]
    context = Context(config=stack.config.get, keyring=progress.keyring, keep_from=progress.keep_from)
    asked: list[object] = []
    found: dict[str, Issued] = {}
    for each in described:
        if each not in asked and each.kind in ISSUERS:
            asked.append(each)
            issuer = ISSUERS[each.kind].build(each.settings, context)
            found |= {issued.credential_id: issued for issued in issuer.issued()}
    return list(found.values())


def credentials_of(
    secret: Secret, progress: Progress, listed: Iterable[Issued], family: Family, *, where: str
) -> Iterator[Finding]:
    """Orphans, credentials of others, and whether what is in use is alive. Pure.

    Args:
        secret: Which one.
        progress: How far it is.
        listed: What its provider lists.
        family: Its credentials there, by name.
        where: What the provider is called.
    """
    listed = list(listed)
    live = {each.credential_id for each in listed if each.live}
    known = {each.credential_id: each for each in progress.keyring}
    in_use = {progress.current} | ({progress.verified} if secret.overlaps else set())
    for each in progress.keyring:
        if each.generation in in_use and each.credential_id not in live:
            yield Finding(
                kind=Kind.DEAD,
                secret=secret.name,
                where=where,
                what=f"the provider does not list {each.name} ({each.credential_id}), generation {each.generation}, as alive: "
                "consumers may be broken",
                next_step=_bump(secret, progress),
            )
    verdict = sentence(verified_id="", listed=listed, family=family, also=known)
    for issued in verdict.condemned:
        if issued.credential_id not in known:
            yield Finding(
                kind=Kind.ORPHAN,
                secret=secret.name,
                where=where,
                what=f"{_named(issued)} has a name of this stack's family and is alive, and the state does not know it",
                next_step="revoke it at the provider, if you know that nobody uses it; else the next rotation revokes it.",
            )
    for issued in verdict.unmanaged:
        yield Finding(
            kind=Kind.UNMANAGED,
            secret=secret.name,
            where=where,
            what=f"{_named(issued)} is alive, and the program did not mint it",
            next_step=f"if nobody uses it, list its id in `revokeUnmanaged.{secret.name}`; then {UP}",
        )


def _named(issued: Issued) -> str:
    made = f", made {issued.created_at}" if issued.created_at else ""
    return f"{issued.name} ({issued.credential_id}{made})"


def _unseen(secret: Secret, where: str, error: Exception, credential: OperatorCredential | None) -> Finding:
    match error:
        case ApiError():
            refusal = preflight.no_access(error, credential)
            why, next_step = refusal.happened, refusal.next_step
        case OperatorError():
            why, next_step = error.happened, error.next_step
        case _:
            # Not its text: that may be a part of the answer.
            why = f"the answer is not as documented ({type(error).__name__})"
            next_step = "see whether the provider has changed its API, or something else answers in its place."
    return Finding(
        kind=Kind.UNSEEN, secret=secret.name, where=where, what=f"could not be looked at: {why}", next_step=next_step
    )
