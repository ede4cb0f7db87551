"""The encoding of Stripe's v1 requests: forms whose names spell out nested objects and lists.

`metadata[order]=1` is an object's member, `enabled_events[]=*` and `enabled_events[0]=*` are list items,
`line_items[0][price_data][currency]=usd` nests (Stripe API reference, "Making requests"; the SDKs write indexes).
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, Final

_NAME: Final = re.compile(r"^(?P<first>[^\[\]]+)(?P<rest>(?:\[[^\[\]]*\])*)$")
_DEPTH: Final = 10

Value = str | list[Any] | dict[str, Any]


def parse(text: str) -> dict[str, Value]:
    """Read a form or a query.

    Raises `ValueError` if a name's brackets do not pair, nest too deep, or contradict an earlier name.
    """
    found: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict"):
        match = _NAME.match(name)
        if match is None:
            raise ValueError(f"invalid parameter name {name}")
        parts = [match["first"], *re.findall(r"\[([^\[\]]*)\]", match["rest"])]
        if len(parts) > _DEPTH:
            raise ValueError(f"{match['first']} is nested too deep")
        _put(found, parts, value)
    return {name: _lists(value) for name, value in found.items()}


def _put(node: dict[str, Any], parts: list[str], value: str) -> None:
    """Store a value. Lists are dictionaries with numbers for keys until all is read."""
    *path, last = parts
    for position, part in enumerate(path):
        key = part or _current(node, parts[position + 1 :])
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ValueError(f"{parts[0]} is both a value and an object")  # noqa: TRY004 - about what the caller sent
    key = last or str(len(node))
    if isinstance(node.get(key), dict):
        raise ValueError(f"{parts[0]} is both a value and an object")  # noqa: TRY004 - as above
    node[key] = value


def _current(node: dict[str, Any], rest: list[str]) -> str:
    """Return the index that `[]` in the middle of a name means: the last item, until it has what follows already."""
    if not node:
        return "0"
    last = str(len(node) - 1)
    inner: Any = node.get(last)
    for part in rest:
        if not isinstance(inner, dict) or part not in inner:
            return last
        inner = inner[part]
    return str(len(node))


def _lists(value: Any) -> Value:  # noqa: ANN401 - a tree of dictionaries and strings
    if not isinstance(value, dict):
        return str(value)
    items = {key: _lists(item) for key, item in value.items()}
    if all(key.isdigit() for key in items):
        return [items[key] for key in sorted(items, key=int)]
    return items
