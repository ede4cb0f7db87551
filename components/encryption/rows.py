"""The encrypted columns of the control plane's database, and how they get another key while the control plane goes on writing.

AES-256-GCM: `nonce(12) || ciphertext || tag(16)`, no associated data. Nothing in a value tells which key it was encrypted with: the keys are
tried, and the tag proves which one it was.

Rows are read page by page in the order of the primary key, without a lock. A row is written only where its values are still those that were
read (compare-and-swap), so nothing that the control plane writes meanwhile is overwritten; a further pass finds what it wrote with the key
before. Every page commits by itself, and a row that has its new key is left alone: whatever is cut off goes on where it stopped.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, LiteralString, Self, TypeVar

import httpx

from components.errors import RefusedError
from components.http import ApiError
from components.neon.client import NeonClient
from components.postgres import PasswordRefusedError, connect, failure

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

TABLE: LiteralString = "org_instances"
COLUMNS: tuple[LiteralString, ...] = ("database_url_encrypted", "redis_url_encrypted")
NONCE_LENGTH = 12  # bytes
LATER_FORMAT = 0x02  # what the values of a later format (an envelope of a KMS) begin with
PAGE = 500  # rows
PASSES = 10
NAMED = 5  # rows that a message names
RECONNECTS = (
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
)  # seconds before each further attempt: a compute of Neon restarts within a few
LIMITS = "SET statement_timeout = '60s'; SET lock_timeout = '15s'; SET idle_in_transaction_session_timeout = '60s'"

T = TypeVar("T")


class Cipher:
    """The keys that are known. The first one is what values are to be encrypted with.

    The library is imported here, when there is something to decrypt: every update would pay for it.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._ciphers = [AESGCM(key) for key in keys]
        self._wrong = (InvalidTag, ValueError)

    @property
    def keys(self) -> int:
        """How many are known."""
        return len(self._ciphers)

    def open(self, sealed: bytes) -> tuple[int, bytes] | None:
        """The number of the key that decrypts a value, and its plaintext; None where no key does."""
        for number, cipher in enumerate(self._ciphers):
            try:
                return number, cipher.decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], None)
            except self._wrong:
                continue
        return None

    def seal(self, plaintext: bytes) -> bytes:
        """A value under the first key, with a nonce of its own."""
        nonce = os.urandom(NONCE_LENGTH)
        return nonce + self._ciphers[0].encrypt(nonce, plaintext, None)


@dataclass(frozen=True, kw_only=True)
class Database:
    """The database of the control plane, as Neon knows it.

    Attributes:
        client: With a key that reaches the project.
        project: Neon's id.
        branch: Neon's id of the branch; "" for the default one.
        database: Its name.
        role: Who reads and writes the encrypted rows. Neon knows how it connects, so no further credential is needed.
    """

    client: NeonClient
    project: str
    branch: str
    database: str
    role: str

    def uri(self) -> str:
        """How to connect now. Asked anew for every connection: the role's password may change. Secret."""
        branch = self.branch or self.client.default_branch(self.project)
        # Not through the pooler: the settings of a session would be those of somebody else's.
        return self.client.connection_uri(
            self.project, branch=branch, database=self.database, role=self.role, pooled=False
        )


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is encrypted with which key. No contents.

    Attributes:
        rows: Rows with at least one encrypted value.
        values: Encrypted values.
        under: Values per key, in the order of the keys.
        unreadable: Values that no known key decrypts.
        later_format: Of these, values that begin as those of a later format do.
        unreadable_rows: The primary keys of some rows with such values.
        seconds: How long it took to read, to decrypt and, where that was asked for, to encrypt in memory.
    """

    rows: int = 0
    values: int = 0
    under: tuple[int, ...] = ()
    unreadable: int = 0
    later_format: int = 0
    unreadable_rows: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def elsewhere(self) -> int:
        """Values that a known key decrypts, but not the first one."""
        return sum(self.under[1:])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a re-encryption did.

    Attributes:
        rows: Rows that were written, each time that one was.
        left: What the last pass, over all rows, found.
        settled: Whether that pass had nothing to write.
    """

    rows: int
    left: Survey
    settled: bool


