"""What an update does, decided before anything is touched: reads config, state and providers, refuses, and says what the graph will do."""

import gc
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pulumi
from pulumi.runtime import is_dry_run
from pulumi.runtime.config import is_config_secret

from components import (
    at_once,
    clock,
    drift,
    http,
    impact_text,
    leaving,
    neighbours,
    operator_credentials,
    own_state,
    preflight,
    stack_files,
    stack_traces,
    staging,
)
from components import settings as configuration
from components import supplied as supplied_values
from components.clock import utc_now
from components.encryption.reencryption import KEY_BEFORE
from components.engine_errors import without_traceback
from components.errors import OperatorError, RefusedError
from components.fly.client import FlyClient
from components.github import access
from components.github import drift as github_drift
from components.github.client import GitHubClient
from components.github.destinations import KEY as GITHUB_DESTINATIONS
from components.http import ApiError
from components.impact import Case, Finding, Impact, Surroundings, as_data, impact_of, summary
from components.issuers import ISSUERS
from components.leaving import Leaver
from components.progress import State
from components.promotion import Promotion
from components.rotated import Rotated
from components.secret import LEAKED, ROUTINE, Family, Location, Secret
from components.settings import ROLLING, STAGED, Settings
from components.stack_before import promotion_of_config, promotions_of
from components.staging import HeldBack
from components.stripe.old_value import readable
from components.work import Work, work_of

Result = TypeVar("Result")

PROGRAM = Path(__file__).parents[1]  # where Pulumi.yaml is
IMPACT_FILE = "ROTATION_IMPACT_FILE"  # the variable that names a file for the impact, as JSON: a preview's outputs are kept nowhere


def load_settings() -> Settings:
    """The stack's settings. Ends the program with what is wrong where something is."""
    config = pulumi.Config()
    owner = pulumi.Config("github").get("owner")
    return _refusing(
        lambda: configuration.load(
            config.get,
            owner=owner,
            old_values=config.get_object("oldValueExpiresAt"),
            compromised=config.get_object("compromised"),
            reasons=config.get_object("reasons"),
            max_age_days=config.get_object("maxAgeDays"),
            github_destinations=config.get_object(GITHUB_DESTINATIONS),
        )
    )


def rotate(settings: Settings, secrets: Iterable[Secret], *, not_managed: Mapping[str, str]) -> None:
    """Registers the rotation of every secret that `rotations` lists, and the stack's outputs.

    Everything that can be refused is refused before the first resource is registered, in preview as in an update.

    Args:
        settings: The stack's settings.
        secrets: The secret map.
        not_managed: Names of the map that this program cannot rotate, with the reason.
    """
    without_traceback()
    # While the engine and the providers answer. What the graph is made of, the SDK of GitHub above all, takes as long to import.
    at_once.prepare(http.client, at_once.importing("components.graph"))
    state = _refusing(own_state.read)
    secrets = list(secrets)
    leavers = _refusing(lambda: _leavers(settings, secrets, not_managed, state))
    rotated, impact = _refusing(lambda: _decide(settings, secrets, not_managed, state, leavers))
    text = impact_text.render(impact)
    _refusing(lambda: _write_impact(as_data(impact, text=text)))
    # The table has been seen in the preview; an update that was started without one says what it does in one line.
    pulumi.log.info(text if is_dry_run() else summary(impact))
    from components.graph import Protection, Rotation  # noqa: PLC0415 - see above

    with stack_traces.short():
        rotation = Rotation(settings, rotated, operator_environment=_operator_environment(), leaving=leavers)
        Protection(rotation, protect=settings.protect)
    pulumi.export("secrets", rotation.secrets)
    pulumi.export("notManaged", dict(not_managed))
    # Of the last update that had something to do: else every other one would show it as a change.
    pulumi.export("impact", _output(impact) if impact.pending else state.outputs.get("impact", _output(impact)))
    # At its end the interpreter looks once more for garbage among all that was imported, for 0.2 s. This process has nothing to collect.
    gc.freeze()


def _leavers(settings: Settings, secrets: list[Secret], not_managed: Mapping[str, str], state: State) -> list[Leaver]:
    """The secrets that are not managed any more."""
    config = pulumi.Config()
    names = [secret.name for secret in secrets]
    rotated = configuration.rotations(config.get_object("rotations"), managed=names, not_managed=not_managed)
    listed = configuration.decommissioned(
        config.get_object("decommission") or [], managed=names, not_managed=not_managed, rotated=rotated
    )
    return leaving.leavers(
        secrets, state, rotated=rotated, decommissioned=listed, app=settings.app, stack=pulumi.get_stack()
    )


