"""Injected faults, seen from a client: what it gets, and whether the request was carried out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.sandbox.running import CONTROL_PLANE, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandbox

SECRETS = ("--provider", "fly", "--match", "POST", "/v1/apps/molecule-cp/secrets$")


@pytest.fixture(autouse=True)
def _no_fault_stays(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.quickly("fault", "--clear")


def write(sandbox: Sandbox, timeout: float = 30) -> httpx.Response:
    return httpx.post(
        sandbox.environment["FLY_FLAPS_BASE_URL"] + f"{CONTROL_PLANE}/secrets",
        headers={"authorization": f"Bearer {sandbox.operator}"},
        json={"values": {"FAULTY": str(time.monotonic())}},
        timeout=timeout,
        trust_env=False,
    )


def written(sandbox: Sandbox) -> str | None:
    answer = sandbox.fly("GET", f"{CONTROL_PLANE}/secrets/FAULTY")
    return answer.json()["updated_at"] if answer.status_code == 200 else None


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 422, 423, 429, 500, 503])
def test_a_status_is_answered_and_nothing_done(sandbox: Sandbox, status: int) -> None:
    before = written(sandbox)
    sandbox.quickly("fault", *SECRETS, "--status", str(status), "--retry-after", "7")
    answer = write(sandbox)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "7"
    assert written(sandbox) == before
    assert write(sandbox).status_code == 200


def test_only_the_nth_and_its_followers_fail(sandbox: Sandbox) -> None:
    sandbox.quickly("fault", *SECRETS, "--nth", "2", "--count", "2", "--status", "503")
    assert [write(sandbox).status_code for _ in range(4)] == [200, 503, 503, 200]


def test_a_connection_dropped_before_did_nothing(sandbox: Sandbox) -> None:
    before = written(sandbox)
    sandbox.quickly("fault", *SECRETS, "--drop-before")
    with pytest.raises(httpx.TransportError):
        write(sandbox)
    assert written(sandbox) == before


def test_a_connection_dropped_after_did_it(sandbox: Sandbox) -> None:
    before = written(sandbox)
    sandbox.quickly("fault", *SECRETS, "--drop-after")
    with pytest.raises(httpx.TransportError):
        write(sandbox)
    assert written(sandbox) != before


def test_a_timeout_never_answers_and_does_nothing(sandbox: Sandbox) -> None:
    before = written(sandbox)
    sandbox.quickly("fault", *SECRETS, "--timeout")
    with pytest.raises(httpx.ReadTimeout):
        write(sandbox, timeout=0.5)
    assert written(sandbox) == before


def test_latency_delays(sandbox: Sandbox) -> None:
    sandbox.quickly("fault", *SECRETS, "--latency", "700")
    began = time.monotonic()
    assert write(sandbox).status_code == 200
    assert time.monotonic() - began >= 0.7


def test_graphql_is_matched_by_its_root_field(sandbox: Sandbox) -> None:
    sandbox.quickly(
        "fault", "--provider", "fly", "--match", "POST", "/graphql.*createLimitedAccessToken", "--drop-after"
    )
    assert "errors" not in sandbox.graphql('{ app(name: "molecule-cp") { id } }')
    with pytest.raises(httpx.TransportError):
        sandbox.mint(name="lost-answer")
    assert "lost-answer" in [credential["name"] for credential in sandbox.inspect()["credentials"]]


def test_other_providers_are_not_hit(sandbox: Sandbox) -> None:
    sandbox.quickly("fault", "--provider", "control-plane", "--match", "*", ".", "--status", "503", "--count", "9")
    before = sandbox.inspect()["breakages"]
    assert sandbox.control_plane("GET", "/health").status_code == 503
    assert write(sandbox).status_code == 200
    assert sandbox.inspect()["breakages"] == before, "an injected fault is no breakage"


def test_faults_are_listed_and_cleared(sandbox: Sandbox) -> None:
    sandbox.command("fault", *SECRETS, "--nth", "5", "--status", "500")
    write(sandbox)
    listed = json.loads(sandbox.command("fault", "--list"))
    assert [(fault["nth"], fault["seen"], fault["effect"]) for fault in listed] == [(5, 1, "status")]
    sandbox.command("fault", "--clear")
    assert json.loads(sandbox.command("fault", "--list")) == []


@pytest.mark.parametrize(
    "arguments", [("--status", "200"), ("--status", "503", "--nth", "0"), (), ("--timeout", "--drop-before")]
)
def test_a_wrong_fault_is_refused(sandbox: Sandbox, arguments: tuple[str, ...]) -> None:
    assert run("fault", "--dir", str(sandbox.directory), *SECRETS, *arguments).returncode != 0
