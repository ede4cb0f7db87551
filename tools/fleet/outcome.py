"""What came of a run. Plain data, no values of secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.errors import OperatorError
from tools.fleet.engine import Preview
from tools.fleet.targets import Target

DONE, NOT_DONE, REFUSED = 0, 1, 2  # exit statuses


class State(StrEnum):
    """How a stack ended. Programs may rely on these words."""

    VERIFIED = "verified"
    """It has what it was to have; what was before is revoked."""
    FAILED = "failed"
    """Its preview or its update failed. `left` says what that left half-way."""
    STAGED = "staged"
    """Written, and neither verified nor revoked before its machines have been restarted (`rollout: staged`)."""
    NOT_STARTED = "not started"
    """Untouched by this run."""
    PREVIEWED = "previewed"
    """Only looked at (`--dry-run`)."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one stack ended.

    Attributes:
        targets: What it was to have.
        state: In one word.
        why: Why it was not started; "" where it was.
        error: What went wrong; "" for nothing.
        next_step: What to do about it.
        left: What is unfinished of the secrets, in words.
        log: The file with all that the engine printed; "" for none.
        seconds: How long preview and update took.
        preview: What it was going to do; None where that was not looked at.
    """

    targets: tuple[Target, ...]
    state: State = State.NOT_STARTED
    why: str = ""
    error: str = ""
    next_step: str = ""
    left: tuple[str, ...] = ()
    log: str = ""
    seconds: float = 0
    preview: Preview | None = None

    @property
    def is_verified(self) -> bool:
        """Whether whatever goes after it may start."""
        return self.state is State.VERIFIED


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        waves: The order.
        results: By stack, in that order.
        changed: Config files that were written to.
        interrupted: Whether somebody stopped it.
        dry_run: Whether it only looked.
    """

    waves: Sequence[Sequence[str]]
    results: Mapping[str, Result]
    changed: Sequence[str] = ()
    interrupted: bool = False
    dry_run: bool = False

    @property
    def status(self) -> int:
        """The exit status."""
        wanted = {State.VERIFIED, State.PREVIEWED} if self.dry_run else {State.VERIFIED}
        return DONE if all(each.state in wanted for each in self.results.values()) else NOT_DONE


def data(outcome: Outcome) -> dict[str, Any]:
    """A run for programs. Keys are always there, and further ones may be added.

    `{"status": 0|1|2, "error": null | {"what", "state", "next"}, "interrupted": bool, "dry_run": bool, "waves": [[NAME]], "changed": [FILE],
    "stacks": {NAME: STACK}}`. With status 2 nothing was touched, `error` says why, and the others are empty.

    STACK is `{"state", "why", "error": null | {"what", "next"}, "left": [TEXT], "log", "seconds", "impact": null | IMPACT, "secrets":
    {NAME: {"before", "generation"}}}`: `state` is one of `State`, IMPACT is described by `docs/impact.schema.json`, and `before` is the
    generation that was verified when the run began, 0 for none.
    """
    return {
        "status": outcome.status,
        "error": None,
        "interrupted": outcome.interrupted,
        "dry_run": outcome.dry_run,
        "waves": [list(wave) for wave in outcome.waves],
        "changed": list(outcome.changed),
        "stacks": {
            name: {
                "state": str(result.state),
                "why": result.why,
                "error": {"what": result.error, "next": result.next_step} if result.error else None,
                "left": list(result.left),
                "log": result.log,
                "seconds": round(result.seconds, 1),
                "impact": dict(result.preview.impact) if result.preview else None,
                "secrets": {
                    each.secret: {"before": each.verified, "generation": each.generation} for each in result.targets
                },
            }
            for name, result in outcome.results.items()
        },
    }


def refused(error: OperatorError) -> dict[str, Any]:
    """The same for a run that was refused before anything was touched."""
    said = {"what": error.happened, "state": error.state, "next": error.next_step}
    return {
        "status": REFUSED,
        "error": said,
        "interrupted": False,
        "dry_run": False,
        "waves": [],
        "changed": [],
        "stacks": {},
    }
