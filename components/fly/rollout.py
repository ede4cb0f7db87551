"""Delivers secrets to a Fly app: one write, one rolling restart with health checks, and the way back.

The order is Fly's own (flyctl, machines_deploymachinesapp.go): one machine first, then batches of `max_unavailable`. Beyond flyctl, a
machine that does not get healthy ends the rollout *and* brings the previous values back to every machine that had moved, so that after a
failure the app is as it was before.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import zip_longest
from threading import Event, Thread
from typing import Any, Generic, Protocol, Self, TypeVar

import httpx

from components.announcement import Announcement, Request
from components.errors import OperatorError
from components.fly.attempt import Attempt, happened, state_of
from components.fly.client import DELETED_STATES, AppSecret, FlyClient, Machine
from components.http import ApiError

# Written into each machine's metadata: the secrets version it was last moved to. Fly has no field of its own for that, and a rollout
# that was cut off has to be told from a machine that was ill before.
STAMP = "rotation_secrets_version"
LEASE_SECONDS = 30  # a killed rollout holds up the next one no longer than this
LEASE_RENEWAL = 7.0  # seconds; several renewals may fail before the lease is lost
# Fly's rate limits ("Working with the Machines API"): one request a second for each action and machine, but "Get Machine" 5.
POLL_SECONDS = 1.0
HEALTH_POLL_SECONDS = 0.25
HEALTHY_POLLS = 2  # polls in a row that must be healthy
AT_ONCE = 30  # machines, and threads: flyctl's own bound
AHEAD_AFTER = 1.0  # seconds until the leases of the next batch are taken: the updates of this one do not wait for them
CRASH_LOOP_RESTARTS = 2
LAUNCHED = frozenset({"started", "starting", "creating", "created", "restarting", "updating", "replacing"})
FAILED = frozenset({"failed", "launch_failed"})

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """How a rolling restart goes.

    Attributes:
        max_unavailable: Machines restarted at once after the first: a share of all (below 1) or a number.
        health_timeout: Seconds for one machine to get healthy after its restart.
        secrets_timeout: Seconds for a write of secrets to become available to machines.
        lease_timeout: Seconds to wait for a lease that somebody else holds.
    """

    max_unavailable: float = 0.33
    health_timeout: float = 300.0
    secrets_timeout: float = 60.0
    lease_timeout: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What a rollout left behind.

    Attributes:
        version: The app's secrets version that every machine runs with.
        digests: Fly's digest of each secret that was written.
        machines: The machines that were restarted.
        written_at: For secrets that were only staged: when, RFC 3339 by Fly's clock, "" where Fly does not say.
    """

    version: int
    digests: Mapping[str, str]
    machines: tuple[str, ...]
    written_at: Mapping[str, str] = field(default_factory=dict)


class MachineFailedError(Exception):
    """A machine that did not get healthy with the new values, or could not be moved."""

    def __init__(self, machine_id: str, reason: str, *, contact: str = "") -> None:
        super().__init__(machine_id, reason)
        self.contact = contact
        self.machine_id = machine_id
        self.reason = reason

    def __str__(self) -> str:
        return f"machine {self.machine_id}: {self.reason}"


class MachineChangedError(MachineFailedError):
    """A machine that somebody else changed during the rollout."""

    def __init__(self, machine_id: str, *, contact: str = "") -> None:
        super().__init__(machine_id, "somebody else changed it during the rollout", contact=contact)


class MachineGoneError(MachineFailedError):
    """A machine that somebody else destroyed during the rollout."""


def batches(machines: Sequence[Machine], *, max_unavailable: float) -> list[list[Machine]]:
    """The order of a rollout: one machine first, then batches of `max_unavailable`; machines that do not run come last, together.

    Args:
        machines: All machines of the app.
        max_unavailable: A share of all machines (below 1, rounded up as flyctl does) or a number of machines. At most `AT_ONCE` of them.
    """
    running = [machine for machine in machines if should_run(machine)]
    idle = [machine for machine in machines if not should_run(machine)]
    size = math.ceil(len(machines) * max_unavailable) if max_unavailable < 1 else int(max_unavailable)
    size = max(1, min(size, AT_ONCE))
    return [batch for batch in (running[:1], *_chunks(running[1:], size), *_chunks(idle, AT_ONCE)) if batch]


