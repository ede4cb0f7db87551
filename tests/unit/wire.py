"""What unit tests use in place of time and of the network."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LONG, ENDLESS = 300, 5_000
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Clock:
    """Stands in for the module `time`. Sleeping is instantaneous and remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self.naps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        """Moves the clock on."""
        with self._lock:
            self.naps.append(seconds)
            self._seconds += seconds
        assert len(self.naps) < ENDLESS, "this would wait for ever"
        if len(self.naps) > LONG:
            time.sleep(0.002)  # whoever ends the waiting from another thread gets a chance
        self.on_sleep()

    def monotonic(self) -> float:
        """Seconds; every look takes a moment."""
        with self._lock:
            self._seconds += 0.001
            return self._seconds

    def utc(self) -> str:
        """The same clock, as a server would write it."""
        return at(self.monotonic())


def reply(status: int = 200, body: object = None, **headers: str) -> httpx.Response:
    """An answer with a JSON body; underscores in the names of headers are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        return httpx.Response(status, headers=named)
    return httpx.Response(status, json=body, headers=named)


def one_machine(machines: Sequence[Mapping[str, Any]], machine_id: str) -> httpx.Response:
    """Fly's answer about one of these machines."""
    found = [each for each in machines if each["id"] == machine_id]
    return reply(200, found[0]) if found else reply(404, {"error": f"machine not found: {machine_id}"})


class Wire:
    """Records requests and answers them: in turn from `answers`, else by `serve`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: list[httpx.Request] = []
        self.answers: list[Answer] = []
        self.serve: Callable[[httpx.Request], httpx.Response] | None = None
        self.unexpected: list[str] = []

    def will(self, *answers: Answer) -> None:
        """Queues answers."""
        self.answers.extend(answers)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """What the transport calls."""
        request.read()
        with self._lock:
            self.requests.append(request)
            assert len(self.requests) < ENDLESS, "this would ask for ever"
            answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        if answer is not None:
            return answer(request)
        if self.serve is None:
            self.unexpected.append(f"{request.method} {request.url}")
            return reply(418, {"message": "nothing is served here"})
        return self.serve(request)

    @property
    def last(self) -> httpx.Request:
        """The newest request."""
        return self.requests[-1]

    @property
    def lines(self) -> list[str]:
        """The requests as `METHOD path`."""
        return [f"{request.method} {request.url.path}" for request in self.requests]


def at(seconds: float) -> str:
    """So many seconds after the start, as a server would write it."""
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def booted(seconds: float = 0, kind: str = "update") -> list[dict[str, Any]]:
    """The events of a machine that was configured so many seconds after the start, as Fly lists them."""
    moment = START + timedelta(seconds=seconds)
    return [{"id": f"{kind} {seconds:g}", "type": kind, "timestamp": round(moment.timestamp() * 1000)}]


def body_of(request: httpx.Request) -> Any:  # noqa: ANN401 - JSON
    """The JSON body of a request, None where it has none."""
    return json.loads(request.content) if request.content else None


def shared_folder() -> Path:
    """Where the code under test keeps the files that processes share, in this test's own folder."""
    return Path(tempfile.gettempdir()) / f"molecule-secrets-{os.getuid()}"


def shared_file() -> Path:
    """The only one of them."""
    (found,) = shared_folder().iterdir()
    return found


def begin_together(processes: Iterable[subprocess.Popen[str]]) -> list[str]:
    """Lets processes go on once each has printed `ready`, and returns what each prints from then on."""
    processes = list(processes)
    for each in processes:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    printed = [each.communicate()[0] for each in processes]
    assert [each.returncode for each in processes] == [0] * len(processes)
    return printed
