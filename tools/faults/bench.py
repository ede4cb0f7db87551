"""One sandbox with one secret in rotation, whose requests can be disturbed and whose processes can be killed."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from sandbox import server
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.world import ADMIN_TOKEN, HOST, World
from tools.faults.kinds import HELD_UP, Blow
from tools.workspace import STACK, FailedError, Workspace, workspace

SECRETS = (
    "FLY_API_TOKEN",
    "NEON_API_KEY",
    "RESEND_API_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "DATABASE_URL",
    "TENANT_REDIS_URL",
    "RESEND_FROM_EMAIL",
    "SECRETS_ENCRYPTION_KEY",
)
"""Not STRIPE_API_KEY: a person rolls it in Stripe's Dashboard, and Stripe alone ends the one before."""
# Ordinary settings of the stack: without them a check that waits in vain would wait for half an hour.
SETTINGS = {
    "healthTimeout": "20",
    "orgTimeout": "30",
    "workflowTimeout": "40",
    "ciTimeout": "40",
    "databaseTimeout": "30",
    "mailTimeout": "30",
    "revocationTimeout": "20",
}
SANDBOX_OPTIONS = ("--check-interval", "0.3", "--restart-backoff", "0.2")
# Machines of tenants, where they hold the secret too.
KEY, SENDER = "SECRETS_ENCRYPTION_KEY", "RESEND_FROM_EMAIL"
TENANTS = {"TENANT_REDIS_URL": "2", KEY: "2"}
# Undisturbed rotations before the one that is recorded: a role that there is already is not made again.
WARM_UP = {"DATABASE_URL": 1}
HTTP_TIMEOUT = "5"  # seconds: ROTATION_HTTP_TIMEOUT
PATIENCE = 150.0  # seconds after which somebody who waits for a `pulumi up` that says nothing presses Ctrl-C
GRACE = 30.0  # seconds between the first and the second Ctrl-C, and the kill after that
SCAN = 8  # characters: shorter ones are no secrets
CHECKS = "components.verification."
GITHUB_PLUGIN = "pulumi-resource-github"
PROVIDER = ("pulumi-resource-pulumi-python", "-m pulumi.dynamic")  # the script that starts it, and itself
UP = ("pulumi", "--color", "never", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", STACK)
ENDING = threading.Event()  # set when the harness is being ended: every `pulumi up` is then ended too


class EndedError(Exception):
    """The harness is being ended."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `pulumi up`.

    Attributes:
        status: Exit status; negative where a signal ended it.
        output: What it printed.
        seconds: How long it took.
        pressed: How often Ctrl-C was pressed because it did not end.
        struck: Whether the blow fell.
        session: Of all its processes.
    """

    status: int
    output: str
    seconds: float
    pressed: int = 0
    struck: bool = True
    session: int = 0


@dataclass
class Bench:
    """See the module's docstring.

    Attributes:
        stage: The workspace.
        secret: What rotates, alone.
        world: The sandbox's own truth.
        generation: The one that is settled.
        values: Every value that has been delivered so far, and the operator's tokens: what must be found nowhere in plaintext.
    """

    stage: Workspace
    secret: str
    world: World
    generation: int = 1
    values: set[str] = field(default_factory=set)

    # The sandbox

    def inspect(self) -> dict[str, Any]:
        """The truth about the sandbox (DESIGN.md, section 6), with its violations."""
        return server.inspect(self.world)

    def requests(self, *, after: int = 0) -> list[dict[str, Any]]:
        """What was asked of the sandbox."""
        return self.world.request_log(after=after)

    def newest_request(self) -> int:
        """The number of the last request."""
        row = self.world.database.execute("SELECT max(number) AS newest FROM request_log").fetchone()
        return int(row["newest"] or 0)

    def inject(self, fault: Mapping[str, Any]) -> None:
        """Makes requests fail."""
        self._admin("POST", "/faults", fault)

    def clear(self) -> None:
        """Lets every request pass."""
        self._admin("DELETE", "/faults")

    def hits(self) -> bool:
        """Whether the injected fault has struck."""
        listed = self._admin("GET", "/faults")["faults"]
        return any(each["seen"] >= each["nth"] for each in listed)

    def _admin(self, method: str, path: str, document: object = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self.world.port("admin"), timeout=30)
        try:
            headers = {"authorization": f"Bearer {self.world.kept(ADMIN_TOKEN)}", "content-type": "application/json"}
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise FailedError(f"{method} {path}: {text.decode(errors='replace')}")
        found: dict[str, Any] = json.loads(text or b"{}")
        return found

    def held_by_fly(self) -> str:
        """The value that the control plane's app has, which no API of Fly's shows."""
        app = apps.find(self.world, name=apps.CONTROL_PLANE)
        if app is None:
            raise LookupError(apps.CONTROL_PLANE)
        return next(each.value for each in app_secrets.snapshot(self.world, app) if each.name == self.secret)

    # The stack

    def set_generation(self, generation: int) -> None:
        """Bumps the counter, and `compromised` where that names it. In the file itself: `pulumi config set` takes a second."""
        if self.secret == SENDER:
            self.stage.hand_in(SENDER, f"Molecule AI <hello-{generation}@moleculesai.app>")
        path = self.stage.program_directory / "stacks" / f"Pulumi.{STACK}.yaml"
        listed = rf"""(?m)^(\s+{self.secret}:) "?\d+"?$"""
        text, count = re.subn(listed, rf"\g<1> {generation}", path.read_text())
        if count != (2 if self.secret == KEY else 1):
            raise LookupError(f"{self.secret} is listed {count} times in {path.name}")
        path.write_text(text)

    @property
    def state_file(self) -> Path:
        """Where the file backend keeps the stack."""
        return next(self.stage.state_directory.glob(f".pulumi/stacks/*/{STACK}.json"))

    def state(self) -> dict[str, Any]:
        """The stack's checkpoint, with what is secret encrypted."""
        checkpoint: dict[str, Any] = json.loads(self.state_file.read_text())["checkpoint"]["latest"]
        return checkpoint

    def cancel(self) -> None:
        """What the message of a stale lock asks for."""
        self.stage.must("cancel", "--yes", "--stack", STACK)

    def clear_pending_creates(self) -> None:
        """What the README says about the note that an interrupted create leaves."""
        self.stage.must("refresh", "--clear-pending-creates", "--yes", "--skip-preview", "--stack", STACK)

    def deploy(self, generation: int) -> None:
        """An undisturbed rotation.

        Raises:
            FailedError: It failed.
        """
        self.set_generation(generation)
        run = self.up()
        if run.status != 0:
            raise FailedError(run.output)
        self.generation = generation
        self.note_value()

    def up(self, *arguments: str, blow: Blow = Blow.NONE) -> Run:
        """`pulumi up`, with these arguments. Nothing of it is left when it returns, but for what a kill of the engine alone leaves alive.

        Raises:
            EndedError: The harness is being ended.
        """
        began = time.monotonic()
        log = self.stage.directory / "up.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                (*UP, *arguments),
                cwd=self.stage.program_directory,
                env={**self.stage.environment, "ROTATION_HTTP_TIMEOUT": HTTP_TIMEOUT},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            pressed, struck = 0, blow is Blow.NONE
            try:
                while process.poll() is None:
                    if ENDING.is_set():
                        raise EndedError
                    if not struck and self.hits():
                        self._strike(process, blow)
                        struck = True
                    if time.monotonic() - began > PATIENCE + pressed * GRACE:
                        pressed += 1
                        _signal(process, signal.SIGINT if pressed < 3 else signal.SIGKILL)  # noqa: PLR2004 - twice, then the end
                    time.sleep(0.05)
            finally:
                if process.poll() is None:  # this harness itself is being ended
                    self.end_processes(process.pid)
                    process.kill()
                process.wait()
        if blow is Blow.KILL_ENGINE:
            # What the killed engine left goes on: that is the point. The request that it waits for is answered by now.
            time.sleep(HELD_UP / 1000)
        else:
            self.end_processes(process.pid)
        return Run(
            status=process.returncode,
            output=log.read_text(errors="replace"),
            seconds=time.monotonic() - began,
            pressed=pressed,
            struck=struck,
            session=process.pid,
        )

    def _strike(self, process: subprocess.Popen[bytes], blow: Blow) -> None:
        match blow:
            case Blow.KILL_ENGINE:
                _signal(process, signal.SIGKILL)
            case Blow.KILL_MAKER:
                self._kill_maker(process.pid)
            case Blow.CTRL_C | Blow.CTRL_C_TWICE:
                # As a terminal does: to the whole group of the foreground. Plugins have groups of their own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                if blow is Blow.CTRL_C_TWICE:
                    time.sleep(1)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGINT)
            case Blow.NONE:
                pass

    def _kill_maker(self, engine: int) -> None:
        """Kills who made the request that is held up: a check where one runs, else the plugin."""
        family = [(process, _words(process)) for process in _session(engine)]
        asked = self.requests(after=self.newest_request() - 1)[-1]["target"]
        checks = [process for process, words in family if CHECKS in words and "python" in words]
        if checks:
            victims = checks
        elif asked.startswith("/api/v3"):
            victims = [process for process, words in family if GITHUB_PLUGIN in words]
        else:
            victims = [process for process, words in family if any(each in words for each in PROVIDER)]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()

    @staticmethod
    def end_processes(session: int) -> None:
        """Ends what is left of a `pulumi up` beside the engine itself."""
        for process in _session(session):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.pid != session:
                    process.kill()

    # Leaks

    def note_value(self) -> None:
        """From now on the value that Fly holds must be found nowhere in plaintext."""
        self.values |= _parts(self.held_by_fly())

    def leaks(self, outputs: Mapping[str, str], *, since: float) -> list[str]:
        """Where a value is in plaintext: in what was printed, or in a file of the state that was written since then (Unix seconds)."""
        texts = dict(outputs)
        for path in self.stage.state_directory.rglob("*"):
            if path.is_file() and path.stat().st_mtime >= since:
                texts[str(path.relative_to(self.stage.state_directory))] = path.read_text(errors="replace")
        return [f"a value is in plaintext in {where}" for where, text in texts.items() if self._has_value(text)]

    def _has_value(self, text: str) -> bool:
        return any(value in text for value in self.values)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _session(leader: int) -> list[psutil.Process]:
    """All processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _parts(value: str) -> set[str]:
    """What of a value is secret: of a URL the password, of a token less the name of its scheme."""
    password = urlsplit(value).password if "://" in value else None
    parts = {password} if password else {value, *value.split()}
    return {part for part in parts if part and len(part) > SCAN}


def fingerprint(value: str) -> str:
    """How `inspect` names a value."""
    return hashlib.sha256(value.encode()).hexdigest()


@contextlib.contextmanager
def bench(directory: Path, secret: str) -> Iterator[Bench]:
    """A new sandbox with generation 1 of one secret deployed. Stopped at the end, with all that runs in it.

    Raises:
        FailedError: Generation 1 could not be deployed.
    """
    with workspace(directory, *SANDBOX_OPTIONS, "--tenants", TENANTS.get(secret, "0")) as stage:
        stage.must("config", "rm", "--stack", STACK, "rotations")
        stage.set_generation(secret, 1)
        for key, value in SETTINGS.items():
            stage.configure(key, value)
        if secret == KEY:
            stage.set_secret("encryptionKeyBefore", stage.environment[KEY])
            stage.configure(f"compromised.{KEY}", "1", path=True)
        with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
            made = Bench(stage=stage, secret=secret, world=world)
            made.values |= {
                value
                for name, value in stage.environment.items()
                if name.endswith(("_TOKEN", "_API_KEY", "_SESSION")) and len(value) > SCAN
            }
            made.note_value()
            made.deploy(1)
            for generation in range(2, 2 + WARM_UP.get(secret, 0)):
                made.deploy(generation)
            yield made
