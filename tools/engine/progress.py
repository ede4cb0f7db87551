"""Progress that a person can follow: which step, and for how long already."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

HEARTBEAT_SECONDS = 30.0
"""How often a log, which has no live line, says that a step is still under way."""

GRACE_SECONDS = 5.0
"""How long a process group that was asked to end may take before it is killed."""

_POLL_SECONDS = 0.2


def elapsed_text(seconds: float) -> str:
    """Return a duration as `7s` or `1m12s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


@dataclass(kw_only=True)
class Progress:
    """Reports steps: a live line on a terminal, else a line at the start, every half minute and at the end."""

    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    _done: int = 0

    @contextlib.contextmanager
    def step(self, text: str, expectation: str = "") -> Iterator[Callable[[], None]]:
        """Report one step.

        Args:
            text: What is done, as in "building the Pulumi CLI".
            expectation: How long that may take, as in "about 3 min".

        Yields:
            A function to call every now and then, which keeps the report alive.
        """
        self._done += 1
        label = f"[{self._done}/{self.total}] {text}"
        opening = f"{label} ({expectation}) ..." if expectation else f"{label} ..."
        live = self.stream.isatty()
        started = spoken = time.monotonic()
        self._write(opening if live else f"{opening}\n")

        def alive() -> None:
            nonlocal spoken
            now = time.monotonic()
            if live and now - spoken >= 1:
                self._write(f"\r{opening} {elapsed_text(now - started)}")
            elif not live and now - spoken >= self.heartbeat_seconds:
                self._write(f"{label}: still at it after {elapsed_text(now - started)}\n")
            else:
                return
            spoken = now

        def close(result: str) -> None:
            took = elapsed_text(time.monotonic() - started)
            self._write(f"\r{opening} {took}, {result}\n" if live else f"{label}: {result} after {took}\n")

        try:
            yield alive
        except BaseException as error:
            close("failed" if isinstance(error, Exception) else "interrupted")
            raise
        close("done")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def run_logged(
    argv: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    log: Path,
    alive: Callable[[], None],
) -> int:
    """Run a process in a process group of its own, with its output appended to a log.

    Whatever ends this function early, an interrupt included, ends that whole group first.

    Args:
        argv: The command.
        directory: Where to run it.
        environment: Its whole environment.
        log: The file that takes stdout and stderr.
        alive: Called several times a second.

    Returns:
        The exit status.

    Raises:
        OSError: The command cannot be started.
    """
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(argv)}\n".encode())
        sink.flush()
        process: subprocess.Popen[bytes] | None = None
        try:
            # A signal that came while the process is being started would end this without anybody knowing what to end.
            with _signals_later():
                process = subprocess.Popen(
                    argv,
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    process_group=0,
                )
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=_POLL_SECONDS)
                alive()
        except BaseException:
            if process is not None:
                _end_group(process)
            raise


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Keeps the signals that a handler of Python waits for until the end of the block, and hands them over there.

    Not with a signal mask: the process that is started would inherit it.
    """
    handlers = {each: handler for each in signal.valid_signals() if callable(handler := signal.getsignal(each))}
    came: list[tuple[int, FrameType | None]] = []
    for each in handlers:
        signal.signal(each, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    for number, frame in came[:1]:
        handlers[signal.Signals(number)](number, frame)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # `go build` runs compilers and linkers of its own, so the signals go to the group.
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