def _chunks(machines: Sequence[Machine], size: int) -> list[list[Machine]]:
    return [list(machines[start : start + size]) for start in range(0, len(machines), size)]


def announce_machine_updates(app: str) -> tuple[Request, ...]:
    """What `MachineUpdate` does to the machines of an app."""
    machine = f"/v1/apps/{app}/machines/{{id}}"
    return (
        Request(system="fly", method="POST", path=f"{machine}/lease", at_most=None),  # renewed while it is held
        Request(system="fly", method="POST", path=machine, at_most=None),  # again while Fly says 412
        Request(system="fly", method="DELETE", path=f"{machine}/lease", at_most=None),
    )


def announce(app: str, *, staged: bool) -> Announcement:
    """What a delivery to an app writes. The second write, where there is one, is the way back."""
    write = Request(system="fly", method="POST", path=f"/v1/apps/{app}/secrets", at_most=1 if staged else 2)
    if staged:
        return Announcement(writes=(write,))
    record = Request(system="fly", method="POST", path="/api/v1/releases", at_most=2)
    outcome = Request(system="fly", method="PATCH", path="/api/v1/releases/{id}", at_most=4)
    return Announcement(writes=(write, *announce_machine_updates(app), record, outcome))


def to_write_again(
    names: Iterable[str],
    *,
    written: Mapping[str, str],
    listed: Mapping[str, AppSecret],
    machines: Iterable[Machine],
    finished_version: int,
    staged: bool,
) -> list[str]:
    """The secrets of an app that have to be written although their values are those of the last delivery.

    Those that somebody overwrote at Fly since then. And all of them where a rollout did not finish or was rolled back: some machines have
    moved since the last delivery that succeeded, others have not, and which value each runs with cannot be asked. One more rollout makes
    them equal; staging once more would not.

    Args:
        names: The managed secrets.
        written: Fly's digests of the last delivery.
        listed: What Fly lists now.
        machines: Of the app.
        finished_version: The secrets version of the last rollout that finished.
        staged: Whether this delivery would restart nothing.
    """
    names = list(names)
    if not staged and any(
        left_by_an_unfinished_rollout(machine, finished_version=finished_version) for machine in machines
    ):
        return names
    return [name for name in names if name not in listed or listed[name].digest != written.get(name)]


def health(machine: Machine, *, since: datetime | None) -> str:
    """What keeps a machine from being healthy, "" where nothing does.

    Args:
        machine: As Fly describes it now.
        since: Results of checks that are older are not believed: they are those of the version before.
    """
    if machine.host_status != "ok":
        return f"its host is {machine.host_status}"
    if machine.state != "started":
        return f"its state is {machine.state}"
    if not machine.has_checks:
        return ""
    if not machine.checks:
        return "no health check has reported yet"
    for check in machine.checks:
        if check.status != "passing":
            return f"health check {check.name} is {check.status}"
        if since is not None and check.updated_at and datetime.fromisoformat(check.updated_at) < since:
            return f"health check {check.name} has not run since the restart"
    return ""


def has_booted_since(machine: Machine, moment: datetime) -> bool:
    """Whether a machine has got the secrets of `moment`, by Fly's clock. False where Fly does not say."""
    return machine.configured_at is not None and machine.configured_at >= moment


