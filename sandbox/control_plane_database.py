"""A control plane's tables in the PostgreSQL of its Neon project, and what the sandbox itself does with them.

The control plane reaches them with its `DATABASE_URL` (`processes/database.py`); the sandbox, as the administrator,
only makes them, counts rows, signs the operator in, and fills them for rehearsals with many organizations.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sandbox import environments, neon, postgres, switches
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.processes import encryption
from sandbox.world import SandboxError, random_token, sha256

if TYPE_CHECKING:
    from sandbox.environments import Environment
    from sandbox.world import World

SESSION: Final = "CP_SESSION"
"""Under which the operator's session cookie is kept."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS organizations (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    owner_user_id text NOT NULL DEFAULT '',
    owner_email text NOT NULL DEFAULT '',
    status text NOT NULL,
    purge_id text,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE organizations ADD COLUMN IF NOT EXISTS provisioning_since timestamptz;
CREATE INDEX IF NOT EXISTS organizations_created_at ON organizations (created_at);
CREATE TABLE IF NOT EXISTS org_instances (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL UNIQUE REFERENCES organizations (id) ON DELETE CASCADE,
    machine_id text,
    branch_id text,
    database_url_encrypted bytea,
    redis_url_encrypted bytea,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS sessions (value_sha256 text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS customers (org_id uuid PRIMARY KEY, stripe_customer_id text NOT NULL);
CREATE TABLE IF NOT EXISTS stripe_events (
    id text PRIMARY KEY, type text NOT NULL, received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    copies integer NOT NULL DEFAULT 1
);
"""

_COPY_INSTANCES: Final = """
    COPY org_instances (id, org_id, machine_id, branch_id, database_url_encrypted, redis_url_encrypted)
    FROM STDIN (FORMAT BINARY)
"""

postgres.REMEMBERED["control_plane.events"] = "SELECT id, type, copies FROM stripe_events ORDER BY received_at, id"
postgres.REMEMBERED["control_plane.rows"] = """
    SELECT (SELECT count(*) FROM organizations),
        count(*) FILTER (WHERE coalesce(database_url_encrypted, redis_url_encrypted) IS NOT NULL)
    FROM org_instances
"""


def install(world: World) -> None:
    """Create the tables, owned by the owner of the database, and sign the operator in; safe to repeat."""
    from sandbox import connections  # noqa: PLC0415 - see there

    for environment in environments.of(world):
        session = world.kept(environment.key(SESSION))
        database, owner = neon.main_database(world, environment)
        with connections.connect(world, database=database) as connection:
            connection.execute("SELECT set_config('role', %s, false)", (owner,))
            connection.execute(_SCHEMA)
            if session is not None:
                connection.execute("INSERT INTO sessions VALUES (%s) ON CONFLICT DO NOTHING", (sha256(session),))


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `control_plane` in `inspect`: that of the first environment; the others' are in `others`, by name.

    `events` are Stripe's that were accepted, and how often each came; `rows_encrypted` counts the organizations'
    instances with an encrypted column. Of light environments there may be a hundred: they are not asked.
    """
    first, *others = environments.of(world)
    found = _inspect(world, first)
    if others:
        found["others"] = {each.name: _inspect(world, each) for each in others if not each.light}
    return found


def _inspect(world: World, environment: Environment) -> dict[str, Any]:
    database = postgres.FIRST_DATABASE if environment.primary else neon.main_database(world, environment)[0]
    orgs, encrypted = next(iter(postgres.look(world, "control_plane.rows", database=database)), (0, 0))
    return {
        "events": [
            {"id": identifier, "type": kind, "copies": copies}
            for identifier, kind, copies in postgres.look(world, "control_plane.events", database=database)
        ],
        "orgs": orgs,
        "rows_encrypted": encrypted,
    }


def add_many(world: World, count: int, environment: Environment = environments.DEFAULT) -> None:
    """Add organizations that run nowhere, with encrypted columns under the current key. Raises `SandboxError`.

    They are `seeded-1` and so on; each has a made-up database URL and the Redis URL of the control plane, if it has one.
    """
    held = secrets(world, environment)
    from sandbox import connections  # noqa: PLC0415 - see there

    try:
        connection = connections.connect(world, database=neon.main_database(world, environment)[0])
    except connections.Error as error:
        raise SandboxError(f"The sandbox in {world.directory} does not run. Start it. Nothing was added.") from error
    with connection:
        row = connection.execute("SELECT count(*) FROM organizations WHERE slug LIKE 'seeded-%'").fetchone()
    first = 1 + (row[0] if row else 0)
    ids = [uuid.uuid4() for _ in range(count)]
    add(
        world,
        [
            Organization(
                id=identifier,
                slug=f"seeded-{number}",
                name=f"Seeded {number}",
                database_url=f"postgresql://seeded:{random_token('', 12)}@127.0.0.1:1/{identifier}",
                redis_url=held.get("TENANT_REDIS_URL", "redis://default:none@127.0.0.1:1"),
            )
            for number, identifier in enumerate(ids, first)
        ],
        environment,
    )


@dataclass(frozen=True, kw_only=True)
class Organization:
    """One that runs, as the control plane would have recorded it."""

    id: uuid.UUID
    slug: str
    name: str
    database_url: str
    redis_url: str | None
    machine: str | None = None
    branch: str | None = None


def secrets(world: World, environment: Environment = environments.DEFAULT) -> dict[str, str]:
    """Return a control plane's secrets of this moment."""
    app = apps.find(world, name=environment.app)
    return {} if app is None else {secret.name: secret.value for secret in app_secrets.snapshot(world, app)}


def add(world: World, organizations: list[Organization], environment: Environment = environments.DEFAULT) -> None:
    """Record organizations, with encrypted columns under the current key. Raises `SandboxError`."""
    text, hexadecimal = secrets(world, environment).get("SECRETS_ENCRYPTION_KEY", ""), world.text(switches.KEY_ENCODING)
    try:
        key = encryption.load_key(text.encode(), hexadecimal=hexadecimal == switches.HEX)
    except ValueError as error:
        raise SandboxError(f"SECRETS_ENCRYPTION_KEY of {environment.app}: {error}. Nothing was added.") from error
    from sandbox import connections  # noqa: PLC0415 - see there

    database = neon.main_database(world, environment)[0]
    with connections.connect(world, database=database) as connection, connection.transaction():
        with connection.cursor().copy("COPY organizations (id, slug, name, status) FROM STDIN") as copy:
            for each in organizations:
                copy.write_row((each.id, each.slug, each.name, "running"))
        with connection.cursor().copy(_COPY_INSTANCES) as copy:
            copy.set_types(["uuid", "uuid", "text", "text", "bytea", "bytea"])
            for each in organizations:
                urls = each.database_url, each.redis_url
                sealed = [None if url is None else encryption.encrypt(key, url) for url in urls]
                copy.write_row((uuid.uuid4(), each.id, each.machine, each.branch, *sealed))
