"""A secret that is rotated, and what was decided about it: what the graph is made from. No Pulumi here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.progress import GitHubWrite, Progress
from components.promotion import overridden
from components.secret import ROUTINE, Check, Family, GitHubSecret, Secret
from components.staging import HeldBack
from components.work import WantedCheck

# Relative, and the same on every machine: a path of this one would make every other machine run every check again. The engine starts
# plugins in the folder of Pulumi.yaml.
RUN_CHECK = 'PATH="$PWD/.venv/bin:$PATH" exec python -m components.verification.'


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """A secret that is rotated, and what was decided about it.

    Attributes:
        secret: Which one.
        family: Its credentials at their provider.
        generation: The requested one.
        progress: How far it is.
        supplied: The value that the operator has handed in; "" for none. Secret.
        held_back: Where it is only staged: what the state has of it.
        reason: `routine` or `leaked`.
        record: What its verification repeats in its report: what it was made with, and what stack went before (`promotion`). Repeated as it
            is in the state where nothing is verified, so that another version of the program alone changes nothing.
        also: Unmanaged credentials that are to be revoked.
        max_age_days: When its value gets too old; None for never.
        writes_again: Places at GitHub that the engine would take to hold the value already, and that are written to all the same.
        repository_ids: Of the repositories that may read an organization's secret, by name.
    """

    secret: Secret
    family: Family
    generation: int
    progress: Progress
    supplied: str = field(default="", repr=False)
    held_back: HeldBack | None = None
    reason: str = ROUTINE
    record: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    max_age_days: int | None = None
    writes_again: tuple[GitHubSecret, ...] = ()
    repository_ids: Mapping[str, int] = field(default_factory=dict)

    def times_written_again(self, location: GitHubSecret) -> int:
        """How often a place at GitHub has had to be written to once more, this update included."""
        before = self.progress.github_writes.get(location.key, GitHubWrite()).again
        return before + (1 if location in self.writes_again else 0)

    @property
    def old_credential(self) -> str:
        """What is true of the value before until the new one is verified."""
        return _old_credential(self.secret)

    @property
    def probe(self) -> dict[str, object]:
        """What its probe is told, apart from what only an update knows."""
        state = f"nothing was delivered; {_old_credential(self.secret)}."
        return self._told(self.secret.probe, state_if_failed=state)

    @property
    def verification(self) -> dict[str, object]:
        """The same of its verification, apart from the reason."""
        state = f"the new value is delivered, {_old_credential(self.secret)} and nothing was revoked."
        return self._told(self.secret.verification, state_if_failed=state)

    @property
    def overridden(self) -> str:
        """Why it is rotated before the stack that goes first has proven it; "" where that has, or none goes first."""
        return overridden(self.record)

    def _told(self, check: Check | None, *, state_if_failed: str) -> dict[str, object]:
        return {
            "secret": self.secret.name,
            "generation": self.generation,
            "settings": {} if check is None else dict(check.settings),
            "state_if_failed": state_if_failed,
        }

    def wanted_checks(self, operator: Mapping[str, str]) -> dict[str, WantedCheck]:
        """Its checks as the engine would run them.

        Args:
            operator: Operator credentials of the stack's config, by the variable that carries them. Secret.
        """
        wanted = {
            "verification": WantedCheck(
                command=RUN_CHECK + self.secret.verification.module, told=_as_json(self.verification), operator=operator
            )
        }
        if self.secret.probe is not None:
            command_line = RUN_CHECK + self.secret.probe.module
            wanted["probe"] = WantedCheck(command=command_line, told=_as_json(self.probe), operator=operator)
        return wanted


def _as_json(told: Mapping[str, object]) -> dict[str, object]:
    """As it comes back from the state: lists for tuples, and so on."""
    read: dict[str, object] = json.loads(json.dumps(told))
    return read


def _old_credential(secret: Secret) -> str:
    """What is true of the value before until the new one is verified."""
    return (
        "every old credential is still alive"
        if secret.overlaps
        else "the value before died when the new one was minted, so consumers without the new one fail,"
    )