def run_with_what_was_staged(
    machines: Iterable[Machine], *, staged_at: str, digest: str, listed: AppSecret | None
) -> bool:
    """Whether the machines run with a secret that was staged.

    Args:
        machines: All of the app.
        staged_at: When it was staged, by Fly's clock, "" where Fly did not say.
        digest: What Fly called the staged value.
        listed: The secret now. Where it is another one, by hand or by a rollout that failed and brought a value back, at least one machine has
            to have booted before that: it shows what the others ran with.
    """
    if not staged_at:
        return False
    machines = list(machines)
    if not all(has_booted_since(machine, datetime.fromisoformat(staged_at)) for machine in machines):
        return False
    if listed is not None and listed.digest == digest:
        return True
    if listed is None or not listed.updated_at:
        return False
    return any(not has_booted_since(machine, datetime.fromisoformat(listed.updated_at)) for machine in machines)


def waiting_for_a_restart(
    staged: Mapping[str, str],
    *,
    digests: Mapping[str, str],
    machines: Iterable[Machine],
    listed: Mapping[str, AppSecret],
) -> list[str]:
    """Of the secrets that were staged, those that a machine does not run with yet.

    Args:
        staged: Their names, with the time at which each was staged, by Fly's clock.
        digests: What Fly called the staged values.
        machines: All of the app.
        listed: What Fly lists now.
    """
    machines = list(machines)
    return [
        name
        for name, staged_at in staged.items()
        if not run_with_what_was_staged(machines, staged_at=staged_at, digest=digests[name], listed=listed.get(name))
    ]


def crash_loop(machine: Machine) -> str:
    """Why the machine will not come up, "" while it still may (flyctl's smoke check)."""
    exits = [event for event in machine.events if event.get("type") == "exit"]
    if not exits:
        return ""
    request = exits[0].get("request") or {}
    last = request.get("exit_event") or {}
    restarts = int(request.get("restart_count") or 0)
    if last.get("requested_stop") or not last.get("exit_code"):
        return ""
    if machine.state in {"stopped", "failed"} or restarts >= CRASH_LOOP_RESTARTS:
        return f"it exits at once (status {last['exit_code']}, {restarts} restarts)"
    return ""


def should_run(machine: Machine) -> bool:
    """Whether a machine is to run after the rollout: it runs now, or would but for a crash. One that was stopped on purpose stays so."""
    if machine.state in LAUNCHED or machine.state in FAILED:
        return True
    last = next((event for event in machine.events if event.get("type") == "exit"), {})
    exit_event = (last.get("request") or {}).get("exit_event") or {}
    return machine.state == "stopped" and bool(exit_event.get("exit_code")) and not exit_event.get("requested_stop")


def left_by_an_unfinished_rollout(machine: Machine, *, finished_version: int) -> bool:
    """Whether a machine carries the stamp of a rollout that did not finish or was rolled back: its state is ours to mend."""
    stamp = machine.metadata.get(STAMP, "")
    return stamp.isdigit() and int(stamp) > finished_version


class Companion(Protocol):
    """Something that has to change together with an app's machines, such as rows encrypted with a key that they hold.

    Every method may be repeated. All but `check` raise OperatorError or ApiError.
    """

    def check(self) -> None:
        """Before anything is written: whether `forward` can succeed.

        Raises:
            OperatorError: It cannot. Nothing was changed.
        """

    def forward(self) -> None:
        """After the write of the secrets, before the first machine restarts. An error leads to the way back."""

    def finish(self) -> None:
        """After the last machine has restarted: changes what machines with the value before did since `forward`."""

    def back(self) -> None:
        """On the way back, before machines go back to the value before, and again once they have."""


