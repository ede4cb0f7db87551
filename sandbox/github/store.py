"""What the sandbox's GitHub remembers: accounts, repositories, issues, secrets, workflows, runs.

Everything is in the world's database, so it survives a restart; every secret value and every private key is sealed by
the world, so that the files of a sandbox hold no plaintext. Other modules read rows here into frozen objects and hand
those around.
"""

import json
import re
import secrets
import sqlite3
from dataclasses import dataclass
from enum import IntEnum

from sandbox.world import World

_SCHEMA = """
CREATE TABLE IF NOT EXISTS github_accounts (
    id INTEGER PRIMARY KEY,
    login TEXT NOT NULL UNIQUE COLLATE NOCASE,
    type TEXT NOT NULL CHECK (type IN ('User', 'Organization')),
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS github_members (
    organization_id INTEGER NOT NULL REFERENCES github_accounts (id),
    user_id INTEGER NOT NULL REFERENCES github_accounts (id),
    role INTEGER NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE TABLE IF NOT EXISTS github_repositories (
    id INTEGER PRIMARY KEY,
    owner_id INTEGER NOT NULL REFERENCES github_accounts (id),
    name TEXT NOT NULL COLLATE NOCASE,
    private INTEGER NOT NULL,
    default_branch TEXT NOT NULL,
    created_at TEXT NOT NULL,
    pushed_at TEXT NOT NULL,
    UNIQUE (owner_id, name)
);
CREATE TABLE IF NOT EXISTS github_collaborators (
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    user_id INTEGER NOT NULL REFERENCES github_accounts (id),
    role INTEGER NOT NULL,
    PRIMARY KEY (repository_id, user_id)
);
CREATE TABLE IF NOT EXISTS github_commits (
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    sha TEXT NOT NULL,
    tree TEXT NOT NULL,
    message TEXT NOT NULL,
    author_id INTEGER NOT NULL REFERENCES github_accounts (id),
    created_at TEXT NOT NULL,
    PRIMARY KEY (repository_id, sha)
);
CREATE TABLE IF NOT EXISTS github_branches (
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    name TEXT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (repository_id, name)
);
CREATE TABLE IF NOT EXISTS github_files (
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    branch TEXT NOT NULL,
    path TEXT NOT NULL,
    sha TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (repository_id, branch, path)
);
CREATE TABLE IF NOT EXISTS github_environments (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    name TEXT NOT NULL COLLATE NOCASE,
    created_at TEXT NOT NULL,
    UNIQUE (repository_id, name)
);
CREATE TABLE IF NOT EXISTS github_labels (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    name TEXT NOT NULL COLLATE NOCASE,
    color TEXT NOT NULL,
    description TEXT,
    UNIQUE (repository_id, name)
);
CREATE TABLE IF NOT EXISTS github_issues (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    number INTEGER NOT NULL,
    author_id INTEGER NOT NULL REFERENCES github_accounts (id),
    title TEXT NOT NULL,
    body TEXT,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    state_reason TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    closed_at TEXT,
    UNIQUE (repository_id, number)
);
CREATE TABLE IF NOT EXISTS github_issue_labels (
    issue_id INTEGER NOT NULL REFERENCES github_issues (id),
    label_id INTEGER NOT NULL REFERENCES github_labels (id),
    PRIMARY KEY (issue_id, label_id)
);
CREATE TABLE IF NOT EXISTS github_issue_comments (
    id INTEGER PRIMARY KEY,
    issue_id INTEGER NOT NULL REFERENCES github_issues (id),
    author_id INTEGER NOT NULL REFERENCES github_accounts (id),
    body TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS github_keys (
    store TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    sealed_private_key BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS github_secrets (
    store TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed_value BLOB NOT NULL,
    visibility TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (store, name)
);
CREATE TABLE IF NOT EXISTS github_secret_repositories (
    store TEXT NOT NULL,
    name TEXT NOT NULL,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    PRIMARY KEY (store, name, repository_id)
);
CREATE TABLE IF NOT EXISTS github_workflows (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    file TEXT NOT NULL,
    name TEXT NOT NULL,
    events TEXT NOT NULL,
    environment TEXT,
    image TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (repository_id, file)
);
CREATE TABLE IF NOT EXISTS github_runs (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES github_repositories (id),
    workflow_id INTEGER NOT NULL REFERENCES github_workflows (id),
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    event TEXT NOT NULL,
    branch TEXT NOT NULL,
    sha TEXT NOT NULL,
    actor_id INTEGER NOT NULL REFERENCES github_accounts (id),
    status TEXT NOT NULL,
    conclusion TEXT,
    listed_from REAL NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS github_jobs (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES github_runs (id) ,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    conclusion TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    steps TEXT NOT NULL DEFAULT '[]',
    log TEXT NOT NULL DEFAULT '',
    UNIQUE (run_id, attempt)
);
"""

