"""Verification of a secret about which nothing more is known: the app runs with the new value.

1. Every machine of the app has booted since the secret was written, and is healthy by its own checks.
2. Where a URL is given, it answers 200.

Weaker than the verifications of the map, which prove that a consumer *used* the value. Prefer a module of its own where one can be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from components.announcement import Announcement, together
from components.http import REPEATABLE, Api
from components.verification import check
from components.verification.check import CheckFailedError, Subject
from components.verification.consumers import AppSettings, announce_machines, machines_run_the_new_value


@dataclass(frozen=True, kw_only=True)
class Settings(AppSettings):
    """What this verification is told.

    Attributes:
        url: What has to answer 200; "" for nothing.
    """

    url: str = ""


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly = settings.fly()
    checks = {"machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret)}
    if settings.url:
        checks["health"] = lambda: answers(settings.url)
    check.together(checks)


def answers(url: str) -> str:
    """Raises CheckFailedError or ApiError unless a GET of the URL answers 200."""
    api = Api(system="the app", base_url=url, headers={})
    answer = api.call("GET", "", operation="reach its URL", policy=REPEATABLE, timeout=10)
    if answer.status_code != httpx.codes.OK:
        raise CheckFailedError(f"{url} answers {answer.status_code}")
    return f"{url} answers"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows; it makes nothing."""
    answers_too = (f"{settings['url']} answers",) if settings.get("url") else ()
    return together([announce_machines(settings["app"]), Announcement(words=answers_too)])


if __name__ == "__main__":
    check.run(verify)
