"""What a step of a rotation is going to do, said before anything is done. Plain data.

Whoever makes a request that changes something announces it: an issuer its minting and revoking, a rollout its writes, a check its test
objects. A preview shows the words. Tests hold the requests against those that `pulumi up` then makes, so neither can be wrong for long.
"""

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.secret import Check

PLACEHOLDER = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that changes something at an external system.

    Attributes:
        system: `fly`, `github`, `neon`, `upstash`, `resend`, `stripe` or `control-plane`.
        method: HTTP method.
        path: Without a query; `{…}` stands for one segment that is not known before. At GraphQL the mutation's field follows, behind a space.
        at_most: How often, tries after an error apart; None where that depends on how long something takes.
    """

    system: str
    method: str
    path: str
    at_most: int | None = 1

    def covers(self, system: str, method: str, path: str) -> bool:
        """Whether this announces that request."""
        pattern = "[^/ ]+".join(re.escape(part) for part in PLACEHOLDER.split(self.path))
        return (system, method) == (self.system, self.method) and re.fullmatch(pattern, path) is not None


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a step does.

    Attributes:
        words: For the operator, each as it reads after a colon.
        makes: What exists for the length of the step: disposable orgs, signed events.
        dispatches: Workflow runs that it starts.
        costs: What is given up because the value before has leaked.
        writes: The requests that change something.
    """

    words: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    dispatches: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    writes: tuple[Request, ...] = ()


NOTHING = Announcement()


def together(announcements: Iterable[Announcement]) -> Announcement:
    """Several steps as one."""
    steps = list(announcements)
    return Announcement(
        words=tuple(each for step in steps for each in step.words),
        makes=tuple(each for step in steps for each in step.makes),
        dispatches=tuple(each for step in steps for each in step.dispatches),
        costs=tuple(each for step in steps for each in step.costs),
        writes=tuple(each for step in steps for each in step.writes),
    )


def of_check(check: Check | None, *, leaked: bool = False) -> Announcement:
    """What a check says of itself: the function `announce` of its module. One that has none says only that it runs.

    Args:
        check: Which one; None for no check.
        leaked: Whether the value before has leaked, so that a check may wait for less.
    """
    if check is None:
        return NOTHING
    module = importlib.import_module(f"components.verification.{check.module}")
    announce = getattr(module, "announce", None)
    if announce is None:
        return Announcement(words=(f"components.verification.{check.module} finds no fault",))
    said: Announcement = announce(dict(check.settings), leaked=leaked)
    return said


def as_data(request: Request) -> Mapping[str, object]:
    """A request as it stands in the impact's JSON."""
    return {"system": request.system, "method": request.method, "path": request.path, "at_most": request.at_most}
