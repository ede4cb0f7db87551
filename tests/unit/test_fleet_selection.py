"""Are the stacks meant that are named, in the order that their config asks for, and is everything else refused before anything is touched?"""

from pathlib import Path

import pytest

from components.errors import RefusedError
from tools.fleet.selection import described, order, select

AFTER = {"dev": "", "staging": "dev", "prod-eu": "staging", "prod-us": "staging", "canary": "", "sandbox": ""}
DEPLOYED = ("dev", "staging", "prod-eu", "prod-us", "canary", "elsewhere")


def chosen(*patterns: str) -> tuple[str, ...]:
    return select(patterns, described=AFTER, deployed=DEPLOYED).names


def test_names_and_patterns() -> None:
    assert chosen("staging", "prod-*") == ("staging", "prod-eu", "prod-us")
    assert chosen("prod-us", "prod-*") == ("prod-us", "prod-eu"), "each once, where it is named first"
    assert chosen("*") == ("canary", "dev", "prod-eu", "prod-us", "staging")


def test_what_a_pattern_leaves_out_is_said() -> None:
    skipped = select(["*"], described=AFTER, deployed=DEPLOYED).skipped
    assert skipped == {
        "sandbox": "it is not on this backend",
        "elsewhere": "there is no stacks/Pulumi.elsewhere.yaml here",
    }


@pytest.mark.parametrize(
    ("pattern", "said", "next_step"),
    [
        ("sandbox", "The stack sandbox is not on this backend.", "pulumi stack init sandbox"),
        ("elsewhere", "The stack elsewhere has no stacks/Pulumi.elsewhere.yaml here.", "git pull"),
        ("stagin", "There is no stack stagin. Did you mean staging?", "pulumi stack ls"),
        ("test-*", "No stack is called test-*. Known: canary, dev, prod-eu, prod-us, staging.", "pulumi stack ls"),
    ],
)
def test_unknown_stacks(pattern: str, said: str, next_step: str) -> None:
    with pytest.raises(RefusedError) as refused:
        chosen("dev", pattern)
    assert refused.value.happened == said
    assert next_step in refused.value.next_step


def test_every_unknown_stack_is_named() -> None:
    with pytest.raises(RefusedError) as refused:
        chosen("one", "dev", "another")
    assert "no stack one" in refused.value.happened
    assert "no stack another" in refused.value.happened


def test_waves() -> None:
    found = order(("prod-us", "canary", "prod-eu", "dev", "staging"), after=AFTER)
    assert found.waves == (("canary", "dev"), ("staging",), ("prod-us", "prod-eu"))
    assert found.before["prod-us"] == {"staging", "dev"}
    assert found.before["canary"] == frozenset()


def test_a_stack_that_is_not_selected_passes_the_order_on() -> None:
    assert order(("prod-eu", "dev"), after=AFTER).waves == (("dev",), ("prod-eu",))


def test_the_order_of_the_command_line_comes_on_top() -> None:
    found = order(("canary", "dev", "staging"), after=AFTER, groups=(("canary",), ("dev", "staging")))
    assert found.waves == (("canary",), ("dev",), ("staging",))
    with pytest.raises(RefusedError, match=r"contradict each other: staging, dev wait for one another"):
        order(("staging", "dev"), after=AFTER, groups=(("staging",), ("dev",)))


@pytest.mark.parametrize("after", [{"a": "b", "b": "c", "c": "a"}, {"a": "a"}])
def test_circles(after: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="in a circle: a after"):
        order(("a",), after=after)


def test_after_a_stack_that_nobody_knows() -> None:
    with pytest.raises(RefusedError) as refused:
        order(("a",), after={"a": "gone"})
    assert "`after` of the stack a names gone, and there is no stacks/Pulumi.gone.yaml" in refused.value.happened
    assert "stacks/Pulumi.a.yaml" in refused.value.next_step


def test_what_the_files_say(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    (folder / "Pulumi.staging.yaml").write_text("config:\n  molecule-secrets:app: x\n")
    (folder / "Pulumi.prod.yaml").write_text(
        "config:\n  molecule-secrets:after: organization/molecule-secrets/staging\n"
    )
    (folder / "Pulumi.empty.yaml").write_text("# nothing yet\n")
    (folder / "fleet.json").write_text("{}")
    assert described(tmp_path) == {"staging": "", "prod": "staging", "empty": ""}


@pytest.mark.parametrize("text", ["config: [", "config:\n  molecule-secrets:after: [a, b]\n"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(text)
    with pytest.raises(RefusedError, match=r"stacks/Pulumi.prod.yaml cannot be read"):
        described(tmp_path)
