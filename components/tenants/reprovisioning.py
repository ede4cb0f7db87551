"""Has the control plane provision orgs anew, for a value that no update of their machines can bring.

What is encrypted with a lost key is lost: each org gets a fresh database and a fresh machine, which the control plane makes with the new
value. Whether that has come to pass is asked of Fly and of the control plane: so whatever is cut off goes on where it stopped.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx

from components.control_plane.client import ControlPlaneClient, Org
from components.fly.client import Machine
from components.fly.rollout import MachineFailedError, MachineGoneError, MachineUpdate, RolloutPolicy
from components.http import ApiError
from components.tenants.rollout import Environments, Left, holding, org_of

POLL_SECONDS = 2.0
FAILED_AT_ONCE = 10.0  # seconds for the control plane to take note of a request, where its status was `failed` before
AT_ONCE = 4  # each of them is a branch and a machine more for a while
PROVISIONING, RUNNING, FAILED = "provisioning", "running", "failed"


class Reprovisioning:
    """Provisions anew every org that has a machine with a value before, or that an attempt before left without a machine."""

    def __init__(
        self,
        environments: Environments,
        control_plane: ControlPlaneClient,
        *,
        path: str,
        timeout: float,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._environments = environments
        self._control_plane = control_plane
        self._path = path
        self._timeout = timeout
        self._report = report
        self._names = " and ".join(sorted(environments.variables))
        self._update = MachineUpdate(environments.client, environments.app, RolloutPolicy())
        self._done = 0

    def run(self) -> list[Left]:
        """Provisions one org first, then a few at a time; returns those for which that failed.

        Where the first one fails, and no machine holds the new value yet, the others are not touched.

        Raises:
            ApiError: Fly or the control plane does not answer.
        """
        machines = self._machines()
        behind = [machine for machine in machines if self._environments.outdated(machine)]
        left = [
            Left(
                machine_id=machine.machine_id,
                org="",
                reason="its metadata do not say which org it is of, so it cannot be provisioned anew",
            )
            for machine in behind
            if not org_of(machine)
        ]
        slugs = sorted({org_of(machine) for machine in behind} - {""})
        # An attempt that failed or was cut off leaves an org without a machine. Who waits for a payment has never had one.
        slugs += sorted(
            org.slug
            for org in self._control_plane.orgs()
            if org.status in {PROVISIONING, FAILED} and org.slug not in slugs
        )
        for each in left:
            self._report(f"tenants: {each}")
        proven = bool(self._holding(machines))
        results: list[Left | None] = []
        if slugs and not proven:
            results = [self._provision(slugs[0], total=len(slugs))]
            if results[0] is not None:
                return [*left, results[0], *(_not_touched(slug, machines) for slug in slugs[1:])]
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            results += pool.map(lambda slug: self._provision(slug, total=len(slugs)), slugs[len(results) :])
        return [*left, *(each for each in results if each is not None)]

    def _machines(self) -> list[Machine]:
        return self._environments.client.list_machines(self._environments.app)

    def _holding(self, machines: Sequence[Machine]) -> list[Machine]:
        return holding(machines, self._environments.variables, self._environments.same_server)

    def _provision(self, slug: str, *, total: int) -> Left | None:
        """Has one org provisioned, unless that is under way already, and waits for it; says why where it fails."""
        try:
            reason = self._request_and_await(slug)
        except (ApiError, MachineFailedError) as error:
            reason = str(error)
        if reason:
            left = Left(machine_id="", org=slug, reason=reason)
            self._report(f"tenants: {left}")
            return left
        self._done += 1
        self._report(f"tenants: {self._done} of {total} orgs are provisioned anew with the new {self._names}")
        return None

    def _request_and_await(self, slug: str) -> str:
        deadline = time.monotonic() + self._timeout
        requested = False
        failed_until = 0.0
        while True:
            status = self._status(slug)
            machines = [machine for machine in self._machines() if org_of(machine) == slug]
            is_new = bool(self._holding(machines)) and not any(map(self._environments.outdated, machines))
            if (status == RUNNING and is_new) or (status == "" and not machines):
                return ""  # or somebody has deleted the org
            if requested and status == FAILED and time.monotonic() > failed_until:
                return "the control plane could not provision it: its status is failed"
            if not requested and status != PROVISIONING:
                for machine in machines:
                    self._await_lease(machine)
                requested = self._request(slug)
                failed_until = time.monotonic() + FAILED_AT_ONCE if status == FAILED else 0.0
            if time.monotonic() > deadline:
                return f"not provisioned anew within {self._timeout:g} s: {self._where(status, machines)}"
            time.sleep(POLL_SECONDS)

    def _status(self, slug: str) -> str:
        """The org's status, "" where there is no such org."""
        org: Org | None = next((each for each in self._control_plane.orgs() if each.slug == slug), None)
        return "" if org is None else org.status

    def _await_lease(self, machine: Machine) -> None:
        """Waits until nobody holds a machine's lease: one that was cut off leaves it, and the control plane could not delete the machine."""
        with suppress(MachineGoneError), self._update.lease(machine):
            pass

    def _request(self, slug: str) -> bool:
        """Whether the control plane has taken the request, or may have: then it must not get another one. Raises ApiError."""
        try:
            self._control_plane.reprovision(self._path, slug)
        except ApiError as error:
            if error.status == httpx.codes.CONFLICT:
                return False  # somebody else's is under way
            if not error.ambiguous:
                raise
        return True

    def _where(self, status: str, machines: Sequence[Machine]) -> str:
        old = [machine.machine_id for machine in machines if self._environments.outdated(machine)]
        if old:
            return f"its status is {status or 'unknown'}, and machine {', '.join(old)} still holds the value before"
        if not machines:
            return f"its status is {status or 'unknown'}, and it has no machine"
        return f"its status is {status or 'unknown'}"


def _not_touched(slug: str, machines: Sequence[Machine]) -> Left:
    return Left(
        machine_id=next((machine.machine_id for machine in machines if org_of(machine) == slug), ""),
        org=slug,
        reason="it was not provisioned anew, because the first one failed",
    )