class BrokenOffError(Exception):
    """The database was lost, and did not come back in time.

    Attributes:
        cause: The last failure.
        done: Rows that are known to be encrypted with the first key.
        total: Rows with encrypted values.
    """

    def __init__(self, cause: ApiError, *, done: int, total: int) -> None:
        super().__init__(cause, done, total)
        self.cause = cause
        self.done = done
        self.total = total

    def __str__(self) -> str:
        return str(self.cause)


@dataclass(frozen=True)
class Row:
    """One row: its primary key and its encrypted columns, in the order of `COLUMNS`."""

    key: tuple[Any, ...]
    values: tuple[bytes | None, ...] = field(repr=False)


@dataclass
class _Tally:
    """Counts while rows are read."""

    keys: int
    rows: int = 0
    values: int = 0
    unreadable: int = 0
    later_format: int = 0
    names: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.under = [0] * self.keys

    def add(self, row: Row, opened: Sequence[tuple[int, bytes] | None]) -> None:
        self.rows += 1
        for sealed, found in zip(row.values, opened, strict=True):
            if sealed is None:
                continue
            self.values += 1
            if found is not None:
                self.under[found[0]] += 1
                continue
            self.unreadable += 1
            self.later_format += sealed[:1] == bytes([LATER_FORMAT])
            name = ", ".join(str(each) for each in row.key)
            if name not in self.names and len(self.names) < NAMED:
                self.names.append(name)

    def survey(self) -> Survey:
        return Survey(
            rows=self.rows,
            values=self.values,
            under=tuple(self.under),
            unreadable=self.unreadable,
            later_format=self.later_format,
            unreadable_rows=tuple(self.names),
            seconds=time.perf_counter() - self.began,
        )


