"""The control plane's PostgreSQL, as a normal web application uses it: through `DATABASE_URL` and a few kept connections.

A kept connection outlives a change of its role's password, until the server cuts it; a request that finds its
connection cut tries once more on a new one, and that needs a password which is good now.

psycopg is imported at the first use: a machine boots without it, and its first request that reads waits for it once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import uuid
from typing import TYPE_CHECKING, Any, LiteralString

from sandbox.processes import encryption
from sandbox.processes.service import environ, log, report_breakage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    Row = dict[str, Any]
    Connection = psycopg.Connection[Row]

KEPT = 4
"""Connections that wait for the next request."""
TIMEOUT = 5
"""Seconds until a connection must be there."""
ABANDONED = dt.timedelta(seconds=120)
"""After which a provisioning that has not ended was interrupted: the longest takes half of it."""
_REFUSALS = ("authentication failed", "is not permitted to log in", "permission denied for database", "no pg_hba.conf")
"""How PostgreSQL says that the credential is the reason: of a failed connection the driver knows no SQLSTATE."""
_COLUMNS = ("database_url", "redis_url")

_ORGANIZATION: LiteralString = """
    SELECT o.id::text AS id, o.slug, o.name, o.owner_user_id, o.owner_email, o.status, o.purge_id AS purge,
        to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
        i.machine_id AS machine, i.branch_id AS branch, i.database_url_encrypted, i.redis_url_encrypted
    FROM organizations o LEFT JOIN org_instances i ON i.org_id = o.id
