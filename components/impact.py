"""What an update is going to do, for the operator: pure, from what was decided (`work`), read (`preflight`, `drift`) and announced.

`impact_text` writes it for people. `as_data` is the same for programs; its schema is `docs/impact.schema.json`. No values in either.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from components import announcement
from components.announcement import NOTHING, Announcement, Request
from components.fly import rollout
from components.fly.client import Machine
from components.keyring import Issued, sentence, turn_to
from components.progress import Progress, State
from components.secret import (
    LEAKED,
    ROUTINE,
    EnvironmentSecret,
    Family,
    FlySecret,
    GitHubSecret,
    Issuer,
    Location,
    Random,
    Secret,
    Supplied,
    TenantMachines,
)
from components.tenants import rollout as tenant_rollout
from components.work import Action, Work, left_behind, unfinished_business


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a preflight found out about one secret.

    Attributes:
        issued: What its provider lists.
        revokes: Whether the program ends old credentials itself.
        minting: What minting is going to do.
        outage: Whom the rotation cuts off; "" for nobody.
        ending: Announces the end of credentials, by their ids.
    """

    issued: tuple[Issued, ...] = ()
    revokes: bool = True
    minting: Announcement = NOTHING
    outage: str = ""
    ending: Callable[[Sequence[str]], Announcement] = lambda _ids: NOTHING


@dataclass(frozen=True, kw_only=True)
class Age:
    """How old the value in use is.

    Attributes:
        minted_at: When it was minted, RFC 3339; "" where the stack has minted none.
        days: Since then; None where there is none.
        rotate_by: When it gets too old by the config, RFC 3339; "" for never.
        overdue: Whether it is.
    """

    minted_at: str = ""
    days: int | None = None
    rotate_by: str = ""
    overdue: bool = False


def age_since(minted_at: str, *, max_age_days: int | None, now: datetime) -> Age:
    """How old a value is.

    Args:
        minted_at: When it was minted, RFC 3339; "" where there is none.
        max_age_days: As the config says; None for no limit.
        now: The time, with its zone.
    """
    if not minted_at:
        return Age()
    minted = datetime.fromisoformat(minted_at)
    minted = minted if minted.tzinfo else minted.replace(tzinfo=UTC)
    limit = None if max_age_days is None else minted + timedelta(days=max_age_days)
    return Age(
        minted_at=minted_at,
        days=max(0, (now - minted).days),
        rotate_by="" if limit is None else limit.isoformat(timespec="seconds"),
        overdue=limit is not None and now >= limit,
    )


@dataclass(frozen=True, kw_only=True)
class Revoked:
    """A credential that is going to be revoked.

    Attributes:
        credential_id: The provider's id.
        name: The remote name.
    """

    credential_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What an update does to one secret.

    Attributes:
        secret: Its name.
        action: In one word.
        verified: The generation verified last; 0 for none.
        generation: The requested one.
        reason: `routine` or `leaked`.
        age: Of the value verified last.
        unfinished: What an earlier update left half-way; "" for nothing.
        mints: What is minted, with its remote name; "" for nothing.
        supplied: Whether the value is one that the operator handed in.
        orphans: Credentials nobody got the value of: revoked before anything is minted.
        locations: Those that are written to, in this order.
        changes_values: Whether one of them holds another generation's value now.
        drift: Why locations are written to that have this generation already.
        leaves: Places at GitHub that the stack stops writing to, with what they hold.
        probe: What the credential has to show before it is delivered.
        verification: What consumers have to show before anything is revoked.
        makes: What exists only while it is verified.
        dispatches: Workflow runs that are started for it.
        revokes: Credentials that die once it is verified.
        ending: More about their end.
        staged: Why it is only staged by this update, so that nothing of it is verified or revoked; "" where it is not.
        outage: Whom it cuts off; "" for nobody.
        at_risk: What breaks if it goes wrong.
        costs: What is given up because the value before has leaked.
        promotion: Whether the stack that goes before has proven it; "" where none does.
        writes: The requests that change something, apart from those to restart machines.
    """

    secret: str
    action: Action
    verified: int
    generation: int
    reason: str
    age: Age
    unfinished: str = ""
    mints: str = ""
    supplied: bool = False
    orphans: tuple[Revoked, ...] = ()
    locations: tuple[str, ...] = ()
    changes_values: bool = False
    drift: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    verification: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    dispatches: tuple[str, ...] = ()
    revokes: tuple[Revoked, ...] = ()
    ending: tuple[str, ...] = ()
    staged: str = ""
    outage: str = ""
    at_risk: str = ""
    costs: tuple[str, ...] = ()
    promotion: str = ""
    writes: tuple[Request, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The rolling restart of an app: one, however many of its secrets change.

    Attributes:
        app: The app.
        secrets: Which secrets, or variables of tenants, it is for.
        batches: How many machines restart at once, in this order.
        tenants: Whether they are machines of tenants, each of another customer: one that fails is left as it was, and the others go on.
        writes: The requests that change something.
    """

    app: str
    secrets: tuple[str, ...]
    batches: tuple[int, ...]
    tenants: bool = False
    writes: tuple[Request, ...] = ()

    @property
    def machines(self) -> int:
        """All that restart."""
        return sum(self.batches)


