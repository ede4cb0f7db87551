"""What is built, from what, and how: everything that the key of the cache is made of."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOURCES = Path(__file__).resolve().parent
"""The folder with our three Go modules."""

PLUGINS = {"command": "1.2.1", "github": "6.15.0", "random": "4.21.4"}
"""The plugins and their versions, which must equal those of the Python SDKs: the engine looks for exactly these."""

LAYOUT = 1
"""To be raised when the layout of a finished engine, or a step that is not a GoBuild, changes."""

_MODULES = ("cli", "language-host", "plugins")
_SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
_CLI_MODULE = "github.com/pulumi/pulumi/pkg/v3"
_KEY_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class GoBuild:
    """One run of `go build`.

    Attributes:
        text: What is built, in words.
        expectation: How long it takes with empty Go caches, on two cores.
        module: The folder of the Go module, below the sources.
        packages: What is built.
        output: The file or, ending in a slash, the folder it goes to, below the engine's folder.
        linker_flags: For the Go linker.
    """

    text: str
    expectation: str
    module: str
    packages: str
    output: str
    linker_flags: str = "-s -w"

    def arguments(self, destination: Path) -> list[str]:
        """Return the arguments for `go`."""
        output = f"{destination}/{self.output}"
        return ["build", "-trimpath", "-ldflags", self.linker_flags, "-o", output, self.packages]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build the engine.

    Attributes:
        sources: The folder with the Go modules.
        cli_version: The version of the CLI, without a `v`.
    """

    sources: Path
    cli_version: str

    @property
    def builds(self) -> tuple[GoBuild, GoBuild, GoBuild]:
        """The three builds. They are three modules because their dependencies do not agree in one."""
        version_variable = f"{_SDK_MODULE}/go/common/version.Version"
        return (
            GoBuild(
                text="building the Pulumi CLI",
                expectation="about 3 min",
                module="cli",
                packages=f"{_CLI_MODULE}/cmd/pulumi",
                output="bin/pulumi",
                linker_flags=f"-s -w -X {version_variable}=v{self.cli_version}",
            ),
            GoBuild(
                text="building the Python language host",
                expectation="about 15 s",
                module="language-host",
                packages=f"{_SDK_MODULE}/python/cmd/pulumi-language-python",
                output="bin/pulumi-language-python",
            ),
            GoBuild(
                text=f"building the plugins {', '.join(PLUGINS)}",
                expectation="about 3 min",
                module="plugins",
                packages="./cmd/...",
                output="plugin-binaries/",
            ),
        )

    @property
    def sdk_directory_arguments(self) -> list[str]:
        """The arguments for `go` that print the folder of the SDK module, which has the language host's scripts."""
        return ["list", "-m", "-f", "{{.Dir}}", _SDK_MODULE]

    def key(self, go_identity: Mapping[str, str]) -> str:
        """Return the name of this engine in the cache: a hash over all that decides what is built."""
        digest = hashlib.sha256()
        description = {
            "layout": LAYOUT,
            "plugins": PLUGINS,
            "go": dict(go_identity),
            "builds": [[build.module, *build.arguments(Path())] for build in self.builds],
        }
        digest.update(json.dumps(description, sort_keys=True).encode())
        for path in _source_files(self.sources):
            content = path.read_bytes()
            name = path.relative_to(self.sources).as_posix()
            # The lengths keep two different sets of files from giving the same bytes.
            digest.update(f"\0{len(name)}:{name}\0{len(content)}:".encode() + content)
        return digest.hexdigest()[:_KEY_LENGTH]


def load_recipe(sources: Path = SOURCES) -> Recipe:
    """Read the recipe. The CLI's version is the one in its go.mod, so that it is written down once.

    Raises:
        EngineError: The go.mod of the CLI does not name a version.
    """
    go_mod = sources / "cli" / "go.mod"
    found = re.search(rf"^\s*{re.escape(_CLI_MODULE)} v(\S+)", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise EngineError(f"{go_mod} does not say which version of {_CLI_MODULE} to build. Restore it from git.")
    return Recipe(sources=sources, cli_version=found[1])


def _source_files(sources: Path) -> Iterator[Path]:
    # Tests do not end up in a binary, and a changed test should not cost six minutes.
    for module in _MODULES:
        for path in sorted((sources / module).rglob("*")):
            if path.is_file() and not path.name.endswith("_test.go"):
                yield path
