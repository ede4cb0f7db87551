"""Small files that all processes of one user on one machine have in common, each held by one of them at a time. Nothing secret is in them.

They are in a folder that nobody else can read or write. `flock` guards them: the kernel gives a lock back when a process dies. Whoever uses
them can do without: where there can be no such file (Windows, no room, a folder that is not ours), each process goes on alone.
"""

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNUSED: Final = 24 * 3600.0  # seconds after which a file that nobody has written to goes


def name_of(text: str) -> str:
    """A name that tells nothing of the text it is for."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def held(name: str, *, patience: float, every: float) -> Iterator[BinaryIO]:
    """A file, for reading and writing, which no other process and no other thread has meanwhile. An empty one where there was none.

    Args:
        name: As `name_of` makes it.
        patience: Seconds to wait for whoever has it.
        every: Seconds between two looks.

    Raises:
        OSError: There can be no such file, or somebody else has kept it.
    """
    path = _directory() / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        _lock(descriptor, patience, every)
        found = os.fstat(descriptor)
        if not found.st_size:
            _forget_unused(path.parent, before=found.st_mtime - UNUSED)
        yield file


def rewrite(file: BinaryIO, content: bytes) -> None:
    """Replaces what a held file contains. Raises OSError."""
    file.seek(0)
    file.truncate()
    file.write(content)
    file.flush()


def _directory() -> Path:
    """The folder of the files, which nobody else can read or write. Raises OSError."""
    if fcntl is None:
        raise OSError("there is no flock here")
    path = Path(tempfile.gettempdir()) / f"molecule-secrets-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OSError(f"{path} is not a folder of this user alone")
    return path


def _lock(descriptor: int, patience: float, every: float) -> None:
    """Takes the lock, which goes with the descriptor. Raises OSError."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(every)
        else:
            return


def _forget_unused(directory: Path, *, before: float) -> None:
    """Removes files that nobody has written to since then: every sandbox has other addresses, and every token other answers."""
    with suppress(OSError):
        for each in directory.iterdir():
            if each.stat().st_mtime < before:
                each.unlink(missing_ok=True)
