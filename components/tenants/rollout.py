"""Delivers values to the environments of tenants' machines, and says which of them could not be moved.

The environment of such a machine is a part of its configuration, fixed when the control plane creates it: a rotation reaches it only by an
update of the machine. Each one is another customer's, so one that does not bear the new values gets those before back and the others go on.
Who holds what is always asked of Fly, never of the state: so whatever is cut off goes on where it stopped, and machines that were created
meanwhile are found.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from components.announcement import Announcement, Request
from components.errors import OperatorError
from components.fly.client import CONFIGURING_EVENTS, DELETED_STATES, FlyClient, Machine
from components.fly.rollout import (
    LAUNCHED,
    POLL_SECONDS,
    MachineChangedError,
    MachineFailedError,
    MachineGoneError,
    MachineUpdate,
    Moves,
    RolloutPolicy,
    announce_machine_updates,
    batches,
    health,
    should_run,
)
from components.http import ApiError, conceal

if TYPE_CHECKING:
    from concurrent.futures import Future

ORG = "molecule_org"  # the metadata in which the control plane notes the org's slug
PASSES = 3  # the first, and two more for machines that are created or changed meanwhile
# By the scheme of a URL: what is meant, and its port where the URL names none.
SERVERS = {
    "redis": ("redis", 6379),
    "rediss": ("redis", 6379),
    "postgres": ("postgresql", 5432),
    "postgresql": ("postgresql", 5432),
}


def org_of(machine: Machine) -> str:
    """The slug of the org whose machine it is, "" where its metadata do not say."""
    return machine.metadata.get(ORG) or ""


def outdated(machine: Machine, variables: Mapping[str, str], same_server: Collection[str]) -> list[str]:
    """The variables of which a machine holds another value. See `behind`."""
    environment: Mapping[str, str] = machine.config.get("env") or {}
    if not environment and machine.host_status != "ok":
        return sorted(variables)  # Fly shows an incomplete configuration: what it holds is not known
    return [
        name
        for name in sorted(variables)
        if _concerned(environment, name, variables[name], same_server) and environment[name] != variables[name]
    ]


def behind(machines: Iterable[Machine], variables: Mapping[str, str], same_server: Collection[str]) -> list[Machine]:
    """The machines that hold another value than they should, running or not.

    One that does not have a variable is not concerned, and one whose configuration Fly cannot show counts as behind.

    Args:
        machines: As Fly describes them now.
        variables: What they should hold.
        same_server: Names of variables whose values are URLs: a machine whose URL names another server is somebody's own and left alone.
    """
    return [machine for machine in machines if outdated(machine, variables, same_server)]


def holding(machines: Iterable[Machine], variables: Mapping[str, str], same_server: Collection[str]) -> list[Machine]:
    """The machines that hold what they should, of those that are concerned at all."""
    return [
        machine
        for machine in machines
        if not outdated(machine, variables, same_server)
        and any(
            _concerned(machine.config.get("env") or {}, name, value, same_server) for name, value in variables.items()
        )
    ]


def announce(app: str, *, reprovision_path: str = "") -> Announcement:
    """What a delivery to the machines of an app writes.

    Args:
        app: The tenants' app.
        reprovision_path: The control plane's request that provisions an org anew, where machines get a value only so; "" for none.
    """
    writes = list(announce_machine_updates(app))
    if reprovision_path:
        writes.append(Request(system="control-plane", method="POST", path=reprovision_path, at_most=None))
    return Announcement(writes=tuple(writes))


def _concerned(environment: Mapping[str, str], name: str, value: str, same_server: Collection[str]) -> bool:
    if name not in environment:
        return False
    return name not in same_server or server_of(environment[name]) == server_of(value)


def server_of(url: str) -> tuple[str, str, int] | None:
    """Kind, host and port of a URL, whoever connects and with or without TLS. None for what is no URL of a server that is known here."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in SERVERS or not parts.hostname:
        return None
    kind, usual = SERVERS[parts.scheme]
    return kind, parts.hostname, port or usual


