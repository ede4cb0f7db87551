"""A cell of the matrix: a rotation with a fault, what is true at once, whether `pulumi up` finishes it, and where it ends.

Cells whose faults pass by themselves may share a rotation (`attempt_together`): if it succeeds as if nothing had been, each was absorbed.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from tools.faults.bench import Bench, Run, fingerprint
from tools.faults.kinds import Blow, Kind
from tools.faults.plan import Cell
from tools.faults.recording import Position
from tools.faults.scenarios import STRIPE_KEY, Scenario, Step
from tools.rehearsal.outcome import APP, TENANT_APP, TENANT_VARIABLES
from tools.rehearsal.servers import REFUSES

FAMILY = "molecule-cp-rotation-sandbox-{}"
BRANCH = re.compile(r"-br-[a-z]+-[a-z]+-[0-9a-f]+$")
LOCKED = "currently locked by"
ADVICE = ("Next:", "nothing was changed", "pulumi up")


class Outcome(StrEnum):
    """How a cell ended."""

    ABSORBED = "absorbed"
    """The first `pulumi up` succeeded all the same."""
    NEXT_UP = "next up"
    """It failed, and a plain `pulumi up` finished the rotation."""
    AFTER_CANCEL = "after cancel"
    """The same, after `pulumi cancel` for the lock of an engine that was killed."""
    AFTER_REFRESH = "after refresh"
    """The same, and the engine still noted an interrupted create, which `pulumi refresh --clear-pending-creates` took off (README)."""
    HUNG = "hung"
    """It never ended by itself: somebody had to press Ctrl-C. After that as above."""
    NOT_HIT = "not hit"
    """The request was not made this time. Says nothing."""
    BROKEN = "BROKEN"
    """An invariant was violated, or the rotation could not be finished, or it ended elsewhere than an undisturbed one."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A cell.

    Attributes:
        secret: What was rotated: the name of a scenario.
        row: The request's title.
        kind: The fault's name.
        outcome: How it ended.
        broken: What was wrong, "" for nothing.
        traceback: Whether the operator had to read one.
        advised: Whether a failure said what to do next. True where nothing failed.
        seconds: How long the cell took.
        revision: Of the program.
        date: Of the run.
        together: How many cells shared the rotation; 1 for none but this.
        copied: Whether it began with a copy of the snapshot, and not where the cell before had ended.
    """

    secret: str
    row: str
    kind: str
    outcome: Outcome
    broken: str = ""
    traceback: bool = False
    advised: bool = True
    seconds: float = 0.0
    revision: str = ""
    date: str = ""
    together: int = 1
    copied: bool = False

    def line(self) -> str:
        """As a line of the file of results."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, line: str) -> "Result":
        """From such a line."""
        document = json.loads(line)
        return cls(**{**document, "outcome": Outcome(document["outcome"])})


Shape = Mapping[str, object]


def shape(world: Mapping[str, Any]) -> dict[str, object]:
    """What an undisturbed rotation leaves as it was, counted: what a disturbed one has to leave as well."""
    fly = world["fly"]["apps"]
    live = Counter(each["family"] for each in world["credentials"] if each["live"])
    return {
        "live credentials": dict(sorted(live.items())),
        "machines": {app: len(found["machines"]) for app, found in fly.items()},
        "healthy machines": {app: sum(each["healthy"] for each in found["machines"]) for app, found in fly.items()},
        "names of Fly's secrets": {app: sorted(found["secrets"]) for app, found in fly.items()},
        "names of Actions secrets": {
            name: sorted(found["secrets"]) for name, found in world["github"]["repositories"].items()
        },
        "branches at Neon": len(world["neon"]["branches"]),
        "orgs": world["control_plane"]["orgs"],
        # A branch of an org that is provisioned anew has another id each time.
        "roles of PostgreSQL": sorted(BRANCH.sub("-br", each) for each in world["postgres"]["roles"]),
        "unfinished workflow runs": sum(
            run["status"] != "completed" for found in world["github"]["repositories"].values() for run in found["runs"]
        ),
    }


def differences(wanted: Shape, found: Shape) -> list[str]:
    """What is not as after an undisturbed rotation."""
    return [f"{what}: {found[what]}, not {wanted[what]}" for what in wanted if wanted[what] != found[what]]


def holdings(world: Mapping[str, Any], secret: str) -> dict[str, str]:
    """The SHA-256 of the secret in every place that holds it."""
    app = world["fly"]["apps"][APP]
    held = {f"machine {machine['id']}": machine["env_sha256"].get(secret, "") for machine in app["machines"]}
    held["Fly"] = app["secrets"][secret]["sha256"]
    for name, found in world["github"]["repositories"].items():
        if secret in found["secrets"]:
            held[name] = found["secrets"][secret]["sha256"]
    if variable := TENANT_VARIABLES.get(secret):
        tenants = world["fly"]["apps"][TENANT_APP]["machines"]
        held |= {f"tenant's machine {machine['id']}": machine["env_sha256"].get(variable, "") for machine in tenants}
    return held


