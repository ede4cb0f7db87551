"""Rate limits: the arithmetic, turns of several processes and threads, and what happens where the file cannot be had."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import rate_limit, user_files
from components.fly import client as fly_client
from components.rate_limit import LONGEST_WAIT, Limit, reserve, take_turn
from components.resend import client as resend_client

from .wire import Clock, begin_together, shared_file, shared_folder

API = "https://api.machines.dev/v1"
SLOW = Limit(rate=1, burst=3)
LIMITS = [SLOW, fly_client.LIMITS[fly_client.GET_MACHINE], resend_client._limit(""), Limit(rate=2, burst=2)]
TINY = 1e-6
# Takes turns one after another and prints when each was given, without waiting for it: then a machine under load does not blur them.
TAKER = """
import sys, time
from components import rate_limit, user_files

class Clock:
    now = slept = 0.0
    def monotonic(self):
        self.now, self.slept = time.monotonic(), 0.0
        return self.now
    def sleep(self, seconds):
        self.slept = seconds

rate_limit.time = user_files.time = clock = Clock()
api, call, rate, burst, count = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count):
    rate_limit.take_turn(api, call, rate_limit.Limit(rate=rate, burst=burst))
    print(clock.now + clock.slept)
"""


def at_once(limit: Limit) -> float:
    return max(1.0, limit.burst - limit.rate)


def assert_kept(turns: Sequence[float], limit: Limit) -> None:
    """However the turns are cut out, there are no more of them than the limit allows."""
    for (first, start), (last, end) in combinations(enumerate(sorted(turns)), 2):
        assert last - first + 1 <= at_once(limit) + limit.rate * (end - start) + TINY, (start, end)


def waits(clock: Clock, action: Callable[[], object]) -> float:
    """Seconds that it slept."""
    before = len(clock.naps)
    action()
    return sum(clock.naps[before:])


# -- the arithmetic


@given(limit=st.sampled_from(LIMITS), pauses=st.lists(st.floats(0, 3) | st.just(0.0), min_size=1, max_size=40))
def test_no_second_has_more_calls_than_the_burst(limit: Limit, pauses: list[float]) -> None:
    now, due, turns = 1000.0, 1000.0, []
    for pause in pauses:
        now += pause
        wait, due = reserve(due, now=now, limit=limit)
        turns.append(now + wait)
        if wait >= LONGEST_WAIT:
            return

    assert_kept(turns, limit)
    for start in turns:
        assert sum(start <= turn < start + 1 - TINY for turn in turns) <= limit.burst


@given(limit=st.sampled_from(LIMITS), now=st.floats(0, 1e9), due=st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_the_turn_before_left_the_wait_is_bounded(limit: Limit, now: float, due: float) -> None:
    wait, following = reserve(due, now=now, limit=limit)

    assert 0 <= wait <= LONGEST_WAIT
    assert now < following <= now + LONGEST_WAIT + limit.ahead + 1 / limit.rate + TINY


@given(limit=st.sampled_from(LIMITS), calls=st.integers(1, 200))
def test_turns_are_not_slower_than_the_rate(limit: Limit, calls: int) -> None:
    due, turns = 5.0, []
    for _ in range(calls):
        wait, due = reserve(due, now=5.0, limit=limit)
        turns.append(wait)

    assert turns == sorted(turns)
    assert turns[-1] <= max(0, calls - at_once(limit)) / limit.rate + TINY


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (SLOW, [0, 0, 1, 2, 3]),
        (fly_client.LIMITS[fly_client.GET_MACHINE], [0, 0, 0, 0, 0, 0.2, 0.4]),
        (Limit(rate=2, burst=2), [0, 0.5, 1, 1.5]),
    ],
)
def test_turns_of_calls_that_come_together(limit: Limit, expected: list[float]) -> None:
    due, turns = 0.0, []
    for _ in expected:
        wait, due = reserve(due, now=7.0, limit=limit)
        turns.append(wait)

    assert turns == pytest.approx(expected)


def test_a_time_of_another_boot_is_not_believed() -> None:
    assert reserve(1e6, now=12.0, limit=SLOW) == reserve(12.0, now=12.0, limit=SLOW) == (0, 13)


# -- turns


@pytest.mark.parametrize("shared", [True, False])
def test_calls_of_another_kind_or_api_do_not_wait_for_each_other(
    turns: Clock, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    if not shared:
        monkeypatch.setattr(user_files, "fcntl", None)

    def twice(api: str, call: str) -> None:
        take_turn(api, call, SLOW)
        take_turn(api, call, SLOW)

    assert waits(turns, lambda: twice(API, "list machines cp")) == 0
    assert waits(turns, lambda: twice(API, "list machines tenant")) == 0
    assert waits(turns, lambda: twice(API, "list secrets cp")) == 0
    assert waits(turns, lambda: twice("http://127.0.0.1:8000/v1", "list machines cp")) == 0
    assert waits(turns, lambda: take_turn(API, "list machines cp", SLOW)) > 0.9


def test_processes_take_turns(tmp_path: Path) -> None:
    limit, processes, calls = Limit(rate=50, burst=60), 4, 40
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, API, "list machines cp", str(limit.rate), str(limit.burst), str(calls)],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    turns = [float(line) for printed in begin_together(takers) for line in printed.split()]

    assert len(turns) == processes * calls
    assert_kept(turns, limit)


class StandingClock:
    """Time at a moment that does not pass; how long each thread would sleep."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return 100.0

    def sleep(self, seconds: float) -> None:
        """Does not."""
        self.naps.append(seconds)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> None:
    def slowly(due: float, *, now: float, limit: Limit) -> tuple[float, float]:
        time.sleep(0.0005)  # another thread comes in between, unless it has to wait
        return reserve(due, now=now, limit=limit)

    limit, calls, clock = Limit(rate=50, burst=60), 100, StandingClock()
    for module in (rate_limit, user_files):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(rate_limit, "reserve", slowly)
    if not shared:
        monkeypatch.setattr(user_files, "fcntl", None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: take_turn(API, "list machines cp", limit), range(calls)))

    waited = [nap for nap in clock.naps if nap >= 1 / limit.rate - TINY]  # shorter ones are for the lock
    assert shared_folder().exists() is shared
    assert_kept([0.0] * (calls - len(waited)) + waited, limit)


