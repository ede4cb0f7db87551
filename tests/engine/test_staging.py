"""`rollout: staged`: secrets are written, machines get them at the next restart, whoever causes it; until then nothing dies."""

import re

from tests.engine.stage import NEON, RESEND, Stage, family, one_line
from tools.workspace import STACK

FIRST, SECOND, THIRD = (f"{family(RESEND)}-g{generation}" for generation in (1, 2, 3))


def held(stage: Stage) -> dict[str, set[int | str]]:
    """Which generation machines and Fly hold."""
    places = stage.generation_held(RESEND)
    return {
        "Fly": {places.pop("Fly")},
        "machines": set(places.values()),
    }


def told(stage: Stage) -> tuple[int, int | None]:
    """The verified and the staged generation of the outputs."""
    metadata = stage.outputs()["secrets"][RESEND]
    return metadata["generation"], metadata["staged"]


def test_staged_secret_is_finished_after_a_deployment_or_once_the_stack_rolls_out_again(whole_map: Stage) -> None:
    whole_map.rotates(RESEND)
    whole_map.deploys()
    rollouts = whole_map.rollouts()
    whole_map.configure("rollout", "staged")
    whole_map.assert_no_change()
    whole_map.set_generation(RESEND, 2)
    effect = whole_map.impact()["secrets"][RESEND]
    assert (effect["staged"], effect["verification"], effect["revokes"]) == (
        "it is written to Fly by this update",
        [],
        [],
    )
    warning = f"{RESEND} generation 2 is staged: it is written to Fly by this update"
    assert warning in one_line(whole_map.preview().output)

    assert warning in one_line(whole_map.deploys())

    assert held(whole_map) == {"Fly": {2}, "machines": {1}}
    assert whole_map.live(RESEND) == [FIRST, SECOND]
    assert told(whole_map) == (1, 2)
    assert "Staged: RESEND_API_KEY: not restarted since: " in one_line(whole_map.impact()["text"])
    values = set(re.findall("re_[A-Za-z0-9_]{20,}", whole_map.decrypted()))
    assert len(values) == 2, "the staged value, and the one that machines run with"
    whole_map.assert_not_in_state(values)
    writes = whole_map.writes()
    whole_map.assert_no_change()
    again = one_line(whole_map.deploys())
    for machine in whole_map.inspect()["fly"]["apps"]["molecule-cp"]["machines"]:
        assert machine["id"] in again, "it is said which machines were not restarted since"
    assert whole_map.writes() == writes
    assert told(whole_map) == (1, 2)
    assert whole_map.rollouts() == rollouts

    whole_map.redeploy()
    rollouts = whole_map.rollouts()
    whole_map.deploys()

    assert whole_map.rollouts() == rollouts
    whole_map.assert_settled(2, RESEND)
    assert told(whole_map) == (2, None)
    whole_map.assert_no_change()

    whole_map.set_generation(RESEND, 3)
    whole_map.deploys()
    assert held(whole_map) == {"Fly": {3}, "machines": {2}}
    whole_map.configure("rollout", "rolling")
    whole_map.deploys()

    assert whole_map.rollouts() == rollouts + 1
    whole_map.assert_settled(3, RESEND)
    assert told(whole_map) == (3, None)
    whole_map.assert_no_change()


def test_first_deployment_may_be_staged_and_a_staged_generation_given_up(whole_map: Stage) -> None:
    whole_map.configure("rollout", "staged")
    whole_map.rotates(RESEND, NEON)
    whole_map.refuses(f"{NEON} cannot be staged", "pulumi config set rollout rolling")
    whole_map.must("config", "rm", "--stack", STACK, "--path", f"rotations.{NEON}")
    whole_map.deploys()

    assert held(whole_map) == {"Fly": {1}, "machines": {"hand-made"}}
    assert told(whole_map) == (0, 1)
    names = {resource["urn"].rsplit("::", 1)[-1] for resource in whole_map.resources()}
    assert not names & {f"verification-{RESEND}", f"revocation-{RESEND}"}
    whole_map.assert_no_change()
    whole_map.redeploy()
    rollouts = whole_map.rollouts()
    whole_map.deploys()

    whole_map.assert_settled(1, RESEND)
    assert told(whole_map) == (1, None)

    whole_map.set_generation(RESEND, 2)
    whole_map.deploys()
    assert held(whole_map) == {"Fly": {2}, "machines": {1}}
    whole_map.set_generation(RESEND, 1)
    whole_map.deploys()

    assert held(whole_map) == {"Fly": {1}, "machines": {1}}
    assert whole_map.rollouts() == rollouts
    assert whole_map.live(RESEND) == [FIRST, SECOND], "not before machines have restarted with what was written last"
    assert told(whole_map) == (1, 1)
    whole_map.redeploy()
    whole_map.deploys()

    whole_map.assert_settled(1, RESEND)
    assert told(whole_map) == (1, None)
    whole_map.assert_no_change()
