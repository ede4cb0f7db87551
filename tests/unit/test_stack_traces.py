"""Does the state get the part of the program's stack that is ours, and do errors keep all of theirs?"""

import sys
import traceback
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_github as github
import pytest
from pulumi.dynamic import Resource
from pulumi.runtime import resource
from pulumi.runtime.proto import source_pb2

from components import stack_traces
from components.provider import CredentialProvider


class Base:
    """As the SDK nests constructors."""

    def __init__(self) -> None:
        self.trace: source_pb2.StackTrace = resource._get_stack_trace()


class Custom(Base):
    """The same."""

    def __init__(self) -> None:
        super().__init__()


class Concrete(Custom):
    """A resource."""

    def __init__(self) -> None:
        super().__init__()


def deep(frames: int) -> source_pb2.StackTrace:
    return deep(frames - 1) if frames else Concrete().trace


def test_what_is_kept_begins_with_who_made_the_resource_and_is_short() -> None:
    whole = deep(50)
    with stack_traces.short():
        kept = deep(50)
    assert len(whole.frames) > 50
    assert 1 <= len(kept.frames) <= stack_traces.KEPT
    assert kept.frames[0].pc.uri.endswith("test_stack_traces.py")
    assert kept.frames[0].pc == whole.frames[0].pc, "the SDK's own constructors are left out as ever"


class Mocks(pulumi.runtime.Mocks):
    """Registers whatever comes."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """As asked."""
        return args.name, args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Nothing."""
        del args
        return {}, None


class Dynamic(Resource, module="rotation", name="Credential"):
    """One of ours."""

    def __init__(self, name: str) -> None:
        super().__init__(CredentialProvider(), name, {})


def test_every_kind_of_resource_says_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[source_pb2.StackTrace] = []
    capture = resource._get_stack_trace

    def captured() -> source_pb2.StackTrace:
        traces.append(capture())
        return traces[-1]

    pulumi.runtime.set_mocks(Mocks())
    monkeypatch.setattr(resource, "_get_stack_trace", captured)
    with stack_traces.short():
        command.local.Command("command", create="true")
        github.ActionsSecret("github", repository="r", secret_name="S", value="v")
        Dynamic("dynamic")
    assert len(traces) == 3
    for trace in traces:
        assert 1 <= len(trace.frames) <= 3
        assert trace.frames[0].pc.uri.endswith("test_stack_traces.py")


def test_a_limit_of_before_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with stack_traces.short():
        pass
    assert not hasattr(sys, "tracebacklimit")
    monkeypatch.setattr(sys, "tracebacklimit", 50, raising=False)
    with stack_traces.short():
        assert sys.tracebacklimit == stack_traces.KEPT
    assert sys.tracebacklimit == 50


def fail(frames: int) -> None:
    if frames:
        fail(frames - 1)
    raise ValueError("wrong")


def test_an_error_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="wrong") as failed, stack_traces.short():
        fail(20)
    assert len(traceback.extract_tb(failed.value.__traceback__)) > 20