@dataclass(frozen=True, kw_only=True)
class Left:
    """A machine, or an org, that could not be moved.

    Attributes:
        machine_id: "" for an org that has none.
        org: Its slug, "" where nobody knows.
        reason: For the operator. Never holds a value of its environment.
        contact: Whom to call, "" for nobody.
    """

    machine_id: str
    org: str
    reason: str
    contact: str = ""

    @property
    def who(self) -> str:
        """The org and its machine, as far as they are known."""
        machine = f"machine {self.machine_id}" if self.machine_id else ""
        return f"{self.org} ({machine})" if self.org and machine else self.org or machine

    def __str__(self) -> str:
        return f"{self.who}: {self.reason}"


class Outcome(Enum):
    """What came of one machine."""

    MOVED = "it holds the new values"
    FAILED = "it was left or put back as it was"
    TO_LOOK_AT_AGAIN = "somebody else changed or destroyed it"


@dataclass(frozen=True, kw_only=True)
class Environments:
    """What the machines of tenants are to hold.

    Attributes:
        client: Fly.
        app: The tenants' app.
        variables: The values, by the name of the variable. Secret.
        same_server: See `behind`.
        overlaps: Names of variables whose value before still works.
    """

    client: FlyClient
    app: str
    variables: Mapping[str, str] = field(repr=False)
    same_server: Collection[str] = ()
    overlaps: Collection[str] = ()

    def outdated(self, machine: Machine) -> list[str]:
        """The variables of which a machine holds another value."""
        return outdated(machine, self.variables, self.same_server)

    def behind(self) -> list[Machine]:
        """Asks Fly which machines hold another value. Raises ApiError."""
        return behind(self.client.list_machines(self.app), self.variables, self.same_server)

    def only(self, names: Collection[str]) -> "Environments":
        """The same for some of the variables."""
        return Environments(
            client=self.client,
            app=self.app,
            variables={name: value for name, value in self.variables.items() if name in names},
            same_server=self.same_server,
            overlaps=self.overlaps,
        )


