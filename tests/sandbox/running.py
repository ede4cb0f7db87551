"""A running sandbox, addressed as its users address it: by command line and by HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import psutil

from sandbox import cli, server
from sandbox.fly import apps
from sandbox.fly import secrets as app_secrets
from sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CONTROL_PLANE = "/v1/apps/molecule-cp"
TENANT = "/v1/apps/molecule-tenant"
PATIENCE = 90.0
"""Seconds that a test waits for what takes less than one on an idle machine."""

T = TypeVar("T")


def until(condition: Callable[[], T | None], *, what: str) -> T:
    """Return the first truthy value of `condition`; fail with `what` if there is none in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"In {PATIENCE:.0f} s it did not happen: {what}")


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m sandbox`."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        env=None if environment is None else {**os.environ, **environment},
    )


class Sandbox:
    """One sandbox in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: dict[str, str] = {}
        self._client = httpx.Client(timeout=90, trust_env=False)

    def command(self, name: str, *arguments: str) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = run(name, "--dir", str(self.directory), *arguments)
        assert done.returncode == 0, f"sandbox {name}: {done.stderr}"
        return done.stdout

    def quickly(self, name: str, *arguments: str) -> None:
        """Run a command that must succeed in this process: Python's start is most of what a command costs."""
        assert cli.main([name, "--dir", str(self.directory), *arguments]) == 0

    def start(self, *arguments: str) -> None:
        """Start it detached and read its environment."""
        self.command("start", "--detach", *arguments)
        words = [word for line in self.command("env").splitlines() for word in shlex.split(line)]
        self.environment = dict(word.split("=", 1) for word in words if word != "export")

    def stop(self) -> None:
        """Stop it."""
        self.command("stop")

    def process(self) -> psutil.Process:
        """Return the server's process."""
        return psutil.Process(json.loads((self.directory / "sandbox.pid").read_text())["pid"])

    def kill(self) -> None:
        """Kill the server as nothing can prevent."""
        server = self.process()
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not alive(server), what="the killed server has ended")

    def inspect(self) -> dict[str, Any]:
        """Return what the command prints, without the cost of a process."""
        with self.world() as world:
            return server.inspect(world)

    @contextlib.contextmanager
    def setting(self, **settings: object) -> Iterator[None]:
        """Change settings (`__` stands for a dot) for the length of a block."""
        names = {name.replace("__", "."): value for name, value in settings.items()}
        self.quickly("set", *(f"{name}={value}" for name, value in names.items()))
        try:
            yield
        finally:
            self.quickly("unset", *names)

    @contextlib.contextmanager
    def fault(self, *arguments: str) -> Iterator[None]:
        """Inject a fault for the length of a block."""
        self.quickly("fault", *arguments)
        try:
            yield
        finally:
            self.quickly("fault", "--clear")

    # -- Fly ----------------------------------------------------------------------------------------------------------

    @property
    def operator(self) -> str:
        """The operator's token."""
        return self.environment["FLY_ACCESS_TOKEN"]

    def fly(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        authorization: str | None = None,
        nonce: str | None = None,
        consumer: str | None = None,
    ) -> httpx.Response:
        """Call the Machines API, as the operator unless told otherwise; an empty `authorization` sends none."""
        headers = {"authorization": f"Bearer {self.operator}" if authorization is None else authorization}
        if not headers["authorization"]:
            del headers["authorization"]
        if nonce is not None:
            headers["fly-machine-lease-nonce"] = nonce
        if consumer is not None:
            headers["sandbox-consumer"] = consumer
        url = self.environment["FLY_FLAPS_BASE_URL"] + path
        return self._client.request(method, url, headers=headers, json=document)

    def graphql(
        self, query: str, variables: Mapping[str, Any] | None = None, *, authorization: str | None = None
    ) -> dict[str, Any]:
        """Execute a query and return the whole answer."""
        answer = self.fly(
            "POST", "/graphql", {"query": query, "variables": variables or {}}, authorization=authorization
        )
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def mint(
        self, *, app: str = "molecule-cp", name: str = "test", expiry: str = "", profile: str = "deploy"
    ) -> dict[str, Any]:
        """Mint a token and return its `id` and `tokenHeader`."""
        found = self.graphql("query($name: String!) { app(name: $name) { id organization { id } } }", {"name": app})
        answer = self.graphql(
            """
            mutation($input: CreateLimitedAccessTokenInput!) {
              createLimitedAccessToken(input: $input) { limitedAccessToken { id name tokenHeader expiresAt profile } }
            }
            """,
            {
                "input": {
                    "name": name,
                    "organizationId": found["data"]["app"]["organization"]["id"],
                    "profile": profile,
                    "profileParams": {"app_id": found["data"]["app"]["id"]} if profile == "deploy" else {},
                    "expiry": expiry,
                }
            },
        )
        assert "errors" not in answer, answer
        token: dict[str, Any] = answer["data"]["createLimitedAccessToken"]["limitedAccessToken"]
        return token

    def revoke(self, identifier: str) -> dict[str, Any]:
        """Revoke a token and return the whole answer."""
        return self.graphql(
            "mutation($input: DeleteLimitedAccessTokenInput!) { deleteLimitedAccessToken(input: $input) { token } }",
            {"input": {"id": identifier}},
        )

    def secrets(self, **values: str | None) -> int:
        """Set and unset secrets of the control plane, and return the version."""
        answer = self.fly("POST", f"{CONTROL_PLANE}/secrets", {"values": values})
        assert answer.status_code == 200, answer.text
        version: int = answer.json()["version"]
        return version

    def machines(self, app: str = CONTROL_PLANE) -> list[dict[str, Any]]:
        """List an app's machines."""
        answer = self.fly("GET", f"{app}/machines")
        assert answer.status_code == 200, answer.text
        machines: list[dict[str, Any]] = answer.json()
        return machines

    def machine(self, identifier: str, app: str = CONTROL_PLANE) -> dict[str, Any]:
        """Get a machine."""
        machine: dict[str, Any] = self.fly("GET", f"{app}/machines/{identifier}").json()
        return machine

    def update(self, machine: Mapping[str, Any], *, nonce: str | None = None, **fields: object) -> httpx.Response:
        """Update a machine of the control plane with the configuration that it has."""
        body = {"config": machine["config"], "region": machine["region"], "skip_secrets": False, **fields}
        return self.fly("POST", f"{CONTROL_PLANE}/machines/{machine['id']}", body, nonce=nonce)

    def wait_healthy(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Wait until this very version of a machine is started and passes its checks."""

        def healthy() -> dict[str, Any] | None:
            now = self.machine(machine["id"])
            same = now["instance_id"] == machine["instance_id"] and now["state"] == "started"
            return now if same and all(check["status"] == "passing" for check in now["checks"]) else None

        return until(healthy, what=f"machine {machine['id']} is healthy")

    def roll(self) -> None:
        """Restart the control plane with its newest secrets, one machine after the other."""
        for machine in self.machines():
            answer = self.update(machine)
            assert answer.status_code == 200, answer.text
            self.wait_healthy(answer.json())

    def environment_of(self, identifier: str, app: str = "molecule-cp") -> dict[str, str]:
        """Return the SHA-256 of each variable of a machine's process."""
        machines = self.inspect()["fly"]["apps"][app]["machines"]
        environment: dict[str, str] = next(m for m in machines if m["id"] == identifier)["env_sha256"]
        return environment

    def process_of(self, identifier: str) -> dict[str, str]:
        """Return the environment of a machine's process, as the operating system knows it."""
        environments = [process.environ() for process in self.process().children()]
        return next(found for found in environments if found.get("FLY_MACHINE_ID") == identifier)

    # -- Neon and Resend ----------------------------------------------------------------------------------------------

    def neon(
        self, method: str, path: str, document: object = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """Call Neon's API, with the operator's key unless told otherwise; an empty one sends none."""
        url = self.environment["NEON_API_BASE_URL"] + path
        key = self.environment["NEON_API_KEY"] if key is None else key
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            headers["authorization"] = f"Bearer {key}"
        return self._client.request(method, url, headers=headers, json=document)

    def resend(
        self, method: str, path: str, document: object = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """Call Resend's API, with the operator's key unless told otherwise; an empty one sends none."""
        url = self.environment["RESEND_API_URL"] + path
        key = self.environment["RESEND_API_KEY"] if key is None else key
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            headers["authorization"] = f"Bearer {key}"
        return self._client.request(method, url, headers=headers, json=document)

    # -- Upstash ------------------------------------------------------------------------------------------------------

    def upstash(self, method: str, path: str, *, account: tuple[str, str] | None = None) -> httpx.Response:
        """Call Upstash's management API, as the operator unless told otherwise."""
        account = account or (self.environment["UPSTASH_EMAIL"], self.environment["UPSTASH_API_KEY"])
        return self._client.request(method, self.environment["UPSTASH_API_URL"] + path, auth=account)

    def database(self) -> dict[str, Any]:
        """Return the tenants' database with its credentials."""
        answer = self.upstash("GET", f"/redis/database/{self.environment['UPSTASH_REDIS_ID']}")
        assert answer.status_code == 200, answer.text
        database: dict[str, Any] = answer.json()
        return database

    def reset_password(self) -> dict[str, Any]:
        """Reset the password of the tenants' database and return the answer."""
        answer = self.upstash("POST", f"/redis/reset-password/{self.environment['UPSTASH_REDIS_ID']}")
        assert answer.status_code == 200, answer.text
        database: dict[str, Any] = answer.json()
        return database

    def rest(
        self, *words: object, token: str | None = None, path: str = "/", consumer: str | None = None
    ) -> httpx.Response:
        """Send a command to the database's REST API, with its standard token unless told otherwise."""
        token = self.database()["rest_token"] if token is None else token
        headers = {"authorization": f"Bearer {token}"} | ({} if consumer is None else {"sandbox-consumer": consumer})
        url = self.environment["UPSTASH_REDIS_REST_URL"] + path
        return self._client.post(url, headers=headers, json=list(words))

    def acl(self, *words: object) -> Any:  # noqa: ANN401 - any JSON
        """Send an ACL command that must succeed, and return its result."""
        answer = self.rest("ACL", *words)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def acl_user(self, name: str) -> str:
        """Create a user who may do everything, and return its token."""
        token = str(self.acl("GENTOKEN", name))
        assert self.acl("SETUSER", name, "on", f">{token}", "~*", "&*", "+@all") == "OK"
        return token

    def redis_url(self, user: str, password: str) -> str:
        """Return the URL for a user of the tenants' database."""
        database = self.database()
        return f"redis://{user}:{password}@{database['endpoint']}:{database['port']}"

    def tenant(self, method: str, slug: str, path: str, document: object = None) -> httpx.Response:
        """Call an organization's tenant through Fly's proxy."""
        machine = next(machine for machine in self.machines(TENANT) if machine["name"] == f"tenant-{slug}")
        url = self.environment["TENANT_URL"] + path
        return self._client.request(method, url, headers={"fly-force-instance-id": machine["id"]}, json=document)

    # -- the control plane --------------------------------------------------------------------------------------------

    def control_plane(
        self, method: str, path: str, document: object = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Call the control plane through Fly's proxy, with the administrator's token unless told otherwise."""
        if headers is None:
            headers = {"authorization": f"Bearer {self.environment['CP_ADMIN_API_TOKEN']}"}
        url = self.environment["CONTROL_PLANE_URL"] + path
        return self._client.request(method, url, headers=dict(headers), json=document)

    def status_of(self, slug: str) -> str | None:
        """Return an organization's status; `None` if there is none."""
        organizations = self.control_plane("GET", "/cp/admin/orgs?limit=500").json()["orgs"]
        return next((org["instance_status"] for org in organizations if org["slug"] == slug), None)

    def provision(self, slug: str) -> str:
        """Create an organization and return the status that it ends in."""
        answer = self.control_plane("POST", "/cp/admin/orgs", {"slug": slug, "name": "Test", "owner_user_id": "user-1"})
        assert answer.status_code == 201, answer.text
        return until(
            lambda: status if (status := self.status_of(slug)) != "provisioning" else None,
            what=f"{slug} is provisioned",
        )

    # -- the world ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def world(self) -> Iterator[World]:
        """Open the sandbox's database."""
        with contextlib.closing(World(self.directory, create=False)) as world:
            yield world

    def secret_value(self, name: str) -> str:
        """Return the value of a secret of the control plane, which only the sandbox's own code can read."""
        with self.world() as world:
            app = apps.find(world, name="molecule-cp")
            assert app is not None
            return next(secret.value for secret in app_secrets.snapshot(world, app) if secret.name == name)


class Client:
    """Calls the control plane without a pause, and counts the calls that did not succeed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._end = threading.Event()
        self.calls = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._call) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._end.is_set():
                try:
                    status = client.get(self._url).status_code
                except httpx.HTTPError as error:
                    self.failures.append(type(error).__name__)
                else:
                    if status != 200:
                        self.failures.append(str(status))
                self.calls += 1
                time.sleep(0.005)


def alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children(server: psutil.Process) -> list[psutil.Process]:
    """Return every process that the server started."""
    return server.children(recursive=True)
