"""Fixtures of all unit tests: a clock that does not wait, a wire that is no network, an empty environment."""

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pulumi
import pytest
import tenacity.nap
from pulumi.runtime.settings import set_root_resource

from components import http, lifecycle, rate_limit, user_files
from components.fly import rollout
from components.github.resources import Watch
from components.neon import client as neon_client
from components.verification import check

from .wire import Clock, Wire

# What the code under test reads; a developer's own must not get in.
VARIABLES = (
    "FLY_",
    "GITHUB_",
    "CP_",
    "CONTROL_PLANE_URL",
    "NEON_",
    "RESEND_",
    "STRIPE_",
    "UPSTASH_",
    "DNS_",
    "ROTATION_",
    "PULUMI_",
)


@pytest.fixture(scope="session", autouse=True)
def no_hooks() -> Iterator[None]:
    """The SDK's mocks say that they know the engine's hooks, and refuse every one of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "hooks", lambda _self, _name: pulumi.ResourceHookBinding())
        yield


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time as the code under test sees it: sleeping moves it on and takes no time."""
    clock = Clock()
    for module in (tenacity.nap, rollout, check, lifecycle, neon_client):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """The clock of rate limits, whose waiting is none of other tests' business; they are kept in files of this test."""
    clock = Clock()
    for module in (rate_limit, user_files):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(rate_limit, "_own", {})
    return clock


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator credential and no endpoint of the developer's own environment."""
    for name in list(os.environ):
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_stack_of_another_test() -> Iterator[None]:
    """The SDK's mocks keep the first stack resource of the process, with outputs that belong to the event loop of that test."""
    yield
    set_root_resource(None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def an_event_loop() -> None:
    """The SDK's mocks want one in the main thread; `asyncio.run` of a test before takes it away."""
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        asyncio.set_event_loop(asyncio.new_event_loop())


@pytest.fixture(autouse=True)
def nothing_is_ending(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The event that ends the checks of a process, fresh for each test."""
    ending = threading.Event()
    monkeypatch.setattr(check, "_ending", ending)
    return ending


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What stands in for the network: a request that a test does not expect fails it."""
    wire = Wire()
    with httpx.Client(transport=httpx.MockTransport(wire.handle)) as client:
        monkeypatch.setattr(http, "client", lambda: client)
        yield wire
    assert not wire.unexpected, f"unexpected requests: {wire.unexpected}"
