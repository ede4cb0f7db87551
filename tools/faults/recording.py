"""Which requests a rotation makes: the rows of the matrix. Pure, from the sandbox's list of the requests of one undisturbed rotation."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

READS = frozenset({"GET", "HEAD"})
# Parameters of paths that are the same in every sandbox; all others (ids, slugs) match whatever they are.
FIXED = frozenset({"app", "owner", "org", "repo", "secret_name", "workflow_id"})
# The GraphQL queries among the root fields; the others are mutations.
QUERIES = frozenset({"app", "viewer", "organization"})
# Writes to a location: an app's secrets, its machines and those of tenants, the repository's secret.
DELIVERIES = (
    r"^fly /v1/apps/[^/]+/secrets$",
    r"^fly /v1/apps/[^/]+/machines/[^/]+$",
    r"^github /api/v3/repos/[^/]+/[^/]+/actions/secrets/",
)
ENTERPRISE = "/api/v3"  # in front of the paths that pulumi-github calls; checks call the same ones without


class Phase(StrEnum):
    """Which part of a rotation a request is of."""

    PLAN = "plan"
    """What a preview asks as well."""
    MINT = "mint"
    """From the first resource to the first write of an app's secrets: credential and probe."""
    DELIVER = "deliver"
    """Until the last location has been written."""
    PROVE = "prove"
    """Verification and revocation."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the program, its providers or its checks made."""

    at: datetime
    provider: str
    method: str
    target: str
    template: str

    @property
    def pattern(self) -> str:
        """A regular expression for the targets of requests like this one."""
        return f"^{self._prefix}" + re.sub(r"\\{(\w+)\\}", self._parameter, re.escape(self.template)) + "$"

    @property
    def label(self) -> str:
        """As people read it."""
        path = re.sub(r"\{(\w+)\}", self._shown, self.template)
        return f"{self.provider} {self.method} {self._prefix}{path}"

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        if self.method in READS:
            return False
        path, _, fields = self.target.partition(" ")
        return not (path == "/graphql" and set(fields.split(",")) <= QUERIES)

    @property
    def delivers(self) -> bool:
        """Whether it writes a value to a location."""
        return self.writes and any(re.search(each, f"{self.provider} {self.target}") for each in DELIVERIES)

    @property
    def _prefix(self) -> str:
        return ENTERPRISE if self.target.startswith(ENTERPRISE) else ""

    def _values(self) -> Mapping[str, str]:
        expression = re.sub(r"\\{(\w+)\\}", lambda match: f"(?P<{match[1]}>[^/ ]+)", re.escape(self.template))
        found = re.fullmatch(expression, self.target.removeprefix(self._prefix))
        return found.groupdict() if found else {}

    def _parameter(self, match: re.Match[str]) -> str:
        value = self._values().get(match[1])
        return re.escape(value) if match[1] in FIXED and value else "[^/ ]+"

    def _shown(self, match: re.Match[str]) -> str:
        value = self._values().get(match[1])
        return value if match[1] in FIXED and value else match[0]


@dataclass(frozen=True, kw_only=True)
class Position:
    """One request of a rotation: a row of the matrix.

    Attributes:
        provider: Of the service.
        method: HTTP method.
        pattern: A regular expression for its target.
        label: As people read it.
        nth: Which of the requests of that pattern, counted from 1.
        of: How many of them an undisturbed rotation makes.
        writes: Whether it changes something.
        before_minting: Whether it is made before the first write: what a preview makes as well.
        phase: Of the rotation.
    """

    provider: str
    method: str
    pattern: str
    label: str
    nth: int
    of: int
    writes: bool
    before_minting: bool
    phase: Phase = Phase.MINT

    @property
    def title(self) -> str:
        """The row's heading."""
        return f"{self.label} #{self.nth}" if self.of > 1 else self.label


def requests(log: Sequence[Mapping[str, Any]]) -> list[Request]:
    """What nobody made who is a consumer, oldest first."""
    return [
        Request(
            at=datetime.fromisoformat(each["at"]),
            provider=each["provider"],
            method=each["method"],
            target=each["target"],
            template=each["template"],
        )
        for each in log
        if each["consumer"] is None
    ]


def positions(made: Sequence[Request]) -> list[Position]:
    """The requests to disturb: of those that are alike, the first before, between and after any two writes.

    A poll that is made ten times in a row means the same ten times; the same read before and after a machine was updated does not.
    What the plan reads, before the first resource, is told from what the first resource reads by the longest pause before the first write.
    """
    first_write = next((number for number, each in enumerate(made) if each.writes), len(made))
    planned = _before_the_longest_pause(made[: first_write + 1])
    deliveries = [number for number, each in enumerate(made) if each.delivers] or [len(made)]
    counts: dict[tuple[str, str, str], int] = {}
    seen: set[tuple[str, str, str]] = set()
    found: list[tuple[Request, int, Phase]] = []
    for number, each in enumerate(made):
        key = (each.provider, each.method, each.pattern)
        counts[key] = counts.get(key, 0) + 1
        if number == planned:
            seen.clear()
        if each.writes or key not in seen:
            found.append((each, counts[key], _phase(number, planned, deliveries)))
        if each.writes:
            seen.clear()
        seen.add(key)
    return [
        Position(
            provider=each.provider,
            method=each.method,
            pattern=each.pattern,
            label=each.label,
            nth=nth,
            of=counts[each.provider, each.method, each.pattern],
            writes=each.writes,
            before_minting=phase is Phase.PLAN,
            phase=phase,
        )
        for each, nth, phase in found
    ]


def _phase(number: int, planned: int, deliveries: Sequence[int]) -> Phase:
    """Of the request of that number, where so many belong to the plan and those of these numbers deliver."""
    if number < planned:
        return Phase.PLAN
    if number < deliveries[0]:
        return Phase.MINT
    return Phase.DELIVER if number <= deliveries[-1] else Phase.PROVE


def _before_the_longest_pause(made: Sequence[Request]) -> int:
    """How many requests come before it."""
    pauses = [(later.at - sooner.at).total_seconds() for sooner, later in itertools.pairwise(made)]
    return pauses.index(max(pauses)) + 1 if pauses else len(made)
