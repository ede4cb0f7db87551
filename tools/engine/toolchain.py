"""The Go toolchain: whether there is one, and whether it is new enough."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MINIMUM_GO = (1, 26)
"""The `go` line of our three go.mod files."""

_REMEDY = (
    "Nothing was built. Install Go 1.26 or newer from https://go.dev/dl/, or install the official Pulumi CLI"
    " (https://www.pulumi.com/docs/install/), and run this again."
)


@dataclass(frozen=True, kw_only=True)
class GoToolchain:
    """A Go toolchain that can build the engine.

    Attributes:
        program: The path of `go`.
        identity: What decides what it builds: version, target and whether C is linked in.
        environment: The environment to run it in.
    """

    program: str
    identity: Mapping[str, str]
    environment: Mapping[str, str]


def go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the user's own Go settings do not change what is built.

    GOTOOLCHAIN=local keeps go from quietly downloading another version of itself, GOWORK=off keeps a workspace file in
    a parent folder out, and -mod=readonly keeps go.sum the judge of every download. Proxy and cache stay the user's.
    """
    return {
        **environment,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
    }


def find_go(directory: Path) -> GoToolchain:
    """Find Go on PATH.

    Args:
        directory: A folder outside any Go module, so that no go.mod takes part in the answer.

    Raises:
        EngineError: Go is missing, does not run, or is too old.
    """
    program = shutil.which("go")
    if program is None:
        raise EngineError(f"There is no pulumi on PATH, and no Go to build it with. {_REMEDY}")
    environment = go_environment(os.environ)
    names = ["GOVERSION", "GOOS", "GOARCH", "CGO_ENABLED"]
    try:
        answer = subprocess.run(
            [program, "env", "-json", *names],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        identity: dict[str, str] = json.loads(answer.stdout)
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        raise EngineError(f"{program} does not run: `go env` failed ({error}). {_REMEDY}") from error
    version = identity.get("GOVERSION", "")
    found = re.match(r"go(\d+)\.(\d+)", version)
    # A development version ("devel go1.27-abc") has no number in front; whoever has one knows what they are doing.
    if not version.startswith("devel") and (found is None or (int(found[1]), int(found[2])) < MINIMUM_GO):
        minimum = ".".join(map(str, MINIMUM_GO))
        raise EngineError(
            f"There is no pulumi on PATH, and the Go to build it with is too old: {program} is"
            f" {version or 'of no known version'}, and {minimum} is needed. {_REMEDY}"
        )
    return GoToolchain(program=program, identity=identity, environment=environment)
