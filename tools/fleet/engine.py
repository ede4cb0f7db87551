"""Asks Pulumi about stacks and has it update them: through its Automation API, with this checkout as the program.

Three things are done otherwise than the API does them by itself:

- every engine runs in a session of its own, so that Ctrl-C reaches it once, from us, and not twice: interrupted twice it drops everything
- no stack is *selected*: that would change which stack the operator's own `pulumi up` means
- after an update the outputs are not read once more, decrypted, three times: the state is read once, by us

Whatever an engine prints is concealed before anybody sees it, because a failed connection names the backend's URL with its password.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import yaml  # comes with pulumi
from pulumi.automation import (
    CommandError,
    ConfigValue,
    EngineEvent,
    LocalWorkspace,
    OutputMap,
    PulumiCommand,
    Stack,
    UpdateSummary,
)
from pulumi.automation._cmd import CommandResult, OnOutput
from pulumi.automation._stack import StackInitMode
from pulumi.automation.errors import create_command_error

from components.errors import OperatorError
from components.rotation import IMPACT_FILE
from tools.audit import look
from tools.audit.stack import config_of, exported
from tools.ci.engine import conceal, for_the_engine, secrets_of
from tools.fleet import selection
from tools.stack_reader import StackReader

NOTHING_TOUCHED = "nothing was changed."
# How the engine marks colours in the text of its events, and terminals in that of a plugin.
MARKUP = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*m")
COMMAND_FAILED = re.compile(r"exit status \d+: running ")
# What a failed update says in the end, and what a bridged provider says around its error, which it says twice.
GENERAL = {"update failed", "preview failed"}
BRIDGE = re.compile(r"^\S+\.go:\d+: sdk\.\w+: |: provider=\S+$|^1 error occurred: \* ")
# The rest is how the engine replaces a resource, or does nothing to it.
CHANGES = {"create", "update", "delete", "create-replacement"}


class StoppedError(Exception):
    """It was not started any more, because the fleet was interrupted."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that the engine does to one resource.

    Attributes:
        kind: The type of the resource.
        name: Its name.
        ended: Whether it is over.
    """

    kind: str
    name: str
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an update would do.

    Attributes:
        steps: How many resources change.
        summary: One line.
        text: The table.
        pending: Whether the program has anything to do.
        impact: All of it (docs/impact.schema.json).
    """

    steps: int
    summary: str
    text: str
    pending: bool
    impact: Mapping[str, Any]


class FailedError(Exception):
    """The engine failed.

    Args:
        happened: What it said.
        next_step: What it said is to be done; "" where it said nothing.
    """

    def __init__(self, happened: str, next_step: str = "") -> None:
        super().__init__(happened)
        self.happened = happened
        self.next_step = next_step


class Command(PulumiCommand):
    """The CLI, as the Automation API runs it."""

    def __init__(self) -> None:
        super().__init__(skip_version_check=True)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopping = False

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: OnOutput | None = None,
        on_error: OnOutput | None = None,
    ) -> CommandResult:
        """Runs the CLI with these variables and no others.

        Raises:
            CommandError: It failed.
            StoppedError: It was not started any more.
        """
        argv = [self.command, "--non-interactive", *args]
        # What is over at once is left alone, lest it be cut off while it writes a file.
        long = args[0] in {"preview", "up"}
        secrets = secrets_of(additional_env)
        said: dict[str, list[str]] = {"stdout": [], "stderr": []}

        def listen(stream: IO[str], name: str, tell: OnOutput | None) -> None:
            for line in stream:
                said[name].append(conceal(line.rstrip(), secrets))
                if tell:
                    tell(said[name][-1])

        with self._lock:
            if long and self._stopping:
                raise StoppedError
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**additional_env, "PULUMI_AUTOMATION_API": "true", "PULUMI_SKIP_UPDATE_CHECK": "true"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            if long:
                self._running.add(process)
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            assert process.stderr is not None  # noqa: S101
            other = threading.Thread(target=listen, args=(process.stderr, "stderr", on_error))
            other.start()
            listen(process.stdout, "stdout", on_output)
            other.join()
            status = process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
        result = CommandResult(stdout="\n".join(said["stdout"]), stderr="\n".join(said["stderr"]), code=status)
        if status != 0:
            raise create_command_error(result)
        return result

    def interrupt(self) -> int:
        """Asks every engine that runs, once, to stop after what it is doing, and starts no other. Returns how many run."""
        with self._lock:
            first, self._stopping = not self._stopping, True
            if first:
                for process in self._running:
                    process.send_signal(signal.SIGINT)
            return len(self._running)