def alarms(world: Mapping[str, Any], scenario: Scenario | None = None) -> list[str]:
    """What the sandbox noticed while nobody looked, less what the scenario's strategy announces."""
    found = [f"{each['invariant']}: {each['what']}" for each in world["violations"]]
    found += [f"breakage of {each['consumer']}: {each['what']}" for each in world["breakages"]]
    return [each for each in found if scenario is None or not scenario.announced(each)]


def ending(bench: Bench, before: Mapping[str, str]) -> dict[str, object]:
    """The shape of the world, and what the real servers say of the values before."""
    directory = bench.stage.sandbox_directory
    refused = {secret: REFUSES[secret](directory, value) for secret, value in before.items() if secret in REFUSES}
    return {**shape(bench.inspect()), "the server refuses the value before": refused}


def unsettled(bench: Bench, generation: int, *, before: Mapping[str, str], wanted: Shape) -> list[str]:
    """What of a finished rotation is not true.

    Args:
        bench: Where it was.
        generation: Which has to be the only one.
        before: The values before it, by secret.
        wanted: How the world is after an undisturbed rotation (`ending`).
    """
    state, world, values = bench.state(), bench.inspect(), bench.all_held_by_fly()
    wrong = [
        f"{secret}: {each}" if len(values) > 1 else each
        for secret, value in values.items()
        for each in _unsettled(bench, secret, generation, value=value, before=before[secret], state=state, world=world)
    ]
    if state.get("pending_operations"):
        wrong.append("operations are pending in the state")
    if any(each.get("delete") for each in state["resources"]):
        wrong.append("deletions are pending in the state")
    return wrong + differences(wanted, ending(bench, before))


def _unsettled(
    bench: Bench,
    secret: str,
    generation: int,
    *,
    value: str,
    before: str,
    state: Mapping[str, Any],
    world: Mapping[str, Any],
) -> list[str]:
    """The same, of one secret."""
    held = holdings(world, secret)
    wrong = [f"{place} holds another value" for place, found in held.items() if found != fingerprint(value)]
    if value == before:
        wrong.append("Fly holds the value before")
    if value != bench.handed_in.get(secret, value):
        wrong.append("Fly holds another value than the one that was handed in")
    family = [each for each in world["credentials"] if each["family"] == FAMILY.format(secret)]
    live = [each["id"] for each in family if each["live"]]
    if family:
        known = [
            resource["outputs"]["credential_id"]
            for resource in state.get("resources", [])
            if resource["urn"].endswith(f":Credential::{secret}")
        ]
        if live != known:
            wrong.append(f"live credentials: {live}; the state's current one: {known}")
        if fingerprint(value) not in {each["sha256"] for each in family if each["live"]}:
            wrong.append("what Fly holds is not the live credential")
    elif (refuses := REFUSES.get(secret)) and refuses(bench.stage.sandbox_directory, value):
        wrong.append("the server refuses the new value")
    elif secret == STRIPE_KEY and not any(
        each["live"] for each in world["credentials"] if each["sha256"] == fingerprint(value)
    ):
        wrong.append("Stripe refuses the new value")
    output: Mapping[str, Any] = next(
        (each["outputs"]["secrets"][secret] for each in state["resources"] if each["type"] == "pulumi:pulumi:Stack"),
        {},
    )
    if output.get("generation") != generation:
        wrong.append(f"the output says generation {output.get('generation')}")
    return wrong


def attempt(bench: Bench, position: Position, kind: Kind, *, wanted: Shape) -> tuple[Result, str]:
    """Rotates once with a fault. Returns the cell, and what was printed."""
    results, printed = attempt_together(bench, [Cell(position=position, kind=kind)], wanted=wanted)
    return results[0], printed


