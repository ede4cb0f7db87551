"""What an update does for each secret: decided from the counters, the stack's own state and what Fly shows, before anything is touched. Pure.

The engine decides the same once more, resource by resource, when it compares their inputs. Tests hold one against the other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from components.keyring import fingerprint
from components.progress import CheckInState, Progress
from components.secret import FlySecret, GitHubSecret, Location, Secret


class Action(StrEnum):
    """What an update does for a secret, as it is said to the operator. The first that fits."""

    NOTHING = "nothing"
    TAKE_OVER = "take over"
    """Nothing of it has been minted yet: the value in use was made by hand."""
    GO_BACK = "go back"
    """The counter was set back to the generation verified last."""
    ROTATE = "rotate"
    FINISH = "finish"
    """An earlier update has minted the generation, and it is not verified."""
    VERIFY = "verify again"
    """Verified with other settings of its checks, or while a location held another value."""
    DELIVER = "deliver again"
    """Somebody else changed it at a location, or a rollout was left half-way."""
    REVOKE = "revoke"
    """Verified, and credentials are left that an earlier update did not revoke, or that it was not told to."""


@dataclass(frozen=True, kw_only=True)
class WantedCheck:
    """A check as this program would run it.

    Attributes:
        command: What the engine would run.
        told: What the check would be told, apart from what only an update knows.
        operator: The other variables that it would get. Secret.
    """

    command: str
    told: Mapping[str, object]
    operator: Mapping[str, str]

    def differs_from(self, last: CheckInState) -> bool:
        """Whether the engine would run it again for this alone."""
        known = {key: last.told.get(key) for key in self.told}
        return (self.command, self.told, self.operator) != (last.command, known, last.operator)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an update does for one secret.

    Attributes:
        action: In one word.
        turns: Whether another generation becomes the current one.
        mints: Whether a credential is minted for that; else one that the stack knows comes back.
        probes: Whether the credential is probed.
        delivers: Locations that are written to.
        writes_again: Those of them at GitHub that the engine would take to hold the value already.
        changes_values: Whether one of them holds another generation's value now.
        verifies: Whether consumers are verified.
        revokes: Whether everything of the family but the verified one is revoked.
    """

    action: Action = Action.NOTHING
    turns: bool = False
    mints: bool = False
    probes: bool = False
    delivers: tuple[Location, ...] = ()
    writes_again: tuple[GitHubSecret, ...] = ()
    changes_values: bool = False
    verifies: bool = False
    revokes: bool = False

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return self.action is not Action.NOTHING

    @property
    def asks_providers(self) -> bool:
        """Whether more is needed for it than the locations."""
        return self.turns or self.probes or self.verifies or self.revokes


def work_of(
    secret: Secret,
    generation: int,
    progress: Progress,
    *,
    tenants: Mapping[str, Mapping[str, str]],
    checks: Mapping[str, WantedCheck],
    also: Collection[str],
    drifted: Collection[Location] = (),
    held_back: bool = False,
) -> Work:
    """Decides what an update does for a secret.

    Args:
        secret: Which one.
        generation: The requested one.
        progress: How far it is.
        tenants: The values that the machines of tenants were given, by app and variable.
        checks: `probe` and `verification` as they would run now.
        also: Unmanaged credentials that are to be revoked.
        drifted: Locations that do not hold what was delivered there last.
        held_back: Whether its machines do not run with it yet, because it is only staged.
    """
    turns = progress.current != generation
    wanted = progress.fingerprints.get(generation)
    behind = tuple(each for each in secret.locations if wanted is None or _held(each, progress, tenants) != wanted)
    delivers = tuple(each for each in secret.locations if each in behind or each in drifted)
    probes = secret.probe is not None and (turns or _has_to_run(progress.probe, checks["probe"], about=progress.turn))
    to_verify = (
        turns
        or progress.verified != generation
        or wanted is None
        or _has_to_run(progress.verification, checks["verification"], about=_subject(secret, progress, wanted))
    )
    verifies = to_verify and not held_back
    unfinished = (
        not progress.has_revocation
        or progress.revoked_for != progress.verified_at
        or sorted(progress.also) != sorted(also)
    )
    revokes = not held_back and (verifies or unfinished)
    return Work(
        action=_action(
            generation,
            progress,
            turns=turns,
            checks=probes or (verifies and progress.verified == generation),
            delivers=bool(delivers),
            revokes=revokes,
            held_back=held_back,
        ),
        turns=turns,
        mints=turns and wanted is None,
        probes=probes,
        delivers=delivers,
        writes_again=tuple(each for each in delivers if isinstance(each, GitHubSecret) and each not in behind),
        changes_values=any(
            wanted is None or _held(each, progress, tenants) not in {None, wanted} or not progress.current
            for each in behind
        ),
        verifies=verifies,
        revokes=revokes,
    )


