"""HTTP for all clients: timeouts, retries as data, and errors that never carry a secret.

A message names the system, the operation, the status and the request id. It never holds a header, a body or the query of a URL, because
the engine prints the text of exceptions verbatim, and masks only the secrets of the stack's config in it.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Lock
from urllib.parse import quote

import httpx
import tenacity

from components import clock
from components.calls import LONGEST_REQUEST_ID, PURPOSE, ApiError, conceal, purpose
from components.contacts import CONTACTS
from components.errors import OperatorError, RefusedError
from components.printable import one_line

# Connecting to a healthy API takes well under a second; Fly's `wait` call answers after up to 60 s.
TIMEOUT = httpx.Timeout(75, connect=10, pool=10)
# The environment variable that shortens (or for all calls without a deadline of their own lengthens) the wait for an answer, in seconds.
TIMEOUT_VARIABLE = "ROTATION_HTTP_TIMEOUT"
NAME = "molecule-secrets"
__all__ = ["ApiError", "conceal", "purpose"]  # what others get from here, beside what is defined here
_being_made = Lock()
# The largest answer that is read, decompressed. The largest honest one is the list of the machines of an app with a machine for every tenant:
# with its configuration each takes a few KB, so that there is room for ten thousand of them. Whoever sends more fills memory.
LARGEST_ANSWER = 64 * 1024 * 1024
MOST_PAGES = 1000  # of a list; with 100 on each, more than an account may have of anything
LONGEST_RETRY_AFTER = 60.0  # seconds; a provider that asks for more gets an error instead of a hanging deployment


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a call that may be repeated is repeated.

    Attributes:
        attempts: Calls in all.
        first_wait: Seconds before the second call; doubles each time, with jitter, unless the system says how long to wait.
        longest_wait: Seconds at most between two calls.
        also: Statuses that this call may be repeated on, beside those that are always transient.
    """

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 8.0
    also: frozenset[int] = frozenset()


REPEATABLE = RetryPolicy()
ONCE = RetryPolicy(attempts=1)


def retrying(policy: RetryPolicy) -> tenacity.Retrying:
    """A tenacity loop for `policy`: transient errors are tried again, `Retry-After` is obeyed."""
    back_off = tenacity.wait_exponential_jitter(
        multiplier=policy.first_wait, max=policy.longest_wait, jitter=policy.first_wait
    )

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ApiError) and error.retry_after is not None:
            return error.retry_after
        return back_off(state)

    def again(error: BaseException) -> bool:
        if not isinstance(error, ApiError) or (error.retry_after or 0) > LONGEST_RETRY_AFTER:
            return False
        return error.transient or error.status in policy.also

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(again),
        reraise=True,
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What makes an answer a failure.

    Attributes:
        status: The status that describes it best: that of the answer, or what the answer means by it.
        reason: The system's own explanation, "" for none.
        retry_after: Seconds that the system asks to wait, where it does not say so in the header `Retry-After`.
    """

    status: int
    reason: str
    retry_after: float | None = None


def failure_with(explain: Callable[[object], str]) -> Callable[[httpx.Response], Failure | None]:
    """The usual judgement of an answer: it failed unless its status is 2xx; `explain` finds the reason in its JSON body."""

    def judge(response: httpx.Response) -> Failure | None:
        return (
            None if response.is_success else Failure(status=response.status_code, reason=explain(json_body(response)))
        )

    return judge


def plain_failure(response: httpx.Response) -> Failure | None:
    """For a system whose explanations do not get into messages."""
    return failure_with(lambda _body: "")(response)


def json_body(response: httpx.Response) -> object:
    """The body, None where it is no JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def part(text: str) -> str:
    """A name or an id as one part of a path, so that it cannot lead to another place of the API: `/`, `?`, `#` and `%` are quoted.

    Raises:
        OperatorError: It is empty, `.` or `..`, which no quoting keeps from being resolved, or holds what cannot be in a name.
    """
    if text in {"", ".", ".."} or not text.isprintable():
        raise OperatorError(
            f"{one_line(repr(text), LONGEST_REQUEST_ID)} is no name or id of anything.",
            state="no request was made with it.",
            next_step="look where it comes from: a name in the stack's config, or an id that a provider has told.",
        )
    return quote(text, safe="")