class OrgInstances:
    """The table. Use it as a context manager: it keeps a connection, and makes another one where that is lost.

    All methods raise ApiError where the database cannot be asked.
    """

    def __init__(
        self, uri: Callable[[], str], *, page: int = PAGE, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._uri = uri
        self._page = page
        self._sleep = sleep
        self._connection: Connection | None = None
        self._key: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def obstacles(self) -> list[RefusedError]:
        """What keeps the role from reading and writing every encrypted row.

        A row that row-level security hides would be lost without anybody noticing.
        """
        try:
            described = self._ask(_describe, "look at its tables")
        except PasswordRefusedError:
            return [
                RefusedError(
                    "The database refuses the role that is to read the encrypted rows, or the password that Neon has of it.",
                    next_step="pulumi config set encryptionRole …, a role whose password was set through Neon.",
                )
            ]
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return [
                RefusedError(
                    f"Neon does not know how to reach the database of the control plane: {error.reason}.",
                    next_step="mend `databaseProject`, `databaseBranch`, `databaseName` and `encryptionRole` in the stack's config.",
                )
            ]
        return described.faults()

    def survey(self, cipher: Cipher, *, rehearse: bool = False) -> Survey:
        """Reads every encrypted value and tries the keys.

        Args:
            cipher: The keys.
            rehearse: Encrypt each value in memory, too, and drop the result: how fast that is.
        """
        self._prepare()  # connecting takes its time, and that is not what is measured
        tally = _Tally(cipher.keys)
        for page in self._pages():
            for row in page:
                opened = _open(cipher, row)
                tally.add(row, opened)
                if rehearse:
                    for found in opened:
                        if found is not None:
                            cipher.seal(found[1])
        return tally.survey()

    def nonces(self) -> set[bytes]:
        """The nonce of every encrypted value: what tells a value from all that were written before."""
        return {value[:NONCE_LENGTH] for value in self._values()}

    def written_since(self, nonces: set[bytes]) -> list[bytes]:
        """The encrypted values that were not there when these nonces were read."""
        return [value for value in self._values() if value[:NONCE_LENGTH] not in nonces]

    def reencrypt(self, cipher: Cipher, *, progress: Callable[[int, int], None]) -> Outcome:
        """Encrypts every value with the first key that another known key decrypts. Values that no key decrypts are left as they are.

        Args:
            cipher: The keys.
            progress: Gets the rows that are done and all rows, after every page of the first pass in which there was something to do.

        Raises:
            BrokenOffError: The database was lost in the middle.
        """
        total = done = rows = 0
        left = Survey()
        try:
            total = self._ask(_count, "count the encrypted rows")
            for number in range(PASSES):
                tally, done, changed = _Tally(cipher.keys), 0, 0
                for page in self._pages():
                    changes = []
                    for row in page:
                        opened = _open(cipher, row)
                        tally.add(row, opened)
                        numbers = {found[0] for found in opened if found is not None}
                        done += numbers == {0}
                        if numbers - {0}:
                            changes.append((row, _resealed(cipher, row, opened)))
                    if changes:
                        changed += len(changes)
                        written = self._write(changes)
                        rows += written
                        done += written
                    if changes and number == 0:
                        progress(min(done, total), total)
                left = tally.survey()
                if not changed:
                    return Outcome(rows=rows, left=left, settled=True)
        except ApiError as error:
            raise BrokenOffError(error, done=done, total=max(total, done)) from None
        return Outcome(rows=rows, left=left, settled=False)

    # The database

    def _values(self) -> Iterator[bytes]:
        for page in self._pages():
            for row in page:
                yield from (value for value in row.values if value is not None)

    def _pages(self) -> Iterator[list[Row]]:
        """All rows with an encrypted value, in the order of the primary key."""
        self._prepare()
        after: tuple[Any, ...] | None = None
        while True:
            page = self._ask(partial(self._read, after=after), f"read {TABLE}")
            if page:
                yield page
            if len(page) < self._page:
                return
            after = page[-1].key

    def _prepare(self) -> None:
        if self._key:
            return
        described = self._ask(_describe, "look at its tables")
        if faults := described.faults():
            raise ApiError("PostgreSQL", f"read {TABLE}", status=None, reason=faults[0].happened, sent=False)
        self._key = described.key

    def _read(self, connection: "Connection", *, after: tuple[Any, ...] | None) -> list[Row]:
        from psycopg import sql  # noqa: PLC0415

        key = sql.SQL(", ").join(sql.Identifier(each) for each in self._key)
        query = sql.SQL(
            "SELECT {key}, {columns} FROM {table} WHERE coalesce({columns}) IS NOT NULL {after} ORDER BY {key} LIMIT {page}"
        ).format(
            key=key,
            columns=sql.SQL(", ").join(sql.Identifier(each) for each in COLUMNS),
            table=sql.Identifier(TABLE),
            after=sql.SQL("AND ({}) > ({})").format(key, sql.SQL(", ").join(sql.Placeholder() * len(self._key)))
            if after
            else sql.SQL(""),
            page=sql.Literal(self._page),
        )
        width = len(self._key)
        found = connection.execute(query, after or (), binary=True).fetchall()
        return [Row(each[:width], tuple(each[width:])) for each in found]

    def _write(self, changes: Sequence[tuple[Row, tuple[bytes | None, ...]]]) -> int:
        """Writes one page, at once or not at all. Rows that are no longer as they were read stay as they are. Returns how many were written."""
        from psycopg import sql  # noqa: PLC0415

        query = sql.SQL("UPDATE {table} SET {news} WHERE ({key}) = ({values}) AND {olds}").format(
            table=sql.Identifier(TABLE),
            news=sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(each)) for each in COLUMNS),
            key=sql.SQL(", ").join(sql.Identifier(each) for each in self._key),
            values=sql.SQL(", ").join(sql.Placeholder() * len(self._key)),
            olds=sql.SQL(" AND ").join(
                sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(each)) for each in COLUMNS
            ),
        )
        parameters = [(*anew, *row.key, *row.values) for row, anew in changes]

        def write(connection: "Connection") -> int:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(query, parameters)
                return cursor.rowcount

        return self._ask(write, f"write {TABLE}")

    def _ask(self, work: Callable[["Connection"], T], operation: str) -> T:
        """Does something that may be repeated, on a new connection where the present one is lost.

        Raises:
            ApiError: It failed for another reason, or still after the last attempt.
        """
        import psycopg  # noqa: PLC0415

        waits = iter(RECONNECTS)
        while True:
            try:
                return work(self._connected())
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                lost = failure(error, operation)
            except psycopg.Error as error:
                raise failure(error, operation) from None
            except PasswordRefusedError:
                if self._key:  # it was accepted before: somebody is changing it now
                    lost = PasswordRefusedError()
                else:
                    raise
            except ApiError as error:
                if not error.transient:
                    raise
                lost = error
            self._close()
            wait = next(waits, None)
            if wait is None:
                raise lost from None
            self._sleep(wait)

    def _connected(self) -> "Connection":
        if self._connection is None or self._connection.closed:
            connection = connect(self._uri())
            try:
                connection.execute(LIMITS)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _open(cipher: Cipher, row: Row) -> list[tuple[int, bytes] | None]:
    return [None if value is None else cipher.open(value) for value in row.values]


