"""The command line: `python3 -m tools.engine {ensure,env,home DIR}`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.engine.build import Builder
from tools.engine.cache import Cache, default_root
from tools.engine.errors import EngineError, Interrupted
from tools.engine.official import find_official
from tools.engine.recipe import load_recipe
from tools.engine.toolchain import find_go

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# Resource operations at once. The engine's own default is four for each core, which is for operations that work; ours wait. More than a large
# stack has secrets: pulumi-github writes one after another, and while all of them wait for that, no verification would begin.
PARALLEL = 128
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ensure() -> Path | None:
    """Make sure that there is an engine.

    Returns:
        The folder of our own build, or nothing where the user's pulumi on PATH is used.

    Raises:
        EngineError: There is no engine and none can be built.
    """
    cache = Cache(root=default_root())
    if find_official(cache.root) is not None:
        return None
    go = find_go(Path("/"))
    recipe = load_recipe()
    key = recipe.key(go.identity)
    builder = Builder(recipe=recipe, go=go, log=cache.log(key))
    return cache.get_or_build(key, builder.build)


def shell_lines(engine: Path | None) -> list[str]:
    """Return what a shell has to evaluate to use the engine.

    The user's own CLI keeps its own home and its own way to get plugins.
    """
    lines = [
        "export PULUMI_SKIP_UPDATE_CHECK=true",
        f"export PULUMI_PARALLEL={shlex.quote(os.environ.get('PULUMI_PARALLEL') or str(PARALLEL))}",
    ]
    if engine is not None:
        lines += [
            f'export PATH={shlex.quote(str(engine / "bin"))}:"$PATH"',
            f"export PULUMI_HOME={shlex.quote(str(engine / 'home'))}",
            # A plugin of another version than its SDK then fails at once, and is not looked for on the network.
            "export PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true",
        ]
    return lines


def make_home(engine: Path | None, home: Path) -> None:
    """Make a PULUMI_HOME of its own, with its own credentials and workspaces, that shares the built plugins.

    Raises:
        EngineError: There is something else in the way.
    """
    home.mkdir(parents=True, exist_ok=True)
    keep_no_logs(home)
    if engine is None:
        return
    plugins = home / "plugins"
    target = engine / "home" / "plugins"
    if plugins.is_symlink():
        plugins.unlink()
    elif plugins.exists():
        raise EngineError(
            f"{plugins} is there already and is no link of ours. Nothing was changed. Choose another folder."
        )
    plugins.symlink_to(target)


def keep_no_logs(home: Path) -> None:
    """Take the place of the folder in which the engine keeps an automatic log of every command, unless there is one.

    It logs every property of every resource, secret ones too, encrypted with the stack's key: copies of values that outlive their
    rotation by a week, and a third of what the engine works for in a preview. It has no switch, and goes on without where it cannot
    make the folder (pulumi/pkg/v3, logging/encrypted.go).
    """
    logs = home / "logs"
    if not logs.exists():
        logs.write_text(_NO_LOGS)


_NO_LOGS = """This file keeps the engine from logging every property of every resource into a folder of this name.
Where such a log is needed: remove this file, make a folder `logs` in its place, and remove that afterwards.
"""


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    # One is enough: a second Ctrl-C must not cut short the ending of the build.
    for other in _STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signal_number)


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.engine", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ensure", help="make sure that there is an engine, and print the folder of our build if it is one")
    verbs.add_parser("env", help='the same, and print what a shell has to know: eval "$(python3 -m tools.engine env)"')
    home = verbs.add_parser("home", help="the same, and make a separate PULUMI_HOME that shares the plugins")
    home.add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)

    for signal_number in _STOP_SIGNALS:
        if signal.getsignal(signal_number) is not signal.SIG_IGN:
            signal.signal(signal_number, _stop)
    try:
        engine = ensure()
        if options.verb == "home":
            make_home(engine, options.directory)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except Interrupted as interrupt:
        sys.stderr.write("Interrupted: nothing was installed, and nothing is left running. Run it again to go on.\n")
        return 128 + interrupt.signal_number
    if engine is not None:
        keep_no_logs(engine / "home")
    if options.verb == "env":
        sys.stdout.writelines(f"{line}\n" for line in shell_lines(engine))
    elif options.verb == "ensure" and engine is not None:
        sys.stdout.write(f"{engine}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
