"""Which cells there are, and in which order. Pure."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.faults.kinds import KINDS, Blow, Kind
from tools.faults.recording import Position


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One request with one fault."""

    position: Position
    kind: Kind

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other cells of the same secret."""
        return self.position.title, self.kind.name


def cells(positions: Iterable[Position], kinds: Sequence[Kind] = KINDS) -> list[Cell]:
    """Every cell, the telling ones first: writes before reads, and kinds in the order in which they are given.

    Left out is what makes no sense: to carry out a mere read and lose its answer is to lose the answer, and no plugin or check is at work
    yet while the program plans.
    """
    found = [
        Cell(position=position, kind=kind)
        for position in positions
        for kind in kinds
        if position.writes or not kind.writes_only
        if kind.blow is Blow.NONE or not position.before_minting
    ]
    rank = {kind.name: number for number, kind in enumerate(kinds)}
    return sorted(found, key=lambda cell: rank[cell.kind.name] + (0 if cell.position.writes else len(kinds) // 2))


def sample(found: Sequence[Cell], count: int, *, seed: int) -> list[Cell]:
    """Some of the cells, by chance; the same ones for the same seed."""
    return random.Random(seed).sample(list(found), min(count, len(found)))  # noqa: S311 - a choice of tests
