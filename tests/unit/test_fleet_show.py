"""Is an operator told what failed and what to do, without a value, and is a table enough for a hundred stacks?"""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pulumi.automation import CommandError, CommandResult
from rich.progress import Progress

from components import own_state
from components.errors import OperatorError
from tools.fleet import outcome, show
from tools.fleet.__main__ import main
from tools.fleet.engine import Command, Step, failure_of
from tools.fleet.outcome import Outcome, Result, State
from tools.fleet.targets import Target

TARGET = Target(secret="FLY_API_TOKEN", verified=1, requested=1, generation=2, settled=False)
REFUSAL = "error: The thing is wrong.\n  State: nothing was changed.\n  Next:  mend it.\n  Help:  Fly, 1-800"
CHECK = (
    'exit status 1: running "python -m components.verification.fly":\nmachines: 2 machines run it\nhealth: fine\n'
    "FLY_API_TOKEN generation 2: disposable org: status 500\n  State: both values work.\n  Next:  mend that, then `pulumi up`."
)
BRIDGED = "sdk-v2/provider2.go:571: sdk.helper_schema: PUT http://x/y: 403 no: provider=github@6.15.0"
BRIDGED_AGAIN = "1 error occurred:\n\t* PUT http://x/y: 403 no\n\n"


@pytest.mark.parametrize(
    ("said", "happened", "next_step"),
    [
        ([REFUSAL, "update failed"], "The thing is wrong.", "mend it."),
        (
            [CHECK, "update failed"],
            "FLY_API_TOKEN generation 2: disposable org: status 500",
            "mend that, then `pulumi up`.",
        ),
        ([BRIDGED, BRIDGED_AGAIN, "update failed"], "PUT http://x/y: 403 no", ""),
        (["one thing", REFUSAL], "The thing is wrong.", "mend it."),
        ([REFUSAL, REFUSAL], "The thing is wrong.", "mend it."),
        (["one", "two"], "one / two", ""),
    ],
)
def test_what_is_said_of_a_failure(said: list[str], happened: str, next_step: str) -> None:
    failure = failure_of(said, "")
    assert (failure.happened, failure.next_step) == (happened, next_step)


def test_a_failure_without_events() -> None:
    printed = " stdout: \n stderr: error: the stack is currently locked by 1 lock(s).\n  created by ann@host (pid 7)"
    assert failure_of([], printed).happened == (
        "the stack is currently locked by 1 lock(s). created by ann@host (pid 7)"
    )
    assert failure_of(["update failed"], "").happened == "The engine failed without a word."


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (own_state.CREDENTIAL_TYPE, "FLY_API_TOKEN", "FLY_API_TOKEN: minting"),
        (own_state.CHECK_TYPE, "probe-FLY_API_TOKEN", "FLY_API_TOKEN: probing"),
        (own_state.APP_TYPE, "molecule-cp", "molecule-cp: writing secrets, restarting machines"),
        (own_state.ACTIONS_SECRET_TYPE, "r-FLY_API_TOKEN", "r-FLY_API_TOKEN: writing to GitHub"),
        (own_state.ENVIRONMENT_SECRET_TYPE, "r-production", "r-production: writing to GitHub"),
        (own_state.CHECK_TYPE, "verification-FLY_API_TOKEN", "FLY_API_TOKEN: verifying"),
        (own_state.REVOCATION_TYPE, "revocation-FLY_API_TOKEN", "FLY_API_TOKEN: revoking what was before"),
        (own_state.STACK_TYPE, "molecule-secrets-prod", ""),
    ],
)
def test_steps_in_words(kind: str, name: str, said: str) -> None:
    assert show.words(Step(kind=kind, name=name, ended=False)) == said


def results() -> dict[str, Result]:
    return {
        "staging": Result(targets=(TARGET,), state=State.VERIFIED, seconds=31.4),
        "qa": Result(
            targets=(TARGET,),
            state=State.FAILED,
            error="It broke.",
            next_step="mend it.",
            left=("FLY_API_TOKEN: generation 2 is minted and delivered, not verified; generation 1 still alive",),
            log="/logs/qa.log",
            seconds=12,
        ),
        "production": Result(targets=(TARGET,), why="it goes after qa"),
    }


def test_the_table_at_the_end() -> None:
    text = show.closing(results())
    assert "staging     verified     31 s  FLY_API_TOKEN 2" in text
    assert "production  not started  -     it goes after qa" in text
    for words in (
        "What:  It broke.",
        "State: FLY_API_TOKEN: generation 2 is minted",
        "Next:  mend it.",
        "/logs/qa.log",
    ):
        assert words in text
    assert text.endswith("what was begun is finished.")
    assert "same command" not in show.closing({"staging": results()["staging"]})


def test_for_programs() -> None:
    found = outcome.data(Outcome(waves=(("staging", "qa"), ("production",)), results=results()))
    assert json.loads(json.dumps(found)) == found
    assert found["status"] == 1
    assert found["stacks"]["qa"]["error"] == {"what": "It broke.", "next": "mend it."}
    assert found["stacks"]["production"]["state"] == "not started"
    assert found["stacks"]["staging"]["secrets"] == {"FLY_API_TOKEN": {"before": 1, "generation": 2}}
    refused = outcome.refused(OperatorError("a", state="b", next_step="c"))
    assert refused.keys() == found.keys()
    assert refused["error"] == {"what": "a", "state": "b", "next": "c"}


