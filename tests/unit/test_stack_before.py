"""Is another stack asked for its outputs and nothing else, and is every way in which that fails told in words that help?"""

from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components import stack_before
from components.errors import RefusedError


def other(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - the SDK's
    """The engine gives these answers, one after the other; returns what it is asked."""
    left, asked = list(answers), []

    def invoke(token: str, arguments: Any) -> SimpleNamespace:  # noqa: ANN401 - the SDK's
        asked.append((token, arguments))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(value=answer)

    monkeypatch.setattr(stack_before, "invoke", invoke)
    monkeypatch.setattr(pulumi, "get_organization", lambda: "acme")
    monkeypatch.setattr(pulumi, "get_project", lambda: "molecule-secrets")
    return asked


def test_another_stack_is_asked_for_its_outputs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = other(monkeypatch, {"outputs": {"secrets": {}}, "secretOutputNames": ["x"]})
    assert stack_before.outputs_of("staging") == {"secrets": {}}
    assert asked == [("pulumi:pulumi:readStackOutputs", {"name": "acme/molecule-secrets/staging"})]


@pytest.mark.parametrize("answer", [None, {}, {"outputs": None}, {"outputs": {}}])
def test_another_stack_without_outputs(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    other(monkeypatch, answer)
    assert stack_before.outputs_of("staging") == {}


def test_another_stack_that_is_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = other(monkeypatch, Exception("failed to load checkpoint: EOF"), {"outputs": {"a": 1}})
    assert stack_before.outputs_of("staging") == {"a": 1}
    assert len(asked) == 2


@pytest.mark.parametrize("said", ['unknown stack "acme/molecule-secrets/staging"', "[404] Not found: stack"])
def test_another_stack_that_does_not_exist_is_told_at_once(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    asked = other(monkeypatch, Exception(f"invoke failed:\n{said}"))
    with pytest.raises(RefusedError, match="there is no stack staging of this project on this backend") as refused:
        stack_before.outputs_of("staging")
    assert "`pulumi stack ls`" in refused.value.next_step
    assert len(asked) == 1


def test_another_stack_that_cannot_be_read_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_before, "READ_TIMEOUT", 0.0)
    other(monkeypatch, Exception("dial postgres://team:hunter2@db.test/state: refused"))
    with pytest.raises(RefusedError, match=r"could not be read: dial postgres://…@db.test/state: refused") as refused:
        stack_before.outputs_of("staging")
    assert "hunter2" not in str(refused.value)
    assert "pulumi stack output --stack staging" in refused.value.next_step
