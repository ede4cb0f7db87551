"""What unfinished runs of the fleet want, kept beside the stacks' config: so the same command goes on, and bumps nothing twice.

A generation stands here from before its counter is bumped until every stack of the run has verified its own. The file holds names and
numbers, and is gone when no run is unfinished.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.errors import RefusedError
from tools.fleet.selection import CONFIG_FOLDER

FILE = Path(CONFIG_FOLDER) / "fleet.json"
Pair = tuple[str, str]  # a stack and a secret


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is not finished.

    Attributes:
        started_at: When, RFC 3339: its name, too.
        targets: The generation that each stack is to have of each secret.
        verified: Those that have it.
    """

    started_at: str
    targets: Mapping[Pair, int]
    verified: frozenset[Pair] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Record:
    """The unfinished runs of a checkout.

    Attributes:
        runs: Oldest first. No stack has the same secret in two of them.
    """

    runs: tuple[Run, ...] = field(default=())

    def generation(self, pair: Pair) -> int | None:
        """What is wanted of a pair; None for nothing."""
        return next((run.targets[pair] for run in self.runs if pair in run.targets), None)

    def started(self, pairs: Iterable[Pair]) -> str:
        """When the oldest run began that has one of these; "" for none."""
        asked = {*pairs}
        return next((run.started_at for run in self.runs if asked & run.targets.keys()), "")

    def wanting(self, targets: Mapping[Pair, int], *, now: str) -> "Record":
        """With these, in the run that has one of them already, else in a new one."""
        begun = self.started(targets) or now
        runs = {run.started_at: run for run in self.without(targets).runs}
        before = runs.get(begun, Run(started_at=begun, targets={}))
        runs[begun] = replace(before, targets={**before.targets, **targets})
        return Record(runs=tuple(runs[each] for each in sorted(runs)))

    def without(self, pairs: Iterable[Pair]) -> "Record":
        """Without these."""
        gone = {*pairs}
        kept = (
            replace(
                run,
                targets={pair: each for pair, each in run.targets.items() if pair not in gone},
                verified=run.verified - gone,
            )
            for run in self.runs
        )
        return Record(runs=tuple(run for run in kept if run.targets))

    def with_verified(self, pairs: Iterable[Pair]) -> "Record":
        """With these verified; runs of which every pair is are over, and left out."""
        done = {*pairs}
        runs = (replace(run, verified=run.verified | (done & run.targets.keys())) for run in self.runs)
        return Record(runs=tuple(run for run in runs if run.verified != run.targets.keys()))


def load(checkout: Path) -> Record:
    """What is unfinished.

    Raises:
        RefusedError: The file is not what `save` writes.
    """
    file = checkout / FILE
    try:
        document: Any = json.loads(file.read_text())
        return Record(
            runs=tuple(
                Run(
                    started_at=str(run["started_at"]),
                    targets={
                        (str(stack), str(secret)): int(generation)
                        for stack, secrets in run["targets"].items()
                        for secret, generation in secrets.items()
                    },
                    verified=frozenset(
                        (str(stack), str(secret)) for stack, secrets in run["verified"].items() for secret in secrets
                    ),
                )
                for run in document["runs"]
            )
        )
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RefusedError(
            f"{FILE} cannot be read: it says which rotations of the fleet are not finished.",
            next_step=f"mend it (`git diff {FILE}`). Or remove it: then stacks that are verified already are rotated once more by the next "
            "run, and those that are not are finished.",
        ) from None


def save(checkout: Path, record: Record) -> None:
    """Keeps what is unfinished; whoever reads meanwhile finds the one or the other, whole. Raises OSError."""
    file = checkout / FILE
    if not record.runs:
        file.unlink(missing_ok=True)
        return
    runs = []
    for run in record.runs:
        targets: dict[str, dict[str, int]] = {}
        for (stack, secret), generation in sorted(run.targets.items()):
            targets.setdefault(stack, {})[secret] = generation
        verified: dict[str, list[str]] = {}
        for stack, secret in sorted(run.verified):
            verified.setdefault(stack, []).append(secret)
        runs.append({"started_at": run.started_at, "targets": targets, "verified": verified})
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(json.dumps({"runs": runs}, indent=2) + "\n")
    unfinished.replace(file)