def attempt_together(bench: Bench, cells: Sequence[Cell], *, wanted: Shape) -> tuple[list[Result], str]:
    """Rotates once with the faults of all these cells, and finishes the rotation as an operator would.

    Returns:
        The cells, each with the same outcome but for those whose request was not made; and what was printed.
    """
    began = time.time()
    if not bench.prepared:
        bench.prepare()
    generation, before = bench.generation + 1, bench.all_held_by_fly()
    rotation = Rotation(noticed={*alarms(bench.inspect())})
    for cell in cells:
        bench.inject(_fault(cell))
    _rotate(bench, rotation, next((cell.kind.blow for cell in cells if cell.kind.blow is not Blow.NONE), Blow.NONE))
    runs, wrong = rotation.runs, rotation.wrong
    if runs[-1].status == 0 and bench.state().get("pending_operations"):
        # The engine forgets an interrupted update by itself, an interrupted create only so. It goes on working with the note.
        bench.clear_pending_creates()
        rotation.outcome = Outcome.AFTER_REFRESH
    if runs[-1].status != 0:
        wrong.append(f"the next `pulumi up` failed: {_last_words(runs[-1].output)}")
    else:
        wrong += unsettled(bench, generation, before=before, wanted=wanted)
    rotation.look(bench, "after the next `pulumi up`")
    for run in runs:
        bench.end_processes(run.session)
    wrong += bench.leaks({f"output {number}": run.output for number, run in enumerate(runs, 1)}, since=began)
    if not wrong:
        bench.settled()
    printed = "\n\n".join(
        f"$ pulumi up   # exit status {run.status}, {run.seconds:.0f} s\n{run.output}" for run in runs
    )
    return rotation.results(bench.scenario.name, cells, round((time.time() - began) / len(cells), 1)), printed


@dataclass(kw_only=True)
class Rotation:
    """What happens in a rotation.

    Attributes:
        noticed: What the sandbox noticed so far.
        runs: Every `pulumi up`.
        hits: Of each fault, whether it has struck.
        wrong: What was not as it should be.
        failed: The first `pulumi up` that failed.
        outcome: So far.
    """

    noticed: set[str]
    runs: list[Run] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: Run | None = None
    outcome: Outcome = Outcome.ABSORBED

    def look(self, bench: Bench, when: str) -> None:
        """Asks the sandbox what it has noticed since."""
        found = alarms(bench.inspect(), bench.scenario)
        self.wrong += [f"{when}: {each}" for each in found if each not in self.noticed]
        self.noticed |= {*found}

    def results(self, scenario: str, cells: Sequence[Cell], seconds: float) -> list[Result]:
        """Of its cells, each of which took so long."""
        hit = Outcome.BROKEN if self.wrong else self.outcome
        first = self.failed or self.runs[0]
        return [
            Result(
                secret=scenario,
                row=cell.position.title,
                kind=cell.kind.name,
                outcome=hit if struck or self.failed or self.wrong else Outcome.NOT_HIT,
                broken="; ".join(self.wrong),
                traceback="Traceback (most recent call last)" in first.output,
                # Who kills a process, or presses Ctrl-C, is told nothing by it.
                advised=first.status == 0
                or cell.kind.blow is not Blow.NONE
                or any(words in first.output for words in ADVICE),
                seconds=seconds,
                together=len(cells),
            )
            for cell, struck in zip(cells, self.hits, strict=True)
        ]


def _rotate(bench: Bench, rotation: Rotation, blow: Blow) -> None:
    """Takes the steps of the scenario, and from the first failure on those of an operator who is told of it."""
    for step in bench.scenario.steps:
        if step is Step.REDEPLOY:
            bench.redeploy()
            continue
        run = bench.up(blow=Blow.NONE if rotation.failed or any(rotation.hits) else blow)
        rotation.runs.append(run)
        if not rotation.failed:
            rotation.hits = bench.hits()
            bench.note_value()
            rotation.look(bench, "at once")
        if run.outlived:
            rotation.wrong.append("at once: the provider outlived the engine")
        if run.status != 0 and not rotation.failed:
            rotation.failed = run
            bench.clear()
            outcome = _finish(bench, rotation.runs)
            bench.note_value()
            rotation.outcome = Outcome.HUNG if run.pressed else outcome
        if rotation.runs[-1].status != 0:
            break
    bench.clear()


def _fault(cell: Cell) -> dict[str, object]:
    """What the sandbox is told."""
    return {
        "provider": cell.position.provider,
        "method": cell.position.method,
        "path": cell.position.pattern,
        "nth": cell.position.nth,
        "count": 1,
        "status": 0,
        "retry_after": None,
        "latency": 0,
        "program_only": True,
        **cell.kind.fault,
    }


def _finish(bench: Bench, runs: list[Run]) -> Outcome:
    """Does what the operator is told: cancel a stale lock, then `pulumi up`. Once."""
    outcome = Outcome.NEXT_UP
    runs.append(bench.up())
    if runs[-1].status != 0 and LOCKED in runs[-1].output:
        bench.cancel()
        outcome = Outcome.AFTER_CANCEL
        runs.append(bench.up())
    return outcome


def _last_words(output: str) -> str:
    """What an operator would quote."""
    lines = [line.strip() for line in output.splitlines() if "error:" in line or "State:" in line or "Next:" in line]
    return " ".join(lines)[:600] or output.strip()[-300:]
