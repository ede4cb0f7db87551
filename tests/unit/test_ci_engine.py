"""What a workflow runs: shown without credentials, with nothing empty in its environment, and waited for when it is interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components import operator_credentials
from tools.ci.engine import CI_TOKEN, CONCEALED, IMPACT_FILE, Engine, Impact, conceal, for_the_engine, secrets_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Comes first on PATH."""
    return tmp_path


def pulumi(folder: Path, script: str) -> None:
    """Puts a `pulumi` there that runs a shell script."""
    file = folder / "pulumi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def engine(folder: Path, **environment: str) -> Engine:
    return Engine(environment={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment})


def test_what_is_run_and_how_it_ended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pulumi(folder, 'echo "$@"; echo to stderr >&2; exit 3')
    outcome = engine(folder).pulumi("preview", "--stack", "s")
    assert outcome.status == 3
    assert outcome.output == "--color never --non-interactive preview --stack s\nto stderr\n"
    assert outcome.impact is None
    assert capsys.readouterr().out == outcome.output
    assert engine(folder).pulumi("stack", shown=False).status == 3
    assert capsys.readouterr().out == ""


def test_an_engine_that_is_missing_is_an_outcome() -> None:
    outcome = Engine(environment={"PATH": "/nowhere"}).run(["no-such-program"])
    assert outcome.status == 127
    assert "no-such-program" in outcome.output


@pytest.mark.parametrize(
    ("written", "impact"),
    [
        (
            '{"summary": "two\\n lines", "text": "table", "pending": true}',
            Impact(summary="two lines", text="table", pending=True),
        ),
        (
            '{"summary": "s", "text": "the-passphrase", "pending": false}',
            Impact(summary="s", text=CONCEALED, pending=False),
        ),
        ('{"summary": "s", "text": "t"}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_the_impact_is_read_where_there_is_one(folder: Path, written: str, impact: Impact | None) -> None:
    (folder / "document").write_text(written)
    pulumi(folder, f'cp {folder}/document "${IMPACT_FILE}"')
    assert engine(folder, PULUMI_CONFIG_PASSPHRASE="the-passphrase").pulumi("preview").impact == impact


def test_no_credential_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variables = {
        "FLY_ACCESS_TOKEN": "FlyV1 fm2_first_part,fm2_second_part",
        "PULUMI_BACKEND_URL": "postgres://team:p%40ss-word-1@db.example/state",
        "PGPASSWORD": "another-password",
        "GOOGLE_CREDENTIALS": '{\n "key": "in-the-middle"\n}',
        CI_TOKEN: "ghs_ofthisrun",
    }
    pulumi(
        folder,
        'echo "$FLY_ACCESS_TOKEN|fm2_second_part|$PULUMI_BACKEND_URL|p@ss-word-1|$PGPASSWORD"; echo \'"in-the-middle"\'; echo ghs_ofthisrun',
    )
    outcome = engine(folder, **variables).pulumi("up")
    shown = capsys.readouterr().out
    for value in ("fm2_first", "fm2_second", "p%40ss", "p@ss-word", "another-password", "in-the-middle", "ghs_"):
        assert value not in outcome.output
        assert value not in shown
    assert "postgres://team:***@db.example/state" in outcome.output


def test_words_that_happen_to_be_a_short_credential_stay() -> None:
    assert secrets_of({"PULUMI_CONFIG_PASSPHRASE": "sandbox"}) == []
    assert secrets_of({"PULUMI_BACKEND_URL": "http://[broken"}) == []
    assert conceal("the longer-secret", secrets_of({"PGPASSWORD": "longer-secret"})) == f"the {CONCEALED}"


def test_every_operator_credential_is_concealed() -> None:
    for credential in operator_credentials.ALL:
        for variable in credential.variables:
            concealed = secrets_of({variable: "the-value-of-it"}) == ["the-value-of-it"]
            assert concealed == (credential is not operator_credentials.UPSTASH_EMAIL), variable


def test_the_engine_does_not_get_what_is_empty_nor_the_token_of_the_run() -> None:
    given = {
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_BACKEND_URL": "",
        "NEON_API_KEY": "",
        CI_TOKEN: "t",
        "PATH": "/bin",
    }
    kept = {"PULUMI_ACCESS_TOKEN": "t", "GITHUB_ACTIONS": "", "HOME": ""}
    got = for_the_engine({**given, **kept})
    assert got.pop("PATH").split(os.pathsep) == [str(Path(sys.executable).parent), "/bin"]
    assert got == kept


def test_output_is_no_command_to_the_runner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pulumi(folder, "echo ::add-mask::x")
    outcome = engine(folder, GITHUB_ACTIONS="true").pulumi("up")
    first, command, last = capsys.readouterr().out.splitlines()
    assert first.startswith("::stop-commands::")
    assert command == "::add-mask::x"
    assert last == f"::{first.removeprefix('::stop-commands::')}::"
    assert outcome.output == "::add-mask::x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_or_twice_the_engine_is_asked_once_and_waited_for(
    folder: Path, number: signal.Signals
) -> None:
    pulumi(
        folder, "trap 'echo asked; sleep 0.5; echo finished; exit 5' INT; echo started; while :; do sleep 0.05; done"
    )
    argv = [sys.executable, "-m", "tools.ci", "up", "--stack", "s"]
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    rest = process.stdout.read().splitlines()
    assert process.wait(60) == 5
    assert [line for line in rest if not line.startswith("Interrupted")] == ["asked", "finished"]
