"""Does the state get the part of the program's stack that is ours, and do errors keep all of theirs?"""

import sys
import traceback

import pulumi
import pytest
from pulumi.runtime import resource
from pulumi.runtime.proto import source_pb2

from components import stack_traces


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


def test_the_deepest_constructors_of_the_sdk_leave_some_of_ours() -> None:
    """A generated resource has one frame more, a dynamic one, too."""
    assert pulumi.CustomResource.__init__.__qualname__ == "CustomResource.__init__"
    with stack_traces.short():
        generated, dynamic = _generated().trace, _dynamic().trace
    assert generated.frames
    assert dynamic.frames


class _Generated(Custom):
    def __init__(self) -> None:
        self._internal_init()

    def _internal_init(self) -> None:
        super().__init__()


def _generated() -> _Generated:
    return _Generated()


class _Dynamic(Concrete):
    def __init__(self) -> None:
        super().__init__()


def _dynamic() -> _Dynamic:
    return _Dynamic()


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
