"""The command line: `python -m tools.new_stack NAME [--like STACK] [--secrets-provider URL]`.

Adds an environment: writes the config file of a new stack after the model of another one, and makes the stack (`pulumi stack init`).
What is called after the model in there is called after the new one; ids of a provider's that cannot be told are left empty, and named.
A name that would be another stack's as well is refused before anything is written.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # comes with pulumi

from components import neighbours, secret_map, stack_files
from components.errors import OperatorError, RefusedError
from components.neighbours import Neighbour
from components.secret import Secret
from components.stack_files import Project
from tools.workspace import CHECKOUT

NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
NAMED = ("app", "tenantApp", "deployTokenApp", "repository")
"""Keys whose value is called after the stack, by an ending where it is not in there."""
IDS = ("neonProject", "databaseProject", "databaseBranch", "upstashDatabase")
"""Keys with an id that a provider gave to what is the model's alone."""
NEEDED = ("neonProject", "upstashDatabase")
"""Of those what no environment does without."""
MOMENTARY = (
    "supplied",
    "oldValueExpiresAt",
    "revokeUnmanaged",
    "compromised",
    "reasons",
    "promotionOverrides",
    "decommission",
    "ownProviders",
)
"""Keys that speak of one rotation, or of one stack."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A new stack's config.

    Attributes:
        config: What its file says under `config`.
        missing: Keys that are left empty.
        dropped: Keys of encrypted values, which are the model's.
    """

    config: Mapping[str, Any]
    missing: tuple[str, ...]
    dropped: tuple[str, ...]


def derive(model: Mapping[str, Any], *, prefix: str, like: str, name: str) -> Made:
    """The config of a new stack after the model of another.

    Args:
        model: The other's config.
        prefix: Of the program's keys: the project's name.
        like: The other's name.
        name: The new one's.
    """
    config: dict[str, Any] = {}
    missing: list[str] = []
    dropped: list[str] = []
    before, after = str(model.get(f"{prefix}:app", "")), _renamed(str(model.get(f"{prefix}:app", "")), like, name)
    for full, value in model.items():
        key = full.removeprefix(f"{prefix}:")
        if _is_encrypted(value):
            dropped.append(full)
        elif key in MOMENTARY:
            continue
        elif key in IDS and (value or key in NEEDED):
            config[full] = ""
            missing.append(key)
        elif key in NAMED:
            config[full] = _renamed(str(value), like, name)
        elif key == "controlPlaneUrl":
            config[full] = str(value).replace(before, after) if before and before in str(value) else ""
            missing += [] if config[full] else [key]
        elif key == "resendDomain":
            text = _replaced(str(value), like, name)
            config[full] = text if text != value or not value else f"{name}.{value}"
        elif key == "rotations" and isinstance(value, Mapping):
            config[full] = dict.fromkeys(value, 1)
        else:
            config[full] = value
    return Made(config=config, missing=tuple(missing), dropped=tuple(dropped))


def _renamed(text: str, like: str, name: str) -> str:
    renamed = _replaced(text, like, name)
    return renamed if renamed != text or not text else f"{text}-{name}"


def _replaced(text: str, like: str, name: str) -> str:
    """With the one's name in the place of the other's, where that is a word."""
    return re.sub(rf"(?<![a-z0-9]){re.escape(like)}(?![a-z0-9])", name, text)


def _is_encrypted(value: object) -> bool:
    if isinstance(value, Mapping):
        return "secure" in value or any(map(_is_encrypted, value.values()))
    return isinstance(value, list) and any(map(_is_encrypted, value))


def text_of(made: Made, *, like: str, name: str) -> str:
    """The file."""
    lines = [
        f"# Made after the model of stack {like}. Keys that are not here have the default of Pulumi.yaml, which describes all of them.",
        "# The names have to be this stack's alone: a preview refuses a place that another file here claims.",
        "config:",
    ]
    for key, value in made.config.items():
        if key.rpartition(":")[2] in made.missing:
            lines.append(f"  # To be put in: that of {name}.")
        document = yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=False, width=1000)
        lines += [f"  {line}" for line in document.splitlines()]
    return "\n".join(lines) + "\n"


