"""What the report asks the engine: the outputs and the history of a stack."""

from pathlib import Path

from components.errors import OperatorError
from tools.stack_reader import StackReader

UPDATES = 50  # of the history, newest first
NOTHING_WRITTEN = "no report was written; the stack was only read."


def _reader(checkout: Path, stack: str | None) -> StackReader:
    return StackReader(checkout=checkout, stack=stack, target="report", state=NOTHING_WRITTEN)


def selected_stack(checkout: Path) -> str:
    """The name of the stack that is selected in this checkout. Raises OperatorError."""
    return _reader(checkout, None).selected()


def outputs(checkout: Path, stack: str | None) -> object:
    """The outputs of a stack (None: the selected one), as the last complete update confirmed them.

    Raises:
        OperatorError: They cannot be read, or nothing has been deployed yet.
    """
    found = _reader(checkout, stack).read("stack", "output", "--json")
    if not isinstance(found, dict) or "secrets" not in found:
        raise OperatorError(
            f"{f'The stack {stack}' if stack else 'The selected stack'} has no output `secrets`: nothing has been deployed yet, or no "
            "update was ever complete.",
            state=NOTHING_WRITTEN,
            next_step="`pulumi up`, until it succeeds; then `make report` again.",
        )
    return found


def history(checkout: Path, stack: str | None) -> object:
    """The last updates of a stack (None: the selected one), newest first, failed ones too. Raises OperatorError."""
    return _reader(checkout, stack).read("stack", "history", "--json", "--page-size", str(UPDATES)) or []