class MachineUpdate:
    """Gives single machines of an app another configuration, and tells whether they bear it. What rollouts of all kinds are made of."""

    def __init__(self, client: FlyClient, app: str, policy: RolloutPolicy) -> None:
        self._client = client
        self._app = app
        self._policy = policy

    @contextmanager
    def lease(self, machine: Machine) -> Iterator[str]:
        """Holds the machine's lease, whose nonce it gives: nobody else can change it meanwhile.

        Raises:
            MachineGoneError: There is no such machine.
            MachineFailedError: Somebody else keeps the lease, or Fly refuses it.
        """
        deadline = time.monotonic() + self._policy.lease_timeout
        while True:
            try:
                nonce = self._client.acquire_lease(
                    self._app, machine.machine_id, seconds=LEASE_SECONDS, description="secret rotation"
                )
                break
            except ApiError as error:
                if error.status == httpx.codes.NOT_FOUND:
                    raise MachineGoneError(machine.machine_id, str(error), contact=error.contact) from error
                held = error.status == httpx.codes.CONFLICT
                if not (held or error.transient) or time.monotonic() > deadline:
                    raise MachineFailedError(machine.machine_id, str(error), contact=error.contact) from error
                time.sleep(error.retry_after or 2 * POLL_SECONDS)
        ended = Event()
        renewal = Thread(target=self._renew, args=(machine.machine_id, nonce, ended))
        renewal.start()
        try:
            yield nonce
        finally:
            ended.set()
            renewal.join()  # a renewal that is under way would take the lease again after it was given back
            with suppress(ApiError):  # an unreleased lease ends by itself after LEASE_SECONDS
                self._client.release_lease(self._app, machine.machine_id, nonce)

    def _renew(self, machine_id: str, nonce: str, ended: Event) -> None:
        while not ended.wait(LEASE_RENEWAL):
            with suppress(ApiError):  # the next renewal tries again; an update without the lease is refused by Fly
                self._client.refresh_lease(self._app, machine_id, nonce, seconds=LEASE_SECONDS)

    def update(
        self,
        machine: Machine,
        config: Mapping[str, Any],
        *,
        nonce: str,
        launch: bool,
        arrived: Callable[[Machine], bool],
        min_secrets_version: int = 0,
        touched: list[str] | None = None,
    ) -> Machine:
        """Updates one machine; waits while Fly says 412: the secrets are not yet where the machine would read them.

        Args:
            machine: As it is now.
            config: Its whole new configuration.
            nonce: Of its lease.
            launch: Whether it is to run afterwards.
            arrived: Whether a machine is one that has got this update: where the answer was lost.
            min_secrets_version: Of the app's secrets, that it has to see; 0 for any.
            touched: Gets the machine's id, unless the machine is known to be as it was.

        Raises:
            MachineChangedError: Somebody else changed it.
            MachineFailedError: Fly refuses the update, or cannot carry it out in time.
            ApiError: Fly does not say what the machine is like.
        """
        touched = [] if touched is None else touched
        deadline = time.monotonic() + self._policy.secrets_timeout
        while True:
            try:
                touched.append(machine.machine_id)
                return self._client.update_machine(
                    self._app,
                    machine,
                    config=config,
                    nonce=nonce,
                    min_secrets_version=min_secrets_version,
                    skip_launch=not launch,
                )
            except ApiError as error:
                # Also after a clear refusal: the one before may have got no answer and been carried out late.
                now = self._client.get_machine(self._app, machine.machine_id)
                if arrived(now):
                    return now  # the answer was lost, the update was not
                unchanged = now.instance_id == machine.instance_id
                if unchanged:
                    touched.remove(machine.machine_id)
                not_yet_there = error.status == httpx.codes.PRECONDITION_FAILED
                if not unchanged:
                    raise MachineChangedError(machine.machine_id, contact=error.contact) from error
                if not (not_yet_there or error.transient) or time.monotonic() > deadline:
                    raise MachineFailedError(machine.machine_id, str(error), contact=error.contact) from error
                time.sleep(error.retry_after or POLL_SECONDS)

    def await_health(self, before: Machine, updated: Machine) -> None:
        """Waits until the updated machine runs its new version and its checks pass.

        Raises:
            MachineChangedError: Somebody else changed it.
            MachineGoneError: Somebody destroyed it.
            MachineFailedError: It crashed, or the time is up.
            ApiError: Fly does not say what the machine is like.
        """
        deadline = time.monotonic() + self._policy.health_timeout
        instance = updated.instance_id
        # Fly's clock, not ours: results of checks carry Fly's times.
        since = datetime.fromisoformat(updated.updated_at) if updated.updated_at else None
        self._client.wait_until_started(
            self._app, updated.machine_id, instance_id=instance, seconds=int(min(60, self._policy.health_timeout))
        )
        healthy_polls = 0
        reason = ""
        while time.monotonic() < deadline:
            machine = self._client.get_machine(self._app, updated.machine_id)
            if machine.state in DELETED_STATES:
                raise MachineGoneError(machine.machine_id, f"its state is {machine.state}")
            if machine.instance_id != instance:
                raise MachineChangedError(machine.machine_id)
            if reason := crash_loop(replace(machine, events=_events_since(machine, before))):
                break
            reason = health(machine, since=since)
            healthy_polls = 0 if reason else healthy_polls + 1
            if healthy_polls >= HEALTHY_POLLS:
                return
            time.sleep(HEALTH_POLL_SECONDS)
        raise MachineFailedError(updated.machine_id, reason or "it did not stay healthy")


