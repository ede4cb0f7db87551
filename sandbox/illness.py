"""Tenants that the operator makes ill, for rehearsals of a roll-out that must stop at some and go on with the rest.

`tenant.unhealthy=SLUG,SLUG` lets the tenants of these organizations answer `GET /health` with 503, at once, until the
setting is changed: `tenant.unhealthy=` mends all. `tenant.unhealthy_on_new=NAME:SLUG,SLUG` notes the SHA-256 of the value
of NAME that each of their machines has at that moment in its environment: booted with another value it is unhealthy, booted
with that one again it is healthy. Both can be combined. All else a tenant does while it is ill.

Where several environments have a tenant of the same organization, `APP/SLUG` means one, and SLUG means all.

A tenant learns of it by a file that is there or not (`FLAG` of its environment), so that nothing is asked per check.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sandbox import environments
from sandbox.fly import machines
from sandbox.processes import tenant_machine
from sandbox.processes.tenant import ILLNESS as FLAG
from sandbox.world import SandboxError, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.fly.machines import Machine
    from sandbox.world import World

UNHEALTHY: Final = "tenant.unhealthy"
UNHEALTHY_ON_NEW: Final = "tenant.unhealthy_on_new"
SWITCHES: Final = (UNHEALTHY, UNHEALTHY_ON_NEW)
_OLD: Final = f"{UNHEALTHY_ON_NEW}.old"

__all__ = ["FLAG", "SWITCHES", "check", "flag", "update"]


def _slugs(text: str) -> list[str]:
    return [slug.strip() for slug in text.split(",") if slug.strip()]


def _slug(machine: Machine) -> str:
    return str((machine.config.get("metadata") or {}).get(tenant_machine.ORGANIZATION, ""))


def _names(machine: Machine) -> set[str]:
    """Return what a tenant's machine is called in the settings."""
    return {_slug(machine), f"{machine.app}/{_slug(machine)}"}


def check(world: World, name: str, value: str) -> None:
    """Look at a new value of one of the settings before it is set, and note what counts as old.

    Raises:
        SandboxError: An organization has no tenant, or a tenant no such variable.
    """
    variable, separator, listed = value.rpartition(":")
    if value and bool(separator) != (name == UNHEALTHY_ON_NEW):
        form = "NAME:SLUG,SLUG" if name == UNHEALTHY_ON_NEW else "SLUG,SLUG"
        raise SandboxError(f"Write {name}={form}, not {value!r}. Nothing was changed.")
    wanted = _slugs(listed)
    present = [
        machine
        for environment in environments.of(world)
        for machine in machines.listing(world, environment.tenant_app)
        if wanted
    ]
    meant = {name: [machine for machine in present if name in _names(machine)] for name in wanted}
    missing = [name for name, found in meant.items() if not found]
    if missing:
        raise SandboxError(f"No tenant has the organization {', '.join(missing)}. Nothing was changed.")
    if name == UNHEALTHY_ON_NEW:
        chosen = [machine for found in meant.values() for machine in found]
        without = [_slug(machine) for machine in chosen if variable not in machine.environment]
        if without:
            raise SandboxError(f"The tenant of {', '.join(without)} has no {variable}. Nothing was changed.")
        old = {f"{machine.app}/{_slug(machine)}": sha256(machine.environment[variable]) for machine in chosen}
        world.keep(_OLD, json.dumps(old))


def flag(world: World, identifier: str) -> Path:
    """Return the file that tells a tenant's machine of its illness."""
    return world.directory / "ill" / identifier


def update(world: World, chosen: list[Machine]) -> None:
    """Let these machines' tenants be ill or well from now on, by the settings and by what they boot or booted with."""
    ill = set(_slugs(world.text(UNHEALTHY)))
    variable, _, listed = world.text(UNHEALTHY_ON_NEW).rpartition(":")
    sensitive = set(_slugs(listed))
    old: dict[str, str] = json.loads(world.kept(_OLD) or "{}") if sensitive else {}
    folder = world.directory / "ill"
    if not (ill or sensitive or folder.exists()):
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    for machine in chosen:
        names, full = _names(machine), f"{machine.app}/{_slug(machine)}"
        changed = bool(names & sensitive) and sha256(machine.environment.get(variable, "")) != old.get(full)
        if names & ill or changed:
            flag(world, machine.id).touch()
        else:
            flag(world, machine.id).unlink(missing_ok=True)
