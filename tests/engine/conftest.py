"""Fixtures of the engine tests: each test has a sandbox, a stack, a state folder and a PULUMI_HOME of its own.

A sandbox and a first deployment take longer than most of what is tested with them. So each worker makes them once, puts them
aside, and every test begins with a copy, which is its own: nothing that a test does is seen by the next.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import MEASURED
from tests.engine.stage import SECRET, Stage
from tools.workspace import PORT_TAKEN, FailedError, Snapshot, Workspace, put_aside, resumed, workspace


class Beginnings:
    """What tests of one worker begin with: made when the first one asks for it.

    Args:
        directory: For the snapshots, and for the workspace that runs.
    """

    def __init__(self, directory: Path) -> None:
        self.running = directory / "workspace"
        self.deployed = False
        self._directory = directory
        self._numbers = itertools.count(1)
        self._made: dict[bool, Snapshot] = {}

    @contextlib.contextmanager
    def begin(self, *, deployed: bool, left: Path) -> Iterator[Stage]:
        """A running copy; what is left of it at the end goes to `left`."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._leave, left)
            made = stack.enter_context(self._resumed(deployed=deployed))
            self.deployed = deployed
            yield staged(made)

    @contextlib.contextmanager
    def _resumed(self, *, deployed: bool) -> Iterator[Workspace]:
        with contextlib.ExitStack() as stack:
            try:
                made = stack.enter_context(resumed(self._snapshot(deployed=deployed)))
            except FailedError as error:
                # Of the ports of a stopped sandbox another one of this computer may have taken one meanwhile.
                if PORT_TAKEN not in str(error):
                    raise
                self._leave(self._directory / f"failed-{next(self._numbers)}")
                self._made.clear()
                made = stack.enter_context(resumed(self._snapshot(deployed=deployed)))
            yield made

    def _snapshot(self, *, deployed: bool) -> Snapshot:
        if deployed not in self._made:
            kept = self._directory / f"snapshot-{next(self._numbers)}"
            if deployed:
                self._made[deployed] = put_aside(self.running, kept, resumed(self._snapshot(deployed=False)), deploy)
            else:
                self._made[deployed] = put_aside(self.running, kept, workspace(self.running))
        return self._made[deployed]

    def _leave(self, left: Path) -> None:
        self.deployed = False
        if self.running.exists():
            self.running.rename(left)


def staged(made: Workspace) -> Stage:
    """The same workspace, with the questions that tests ask."""
    return Stage(directory=made.directory, environment=made.environment)


def deploy(made: Workspace) -> None:
    """Deploys generation 1 of FLY_API_TOKEN."""
    stage = staged(made)
    stage.rotates(SECRET)
    stage.deploys()


@pytest.fixture(scope="session")
def beginnings(tmp_path_factory: pytest.TempPathFactory) -> Beginnings:
    """What the tests of this worker begin with."""
    return Beginnings(tmp_path_factory.mktemp("beginnings"))


@pytest.fixture
def whole_map(request: pytest.FixtureRequest, beginnings: Beginnings, tmp_path: Path) -> Iterator[Stage]:
    """A new sandbox, and a stack that lists every secret and of which nothing is deployed."""
    # With `deployed` it is what that begins with, so that one sandbox is started and not two.
    wanted = "deployed" in request.fixturenames
    with beginnings.begin(deployed=wanted, left=tmp_path / "workspace") as made:
        yield made


@pytest.fixture
def stage(whole_map: Stage) -> Stage:
    """The same, with a stack that lists FLY_API_TOKEN alone: the secret with the most places, and a faster test."""
    whole_map.rotates(SECRET)
    return whole_map


@pytest.fixture
def deployed(stage: Stage, beginnings: Beginnings) -> Stage:
    """Generation 1 of FLY_API_TOKEN is deployed and verified."""
    if not (stage.directory == beginnings.running and beginnings.deployed):
        stage.deploys()
    return stage


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes a measurement, to be printed when all tests are over: it is nothing that a test could fail for."""
    return partial(record_property, MEASURED)
