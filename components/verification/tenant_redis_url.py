"""Verification of TENANT_REDIS_URL: everybody who uses the tenants' Redis does so with the new user or password.

The URL comes on standard input. Its user is the new one, so whoever holds exactly this URL holds the new value.

1. Every machine of the control plane has booted since the secret was written, and is healthy: it gives new tenants the new URL.
2. Every tenant machine with a URL of this server, stopped ones too, has exactly the new one. Fly is asked, not the state. Those that run are
   healthy. A machine whose URL names another server is somebody's own.
3. A disposable org `redistest-<unix seconds>` is provisioned: its machine has the new URL and gets healthy. It is deleted, whatever happened.
4. Unless told not to, and where a tenant runs: the server shows connections of the new user other than this check's.

The first two change nothing; the others follow only once these have passed.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from components.announcement import Announcement, together
from components.control_plane.client import Org
from components.fly.client import FlyClient
from components.fly.rollout import health
from components.http import ApiError
from components.upstash import SYSTEM
from components.upstash.server import other_connections
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, EndedError, Subject, progress
from components.verification.consumers import (
    DisposableOrg,
    announce_machines,
    announce_org,
    machines_run_the_new_value,
    outage,
)
from components.verification.tenant_machines import TenantMachines, TenantSettings, await_gone, machine_of

ORG = "redistest"
LOOKS_FOR_ONE_AT_FLY = 5  # looks at the server, of one second each; the list of an app may be asked for once a second by all checks together


@dataclass(frozen=True, kw_only=True)
class Settings(TenantSettings):
    """What this verification is told.

    Attributes:
        overlaps: Whether the URL before works beside the new one.
        prove_use: Whether the server has to show connections of the new user.
    """

    overlaps: bool
    prove_use: bool


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    value = sys.stdin.read()
    fly, org = settings.fly(), settings.disposable_org(ORG)
    tenants = TenantMachines(
        fly=fly, app=settings.tenant_app, variable=settings.variable, value=value, same_server=True
    )
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
            "tenants": lambda: tenants.assert_hold(patience=0, health_patience=settings.org_timeout),
        }
    )
    # An org that is made by a control plane with the old URL, or deleted before it is complete, may leave a machine with that URL.
    checks = {"disposable org": lambda: org_gets(org, fly, settings, value)}
    if settings.prove_use and tenants.any_runs():
        checks["use"] = lambda: new_user_is_used(value, settings.org_timeout, by=tenants)
    check.together(checks)
    if not settings.overlaps:
        progress(outage(dead_since=subject.minted_at))


def org_gets(disposable: DisposableOrg, fly: FlyClient, settings: Settings, value: str) -> str:
    """The machine of an org that is provisioned now gets the new URL and is healthy. Both are deleted again."""
    machine_ids: list[str] = []

    def has_the_new_value(org: Org) -> None:
        machine = machine_of(fly, settings.tenant_app, org)
        machine_ids.append(machine.machine_id)
        if machine.config["env"].get(settings.variable) != value:
            raise CheckFailedError(
                f"the control plane gave machine {machine.machine_id} of the new org {org.slug} another {settings.variable} than the new one"
            )

        def healthy() -> bool:
            return not health(fly.get_machine(settings.tenant_app, machine.machine_id), since=None)

        Deadline(settings.org_timeout).poll(
            healthy, waiting_for=f"machine {machine.machine_id} of org {org.slug} to be healthy"
        )

    org = disposable.use(has_the_new_value)
    await_gone(fly, settings.tenant_app, machine_ids[0], org, timeout=settings.org_timeout)
    return (
        f"org {org.slug} got its machine {machine_ids[0]} with the new {settings.variable}, and both are deleted again"
    )


def new_user_is_used(value: str, timeout: float, *, by: TenantMachines) -> str:
    """The server has connections of the new user that are not this check's; or nobody is left who could connect."""
    nobody = False
    looks = count(1)

    def used_or_nobody_is_left() -> bool:
        nonlocal nobody
        if connections() > 0:
            return True
        # What ran at first may have been the disposable org of another verification, which is deleted by now.
        nobody = next(looks) % LOOKS_FOR_ONE_AT_FLY == 0 and not by.any_runs()
        return nobody

    try:
        with other_connections(value) as connections:
            Deadline(timeout).poll(used_or_nobody_is_left, waiting_for="a tenant to connect to Redis as the new user")
    except ApiError as error:
        if error.status is None or error.system != SYSTEM:
            raise
        raise CheckFailedError(
            f"{error}: so it cannot be seen whether tenants use the new user; allow CLIENT in `redisRules`, or set `proveUse` to false"
        ) from None
    except EndedError:
        raise
    except CheckFailedError as error:
        raise CheckFailedError(
            f"{error} (where tenants connect only when somebody uses them, set `proveUse` to false)"
        ) from None
    return "no tenant runs any more" if nobody else "tenants connect to Redis as the new user"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    app, variable = settings["tenant_app"], settings["variable"]
    proof = f"a disposable org gets a machine with the new {variable}"
    used = ("the server shows tenants connected as the new user",) if settings["prove_use"] else ()
    return together(
        [
            announce_machines(settings["app"]),
            Announcement(words=(f"every machine of {app} that has a {variable} of this server has the new one",)),
            announce_org(ORG, proof=proof),
            Announcement(words=used),
        ]
    )


if __name__ == "__main__":
    check.run(verify)
