"""Does nothing outlive a harness of the fault matrix that was killed?"""

import subprocess
import sys
from pathlib import Path

from tools.workspace import CHECKOUT


def test_what_carries_the_folder_of_a_worker_is_ended_and_nothing_else(tmp_path: Path) -> None:
    def sleeper(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], env={"SANDBOX_DIR": str(folder)})

    ours, others = sleeper(tmp_path / "w0" / "sandbox"), sleeper(tmp_path / "elsewhere")
    guardian = subprocess.Popen(
        [sys.executable, "-m", "tools.faults.guardian", str(tmp_path)], cwd=CHECKOUT, stdin=subprocess.PIPE
    )
    try:
        assert ours.poll() is None
        guardian.communicate(timeout=30)  # closes the pipe, as the end of the harness does
        assert guardian.returncode == 0
        assert ours.wait(timeout=60) < 0
        assert others.poll() is None
    finally:
        for process in (ours, others, guardian):
            process.kill()
            process.wait()
