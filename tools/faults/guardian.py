"""Ends what a harness left that was itself killed: `python -m tools.faults.guardian FOLDER`, which waits for its standard input to end.

The harness holds the other end of that pipe. However it ends, the pipe ends with it; then every sandbox below the folder is stopped, and
whatever carries the folder in its environment or command line is killed. After a harness that ended well there is nothing to do.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil

from tools.workspace import CHECKOUT


def main(directory: Path) -> int:
    """Waits, ends, and returns an exit status."""
    sys.stdin.buffer.read()
    for note in directory.glob("*/sandbox/sandbox.pid"):
        subprocess.run(
            [sys.executable, "-m", "sandbox", "stop", "--dir", str(note.parent)],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            check=False,
        )
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != psutil.Process().pid and any(_below(word, directory) for word in words):
                process.kill()
    return 0


def _below(word: str, directory: Path) -> bool:
    return f"{directory}/w" in word  # `w0`, `w1` …: the workers' folders, and nothing of the harness itself


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
