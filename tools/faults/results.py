"""The file of results, one cell a line, and how many cells there are in all."""

import json
from pathlib import Path

from tools.faults.trial import Result


class Results:
    """Of all runs in one folder."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "results.jsonl"
        self._whole = directory / "whole.json"

    def read(self) -> list[Result]:
        """Every result, oldest first."""
        return [Result.of(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, result: Result) -> None:
        """Keeps a result."""
        with self.path.open("a") as file:
            file.write(result.line() + "\n")

    def forget(self) -> None:
        """Forgets every result."""
        self.path.unlink(missing_ok=True)

    def whole(self) -> dict[str, int]:
        """How many cells the whole matrix of each scenario has, as far as it was recorded."""
        found: dict[str, int] = json.loads(self._whole.read_text()) if self._whole.exists() else {}
        return found

    def note_whole(self, scenario: str, count: int) -> None:
        """Keeps that."""
        self._whole.write_text(json.dumps({**self.whole(), scenario: count}))
