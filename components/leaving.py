"""Secrets that `rotations` does not list any more: left as they are, or ended where `decommission` names them. Reads only (ADR 0012)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from components import announcement, operator_credentials, preflight
from components.announcement import NOTHING, Announcement, Request
from components.decommission import doomed, holding
from components.errors import RefusedError, refusals
from components.fly.client import FlyClient, Machine
from components.github import access
from components.github.client import GitHubClient
from components.http import ApiError
from components.impact import Departure, Revoked
from components.issuer import Issuer
from components.issuers import ISSUERS, ConfigLookup, Context
from components.keyring import fingerprint
from components.progress import Decommissioned, Progress, State
from components.secret import LEAKED, Family, Secret
from components.settings import STAGED, Settings

IssuerProperties = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Leaver:
    """A secret that is not managed any more.

    Attributes:
        name: Its name.
        secret: Its declaration; None where this program does not declare it any more.
        progress: How far it was.
        family: Its credentials at their provider; None without a declaration.
        decommissioned: Whether `decommission` names it.
        place: Where in that list.
        unset: The Fly apps that run without it already.
        over: What a decommissioning that is over has done; None where there is none.
    """

    name: str
    secret: Secret | None
    progress: Progress
    family: Family | None = None
    decommissioned: bool = False
    place: int = 0
    unset: frozenset[str] = frozenset()
    over: Decommissioned | None = None

    @property
    def pending(self) -> bool:
        """Whether it is to be ended."""
        return self.decommissioned and self.over is None

    @property
    def about(self) -> str:
        """Which turn of its credential a decommissioning is about. A salted hash, hence no secret."""
        return self.over.about if self.over is not None else _about(self.progress)

    @property
    def issuers(self) -> list[IssuerProperties]:
        """Who has minted its credentials: as the state says, and as this program would now, where that is another one."""
        found: list[IssuerProperties] = []
        if self.progress.issuer:
            found.append({"kind": self.progress.issuer["kind"], "settings": dict(self.progress.issuer["settings"])})
        if self.secret is not None:
            source: IssuerProperties = {"kind": self.secret.source.kind, "settings": dict(self.secret.source.settings)}
            configured = all(self.secret.requires.values())
            if source not in found and (configured or not found):
                found.append(source)
        return found

    def build_issuers(self, config: ConfigLookup) -> list[Issuer]:
        """The same, to be asked."""
        context = Context(config=config, keyring=self.progress.keyring, keep_from=self.progress.keep_from)
        return [ISSUERS[str(each["kind"])].build(_settings_of(each), context) for each in self.issuers]


def _settings_of(issuer: IssuerProperties) -> Mapping[str, str]:
    settings = issuer["settings"]
    return {str(key): str(value) for key, value in settings.items()} if isinstance(settings, Mapping) else {}


def _about(progress: Progress) -> str:
    return fingerprint(f"decommission\n{progress.salt}\n{progress.turn}")


def leavers(
    secrets: Iterable[Secret],
    state: State,
    *,
    rotated: Collection[str],
    decommissioned: Mapping[str, int],
    app: str,
    stack: str,
) -> list[Leaver]:
    """Every secret that the state knows or that is to be ended, and that is not rotated.

    Args:
        secrets: The secret map.
        state: What the stack deployed last.
        rotated: The names of those that are rotated.
        decommissioned: The names that `decommission` lists, with their places.
        app: The control plane's app.
        stack: The stack.
    """
    declared = {secret.name: secret for secret in secrets}
    known = {name for name, progress in state.progress.items() if progress.current}
    found = []
    for name in sorted((known | {*decommissioned}) - {*rotated}):
        secret, progress = declared.get(name), state.of(name)
        over = state.decommissioned.get(name) if name in decommissioned else None
        if over is not None and name in known and over.about != _about(progress):
            over = None  # it has been managed again since
        family = None
        if secret is not None:
            kind = str((progress.issuer or {}).get("kind") or secret.source.kind)
            family = Family(app=app, stack=stack, secret=name, longest_name=ISSUERS[kind].longest_name)
        found.append(
            Leaver(
                name=name,
                secret=secret,
                progress=progress,
                family=family,
                decommissioned=name in decommissioned,
                place=decommissioned.get(name, 0),
                unset=frozenset(fly_app for fly_app, known_app in state.apps.items() if name in known_app.gone),
                over=over,
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found out by reading.

    Attributes:
        departures: What happens to each secret.
        machines: Of every app that a secret is taken from.
    """

    departures: tuple[Departure, ...] = ()
    machines: dict[str, Sequence[Machine]] = field(default_factory=dict)


