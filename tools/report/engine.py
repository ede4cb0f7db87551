"""Asks the Pulumi CLI about a stack. The only part of the report that runs anything, and it only reads."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from components.errors import OperatorError

UPDATES = 50  # of the history, newest first
TIMEOUT = 120.0  # seconds: a state in a bucket far away is read several times
NOTHING_WRITTEN = "no report was written; the stack was only read."


def selected_stack(checkout: Path) -> str:
    """The name of the stack that is selected in this checkout.

    Raises:
        OperatorError: There is no CLI, or no stack is selected.
    """
    answer = _run(["stack", "--show-name"], checkout)
    if answer.returncode != 0:
        if "no stack selected" in answer.stderr:
            raise OperatorError(
                "No stack is selected here.",
                state=NOTHING_WRITTEN,
                next_step="`pulumi stack select NAME`, or `STACK=NAME make report`.",
            )
        raise _failed(answer)
    return answer.stdout.strip()


def outputs(checkout: Path, stack: str | None) -> object:
    """The outputs of a stack (None: the selected one), as the last complete update confirmed them.

    Raises:
        OperatorError: They cannot be read, or nothing has been deployed yet.
    """
    found = _json(["stack", "output", "--json", *_of(stack)], checkout)
    if not isinstance(found, dict) or "secrets" not in found:
        raise OperatorError(
            f"{f'The stack {stack}' if stack else 'The selected stack'} has no output `secrets`: nothing has been deployed yet, or no "
            "update was ever complete.",
            state=NOTHING_WRITTEN,
            next_step="`pulumi up`, until it succeeds; then `make report` again.",
        )
    return found


def history(checkout: Path, stack: str | None) -> object:
    """The last updates of a stack (None: the selected one), newest first, failed ones too.

    Raises:
        OperatorError: They cannot be read.
    """
    return _json(["stack", "history", "--json", "--page-size", str(UPDATES), *_of(stack)], checkout) or []


def _of(stack: str | None) -> list[str]:
    # The name of the selected stack alone may mean another one: at Pulumi Cloud names are those of an organization.
    return ["--stack", stack] if stack else []


def _json(arguments: Sequence[str], checkout: Path) -> object:
    answer = _run(arguments, checkout)
    if answer.returncode != 0:
        raise _failed(answer)
    try:
        parsed: object = json.loads(answer.stdout)
    except ValueError:
        raise OperatorError(
            f"`{_shown(answer)}` did not answer with JSON.",
            state=NOTHING_WRITTEN,
            next_step="Run it by hand and look at its answer. Is it the Pulumi CLI that `pulumi` calls?",
        ) from None
    return parsed


def _run(arguments: Sequence[str], checkout: Path) -> subprocess.CompletedProcess[str]:
    argv = ["pulumi", "--color", "never", "--non-interactive", *arguments]
    try:
        return subprocess.run(
            argv,
            cwd=checkout,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise OperatorError(
            f"There is no `pulumi` to ask ({error.strerror}).",
            state=NOTHING_WRITTEN,
            next_step='`make report`, which finds the engine or builds it, or `eval "$(make env)"` first.',
        ) from None
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"`pulumi {' '.join(arguments)}` did not answer within {TIMEOUT:g} s.",
            state=NOTHING_WRITTEN,
            next_step="See whether the backend can be reached (`pulumi whoami --verbose`), then run it again.",
        ) from None


def _failed(answer: subprocess.CompletedProcess[str]) -> OperatorError:
    said = answer.stderr.strip() or answer.stdout.strip() or f"exit status {answer.returncode}"
    if "no stack named" in said:
        next_step = "`pulumi stack ls` lists the stacks of this backend; `pulumi login` changes it."
    elif "passphrase" in said:
        next_step = "Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the stack's, then run it again."
    elif "pulumi login" in said or "PULUMI_ACCESS_TOKEN" in said:
        next_step = "`pulumi login` with the backend of the stack, or set PULUMI_BACKEND_URL, then run it again."
    else:
        next_step = "Mend what the engine names, then run it again."
    return OperatorError(f"`{_shown(answer)}` failed: {said}", state=NOTHING_WRITTEN, next_step=next_step)


def _shown(answer: subprocess.CompletedProcess[str]) -> str:
    arguments: list[str] = list(answer.args)
    return " ".join(["pulumi", *arguments[4:]])
