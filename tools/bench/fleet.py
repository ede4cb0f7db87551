"""What a fleet costs: the same rotation of FLY_API_TOKEN on one stack and on many, by `python -m tools.fleet`, on one sandbox.

Every stack has an environment of its own at the providers, and every size has stacks of its own, of which nothing is deployed: what is
measured takes over from the hand-made token (preview, mint, probe, deliver, restart, verify). In the largest fleet three stacks fail: they have
to be named, and the rest has to be done.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tools.bench.parameters import Parameters
from tools.fleet.selection import AFTER, config_file
from tools.workspace import CHECKOUT, FailedError, Workspace, workspace

SECRET = "FLY_API_TOKEN"  # noqa: S105 - a name
SAMPLES = 0.25  # seconds between two looks at the memory
TIMEOUT = 6 * 3600  # seconds


@contextmanager
def fleet_of(
    directory: Path,
    names: Sequence[str],
    *,
    after: Mapping[str, str],
    light: bool = True,
    more: Sequence[str] = (),
) -> Iterator[Workspace]:
    """A sandbox with these environments, and a stack for each, of which nothing is deployed.

    Args:
        directory: New or empty.
        names: Of environments and stacks.
        after: The stack that goes before, by stack.
        light: Whether the environments are cheap ones (`sandbox/environments.py`).
        more: Options of the sandbox.
    """
    options = [*more, "--environment", ",".join(names), *(["--light"] if light else [])]
    with workspace(directory, *options) as made:
        # A clone has the tools beside the program.
        shutil.copytree(
            CHECKOUT / "tools", made.program_directory / "tools", ignore=shutil.ignore_patterns("engine", "__pycache__")
        )
        shutil.copytree(
            CHECKOUT / "tools" / "engine",
            made.program_directory / "tools" / "engine",
            ignore=shutil.ignore_patterns("plugins"),
        )
        made.sandbox("stacks", "--to", str(made.program_directory / "stacks"), "--rotate", SECRET)
        for name, earlier in after.items():
            put_after(made, name, earlier)
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda name: made.must("stack", "init", name, "--no-select"), names))
        yield made


def put_after(made: Workspace, name: str, earlier: str) -> None:
    """Has a stack go after another one from now on."""
    file = config_file(made.program_directory, name)
    lines = file.read_text().splitlines()
    lines.insert(lines.index("config:") + 1, f"  {AFTER}: {earlier}")
    file.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a run of the fleet ended, and what it took.

    Attributes:
        status: Its exit status.
        output: What it printed for people.
        outcome: What it printed for programs.
        seconds: From start to end.
        own: Peak memory of the command itself, in bytes.
        together: Peak memory of it and everything it started.
        one: Peak memory of what it started, for one stack.
    """

    status: int
    output: str
    outcome: Mapping[str, Any]
    seconds: float
    own: int
    together: int
    one: float


def rotate(
    made: Workspace,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    heard: Callable[[str, int], None] | None = None,
) -> Ran:
    """Runs `python -m tools.fleet rotate FLY_API_TOKEN …` in the workspace, and looks at its memory meanwhile.

    Args:
        made: The workspace.
        arguments: More of the command line.
        environment: More variables.
        heard: Is told every line that it prints for people, and its process.
    """
    argv = [sys.executable, "-m", "tools.fleet", "rotate", SECRET, "--json", *arguments]
    said: list[str] = []
    began = time.monotonic()
    with subprocess.Popen(
        argv,
        cwd=made.program_directory,
        env={**made.environment, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101
        errors = process.stderr

        def listen() -> None:
            for line in errors:
                said.append(line)
                if heard is not None:
                    heard(line, process.pid)

        listener = threading.Thread(target=listen)
        listener.start()
        memory = _Memory(process.pid)
        watcher = threading.Thread(target=memory.watch)
        watcher.start()
        answer = process.stdout.read()
        status = process.wait(timeout=TIMEOUT)
        listener.join()
        watcher.join()
    return Ran(
        status=status,
        output="".join(said),
        outcome=json.loads(answer) if answer.strip() else {},
        seconds=time.monotonic() - began,
        own=memory.own,
        together=memory.together,
        one=memory.one,
    )


class _Memory:
    """The peaks of a process and of all that it started, as far as they are seen at every look."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.own = self.together = 0
        self.one = 0.0

    def watch(self) -> None:
        """Until the process is over."""
        while True:
            try:
                own = self._process.memory_info().rss
                children = self._process.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            if own == 0:
                return  # over, and nobody has asked for its status yet
            sizes: list[int] = []
            engines = 0
            for child in children:
                try:
                    sizes.append(child.memory_info().rss)
                    engines += child.name() == "pulumi"
                except psutil.Error:
                    continue
            self.own = max(self.own, own)
            self.together = max(self.together, own + sum(sizes))
            if engines:
                self.one = max(self.one, sum(sizes) / engines)
            time.sleep(SAMPLES)


def measure(
    directory: Path,
    *,
    sizes: Sequence[int],
    parallel: int,
    failing: int,
    parameters: Parameters,
    tell: Callable[[str], None],
) -> dict[int, Ran]:
    """Rotates fleets of these sizes, one after another.

    Args:
        directory: New or empty.
        sizes: Numbers of stacks, the largest one last.
        parallel: How many engines run at once.
        failing: How many stacks of the largest fleet fail.
        parameters: Of the sandbox.
        tell: Is told how far it is.

    Returns:
        By size.

    Raises:
        FailedError: A run did not end as it has to.
    """
    fleets = {size: [f"fleet{size}-{number:03}" for number in range(1, size + 1)] for size in sizes}
    largest = fleets[sizes[-1]]
    chosen = broken(largest, failing)
    every = [name for names in fleets.values() for name in names]
    with fleet_of(directory, every, after={}, more=parameters.options) as made:
        made.sandbox("set", f"github.build_seconds={parameters.workflow}")
        tell(f"{sum(map(len, fleets.values()))} environments and stacks are made")
        found: dict[int, Ran] = {}
        for size, names in fleets.items():
            if names is largest:
                for name in chosen:
                    break_delivery(made, name)
            ran = rotate(made, "--stacks", *names, "--yes", "--keep-going", "--parallel", str(parallel))
            states = {name: result["state"] for name, result in ran.outcome.get("stacks", {}).items()}
            expected = {name: "failed" if names is largest and name in chosen else "verified" for name in names}
            if states != expected:
                raise FailedError(f"{size} stacks: exit status {ran.status}\n{ran.output}")
            found[size] = ran
            tell(f"{size} stacks: {ran.seconds:.0f} s, command {ran.own / 1e6:.0f} MB, all {ran.together / 1e6:.0f} MB")
        return found


def broken(names: Sequence[str], count: int) -> list[str]:
    """So many of the stacks, from all over."""
    return [names[(2 * number + 1) * len(names) // (2 * count)] for number in range(count)]


def break_delivery(made: Workspace, name: str) -> None:
    """From now on GitHub refuses to have the secret of this environment's repository written."""
    config = yaml.safe_load(config_file(made.program_directory, name).read_text())["config"]
    path = f"/repos/{config['github:owner']}/{config['molecule-secrets:repository']}/actions/secrets/{SECRET}"
    made.sandbox(
        "fault",
        "--provider",
        "github",
        "--match",
        "PUT",
        f"{path}$",
        "--nth",
        "1",
        "--count",
        "1000",
        "--status",
        "403",
    )
