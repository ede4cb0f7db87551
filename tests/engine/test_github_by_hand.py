"""Is a secret that somebody changed at GitHub seen, and written again without a rotation? And does a failed write say what to do?"""

from tests.engine.announced import unannounced, writes
from tests.engine.stage import AT_GITHUB, REPOSITORY, SECRET, Stage, digest, one_line
from tools.workspace import STACK

BY_HAND = "somebody-elses-value"


def repaired(stage: Stage, *arguments: str) -> None:
    """An update writes the value again, does what was announced and nothing else, and leaves nothing to do."""
    impact = stage.impact()
    effect = impact["secrets"][SECRET]
    assert (effect["action"], effect["locations"]) == ("deliver again", [f"GitHub repository {REPOSITORY}"])
    assert (effect["verification"], impact["restarts"]) == ([], [])
    last = stage.last_request()
    stage.deploys(*arguments)
    made = stage.requests(after=last)
    assert unannounced(made, impact) == []
    assert [method for _, method, _ in writes(made)] == ["PUT"], "one write, and the secret is never deleted"
    stage.assert_settled(1)
    stage.assert_no_change()


def test_what_was_changed_by_hand_is_written_again(deployed: Stage) -> None:
    rollouts = deployed.rollouts()
    deployed.overwrite_at_github(BY_HAND)
    assert deployed.holdings()["GitHub"] == digest(BY_HAND)
    (why,) = deployed.impact()["secrets"][SECRET]["drift"]
    assert why.startswith(f"somebody else set {SECRET} of {REPOSITORY} since the last update: GitHub says ")
    # GitHub takes no write: what is true, and what to do next.
    deployed.sandbox("fault", "--provider", "github", "--match", "PUT", SECRET, "--status", "403", "--count", "9")
    said = one_line(deployed.fails())
    assert f"GitHub did not confirm the write of {SECRET} (GitHub repository {REPOSITORY}): " in said
    assert "every old credential is still alive, and nothing was revoked." in said
    assert "then `pulumi up`: it goes on here, mints nothing and restarts nothing." in said
    deployed.sandbox("fault", "--clear")
    assert deployed.holdings()["GitHub"] == digest(BY_HAND)
    repaired(deployed)

    # Again, and the engine has looked for itself meanwhile.
    deployed.overwrite_at_github(BY_HAND)
    deployed.must("refresh", "--yes", "--stack", STACK)
    repaired(deployed)

    # Deleted; the second time the engine has forgotten it, too.
    for refresh in ((), ("--refresh",)):
        with deployed.github() as api:
            api.delete(f"{AT_GITHUB}/{SECRET}").raise_for_status()
        assert deployed.impact()["secrets"][SECRET]["drift"] == [
            f"somebody deleted {SECRET} of {REPOSITORY} since the last update"
        ]
        repaired(deployed, *refresh)
    assert deployed.rollouts() == rollouts


def test_a_write_that_the_state_has_missed_does_not_stay_when_the_counter_goes_back(deployed: Stage) -> None:
    """GitHub has generation 2, and the engine was killed before it knew: back at 1 it would see nothing to write, and 2 is revoked."""
    deployed.set_generation(SECRET, 2)
    # pulumi-github looks at what it has written; that takes a while.
    deployed.sandbox(
        "fault", "--provider", "github", "--match", "GET", f"/{SECRET}$", "--latency", "5000", "--count", "50"
    )
    first = deployed.holdings()["GitHub"]
    deployed.is_killed_once(lambda: deployed.holdings()["GitHub"] != first)
    deployed.sandbox("fault", "--clear")
    assert deployed.holdings()["GitHub"] == deployed.holdings()["Fly"]
    deployed.must("cancel", "--yes", "--stack", STACK)

    deployed.set_generation(SECRET, 1)
    deployed.deploys()
    deployed.assert_settled(1)
    assert deployed.holdings()["GitHub"] == first
    assert deployed.inspect()["violations"] == []
    deployed.assert_no_change()
