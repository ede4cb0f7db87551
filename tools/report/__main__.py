"""The command line: `python -m tools.report [--stack NAME] [--output report.html]`."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from components.errors import OperatorError
from tools.report import engine
from tools.report.model import UnreadableError, parse_stack
from tools.report.page import render
from tools.workspace import CHECKOUT


def main(arguments: Sequence[str]) -> int:
    """Writes the report and returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=__doc__)
    parser.add_argument("--stack", metavar="NAME", help="the stack; the selected one where it is not given")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="what is written")
    options = parser.parse_args(arguments)
    try:
        summary = report(options.stack, options.output)
    except OperatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary)
    return 0


def report(stack: str | None, output: Path) -> str:
    """Writes the page of a stack (None: the selected one) and returns a line about it.

    Raises:
        OperatorError: The stack cannot be read, or the file cannot be written.
    """
    name = stack or engine.selected_stack(CHECKOUT)
    try:
        known = parse_stack(name, engine.outputs(CHECKOUT, stack), engine.history(CHECKOUT, stack))
    except UnreadableError as error:
        raise OperatorError(
            f"The stack {name} exports something else than this program does: {error}.",
            state=engine.NOTHING_WRITTEN,
            next_step="Check out the version of the program that the stack was last deployed with, and run it again.",
        ) from None
    page = render(known, datetime.now(UTC))
    # Beside the target, so that a reader never finds half a page, and nothing at all is left where the disk is full.
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        unfinished.write_text(page.html, encoding="utf-8")
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OperatorError(
            f"{output} cannot be written: {error.strerror}.",
            state="no report was written.",
            next_step="Give another place with `--output FILE`.",
        ) from None
    return f"Wrote {output}, the report of the stack {known.name}: {page.verdict}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
