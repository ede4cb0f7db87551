"""DATABASE_URL on the real engine and a real PostgreSQL, while the control plane is in use."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.load import load_on
from tests.engine.stage import Stage, one_line
from tools.rehearsal.servers import postgres_refuses
from tools.workspace import workspace

DATABASE = "DATABASE_URL"
TENANTS = ("tenant-1", "tenant-2")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Stage]:
    """A stack that lists DATABASE_URL alone, and two tenants."""
    with workspace(tmp_path / "workspace", "--tenants", str(len(TENANTS))) as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.rotates(DATABASE)
        yield stage


def test_two_roles_take_turns_and_nobody_is_refused(database: Stage, measured: Callable[[str], None]) -> None:
    hand_made = database.fly_secret(DATABASE)
    database.deploys()
    first = database.fly_secret(DATABASE)
    database.set_generation(DATABASE, 2)
    database.configure(f"revokeUnmanaged.{DATABASE}[0]", "molecule_cp", path=True)
    with load_on(database, slugs=TENANTS) as load:
        database.deploys()
    measured(f"alternate: {load.asked}, {len(load.failures)} failed")
    assert min(load.asked.values()) > 3
    assert load.failures == []
    second = database.fly_secret(DATABASE)
    assert [postgres_refuses(url) for url in (hand_made, first, second)] == [True, True, False]
    database.assert_holds(DATABASE, second)
    assert database.inspect()["breakages"] == []
    database.assert_no_change()


def test_one_role_means_an_outage_that_the_preview_announces(database: Stage, measured: Callable[[str], None]) -> None:
    database.configure("databaseStrategy", "reset")
    announced = one_line(database.preview().output)
    assert "the control plane cannot reach its database until its machines have been restarted" in announced
    database.deploys()
    first = database.fly_secret(DATABASE)
    database.set_generation(DATABASE, 2)
    with load_on(database, slugs=TENANTS) as load:
        output = database.deploys()
    said = re.search(r"consumers had no working value for at most (\d+) s", output)
    assert said is not None, output
    assert [postgres_refuses(url) for url in (first, database.fly_secret(DATABASE))] == [True, False]
    assert load.failures, "the outage was announced, and nobody has noticed one"
    began, ended = load.interruption
    measured(
        f"reset: {ended - began:.1f} s of failures for users, at most {said[1]} s by the program's own account; {load.asked}"
    )
    database.assert_no_change()
