"""Writes the stacks' config files with which the program reaches the environments of a sandbox.

What environments share comes from `python -m sandbox env`; what each has of its own cannot, where one command works on
several stacks. So it stands in each stack's file: the base URL of its control plane, its names, and, encrypted as the engine
does it, its operator credentials. What a stack's file says already, in the folder or else among the program's own, stays, but
for those.

Encryption as in Pulumi's passphrase secrets provider (pulumi/pulumi, sdk/go/common/resource/config/crypt.go): the key is
PBKDF2-SHA256 of the passphrase with a million rounds; a value is `v1:NONCE:CIPHERTEXT` with AES-256-GCM, and the salt
`v1:SALT:` with the word `pulumi` so encrypted, by which the engine knows a wrong passphrase.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any, Final

import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from sandbox import environments
from sandbox.world import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sandbox.environments import Environment
    from sandbox.world import World

PREFIX: Final = "molecule-secrets"
ROUNDS: Final = 1_000_000
SECRETS: Final = {
    "controlPlaneAdminToken": "CP_ADMIN_API_TOKEN",
    "controlPlaneSession": "CP_SESSION",
    "stripeApiKey": "STRIPE_API_KEY",
    "upstashRedisRestToken": "UPSTASH_REDIS_REST_TOKEN",
    "encryptionKeyBefore": "SECRETS_ENCRYPTION_KEY",
}
"""Config keys of an environment's own operator credentials, and under which names they are kept."""
ROTATED: Final = ("DATABASE_URL", "FLY_API_TOKEN", "NEON_API_KEY", "RESEND_API_KEY", "STRIPE_WEBHOOK_SECRET")
"""What a stack that has no file yet rotates, and TENANT_REDIS_URL where there is a Redis."""


class Cipher:
    """The passphrase secrets provider of one salt. To make one takes a third of a second: one serves many files."""

    def __init__(self, passphrase: str) -> None:
        salt = os.urandom(8)
        derivation = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=ROUNDS)
        self._cipher = AESGCM(derivation.derive(passphrase.encode()))
        self.salt = f"v1:{base64.b64encode(salt).decode()}:{self.encrypt('pulumi')}"

    def encrypt(self, value: str) -> str:
        """Return a value as it stands in a file."""
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, value.encode(), None)
        return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def write(
    world: World,
    chosen: Iterable[Environment],
    folder: Path,
    *,
    passphrase: str,
    stacks: Path | None = None,
    rotated: Sequence[str] = (),
) -> list[Path]:
    """Write the files of environments into a folder and return them.

    Args:
        world: The sandbox.
        chosen: The environments.
        folder: What is there already of their files is kept as far as it can be.
        passphrase: What the values are encrypted with.
        stacks: Where the files of stacks are that the folder has none of.
        rotated: The secrets to rotate, from generation 1 on; none for what the file says, or else `ROTATED`.

    Raises:
        SandboxError: A file is there and has encrypted values of its own, which would be lost with their salt.
    """
    cipher = Cipher(passphrase)
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for environment in chosen:
        file = folder / f"Pulumi.{environment.name}.yaml"
        known = file if file.exists() or stacks is None else stacks / file.name
        document: dict[str, Any] = (yaml.safe_load(known.read_text()) or {}) if known.exists() else {}
        config: dict[str, Any] = document.get("config") or {}
        ours = {f"{PREFIX}:{key}" for key in SECRETS}
        lost = [key for key, value in config.items() if key not in ours and _encrypted(value)]
        if lost:
            raise SandboxError(
                f"{file} has encrypted values ({', '.join(lost)}), which would be lost. Nothing of it was changed."
            )
        config = {**_names(environment), **config, **_own(world, environment, cipher)}
        if rotated:
            config[f"{PREFIX}:rotations"] = dict.fromkeys(rotated, 1)
        elif f"{PREFIX}:rotations" not in config:
            redis = ("TENANT_REDIS_URL",) if environment.has_redis else ()
            config[f"{PREFIX}:rotations"] = dict.fromkeys((*ROTATED, *redis), 1)
        text = yaml.safe_dump({**document, "encryptionsalt": cipher.salt, "config": config}, sort_keys=True)
        file.write_text(text)
        written.append(file)
    return written


def _names(environment: Environment) -> dict[str, Any]:
    return {
        "github:owner": environment.owner,
        f"{PREFIX}:app": environment.app,
        f"{PREFIX}:tenantApp": environment.tenant_app,
        f"{PREFIX}:deployTokenApp": environment.tenant_app,
        f"{PREFIX}:repository": environment.repository,
        f"{PREFIX}:workflow": environment.workflow,
        f"{PREFIX}:neonOrganization": environment.neon_organization,
        f"{PREFIX}:neonProject": environment.neon_project,
        f"{PREFIX}:resendDomain": environment.resend_domain,
        f"{PREFIX}:stripeMode": environment.stripe_mode,
        **({f"{PREFIX}:upstashDatabase": environment.upstash_database} if environment.has_redis else {}),
    }


def _own(world: World, environment: Environment, cipher: Cipher) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{PREFIX}:controlPlaneUrl": world.url(environment.service("control-plane")),
        f"{PREFIX}:stripeAccount": world.kept(environment.key("STRIPE_ACCOUNT_ID")) or "",
    }
    for key, name in SECRETS.items():
        value = world.kept(environment.key(name))
        if value is not None:
            found[f"{PREFIX}:{key}"] = {"secure": cipher.encrypt(value)}
    return found


def _encrypted(value: object) -> bool:
    if isinstance(value, dict):
        return "secure" in value or any(_encrypted(each) for each in value.values())
    return isinstance(value, list) and any(_encrypted(each) for each in value)


def of(world: World, names: Sequence[str]) -> list[Environment]:
    """Return environments by their names, or all. Raises `SandboxError`."""
    return [environments.find(world, name) for name in names] or environments.of(world)
