"""Fixtures of the tests of the builder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.engine_build.engine_workshop import FAKE_GO, FAKE_PULUMI, REPOSITORY, Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A fresh copy of the builder, with a Go on PATH and no pulumi."""
    workshop = Workshop(folder=tmp_path)
    workshop.sources.mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "tools" / "__init__.py", workshop.sources.parent / "__init__.py")
    for module in (REPOSITORY / "tools" / "engine").glob("*.py"):
        shutil.copyfile(module, workshop.sources / module.name)
    for name in ("cli", "language-host", "plugins"):
        folder = workshop.sources / name
        folder.mkdir()
        (folder / "go.mod").write_text("module tiny\n\nrequire (\n\tgithub.com/pulumi/pulumi/pkg/v3 v3.256.0\n)\n")
        (folder / "go.sum").write_text("sum\n")
        (folder / "main.go").write_text("package main\n")
    for script in ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python"):
        path = workshop.fake / "sdk" / script
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
    workshop.add_program("go-bin", "go", FAKE_GO)
    workshop.add_program("fake", "pulumi-to-build", FAKE_PULUMI)
    yield workshop
    workshop.close()
