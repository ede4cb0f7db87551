"""The other stacks of this program, as their config files beside this stack's say: two of them must not have the same location.

Two stacks that deliver one secret to one place overwrite each other's value, and each revokes what the other has delivered. It happens
when a stack's file is copied and a name is left as it was. The files of all stacks are in one folder (`stackConfigDir`), so a preview can
read them: no network, no state, and of encrypted values nothing.

A stack that has its providers to itself (`ownProviders`, such as that of a local sandbox) may use the names of others. No Pulumi here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components import secret_map
from components import settings as configuration
from components.errors import RefusedError, refusals
from components.secret import Issuer, Secret
from components.settings import Settings
from components.stack_files import Project, files, read_config

OWN_PROVIDERS = "ownProviders"
OBJECTS: Mapping[str, str] = {
    "oldValueExpiresAt": "old_values",
    "compromised": "compromised",
    "reasons": "reasons",
    "maxAgeDays": "max_age_days",
    "githubDestinations": "github_destinations",
}
"""Config keys that are maps, and what `settings.load` calls them."""
SHARED: Mapping[str, tuple[str, ...]] = {
    "neon-role-password": ("project", "branch", "role"),
    "upstash-redis-user": ("database", "user"),
}
"""Of issuers whose credentials are not told apart by name alone: settings that say whose password is changed."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Another stack, as its file says.

    Attributes:
        stack: Its name.
        settings: Its settings.
        rotated: The secrets that it rotates.
    """

    stack: str
    settings: Settings
    rotated: tuple[str, ...]


def read(of: Project, *, stack: str) -> tuple[list[Neighbour], list[str]]:
    """The stacks beside this one, and the names of files that are none: nothing is known of what those claim.

    Args:
        of: The project.
        stack: This stack, which is left out.
    """
    found: list[Neighbour] = []
    unreadable: list[str] = []
    for name, path in files(of.folder).items():
        if name == stack:
            continue
        try:
            neighbour = of_config(of, name, read_config(path))
        except (OSError, ValueError, RefusedError):
            unreadable.append(path.name)
        else:
            if neighbour is not None:
                found.append(neighbour)
    return found, unreadable


def of_config(of: Project, stack: str, config: Mapping[str, Any]) -> Neighbour | None:
    """The stack of a config; None for one that has its providers to itself, or rotates nothing.

    Raises:
        ValueError: It is no config.
        RefusedError: Settings in it are wrong.
    """
    values = of.values(config)
    rotated = values.get("rotations")
    if not isinstance(rotated, Mapping):
        raise ValueError(stack)  # noqa: TRY004
    if values.get(OWN_PROVIDERS) in {True, "true"} or not rotated:
        return None
    return Neighbour(stack=stack, settings=settings_of(of, config), rotated=tuple(map(str, rotated)))


def settings_of(of: Project, config: Mapping[str, Any]) -> Settings:
    """The settings of a stack, as the program would have them.

    Raises:
        RefusedError: Some are wrong.
    """
    values = of.values(config)
    return configuration.load(
        lambda key: _text(values.get(key)),
        owner=_text(config.get("github:owner")),
        **{argument: values.get(key) for key, argument in OBJECTS.items()},
    )


def assert_apart(secrets: Iterable[Secret], neighbours: Iterable[Neighbour], *, settings: Settings) -> None:
    """Refuses a secret that another stack delivers to the same place, or whose credentials another stack mints in the same place.

    Args:
        secrets: What this stack rotates.
        neighbours: The other stacks.
        settings: Of this stack.

    Raises:
        RefusedError: With every such secret.
    """
    beside = list(neighbours)
    errors: list[RefusedError] = []
    for secret in secrets:
        mine = _places(secret)
        for neighbour in beside:
            if secret.name not in neighbour.rotated:
                continue
            theirs = _places_of(secret.name, neighbour.settings, mine=mine, ours=settings)
            errors.extend(_collision(secret.name, place, neighbour.stack) for place in sorted(mine & theirs))
    if errors:
        raise refusals(errors)


def _collision(name: str, place: str, stack: str) -> RefusedError:
    return RefusedError(
        f"{name} of this stack and of stack {stack} (Pulumi.{stack}.yaml) have the same place: {place}. Each would overwrite the value of "
        "the other, and revoke it.",
        next_step=f"give the two stacks different names for it, or take {name} off `rotations` of one of them. If stack {stack} or this one "
        f"has its providers to itself, as a sandbox has, say so there: `pulumi config set {OWN_PROVIDERS} true`.",
    )


def _places(secret: Secret) -> set[str]:
    """Where a secret is delivered, and where its credentials are made if their names alone do not tell whose they are."""
    found = {f"Fly app {each.app}" for each in secret.fly} | {str(each) for each in secret.repositories}
    if secret.tenants is not None:
        found.add(f"tenants' machines of Fly app {secret.tenants.app}")
    if secret.rows is not None and secret.rows.settings.get("project"):
        rows = secret.rows.settings
        found.add(
            f"encrypted rows of Neon project {rows['project']}, branch {rows['branch'] or 'by default'}, database {rows['database']}"
        )
    keys = SHARED.get(secret.source.kind, ()) if isinstance(secret.source, Issuer) else ()
    # What is not configured yet is refused for that.
    if keys and secret.source.settings[keys[0]]:
        what = ", ".join(f"{key} {secret.source.settings[key] or 'by default'}" for key in keys)
        found.add(f"credentials of {secret.source.kind} ({what})")
    return found


def _places_of(name: str, theirs: Settings, *, mine: Iterable[str], ours: Settings) -> set[str]:
    """The places of another stack's secret."""
    of_the_map: Callable[[Settings], Secret] | None = getattr(secret_map, name.lower(), None)
    if of_the_map is not None:
        return _places(of_the_map(theirs))
    # One of the program's own: the other stack's goes where this one's goes, but for what has its name from the config.
    return {_translated(place, ours, theirs) for place in mine}


def _translated(place: str, ours: Settings, theirs: Settings) -> str:
    for name, other in (
        (ours.app, theirs.app),
        (ours.tenant_app, theirs.tenant_app),
        (f"{ours.owner}/{ours.repository}", f"{theirs.owner}/{theirs.repository}"),
    ):
        if place.endswith(f" {name}"):
            return f"{place.removesuffix(name)}{other}"
    return place


def _text(value: object) -> str | None:
    """A value as the engine gives it to a program."""
    if value is None or isinstance(value, Mapping):  # encrypted: nothing that names a place is
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