class EndlessPagesError(ValueError):
    """A list that goes on and on."""


def pages() -> Iterator[int]:
    """The numbers of the pages of a list, to be counted with `next`.

    Raises:
        EndlessPagesError: There are more than any account has: the system tells of a next page for ever.
    """
    yield from range(1, MOST_PAGES + 1)
    raise EndlessPagesError


@dataclass(kw_only=True)
class Asked:
    """The newest call that was answered.

    Attributes:
        system: As in `ApiError`.
        operation: As in `ApiError`.
        status: As in `ApiError`; None where nothing was answered yet.
        request_id: As in `ApiError`.
    """

    system: str = ""
    operation: str = ""
    status: int | None = None
    request_id: str = ""


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def asking() -> Iterator[Asked]:
    """Remembers the newest call that is answered inside, in this thread."""
    outer = _asked.get()
    asked = Asked()
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)
        if outer is not None and asked.status is not None:
            outer.__dict__.update(asked.__dict__)


@dataclass(frozen=True, kw_only=True)
class Api:
    """One system's HTTP API.

    Attributes:
        system: Its name in messages.
        base_url: What paths are added to, without a slash at the end.
        headers: Sent with every request.
        secrets: Values that must not appear in a message, whatever the system answers.
        judge: Tells whether an answer is a failure, and which.
        request_id_header: Where the system names the request.
    """

    system: str
    base_url: str
    headers: Mapping[str, str]
    secrets: Collection[str] = ()
    judge: Callable[[httpx.Response], Failure | None] = plain_failure
    request_id_header: str = "x-request-id"

    def call(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        json: object = None,
        content: bytes | None = None,
        parameters: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        policy: RetryPolicy = ONCE,
        secrets: Collection[str] = (),
        timeout: httpx.Timeout | float | None = None,
    ) -> httpx.Response:
        """Makes one call, repeated as `policy` says, and returns the answer.

        Args:
            method: HTTP method.
            path: Below the base URL, with a slash in front.
            operation: What the call does, as it reads after "could not".
            json: The body.
            content: The body to the byte, instead of `json`; its content type goes into `headers`.
            parameters: The query.
            headers: Beside those of the API.
            policy: `REPEATABLE` only for calls that may be made twice.
            secrets: Values in this call that must not appear in a message.
            timeout: Seconds for one attempt; the environment's ROTATION_HTTP_TIMEOUT counts where it is shorter, or where none is named.

        Raises:
            ApiError: The answer was a failure, or there was none.
            RefusedError: ROTATION_HTTP_TIMEOUT is no number of seconds.
        """
        if {".", ".."} & {*path.partition("?")[0].split("/")}:
            # It would be resolved, and lead to another place.
            raise ApiError(self.system, operation, status=None, reason=f"{path} is no path of it", sent=False)
        concealed = [*self.secrets, *secrets]
        patience = _patience(timeout)

        def attempt() -> httpx.Response:
            try:
                with client().stream(
                    method,
                    self.base_url + path,
                    json=json,
                    content=content,
                    params=parameters,
                    headers={"user-agent": _user_agent(), **self.headers, **(headers or {})},
                    timeout=patience,
                ) as streamed:
                    response = self._whole(streamed, operation, patience.read)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                reason = conceal(str(error) or type(error).__name__, concealed)
                sent = isinstance(error, httpx.RequestError) and not isinstance(error, httpx.UnsupportedProtocol)
                # `from None`: the original carries the request with its headers.
                raise ApiError(self.system, operation, status=None, reason=reason, sent=sent) from None
            if self.system in CONTACTS and "age" not in response.headers:  # not the app's own, nor one out of a cache
                clock.note(response.headers.get("date"))
            if failure := self._judged(response):
                raise self._error(response, failure, operation, concealed)
            if (asked := _asked.get()) is not None:
                asked.system, asked.operation, asked.status = self.system, operation, response.status_code
                asked.request_id = conceal(response.headers.get(self.request_id_header, ""), concealed)
            return response

        return retrying(policy)(attempt)

    def _whole(self, streamed: httpx.Response, operation: str, seconds: float | None) -> httpx.Response:
        """The answer with its body, decompressed, as long as that is neither too large nor too slow."""

        def unread(reason: str) -> ApiError:
            return ApiError(
                self.system, operation, status=streamed.status_code, reason=f"the answer was not read: {reason}"
            )

        # One coding in another makes of a few KB more than memory holds, in one step.
        if "," in streamed.headers.get("content-encoding", ""):
            raise unread("it is compressed more than once")
        end = time.monotonic() + (seconds or float("inf"))
        body = bytearray()
        for piece in streamed.iter_bytes():
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise unread(f"it is larger than {LARGEST_ANSWER // 1024**2} MiB. Is that really {self.system}?")
            if time.monotonic() > end:  # the timeout of the connection counts from byte to byte
                raise httpx.ReadTimeout(f"the answer did not end within {seconds:g} s")
        told = [
            (name, value)
            for name, value in streamed.headers.multi_items()
            if name not in {"content-encoding", "content-length", "transfer-encoding"}
        ]
        return httpx.Response(
            streamed.status_code,
            headers=told,
            content=bytes(body),
            request=streamed.request,
            extensions={key: each for key, each in streamed.extensions.items() if key != "network_stream"},
        )

    def _judged(self, response: httpx.Response) -> Failure | None:
        """The failure, also where its explanation has not the form that is documented."""
        try:
            return self.judge(response)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            reason = "the answer is not as documented"
            return Failure(status=response.status_code, reason=reason)

    def _error(
        self, response: httpx.Response, failure: Failure, operation: str, concealed: Collection[str]
    ) -> ApiError:
        asked = _retry_after(response.headers.get("retry-after"))
        return ApiError(
            self.system,
            operation,
            status=failure.status,
            reason=conceal(failure.reason or response.reason_phrase, concealed) or "no explanation",
            request_id=conceal(response.headers.get(self.request_id_header, ""), concealed),
            retry_after=failure.retry_after if asked is None else asked,
        )


