"""What is to be said of each secret, and how urgent it is. Pure functions of what is known and of the time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from tools.report.model import ManagedSecret, OldCredential, Update
from tools.report.words import age, coarse, count, when

DUE_SOON = timedelta(days=14)


class Urgency(Enum):
    """How much a state asks of the reader. The value is its style on the page; each has a mark, so that colour is never alone.

    ACT is not "broken": consumers hold a credential that works at every instant. It is something that somebody has to do.
    """

    DONE = "done"
    NOTE = "note"
    ACT = "act"

    @property
    def mark(self) -> str:
        """A sign that can be told apart without colours."""
        return {"done": "✓", "note": "i", "act": "!"}[self.value]

    @property
    def rank(self) -> int:
        """Larger is more urgent."""
        return list(Urgency).index(self)


@dataclass(frozen=True, kw_only=True)
class State:
    """One thing that is true of a secret.

    Attributes:
        words: The state in a few words.
        detail: What it means and what to do, in a sentence; "" where the words say it all.
        urgency: How much it asks of the reader.
    """

    words: str
    detail: str = ""
    urgency: Urgency


def wanted(updates: Iterable[Update]) -> Mapping[str, int]:
    """The rotation counters of the last `pulumi up`, whether it succeeded or not."""
    return next((update.counters for update in updates if update.kind == "update"), {})


def states(secret: ManagedSecret, counter: int | None, now: datetime) -> tuple[State, ...]:
    """Everything that is to be said of a secret, most urgent first.

    Args:
        secret: The secret as the last complete update left it.
        counter: Its counter in the last update; None where that did not list it.
        now: When the report is written.
    """
    found = [*_progress(secret, counter), *_due(secret, now), *_alive(secret, now), *_promotion(secret)]
    if secret.generation:
        found.append(State(words="verified", urgency=Urgency.DONE))
    return tuple(sorted(found, key=lambda state: -state.urgency.rank))


def is_overdue(secret: ManagedSecret, now: datetime) -> bool:
    """Whether the maximum age is reached: at the last update, or since."""
    return secret.overdue or (secret.rotate_by is not None and secret.rotate_by <= now)


def _progress(secret: ManagedSecret, counter: int | None) -> Iterable[State]:
    if not secret.generation:
        yield State(
            words="first generation not verified yet",
            detail="Nothing of this secret has been verified or revoked."
            + ("" if secret.staged else " Run `pulumi up`; it goes on where it stopped."),
            urgency=Urgency.NOTE if secret.staged else Urgency.ACT,
        )
    if secret.staged is not None:
        yield State(
            words=f"generation {secret.staged} staged",
            detail="It is written, and no machine has been restarted for it. The first `pulumi up` after the machines' next restart "
            "verifies it and revokes the one before.",
            urgency=Urgency.NOTE,
        )
    if counter is not None and counter > secret.generation > 0 and counter != secret.staged:
        yield State(
            words=f"generation {counter} not verified yet",
            detail=f"The last update was to bring generation {counter} and has not completed. If it failed, mend the cause and run "
            "`pulumi up` again.",
            urgency=Urgency.ACT,
        )
    if counter is not None and counter < secret.generation:
        yield State(
            words=f"counter set back to {counter}",
            detail=f"A counter below the verified generation is refused. Set it to {secret.generation}, or higher to rotate.",
            urgency=Urgency.ACT,
        )


def _due(secret: ManagedSecret, now: datetime) -> Iterable[State]:
    if is_overdue(secret, now):
        late = (
            f" It was due {age(secret.rotate_by, now)} ago, {when(secret.rotate_by)}."
            if secret.rotate_by and secret.rotate_by <= now
            else ""
        )
        yield State(
            words="overdue",
            detail=f"Older than the stack's maximum age.{late} Bump its counter and run `pulumi up`.",
            urgency=Urgency.ACT,
        )
    elif secret.rotate_by is not None and secret.rotate_by - now <= DUE_SOON:
        yield State(
            words=f"due in {coarse((secret.rotate_by - now).total_seconds())}",
            detail=f"It reaches the stack's maximum age {when(secret.rotate_by)}.",
            urgency=Urgency.NOTE,
        )


def _alive(secret: ManagedSecret, now: datetime) -> Iterable[State]:
    if not secret.alive:
        return
    late = all(old.lives_until is not None and old.lives_until <= now for old in secret.alive)
    leaked = secret.reason == "leaked"
    yield State(
        words="old credential still alive"
        if len(secret.alive) == 1
        else f"{count(len(secret.alive), 'old credential')} still alive",
        detail=(
            "Its end was to come before this page was written. Run `pulumi up`: it takes note if the provider refuses it now."
            if late
            else "Only its provider can end it. "
            + (
                "It leaked, so end it at the provider now, then run `pulumi up`."
                if leaked
                else "The first `pulumi up` after its end takes note."
            )
        ),
        urgency=Urgency.ACT if late or leaked else Urgency.NOTE,
    )


def _promotion(secret: ManagedSecret) -> Iterable[State]:
    promotion = secret.promotion
    if promotion is not None and promotion.override:
        yield State(
            words=f"not proven on {promotion.after} first",
            detail=f"Why it went on all the same: {promotion.override}. What was missing: {promotion.because}.",
            urgency=Urgency.NOTE,
        )


def end_of(old: OldCredential, now: datetime) -> str:
    """Until when an old credential lives, in words."""
    if old.lives_until is None:
        return "no end is known"
    if old.lives_until <= now:
        return f"was to end {when(old.lives_until)}, {age(old.lives_until, now)} ago"
    return f"ends {when(old.lives_until)}, in {coarse((old.lives_until - now).total_seconds())}"
