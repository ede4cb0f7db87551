"""Is what is announced recognized among the requests that are made, and does every check of the map say what it does?"""

import ast
import importlib
import inspect
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import secret_map
from components.announcement import NOTHING, Announcement, Request, as_data, of_check, together
from components.secret import Check, Secret

from .test_secret_map import DECLARED, PROGRAM, SETTINGS, checks, module_of

WRITE = Request(system="fly", method="POST", path="/v1/apps/cp/machines/{id}/lease")


@pytest.mark.parametrize(
    ("announced", "made", "covered"),
    [
        ("/v1/apps/cp/secrets", "/v1/apps/cp/secrets", True),
        ("/v1/apps/cp/secrets", "/v1/apps/cp/secrets/", False),
        ("/v1/apps/cp/secrets", "/v1/apps/cp/secrets/X", False),
        ("/v1/apps/cp/secrets", "/v1/apps/cp2/secrets", False),
        ("/v1/apps/cp/secrets", "/v1/apps/cp/secret", False),
        ("/v1/apps/c.p", "/v1/apps/cxp", False),
        ("/machines/{id}/lease", "/machines/m1/lease", True),
        ("/machines/{id}/lease", "/machines/m1", False),
        ("/machines/{id}", "/machines/m1/lease", False),
        ("/machines/{id}", "/machines/", False),
        ("/machines/{id}", "/machines/m1 x", False),
        ("/{a}/x/{b}", "/1/x/2", True),
        ("/{a}/x/{b}", "/1/2/x/3", False),
        ("/tenants/keytest-{time}", "/tenants/keytest-1764180000", True),
        ("/tenants/keytest-{time}", "/tenants/keytest-", False),
        ("/tenants/keytest-{time}", "/tenants/acme", False),
        ("/graphql createToken", "/graphql createToken", True),
        ("/graphql createToken", "/graphql deleteToken", False),
        ("/graphql createToken", "/graphql", False),
        ("/graphql createToken", "/graphql createTokens", False),
        ("/ ACL SETUSER", "/ ACL SETUSER", True),
        ("/ ACL SETUSER", "/ ACL DELUSER", False),
        ("{path}", "x", True),
        ("/a(b)+[c]", "/a(b)+[c]", True),
    ],
)
def test_a_path_covers_what_it_means(announced: str, made: str, covered: bool) -> None:  # noqa: FBT001 - a column
    assert replace(WRITE, path=announced).covers("fly", "POST", made) is covered


@pytest.mark.parametrize(("system", "method"), [("github", "POST"), ("fly", "PUT"), ("fly", "post"), ("", "POST")])
def test_another_system_or_method_is_not_covered(system: str, method: str) -> None:
    assert WRITE.covers("fly", "POST", "/v1/apps/cp/machines/m1/lease")
    assert not WRITE.covers(system, method, "/v1/apps/cp/machines/m1/lease")


SEGMENT = st.text(st.characters(codec="ascii", exclude_characters="/ \n\r\x0b\x0c\x1c\x1d\x1e\x85{}"), min_size=1)


@given(st.lists(st.one_of(SEGMENT, st.none()), min_size=1), st.data())
def test_placeholders_stand_for_one_segment_each(parts: list[str | None], data: st.DataObject) -> None:
    request = replace(WRITE, path="/" + "/".join("{x}" if each is None else each for each in parts))
    made = "/" + "/".join(data.draw(SEGMENT) if each is None else each for each in parts)
    assert request.covers("fly", "POST", made)
    assert not request.covers("fly", "POST", made + "/more")
    assert not request.covers("fly", "POST", made + " field")


def test_several_steps_are_one_in_their_order() -> None:
    first = Announcement(words=("a",), makes=("m",), writes=(WRITE,))
    second = Announcement(words=("b", "c"), dispatches=("d",), costs=("e",), writes=(WRITE,))
    assert together([first, NOTHING, second]) == Announcement(
        words=("a", "b", "c"), makes=("m",), dispatches=("d",), costs=("e",), writes=(WRITE, WRITE)
    )
    assert together([]) == NOTHING
    assert together(iter([first])) == first


def test_a_request_as_data() -> None:
    assert as_data(replace(WRITE, at_most=None)) == {
        "system": "fly",
        "method": "POST",
        "path": "/v1/apps/cp/machines/{id}/lease",
        "at_most": None,
    }


# Checks


def test_no_check_does_nothing() -> None:
    assert of_check(None) == NOTHING
    assert of_check(None, leaked=True) == NOTHING


@pytest.mark.parametrize("leaked", [False, True])
def test_a_check_speaks_for_itself(monkeypatch: pytest.MonkeyPatch, leaked: bool) -> None:  # noqa: FBT001 - a column
    module = ModuleType("components.verification.mine")
    heard: list[tuple[dict[str, Any], bool]] = []

    def announce(settings: dict[str, Any], *, leaked: bool) -> Announcement:
        heard.append((settings, leaked))
        return Announcement(words=("it works",))

    module.announce = announce  # type: ignore[attr-defined]
    monkeypatch.setattr(importlib, "import_module", {"components.verification.mine": module}.__getitem__)
    check = Check(module="mine", settings={"app": "cp"})
    assert of_check(check, leaked=leaked).words == ("it works",)
    assert heard == [({"app": "cp"}, leaked)]
    del module.announce
    (words,) = of_check(check, leaked=leaked).words
    assert words == "components.verification.mine finds no fault"
    assert of_check(check, leaked=leaked).writes == ()


def rotated() -> dict[str, list[Secret]]:
    """The secrets that `__main__.py` lists, with every choice of the config."""
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == secret_map.__name__.rpartition(".")[2]
    }
    assert called, "the program lists no secrets"
    return {name: [DECLARED[name](settings) for settings in SETTINGS] for name in sorted(called)}


MAP = rotated()


@pytest.mark.parametrize("leaked", [False, True], ids=["routine", "leaked"])
@pytest.mark.parametrize("secrets", MAP.values(), ids=MAP)
def test_every_check_of_the_map_says_what_it_does(secrets: list[Secret], leaked: bool) -> None:  # noqa: FBT001 - a column
    for check in {repr(check): check for secret in secrets for check in checks(secret)}.values():
        announce = module_of(check.module).announce
        assert list(inspect.signature(announce).parameters) == ["settings", "leaked"]
        said = of_check(check, leaked=leaked)
        assert said.words, "what it shows is said"
        assert "finds no fault" not in " ".join(said.words)
        for each in (*said.words, *said.makes, *said.dispatches, *said.costs):
            assert each
            assert each == each.strip().removesuffix(".")
            assert "\n" not in each
        assert bool(said.makes) == any(each.system == "control-plane" for each in said.writes)
        assert bool(said.dispatches) == any(each.system == "github" for each in said.writes)
        assert not said.costs or leaked, "a routine rotation gives nothing up"


@pytest.mark.parametrize("secrets", MAP.values(), ids=MAP)
def test_a_leak_takes_no_proof_away_but_the_wait_for_ci(secrets: list[Secret]) -> None:
    for secret in secrets:
        for check in checks(secret):
            routine, leaked = (of_check(check, leaked=each) for each in (False, True))
            assert routine.writes == leaked.writes
            missing = set(routine.words) - set(leaked.words)
            assert missing == ({"CI runs that started with the value before have finished"} if leaked.costs else set())
            assert not leaked.costs or check.module == "fly_api_token"


def test_a_probe_makes_nothing() -> None:
    for secrets in MAP.values():
        for secret in secrets:
            assert of_check(secret.probe).writes == ()
