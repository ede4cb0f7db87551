"""The file of results, one cell a line, and the rows of the whole matrix."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tools.faults.recording import Phase, Position
from tools.faults.trial import Result


class Results:
    """Of all runs in one folder."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "results.jsonl"
        self._rows = directory / "rows.json"

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

    def rows(self) -> dict[str, list[Position]]:
        """The requests of each scenario's undisturbed rotation, as far as it was recorded."""
        if not self._rows.exists():
            return {}
        return {
            name: [Position(**{**each, "phase": Phase(each["phase"])}) for each in listed]
            for name, listed in json.loads(self._rows.read_text()).items()
        }

    def note_rows(self, scenario: str, positions: Iterable[Position]) -> None:
        """Keeps those of one scenario."""
        known = json.loads(self._rows.read_text()) if self._rows.exists() else {}
        self._rows.write_text(json.dumps({**known, scenario: [asdict(each) for each in positions]}, indent=1))