def examine(leaving: Iterable[Leaver], settings: Settings, config: ConfigLookup) -> Findings:
    """Says what happens to every secret that is not managed any more.

    Raises:
        RefusedError: One cannot be ended, or should not.
    """
    departures: list[Departure] = []
    errors: list[RefusedError] = []
    machines: dict[str, Sequence[Machine]] = {}
    for leaver in leaving:
        if leaver.over is not None:
            continue
        if not leaver.decommissioned:
            departures.append(_left_as_it_is(leaver))
            continue
        credential = None
        try:
            _assert_may_be_ended(leaver, settings)
            credential = operator_credentials.FLY
            _fly(leaver, config, machines)
            credential = operator_credentials.GITHUB
            _github(leaver, config)
            credential = ISSUERS[str(leaver.issuers[0]["kind"])].operator
            departures.append(_ended(leaver, config, waits=settings.reasons.get(leaver.name) != LEAKED))
        except RefusedError as error:
            errors.append(error)
        except ApiError as error:
            errors.append(preflight.no_access(error, credential))
    if errors:
        raise refusals(list({str(error): error for error in errors}.values()))
    return Findings(departures=tuple(departures), machines=machines)


def reminders(leaving: Iterable[Leaver]) -> list[str]:
    """What is left for the operator to do about secrets whose decommissioning is over. One sentence each."""
    said = []
    for leaver in leaving:
        if leaver.over is None:
            continue
        off = f"pulumi config rm --path 'decommission[{leaver.place}]'"
        said.append(
            f"{leaver.name} is decommissioned: take it off `decommission` (`{off}`), then `pulumi up`; the stack then knows nothing of it."
        )
        said += [f"{_ends_it(leaver.name, each)}" for each in leaver.over.alive]
    return said


def _ends_it(secret: str, credential: str) -> str:
    return f"{credential} of {secret} lives on: only its provider can end it. End it there (its Dashboard)."


def _left_as_it_is(leaver: Leaver) -> Departure:
    held = [f"Fly app {app}" for app in sorted(leaver.progress.at_fly)]
    if leaver.secret is not None and leaver.secret.tenants is not None:
        held.append(str(leaver.secret.tenants))
    writes = leaver.progress.github_writes
    held += [
        f"GitHub {writes[key].words.removeprefix('the ')}" if key in writes else f"GitHub repository {key}"
        for key in sorted(leaver.progress.at_github)
    ]
    return Departure(
        secret=leaver.name,
        decommissioned=False,
        locations=tuple(held),
        credentials=tuple(
            Revoked(credential_id=each.credential_id, name=each.name) for each in leaver.progress.keyring
        ),
    )


def _assert_may_be_ended(leaver: Leaver, settings: Settings) -> None:
    name, secret = leaver.name, leaver.secret
    off = f"take {name} off `decommission`"
    if secret is None:  # refused before: `decommission` lists only what is declared
        raise AssertionError(name)
    if secret.kept:
        raise RefusedError(
            f"{name} is never decommissioned: {secret.kept}",
            next_step=f"{off}. Without `rotations` and `decommission` it is left as it is.",
        )
    if settings.rollout == STAGED:
        raise RefusedError(
            f"{name} is to be decommissioned, but with `rollout: staged` machines would go on with it, and fail once it is revoked.",
            next_step="pulumi config set rollout rolling",
        )
    missing = [key for key, value in secret.requires.items() if not value]
    if missing and not leaver.progress.issuer:
        raise RefusedError(
            f"{name} is to be decommissioned, and the config key `{missing[0]}`, without which its credentials are not found, is empty.",
            next_step=f"pulumi config set {missing[0]} …",
        )


