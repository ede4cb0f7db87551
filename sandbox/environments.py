"""The environments that a sandbox hosts side by side: the names of what each has at every provider.

Without `--environment` there is one, `sandbox`, and it is what sandboxes have always had (`DEFAULT`). With it, each NAME
is what the stack NAME means: the names come from the stack's config file where there is one (`Pulumi.NAME.yaml`, and for
what it does not say the defaults of `Pulumi.yaml`), else from NAME itself, as `by_convention` has it. So a stack file can
be deployed to the sandbox as it is.

What environments have of their own: the Fly apps of the control plane and of its tenants, a control plane with a base
URL and an admin token, a repository, a Neon project, a Redis at Upstash, a domain at Resend, an account at Stripe, and every
credential that the control plane holds. What they share, as those of one company do: the organizations at Fly, GitHub and
Neon, the accounts at Upstash and Resend, and the operator's credentials there.

Light environments (`--light`) are for many stacks: their control planes run inside the sandbox's own process, like light
tenants (`fly/light.py`), and they have no Redis at Upstash, which would be a server each.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import uuid
import zlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sandbox.world import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sandbox.world import World

NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
"""What an environment may be called: its name becomes part of host and app names."""
_KEYS: Final = {
    "app": "app",
    "tenantApp": "tenant_app",
    "repository": "repository",
    "workflow": "workflow",
    "neonOrganization": "neon_organization",
    "neonProject": "neon_project",
    "resendDomain": "resend_domain",
    "upstashDatabase": "upstash_database",
    "stripeAccount": "stripe_account",
    "stripeMode": "stripe_mode",
}
"""The config keys that name something, and what an environment calls it."""
_PROGRAM: Final = "molecule-secrets"
OWN_PORTS: Final = ("control-plane", "tenant")
"""Services of which every environment has one, with a port of its own."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What one environment has. `primary` is the first one of a sandbox: what is not named otherwise is its."""

    name: str
    app: str
    tenant_app: str
    owner: str
    repository: str
    workflow: str
    neon_organization: str
    neon_project: str
    resend_domain: str
    upstash_database: str
    stripe_account: str
    stripe_mode: str
    primary: bool = False
    light: bool = False

    def key(self, name: str) -> str:
        """Return under which name the world keeps a value of this environment's own (`World.keep`)."""
        return name if self.primary else f"{name}@{self.name}"

    def service(self, name: str) -> str:
        """Return what the world calls this environment's port of a service."""
        return name if self.primary else f"{name}/{self.name}"

    @property
    def has_redis(self) -> bool:
        """Whether it has a database at Upstash."""
        return not self.light

    @property
    def livemode(self) -> bool:
        """Of its Stripe account."""
        return self.stripe_mode == "live"


DEFAULT: Final = Environment(
    name="sandbox",
    app="molecule-cp",
    tenant_app="molecule-tenant",
    owner="Molecule-AI",
    repository="molecule-monorepo",
    workflow="publish-platform-image.yml",
    neon_organization="org-molecule-40817362",
    neon_project="cool-sea-89357706",  # the project that the runbook names
    resend_domain="moleculesai.app",
    upstash_database="96ad0856-03b1-4ee7-9666-e81abd0349e1",
    stripe_account="",
    stripe_mode="live",
    primary=True,
)
"""The only environment of a sandbox that was not told otherwise. `stacks/Pulumi.sandbox.yaml` says the same."""


def by_convention(name: str) -> Environment:
    """Return an environment whose names follow from its own."""
    return replace(
        DEFAULT,
        name=name,
        app=f"{DEFAULT.app}-{name}",
        tenant_app=f"{DEFAULT.tenant_app}-{name}",
        repository=f"{DEFAULT.repository}-{name}",
        neon_project=f"{name}-{10_000_000 + zlib.crc32(name.encode()) % 90_000_000}",
        resend_domain=f"{name}.{DEFAULT.resend_domain}",
        upstash_database=str(uuid.uuid5(uuid.UUID(DEFAULT.upstash_database), name)),
        primary=False,
    )