def _events_since(machine: Machine, before: Machine) -> tuple[Mapping[str, Any], ...]:
    """The events that the machine did not have before it was updated."""
    known = {event.get("id") for event in before.events}
    return tuple(event for event in machine.events if event.get("id") not in known)


@dataclass(kw_only=True)
class _Turn(Generic[T]):
    """Of one machine: whether it has come, and what came of it."""

    thread: Thread
    has_come: Event
    outcome: "Future[T]"


class Moves(Generic[T]):
    """Moves machines, one batch after the other. A context: at its end all leases are given back.

    The leases of a batch are taken while the one before it restarts, and given back while the next one does: between two batches nothing is
    waited for but health. flyctl leases all machines of an app at the beginning; of tenants, that could be a thousand leases to renew.

    Args:
        update: Whose leases they are.
        move: Gets a machine as it was listed, and the nonce of its lease. It has to ask for the machine as it is now: it may have been stopped
            by Fly since then.
    """

    def __init__(self, update: MachineUpdate, move: Callable[[Machine, str], T]) -> None:
        self._update = update
        self._move = move
        self._turns: dict[str, _Turn[T]] = {}
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._over = True
        for turn in self._turns.values():
            turn.has_come.set()
        for turn in self._turns.values():
            turn.thread.join()

    def of(self, batch: Sequence[Machine], *, ahead: Sequence[Machine] = ()) -> "list[Future[T]]":
        """Moves a batch, and returns what came of each machine once all have an outcome; meanwhile takes the leases of the next batch."""
        for machine in batch:
            self._begin(machine)
        turns = [self._turns[machine.machine_id] for machine in batch]
        for turn in turns:
            turn.has_come.set()
        outcomes = [turn.outcome for turn in turns]
        wait(outcomes, timeout=AHEAD_AFTER)
        for machine in ahead:
            self._begin(machine)
        wait(outcomes)
        return outcomes

    def _begin(self, machine: Machine) -> None:
        if machine.machine_id not in self._turns:
            thread = Thread(target=self._run, args=(machine,), name=f"move {machine.machine_id}")
            self._turns[machine.machine_id] = _Turn(thread=thread, has_come=Event(), outcome=Future())
            thread.start()

    def _run(self, machine: Machine) -> None:
        turn = self._turns[machine.machine_id]
        try:
            try:
                self._lease_and_move(machine, turn)
            except MachineFailedError:
                # One who holds the lease may let go of it until the machine's turn comes.
                if turn.has_come.is_set():
                    raise
                turn.has_come.wait()
                self._lease_and_move(machine, turn)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the outcome gets it
            turn.outcome.set_exception(error)

    def _lease_and_move(self, machine: Machine, turn: _Turn[T]) -> None:
        if self._over:
            return
        with self._update.lease(machine) as nonce:
            turn.has_come.wait()
            if not self._over:
                turn.outcome.set_result(self._move(machine, nonce))


