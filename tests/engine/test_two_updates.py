"""Two operators on one stack of the file backend at once: a lock, and what happens to those who cancel a run that is alive."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil

from tests.engine.stage import SECRET, Stage, one_line
from tools.workspace import STACK

UP = ("pulumi", "--color", "never", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", STACK)
PATIENCE = 120  # seconds


def test_two_at_once(deployed: Stage) -> None:
    deployed.set_generation(SECRET, 2)
    with _halted_once_it_has_minted(deployed) as first:
        writes = deployed.writes()
        refused = one_line(deployed.fails())
        assert "the stack is currently locked by 1 lock(s)" in refused
        assert f"(pid {first.pid})" in refused
        assert "Traceback" not in refused
        assert deployed.writes() == writes
    assert first.wait(PATIENCE) == 0
    deployed.assert_settled(2)
    assert deployed.minted() == 2

    # What the README forbids: two runs that know nothing of each other. Here the first one has minted, and not delivered.
    deployed.set_generation(SECRET, 3)
    with _halted_once_it_has_minted(deployed) as first:
        deployed.must("cancel", "--yes", "--stack", STACK)
        deployed.deploys()
    first.wait(PATIENCE)
    deployed.deploys()
    deployed.assert_settled(3)
    deployed.assert_no_change()
    assert deployed.inspect()["violations"] == []


@contextlib.contextmanager
def _halted_once_it_has_minted(stage: Stage) -> Iterator["subprocess.Popen[bytes]"]:
    """`pulumi up`, every process of which stands still from the moment at which it has minted until the end of the block."""
    minted = stage.minted()
    log = stage.directory / "first.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            UP, cwd=stage.program_directory, env=dict(stage.environment), stdout=output, stderr=output
        )
    deadline = time.monotonic() + PATIENCE
    while stage.minted() == minted:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)