_FIRST_RUN = 16_000_000_000
"""Ids of runs are numbers beyond 32 bits, as GitHub's are: a client that keeps them in an `int32` shall find out."""


class Role(IntEnum):
    """What a user may do with a repository or an organization, in rising order.

    In an organization `READ` is a member and `ADMIN` an owner. It is *not* what a token may do: a token can have less.
    """

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user or an organization."""

    id: int
    login: str
    type: str
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository."""

    id: int
    owner: Account
    name: str
    private: bool
    default_branch: str
    created_at: str
    pushed_at: str

    @property
    def full_name(self) -> str:
        """``OWNER/NAME``."""
        return f"{self.owner.login}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit: just enough for a run to point to."""

    sha: str
    tree: str
    message: str
    author: Account
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A workflow that logs in to the registry and pushes an image.

    Attributes:
        file: Name of its file in ``.github/workflows``.
        events: What starts it: ``push``, ``workflow_dispatch``.
        environment: The deployment environment whose secrets its job may read, too.
        image: Name of the image in the registry.
    """

    id: int
    repository_id: int
    file: str
    name: str
    events: frozenset[str]
    environment: str | None
    image: str
    created_at: str

    @property
    def path(self) -> str:
        """Path in the repository."""
        return f".github/workflows/{self.file}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a workflow, in its latest attempt.

    Attributes:
        listed_from: Time (seconds since the epoch) from which lists show it; by its id it can be had at once.
    """

    id: int
    repository_id: int
    workflow_id: int
    number: int
    attempt: int
    event: str
    branch: str
    sha: str
    actor_id: int
    status: str
    conclusion: str | None
    listed_from: float
    created_at: str
    started_at: str
    updated_at: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """The one job of one attempt of a run."""

    id: int
    run_id: int
    attempt: int
    status: str
    conclusion: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    steps: list[dict[str, object]]
    log: str


def create_tables(world: World) -> None:
    """Create what is missing."""
    world.database.executescript(_SCHEMA)


def timestamp(world: World) -> str:
    """Return the time in GitHub's form: UTC, to the second."""
    return world.now().strftime("%Y-%m-%dT%H:%M:%SZ")


# --- accounts -------------------------------------------------------------------------------------------------------


def account(database: sqlite3.Connection, *, id_: int | None = None, login: str = "") -> Account | None:
    """Find an account by id or by login, of which case does not matter."""
    row = database.execute(
        "SELECT id, login, type, created_at FROM github_accounts WHERE id = ? OR login = ?", (id_, login)
    ).fetchone()
    return Account(**row) if row else None


def organizations(database: sqlite3.Connection) -> list[Account]:
    """Return every organization."""
    rows = database.execute(
        "SELECT id, login, type, created_at FROM github_accounts WHERE type = 'Organization' ORDER BY id"
    )
    return [Account(**row) for row in rows.fetchall()]


def known_account(database: sqlite3.Connection, id_: int) -> Account:
    """Return an account that another row refers to.

    Raises:
        LookupError: The database contradicts itself.
    """
    found = account(database, id_=id_)
    if found is None:
        raise LookupError(f"There is no GitHub account {id_}.")
    return found


