"""What all checks share: their settings, progress lines, deadlines, the report."""

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, NoReturn

from components.calls import ApiError, purpose
from components.clock import now
from components.errors import OperatorError, help_line
from components.secret import LEAKED

SETTINGS_VARIABLE = "ROTATION_CHECK"
LAST_REPORT_VARIABLE = "PULUMI_COMMAND_STDOUT"
POLL_SECONDS = 1.0


# Set once one check has failed or the process is ended: the others stop waiting and clean up.
_ending = threading.Event()


class CheckFailedError(Exception):
    """A consumer does not work, or could not be shown to work. The text is for the operator; never holds a secret value.

    Attributes:
        contact: Whom to call where a provider refused or is down; "" for nobody.
    """

    def __init__(self, text: str, *, contact: str = "") -> None:
        super().__init__(text)
        self.contact = contact


class EndedError(CheckFailedError):
    """A check that stopped waiting because another one failed."""


@dataclass(frozen=True)
class Deadline:
    """A point in time after which a check gives up.

    Attributes:
        seconds: How long it had.
    """

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_end", time.monotonic() + self.seconds)

    def poll(self, done: Callable[[], bool], *, waiting_for: str) -> None:
        """Calls `done` every second until it is true.

        Raises:
            CheckFailedError: The time was up first.
            EndedError: Another check has failed.
        """
        last_line = time.monotonic()
        while not done():
            if _ending.is_set():
                raise EndedError(waiting_for)
            if time.monotonic() > self._end:
                raise CheckFailedError(f"{waiting_for}: not within {self.seconds:g} s")
            if time.monotonic() - last_line > 10:  # noqa: PLR2004 - a line every ten seconds shows that it is alive
                progress(f"waiting: {waiting_for}")
                last_line = time.monotonic()
            time.sleep(POLL_SECONDS)


def wait(done: Callable[[], bool], seconds: float, *, waiting_for: str) -> None:
    """Looks once, and again until the time is up. Whoever asks says what is wrong then.

    Raises:
        EndedError: Another check has failed.
    """
    if done() or not seconds:
        return
    try:
        Deadline(seconds).poll(done, waiting_for=waiting_for)
    except EndedError:
        raise
    except CheckFailedError:
        return


Check = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a check is about.

    Attributes:
        secret: The name of the secret.
        generation: Of the credential that is checked.
        credential_id: The provider's id of it.
        minted_at: When it was minted, RFC 3339.
        verified_before: Whether this check has succeeded for this generation before.
        leaked: Whether the value before has leaked, so that its end must not wait for anything that can do without.
    """

    secret: str
    generation: int
    credential_id: str
    minted_at: str = ""
    verified_before: bool = False
    leaked: bool = False


def run(verify: Callable[[Mapping[str, Any], Subject], None]) -> NoReturn:
    """Runs a check as a process: settings in, report out, exit status 0 or 1.

    Args:
        verify: Gets its settings and the subject; raises CheckFailedError, OperatorError or ApiError.
    """
    # Ended from outside: unwind, so that whatever was made is cleaned up. What a kill leaves, the next check of the kind deletes.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    gc.freeze()  # what was imported is not looked through for garbage when the process ends: up to 0.1 s of a processor for each check
    settings = json.loads(os.environ[SETTINGS_VARIABLE])
    subject = Subject(
        secret=settings["secret"],
        generation=settings["generation"],
        credential_id=settings["credential_id"],
        minted_at=settings["minted_at"],
        verified_before=_last_report().get("generation") == settings["generation"],
        leaked=settings.get("reason") == LEAKED,
    )
    about = f"{subject.secret} generation {subject.generation}"
    try:
        with purpose(f"check {subject.secret}"):
            verify(settings["settings"], subject)
    except (CheckFailedError, ApiError) as error:
        print(
            f"{about}: {error}\n"
            f"  State: {settings['state_if_failed']}\n"
            f"  Next:  mend that, then `pulumi up`: it checks again, without minting again."
            f"{help_line(error.contact)}",
            file=sys.stderr,
        )
        sys.exit(1)
    except OperatorError as error:
        print(f"{about}: {error}", file=sys.stderr)
        sys.exit(1)
    # The record is for the stack's outputs, and for the stack that goes next: what was verified with what (`components.promotion`).
    record = {"record": settings["record"]} if "record" in settings else {}
    print(
        json.dumps(
            {"generation": settings["generation"], "subject": settings["subject"], "verified_at": now(), **record}
        )
    )
    sys.exit(0)


def _last_report() -> Mapping[str, Any]:
    """What this check printed when it last succeeded; the command plugin hands it back."""
    try:
        report = json.loads(os.environ.get(LAST_REPORT_VARIABLE) or "{}")
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _end(*_: object) -> NoReturn:
    _ending.set()
    sys.exit(143)


def progress(line: str) -> None:
    """A line that the operator sees while the check runs."""
    print(line, file=sys.stderr, flush=True)


def together(checks: Mapping[str, Check]) -> None:
    """Runs checks side by side; each returns its evidence. The first failure ends the waiting of the others.

    Raises:
        CheckFailedError: With every check that failed.
    """
    failures: list[str] = []
    contacts: set[str] = set()
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        futures = {pool.submit(copy_context().run, check): name for name, check in checks.items()}
        for future in as_completed(futures):
            try:
                progress(f"{futures[future]}: {future.result()}")
            except EndedError:
                pass  # the failure that ended it is reported
            except (CheckFailedError, ApiError) as error:
                _ending.set()
                failures.append(f"{futures[future]}: {error}")
                contacts |= {error.contact} - {""}
            except BaseException:
                _ending.set()
                raise
    if failures:
        raise CheckFailedError("; ".join(sorted(failures)), contact="; ".join(sorted(contacts)))