@pytest.mark.parametrize(
    ("states", "dry_run", "status"),
    [
        ((State.VERIFIED, State.VERIFIED), False, 0),
        ((State.VERIFIED, State.NOT_STARTED), False, 1),
        ((State.VERIFIED, State.STAGED), False, 1),
        ((State.VERIFIED, State.FAILED), False, 1),
        ((State.VERIFIED, State.PREVIEWED), True, 0),
        ((State.FAILED, State.PREVIEWED), True, 1),
    ],
)
def test_exit_status(states: tuple[State, ...], *, dry_run: bool, status: int) -> None:
    found = {str(number): Result(targets=(), state=state) for number, state in enumerate(states)}
    assert Outcome(waves=(), results=found, dry_run=dry_run).status == status


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _text: str) -> int:
        """Fails."""
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    show.Plain(Gone()).line("prod", "updating")
    bars = show.Bars(Gone())
    with bars.busy({"prod": 2, "staging": 1}):
        bars.step("prod", Step(kind=own_state.CREDENTIAL_TYPE, name="FLY_API_TOKEN", ended=True))
        bars.ended("prod", "verified after 3 s")


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def shown(bars: show.Bars) -> Progress:
    assert bars._progress is not None
    return bars._progress


def test_bars_on_a_terminal() -> None:
    stream = Terminal()
    bars = show.Bars(stream)
    step = Step(kind=own_state.CREDENTIAL_TYPE, name="FLY_API_TOKEN", ended=False)
    with bars.busy({"prod": 2, "staging": 2}):
        bars.step("prod", step)
        assert [task.description for task in shown(bars).tasks] == ["", "FLY_API_TOKEN: minting"]
        bars.step("prod", replace(step, ended=True))
        assert [task.completed for task in shown(bars).tasks] == [0, 1]
        bars.say("[something] else")
        bars.ended("prod", "verified after 3 s")
        # What comes after the end brings no bar back.
        bars.step("prod", step)
        assert [(task.completed, task.total) for task in shown(bars).tasks] == [(1, 2)], "of all, which is left"
    assert "[something] else" in stream.getvalue()
    assert "prod: verified after 3 s" in stream.getvalue()


def test_nobody_is_there_to_confirm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["rotate", "FLY_API_TOKEN", "--stacks", "prod"]) == 2
    assert "no terminal" in capsys.readouterr().err
    assert main(["rotate", "FLY_API_TOKEN", "--stacks", "prod", "--json"]) == 2
    assert "no terminal" in json.loads(capsys.readouterr().out)["error"]["what"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["rotate", "--stacks", "prod"],
        ["rotate", "FLY_API_TOKEN"],
        ["rotate", "FLY_API_TOKEN", "--stacks", "prod", "--soak", "10"],
        ["rotate", "FLY_API_TOKEN", "--stacks", "prod", "--parallel", "0"],
        ["rotate", "FLY_API_TOKEN", "--stacks", "prod", "--to", "-1"],
        ["rotate", "FLY_API_TOKEN", "--stacks", "prod", "--value", "hunter2"],
    ],
)
def test_arguments_that_are_none(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is called `pulumi`."""
    file = tmp_path / "bin" / "pulumi"
    file.parent.mkdir()
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
    return file


def runs(script: Path, body: str, *arguments: str, cwd: Path) -> CommandResult:
    script.write_text(f'#!/bin/sh\nif [ "$1" = version ]; then echo v3.256.0; exit; fi\n{body}\n')
    script.chmod(0o700)
    variables = {
        "PATH": f"{script.parent}:/usr/bin:/bin",
        "PULUMI_BACKEND_URL": "postgres://ann:pass-of-the-backend@db/state",
        "FLY_ACCESS_TOKEN": "fo1_token-of-fly",
    }
    return Command().run(list(arguments), str(cwd), variables)


def test_the_engine_gets_the_variables_of_its_stack_and_no_others(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THIS_PROCESS", "hunter2")
    found = runs(script, "env", "up", cwd=tmp_path).stdout
    assert "OF_THIS_PROCESS" not in found
    assert "PULUMI_AUTOMATION_API=true" in found


def test_no_credential_of_the_environment_is_repeated(script: Path, tmp_path: Path) -> None:
    body = 'echo "out $FLY_ACCESS_TOKEN"; echo "error: $PULUMI_BACKEND_URL" >&2; exit 1'
    with pytest.raises(CommandError) as failed:
        runs(script, body, "up", cwd=tmp_path)
    assert "pass-of-the-backend" not in str(failed.value)
    assert "token-of-fly" not in str(failed.value)
    assert "error: postgres://ann:***@db/state" in str(failed.value)


def test_an_engine_has_a_session_of_its_own(script: Path, tmp_path: Path) -> None:
    body = 'if [ "$(ps -o sid= -p $$ | tr -d " ")" = "$$" ]; then echo own; fi'
    assert runs(script, body, "up", cwd=tmp_path).stdout == "own", "so that Ctrl-C reaches it through us alone"
