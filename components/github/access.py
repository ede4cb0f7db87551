"""What keeps an update from writing a secret to GitHub, or its verification from proving anything. Reads only.

Whether a token may write a secret cannot be asked without a write: who may not see the secrets of a place may not write one either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import httpx

from components import at_once
from components.errors import RefusedError
from components.github.client import GitHubClient
from components.http import ApiError
from components.secret import (
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    GitHubSecret,
    OrganizationSecret,
    RepositorySecret,
    Secret,
)

NAMED = 5  # environments in one message
# GitHub takes 80 requests a minute that create content ("Rate limits for the REST API", secondary limits).
WRITES_A_MINUTE = 80
WRITE_DELAY_MS = 1000  # of pulumi-github where the config has none (`writeDelayMs`)
OF_DEPENDABOT = DependabotSecret | DependabotOrganizationSecret
# The right to write secrets, as GitHub calls it for fine-grained tokens, and the scope of a classic one.
RIGHTS: tuple[tuple[type[GitHubSecret], str], ...] = (
    (
        DependabotOrganizationSecret,
        "fine-grained: `Organization dependabot secrets: write`; classic: scope `admin:org`",
    ),
    (OrganizationSecret, "fine-grained: `Organization secrets: write`; classic: scope `admin:org`"),
    (DependabotSecret, "fine-grained: `Dependabot secrets: write`; classic: scope `repo`"),
    (EnvironmentSecret, "fine-grained: `Environments: write`; classic: scope `repo`"),
    (RepositorySecret, "fine-grained: `Secrets: write`; classic: scope `repo`"),
)


def too_fast(secrets: Iterable[Secret], *, write_delay_ms: int | None) -> str:
    """What is wrong with the pace at which one update may write to GitHub, "" for nothing.

    Args:
        secrets: All that a stack rotates.
        write_delay_ms: The config's `github:writeDelayMs`, milliseconds after each write; None where it has none.
    """
    writes = sum(len(secret.repositories) for secret in secrets)
    slowest = 60_000 // WRITES_A_MINUTE
    if writes <= WRITES_A_MINUTE or (WRITE_DELAY_MS if write_delay_ms is None else write_delay_ms) >= slowest:
        return ""
    return (
        f"This stack holds {writes} secrets at GitHub, which takes {WRITES_A_MINUTE} writes a minute, and `github:writeDelayMs` is "
        f"{write_delay_ms}: take it off, or set it to {slowest} or more. Else GitHub makes an update wait that changes many of them."
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """What was seen of a place at GitHub, whichever secrets go there.

    Attributes:
        fault: Why nothing can be written there, or nothing verified; None where nothing says so.
        warnings: What the operator should know, although it is no obstacle.
    """

    fault: RefusedError | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen at GitHub.

    Attributes:
        places: Every place that a secret goes to.
        environments: By repository (`owner/name`), the names of its environments, where a secret of the same name may stand in one that the
            stack does not write to. Without those that the token may not see.
    """

    places: Mapping[GitHubSecret, Place]
    environments: Mapping[str, Sequence[str]]


def look(client: GitHubClient, secrets: Iterable[Secret]) -> Seen:
    """Looks at every place that secrets go to, at each once.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
    """
    secrets = list(secrets)
    locations = list(dict.fromkeys(location for secret in secrets for location in secret.repositories))
    seen = at_once.ask(partial(_place, client, each) for each in locations)
    places = dict(zip(locations, seen, strict=True))
    repositories = list(
        dict.fromkeys(
            actions[0].full_name
            for secret in secrets
            if (actions := _of_actions(secret))
            and not any(places[each].fault for each in secret.repositories)
            and not _written(actions)
        )
    )
    environments = at_once.ask(partial(_environments, client, each) for each in repositories)
    return Seen(places=places, environments=dict(zip(repositories, environments, strict=True)))


def check(
    client: GitHubClient, secret: Secret, seen: Seen, *, ends_a_value: bool
) -> tuple[list[RefusedError], list[str]]:
    """What is to be said of every place at GitHub that a secret goes to.

    Args:
        client: With the operator's token.
        secret: Which one.
        seen: Of this secret among others.
        ends_a_value: Whether a value that somebody may still read is revoked once this update has been verified.

    Returns:
        What has to be refused, and what the operator should know, although it is no obstacle.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
    """
    errors: list[RefusedError] = []
    warnings: list[str] = []
    for location in secret.repositories:
        place = seen.places[location]
        warnings.extend(place.warnings)
        if place.fault is not None and str(place.fault) not in map(str, errors):
            errors.append(place.fault)
    if not errors:
        _other_values(client, secret, errors, warnings, ends_a_value=ends_a_value)
        _environments_with_their_own(client, secret, seen.environments, warnings)
    return errors, warnings


