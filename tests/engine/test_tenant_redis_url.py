"""TENANT_REDIS_URL on the real engine, a real Redis and tenants that are in use."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.load import load_on
from tests.engine.stage import Stage, one_line
from tools.rehearsal.servers import redis_refuses
from tools.workspace import workspace

REDIS = "TENANT_REDIS_URL"
FEW, MANY = 3, 50
ILL = ("tenant-7", "tenant-20", "tenant-50")


def stage_with(directory: Path, tenants: int) -> Iterator[Stage]:
    """A stack that lists TENANT_REDIS_URL alone, and so many tenants."""
    with workspace(directory, "--tenants", str(tenants)) as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.rotates(REDIS)
        yield stage


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Stage]:
    """With three tenants."""
    yield from stage_with(tmp_path / "workspace", FEW)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Stage]:
    """With fifty, each a process of its own."""
    yield from stage_with(tmp_path / "workspace", MANY)


def slugs(count: int) -> tuple[str, ...]:
    """The orgs of the first tenants."""
    return tuple(f"tenant-{number}" for number in range(1, count + 1))


def test_every_tenant_moves_and_nobody_is_refused(few: Stage, measured: Callable[[str], None]) -> None:
    hand_made = few.fly_secret(REDIS)
    few.deploys()
    first = few.fly_secret(REDIS)
    few.set_generation(REDIS, 2)
    few.configure(f"revokeUnmanaged.{REDIS}[0]", "default", path=True)
    with load_on(few, slugs=slugs(FEW)) as load:
        output = few.deploys()
    measured(f"acl: {load.asked}, {len(load.failures)} failed")
    assert min(load.asked.values()) > 3
    assert load.failures == []
    second = few.fly_secret(REDIS)
    assert [redis_refuses(url) for url in (hand_made, first, second)] == [True, True, False]
    assert few.tenants_hold("REDIS_URL", second) == FEW
    assert re.search(r"([3-9]) of \1 machines of molecule-tenant hold the new REDIS_URL", output)
    assert few.inspect()["breakages"] == []
    few.assert_no_change()


def test_one_password_means_an_outage_that_the_preview_announces(few: Stage, measured: Callable[[str], None]) -> None:
    few.configure("redisStrategy", "reset")
    announced = one_line(few.preview().output)
    assert (
        "the control plane and the tenants cannot use Redis from then on until each of them has been restarted"
        in announced
    )
    few.deploys()
    first = few.fly_secret(REDIS)
    few.set_generation(REDIS, 2)
    with load_on(few, slugs=slugs(FEW)) as load:
        output = few.deploys()
    said = re.search(r"consumers had no working value for at most (\d+) s", output)
    assert said is not None, output
    second = few.fly_secret(REDIS)
    assert [redis_refuses(url) for url in (first, second)] == [True, False]
    assert few.tenants_hold("REDIS_URL", second) == FEW
    assert load.failures, "the outage was announced, and nobody has noticed one"
    began, ended = load.interruption
    measured(
        f"reset: {ended - began:.1f} s of failures for users, at most {said[1]} s by the program's own account; {load.asked}"
    )
    few.assert_no_change()


def test_tenants_that_cannot_be_moved_are_named_and_hold_the_revocation(
    many: Stage, measured: Callable[[str], None]
) -> None:
    many.deploys()
    first = many.fly_secret(REDIS)
    many.sandbox("set", f"tenant.unhealthy={','.join(ILL)}")
    many.await_unhealthy(*ILL)
    many.set_generation(REDIS, 2)
    with load_on(many, slugs=slugs(6)) as load:
        output = many.fails()
    text = one_line(output)
    assert "3 of the tenants of molecule-tenant could not be given the new REDIS_URL" in text
    assert all(re.search(rf"{slug} \(machine [0-9a-f]+\): it was not healthy", text) for slug in ILL), text
    second = many.fly_secret(REDIS)
    assert (many.tenants_hold("REDIS_URL", second), many.tenants_hold("REDIS_URL", first)) == (MANY - 3, 3)
    assert [redis_refuses(url) for url in (first, second)] == [False, False]
    many.sandbox("set", "tenant.unhealthy=")
    many.await_unhealthy()
    output = many.deploys()
    assert "50 of 50 machines of molecule-tenant hold the new REDIS_URL" in one_line(output)
    assert many.tenants_hold("REDIS_URL", second) == MANY
    assert [redis_refuses(url) for url in (first, second)] == [True, False]
    assert load.failures == []
    measured(f"50 tenants, 3 of them ill at first: {sum(load.asked.values())} requests, {len(load.failures)} failed")
    assert many.inspect()["breakages"] == []
