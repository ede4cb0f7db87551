"""Two operators on one stack of the file backend at once: a lock, and what happens to those who cancel a run that is alive."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil

from tests.engine.stage import FAMILY, SECRET, Stage, one_line
from tools.workspace import STACK

UP = ("pulumi", "--color", "never", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", STACK)
PATIENCE = 120  # seconds


def test_the_second_is_told_who_holds_the_lock_and_mints_nothing(deployed: Stage) -> None:
    deployed.set_generation(SECRET, 2)
    with _halted_once_it_has_minted(deployed) as first:
        writes = deployed.writes()
        refused = one_line(deployed.fails())
        assert "the stack is currently locked by 1 lock(s)" in refused
        assert f"(pid {first.pid})" in refused
        assert "pulumi cancel" in refused
        assert "Traceback" not in refused
        assert deployed.writes() == writes
    assert first.wait(PATIENCE) == 0
    deployed.assert_settled(2)
    assert deployed.minted() == 2
    assert deployed.inspect()["violations"] == []


def test_who_cancels_a_run_that_is_alive_breaks_nothing_that_an_update_does_not_mend(deployed: Stage) -> None:
    deployed.set_generation(SECRET, 2)
    with _halted_once_it_has_minted(deployed) as first:
        deployed.must("cancel", "--yes", "--stack", STACK)
        second = deployed.up()
        assert deployed.inspect()["breakages"] == []
    first.wait(PATIENCE)

    assert second.status == 0, second.output
    deployed.deploys()
    held = deployed.generation_held()
    assert set(held.values()) == {2}, held
    assert deployed.live() == [f"{FAMILY}-g2"]
    assert deployed.credential(f"{FAMILY}-g2")["live"]
    deployed.assert_no_change()


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
