"""The re-encryption of the control plane's rows as a companion of the rollout of their key.

A process of the control plane knows one key. So the rows change between the write of the new key and the first restart: `check` before
anything is written, `forward` before the first machine restarts, `back` before machines go back to the key before. Until it has restarted, a
machine still writes with the key before: `finish`, after the last restart, takes care of what it wrote meanwhile.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from components import operator_credentials
from components.clock import now
from components.encryption.key import MisreadKeyError, load
from components.encryption.rows import TABLE, BrokenOffError, Cipher, Database, OrgInstances, Outcome, Survey
from components.errors import OperatorError, RefusedError, refusals
from components.http import ApiError
from components.neon.client import NeonClient

KEY_BEFORE = "encryptionKeyBefore"  # the key of the stack's config
SET_KEY_BEFORE = f"`pulumi config set --secret {KEY_BEFORE}` with the key that the control plane uses now"


@dataclass(frozen=True, kw_only=True)
class KnownKeys:
    """Every key that rows may be encrypted with.

    Attributes:
        loader: How consumers read a key.
        stack: Those of the stack, the one in use first. Secret.
        operator: The one that was in use before the stack minted its first, where the operator has said it; else "". Secret.
    """

    loader: str
    stack: tuple[str, ...] = field(repr=False)
    operator: str = field(repr=False)

    @classmethod
    def of(cls, loader: str, values: Sequence[str], config: Callable[[str], str | None]) -> "KnownKeys":
        """From what the stack knows, and its config."""
        return cls(loader=loader, stack=tuple(each for each in values if each), operator=config(KEY_BEFORE) or "")

    def load(self) -> list[bytes]:
        """All of them, each once; that of the operator last.

        Raises:
            RefusedError: The consumers would misread one.
        """
        keys: list[bytes] = []
        for text in (*self.stack, *([self.operator] if self.operator else [])):
            try:
                key = load(text, self.loader)
            except MisreadKeyError as error:
                raise self._misread(text, error) from None
            if key not in keys:
                keys.append(key)
        return keys

    def _misread(self, text: str, error: MisreadKeyError) -> RefusedError:
        if text in self.stack:
            return RefusedError(
                f"The consumers would misread a key that this stack has minted: {error}.",
                next_step="mend `encryptionKeyLoader` in the stack's config so that it says how the consumers read the key that they have.",
            )
        return RefusedError(
            f"The consumers would misread the key in `{KEY_BEFORE}`: {error}.",
            next_step=f"{SET_KEY_BEFORE}, as it stands there, without a line end; or mend `encryptionKeyLoader`.",
        )

    def fault(self, survey: Survey) -> RefusedError | None:
        """Why these keys are not enough for what was found; None where they are."""
        if not survey.unreadable:
            return None
        named = f"{TABLE} {'; '.join(survey.unreadable_rows)}" + (
            " and others" if survey.unreadable > len(survey.unreadable_rows) else ""
        )
        if not self.stack and not self.operator:
            return RefusedError(
                f"{TABLE} has {survey.values:,} encrypted values, and the key that they were encrypted with is not known: this stack has not "
                "minted one yet.",
                next_step=f"{SET_KEY_BEFORE}.",
            )
        if not self.stack and survey.unreadable == survey.values:
            return RefusedError(
                f"The key in `{KEY_BEFORE}` decrypts none of the {survey.values:,} encrypted values of {TABLE}: it is not the one that the "
                "control plane encrypted them with.",
                next_step=f"{SET_KEY_BEFORE}.",
            )
        if survey.unreadable == survey.later_format:
            return RefusedError(
                f"{survey.unreadable:,} of {survey.values:,} encrypted values begin with the mark of a later format (an envelope of a KMS), "
                f"which this program does not know: {named}.",
                next_step="do not rotate the key with this version of the program.",
            )
        return RefusedError(
            f"{survey.unreadable:,} of {survey.values:,} encrypted values decrypt with no key that is known: {named}. With a new key they "
            "would be lost for good.",
            next_step=f"find out which key they were encrypted with ({SET_KEY_BEFORE}, if it is that one), or mend or delete these rows.",
        )


class Reencryption:
    """Moves every encrypted value of the control plane to another key. Each method may be repeated.

    Args:
        database: Where the rows are.
        key: The new key. Secret.
        known: The keys before.
        report: Takes lines for the operator.
    """

    def __init__(
        self,
        database: Database,
        *,
        key: str,
        known: KnownKeys,
        report: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._key = key
        self._known = known
        self._report = report
        self._sleep = sleep

    @property
    def key_before(self) -> str:
        """The key that machines had before this rollout, "" where it is not known. Secret."""
        return next((each for each in (*self._known.stack, self._known.operator) if each), "")

    def check(self) -> None:
        """Looks whether every row can be re-encrypted. Changes nothing.

        Raises:
            OperatorError: A key would be misread, the role may not read and write all rows, or no known key decrypts one.
        """
        keys = self._keys()
        try:
            with self._rows() as rows:
                if errors := rows.obstacles():
                    raise refusals(errors)
                survey = rows.survey(Cipher(keys))
        except ApiError as error:
            raise OperatorError(
                f"The encrypted rows of {TABLE} could not be looked at: {error}.",
                state="nothing was changed.",
                next_step="`pulumi up` again once the database answers.",
                contact=error.contact,
            ) from None
        if fault := self._known.fault(survey):
            raise fault
        self._report(
            f"{survey.values:,} encrypted values in {survey.rows:,} rows of {TABLE}: {survey.under[0]:,} with the new key, "
            f"{survey.elsewhere:,} with keys before; all decrypt"
        )

    def forward(self) -> None:
        """Encrypts every value with the new key. To be called before the first machine restarts.

        Where machines that have the key before go on writing faster than one pass follows the other, it ends all the same: they have to be
        restarted, and `finish` does the rest.

        Raises:
            OperatorError: It broke off, or there is a value now that no known key decrypts. Nothing is lost.
        """
        self._reencrypt(self._keys(), "the new key", strict=False)

    def finish(self) -> None:
        """Encrypts with the new key what machines wrote with the one before until they restarted. To be called after the last restart.

        Raises:
            OperatorError: As above, or somebody still writes with the key before.
        """
        self._reencrypt(self._keys(), "the new key", strict=True)

    def back(self) -> None:
        """Encrypts every value with the key that the machines had before, to which they go back. May be called again after they have.

        Raises:
            OperatorError: As above, or that key is not known.
        """
        new, *before = self._keys()
        if not before:
            if not self.key_before:
                self._report(
                    f"the key before is not known, so no row of {TABLE} was encrypted with it: nothing to put back"
                )
            return
        old = load(self.key_before, self._known.loader)
        self._reencrypt([old, new, *(each for each in before if each != old)], "the key before", strict=False)

    def _reencrypt(self, keys: list[bytes], name: str, *, strict: bool) -> None:
        began, clock = now(), time.monotonic()
        self._report(f"{began}: encrypting the rows of {TABLE} with {name}")
        told = 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            tenth = done * 10 // total if total else 0
            if tenth > told:
                told = tenth
                self._report(f"{done:,} of {total:,} rows are encrypted with {name}")

        try:
            with self._rows() as rows:
                outcome = rows.reencrypt(Cipher(keys), progress=progress)
        except BrokenOffError as error:
            raise _broken_off(error, name) from None
        _assert_complete(outcome, name, strict=strict)
        seconds = time.monotonic() - clock
        left = outcome.left
        self._report(f"{now()}: {outcome.rows:,} rows were encrypted with {name} in {seconds:.1f} s, since {began}")
        if outcome.settled:
            self._report(f"all {left.values:,} encrypted values in {left.rows:,} rows decrypt with {name}")
        else:
            self._report(
                f"{left.elsewhere:,} of {left.values:,} values were written meanwhile by machines with another key; they are re-encrypted "
                "once those have restarted"
            )

    def _keys(self) -> list[bytes]:
        """The new key first, then those before, each once.

        Raises:
            RefusedError: The consumers would misread one.
        """
        try:
            new = load(self._key, self._known.loader)
        except MisreadKeyError as error:
            raise RefusedError(
                f"The consumers would misread the new key: {error}.",
                next_step="mend `encryptionKeyEncoding` or `encryptionKeyLoader` in the stack's config, bump the counter, `pulumi up`.",
            ) from None
        return [new, *(each for each in self._known.load() if each != new)]

    def _rows(self) -> OrgInstances:
        return OrgInstances(self._database.uri, sleep=self._sleep)


def _broken_off(error: BrokenOffError, name: str) -> OperatorError:
    return OperatorError(
        f"Encrypting the rows of {TABLE} with {name} broke off: {error}.",
        state=f"{error.done:,} of {error.total:,} rows are known to be encrypted with {name}, the others with it or with another key that this "
        "stack knows; none is lost. A process reads only those that are encrypted with its own key.",
        next_step="`pulumi up` again once the database answers: it goes on where it stopped.",
        contact=error.cause.contact,
    )


def _assert_complete(outcome: Outcome, name: str, *, strict: bool) -> None:
    left = outcome.left
    state = f"{left.under[0]:,} of {left.values:,} values are encrypted with {name}, {left.elsewhere:,} with another known key"
    if left.unreadable:
        raise OperatorError(
            f"{left.unreadable:,} encrypted values decrypt with no key that is known; they were written after the rows were checked: {TABLE} "
            f"{'; '.join(left.unreadable_rows)}.",
            state=f"{state}; those were not touched.",
            next_step="find out who wrote them and with which key, mend or delete these rows, then `pulumi up`.",
        )
    if strict and not outcome.settled:
        raise OperatorError(
            f"Somebody goes on writing to {TABLE} with a key before, although every machine has restarted.",
            state=f"{state}. None is lost.",
            next_step="find out who holds the key before and give them the new one, then `pulumi up`: it re-encrypts what is left.",
        )


def build(
    settings: Mapping[str, str],
    *,
    key: str,
    keys_before: Sequence[str],
    config: Callable[[str], str | None],
    report: Callable[[str], None],
) -> Reencryption:
    """The companion of a rollout.

    Args:
        settings: Those of `components.secret.EncryptedRows`.
        key: The new key. Secret.
        keys_before: Every earlier key that the stack knows, the one in use first. Secret.
        config: Looks a key of the stack's config up.
        report: Takes lines for the operator.

    Raises:
        RefusedError: There is no operator credential for Neon.
    """
    return Reencryption(
        database_of(settings, config),
        key=key,
        known=KnownKeys.of(settings["loader"], keys_before, config),
        report=report,
    )


def database_of(settings: Mapping[str, str], config: Callable[[str], str | None]) -> Database:
    """The database that these settings name, with the operator's credential."""
    return Database(
        client=NeonClient(operator_credentials.find(operator_credentials.NEON, config)),
        project=settings["project"],
        branch=settings["branch"],
        database=settings["database"],
        role=settings["role"],
    )
