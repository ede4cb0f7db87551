"""The value of no token is found in the state folder, logs, process lists or captured output."""

import json
import re
import threading
from pathlib import Path

import psutil

from tests.engine.stage import NEON, RESEND, SECRET, Stage
from tools.workspace import STACK

PREFIXES = ("fm2_", "napi_", "re_")


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


def test_no_value_appears_anywhere(whole_map: Stage) -> None:
    printed: list[str] = []
    values: set[str] = set()
    processes = _ProcessList()
    processes.start()
    try:
        printed.append(whole_map.deploys("--logtostderr", "-v=5"))
        values |= _values(whole_map)
        whole_map.set_generations(2, SECRET, NEON, RESEND)
        printed.append(whole_map.preview("--diff").output)
        printed.append(whole_map.preview("--json").output)
        whole_map.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
        printed.append(whole_map.fails())
        whole_map.sandbox("set", "github.workflow_broken=")
        printed.append(whole_map.deploys("--diff"))
        printed.append(whole_map.must("stack", "export", "--stack", STACK))
        printed.append(json.dumps(whole_map.outputs()))
        printed.append(whole_map.must("stack", "history", "--stack", STACK))
    finally:
        processes.stop()

    values |= _values(whole_map)
    for prefix in PREFIXES:
        assert sum(value.startswith(prefix) for value in values) >= 2, f"generation 1 and 2 of {prefix}"
    haystacks = {
        **{f"output {number}": text for number, text in enumerate(printed)},
        "process list": "\n".join(processes.command_lines),
        **_files(whole_map.sandbox_directory),
        **_files(whole_map.directory / "pulumi-home"),
        **_files(whole_map.program_directory / "stacks"),
    }
    assert any("components.verification" in line for line in processes.command_lines), (
        "checks were seen in the process list"
    )
    assert any(name.endswith(f"{STACK}.json") for name in haystacks), "the state was searched"
    for place, text in haystacks.items():
        for value in values:
            assert value not in text, f"a token is in plaintext in {place}"


def _values(stage: Stage) -> set[str]:
    """The secret part of every token and key in the present state, decrypted."""
    text = stage.must("stack", "export", "--show-secrets", "--stack", STACK)
    return set(re.findall(rf"(?:{'|'.join(PREFIXES)})[A-Za-z0-9+/=_-]{{20,}}", text))


def _files(directory: Path) -> dict[str, str]:
    return {
        str(path): path.read_text(errors="replace")
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and "plugins" not in path.relative_to(directory).parts
    }
