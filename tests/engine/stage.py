"""A workspace with the questions that engine tests ask."""

import base64
import contextlib
import hashlib
import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil
from nacl.public import PublicKey, SealedBox

from sandbox import cli
from tools.rehearsal.servers import fly_secret
from tools.workspace import STACK, FailedError, Result, Workspace

SECRET = "FLY_API_TOKEN"
NEON, RESEND = "NEON_API_KEY", "RESEND_API_KEY"
KEY, SENDER, WEBHOOK = "STRIPE_API_KEY", "RESEND_FROM_EMAIL", "STRIPE_WEBHOOK_SECRET"
APP = "molecule-cp"
REPOSITORY = "Molecule-AI/molecule-monorepo"
AT_GITHUB = f"/repos/{REPOSITORY}/actions/secrets"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
SYSTEMS = ("fly", "github", "control-plane", "neon", "resend", "stripe")
SECRET_VALUE = "4dabf18193072939515e22adb298388d"
"""What marks a secret in the state (Pulumi, `resource.SigKey`)."""
MACHINES_TIMEOUT = 90  # seconds for machines to be healthy after somebody else's deployment


def family(secret: str) -> str:
    """What the credentials of a secret are called, less the generation."""
    return f"molecule-cp-rotation-sandbox-{secret}"


FAMILY = family(SECRET)


