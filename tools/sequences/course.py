"""Walks a sequence on the real engine and the sandbox, and looks after every step whether everything is as DESIGN.md, section 2, promises."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import invariants, lag
from sandbox.world import World
from tools.faults import trial
from tools.faults.bench import SANDBOX_OPTIONS, SETTINGS, Bench, Run, fingerprint
from tools.faults.kinds import Blow
from tools.faults.scenarios import SCENARIOS
from tools.faults.trial import FAMILY, LOCKED
from tools.rehearsal.servers import REFUSES
from tools.sequences.steps import Fault, Move, Step, Trouble
from tools.workspace import STACK, FailedError, workspace

SECRETS: Mapping[str, str] = {
    "FLY_API_TOKEN": "fly",
    "NEON_API_KEY": "neon",
    "RESEND_API_KEY": "resend",
    "STRIPE_WEBHOOK_SECRET": "stripe",
    "DATABASE_URL": "neon",
    "TENANT_REDIS_URL": "upstash",
}
"""What can rotate here, with its provider. Not what an operator hands in, nor the encryption key, which is rotated only if compromised."""
LAZY = 20  # seconds that a revoked credential is accepted on where its provider is lazy: longer than the program waits
TIMEOUTS = {
    "healthTimeout": "15",
    "revocationTimeout": "6",
}  # seconds; shorter ones, because here they are often waited for
LAG = 25  # seconds that lists lag
SWITCHES = {
    Trouble.WORKFLOW: "github.workflow_broken=publish-platform-image.yml",
    Trouble.UNHEALTHY: "control_plane.unhealthy_on_new={}",
    Trouble.CRASH: "control_plane.crash_on_new={}",
    Trouble.LAZY: f"revocation_delay={LAZY}",
    Trouble.LAG: f"{{}}.list_lag={LAG}",
}
QUERIES = r"^(?!/graphql (app|viewer|organization)\b)"  # less these: they are POST, and change nothing
TOLD = re.compile(r"config set --path 'rotations\.(\w+)' (\d+)")
PATIENCE = 30.0  # seconds for what was begun to be over: runs, orgs, branches
# After a rotation that was bumped again before it was finished, a third role or credential is no mistake.
UNSTEADY = ("roles of PostgreSQL",)
NEXT = "Next:"


@dataclass
class Course:
    """One sandbox and one stack, on which sequences are walked one after the other.

    Attributes:
        benches: One for each secret that rotates; all of the same stack.
        wanted: What the world looks like when nothing is under way.
        settled: The generation of each secret that was brought everywhere last.
        asked: The counters.
        highest: The highest counter so far.
        open: How often each secret was bumped since it was settled.
        seen: The values that each secret has had at Fly.
        broken: What is broken now, with the setting that breaks it.
        lagged: Whether lists have lagged since everything was settled.
        noticed: What the sandbox has noticed so far.
        ups: How many updates were run.
        struck: How many faults struck.
    """

    benches: Mapping[str, Bench]
    wanted: Mapping[str, object]
    settled: dict[str, int]
    asked: dict[str, int]
    highest: dict[str, int]
    open: dict[str, int]
    seen: dict[str, set[str]]
    broken: set[tuple[Trouble, str]] = field(default_factory=set)
    lagged: bool = False
    noticed: set[str] = field(default_factory=set)
    ups: int = 0
    struck: int = 0
    printed: list[str] = field(default_factory=list)

    @property
    def _bench(self) -> Bench:
        return next(iter(self.benches.values()))

    def walk(self, steps: Sequence[Step]) -> list[str]:
        """Takes the steps. Returns what was wrong after the first one after which anything was."""
        for number, step in enumerate(steps, 1):
            self.printed.append(f"--- {number}. {step}")
            began = time.time()
            first, before = len(self.printed), dict(self.open)
            wrong = self._take(step)
            wrong += self._alarms(before)
            wrong += self._bench.leaks(
                {f"output {each}": text for each, text in enumerate(self.printed[first:])}, since=began
            )
            if wrong:
                return [f"{number}. {step}: {each}" for each in wrong]
        return []

    def _take(self, step: Step) -> list[str]:
        match step.move:
            case Move.BUMP:
                self._ask(step.secret, self.asked[step.secret] + 1)
            case Move.LEAP:
                self._ask(step.secret, self.highest[step.secret] + 2)
            case Move.BACK:
                self._ask(step.secret, self.settled[step.secret])
            case Move.UP:
                return self._update(step)
            case Move.CONTINUE:
                return self._update(step, "--continue-on-error")
            case Move.TARGET:
                return self._update(step, "--target", step.target)
            case Move.BREAK:
                self._break(step)
            case Move.MEND:
                self._mend()
            case Move.SETTLE:
                return self._settle()
        return []

    # The operator and misfortune

    def _ask(self, secret: str, generation: int) -> None:
        if generation > self.asked[secret]:
            self.open[secret] += 1
        self.asked[secret] = generation
        self.highest[secret] = max(generation, self.highest[secret])
        self.benches[secret].set_generation(generation)

    def _break(self, step: Step) -> None:
        if step.trouble is None:
            raise ValueError(step)
        subject = SECRETS[step.secret] if step.trouble is Trouble.LAG else step.secret
        if step.trouble is Trouble.LAG and subject not in lag.PROVIDERS:
            return
        setting = SWITCHES[step.trouble].format(subject)
        self.broken.add((step.trouble, setting))
        self.lagged = self.lagged or step.trouble is Trouble.LAG
        self._set(setting)

    def _mend(self) -> None:
        for _, setting in self.broken:
            self._set(setting.partition("=")[0] + "=")
        if any(trouble is Trouble.LAZY for trouble, _ in self.broken):
            time.sleep(LAZY)
        self.broken.clear()

    def _set(self, setting: str) -> None:
        self._bench.stage.sandbox("set", setting)

    def _settle(self) -> list[str]:
        self._mend()
        if self.lagged:
            # An orphan of a crash that was not listed when its successor was verified is found by the next rotation, and by no other update.
            for secret in self.benches:
                self._ask(secret, self.highest[secret] + 1)
            self.lagged = False
        run = self._up()
        wrong = [] if run.status == 0 else [f"the plain `pulumi up` failed: {_last_words(run.output)}"]
        if not wrong and self._bench.state().get("pending_operations"):
            self._bench.clear_pending_creates()
        return wrong or [*self._unsettled(), *self._changes()]

    def _update(self, step: Step, *arguments: str) -> list[str]:
        run = self._up(*arguments, fault=step.fault, secret=step.secret)
        if run.status == 0:
            return [] if step.target or self.lagged else self._unsettled()
        # Who kills, or presses Ctrl-C, is told nothing by it. What the engine and pulumi-github say themselves is not ours.
        if step.target or (step.fault is not None and (step.fault.kind.blow is not Blow.NONE)):
            return []
        wrong = []
        if "Traceback (most recent call last)" in run.output:
            wrong.append("a traceback is shown")
        if NEXT not in run.output and "pulumi:providers:github" not in run.output and "ActionsSecret" not in run.output:
            wrong.append("nothing is said of what to do next")
        return wrong

    def _up(self, *arguments: str, fault: Fault | None = None, secret: str = "") -> Run:
        """`pulumi up`, as often as what it says asks for another try by other means: after a stale lock, or a counter that is refused."""
        run = self._up_once(*arguments, fault=fault, secret=secret)
        if run.status != 0 and LOCKED in run.output:
            self._bench.cancel()
            run = self._up_once(*arguments)
        # An operator does what the refusal says; there may be one for each secret.
        for _ in self.benches:
            told = TOLD.findall(" ".join(run.output.split()))
            if run.status == 0 or not told or "nothing was changed" not in run.output:
                break
            for name, generation in told:
                self._ask(name, int(generation))
            run = self._up_once(*arguments)
        return run

    def _up_once(self, *arguments: str, fault: Fault | None = None, secret: str = "") -> Run:
        if fault is not None:
            self._bench.inject(
                {
                    "provider": SECRETS[secret] if fault.provider == "issuer" else fault.provider,
                    "method": fault.method,
                    "path": QUERIES,
                    "nth": fault.nth,
                    "count": 1,
                    "status": 0,
                    "retry_after": None,
                    "latency": 0,
                    "program_only": True,
                    **fault.kind.fault,
                }
            )
        run = self._bench.up(*arguments, blow=Blow.NONE if fault is None else fault.kind.blow)
        self.ups += 1
        self.struck += 0 if fault is None else any(self._bench.hits())
        self._bench.clear()
        self._bench.end_processes(run.session)
        self.printed.append(f"$ pulumi up {' '.join(arguments)}   # exit status {run.status}\n{run.output}")
        for name, bench in self.benches.items():
            self.seen[name].add(bench.held_by_fly())
            bench.note_value()
        self._bench.values.update(*(bench.values for bench in self.benches.values()))
        return run

    # What has to be true

    def _alarms(self, before: Mapping[str, int]) -> list[str]:
        """What the sandbox has noticed since the step before, when secrets had been bumped so often."""
        new = [each for each in trial.alarms(self._bench.inspect()) if each not in self.noticed]
        self.noticed |= {*new}
        # A third one is no mistake where a rotation was begun before the one before was finished, or an orphan cannot be seen.
        twice = {
            FAMILY.format(name) for name, count in self.open.items() if max(count, before[name]) > 1 or self.lagged
        }
        return [
            each
            for each in new
            if not (each.startswith(f"{invariants.TWO}: ") and any(each.endswith(f"{name} are live") for name in twice))
        ]

    def _unsettled(self) -> list[str]:
        """What of the requested generations is not true everywhere."""
        deadline = time.monotonic() + PATIENCE
        while True:
            world, state = self._bench.inspect(), self._bench.state()
            wrong = [
                f"{name}: {each}" for name in self.benches for each in self._unsettled_secret(name, world, state)
            ] + trial.differences(self.wanted, {**trial.shape(world), **self._unsteady})
            if not wrong:
                break
            if time.monotonic() > deadline:
                return wrong
            time.sleep(1)
        self.settled = dict(self.asked)
        self.open = dict.fromkeys(self.benches, 0)
        return []

    @property
    def _unsteady(self) -> dict[str, object]:
        return {what: self.wanted[what] for what in UNSTEADY}

    def _unsettled_secret(self, name: str, world: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[str]:
        value = self.benches[name].held_by_fly()
        for place, held in trial.holdings(world, name).items():
            if held != fingerprint(value):
                yield f"{place} holds another value"
        family = [each for each in world["credentials"] if each["family"] == FAMILY.format(name)]
        current = next(each["outputs"] for each in state["resources"] if each["urn"].endswith(f":Credential::{name}"))
        if family:
            live = [each["id"] for each in family if each["live"]]
            if live != [current["credential_id"]]:
                yield f"live credentials: {live}; the state's current one: {current['credential_id']}"
            if [each["sha256"] for each in family if each["live"]] != [fingerprint(value)]:
                yield "what Fly holds is not the live credential"
        else:
            yield from self._servers_say(name, value)
        generation = next(
            each["outputs"]["secrets"][name]["generation"]
            for each in state["resources"]
            if each["type"] == "pulumi:pulumi:Stack"
        )
        if generation != self.asked[name]:
            yield f"the output says generation {generation}, not {self.asked[name]}"

    def _servers_say(self, name: str, value: str) -> Iterator[str]:
        """What PostgreSQL or Redis accept of what they should not, or refuse of what they should accept."""
        directory, refuses = self._bench.stage.sandbox_directory, REFUSES[name]
        if refuses(directory, value):
            yield "the server refuses what Fly holds"
        for other in self.seen[name] - {value}:
            if not refuses(directory, other):
                yield "the server accepts a value of before"

    def _changes(self) -> list[str]:
        """What a preview would do, of which there should be nothing."""
        result = self._bench.stage.pulumi("preview", "--expect-no-changes", "--stack", STACK)
        self.printed.append(result.output)
        if result.status != 0 or f"Nothing to rotate on stack {STACK}." not in result.output:
            return [f"a preview would change something: {_last_words(result.output)}"]
        state = self._bench.state()
        if any(each.get("delete") for each in state["resources"]) or state.get("pending_operations"):
            return ["deletions or operations are pending in the state"]
        return []


def _last_words(output: str) -> str:
    """What an operator would quote."""
    lines = [line.strip() for line in output.splitlines() if "error:" in line or "State:" in line or NEXT in line]
    return " ".join(lines)[:900] or output.strip()[-400:]


@contextlib.contextmanager
def course(directory: Path, secrets: Sequence[str]) -> Iterator[Course]:
    """A new sandbox with generation 1 of these secrets deployed. Stopped at the end, with all that runs in it.

    Raises:
        FailedError: Generation 1 could not be deployed.
    """
    tenants = str(max(SCENARIOS[each].tenants for each in secrets))
    with workspace(directory, *SANDBOX_OPTIONS, "--tenants", tenants) as stage:
        counters = [part for each in secrets for part in ("--plaintext", f"rotations.{each}=1")]
        stage.must("config", "rm", "--stack", STACK, "rotations")
        timeouts = [
            part for key, value in {**SETTINGS, **TIMEOUTS}.items() for part in ("--plaintext", f"{key}={value}")
        ]
        stage.must("config", "set-all", "--stack", STACK, "--path", *counters, *timeouts)
        with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
            benches = {each: Bench(stage=stage, scenario=SCENARIOS[each], world=world) for each in secrets}
            first = benches[secrets[0]]
            if (run := first.up()).status != 0:
                raise FailedError(run.output)
            yield Course(
                benches=benches,
                wanted=trial.shape(first.inspect()),
                settled=dict.fromkeys(secrets, 1),
                asked=dict.fromkeys(secrets, 1),
                highest=dict.fromkeys(secrets, 1),
                open=dict.fromkeys(secrets, 0),
                seen={each: {bench.held_by_fly()} for each, bench in benches.items()},
                noticed={*trial.alarms(first.inspect())},
            )
