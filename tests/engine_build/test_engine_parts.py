"""The key, the versions that have to agree, and the progress report."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine_build.engine_workshop import REPOSITORY, is_running, wait_until
from tools.engine import recipe as recipe_module
from tools.engine.errors import Interrupted
from tools.engine.progress import Progress, elapsed_text, run_logged
from tools.engine.recipe import PLUGINS, SOURCES, load_recipe

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from tests.engine_build.engine_workshop import Workshop

GO_IDENTITY = {"GOVERSION": "go1.26.0", "GOOS": "linux", "GOARCH": "amd64", "CGO_ENABLED": "1"}


def key_of(sources: Path, **identity: str) -> str:
    """Return the key with these sources."""
    return load_recipe(sources).key(GO_IDENTITY | identity)


@pytest.mark.parametrize(
    "name",
    [
        "cli/go.mod",
        "cli/go.sum",
        "language-host/go.mod",
        "language-host/go.sum",
        "plugins/go.mod",
        "plugins/go.sum",
        "plugins/main.go",
        "plugins/cmd/pulumi-resource-github/schema.json",
    ],
)
def test_the_key_changes_with_every_source(workshop: Workshop, name: str) -> None:
    path = workshop.sources / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    before = key_of(workshop.sources)
    assert key_of(workshop.sources) == before
    path.write_text(f"{path.read_text()}\n// changed\n")
    assert key_of(workshop.sources) != before


def test_the_key_changes_with_a_new_or_moved_source(workshop: Workshop) -> None:
    keys = [key_of(workshop.sources)]
    (workshop.sources / "plugins" / "new.go").write_text("package main\n")
    keys.append(key_of(workshop.sources))
    # The same bytes in the same order, under another name.
    (workshop.sources / "plugins" / "new.go").rename(workshop.sources / "plugins" / "newer.go")
    keys.append(key_of(workshop.sources))
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_a_test_or_a_readme(workshop: Workshop) -> None:
    before = key_of(workshop.sources)
    (workshop.sources / "plugins" / "main_test.go").write_text("package main\n")
    (workshop.sources / "README.md").write_text("# Engine\n")
    assert key_of(workshop.sources) == before


@pytest.mark.parametrize("name", list(GO_IDENTITY))
def test_the_key_changes_with_go(workshop: Workshop, name: str) -> None:
    assert key_of(workshop.sources, **{name: "other"}) != key_of(workshop.sources)


def test_the_key_changes_with_versions_flags_and_layout(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(workshop.sources)]
    monkeypatch.setattr(recipe_module, "PLUGINS", PLUGINS | {"random": "4.99.0"})
    keys.append(key_of(workshop.sources))
    monkeypatch.setattr(recipe_module, "LAYOUT", recipe_module.LAYOUT + 1)
    keys.append(key_of(workshop.sources))
    monkeypatch.setattr(recipe_module.GoBuild, "arguments", lambda *_: ["build", "-race"])
    keys.append(key_of(workshop.sources))
    assert len(set(keys)) == len(keys)


def test_plugins_have_the_versions_of_their_sdks() -> None:
    # The engine looks for exactly the SDK's version, and would go to the network for any other.
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE))
    assert {name: pins[f"pulumi-{name}"] for name in PLUGINS} == PLUGINS
    assert pins["pulumi"] == load_recipe().cli_version


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("command", "cmd/pulumi-resource-command/main.go"),
        ("github", "internal/github/info.go"),
        ("random", "internal/random/info.go"),
    ],
)
def test_plugins_say_the_version_they_are_installed_as(name: str, file: str) -> None:
    assert f'ersion = "{PLUGINS[name]}"' in (SOURCES / "plugins" / file).read_text()


@pytest.mark.parametrize("name", ["github", "random"])
def test_committed_schemas_are_of_that_version(name: str) -> None:
    schema = json.loads((SOURCES / "plugins" / "cmd" / f"pulumi-resource-{name}" / "schema.json").read_text())
    assert (schema["name"], schema["version"]) == (name, PLUGINS[name])


def test_elapsed_text() -> None:
    assert [elapsed_text(seconds) for seconds in (0.9, 59.9, 60, 72, 3600)] == ["0s", "59s", "1m00s", "1m12s", "60m00s"]


def run_step(stream: io.StringIO, *, heartbeat_seconds: float, lasts: float) -> str:
    """Report one step that lasts a while, and return all that was written."""
    progress = Progress(total=2, stream=stream, heartbeat_seconds=heartbeat_seconds)
    with progress.step("building", "about 3 min") as alive:
        deadline = time.monotonic() + lasts
        while time.monotonic() < deadline:
            alive()
            time.sleep(0.01)
    return stream.getvalue()


def test_a_log_gets_a_line_at_the_start_now_and_then_and_at_the_end() -> None:
    lines = run_step(io.StringIO(), heartbeat_seconds=0.1, lasts=0.25).splitlines()
    assert lines == [
        "[1/2] building (about 3 min) ...",
        "[1/2] building: still at it after 0s",
        "[1/2] building: still at it after 0s",
        "[1/2] building: done after 0s",
    ]


def test_a_terminal_gets_a_live_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    opening = "[1/2] building (about 3 min) ..."
    assert run_step(Terminal(), heartbeat_seconds=60, lasts=1.1) == f"{opening}\r{opening} 1s\r{opening} 1s, done\n"


def test_a_step_that_fails_says_so() -> None:
    stream = io.StringIO()
    progress = Progress(total=1, stream=stream)
    with pytest.raises(ValueError, match="reason"), progress.step("building"):
        raise ValueError("reason")
    assert stream.getvalue().endswith("[1/1] building: failed after 0s\n")


def test_a_signal_while_a_process_is_being_started_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[int] = []

    class SlowToReturn(subprocess.Popen[bytes]):
        """Runs already when the signal comes, and nobody knows it yet: on a busy machine this takes a moment."""

        def __init__(self, argv: list[str], **options: Any) -> None:  # noqa: ANN401
            super().__init__(argv, **options)
            started.append(self.pid)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        raise Interrupted(signal_number)

    monkeypatch.setattr(subprocess, "Popen", SlowToReturn)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Interrupted):
            run_logged(
                ["/bin/sleep", "60"], directory=tmp_path, environment={}, log=tmp_path / "log", alive=lambda: None
            )
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
        monkeypatch.undo()
    wait_until(lambda: not is_running(started[0]), "the process to end")
