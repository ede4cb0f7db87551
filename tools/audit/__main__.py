"""The command line: `python -m tools.audit [--stack NAME]... [--json] [--strict]`.

Compares what every location holds, and which credentials providers list, with the stack's state. Changes nothing. Exit status: 0 nothing
was found, 1 something was, 2 a stack could not be audited.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from components.errors import OperatorError
from tools.audit import engine, look, output
from tools.audit.findings import Audit, NotAudited
from tools.audit.stack import config_of, exported
from tools.workspace import CHECKOUT


def main(arguments: Sequence[str]) -> int:
    """Audits stacks one after another and returns the highest of their exit statuses."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument(
        "--stack",
        action="append",
        default=[],
        metavar="NAME",
        help="a stack; may be given again. The selected one where none is given",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per stack, each on a line")
    parser.add_argument("--strict", action="store_true", help="credentials that the program did not mint are findings")
    options = parser.parse_args(arguments)
    statuses = []
    for number, stack in enumerate(options.stack or [None]):
        found = audit(stack, strict=options.strict)
        statuses.append(found.status)
        if options.json:
            print(json.dumps(output.data(found)), flush=True)
            continue
        if number:
            print(flush=True)
        print(output.text(found), file=sys.stderr if isinstance(found, NotAudited) else sys.stdout, flush=True)
    return max(statuses)


def audit(stack: str | None, *, strict: bool) -> Audit | NotAudited:
    """Audits a stack (None: the selected one)."""
    name = stack or ""
    try:
        name = stack or engine.selected_stack(CHECKOUT)
        config = config_of(engine.config(CHECKOUT, stack), (CHECKOUT / "Pulumi.yaml").read_text())
        return look.audit(name, config, exported(engine.export(CHECKOUT, stack)), strict=strict, now=datetime.now(UTC))
    except OperatorError as error:
        return NotAudited(stack=name, what=error.happened, state=error.state, next_step=error.next_step)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
