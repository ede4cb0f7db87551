"""The command plugin's life cycle through the real engine and the real SDK.

What is expected here was measured on the official plugin 1.2.1. Where that one leaks, ours has to leak too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM_ENVIRONMENT = REPOSITORY / ".venv"

PROGRAM = """
import json
import pathlib

import pulumi
from pulumi_command import local

arguments = json.loads(pathlib.Path("command.json").read_text())
secret = arguments.pop("secret")
for name in secret:
    arguments[name] = pulumi.Output.secret(arguments[name])
local.Command("command", **arguments)
"""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack with one command resource, the project of it in a directory."""

    directory: Path
    environment: dict[str, str]

    def describe(self, *, secret: tuple[str, ...] = (), **arguments: object) -> None:
        """Say what the resource's arguments are from now on, and which of them are secret."""
        (self.directory / "command.json").write_text(json.dumps({"secret": secret, **arguments}))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the CLI."""
        return subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run the CLI and return what it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == status, output
        return output

    def up(self, *, status: int = 0) -> str:
        """Deploy."""
        return self.run("up", "--yes", "--skip-preview", status=status)

    def resource(self) -> dict[str, Any]:
        """The resource as it is in the state, with secrets encrypted."""
        resources = json.loads(self.run("stack", "export"))["deployment"].get("resources", [])
        found = [resource for resource in resources if resource["type"] == "command:local:Command"]
        return found[0] if found else {}


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    assert PROGRAM_ENVIRONMENT.is_dir(), f"there is no {PROGRAM_ENVIRONMENT.name} with the program's requirements"
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-m", "tools.engine", "home", str(home)], cwd=REPOSITORY, check=True)
    lines = subprocess.run(
        ["sh", "-c", 'lines=$("$0" -m tools.engine env) && eval "$lines" && printf %s "$PATH"', sys.executable],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "backend").mkdir()
    (project / "Pulumi.yaml").write_text("name: command\nruntime: python\n")
    (project / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    stack = Stack(
        directory=project,
        environment={
            **os.environ,
            # The language host takes the first python on PATH.
            "PATH": f"{PROGRAM_ENVIRONMENT / 'bin'}:{lines.stdout}",
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        },
    )
    stack.run("stack", "init", "test")
    return stack


def test_create_update_replace_and_delete(stack: Stack) -> None:
    log = stack.directory / "log"
    arguments: dict[str, Any] = {
        "create": f"echo create $VERSION after $PULUMI_COMMAND_STDOUT | tee -a {log}",
        "update": f"echo update $VERSION after $PULUMI_COMMAND_STDOUT | tee -a {log}",
        "delete": f"echo delete $VERSION after $PULUMI_COMMAND_STDOUT >> {log}",
    }
    stack.describe(**arguments, environment={"VERSION": "1"}, triggers=["one"])
    stack.up()
    assert stack.resource()["outputs"]["stdout"] == "create 1 after"

    stack.describe(**arguments, environment={"VERSION": "2"}, triggers=["one"])
    stack.up()
    assert stack.resource()["outputs"]["stdout"] == "update 2 after create 1 after"

    # A trigger replaces, although there is an update command: the SDK's documentation says otherwise and is wrong.
    stack.describe(**arguments, environment={"VERSION": "2"}, triggers=["two"])
    stack.up()
    stack.run("destroy", "--yes", "--skip-preview")
    assert log.read_text().splitlines() == [
        "create 1 after",
        "update 2 after create 1 after",
        "create 2 after",
        "delete 2 after update 2 after create 1 after",
        "delete 2 after create 2 after",
    ]
    assert stack.resource() == {}


def test_outputs_are_plaintext_in_state_though_inputs_are_secret(stack: Stack) -> None:
    stack.describe(
        create="echo $TOKEN; cat >&2",
        environment={"TOKEN": "from-the-environment"},
        stdin="from-stdin",
        logging="none",
        secret=("environment", "stdin"),
    )
    stack.up()
    resource = stack.resource()
    assert resource["outputs"]["stdout"] == "from-the-environment"
    assert resource["outputs"]["stderr"] == "from-stdin"
    assert "ciphertext" in resource["inputs"]["environment"]
    assert "ciphertext" in resource["outputs"]["stdin"]
    assert set(resource["inputs"]) == {"create", "environment", "stdin", "logging"}, (
        "a default was written into the inputs"
    )


def test_a_failure_shows_command_line_and_output_and_leaves_nothing(stack: Stack) -> None:
    stack.describe(create='echo "to stdout"; echo $TOKEN >&2; exit 3', environment={"TOKEN": "hunter2"}, logging="none")
    output = stack.up(status=1)
    assert 'exit status 3: running "echo \\"to stdout\\"; echo $TOKEN >&2; exit 3":' in output
    assert "to stdout\n" in output
    assert "hunter2\n" in output
    assert stack.resource() == {}


def test_output_is_shown_unmasked_unless_logging_is_off(stack: Stack) -> None:
    stack.describe(create="echo $TOKEN", environment={"TOKEN": "hunter2"}, secret=("environment",))
    assert "hunter2" in stack.up()
    stack.describe(
        create="echo again $TOKEN", environment={"TOKEN": "hunter2"}, secret=("environment",), logging="none"
    )
    assert "hunter2" not in stack.up()


def test_assets_and_archive_are_what_the_last_run_found(stack: Stack) -> None:
    paths: dict[str, Any] = {"asset_paths": ["file"], "archive_paths": ["file"]}
    stack.describe(create="echo content > file", **paths)
    stack.up()
    first = stack.resource()["outputs"]
    assert first["assets"]["file"]["path"] == str(stack.directory / "file")
    assert list(first["archive"]["assets"]) == ["file"]
    stack.describe(create="echo other > file", **paths)
    stack.up()
    second = stack.resource()["outputs"]
    assert second["assets"]["file"]["hash"] != first["assets"]["file"]["hash"]
    stack.describe(delete="true")
    stack.up()
    assert "assets" not in stack.resource()["outputs"]
    stack.run("destroy", "--yes", "--skip-preview")


def test_ctrl_c_kills_the_children_of_the_command(stack: Stack) -> None:
    pid_file = stack.directory / "pid"
    stack.describe(create=f'sh -c \'trap "" TERM INT; sh -c "echo \\$\\$ > {pid_file}; sleep 60"; true\'; true')
    process = stack.start("up", "--yes", "--skip-preview")
    deadline = time.monotonic() + 180
    while not (pid_file.is_file() and pid_file.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the command did not start"
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=180)
    assert process.returncode != 0
    assert "signal: killed" in output
    while is_running(int(pid_file.read_text())):
        assert time.monotonic() < deadline, "the command's child is still running"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() != "" and not answer.stdout.startswith("Z")
