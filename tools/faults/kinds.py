"""What is done to a request: the columns of the matrix."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

TRANSIENT = frozenset({"drop-after", "drop-before", "timeout", "500", "503", "429", "429 later", "423"})
"""Kinds that a client may well bear by asking again."""
LASTING = 10_000  # requests: until the faults are cleared
HELD_UP = 2_000  # milliseconds that a request is held up while somebody is killed; then the provider carries it out
RETRY_AFTER = 2  # seconds


class Blow(StrEnum):
    """What else happens when the request arrives, beside what happens to it."""

    NONE = "none"
    KILL_ENGINE = "kill-engine"
    """`kill -9` of `pulumi`. Its plugins and checks are not killed."""
    KILL_MAKER = "kill-maker"
    """`kill -9` of whoever made the request: the provider's process, or the check. Not of the engine."""
    CTRL_C = "ctrl-c"
    """Once. The engine lets what is under way finish and starts nothing more."""
    CTRL_C_TWICE = "ctrl-c-twice"
    """Again a second later: the engine ends at once."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One column of the matrix.

    Attributes:
        name: Its heading.
        fault: What the sandbox is told to do, less what it is to do it to.
        blow: What else happens.
        writes_only: Where a request that only reads would be answered, or not, in the same way by another kind (`plan.cells`).
        about: One line for the document.
    """

    name: str
    about: str
    fault: Mapping[str, Any] = field(default_factory=dict)
    blow: Blow = Blow.NONE
    writes_only: bool = False


def _status(status: int, about: str) -> Kind:
    return Kind(
        name=str(status), fault={"effect": "status", "status": status}, about=f"answered {status} ({about}) once"
    )


def _held_up(blow: Blow, about: str) -> Kind:
    return Kind(
        name=str(blow),
        fault={"effect": "latency", "latency": HELD_UP},
        blow=blow,
        writes_only=True,
        about=about,
    )


KINDS = (
    Kind(name="drop-after", fault={"effect": "drop-after"}, writes_only=True, about="carried out; the answer is lost"),
    Kind(name="drop-before", fault={"effect": "drop-before"}, about="the connection is closed; nothing is done"),
    Kind(name="timeout", fault={"effect": "timeout"}, about="never answered; nothing is done"),
    _status(500, "internal error"),
    _status(401, "credential refused"),
    _status(404, "not found"),
    _status(409, "conflict"),
    Kind(
        name="503 lasting",
        fault={"effect": "status", "status": 503, "count": LASTING},
        about="answered 503 until the operator has seen the error",
    ),
    _held_up(Blow.KILL_ENGINE, "`kill -9` of the engine while the provider carries it out"),
    _held_up(Blow.KILL_MAKER, "`kill -9` of the plugin or check that made it, while the provider carries it out"),
    _held_up(Blow.CTRL_C, "Ctrl-C once while the provider carries it out"),
    _held_up(Blow.CTRL_C_TWICE, "Ctrl-C twice while the provider carries it out"),
    _status(403, "not allowed"),
    _status(412, "precondition failed"),
    _status(422, "refused as invalid"),
    _status(423, "locked"),
    _status(429, "rate limited"),
    Kind(
        name="429 later",
        fault={"effect": "status", "status": 429, "retry_after": RETRY_AFTER},
        about=f"answered 429 with `Retry-After: {RETRY_AFTER}` once",
    ),
    _status(503, "unavailable"),
    Kind(
        name="drop-after lasting",
        fault={"effect": "drop-after", "count": LASTING},
        writes_only=True,
        about="carried out, and the answer lost, until the operator has seen the error",
    ),
)
"""In the order in which a run that is cut off should have tried them."""
