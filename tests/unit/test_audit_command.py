"""Does the exit status tell what was found, is a stack that cannot be audited an error that helps, and is no value ever shown?"""

import json
from pathlib import Path

import pytest

from tools.audit import output
from tools.audit.__main__ import audit, main

from . import audit_stacks as stacks
from .audit_stacks import Providers
from .test_report_engine import Cli
from .wire import Wire


@pytest.fixture
def providers(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Providers:
    monkeypatch.setenv("GITHUB_TOKEN", "github-operator-token")
    found = Providers()
    wire.serve = found.serve
    return found


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, providers: Providers) -> Cli:
    """The engine, of a stack of which nothing is to be said."""
    del providers
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    found = Cli(folder)
    found.answers("stack --show-name", "prod\n")
    found.answers("stack export", json.dumps(stacks.export()))
    found.answers("config --json", json.dumps(stacks.config()))
    return found


def test_nothing_found(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == "Stack prod: nothing found (1 secret looked at).\n"
    assert [call.split("--non-interactive ")[1] for call in cli.calls] == [
        "stack --show-name",
        "config --json --show-secrets",
        "stack export --show-secrets",
    ]


def test_something_found(cli: Cli, providers: Providers, capsys: pytest.CaptureFixture[str]) -> None:
    providers.digest = "another"
    assert main(["--stack", "org/molecule-secrets/prod"]) == 1
    assert "drift: FLY_API_TOKEN" in capsys.readouterr().out
    assert not any("--show-name" in call for call in cli.calls)
    assert all(call.endswith("--stack org/molecule-secrets/prod") for call in cli.calls)


def test_several_stacks_one_after_another(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "prod", "--stack", "org/molecule-secrets/prod", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["stack"] for each in lines] == ["prod", "org/molecule-secrets/prod"]
    assert len(cli.calls) == 4


def test_strict(cli: Cli, providers: Providers, capsys: pytest.CaptureFixture[str]) -> None:
    del cli
    providers.tokens.append(stacks.BY_HAND)
    assert main([]) == 0
    assert main(["--strict"]) == 1
    assert "made by hand (h1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said", "next_step"),
    [
        ("stack --show-name", "error: no stack selected; please use `pulumi stack select`", "--stack NAME"),
        ("config --json", "error: no stack named 'prod' found", "pulumi stack ls"),
        ("stack export", "error: getting stack deployment: incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE"),
        ("stack export", "error: PULUMI_ACCESS_TOKEN must be set", "pulumi login"),
        ("stack export", "error: something new", "Mend what the engine names"),
    ],
)
def test_what_the_engine_refuses(
    cli: Cli, command: str, said: str, next_step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Half an answer may have been printed before.
    cli.answers(command, json.dumps(stacks.export())[:-9], err=said, status=255)
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in (said, next_step, "State: the stack was not audited; nothing was changed."):
        assert words in shown.err
    assert not [value for value in stacks.SECRETS if value in shown.err]
    assert main(["--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]["what"]


def test_one_stack_that_cannot_be_audited_hides_no_other(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    script = cli.folder / "pulumi"
    script.write_text(
        script.read_text().replace("shift 3\n", 'shift 3\ncase "$*" in *broken*) echo locked >&2; exit 1;; esac\n')
    )
    assert main(["--stack", "broken", "--stack", "prod"]) == 2
    shown = capsys.readouterr()
    assert "error: stack broken: " in shown.err
    assert "Stack prod: nothing found" in shown.out


@pytest.mark.parametrize("command", ["stack export", "config --json"])
@pytest.mark.parametrize("answer", ["no JSON: fm2_value-in-use", "[]", '{"a": "fm2_value-in-use"}'])
def test_an_answer_that_is_none(cli: Cli, command: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers(command, answer)
    assert main([]) == 2
    shown = capsys.readouterr()
    assert "Next:" in shown.err
    assert stacks.VALUE not in shown.err + shown.out


def test_there_is_no_engine(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    (cli.folder / "pulumi").unlink()
    assert main(["--stack", "prod"]) == 2
    assert "There is no `pulumi` to ask" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--strict"], ["--json", "--strict"]])
def test_no_value_is_shown(
    cli: Cli, providers: Providers, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    providers.digest, providers.updated_at = "another", "2026-11-25T00:00:00Z"
    providers.tokens = [stacks.BY_HAND, stacks.token("t9", f"{stacks.FAMILY}9")]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    for value in (*stacks.SECRETS, "github-operator-token"):
        assert value not in shown.out + shown.err
        assert value not in "".join(cli.calls)


LISTED = json.dumps([{"name": "org/molecule-secrets/staging"}, {"name": "production"}, {"name": "of-somebody-else"}])


def test_a_fleet(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers("stack ls", LISTED)
    assert main(["--stack", "*", "--parallel", "1"]) == 0
    shown = capsys.readouterr()
    assert "Left out: of-somebody-else, because there is no stacks/Pulumi.of-somebody-else.yaml here." in shown.err
    assert "Left out: sandbox, because it is not on this backend." in shown.err
    assert shown.out.endswith(
        "STACK                         FINDINGS  SECRETS  OLDEST\n"
        "production                    -         1        2 d\n"
        "org/molecule-secrets/staging  -         1        2 d\n"
        "\n2 stacks: 2 as they should be.\n"
    ), shown.out
    assert sum("--stack org/molecule-secrets/staging" in call for call in cli.calls) == 2


def test_a_fleet_of_which_one_cannot_be_audited(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers("stack ls", LISTED)
    script = cli.folder / "pulumi"
    script.write_text(
        script.read_text().replace("shift 3\n", 'shift 3\ncase "$*" in *staging*) echo locked >&2; exit 1;; esac\n')
    )
    assert main(["--stack", "*"]) == 2
    assert "2 stacks: 1 as it should be, 1 not audited." in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--stack", "nothing-*"], ["--stack", "*", "--variables", "/nowhere"]])
def test_a_fleet_that_is_none(cli: Cli, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.answers("stack ls", LISTED)
    assert main(arguments) == 2
    assert "the stack was not audited; nothing was changed" in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == 2


def test_variables_of_a_stack(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stack with variables of its own is audited by a process of its own; what that finds is what is shown."""
    file = tmp_path / "variables.yaml"
    file.write_text("production: {PULUMI_CONFIG_PASSPHRASE: $OF_PRODUCTION}\n")
    assert main(["--stack", "production", "--variables", str(file)]) == 2
    assert "OF_PRODUCTION, which is not set" in capsys.readouterr().err
    assert not cli.calls_file.exists()
    cli.answers("config --json", "", err="error: incorrect passphrase", status=255)
    script = cli.folder / "pulumi"
    script.write_text(script.read_text().replace("shift 3\n", 'shift 3\necho "$PULUMI_CONFIG_PASSPHRASE" > seen\n'))
    (tmp_path / "passphrase").write_text("that of production\n")
    file.write_text(f'production: {{PULUMI_CONFIG_PASSPHRASE: "@{tmp_path / "passphrase"}"}}\n')
    assert main(["--stack", "production", "--variables", str(file)]) == 2
    shown = capsys.readouterr()
    assert "error: stack production: `pulumi config --json" in shown.err
    assert (cli.folder / "seen").read_text() == "that of production\n"
    assert "that of production" not in shown.err


def test_an_audit_is_the_same_after_it_was_printed(cli: Cli, providers: Providers) -> None:
    del cli
    providers.digest = "another"
    found = audit("prod", strict=True)
    assert found.status == 1
    assert output.from_data(json.loads(json.dumps(output.data(found)))) == found
