"""A sandbox and its stack as they are before a rotation, kept once for each scenario; every cell begins with a copy of it.

A snapshot is the folder of a workspace whose sandbox was stopped in order: the sandbox with the data of PostgreSQL and Redis, the stack's
state and config, the program, PULUMI_HOME. Then the same rotation is made undisturbed once: what it asks for are the rows of the
matrix, and what it leaves is what every disturbed one has to leave.

A copy has the paths and ports of the original, which are in its config and values. So there is one copy of a scenario at a time; scenarios
have ports of their own. A snapshot is taken anew when anything that it is made of has changed.

`python -m tools.faults.snapshots FOLDER SCENARIO` takes one; `SANDBOX_PORTS` is the range of its ports.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.world import PORTS, PORTS_VARIABLE, World
from tools.faults import trial
from tools.faults.bench import ENDING, PATIENCE, SANDBOX_OPTIONS, Bench, EndedError, bench
from tools.faults.recording import Phase, Position, positions, requests
from tools.faults.scenarios import SCENARIOS, Scenario
from tools.workspace import CHECKOUT, PROGRAM, FailedError, Workspace

# What runs in a sandbox, and what leads to its state; not what is done to it afterwards.
MADE_OF = (
    *PROGRAM,
    "sandbox",
    "tools/engine",
    "tools/workspace.py",
    *(f"tools/faults/{name}.py" for name in ("bench", "recording", "scenarios", "snapshots")),
)
STARTS = 3  # tries: a port of a stopped sandbox may be another program's for a moment


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A scenario that can be copied, and what an undisturbed rotation of it is like.

    Attributes:
        scenario: Which.
        root: Folder of the harness.
        environment: What `pulumi` runs with there.
        generation: The one before the rotation.
        values: What must be found nowhere in plaintext.
        handed_in: Values for the rotation that no API mints.
        positions: The requests of the rotation.
        wanted: The world after it.
        seconds: How long it took undisturbed.
    """

    scenario: Scenario
    root: Path
    environment: Mapping[str, str]
    generation: int
    values: frozenset[str]
    handed_in: Mapping[str, str]
    positions: tuple[Position, ...]
    wanted: trial.Shape
    seconds: float

    @contextlib.contextmanager
    def copied(self) -> Iterator[Bench]:
        """A copy that runs, until the end of the context.

        Raises:
            FailedError: Its sandbox does not start.
        """
        directory = workplace(self.root, self.scenario)
        remove(directory)
        _copy(_kept(self.root, self.scenario) / "tree", directory)
        stage = Workspace(directory=directory, environment=self.environment)
        try:
            _start(stage, self.scenario)
            with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
                yield Bench(
                    stage=stage,
                    scenario=self.scenario,
                    world=world,
                    generation=self.generation,
                    prepared=True,
                    handed_in={**self.handed_in},
                    patience=max(PATIENCE, 4 * self.seconds),
                    values={*self.values},
                )
        finally:
            remove(directory)


def workplace(root: Path, scenario: Scenario) -> Path:
    """Where the copies run, one at a time; `guardian.py` knows them by the `w`."""
    return root / f"w-{scenario.slug}"


def ready(root: Path, scenario: Scenario) -> Snapshot:
    """The snapshot of a scenario; taken now, in a process of its own, where there is none that fits.

    Raises:
        FailedError: It could not be taken; the message is what was printed.
        EndedError: The harness is being ended.
    """
    if (found := _load(root, scenario)) is not None:
        return found
    log = root / f"w-{scenario.slug}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.snapshots", str(root), scenario.name],
            cwd=CHECKOUT,
            env={**os.environ, PORTS_VARIABLE: ports(scenario)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            while process.poll() is None:
                if ENDING.is_set():
                    raise EndedError
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait()
    found = _load(root, scenario)
    if process.returncode != 0 or found is None:
        raise FailedError(f"no snapshot of {scenario.name}:\n{log.read_text(errors='replace')[-4000:]}")
    return found


def take(root: Path, scenario: Scenario) -> None:
    """Takes the snapshot, and records the undisturbed rotation.

    Raises:
        FailedError: Something before the rotation failed, or the undisturbed rotation is not as it should be.
    """
    directory, kept = workplace(root, scenario), _kept(root, scenario)
    remove(directory)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True, mode=0o700)
    with bench(directory, scenario.name) as made:
        made.stage.sandbox("stop")
        _copy(directory, kept / "tree")
        _start(made.stage, scenario)
        document: dict[str, Any] = {
            "made_of": fingerprint(),
            "environment": dict(made.stage.environment),
            "generation": made.generation,
            "values": sorted(made.values),
            "handed_in": made.handed_in,
        }
        mark, before, began = made.newest_request(), made.all_held_by_fly(), time.monotonic()
        made.deploy(steps=scenario.steps)
        document["seconds"] = round(time.monotonic() - began, 1)
        wanted = trial.ending(made, before)
        wrong = trial.unsettled(made, made.generation, before=before, wanted=wanted) + trial.alarms(
            made.inspect(), scenario
        )
        if wrong:
            raise FailedError(f"an undisturbed rotation is not as it should be: {wrong}")
        document["wanted"] = wanted
        document["positions"] = [asdict(each) for each in positions(requests(made.requests(after=mark)))]
    path = kept / "scenario.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(document, file, indent=1)
    remove(directory)


def ports(scenario: Scenario) -> str:
    """The range of a scenario's ports."""
    share = len(PORTS) // len(SCENARIOS)
    first = PORTS.start + list(SCENARIOS).index(scenario.name) * share
    return f"{first}-{first + share - 1}"


def fingerprint() -> str:
    """Of everything that a snapshot is made of, and is measured with."""
    digest = hashlib.sha256()
    for name in MADE_OF:
        path = CHECKOUT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(CHECKOUT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def remove(directory: Path) -> None:
    """Stops the sandbox of a workspace, and removes the folder."""
    if directory.exists():
        Workspace(directory=directory, environment={}).sandbox("stop")
        shutil.rmtree(directory)


def _kept(root: Path, scenario: Scenario) -> Path:
    return root / "snapshots" / scenario.slug


def _load(root: Path, scenario: Scenario) -> Snapshot | None:
    path = _kept(root, scenario) / "scenario.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    if document["made_of"] != fingerprint():
        return None
    return Snapshot(
        scenario=scenario,
        root=root,
        environment=document["environment"],
        generation=document["generation"],
        values=frozenset(document["values"]),
        handed_in=document["handed_in"],
        positions=tuple(Position(**{**each, "phase": Phase(each["phase"])}) for each in document["positions"]),
        wanted=document["wanted"],
        seconds=document["seconds"],
    )


def _start(stage: Workspace, scenario: Scenario) -> None:
    argv = [sys.executable, "-m", "sandbox", "start", "--dir", str(stage.sandbox_directory), "--detach"]
    environment = {**os.environ, PORTS_VARIABLE: ports(scenario)}
    for left in reversed(range(STARTS)):
        done = subprocess.run(
            [*argv, *SANDBOX_OPTIONS],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return
        if not left:
            raise FailedError(f"the sandbox of {scenario.name} does not start: {done.stdout}")
        time.sleep(1)


def _copy(source: Path, target: Path) -> None:
    """With owners, modes and links: the data of PostgreSQL may be another user's."""
    subprocess.run(["cp", "-a", "--", str(source), str(target)], check=True)  # noqa: S607


if __name__ == "__main__":
    take(Path(sys.argv[1]), SCENARIOS[sys.argv[2]])