def of_stack(name: str, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Environment:
    """Return the environment that a stack's config means.

    Args:
        name: The stack's.
        config: What its file says under `config`.
        defaults: The default of every key of the program.
    """
    found = {key: config.get(f"{_PROGRAM}:{key}", defaults.get(key)) for key in _KEYS}
    named = {member: str(found[key]) for key, member in _KEYS.items() if found[key]}
    owner = str(config.get("github:owner") or DEFAULT.owner)
    # What the file leaves empty it does not use; the environment has it all the same.
    return Environment(**{**asdict(by_convention(name)), **named, "owner": owner})


def named(names: Sequence[str], stacks: Path, *, light: bool = False) -> list[Environment]:
    """Return the environments of these names; the first is the primary one.

    Args:
        names: None for the only one, `DEFAULT`.
        stacks: The folder with the stacks' files; that of `Pulumi.yaml` is the one above.
        light: Whether they are light.

    Raises:
        SandboxError: A name is none or comes twice, a file cannot be read, or two have the same of something.
    """
    for name in names:
        if NAME.fullmatch(name) is None:
            raise SandboxError(
                f"An environment is called by lower-case letters, digits and hyphens, not {name!r}. Nothing was started."
            )
        if names.count(name) > 1:
            raise SandboxError(f"The environment {name} is named twice. Nothing was started.")
    found = [_named(name, stacks) for name in names] or [DEFAULT]
    check_apart(found)
    return [replace(each, primary=place == 0, light=light) for place, each in enumerate(found)]


def _named(name: str, stacks: Path) -> Environment:
    file = stacks / f"Pulumi.{name}.yaml"
    if not file.exists():
        return DEFAULT if name == DEFAULT.name else by_convention(name)
    import yaml  # noqa: PLC0415 - most sandboxes have nothing to read

    try:
        program = yaml.safe_load((stacks.parent / "Pulumi.yaml").read_text())
        stack = yaml.safe_load(file.read_text()) or {}
        defaults = {key: each.get("default") for key, each in program["config"].items()}
        return of_stack(name, stack.get("config") or {}, defaults)
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise SandboxError(f"{file} cannot be read as a stack's config: {error}. Nothing was started.") from error


def check_apart(environments: Iterable[Environment]) -> None:
    """Refuse environments that would have the same of something that each has of its own. Raises `SandboxError`."""
    taken: dict[tuple[str, str], str] = {}
    for environment in environments:
        account = environment.stripe_account
        for what, value in (
            ("Fly app", environment.app),
            ("Fly app", environment.tenant_app),
            ("repository", f"{environment.owner}/{environment.repository}"),
            ("Neon project", environment.neon_project),
            ("Upstash database", environment.upstash_database),
            ("Stripe account", f"{account} in mode {environment.stripe_mode}" if account else ""),
        ):
            if not value:
                continue
            if (what, value) in taken:
                raise SandboxError(
                    f"The environments {taken[what, value]} and {environment.name} have the same {what}, {value}. Nothing was "
                    "started."
                )
            taken[what, value] = environment.name


# -- in a world --------------------------------------------------------------------------------------------------------


class _Known:
    """The environments of a world, read once: they never change."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._all: list[Environment] = []
        self._by_app: dict[str, Environment] = {}

    def all(self) -> list[Environment]:
        """Return them; of a world that was made before there were several, the one that it has."""
        if not self._all:
            with contextlib.suppress(sqlite3.OperationalError):
                rows = self._world.database.execute("SELECT document FROM environments ORDER BY rowid").fetchall()
                self._all = [Environment(**json.loads(row["document"])) for row in rows]
        return self._all or [DEFAULT]

    def by_app(self) -> dict[str, Environment]:
        """Return them by each of their apps."""
        if not self._by_app:
            self._by_app = {app: each for each in self.all() for app in (each.app, each.tenant_app)}
        return self._by_app


def install(world: World, environments: Sequence[Environment] = ()) -> None:
    """Create the table. The environments are those of a new world; another one has its own."""
    with world.database:
        world.database.execute(
            "CREATE TABLE IF NOT EXISTS environments (name TEXT PRIMARY KEY, document TEXT NOT NULL)"
        )
        if world.database.execute("SELECT 1 FROM environments").fetchone() is None:
            world.database.executemany(
                "INSERT INTO environments VALUES (?, ?)",
                [(each.name, json.dumps(asdict(each))) for each in environments],
            )


def of(world: World) -> list[Environment]:
    """Return the environments of a world, the primary one first."""
    return world.component(_Known).all()


def find(world: World, name: str) -> Environment:
    """Return an environment by its name. Raises `SandboxError`."""
    for environment in of(world):
        if environment.name == name:
            return environment
    raise SandboxError(f"There is no environment {name}. There are: {', '.join(each.name for each in of(world))}.")


def of_app(world: World, app: str) -> Environment | None:
    """Return the environment that a Fly app belongs to."""
    return world.component(_Known).by_app().get(app)


def is_tenant(world: World, app: str) -> bool:
    """Tell whether a Fly app has the machines of tenants."""
    environment = of_app(world, app)
    return environment is not None and environment.tenant_app == app


def is_control_plane(world: World, app: str) -> bool:
    """Tell whether a Fly app is a control plane."""
    environment = of_app(world, app)
    return environment is not None and environment.app == app


def redis_of(world: World, database: str) -> str:
    """Return what the world calls the port of the Redis server behind a database of Upstash's."""
    return next((each.service("redis") for each in of(world) if each.upstash_database == database), "redis")


def of_url(world: World, url: str) -> Environment | None:
    """Return the environment whose control plane a URL leads to."""
    return next((each for each in of(world) if url.startswith(f"{world.url(each.service('control-plane'))}/")), None)


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `environments` in `inspect`."""
    return {
        each.name: {
            "app": each.app,
            "tenant_app": each.tenant_app,
            "repository": f"{each.owner}/{each.repository}",
            "neon_project": each.neon_project,
            "resend_domain": each.resend_domain,
            "upstash_database": each.upstash_database if each.has_redis else None,
            "stripe_account": world.kept(each.key("STRIPE_ACCOUNT_ID")),
            "control_plane_url": world.url(each.service("control-plane")),
            "light": each.light,
        }
        for each in of(world)
    }
