"""Is progress read from the resources that count, and nothing else taken out of the state?"""

import json
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components import own_state
from components.errors import RefusedError
from components.own_state import from_resources
from components.settings import Progress


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:prod::molecule-secrets::molecule:rotation:Rotation${kind}::{name}"


def credential(name: str, generation: float) -> dict[str, Any]:
    kind = own_state.CREDENTIAL_TYPE
    return {urn(kind, name): {"type": kind, "outputs": {"generation": generation, "value": "not for you"}}}


def command(name: str, stdout: str | None, kind: str = own_state.VERIFICATION_TYPE) -> dict[str, Any]:
    return {urn(kind, name): {"type": kind, "outputs": {"stdout": stdout} if stdout is not None else {}}}


def report(generation: int) -> str:
    return json.dumps({"generation": generation, "subject": "s", "verified_at": "2026-11-23T12:00:00+00:00"})


@pytest.mark.parametrize(
    ("resources", "progress"),
    [
        ({}, {}),
        (credential("A", 3.0), {"A": Progress(current=3)}),
        (credential("A", 3) | command("verification-A", report(2)), {"A": Progress(current=3, verified=2)}),
        (credential("A", 3) | command("verification-A", None), {"A": Progress(current=3)}),
        (credential("A", 3) | command("verification-A", ""), {"A": Progress(current=3)}),
        (credential("A", 3) | command("probe-A", report(3)), {"A": Progress(current=3)}),
        (credential("A", 3) | command("verification-A", report(3), "other:Type"), {"A": Progress(current=3)}),
        (
            credential("A", 1) | credential("B", 2) | command("verification-B", report(2)),
            {"A": Progress(current=1), "B": Progress(current=2, verified=2)},
        ),
        (command("verification-A", report(2)), {"A": Progress(verified=2)}),
        ({urn("pulumi:providers:github", "default"): {"type": "pulumi:providers:github"}}, {}),
        ({urn("github:ActionsSecret", "A"): {"type": "github:ActionsSecret", "outputs": {"generation": 9}}}, {}),
    ],
    ids=[
        "nothing deployed",
        "minted, not verified",
        "minted again, verified before",
        "the verification has never run",
        "the verification has printed nothing",
        "a probe is no verification",
        "a resource of another type is no verification",
        "two secrets do not mix",
        "a verification without a credential",
        "a resource without outputs",
        "a resource of another type is no credential",
    ],
)
def test_progress(resources: dict[str, Any], progress: dict[str, Progress]) -> None:
    assert from_resources(resources) == progress


def test_the_engine_is_asked_for_this_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def invoke(token: str, arguments: Any) -> SimpleNamespace:  # noqa: ANN401 - the SDK's
        asked.append((token, arguments))
        return SimpleNamespace(value={"outputs": credential("A", 2)})

    monkeypatch.setattr(own_state, "invoke", invoke)
    monkeypatch.setattr(pulumi, "get_organization", lambda: "organization")
    monkeypatch.setattr(pulumi, "get_project", lambda: "molecule-secrets")
    monkeypatch.setattr(pulumi, "get_stack", lambda: "prod")
    assert own_state.progress() == {"A": Progress(current=2)}
    assert asked == [("pulumi:pulumi:readStackResourceOutputs", {"stackName": "organization/molecule-secrets/prod"})]


@pytest.mark.parametrize("value", [None, {}, {"outputs": None}])
def test_an_engine_without_state_is_no_progress(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_state, "invoke", lambda *_: SimpleNamespace(value=value))
    for name in ("get_organization", "get_project", "get_stack"):
        monkeypatch.setattr(pulumi, name, lambda: "x")
    assert own_state.progress() == {}


def test_a_state_that_is_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [
        Exception("failed to load checkpoint: EOF"),
        SimpleNamespace(value={"outputs": credential("A", 3)}),
    ]

    def invoke(_token: str, _arguments: dict[str, str]) -> Any:  # noqa: ANN401 - the SDK's
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(own_state, "invoke", invoke)
    assert own_state.progress() == {"A": Progress(current=3)}


def test_a_state_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(_token: str, _arguments: dict[str, str]) -> None:
        raise RuntimeError("no backend")

    monkeypatch.setattr(own_state, "READ_TIMEOUT", 0.0)
    monkeypatch.setattr(own_state, "invoke", invoke)
    with pytest.raises(RefusedError, match="no backend"):
        own_state.progress()
