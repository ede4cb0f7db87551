"""Failures of the control plane that only a new secret sets off, for rehearsals of a roll-back or of a verification.

`control_plane.unhealthy_on_new=NAME`, `control_plane.crash_on_new=NAME` and `control_plane.misread_new=NAME` note the
SHA-256 of the value that the Fly secret NAME of molecule-cp has at that moment. From then on a control plane that boots
with another value of NAME answers its check with 503, exits at boot, or works with the value less its last character and
is healthy (of SECRETS_ENCRYPTION_KEY too little is left: it does not start). Machines with the old value stay as they
are, and a roll-back heals.

NAME is one of the first environment's control plane; `APP/NAME` is one of another's.

`control_plane.key_encoding=hex` is another matter: how control planes read SECRETS_ENCRYPTION_KEY is not known. Those that
make tenants ill are in `illness.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox import environments, illness
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.world import SETTINGS, SandboxError, Setting, sha256

if TYPE_CHECKING:
    from sandbox.world import World

MISREAD_NEW: Final = "control_plane.misread_new"
KEY_ENCODING: Final = "control_plane.key_encoding"
HEX: Final = "hex"
SWITCHES: Final = ("control_plane.unhealthy_on_new", "control_plane.crash_on_new", MISREAD_NEW)

SETTINGS.update(
    {
        MISREAD_NEW: Setting(
            default="",
            description="NAME: control planes booted with another value of NAME than now work with it less its last character",
        ),
        KEY_ENCODING: Setting(
            default="base64",
            description="hex: control planes booted from now on take 64 hex digits for the key that they are, too",
        ),
    }
)


def change(world: World, name: str, value: str) -> None:
    """Change any setting; a switch also notes the value that counts as the old one. Raises `SandboxError`."""
    if name in SWITCHES and value:
        meant, secret = _target(world, value)
        app = apps.find(world, name=meant)
        secrets = {} if app is None else {each.name: each.value for each in app_secrets.snapshot(world, app)}
        if secret not in secrets:
            raise SandboxError(f"{meant} has no Fly secret {secret}. It has: {', '.join(secrets)}.")
        world.keep(f"{name}.old", sha256(secrets[secret]))
    if name in illness.SWITCHES:
        illness.check(world, name, value)
    world.set(name, value)


def _target(world: World, value: str) -> tuple[str, str]:
    """Return the app and the name of the secret that a switch's value means."""
    app, _, secret = value.rpartition("/")
    return app or environments.of(world)[0].app, secret


def told(world: World, app: str) -> dict[str, Any]:
    """Return what a control plane is told at boot: by switch, the secret's name and the old value's SHA-256; `key_encoding`."""
    return {**_document(world, app), "key_encoding": world.text(KEY_ENCODING)}


def _document(world: World, app: str) -> dict[str, dict[str, str]]:
    found = {switch: _target(world, world.text(switch)) for switch in SWITCHES if world.text(switch)}
    return {
        switch.partition(".")[2]: {"name": secret, "old_sha256": world.kept(f"{switch}.old") or ""}
        for switch, (meant, secret) in found.items()
        if meant == app
    }
