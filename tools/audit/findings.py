"""What an audit says. Plain data, no values of secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from components.impact import Age

CLEAN, FOUND, NOT_AUDITED = 0, 1, 2  # exit statuses


class Kind(StrEnum):
    """What is wrong, in one word. Programs may rely on these words."""

    DRIFT = "drift"
    """A location does not hold what the stack has delivered there last."""
    ORPHAN = "orphan"
    """A live credential has a name of the family, and the state does not know it. Nobody is known to hold its value."""
    DEAD = "dead"
    """The credential in use is not alive at its provider: consumers are broken, or about to be."""
    OVERDUE = "overdue"
    """The value in use is older than `maxAgeDays` allows."""
    UNFINISHED = "unfinished"
    """The config asks for more than the state has, or an update left something half-way."""
    INTERRUPTED = "interrupted"
    """The engine itself has operations or deletions left. An update that runs at this moment looks the same."""
    UNSEEN = "unseen"
    """Something could not be looked at. It may be as it should be, or not."""
    UNMANAGED = "unmanaged"
    """A live credential at the same provider that the program did not mint: information, and a finding only with `--strict`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that somebody should look at.

    Attributes:
        kind: In one word.
        secret: Which secret it is about; "" where it is about the stack.
        where: Which place it is about.
        what: What was seen.
        next_step: What to do about it.
    """

    kind: Kind
    secret: str
    where: str
    what: str
    next_step: str


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A secret that was looked at.

    Attributes:
        requested: The generation that the config asks for.
        current: The one minted last; 0 for none.
        verified: The one verified last; 0 for none.
        verified_at: When, RFC 3339; "" for never.
        age: Of the one verified last.
        locations: Where it stands.
        overridden: Why the one verified last came before the stack that goes first had proven it; "" where that had, or none goes first.
    """

    requested: int
    current: int
    verified: int
    verified_at: str
    age: Age
    locations: tuple[str, ...]
    overridden: str = ""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found about one stack.

    Attributes:
        stack: Its name.
        secrets: What was looked at.
        findings: What is wrong.
        information: What is not wrong, and good to know.
    """

    stack: str
    secrets: Mapping[str, Looked] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    information: tuple[Finding, ...] = ()

    @property
    def status(self) -> int:
        """The exit status for this stack alone."""
        return FOUND if self.findings else CLEAN


@dataclass(frozen=True, kw_only=True)
class NotAudited:
    """A stack of which nothing is known.

    Attributes:
        stack: Its name; "" where it is not even known which one is selected.
        what: What went wrong.
        state: What is true now.
        next_step: What to do about it.
    """

    stack: str
    what: str
    state: str
    next_step: str

    @property
    def status(self) -> int:
        """The exit status for this stack alone."""
        return NOT_AUDITED
