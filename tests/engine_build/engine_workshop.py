"""A copy of the builder with tiny inputs and a fake Go, so that its orchestration can be seen in milliseconds.

The real build is exercised by everything else that needs an engine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 90  # seconds for what takes one on an idle machine
REPOSITORY = Path(__file__).resolve().parents[2]

FAKE_GO = r"""#!/bin/sh
echo "GOFLAGS=$GOFLAGS GOTOOLCHAIN=$GOTOOLCHAIN GOWORK=$GOWORK go $*" >> "$FAKE/calls"
case $1 in
env)
    printf '{"GOVERSION": "%s", "GOOS": "linux", "GOARCH": "%s", "CGO_ENABLED": "1"}\n' \
        "${FAKE_GO_VERSION-go1.26.0}" "${FAKE_GO_ARCH-amd64}"
    exit ${FAKE_GO_ENV_STATUS-0} ;;
list)
    echo "$FAKE/sdk" ;;
build)
    if [ -e "$FAKE/block" ]; then
        # Like the compilers under `go build`: a child, which does not end because its parent does.
        sh -c 'echo $$ > "$FAKE/compiler"; sleep 60; true'
    fi
    if [ -e "$FAKE/fail" ]; then
        seq 1 100; echo "undefined: nonsense" >&2
        exit 2
    fi
    while [ "$1" != -o ]; do shift; done
    case $2 in
    */bin/pulumi) cp "$FAKE/pulumi-to-build" "$2" && chmod +x "$2" ;;
    */) for name in command github random; do echo "$name" > "$2/pulumi-resource-$name"; done ;;
    *) echo host > "$2" ;;
    esac ;;
esac
"""

FAKE_PULUMI = r"""#!/bin/sh
case "$1 $2" in
"version ") echo "${FAKE_PULUMI_VERSION-v3.256.0}" ;;
"plugin install") mkdir -p "$PULUMI_HOME/plugins/resource-$4-v$5" && cp "$7" "$PULUMI_HOME/plugins/resource-$4-v$5/" ;;
"plugin ls") echo '[{"name": "command", "version": "1.2.1"}, {"name": "github", "version": "6.15.0"},
    {"name": "random", "version": "'"${FAKE_RANDOM_VERSION-4.21.4}"'"}]' ;;
esac
"""


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(answer.stdout.strip()) and not answer.stdout.startswith("Z")


def _hear_signals() -> None:
    """Whoever runs the tests in the background ignores these, and children inherit that."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that takes a moment.

    Raises:
        AssertionError: It did not come true in PATIENCE seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


@dataclass(kw_only=True)
class Workshop:
    """A copy of tools/engine with fakes around it.

    Attributes:
        folder: Where everything is.
        environment: What the builder is run with, on top of a minimal environment.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def fake(self) -> Path:
        """The folder through which tests steer the fakes."""
        return self.folder / "fake"

    @property
    def cache(self) -> Path:
        """The folder that the engines go to."""
        return self.folder / "cache" / "molecule-secrets" / "engine"

    @property
    def sources(self) -> Path:
        """The copied tools/engine."""
        return self.folder / "checkout" / "tools" / "engine"

    def engines(self) -> list[str]:
        """The names of everything in the cache that is a folder."""
        return sorted(path.name for path in self.cache.glob("*") if path.is_dir())

    def calls(self, verb: str) -> list[str]:
        """The calls of the fake Go with this verb."""
        log = self.fake / "calls"
        return [line for line in log.read_text().splitlines() if f" go {verb}" in line] if log.exists() else []

    def add_program(self, folder: str, name: str, content: str) -> Path:
        """Put an executable script into a folder."""
        program = self.folder / folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(content)
        program.chmod(0o755)
        return program

    def full_environment(self) -> dict[str, str]:
        """The whole environment of the builder."""
        return {
            "HOME": str(self.folder / "homedir"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PATH": f"{self.folder / 'go-bin'}:/usr/bin:/bin",
            "FAKE": str(self.fake),
            **self.environment,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the builder."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.engine", *arguments],
            cwd=self.folder / "checkout",
            env=self.full_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_signals,  # noqa: PLW1509 - no threads here
        )
        self._processes.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the builder to its end."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def block(self) -> None:
        """Make the next builds hang."""
        (self.fake / "block").touch()

    def unblock(self) -> None:
        """Let builds go through from now on, and end the one that hangs."""
        (self.fake / "block").unlink()
        with suppress(ProcessLookupError):
            os.kill(self.compiler(), signal.SIGTERM)

    def compiler(self) -> int:
        """The id of the hanging build's child, waiting for it to be there."""
        file = self.fake / "compiler"
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), "the build to start")
        return int(file.read_text())

    def close(self) -> None:
        """End every process that is left."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.fake / "compiler").read_text()), signal.SIGKILL)
