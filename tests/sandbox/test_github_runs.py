"""Do workflow runs really work with the secret that they read when they started, and with nothing else?"""

import base64
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sandbox.github.actions import parse_created
from tests.sandbox.running import PATIENCE, until
from tests.sandbox.test_github_support import REPOSITORY, RUNS, SECRETS, WORKFLOW, Hub, consumer, hub

__all__ = ["hub"]

DISPATCHES = f"{WORKFLOW}/dispatches"
LATEST_VERSION = {"X-GitHub-Api-Version": "2026-03-10"}


def listed(hub: Hub, path: str = RUNS, **query: str | int) -> list[int]:
    with hub.client() as client:
        answer = client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return [run["id"] for run in answer.json()["workflow_runs"]]


def push(hub: Hub, message: str = "A commit") -> str:
    """Commit a file to the default branch and return the commit's id."""
    with hub.client() as client:
        path = f"{REPOSITORY}/contents/notes/{time.time_ns()}.txt"
        content = base64.b64encode(b"text").decode()
        answer = client.put(path, json={"message": message, "content": content})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["commit"]["sha"])


# --- dispatching ----------------------------------------------------------------------------------------------------


def test_a_dispatch_says_nothing_unless_it_is_asked(hub: Hub) -> None:
    with hub.client() as client:
        silent = client.post(DISPATCHES, json={"ref": "main"})
        assert (silent.status_code, silent.content) == (204, b"")
        for answer in (
            client.post(DISPATCHES, json={"ref": "refs/heads/main", "return_run_details": True}),
            client.post(DISPATCHES, json={"ref": "main"}, headers=LATEST_VERSION),
        ):
            assert answer.status_code == 200
            body = answer.json()
            assert client.get(body["run_url"]).json()["id"] == body["workflow_run_id"]
            assert set(body) == {"workflow_run_id", "run_url", "html_url"}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (DISPATCHES, {"ref": "no-such-branch"}, 422, "No ref found for: no-such-branch"),
        (DISPATCHES, {}, 422, 'Invalid request.\n\n"ref" wasn\'t supplied.'),
        (DISPATCHES, {"ref": "main", "inputs": {"a": "b"}}, 422, "Unexpected inputs provided: ['a']"),
        (DISPATCHES.replace("publish", "other"), {"ref": "main"}, 404, "Not Found"),
    ],
)
def test_dispatches_that_github_refuses(hub: Hub, path: str, body: dict[str, Any], status: int, message: str) -> None:
    before = len(hub.inspect()["github"]["repositories"]["Molecule-AI/molecule-monorepo"]["runs"])
    with hub.client() as client:
        answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["message"]) == (status, message)
    assert len(hub.inspect()["github"]["repositories"]["Molecule-AI/molecule-monorepo"]["runs"]) == before


def test_an_old_enterprise_server_refuses_the_new_field(hub: Hub) -> None:
    with hub.setting(github__old_enterprise_server=1), hub.client() as client:
        assert client.post(DISPATCHES, json={"ref": "main", "return_run_details": True}).status_code == 400
        assert client.post(DISPATCHES, json={"ref": "main"}).status_code == 204


def test_the_newest_run_of_the_list_is_not_the_one_just_dispatched(hub: Hub) -> None:
    first = hub.dispatch()
    until(lambda: listed(hub)[:1] == [first], what="the first run is listed")
    with hub.setting(github__listing_delay=3600):
        second = hub.dispatch()
    assert listed(hub, per_page=1) == [first]
    assert hub.wait(second)["conclusion"] == "success"
    assert second not in listed(hub)


# --- what a run does ------------------------------------------------------------------------------------------------


def test_a_run_pushes_the_image_with_the_secret_it_decrypts(hub: Hub) -> None:
    before = hub.inspect()["requests"]
    run_id = hub.dispatch()
    run = hub.wait(run_id)
    assert run["conclusion"] == "success", hub.log(run_id)
    log = hub.log(run_id)
    assert "Login Succeeded" in log
    assert f"sha-{run['head_sha'][:7]}: digest: sha256:" in log
    after = hub.inspect()["requests"]
    manifests = "registry PUT /v2/{repository}/manifests/{reference}"
    assert after[manifests] == before.get(manifests, 0) + 2
    with hub.client() as client:
        job = client.get(f"{RUNS}/{run_id}/jobs").json()["jobs"][0]
    assert [(step["name"], step["conclusion"]) for step in job["steps"]] == [
        ("Log in to registry.fly.io", "success"),
        ("Build", "success"),
        ("Push", "success"),
    ]
    fly = httpx.get(
        f"{hub.environment['FLY_REGISTRY_URL']}/v2/molecule-tenant/tags/list",
        auth=("x", hub.environment["FLY_ACCESS_TOKEN"]),
    )
    assert {"latest", f"sha-{run['head_sha'][:7]}"} <= set(fly.json()["tags"])