def _place(client: GitHubClient, location: GitHubSecret) -> Place:
    warnings: list[str] = []
    fault = _repository(client, location)
    if fault is None:
        match location:
            case EnvironmentSecret():
                fault = _environment(client, location, warnings)
            case OrganizationSecret():
                fault = _organization(client, location)
            case _:
                fault = _secrets(client, location)
    if fault is None and not isinstance(location, OF_DEPENDABOT):
        fault = _workflow(client, location)
    return Place(fault=fault, warnings=tuple(warnings))


def right_to_write(location: GitHubSecret) -> str:
    """What a token needs to write the secrets of a place."""
    return next(right for kind, right in RIGHTS if isinstance(location, kind))


def repository_ids(client: GitHubClient, secrets: Iterable[Secret]) -> dict[str, int]:
    """The ids of the repositories that may read an organization's secret of visibility `selected`, by name.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
        RefusedError: There is no such repository.
    """
    found: dict[str, int] = {}
    for secret in secrets:
        for location in secret.repositories:
            for name in location.selected if isinstance(location, OrganizationSecret) else ():
                if name in found:
                    continue
                shown = client.repository(f"{location.owner}/{name}")
                if shown is None:
                    raise RefusedError(
                        f"`githubDestinations.selectedRepositories` names {name}, and GitHub has no repository "
                        f"{location.owner}/{name} that the operator token can see.",
                        next_step="mend the name in the stack's config, or use a token with access to it.",
                    )
                found[name] = shown.repository_id
    return found


def _repository(client: GitHubClient, location: GitHubSecret) -> RefusedError | None:
    repository = location.full_name
    may_push = client.can_push(repository)
    if may_push is None:
        return RefusedError(
            f"GitHub has no repository {repository} that the operator token can see.",
            next_step="mend `github:owner` and `repository` in the stack's config, or use a token with access to it.",
        )
    if not may_push:
        return RefusedError(
            f"The operator's GitHub token may read {repository} but not write to it.",
            next_step="use a token that may write secrets and run workflows (classic: scope `repo`).",
        )
    return None


def _workflow(client: GitHubClient, location: GitHubSecret) -> RefusedError | None:
    if client.has_workflow(location.full_name, location.workflow):
        return None
    return RefusedError(
        f"{location.full_name} has no workflow {location.workflow} that the operator's GitHub token can see, so nothing could be verified.",
        next_step="mend `workflow` in the stack's config, or use a token that may see it (fine-grained: `Actions: write`).",
    )


def _environment(client: GitHubClient, location: EnvironmentSecret, warnings: list[str]) -> RefusedError | None:
    shown = client.environment(location.environment_path)
    if shown is None:
        known = client.environments(location.full_name)
        return RefusedError(
            f"{location.full_name} has no environment {location.environment} that the operator's GitHub token can see. "
            + (f"It has {_listed(known)}." if known else "It has none."),
            next_step="mend `githubDestinations.environments` in the stack's config, or make the environment at GitHub (Settings, "
            "Environments).",
        )
    if shown.waits_for_people:
        warnings.append(
            f"The environment {location.environment} of {location.full_name} lets a job start only once somebody has approved it: the "
            "workflow run of the verification waits for that, for `workflowTimeout` at most."
        )
    return _secrets(client, location)


def _organization(client: GitHubClient, location: OrganizationSecret) -> RefusedError | None:
    shown = client.repository(location.full_name)
    if shown is not None and not shown.of_organization:
        return RefusedError(
            f"{location.owner} is a user, and only organizations have secrets of their own.",
            next_step="take `organization` and `dependabotOrganization` off `githubDestinations`, or mend `github:owner`.",
        )
    if shown is not None and not shown.private and location.visibility == "private":
        return RefusedError(
            f"{location.full_name} is public, so its workflow cannot read a secret of {location} that is visible to `private` repositories.",
            next_step="set it to `selected` in `githubDestinations`.",
        )
    return _secrets(client, location)


