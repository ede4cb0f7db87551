"""Where at GitHub a secret goes: the config key `githubDestinations`. Pure.

Source of what a job reads: GitHub documentation, "Using secrets in GitHub Actions": an environment's secret before the repository's before the
organization's; "Managing encrypted secrets for Dependabot": jobs that Dependabot starts read Dependabot's secrets and none of Actions.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from components.errors import RefusedError, refusals
from components.secret import (
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    GitHubSecret,
    OrganizationSecret,
    RepositorySecret,
)

KEY = "githubDestinations"
VISIBILITIES = ("all", "private", "selected")
SELECTED = "selected"
KNOWN = ("repository", "environments", "organization", "dependabot", "dependabotOrganization", "selectedRepositories")
LONGEST_ENVIRONMENT = 255  # characters (GitHub documentation, "Managing environments for deployment")


@dataclass(frozen=True, kw_only=True)
class Destinations:
    """Where a secret goes at GitHub.

    Attributes:
        repository: Whether the repository gets it.
        environments: Names of its deployment environments that get it.
        organization: Who may read the organization's: `all`, `private` or `selected`; "" where the organization does not get it.
        dependabot: Whether the repository's Dependabot gets it.
        dependabot_organization: As `organization`, of the organization's Dependabot.
        selected: Names of the repositories that `selected` means; () for the repository alone.
    """

    repository: bool = True
    environments: tuple[str, ...] = ()
    organization: str = ""
    dependabot: bool = False
    dependabot_organization: str = ""
    selected: tuple[str, ...] = ()

    def locations(self, *, owner: str, repository: str, workflow: str) -> tuple[GitHubSecret, ...]:
        """The places themselves, in the order of delivery; none where there is no repository."""
        if not repository:
            return ()
        place = {"owner": owner, "repository": repository, "workflow": workflow}
        selected = tuple(sorted(set(self.selected or (repository,))))
        found: list[GitHubSecret] = [
            EnvironmentSecret(**place, environment=environment) for environment in self.environments
        ]
        if self.repository:
            found.insert(0, RepositorySecret(**place))
        for kind, visibility in (
            (OrganizationSecret, self.organization),
            (DependabotOrganizationSecret, self.dependabot_organization),
        ):
            if visibility:
                readers = selected if visibility == SELECTED else ()
                found.append(kind(**place, visibility=visibility, selected=readers))
        if self.dependabot:
            found.append(DependabotSecret(**place))
        return tuple(found)


def parse(raw: object, *, repository: str) -> Destinations:
    """Reads the config key.

    Args:
        raw: Its value; None and an empty map mean the repository alone.
        repository: The config key `repository`.

    Raises:
        RefusedError: With everything that is wrong.
    """
    if raw is None or raw == {}:
        return Destinations()
    if not isinstance(raw, Mapping):
        raise _wrong(KEY, raw, "a map such as `{environments: [production]}`")
    errors = [_unknown(str(name)) for name in raw if name not in KNOWN]
    errors.extend(
        _wrong(f"{KEY}.{name}", raw[name], "true or false")
        for name in ("repository", "dependabot")
        if not isinstance(raw.get(name, False), bool)
    )
    errors.extend(
        _wrong(f"{KEY}.{name}", raw[name], "`all`, `private` or `selected`: who may read it")
        for name in ("organization", "dependabotOrganization")
        if name in raw and raw[name] not in VISIBILITIES
    )
    environments = _names(raw, "environments", "names of deployment environments", errors)
    selected = _names(raw, "selectedRepositories", "names of repositories of the organization", errors)
    errors.extend(
        _wrong(f"{KEY}.environments", name, f"a name of at most {LONGEST_ENVIRONMENT} printable characters")
        for name in environments
        if len(name) > LONGEST_ENVIRONMENT or not name.isprintable() or name != name.strip() or name in {".", ".."}
    )
    errors.extend(
        _wrong(f"{KEY}.selectedRepositories", name, "a repository's name, without its owner")
        for name in selected
        if "/" in name
    )
    if errors:
        raise refusals(errors)
    found = Destinations(
        repository=raw.get("repository", False),
        environments=environments,
        organization=raw.get("organization", ""),
        dependabot=raw.get("dependabot", False),
        dependabot_organization=raw.get("dependabotOrganization", ""),
        selected=selected,
    )
    if errors := _contradictions(found, repository):
        raise refusals(errors)
    return found


def _contradictions(found: Destinations, repository: str) -> list[RefusedError]:
    errors = []
    if not (found.repository or found.environments or found.organization):
        errors.append(
            RefusedError(
                f"`{KEY}` names no place that a workflow reads: Dependabot's secrets are not available to Actions.",
                next_step=f"pulumi config set --path {KEY}.repository true (or {KEY}.environments[0] NAME, or {KEY}.organization selected)",
            )
        )
    selects = SELECTED in {found.organization, found.dependabot_organization}
    if found.selected and not selects:
        errors.append(
            RefusedError(
                f"`{KEY}.selectedRepositories` is set, and neither `organization` nor `dependabotOrganization` is `{SELECTED}`.",
                next_step=f"pulumi config rm --path {KEY}.selectedRepositories",
            )
        )
    if found.organization == SELECTED and found.selected and repository not in found.selected:
        errors.append(
            RefusedError(
                f"`{KEY}.selectedRepositories` leaves {repository} out, whose workflow proves the value: it could not read it.",
                next_step=f"pulumi config set --path '{KEY}.selectedRepositories[{len(found.selected)}]' {repository}",
            )
        )
    if not repository:
        errors.append(
            RefusedError(
                f"`{KEY}` is set, and `repository` is empty: nothing goes to GitHub.",
                next_step=f"pulumi config set repository …, or pulumi config rm {KEY}",
            )
        )
    return errors


def _names(raw: Mapping[str, object], key: str, expected: str, errors: list[RefusedError]) -> tuple[str, ...]:
    """A list of different names, which may be given as one name. GitHub's names have no case."""
    listed = raw.get(key, [])
    names = [listed] if isinstance(listed, str) else listed
    if not isinstance(names, list) or not all(isinstance(each, str) and each.strip() for each in names):
        errors.append(_wrong(f"{KEY}.{key}", listed, f"a list of {expected}"))
        return ()
    if len({each.casefold() for each in names}) < len(names):
        errors.append(_wrong(f"{KEY}.{key}", listed, f"a list of different {expected}"))
    return tuple(names)


def _unknown(name: str) -> RefusedError:
    nearest = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.5)
    hint = f"Did you mean `{nearest[0]}`?" if nearest else f"Known: {', '.join(KNOWN)}."
    return RefusedError(
        f"`{KEY}` has the key `{name}`, which is no kind of place at GitHub. {hint}",
        next_step=f"pulumi config rm --path '{KEY}.{name}'",
    )


def _wrong(key: str, value: object, expected: str) -> RefusedError:
    return RefusedError(
        f"The config key `{key}` is {value!r}; it has to be {expected}.", next_step=f"pulumi config set --path {key} …"
    )
