"""Fixtures of the engine tests: each test has a sandbox, a stack, a state folder and a PULUMI_HOME of its own."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import MEASURED
from tests.engine.stage import SECRET, Stage
from tools.workspace import workspace


@pytest.fixture
def whole_map(tmp_path: Path) -> Iterator[Stage]:
    """A new sandbox, and a stack that lists every secret and of which nothing is deployed."""
    with workspace(tmp_path / "workspace") as made:
        yield Stage(directory=made.directory, environment=made.environment)


@pytest.fixture
def stage(whole_map: Stage) -> Stage:
    """The same, with a stack that lists FLY_API_TOKEN alone: the secret with the most places, and a faster test."""
    whole_map.rotates(SECRET)
    return whole_map


@pytest.fixture
def deployed(stage: Stage) -> Stage:
    """Generation 1 of FLY_API_TOKEN is deployed and verified."""
    stage.deploys()
    return stage


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes a measurement, to be printed when all tests are over: it is nothing that a test could fail for."""
    return partial(record_property, MEASURED)
