"""What a client says of an answer that has not the form that its provider documents: an `ApiError`, never a traceback. No Pulumi here.

A client reads an answer as it is documented (`body["data"]`, `each["id"]`), which keeps it readable. What goes wrong there is caught here, in
one place for all of them, and so is a result of a type that the client does not promise: a number where there has to be a text would fail
somewhere else, later. Of the exception only the place is told: its text may quote the answer, and that may hold a secret.
"""

import dataclasses
import functools
import inspect
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Union

from components import http
from components.http import ApiError

Client = TypeVar("Client", bound=type)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
WRONG_FORM = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
# People's own words, or written by another program: whatever prints them has to make them printable.
FREE = frozenset({"name", "subject", "sender", "description"})


def reads_answers(client: Client) -> Client:
    """Has every public method of a client raise `ApiError` where it cannot read an answer, or where its result is not what it promises."""
    for name, method in list(vars(client).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(client, name, reads_answer(method))
    return client


def reads_answer(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same for one function."""

    @functools.wraps(function)
    def reading(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with http.asking() as asked:
            try:
                result = function(*arguments, **named)
            except WRONG_FORM as error:
                if asked.status is None:
                    raise  # nothing was answered: whatever is wrong is wrong here
                raise _another_form(asked, f"{type(error).__name__} at {_place(error)}") from None
            if asked.status is not None and not _fits(result, _promised(function)):
                raise _another_form(asked, f"not what `{function.__name__}` returns")
            return result

    return reading


def _another_form(asked: http.Asked, detail: str) -> ApiError:
    reason = f"the answer is not as documented ({detail})"
    return ApiError(asked.system, asked.operation, status=asked.status, reason=reason, request_id=asked.request_id)


def _place(error: BaseException) -> str:
    """Where in our code, for whoever mends the client."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "components" in Path(each.filename).parts]
    innermost = frames[-1]
    return f"{'/'.join(Path(innermost.filename).parts[-2:])}:{innermost.lineno}"


@functools.cache
def _promised(function: Callable[..., object]) -> Any:  # noqa: ANN401 - a type
    return typing.get_type_hints(function).get("return", Any)


@functools.cache
def _members(kind: type) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def _fits(value: Any, promised: Any, *, free: bool = False) -> bool:  # noqa: ANN401, PLR0911 - any JSON, a row for each kind of type
    """Whether a value is of the type that is promised. A text has to be printable unless it is `free`."""
    if promised is Any or promised is object:
        return True
    if promised is None or promised is types.NoneType:
        return value is None
    if promised is str:
        return isinstance(value, str) and (free or value.isprintable())
    if promised in {int, float}:
        return isinstance(value, int if promised is int else (int, float)) and not isinstance(value, bool)
    if dataclasses.is_dataclass(promised):
        return isinstance(value, typing.cast("type", promised)) and all(
            _fits(getattr(value, name), kind, free=name in FREE)
            for name, kind in _members(typing.cast("type", promised)).items()
        )
    origin, inner = typing.get_origin(promised), typing.get_args(promised)
    if origin in {Union, types.UnionType}:
        return any(_fits(value, each, free=free) for each in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return (
            isinstance(value, tuple)
            and len(value) == len(inner)
            and all(_fits(each, kind, free=free) for each, kind in zip(value, inner, strict=True))
        )
    if origin in {list, tuple}:
        return isinstance(value, origin) and all(_fits(each, inner[0], free=True) for each in value)
    if origin in {dict, Mapping}:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0], free=True) and _fits(each, inner[1], free=True) for key, each in value.items()
        )
    return isinstance(value, promised) and not (promised is datetime and value.tzinfo is None)
