"""The value of no token is found in the state folder, logs, process lists or captured output."""

import json
import re
import threading
from pathlib import Path

import psutil

from tests.engine.stage import SECRET, Stage
from tools.workspace import STACK


class _ProcessList(threading.Thread):
    """Collects the command lines of all processes until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.command_lines: set[str] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.command_lines.add(" ".join(process.info["cmdline"] or []))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def test_no_value_appears_anywhere(stage: Stage) -> None:
    printed: list[str] = []
    values: set[str] = set()
    processes = _ProcessList()
    processes.start()
    try:
        printed.append(stage.deploys("--logtostderr", "-v=5"))
        values |= _values(stage)
        stage.set_generation(SECRET, 2)
        printed.append(stage.preview("--diff").output)
        printed.append(stage.preview("--json").output)
        stage.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
        printed.append(stage.fails())
        stage.sandbox("set", "github.workflow_broken=")
        printed.append(stage.deploys("--diff"))
        printed.append(stage.must("stack", "export", "--stack", STACK))
        printed.append(json.dumps(stage.outputs()))
        printed.append(stage.must("stack", "history", "--stack", STACK))
    finally:
        processes.stop()

    values |= _values(stage)
    assert len(values) >= 2, "generation 1 and 2"
    haystacks = {
        **{f"output {number}": text for number, text in enumerate(printed)},
        "process list": "\n".join(processes.command_lines),
        **_files(stage.sandbox_directory),
        **_files(stage.directory / "pulumi-home"),
        **_files(stage.program_directory / "stacks"),
    }
    assert any("components.verification" in line for line in processes.command_lines), (
        "checks were seen in the process list"
    )
    assert any(name.endswith(f"{STACK}.json") for name in haystacks), "the state was searched"
    for place, text in haystacks.items():
        for value in values:
            assert value not in text, f"a token is in plaintext in {place}"


def _values(stage: Stage) -> set[str]:
    """The secret part of every token in the present state, decrypted."""
    text = stage.must("stack", "export", "--show-secrets", "--stack", STACK)
    return set(re.findall(r"fm2_[A-Za-z0-9+/=_-]{20,}", text))


def _files(directory: Path) -> dict[str, str]:
    return {
        str(path): path.read_text(errors="replace")
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and "plugins" not in path.relative_to(directory).parts
    }
