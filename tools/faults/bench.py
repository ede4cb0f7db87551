"""One sandbox with a stack in rotation, whose requests can be disturbed and whose processes can be killed."""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from sandbox import server
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.middleware import CONSUMER_HEADER
from sandbox.world import ADMIN_TOKEN, HOST, World
from tools.faults.kinds import HELD_UP, Blow
from tools.faults.scenarios import KEY, SCENARIOS, SENDER, STRIPE_KEY, WEBHOOK, Scenario, Step
from tools.workspace import STACK, FailedError, Workspace, workspace

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
HTTP_TIMEOUT = "5"  # seconds: ROTATION_HTTP_TIMEOUT
PATIENCE = 150.0  # seconds; more where an undisturbed rotation takes more than a quarter of that
REDEPLOYED = 40.0  # seconds for machines to be free and healthy
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
        outlived: Whether a process of our providers worked on after the engine had been killed.
    """

    status: int
    output: str
    seconds: float
    pressed: int = 0
    struck: bool = True
    session: int = 0
    outlived: bool = False


@dataclass
class Bench:
    """See the module's docstring.

    Attributes:
        stage: The workspace.
        scenario: What rotates.
        world: The sandbox's own truth.
        generation: The one that is settled; 0 before the first deployment.
        prepared: Whether everything is set for the next generation, so that only `pulumi up` is missing.
        handed_in: The values of that generation that no API mints.
        patience: Seconds after which somebody who waits for a `pulumi up` that says nothing presses Ctrl-C.
        values: Every value that has been delivered so far, and the operator's tokens: what must be found nowhere in plaintext.
    """

    stage: Workspace
    scenario: Scenario
    world: World
    generation: int = 0
    prepared: bool = False
    handed_in: dict[str, str] = field(default_factory=dict)
    patience: float = PATIENCE
    values: set[str] = field(default_factory=set)

    @property
    def secret(self) -> str:
        """What rotates, or the first of it."""
        return self.scenario.secrets[0]

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

    def hits(self) -> list[bool]:
        """Of each injected fault, whether it has struck."""
        return [each["seen"] >= each["nth"] for each in self._admin("GET", "/faults")["faults"]]

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

    def held_by_fly(self, secret: str = "") -> str:
        """The value that the control plane's app has, which no API of Fly's shows; of the first secret where none is named."""
        return self.all_held_by_fly()[secret or self.secret]

    def all_held_by_fly(self) -> dict[str, str]:
        """The same, of every secret that rotates."""
        app = apps.find(self.world, name=apps.CONTROL_PLANE)
        if app is None:
            raise LookupError(apps.CONTROL_PLANE)
        return {
            each.name: each.value
            for each in app_secrets.snapshot(self.world, app)
            if each.name in self.scenario.secrets
        }

    def redeploy(self) -> None:
        """Somebody else deploys: every machine of the control plane is updated with its own configuration, as flyctl does.

        Raises:
            FailedError: The machines are not healthy afterwards.
        """
        with httpx.Client(
            base_url=f"{self.stage.environment['FLY_FLAPS_BASE_URL']}/v1/apps/{apps.CONTROL_PLANE}",
            headers={
                "authorization": f"Bearer {self.stage.environment['FLY_ACCESS_TOKEN']}",
                CONSUMER_HEADER: "a deployment",  # nothing that the program asks for: it is not disturbed
            },
            timeout=30,
        ) as api:
            for machine in api.get("/machines").raise_for_status().json():
                path = f"/machines/{machine['id']}"
                # What the program could not give back ends by itself: shorter than that is nobody's patience.
                lease = self._leased(api, f"{path}/lease")
                nonce = {"fly-machine-lease-nonce": lease}
                body = {"config": machine["config"], "region": machine["region"]}
                api.post(path, json=body, headers=nonce).raise_for_status()
                api.delete(f"{path}/lease", headers=nonce).raise_for_status()
        deadline = time.monotonic() + REDEPLOYED
        while not all(each["healthy"] for each in self.inspect()["fly"]["apps"][apps.CONTROL_PLANE]["machines"]):
            if time.monotonic() > deadline:
                raise FailedError("machines are not healthy after a deployment")
            time.sleep(0.2)

    @staticmethod
    def _leased(api: httpx.Client, path: str) -> str:
        deadline = time.monotonic() + REDEPLOYED
        while True:
            answer = api.post(path, json={"ttl": 30})
            if answer.status_code != httpx.codes.CONFLICT or time.monotonic() > deadline:
                return str(answer.raise_for_status().json()["data"]["nonce"])
            time.sleep(1)

    # The stack

    def prepare(self) -> None:
        """Sets everything for the next generation, in the sandbox and the stack's config, so that only `pulumi up` is missing."""
        generation = self.generation + 1
        self.handed_in = {}
        for secret in self.scenario.secrets:
            if secret == SENDER:
                self.handed_in[secret] = f"Molecule AI <hello-{generation}@moleculesai.app>"
            elif secret == STRIPE_KEY:
                if self.generation:
                    self.stage.stripe("expire-key")  # of three keys nobody rotates
                self.handed_in[secret] = self.stage.stripe("roll-key", "--expires-in", "86400")
            elif secret == WEBHOOK and self.scenario.settings.get("stripeWebhookSecret") == "supplied":
                self.handed_in[secret] = self.stage.stripe("roll-webhook-secret")
                ends = (datetime.now(UTC) + timedelta(hours=24)).isoformat(timespec="seconds")
                self.stage.configure(f"oldValueExpiresAt.{WEBHOOK}", ends, path=True)
        for secret, value in self.handed_in.items():
            self.stage.hand_in(secret, value)
            self.values |= _parts(value)
        self.set_generation(generation)
        self.prepared = True

    def set_generation(self, generation: int) -> None:
        """Sets every counter, and `compromised` where that names one. In the file itself: `pulumi config set` takes a second."""
        path = self.stage.program_directory / "stacks" / f"Pulumi.{STACK}.yaml"
        text = path.read_text()
        for secret in self.scenario.secrets:
            listed = rf"""(?m)^(\s+{secret}:) "?\d+"?$"""
            text, count = re.subn(listed, rf"\g<1> {generation}", text)
            if count != (2 if secret == KEY else 1):
                raise LookupError(f"{secret} is listed {count} times in {path.name}")
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

    def deploy(self, *, steps: Sequence[Step] = (Step.UP,)) -> None:
        """An undisturbed rotation to the next generation.

        Raises:
            FailedError: It failed.
        """
        if not self.prepared:
            self.prepare()
        for step in steps:
            if step is Step.REDEPLOY:
                self.redeploy()
            elif (run := self.up()).status != 0:
                raise FailedError(run.output)
        self.settled()

    def settled(self) -> None:
        """The generation that was prepared is the settled one."""
        self.generation, self.prepared = self.generation + 1, False
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
                    if not struck and any(self.hits()):
                        self._strike(process, blow)
                        struck = True
                    if time.monotonic() - began > self.patience + pressed * GRACE:
                        pressed += 1
                        _signal(process, signal.SIGINT if pressed < 3 else signal.SIGKILL)  # noqa: PLR2004 - twice, then the end
                    time.sleep(0.05 if struck else 0.2)  # a request is held up for longer than that
            finally:
                if process.poll() is None:  # this harness itself is being ended
                    self.end_processes(process.pid)
                    process.kill()
                process.wait()
        outlived = False
        if blow is Blow.KILL_ENGINE:
            # What the killed engine left goes on: that is the point. The request that it waits for is answered by now.
            time.sleep(HELD_UP / 1000)
            outlived = any(PROVIDER[-1] in _words(each) for each in _session(process.pid))
        else:
            self.end_processes(process.pid)
        return Run(
            status=process.returncode,
            output=log.read_text(errors="replace"),
            seconds=time.monotonic() - began,
            pressed=pressed,
            struck=struck,
            session=process.pid,
            outlived=outlived,
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
        """From now on what Fly holds of the secrets must be found nowhere in plaintext."""
        for value in self.all_held_by_fly().values():
            self.values |= _parts(value)

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
def bench(directory: Path, name: str) -> Iterator[Bench]:
    """A new sandbox, ready for a rotation: nothing but `pulumi up` is missing. Stopped at the end, with all that runs in it.

    Args:
        directory: New or empty.
        name: Of the scenario: of a secret, where that alone rotates.

    Raises:
        FailedError: What comes before the rotation failed.
    """
    scenario = SCENARIOS[name]
    with workspace(directory, *SANDBOX_OPTIONS, "--tenants", str(scenario.tenants)) as stage:
        stage.must("config", "rm", "--stack", STACK, "rotations")
        configured = {**SETTINGS, **scenario.settings, **{f"rotations.{secret}": "1" for secret in scenario.secrets}}
        if STRIPE_KEY in scenario.secrets:
            configured["stripeAccount"] = stage.environment["STRIPE_ACCOUNT_ID"]
        if KEY in scenario.secrets:
            configured[f"compromised.{KEY}"] = "1"
            stage.set_secret("encryptionKeyBefore", stage.environment[KEY])
        configure(stage, configured)
        with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
            made = Bench(stage=stage, scenario=scenario, world=world)
            made.values |= {
                value
                for name, value in stage.environment.items()
                if name.endswith(("_TOKEN", "_API_KEY", "_SESSION")) and len(value) > SCAN
            }
            made.note_value()
            for _ in range(0 if scenario.first else 1 + scenario.warm_up):
                made.deploy()
            if scenario.later:
                configure(stage, scenario.later)
            made.prepare()
            yield made


def configure(stage: Workspace, settings: Mapping[str, str]) -> None:
    """Sets keys of the stack's config, which may be paths, in one call."""
    pairs = [part for key, value in settings.items() for part in ("--plaintext", f"{key}={value}")]
    stage.must("config", "set-all", "--stack", STACK, "--path", *pairs)
