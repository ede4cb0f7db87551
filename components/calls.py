"""What is said of a call to an external system: the error where it did not succeed, and what it is for.

Apart from `components.http`, because this is all that who only catches such an error needs: httpx takes a good third of the time in which a
check or the engine's plugin is ready (`tests/unit/test_start.py`).
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from components.contacts import CONTACTS
from components.printable import one_line

# What providers document as transient (Fly: 408, 429, 5xx; Neon: 423, 429, 503; GitHub and Stripe: 429, 5xx).
TRANSIENT = frozenset({408, 423, 425, 429, 500, 502, 503, 504})
LONGEST_REASON = 300
LONGEST_OPERATION = 600  # a write names every secret that is in it
LONGEST_REQUEST_ID = 100
PURPOSE = ContextVar("purpose", default="")


class ApiError(Exception):
    """An API call that did not succeed.

    Attributes:
        system: The external system, for example "Fly".
        operation: What was tried, for example "write the secrets of app molecule-cp".
        status: The HTTP status, or None where no answer came.
        reason: What the system said, less every known secret, or what went wrong with the connection.
        request_id: The system's id of the request, for its support.
        retry_after: Seconds that the system asked to wait, or None.
        sent: Whether there was a request at all; False where it could not even be made.
    """

    def __init__(
        self,
        system: str,
        operation: str,
        *,
        status: int | None,
        reason: str,
        request_id: str = "",
        retry_after: float | None = None,
        sent: bool = True,
    ) -> None:
        # All of these may hold what others chose: the operation names and ids, too.
        operation = one_line(operation, LONGEST_OPERATION)
        reason = one_line(reason, LONGEST_REASON)
        request_id = one_line(request_id, LONGEST_REQUEST_ID)
        super().__init__(system, operation, status, reason)
        self.sent = sent
        self.system = system
        self.operation = operation
        self.status = status
        self.reason = reason
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else f"status {self.status}"
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.system}: could not {self.operation}: {answer}: {self.reason}{request}"

    @property
    def ambiguous(self) -> bool:
        """Whether the system may have acted all the same: it gave no answer, one that cannot be read, or failed after it took the request."""
        if self.status is None:
            return self.sent
        if HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            return True
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status == HTTPStatus.REQUEST_TIMEOUT

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later."""
        return self.sent and (self.status is None or self.status in TRANSIENT)

    @property
    def contact(self) -> str:
        """Whom to call where the system refuses or is down; "" where it is neither."""
        down_or_refused = self.transient or self.status in {401, 403} or self.ambiguous
        return CONTACTS.get(self.system, "") if down_or_refused else ""

    @property
    def refused(self) -> bool:
        """Whether the credential of the call was refused (401)."""
        return self.status == HTTPStatus.UNAUTHORIZED


@contextmanager
def purpose(text: str) -> Iterator[None]:
    """Says in the header `User-Agent` of this thread's calls what they are for ("mint FLY_API_TOKEN"): a provider's log can tell then."""
    token = PURPOSE.set(text)
    try:
        yield
    finally:
        PURPOSE.reset(token)


def conceal(text: str, secrets: Collection[str]) -> str:
    """The text on one line, printable, shortened, with every secret in it replaced."""
    parts = {part for secret in secrets for part in (secret, *re.split(r"[\s,]+", secret))}
    for part in sorted(parts, key=len, reverse=True):
        # Short fragments ("FlyV1") are scheme names, not secrets.
        if len(part) > 8:  # noqa: PLR2004
            text = text.replace(part, "***")
    return one_line(text, LONGEST_REASON)
