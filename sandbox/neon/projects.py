"""Projects, branches, computes and operations (contract: providers.md section 1, "Operations").

Every write starts operations, one after the other, each as long as the setting `neon.operation_seconds`. Their status
follows from the clock, so that they survive a restart. Until the last one is over, every other write to the project is
423. Answers hold what Neon's own description requires of them; consumption figures are 0.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox import lag, postgres
from sandbox.neon import accounts, computes, roles, settings
from sandbox.neon.computes import Action, Computes
from sandbox.neon.wire import OUTSIDE_PROJECT, PROVIDER, Call, Kind, NeonError, identifier, iso, named
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from sandbox.neon.wire import Handler
    from sandbox.world import World

REGION: Final = "aws-us-east-2"
HOSTS: Final = "us-east-2.aws.neon.tech"
LOCKED: Final = "project already has running conflicting operations, scheduling of new ones is prohibited"
LONGEST_BRANCH_NAME: Final = 256
PG_VERSION: Final = 17


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project. Without `store_passwords` no password can be read back (412)."""

    id: str
    name: str
    organization: str
    store_passwords: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch. It is `ready` from `ready_at` on, `init` before."""

    id: str
    project: str
    parent: str | None
    name: str
    default: bool
    created_at: datetime
    ready_at: datetime


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Something that Neon does because of a write."""

    id: str
    project: str
    branch: str | None
    endpoint: str | None
    action: str
    outcome: str
    created_at: datetime
    starts_at: datetime
    finishes_at: datetime


def install(world: World) -> None:
    """Create the tables."""
    with world.database:
        for statement in (
            """
            CREATE TABLE IF NOT EXISTS neon_projects (
                id TEXT PRIMARY KEY, name TEXT NOT NULL, organization TEXT NOT NULL, store_passwords INTEGER NOT NULL,
                created_at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS neon_branches (
                id TEXT PRIMARY KEY, project TEXT NOT NULL, parent TEXT, name TEXT NOT NULL, is_default INTEGER NOT NULL,
                created_at TEXT NOT NULL, ready_at TEXT NOT NULL, UNIQUE (project, name)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS neon_endpoints (
                id TEXT PRIMARY KEY, project TEXT NOT NULL, branch TEXT NOT NULL, created_at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS neon_operations (
                id TEXT PRIMARY KEY, project TEXT NOT NULL, branch TEXT, endpoint TEXT, action TEXT NOT NULL,
                outcome TEXT NOT NULL, created_at TEXT NOT NULL, starts_at TEXT NOT NULL, finishes_at TEXT NOT NULL
            )
            """,
        ):
            world.database.execute(statement)


# -- operations --------------------------------------------------------------------------------------------------------


def _operation(row: sqlite3.Row) -> Operation:
    return Operation(
        id=row["id"],
        project=row["project"],
        branch=row["branch"],
        endpoint=row["endpoint"],
        action=row["action"],
        outcome=row["outcome"],
        created_at=datetime.fromisoformat(row["created_at"]),
        starts_at=datetime.fromisoformat(row["starts_at"]),
        finishes_at=datetime.fromisoformat(row["finishes_at"]),
    )


def operations(world: World, project: str) -> list[Operation]:
    """Return a project's operations, newest first."""
    rows = world.database.execute("SELECT * FROM neon_operations WHERE project = ? ORDER BY rowid DESC", (project,))
    return [_operation(row) for row in rows]


def start(
    world: World, project: str, actions: Sequence[str], *, branch: str, endpoint: str | None = None
) -> list[Operation]:
    """Start operations, each after the one before."""
    now, length = world.now(), timedelta(seconds=world.number(settings.OPERATION_SECONDS))
    started = [
        Operation(
            id=str(uuid.uuid4()),
            project=project,
            branch=branch,
            endpoint=endpoint,
            action=action,
            outcome=world.text(settings.OPERATION_OUTCOME),
            created_at=now,
            starts_at=now + length * place,
            finishes_at=now + length * (place + 1),
        )
        for place, action in enumerate(actions)
    ]
    with world.database:
        for each in started:
            world.database.execute(
                "INSERT INTO neon_operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    each.id,
                    each.project,
                    each.branch,
                    each.endpoint,
                    each.action,
                    each.outcome,
                    timestamp(each.created_at),
                    timestamp(each.starts_at),
                    timestamp(each.finishes_at),
                ),
            )
    return started