def _resealed(cipher: Cipher, row: Row, opened: Sequence[tuple[int, bytes] | None]) -> tuple[bytes | None, ...]:
    """The row under the first key. What has it already, and what no key decrypts, stays as it is."""
    return tuple(
        cipher.seal(found[1]) if found is not None and found[0] else value
        for value, found in zip(row.values, opened, strict=True)
    )


def _count(connection: "Connection") -> int:
    from psycopg import sql  # noqa: PLC0415

    columns = sql.SQL(", ").join(sql.Identifier(each) for each in COLUMNS)
    query = sql.SQL("SELECT count(*) FROM {} WHERE coalesce({}) IS NOT NULL").format(sql.Identifier(TABLE), columns)
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The table as the role sees it.

    Attributes:
        key: The columns of the primary key. Looked up, because only the encrypted columns are documented.
        types: The type of each encrypted column that is there.
        hidden: Whether row-level security may hide rows.
        missing: Rights that the role lacks.
    """

    key: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    hidden: bool = False
    missing: tuple[str, ...] = ()

    def faults(self) -> list[RefusedError]:
        """What keeps its rows from being re-encrypted."""
        if not self.types:
            return [
                RefusedError(
                    f"The database has no table {TABLE} with encrypted columns that the role can see.",
                    next_step="mend `databaseName` and `databaseBranch` in the stack's config: the control plane's tables have to be there.",
                )
            ]
        if wrong := [name for name in COLUMNS if self.types.get(name) != "bytea"]:
            found = ", ".join(f"{name} is {self.types.get(name, 'missing')}" for name in wrong)
            return [
                RefusedError(
                    f"The encrypted columns of {TABLE} are not as expected: {found}; it has to be bytea.",
                    next_step="do not rotate the key with this version of the program: the control plane keeps its values in another way.",
                )
            ]
        errors = []
        if not self.key:
            errors.append(
                RefusedError(
                    f"{TABLE} has no primary key, so its rows cannot be told apart.",
                    next_step=f"add a primary key to {TABLE}.",
                )
            )
        if self.missing:
            errors.append(
                RefusedError(
                    f"The role that is to re-encrypt the rows of {TABLE} has no right to {' and '.join(self.missing)}.",
                    next_step="pulumi config set encryptionRole …, the owner of the table; or grant that right.",
                )
            )
        if self.hidden:
            errors.append(
                RefusedError(
                    f"Row-level security may hide rows of {TABLE} from the role that is to re-encrypt them.",
                    next_step="pulumi config set encryptionRole …, the owner of the table or a role with BYPASSRLS.",
                )
            )
        return errors


def _describe(connection: "Connection") -> _Table:
    types: dict[str, str] = dict(
        connection.execute(
            """
            SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = to_regclass(%s) AND attname = ANY(%s) AND NOT attisdropped
            """,
            (TABLE, list(COLUMNS)),
        ).fetchall()
    )
    if not types:
        return _Table()
    found = connection.execute(
        """
        SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE i.indrelid = to_regclass(%s) AND i.indisprimary ORDER BY k.place
        """,
        (TABLE,),
    ).fetchall()
    key = tuple(each[0] for each in found)
    wanted = [*((name, "SELECT") for name in (*key, *types)), *((name, "UPDATE") for name in types)]
    lacking = {
        right
        for name, right in wanted
        if not _true(connection, "SELECT has_column_privilege(%s, %s, %s)", TABLE, name, right)
    }
    return _Table(
        key=key,
        types=types,
        hidden=_true(connection, "SELECT row_security_active(%s)", TABLE),
        missing=tuple(sorted(lacking)),
    )


def _true(connection: "Connection", query: LiteralString, *parameters: str) -> bool:
    row = connection.execute(query, parameters).fetchone()
    return bool(row and row[0])