class Rollout:
    """One delivery to one app. Use once."""

    def __init__(
        self,
        client: FlyClient,
        app: str,
        policy: RolloutPolicy,
        *,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._client = client
        self._app = app
        self._policy = policy
        self._report = report
        self._update = MachineUpdate(client, app, policy)

    def deliver(
        self,
        values: Mapping[str, str | None],
        *,
        previous: Mapping[str, str],
        finished_version: int,
        without_way_back: Collection[str] = (),
        companions: Sequence[Companion] = (),
    ) -> Delivery:
        """Writes `values` and restarts every machine with them.

        Args:
            values: The secrets to write, by name; None unsets one.
            previous: The values before, as far as they are known: what a failed rollout brings back.
            finished_version: The secrets version of the last rollout that finished, 0 for none.
            without_way_back: Names whose value before died when the new one was minted: it is never brought back.
            companions: What changes together with the machines.

        Raises:
            OperatorError: The app is as it was before, as far as `previous` reaches; the message says what is where.
        """
        attempt = Attempt(
            app=self._app,
            values=values,
            previous=previous,
            dead=frozenset(name for name in values if name in without_way_back and previous.get(name) != values[name]),
        )
        try:
            attempt.machines = self._machines_to_move(finished_version, attempt)
            attempt.held_before = frozenset(self._client.list_secrets(self._app))
        except ApiError as error:
            raise OperatorError(
                f"The secrets {attempt.names} could not be delivered: {error}.",
                state=f"no secret was written; no machine was restarted. {attempt.old_values}",
                next_step="`pulumi up` again once Fly answers.",
                contact=error.contact,
            ) from error
        for companion in companions:
            _check(companion, attempt)
        try:
            written = self._client.write_secrets(self._app, values)
        except ApiError as error:
            raise _not_written(error, attempt) from error
        machines = attempt.machines
        self._report(f"secrets version {written.version} of {self._app} written; restarting {len(machines)} machines")
        try:
            for companion in companions:
                attempt.begun.append(companion)
                companion.forward()
            self._move(machines, written.version, attempt.moved)
        except (MachineFailedError, ApiError, OperatorError) as error:
            raise self._roll_back(error, attempt) from error
        for companion in companions:
            _finish(companion, attempt)
        digests, held = written.digests, [name for name, value in values.items() if value is not None]
        if not digests.keys() >= set(held):
            digests = {name: secret.digest for name, secret in self._client.list_secrets(self._app).items()}
        return Delivery(
            version=written.version,
            digests={name: digests[name] for name in held},
            machines=tuple(machine.machine_id for machine in machines),
        )

    def stage(self, values: Mapping[str, str]) -> Delivery:
        """Writes `values` and restarts nothing: machines get them at their next restart, whoever causes it.

        Raises:
            OperatorError: The write failed.
        """
        try:
            written = self._client.write_secrets(self._app, values)
        except ApiError as error:
            raise _not_written(error, Attempt(app=self._app, values=values)) from error
        self._report(f"secrets version {written.version} of {self._app} staged; no machine was restarted")
        try:
            listed = self._client.list_secrets(self._app)
        except ApiError as error:
            raise OperatorError(
                f"The secrets {', '.join(sorted(values))} are staged, but could not be looked at: {error}.",
                state="Fly has the new values, and machines get them when they restart. Every old credential is still alive.",
                next_step="`pulumi up` again: it stages the same values once more.",
                contact=error.contact,
            ) from error
        return Delivery(
            version=written.version,
            digests={name: listed[name].digest for name in values},
            machines=(),
            written_at={name: listed[name].updated_at for name in values},
        )

    def _machines_to_move(self, finished_version: int, attempt: Attempt) -> list[Machine]:
        machines = self._client.list_machines(self._app)
        if not machines:
            raise OperatorError(
                f"Fly app {self._app} has no machines, so nothing would run with the new value.",
                state=f"no secret was written.{attempt.because_of_the_dead}",
                next_step=f"deploy {self._app}, or take it out of the secret's locations; then `pulumi up`.",
            )
        ill = [
            f"{machine.machine_id}: {reason}"
            for machine in machines
            if should_run(machine)
            and (reason := health(machine, since=None))
            and not left_by_an_unfinished_rollout(machine, finished_version=finished_version)
        ]
        unreachable = [machine.machine_id for machine in machines if machine.host_status != "ok"]
        # With a dead value machines may well be ill: then the new one is what mends them.
        if unreachable or (ill and not attempt.dead):
            raise OperatorError(
                f"Fly app {self._app} is not healthy before the rollout: {'; '.join(ill or unreachable)}.",
                state=f"no secret was written, no machine was restarted.{attempt.because_of_the_dead}",
                next_step=f"mend the machines (`fly status --app {self._app}`), then `pulumi up`.",
            )
        if ill:
            self._report(f"{self._app} is not healthy: {'; '.join(ill)}; going on, because {attempt.why_dead}")
        # Machines that an unfinished rollout left ill go first: they cannot get worse, and the others keep serving. With a dead value none
        # serves, so those go first that will.
        return sorted(
            machines, key=lambda machine: (bool(health(machine, since=None)) == bool(attempt.dead), machine.machine_id)
        )

    def _move(self, machines: Sequence[Machine], version: int, moved: list[str]) -> None:
        """Restarts all machines with secrets of at least `version`. Appends the id of each machine before it is touched."""
        release = self._release()
        status = "failed"
        try:
            queue = batches(machines, max_unavailable=self._policy.max_unavailable)
            with Moves(self._update, partial(self._move_one, version=version, release=release, moved=moved)) as moves:
                for batch, following in zip_longest(queue, queue[1:], fillvalue=()):
                    self._report(f"{self._app}: restarting {', '.join(machine.machine_id for machine in batch)}")
                    for outcome in moves.of(batch, ahead=following):
                        outcome.result()
            status = "complete"
        finally:
            if release is not None:
                with suppress(ApiError):  # the release is a record for flyctl; the rollout stands without it
                    self._client.finish_release(release[0], status)

    def _release(self) -> tuple[str, int] | None:
        try:
            return self._client.create_release(self._app)
        except ApiError as error:
            self._report(f"no release was recorded, so `fly secrets list` will call the secrets staged: {error}")
            return None

    def _move_one(
        self, machine: Machine, nonce: str, *, version: int, release: tuple[str, int] | None, moved: list[str]
    ) -> None:
        machine = self._client.get_machine(self._app, machine.machine_id)
        launch = should_run(machine)
        metadata = {**machine.metadata, STAMP: str(version)}
        if release is not None:
            metadata |= {"fly_release_id": release[0], "fly_release_version": str(release[1])}
        config = {**machine.config, "metadata": metadata}
        updated = self._update.update(
            machine,
            config,
            nonce=nonce,
            launch=launch,
            arrived=lambda now: now.metadata.get(STAMP) == str(version),
            min_secrets_version=version,
            touched=moved,
        )
        if launch:
            self._update.await_health(machine, updated)

    def _roll_back(self, error: MachineFailedError | ApiError | OperatorError, attempt: Attempt) -> OperatorError:
        """Brings the previous values back, where there are any, and says how that went."""
        what = f"The rollout of {attempt.names} to Fly app {self._app} failed: {happened(error)}"
        self._report(f"{happened(error)} Rolling back")
        if attempt.unknown or not attempt.restored:
            return self._left_in_between(what, error.contact, attempt)
        try:
            attempt.bring_companions_back()
        except (ApiError, OperatorError) as second:
            return OperatorError(
                f"{what} Rolling back failed too: {happened(second)}",
                state=f"{state_of(second)}{attempt.who_runs_with_what} Machines that restart now get the new values. {attempt.old_values}",
                next_step="mend what is said above, then `pulumi up`: it goes on with the same credential, without minting again.",
                contact=second.contact or error.contact,
            )
        try:
            version = self._client.write_secrets(self._app, attempt.restored).version
            machines = self._client.list_machines(self._app)
            if attempt.dead:
                # All of them. Those that had not moved run with the dead value, and the one that failed may fail again: it comes last.
                machines.sort(key=lambda machine: (machine.machine_id in attempt.moved, machine.machine_id))
            else:
                machines = [machine for machine in machines if machine.machine_id in attempt.moved]
            if machines:
                self._move(machines, version, [])
                attempt.bring_companions_back()  # what machines with the new value changed in the meantime
        except (MachineFailedError, ApiError, OperatorError) as second:
            return OperatorError(
                f"{what} Rolling back failed too: {happened(second)}",
                state=state_of(second) + attempt.either_value,
                next_step="mend what made the machine fail, then `pulumi up`: it delivers again to every machine.",
                contact=second.contact or error.contact,
            )
        return OperatorError(
            what,
            state=f"{attempt.as_before} {attempt.old_values}",
            next_step="mend what made the machine fail, then `pulumi up`: it goes on with the same credential, without minting again."
            if attempt.has_values
            else f"{attempt.app} cannot live without it: deploy a version that can, then `pulumi up`; or take it off `decommission`.",
            contact=error.contact,
        )

    def _left_in_between(self, what: str, contact: str, attempt: Attempt) -> OperatorError:
        """For values that cannot be brought back, because they are dead or nobody knows them: machines stay as they are."""
        companions = ""
        # With whichever value more machines run: those go on working.
        if attempt.begun and len(attempt.not_moved) >= len(set(attempt.moved)):
            try:
                attempt.bring_companions_back()
            except (ApiError, OperatorError) as second:
                what = f"{what} Rolling back failed too: {happened(second)}"
                companions, contact = state_of(second), second.contact or contact
        if attempt.unknown:
            reason = f"the hand-made one before it cannot be read back from Fly; {attempt.who_runs_with_what}"
            state = f"{', '.join(attempt.unknown)} of {self._app} is already {attempt.become} and {reason}"
        else:
            state = f"{attempt.names} of {self._app} is the new value, and nothing was brought back; {attempt.who_runs_with_what}"
        return OperatorError(
            what,
            state=f"{companions}{state} {attempt.old_values}",
            next_step="mend what made the machine fail, then `pulumi up`: it goes on with the same credential."
            if attempt.has_values
            else "set it again by hand (`fly secrets set`) and take it off `decommission`; or deploy a version of "
            f"{attempt.app} that can live without it, then `pulumi up`.",
            contact=contact,
        )


def _check(companion: Companion, attempt: Attempt) -> None:
    try:
        companion.check()
    except OperatorError as error:
        raise OperatorError(
            error.happened,
            state=f"{error.state}{attempt.because_of_the_dead}",
            next_step=error.next_step,
            contact=error.contact,
        ) from error
    except ApiError as error:
        raise OperatorError(
            f"The secrets {attempt.names} could not be delivered: {error}.",
            state=f"no secret was written; no machine was restarted. {attempt.old_values}",
            next_step=f"`pulumi up` again once {error.system} answers.",
            contact=error.contact,
        ) from error


def _finish(companion: Companion, attempt: Attempt) -> None:
    try:
        companion.finish()
    except (ApiError, OperatorError) as error:
        raise OperatorError(
            f"{attempt.names} of Fly app {attempt.app} runs on every machine, but not everything could be changed with it: {happened(error)}",
            state=f"{state_of(error)}{attempt.old_values}",
            next_step="mend what is said above, then `pulumi up`: it goes on with the same credential, without minting again.",
            contact=error.contact,
        ) from error


def _not_written(error: ApiError, attempt: Attempt) -> OperatorError:
    maybe = "it is not known whether the write arrived" if error.ambiguous else "no secret was written"
    return OperatorError(
        f"The secrets {attempt.names} could not be delivered: {error}.",
        state=f"{maybe}; no machine was restarted. {attempt.old_values}",
        next_step="`pulumi up` again once Fly answers.",
        contact=error.contact,
    )
