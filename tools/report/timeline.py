"""The last rotations as runs of `pulumi up`, each on a scale of its own: mint, deliver, verify, revoke."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from tools.report.model import ManagedSecret, PastRotation
from tools.report.words import exact, listing, when

# A run in which nothing was verified has no end that we know of; another mint within this time is taken to be of the same run.
LONGEST_RUN = timedelta(hours=1)
# An old credential that its provider ends hours later must not shrink everything else to nothing.
MOST_TIMES_THE_REST = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the four steps.

    Attributes:
        name: `minted`, `delivered`, `verified` or `revoked`.
        at: When; None where it has not happened, or is not known.
        words: The same for a reader: the time of the first step, `after 32 s` for the others, or that it is missing.
        missing: Whether it has not happened.
    """

    name: str
    at: datetime | None
    words: str
    missing: bool


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a row's bar, in percent of the run.

    Attributes:
        kind: What was done in it: `delivering`, `verifying` or `revoking`.
        start: Where it begins.
        length: How long it is.
        cut: Whether it goes on beyond the scale.
    """

    kind: str
    start: float
    length: float
    cut: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rotation within its run.

    Attributes:
        secret: Its name.
        generation: The counter's value.
        leaked: Whether it was rotated because the value before had leaked.
        steps: All four.
        segments: The bar.
        took: From the first step to the last one, in words; "" where it is not known.
        revoked: What was revoked, in words.
        override: Why it came before the stack that goes first had proven it; "" where that had, or none goes first.
    """

    secret: str
    generation: int
    leaked: bool
    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    took: str
    revoked: str
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Rotations of one `pulumi up`.

    Attributes:
        began: The first mint, in words.
        span: How long the scale is, in words.
        rows: One for every secret that was rotated.
    """

    began: str
    span: str
    rows: tuple[Row, ...]


def runs(secrets: Iterable[ManagedSecret]) -> tuple[Run, ...]:
    """The rotations of all secrets, newest run first.

    What was minted before anything of a run was verified belongs to that run, because one `pulumi up` mints everything first, and the next
    one begins when it has ended. A secret is in a run once.
    """
    found = sorted(
        ((secret.name, rotation) for secret in secrets for rotation in secret.timeline),
        key=lambda each: _began(each[1]),
    )
    gathered: list[list[tuple[str, PastRotation]]] = []
    for name, rotation in found:
        if not gathered or not _belongs(name, rotation, gathered[-1]):
            gathered.append([])
        gathered[-1].append((name, rotation))
    return tuple(_run(each) for each in reversed(gathered))


def _times(rotation: PastRotation) -> tuple[datetime | None, ...]:
    return rotation.minted_at, rotation.delivered_at, rotation.verified_at, rotation.revoked_at


def _began(rotation: PastRotation) -> float:
    return min((each.timestamp() for each in _times(rotation) if each), default=0.0)


def _belongs(name: str, rotation: PastRotation, run: Sequence[tuple[str, PastRotation]]) -> bool:
    if name in {other for other, _ in run}:
        return False
    first = min(_began(other) for _, other in run)
    ended = min(
        (other.verified_at.timestamp() for _, other in run if other.verified_at),
        default=first + LONGEST_RUN.total_seconds(),
    )
    return _began(rotation) <= ended


def _run(rotations: Sequence[tuple[str, PastRotation]]) -> Run:
    start = min(_began(rotation) for _, rotation in rotations)
    work = [
        each.timestamp() for _, rotation in rotations for each in (rotation.delivered_at, rotation.verified_at) if each
    ]
    done = max(work, default=start)
    ends = [rotation.revoked_at.timestamp() for _, rotation in rotations if rotation.revoked_at]
    limit = start + MOST_TIMES_THE_REST * max(done - start, 1.0)
    end = max([done, *(each for each in ends if each <= limit)])
    if any(each > limit for each in ends):
        end = max(end, start + 1.2 * (done - start))  # room to show that something goes on
    known = [each for _, rotation in rotations for each in _times(rotation) if each]
    return Run(
        began=when(min(known, default=None)),
        span=exact(end - start),
        rows=tuple(_row(name, rotation, start, end) for name, rotation in rotations),
    )


def _row(name: str, rotation: PastRotation, start: float, end: float) -> Row:
    known = [each for each in _times(rotation) if each]
    # A later step shows that the earlier ones have happened, even where nobody noted when.
    last = max((number for number, each in enumerate(_times(rotation)) if each), default=-1)
    first = known[0] if known else None
    names = ("minted", "delivered", "verified", "revoked")
    nothing = rotation.revoked_at is not None and not rotation.revoked
    return Row(
        secret=name,
        generation=rotation.generation,
        leaked=rotation.reason == "leaked",
        steps=tuple(
            Step(
                name="nothing to revoke" if step == "revoked" and nothing else step,
                at=at,
                words=_step_words(at, first, missing=number > last),
                missing=number > last,
            )
            for number, (step, at) in enumerate(zip(names, _times(rotation), strict=True))
        ),
        segments=_segments(rotation, start, end),
        took=exact((known[-1] - known[0]).total_seconds()) if len(known) > 1 and last == len(names) - 1 else "",
        revoked=listing(list(rotation.revoked)),
        override=rotation.override,
    )


def _step_words(at: datetime | None, first: datetime | None, *, missing: bool) -> str:
    if at is None or first is None:
        return "not yet" if missing else "time not known"
    if at == first:
        return f"{at:%H:%M:%S}"
    return f"after {exact((at - first).total_seconds())}"


def _segments(rotation: PastRotation, start: float, end: float) -> tuple[Segment, ...]:
    """The stretches between steps whose times are known."""
    length = max(end - start, 1e-9)
    kinds = ("delivering", "verifying", "revoking")
    # What follows an unknown time cannot be told from what is before it: it is shown as what ended it.
    points = [(number, each.timestamp()) for number, each in enumerate(_times(rotation)) if each]
    found = []
    for (_, begun), (number, ended) in pairwise(points):
        left = min(max((begun - start) / length, 0.0), 1.0)
        right = min(max((ended - start) / length, left), 1.0)
        found.append(
            Segment(
                kind=kinds[number - 1],
                start=round(100 * left, 3),
                length=round(100 * (right - left), 3),
                cut=ended > end,
            )
        )
    return tuple(found)
