"""What verifications ask of the machines of tenants. Fly is asked, never the stack's state."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from components.control_plane.client import Org
from components.fly.client import DELETED_STATES, FlyClient, Machine
from components.fly.rollout import health, should_run
from components.http import ApiError
from components.tenants.rollout import behind, holding, org_of
from components.verification.check import CheckFailedError, Deadline, wait
from components.verification.consumers import DisposableOrgSettings

NAMED = 10  # machines in one message


@dataclass(frozen=True, kw_only=True)
class TenantSettings(DisposableOrgSettings):
    """What a verification is told that looks at the machines of tenants.

    Attributes:
        tenant_app: Where they are.
        variable: What the value is called in their environment.
    """

    tenant_app: str
    variable: str


@dataclass(frozen=True, kw_only=True)
class TenantMachines:
    """The machines of tenants that have a variable, running or not.

    Attributes:
        fly: Fly.
        app: Where they are.
        variable: What the value is called in their environment.
        value: What they have to hold. Secret.
        same_server: The value is a URL, and a machine whose URL names another server is somebody's own.
    """

    fly: FlyClient
    app: str
    variable: str
    value: str
    same_server: bool = False

    def __repr__(self) -> str:
        return f"TenantMachines({self.app!r}, {self.variable!r})"

    def assert_hold(self, *, patience: float, health_patience: float) -> str:
        """Every machine holds the value, and those that should run are healthy.

        Args:
            patience: Seconds to wait for machines that hold another value.
            health_patience: Seconds to wait for machines that are not healthy: the control plane makes new ones all the time.

        Raises:
            CheckFailedError: Names those that do not.
        """
        machines: list[Machine] = []

        def all_hold() -> bool:
            machines[:] = self.fly.list_machines(self.app)
            return not self._behind(machines)

        def all_are_healthy() -> bool:
            return not all_hold() or not self._ill(machines)

        wait(all_hold, patience, waiting_for=f"the machines of {self.app} to hold the new {self.variable}")
        if not self._behind(machines) and self._ill(machines):
            wait(all_are_healthy, health_patience, waiting_for=f"the machines of {self.app} to be healthy")
        if faults := [*map(_fault, self._behind(machines)), *self._ill(machines)]:
            count = len(self._behind(machines)) + len(self._holding(machines))
            raise CheckFailedError(
                f"{len(faults)} of {count} machines of {self.app} do not run well with the new {self.variable}: {_listed(faults)}"
            )
        return f"{len(self._holding(machines))} machines of {self.app} hold the new {self.variable}"

    def any_runs(self) -> bool:
        """Whether a machine runs that holds the value: without one nobody uses it."""
        return any(should_run(each) for each in self._holding(self.fly.list_machines(self.app)))

    def _behind(self, machines: Sequence[Machine]) -> list[Machine]:
        return behind(machines, {self.variable: self.value}, self._same_server)

    def _holding(self, machines: Sequence[Machine]) -> list[Machine]:
        return holding(machines, {self.variable: self.value}, self._same_server)

    @property
    def _same_server(self) -> tuple[str, ...]:
        return (self.variable,) if self.same_server else ()

    def _ill(self, machines: Sequence[Machine]) -> list[str]:
        return [
            f"{_name(each)}: {reason}"
            for each in self._holding(machines)
            if should_run(each) and (reason := health(each, since=None))
        ]


def machine_of(fly: FlyClient, app: str, org: Org) -> Machine:
    """The machine of an org that is running.

    Raises:
        CheckFailedError: It has none.
    """
    for machine in fly.list_machines(app):
        if (machine.config.get("env") or {}).get("MOLECULE_ORG_ID") == org.org_id:
            return machine
    raise CheckFailedError(f"org {org.slug} is said to be running, but {app} has no machine of it")


def await_gone(fly: FlyClient, app: str, machine_id: str, org: Org, *, timeout: float) -> None:
    """Waits until the machine of a deleted org is gone. Raises CheckFailedError."""

    def gone() -> bool:
        # Not the list, which may be asked for once a second by all checks together.
        try:
            return fly.get_machine(app, machine_id).state in DELETED_STATES
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return True
            raise

    Deadline(timeout).poll(
        gone,
        waiting_for=f"the tenant machine {machine_id} of the deleted org {org.slug} to be gone",
    )


def _name(machine: Machine) -> str:
    org = org_of(machine) or (machine.config.get("env") or {}).get("MOLECULE_ORG_ID", "")
    return f"{machine.machine_id} (org {org})" if org else machine.machine_id


def _fault(machine: Machine) -> str:
    """Why a machine counts as one that holds another value."""
    if machine.host_status != "ok":
        return f"{_name(machine)}: its host is {machine.host_status}"
    return f"{_name(machine)} has another value"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more