def test_a_wrong_secret_breaks_the_next_run_and_not_the_one_under_way(hub: Hub) -> None:
    with hub.setting(github__build_seconds=5):
        under_way = hub.dispatch()
        until(lambda: "Login Succeeded" in hub.log(under_way), what="the run has logged in")
        with hub.worthless_secret() as value:
            assert hub.run(under_way)["status"] == "in_progress"
            later = hub.dispatch()
            assert hub.wait(later)["conclusion"] == "failure"
    assert hub.wait(under_way)["conclusion"] == "success"
    log = hub.log(later)
    assert "unauthorized: authentication required" in log
    assert value not in log
    assert consumer(later) in hub.broken_consumers()
    assert consumer(under_way) not in hub.broken_consumers()


def test_a_revocation_breaks_a_run_that_started_before_it(hub: Hub) -> None:
    """The reason to wait for such runs: the login at the start worked, the one before the push does not."""
    token = hub.mint(app="molecule-tenant")
    try:
        hub.put_secret("FLY_API_TOKEN", token["tokenHeader"])
        with hub.setting(github__build_seconds=5):
            run_id = hub.dispatch()
            until(lambda: "Login Succeeded" in hub.log(run_id), what="the run has logged in")
            hub.revoke(token["id"])
        assert hub.wait(run_id)["conclusion"] == "failure"
    finally:
        hub.put_secret("FLY_API_TOKEN", hub.secret_value("FLY_API_TOKEN"))
    with hub.client() as client:
        steps = client.get(f"{RUNS}/{run_id}/jobs").json()["jobs"][0]["steps"]
    assert [step["conclusion"] for step in steps] == ["success", "success", "failure"]
    assert consumer(run_id) in hub.broken_consumers()


def test_a_token_of_another_app_is_denied(hub: Hub) -> None:
    try:
        hub.put_secret("FLY_API_TOKEN", hub.mint(app="molecule-cp")["tokenHeader"])
        run_id = hub.dispatch()
        assert hub.wait(run_id)["conclusion"] == "failure"
    finally:
        hub.put_secret("FLY_API_TOKEN", hub.secret_value("FLY_API_TOKEN"))
    assert "denied: requested access to the resource is denied" in hub.log(run_id)


def test_a_queued_run_reads_the_secret_when_its_job_starts(hub: Hub) -> None:
    with hub.setting(github__queue_seconds=3):
        run_id = hub.dispatch()
        with hub.worthless_secret():
            assert hub.run(run_id)["status"] == "queued"
            assert hub.wait(run_id)["conclusion"] == "failure"


def test_the_nearest_store_wins_and_dependabots_is_none_of_them(hub: Hub) -> None:
    organization, dependabot = "/orgs/Molecule-AI/actions/secrets", f"{REPOSITORY}/dependabot/secrets"
    with hub.client() as client:
        body = hub.seal(organization, "FlyV1 fm2_worthless") | {"visibility": "all"}
        assert client.put(f"{organization}/FLY_API_TOKEN", json=body).status_code == 201
        hub.put_secret("FLY_API_TOKEN", "FlyV1 fm2_worthless", store=dependabot)
        try:
            assert hub.wait(hub.dispatch())["conclusion"] == "success"
            with hub.worthless_secret():
                client.delete(f"{SECRETS}/FLY_API_TOKEN")
                assert hub.wait(hub.dispatch())["conclusion"] == "failure"
        finally:
            client.delete(f"{organization}/FLY_API_TOKEN")
            client.delete(f"{dependabot}/FLY_API_TOKEN")


def declare(hub: Hub, environment: object) -> None:
    """Commit the workflow's file."""
    path = f"{REPOSITORY}/contents/.github/workflows/publish-platform-image.yml"
    job = {} if environment is None else {"environment": environment}
    content = base64.b64encode(json.dumps({"on": {}, "jobs": {"publish": job}}).encode()).decode()
    with hub.client() as client:
        known = client.get(path)
        body = {"message": "Declare an environment [skip ci]", "content": content}
        client.put(path, json=body | ({"sha": known.json()["sha"]} if known.is_success else {})).raise_for_status()


def test_a_job_reads_the_environment_that_its_file_declares_before_all_else(hub: Hub) -> None:
    secrets = f"{REPOSITORY}/environments/declared/secrets"
    declare(hub, {"name": "declared", "url": "https://example.com"})
    try:
        assert hub.wait(hub.dispatch())["conclusion"] == "success", "the environment is made, and has no secret"
        hub.put_secret("FLY_API_TOKEN", "FlyV1 fm2_worthless", store=secrets)
        assert hub.wait(hub.dispatch())["conclusion"] == "failure"
        with hub.worthless_secret():
            hub.put_secret("FLY_API_TOKEN", hub.secret_value("FLY_API_TOKEN"), store=secrets)
            assert hub.wait(hub.dispatch())["conclusion"] == "success"
            for undeclared in (None, {"without": "a name"}):
                declare(hub, undeclared)
                assert hub.wait(hub.dispatch())["conclusion"] == "failure"
    finally:
        declare(hub, None)


