"""SECRETS_ENCRYPTION_KEY on the real engine, with rows of a real PostgreSQL and tenants that are in use."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.engine.load import load_on
from tests.engine.stage import Stage, one_line
from tools.rehearsal.servers import plaintexts, sealed_values
from tools.workspace import STACK, workspace

KEY = "SECRETS_ENCRYPTION_KEY"
TENANTS, ROWS = 2, 10_000


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Stage]:
    """A stack that lists SECRETS_ENCRYPTION_KEY alone, and two tenants."""
    with workspace(tmp_path / "workspace", "--tenants", str(TENANTS)) as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.rotates(KEY)
        yield stage


@pytest.fixture
def stage(tenants: Stage) -> Stage:
    """The same, with ten thousand rows of orgs that run nowhere."""
    tenants.sandbox("seed-orgs", "--count", str(ROWS))
    return tenants


def names_the_key(stage: Stage, generation: int) -> None:
    """The operator says that the key before is compromised."""
    stage.set_generation(KEY, generation)
    stage.configure(f"compromised.{KEY}", str(generation), path=True)


def values(stage: Stage) -> int:
    """How many encrypted values there are."""
    return len(list(sealed_values(stage.sandbox_directory)))


def seconds_promised(text: str) -> float:
    """What a preview says of the interruption."""
    said = re.search(r"about ([\d,.]+) s", one_line(text))
    assert said is not None, text
    return float(said[1].replace(",", ""))


def test_rows_are_reencrypted_while_they_are_in_use(stage: Stage, measured: Callable[[str], None]) -> None:
    hand_made = stage.fly_secret(KEY)
    before = plaintexts(stage.sandbox_directory, hand_made)
    assert len(before) >= 2 * ROWS
    stage.refuses(f"`compromised.{KEY}` is not set, not 1")
    names_the_key(stage, 1)
    stage.refuses("the key that they were encrypted with is not known")
    stage.configure("encryptionKeyEncoding", "hex")
    misread = stage.preview()
    assert misread.status != 0
    assert "would misread a key of `encryptionKeyEncoding: hex`" in one_line(misread.output)
    stage.configure("encryptionKeyEncoding", "base64")
    stage.set_secret("encryptionKeyBefore", hand_made)
    preview = stage.preview().output
    assert f"{ROWS + TENANTS:,}" in preview
    promised = seconds_promised(preview)
    with load_on(stage, slugs=("tenant-1", "tenant-2")) as load:
        output = stage.deploys()
    first = stage.fly_secret(KEY)
    after = plaintexts(stage.sandbox_directory, first)
    assert {each: after.get(each) for each in before} == before
    assert len(after) == values(stage)
    assert plaintexts(stage.sandbox_directory, hand_made) == {}
    assert stage.tenants_hold(KEY, first) == TENANTS
    began, ended = load.interruption if load.failures else (0.0, 0.0)
    measured(
        f"{len(before):,} values re-encrypted: interrupted for {ended - began:.1f} s, promised about {promised:.0f} s; "
        f"{load.asked}, {len(load.failures)} failed"
    )
    assert re.search(r"10,\d{3} rows were encrypted with the new key in [\d.]+ s", output)
    stage.assert_no_change()


def test_a_kill_in_the_middle_loses_no_row(stage: Stage) -> None:
    hand_made = stage.fly_secret(KEY)
    before = plaintexts(stage.sandbox_directory, hand_made)
    names_the_key(stage, 1)
    stage.set_secret("encryptionKeyBefore", hand_made)
    argv = ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", STACK]
    with subprocess.Popen(
        argv,
        cwd=stage.program_directory,
        env=dict(stage.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if "rows are encrypted with the new key" in line:
                break
        for process in [*psutil.Process(up.pid).children(recursive=True), psutil.Process(up.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
    left = len(plaintexts(stage.sandbox_directory, hand_made))
    assert 0 < left < len(before), "the kill came in the middle"
    stage.must("cancel", "--yes", "--stack", STACK)
    stage.deploys()
    first = stage.fly_secret(KEY)
    assert plaintexts(stage.sandbox_directory, first) == before
    stage.assert_no_change()


def test_a_rollout_that_fails_puts_the_rows_back(stage: Stage) -> None:
    hand_made = stage.fly_secret(KEY)
    before = plaintexts(stage.sandbox_directory, hand_made)
    names_the_key(stage, 1)
    stage.set_secret("encryptionKeyBefore", hand_made)
    stage.deploys()
    first = stage.fly_secret(KEY)
    names_the_key(stage, 2)
    stage.configure("healthTimeout", "12")
    stage.sandbox("set", f"control_plane.unhealthy_on_new={KEY}")
    output = stage.fails()
    assert f"The rollout of {KEY} to Fly app molecule-cp failed" in output
    assert plaintexts(stage.sandbox_directory, first) == before
    stage.assert_holds(KEY, first)
    with load_on(stage, slugs=("tenant-1", "tenant-2")) as load:
        stage.sandbox("set", "control_plane.unhealthy_on_new=")
    assert load.failures == []
    stage.set_generation(KEY, 1)
    stage.deploys()
    assert plaintexts(stage.sandbox_directory, first) == before
    assert stage.outputs()["secrets"][KEY]["generation"] == 1
    stage.assert_no_change()


def test_orgs_are_provisioned_anew(tenants: Stage) -> None:
    hand_made = tenants.fly_secret(KEY)
    names_the_key(tenants, 1)
    tenants.configure("encryptionStrategy", "reprovision")
    tenants.configure("reprovisionPath", "/cp/admin/tenants/{slug}/reprovision")
    assert "get a fresh database and a fresh machine" in one_line(tenants.preview().output)
    output = tenants.deploys()
    assert "2 of 2 orgs are provisioned anew with the new SECRETS_ENCRYPTION_KEY" in output
    first = tenants.fly_secret(KEY)
    assert tenants.tenants_hold(KEY, first) == TENANTS
    assert len(plaintexts(tenants.sandbox_directory, first)) == values(tenants) == 2 * TENANTS
    assert plaintexts(tenants.sandbox_directory, hand_made) == {}
    tenants.assert_no_change()
