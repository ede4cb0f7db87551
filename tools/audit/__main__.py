"""The command line: `python -m tools.audit [--stack NAME]... [--json] [--strict]`.

Compares what every location holds, and which credentials providers list, with the stack's state. Changes nothing. Exit status: 0 nothing
was found, 1 something was, 2 a stack could not be audited.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from components.errors import OperatorError
from tools.audit import engine, look, output
from tools.audit.findings import NOT_AUDITED, Audit, NotAudited
from tools.audit.stack import config_of, exported
from tools.fleet import selection, variables
from tools.workspace import CHECKOUT


def main(arguments: Sequence[str]) -> int:
    """Audits stacks and returns the highest of their exit statuses."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument(
        "--stack",
        action="append",
        default=[],
        metavar="NAME",
        help="a stack, or a pattern such as 'prod-*' or '*'; may be given again. The selected one where none is given",
    )
    parser.add_argument("--parallel", type=int, default=4, metavar="N", help="stacks at once (default 4)")
    parser.add_argument(
        "--variables",
        type=Path,
        metavar="FILE",
        help="passphrases and variables per stack (python -m tools.fleet rotate --help)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per stack, each on a line")
    parser.add_argument("--strict", action="store_true", help="credentials that the program did not mint are findings")
    options = parser.parse_args(arguments)
    try:
        given = variables.load(options.variables) if options.variables else {}
        stacks = _meant(options.stack, given)
    except OperatorError as error:
        _show(_not_audited("", error), as_json=options.json)
        return NOT_AUDITED
    found: list[Audit | NotAudited] = []
    look_at = partial(_by_itself, given=given) if given else audit
    with ThreadPoolExecutor(max_workers=max(options.parallel, 1)) as pool:
        for each in pool.map(partial(look_at, strict=options.strict), stacks):
            if found and not options.json:
                print(flush=True)
            found.append(each)
            _show(each, as_json=options.json)
    if len(found) > 1 and not options.json:
        print("\n" + output.together(found), flush=True)
    return max(each.status for each in found)


def _show(found: Audit | NotAudited, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(output.data(found)), flush=True)
    else:
        print(output.text(found), file=sys.stderr if isinstance(found, NotAudited) else sys.stdout, flush=True)


def _meant(names: Sequence[str], given: variables.Given) -> list[str | None]:
    """The stacks that are meant; names without a pattern are taken as they are. Raises OperatorError."""
    if not any(selection.is_pattern(name) for name in names):
        return [*names] or [None]
    environment = variables.for_all(given, os.environ)
    deployed = engine.stacks(CHECKOUT, environment)
    chosen = selection.select(names, described=selection.described(CHECKOUT), deployed=deployed)
    for name, why in chosen.skipped.items():
        print(f"Left out: {name}, because {why}.", file=sys.stderr, flush=True)
    return [deployed[name] for name in chosen.names]


def _by_itself(stack: str | None, *, strict: bool, given: variables.Given) -> Audit | NotAudited:
    """Audits a stack in a process with variables of its own."""
    name = stack or ""
    try:
        environment = variables.for_stack(selection.short(name), given, os.environ)
    except OperatorError as error:
        return _not_audited(name, error)
    argv = [
        sys.executable,
        "-m",
        "tools.audit",
        "--json",
        *(["--stack", stack] if stack else []),
        *(["--strict"] if strict else []),
    ]
    ended = subprocess.run(
        argv, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        return output.from_data(json.loads(ended.stdout))
    except (LookupError, TypeError, ValueError):
        return NotAudited(
            stack=name,
            what=f"The audit of this stack ended with exit status {ended.returncode} and no result.",
            state=engine.NOT_LOOKED_AT,
            next_step=f"`python -m tools.audit --stack {name}` with the variables of that stack shows why.",
        )


def audit(stack: str | None, *, strict: bool) -> Audit | NotAudited:
    """Audits a stack (None: the selected one)."""
    name = stack or ""
    try:
        name = stack or engine.selected_stack(CHECKOUT)
        config = config_of(engine.config(CHECKOUT, stack), (CHECKOUT / "Pulumi.yaml").read_text())
        return look.audit(name, config, exported(engine.export(CHECKOUT, stack)), strict=strict, now=datetime.now(UTC))
    except OperatorError as error:
        return _not_audited(name, error)


def _not_audited(name: str, error: OperatorError) -> NotAudited:
    return NotAudited(stack=name, what=error.happened, state=engine.NOT_LOOKED_AT, next_step=error.next_step)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
