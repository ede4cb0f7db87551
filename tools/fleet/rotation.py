"""Runs a rotation through the stacks, wave by wave. Everything that can be refused is refused before the first stack is touched.

A wave is previewed, confirmed and updated, several of its stacks at once. It soaks, is looked at once more, and the next one begins. What
each stack is to have is on disk (`record`) before its counter is bumped, so the same command goes on after whatever happened.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from components.errors import OperatorError, RefusedError, refusals
from components.secret import LEAKED
from components.work import unfinished_business
from tools.audit.look import Stack
from tools.fleet import engine, record, selection, show, targets, variables
from tools.fleet.engine import Command, Deployer, FailedError, Preview, StoppedError
from tools.fleet.outcome import Outcome, Result, State
from tools.fleet.record import Pair
from tools.fleet.selection import Order
from tools.fleet.targets import Target

Found = TypeVar("Found")
CONTROL_PLANE = "CONTROL_PLANE_URL"
AGAIN = "mend what it names, then run the same command again: it goes on where it stopped."
LOCKED = (
    "wait until that process is done, then run the same command again. Only if it is gone: `pulumi cancel --stack {stack}`, then the same "
    "command."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for.

    Attributes:
        secrets: Names of secrets.
        patterns: Names of stacks, or patterns.
        in_order: Whether the stacks go in the order of the patterns.
        parallel: How many engines run at once.
        to: The generation; None for the next one of each stack.
        reason: `leaked`, or "" for what the stacks' config says.
        soak: How long after its verification a wave is looked at before the next one begins.
        each: Whether every stack is confirmed by itself, and not every wave.
        keep_going: Whether the others go on when one has failed.
        anew: Whether what an unfinished run wanted is forgotten.
        dry_run: Whether it is only previewed.
    """

    secrets: tuple[str, ...]
    patterns: tuple[str, ...]
    in_order: bool = False
    parallel: int = 4
    to: int | None = None
    reason: str = ""
    soak: timedelta = timedelta()
    each: bool = False
    keep_going: bool = False
    anew: bool = False
    dry_run: bool = False