def _action(
    generation: int, progress: Progress, *, turns: bool, checks: bool, delivers: bool, revokes: bool, held_back: bool
) -> Action:
    if turns and not progress.current:
        return Action.TAKE_OVER
    if turns:
        return Action.GO_BACK if generation == progress.verified else Action.ROTATE
    if progress.verified != generation:
        # One that is staged has nothing to be finished until its machines run with it.
        return Action.NOTHING if held_back and not delivers else Action.FINISH
    if checks:
        return Action.VERIFY
    if delivers:
        return Action.DELIVER
    return Action.REVOKE if revokes else Action.NOTHING


def _has_to_run(last: CheckInState | None, wanted: WantedCheck, *, about: str) -> bool:
    """Whether a check has not succeeded as it would run now, or was about something else."""
    return last is None or wanted.differs_from(last) or last.subject != about


def _subject(secret: Secret, progress: Progress, wanted: str) -> str:
    """What a verification would be about once every location holds the wanted value.

    One that ran while a location held another value was about something else. One that the state has merely forgotten a location of
    (`pulumi refresh`, after somebody deleted the secret there) was about the same, and the engine does not repeat it.
    """
    held = dict.fromkeys((str(each) for each in secret.locations), wanted)
    return subject_of(salt=progress.salt, turn=progress.turn, holdings=held)


def subject_of(*, salt: str, turn: str, holdings: Mapping[str, str]) -> str:
    """What a verification is about: a turn of the credential, held by these locations.

    A salted hash, hence no secret, not even where a value is a word.

    Args:
        salt: Of the credential. Secret.
        turn: Of the credential.
        holdings: The fingerprint of what each location holds.
    """
    return fingerprint("\n".join([salt, turn, *(holdings[location] for location in sorted(holdings))]))


def _held(location: Location, progress: Progress, tenants: Mapping[str, Mapping[str, str]]) -> str | None:
    """The fingerprint of the value that a location was given last; None for none."""
    if isinstance(location, FlySecret):
        return progress.at_fly.get(location.app)
    if isinstance(location, GitHubSecret):
        return progress.at_github.get(location.key)
    value = tenants.get(location.app, {}).get(location.variable)
    return None if value is None else fingerprint(value)


def left_behind(secret: Secret, progress: Progress) -> tuple[str, ...]:
    """Places at GitHub that hold a value of the stack and that it does not write to any more, each as a sentence."""
    here = {each.key for each in secret.repositories}
    generations = {held: generation for generation, held in progress.fingerprints.items()}
    found = []
    for key, held in progress.at_github.items():
        if key in here:
            continue
        place = progress.github_writes[key].words if key in progress.github_writes else key
        generation = generations.get(held)
        value = f"generation {generation}" if generation else "an old value"
        found.append(
            f"{place} keeps {value}, and is not written to any more: whoever reads it there breaks once that is revoked. Delete "
            f"{secret.name} there as soon as nobody does"
        )
    return tuple(found)


def unfinished_business(secret: Secret, progress: Progress, tenants: Mapping[str, Mapping[str, str]]) -> str:
    """What an earlier update left half-way, as a sentence; "" for nothing."""
    if not progress.current or progress.current == progress.verified:
        if progress.verified and progress.revoked_for != progress.verified_at:
            return f"generation {progress.verified} is verified, and what it replaces is not revoked yet"
        return ""
    wanted = progress.fingerprints.get(progress.current)
    held = [str(each) for each in secret.locations if wanted and _held(each, progress, tenants) == wanted]
    if not held:
        delivered = "minted, delivered nowhere"
    elif len(held) == len(secret.locations):
        delivered = "minted and delivered, not verified"
    else:
        delivered = f"minted, delivered to {' and '.join(held)} only, not verified"
    before = (
        f"; generation {progress.verified} still alive"
        if progress.verified and secret.overlaps
        else f"; generation {progress.verified} died when it was minted"
        if progress.verified
        else ""
    )
    return f"generation {progress.current} is {delivered}{before}"
