"""What the audit asks the engine: the state and the config of a stack, decrypted."""

from collections.abc import Mapping
from pathlib import Path

from tools.stack_reader import StackReader

NOT_LOOKED_AT = "the stack was not audited; nothing was changed."


def _reader(checkout: Path, stack: str | None) -> StackReader:
    return StackReader(checkout=checkout, stack=stack, target="audit", state=NOT_LOOKED_AT)


def stacks(checkout: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """How the CLI is told each stack of this program that the backend has, by its short name. Raises OperatorError."""
    reader = StackReader(checkout=checkout, stack=None, target="audit", state=NOT_LOOKED_AT, environment=environment)
    return reader.stacks()


def selected_stack(checkout: Path) -> str:
    """The name of the stack that is selected in this checkout. Raises OperatorError."""
    return _reader(checkout, None).selected()


def export(checkout: Path, stack: str | None) -> object:
    """The state of a stack (None: the selected one), decrypted. Secret. Raises OperatorError."""
    return _reader(checkout, stack).read("stack", "export", "--show-secrets")


def config(checkout: Path, stack: str | None) -> object:
    """The config of a stack (None: the selected one), decrypted. Secret. Raises OperatorError."""
    return _reader(checkout, stack).read("config", "--json", "--show-secrets")