@dataclass(kw_only=True)
class Fleet:
    """One run.

    Attributes:
        checkout: Where the program and the stacks' config are.
        options: What was asked for.
        environment: The variables of this process.
        given: Variables of single stacks.
        command: The CLI.
        reporter: Shows what happens.
        confirm: Asks whether to go on; None where nobody is asked.
        logs: Where what the engines print is kept.
    """

    checkout: Path
    options: Options
    environment: Mapping[str, str] = field(repr=False)
    given: variables.Given = field(repr=False)
    command: Command
    reporter: show.Plain
    confirm: Callable[[str], bool] | None
    logs: Path
    _deployers: dict[str, Deployer] = field(default_factory=dict, repr=False)
    _results: dict[str, Result] = field(default_factory=dict, repr=False)
    _verified_at: dict[str, datetime] = field(default_factory=dict, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    _interrupted: bool = False
    _order: Order = field(default_factory=lambda: Order(before={}, waves=()), repr=False)
    _record: record.Record = field(default_factory=record.Record, repr=False)
    _recorded: bool = False
    _unverified: list[str] = field(default_factory=list, repr=False)
    _changed: set[str] = field(default_factory=set, repr=False)

    def interrupt(self) -> None:
        """Starts nothing more, and asks what runs to stop after what it is doing."""
        again, self._interrupted = self._interrupted, True
        self._stopped.set()
        running = self.command.interrupt()
        if again:
            self.reporter.say(
                f"Still waiting for {running} running. They stop after what they are doing; killed, they would leave locks."
            )
        else:
            self.reporter.say(
                f"Interrupted: nothing more is started, {running} running are asked to stop after what they are doing."
            )

    def run(self) -> Outcome:
        """Rotates, and tells what came of it.

        Raises:
            OperatorError: It was refused before anything was touched.
        """
        with _alone(self.checkout):
            return self._run()

    def _run(self) -> Outcome:
        order = self._order = self._find()
        remembered = record.load(self.checkout)
        pairs = [(name, secret) for wave in order.waves for name in wave for secret in self.options.secrets]
        if self.options.anew:
            remembered = remembered.without(pairs)
        self._read([name for wave in order.waves for name in wave], remembered)
        self.reporter.say(show.plan(order.waves, self._results) + "\n")
        begun = remembered.started(pairs)
        if begun and self.options.to is None:
            self.reporter.say(f"This goes on with the rotation that began at {begun} (`--new` begins another one).\n")
        self._settle([name for name, result in self._results.items() if all(each.settled for each in result.targets)])
        wanted: dict[Pair, int] = {
            (name, each.secret): each.generation for name, result in self._results.items() for each in result.targets
        }
        self._record = remembered.wanting(wanted, now=_now().isoformat(timespec="seconds"))
        self._recorded = bool(begun)
        try:
            for number, wave in enumerate(order.waves):
                self._wave(wave, number)
        finally:
            if self._recorded:
                self._save()
        return Outcome(
            waves=order.waves,
            results=self._results,
            changed=tuple(sorted(self._changed)),
            interrupted=self._interrupted,
            dry_run=self.options.dry_run,
        )

    def _find(self) -> Order:
        """The stacks that are meant, in their order."""
        described = selection.described(self.checkout)
        deployed = engine.stacks(self.checkout, variables.for_all(self.given, self.environment))
        chosen = selection.select(self.options.patterns, described=described, deployed=deployed)
        for name, why in chosen.skipped.items():
            self.reporter.say(f"Left out: {name}, because {why}.")
        order = selection.order(chosen.names, after=described, groups=chosen.groups if self.options.in_order else ())
        if len(chosen.names) > 1:
            self._assert_apart()
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        refused: list[RefusedError] = []
        for name in chosen.names:
            try:
                own = variables.for_stack(name, self.given, self.environment)
            except RefusedError as error:
                refused.append(error)
                continue
            self._deployers[name] = Deployer(
                checkout=self.checkout,
                stack=deployed[name],
                variables=own,
                command=self.command,
                log=self.logs / f"{name}.log",
            )
        if refused:
            raise refusals(refused)
        return order

    def _assert_apart(self) -> None:
        """Refuses an address that would count for every stack: all of them would verify one of them."""
        if CONTROL_PLANE in variables.for_all(self.given, self.environment):
            raise RefusedError(
                f"{CONTROL_PLANE} is set, and would be taken for the control plane of every stack.",
                next_step="unset it (`controlPlaneUrl` in each stack's config counts then), or give it per stack (`--variables`).",
            )

    def _read(self, names: Sequence[str], remembered: record.Record) -> None:
        """Reads every stack and decides what it is to have."""
        refused: list[RefusedError] = []

        def look(name: str) -> tuple[tuple[Target, ...], datetime | None]:
            stack, unmapped = self._deployers[name].read(now=_now())
            found = tuple(self._target(name, secret, stack, unmapped, remembered) for secret in self.options.secrets)
            return found, _verified_at(stack, found)

        for name, found in self._at_once(look, names):
            if isinstance(found, OperatorError):
                what = "interrupted." if self._interrupted else found.happened
                refused.append(RefusedError(_about(name, what), next_step=found.next_step))
            else:
                self._results[name] = Result(targets=found[0])
                if found[1] is not None:
                    self._verified_at[name] = found[1]
        if refused:
            raise refusals(refused)

    def _target(
        self, name: str, secret: str, stack: Stack, unmapped: Collection[str], remembered: record.Record
    ) -> Target:
        if secret in unmapped:
            raise RefusedError(
                f"{name}: {secret} is not in components/secret_map.py, so it cannot be told how far it is.",
                next_step="add it to the map and to MAP in tools/audit/look.py, or rotate it stack by stack.",
            )
        if secret not in stack.generations:
            raise RefusedError(
                f"{name}: its config does not list {secret} under `rotations`.",
                next_step=f"leave {name} out; or, to manage {secret} there from now on: pulumi config set --stack {name} --path "
                f"'rotations.{secret}' 1",
            )
        return targets.target(
            name,
            secret,
            requested=stack.generations[secret],
            progress=stack.state.of(secret),
            remembered=remembered.generation((name, secret)),
            to=self.options.to,
        )

    def _wave(self, wave: Sequence[str], number: int) -> None:
        """Everything from preview to verification for the stacks of a wave."""
        names = self._may_start(wave)
        if not names:
            return
        if number and self.options.soak and not self.options.dry_run:
            self._soak([name for earlier in self._order.waves[:number] for name in earlier])
            names = self._may_start(wave)
        names = self._previewed(names, f"wave {number + 1} of {len(self._order.waves)}")
        if self.options.dry_run:
            return
        names = self._confirmed(names)
        if names:
            self._save()
        steps = {name: preview.steps for name in names if (preview := self._results[name].preview) is not None}
        with self.reporter.busy(steps):
            for name, found in self._at_once(self._update, names):
                if isinstance(found, Result):
                    self._results[name] = found

    def _may_start(self, wave: Iterable[str]) -> list[str]:
        """The stacks of a wave that have something to do and nothing against it."""
        names: list[str] = []
        for name in wave:
            if self._results[name].is_verified:
                continue
            missing = self._waits_for(name)
            if self._interrupted:
                self._leave_out(name, "interrupted")
            elif self._stopped.is_set():
                self._leave_out(name, self._why_stopped())
            elif missing and not self.options.dry_run:
                self._leave_out(name, f"it goes after {', '.join(missing)}")
            else:
                names.append(name)
        return names

    def _waits_for(self, name: str) -> list[str]:
        """The stacks that go before it and are not verified."""
        return sorted(each for each in self._order.before[name] if not self._results[each].is_verified)

    def _why_stopped(self) -> str:
        return f"stopped, because {', '.join(self._unverified)} is not verified"

    def _leave_out(self, name: str, why: str) -> None:
        self._results[name] = replace(self._results[name], state=State.NOT_STARTED, why=why)

    def _previewed(self, names: Sequence[str], title: str) -> list[str]:
        """Previews stacks and shows what would be done; returns those that may go on."""
        if not names:
            return []
        self.reporter.say(f"Preview of {title}: {', '.join(names)}\n")
        going: list[str] = []
        for name, found in self._at_once(self._preview, names):
            if not isinstance(found, Result):
                continue
            self._results[name] = found
            if found.preview is None:
                self.reporter.line(name, f"{found.state}: {found.error or found.why}")
            else:
                assumed = (
                    f"{name}, as if {', '.join(waits)} were verified:\n" if (waits := self._waits_for(name)) else ""
                )
                self.reporter.say(f"{assumed}{found.preview.text}\n")
                going.append(name)
        failed = [name for name in names if self._results[name].state is State.FAILED]
        if failed and not self.options.keep_going and not self.options.dry_run:
            self._stopped.set()
            self._unverified += failed
            for name in going:
                self._leave_out(name, f"stopped, because the preview of {', '.join(failed)} failed")
            return []
        return going

    def _preview(self, name: str) -> Result:
        result, began = self._results[name], time.monotonic()
        try:
            preview = self._deployers[name].preview(
                self._counters(name), self._reasons(name), first=bool(self._waits_for(name))
            )
        except StoppedError:
            return replace(result, why="interrupted")
        except FailedError as error:
            return self._failure(name, error, began)
        except Exception as error:  # noqa: BLE001 - one stack must not take the others with it
            return self._failure(name, self._deployers[name].unexpected(error), began)
        state = State.PREVIEWED if self.options.dry_run else State.NOT_STARTED
        return replace(result, state=state, preview=preview, seconds=time.monotonic() - began)

    def _counters(self, name: str) -> dict[str, int]:
        return {each.secret: each.generation for each in self._results[name].targets if each.bumps}

    def _reasons(self, name: str) -> dict[str, str]:
        if self.options.reason != LEAKED:
            return {}
        return {each.secret: LEAKED for each in self._results[name].targets if not each.settled}

    def _confirmed(self, names: list[str]) -> list[str]:
        """Those of the stacks that somebody has said yes to."""
        if self.confirm is None or not names:
            return names
        asked = [[name] for name in names] if self.options.each else [names]
        going: list[str] = []
        for some in asked:
            if not self._interrupted and self.confirm(f"Rotate {', '.join(some)}?"):
                going += some
            else:
                for name in some:
                    self._leave_out(name, "interrupted" if self._interrupted else "not confirmed")
        return going

    def _update(self, name: str) -> Result:
        """Bumps, updates and looks whether it is verified."""
        result, began = self._results[name], time.monotonic()
        if self._stopped.is_set():
            why = "interrupted" if self._interrupted else self._why_stopped()
            return replace(result, state=State.NOT_STARTED, why=why)
        deployer = self._deployers[name]
        try:
            if self._counters(name) or self._reasons(name):
                self._changed.add(str(selection.config_file(Path(), name)))
                deployer.bump(self._counters(name), self._reasons(name))
            self.reporter.line(name, "updating")
            deployer.up(lambda step: self.reporter.step(name, step))
            ended = self._verified(name, began)
        except StoppedError:
            bumped = ", with its counter bumped" if self._counters(name) else ""
            return replace(result, state=State.NOT_STARTED, why=f"interrupted before its update{bumped}")
        except FailedError as error:
            ended = self._failure(name, error, began)
        except Exception as error:  # noqa: BLE001 - one stack must not take the others with it
            ended = self._failure(name, deployer.unexpected(error), began)
        if not ended.is_verified:
            self._unverified.append(name)
            if not self.options.keep_going:
                self._stopped.set()
        self.reporter.ended(
            name, f"{ended.state} after {ended.seconds:.0f} s{f': {ended.error}' if ended.error else ''}"
        )
        return ended

    def _verified(self, name: str, began: float) -> Result:
        """What an update that succeeded has led to."""
        result = self._results[name]
        try:
            stack, _ = self._deployers[name].read(now=_now())
        except OperatorError as error:
            what = f"it was updated, and what came of it cannot be read: {error.happened}"
            return self._ended(name, State.FAILED, began, error=what, next_step=error.next_step)
        waiting = [
            each.secret for each in result.targets if not targets.settled(stack.state.of(each.secret), each.generation)
        ]
        if waiting:
            return self._ended(
                name,
                State.STAGED,
                began,
                error=f"{', '.join(waiting)} is written and not verified: machines do not run with it yet (`rollout: staged`).",
                next_step=f"restart them (a deployment, or `pulumi config set --stack {name} rollout rolling`), then the same command again.",
                left=self._left(stack),
            )
        found = _verified_at(stack, result.targets)
        if found is not None:
            self._verified_at[name] = found
        try:
            self._deployers[name].forget_reasons(self._reasons(name))
        except FailedError as error:
            self.reporter.line(name, f"the reason is still in its config, take it off: {error.happened}")
        return self._ended(name, State.VERIFIED, began)

    def _ended(
        self, name: str, state: State, began: float, *, error: str = "", next_step: str = "", left: tuple[str, ...] = ()
    ) -> Result:
        result = self._results[name]
        return replace(
            result,
            state=state,
            error=error,
            next_step=next_step,
            left=left,
            log=str(self._deployers[name].log) if error else "",
            seconds=result.seconds + time.monotonic() - began,
        )

    def _failure(self, name: str, error: FailedError, began: float) -> Result:
        """What a failed preview or update has led to."""
        try:
            left = self._left(self._deployers[name].read(now=_now())[0])
        except OperatorError as unread:
            left = (f"its state cannot be read: {unread.happened}",)
        locked = "locked by" in error.happened
        step = error.next_step or (LOCKED.format(stack=name) if locked else AGAIN)
        what = f"interrupted. {error.happened}" if self._interrupted else error.happened
        return self._ended(name, State.FAILED, began, error=what, next_step=step, left=left)

    def _left(self, stack: Stack) -> tuple[str, ...]:
        """What is unfinished of the secrets that were to be rotated."""
        mapped = {secret.name: secret for secret in stack.secrets}
        said: list[str] = []
        for name in self.options.secrets:
            progress = stack.state.of(name)
            unfinished = unfinished_business(mapped[name], progress, stack.state.tenants)
            bumped = stack.generations[name] != progress.current
            if bumped:
                said.append(
                    f"{name}: the config asks for generation {stack.generations[name]}, nothing of it is minted"
                )
            if unfinished:
                said.append(f"{name}: {unfinished}")
            elif progress.verified:
                said.append(f"{name}: generation {progress.verified} is in use and verified")
        # What it has to delete yet are checks that were run: nobody has to know.
        return (*said, *(each for each in stack.exported.left if "was not confirmed" in each))

    def _soak(self, names: Sequence[str]) -> None:
        """Waits until the waves before have been verified for long enough, then looks whether they are as they were."""
        done = [name for name in names if self._results[name].is_verified]
        until = max((self._verified_at.get(name, _now()) for name in done), default=_now()) + self.options.soak
        seconds = (until - _now()).total_seconds()
        if seconds > 0:
            self.reporter.say(f"Soaking until {until.astimezone():%H:%M:%S} ({seconds:.0f} s).")
            self._stopped.wait(seconds)
        if self._stopped.is_set():
            return
        self.reporter.say(f"After the soak: looking whether {', '.join(done)} is as it was verified.")
        for name, found in self._at_once(self._still_well, done):
            if isinstance(found, Result):
                self._results[name] = found
                if not found.is_verified:
                    self._unverified.append(name)
                    self.reporter.line(name, found.error)
                    if not self.options.keep_going:
                        self._stopped.set()

    def _still_well(self, name: str) -> Result:
        result, began = self._results[name], time.monotonic()
        step = f"`pulumi preview --stack {name}` shows it; mend it, then run the same command again."
        try:
            preview: Preview = self._deployers[name].preview({}, {})
        except StoppedError:
            return result
        except FailedError as error:
            what = f"verified, and after the soak its preview fails: {error.happened}"
            return self._ended(name, State.FAILED, began, error=what, next_step=error.next_step or step)
        except Exception as error:  # noqa: BLE001 - one stack must not take the others with it
            return self._failure(name, self._deployers[name].unexpected(error), began)
        if preview.pending or preview.steps:
            what = f"verified, and after the soak no longer as it was: {preview.summary}"
            return self._ended(name, State.FAILED, began, error=what, next_step=step)
        return result

    def _settle(self, names: Iterable[str]) -> None:
        for name in names:
            self._results[name] = replace(self._results[name], state=State.VERIFIED)

    def _settled_pairs(self) -> list[Pair]:
        return [
            (name, each.secret)
            for name, result in self._results.items()
            for each in result.targets
            if each.settled or result.is_verified
        ]

    def _save(self) -> None:
        """Keeps what is wanted. Not before something is about to be changed: a run that only looked leaves nothing."""
        if self.options.dry_run:
            return
        try:
            record.save(self.checkout, self._record.with_verified(self._settled_pairs()))
        except OSError as error:
            raise RefusedError(
                f"{record.FILE} cannot be written ({error.strerror}), and without it a run that is cut off would bump twice.",
                next_step="make the folder writable.",
            ) from None
        self._recorded = True

    def _at_once(
        self, work: Callable[[str], Found], names: Sequence[str]
    ) -> Iterator[tuple[str, Found | OperatorError]]:
        """Does something for several stacks, so many at once; what came of each, in their order."""
        with ThreadPoolExecutor(max_workers=self.options.parallel) as pool:
            started = {name: pool.submit(work, name) for name in names}
            for name, future in started.items():
                try:
                    yield name, future.result()
                except OperatorError as error:
                    yield name, error


def _about(name: str, happened: str) -> str:
    return happened if happened.startswith(f"{name}: ") else f"{name}: {happened}"


def _verified_at(stack: Stack, wanted: Iterable[Target]) -> datetime | None:
    """When the last of these was verified."""
    times = [stack.state.of(each.secret).verified_at for each in wanted]
    return max((datetime.fromisoformat(each) for each in times if each), default=None)


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _alone(checkout: Path) -> Iterator[None]:
    """Holds the stacks' folder: two runs in one checkout would each forget what the other wants."""
    folder = checkout / selection.CONFIG_FOLDER
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RefusedError(
                "Another run of the fleet is under way in this checkout.",
                next_step="wait for it, or use another clone.",
            ) from None
        yield
    finally:
        os.close(descriptor)