class Stage(Workspace):
    """A workspace; `inspect` is asked anew for every question."""

    def sandbox(self, *arguments: str, timeout: float = 120) -> str:
        """The same in this process, where that does not matter: Python's start is most of what a command costs."""
        command, *rest = arguments
        if command in {"start", "stop"}:
            return super().sandbox(*arguments, timeout=timeout)
        return self._in_this_process(command, "--dir", str(self.sandbox_directory), *rest)

    def stripe(self, action: str, *arguments: str) -> str:
        """The same in this process."""
        return self._in_this_process("stripe", action, "--dir", str(self.sandbox_directory), *arguments).strip()

    @staticmethod
    def _in_this_process(*arguments: str) -> str:
        shown, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            status = cli.main(arguments)
        if status != 0:
            raise FailedError(f"{' '.join(arguments)}: exit status {status}\n{said.getvalue()}")
        return shown.getvalue()

    def deploys(self, *arguments: str) -> str:
        """`pulumi up` that has to succeed; returns what it printed."""
        result = self.up(*arguments)
        assert result.status == 0, result.output
        return result.output

    def fails(self, *arguments: str) -> str:
        """`pulumi up` that has to fail; returns what it printed."""
        result = self.up(*arguments)
        assert result.status != 0, result.output
        return result.output

    def is_killed_once(self, reached: Callable[[], bool]) -> None:
        """`pulumi up` that is killed with all its plugins (`kill -9`) as soon as that is true."""
        process = subprocess.Popen(
            ["pulumi", "up", "--yes", "--skip-preview", "--stack", STACK, "--non-interactive"],
            cwd=self.program_directory,
            env=dict(self.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while not (come := reached()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # ended with its parent
                member.kill()
        process.wait()
        assert come, "the update never got there"

    def preview(self, *arguments: str) -> Result:
        """`pulumi preview`."""
        return self.pulumi("preview", "--stack", STACK, *arguments)

    @property
    def stack_file(self) -> Path:
        """The stack's config."""
        return self.program_directory / "stacks" / f"Pulumi.{STACK}.yaml"

    def impact(self) -> dict[str, Any]:
        """What a preview says that an update is going to do, as data (docs/impact.schema.json)."""
        file = self.directory / "impact.json"
        file.unlink(missing_ok=True)
        result = self.pulumi("preview", "--stack", STACK, environment={"ROTATION_IMPACT_FILE": str(file)})
        assert result.status == 0, result.output
        data: dict[str, Any] = json.loads(file.read_text())
        assert one_line(data["text"]) in one_line(result.output), "the file has what is printed"
        return data

    def requests(self, *, after: int = 0) -> list[dict[str, Any]]:
        """The requests that the sandbox got since the one of that number, by whomever."""
        return [json.loads(line) for line in self.sandbox("requests", "--after", str(after)).splitlines()]

    def refused_by_fly_for_their_rate(self) -> dict[str, int]:
        """How many requests Fly has answered 429, by kind. Only where `rate_limits` is switched on."""
        refused: dict[str, int] = self.inspect()["rate_limited"]
        return {request: count for request, count in refused.items() if request.startswith("fly ")}

    def last_request(self) -> int:
        """The number of the request that came last."""
        return int(self.requests()[-1]["number"])

    def planned(self) -> dict[str, int]:
        """What a preview is going to do, counted by operation; resources that stay as they are left out."""
        result = self.preview("--json")
        assert result.status == 0, result.output
        changes: dict[str, int] = json.loads(result.output[result.output.index("{") :])["changeSummary"]
        return {operation: count for operation, count in changes.items() if operation != "same"}

    def refuses(self, *said: str, environment: dict[str, str] | None = None) -> None:
        """Preview and update are refused alike, in these words, without a traceback, and nothing is written anywhere."""
        writes = self.writes()
        for command in (("preview",), ("up", "--yes", "--skip-preview")):
            result = self.pulumi(*command, "--stack", STACK, environment=environment)
            assert result.status != 0, result.output
            text = one_line(result.output)
            for words in (*said, "nothing was changed"):
                assert words in text, (words, result.output)
            assert "Traceback" not in text, result.output
        assert self.writes() == writes

    def assert_no_change(self) -> None:
        """A preview shows no change and no pending deletion, and its impact says the same."""
        result = self.preview("--expect-no-changes")
        assert result.status == 0, result.output
        assert f"Nothing to rotate on stack {STACK}." in result.output, result.output
        assert not any(resource.get("delete") for resource in self.resources())

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the state."""
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            return checkpoint.get("resources") or []
        exported = json_of(self.must("stack", "export", "--stack", STACK))
        resources: list[dict[str, Any]] = exported["deployment"].get("resources") or []
        return resources

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        checkpoint = self._checkpoint() or {}
        for resource in checkpoint.get("resources") or []:
            found: dict[str, Any] = resource.get("outputs") or {}
            if resource["type"] == "pulumi:pulumi:Stack" and SECRET_VALUE not in json.dumps(found):
                return found
        return super().outputs()

    def _checkpoint(self) -> dict[str, Any] | None:
        """The state as it lies in the folder, which takes a hundredth of what asking the engine does; nothing on another backend."""
        if self.environment.get("PULUMI_BACKEND_URL") != self.state_directory.as_uri():
            return None
        found = next(self.state_directory.glob(f".pulumi/stacks/*/{STACK}.json"), None)
        if found is None:
            return None
        checkpoint: dict[str, Any] | None = json.loads(found.read_text())["checkpoint"]["latest"]
        return checkpoint

    def assert_not_in_state(self, values: Iterable[str]) -> None:
        """The state has these values encrypted only: its export, and whatever the backend has kept of it."""
        texts = [path.read_text(errors="replace") for path in self.state_directory.rglob("*") if path.is_file()]
        texts.append(self.must("stack", "export", "--stack", STACK))
        for value in values:
            assert not any(value in text for text in texts), "a value is in plaintext in the state"

    def decrypted(self) -> str:
        """The exported state with its secrets in plaintext."""
        return self.must("stack", "export", "--show-secrets", "--stack", STACK)

    def urn(self, suffix: str) -> str:
        """The URN that ends so."""
        return next(str(resource["urn"]) for resource in self.resources() if resource["urn"].endswith("::" + suffix))

    def rotates(self, *secrets: str) -> None:
        """Lists these secrets, and no others, with generation 1."""
        listed = "".join(f"    {secret}: 1\n" for secret in secrets)
        text, count = re.subn(
            r"(?m)^  molecule-secrets:rotations:\n(    .*\n)*",
            f"  molecule-secrets:rotations:\n{listed}",
            self.stack_file.read_text(),
        )
        assert count == 1, text
        self.stack_file.write_text(text)

    def set_generations(self, generation: int, *secrets: str) -> None:
        """Sets the rotation counter of several secrets."""
        new = [secret for secret in secrets if not self._counts(secret, generation)]
        if new:
            counters = [part for secret in new for part in ("--plaintext", f"rotations.{secret}={generation}")]
            self.must("config", "set-all", "--stack", STACK, "--path", *counters)

    def set_generation(self, secret: str, generation: object) -> None:
        """Sets a rotation counter."""
        if not (isinstance(generation, int) and self._counts(secret, generation)):
            super().set_generation(secret, generation)

    def configure(self, key: str, value: str, *, path: bool = False) -> None:
        """Sets a key of the stack's config."""
        before = self.stack_file.read_text()
        named = f"  molecule-secrets:{key}:"
        line = f"{named} {json.dumps(value)}\n"
        if path or ":" in key or f"{named}\n" in before:
            super().configure(key, value, path=path)
            return
        text = re.sub(rf"(?m)^{re.escape(named)} .*\n", "", before)
        text, count = re.subn(r"(?m)^config:\n", lambda found: found[0] + line, text)
        assert count == 1, before
        self.stack_file.write_text(text)

    def _counts(self, secret: str, generation: int) -> bool:
        """Sets a counter in the file itself, which takes a thousandth of what `pulumi config set` does; false if it is not there."""
        before = self.stack_file.read_text()
        text, count = re.subn(
            rf'(?m)^(  molecule-secrets:rotations:\n(?:    .*\n)*?    {secret}:) "?\d+"?$',
            rf"\g<1> {generation}",
            before,
        )
        if count:
            self.stack_file.write_text(text)
        return bool(count)

    def credentials(self, secret: str = SECRET) -> list[dict[str, Any]]:
        """Every credential of the family, alive or not, oldest first."""
        return [each for each in self.inspect()["credentials"] if each["family"] == family(secret)]

    def live(self, secret: str = SECRET) -> list[str]:
        """The names of the live credentials of the family."""
        return sorted(each["name"] for each in self.credentials(secret) if each["live"])

    def minted(self) -> int:
        """How many tokens have been minted through the API."""
        return int(self.inspect()["requests"].get("fly POST /graphql createLimitedAccessToken", 0))

    def revoked(self) -> int:
        """How many revocations have been asked for."""
        return int(self.inspect()["requests"].get("fly POST /graphql deleteLimitedAccessToken", 0))

    def writes(self) -> dict[str, int]:
        """The requests that change something at any system, counted. Queries of GraphQL are reads."""
        return {
            request: count
            for request, count in self.inspect()["requests"].items()
            if request.split()[0] in SYSTEMS
            and request.split()[1] in WRITES
            and not request.startswith("fly POST /graphql app")
        }

    def rollouts(self) -> int:
        """How many rolling restarts the control plane has had."""
        return int(self.inspect()["fly"]["apps"][APP]["rollouts"])

    def holdings(self, secret: str = SECRET) -> dict[str, str]:
        """The SHA-256 of the secret in every place that holds it."""
        world = self.inspect()
        app = world["fly"]["apps"][APP]
        held = {f"machine {machine['id']}": machine["env_sha256"][secret] for machine in app["machines"]}
        held["Fly"] = app["secrets"][secret]["sha256"]
        in_repository = world["github"]["repositories"][REPOSITORY]["secrets"]
        if secret in in_repository:
            held["GitHub"] = in_repository[secret]["sha256"]
        return held

    def credential(self, name: str) -> dict[str, Any]:
        """A credential of the sandbox by its name; the newest of several."""
        found: list[dict[str, Any]] = [each for each in self.inspect()["credentials"] if each["name"] == name]
        return found[-1]

    def generation_held(self, secret: str = SECRET) -> dict[str, int | str]:
        """Which generation every place holds; "hand-made" for none of the family."""
        generations = {
            each["sha256"]: int(each["name"].removeprefix(family(secret) + "-g")) for each in self.credentials(secret)
        }
        return {place: generations.get(value, "hand-made") for place, value in self.holdings(secret).items()}

    def tenants_hold(self, variable: str, value: str) -> int:
        """How many machines of tenants hold a value."""
        machines = self.inspect()["fly"]["apps"]["molecule-tenant"]["machines"]
        return sum(each["env_sha256"].get(variable) == digest(value) for each in machines)

    def await_unhealthy(self, *slugs: str) -> None:
        """Waits until these tenants are not healthy, and all others are."""
        deadline = time.monotonic() + MACHINES_TIMEOUT
        while True:
            machines = self.inspect()["fly"]["apps"]["molecule-tenant"]["machines"]
            if sum(not each["healthy"] for each in machines) == len(slugs):
                return
            assert time.monotonic() < deadline, f"{slugs} are not the ones that are ill"
            time.sleep(0.2)

    def assert_holds(self, secret: str, value: str) -> None:
        """Fly and every machine hold this value."""
        assert set(self.holdings(secret).values()) == {digest(value)}, secret

    def fly_secret(self, name: str) -> str:
        """The value that Fly has for a secret of the control plane, which no API of Fly's shows."""
        return fly_secret(self.sandbox_directory, name)

    def lives(self, value: str) -> bool:
        """Whether its provider accepts the credential with this value."""
        return next(bool(each["live"]) for each in self.inspect()["credentials"] if each["sha256"] == digest(value))

    def write_fly_secret(self, name: str, value: str) -> None:
        """Somebody else sets a secret of the control plane, and restarts nothing."""
        self._machines_api().post("/secrets", json={"values": {name: value}}).raise_for_status()

    def redeploy(self) -> None:
        """Somebody else deploys: every machine is updated with its own configuration, as flyctl does."""
        with self._machines_api() as api:
            for machine in api.get("/machines").raise_for_status().json():
                path = f"/machines/{machine['id']}"
                lease = api.post(f"{path}/lease", json={"ttl": 30}).raise_for_status().json()
                nonce = {"fly-machine-lease-nonce": lease["data"]["nonce"]}
                body = {"config": machine["config"], "region": machine["region"]}
                api.post(path, json=body, headers=nonce).raise_for_status()
                api.delete(f"{path}/lease", headers=nonce).raise_for_status()
        deadline = time.monotonic() + MACHINES_TIMEOUT
        while not all(machine["healthy"] for machine in self.inspect()["fly"]["apps"][APP]["machines"]):
            assert time.monotonic() < deadline, "machines are not healthy after a deployment"
            time.sleep(0.2)

    def _machines_api(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.environment['FLY_FLAPS_BASE_URL']}/v1/apps/{APP}",
            headers={"authorization": f"Bearer {self.environment['FLY_ACCESS_TOKEN']}"},
            timeout=30,
        )

    def github(self) -> httpx.Client:
        """The sandbox's GitHub, for the operator."""
        return httpx.Client(
            base_url=self.environment["GITHUB_API_URL"],
            headers={"authorization": f"Bearer {self.environment['GITHUB_TOKEN']}"},
            timeout=30,
        )

    def overwrite_at_github(self, value: str, *, secret: str = SECRET, place: str = AT_GITHUB) -> None:
        """Somebody sets a secret at GitHub; a new second begins, because GitHub's times have no parts of one."""
        time.sleep(1)
        with self.github() as api:
            key = api.get(f"{place}/public-key").raise_for_status().json()
            sealed = SealedBox(PublicKey(base64.b64decode(key["key"]))).encrypt(value.encode())
            body = {"key_id": key["key_id"], "encrypted_value": base64.b64encode(sealed).decode()}
            api.put(f"{place}/{secret}", json=body).raise_for_status()

    def assert_alone(self, generation: int, *secrets: str) -> None:
        """Every place holds this generation, it alone is live, and no consumer was ever refused."""
        for secret in secrets:
            assert set(self.generation_held(secret).values()) == {generation}, secret
            assert self.live(secret) == [f"{family(secret)}-g{generation}"]
        assert self.inspect()["breakages"] == []

    def assert_settled(self, generation: int, *secrets: str) -> None:
        """The same, and the stack's output says so. The engine writes outputs only when a whole update succeeds."""
        settled = secrets or (SECRET,)
        self.assert_alone(generation, *settled)
        verified = self.outputs()["secrets"]
        assert {secret: verified[secret]["generation"] for secret in settled} == dict.fromkeys(settled, generation)


def digest(value: str) -> str:
    """How `inspect` names a value."""
    return hashlib.sha256(value.encode()).hexdigest()


def one_line(output: str) -> str:
    """What was printed, in one line: the engine breaks long ones."""
    return " ".join(output.split())


def json_of(text: str) -> Any:  # noqa: ANN401 - any JSON
    """The JSON value that a command printed."""
    return json.loads(text)