@cache
def _client() -> httpx.Client:
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=20, keepalive_expiry=30))


def client() -> httpx.Client:
    """The one client of the process, made by its first call: to read the authorities that TLS trusts takes longer than any module here.

    Connections are reused across calls and worker threads (httpx.Client is thread-safe). One that the server has closed meanwhile is noticed
    before a request is written to it (httpcore asks the socket), so a call that must not be made twice is not lost to it. Proxies of the
    environment are honoured, redirects are not followed: no API here redirects, and a redirect would carry the token elsewhere.
    """
    with _being_made:
        return _client()


def _user_agent() -> str:
    return f"{NAME} ({text})" if (text := PURPOSE.get()) else NAME


def _patience(named: httpx.Timeout | float | None) -> httpx.Timeout:
    """How long one attempt may take: as the call says, at most as long as the environment says."""
    timeout = TIMEOUT if named is None else httpx.Timeout(named)
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    if not text:
        return timeout
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise RefusedError(
            f"{TIMEOUT_VARIABLE} is {text!r}, which is no number of seconds.",
            next_step=f"export {TIMEOUT_VARIABLE} with a number of seconds, or unset it (75 s).",
        )
    if named is None:
        return httpx.Timeout(seconds, connect=min(seconds, 10), pool=10)
    return httpx.Timeout(**{kind: min(seconds, limit or seconds) for kind, limit in timeout.as_dict().items()})


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait: the header holds seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
        # A date without a zone is UTC (RFC 9110, section 5.6.7).
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - clock.utc_now()).total_seconds())
    except (ValueError, OverflowError):
        return None
