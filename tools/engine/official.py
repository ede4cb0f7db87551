"""The pulumi that the user has on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.engine.errors import EngineError

MINIMUM_VERSION = (3, 243, 0)
"""The oldest CLI that is accepted.

The program has error hooks, which came early in 2026; with 3.243, of that May, others are known to use them (pulumi/pulumi issue
23344). Everything was tried with 3.256 alone.
"""


@dataclass(frozen=True, kw_only=True)
class OfficialEngine:
    """A pulumi on PATH that is not of our making."""

    program: Path
    version: str


def find_official(cache_root: Path) -> OfficialEngine | None:
    """Return the user's own engine, or nothing where the first pulumi on PATH is missing or one of our builds.

    Args:
        cache_root: Where our builds are. One of them comes first on PATH after `eval "$(python3 -m tools.engine env)"`.

    Raises:
        EngineError: It does not run, or is too old.
    """
    found = shutil.which("pulumi")
    if found is None or Path(found).resolve().is_relative_to(cache_root.resolve()):
        return None
    try:
        answer = subprocess.run(
            [found, "version"],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(
            f"The pulumi on PATH, {found}, does not run ({error}). Mend or remove it; without one, an engine is built."
        ) from error
    version = answer.stdout.strip()
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        sys.stderr.write(f"Warning: {found} does not tell its version ({version!r}); using it all the same.\n")
    elif tuple(map(int, numbers.groups())) < MINIMUM_VERSION:
        minimum = ".".join(map(str, MINIMUM_VERSION))
        # An error and no warning: a command that is missing half way through a rotation is worse than none at all.
        raise EngineError(
            f"The pulumi on PATH, {found}, is {version}, and {minimum} is the oldest that the runbooks work with."
            " Nothing was changed. Upgrade it (https://www.pulumi.com/docs/install/), or take it off PATH: then one is"
            " built."
        )
    return OfficialEngine(program=Path(found), version=version)
