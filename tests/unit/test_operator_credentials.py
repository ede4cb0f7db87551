"""Are operator credentials found where they are, and named where they are not?"""

import pytest

from components import operator_credentials
from components.errors import RefusedError
from components.operator_credentials import (
    ALL,
    CONTROL_PLANE,
    CONTROL_PLANE_SESSION,
    FLY,
    GITHUB,
    OperatorCredential,
    endpoint,
    find,
)

TABLE = pytest.mark.parametrize("credential", ALL, ids=lambda each: each.config_key)


def nothing(_key: str) -> None:
    return None


@TABLE
def test_the_environment_comes_before_the_config(
    credential: OperatorCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(credential.variables[0], "from the environment")
    assert find(credential, lambda _key: "from the config") == "from the environment"


@TABLE
def test_the_config_comes_second(credential: OperatorCredential) -> None:
    asked: list[str] = []

    def config(key: str) -> str:
        asked.append(key)
        return " from the config\n"

    assert find(credential, config) == "from the config"
    assert asked == [credential.config_key]


@TABLE
@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_one_counts_as_none(
    credential: OperatorCredential, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(credential.variables[0], empty)
    assert find(credential, lambda _key: "from the config") == "from the config"
    with pytest.raises(RefusedError) as refused:
        find(credential, lambda _key: empty)
    assert credential.description in refused.value.happened
    assert credential.variables[0] in refused.value.next_step
    assert credential.config_key in refused.value.next_step


def test_the_variables_are_those_of_the_vendors() -> None:
    assert FLY.variables == ("FLY_ACCESS_TOKEN", "FLY_API_TOKEN")
    assert GITHUB.variables == ("GITHUB_TOKEN",)
    assert CONTROL_PLANE.variables == ("CP_ADMIN_API_TOKEN",)


def test_a_check_gets_the_session_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONTROL_PLANE_SESSION in ALL
    assert CONTROL_PLANE_SESSION.variables == ("CP_SESSION",)
    assert CONTROL_PLANE_SESSION.config_key == "controlPlaneSession"
    monkeypatch.setenv("ROTATION_CONFIG_controlPlaneSession", "of the config")
    assert find(CONTROL_PLANE_SESSION) == "of the config"


def test_the_first_variable_that_is_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "second")
    assert find(FLY, nothing) == "second"
    monkeypatch.setenv("FLY_ACCESS_TOKEN", "first")
    assert find(FLY, nothing) == "first"


def test_white_space_around_a_token_does_not_get_into_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", " token \n")
    assert find(GITHUB, nothing) == "token"


@TABLE
def test_a_check_gets_the_config_through_its_environment(
    credential: OperatorCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = operator_credentials.variable_of_config(credential.config_key)
    assert variable.isidentifier()
    monkeypatch.setenv(variable, "handed over")
    assert find(credential) == "handed over"


def test_no_two_config_keys_share_a_variable() -> None:
    assert len({operator_credentials.variable_of_config(each.config_key) for each in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("value", "url"),
    [(None, "https://default.test"), ("", "https://default.test"), ("http://127.0.0.1:1/", "http://127.0.0.1:1")],
)
def test_an_endpoint_of_the_environment_comes_first(
    value: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("FLY_API_BASE_URL", value)
    assert endpoint("FLY_API_BASE_URL", "https://default.test/") == url
