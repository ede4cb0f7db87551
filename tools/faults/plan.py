"""Which cells there are, in which order, and which of them may share a rotation. Pure."""

import itertools
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.faults.kinds import KINDS, LASTING, TRANSIENT, Blow, Kind
from tools.faults.recording import Phase, Position

COMPANY = 8
"""Cells at most that share a rotation."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One request with one fault. `scenario` is the name of what is rotated."""

    position: Position
    kind: Kind
    scenario: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other cells of the same scenario."""
        return self.position.title, self.kind.name

    @property
    def sort(self) -> tuple[str, str, str, str]:
        """What it is an example of: a fault of a kind of request in a phase, whatever is rotated and however often the request is made."""
        return self.kind.name, self.position.provider, self.position.label, str(self.position.phase)


def cells(positions: Iterable[Position], kinds: Sequence[Kind] = KINDS, *, scenario: str = "") -> list[Cell]:
    """Every cell, the telling ones first: writes before reads, and kinds in the order in which they are given.

    Left out is what makes no sense: to carry out a mere read and lose its answer is to lose the answer, and no plugin or check is at work
    yet while the program plans. Whoever only reads is killed at the first read after a write: probes and verifications begin so.
    """
    positions = list(positions)
    begins = [
        before.writes and not position.writes and position.phase in {Phase.MINT, Phase.PROVE}
        for before, position in itertools.pairwise([*positions[:1], *positions])
    ]
    found = [
        Cell(position=position, kind=kind, scenario=scenario)
        for position, begin in zip(positions, begins, strict=True)
        for kind in kinds
        if position.writes or not kind.writes_only or (begin and kind.blow is not Blow.NONE)
        if kind.blow is Blow.NONE or not position.before_minting
    ]
    rank = {kind.name: number for number, kind in enumerate(kinds)}
    return sorted(found, key=lambda cell: rank[cell.kind.name] + (0 if cell.position.writes else len(kinds) // 2))


def sample(found: Sequence[Cell], count: int, *, seed: int) -> list[Cell]:
    """Some of the cells, by chance; the same ones for the same seed."""
    return random.Random(seed).sample(list(found), min(count, len(found)))  # noqa: S311 - a choice of tests


def cover(found: Sequence[Cell], *, seed: int, covered: Collection[tuple[str, str, str, str]] = ()) -> list[Cell]:
    """All of the cells, one of each sort before the second of any.

    Within a round chance decides; the same order for the same seed and the same cells.

    Args:
        found: The cells.
        seed: Of the choice.
        covered: Sorts of which a cell was run already.
    """
    shuffled = sample(found, len(found), seed=seed)
    rounds: dict[tuple[str, str, str, str], int] = dict.fromkeys(covered, 1)
    ranked = []
    for cell in shuffled:
        rank = rounds[cell.sort] = rounds.get(cell.sort, 0) + 1
        ranked.append((rank, cell))
    return [cell for _, cell in sorted(ranked, key=lambda each: each[0])]


def may_share(cell: Cell, absorbed: Mapping[tuple[str, str], bool]) -> bool:
    """Whether a cell is worth a try in a rotation that others share: its fault passes by itself, and will be absorbed as far as one can tell.

    Args:
        cell: The cell.
        absorbed: By kind and label of the request, whether every cell so far was absorbed.
    """
    if cell.kind.blow is not Blow.NONE or cell.kind.fault.get("count", 1) >= LASTING:
        return False
    label = cell.position.label
    if (known := absorbed.get((cell.kind.name, label))) is not None:
        return known
    alike = [absorbed[kind, label] for kind in TRANSIENT if (kind, label) in absorbed]
    return cell.kind.name in TRANSIENT and (all(alike) if alike else not cell.position.writes)


def company(first: Cell, others: Iterable[Cell], absorbed: Mapping[tuple[str, str], bool]) -> list[Cell]:
    """The cells that share a rotation with `first`, itself among them.

    Each has requests of its own: a repetition after one fault would shift the count of another.
    """
    found = [first]
    if not may_share(first, absorbed):
        return found
    patterns = {_pattern(first)}
    for cell in others:
        if len(found) == COMPANY:
            break
        if cell.scenario == first.scenario and _pattern(cell) not in patterns and may_share(cell, absorbed):
            patterns.add(_pattern(cell))
            found.append(cell)
    return found


def _pattern(cell: Cell) -> tuple[str, str, str]:
    return cell.position.provider, cell.position.method, cell.position.pattern