def test_no_secret_in_arguments_or_environment_of_a_runner(hub: Hub) -> None:
    with hub.setting(github__build_seconds=60):
        run_id = hub.dispatch()
        until(lambda: "Login Succeeded" in hub.log(run_id), what="the run has logged in")
    (runner,) = hub.runners()
    environment = runner.environ()
    seen = " ".join([*runner.cmdline(), *environment, *environment.values()])
    assert "fm2_" not in seen
    assert hub.token not in seen
    assert not {"GITHUB_TOKEN", "FLY_API_TOKEN", "SENTRY_AUTH_TOKEN"} & set(environment)
    with hub.client() as client:
        client.post(f"{RUNS}/{run_id}/cancel").raise_for_status()


def test_a_runner_needs_nothing_but_the_standard_library() -> None:
    """Without site-packages: a heavier runner would be slow, and a push in every test would be, too."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "sandbox.runner"],
        check=False,
        cwd=Path(__file__).parents[2],
        env={},
        input=b"no job, but FLY_API_TOKEN=fm2_x\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr == b"The first line of standard input is not a job. Nothing was done.\n"


def test_log_lines_never_show_a_secret() -> None:
    job = {
        "consumer": "test",
        "registry": "http://127.0.0.1:1/fm2_hidden-tail/fm2_hidden",
        "image": "molecule-tenant",
        "tags": ["latest"],
        "revision": "0" * 40,
        "build_seconds": 0,
        "broken": False,
        "secrets": {"FLY_API_TOKEN": "fm2_hidden", "LONGER": "fm2_hidden-tail", "EMPTY": ""},
    }
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox.runner"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        # Left open until the runner is done: its end would be the end of the sandbox.
        runner.stdin.write(json.dumps(job) + "\n")
        runner.stdin.flush()
        said = runner.stdout.read()
    assert runner.returncode == 1
    assert "hidden" not in said
    assert "http://127.0.0.1:1/***/***/v2/" in said


# --- pushes, failures, cancelling, running again --------------------------------------------------------------------


def test_a_commit_starts_a_run_of_its_own(hub: Hub) -> None:
    sha = push(hub)
    until(lambda: listed(hub, head_sha=sha), what="the push's run is listed")
    (run_id,) = listed(hub, head_sha=sha, event="push")
    run = hub.wait(run_id)
    assert (run["event"], run["conclusion"], run["display_title"]) == ("push", "success", "A commit")
    assert listed(hub, head_sha=sha, event="workflow_dispatch") == []
    with hub.client() as client:
        assert client.get(f"{REPOSITORY}/branches/main").json()["commit"]["sha"] == sha


def test_a_commit_may_ask_for_no_run(hub: Hub) -> None:
    sha = push(hub, "Typo [skip ci]")
    after = push(hub)
    until(lambda: listed(hub, head_sha=after), what="the next push's run is listed")
    assert listed(hub, head_sha=sha) == []


def test_a_broken_workflow_stays_broken_over_a_restart(hub: Hub) -> None:
    with hub.setting(github__workflow_broken="publish-platform-image.yml"):
        first = hub.wait(hub.dispatch())
        hub.stop()
        hub.start()
        second = hub.wait(hub.dispatch())
    assert (first["conclusion"], second["conclusion"]) == ("failure", "failure")
    assert hub.wait(hub.dispatch())["conclusion"] == "success"
    assert not {consumer(first["id"]), consumer(second["id"])} & hub.broken_consumers()


def test_cancelling_and_running_again(hub: Hub) -> None:
    with hub.setting(github__build_seconds=60):
        run_id = hub.dispatch()
        until(hub.runners, what="a runner is there")
    with hub.client() as client:
        assert client.post(f"{RUNS}/{run_id}/rerun").status_code == 403
        assert client.delete(f"{RUNS}/{run_id}").status_code == 403
        answer = client.post(f"{RUNS}/{run_id}/cancel")
        assert (answer.status_code, answer.json()) == (202, {})
        assert hub.wait(run_id)["conclusion"] == "cancelled"
        until(lambda: not hub.runners(), what="the runner is gone")
        assert client.post(f"{RUNS}/{run_id}/cancel").status_code == 409

        assert client.post(f"{RUNS}/{run_id}/rerun").status_code == 201
        again = hub.wait(run_id)
        assert (again["run_attempt"], again["conclusion"]) == (2, "success")
        assert client.get(f"{RUNS}/{run_id}/jobs").json()["total_count"] == 1
        jobs = client.get(f"{RUNS}/{run_id}/jobs", params={"filter": "all"}).json()["jobs"]
        assert [(job["run_attempt"], job["conclusion"]) for job in jobs] == [(2, "success"), (1, "cancelled")]

        assert client.delete(f"{RUNS}/{run_id}").status_code == 204
        assert client.get(f"{RUNS}/{run_id}").status_code == 404


def test_a_cancelled_queued_run_never_starts(hub: Hub) -> None:
    with hub.setting(github__queue_seconds=2), hub.client() as client:
        run_id = hub.dispatch()
        client.post(f"{RUNS}/{run_id}/cancel").raise_for_status()
        time.sleep(2.5)
        assert hub.run(run_id)["conclusion"] == "cancelled"
        assert client.get(f"{RUNS}/{run_id}/jobs").json()["jobs"][0]["steps"] == []


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_runners_die_with_the_sandbox(hub: Hub, how: str) -> None:
    with hub.setting(github__build_seconds=60):
        in_progress = hub.dispatch()
        until(lambda: "Login Succeeded" in hub.log(in_progress), what="the run has logged in")
    with hub.setting(github__queue_seconds=60):
        queued = hub.dispatch()
        (runner,) = hub.runners()
        getattr(hub, how)()
        until(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE, what="the runner is dead")
    hub.start()
    assert hub.run(in_progress)["conclusion"] == "cancelled"
    assert hub.wait(queued)["conclusion"] == "success"


# --- lists ----------------------------------------------------------------------------------------------------------


def test_filters_of_the_list(hub: Hub) -> None:
    run_id = hub.dispatch()
    run = hub.wait(run_id)
    until(lambda: run_id in listed(hub), what="the run is listed")
    created = run["created_at"]
    for query, found in (
        ({"event": "workflow_dispatch"}, True),
        ({"event": "schedule"}, False),
        ({"status": "completed"}, True),
        ({"status": "success"}, True),
        ({"status": "failure"}, False),
        ({"status": "queued"}, False),
        ({"branch": "main"}, True),
        ({"branch": "other"}, False),
        ({"actor": "molecule-operator"}, True),
        ({"actor": "site-admin"}, False),
        ({"head_sha": run["head_sha"]}, True),
        ({"head_sha": "0" * 40}, False),
        ({"created": f">={created}"}, True),
        ({"created": f"<{created}"}, False),
        ({"created": f"{created}..*"}, True),
        ({"created": created[:10]}, True),
        ({"created": "2020-01-01..2020-12-31"}, False),
    ):
        assert (run_id in listed(hub, **query)) is found, query
        assert (run_id in listed(hub, f"{WORKFLOW}/runs", **query)) is found, query
    with hub.client() as client:
        assert client.get(RUNS, params={"created": "yesterday"}).status_code == 422


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=2026-01-02", ["2026-01-02T00:00:00Z", "2027-01-01T00:00:00Z"], ["2026-01-01T23:59:59Z"]),
        (">2026-01-02", ["2026-01-03T00:00:00Z"], ["2026-01-02T23:59:59Z"]),
        ("<=2026-01-02", ["2026-01-02T23:59:59Z"], ["2026-01-03T00:00:00Z"]),
        ("<2026-01-02", ["2026-01-01T23:59:59Z"], ["2026-01-02T00:00:00Z"]),
        ("2026-01-02", ["2026-01-02T00:00:00Z", "2026-01-02T23:59:59Z"], ["2026-01-03T00:00:00Z"]),
        ("2026-01-02..2026-01-03", ["2026-01-03T23:59:59Z"], ["2026-01-01T23:59:59Z", "2026-01-04T00:00:00Z"]),
        ("2026-01-02..*", ["2027-01-01T00:00:00Z"], ["2026-01-01T23:59:59Z"]),
        ("*..2026-01-02", ["2025-01-01T00:00:00Z"], ["2026-01-03T00:00:00Z"]),
        (">=2026-01-02T10:00:00+02:00", ["2026-01-02T08:00:00Z"], ["2026-01-02T07:59:59Z"]),
        (">=2026-01-02T10:00:00 02:00", ["2026-01-02T08:00:00Z"], ["2026-01-02T07:59:59Z"]),
        ("2026-01-02T10:00:00", ["2026-01-02T10:00:00Z"], ["2026-01-02T10:00:01Z"]),
    ],
)
def test_the_syntax_of_created(text: str, inside: list[str], outside: list[str]) -> None:
    period = parse_created(text)
    assert all(datetime.fromisoformat(moment) in period for moment in inside)
    assert not any(datetime.fromisoformat(moment) in period for moment in outside)