def refuse_while_busy(world: World, project: str) -> None:
    """Raise `NeonError` 423 while an operation of the project is not over, or what it does is not done."""
    busy = world.database.execute(
        "SELECT 1 FROM neon_operations WHERE project = ? AND finishes_at > ?", (project, timestamp(world.now()))
    ).fetchone()
    if busy is not None or computes.pending(world, project=project):
        raise NeonError(423, LOCKED)


def operation_json(world: World, each: Operation) -> dict[str, Any]:
    """Return an operation as the API shows it."""
    now = world.now()
    running = now < each.finishes_at or computes.pending(world, operation=each.id)
    status = "scheduling" if now < each.starts_at else "running" if running else each.outcome
    elapsed = max(min(now, each.finishes_at) - each.starts_at, timedelta())
    document: dict[str, Any] = {
        "id": each.id,
        "project_id": each.project,
        "action": each.action,
        "status": status,
        "failures_count": int(status in {"failed", "error"}),
        "created_at": iso(each.created_at),
        "updated_at": iso(each.starts_at + elapsed),
        "total_duration_ms": int(elapsed.total_seconds() * 1000),
    }
    if each.branch is not None:
        document["branch_id"] = each.branch
    if each.endpoint is not None:
        document["endpoint_id"] = each.endpoint
    if status in {"failed", "error"}:
        document["error"] = "the operation failed"
    return document


# -- projects ----------------------------------------------------------------------------------------------------------


def _project(row: sqlite3.Row) -> Project:
    return Project(
        id=row["id"],
        name=row["name"],
        organization=row["organization"],
        store_passwords=bool(row["store_passwords"]),
        created_at=datetime.fromisoformat(row["created_at"]),
    )


def visible(call: Call) -> list[Project]:
    """Return the projects that a key reaches."""
    found = [
        _project(row)
        for organization in accounts.organizations_of(call)
        for row in call.world.database.execute(
            "SELECT * FROM neon_projects WHERE organization = ? ORDER BY created_at", (organization,)
        ).fetchall()
    ]
    return [project for project in found if call.caller.project in {None, project.id}]


def project_of(call: Call, *, write: bool = False) -> Project:
    """Return the project of the path.

    Raises:
        NeonError: 404, the key does not reach it; 423, it is to be written to and busy.
    """
    wanted = identifier(call.path("project"), "project")
    project = next((project for project in visible(call) if project.id == wanted), None)
    if project is None:
        # The key is the reason even if there is no such project: a consumer that lost its access sees this.
        outside = call.caller.kind is Kind.PROJECT
        raise NeonError(404, OUTSIDE_PROJECT if outside else "project not found", refusal=True)
    if write:
        refuse_while_busy(call.world, project.id)
    return project


def project_json(project: Project) -> dict[str, Any]:
    """Return a project as the API shows it."""
    created = iso(project.created_at)
    zeros = (
        "data_storage_bytes_hour",
        "data_transfer_bytes",
        "written_data_bytes",
        "compute_time_seconds",
        "active_time_seconds",
        "active_time",
        "cpu_used_sec",
    )
    return {
        **dict.fromkeys(zeros, 0),
        "id": project.id,
        "platform_id": "aws",
        "region_id": REGION,
        "name": project.name,
        "provisioner": "k8s-neonvm",
        "pg_version": PG_VERSION,
        "proxy_host": HOSTS,
        "branch_logical_size_limit": 8192,
        "branch_logical_size_limit_bytes": 8192 << 20,
        "store_passwords": project.store_passwords,
        "creation_source": "console",
        "history_retention_seconds": 86400,
        "created_at": created,
        "updated_at": created,
        "consumption_period_start": created,
        "consumption_period_end": created,
        "owner_id": project.organization,
        "org_id": project.organization,
    }