def add_account(world: World, *, login: str, type_: str) -> Account:
    """Create a user or an organization."""
    with world.database:
        world.database.execute(
            "INSERT INTO github_accounts (login, type, created_at) VALUES (?, ?, ?)", (login, type_, timestamp(world))
        )
    found = account(world.database, login=login)
    if found is None:
        raise LookupError(f"GitHub account {login} was not stored.")
    return found


def set_member(world: World, *, organization: Account, user: Account, role: Role) -> None:
    """Make a user a member (`READ`) or an owner (`ADMIN`) of an organization."""
    with world.database:
        world.database.execute(
            "INSERT OR REPLACE INTO github_members VALUES (?, ?, ?)", (organization.id, user.id, int(role))
        )


def role_in_organization(database: sqlite3.Connection, *, organization: Account, user: Account) -> Role | None:
    """Return a user's role in an organization; None for outsiders."""
    row = database.execute(
        "SELECT role FROM github_members WHERE organization_id = ? AND user_id = ?", (organization.id, user.id)
    ).fetchone()
    return Role(row["role"]) if row else None


# --- repositories ---------------------------------------------------------------------------------------------------


def _repository(database: sqlite3.Connection, row: sqlite3.Row) -> Repository:
    return Repository(
        id=row["id"],
        owner=known_account(database, row["owner_id"]),
        name=row["name"],
        private=bool(row["private"]),
        default_branch=row["default_branch"],
        created_at=row["created_at"],
        pushed_at=row["pushed_at"],
    )


def repository(database: sqlite3.Connection, *, owner: str, name: str) -> Repository | None:
    """Find a repository; case does not matter."""
    row = database.execute(
        "SELECT r.* FROM github_repositories r JOIN github_accounts a ON a.id = r.owner_id"
        " WHERE a.login = ? AND r.name = ?",
        (owner, name),
    ).fetchone()
    return _repository(database, row) if row else None


def repositories(database: sqlite3.Connection, *, owner: Account | None = None) -> list[Repository]:
    """Return all repositories, or those of one account."""
    rows = database.execute(
        "SELECT * FROM github_repositories WHERE ?1 IS NULL OR owner_id = ?1 ORDER BY id", (owner and owner.id,)
    )
    return [_repository(database, row) for row in rows.fetchall()]


def numbered_repository(database: sqlite3.Connection, number: str) -> Repository | None:
    """Find a repository by its id as it stands in a path."""
    if not re.fullmatch(r"[0-9]{1,18}", number):
        return None
    row = database.execute("SELECT * FROM github_repositories WHERE id = ?", (int(number),)).fetchone()
    return _repository(database, row) if row else None


