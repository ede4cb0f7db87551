"""The workflows: what they may, what they get, and that what they run is there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import operator_credentials
from tools.ci.__main__ import _parser
from tools.ci.engine import CI_TOKEN, SECRET_VARIABLES

GITHUB = Path(__file__).parents[2] / ".github"
FILES = {path.stem: path for path in sorted((GITHUB / "workflows").glob("rotation-*.yml"))}
WORKING = {"rotation-preview": "preview", "rotation-up": "up", "rotation-nightly": "check"}


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return found


def triggers(name: str) -> dict[str, Any]:
    found: dict[Any, Any] = yaml.safe_load(FILES[name].read_text())
    on: dict[str, Any] = found[True]  # `on` is a boolean in YAML 1.1
    return on


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workflow(name)["jobs"][WORKING[name]]
    return found


def test_there_are_three() -> None:
    assert FILES.keys() == WORKING.keys()


@pytest.mark.parametrize("name", WORKING)
def test_nobody_elses_code_gets_secrets(name: str) -> None:
    text = FILES[name].read_text()
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & triggers(name).keys()
    actions = re.findall(r"uses: (\S+)", text) + re.findall(
        r"uses: (\S+)", (GITHUB / "actions/engine/action.yml").read_text()
    )
    assert {action.partition("@")[0] for action in actions} == {
        "actions/checkout",
        "actions/setup-python",
        "./.github/actions/engine",
    }
    # An expression in a script would be code of whoever chose the text.
    for step in job(name)["steps"]:
        assert "${{" not in step.get("run", "")


def test_pull_requests_of_forks_and_of_dependabot_are_left_out() -> None:
    condition = (
        "github.event.pull_request.head.repo.full_name == github.repository && github.actor != 'dependabot[bot]'"
    )
    assert condition in " ".join(job("rotation-preview")["if"].split())
    other = workflow("rotation-preview")["jobs"]["no-preview"]
    assert "env" not in other
    assert all(
        step.keys() == {"run"} and "secrets" not in step["run"].replace("no secrets", "") for step in other["steps"]
    )


@pytest.mark.parametrize(
    ("name", "permissions", "environment"),
    [
        ("rotation-preview", {"contents": "read", "pull-requests": "write"}, "${{ matrix.stack }}-preview"),
        ("rotation-up", {"contents": "read"}, "${{ matrix.stack }}"),
        ("rotation-nightly", {"contents": "read", "issues": "write"}, "${{ matrix.stack }}-preview"),
    ],
)
def test_each_may_what_it_needs_and_runs_alone(name: str, permissions: dict[str, str], environment: str) -> None:
    assert workflow(name)["permissions"] == {}
    assert job(name)["permissions"] == permissions
    assert job(name)["environment"] == environment
    assert job(name)["concurrency"]["cancel-in-progress"] is False
    assert job(name)["concurrency"]["group"].startswith(f"{name}-${{{{ matrix.stack }}}}")
    assert job(name)["if"].startswith("vars.ROTATION_STACKS != ''")


def test_updates_are_in_order_and_stop_at_a_failure() -> None:
    strategy = job("rotation-up")["strategy"]
    assert (strategy["max-parallel"], strategy["fail-fast"]) == (1, True)
    assert triggers("rotation-up")["push"]["branches"] == ["main"]


@pytest.mark.parametrize("name", WORKING)
def test_it_runs_a_command_that_there_is_with_every_operator_credential(name: str) -> None:
    step = job(name)["steps"][-1]
    for credential in operator_credentials.ALL:
        assert credential.variables[0] in step["env"], credential.description
    secrets = {variable for variable, value in step["env"].items() if "secrets." in value or "github.token" in value}
    assert secrets - {operator_credentials.UPSTASH_EMAIL.variables[0]} <= {*SECRET_VARIABLES}, "all are concealed"
    assert (CI_TOKEN in step["env"]) == (name != "rotation-up")
    given = {"STACK": "production", "PULL_REQUEST": "7", "COMMIT": "abc"}
    for variable in given.keys() & step["env"].keys():
        step["run"] = step["run"].replace(f'"${variable}"', given[variable])
    (command,) = [line for line in step["run"].splitlines() if "tools.ci" in line]
    words = shlex.split(command)
    assert words[:4] == ["exec", ".venv/bin/python", "-m", "tools.ci"]
    assert _parser().parse_args(words[4:]).stack == "production"


def test_the_engine_is_of_the_version_that_the_program_is_tested_with() -> None:
    (pinned,) = re.findall(r"(?m)^pulumi==(\S+)$", (GITHUB.parent / "requirements.txt").read_text())
    steps = yaml.safe_load((GITHUB / "actions/engine/action.yml").read_text())["runs"]["steps"]
    assert f"--version {pinned}\n" in next(step["run"] for step in steps if step.get("name") == "Pulumi CLI")


@pytest.mark.parametrize("stack", ["production", "eu-1", "team.a_b", "org/project/prod"])
def test_names_of_stacks(stack: str) -> None:
    assert _parser().parse_args(["up", "--stack", stack]).stack == stack


@pytest.mark.parametrize("stack", ["a b", "--> x", "a`b", "", "a/b/c/d", "a--b"])
def test_names_that_would_be_markdown_are_refused(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["up", f"--stack={stack}"])
    assert "no name of a stack" in capsys.readouterr().err
