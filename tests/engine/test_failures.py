"""After any failure: the old credential is alive, everything works, and the next `pulumi up` finishes without minting again."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.engine.stage import APP, FAMILY, REPOSITORY, SECRET, Stage, one_line
from tools.workspace import STACK


def test_broken_workflow_keeps_the_old_token_and_the_next_up_finishes(deployed: Stage) -> None:
    deployed.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
    deployed.set_generation(SECRET, 2)

    output = deployed.fails()

    assert "publish-platform-image.yml ended as failure" in output
    assert "every old credential is still alive" in output
    assert "`pulumi up`" in output
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    assert set(deployed.generation_held().values()) == {2}
    assert deployed.outputs()["secrets"][SECRET]["generation"] == 1
    assert deployed.inspect()["breakages"] == []
    assert deployed.fails(), "still broken"
    deployed.sandbox("set", "github.workflow_broken=")
    deployed.deploys()

    assert deployed.minted() == 2
    deployed.assert_settled(2)
    deployed.assert_no_change()


@pytest.mark.parametrize("switch", ["unhealthy_on_new", "crash_on_new"])
def test_unhealthy_machine_is_rolled_back_and_the_next_up_finishes(deployed: Stage, switch: str) -> None:
    deployed.sandbox("set", f"control_plane.{switch}={SECRET}", "restart_backoff=0.2")
    deployed.configure("healthTimeout", "12")
    deployed.set_generation(SECRET, 2)

    output = deployed.fails()

    assert f"{APP} is as before" in output
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    assert set(deployed.generation_held().values()) == {1}
    app = deployed.inspect()["fly"]["apps"][APP]
    assert all(machine["healthy"] for machine in app["machines"])
    assert deployed.inspect()["breakages"] == []
    deployed.sandbox("set", f"control_plane.{switch}=")
    deployed.deploys()

    assert deployed.minted() == 2
    deployed.assert_settled(2)
    deployed.assert_no_change()
    deployed.assert_no_change()


def test_first_deployment_that_fails_says_what_cannot_be_restored_and_goes_on(stage: Stage) -> None:
    stage.sandbox("set", f"control_plane.unhealthy_on_new={SECRET}")
    stage.configure("healthTimeout", "12")

    output = stage.fails()

    assert "cannot be read back" in output
    machines = {place: held for place, held in stage.generation_held().items() if place.startswith("machine")}
    assert sorted(map(str, machines.values())) == ["1", "hand-made"]
    assert stage.credential("molecule-cp-rotation-20260101")["live"]
    stage.sandbox("set", "control_plane.unhealthy_on_new=")
    stage.deploys()

    assert stage.minted() == 1
    stage.assert_settled(1)


def test_back_to_the_verified_generation_abandons_the_newer_one(deployed: Stage) -> None:
    deployed.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
    deployed.set_generation(SECRET, 2)
    deployed.fails()
    deployed.sandbox("set", "github.workflow_broken=")
    deployed.set_generation(SECRET, 1)

    deployed.deploys()

    assert deployed.minted() == 2
    deployed.assert_settled(1)
    assert not deployed.credential(f"{FAMILY}-g2")["live"]
    deployed.assert_no_change()


def test_back_to_the_verified_generation_after_a_roll_back(deployed: Stage) -> None:
    deployed.sandbox("set", f"control_plane.unhealthy_on_new={SECRET}")
    deployed.configure("healthTimeout", "12")
    deployed.set_generation(SECRET, 2)
    deployed.fails()
    deployed.set_generation(SECRET, 1)

    deployed.deploys()

    deployed.assert_settled(1)
    deployed.assert_no_change()
    deployed.assert_no_change()


def test_lost_answer_of_a_mint_leaves_no_orphan(deployed: Stage) -> None:
    deployed.sandbox("fault", "--provider", "fly", "--match", "POST", "createLimitedAccessToken", "--drop-after")
    deployed.set_generation(SECRET, 2)

    output = deployed.fails()

    assert "could not mint" in output
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"], "the token nobody has"
    deployed.deploys()

    deployed.assert_settled(2)
    assert deployed.minted() == 3


def test_lost_answers_of_a_rollout_cause_no_second_restart(deployed: Stage) -> None:
    rollouts = deployed.inspect()["fly"]["apps"][APP]["rollouts"]
    deployed.sandbox("fault", "--provider", "fly", "--match", "POST", "/apps/molecule-cp/secrets$", "--drop-after")
    deployed.sandbox(
        "fault", "--provider", "fly", "--match", "POST", "/apps/molecule-cp/machines/[^/]+$", "--drop-after"
    )
    deployed.set_generation(SECRET, 2)

    deployed.deploys()

    deployed.assert_settled(2)
    assert deployed.inspect()["fly"]["apps"][APP]["rollouts"] == rollouts + 1


def test_github_down_after_fly_is_finished_by_the_next_up(deployed: Stage) -> None:
    deployed.sandbox(
        "fault", "--provider", "github", "--match", "PUT", "/actions/secrets/", "--status", "500", "--count", "50"
    )
    deployed.set_generation(SECRET, 2)

    deployed.fails()

    held = deployed.generation_held()
    assert held.pop("GitHub") == 1
    assert set(held.values()) == {2}
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    deployed.sandbox("fault", "--clear")
    deployed.deploys()

    assert deployed.minted() == 2
    deployed.assert_settled(2)


def test_ci_run_with_the_old_value_is_awaited_before_the_revocation(deployed: Stage) -> None:
    run = _begin_a_run(deployed)
    deployed.set_generation(SECRET, 2)
    with _later(lambda: _end(deployed, run), once=lambda: _is_dispatched(deployed)):
        output = deployed.deploys()

    assert "which started with the old value" in output
    runs = {each["id"]: each for each in _runs(deployed)}
    assert runs.pop(run)["conclusion"] == "cancelled"
    assert {each["conclusion"] for each in runs.values()} == {"success"}
    deployed.assert_settled(2)


def test_ci_runs_are_not_awaited_while_a_leaked_value_is_good(deployed: Stage) -> None:
    run = _begin_a_run(deployed)
    deployed.set_generation(SECRET, 2)
    deployed.configure(f"reasons.{SECRET}", "leaked", path=True)
    preview = one_line(deployed.preview().output)
    assert "because the value before has leaked" in preview
    assert (
        f"CI runs of {REPOSITORY} that started with the value before are not waited for: they lose it half-way"
        in preview
    )

    output = deployed.deploys()

    assert "which started with the old value" not in output
    assert next(each for each in _runs(deployed) if each["id"] == run)["conclusion"] is None, "it still runs"
    deployed.assert_settled(2)
    assert deployed.outputs()["secrets"][SECRET]["reason"] == "leaked"
    hint = f"`reasons.{SECRET}` is still `leaked`, and generation 2 is verified"
    assert hint in one_line(deployed.preview("--expect-no-changes").output)
    deployed.must("config", "rm", "--stack", STACK, "--path", f"reasons.{SECRET}")
    deployed.assert_no_change()
    _end(deployed, run)


def test_lazy_revocation_is_awaited(deployed: Stage) -> None:
    deployed.sandbox("set", "revocation_delay=6")
    deployed.set_generation(SECRET, 2)
    deployed.deploys()
    deployed.assert_settled(2)

    deployed.sandbox("set", "revocation_delay=30")
    deployed.configure("revocationTimeout", "3")
    deployed.set_generation(SECRET, 3)

    output = deployed.fails()

    assert "is still accepted" in output
    deployed.sandbox("set", "revocation_delay=0")
    deployed.configure("revocationTimeout", "60")
    deployed.deploys()
    deployed.assert_settled(3)


def test_no_call_of_a_client_fails_during_a_rotation(deployed: Stage) -> None:
    url = deployed.environment["CONTROL_PLANE_URL"]
    headers = {"authorization": f"Bearer {deployed.environment['CP_ADMIN_API_TOKEN']}"}
    stop = threading.Event()
    statuses: list[int | str] = []

    def call() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
            while not stop.is_set():
                for path in ("/health", "/cp/admin/orgs?limit=10"):
                    try:
                        statuses.append(client.get(path).status_code)
                    except httpx.HTTPError as error:
                        statuses.append(type(error).__name__)

    clients = [threading.Thread(target=call) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        deployed.set_generation(SECRET, 2)
        deployed.deploys()
    finally:
        stop.set()
        for client in clients:
            client.join()

    assert len(statuses) > 100
    assert set(statuses) == {200}
    deployed.assert_settled(2)


def test_secret_overwritten_by_hand_is_repaired(deployed: Stage) -> None:
    deployed.write_fly_secret(SECRET, "FlyV1 fm2_by_hand")

    assert deployed.preview("--expect-no-changes").status != 0
    deployed.deploys()

    deployed.assert_settled(1)
    deployed.assert_no_change()


def test_no_longer_managed_is_left_as_it_is(deployed: Stage) -> None:
    held, live, writes = deployed.holdings(), deployed.live(), deployed.writes()
    deployed.must("config", "rm", "--stack", STACK, "--path", f"rotations.{SECRET}")

    deployed.deploys()

    assert (deployed.holdings(), deployed.live(), deployed.writes()) == (held, live, writes)
    assert SECRET not in deployed.outputs()["secrets"]


def test_destroy_unsets_and_revokes_nothing(deployed: Stage) -> None:
    held, live, writes = deployed.holdings(), deployed.live(), deployed.writes()

    deployed.must("destroy", "--yes", "--skip-preview", "--stack", STACK)

    assert (deployed.holdings(), deployed.live(), deployed.writes()) == (held, live, writes)


def test_no_change_after_a_restart_of_the_sandbox(deployed: Stage) -> None:
    deployed.sandbox("stop")
    deployed.sandbox("start", "--detach")

    deployed.assert_no_change()
    deployed.set_generation(SECRET, 2)
    deployed.deploys()
    deployed.assert_settled(2)


def _begin_a_run(stage: Stage) -> int:
    """A CI run that has read its secrets and goes on until it is ended; returns its id."""
    stage.sandbox("set", "github.build_seconds=3600")
    known = {each["id"] for each in _runs(stage)}
    _dispatch(stage)
    deadline = time.monotonic() + 90
    while True:
        begun = [each for each in _runs(stage) if each["id"] not in known and each["status"] == "in_progress"]
        if begun:
            time.sleep(1)  # it reads them as it starts
            stage.sandbox("set", "github.build_seconds=0.5")
            return int(begun[0]["id"])
        assert time.monotonic() < deadline, "the run does not start"
        time.sleep(0.2)


def _runs(stage: Stage) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = stage.inspect()["github"]["repositories"][REPOSITORY]["runs"]
    return runs


def _is_dispatched(stage: Stage) -> bool:
    """Whether the verification has dispatched its own run: then it looks for earlier ones, too."""
    return [each["conclusion"] for each in _runs(stage)].count("success") > 1


def _end(stage: Stage, run: int) -> None:
    httpx.post(
        f"{stage.environment['GITHUB_API_URL']}/repos/{REPOSITORY}/actions/runs/{run}/cancel",
        headers={"authorization": f"Bearer {stage.environment['GITHUB_TOKEN']}"},
    ).raise_for_status()


@contextlib.contextmanager
def _later(act: Callable[[], None], *, once: Callable[[], bool]) -> Iterator[None]:
    """Acts as soon as `once` is true, or at the end."""
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(0.3) and not once():
            pass
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _dispatch(stage: Stage) -> None:
    httpx.post(
        f"{stage.environment['GITHUB_API_URL']}/repos/{REPOSITORY}/actions/workflows/publish-platform-image.yml/dispatches",
        headers={"authorization": f"Bearer {stage.environment['GITHUB_TOKEN']}"},
        json={"ref": "main"},
    ).raise_for_status()


def test_killed_in_the_middle_of_a_rolling_restart_is_finished_by_the_next_up(deployed: Stage) -> None:
    deployed.sandbox("set", "boot_time=6")
    deployed.set_generation(SECRET, 2)
    deployed.is_killed_once(lambda: sorted(map(str, deployed.generation_held().values())) == ["1", "1", "2", "2"])
    assert sorted(map(str, deployed.generation_held().values())) == ["1", "1", "2", "2"], (
        "Fly and one machine are ahead"
    )

    locked = deployed.fails()
    assert "locked" in locked
    deployed.must("cancel", "--yes", "--stack", STACK)
    deployed.sandbox("set", "boot_time=0")
    deployed.deploys()

    deployed.assert_settled(2)
    assert deployed.minted() == 2


def test_rate_limits_of_fly_are_respected(stage: Stage) -> None:
    stage.sandbox("set", "rate_limits=1")
    stage.deploys()
    stage.set_generation(SECRET, 2)
    stage.deploys()
    stage.assert_settled(2)
    assert stage.refused_by_fly_for_their_rate() == {}


def test_refresh_changes_nothing(deployed: Stage) -> None:
    held = deployed.holdings()

    deployed.must("refresh", "--yes", "--skip-preview", "--stack", STACK)

    deployed.assert_no_change()
    deployed.deploys("--refresh")
    assert deployed.holdings() == held
    deployed.assert_no_change()


def test_changed_profile_leaves_no_token_of_the_old_one(deployed: Stage) -> None:
    deployed.configure("deployTokenProfile", "deploy_organization")
    deployed.assert_no_change()
    deployed.set_generation(SECRET, 2)

    deployed.deploys()

    deployed.assert_settled(2)