@dataclass(frozen=True, kw_only=True)
class Departure:
    """A secret that the stack stops managing.

    Attributes:
        secret: Its name.
        decommissioned: Whether it is ended; else it is left as it is.
        locations: Where it stands: as far as the stack knows, or where it is unset, in this order.
        apps: Fly apps whose machines restart without it.
        credentials: Those that live on, as far as the stack knows; or that are revoked.
        remaining: Of one that is ended: those that only their provider can end.
        ending: More about the end of those that are revoked.
        without: What its consumers cannot do without it.
        no_way_back: Locations whose value nobody knows, so that it could not be brought back.
        waits_for_runs: Whether workflow runs that may have started with it are waited for.
        writes: The requests that change something, apart from those to restart machines.
    """

    secret: str
    decommissioned: bool
    locations: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    credentials: tuple[Revoked, ...] = ()
    remaining: tuple[Revoked, ...] = ()
    ending: tuple[str, ...] = ()
    without: str = ""
    no_way_back: tuple[str, ...] = ()
    waits_for_runs: bool = False
    writes: tuple[Request, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Impact:
    """What an update is going to do.

    Attributes:
        stack: Which stack.
        effects: Of every secret that something is done for.
        restarts: Of every app.
        overdue: The age of every other secret that is too old, by name.
        unfinished: What is unfinished of every other secret, by name: staged ones that wait for a restart.
        departures: Every secret that the stack stops managing.
    """

    stack: str
    effects: tuple[Effect, ...] = ()
    restarts: tuple[Restart, ...] = ()
    overdue: Mapping[str, Age]
    unfinished: Mapping[str, str]
    departures: tuple[Departure, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether anything is done anywhere."""
        return bool(self.effects) or any(each.decommissioned for each in self.departures)

    @property
    def writes(self) -> tuple[Request, ...]:
        """Every request that changes something."""
        effects = [each for effect in self.effects for each in effect.writes]
        departures = [each for departure in self.departures for each in departure.writes]
        return (*effects, *departures, *(each for restart in self.restarts for each in restart.writes))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A secret that is rotated, and all that was decided and found out about it.

    Attributes:
        secret: Which one.
        family: Its credentials at their provider.
        work: What is done.
        generation: The requested one.
        reason: `routine` or `leaked`.
        also: Unmanaged credentials that are to be revoked.
        drifted: Locations to deliver to again, with the reason.
        staged: Why it is only staged; "" where it is not.
        finding: Of the preflight.
        max_age_days: When its value gets too old; None for never.
        promotion: Whether the stack that goes before has proven it; "" where none does.
    """

    secret: Secret
    family: Family
    work: Work
    generation: int
    reason: str = ROUTINE
    also: Sequence[str] = ()
    drifted: Mapping[Location, str] = field(default_factory=dict)
    staged: str = ""
    finding: Finding = Finding()
    max_age_days: int | None = None
    promotion: str = ""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all secrets of a stack have in common.

    Attributes:
        stack: Its name.
        state: What it deployed last.
        machines: Of every app that secrets are delivered to.
        max_unavailable: Machines that restart at once, see `components.fly.rollout.batches`.
        stages: Whether secrets are only written, and nothing restarts.
        reprovision_path: The control plane's request that provisions an org anew; "" for none.
        now: The time, with its zone.
    """

    stack: str
    state: State
    machines: Mapping[str, Sequence[Machine]]
    max_unavailable: float
    stages: bool
    reprovision_path: str
    now: datetime


def impact_of(cases: Iterable[Case], surroundings: Surroundings, departures: Sequence[Departure] = ()) -> Impact:
    """Puts together what an update is going to do."""
    cases = list(cases)
    ages = {
        case.secret.name: age_since(
            surroundings.state.of(case.secret.name).minted_at, max_age_days=case.max_age_days, now=surroundings.now
        )
        for case in cases
    }
    working = [case for case in cases if case.work.pending]
    idle = [case for case in cases if not case.work.pending]
    return Impact(
        stack=surroundings.stack,
        effects=tuple(_effect(case, surroundings.state, ages[case.secret.name]) for case in working),
        restarts=(*_restarts(working, surroundings, departures), *_tenant_restarts(working, surroundings)),
        overdue={case.secret.name: ages[case.secret.name] for case in idle if ages[case.secret.name].overdue},
        unfinished={case.secret.name: case.staged for case in idle if case.staged},
        departures=tuple(departures),
    )


def _effect(case: Case, state: State, age: Age) -> Effect:
    secret, work, finding = case.secret, case.work, case.finding
    progress = state.of(secret.name)
    leaked = case.reason == LEAKED
    probe = announcement.of_check(secret.probe, leaked=leaked) if work.probes else NOTHING
    verification = announcement.of_check(secret.verification, leaked=leaked) if work.verifies else NOTHING
    orphans, doomed = _doomed(case, progress)
    ending = finding.ending([each.credential_id for each in (*orphans, *doomed)]) if orphans or doomed else NOTHING
    steps = [
        finding.minting if work.mints else NOTHING,
        probe,
        *(_delivery(secret, each) for each in work.delivers),
        verification,
        ending,
    ]
    return Effect(
        secret=secret.name,
        action=work.action,
        verified=progress.verified,
        generation=case.generation,
        reason=case.reason,
        age=age,
        unfinished=unfinished_business(secret, progress, state.tenants),
        mints=_minted(secret, finding.minting, case.family.credential_name(case.generation)) if work.mints else "",
        supplied=work.mints and isinstance(secret.source, Supplied),
        orphans=orphans,
        locations=tuple(str(each) for each in work.delivers),
        changes_values=work.changes_values,
        drift=() if work.mints else tuple(why for place, why in case.drifted.items() if place in work.delivers),
        leaves=left_behind(secret, progress),
        probe=probe.words,
        verification=verification.words,
        makes=verification.makes,
        dispatches=verification.dispatches,
        revokes=doomed if finding.revokes else (),
        ending=ending.words,
        staged=case.staged,
        outage=finding.outage,
        at_risk=secret.at_risk if work.delivers else "",
        costs=(*verification.costs, *_left_to_the_provider(case)),
        promotion=case.promotion,
        writes=announcement.together(steps).writes,
    )


def _left_to_the_provider(case: Case) -> tuple[str, ...]:
    """What an operator has to do about a value that has leaked and that the program cannot end."""
    if case.reason != LEAKED or case.finding.revokes or not isinstance(case.secret.source, Supplied):
        return ()
    return (
        "nothing shortens the life of the value before but its provider: end it there, as soon as this update is over",
    )


def _minted(secret: Secret, minting: Announcement, name: str) -> str:
    match secret.source:
        case Issuer():
            return ", ".join(minting.words) or f"{secret.source.kind} {name}"
        case Random():
            return f"{secret.source.length} random bytes as {secret.source.encoding}, made by Pulumi"
        case Supplied():
            return ""


def _delivery(secret: Secret, location: Location) -> Announcement:
    """The requests of a delivery that are not those of an app's one rolling restart."""
    if not isinstance(location, GitHubSecret):
        return NOTHING
    path = f"{location.secrets_path}/{secret.name}"
    if isinstance(location, EnvironmentSecret):
        # pulumi-github names the repository by its id here.
        path = path.replace(f"/repos/{location.full_name}/", "/repositories/{repository}/", 1)
    return Announcement(writes=(Request(system="github", method="PUT", path=path),))


def _doomed(case: Case, progress: Progress) -> tuple[tuple[Revoked, ...], tuple[Revoked, ...]]:
    """The credentials that are revoked before anything is minted, and those that are once the generation is verified."""
    work, listed = case.work, case.finding.issued
    orphans: Collection[str] = ()
    if work.mints and progress.current:
        orphans = turn_to(case.generation, keyring=progress.keyring, listed=listed, family=case.family).orphans
    staying = next((each.credential_id for each in progress.keyring if each.generation == case.generation), "")
    doomed = sentence(
        verified_id="" if work.mints else staying,
        listed=[each for each in listed if each.credential_id not in orphans],
        family=case.family,
        also=case.also,
    ).condemned
    return (
        tuple(
            Revoked(credential_id=each.credential_id, name=each.name)
            for each in listed
            if each.credential_id in orphans
        ),
        tuple(Revoked(credential_id=each.credential_id, name=each.name) for each in doomed) if work.revokes else (),
    )


def _restarts(
    cases: Iterable[Case], surroundings: Surroundings, departures: Iterable[Departure] = ()
) -> Iterable[Restart]:
    written: dict[str, list[str]] = {}
    for case in cases:
        for location in case.work.delivers:
            if isinstance(location, FlySecret):
                written.setdefault(location.app, []).append(case.secret.name)
    for departure in departures:
        for app in departure.apps:
            written.setdefault(app, []).append(f"{departure.secret} (unset)")
    for app, names in sorted(written.items()):
        machines = () if surroundings.stages else surroundings.machines.get(app, ())
        queue = rollout.batches(machines, max_unavailable=surroundings.max_unavailable)
        yield Restart(
            app=app,
            secrets=tuple(names),
            batches=tuple(len(batch) for batch in queue),
            writes=rollout.announce(app, staged=surroundings.stages).writes,
        )


def _tenant_restarts(cases: Iterable[Case], surroundings: Surroundings) -> Iterable[Restart]:
    given: dict[str, list[tuple[Case, TenantMachines]]] = {}
    for case in cases:
        for location in case.work.delivers:
            if isinstance(location, TenantMachines):
                given.setdefault(location.app, []).append((case, location))
    for app, deliveries in sorted(given.items()):
        machines = surroundings.machines.get(app, ())
        moved = {
            each.machine_id
            for case, location in deliveries
            if not location.reprovisions
            for each in _with_another_value(case, location, machines, surroundings.state)
        }
        concerned = [each for each in machines if each.machine_id in moved]
        queue = rollout.batches(concerned, max_unavailable=surroundings.max_unavailable)
        anew = surroundings.reprovision_path if any(location.reprovisions for _, location in deliveries) else ""
        yield Restart(
            app=app,
            secrets=tuple(location.variable for _, location in deliveries),
            batches=tuple(len(batch) for batch in queue),
            tenants=True,
            writes=tenant_rollout.announce(app, reprovision_path=anew).writes,
        )


def _with_another_value(
    case: Case, location: TenantMachines, machines: Iterable[Machine], state: State
) -> list[Machine]:
    """The machines that are going to get the value. Of one that is yet to be minted only the server is known: that of the one before."""
    variable = location.variable
    wanted = state.of(case.secret.name).value_of(case.generation)
    if wanted is not None:
        return tenant_rollout.behind(machines, {variable: wanted}, (variable,) if location.same_server else ())
    holders = [each for each in machines if variable in (each.config.get("env") or {})]
    before = state.tenants.get(location.app, {}).get(variable)
    if before is None or not location.same_server:
        return holders
    server = tenant_rollout.server_of(before)
    return [each for each in holders if tenant_rollout.server_of(each.config["env"][variable]) == server]


def as_data(impact: Impact, *, text: str) -> dict[str, Any]:
    """The impact as JSON (`docs/impact.schema.json`).

    Args:
        impact: What it is about.
        text: The same for people, which goes along: a job that shows it needs nothing else.
    """
    return {
        "stack": impact.stack,
        "pending": impact.pending,
        "summary": summary(impact),
        "text": text,
        "secrets": {each.secret: _effect_as_data(each) for each in impact.effects},
        "restarts": [
            {
                "app": each.app,
                "secrets": list(each.secrets),
                "machines": each.machines,
                "batches": list(each.batches),
                "tenants": each.tenants,
            }
            for each in impact.restarts
        ],
        "overdue": {name: _age_as_data(age) for name, age in impact.overdue.items()},
        "unfinished": dict(impact.unfinished),
        "leaving": {each.secret: _departure_as_data(each) for each in impact.departures},
        "writes": [dict(announcement.as_data(each)) for each in impact.writes],
    }


def _effect_as_data(effect: Effect) -> dict[str, Any]:
    return {
        "action": str(effect.action),
        "from": effect.verified,
        "to": effect.generation,
        "reason": effect.reason,
        "age": _age_as_data(effect.age),
        "unfinished": effect.unfinished,
        "mints": effect.mints,
        "supplied": effect.supplied,
        "locations": list(effect.locations),
        "changes_values": effect.changes_values,
        "drift": list(effect.drift),
        "leaves": list(effect.leaves),
        "probe": list(effect.probe),
        "verification": list(effect.verification),
        "makes": list(effect.makes),
        "dispatches": list(effect.dispatches),
        "revokes": [{"id": each.credential_id, "name": each.name} for each in (*effect.orphans, *effect.revokes)],
        "ending": list(effect.ending),
        "staged": effect.staged,
        "outage": effect.outage,
        "at_risk": effect.at_risk,
        "costs": list(effect.costs),
        "promotion": effect.promotion,
    }


def _departure_as_data(departure: Departure) -> dict[str, Any]:
    return {
        "decommissioned": departure.decommissioned,
        "locations": list(departure.locations),
        "credentials": [{"id": each.credential_id, "name": each.name} for each in departure.credentials],
        "remaining": [{"id": each.credential_id, "name": each.name} for each in departure.remaining],
        "ending": list(departure.ending),
        "without": departure.without,
        "no_way_back": list(departure.no_way_back),
    }


def _age_as_data(age: Age) -> dict[str, Any]:
    return {"minted_at": age.minted_at, "days": age.days, "rotate_by": age.rotate_by, "overdue": age.overdue}


def summary(impact: Impact) -> str:
    """All of it in one line."""
    ended = [f"{each.secret} decommissioned" for each in impact.departures if each.decommissioned]
    if not impact.pending:
        said = f"Nothing to rotate on stack {impact.stack}."
    else:
        parts = [*(f"{each.secret} {change(each)}" for each in impact.effects), *ended]
        restarts = [f"{each.machines} machines of {each.app}" for each in impact.restarts if each.machines]
        said = f"{', '.join(parts)}; restarts {' and '.join(restarts) or 'nothing'}."
    if left := [each.secret for each in impact.departures if not each.decommissioned]:
        said += f" No longer managed, and left as it is: {', '.join(left)}."
    if impact.overdue:
        too_old = ", ".join(f"{name} ({age.days} days old)" for name, age in impact.overdue.items())
        said += f" Overdue: {too_old}."
    return said


def change(effect: Effect) -> str:
    """The generation before and after."""
    if effect.verified == effect.generation:
        return f"{effect.generation} ({effect.action})"
    return f"{effect.verified or 'none'} → {effect.generation}"
