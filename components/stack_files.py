"""The program's own files that describe stacks: `Pulumi.yaml`, and the config file of every stack beside it. No network, no state, no Pulumi.

Of what is encrypted in them nothing is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # comes with pulumi

PROJECT_FILE = "Pulumi.yaml"
PREFIX, SUFFIX = "Pulumi.", ".yaml"
# libyaml's loader is ten times as fast, and there may be a hundred files.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Project:
    """What `Pulumi.yaml` says.

    Attributes:
        name: The prefix of the program's config keys.
        folder: Where the stacks' files are.
        defaults: Of every config key that has one.
    """

    name: str
    folder: Path
    defaults: Mapping[str, Any]

    def file(self, stack: str) -> Path:
        """Where the config of a stack is, whether it is there or not."""
        return self.folder / f"{PREFIX}{stack}{SUFFIX}"

    def full(self, key: str) -> str:
        """A config key of the program as the files have it."""
        return f"{self.name}:{key}"

    def values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The program's own config keys of a stack, with the defaults of those that its file leaves out."""
        own = {key.removeprefix(self.full("")): each for key, each in config.items() if key.startswith(self.full(""))}
        return {**self.defaults, **own}


def project(root: Path) -> Project:
    """What the project's file says.

    Args:
        root: The folder of `Pulumi.yaml`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what the engine takes for one.
    """
    document = _yaml(root / PROJECT_FILE)
    declared = document.get("config") or {}
    return Project(
        name=str(document.get("name", "")),
        folder=root / str(document.get("stackConfigDir", "")),
        defaults={key: each["default"] for key, each in declared.items() if "default" in each},
    )


def files(folder: Path) -> dict[str, Path]:
    """The files of all stacks in a folder, by stack."""
    found = {path.name.removeprefix(PREFIX).removesuffix(SUFFIX): path for path in folder.glob(f"{PREFIX}*{SUFFIX}")}
    return dict(sorted(found.items()))


def read_config(path: Path, *, may_be_empty: bool = False) -> Mapping[str, Any]:
    """What a stack's file says under `config`.

    Args:
        path: The file.
        may_be_empty: Whether a file with nothing in it is a stack's, whose config is empty, as it is for the engine.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no stack's config.
    """
    config = _yaml(path, may_be_empty=may_be_empty).get("config") or {}
    if not isinstance(config, Mapping):
        raise ValueError(path.name)  # noqa: TRY004 - part of what the file says
    return config


def _yaml(path: Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(path.name) from error
    if document is None and may_be_empty:
        return {}
    if not isinstance(document, dict):
        raise ValueError(path.name)  # noqa: TRY004
    return document
