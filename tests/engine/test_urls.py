"""DATABASE_URL and TENANT_REDIS_URL on the real engine, with a real PostgreSQL, a real Redis and tenants that are in use."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.load import load_on
from tests.engine.stage import Stage, one_line
from tools.rehearsal.servers import postgres_refuses, redis_refuses
from tools.workspace import workspace

DATABASE, REDIS = "DATABASE_URL", "TENANT_REDIS_URL"
FEW, MANY = 3, 50
ILL = ("tenant-20", "tenant-50", "tenant-7")


def stage_with(directory: Path, tenants: int, *secrets: str) -> Iterator[Stage]:
    """A stack that lists these secrets alone, and so many tenants."""
    with workspace(directory, "--tenants", str(tenants)) as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.rotates(*secrets)
        yield stage


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Stage]:
    """Both secrets, three tenants."""
    yield from stage_with(tmp_path / "workspace", FEW, DATABASE, REDIS)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Stage]:
    """TENANT_REDIS_URL, and fifty tenants, each a process of its own."""
    yield from stage_with(tmp_path / "workspace", MANY, REDIS)


def slugs(count: int) -> tuple[str, ...]:
    """The orgs of the first tenants."""
    return tuple(f"tenant-{number}" for number in range(1, count + 1))


def values(stage: Stage) -> tuple[str, str]:
    """What Fly has now."""
    return stage.fly_secret(DATABASE), stage.fly_secret(REDIS)


def test_old_and_new_work_side_by_side_and_nobody_is_refused(few: Stage, measured: Callable[[str], None]) -> None:
    hand_made = values(few)
    few.deploys()
    first = values(few)
    few.set_generations(2, DATABASE, REDIS)
    few.configure(f"revokeUnmanaged.{DATABASE}[0]", "molecule_cp", path=True)
    few.configure(f"revokeUnmanaged.{REDIS}[0]", "default", path=True)
    with load_on(few, slugs=slugs(FEW)) as load:
        output = few.deploys()
    measured(f"alternate and acl: {load.asked}, {len(load.failures)} failed")
    assert min(load.asked.values()) > 3
    assert load.failures == []
    second = values(few)
    assert [postgres_refuses(urls[0]) for urls in (hand_made, first, second)] == [True, True, False]
    assert [redis_refuses(urls[1]) for urls in (hand_made, first, second)] == [True, True, False]
    few.assert_holds(DATABASE, second[0])
    few.assert_holds(REDIS, second[1])
    assert few.tenants_hold("REDIS_URL", second[1]) == FEW
    assert re.search(r"([3-9]) of \1 machines of molecule-tenant hold the new REDIS_URL", output)
    assert few.inspect()["breakages"] == []
    few.assert_no_change()


def test_one_password_means_an_outage_that_the_preview_announces(few: Stage, measured: Callable[[str], None]) -> None:
    few.configure("databaseStrategy", "reset")
    few.configure("redisStrategy", "reset")
    announced = one_line(few.preview().output)
    assert "the control plane cannot reach its database until its machines have been restarted" in announced
    assert (
        "the control plane and the tenants cannot use Redis from then on until each of them has been restarted"
        in announced
    )
    few.deploys()
    first = values(few)
    few.set_generations(2, DATABASE, REDIS)
    with load_on(few, slugs=slugs(FEW)) as load:
        output = few.deploys()
    said = [int(seconds) for seconds in re.findall(r"consumers had no working value for at most (\d+) s", output)]
    assert said, output
    second = values(few)
    assert [postgres_refuses(urls[0]) for urls in (first, second)] == [True, False]
    assert [redis_refuses(urls[1]) for urls in (first, second)] == [True, False]
    assert few.tenants_hold("REDIS_URL", second[1]) == FEW
    assert load.failures, "the outage was announced, and nobody has noticed one"
    began, ended = load.interruption
    measured(
        f"reset: {ended - began:.1f} s of failures for users, at most {max(said)} s by the program's own account; {load.asked}"
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
    named = ", ".join(rf"{slug} \(machine [0-9a-f]+\)" for slug in sorted(ILL))
    assert re.search(f"{named}: it was not healthy, so it was left as it is: health check health is critical", text), (
        text
    )
    assert re.search(r"4[78] machines hold the new REDIS_URL, 3 the value before", text), (
        text
    )  # an org of the load may exist
    second = many.fly_secret(REDIS)
    assert (many.tenants_hold("REDIS_URL", second), many.tenants_hold("REDIS_URL", first)) == (MANY - 3, 3)
    assert [redis_refuses(url) for url in (first, second)] == [False, False]
    effect = many.impact()["secrets"][REDIS]
    assert (
        effect["unfinished"]
        == "generation 2 is minted, delivered to Fly app molecule-cp only, not verified; generation 1 still alive"
    )
    (left,) = effect["drift"]
    said, _, named_by_preview = left.partition(": ")
    assert said == "3 machines of molecule-tenant hold another REDIS_URL"
    assert sorted(named_by_preview.split(", ")) == sorted(ILL)
    many.sandbox("set", "tenant.unhealthy=")
    many.await_unhealthy()
    output = many.deploys()
    assert "50 of 50 machines of molecule-tenant hold the new REDIS_URL" in one_line(output)
    assert many.tenants_hold("REDIS_URL", second) == MANY
    assert [redis_refuses(url) for url in (first, second)] == [True, False]
    assert load.failures == []
    measured(f"50 tenants, 3 of them ill at first: {sum(load.asked.values())} requests, {len(load.failures)} failed")
    assert many.inspect()["breakages"] == []