"""


class DatabaseError(OSError):
    """The database could not be asked, or refused; the message says why and holds no value."""


def refused(error: psycopg.Error) -> bool:
    """Tell whether a connection was refused because of its credential."""
    return any(refusal in str(error) for refusal in _REFUSALS)


class Database:
    """The organizations and what belongs to them. Every method raises `DatabaseError`.

    Args:
        url: The connection URI.
        key: Of the encrypted columns.
        most_kept: Connections that wait for the next request at most.
    """

    def __init__(self, url: str, key: bytes, *, most_kept: int = KEPT) -> None:
        self._url = url
        self._key = key
        self._most_kept = most_kept
        self._kept: list[Connection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the connections that wait."""
        with self._lock:
            kept, self._kept, self._most_kept = self._kept, [], 0
        for connection in kept:
            connection.close()

    # -- connections --------------------------------------------------------------------------------------------------

    def _execute(self, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Execute a statement, which commits itself, and return its rows."""
        import psycopg  # noqa: PLC0415 - see the module's docstring

        with self._lock:
            kept = self._kept.pop() if self._kept else None
        if kept is not None:
            try:
                return self._run(kept, query, parameters)
            except psycopg.OperationalError:  # cut since its last use
                pass
            except psycopg.Error as error:
                raise DatabaseError(type(error).__name__) from error
        connection = self._connect()
        try:
            return self._run(connection, query, parameters)
        except psycopg.Error as error:
            raise DatabaseError(type(error).__name__) from error

    def _connect(self) -> Connection:
        import psycopg  # noqa: PLC0415
        from psycopg.rows import dict_row  # noqa: PLC0415

        try:
            return psycopg.connect(
                self._url,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=TIMEOUT,
                application_name=f"{environ().get('FLY_APP_NAME')}/{environ().get('FLY_MACHINE_ID')}",
            )
        except psycopg.Error as error:
            if refused(error):
                report_breakage("postgres: the credential of DATABASE_URL was refused")
                raise DatabaseError("the database refused the credential of DATABASE_URL") from None
            # Not its text: what is wrong with a URI is told by quoting it.
            raise DatabaseError(f"no connection to the database: {type(error).__name__}") from None

    def _run(self, connection: Connection, query: LiteralString, parameters: Mapping[str, Any] | None) -> list[Row]:
        """Execute on one connection; it is kept if it can be used again."""
        try:
            cursor = connection.execute(query, parameters)
            rows = cursor.fetchall() if cursor.description else []
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._kept) < self._most_kept:
                self._kept.append(connection)
                return rows
        connection.close()
        return rows

    # -- organizations ------------------------------------------------------------------------------------------------

    def add(self, *, slug: str, name: str, owner: str, owner_email: str) -> Row | None:
        """Insert an organization with its instance and return it; `None` if the slug is in use."""
        added = self._execute(
            """
            WITH organization AS (
                INSERT INTO organizations (id, slug, name, owner_user_id, owner_email, status)
                VALUES (%(id)s, %(slug)s, %(name)s, %(owner)s, %(owner_email)s, 'provisioning')
                ON CONFLICT (slug) DO NOTHING RETURNING id
            )
            INSERT INTO org_instances (id, org_id) SELECT gen_random_uuid(), id FROM organization RETURNING org_id
            """,
            {"id": uuid.uuid4(), "slug": slug, "name": name, "owner": owner, "owner_email": owner_email},
        )
        return self.find(slug) if added else None

    def find(self, slug: str, *, decrypt: bool = True) -> Row | None:
        """Return an organization with what its encrypted columns say (unless `decrypt` is false), or `None`.

        Raises:
            encryption.UndecryptableError: They do not decrypt with this process's key.
        """
        rows = self._execute(_ORGANIZATION + " WHERE o.slug = %(slug)s", {"slug": slug})
        if not rows:
            return None
        row = rows[0]
        for name in _COLUMNS:
            sealed = row.pop(f"{name}_encrypted")
            if not decrypt:
                continue
            try:
                row[name] = None if sealed is None else encryption.decrypt(self._key, sealed)
            except encryption.UndecryptableError:
                report_breakage(f"postgres: org_instances.{name}_encrypted of {slug} does not decrypt")
                raise
        return row

    def listing(self, limit: int = 500) -> list[Row]:
        """Return organizations, newest first, without decrypting anything."""
        return self._execute(_ORGANIZATION + " ORDER BY o.created_at DESC LIMIT %(limit)s", {"limit": limit})

    def set_status(self, slug: str, status: str) -> None:
        """Change an organization's status."""
        self._execute(
            "UPDATE organizations SET status = %(status)s WHERE slug = %(slug)s", {"slug": slug, "status": status}
        )

    def begin_provisioning(self, slug: str) -> bool:
        """Set an organization to `provisioning`, without its encrypted columns; `False` if it is being provisioned.

        What was interrupted counts as over after `ABANDONED`.
        """
        begun = self._execute(
            """
            WITH begun AS (
                UPDATE organizations SET status = 'provisioning', provisioning_since = clock_timestamp()
                WHERE slug = %(slug)s AND (status <> 'provisioning'
                    OR coalesce(provisioning_since, created_at) < clock_timestamp() - %(abandoned)s)
                RETURNING id
            )
            UPDATE org_instances SET database_url_encrypted = NULL, redis_url_encrypted = NULL, updated_at = now()
            FROM begun WHERE org_id = begun.id RETURNING org_id
            """,
            {"slug": slug, "abandoned": ABANDONED},
        )
        return bool(begun)

    def forget_instance(self, slug: str) -> None:
        """Forget an organization's machine and branch, and what its encrypted columns say."""
        self._execute(
            """
            UPDATE org_instances SET machine_id = NULL, branch_id = NULL, database_url_encrypted = NULL,
                redis_url_encrypted = NULL, updated_at = now()
            WHERE org_id = (SELECT id FROM organizations WHERE slug = %(slug)s)
            """,
            {"slug": slug},
        )

    def set_purge(self, slug: str, identifier: str) -> None:
        """Note the purge that is to be resumed."""
        self._execute(
            "UPDATE organizations SET purge_id = %(purge)s WHERE slug = %(slug)s", {"slug": slug, "purge": identifier}
        )

    def set_instance(
        self,
        slug: str,
        *,
        machine: str | None = None,
        branch: str | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
    ) -> bool:
        """Change what is given of an organization's instance; the URLs are encrypted. `False` if it was deleted meanwhile."""
        changed = self._execute(
            """
            UPDATE org_instances SET machine_id = coalesce(%(machine)s, machine_id),
                branch_id = coalesce(%(branch)s, branch_id), updated_at = now(),
                database_url_encrypted = coalesce(%(database_url)s, database_url_encrypted),
                redis_url_encrypted = coalesce(%(redis_url)s, redis_url_encrypted)
            WHERE org_id = (SELECT id FROM organizations WHERE slug = %(slug)s) RETURNING org_id
            """,
            {
                "slug": slug,
                "machine": machine,
                "branch": branch,
                "database_url": None if database_url is None else encryption.encrypt(self._key, database_url),
                "redis_url": None if redis_url is None else encryption.encrypt(self._key, redis_url),
            },
        )
        return bool(changed)

    def delete(self, slug: str) -> Row | None:
        """Delete an organization with its instance, and return the `machine` and `branch` that it had in the end."""
        # The instance first: whoever is about to write to it finds none, and takes back what they made.
        gone = self._execute(
            """
            DELETE FROM org_instances USING organizations o WHERE org_id = o.id AND o.slug = %(slug)s
            RETURNING machine_id AS machine, branch_id AS branch
            """,
            {"slug": slug},
        )
        self._execute("DELETE FROM organizations WHERE slug = %(slug)s", {"slug": slug})
        return gone[0] if gone else None

    # -- sessions, billing --------------------------------------------------------------------------------------------

    def knows_session(self, digest: str) -> bool:
        """Tell whether a session cookie's SHA-256 is that of a user who is signed in."""
        return bool(self._execute("SELECT 1 FROM sessions WHERE value_sha256 = %(digest)s", {"digest": digest}))

    def customer(self, organization: str) -> str | None:
        """Return an organization's customer at Stripe, if it has one."""
        rows = self._execute(
            "SELECT stripe_customer_id FROM customers WHERE org_id = %(id)s", {"id": uuid.UUID(organization)}
        )
        return str(rows[0]["stripe_customer_id"]) if rows else None

    def set_customer(self, organization: str, customer: str | None) -> None:
        """Note an organization's customer at Stripe; `None` forgets it."""
        parameters = {"id": uuid.UUID(organization), "customer": customer}
        if customer is None:
            self._execute("DELETE FROM customers WHERE org_id = %(id)s", parameters)
        else:
            self._execute(
                """
                INSERT INTO customers VALUES (%(id)s, %(customer)s)
                ON CONFLICT (org_id) DO UPDATE SET stripe_customer_id = excluded.stripe_customer_id
                """,
                parameters,
            )

    def record_event(self, identifier: str, kind: str) -> bool:
        """Record an event of Stripe's; `False` if it was known already."""
        rows = self._execute(
            """
            INSERT INTO stripe_events (id, type) VALUES (%(id)s, %(type)s)
            ON CONFLICT (id) DO UPDATE SET copies = stripe_events.copies + 1 RETURNING copies
            """,
            {"id": identifier, "type": kind},
        )
        return bool(rows[0]["copies"] == 1)


def attempt(what: str, change: Any, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - any of the methods above
    """Make a change that nobody waits for; that it failed is only logged."""
    with contextlib.suppress(DatabaseError):
        change(*arguments, **named)
        return
    log(f"{what}: the database did not take it")