def _fly(leaver: Leaver, config: ConfigLookup, machines: dict[str, Sequence[Machine]]) -> None:
    secret = leaver.secret
    if secret is None or not (secret.fly or secret.tenants):
        return
    client = FlyClient(operator_credentials.find(operator_credentials.FLY, config))
    for location in secret.fly:
        if not client.app_exists(location.app):
            raise RefusedError(
                f"Fly has no app {location.app} that the operator token can see, so {leaver.name} cannot be unset there.",
                next_step="use a token of its organization; or take the location out of the secret's declaration.",
            )
        machines[location.app] = client.list_machines(location.app)
    if secret.tenants is not None:
        held_by = holding(client.list_machines(secret.tenants.app), secret.tenants.variable, leaver.progress.keyring)
        if held_by:
            raise RefusedError(
                f"{leaver.name} cannot be decommissioned: {len(held_by)} machines of {secret.tenants.app} hold it as "
                f"{secret.tenants.variable}, and nothing here takes it from a tenant.",
                next_step=f"take {leaver.name} off `decommission`, until no tenant has it any more.",
            )


def _github(leaver: Leaver, config: ConfigLookup) -> None:
    if leaver.secret is None or not leaver.secret.repositories:
        return
    client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, config))
    for location in leaver.secret.repositories:
        if not client.can_push(location.full_name) or not client.may_see_secrets(location.secrets_path):
            raise RefusedError(
                f"The operator's GitHub token may not write secrets of {str(location).removeprefix('GitHub repository ')}, so "
                f"{leaver.name} cannot be unset there.",
                next_step=f"use a token that may ({access.right_to_write(location)}).",
            )


def _ended(leaver: Leaver, config: ConfigLookup, *, waits: bool) -> Departure:
    secret, family = leaver.secret, leaver.family
    if secret is None or family is None:
        raise AssertionError(leaver.name)
    issuers = leaver.build_issuers(config)
    found = doomed(issuers, family, leaver.progress.keyring)
    if not found.condemned and not leaver.progress.current:
        raise RefusedError(
            f"`decommission` lists {leaver.name}, but the stack knows nothing of it, and no credential of its family is alive: whatever stands "
            "at its locations is somebody else's.",
            next_step=f"take {leaver.name} off `decommission`; unset it by hand if nobody needs it (`fly secrets unset {leaver.name}`).",
        )
    apps = [each for each in secret.fly if each.app not in leaver.unset]
    by_issuer = [
        (issuer, [each.credential_id for each in found.ended if found.revokers[each.credential_id] is issuer])
        for issuer in issuers
    ]
    ending = announcement.together([issuer.announce_revocation(theirs) for issuer, theirs in by_issuer if theirs])
    accepted = found.still_accepted(issuers, leaver.progress.keyring)
    return Departure(
        secret=leaver.name,
        decommissioned=True,
        locations=(*(str(each) for each in apps), *(str(each) for each in secret.repositories)),
        apps=tuple(each.app for each in apps),
        credentials=tuple(Revoked(credential_id=each.credential_id, name=each.name) for each in found.ended),
        remaining=tuple(
            Revoked(credential_id=each.credential_id, name=each.name)
            for each in found.left
            if each.credential_id in accepted
        ),
        ending=ending.words,
        without=secret.without,
        no_way_back=() if leaver.progress.current else tuple(str(each) for each in apps),
        waits_for_runs=waits and bool(secret.repositories),
        writes=announcement.together([_unset(secret), ending]).writes,
    )


def _unset(secret: Secret) -> Announcement:
    """The requests that are not those of an app's one rolling restart."""
    if not secret.repositories:
        return NOTHING
    paths = [f"{each.secrets_path}/{secret.name}" for each in secret.repositories]
    return Announcement(writes=tuple(Request(system="github", method="DELETE", path=path) for path in paths))
