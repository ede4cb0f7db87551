"""What is not managed any more is left as it is, unless `decommission` names it; then nothing of it is left, and nobody lost anything else."""

import pytest

from tests.engine.announced import unannounced
from tests.engine.stage import APP, FAMILY, REPOSITORY, RESEND, SECRET, Stage, one_line
from tools.workspace import STACK


@pytest.fixture
def two(whole_map: Stage) -> Stage:
    """Generation 1 of two secrets of one app."""
    whole_map.rotates(SECRET, RESEND)
    whole_map.deploys()
    return whole_map


def take_out(stage: Stage, secret: str = SECRET) -> None:
    stage.must("config", "rm", "--stack", STACK, "--path", f"rotations.{secret}")


def stands_at(stage: Stage, secret: str = SECRET) -> list[str]:
    """Every place that has the secret."""
    world = stage.inspect()
    app = world["fly"]["apps"][APP]
    places = [machine["id"] for machine in app["machines"] if secret in machine["env_sha256"]]
    places += ["Fly"] if secret in app["secrets"] else []
    in_repository = world["github"]["repositories"][REPOSITORY]["secrets"]
    return [*places, *(["GitHub"] if secret in in_repository else [])]


def test_a_decommissioned_secret_is_unset_and_then_revoked_also_after_a_failure_half_way(two: Stage) -> None:
    value, resend = two.fly_secret(SECRET), two.fly_secret(RESEND)
    rollouts = two.rollouts()
    take_out(two)
    two.configure("decommission[0]", SECRET, path=True)
    impact = two.impact()
    said = impact["leaving"][SECRET]
    assert said["decommissioned"]
    assert [each["name"] for each in said["credentials"]] == [f"{FAMILY}-g1"]
    assert "No tenant can be provisioned" in said["without"]
    assert impact["pending"]
    before = two.last_request()
    two.sandbox("fault", "--provider", "fly", "--match", "POST", "deleteLimitedAccessToken", "--status", "403")

    output = one_line(two.fails())

    assert f"{SECRET} is unset everywhere, but a credential of it may still be alive" in output
    assert stands_at(two) == []
    assert two.live() == [f"{FAMILY}-g1"]
    assert value in two.decrypted(), "what proves its death is still known"
    two.deploys()

    assert unannounced(two.requests(after=before), impact) == []
    assert two.live() == []
    assert not two.lives(value)
    assert two.rollouts() == rollouts + 1, "one restart, and none when it went on"
    assert two.inspect()["violations"] == [], "at no moment was it revoked while somebody held it"
    two.assert_alone(1, RESEND)
    two.assert_holds(RESEND, resend)
    assert sorted(two.outputs()["secrets"]) == [RESEND]
    two.assert_not_in_state([value, resend])
    writes = two.writes()
    two.assert_no_change()
    assert f"{SECRET} is decommissioned: take it off" in one_line(two.preview().output)
    two.deploys()
    assert value not in two.decrypted()
    two.must("config", "rm", "--stack", STACK, "decommission")
    two.deploys()

    # The stack's own output `impact` is that of the last update that had something to do.
    left = [each for each in two.resources() if each["type"] != "pulumi:pulumi:Stack" and SECRET in str(each)]
    assert left == []
    assert two.writes() == writes
    two.assert_no_change()
    assert "decommission" not in two.preview().output


def test_a_secret_that_is_taken_out_is_left_as_it_is_and_may_come_back(two: Stage) -> None:
    value, writes = two.fly_secret(SECRET), two.writes()
    take_out(two)

    preview = one_line(two.preview().output)

    assert f"No longer managed: {SECRET}. Nothing is unset or revoked: {FAMILY}-g1" in preview
    assert f"held by Fly app {APP} and GitHub repository" in preview
    two.deploys()
    assert two.writes() == writes
    assert two.live() == [f"{FAMILY}-g1"]
    two.assert_holds(SECRET, value)
    assert value not in two.decrypted()
    two.assert_no_change()
    two.configure(f"rotations.{SECRET}", "1", path=True)
    impact = two.impact()
    assert [each["name"] for each in impact["secrets"][SECRET]["revokes"]] == [f"{FAMILY}-g1"]
    before = two.last_request()
    two.deploys()

    assert unannounced(two.requests(after=before), impact) == []
    two.assert_settled(1, SECRET, RESEND)
    assert not two.lives(value)
    assert two.fly_secret(SECRET) != value
    assert two.inspect()["violations"] == []
