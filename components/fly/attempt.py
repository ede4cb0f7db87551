"""A delivery of secrets that is under way, and what can truly be said of it when it fails.

What an operator has to know then is who runs with which value, and which values still work. That depends on how far the delivery got, and on
which of the values before died when the new ones were minted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.errors import OperatorError
from components.fly.client import Machine

if TYPE_CHECKING:
    from components.fly.rollout import Companion


@dataclass(kw_only=True)
class Attempt:
    """A delivery that is under way, and what can truly be said of it.

    Attributes:
        app: Its app.
        values: The secrets that are written, None for one that is unset. Secret.
        previous: Those before, as far as they are known. Secret.
        dead: The names of those whose value before is dead.
        held_before: The names of the secrets that the app had.
        machines: Those that are to move.
        moved: The ids of those that have been touched.
        begun: The companions that have been called, or are being called, to change.
    """

    app: str
    values: Mapping[str, str | None] = field(repr=False)
    previous: Mapping[str, str] = field(default_factory=dict, repr=False)
    dead: frozenset[str] = frozenset()
    held_before: frozenset[str] = frozenset()
    machines: list[Machine] = field(default_factory=list, repr=False)
    moved: list[str] = field(default_factory=list)
    begun: list["Companion"] = field(default_factory=list, repr=False)

    def bring_companions_back(self) -> None:
        """Those that were called last go first."""
        for companion in reversed(self.begun):
            companion.back()

    @property
    def names(self) -> str:
        """The names of the secrets."""
        return ", ".join(
            name if self.values[name] is not None else f"{name} (to be unset)" for name in sorted(self.values)
        )

    @property
    def restored(self) -> dict[str, str | None]:
        """What a way back writes: None for a secret that was not there."""
        return {
            name: self.previous.get(name)
            for name in self.values
            if name not in self.dead and (name in self.previous or name not in self.held_before)
        }

    @property
    def unknown(self) -> list[str]:
        """The names of those that somebody set by hand: Fly shows no values, so there is nothing to go back to."""
        return sorted(self.values.keys() - self.restored.keys() - self.dead)

    @property
    def has_values(self) -> bool:
        """Whether there is a new value among what is written; else secrets are unset only."""
        return any(value is not None for value in self.values.values())

    @property
    def become(self) -> str:
        """What the values have been made."""
        return "the new value" if self.has_values else "unset"

    @property
    def not_moved(self) -> list[str]:
        """The ids of the machines that nobody has touched yet."""
        return [machine.machine_id for machine in self.machines if machine.machine_id not in self.moved]

    @property
    def why_dead(self) -> str:
        """For a delivery of which some values before are dead."""
        return (
            f"the value before of {' and '.join(sorted(self.dead))} is already dead: minting the new one has ended it"
        )

    @property
    def because_of_the_dead(self) -> str:
        """For a delivery that did not begin. Nothing where all old values work."""
        if not self.dead:
            return ""
        return f" {self.why_dead[0].upper()}{self.why_dead[1:]}, so {self.app} cannot work with it until the new one is delivered."

    @property
    def old_values(self) -> str:
        """What is true of the values before, as whole sentences."""
        if not self.dead:
            return "Every old credential is still alive."
        every_other = " Every other old credential is still alive." if self.values.keys() - self.dead else ""
        return f"{self.because_of_the_dead.strip()}{every_other}"

    @property
    def who_runs_with_what(self) -> str:
        """Where a rollout ended half-way."""
        moved, left = ", ".join(sorted(set(self.moved))) or "none", ", ".join(self.not_moved) or "none"
        if not self.dead:
            return f"restarted machines: {moved}, all others still run with the old value."
        if not self.values.keys() - self.dead:
            return f"machines {moved} run with the new value, machines {left} still with the dead one."
        of_which = f"of which that of {' and '.join(sorted(self.dead))} is dead"
        return f"machines {moved} run with the new values, machines {left} still with the old ones, {of_which}."

    @property
    def as_before(self) -> str:
        """After a way back that was completed."""
        if not self.dead:
            return f"{self.app} is as before: the values that this stack had delivered are back, on every machine."
        return (
            f"the values of {', '.join(sorted(self.restored))} that this stack had delivered are back, on every machine of {self.app}; "
            f"every machine runs with the new value of {', '.join(sorted(self.dead))}."
        )

    @property
    def either_value(self) -> str:
        """After a way back that was not completed."""
        moved = ", ".join(sorted(set(self.moved))) or "none"
        if self.begun:
            return (
                f"machines {moved} may run with either value, and what changes together with them has been put back for those that run with "
                f"the value before. {self.old_values}"
            )
        if not self.dead:
            return f"machines {moved} may run with either value; every old and every new credential is still alive, so both values work."
        return (
            f"machines of {self.app} may run with either value of {', '.join(sorted(self.restored))}, which both work; machines "
            f"{', '.join(self.not_moved) or 'none'} may still run with the dead value of {', '.join(sorted(self.dead))}, and the others "
            f"run with the new one. {self.old_values}"
        )


def happened(error: Exception) -> str:
    """What went wrong, as whole sentences."""
    return error.happened if isinstance(error, OperatorError) else f"{error}."


def state_of(error: Exception) -> str:
    """What else is true after an error, as a sentence in front of others."""
    return f"{error.state} " if isinstance(error, OperatorError) else ""
