"""Deploys the real program with the real engine against one sandbox: what the rehearsal and the engine tests have in common.

A workspace is a copy of the program beside the sandbox's folder, so that bumping a counter changes no file of the checkout.
"""

import compileall
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PROGRAM = ("Pulumi.yaml", "__main__.py", "components", "stacks", "requirements.txt", "constraints.txt")
STACK = "sandbox"
UNWANTED = "PYTHONDONTWRITEBYTECODE"
"""Some containers set it: then each of the many processes of Python compiles all of our code again."""


PORT_TAKEN = "is taken by another program"


class FailedError(Exception):
    """A command of the workspace failed; the text is what it printed."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command printed, and its exit status."""

    status: int
    output: str


def exports(text: str) -> dict[str, str]:
    """The variables of `export NAME=VALUE` lines."""
    variables: dict[str, str] = {}
    for word in shlex.split(text, comments=True):
        name, assigned, value = word.partition("=")
        if assigned:
            variables[name] = value
    return variables


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One sandbox with a copy of the program that deploys to it.

    Attributes:
        directory: Holds `sandbox` and `program`.
        environment: What `pulumi` and the sandbox's command run with.
    """

    directory: Path
    environment: Mapping[str, str]

    @property
    def sandbox_directory(self) -> Path:
        """The sandbox's own folder, `--dir`."""
        return self.directory / "sandbox"

    @property
    def state_directory(self) -> Path:
        """Where the file backend keeps the stack's state."""
        return self.sandbox_directory / "state"

    @property
    def program_directory(self) -> Path:
        """The copy of the program."""
        return self.directory / "program"

    def sandbox(self, *arguments: str, timeout: float = 120) -> str:
        """Runs `python -m sandbox …` for this sandbox and returns its output.

        Raises:
            FailedError: It failed.
        """
        command, *rest = arguments
        argv = [sys.executable, "-m", "sandbox", command, "--dir", str(self.sandbox_directory), *rest]
        result = _run(argv, CHECKOUT, dict(os.environ), timeout)
        if result.status != 0:
            raise FailedError(f"{' '.join(arguments)}: exit status {result.status}\n{result.output}")
        return result.output

    def stripe(self, action: str, *arguments: str) -> str:
        """What a person does in Stripe's Dashboard; returns the line that it shows, which may be a secret value."""
        argv = [sys.executable, "-m", "sandbox", "stripe", action, "--dir", str(self.sandbox_directory), *arguments]
        result = _run(argv, CHECKOUT, dict(os.environ), timeout=60)
        if result.status != 0:
            raise FailedError(f"stripe {action}: exit status {result.status}\n{result.output}")
        return result.output.strip()

    def inspect(self) -> dict[str, Any]:
        """The truth about the sandbox (DESIGN.md, section 6)."""
        inspected: dict[str, Any] = json.loads(self.sandbox("inspect"))
        return inspected

    def pulumi(self, *arguments: str, timeout: float = 600, environment: Mapping[str, str] | None = None) -> Result:
        """Runs the engine in the workspace; never raises for a failed update."""
        argv = ["pulumi", "--color", "never", "--non-interactive", *arguments]
        return _run(argv, self.program_directory, {**self.environment, **(environment or {})}, timeout)

    def must(self, *arguments: str, timeout: float = 600) -> str:
        """Runs the engine and returns what it printed.

        Raises:
            FailedError: It failed.
        """
        result = self.pulumi(*arguments, timeout=timeout)
        if result.status != 0:
            raise FailedError(f"pulumi {' '.join(arguments)}: exit status {result.status}\n{result.output}")
        return result.output

    def up(self, *arguments: str) -> Result:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, *arguments)

    def set_generation(self, secret: str, generation: object) -> None:
        """Sets a rotation counter."""
        self.configure(f"rotations.{secret}", str(generation), path=True)

    def configure(self, key: str, value: str, *, path: bool = False) -> None:
        """Sets a key of the stack's config."""
        self.must("config", "set", "--plaintext", "--stack", STACK, *(["--path"] if path else []), "--", key, value)

    def hand_in(self, secret: str, value: str) -> None:
        """Sets a supplied value, encrypted. It goes through standard input, never through an argument."""
        self.set_secret(f"supplied.{secret}", value)

    def set_secret(self, key: str, value: str) -> None:
        """Sets a key of the stack's config, encrypted. The value goes through standard input."""
        argv = ["pulumi", "--non-interactive", "config", "set", "--secret", "--path", key]
        result = _run([*argv, "--stack", STACK], self.program_directory, dict(self.environment), 60, stdin=value)
        if result.status != 0:
            raise FailedError(f"config set {key}: exit status {result.status}")

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        result: dict[str, Any] = json.loads(self.must("stack", "output", "--json", "--stack", STACK))
        return result