def test_the_file_holds_no_name_and_nothing_that_is_past(turns: Clock) -> None:
    for machine in range(100):
        take_turn(API, f"update machine m{machine}", SLOW)
    turns.sleep(60)
    take_turn(API, "list machines molecule-cp", SLOW)

    (due,) = json.loads(shared_file().read_text()).values()
    assert due == pytest.approx(turns.monotonic() + 1, abs=0.1)
    assert "molecule-cp" not in shared_file().read_text()
    assert "machines.dev" not in shared_file().name
    assert (shared_folder().stat().st_mode & 0o777, shared_file().stat().st_mode & 0o777) == (0o700, 0o600)


# -- where the file is not what it should be


def paced(clock: Clock) -> None:
    """The process keeps to the limit, and nothing fails."""

    def five_times() -> None:
        for _ in range(5):
            take_turn(API, "wait m1", SLOW)

    assert waits(clock, five_times) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"KEY": "soon"}',
        b'{"KEY": null}',
        b'{"KEY": NaN}',
        b'{"KEY": 1e300}',
        b'{"KEY": 1' + b"0" * 400 + b"}",
        b"[" * 100_000,
        b"x" * 2_000_000,
    ],
)
def test_a_file_that_says_nothing_is_written_anew(turns: Clock, content: bytes) -> None:
    take_turn(API, "wait m1", SLOW)
    (key,) = json.loads(shared_file().read_text())
    shared_file().write_bytes(content.replace(b"KEY", key.encode()))

    paced(turns)

    assert list(json.loads(shared_file().read_text())) == [key]


def open_to_others() -> None:
    shared_folder().mkdir(mode=0o777)
    shared_folder().chmod(0o777)


def a_link() -> None:
    elsewhere = shared_folder().with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    shared_folder().symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [open_to_others, a_link, lambda: shared_folder().write_text("")])
def test_a_folder_that_is_not_ours_alone_is_not_used(turns: Clock, spoil: Callable[[], object]) -> None:
    spoil()

    paced(turns)

    assert shared_folder().is_file() or not list(shared_folder().iterdir())


def test_a_folder_of_somebody_else_is_not_used(turns: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)

    paced(turns)

    assert not list(shared_folder().iterdir())


def test_no_folder_at_all(turns: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no/such/folder")
    paced(turns)


def test_no_flock(turns: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "fcntl", None)
    paced(turns)


def test_a_link_in_the_place_of_the_file_is_not_followed(turns: Clock, tmp_path: Path) -> None:
    take_turn(API, "other", SLOW)
    name = shared_file()
    name.unlink()
    (tmp_path / "precious").write_text("kept")
    name.symlink_to(tmp_path / "precious")

    paced(turns)

    assert (tmp_path / "precious").read_text() == "kept"


def test_a_lock_that_is_never_given_back_does_not_hold_up(turns: Clock) -> None:
    take_turn(API, "other", SLOW)
    with shared_file().open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        # Each turn waits for the lock once more, which takes longer than the limit does.
        assert waits(turns, lambda: take_turn(API, "wait m1", SLOW)) <= rate_limit.LONGEST_LOCK + 0.1
    assert waits(turns, lambda: take_turn(API, "wait m1", SLOW)) == 0


def test_a_lock_ends_with_its_process(turns: Clock) -> None:
    take_turn(API, "other", SLOW)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)",
            str(shared_file()),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()

    paced(turns)

    assert len(json.loads(shared_file().read_text())) == 1, "in the file, not in this process alone"
