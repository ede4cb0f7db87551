"""What was measured, as tables: for the screen and for a document. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.bench.fleet import Ran
from tools.bench.growth import Cell, Grown
from tools.bench.processes import CHECKS, ENGINE, OTHERS, PROGRAM, PROVIDER, megabytes
from tools.bench.tenants import Moved
from tools.bench.threads import Arrangement, Took

KINDS = (ENGINE, PROVIDER, PROGRAM)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table.

    Attributes:
        title: Above it.
        headings: Of the columns.
        rows: Of the cells.
        notes: Below it, a sentence each.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def markdown(self) -> str:
        """As Markdown."""
        lines = [f"## {self.title}", "", _line(self.headings), _line(["---"] * len(self.headings))]
        lines += [_line(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def _line(cells: "tuple[str, ...] | list[str]") -> str:
    return f"| {' | '.join(each.replace('|', '&#124;') for each in cells)} |"


def of_secrets(found: Mapping[Cell, Grown]) -> list[Sheet]:
    """Secrets in one stack, over apps and repositories."""
    time = Sheet(
        title="Secrets in one stack: time",
        headings=(
            *(
                "secrets",
                "apps, repositories",
                "resources",
                "per secret",
                "`pulumi up`",
                "critical path",
                "of it GitHub's pace",
                "engine's floor",
            ),
            *("up ÷ (path + floor)", "preview", "of the floor", "preview ÷ floor"),
        ),
        rows=tuple(
            (
                *(str(cell.secrets), str(cell.places), str(each.resources), f"{each.resources / cell.secrets:.2f}"),
                *(f"{seconds:.1f} s" for seconds in (each.up, each.chain.seconds, each.chain.paced, each.floor)),
                f"{each.of_the_least:.2f}",
                *(f"{seconds:.2f} s" for seconds in each.preview),
                f"{each.preview[0] / each.preview[1]:.2f}",
            )
            for cell, each in found.items()
        ),
        notes=(
            "One update rotates all secrets of the stack; a preview is one without changes.",
            "The critical path is the longest chain of one app: mint, write, each batch of its machines, repository, verification, revocation.",
            "GitHub takes 80 writes a minute: a stack that writes more in one update leaves 0.75 s after each (`github:writeDelayMs`).",
            "The floor is a program with as many resources of the same dependencies that do nothing (`tools/bench/floor`).",
        ),
    )
    work = Sheet(
        title="Secrets in one stack: work and memory",
        headings=(
            *("secrets", "apps, repositories", "machines restarted", "requests", "per secret"),
            *(f"{kind}, peak memory" for kind in KINDS),
            "state",
        ),
        rows=tuple(
            (
                *(str(cell.secrets), str(cell.places), str(each.restarts), str(each.requests)),
                f"{each.requests / cell.secrets:.1f}",
                *(megabytes(each.memory, kind) for kind in KINDS),
                f"{each.state / 1e6:.2f} MB",
            )
            for cell, each in found.items()
        ),
    )
    processors = Sheet(
        title="Secrets in one stack: processor time of the update",
        headings=("secrets", "apps, repositories", *KINDS, CHECKS, OTHERS),
        rows=tuple(
            (
                *(str(cell.secrets), str(cell.places)),
                *(f"{each.processors.get(kind, 0.0):.1f} s" for kind in (*KINDS, CHECKS, OTHERS)),
            )
            for cell, each in found.items()
        ),
        notes=(
            "`engine` is the command `pulumi`, `provider` the SDK's process of all dynamic resources, `program` that of `__main__.py`.",
            "`checks` are all probes and verifications, `others` the remaining plugins.",
        ),
    )
    return [time, work, processors]


def of_tenants(found: Mapping[int, Moved], *, compared_with: int = 100) -> Sheet:
    """Machines of tenants.

    Args:
        found: By their number.
        compared_with: Whose batches the others are compared with; the smallest number where it was not measured.
    """
    base = found[compared_with if compared_with in found else min(found)]
    return Sheet(
        title="Machines of tenants",
        headings=(
            *("tenants", "`pulumi up`", "their machines", "batches", "largest", "a batch"),
            f"of that of {next(count for count, each in found.items() if each is base)}",
            *("requests", "per tenant"),
            *(f"{kind}, peak memory" for kind in KINDS),
        ),
        rows=tuple(
            (
                *(str(count), f"{each.up:.1f} s", f"{each.rollout:.1f} s", str(each.batches), str(each.largest)),
                *(f"{each.of_a_batch:.2f} s", f"{each.of_a_batch / base.of_a_batch:.2f}"),
                *(str(each.requests), f"{each.requests / count:.1f}"),
                *(megabytes(each.memory, kind) for kind in KINDS),
            )
            for count, each in found.items()
        ),
        notes=(
            "TENANT_REDIS_URL: one machine first, then batches. Which machines were a batch is told by the recorded requests.",
            "What lies between two batches (leases, reads, polls) is in the time of a batch.",
        ),
    )


def of_fleet(found: Mapping[int, Ran], *, parallel: int, cores: int) -> Sheet:
    """Stacks."""
    first = min(found)

    def per_core(count: int) -> float:
        return found[count].seconds * min(cores, parallel, count) / count

    return Sheet(
        title="Stacks",
        headings=(
            *("stacks", "took", "a stack", "a stack, per core", f"of that of {first}"),
            *("command, peak memory", "engine and plugins of a stack", "all together"),
        ),
        rows=tuple(
            (
                *(str(count), f"{each.seconds:.0f} s", f"{each.seconds / count:.1f} s", f"{per_core(count):.1f} s"),
                f"{per_core(count) / per_core(first):.2f}",
                *(f"{memory / 1e6:.0f} MB" for memory in (each.own, each.one, each.together)),
            )
            for count, each in found.items()
        ),
        notes=(
            f"`python -m tools.fleet rotate FLY_API_TOKEN --parallel {parallel}`: a preview and an update of each stack, on {cores} cores.",
            "Per core: the time of a stack, times the cores that can be at work (the smallest of cores, stacks at once and stacks).",
        ),
    )


def of_threads(found: Mapping[Arrangement, Took]) -> Sheet:
    """Apps that are worked on at once."""
    return Sheet(
        title="Threads of the SDK's dynamic provider",
        headings=(
            *("apps", "processes of their own", "`PULUMI_PARALLEL`", "`pulumi up`", "preview without changes"),
            *("all processes, peak memory", "provider, processor time"),
        ),
        rows=tuple(
            (
                *(str(each.apps), str(each.providers or "none"), str(each.parallel or "default")),
                *(
                    f"{took.up:.1f} s",
                    f"{took.preview:.1f} s",
                    f"{took.together / 1e6:.0f} MB",
                    f"{took.provider:.1f} s",
                ),
            )
            for each, took in found.items()
        ),
    )