def check(project: Project, made: Made, *, name: str) -> None:
    """Refuses a config that claims a place of another stack, or whose settings are wrong.

    Raises:
        RefusedError: With everything that is wrong.
    """
    # What is left empty is put in later, and looked at by the preview: an empty URL is no other stack's.
    config = {**made.config, **({f"{project.name}:controlPlaneUrl": "-"} if "controlPlaneUrl" in made.missing else {})}
    new = neighbours.of_config(project, name, config)
    if new is None:
        return
    beside, _ = neighbours.read(project, stack=name)
    neighbours.assert_apart(_secrets(new), beside, settings=new.settings)


def _secrets(new: Neighbour) -> list[Secret]:
    """Those of the map."""
    found = [getattr(secret_map, each.lower(), None) for each in new.rotated]
    return [each(new.settings) for each in found if each is not None]


def _add(checkout: Path, name: str, like: str, options: Sequence[str]) -> None:
    """Writes the file and makes the stack. Raises OperatorError."""
    if NAME.fullmatch(name) is None:
        raise RefusedError(
            f"A stack is called by lower-case letters, digits and hyphens, at most 32, because apps are called after it; not {name!r}.",
            next_step="choose another name.",
        )
    try:
        project = stack_files.project(checkout)
        stacks = stack_files.files(project.folder)
        if name in stacks:
            raise RefusedError(
                f"There is a stack {name} already: {stacks[name]}.",
                next_step=f"`pulumi stack init {name}`, where this backend does not have it yet; or choose another name.",
            )
        if like not in stacks:
            known = ", ".join(stacks) or "none"
            raise RefusedError(
                f"There is no stack {like} to be a model. There are: {known}.", next_step="name one: --like STACK."
            )
        made = derive(stack_files.read_config(stacks[like]), prefix=project.name, like=like, name=name)
        check(project, made, name=name)
        file = project.file(name)
        file.write_text(text_of(made, like=like, name=name))
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"The stacks' files cannot be read or written: {type(error).__name__} ({error}).", next_step="mend that."
        ) from None
    try:
        argv = ["pulumi", "stack", "init", name, *options]
        completed = subprocess.run(argv, cwd=checkout, check=False)
    except OSError as error:
        file.unlink()
        raise RefusedError(f"Pulumi cannot be run: {error.strerror}.", next_step='`eval "$(make env)"`.') from None
    if completed.returncode != 0:
        file.unlink(missing_ok=True)
        raise OperatorError(
            f"The stack was not made: `pulumi stack init` ended with {completed.returncode}, and says why above.",
            state=f"{file.name} was taken away again.",
            next_step="mend that, then the same command again.",
        )
    print(f"{file.relative_to(checkout)} is written, and the stack is made.")
    if made.missing:
        print(f"Put in: {', '.join(made.missing)}.")
    if made.dropped:
        print(f"Not taken over, because encrypted values are of one stack: {', '.join(made.dropped)}.")
    print(f"Look at the names in the file; then `pulumi preview --stack {name}`.")


def main(arguments: Sequence[str], checkout: Path = CHECKOUT) -> int:
    """Adds a stack and returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.new_stack", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="of the new stack, which is the environment's")
    parser.add_argument("--like", default="staging", metavar="STACK", help="the model (default: staging)")
    parser.add_argument(
        "--secrets-provider", metavar="URL", help="as `pulumi stack init` has it (default: a passphrase)"
    )
    options = parser.parse_args(arguments)
    more = ["--secrets-provider", options.secrets_provider] if options.secrets_provider else []
    try:
        _add(checkout, options.name, options.like, more)
    except OperatorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PULUMI_SKIP_UPDATE_CHECK", "true")
    sys.exit(main(sys.argv[1:]))
