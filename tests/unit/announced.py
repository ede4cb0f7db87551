"""Holds the requests that were made against those that were announced."""

import re
from collections import Counter
from collections.abc import Iterable

import httpx

from components.announcement import Announcement, Request

from .wire import body_of

SYSTEMS = {
    "api.machines.dev": "fly",
    "api.fly.io": "fly",
    "api.github.com": "github",
    "console.neon.tech": "neon",
    "api.upstash.com": "upstash",
    "happy-cat-1.upstash.io": "upstash",
    "api.resend.com": "resend",
    "api.stripe.com": "stripe",
    "cp.test": "control-plane",
}
READS = {"ACL LIST"}  # of Redis


def change_of(request: httpx.Request) -> tuple[str, str, str] | None:
    """System, method and path of a request that changes something, the operation behind the path; None for one that only reads."""
    system, path = SYSTEMS[request.url.host], request.url.path
    if request.method == "GET":
        return None
    if path == "/graphql":
        found = re.match(r"\s*(query|mutation)?\s*(?:\w+\s*)?(?:\([^{]*\))?\s*\{\s*(\w+)", body_of(request)["query"])
        assert found, body_of(request)["query"]
        return (system, request.method, f"{path} {found[2]}") if found[1] == "mutation" else None
    if system == "upstash" and path == "/":
        words = body_of(request)
        command = " ".join(words[:2]) if words[0] == "ACL" else words[0]
        return None if command in READS else (system, request.method, f"/ {command}")
    return system, request.method, path


def changes(requests: Iterable[httpx.Request]) -> list[tuple[str, str, str]]:
    """All requests that changed something."""
    return [change for each in requests if (change := change_of(each)) is not None]


def assert_announced(made: Iterable[tuple[str, str, str]], announced: Iterable[Request]) -> None:
    """Every change was announced, and none was made more often than that."""
    made, announced = list(made), list(announced)
    for change in made:
        assert any(each.covers(*change) for each in announced), f"{change} was not announced: {announced}"
    counted = Counter(made)
    for change, times in counted.items():
        limits = [each.at_most for each in announced if each.covers(*change)]
        if None not in limits:
            assert times <= sum(limit or 0 for limit in limits), f"{change}: {times} times, announced: {limits}"
    for request in announced:
        times = sum(request.covers(*change) for change in made)
        assert request.at_most is None or times <= request.at_most, f"{request} was made {times} times"


def assert_needed(made: Iterable[tuple[str, str, str]], announced: Iterable[Request]) -> None:
    """Nothing was announced that was not done: where nothing goes wrong, whoever reads it may count on it."""
    made = list(made)
    for each in announced:
        assert any(each.covers(*change) for change in made), f"{each} was not made: {made}"


def assert_covered(requests: Iterable[httpx.Request], announcement: Announcement) -> None:
    """Every change is one that was announced, however often: where answers are lost, requests are tried again."""
    unannounced = [
        each for each in changes(requests) if not any(request.covers(*each) for request in announcement.writes)
    ]
    assert not unannounced, f"not announced: {unannounced}"
