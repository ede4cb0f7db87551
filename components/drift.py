"""What holds another value than it was given last: asked of Fly before any resource is registered, in a preview too. Reads only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from components import at_once
from components.fly.client import AppSecret, FlyClient, Machine
from components.fly.rollout import left_by_an_unfinished_rollout, to_write_again, waiting_for_a_restart
from components.progress import AppInState, State
from components.secret import FlySecret, Location, Secret, TenantMachines
from components.tenants.rollout import behind, org_of

NAMED = 5  # machines in one message


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What Fly shows of the apps that the stack has delivered to.

    Attributes:
        machines: Of every app that was asked about.
        drifted: Per secret, the locations to deliver to again, each with the reason.
    """

    machines: Mapping[str, Sequence[Machine]] = field(default_factory=dict)
    drifted: Mapping[str, Mapping[Location, str]] = field(default_factory=dict)


def look(
    client: FlyClient, secrets: Iterable[Secret], state: State, *, generations: Mapping[str, int], staged: bool
) -> Seen:
    """Asks Fly about every app that these secrets were delivered to.

    Args:
        client: With the operator's token.
        secrets: Those that are rotated.
        state: What the stack deployed last.
        generations: The requested ones.
        staged: Whether an update writes secrets only, and restarts nothing.

    Raises:
        ApiError: Fly did not answer.
    """
    secrets = list(secrets)
    drifted: dict[str, dict[Location, str]] = {secret.name: {} for secret in secrets}
    named = {
        app: [each.name for each in secrets if FlySecret(app=app) in each.fly and each.name in known.names]
        for app, known in state.apps.items()
    }
    apps = [app for app, names in named.items() if names]
    held_by_tenants = [
        (secret, secret.tenants)
        for secret in secrets
        if secret.tenants is not None and secret.tenants.app in state.tenants
    ]
    asked = list(dict.fromkeys([*apps, *(location.app for _, location in held_by_tenants)]))
    machines, listed = at_once.both(
        lambda: dict(zip(asked, at_once.ask(partial(client.list_machines, app) for app in asked), strict=True)),
        lambda: dict(zip(apps, at_once.ask(partial(client.list_secrets, app) for app in apps), strict=True)),
    )
    for app in apps:
        known = state.apps[app]
        for name, why in _of_app(app, named[app], known, machines[app], listed[app], staged=staged).items():
            drifted[name][FlySecret(app=app)] = why
    for secret, location in held_by_tenants:
        # The requested value, which they may have got in part; one that is yet to be minted is nobody's.
        wanted = state.of(secret.name).value_of(generations[secret.name])
        if wanted is not None and (why := _of_tenants(location, machines[location.app], wanted)):
            drifted[secret.name][location] = why
    return Seen(machines=machines, drifted=drifted)


def _of_app(
    app: str,
    names: Sequence[str],
    known: AppInState,
    machines: Sequence[Machine],
    listed: Mapping[str, AppSecret],
    *,
    staged: bool,
) -> dict[str, str]:
    """Why secrets of an app have to be written again, by name."""
    names_again = to_write_again(
        names,
        written=known.digests,
        listed=listed,
        machines=machines,
        finished_version=known.version,
        staged=staged,
    )
    # The way back of a rollout gives secrets other digests, too: then nobody else was at work.
    half_way = any(left_by_an_unfinished_rollout(each, finished_version=known.version) for each in machines)
    reasons = {
        name: f"a rollout to {app} was left half-way or rolled back"
        if half_way
        else f"somebody else set {name} of {app} since the last update"
        for name in names_again
    }
    if not staged:
        for name in waiting_for_a_restart(known.staged, digests=known.digests, machines=machines, listed=listed):
            if name in names:
                reasons.setdefault(name, f"{name} of {app} is staged, and machines have not restarted since")
    return reasons


def _of_tenants(location: TenantMachines, machines: Sequence[Machine], wanted: str) -> str:
    """Which machines of tenants hold another value, "" where none does."""
    same_server = (location.variable,) if location.same_server else ()
    left = behind(machines, {location.variable: wanted}, same_server)
    if not left:
        return ""
    named = ", ".join(org_of(each) or each.machine_id for each in left[:NAMED])
    more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return f"{len(left)} machines of {location.app} hold another {location.variable}: {named}{more}"
