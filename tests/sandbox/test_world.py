"""The world: sealing, settings, credentials, ports."""

from __future__ import annotations

import contextlib
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sandbox import faults
from sandbox.faults import Effect, Fault
from sandbox.middleware import command, root_fields
from sandbox.world import PORTS_VARIABLE, SandboxError, World, family_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(World(tmp_path)) as world:
        yield world


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("molecule-cp-rotation-sandbox-FLY_API_TOKEN-g12", "molecule-cp-rotation-sandbox-FLY_API_TOKEN"),
        ("molecule-cp-rotation-20260101", "molecule-cp-rotation-20260101"),
        ("something-g2", "something-g2"),
    ],
)
def test_a_rotated_name_tells_its_family(name: str, family: str) -> None:
    assert family_of(name) == family


def test_files_are_the_owners_only(world: World) -> None:
    files = [path for path in world.directory.iterdir() if path.is_file()]
    assert {"world.sqlite", "vault.key"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_folder_without_a_sandbox_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no sandbox"):
        World(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


def test_what_is_sealed_survives_and_is_not_readable(world: World) -> None:
    world.keep("NAME", "a-value")
    with contextlib.closing(World(world.directory)) as again:
        assert again.kept("NAME") == "a-value"
        assert again.kept("OTHER") is None
    sealed = world.database.execute("SELECT sealed FROM kept").fetchone()["sealed"]
    assert b"a-value" not in sealed


def test_credentials_are_refused_when_unknown_expired_or_revoked(world: World) -> None:
    now = world.now()
    for name, lifetime in (("good", 60), ("expired", -1)):
        world.credentials.issue(
            provider="fly", identifier=name, name=name, value=f"v-{name}", expires_at=now + timedelta(seconds=lifetime)
        )
    good = world.credentials.authenticate("fly", "v-good")
    assert good is not None
    assert good.live(now)
    assert world.credentials.authenticate("fly", "v-expired") is None
    assert world.credentials.authenticate("fly", "v-unknown") is None
    assert world.credentials.authenticate("github", "v-good") is None
    assert world.credentials.revoke("good", provider="fly")
    assert world.credentials.authenticate("fly", "v-good") is None
    assert not world.credentials.revoke("unknown")


def test_a_revocation_bites_after_the_delay_of_its_time_and_repeats_do_not_postpone_it(world: World) -> None:
    world.credentials.issue(provider="fly", identifier="a", name="a", value="v")
    world.set("revocation_delay", "60")
    world.credentials.revoke("a")
    world.set("revocation_delay", "")
    first = world.credentials.get("fly", "a")
    world.credentials.revoke("a")
    assert world.credentials.get("fly", "a") == first
    assert first is not None
    assert not first.live(world.now())
    assert first.accepted(world.now())
    assert not first.accepted(world.now() + timedelta(seconds=61))


def test_settings_are_checked(world: World) -> None:
    world.set("boot_time", "1.5")
    assert world.number("boot_time") == 1.5
    world.set("boot_time", "")
    assert world.number("boot_time") == 0
    for name, value in (("boot_time", "soon"), ("boot_time", "-1"), ("boot_time", "inf"), ("no_such", "1")):
        with pytest.raises(SandboxError):
            world.set(name, value)


def test_ports_are_kept_and_differ(world: World) -> None:
    assert world.port("fly") == world.port("fly") == world.port("registry")
    assert world.port("fly") != world.port("github")
    with contextlib.closing(World(world.directory)) as again:
        assert again.port("fly") == world.port("fly")


def test_a_fault_hits_from_the_nth_matching_request_on(world: World) -> None:
    faults.install(world)
    faults.add(
        world,
        Fault(provider="fly", method="post", path="/secrets$", nth=2, count=2, effect=Effect.STATUS, status=503),
    )

    def hit(provider: str = "fly", method: str = "POST", target: str = "/v1/apps/a/secrets") -> bool:
        return faults.strike(world, provider=provider, method=method, target=target) is not None

    assert [hit(), hit(provider="github"), hit(method="GET"), hit(target="/v1/apps/a/secrets/B")] == [False] * 4
    assert [hit(), hit(), hit()] == [True, True, False]


@pytest.mark.parametrize(
    "change", [{"status": 200}, {"nth": 0}, {"count": 0}, {"effect": "no"}, {"path": "("}, {"unknown": 1}]
)
def test_what_is_no_fault_is_refused(change: dict[str, object]) -> None:
    fault = {"provider": "fly", "method": "*", "path": "/", "nth": 1, "count": 1, "effect": "status", "status": 500}
    assert faults.parse(fault).effect is Effect.STATUS
    with pytest.raises(SandboxError):
        faults.parse(fault | change)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"query": "{ a: app(name: \\"x\\") { id } viewer { email } }"}', "app,viewer"),
        (b'{"query": "query A { app { id } } mutation B { doIt { id } }", "operationName": "B"}', "doIt"),
        (b'{"query": "{"}', "(invalid)"),
        (b"[]", "(invalid)"),
        (b"", "(invalid)"),
    ],
)
def test_a_graphql_request_is_known_by_its_root_fields(body: bytes, fields: str) -> None:
    assert root_fields(body) == fields


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'["acl", "setuser", "app", ">a-token"]', "ACL SETUSER"),
        (b'["GET", "a-key"]', "GET"),
        (b'["ACL"]', "(invalid)"),
        (b"[]", "(invalid)"),
        (b"{}", "(invalid)"),
        (b"not JSON", "(invalid)"),
    ],
)
def test_a_redis_command_is_named_without_what_may_be_secret_in_it(body: bytes, named: str) -> None:
    assert command(body) == named


def test_ports_can_be_narrowed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORTS_VARIABLE, "15100-15119")
    assert {world.port(f"service {number}") in range(15100, 15120) for number in range(5)} == {True}
    monkeypatch.setenv(PORTS_VARIABLE, "15200-15200")
    assert world.port("the only one") == 15200
    with pytest.raises(SandboxError, match="No free port found between 15200 and 15200"):
        world.port("one too many")


@pytest.mark.parametrize("text", ["15200", "15200-", "-15200", "15200-15100", "1-15200", "15200-99999", "a-b"])
def test_ports_that_are_no_range_are_refused(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PORTS_VARIABLE, text)
    with pytest.raises(SandboxError, match="FIRST-LAST"):
        world.port("a service")
