"""Asks the Pulumi CLI about a stack. What it answers holds secrets: it stays in memory, and no message repeats any of it."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from components.errors import OperatorError
from tools.ci.engine import conceal, for_the_engine, secrets_of

TIMEOUT = 120.0  # seconds: a state in a bucket far away is read several times
NOT_LOOKED_AT = "the stack was not audited; nothing was changed."


def selected_stack(checkout: Path) -> str:
    """The name of the stack that is selected in this checkout.

    Raises:
        OperatorError: There is no CLI, or no stack is selected.
    """
    return _run(["stack", "--show-name"], checkout).strip()


def export(checkout: Path, stack: str | None) -> object:
    """The state of a stack (None: the selected one), decrypted. Secret.

    Raises:
        OperatorError: It cannot be read.
    """
    return _json(["stack", "export", "--show-secrets", *_of(stack)], checkout)


def config(checkout: Path, stack: str | None) -> object:
    """The config of a stack (None: the selected one), decrypted. Secret.

    Raises:
        OperatorError: It cannot be read.
    """
    return _json(["config", "--json", "--show-secrets", *_of(stack)], checkout)


def _of(stack: str | None) -> list[str]:
    # The name of the selected stack alone may mean another one: at Pulumi Cloud names are those of an organization.
    return ["--stack", stack] if stack else []


def _json(arguments: Sequence[str], checkout: Path) -> object:
    answer = _run(arguments, checkout)
    try:
        parsed: object = json.loads(answer)
    except ValueError:
        # `from None`: the original carries the whole answer.
        raise OperatorError(
            f"`pulumi {' '.join(arguments)}` did not answer with JSON.",
            state=NOT_LOOKED_AT,
            next_step="Is it the Pulumi CLI that `pulumi` calls? `pulumi version` says so.",
        ) from None
    return parsed


def _run(arguments: Sequence[str], checkout: Path) -> str:
    """What a command printed to its standard output."""
    shown = f"`pulumi {' '.join(arguments)}`"
    argv = ["pulumi", "--color", "never", "--non-interactive", *arguments]
    try:
        ended = subprocess.run(
            argv,
            cwd=checkout,
            env={**for_the_engine(os.environ), "PULUMI_SKIP_UPDATE_CHECK": "true"},
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
            state=NOT_LOOKED_AT,
            next_step='`make audit`, which finds the engine or builds it, or `eval "$(make env)"` first.',
        ) from None
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{shown} did not answer within {TIMEOUT:g} s.",
            state=NOT_LOOKED_AT,
            next_step="See whether the backend can be reached (`pulumi whoami`), then run it again.",
        ) from None
    if ended.returncode != 0:
        # What it says goes to standard error; standard output may hold half a state.
        said = conceal(ended.stderr.strip(), secrets_of(os.environ)) or f"exit status {ended.returncode}"
        raise OperatorError(f"{shown} failed: {said}", state=NOT_LOOKED_AT, next_step=_next_step(said))
    return ended.stdout


def _next_step(said: str) -> str:
    if "no stack selected" in said:
        return "`pulumi stack select NAME`, or name it: `--stack NAME` (`STACK=NAME make audit`)."
    if "no stack named" in said:
        return "`pulumi stack ls` lists the stacks of this backend; `pulumi login` changes it."
    if "passphrase" in said:
        return "Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the stack's, then run it again."
    if "pulumi login" in said or "PULUMI_ACCESS_TOKEN" in said:
        return "`pulumi login` with the backend of the stack, or set PULUMI_BACKEND_URL, then run it again."
    return "Mend what the engine names, then run it again."
