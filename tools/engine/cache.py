"""The cache of finished engines: one folder per key, there only when complete, built by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tools.engine.errors import EngineError
from tools.engine.progress import HEARTBEAT_SECONDS, elapsed_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUILDING = ".building-"
_POLL_SECONDS = 0.2


def default_root() -> Path:
    """Return where engines are kept: below XDG_CACHE_HOME, else below ~/.cache."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification: a relative path is invalid and to be ignored.
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "molecule-secrets" / "engine"


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Finished engines by key, in a folder outside the checkout."""

    root: Path

    def path(self, key: str) -> Path:
        """Return where the engine of this key is, once it is finished."""
        return self.root / key

    def log(self, key: str) -> Path:
        """Return where the output of the last build of this key is."""
        return self.root / f"{key}.log"

    def get_or_build(self, key: str, build: Callable[[Path], None]) -> Path:
        """Return the finished engine, and build it first where there is none.

        A folder under its final name is always complete: it is built under another one and renamed. Two at the same
        time build once: the second waits for the first and takes its result.

        Args:
            key: The key of the engine.
            build: Called with an empty folder to fill.

        Raises:
            EngineError: The cache cannot be used, or the build failed.
        """
        finished = self.path(key)
        if finished.is_dir():
            return finished
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._lock(key):
                if not finished.is_dir():
                    self._remove_stale(key)
                    self._build(key, build)
        except OSError as error:
            raise EngineError(
                f"The cache {self.root} cannot be used: {error}. Nothing was installed. It has to be writable, with 1 GB"
                " free; XDG_CACHE_HOME says where it is."
            ) from error
        return finished

    def _build(self, key: str, build: Callable[[Path], None]) -> None:
        workplace = self.root / f"{key}{_BUILDING}{os.getpid()}"
        workplace.mkdir()
        try:
            build(workplace)
            # rename is atomic, and both are in the same folder and so on the same file system.
            workplace.rename(self.path(key))
        except BaseException:
            shutil.rmtree(workplace, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        # The kernel drops the lock when its owner dies, however it dies. The file itself stays: removing it would let a
        # third process lock a new file of that name while the second still waits on the old one.
        with (self.root / f"{key}.lock").open("a+") as file:
            _wait_for_lock(file)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    def _remove_stale(self, own_key: str) -> None:
        """Remove what builders left that were killed."""
        for folder in self.root.glob(f"*{_BUILDING}*"):
            key = folder.name.partition(_BUILDING)[0]
            with (self.root / f"{key}.lock").open("a+") as file:
                # Our own lock is ours, and whoever has another one is alive and building.
                if key == own_key or _try_lock(file):
                    shutil.rmtree(folder, ignore_errors=True)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_lock(file: IO[str]) -> None:
    started = time.monotonic()
    spoken: float | None = None
    while not _try_lock(file):
        now = time.monotonic()
        if spoken is None or now - spoken >= HEARTBEAT_SECONDS:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            already = f", {elapsed_text(now - started)} so far" if spoken is not None else ""
            sys.stderr.write(f"Process {owner} is building this engine already; waiting for it{already} ...\n")
            sys.stderr.flush()
            spoken = now
        time.sleep(_POLL_SECONDS)