def _run(
    argv: list[str], directory: Path, environment: dict[str, str], timeout: float, *, stdin: str | None = None
) -> Result:
    completed = subprocess.run(
        argv,
        cwd=directory,
        input=stdin,
        env={name: value for name, value in environment.items() if name != UNWANTED},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Result(status=completed.returncode, output=completed.stdout)


def engine_only(directory: Path, variables: Mapping[str, str]) -> Workspace:
    """A folder for programs that need no sandbox: the engine, with an empty file backend inside it.

    Args:
        directory: New or empty.
        variables: More that the engine runs with.
    """
    home, state = directory / "pulumi-home", directory / "state"
    state.mkdir(parents=True)
    _tool(["-m", "tools.engine", "home", str(home)])
    backend = {"PULUMI_BACKEND_URL": f"file://{state}", "PULUMI_CONFIG_PASSPHRASE": "workspace"}
    return Workspace(directory=directory, environment=environment(home, {**backend, **variables}))


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """What the engine runs with: nothing of the user's own accounts.

    Args:
        home: The engine's own folder.
        variables: More of them.
    """
    engine = _tool(["-m", "tools.engine", "env"])
    path = engine.get("PATH", "").replace("$PATH", os.environ["PATH"]) or os.environ["PATH"]
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLY_", "GITHUB_", "GH_", "PULUMI_"))
        },
        **engine,
        **variables,
        "PULUMI_HOME": str(home),
        "PATH": f"{CHECKOUT / '.venv' / 'bin'}:{path}",
    }


@contextlib.contextmanager
def workspace(directory: Path, *sandbox_options: str) -> Iterator[Workspace]:
    """Starts a sandbox in `directory`, makes a stack for it, and stops the sandbox at the end; its state stays.

    Args:
        directory: New or empty.
        sandbox_options: For `python -m sandbox start`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    home = directory / "pulumi-home"
    _tool(["-m", "tools.engine", "home", str(home)])
    made = Workspace(directory=directory, environment={})
    try:
        made.sandbox("start", "--detach", *sandbox_options, timeout=900)
        variables = exports(made.sandbox("env"))
        made = Workspace(directory=directory, environment=environment(home, variables))
        copy_program(made.program_directory)
        made.must("stack", "select", "--create", STACK)
        yield made
    finally:
        made.sandbox("stop")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stopped workspace that was put aside, to be begun from as often as wanted: one at a time.

    A copy of it runs in the folder in which it was made, on the ports that it had then: so its state, which names both, is true of it.

    Attributes:
        directory: Where it was made, and where a copy runs.
        kept: Where it is kept.
        environment: That of the workspace.
    """

    directory: Path
    kept: Path
    environment: Mapping[str, str]


def put_aside(
    directory: Path,
    kept: Path,
    made: contextlib.AbstractContextManager[Workspace],
    prepare: Callable[[Workspace], None] = lambda _: None,
) -> Snapshot:
    """Prepares a workspace, stops it and puts it aside.

    Args:
        directory: The workspace's; it is gone afterwards.
        kept: New, on the same file system.
        made: The workspace, `workspace(directory)` for one.
        prepare: What is done in it first.

    Raises:
        FailedError: A command failed.
    """
    with made as running:
        prepare(running)
        environment = running.environment
    directory.rename(kept)
    return Snapshot(directory=directory, kept=kept, environment=environment)


@contextlib.contextmanager
def resumed(snapshot: Snapshot) -> Iterator[Workspace]:
    """Starts a copy of a snapshot, and stops it at the end; its folder stays, and has to be gone before the next one.

    Raises:
        FailedError: It could not be started: `PORT_TAKEN` is in the text if another program has one of its ports meanwhile.
    """
    # `shutil` takes four times as long, and keeps no owner: PostgreSQL's files belong to another user where root runs the sandbox.
    subprocess.run(["/bin/cp", "-a", str(snapshot.kept), str(snapshot.directory)], check=True)
    made = Workspace(directory=snapshot.directory, environment=snapshot.environment)
    try:
        made.sandbox("start", "--detach")
        yield made
    finally:
        made.sandbox("stop")


def another_operator(first: Workspace, directory: Path) -> Workspace:
    """A second copy of the program for the same sandbox, with an engine's folder and a home of its own.

    Args:
        first: Whose sandbox, variables and config it has.
        directory: New or empty.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sandbox").symlink_to(first.sandbox_directory)
    home, engine_home = directory / "home", directory / "pulumi-home"
    home.mkdir()
    _tool(["-m", "tools.engine", "home", str(engine_home)])
    made = Workspace(
        directory=directory,
        environment={**first.environment, "HOME": str(home), "PULUMI_HOME": str(engine_home)},
    )
    copy_program(made.program_directory)
    shutil.copytree(first.program_directory / "stacks", made.program_directory / "stacks", dirs_exist_ok=True)
    return made


def copy_program(target: Path) -> None:
    """Copies the program of this checkout; what Python has compiled of it as well: the first `pulumi up` is spared that."""
    compileall.compile_dir(CHECKOUT / "components", quiet=1)  # no more than what has changed since the last time
    target.mkdir()
    for name in PROGRAM:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        else:
            shutil.copy(source, target / name)
    (target / ".venv").symlink_to(CHECKOUT / ".venv")


def _tool(arguments: list[str]) -> dict[str, str]:
    completed = subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    )
    return exports(completed.stdout)
