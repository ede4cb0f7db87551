"""Sandboxes for the tests: one for each module, in its own folder, on its own ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run a sandbox that the module's tests share: each leaves it healthy."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    sandbox.start("--check-interval", "0.2", "--restart-backoff", "0.02")
    yield sandbox
    sandbox.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sandbox]:
    """Return a sandbox of the test's own, not started yet; it is stopped in the end."""
    sandbox = Sandbox(tmp_path / "sandbox")
    yield sandbox
    if sandbox.directory.exists():
        sandbox.stop()