class _Workspace(LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        """Selects nothing (see the module)."""


class _Stack(Stack):
    def outputs(self) -> OutputMap:
        """Nothing: they are not needed."""
        return {}

    def info(self, show_secrets: bool | None = None) -> UpdateSummary:  # noqa: FBT001 - the API's
        """Nothing that anybody reads."""
        del show_secrets
        return UpdateSummary(
            kind="update", start_time=datetime.now(UTC), message="", environment={}, config={}, result="succeeded"
        )


@dataclass(frozen=True, kw_only=True)
class Deployer:
    """One stack of this checkout.

    Attributes:
        checkout: Where the program is.
        stack: As the CLI is told.
        variables: What the engine runs with. Secret.
        command: The CLI.
        log: Where what the engine prints is kept.
    """

    checkout: Path
    stack: str
    variables: Mapping[str, str] = field(repr=False)
    command: Command
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the engine: it runs the program in the program's own environment, not in this one's."""
        found = for_the_engine(self.variables)
        return {**found, "PATH": f"{self.checkout / '.venv' / 'bin'}{os.pathsep}{found['PATH']}"}

    def read(self, *, now: datetime) -> tuple[look.Stack, tuple[str, ...]]:
        """Config and state of the stack, decrypted, and what `rotations` lists that is not in the secret map. Secret.

        Raises:
            OperatorError: They cannot be read, or the config is wrong. A wrong passphrase is noticed here.
        """
        reader = StackReader(
            checkout=self.checkout,
            stack=self.stack,
            target="fleet",
            state=NOTHING_TOUCHED,
            environment=self.environment,
        )
        config = config_of(
            reader.read("config", "--json", "--show-secrets"), (self.checkout / "Pulumi.yaml").read_text()
        )
        state = exported(reader.read("stack", "export", "--show-secrets"))
        return look.stack_of(self.stack, config, state, now=now)

    def preview(self, counters: Mapping[str, int], reasons: Mapping[str, str], *, first: bool = False) -> Preview:
        """What an update would do with these counters. The stack's config stays as it is: the engine is given a copy.

        Args:
            counters: By secret.
            reasons: By secret.
            first: Whether it is looked at as if no stack went before it.

        Raises:
            FailedError: The program refuses, or the engine fails.
            StoppedError: It was not started any more.
        """
        with tempfile.TemporaryDirectory() as folder:
            file, copy = Path(folder) / "impact.json", Path(folder) / "stack.yaml"
            copy.write_text(self._bumped(counters, reasons, first=first))
            with self._stack({IMPACT_FILE: str(file)}) as (stack, trouble):
                result = stack.preview(
                    color="never",
                    suppress_outputs=True,
                    suppress_progress=True,
                    config_file=str(copy),
                    on_output=self._keep,
                    on_error=self._keep,
                    on_event=trouble.take,
                )
            secrets = secrets_of(self.environment)
            try:
                data = json.loads(conceal(file.read_text(), secrets))
            except (OSError, ValueError):
                raise FailedError("The program wrote no impact.") from None
        changes = {str(getattr(op, "value", op)): count for op, count in result.change_summary.items()}
        return Preview(
            steps=sum(count for op, count in changes.items() if op not in {"same", "read"}),
            summary=str(data["summary"]),
            text=str(data["text"]),
            pending=bool(data["pending"]),
            impact=data,
        )

    def _bumped(self, counters: Mapping[str, int], reasons: Mapping[str, str], *, first: bool) -> str:
        document = yaml.safe_load(selection.config_file(self.checkout, self.stack).read_text()) or {}
        config = document.setdefault("config", {})
        for key, values in (("rotations", counters), ("reasons", reasons)):
            if values:
                full = f"molecule-secrets:{key}"
                config[full] = {**(config.get(full) or {}), **values}
        if first:
            config.pop(selection.AFTER, None)
        return yaml.safe_dump(document)

    def bump(self, counters: Mapping[str, int], reasons: Mapping[str, str]) -> None:
        """Writes counters and reasons into the stack's config file; its comments stay.

        Raises:
            FailedError: The engine failed.
            StoppedError: It was not started any more.
        """
        values = {f"rotations.{name}": str(each) for name, each in counters.items()}
        values |= {f"reasons.{name}": each for name, each in reasons.items()}
        if values:
            with self._stack({}) as (stack, _):
                stack.set_all_config({key: ConfigValue(value=each) for key, each in values.items()}, path=True)

    def forget_reasons(self, secrets: Mapping[str, str]) -> None:
        """Takes reasons off the stack's config file. Raises FailedError, StoppedError."""
        if secrets:
            with self._stack({}) as (stack, _):
                stack.remove_all_config([f"reasons.{name}" for name in secrets], path=True)

    def up(self, tell: Callable[[Step], None]) -> None:
        """Updates the stack.

        Raises:
            FailedError: The update failed.
            StoppedError: It was not started any more.
        """
        with self._stack({}) as (stack, trouble):

            def take(event: EngineEvent) -> None:
                trouble.take(event)
                if step := _step(event):
                    tell(step)

            stack.up(
                color="never",
                suppress_outputs=True,
                suppress_progress=True,
                on_output=self._keep,
                on_error=self._keep,
                on_event=take,
            )

    @contextmanager
    def _stack(self, more: Mapping[str, str]) -> Iterator[tuple[Stack, "_Trouble"]]:
        trouble = _Trouble(secrets_of(self.environment))
        workspace = _Workspace(
            work_dir=str(self.checkout), env_vars={**self.environment, **more}, pulumi_command=self.command
        )
        try:
            yield _Stack(self.stack, workspace, StackInitMode.SELECT), trouble
        except CommandError as error:
            # `from None`: the original repeats everything that the engine printed.
            raise trouble.failure(str(error)) from None

    def unexpected(self, error: Exception) -> FailedError:
        """What is told of an error that nobody has thought of. Its text is not: it may be a part of what was read."""
        for line in traceback.format_tb(error.__traceback__):
            self._keep(line.rstrip())
        return FailedError(
            f"{type(error).__name__} where none is expected (the log has where).",
            "run the same command again, and report it.",
        )

    def _keep(self, line: str) -> None:
        with open(self.log, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(line + "\n")


class _Trouble:
    """Collects what the engine calls an error."""

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = secrets
        self._said: list[str] = []

    def take(self, event: EngineEvent) -> None:
        """Notes an event that tells of an error."""
        diagnostic = event.diagnostic_event
        if diagnostic is not None and diagnostic.severity == "error":
            self._said.append(conceal(MARKUP.sub("", diagnostic.message), self._secrets).strip())

    def failure(self, printed: str) -> FailedError:
        """The failure that these errors are; what the engine printed counts where there are none."""
        return failure_of(self._said, printed)


def failure_of(said: list[str], printed: str) -> FailedError:
    """What an operator is told about a failed update.

    Args:
        said: The errors of the engine's events.
        printed: Everything that it printed, for where there were none.
    """
    ours = [each for each in said if "Next:" in each]
    errors = ours or [each for each in said if each not in GENERAL] or [printed.partition("error: ")[2]]
    happened: list[str] = []
    steps: list[str] = []
    for text in errors:
        before, _, after = text.partition("Next:")
        what = before.partition("State:")[0].strip().removeprefix("error: ")
        if COMMAND_FAILED.search(what):
            # Of a failed check the engine shows the command and what it said before, each of which was fine.
            what = what.splitlines()[-1]
        happened.append(BRIDGE.sub("", " ".join(what.split())))
        if after:
            steps.append(" ".join(after.partition("Help:")[0].split()))
    return FailedError(
        " / ".join(dict.fromkeys(filter(None, happened))) or "The engine failed without a word.",
        " / ".join(dict.fromkeys(steps)),
    )


def _step(event: EngineEvent) -> Step | None:
    """What an event tells about a resource that changes; None for anything else."""
    for each, ended in (
        (event.resource_pre_event, False),
        (event.res_outputs_event, True),
        (event.res_op_failed_event, True),
    ):
        if each is not None:
            metadata = each.metadata
            operation = str(getattr(metadata.op, "value", metadata.op))
            if operation not in CHANGES:
                return None
            return Step(kind=metadata.type, name=metadata.urn.rpartition("::")[2], ended=ended)
    return None


def command() -> Command:
    """The CLI on PATH.

    Raises:
        OperatorError: There is none.
    """
    try:
        return Command()
    except OSError as error:
        raise OperatorError(
            f"There is no `pulumi` to ask ({error.strerror}).",
            state=NOTHING_TOUCHED,
            next_step='`make fleet`, which finds the engine or builds it, or `eval "$(make env)"` first.',
        ) from None
    except subprocess.CalledProcessError as error:
        raise OperatorError(
            f"`pulumi version` failed with exit status {error.returncode}.",
            state=NOTHING_TOUCHED,
            next_step="see what it says.",
        ) from None


def stacks(checkout: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The stacks of this program that the backend has: how the CLI is told each, by its name.

    Raises:
        OperatorError: They cannot be listed.
    """
    reader = StackReader(checkout=checkout, stack=None, target="fleet", state=NOTHING_TOUCHED, environment=environment)
    return reader.stacks()
