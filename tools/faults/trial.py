"""One cell of the matrix: a rotation with one fault, what is true at once, whether `pulumi up` finishes it, and where it ends."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tools.faults.bench import Bench, Run, fingerprint
from tools.faults.kinds import Blow, Kind
from tools.faults.recording import Position
from tools.rehearsal.outcome import APP, TENANT_APP, TENANT_VARIABLES
from tools.rehearsal.servers import REFUSES

FAMILY = "molecule-cp-rotation-sandbox-{}"
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
        secret: What was rotated.
        row: The request's title.
        kind: The fault's name.
        outcome: How it ended.
        broken: What was wrong, "" for nothing.
        traceback: Whether the operator had to read one.
        advised: Whether a failure said what to do next. True where nothing failed.
        seconds: How long the cell took.
        revision: Of the program.
        date: Of the run.
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
        "roles of PostgreSQL": sorted(world["postgres"]["roles"]),
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


def alarms(world: Mapping[str, Any]) -> list[str]:
    """What the sandbox noticed while nobody looked."""
    violations = [f"{each['invariant']}: {each['what']}" for each in world["violations"]]
    return violations + [f"breakage of {each['consumer']}: {each['what']}" for each in world["breakages"]]


def unsettled(bench: Bench, generation: int, *, before: str, wanted: Shape) -> list[str]:
    """What of a finished rotation is not true.

    Args:
        bench: Where it was.
        generation: Which has to be the only one.
        before: The value before it.
        wanted: The shape of the world after an undisturbed rotation.
    """
    world = bench.inspect()
    value = bench.held_by_fly()
    held = holdings(world, bench.secret)
    wrong = [f"{place} holds another value" for place, found in held.items() if found != fingerprint(value)]
    if value == before:
        wrong.append("Fly holds the value before")
    family = [each for each in world["credentials"] if each["family"] == FAMILY.format(bench.secret)]
    live = [each["id"] for each in family if each["live"]]
    state = bench.state()
    if family:
        known = [
            resource["outputs"]["credential_id"]
            for resource in state.get("resources", [])
            if resource["urn"].endswith(f":Credential::{bench.secret}")
        ]
        if live != known:
            wrong.append(f"live credentials: {live}; the state's current one: {known}")
        if fingerprint(value) not in {each["sha256"] for each in family if each["live"]}:
            wrong.append("what Fly holds is not the live credential")
    elif refuses := REFUSES.get(bench.secret):
        directory = bench.stage.sandbox_directory
        if refuses(directory, value) or not refuses(directory, before):
            wrong.append("the server refuses the new value or accepts the old one")
    output: Mapping[str, Any] = next(
        (
            each["outputs"]["secrets"][bench.secret]
            for each in state["resources"]
            if each["type"] == "pulumi:pulumi:Stack"
        ),
        {},
    )
    if output.get("generation") != generation:
        wrong.append(f"the output says generation {output.get('generation')}")
    if state.get("pending_operations"):
        wrong.append("operations are pending in the state")
    if any(each.get("delete") for each in state["resources"]):
        wrong.append("deletions are pending in the state")
    return wrong + differences(wanted, shape(world))


def attempt(bench: Bench, position: Position, kind: Kind, *, wanted: Shape) -> tuple[Result, str]:
    """Rotates once with a fault. Returns the cell, and what was printed."""
    began = time.time()
    generation, before = bench.generation + 1, bench.held_by_fly()
    noticed = {*alarms(bench.inspect())}
    bench.set_generation(generation)
    bench.inject(
        {
            "provider": position.provider,
            "method": position.method,
            "path": position.pattern,
            "nth": position.nth,
            "count": 1,
            "status": 0,
            "retry_after": None,
            "latency": 0,
            "program_only": True,
            **kind.fault,
        }
    )
    first = bench.up(blow=kind.blow)
    hit = bench.hits()
    bench.clear()
    bench.note_value()
    wrong = [f"at once: {each}" for each in alarms(bench.inspect()) if each not in noticed]
    noticed |= {*alarms(bench.inspect())}
    runs, outcome = [first], Outcome.ABSORBED if hit else Outcome.NOT_HIT
    if first.status != 0:
        outcome = _finish(bench, runs)
        bench.note_value()
    if first.pressed and outcome is not Outcome.BROKEN:
        outcome = Outcome.HUNG
    if runs[-1].status == 0 and bench.state().get("pending_operations"):
        # The engine forgets an interrupted update by itself, an interrupted create only so. It goes on working with the note.
        bench.clear_pending_creates()
        outcome = Outcome.AFTER_REFRESH
    if runs[-1].status != 0:
        wrong.append(f"the next `pulumi up` failed: {_last_words(runs[-1].output)}")
    else:
        wrong += unsettled(bench, generation, before=before, wanted=wanted)
    wrong += [f"after the next `pulumi up`: {each}" for each in alarms(bench.inspect()) if each not in noticed]
    for run in runs:
        bench.end_processes(run.session)
    wrong += bench.leaks({f"output {number}": run.output for number, run in enumerate(runs, 1)}, since=began)
    if not wrong:
        bench.generation = generation
    printed = "\n\n".join(
        f"$ pulumi up   # exit status {run.status}, {run.seconds:.0f} s\n{run.output}" for run in runs
    )
    result = Result(
        secret=bench.secret,
        row=position.title,
        kind=kind.name,
        outcome=Outcome.BROKEN if wrong else outcome,
        broken="; ".join(wrong),
        traceback="Traceback (most recent call last)" in first.output,
        # Who kills a process, or presses Ctrl-C, is told nothing by it.
        advised=first.status == 0 or kind.blow is not Blow.NONE or any(words in first.output for words in ADVICE),
        seconds=round(time.time() - began, 1),
    )
    return result, printed


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