def _decide(
    settings: Settings,
    secrets: list[Secret],
    not_managed: Mapping[str, str],
    state: State,
    leavers: Sequence[Leaver] = (),
) -> tuple[list[Rotated], Impact]:
    """What is rotated, and what that does.

    Raises:
        RefusedError: Something of it cannot be done, or should not.
    """
    config = pulumi.Config()
    names = [secret.name for secret in secrets]
    generations = configuration.rotations(config.get_object("rotations"), managed=names, not_managed=not_managed)
    promotion = promotion_of_config(config)
    for key, listed in (
        ("promotionOverrides", promotion.overrides),
        ("reasons", settings.reasons),
        ("maxAgeDays", settings.max_age_days),
        ("compromised", settings.compromised),
    ):
        configuration.assert_known(key, listed, known=names)
    also = configuration.unmanaged_to_revoke(config.get_object("revokeUnmanaged"), rotated=generations)
    rotated = [secret for secret in secrets if secret.name in generations]
    configuration.assert_configured(rotated)
    configuration.assert_coupled(rotated)
    _assert_apart(settings, rotated)
    configuration.assert_no_step_back(generations, state.progress)
    configuration.assert_not_half_ended(generations, state)
    supplied = supplied_values.values(
        config.get_object("supplied"),
        secrets,
        generations=generations,
        progress=state.progress,
        encrypted=is_config_secret(config.full_key("supplied")),
    )
    _assert_encrypted(config, KEY_BEFORE)
    unfinished = [
        secret for secret in rotated if not _is_finished(state, secret.name, generation=generations[secret.name])
    ]
    configuration.assert_compromised(
        unfinished, generations=generations, compromised=settings.compromised, progress=state.progress
    )
    rollout = _rollout(settings, unfinished)
    staging.assert_may_be_staged(unfinished, rollout=rollout)
    held_back = _held_back(rollout, rotated, generations, state)
    cases = [
        Rotated(
            secret=secret,
            family=Family(
                app=settings.app,
                stack=pulumi.get_stack(),
                secret=secret.name,
                longest_name=ISSUERS[secret.source.kind].longest_name,
            ),
            generation=generations[secret.name],
            progress=state.of(secret.name),
            supplied=supplied.get(secret.name, ""),
            held_back=held_back.get(secret.name),
            also=tuple(also.get(secret.name, ())),
            max_age_days=settings.max_age_days.get(secret.name),
        )
        for secret in rotated
    ]
    return _foresee(replace(settings, rollout=rollout), cases, state, promotion, leavers)


def _foresee(
    settings: Settings, rotated: list[Rotated], state: State, promotion: Promotion, leavers: Sequence[Leaver]
) -> tuple[list[Rotated], Impact]:
    """What is done for each secret, with all that has to be read for that.

    Raises:
        RefusedError: What it takes is not there.
    """
    stages = settings.rollout == STAGED
    seen, (ids, overwritten, unknown) = at_once.both(
        lambda: _seen(rotated, state, staged=stages),
        lambda: _seen_at_github([each.secret for each in rotated], state),
    )
    if unknown:
        pulumi.log.warn(unknown)
    drifted = {
        each.secret.name: {**seen.drifted.get(each.secret.name, {}), **overwritten.get(each.secret.name, {})}
        for each in rotated
    }
    operator = _operator_values()
    works: dict[str, Work] = {
        each.secret.name: work_of(
            each.secret,
            each.generation,
            each.progress,
            tenants=state.tenants,
            checks=each.wanted_checks(operator),
            also=each.also,
            drifted=drifted[each.secret.name],
            held_back=each.held_back is not None,
        )
        for each in rotated
    }
    # A reason counts for what is being done; what has been verified keeps the one that it was verified with.
    rotated = [
        replace(
            each,
            reason=settings.reasons.get(each.secret.name, ROUTINE)
            if works[each.secret.name].verifies
            else each.progress.reason,
            writes_again=works[each.secret.name].writes_again,
            repository_ids=ids,
        )
        for each in rotated
    ]
    decisions = promotions_of(rotated, works, promotion, reasons=settings.reasons)
    rotated = [replace(each, record=decisions[each.secret.name].record) for each in rotated]
    candidates = [
        preflight.Candidate(
            secret=each.secret,
            work=works[each.secret.name],
            generation=each.generation,
            name=each.family.credential_name(each.generation),
            progress=each.progress,
            supplied=each.supplied,
            also=each.also,
        )
        for each in rotated
        if works[each.secret.name].asks_providers
    ]
    findings = preflight.Findings()
    if candidates:
        findings = preflight.check(
            candidates,
            control_plane_url=settings.control_plane_url,
            tenant_app=settings.tenant_app,
            config=_config_value,
            known=seen.machines,
        )
    left = leaving.examine(leavers, settings, _config_value)
    noted = [
        *findings.warnings,
        *_of_reasons(settings, rotated, works),
        *_of_the_clock(),
        *_of_github([each.secret for each in rotated]),
        *leaving.reminders(leavers),
    ]
    for warning in noted:
        pulumi.log.warn(warning)
    impact = impact_of(
        (
            Case(
                secret=each.secret,
                family=each.family,
                work=works[each.secret.name],
                generation=each.generation,
                reason=each.reason,
                also=each.also,
                drifted=drifted[each.secret.name],
                staged=each.held_back.reason if each.held_back is not None else "",
                finding=findings.secrets.get(each.secret.name, Finding()),
                max_age_days=each.max_age_days,
                promotion=decisions[each.secret.name].said,
            )
            for each in rotated
        ),
        Surroundings(
            stack=pulumi.get_stack(),
            state=state,
            machines={**seen.machines, **findings.machines, **left.machines},
            max_unavailable=settings.max_unavailable,
            stages=stages,
            reprovision_path=settings.reprovision_path,
            now=utc_now(),
        ),
        left.departures,
    )
    return rotated, impact


