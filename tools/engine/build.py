"""Builds the engine into a folder: the CLI, the Python language host and the plugins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.engine.errors import EngineError
from tools.engine.progress import Progress, run_logged
from tools.engine.recipe import PLUGINS, GoBuild, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tools.engine.toolchain import GoToolchain

_LINES_OF_A_FAILURE = 20

_SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python")
"""The two scripts of the SDK module that the language host runs; they have to be beside the CLI."""


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Builds one engine.

    Attributes:
        recipe: What to build.
        go: What to build it with.
        log: The file that takes the output of everything that runs.
    """

    recipe: Recipe
    go: GoToolchain
    log: Path

    def build(self, destination: Path) -> None:
        """Fill an empty folder with a working engine.

        Raises:
            EngineError: A step failed.
        """
        self.log.write_bytes(b"")
        home = destination / "home"
        (destination / "bin").mkdir()
        home.mkdir()
        binaries = destination / "plugin-binaries"
        binaries.mkdir()

        builds = self.recipe.builds
        progress = Progress(total=len(builds) + 3)
        for build in builds:
            with progress.step(build.text, build.expectation) as alive:
                self._go_build(build, destination, alive)
        with progress.step("adding the language host's scripts") as alive:
            self._add_scripts(destination, alive)
        with progress.step("installing the plugins") as alive:
            for name, version in PLUGINS.items():
                # The CLI copies the file, so the binary goes at once: together they are 150 MB.
                binary = binaries / f"pulumi-resource-{name}"
                arguments = ["plugin", "install", "resource", name, version, "--file", str(binary)]
                self._run([str(destination / "bin" / "pulumi"), *arguments], destination, alive, home)
                binary.unlink()
            binaries.rmdir()
        with progress.step("trying the engine"):
            self._try(destination)

    def _go_build(self, build: GoBuild, destination: Path, alive: Callable[[], None]) -> None:
        module = self.recipe.sources / build.module
        self._run([self.go.program, *build.arguments(destination)], module, alive)

    def _add_scripts(self, destination: Path, alive: Callable[[], None]) -> None:
        arguments = self.recipe.sdk_directory_arguments
        answer = subprocess.run(
            [self.go.program, *arguments],
            cwd=self.recipe.sources / "cli",
            env=self.go.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        alive()
        if answer.returncode != 0:
            raise self._failure(f"go {' '.join(arguments)}", answer.returncode, answer.stderr.splitlines())
        for script in _SCRIPTS:
            source = f"{answer.stdout.strip()}/{script}"
            target = destination / "bin" / script.rpartition("/")[2]
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise EngineError(
                    f"The SDK module has no {script} to copy ({error}). Nothing was installed."
                ) from error
            target.chmod(0o755)

    def _try(self, destination: Path) -> None:
        pulumi = str(destination / "bin" / "pulumi")
        environment = engine_environment(destination / "home")
        version = _output([pulumi, "version"], environment)
        if version != f"v{self.recipe.cli_version}":
            raise EngineError(
                f"The CLI that was built says it is {version}, not v{self.recipe.cli_version}. See {self.log}."
            )
        listed = json.loads(_output([pulumi, "plugin", "ls", "--json"], environment))
        found = {plugin["name"]: plugin["version"] for plugin in listed}
        if found != PLUGINS:
            raise EngineError(f"The plugins that were installed are {found}, not {PLUGINS}. See {self.log}.")

    def _run(self, argv: Sequence[str], directory: Path, alive: Callable[[], None], home: Path | None = None) -> None:
        environment = self.go.environment if home is None else engine_environment(home)
        try:
            status = run_logged(argv, directory=directory, environment=environment, log=self.log, alive=alive)
        except OSError as error:
            raise EngineError(f"{argv[0]} cannot be started: {error}.") from error
        if status != 0:
            lines = self.log.read_text(errors="replace").splitlines()
            raise self._failure(" ".join(argv[:2]), status, lines)

    def _failure(self, command: str, status: int, lines: Sequence[str]) -> EngineError:
        last = "\n".join(f"  {line}" for line in lines[-_LINES_OF_A_FAILURE:])
        return EngineError(
            f"`{command}` failed with status {status}. Its last lines:\n{last}\n"
            f"Nothing was installed. The whole output is in {self.log}. What did compile is kept by Go, so that running"
            " this again is quick."
        )


def engine_environment(home: Path) -> dict[str, str]:
    """Return the environment for our own engine with this PULUMI_HOME."""
    return {
        **os.environ,
        "PULUMI_HOME": str(home),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _output(argv: Sequence[str], environment: dict[str, str]) -> str:
    try:
        answer = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"`{' '.join(argv)}` failed with status {error.returncode}: {error.stderr.strip()}"
        ) from error
    return answer.stdout.strip()
