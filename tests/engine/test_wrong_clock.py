"""Operators whose machines have the wrong time, a day ahead and an hour behind: do they rotate what goes by the time all the same?"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tests.engine.stage import RESEND, WEBHOOK, Stage, one_line

DATABASE = "DATABASE_URL"
SECRETS = (RESEND, WEBHOOK, DATABASE)
RIGHT = "return datetime.now(UTC)\n"


def test_times_are_those_of_the_providers(whole_map: Stage) -> None:
    stage = whole_map
    stage.rotates(*SECRETS)
    stage.configure("databaseStrategy", "reset")
    stage.configure("databaseRole", "molecule_cp")
    with _clock_is_off(stage, "timedelta(days=1)"):
        told = one_line(stage.deploys())
        assert "The clock of this machine is" in told
        assert "ahead of that of the providers" in told
    _assert_now(stage)
    stage.set_generations(2, *SECRETS)
    with _clock_is_off(stage, "-timedelta(hours=1)"):
        assert "behind that of the providers" in one_line(stage.deploys())
        stage.assert_no_change()
    _assert_now(stage)
    stage.assert_alone(2, RESEND, WEBHOOK)
    assert {each["generation"] for each in stage.outputs()["secrets"].values()} == {2}
    assert "The clock of this machine" not in stage.preview().output


def _assert_now(stage: Stage) -> None:
    """Everything that the outputs say has happened within the last minutes."""
    for known in stage.outputs()["secrets"].values():
        newest = known["timeline"][0]
        for moment in ("minted_at", "delivered_at", "verified_at"):
            assert abs(datetime.now(UTC) - datetime.fromisoformat(newest[moment])) < timedelta(minutes=10), newest


@contextmanager
def _clock_is_off(stage: Stage, wrong: str) -> Iterator[None]:
    """What the workspace's copy of the program takes for the time of its machine is wrong by that much."""
    path = stage.program_directory / "components" / "clock.py"
    text = path.read_text()
    assert RIGHT in text
    path.write_text(text.replace(RIGHT, f"return datetime.now(UTC) + ({wrong})\n"))
    try:
        yield
    finally:
        path.write_text(text)