def known_repository(database: sqlite3.Connection, id_: int) -> Repository:
    """Return a repository that another row refers to.

    Raises:
        LookupError: The database contradicts itself.
    """
    row = database.execute("SELECT * FROM github_repositories WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise LookupError(f"There is no GitHub repository {id_}.")
    return _repository(database, row)


def add_repository(world: World, *, owner: Account, name: str, author: Account) -> Repository:
    """Create a private repository with one commit on ``main``."""
    now = timestamp(world)
    with world.database:
        world.database.execute(
            "INSERT INTO github_repositories (owner_id, name, private, default_branch, created_at, pushed_at)"
            " VALUES (?, ?, 1, 'main', ?, ?)",
            (owner.id, name, now, now),
        )
    created = repository(world.database, owner=owner.login, name=name)
    if created is None:
        raise LookupError(f"GitHub repository {name} was not stored.")
    add_commit(world, repository=created, branch="main", message="Initial commit", author=author)
    return created


def role_in_repository(database: sqlite3.Connection, *, repository: Repository, user: Account | None) -> Role | None:
    """Return a user's role in a repository: the best of its own, the organization's and the public's."""
    roles = [Role.READ] if not repository.private else []
    if user is not None:
        if repository.owner.id == user.id:
            roles.append(Role.ADMIN)
        if role_in_organization(database, organization=repository.owner, user=user) is Role.ADMIN:
            roles.append(Role.ADMIN)
        row = database.execute(
            "SELECT role FROM github_collaborators WHERE repository_id = ? AND user_id = ?", (repository.id, user.id)
        ).fetchone()
        if row:
            roles.append(Role(row["role"]))
    return max(roles, default=None)


def set_collaborator(world: World, *, repository: Repository, user: Account, role: Role) -> None:
    """Give a user a role in one repository."""
    with world.database:
        world.database.execute(
            "INSERT OR REPLACE INTO github_collaborators VALUES (?, ?, ?)", (repository.id, user.id, int(role))
        )


def head(database: sqlite3.Connection, *, repository: Repository, ref: str) -> tuple[str, Commit] | None:
    """Find a branch by its name or its full ref.

    Returns:
        The branch's name and its last commit; None if there is no such branch (there are no tags).
    """
    name = ref.removeprefix("refs/heads/")
    row = database.execute(
        "SELECT sha FROM github_branches WHERE repository_id = ? AND name = ?", (repository.id, name)
    ).fetchone()
    if row is None:
        return None
    found = commit(database, repository=repository, sha=row["sha"])
    return (name, found) if found else None


def branches(database: sqlite3.Connection, *, repository: Repository) -> list[str]:
    """Return the names of a repository's branches."""
    rows = database.execute("SELECT name FROM github_branches WHERE repository_id = ? ORDER BY name", (repository.id,))
    return [row["name"] for row in rows.fetchall()]


def commit(database: sqlite3.Connection, *, repository: Repository, sha: str) -> Commit | None:
    """Find a commit by its full id."""
    row = database.execute(
        "SELECT * FROM github_commits WHERE repository_id = ? AND sha = ?", (repository.id, sha)
    ).fetchone()
    if row is None:
        return None
    return Commit(
        sha=row["sha"],
        tree=row["tree"],
        message=row["message"],
        author=known_account(database, row["author_id"]),
        created_at=row["created_at"],
    )


def add_commit(world: World, *, repository: Repository, branch: str, message: str, author: Account) -> Commit:
    """Move a branch to a new commit, creating the branch if need be."""
    created = Commit(
        sha=secrets.token_hex(20),
        tree=secrets.token_hex(20),
        message=message,
        author=author,
        created_at=timestamp(world),
    )
    with world.database:
        world.database.execute(
            "INSERT INTO github_commits VALUES (?, ?, ?, ?, ?, ?)",
            (repository.id, created.sha, created.tree, message, author.id, created.created_at),
        )
        world.database.execute(
            "INSERT OR REPLACE INTO github_branches VALUES (?, ?, ?)", (repository.id, branch, created.sha)
        )
        world.database.execute(
            "UPDATE github_repositories SET pushed_at = ? WHERE id = ?", (created.created_at, repository.id)
        )
    return created


def environment(database: sqlite3.Connection, *, repository: Repository, name: str) -> sqlite3.Row | None:
    """Find a deployment environment; case does not matter."""
    row: sqlite3.Row | None = database.execute(
        "SELECT id, name, created_at FROM github_environments WHERE repository_id = ? AND name = ?",
        (repository.id, name),
    ).fetchone()
    return row


def environments(database: sqlite3.Connection, *, repository: Repository) -> list[sqlite3.Row]:
    """Return a repository's deployment environments."""
    return database.execute(
        "SELECT id, name, created_at FROM github_environments WHERE repository_id = ? ORDER BY name", (repository.id,)
    ).fetchall()


def add_environment(world: World, *, repository: Repository, name: str) -> None:
    """Create a deployment environment, unless there is one of that name."""
    with world.database as database:
        database.execute(
            "INSERT OR IGNORE INTO github_environments (repository_id, name, created_at) VALUES (?, ?, ?)",
            (repository.id, name, timestamp(world)),
        )


# --- workflows and runs ---------------------------------------------------------------------------------------------


def _workflow(row: sqlite3.Row) -> Workflow:
    return Workflow(**{**dict(row), "events": frozenset(json.loads(row["events"]))})


def workflows(database: sqlite3.Connection, *, repository: Repository) -> list[Workflow]:
    """Return a repository's workflows."""
    rows = database.execute("SELECT * FROM github_workflows WHERE repository_id = ? ORDER BY id", (repository.id,))
    return [_workflow(row) for row in rows.fetchall()]


def workflow(database: sqlite3.Connection, *, repository: Repository, id_or_file: str) -> Workflow | None:
    """Find a workflow by its id, its file name or its whole path."""
    return next(
        (
            found
            for found in workflows(database, repository=repository)
            if id_or_file in {str(found.id), found.file, found.path}
        ),
        None,
    )


def known_workflow(database: sqlite3.Connection, id_: int) -> Workflow:
    """Return a workflow that a run refers to.

    Raises:
        LookupError: The database contradicts itself.
    """
    row = database.execute("SELECT * FROM github_workflows WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise LookupError(f"There is no GitHub workflow {id_}.")
    return _workflow(row)


def add_workflow(
    world: World, *, repository: Repository, file: str, name: str, events: frozenset[str], image: str
) -> None:
    """Create a workflow."""
    with world.database:
        world.database.execute(
            "INSERT INTO github_workflows (repository_id, file, name, events, image, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (repository.id, file, name, json.dumps(sorted(events)), image, timestamp(world)),
        )


def set_workflow_environment(world: World, *, workflow: Workflow, environment: str | None) -> None:
    """Let a workflow's job declare a deployment environment, or none."""
    with world.database as database:
        database.execute("UPDATE github_workflows SET environment = ? WHERE id = ?", (environment, workflow.id))


def run(database: sqlite3.Connection, *, repository: Repository, id_: int) -> Run | None:
    """Find a run."""
    row = database.execute(
        "SELECT * FROM github_runs WHERE repository_id = ? AND id = ?", (repository.id, id_)
    ).fetchone()
    return Run(**row) if row else None


def runs(database: sqlite3.Connection, *, repository: Repository) -> list[Run]:
    """Return all runs, the newest first, listed or not."""
    rows = database.execute("SELECT * FROM github_runs WHERE repository_id = ? ORDER BY id DESC", (repository.id,))
    return [Run(**row) for row in rows.fetchall()]


def add_run(
    world: World,
    *,
    workflow: Workflow,
    event: str,
    branch: str,
    commit: Commit,
    actor: Account,
    listing_delay: float,
) -> Run:
    """Queue a run that lists show after `listing_delay` seconds."""
    now = timestamp(world)
    with world.database as database:
        last = database.execute("SELECT max(id) FROM github_runs").fetchone()[0] or _FIRST_RUN
        number = database.execute(
            "SELECT coalesce(max(number), 0) + 1 FROM github_runs WHERE workflow_id = ?", (workflow.id,)
        ).fetchone()[0]
        row = database.execute(
            "INSERT INTO github_runs VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, 'queued', NULL, ?, ?, ?, ?) RETURNING *",
            (
                # Gaps, as all of GitHub shares one sequence: nobody shall guess the next id.
                last + 1 + secrets.randbelow(9_999),
                workflow.repository_id,
                workflow.id,
                number,
                event,
                branch,
                commit.sha,
                actor.id,
                world.now().timestamp() + listing_delay,
                now,
                now,
                now,
            ),
        ).fetchone()
        created = Run(**row)
        _add_job(database, run=created, now=now)
    return created


def add_attempt(world: World, *, run: Run) -> None:
    """Queue a finished run once more."""
    now = timestamp(world)
    with world.database as database:
        row = database.execute(
            "UPDATE github_runs SET attempt = attempt + 1, status = 'queued', conclusion = NULL, started_at = ?1,"
            " updated_at = ?1 WHERE id = ?2 RETURNING *",
            (now, run.id),
        ).fetchone()
        _add_job(database, run=Run(**row), now=now)


def _add_job(database: sqlite3.Connection, *, run: Run, now: str) -> None:
    database.execute(
        "INSERT INTO github_jobs (id, run_id, attempt, status, created_at) VALUES (?, ?, ?, 'queued', ?)",
        (run.id * 2 + secrets.randbelow(2) + run.attempt * 1_000_000_000, run.id, run.attempt, now),
    )


def jobs(
    database: sqlite3.Connection, *, run_id: int | None = None, attempt: int | None = None, id_: int | None = None
) -> list[Job]:
    """Return jobs of a run (of one attempt or of all), or the one with an id."""
    rows = database.execute(
        "SELECT * FROM github_jobs WHERE (?1 IS NULL OR run_id = ?1) AND (?2 IS NULL OR attempt = ?2)"
        " AND (?3 IS NULL OR id = ?3) ORDER BY attempt DESC",
        (run_id, attempt, id_),
    )
    return [Job(**{**dict(row), "steps": json.loads(row["steps"])}) for row in rows.fetchall()]


def start_job(world: World, *, run: Run) -> bool:
    """Move a queued run and its job to ``in_progress``.

    Returns:
        Whether it was still queued; a cancelled one is left alone.
    """
    now = timestamp(world)
    with world.database as database:
        changed = database.execute(
            "UPDATE github_runs SET status = 'in_progress', updated_at = ?1 WHERE id = ?2 AND attempt = ?3"
            " AND status = 'queued'",
            (now, run.id, run.attempt),
        ).rowcount
        if changed:
            database.execute(
                "UPDATE github_jobs SET status = 'in_progress', started_at = ?1 WHERE run_id = ?2 AND attempt = ?3",
                (now, run.id, run.attempt),
            )
    return bool(changed)


def complete_run(world: World, *, run: Run, conclusion: str) -> None:
    """Complete a run and its job, unless it is completed already."""
    now = timestamp(world)
    with world.database as database:
        database.execute(
            "UPDATE github_jobs SET status = 'completed', conclusion = ?1, completed_at = ?2"
            " WHERE run_id = ?3 AND attempt = ?4 AND status != 'completed'",
            (conclusion, now, run.id, run.attempt),
        )
        database.execute(
            "UPDATE github_runs SET status = 'completed', conclusion = ?1, updated_at = ?2"
            " WHERE id = ?3 AND attempt = ?4 AND status != 'completed'",
            (conclusion, now, run.id, run.attempt),
        )


def report_step(world: World, *, run: Run, name: str, status: str, conclusion: str | None) -> None:
    """Note what a runner says of a step."""
    now = timestamp(world)
    with world.database as database:
        row = database.execute(
            "SELECT steps FROM github_jobs WHERE run_id = ? AND attempt = ?", (run.id, run.attempt)
        ).fetchone()
        steps: list[dict[str, object]] = json.loads(row["steps"])
        step = next((step for step in steps if step["name"] == name), None)
        if step is None:
            step = {"name": name, "number": len(steps) + 1, "started_at": now, "completed_at": None}
            steps.append(step)
        step |= {"status": status, "conclusion": conclusion}
        if status == "completed":
            step["completed_at"] = now
        database.execute(
            "UPDATE github_jobs SET steps = ? WHERE run_id = ? AND attempt = ?",
            (json.dumps(steps), run.id, run.attempt),
        )


def report_log(world: World, *, run: Run, line: str) -> None:
    """Append a line to the log of a run's job."""
    with world.database as database:
        database.execute(
            "UPDATE github_jobs SET log = log || ? WHERE run_id = ? AND attempt = ?",
            (f"{timestamp(world)} {line}\n", run.id, run.attempt),
        )


def delete_run(world: World, *, run: Run) -> None:
    """Forget a run and its jobs."""
    with world.database as database:
        database.execute("DELETE FROM github_jobs WHERE run_id = ?", (run.id,))
        database.execute("DELETE FROM github_runs WHERE id = ?", (run.id,))
