"""Holds what an update did against what its preview had announced: request by request."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from components.announcement import Request

# GraphQL queries and Redis commands are POSTs that change nothing.
READS = re.compile(r"/graphql [a-z]+(,[a-z]+)*|/ (PING|GET|ACL (LIST|GETUSER|WHOAMI))", re.ASCII)
GITHUB_PREFIX = "/api/v3"  # pulumi-github takes any GitHub but github.com for an Enterprise Server


def writes(requests: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The requests by which the program changed something: system, method, path. Those of consumers do not count.

    Nor do those that were refused, because a database was locked for example: they changed nothing, and are tried again.
    """
    return [
        (each["provider"], each["method"], each["target"].removeprefix(GITHUB_PREFIX))
        for each in requests
        if each["consumer"] is None
        and each["method"] not in {"GET", "HEAD"}
        and not READS.fullmatch(each["target"])
        and (each["status"] is None or each["status"] < httpx.codes.BAD_REQUEST)
    ]


def unannounced(requests: Iterable[Mapping[str, Any]], impact: Mapping[str, Any]) -> list[str]:
    """The writes that were not announced, or not that often."""
    left: list[tuple[Request, Counter[str]]] = [(Request(**each), Counter()) for each in impact["writes"]]
    found = []
    for system, method, path in writes(requests):
        for request, count in left:
            if request.covers(system, method, path) and (request.at_most is None or count["made"] < request.at_most):
                count["made"] += 1
                break
        else:
            found.append(f"{system} {method} {path}")
    return found