def _assert_apart(settings: Settings, rotated: list[Secret]) -> None:
    """Refuses what another stack of this program delivers to the same place. Says what it cannot know.

    Raises:
        RefusedError: With every such secret.
    """
    if pulumi.Config().get_bool(neighbours.OWN_PROVIDERS):
        return
    try:
        project = stack_files.project(PROGRAM)
    except (OSError, ValueError) as error:
        pulumi.log.warn(
            f"Whether another stack delivers to the same places is not known: {type(error).__name__} at {stack_files.PROJECT_FILE}."
        )
        return
    beside, unreadable = neighbours.read(project, stack=pulumi.get_stack())
    for name in unreadable:
        pulumi.log.warn(f"{name} cannot be read as a stack's config, so what that stack delivers where is not known.")
    neighbours.assert_apart(rotated, beside, settings=settings)


def _is_finished(state: State, secret: str, *, generation: int) -> bool:
    progress = state.of(secret)
    return progress.verified == generation and progress.current == generation


def _rollout(settings: Settings, unfinished: Iterable[Secret]) -> str:
    """`rolling` or `staged`. Nothing waits for a deployment while a value that has leaked is still good."""
    leaked = [secret.name for secret in unfinished if settings.reasons.get(secret.name) == LEAKED]
    if settings.rollout == STAGED and leaked:
        pulumi.log.warn(
            f"`rollout: staged` is set aside, because {' and '.join(leaked)} has leaked: machines restart in this update, with every "
            "secret of theirs that is staged."
        )
        return ROLLING
    return settings.rollout


def _of_reasons(settings: Settings, rotated: Iterable[Rotated], works: Mapping[str, Work]) -> Iterable[str]:
    """Reasons of the config that no rotation is left for: the next one would be hurried without need."""
    for each in rotated:
        name = each.secret.name
        if settings.reasons.get(name) == LEAKED and not works[name].verifies and each.held_back is None:
            yield (
                f"`reasons.{name}` is still `{LEAKED}`, and generation {each.generation} is verified: take it off "
                f"(`pulumi config rm --path 'reasons.{name}'`), or the next rotation is hurried as well."
            )


def _of_github(secrets: Iterable[Secret]) -> Iterable[str]:
    """A config with which pulumi-github would write faster than GitHub takes it."""
    warning = access.too_fast(secrets, write_delay_ms=pulumi.Config("github").get_int("writeDelayMs"))
    return [warning] if warning else []


def _of_the_clock() -> Iterable[str]:
    """A clock that is wrong. What depends on the time is done by the providers' one."""
    ahead = clock.ahead()
    if ahead:
        direction = "ahead of" if ahead > timedelta(0) else "behind"
        yield (
            f"The clock of this machine is {readable(abs(ahead))} {direction} that of the providers, whose time counts here. Set it right: "
            "whatever else compares times on this machine is wrong by as much."
        )


