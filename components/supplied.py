"""Values that the operator supplies through the stack's config, and what can be refused about them without a network. No Pulumi here.

A generation stands for one value. So a counter that is bumped without a new value, and a new value without a bump, are mistakes: the one
would verify and revoke without having rotated anything, the other would go unnoticed.
"""

from collections.abc import Iterable, Mapping

from components.errors import RefusedError, refusals
from components.keyring import fingerprint, flaw
from components.progress import Progress
from components.secret import Secret, Supplied


def values(
    raw: object,
    secrets: Iterable[Secret],
    *,
    generations: Mapping[str, int],
    progress: Mapping[str, Progress],
    encrypted: bool,
) -> dict[str, str]:
    """The supplied value of every rotated secret that has one. What is supplied for another secret of the map is not looked at.

    A value that was given up is left out: the state has that of the requested generation.

    Args:
        raw: The config key `supplied`.
        secrets: The secret map.
        generations: The requested ones; a secret that is not here is not rotated.
        progress: How far each secret is.
        encrypted: Whether the config keeps `supplied` encrypted.

    Raises:
        RefusedError: With every entry that is missing, unknown, or that does not fit its counter.
    """
    if not isinstance(raw, Mapping):
        raise RefusedError(
            "The config key `supplied` has to be a map from secret to value.",
            next_step="pulumi config set --secret --path supplied.<NAME>   (it asks for the value)",
        )
    if raw and not encrypted:
        raise RefusedError(
            "The config keeps `supplied` in plaintext.",
            next_step="`pulumi config rm supplied`, make new values where they come from, and hand them in with "
            "`pulumi config set --secret --path supplied.<NAME>`.",
        )
    secrets = list(secrets)
    taking = [secret.name for secret in secrets if isinstance(secret.source, Supplied) and secret.name in generations]
    names = {secret.name for secret in secrets}
    errors = [_unknown(str(name)) for name in raw if name not in names]
    found: dict[str, str] = {}
    for name in taking:
        value, so_far = raw.get(name), progress.get(name, Progress())
        if not isinstance(value, str) or not value:
            # Needed once: from then on the state has it, and the config may forget it.
            if generations[name] not in so_far.fingerprints:
                errors.append(_missing(name))
            continue
        # One that is delivered already works: whoever wants it mended rotates.
        if (wrong := flaw(value)) and fingerprint(value) not in so_far.fingerprints.values():
            errors.append(
                RefusedError(
                    f"The supplied value of {name} {wrong}.",
                    next_step=f"hand it in again, without that: pulumi config set --secret --path 'supplied.{name}'   (it asks for the value)",
                )
            )
            continue
        if error := _mismatch(name, fingerprint(value), generations[name], so_far):
            errors.append(error)
        if so_far.fingerprints.get(generations[name], fingerprint(value)) == fingerprint(value):
            found[name] = value
    if errors:
        raise refusals(errors)
    return found


def _mismatch(name: str, value: str, generation: int, progress: Progress) -> RefusedError | None:
    """What is wrong between counter and value.

    After a counter went back, the config still holds the abandoned value: that is known, and not taken for a new one.
    """
    known = progress.fingerprints
    next_generation = max(known, default=progress.current) + 1
    if generation == progress.current:
        if value in known.values() or not known:
            return None
        return RefusedError(
            f"The supplied value of {name} has changed, but its rotation counter is still {generation}.",
            next_step=f"pulumi config set --path 'rotations.{name}' {next_generation}",
        )
    if generation < progress.current:
        return None if generation in known else _never_minted(name, generation, next_generation, progress)
    if known.get(generation) == value:
        return None  # forward again to one that had been given up
    if value in known.values():
        before = next(each for each, held in known.items() if held == value)
        return RefusedError(
            f"The rotation counter of {name} is {generation}, but the supplied value is still that of generation {before}.",
            next_step=f"hand the new value in (pulumi config set --secret --path 'supplied.{name}'), or set the counter back to "
            f"{progress.current}.",
        )
    if generation in known:
        return RefusedError(
            f"Generation {generation} of {name} was another value, which was given up.",
            next_step=f"pulumi config set --path 'rotations.{name}' {next_generation}",
        )
    return None


def _never_minted(name: str, generation: int, next_generation: int, progress: Progress) -> RefusedError:
    back = f", or {progress.verified} to go back" if progress.verified else ""
    return RefusedError(
        f"The rotation counter of {name} is {generation}, lower than generation {progress.current}, and the stack knows no value of it.",
        next_step=f"pulumi config set --path 'rotations.{name}' {next_generation} to rotate{back}.",
    )


def _missing(name: str) -> RefusedError:
    return RefusedError(
        f"{name} is listed in `rotations`, but its value has not been handed in.",
        next_step=f"pulumi config set --secret --path 'supplied.{name}'   (it asks for the value)",
    )


def _unknown(name: str) -> RefusedError:
    return RefusedError(
        f"`supplied` holds a value for {name}, which is no secret of this program.",
        next_step=f"pulumi config rm --path 'supplied.{name}'",
    )