class TenantRollout:
    """Updates the machines that are behind.

    Attributes:
        left: The machines that could not be moved, by id.
    """

    def __init__(
        self,
        environments: Environments,
        policy: RolloutPolicy,
        *,
        unfinished: bool = False,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._environments = environments
        self._unfinished = unfinished
        self._client = environments.client
        self._app = environments.app
        self._policy = policy
        self._report = report
        self._update = MachineUpdate(self._client, self._app, policy)
        self._proven = False
        self._failed_in_a_row = 0
        self._names: set[str] = set()
        self._counted: tuple[int, int] | None = None
        self._boots_until = time.monotonic() + policy.health_timeout
        self.left: dict[str, Left] = {}

    def run(self) -> bool:
        """Moves every healthy machine that is behind, and looks again for those that were created or changed meanwhile.

        Returns:
            False where it has stopped: the first machine failed, and none worked with the new values already, or a whole batch failed.

        Raises:
            ApiError: Fly does not list the machines.
        """
        if self._unfinished:
            self._examine_those_before()
            self._unfinished = False
        for _pass in range(PASSES):
            machines = self._machines()
            candidates = [each for each in machines if self._is_candidate(each)]
            if not candidates:
                if self._counted is not None:
                    # Machines may have gone, or come, since the last batch was counted.
                    self._count(len(self._held(machines)), len(self._behind(machines)))
                return True
            if not self._move(candidates, machines):
                return False
        return True

    def _examine_those_before(self) -> None:
        """Machines may have got the new values by a delivery that was cut off before it saw whether they bear them."""
        deadline = time.monotonic() + self._policy.health_timeout
        while True:
            machines = self._client.list_machines(self._app)
            held = self._held(machines)
            # Results of checks that are older than the update are those of the version before.
            ill = {
                each.machine_id: (each, reason)
                for each in held
                if should_run(each) and _was_updated(each) and (reason := health(each, since=each.configured_at))
            }
            if not ill or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        for machine, reason in ill.values():
            happened = "it has got the new value by a delivery that was cut off, and is not healthy with it"
            self._leave(machine, f"{happened}: {reason}", contact="")

    def _machines(self) -> list[Machine]:
        """All machines, once those are up that the control plane is creating right now with a value before."""
        while True:
            machines = self._client.list_machines(self._app)
            if not any(_boots(each) and self._environments.outdated(each) for each in machines):
                return machines
            if time.monotonic() > self._boots_until:
                return machines
            time.sleep(POLL_SECONDS)

    def _is_candidate(self, machine: Machine) -> bool:
        outdated = self._environments.outdated(machine)
        self._names |= set(outdated)
        return bool(outdated) and machine.machine_id not in self.left and not _illness(machine)

    def _move(self, candidates: Sequence[Machine], machines: Sequence[Machine]) -> bool:
        """Moves machines; False where the rollout has stopped."""
        held, waiting = self._held(machines), {each.machine_id for each in self._behind(machines)}
        total = len(held) + len(waiting)
        self._proven = self._proven or any(should_run(each) and not _illness(each) for each in held)
        queue = batches(candidates, max_unavailable=self._policy.max_unavailable)
        with Moves(self._update, self._move_one) as moves:
            return self._move_all(moves, queue, waiting, total)

    def _move_all(self, moves: Moves[Outcome], queue: list[list[Machine]], waiting: set[str], total: int) -> bool:
        while queue:
            batch = queue.pop(0)
            moved = moves.of(batch, ahead=queue[0] if queue else ())
            outcomes = {each.machine_id: self._outcome(each, of) for each, of in zip(batch, moved, strict=True)}
            waiting -= {each for each, outcome in outcomes.items() if outcome is Outcome.MOVED}
            self._count(total - len(waiting), len(waiting))
            if self._stops(batch, outcomes.values()):
                rest = sum(len(each) for each in queue)
                self._report(f"tenants: stopped; {rest} machines of {self._app} were not touched")
                return False
            if not self._proven and queue and set(outcomes.values()) == {Outcome.TO_LOOK_AT_AGAIN}:
                # The first one is gone, so another one goes first, alone.
                queue = batches(list(chain.from_iterable(queue)), max_unavailable=self._policy.max_unavailable)
        return True

    def _held(self, machines: Iterable[Machine]) -> list[Machine]:
        return holding(machines, self._environments.variables, self._environments.same_server)

    def _behind(self, machines: Iterable[Machine]) -> list[Machine]:
        return [each for each in machines if self._environments.outdated(each)]

    def _count(self, held: int, waiting: int) -> None:
        """Tells the operator how far it is, unless that was said last."""
        if (held, waiting) != self._counted:
            self._counted = held, waiting
            names = _listed(self._names)
            self._report(f"tenants: {held} of {held + waiting} machines of {self._app} hold the new {names}")

    def _stops(self, batch: Sequence[Machine], outcomes: Collection[Outcome]) -> bool:
        """Whether the rollout goes no further after these outcomes of a batch."""
        if Outcome.MOVED in outcomes:
            self._proven = self._proven or should_run(
                batch[0]
            )  # one that does not run proves nothing; batches are not mixed
            self._failed_in_a_row = 0
            return False
        failed = sum(outcome is Outcome.FAILED for outcome in outcomes)
        self._failed_in_a_row += failed
        # One alone, where batches are of one machine, may be ill by itself; the first one of all may not.
        return failed > 0 and (not self._proven or self._failed_in_a_row > 1)

    def _outcome(self, listed: Machine, outcome: "Future[Outcome]") -> Outcome:
        try:
            return outcome.result()
        except (MachineFailedError, ApiError) as error:
            if _is_elsewhere(error):
                return Outcome.TO_LOOK_AT_AGAIN
            return self._leave(listed, self._said(error, listed), contact=error.contact)

    def _move_one(self, listed: Machine, nonce: str) -> Outcome:
        machine = self._client.get_machine(self._app, listed.machine_id)
        outdated = self._environments.outdated(machine)
        if machine.state in DELETED_STATES or _illness(machine):
            return Outcome.TO_LOOK_AT_AGAIN
        if not outdated:
            return Outcome.MOVED  # somebody else was faster
        environment = {
            **machine.config["env"],
            **{name: self._environments.variables[name] for name in outdated},
        }
        launch = should_run(machine)
        updated = self._update.update(
            machine,
            {**machine.config, "env": environment},
            nonce=nonce,
            launch=launch,
            arrived=lambda now: now.config.get("env") == environment,
        )
        if not launch:
            return Outcome.MOVED
        try:
            self._update.await_health(machine, updated)
        except (MachineFailedError, ApiError) as error:
            if _is_elsewhere(error):
                raise
            reason = f"with the new {_listed(outdated)}: {self._said(error, machine)}; {self._put_back(machine, updated, nonce)}"
            return self._leave(machine, reason, contact=error.contact)
        return Outcome.MOVED

    def _put_back(self, before: Machine, updated: Machine, nonce: str) -> str:
        """Gives a machine back what it had, and says how that went."""
        environment = before.config["env"]
        restored: Machine | None = None
        try:
            now = self._client.get_machine(self._app, before.machine_id)
            restored = self._update.update(
                updated,  # Fly refuses where that is not what the machine is by now
                before.config,
                nonce=nonce,
                launch=True,
                arrived=lambda then: then.instance_id != updated.instance_id and then.config.get("env") == environment,
            )
            self._update.await_health(now, restored)
        except (MachineFailedError, ApiError) as error:
            if _is_elsewhere(error):
                raise
            if restored is None:
                return f"the value before could not be given back: {self._said(error, before)}"
            return (
                f"it has the value before again, and does not get healthy with that either: {self._said(error, before)}"
            )
        return "it has the value before again, and is healthy"

    def _said(self, error: MachineFailedError | ApiError, machine: Machine) -> str:
        """What went wrong. Fly may quote what was sent to it, and a machine's environment is full of secrets."""
        environment = machine.config.get("env") or {}
        reason = error.reason if isinstance(error, MachineFailedError) else str(error)
        return conceal(reason, [*environment.values(), *self._environments.variables.values()])

    def _leave(self, machine: Machine, reason: str, *, contact: str) -> Outcome:
        left = Left(machine_id=machine.machine_id, org=org_of(machine), reason=reason, contact=contact)
        self.left[machine.machine_id] = left
        self._report(f"tenants: {left}")
        return Outcome.FAILED


def _is_elsewhere(error: MachineFailedError | ApiError) -> bool:
    """Whether somebody else has changed or destroyed the machine."""
    if isinstance(error, ApiError):
        return error.status == httpx.codes.NOT_FOUND
    return isinstance(error, MachineChangedError | MachineGoneError)


def deliver(
    environments: Environments,
    policy: RolloutPolicy,
    *,
    unfinished: bool = False,
    reprovisioned: Collection[str] = (),
    reprovision: Callable[[], Sequence[Left]] | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> int:
    """Gives every machine of tenants what it is to hold, and returns how many hold it.

    Updates come first: they are quick, and a tenant whose value before is dead waits for one.

    Args:
        environments: What machines are to hold.
        policy: How a rolling update goes.
        unfinished: Whether a delivery of the same values may have been cut off.
        reprovisioned: Names of variables that machines get only by being provisioned anew.
        reprovision: Has that done, and says where it could not be done.
        report: Takes lines for the operator.

    Raises:
        OperatorError: Names every machine and org that is left. The next delivery goes on with those.
    """
    updated = environments.only(environments.variables.keys() - set(reprovisioned))
    rollout = TenantRollout(updated, policy, unfinished=unfinished, report=report)
    names = _listed(environments.variables)
    try:
        went_through = rollout.run()
        orgs: Sequence[Left] = ()
        if went_through and reprovision:  # else a new machine would get values that another one does not bear
            orgs = reprovision()
            # A new machine may have other values that are behind: those of the control plane when it was made.
            went_through = rollout.run()
        return _conclude(environments, rollout.left, orgs, went_through=went_through)
    except ApiError as error:
        raise OperatorError(
            f"The machines of tenants in {environments.app} could not all be given the new {names}: {error}.",
            state=f"some machines hold the new values, some those before{_of_the_dead(environments)}; nothing was revoked.",
            next_step=f"`pulumi up` again once {error.system} answers: it asks Fly which machines are left, and goes on with those.",
            contact=error.contact,
        ) from None


def _conclude(environments: Environments, left: Mapping[str, Left], orgs: Sequence[Left], *, went_through: bool) -> int:
    """Asks Fly once more who holds what, and returns the number of machines that hold the new values.

    Raises:
        OperatorError: Names each machine and org that is left.
        ApiError: Fly does not list the machines.
    """
    machines = environments.client.list_machines(environments.app)
    outstanding = {each.machine_id: environments.outdated(each) for each in machines}
    of_orgs = {each.machine_id for each in orgs if each.machine_id} | {each.org for each in orgs if each.org}
    named = [
        left.get(machine.machine_id) or _unexplained(machine, went_through=went_through)
        for machine in machines
        if (outstanding[machine.machine_id] or machine.machine_id in left)
        and not {machine.machine_id, org_of(machine)} & of_orgs
    ]
    named += orgs
    if not named:
        return len(holding(machines, environments.variables, environments.same_server))
    names = _listed(set(chain.from_iterable(outstanding.values())) or environments.variables)
    raise OperatorError(
        f"{len(named)} of the tenants of {environments.app} could not be given the new {names}:\n    "
        + "\n    ".join(_by_reason(named)),
        state=_who_holds_what(environments, machines),
        next_step=_mend(environments, named),
        contact="; ".join(sorted({each.contact for each in named if each.contact})),
    )


def _of_the_dead(environments: Environments) -> str:
    dead = environments.variables.keys() - set(environments.overlaps)
    return f", of which that of {_listed(dead)} died when the new one was minted" if dead else ", which still work"


def _by_reason(named: Iterable[Left]) -> list[str]:
    """A line for each reason, with everybody who has it."""
    found: dict[str, list[Left]] = {}
    for each in sorted(named, key=lambda each: (each.org, each.machine_id)):
        found.setdefault(each.reason, []).append(each)
    return [f"{', '.join(each.who for each in several)}: {reason}" for reason, several in found.items()]


def _unexplained(machine: Machine, *, went_through: bool) -> Left:
    if reason := _illness(machine):
        reason = f"it was not healthy, so it was left as it is: {reason}"
    elif not went_through:
        reason = "it was not touched, because the rollout stopped at those that failed before it"
    else:
        reason = "somebody else created or changed it during the rollout"
    return Left(machine_id=machine.machine_id, org=org_of(machine), reason=reason)


def _who_holds_what(environments: Environments, machines: Sequence[Machine]) -> str:
    sentences = []
    for name in sorted(environments.variables):
        only = {name: environments.variables[name]}
        old = len(behind(machines, only, environments.same_server))
        new = len(holding(machines, only, environments.same_server))
        which = (
            "that still works"
            if name in environments.overlaps
            else "that died when the new one was minted: they cannot work with it"
        )
        sentences.append(
            f"{new} machines hold the new {name}, {old} the value before" + (f", and {which}" if old else "")
        )
    return f"{'; '.join(sentences)}; nothing was revoked."


def _mend(environments: Environments, named: Sequence[Left]) -> str:
    machine = next((each.machine_id for each in named if each.machine_id), "")
    look = f" (`fly machine status {machine} --app {environments.app}`)" if machine else ""
    if not all(each.machine_id for each in named):
        look += "; of orgs that could not be provisioned, the control plane's log says why"
    return f"mend them{look}, then `pulumi up`: it goes on with those that are left."


def _boots(machine: Machine) -> bool:
    """Whether a machine is starting for the first time: one that has exited before may never come up."""
    if any(event.get("type") == "exit" for event in machine.events):
        return False
    unchecked = machine.state == "started" and machine.has_checks and not machine.checks
    return unchecked or machine.state in LAUNCHED - {"created", "started"}


def _was_updated(machine: Machine) -> bool:
    """Whether a machine has its configuration from an update, or Fly does not say so; else it was created with it."""
    configuring = [event for event in machine.events if event.get("type") in CONFIGURING_EVENTS]
    return max(configuring, key=lambda event: event.get("timestamp") or 0, default={}).get("type") != "launch"


def _illness(machine: Machine) -> str:
    """Why a machine cannot be moved, "" where it can: one that was stopped on purpose is updated, and stays stopped."""
    if machine.host_status != "ok" or should_run(machine):
        return health(machine, since=None)
    return ""


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
