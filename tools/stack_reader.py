"""Asks the Pulumi CLI about a stack, and only reads.

What it answers may hold secrets: it stays in memory, and no message repeats any of its standard output. What it says on standard error is
repeated without the environment's credentials: a failed connection names the backend's URL, with its password.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.errors import OperatorError
from tools.ci.engine import conceal, for_the_engine, secrets_of

TIMEOUT = 120.0  # seconds: a state in a bucket far away is read several times


@dataclass(frozen=True, kw_only=True)
class StackReader:
    """Reads one stack.

    Attributes:
        checkout: Where the program is.
        stack: Its name; None for the selected one.
        target: The make target that a person called.
        state: What is true when something cannot be read.
        environment: What the CLI runs with; None for the variables of this process.
    """

    checkout: Path
    stack: str | None
    target: str
    state: str
    environment: Mapping[str, str] | None = field(default=None, repr=False)

    def selected(self) -> str:
        """The name of the stack that is selected in the checkout.

        Raises:
            OperatorError: There is no CLI, or no stack is selected.
        """
        return self._run(["stack", "--show-name"]).strip()

    def stacks(self) -> dict[str, str]:
        """How the CLI is told each stack of this program that the backend has, by its name without organization and project.

        Raises:
            OperatorError: They cannot be listed.
        """
        listed = self.read("stack", "ls", "--json")
        try:
            names = [str(each["name"]) for each in listed]  # type: ignore[attr-defined]
        except (KeyError, TypeError):
            raise OperatorError(
                "`pulumi stack ls` answered something else than a list of stacks.",
                state=self.state,
                next_step="Is it the Pulumi CLI that `pulumi` calls? `pulumi version` says so.",
            ) from None
        return {name.rpartition("/")[2]: name for name in names}

    def read(self, *arguments: str) -> object:
        """The JSON that a command answers about the stack.

        Raises:
            OperatorError: It cannot be read.
        """
        # The name of the selected stack alone may mean another one: at Pulumi Cloud names are those of an organization.
        asked = [*arguments, *(["--stack", self.stack] if self.stack else [])]
        answer = self._run(asked)
        try:
            parsed: object = json.loads(answer)
        except ValueError:
            # `from None`: the original carries the whole answer.
            raise OperatorError(
                f"`pulumi {' '.join(asked)}` did not answer with JSON.",
                state=self.state,
                next_step="Is it the Pulumi CLI that `pulumi` calls? `pulumi version` says so.",
            ) from None
        return parsed

    def _run(self, arguments: Sequence[str]) -> str:
        """What a command printed to its standard output."""
        shown = f"`pulumi {' '.join(arguments)}`"
        argv = ["pulumi", "--color", "never", "--non-interactive", *arguments]
        environment = os.environ if self.environment is None else self.environment
        try:
            ended = subprocess.run(
                argv,
                cwd=self.checkout,
                env={**for_the_engine(environment), "PULUMI_SKIP_UPDATE_CHECK": "true"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
                # Ctrl-C is the caller's business: who waits for updates has to read what came of them.
                start_new_session=True,
            )
        except OSError as error:
            raise OperatorError(
                f"There is no `pulumi` to ask ({error.strerror}).",
                state=self.state,
                next_step=f'`make {self.target}`, which finds the engine or builds it, or `eval "$(make env)"` first.',
            ) from None
        except subprocess.TimeoutExpired:
            raise OperatorError(
                f"{shown} did not answer within {TIMEOUT:g} s.",
                state=self.state,
                next_step="See whether the backend can be reached (`pulumi whoami`), then run it again.",
            ) from None
        if ended.returncode != 0:
            said = conceal(ended.stderr.strip(), secrets_of(environment)) or f"exit status {ended.returncode}"
            happened = (
                f"No stack is selected here: {said}" if "no stack selected" in said else f"{shown} failed: {said}"
            )
            raise OperatorError(happened, state=self.state, next_step=self._next_step(said))
        return ended.stdout

    def _next_step(self, said: str) -> str:
        if "no stack selected" in said:
            return f"`pulumi stack select NAME`, or `STACK=NAME make {self.target}` (`--stack NAME`)."
        if "no stack named" in said:
            return "`pulumi stack ls` lists the stacks of this backend; `pulumi login` changes it."
        if "passphrase" in said:
            return "Set PULUMI_CONFIG_PASSPHRASE (or PULUMI_CONFIG_PASSPHRASE_FILE) to the stack's, then run it again."
        if "pulumi login" in said or "PULUMI_ACCESS_TOKEN" in said:
            return "`pulumi login` with the backend of the stack, or set PULUMI_BACKEND_URL, then run it again."
        return "Mend what the engine names, then run it again."
