"""What the tests of the sandbox's GitHub share: a running sandbox and the hands to work with its GitHub."""

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from nacl.public import PublicKey, SealedBox

from tests.sandbox.running import PATIENCE, Sandbox, until

REPOSITORY = "/repos/Molecule-AI/molecule-monorepo"
SECRETS = f"{REPOSITORY}/actions/secrets"
WORKFLOW = f"{REPOSITORY}/actions/workflows/publish-platform-image.yml"
RUNS = f"{REPOSITORY}/actions/runs"


def sha256(value: str) -> str:
    """Return what `inspect` shows of a value."""
    return hashlib.sha256(value.encode()).hexdigest()


class Hub(Sandbox):
    """A sandbox with one control-plane machine, for tests that are about GitHub."""

    def start(self, *arguments: str) -> None:
        """Start or resume the sandbox."""
        super().start("--machines", "1", *arguments)
        with self.world() as world:
            self.site_administrator = world.kept("GITHUB_SITE_ADMIN_TOKEN") or ""

    def runners(self) -> list[psutil.Process]:
        """Return the processes of the runs that are in progress."""
        return [child for child in self.process().children() if "sandbox.runner" in child.cmdline()]

    @property
    def url(self) -> str:
        """Base URL without a prefix."""
        return self.environment["GITHUB_API_URL"]

    @property
    def token(self) -> str:
        """The operator's token."""
        return self.environment["GITHUB_TOKEN"]

    def client(self, token: str | None = None, *, prefix: str = "") -> httpx.Client:
        """Return a client with the operator's or another token; with an empty one, with none."""
        value = self.token if token is None else token
        headers = {"Authorization": f"Bearer {value}"} if value else {}
        return httpx.Client(base_url=self.url + prefix, headers=headers, timeout=PATIENCE, trust_env=False)

    def token_for(self, login: str, **power: object) -> str:
        """Return a new token of a user, who is made if need be: `scopes=[…]` or `permissions={…}`."""
        with self.client(self.site_administrator) as client:
            if client.get(f"/users/{login}").status_code == 404:
                client.post("/admin/users", json={"login": login}).raise_for_status()
            answer = client.post(f"/admin/users/{login}/authorizations", json=power)
            answer.raise_for_status()
            return str(answer.json()["token"])

    # -- secrets ------------------------------------------------------------------------------------------------------

    def seal(self, store: str, value: str) -> dict[str, str]:
        """Return the body of a PUT to a store, given as the path of its secrets."""
        with self.client() as client:
            key = client.get(f"{store}/public-key").json()
        box = SealedBox(PublicKey(base64.b64decode(key["key"])))
        return {"key_id": key["key_id"], "encrypted_value": base64.b64encode(box.encrypt(value.encode())).decode()}

    def put_secret(self, name: str, value: str, *, store: str = SECRETS) -> httpx.Response:
        """Seal a value and write it."""
        with self.client() as client:
            return client.put(f"{store}/{name}", json=self.seal(store, value))

    def actions_secrets(self) -> dict[str, dict[str, str]]:
        """Return what `inspect` tells of the repository's Actions secrets."""
        repositories: dict[str, Any] = self.inspect()["github"]["repositories"]
        found: dict[str, dict[str, str]] = repositories["Molecule-AI/molecule-monorepo"]["secrets"]
        return found

    @contextlib.contextmanager
    def worthless_secret(self) -> Iterator[str]:
        """Let `FLY_API_TOKEN` hold a value that no registry knows, for the length of a block."""
        value = "FlyV1 fm2_worthless"
        self.put_secret("FLY_API_TOKEN", value)
        try:
            yield value
        finally:
            # The control plane was given the same one.
            self.put_secret("FLY_API_TOKEN", self.secret_value("FLY_API_TOKEN"))

    # -- runs ---------------------------------------------------------------------------------------------------------

    def dispatch(self) -> int:
        """Dispatch the workflow and return the id of its run."""
        with self.client() as client:
            answer = client.post(f"{WORKFLOW}/dispatches", json={"ref": "main", "return_run_details": True})
            assert answer.status_code == 200, answer.text
            return int(answer.json()["workflow_run_id"])

    def run(self, run_id: int) -> dict[str, Any]:
        """Return a run as the API shows it."""
        with self.client() as client:
            found: dict[str, Any] = client.get(f"{RUNS}/{run_id}").json()
            return found

    def wait(self, run_id: int, status: str = "completed") -> dict[str, Any]:
        """Wait until a run has a status, and return it."""

        def reached() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] == status else None

        run = until(reached, what=f"run {run_id} {status}")
        assert run is not None
        return run

    def log(self, run_id: int) -> str:
        """Return the log of a run's last attempt."""
        with self.client() as client:
            job = client.get(f"{RUNS}/{run_id}/jobs").json()["jobs"][0]
            redirect = client.get(f"{REPOSITORY}/actions/jobs/{job['id']}/logs")
            assert redirect.status_code == 302
        # As GitHub's: the link needs no token.
        return httpx.get(redirect.headers["Location"], trust_env=False).text

    def broken_consumers(self) -> set[str]:
        """Return who was refused somewhere."""
        return {breakage["consumer"] for breakage in self.inspect()["breakages"]}


def consumer(run_id: int) -> str:
    """Return the name under which a run's breakages are recorded."""
    return f"Molecule-AI/molecule-monorepo run {run_id}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Yield a sandbox that the tests of a module share; each leaves it as it was."""
    started = Hub(tmp_path_factory.mktemp("sandbox"))
    with pytest.MonkeyPatch.context() as patch:
        # As in the shell of an operator, who has sourced what belongs to another sandbox.
        patch.setenv("FLY_API_TOKEN", "fm2_operators-own")
        started.start()
    yield started
    started.stop()
