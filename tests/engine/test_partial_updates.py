"""`--target` and `--continue-on-error` never revoke a token that a location still holds (ADR 0001)."""

import pytest

from tests.engine.stage import FAMILY, SECRET, Stage, one_line


def test_target_of_the_credential_alone_revokes_nothing(deployed: Stage) -> None:
    deployed.set_generation(SECRET, 2)

    deployed.deploys("--target", f"**::{SECRET}**")

    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    assert set(deployed.generation_held().values()) == {1}
    assert deployed.revoked() == 0
    deployed.deploys()
    assert deployed.minted() == 2
    deployed.assert_settled(2)


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param("::molecule-cp", id="Fly"),
        pytest.param("::molecule-monorepo-FLY_API_TOKEN", id="GitHub"),
        pytest.param("::verification-FLY_API_TOKEN", id="verification"),
    ],
)
def test_target_of_all_but_one_revokes_nothing(deployed: Stage, left_out: str) -> None:
    urns = [
        resource["urn"]
        for resource in deployed.resources()
        if "dynamic" in resource["type"] or "command:" in resource["type"]
    ]
    urns += [resource["urn"] for resource in deployed.resources() if resource["type"].startswith("github:")]
    targets = [argument for urn in urns if not urn.endswith(left_out) for argument in ("--target", urn)]
    deployed.set_generation(SECRET, 2)

    deployed.up(*targets)

    assert deployed.revoked() == 0
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    assert deployed.inspect()["breakages"] == []
    before = deployed.inspect()["requests"][
        "github POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches"
    ]
    deployed.deploys()
    deployed.assert_settled(2)
    after = deployed.inspect()["requests"][
        "github POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches"
    ]
    assert after > before, "a location that got the value later is verified with it"


def test_continue_on_error_with_a_failing_check_revokes_nothing(deployed: Stage) -> None:
    deployed.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
    deployed.set_generation(SECRET, 2)

    output = deployed.fails("--continue-on-error")

    assert "Traceback" not in output, output
    assert "mend what that error names, then `pulumi up`" in one_line(output)
    assert deployed.revoked() == 0
    assert deployed.live() == [f"{FAMILY}-g1", f"{FAMILY}-g2"]
    deployed.sandbox("set", "github.workflow_broken=")
    deployed.deploys("--continue-on-error")
    deployed.assert_settled(2)


def test_continue_on_error_at_the_first_deployment_revokes_nothing(stage: Stage) -> None:
    stage.sandbox("set", "github.workflow_broken=publish-platform-image.yml")

    stage.fails("--continue-on-error")

    assert stage.revoked() == 0
    assert stage.credential("molecule-cp-rotation-20260101")["live"]
