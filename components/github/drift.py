"""What holds another value at GitHub than it was given last. Reads only.

GitHub shows no value, only when a secret was last written, in whole seconds. pulumi-github keeps that time in the state after each of
its own writes (`updatedAt`; a refresh changes `remoteUpdatedAt` only), so another time is somebody else's write.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

import httpx

from components import at_once
from components.github.client import GitHubClient, SecretMetadata
from components.http import ApiError
from components.progress import GitHubWrite, State
from components.secret import GitHubSecret, Location, OrganizationSecret, Secret

# As Go prints a time.
GO_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? ([+-]\d{4})\b.*")
SELECTED = "selected"


def when(text: str) -> datetime | None:
    """The time that pulumi-github keeps (`2026-11-26 18:33:03 +0000 UTC`), in whole seconds; None where it is none."""
    if found := GO_TIME.fullmatch(text):
        return datetime.strptime(" ".join(found.groups()), "%Y-%m-%d %H:%M:%S %z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def look(
    client: GitHubClient, secrets: Iterable[Secret], state: State, *, repository_ids: Mapping[str, int]
) -> Mapping[str, Mapping[Location, str]]:
    """Per secret, the places at GitHub to write to again, each with the reason. Places that nothing was written to yet are not among them.

    Args:
        client: With the operator's token.
        secrets: Those that are rotated.
        state: What the stack deployed last.
        repository_ids: Of the repositories that may read an organization's secret, by name.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
    """
    written = [
        (secret.name, location, last)
        for secret in secrets
        for location in secret.repositories
        if (last := state.of(secret.name).github_writes.get(location.key)) is not None
    ]
    names: dict[str, list[str]] = {}
    for name, location, _ in written:
        names.setdefault(location.secrets_path, []).append(name)
    shown = dict(zip(names, at_once.ask(partial(_shown, client, *place) for place in names.items()), strict=True))
    reasons = at_once.ask(
        partial(
            _reason,
            client,
            location,
            name,
            last,
            shown=shown[location.secrets_path].get(name),
            selected=wanted_ids(location, repository_ids),
        )
        for name, location, last in written
    )
    found: dict[str, dict[Location, str]] = {}
    for (name, location, _), why in zip(written, reasons, strict=True):
        if why:
            found.setdefault(name, {})[location] = why
    return found


def _shown(client: GitHubClient, secrets_path: str, names: Sequence[str]) -> Mapping[str, SecretMetadata | None]:
    """What GitHub shows of secrets of a place: of one alone, or of all that are there."""
    if len(names) == 1:
        return {names[0]: client.secret(secrets_path, names[0])}
    return client.secrets(secrets_path) or {}


def selects(secret: Secret) -> bool:
    """Whether it goes to an organization, for the repositories that the config names."""
    return any(isinstance(each, OrganizationSecret) and each.visibility == SELECTED for each in secret.repositories)


def wanted_ids(location: GitHubSecret, repository_ids: Mapping[str, int]) -> tuple[int, ...]:
    """The ids of the repositories that are to read a secret of visibility `selected`, in order; () for any other place."""
    if not isinstance(location, OrganizationSecret) or location.visibility != SELECTED:
        return ()
    return tuple(sorted(repository_ids[name] for name in location.selected))


def reason(
    client: GitHubClient, location: GitHubSecret, name: str, written: GitHubWrite, *, selected: tuple[int, ...] = ()
) -> str:
    """Why the secret of a place is not what was written there last; "" where nothing says so.

    Args:
        client: With the operator's token.
        location: The place.
        name: Of the secret.
        written: The last write that the state knows.
        selected: The ids of the repositories that are to read it, see `wanted_ids`.

    Raises:
        ApiError: GitHub refused the token, or did not answer.
    """
    return _reason(client, location, name, written, shown=client.secret(location.secrets_path, name), selected=selected)


def _reason(
    client: GitHubClient,
    location: GitHubSecret,
    name: str,
    written: GitHubWrite,
    *,
    shown: SecretMetadata | None,
    selected: tuple[int, ...],
) -> str:
    if shown is None:
        # GitHub answers 404 for "no access" as well.
        if not client.may_see_secrets(location.secrets_path):
            raise ApiError(
                "GitHub",
                f"see the secrets of {_place(location)}",
                status=httpx.codes.NOT_FOUND,
                reason="the place is gone, or the token may not see its secrets",
            )
        return f"somebody deleted {name} of {_place(location)} since the last update"
    if (last := when(written.updated_at)) is None:
        return f"the state does not say when {name} of {_place(location)} was written"
    updated = shown.updated_at.replace(microsecond=0)
    if updated != last:
        return (
            f"somebody else set {name} of {_place(location)} since the last update: GitHub says {_utc(updated)}, "
            f"the state {_utc(last)}"
        )
    return _other_readers(client, location, name, written, shown, selected)


def _other_readers(
    client: GitHubClient,
    location: GitHubSecret,
    name: str,
    written: GitHubWrite,
    shown: SecretMetadata,
    selected: tuple[int, ...],
) -> str:
    """Why others may read an organization's secret than the config says."""
    if not isinstance(location, OrganizationSecret):
        return ""
    if location.visibility not in {written.visibility, shown.visibility} or written.visibility != shown.visibility:
        return (
            f"{name} of {_place(location)} is visible to `{shown.visibility}` and is to be to `{location.visibility}`"
        )
    if location.visibility == SELECTED and (
        written.selected != selected or tuple(client.selected_repositories(location.secrets_path, name)) != selected
    ):
        return f"{name} of {_place(location)} is read by other repositories than `githubDestinations` selects"
    return ""


def _place(location: GitHubSecret) -> str:
    return str(location).removeprefix("GitHub ").removeprefix("repository ")


def _utc(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