def _secrets(client: GitHubClient, location: GitHubSecret) -> RefusedError | None:
    if client.may_see_secrets(location.secrets_path):
        return None
    words = (
        "the Actions secrets of " + location.full_name
        if isinstance(location, RepositorySecret)
        else f"the secrets of {location}"
    )
    return RefusedError(
        f"The operator's GitHub token may not see {words}.",
        next_step=f"use a token that may write them ({right_to_write(location)}).",
    )


def may_be_hidden(secret: Secret) -> bool:
    """Whether the repository may have a secret of this name that is not the stack's. Behind the repository's own nothing else is read."""
    actions = _of_actions(secret)
    return bool(actions) and not any(isinstance(each, RepositorySecret) for each in actions)


def other_values(client: GitHubClient, secret: Secret) -> list[tuple[str, str]]:
    """Finds secrets of the same name that the workflow may read in the place of those that are written.

    A job reads its environment's before the repository's before the organization's. Where the repository or the organization has one that
    this stack does not write, a run of the workflow may succeed with that, and proves nothing.

    Returns:
        For each, what is so, as a sentence without its full stop, and what would have it written as well: the end of a config command.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
    """
    if not may_be_hidden(secret):
        return []
    actions = _of_actions(secret)
    location, name = actions[0], secret.name
    found = []
    if client.secret(f"/repos/{location.full_name}/actions/secrets", name) is not None:
        found.append((f"repository {location.full_name}", "repository true"))
    if not any(isinstance(each, OrganizationSecret) for each in actions) and name in client.organization_secrets(
        location.full_name
    ):
        found.append((f"organization {location.owner}", "organization selected"))
    return [
        (
            (
                f"The {place} has a {name} too, which this stack does not write: a run of {location.workflow} that reads that one would "
                f"succeed, and prove nothing of the value at {' and '.join(str(each) for each in actions)}"
            ),
            setting,
        )
        for place, setting in found
    ]


def _of_actions(secret: Secret) -> list[GitHubSecret]:
    """The places whose secrets a workflow may read."""
    return [each for each in secret.repositories if not isinstance(each, OF_DEPENDABOT)]


def _other_values(
    client: GitHubClient, secret: Secret, errors: list[RefusedError], warnings: list[str], *, ends_a_value: bool
) -> None:
    for happened, setting in other_values(client, secret):
        if ends_a_value:
            errors.append(
                RefusedError(
                    f"{happened}.",
                    next_step="delete it there once no job needs it any more; or have it written as well (pulumi config set --path "
                    f"githubDestinations.{setting}).",
                )
            )
        else:
            warnings.append(f"{happened}. The next rotation is refused until it is deleted there, or written as well.")


def _written(actions: Iterable[GitHubSecret]) -> bool:
    """Whether an environment is written to: the workflow runs in one of those."""
    return any(isinstance(each, EnvironmentSecret) for each in actions)


def _environments(client: GitHubClient, repository: str) -> Sequence[str]:
    try:
        return client.environments(repository)
    except ApiError as error:
        if _may_not_see_environments(error):
            return ()
        raise


def _may_not_see_environments(error: ApiError) -> bool:
    """A fine-grained token needs no right to environments where none is written to."""
    return error.status in {httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}


def _environments_with_their_own(
    client: GitHubClient, secret: Secret, environments: Mapping[str, Sequence[str]], warnings: list[str]
) -> None:
    """Environments that have a secret of the same name. That may be as it should be: another stack's."""
    actions = _of_actions(secret)
    if not actions or _written(actions):
        return
    repository = actions[0]
    others = []
    try:
        for environment in environments[repository.full_name]:
            place = EnvironmentSecret(
                owner=repository.owner,
                repository=repository.repository,
                workflow=repository.workflow,
                environment=environment,
            )
            if client.secret(place.secrets_path, secret.name) is not None:
                others.append(environment)
    except ApiError as error:
        if not _may_not_see_environments(error):
            raise
        return
    if others:
        warnings.append(
            f"{secret.name} stands in {_listed(others)} of {repository.full_name} too, which this stack does not write: jobs that declare such "
            f"an environment read that one. Where {repository.workflow} does, list it in `githubDestinations.environments`."
        )


def _listed(environments: list[str]) -> str:
    named = ", ".join(environments[:NAMED])
    more = f" and {len(environments) - NAMED} more" if len(environments) > NAMED else ""
    return f"the environment{'s' if len(environments) > 1 else ''} {named}{more}"
