"""The commands of the workflows, with an engine that says what it is told to and a GitHub that is none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tools.ci.__main__ import main

from .wire import Wire, body_of, reply

TOKEN = "ghs_of-this-run"
BOT = {"login": "github-actions[bot]"}
NO_ENGINE = 127
CLEAN: dict[str, Any] = {"deployment": {"resources": [{"urn": "urn:a"}]}}


@pytest.fixture(autouse=True)
def _runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "ROTATION_CI_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "5",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }.items():
        monkeypatch.setenv(name, value)


def engine(folder: Path, *, preview: int = 0, state: object = CLEAN, pending: bool | None = None) -> None:
    """A `pulumi` whose preview ends so, and whose state is this."""
    (folder / "state.json").write_text(json.dumps(state))
    impact = json.dumps({"summary": "one line", "text": "the table", "pending": pending})
    (folder / "impact.json").write_text(impact)
    copy = f'cp {folder}/impact.json "$ROTATION_IMPACT_FILE";' if pending is not None else ""
    (folder / "pulumi").write_text(
        f'#!/bin/sh\ncase "$*" in *export*) cat {folder}/state.json;; *preview*) {copy} echo "previewing $*"; exit {preview};;'
        ' *) echo "updating $*"; exit 4;; esac\n'
    )
    (folder / "pulumi").chmod(0o755)


def issue(body: str) -> dict[str, Any]:
    return {"number": 3, "user": BOT, "body": body}


def installation(wire: Wire, *found: dict[str, Any]) -> None:
    """GitHub as a workflow's token meets it, with these issues."""
    wire.will(reply(403, {"message": "Resource not accessible by integration"}), reply(200, list(found)))


def test_preview_comments_and_ends_as_the_engine_did(tmp_path: Path, wire: Wire) -> None:
    engine(tmp_path, preview=3, pending=True)
    wire.will(reply(403, {}), reply(200, []), reply(201, {}))
    assert main(["preview", "--stack", "s", "--pull-request", "7", "--commit", "abc"]) == 3
    body = body_of(wire.last)["body"]
    assert "the table" in body
    assert "previewing --color never --non-interactive preview --stack s" in body
    assert "[this run](https://github.com/o/r/actions/runs/5)" in body
    assert "exit status 3" in (tmp_path / "summary").read_text()


def test_without_a_pull_request_github_is_not_asked(tmp_path: Path, wire: Wire) -> None:
    engine(tmp_path)
    assert main(["preview", "--stack", "s"]) == 0
    assert wire.requests == []


def test_a_comment_that_cannot_be_made_fails_the_run(
    tmp_path: Path, wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    engine(tmp_path)
    wire.will(reply(403, {}), reply(200, []), reply(403, {"message": "Resource not accessible by integration"}))
    assert main(["preview", "--stack", "s", "--pull-request", "7"]) == 1
    said = capsys.readouterr()
    assert "previewing" in said.out
    assert "GitHub was not told" in said.err
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize("command", [["preview", "--pull-request", "7"], ["nightly", "--issue"]])
@pytest.mark.parametrize("missing", ["ROTATION_CI_TOKEN", "GITHUB_REPOSITORY"])
def test_what_github_needs_is_asked_for_before_anything_is_done(
    command: list[str], missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(missing, "")
    assert main([*command, "--stack", "s"]) == 2
    assert f"{missing} must be set" in capsys.readouterr().err


def test_up_ends_as_the_engine_did(tmp_path: Path, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    engine(tmp_path)
    assert main(["up", "--stack", "s"]) == 4
    assert "updating --color never --non-interactive up --yes --stack s" in capsys.readouterr().out
    assert wire.requests == []


@pytest.mark.parametrize(
    ("engine_is", "title"),
    [
        ({"preview": 1}, "The preview failed, or shows changes"),
        ({"pending": True}, "Something is pending"),
        ({"state": {"deployment": {"resources": [{"urn": "urn:old", "delete": True}]}}}, "to be deleted: urn:old"),
        (
            {"state": {"deployment": {"pending_operations": [{"type": "creating", "resource": {"urn": "urn:new"}}]}}},
            "creating: urn:new",
        ),
    ],
)
def test_nightly_reports(tmp_path: Path, wire: Wire, engine_is: dict[str, Any], title: str) -> None:
    engine(tmp_path, **engine_is)
    installation(wire)
    wire.will(reply(201, {}), reply(201, {}))
    assert main(["nightly", "--stack", "s", "--issue"]) == 1
    opened = body_of(wire.last)
    assert title in opened["body"]
    assert opened["title"] == "Rotation: the nightly check of s found something"
    if engine_is.get("pending"):
        assert "the table" in opened["body"]


def test_nightly_reports_what_a_further_check_finds(tmp_path: Path, wire: Wire) -> None:
    engine(tmp_path)
    installation(wire)
    wire.will(reply(201, {}), reply(201, {}))
    checks = ["--check", "sh -c 'echo all is well'", "--check", "sh -c 'echo an orphan; exit 9'"]
    assert main(["nightly", "--stack", "s", "--issue", *checks]) == 1
    body = body_of(wire.last)["body"]
    assert "ended with exit status 9" in body
    assert "an orphan" in body
    assert "all is well" not in body.replace("echo all is well", "")


def test_nightly_closes_its_issue_when_nothing_is_found(tmp_path: Path, wire: Wire) -> None:
    engine(tmp_path, pending=False)
    installation(wire, issue("<!-- rotation-nightly:s -->\nold"), issue("<!-- rotation-nightly:other -->\nold"))
    wire.will(reply(201, {}), reply(200, {}))
    assert main(["nightly", "--stack", "s", "--issue"]) == 0
    assert wire.lines[-2:] == ["POST /repos/o/r/issues/3/comments", "PATCH /repos/o/r/issues/3"]
    assert "actions/runs/5" in body_of(wire.requests[-2])["body"]


def test_nightly_by_hand_tells_nobody(tmp_path: Path, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    engine(tmp_path, preview=1)
    assert main(["nightly", "--stack", "s"]) == 1
    assert wire.requests == []
    assert "1 findings" in capsys.readouterr().out


def test_a_password_in_the_backend_url_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "postgres://team:pass-word-1@db.example/state")
    assert main(["up", "--stack", "s"]) == 2
    said = capsys.readouterr()
    assert "PGPASSWORD" in said.err
    assert "Nothing was done" in said.err
    assert "pass-word-1" not in said.out + said.err
    monkeypatch.setenv("PULUMI_BACKEND_URL", "postgres://team@db.example/state")
    assert main(["up", "--stack", "s"]) == NO_ENGINE
