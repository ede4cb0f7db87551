"""Fixtures of the engine tests: each test has a sandbox, a stack, a state folder and a PULUMI_HOME of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