def add_project(
    world: World,
    *,
    project: str,
    name: str,
    organization: str,
    branch_name: str,
    store_passwords: bool = True,
    more_roles: Sequence[str] = (),
) -> Branch:
    """Create a project with its default branch, which has a compute, a role (or more) and a database."""
    with world.database:
        world.database.execute(
            "INSERT INTO neon_projects VALUES (?, ?, ?, ?, ?)",
            (project, name, organization, store_passwords, timestamp(world.now())),
        )
    branch = _add_branch(world, project=project, parent=None, name=branch_name, ready_at=world.now())
    _add_endpoint(world, branch)
    for role in (roles.OWNER, *more_roles):
        roles.add(world, branch=branch.id, name=role)
    _create_compute(world, branch)
    return branch


def add_shared(world: World, project: str, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Create branches of these names that share one database (`computes.py`), at once.

    Returns their ids and their owners' URIs, by name.
    """
    parent = next(branch.id for branch in branches(world, project) if branch.default)
    made = {name: _add_branch(world, project=project, parent=parent, name=name, ready_at=world.now()) for name in names}
    for branch in made.values():
        _add_endpoint(world, branch)
        roles.copy(world, source=parent, target=branch.id)
    password = roles.password(world, roles.get(world, branch=parent, name=roles.OWNER))
    computes.add_shared(world, [branch.id for branch in made.values()], password)
    return {name: (branch.id, roles.uri(world, branch=branch.id, role=roles.OWNER)) for name, branch in made.items()}


async def list_projects(call: Call) -> Response:
    """`GET /projects`: those that the key reaches; `org_id` and `search` narrow it down."""
    wanted, search = call.query("org_id"), call.query("search")
    found = [
        project
        for project in visible(call)
        if wanted in {"", project.organization} and (search in project.name or search in project.id)
    ]
    page, more = call.page(found, lambda project: project.id)
    return JSONResponse({"projects": [project_json(project) for project in page], **more})


async def create_project(call: Call) -> Response:
    """`POST /projects`: not for project-scoped keys."""
    if call.caller.kind is Kind.PROJECT:
        raise NeonError(404, OUTSIDE_PROJECT, refusal=True)
    wanted = (await call.json()).get("project") or {}
    reachable = accounts.organizations_of(call)
    organization = wanted.get("org_id", reachable[0] if len(reachable) == 1 else None)
    if organization not in reachable:
        raise NeonError(400, "org_id is required, you can find it on your organization settings page")
    new = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{_number()}"
    branch = add_project(
        call.world,
        project=new,
        name=named(wanted.get("name", new), "name", longest=LONGEST_BRANCH_NAME),
        organization=organization,
        branch_name="main",
        store_passwords=bool(wanted.get("store_passwords", True)),
    )
    await call.world.component(Computes).settle()
    started = start(call.world, new, ["create_timeline", "start_compute"], branch=branch.id)
    project = next(project for project in visible(call) if project.id == new)
    return JSONResponse({"project": project_json(project), **_contents(call.world, branch, started)}, 201)


async def get_project(call: Call) -> Response:
    """`GET /projects/{project_id}`."""
    return JSONResponse({"project": project_json(project_of(call))})


# -- branches and computes ---------------------------------------------------------------------------------------------

_ADJECTIVES: Final = ("autumn", "bold", "cool", "late", "quiet", "royal", "silent", "wispy")
_NOUNS: Final = ("breeze", "cloud", "dew", "field", "moon", "rain", "sea", "wood")


def _number() -> int:
    return 10_000_000 + secrets.randbelow(90_000_000)


def _identifier(prefix: str) -> str:
    return f"{prefix}-{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.token_hex(4)}"


def _branch(row: sqlite3.Row) -> Branch:
    return Branch(
        id=row["id"],
        project=row["project"],
        parent=row["parent"],
        name=row["name"],
        default=bool(row["is_default"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        ready_at=datetime.fromisoformat(row["ready_at"]),
    )


def branches(world: World, project: str | None = None) -> list[Branch]:
    """Return a project's branches, or all, oldest first."""
    rows = world.database.execute(
        "SELECT * FROM neon_branches WHERE project = coalesce(?, project) ORDER BY rowid", (project,)
    )
    return [_branch(row) for row in rows]


def branch_of(call: Call, project: Project, wanted: str | None = None) -> Branch:
    """Return a branch by its id, by default the path's. Raises `NeonError` 404."""
    wanted = identifier(call.path("branch") if wanted is None else wanted, "branch")
    for branch in branches(call.world, project.id):
        if branch.id == wanted:
            return branch
    raise NeonError(404, "branch not found")


def branch_json(world: World, branch: Branch) -> dict[str, Any]:
    """Return a branch as the API shows it."""
    ready = branch.ready_at <= world.now()
    zeros = ("cpu_used_sec", "compute_time_seconds", "active_time_seconds", "written_data_bytes", "data_transfer_bytes")
    document: dict[str, Any] = {
        **dict.fromkeys(zeros, 0),
        "id": branch.id,
        "project_id": branch.project,
        "name": branch.name,
        "current_state": "ready" if ready else "init",
        "state_changed_at": iso(branch.ready_at if ready else branch.created_at),
        "logical_size": 0,
        "creation_source": "console",
        "primary": branch.default,
        "default": branch.default,
        "protected": False,
        "created_at": iso(branch.created_at),
        "updated_at": iso(branch.ready_at if ready else branch.created_at),
    }
    if branch.parent is not None:
        document |= {"parent_id": branch.parent, "parent_lsn": "0/0"}
    if not ready:
        document["pending_state"] = "ready"
    return document


def _add_branch(world: World, *, project: str, parent: str | None, name: str, ready_at: datetime) -> Branch:
    branch = Branch(
        id=_identifier("br"),
        project=project,
        parent=parent,
        name=name,
        default=parent is None,
        created_at=world.now(),
        ready_at=ready_at,
    )
    with world.database:
        world.database.execute(
            "INSERT INTO neon_branches VALUES (?, ?, ?, ?, ?, ?, ?)",
            (branch.id, project, parent, name, branch.default, timestamp(branch.created_at), timestamp(ready_at)),
        )
    return branch


def _add_endpoint(world: World, branch: Branch) -> str:
    new = _identifier("ep")
    with world.database:
        world.database.execute(
            "INSERT INTO neon_endpoints VALUES (?, ?, ?, ?)", (new, branch.project, branch.id, timestamp(world.now()))
        )
    return new


def endpoint_rows(world: World, project: str, branch: str | None = None) -> list[sqlite3.Row]:
    """Return a project's computes, or a branch's."""
    return world.database.execute(
        "SELECT * FROM neon_endpoints WHERE project = ? AND branch = coalesce(?, branch) ORDER BY rowid",
        (project, branch),
    ).fetchall()


def endpoint_host(endpoint: str) -> str:
    """Return the host name that clients of a compute connect to at Neon; see `roles.py`."""
    return f"{endpoint}.{HOSTS}"


def endpoint_json(row: sqlite3.Row) -> dict[str, Any]:
    """Return a compute as the API shows it. All are read-write and awake."""
    created = iso(datetime.fromisoformat(row["created_at"]))
    return {
        "host": endpoint_host(row["id"]),
        "id": row["id"],
        "project_id": row["project"],
        "branch_id": row["branch"],
        "autoscaling_limit_min_cu": 0.25,
        "autoscaling_limit_max_cu": 2,
        "region_id": REGION,
        "type": "read_write",
        "current_state": "active",
        "settings": {},
        "pooler_enabled": False,
        "pooler_mode": "transaction",
        "disabled": False,
        "passwordless_access": True,
        "creation_source": "console",
        "created_at": created,
        "updated_at": created,
        "proxy_host": HOSTS,
        "suspend_timeout_seconds": 0,
        "provisioner": "k8s-neonvm",
    }


def _create_compute(world: World, branch: Branch) -> None:
    """Let a new branch have its database and roles at once, whatever its operations are said to take."""
    names = [role.name for role in roles.listing(world, branch.id)]
    computes.enqueue(
        world,
        Action.CREATE_BRANCH,
        project=branch.project,
        branch=branch.id,
        roles=names,
        operation=None,
        due=world.now(),
    )


def _enqueue(world: World, action: Action, branch: Branch, names: list[str], last: Operation) -> None:
    """Record what becomes of roles when an operation is over; nothing if it is to end badly."""
    if last.outcome in computes.EFFECTIVE:
        computes.enqueue(
            world,
            action,
            project=branch.project,
            branch=branch.id,
            roles=names,
            operation=last.id,
            due=last.finishes_at,
        )


def _contents(world: World, branch: Branch, started: Sequence[Operation]) -> dict[str, Any]:
    """Return what the creation of a project and of a branch have in common."""
    endpoints = endpoint_rows(world, branch.project, branch.id)
    created = iso(branch.created_at)
    return {
        "branch": branch_json(world, branch),
        "endpoints": [endpoint_json(row) for row in endpoints],
        "operations": [operation_json(world, each) for each in started],
        "roles": [roles.role_json(role) for role in roles.listing(world, branch.id)],
        "databases": [
            {
                "id": 1,
                "branch_id": branch.id,
                "name": roles.DATABASE,
                "owner_name": roles.OWNER,
                "created_at": created,
                "updated_at": created,
            }
        ],
        "connection_uris": [
            {"connection_uri": roles.uri(world, branch=branch.id, role=roles.OWNER)} for _ in endpoints
        ],
    }


async def list_branches(call: Call) -> Response:
    """`GET /projects/{project_id}/branches`; `search` finds by a part of the name or id."""
    project, search = project_of(call), call.query("search")
    found = [each for each in branches(call.world, project.id) if search in each.name or search in each.id]
    page, more = call.page(found, lambda branch: branch.id)
    return JSONResponse({"branches": [branch_json(call.world, each) for each in page], "annotations": {}, **more})


async def create_branch(call: Call) -> Response:
    """`POST /projects/{project_id}/branches`: 201. The branch has its parent's roles, with their passwords.

    A name in use is 409 (its text is not established).
    """
    body = await call.json()
    project = project_of(call, write=True)
    wanted = body.get("branch") or {}
    existing = branches(call.world, project.id)
    parent_id = wanted.get("parent_id") or next(branch.id for branch in existing if branch.default)
    parent = branch_of(call, project, str(parent_id))
    name = named(wanted.get("name", _identifier("br")), "branch.name", longest=LONGEST_BRANCH_NAME)
    if any(branch.name == name for branch in existing):
        raise NeonError(409, "branch with the provided name already exists")
    with_compute = bool(body.get("endpoints"))
    seconds = call.world.number(settings.OPERATION_SECONDS)
    branch = _add_branch(
        call.world,
        project=project.id,
        parent=parent.id,
        name=name,
        ready_at=call.world.now() + timedelta(seconds=seconds),
    )
    roles.copy(call.world, source=parent.id, target=branch.id)
    endpoint = _add_endpoint(call.world, branch) if with_compute else None
    actions = ["create_branch", *(["start_compute"] if with_compute else [])]
    started = start(call.world, project.id, actions, branch=branch.id, endpoint=endpoint)
    _create_compute(call.world, branch)
    await call.world.component(Computes).settle()
    return JSONResponse(_contents(call.world, branch, started), 201)


async def get_branch(call: Call) -> Response:
    """`GET /projects/{project_id}/branches/{branch_id}`."""
    branch = branch_of(call, project_of(call))
    return JSONResponse({"branch": branch_json(call.world, branch), "annotation": {}})


async def delete_branch(call: Call) -> Response:
    """`DELETE /projects/{project_id}/branches/{branch_id}`: not the default branch, nor one with children (422)."""
    project = project_of(call)
    branch = branch_of(call, project)
    if branch.default:
        raise NeonError(422, "cannot delete the default branch")
    if any(other.parent == branch.id for other in branches(call.world, project.id)):
        raise NeonError(422, "cannot delete branch that has children")
    refuse_while_busy(call.world, project.id)
    endpoints = endpoint_rows(call.world, project.id, branch.id)
    names = [role.name for role in roles.listing(call.world, branch.id)]
    shown = branch_json(call.world, branch)
    with call.world.database:
        for table in ("neon_roles", "neon_endpoints"):
            call.world.database.execute(f"DELETE FROM {table} WHERE branch = ?", (branch.id,))  # noqa: S608 - both above
        call.world.database.execute("DELETE FROM neon_branches WHERE id = ?", (branch.id,))
    actions = [*("suspend_compute" for _ in endpoints), "delete_timeline"]
    started = start(call.world, project.id, actions, branch=branch.id)
    _enqueue(call.world, Action.DELETE_BRANCH, branch, names, started[-1])
    await call.world.component(Computes).settle()
    return JSONResponse({"branch": shown, "operations": [operation_json(call.world, each) for each in started]})


async def list_endpoints(call: Call) -> Response:
    """`GET /projects/{project_id}/endpoints`."""
    rows = endpoint_rows(call.world, project_of(call).id)
    return JSONResponse({"endpoints": [endpoint_json(row) for row in rows]})


async def get_endpoint(call: Call) -> Response:
    """`GET /projects/{project_id}/endpoints/{endpoint_id}`."""
    for row in endpoint_rows(call.world, project_of(call).id):
        if row["id"] == call.path("endpoint"):
            return JSONResponse({"endpoint": endpoint_json(row)})
    raise NeonError(404, "endpoint not found")


async def list_branch_endpoints(call: Call) -> Response:
    """`GET /projects/{project_id}/branches/{branch_id}/endpoints`."""
    project = project_of(call)
    rows = endpoint_rows(call.world, project.id, branch_of(call, project).id)
    return JSONResponse({"endpoints": [endpoint_json(row) for row in rows]})


async def list_operations(call: Call) -> Response:
    """`GET /projects/{project_id}/operations`, newest first."""
    found = operations(call.world, project_of(call).id)
    page, more = call.page(found, lambda operation: operation.id)
    return JSONResponse({"operations": [operation_json(call.world, each) for each in page], **more})


async def get_operation(call: Call) -> Response:
    """`GET /projects/{project_id}/operations/{operation_id}`."""
    for each in operations(call.world, project_of(call).id):
        if each.id == call.path("operation"):
            return JSONResponse({"operation": operation_json(call.world, each)})
    raise NeonError(404, "operation not found")


# -- roles -------------------------------------------------------------------------------------------------------------


async def list_roles(call: Call) -> Response:
    """`GET …/roles`: without passwords."""
    branch = branch_of(call, project_of(call))
    moment = lag.shown(call.world, PROVIDER)
    found = [role for role in roles.listing(call.world, branch.id) if role.created_at <= moment]
    return JSONResponse({"roles": [roles.role_json(role) for role in found]})


async def get_role(call: Call) -> Response:
    """`GET …/roles/{role_name}`: without its password."""
    branch = branch_of(call, project_of(call))
    return JSONResponse({"role": roles.role_json(roles.get(call.world, branch=branch.id, name=call.path("role")))})


async def _changed_role(call: Call, branch: Branch, name: str, password: str, status: int) -> Response:
    """Answer with the new password: its only showing, and usable when the operation is over."""
    endpoint = next((row["id"] for row in endpoint_rows(call.world, branch.project, branch.id)), None)
    started = start(call.world, branch.project, ["apply_config"], branch=branch.id, endpoint=endpoint)
    _enqueue(call.world, Action.SET_ROLE, branch, [name], started[-1])
    await call.world.component(Computes).settle()
    role = roles.role_json(roles.get(call.world, branch=branch.id, name=name))
    return JSONResponse(
        {
            "role": {**role, "password": password},
            "operations": [operation_json(call.world, each) for each in started],
        },
        status,
    )


async def create_role(call: Call) -> Response:
    """`POST …/roles`: 201 with the password. A name in use is 409."""
    body = await call.json()
    project = project_of(call, write=True)
    branch = branch_of(call, project)
    name = named((body.get("role") or {}).get("name"), "role.name", longest=roles.LONGEST_NAME)
    if any(role.name == name for role in roles.listing(call.world, branch.id)):
        raise NeonError(409, "role already exists")
    if name in postgres.RESERVED_ROLES or name.startswith("pg_"):
        raise NeonError(400, "role name is reserved")
    password = roles.add(call.world, branch=branch.id, name=name)
    return await _changed_role(call, branch, name, password, 201)


async def delete_role(call: Call) -> Response:
    """`DELETE …/roles/{role_name}`: 204 if there is none. The owner of the database stays (422)."""
    project = project_of(call, write=True)
    branch, name = branch_of(call, project), call.path("role")
    role = next((role for role in roles.listing(call.world, branch.id) if role.name == name), None)
    if role is None:
        return Response(status_code=204)
    if name == roles.OWNER:
        raise NeonError(422, f"role {name} owns databases")
    if computes.owns_objects(call.world, branch=branch.id, role=name):
        raise NeonError(422, f"role {name} owns objects")
    roles.delete(call.world, branch=branch.id, name=name)
    started = start(call.world, project.id, ["apply_config"], branch=branch.id)
    _enqueue(call.world, Action.DROP_ROLE, branch, [name], started[-1])
    await call.world.component(Computes).settle()
    return JSONResponse(
        {"role": roles.role_json(role), "operations": [operation_json(call.world, each) for each in started]}
    )


async def reset_password(call: Call) -> Response:
    """`POST …/roles/{role_name}/reset_password`: 200 with the new password."""
    project = project_of(call, write=True)
    branch, name = branch_of(call, project), call.path("role")
    roles.get(call.world, branch=branch.id, name=name)
    return await _changed_role(call, branch, name, roles.reset(call.world, branch=branch.id, name=name), 200)


async def reveal_password(call: Call) -> Response:
    """`GET …/roles/{role_name}/reveal_password`: 412 if the project does not store passwords."""
    project = project_of(call)
    role = roles.get(call.world, branch=branch_of(call, project).id, name=call.path("role"))
    _refuse_without_passwords(project)
    return JSONResponse({"password": roles.password(call.world, role)})


def _refuse_without_passwords(project: Project) -> None:
    if not project.store_passwords:
        raise NeonError(412, "password storage is disabled for the project")


async def connection_uri(call: Call) -> Response:
    """`GET /projects/{project_id}/connection_uri`: of the default branch and its compute unless others are named."""
    project = project_of(call)
    database, name = call.query("database_name"), call.query("role_name")
    if not database or not name:
        raise NeonError(400, "database_name and role_name are required")
    default = next(branch.id for branch in branches(call.world, project.id) if branch.default)
    branch = branch_of(call, project, call.query("branch_id") or default)
    wanted = call.query("endpoint_id")
    if not any(wanted in {"", row["id"]} for row in endpoint_rows(call.world, project.id, branch.id)):
        raise NeonError(404, "endpoint not found")
    if database != roles.DATABASE:
        raise NeonError(404, "database not found")
    roles.get(call.world, branch=branch.id, name=name)
    _refuse_without_passwords(project)
    return JSONResponse({"uri": roles.uri(call.world, branch=branch.id, role=name)})


_BRANCH: Final = "/projects/{project}/branches/{branch}"
ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/projects", list_projects),
    ("POST", "/projects", create_project),
    ("GET", "/projects/{project}", get_project),
    ("GET", "/projects/{project}/connection_uri", connection_uri),
    ("GET", "/projects/{project}/operations", list_operations),
    ("GET", "/projects/{project}/operations/{operation}", get_operation),
    ("GET", "/projects/{project}/endpoints", list_endpoints),
    ("GET", "/projects/{project}/endpoints/{endpoint}", get_endpoint),
    ("GET", "/projects/{project}/branches", list_branches),
    ("POST", "/projects/{project}/branches", create_branch),
    ("GET", _BRANCH, get_branch),
    ("DELETE", _BRANCH, delete_branch),
    ("GET", f"{_BRANCH}/endpoints", list_branch_endpoints),
    ("GET", f"{_BRANCH}/roles", list_roles),
    ("POST", f"{_BRANCH}/roles", create_role),
    ("GET", f"{_BRANCH}/roles/{{role}}", get_role),
    ("DELETE", f"{_BRANCH}/roles/{{role}}", delete_role),
    ("POST", f"{_BRANCH}/roles/{{role}}/reset_password", reset_password),
    ("GET", f"{_BRANCH}/roles/{{role}}/reveal_password", reveal_password),
]
