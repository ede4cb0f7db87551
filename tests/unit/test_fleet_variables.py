"""Does each stack's engine get its own variables, and does a file that has a secret in it get refused?"""

from pathlib import Path

import pytest

from components.errors import RefusedError
from tools.fleet.variables import for_stack, load

ENVIRONMENT = {
    "PULUMI_CONFIG_PASSPHRASE": "of-all",
    "PRODUCTION": "of-production",
    "CONTROL_PLANE_URL": "http://one.example",
    "PATH": "/bin",
}


def given(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "variables.yaml"
    file.write_text(text)
    return file


def test_variables_of_a_stack(tmp_path: Path) -> None:
    passphrase = tmp_path / "staging.passphrase"
    passphrase.write_text("of-staging\n")
    file = given(
        tmp_path,
        f"""
"*": {{CONTROL_PLANE_URL: null, FLY_API_BASE_URL: http://fly.example}}
staging: {{PULUMI_CONFIG_PASSPHRASE: "@{passphrase}"}}
"prod-*": {{PULUMI_CONFIG_PASSPHRASE: $PRODUCTION}}
prod-us: {{PULUMI_CONFIG_PASSPHRASE_FILE: /some/file, FLY_API_BASE_URL: http://us.example}}
""",
    )
    variables = load(file)
    common = {"PATH": "/bin", "PRODUCTION": "of-production"}
    assert for_stack("dev", variables, ENVIRONMENT) == {
        **common,
        "PULUMI_CONFIG_PASSPHRASE": "of-all",
        "FLY_API_BASE_URL": "http://fly.example",
    }
    assert for_stack("staging", variables, ENVIRONMENT)["PULUMI_CONFIG_PASSPHRASE"] == "of-staging"
    assert for_stack("prod-eu", variables, ENVIRONMENT)["PULUMI_CONFIG_PASSPHRASE"] == "of-production"
    # With both, Pulumi would take the one that is not meant.
    assert for_stack("prod-us", variables, ENVIRONMENT) == {
        **common,
        "PULUMI_CONFIG_PASSPHRASE_FILE": "/some/file",
        "FLY_API_BASE_URL": "http://us.example",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("staging: {PULUMI_CONFIG_PASSPHRASE: hunter2-hunter2}", "stands there in plaintext"),
        ("staging: {FLY_ACCESS_TOKEN: hunter2-hunter2}", "stands there in plaintext"),
        ("staging: {SOME: 1}", "has to be a text"),
        ("staging: hunter2-hunter2", "has to map names"),
        ("[hunter2-hunter2", "is no YAML"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        load(given(tmp_path, text))
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("value", ["$NOT_SET", "@/nowhere/at/all"])
def test_what_is_referred_to_is_not_there(tmp_path: Path, value: str) -> None:
    variables = load(given(tmp_path, f'prod: {{PULUMI_CONFIG_PASSPHRASE: "{value}"}}'))
    with pytest.raises(RefusedError, match="PULUMI_CONFIG_PASSPHRASE of the stack prod"):
        for_stack("prod", variables, ENVIRONMENT)
    assert for_stack("staging", variables, ENVIRONMENT) == ENVIRONMENT, "and does not matter to another one"
