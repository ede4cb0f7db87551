"""Shared answers: never older than they may be, never another's, one question for all who wait, and no failure because of them."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from components import clock, shared_answers, user_files
from components.shared_answers import shared

from .wire import Clock, begin_together, shared_file, shared_folder

QUESTION = "https://api.machines.dev/v1 fo1_operator-token machines of molecule-cp"


class Provider:
    """Answers 1, 2, 3 …, each after a while in which others may come."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked = 0
        self.at_once = self.most_at_once = 0
        self._seconds = seconds
        self._lock = threading.Lock()

    def ask(self) -> int:
        """One more answer."""
        with self._lock:
            self.asked += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            answer = self.asked
        time.sleep(self._seconds)
        with self._lock:
            self.at_once -= 1
        return answer


@pytest.fixture(autouse=True)
def real_time(monkeypatch: pytest.MonkeyPatch, turns: Clock) -> None:
    """Whoever waits for a lock here waits for another thread."""
    del turns
    monkeypatch.setattr(user_files, "time", time)
    monkeypatch.setattr(clock, "_ahead", timedelta(0))


def change(**found: object) -> None:
    shared_file().write_text(json.dumps({**json.loads(shared_file().read_text()), **found}))


def test_an_answer_of_before_is_not_taken() -> None:
    provider = Provider()
    assert [shared(QUESTION, provider.ask) for _ in range(3)] == [1, 2, 3]


def test_an_answer_of_before_is_taken_where_it_may_be_older() -> None:
    provider = Provider()
    assert [shared(QUESTION, provider.ask, older=60) for _ in range(3)] == [1, 1, 1]
    change(began=time.monotonic() - 61, at=time.time() - 61)
    assert shared(QUESTION, provider.ask, older=60) == 2


def test_who_waits_takes_what_was_begun_after_it_came() -> None:
    provider = Provider(seconds=0.3)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(shared, QUESTION, provider.ask)
        while not provider.asked:
            time.sleep(0.001)
        # These come while the first one is asked: what it is told may be older than their need.
        others = [pool.submit(shared, QUESTION, provider.ask) for _ in range(19)]
        assert first.result() == 1
        assert {other.result() for other in others} == {2}
    assert (provider.asked, provider.most_at_once) == (2, 1)


def test_processes_share_answers(tmp_path: Path) -> None:
    asker = """
import sys, time
from pathlib import Path
from components.shared_answers import shared
def ask():
    with Path(sys.argv[2]).open("a") as asked:
        asked.write("x")
    time.sleep(0.3)
    return Path(sys.argv[2]).stat().st_size
print("ready", flush=True)
sys.stdin.readline()
print(shared(sys.argv[1], ask))
"""
    asked = tmp_path / "asked"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", asker, QUESTION, str(asked)],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    told = [int(printed) for printed in begin_together(processes)]
    assert len(asked.read_text()) == max(told) < 6


@pytest.mark.parametrize(
    "another",
    [
        QUESTION.replace("fo1_operator-token", "fo1_another-token"),
        QUESTION.replace("molecule-cp", "molecule-tenant"),
        QUESTION.replace("machines of", "secrets of"),
        QUESTION.replace("https://api.machines.dev", "http://127.0.0.1:8000"),
    ],
)
def test_another_question_has_another_answer(another: str) -> None:
    assert shared(QUESTION, lambda: "one", older=60) == "one"
    assert shared(another, lambda: "another", older=60) == "another"
    assert shared(QUESTION, lambda: "a third", older=60) == "one"


def test_nothing_tells_what_was_asked_and_nobody_else_may_read_it() -> None:
    shared(QUESTION, lambda: 1)
    assert not {"fo1_operator-token", "molecule-cp", "machines.dev"} & {
        *(shared_file().name + shared_file().read_text()).split('"')
    }
    assert "molecule" not in shared_file().name + shared_file().read_text()
    assert stat.S_IMODE(shared_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(shared_folder().stat().st_mode) == 0o700


def test_an_error_is_not_shared() -> None:
    def fail() -> int:
        raise OSError("no answer")

    provider = Provider()
    with pytest.raises(OSError, match="no answer"):
        shared(QUESTION, fail)
    assert shared(QUESTION, provider.ask) == 1
    with pytest.raises(OSError, match="no answer"):
        shared(QUESTION, fail)
    assert shared(QUESTION, provider.ask, older=60) == 1, "what was known before stays"


def test_an_answer_of_another_boot_is_not_believed() -> None:
    """The monotonic clock begins anew: what is 'younger' by it may be of yesterday."""
    provider = Provider()
    shared(QUESTION, provider.ask)
    change(at=time.time() - 86_400)
    assert shared(QUESTION, provider.ask, older=60) == 2
    change(began=time.monotonic() + 3600, at=time.time() + 3600)
    assert shared(QUESTION, provider.ask, older=60) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"1", b'{"began": 1}', b"\xff", b"[" * 100_000, b"x" * 5_000_000]
)
def test_a_file_that_says_nothing_is_written_anew(content: bytes) -> None:
    provider = Provider()
    shared(QUESTION, provider.ask)
    shared_file().write_bytes(content)
    assert shared(QUESTION, provider.ask, older=60) == 2
    assert shared(QUESTION, provider.ask, older=60) == 2


def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "fcntl", None)


def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no/such/folder")


@pytest.mark.parametrize("spoil", [no_flock, no_folder])
def test_without_a_file_everybody_asks(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    provider = Provider()
    assert [shared(QUESTION, provider.ask, older=60) for _ in range(2)] == [1, 2]


def test_who_has_waited_too_long_asks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is down costs each of many checks its own attempts, not those of all before it."""
    monkeypatch.setattr(shared_answers, "PATIENCE", 0.2)
    entered, over = threading.Event(), threading.Event()

    def hang() -> int:
        entered.set()
        over.wait()
        return 1

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared, QUESTION, hang)
        entered.wait()
        assert shared(QUESTION, lambda: 2) == 2
        over.set()
        assert first.result() == 1


def test_the_clock_of_who_asked_is_taken_over() -> None:
    """Whoever takes an answer has seen no header `Date`, but what it notes has the providers' time, too."""

    def ask() -> int:
        clock.note(format_datetime(datetime.now(UTC) - timedelta(hours=2), usegmt=True))
        return 1

    shared(QUESTION, ask)
    clock.believe(timedelta(0))
    shared(QUESTION, ask, older=60)
    assert timedelta(minutes=119) < clock.ahead() < timedelta(minutes=121)


def test_files_that_nobody_uses_any_more_go() -> None:
    shared("old", lambda: 1)
    old = shared_file()
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    shared("new", lambda: 1)
    assert not old.exists()
    assert shared_file()
