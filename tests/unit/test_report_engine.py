"""Is a person told what is wrong and what to do where a stack cannot be reported on, and is no half page ever left?"""

import json
import shlex
import stat
from pathlib import Path

import pytest

from components.errors import OperatorError
from tools import stack_reader
from tools.report import __main__ as command_line
from tools.report import engine

from . import report_stacks as stacks


class Cli:
    """Stands in for `pulumi`: answers what a test wants, and notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        self.answers("stack --show-name", "production\n")
        self.answers("stack output", json.dumps(stacks.outputs()))
        self.answers("stack history", json.dumps(stacks.history()))
        script = folder / "pulumi"
        script.write_text(
            "#!/bin/sh\n"
            f"cd {shlex.quote(str(folder))}\n"
            'echo "$*" >> calls\n'
            "shift 3\n"
            'cat "$1 $2.out"; cat "$1 $2.err" >&2; exit "$(cat "$1 $2.status")"\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def answers(self, command: str, out: str = "", *, err: str = "", status: int = 0) -> None:
        """What a command prints, and its exit status."""
        (self.folder / f"{command}.out").write_text(out)
        (self.folder / f"{command}.err").write_text(err)
        (self.folder / f"{command}.status").write_text(str(status))

    @property
    def calls(self) -> list[str]:
        """The arguments of every call."""
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Cli(folder)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def run(output: Path, *arguments: str) -> int:
    return command_line.main(["--output", str(output), *arguments])


def test_the_selected_stack_is_reported(cli: Cli, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(output) == 0
    assert "<h1>production</h1>" in output.read_text()
    assert "the report of the stack production: The last update failed. 2 of 9 secrets" in capsys.readouterr().out
    assert [call.split("--non-interactive ")[1] for call in cli.calls] == [
        "stack --show-name",
        "stack output --json",
        f"stack history --json --page-size {engine.UPDATES}",
    ]
    assert [each.name for each in output.parent.iterdir() if each.is_file()] == ["report.html"]


def test_another_stack_is_reported_where_it_is_named(cli: Cli, output: Path) -> None:
    assert run(output, "--stack", "staging") == 0
    assert "<h1>staging</h1>" in output.read_text()
    assert not any("--show-name" in call for call in cli.calls)
    assert all("--stack staging" in call for call in cli.calls)


def test_no_value_is_ever_asked_for(cli: Cli, output: Path) -> None:
    run(output)
    assert not any("show-secrets" in call for call in cli.calls)


def refused(output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a person reads where there is no report; what was there before is left as it was."""
    output.write_text("the one before")
    assert run(output) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert output.read_text() == "the one before"
    assert "State:" in captured.err
    assert "no report was written" in captured.err
    assert "Traceback" not in captured.err
    return captured.err


def test_without_a_cli(
    cli: Cli, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(cli.folder / "nowhere"))
    said = refused(output, capsys)
    assert "There is no `pulumi`" in said
    assert 'eval "$(make env)"' in said


@pytest.mark.parametrize(
    ("command", "answer", "said", "next_step"),
    [
        (
            "stack --show-name",
            "error: no stack selected; please use `pulumi stack select`",
            "No stack is selected",
            "`pulumi stack select NAME`, or `STACK=NAME make report`",
        ),
        ("stack output", "error: no stack named 'production' found", "no stack named", "`pulumi stack ls`"),
        (
            "stack output",
            "error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE",
            "passphrase must be set",
            "Set PULUMI_CONFIG_PASSPHRASE",
        ),
        (
            "stack --show-name",
            "error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions",
            "PULUMI_ACCESS_TOKEN must be set",
            "`pulumi login`",
        ),
        ("stack history", "error: something new", "something new", "Mend what the engine names"),
        ("stack history", "", "exit status 3", "Mend what the engine names"),
    ],
)
def test_what_the_engine_refuses_is_said_with_what_to_do(
    cli: Cli,
    output: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    answer: str,
    said: str,
    next_step: str,
) -> None:
    cli.answers(command, err=answer, status=3)
    text = refused(output, capsys)
    assert said in text
    assert next_step in text.partition("Next:")[2]


@pytest.mark.parametrize("outputs", ["{}", "null", '{"other": 1}'])
def test_where_nothing_is_deployed(cli: Cli, output: Path, capsys: pytest.CaptureFixture[str], outputs: str) -> None:
    cli.answers("stack output", outputs)
    said = refused(output, capsys)
    assert "nothing has been deployed yet" in said
    assert "`pulumi up`" in said.partition("Next:")[2]


def test_an_answer_that_is_no_json(cli: Cli, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers("stack output", "welcome!")
    assert "did not answer with JSON" in refused(output, capsys)


def test_outputs_of_another_program(cli: Cli, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers("stack output", '{"secrets": {"A": {"generation": "[secret]"}}}')
    said = refused(output, capsys)
    assert "secrets.A.generation is no whole number" in said
    assert "Check out the version" in said


def test_a_stack_without_history_is_reported(cli: Cli, output: Path) -> None:
    cli.answers("stack history", "null")
    assert run(output) == 0
    assert "has no history" in output.read_text()


@pytest.mark.usefixtures("cli")
def test_where_the_file_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "no-such-folder" / "report.html") == 1
    said = capsys.readouterr().err
    assert "cannot be written: No such file or directory" in said
    assert "--output FILE" in said
    folder = tmp_path / "a-folder"
    folder.mkdir()
    assert run(folder) == 1
    assert "a-folder cannot be written" in capsys.readouterr().err
    assert {each.name for each in tmp_path.iterdir()} == {"bin", "a-folder"}


def test_an_engine_that_does_not_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "pulumi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(stack_reader, "TIMEOUT", 0.2)
    with pytest.raises(OperatorError) as caught:
        engine.selected_stack(cli.folder)
    assert "did not answer within 0.2 s" in str(caught.value)


def test_the_engine_cannot_ask_back(cli: Cli) -> None:
    (cli.folder / "pulumi").write_text('#!/bin/sh\nread answer && echo "$answer" || echo nobody\n')
    assert engine.selected_stack(cli.folder) == "nobody"


def test_a_backend_that_cannot_be_reached_does_not_give_its_password_away(
    cli: Cli, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgres://operator:a-password-of-the-backend@db.test:5432/pulumi"
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)
    cli.answers("stack output", err=f"error: could not connect to {url}", status=3)
    text = refused(output, capsys)
    assert "could not connect to" in text
    assert "a-password-of-the-backend" not in text
