"""What may happen to a stack, drawn by chance: the same sequence for the same seed. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tools.faults.kinds import KINDS, Kind


class Move(StrEnum):
    """What is done."""

    BUMP = "bump"
    """A counter goes up by one, whatever became of the generation before."""
    LEAP = "leap"
    """It goes up by more than one."""
    BACK = "back"
    """It goes back to the generation verified last: a rotation is abandoned, if there is one."""
    UP = "up"
    """`pulumi up`, perhaps with a fault in it."""
    CONTINUE = "up --continue-on-error"
    TARGET = "up --target"
    """Of one resource of a secret."""
    BREAK = "break"
    """Something breaks, and stays broken until it is mended."""
    MEND = "mend"
    """All that is broken is mended."""
    SETTLE = "settle"
    """All is mended, and a plain `pulumi up` has to bring everything to where it was asked to be."""


class Trouble(StrEnum):
    """What breaks and stays broken."""

    WORKFLOW = "workflow"
    """CI runs fail."""
    UNHEALTHY = "unhealthy"
    """Machines are not healthy with a new value: the rollout goes back."""
    CRASH = "crash"
    """Machines do not even boot with it."""
    LAZY = "lazy"
    """Revoked credentials are accepted on for longer than the program waits."""
    LAG = "lag"
    """Lists of credentials show neither what was minted nor what was revoked since."""


# Parts of a secret's graph, by what their names are made of; {} is the secret.
TARGETS = ("**::{}", "**::probe-{}", "**::molecule-cp", "**::verification-{}", "**::revocation-{}")
# Whose requests fail, with which methods, and how far into an update at most: counted among the requests of that method.
REACH = {
    "fly": (("POST", "GET", "DELETE"), 12),
    "github": (("PUT", "POST", "GET"), 2),
    "control-plane": (("POST", "DELETE", "GET"), 3),
    "issuer": (("POST", "DELETE", "GET"), 3),
}
_WEIGHTS = {
    Move.BUMP: 5,
    Move.LEAP: 1,
    Move.BACK: 2,
    Move.UP: 9,
    Move.CONTINUE: 3,
    Move.TARGET: 3,
    Move.BREAK: 3,
    Move.MEND: 2,
    Move.SETTLE: 1,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One request of an update that fails.

    Attributes:
        provider: Whose; `issuer` is who mints the secret.
        method: HTTP method. Queries of GraphQL do not count as POST.
        nth: Which of the requests of that method.
        kind: How.
    """

    provider: str
    method: str
    nth: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind.name} at {self.method} {self.nth} of {self.provider}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a sequence.

    Attributes:
        move: What is done.
        secret: To which secret, where it is done to one.
        fault: In the update; None for none.
        target: The resource of an update of one; "" for no such update.
        trouble: What breaks; None for nothing.
    """

    move: Move
    secret: str = ""
    fault: Fault | None = None
    target: str = ""
    trouble: Trouble | None = None

    def __str__(self) -> str:
        parts = [str(self.move), self.target or self.secret if self.move is not Move.UP else ""]
        if self.trouble is not None:
            parts.append(str(self.trouble))
        if self.fault is not None:
            parts.append(f"with {self.fault}")
        return " ".join(part for part in parts if part)


def draw(secrets: Sequence[str], *, length: int, seed: int) -> list[Step]:
    """A sequence: it begins with a bump, and ends with everything mended and settled.

    Args:
        secrets: Those that rotate.
        length: Steps before the end.
        seed: The same sequence for the same one.
    """
    chance = random.Random(seed)  # noqa: S311 - a choice of tests
    steps = [Step(move=Move.BUMP, secret=chance.choice(secrets))]
    while len(steps) < length:
        move = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        secret = chance.choice(secrets)
        match move:
            case Move.UP | Move.CONTINUE:
                step = Step(move=move, secret=secret, fault=_fault(chance) if chance.random() < 0.6 else None)  # noqa: PLR2004
            case Move.TARGET:
                step = Step(move=move, secret=secret, target=chance.choice(TARGETS).format(secret))
            case Move.BREAK:
                step = Step(move=move, secret=secret, trouble=chance.choice(list(Trouble)))
            case Move.MEND | Move.SETTLE:
                step = Step(move=move)
            case _:
                step = Step(move=move, secret=secret)
        steps.append(step)
    return [*steps, Step(move=Move.SETTLE)]


def _fault(chance: random.Random) -> Fault:
    provider = chance.choice(["fly", *REACH])  # Fly has the most to be half done
    methods, far = REACH[provider]
    method = chance.choice(methods)
    kinds = [kind for kind in KINDS if method != "GET" or not kind.writes_only]
    return Fault(provider=provider, method=method, nth=chance.randint(1, far), kind=chance.choice(kinds))
