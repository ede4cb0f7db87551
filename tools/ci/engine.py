"""Runs the engine for a workflow: shown while it runs, with no credential in what it prints, and never killed half-way."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import unquote, urlsplit

from components import operator_credentials

IMPACT_FILE = "ROTATION_IMPACT_FILE"
CI_TOKEN = "ROTATION_CI_TOKEN"  # noqa: S105 - the name of a variable
BACKEND_URL = "PULUMI_BACKEND_URL"
SECRET_VARIABLES = (
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_ACCESS_TOKEN",
    "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
    "GOOGLE_CREDENTIALS",
    CI_TOKEN,
    *(
        variable
        for credential in operator_credentials.ALL
        if credential is not operator_credentials.UPSTASH_EMAIL
        for variable in credential.variables
    ),
)
SHORTEST_SECRET = 8  # characters; anything shorter would hide words of the text
CONCEALED = "***"


@dataclass(frozen=True, kw_only=True)
class Impact:
    """What the program says of an update (`ROTATION_IMPACT_FILE`).

    Attributes:
        summary: One line.
        text: The table.
        pending: Whether there is anything to do.
    """

    summary: str
    text: str
    pending: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command of the engine ended.

    Attributes:
        status: Its exit status.
        output: What it printed, without credentials.
        impact: None where the program wrote none.
    """

    status: int
    output: str
    impact: Impact | None = None


def password_of(url: str) -> str:
    """The password in a URL as it stands there, "" for none."""
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values in an environment that must not be shown, longest first, each in every form in which a text may have it."""
    # In parts as well: Fly's tokens are several, with commas between, and a multi-line value is printed line by line.
    values = [environment.get(name, "") for name in SECRET_VARIABLES]
    found = {part for value in values for part in (value, *re.split(r"[\s,]+", value))}
    # Pulumi prints the whole URL where it cannot connect (docs/operating/backends.md).
    password = password_of(environment.get(BACKEND_URL, ""))
    found |= {password, unquote(password)}
    return sorted((value for value in found if len(value) >= SHORTEST_SECRET), key=len, reverse=True)


def conceal(text: str, secrets: Collection[str]) -> str:
    """The text without these values."""
    for secret in secrets:
        text = text.replace(secret, CONCEALED)
    return text


def for_the_engine(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment less what is none of the engine's business.

    A workflow sets every variable, and those whose secret does not exist are empty: for Pulumi an empty passphrase is a passphrase.
    """
    optional = {*SECRET_VARIABLES, BACKEND_URL}
    return {
        name: value for name, value in environment.items() if name != CI_TOKEN and not (name in optional and not value)
    } | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The engine in the present folder.

    Attributes:
        environment: The variables of the process.
    """

    environment: Mapping[str, str]

    def pulumi(self, *arguments: str, shown: bool = True) -> Outcome:
        """Runs `pulumi`; never raises for a command that fails.

        Args:
            arguments: Without those that every run in CI has.
            shown: Whether its output is printed.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "impact.json"
            argv = ["pulumi", "--color", "never", "--non-interactive", *arguments]
            ended = self.run(argv, more={IMPACT_FILE: str(file)}, shown=shown)
            return Outcome(status=ended.status, output=ended.output, impact=self._impact(file))

    def run(self, argv: list[str], *, more: Mapping[str, str] | None = None, shown: bool = True) -> Outcome:
        """Runs any command in the engine's environment."""
        secrets = secrets_of(self.environment)
        lines: list[str] = []
        try:
            # A session of its own: whoever interrupts us in a terminal would else interrupt the engine as well, and being
            # interrupted twice makes it drop everything at once.
            process = subprocess.Popen(
                argv,
                env={**for_the_engine(self.environment), **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(status=127, output=f"{argv[0]} could not be started: {error.strerror}")
        with _interruptions_go_to(process), _no_workflow_commands(self.environment, shown=shown):
            for line in process.stdout or ():
                lines.append(conceal(line, secrets))
                if shown:
                    print(lines[-1], end="", flush=True)
            status = process.wait()
        return Outcome(status=status, output="".join(lines))

    def _impact(self, file: Path) -> Impact | None:
        secrets = secrets_of(self.environment)
        try:
            document = json.loads(file.read_text())
            return Impact(
                summary=conceal(" ".join(str(document["summary"]).split()), secrets),
                text=conceal(str(document["text"]), secrets),
                pending=bool(document["pending"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


@contextlib.contextmanager
def _interruptions_go_to(process: "subprocess.Popen[str]") -> Iterator[None]:
    """The engine is asked, once, to stop after what it is doing, and is waited for.

    A runner that cancels a job interrupts it, and so does a terminal. Killed, the engine would leave its lock behind.
    """
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            print("Interrupted: the engine stops after what it is doing.", flush=True)
            process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_workflow_commands(environment: Mapping[str, str], *, shown: bool) -> Iterator[None]:
    """Nothing that is printed meanwhile is taken for a command to the runner (GitHub documentation, "Workflow commands")."""
    if not shown or environment.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = os.urandom(16).hex()
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)