def _seen(rotated: Iterable[Rotated], state: State, *, staged: bool) -> drift.Seen:
    """What Fly shows of the apps that the stack has delivered to."""
    if not state.apps and not state.tenants:
        return drift.Seen()
    generations = {each.secret.name: each.generation for each in rotated}
    secrets = [each.secret for each in rotated]
    try:
        client = FlyClient(operator_credentials.find(operator_credentials.FLY, _config_value))
        return drift.look(client, secrets, state, generations=generations, staged=staged)
    except ApiError as error:
        raise preflight.no_access(error, operator_credentials.FLY) from None


def _seen_at_github(
    secrets: list[Secret], state: State
) -> tuple[Mapping[str, int], Mapping[str, Mapping[Location, str]], str]:
    """What GitHub shows.

    Returns:
        The ids of repositories that secrets are visible to, by name; per secret the places at GitHub that hold another value; and what the
        operator has to know of what was not found out, "" for nothing.
    """
    selects = any(github_drift.selects(secret) for secret in secrets)
    if not selects and not any(state.of(secret.name).github_writes for secret in secrets if secret.repositories):
        return {}, {}, ""
    ids: Mapping[str, int] = {}
    try:
        client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, _config_value))
        ids = access.repository_ids(client, secrets)
        return ids, github_drift.look(client, secrets, state, repository_ids=ids), ""
    except (ApiError, RefusedError) as error:
        if selects and not ids:
            if isinstance(error, ApiError):
                raise preflight.no_access(error, operator_credentials.GITHUB) from None
            raise
        # A secret that does not go to GitHub, and has perhaps leaked, must not wait for it. One that does is refused by the preflight.
        happened = error.happened if isinstance(error, RefusedError) else str(error)
        return ids, {}, f"GitHub was not asked whether somebody has changed a secret there: {happened}"


def _held_back(
    rollout: str, rotated: Iterable[Secret], generations: Mapping[str, int], state: State
) -> Mapping[str, HeldBack]:
    """What a stack that stages does not verify in this update. Says so, in a preview too."""
    if rollout != STAGED:
        return {}
    try:
        client = FlyClient(operator_credentials.find(operator_credentials.FLY, _config_value))
        found = staging.held_back(client, rotated, generations, state.progress)
    except ApiError as error:
        raise RefusedError(str(error), next_step="`pulumi up` again once Fly answers.", contact=error.contact) from None
    for name, held in found.items():
        pulumi.log.warn(
            f"{name} generation {generations[name]} is staged: {held.reason}. It is verified, and the old one revoked, by the first "
            "`pulumi up` after every machine was restarted (by a deployment, or with `pulumi config set rollout rolling`)."
        )
    return found


def _output(impact: Impact) -> dict[str, Any]:
    """The impact as a stack output: short, because the engine prints all of it."""
    data = as_data(impact, text="")
    return {key: data[key] for key in ("summary", "secrets", "restarts")}


def _write_impact(data: Mapping[str, Any]) -> None:
    """Writes the impact where a CI job wants it."""
    if not (name := os.environ.get(IMPACT_FILE)):
        return
    try:
        Path(name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RefusedError(
            f"The impact cannot be written to {name} ({IMPACT_FILE}): {error.strerror}.",
            next_step=f"name a file that can be written, or unset {IMPACT_FILE}.",
        ) from None


def _assert_encrypted(config: pulumi.Config, key: str) -> None:
    if config.get(key) and not is_config_secret(config.full_key(key)):
        raise RefusedError(
            f"The config key `{key}` is in plaintext.",
            next_step=f"`pulumi config set --secret {key}`, with the same value. Whoever could read the config knows it: rotate it.",
        )


def _refusing(read: Callable[[], Result]) -> Result:
    """Turns a refusal into the engine's own error, which is shown without a traceback."""
    try:
        return read()
    except OperatorError as error:
        raise pulumi.RunError(str(error)) from None


def _config_value(key: str) -> str | None:
    namespace, _, name = key.rpartition(":")
    return pulumi.Config(namespace or None).get(name)


def _operator_values() -> dict[str, str]:
    """Operator credentials of the stack's config, by the variable that carries each to a check, which cannot read the config. Secret."""
    found = {each: _config_value(each.config_key) for each in operator_credentials.ALL}
    return {
        operator_credentials.variable_of_config(each.config_key): value
        for each, value in found.items()
        if value is not None
    }


def _operator_environment() -> dict[str, pulumi.Output[str]]:
    """The same for the engine."""
    return {name: pulumi.Output.secret(value) for name, value in _operator_values().items()}
