"""How long a leaked FLY_API_TOKEN stays good, with `reasons: leaked` and without: from the start of `pulumi up` to its death at Fly.

Both rotate at the same time, each on a sandbox of its own, while a CI run is under way that started with the old token. A routine rotation
waits for that run; one of a leaked token does not, and says what that costs.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tools.workspace import STACK, FailedError, Workspace, workspace

SECRET = "FLY_API_TOKEN"  # noqa: S105 - a name
REPOSITORY = "Molecule-AI/molecule-monorepo"
WORKFLOW = "publish-platform-image.yml"
FAMILY = f"molecule-cp-rotation-sandbox-{SECRET}"
START_TIMEOUT = 60  # seconds for a CI run to start


@dataclass(frozen=True, kw_only=True)
class Death:
    """What came of one rotation. Seconds from the start of `pulumi up`.

    Attributes:
        died: When Fly refused the old token.
        ended: When `pulumi up` was over.
    """

    died: float
    ended: float


def measure(directory: Path, *, ci_seconds: float) -> dict[str, Death]:
    """Rotates both ways, side by side.

    Args:
        directory: New or empty.
        ci_seconds: How long the CI run takes that is under way.

    Returns:
        By reason.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = {
            reason: pool.submit(_rotate, directory / reason, reason, ci_seconds) for reason in ("routine", "leaked")
        }
        return {reason: result.result() for reason, result in running.items()}


def _rotate(directory: Path, reason: str, ci_seconds: float) -> Death:
    with workspace(directory) as stage:
        stage.must("config", "rm", "--stack", STACK, "rotations")
        stage.set_generation(SECRET, 1)
        _succeed(stage)
        stage.set_generation(SECRET, 2)
        stage.configure(f"reasons.{SECRET}", reason, path=True)
        _begin_a_run(stage, ci_seconds)
        started = datetime.now(UTC)
        _succeed(stage)
        ended = datetime.now(UTC)
        old = next(each for each in stage.inspect()["credentials"] if each["name"] == f"{FAMILY}-g1")
        died = datetime.fromisoformat(old["refused_from"] or old["revoked_at"])
        return Death(died=(died - started).total_seconds(), ended=(ended - started).total_seconds())


def _succeed(stage: Workspace) -> None:
    result = stage.up()
    if result.status != 0:
        raise FailedError(result.output)


def _begin_a_run(stage: Workspace, seconds: float) -> None:
    """A CI run that has read its secrets, and takes so long."""
    stage.sandbox("set", f"github.build_seconds={seconds}")
    api, headers = stage.environment["GITHUB_API_URL"], {"authorization": f"Bearer {stage.environment['GITHUB_TOKEN']}"}
    path = f"{api}/repos/{REPOSITORY}/actions/workflows/{WORKFLOW}/dispatches"
    httpx.post(path, headers=headers, json={"ref": "main"}).raise_for_status()
    deadline = time.monotonic() + START_TIMEOUT
    while not any(run["status"] == "in_progress" for run in _runs(stage)):
        if time.monotonic() > deadline:
            raise FailedError("the CI run does not start")
        time.sleep(0.2)
    time.sleep(1)  # it reads its secrets as it starts
    stage.sandbox("set", "github.build_seconds=")


def _runs(stage: Workspace) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = stage.inspect()["github"]["repositories"][REPOSITORY]["runs"]
    return runs
