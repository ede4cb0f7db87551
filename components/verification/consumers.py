"""What verifications of several secrets are told, and what they ask of the control plane and its machines.

A verification's own `Settings` extend those of here that have what it uses, and name only what is its own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from components import operator_credentials
from components.announcement import Announcement, Request
from components.clock import unix_time, utc_now
from components.control_plane.client import ControlPlaneClient, Org
from components.fly.client import FlyClient
from components.fly.shown import machines_of, written_of
from components.http import ApiError
from components.operator_credentials import endpoint
from components.rate_limit import Limit, take_turn
from components.resend.client import take_turn_for_a_mail
from components.verification.check import CheckFailedError, Deadline, progress

# The control plane makes a machine for each org, and Fly lets it make one a second in an app ("Working with the Machines API"): where it makes
# more, orgs fail. All verifications that make an org begin at the same time.
MACHINES_OF_ORGS = Limit(rate=1, burst=3)


def written_at(fly: FlyClient, app: str, secret: str) -> datetime:
    """When a secret of a Fly app was last written, by Fly's clock."""
    written = written_of(fly, app)
    if secret not in written:
        raise CheckFailedError(f"{app} has no secret {secret}")
    if not written[secret]:
        raise CheckFailedError(f"Fly does not say when {secret} of {app} was written")
    return datetime.fromisoformat(written[secret])


def machines_run_the_new_value(fly: FlyClient, app: str, secret: str) -> str:
    """Every machine that runs has booted after the secret was last written. Both times are of Fly's clock."""
    written = written_at(fly, app, secret)
    machines = machines_of(fly, app)
    for machine in machines:
        if not machine.has_booted_since(written):
            raise CheckFailedError(f"machine {machine.machine_id} of {app} still runs with the value before")
        if machine.illness:
            raise CheckFailedError(f"machine {machine.machine_id} of {app} is not healthy: {machine.illness}")
    return f"{len(machines)} machines of {app} run the new value"


def announce_machines(app: str) -> Announcement:
    """What `machines_run_the_new_value` shows."""
    return Announcement(words=(f"every machine of {app} runs with the new value and is healthy",))


def announce_org(kind: str, *, proof: str) -> Announcement:
    """What a disposable org shows, and what it takes.

    Args:
        kind: As `DisposableOrgSettings.disposable_org` takes it.
        proof: What is shown with it.
    """
    return Announcement(
        words=(proof,),
        makes=(f"org {kind}-<time>, deleted again",),
        writes=(
            Request(system="control-plane", method="POST", path="/cp/admin/orgs"),
            # Leftovers of verifications that were killed are deleted, too.
            Request(system="control-plane", method="DELETE", path=f"/cp/admin/tenants/{kind}-{{time}}", at_most=None),
        ),
    )


def outage(*, dead_since: str) -> str:
    """How long consumers had a dead value at most, where minting the new one has ended the one before: until now, when all work again."""
    seconds = (utc_now() - datetime.fromisoformat(dead_since)).total_seconds()
    return f"consumers had no working value for at most {seconds:.0f} s"


def health_answers(control_plane: ControlPlaneClient) -> str:
    """`/health` answers 200. It touches no other system, so it proves only that the process is up."""
    control_plane.assert_up()
    return "/health answers"


@dataclass(frozen=True, kw_only=True)
class DisposableOrg:
    """An org that exists for one verification, and is deleted whatever happens.

    Attributes:
        control_plane: Makes it, and with it whatever its own secrets let it make.
        slug: Its name; a new one for every verification.
        leftovers: Slugs of this kind of verification, and of no other: those of killed ones are deleted first.
        owner_user_id: Its owner.
        timeout: Seconds for it to be running.
    """

    control_plane: ControlPlaneClient
    slug: str
    leftovers: re.Pattern[str]
    owner_user_id: str
    timeout: float

    def use(self, examine: Callable[[Org], None]) -> Org:
        """Makes an org, waits until it runs, examines it and deletes it.

        Raises:
            CheckFailedError: It could not be provisioned, or `examine` found it wanting. It is deleted all the same.
        """
        self._delete_leftovers()
        take_turn(self.control_plane.url, "create org", MACHINES_OF_ORGS)
        try:
            org = self.control_plane.create_org(
                slug=self.slug, name="Secret rotation test", owner_user_id=self.owner_user_id
            )
            self._await_running(org)
            examine(org)
        except BaseException:
            self._delete_quietly(self.slug)
            raise
        self._delete(self.slug)
        return org

    def _delete_leftovers(self) -> None:
        """Deletes what a verification left that was killed. The engine's lock lets one update of the stack run at a time."""
        for org in self.control_plane.orgs():
            if self.leftovers.fullmatch(org.slug):
                progress(f"deleting the disposable org {org.slug} of an earlier verification")
                self._delete(org.slug)

    def _delete(self, slug: str) -> None:
        take_turn_for_a_mail()  # which confirms the deletion
        self.control_plane.delete_org(slug)

    def _await_running(self, org: Org) -> None:
        seen = False  # a list that is cut off at its limit may never show it

        def running() -> bool:
            nonlocal seen
            status = next((each.status for each in self.control_plane.orgs() if each.org_id == org.org_id), "missing")
            if status == "failed" or (status == "missing" and seen):
                raise CheckFailedError(
                    f"the control plane could not provision the disposable org {org.slug}: its status is {status}"
                )
            seen = seen or status != "missing"
            return status == "running"

        Deadline(self.timeout).poll(running, waiting_for=f"org {org.slug} to be running")

    def _delete_quietly(self, slug: str) -> None:
        """Cleans up on the way out of an error, which must not be replaced by another."""
        try:
            self._delete(slug)
        except ApiError as error:
            progress(f"the disposable org {slug} is left: {error}; the next verification deletes it")


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """What every verification is told.

    Attributes:
        app: The Fly app that holds the secret.
    """

    app: str

    def fly(self) -> FlyClient:
        """Fly, with the operator's token."""
        return FlyClient(token=operator_credentials.find(operator_credentials.FLY))


@dataclass(frozen=True, kw_only=True)
class ControlPlaneSettings(AppSettings):
    """What a verification is told that asks the control plane.

    Attributes:
        url: The control plane, unless the environment names another.
    """

    url: str

    @property
    def control_plane_url(self) -> str:
        """Where the control plane is."""
        return endpoint("CONTROL_PLANE_URL", self.url)

    def control_plane(self) -> ControlPlaneClient:
        """The control plane, with the operator's token."""
        token = operator_credentials.find(operator_credentials.CONTROL_PLANE)
        return ControlPlaneClient(self.control_plane_url, token)


@dataclass(frozen=True, kw_only=True)
class DisposableOrgSettings(ControlPlaneSettings):
    """What a verification is told that makes a disposable org.

    Attributes:
        owner_user_id: Owner of the org.
        org_timeout: Seconds for it to be running, and again for what was made for it to be gone.
    """

    owner_user_id: str
    org_timeout: float

    def disposable_org(self, kind: str) -> DisposableOrg:
        """An org `<kind>-<unix seconds>`, not made yet.

        Args:
            kind: Of one verification and no other: leftovers of this kind are deleted.
        """
        return DisposableOrg(
            control_plane=self.control_plane(),
            slug=f"{kind}-{unix_time()}",
            leftovers=re.compile(rf"{re.escape(kind)}-\d{{10}}"),
            owner_user_id=self.owner_user_id,
            timeout=self.org_timeout,
        )
