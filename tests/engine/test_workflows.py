"""The steps of the workflows, as they stand in .github/workflows, on the real engine and the sandbox's GitHub."""

import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from components.operator_credentials import ALL, UPSTASH_EMAIL
from tests.engine.stage import APP, REPOSITORY, SECRET, Stage
from tools.workspace import CHECKOUT, STACK, Result


class PyPI(BaseHTTPRequestHandler):
    """Knows every release, and no vulnerability of any."""

    def do_GET(self) -> None:
        """Whatever is asked."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"vulnerabilities": []}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Runner:
    """Runs the last step of a workflow's working job as GitHub's runner does, with what the workflow gives it.

    Args:
        stage: Where the secrets of the workflow come from. Those that it does not have are empty, as at GitHub.
        pull_request: Its number.
        pypi: Where advisories are asked for.
    """

    def __init__(self, stage: Stage, pull_request: int, pypi: str) -> None:
        self.stage = stage
        self._pypi = pypi
        self.summary = stage.directory / "summary.md"
        self._pull_request = pull_request
        # A clone has the tools beside the program.
        shutil.copytree(CHECKOUT / "tools", stage.program_directory / "tools", ignore=shutil.ignore_patterns("engine"))
        (stage.program_directory / "tools" / "engine").symlink_to(CHECKOUT / "tools" / "engine")

    def runs(self, workflow: str) -> Result:
        """Runs it and returns how it ended."""
        jobs = yaml.safe_load((CHECKOUT / ".github" / "workflows" / f"{workflow}.yml").read_text())["jobs"]
        (step,) = [step for job in jobs.values() for step in job["steps"] if "tools.ci" in step.get("run", "")]
        given = {
            "STACK": STACK,
            "PULL_REQUEST": str(self._pull_request),
            "COMMIT": "0123456789abcdef",
            "ROTATION_CI_TOKEN": self.stage.environment["GITHUB_TOKEN"],
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "77",
            "PYPI_URL": self._pypi,
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }
        environment = self.stage.environment
        completed = subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            cwd=self.stage.program_directory,
            env={**environment, **{name: environment.get(name, "") for name in step["env"]}, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Result(status=completed.returncode, output=completed.stdout)

    def succeeds(self, workflow: str) -> str:
        """Runs it; it has to succeed. Returns what it printed."""
        result = self.runs(workflow)
        assert result.status == 0, result.output
        return result.output


def conversations(stage: Stage) -> list[dict[str, Any]]:
    """The issues of the repository, oldest first; the first one is the pull request."""
    found: list[dict[str, Any]] = stage.inspect()["github"]["repositories"][REPOSITORY]["issues"]
    return found


def to_providers(writes: dict[str, int]) -> dict[str, int]:
    """Without what is said in issues."""
    return {
        request: count for request, count in writes.items() if "/issues" not in request and "/labels" not in request
    }


@pytest.fixture
def pypi() -> Iterator[str]:
    """The URL of a PyPI on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PyPI) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def runner(stage: Stage, pypi: str) -> Runner:
    """Of a repository in which pull request 1 is open."""
    with stage.github() as api:
        opened = api.post(f"/repos/{REPOSITORY}/issues", json={"title": "Bump FLY_API_TOKEN"}).raise_for_status().json()
    return Runner(stage, opened["number"], pypi)


def test_preview_up_and_nightly(stage: Stage, runner: Runner) -> None:
    writes = to_providers(stage.writes())
    printed = [runner.succeeds("rotation-preview")]
    (comment,) = conversations(stage)[0]["comments"]
    assert f"stack `{STACK}`" in comment
    assert "9 to create" in comment
    assert "0123456789abcdef" in comment
    assert to_providers(stage.writes()) == writes

    printed.append(runner.succeeds("rotation-up"))
    stage.assert_settled(1)
    assert f"`pulumi up` of stack `{STACK}` succeeded" in runner.summary.read_text()

    printed.append(runner.succeeds("rotation-preview"))
    (comment,) = conversations(stage)[0]["comments"]
    assert "9 unchanged" in comment, "the one comment, with what is true now"

    stage.write_fly_secret(SECRET, "FlyV1 fm2_by_hand")
    writes = to_providers(stage.writes())
    for _ in range(2):
        found = runner.runs("rotation-nightly")
        assert found.status == 1, found.output
        _, issue = conversations(stage)
        assert (issue["state"], issue["labels"], issue["comments"]) == ("open", ["rotation"], [])
        assert f"fly:AppSecrets {APP}" in issue["body"]
        printed.append(found.output)
    assert to_providers(stage.writes()) == writes, "a check changes nothing"

    stage.deploys()
    printed.append(runner.succeeds("rotation-nightly"))
    _, issue = conversations(stage)
    assert (issue["state"], len(issue["comments"])) == ("closed", 1)

    texts = [*printed, runner.summary.read_text()]
    texts += [part for each in conversations(stage) for part in (each["body"] or "", *each["comments"])]
    _assert_without_credentials(stage, texts)


def _assert_without_credentials(stage: Stage, texts: Iterable[str]) -> None:
    credentials = {stage.environment[each.variables[0]] for each in ALL if each is not UPSTASH_EMAIL}
    credentials.add(stage.fly_secret(SECRET))
    assert all(credentials)
    for text in texts:
        assert not any(value in text for value in credentials)
