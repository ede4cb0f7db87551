"""Several secrets of one app in one update: one restart, each verified and revoked by itself. And what only Neon and Resend can do."""

import httpx
import pytest

from tests.engine.stage import NEON, RESEND, SECRET, Stage, family
from tools.workspace import STACK

ALL = (SECRET, NEON, RESEND)
HAND_MADE = "molecule-cp production"
ORGANIZATION = "org-molecule-40817362"


def hand_made(stage: Stage, provider: str) -> bool:
    """Whether the key that the control plane held before the program came is alive."""
    return next(
        bool(each["live"])
        for each in stage.inspect()["credentials"]
        if (each["provider"], each["name"]) == (provider, HAND_MADE)
    )


def leftovers(stage: Stage) -> dict[str, list[str]]:
    """What verifications made and did not delete: orgs, tenant machines, branches."""
    world = stage.inspect()
    orgs = httpx.get(
        f"{stage.environment['CONTROL_PLANE_URL']}/cp/admin/orgs",
        headers={"authorization": f"Bearer {stage.environment['CP_ADMIN_API_TOKEN']}"},
    ).raise_for_status()
    return {
        "orgs": [each["slug"] for each in orgs.json()["orgs"]],
        "machines": [each["id"] for each in world["fly"]["apps"]["molecule-tenant"]["machines"]],
        "branches": [each["name"] for each in world["neon"]["branches"] if not each["default"]],
    }


NOTHING_LEFT: dict[str, list[str]] = {"orgs": [], "machines": [], "branches": []}


def test_all_secrets_rotate_in_one_update_with_one_restart(whole_map: Stage) -> None:
    whole_map.deploys()
    whole_map.assert_settled(1, *ALL)
    assert hand_made(whole_map, "neon")
    assert hand_made(whole_map, "resend")
    old = {secret: set(whole_map.holdings(secret).values()) for secret in ALL}
    rollouts = whole_map.rollouts()
    whole_map.set_generations(2, *ALL)

    whole_map.deploys()

    assert whole_map.rollouts() == rollouts + 1
    whole_map.assert_settled(2, *ALL)
    for secret in ALL:
        minted = whole_map.credentials(secret)
        assert [(each["name"], each["live"]) for each in minted] == [
            (f"{family(secret)}-g1", False),
            (f"{family(secret)}-g2", True),
        ]
        assert old[secret] == {minted[0]["sha256"]}
        assert len(whole_map.holdings(secret)) == (4 if secret == SECRET else 3), (
            "two machines, Fly, and GitHub for one"
        )
        assert set(whole_map.holdings(secret).values()) == {minted[1]["sha256"]}
    assert leftovers(whole_map) == NOTHING_LEFT
    whole_map.assert_no_change()


def test_one_failing_verification_does_not_keep_the_others_from_their_revocation(whole_map: Stage) -> None:
    whole_map.configure("mailTimeout", "12")
    whole_map.deploys()
    whole_map.sandbox("set", "resend.swallow_emails=1")
    whole_map.set_generations(2, *ALL)

    output = whole_map.fails("--continue-on-error")

    assert "RESEND_API_KEY generation 2: mail: the confirmation of the deletion of rotationtest-mail-" in output
    assert "every old credential is still alive" in output
    whole_map.assert_alone(2, SECRET, NEON)
    assert whole_map.live(RESEND) == [f"{family(RESEND)}-g1", f"{family(RESEND)}-g2"]
    assert set(whole_map.generation_held(RESEND).values()) == {2}
    assert leftovers(whole_map) == NOTHING_LEFT
    rollouts = whole_map.rollouts()
    whole_map.sandbox("unset", "resend.swallow_emails")
    whole_map.deploys()

    whole_map.assert_settled(2, *ALL)
    assert [len(whole_map.credentials(secret)) for secret in ALL] == [2, 2, 2], "nothing was minted again"
    assert whole_map.rollouts() == rollouts


def test_mail_that_failed_once_is_no_obstacle_once_the_cause_is_mended(whole_map: Stage) -> None:
    whole_map.rotates(RESEND)
    whole_map.deploys()
    whole_map.sandbox("fault", "--provider", "resend", "--match", "POST", "/emails$", "--status", "500")
    whole_map.set_generation(RESEND, 2)

    output = whole_map.fails()

    assert "has logged `purge confirmation email failed`" in output
    assert whole_map.live(RESEND) == [f"{family(RESEND)}-g1", f"{family(RESEND)}-g2"]
    whole_map.deploys()

    assert whole_map.live(RESEND) == [f"{family(RESEND)}-g2"]
    assert len(whole_map.credentials(RESEND)) == 2


def test_everything_that_would_keep_a_key_from_working_is_refused_in_a_preview(whole_map: Stage) -> None:
    """One sandbox for all: the point is that it stays as it is."""
    good = whole_map.stack_file.read_text()
    writes = whole_map.writes()
    held = {secret: whole_map.holdings(secret) for secret in ALL}

    def refused(*said: str, environment: dict[str, str] | None = None) -> None:
        for command in (("preview",), ("up", "--yes", "--skip-preview")):
            result = whole_map.pulumi(*command, "--stack", STACK, environment=environment)
            assert result.status != 0, result.output
            text = " ".join(result.output.split())
            for words in (*said, "nothing was changed"):
                assert words in text, result.output
            for word in ("Traceback", "mistyped"):
                assert word not in text, result.output

    whole_map.sandbox("set", "resend.domain_unverified=moleculesai.app")
    refused(
        "domain moleculesai.app has the status pending",
        "resend.com/domains",
        "Neon refused the operator's credential (NEON_API_KEY)",
        environment={"NEON_API_KEY": "napi_mistyped"},
    )
    whole_map.sandbox("unset", "resend.domain_unverified")
    refused(
        "The operator's Neon key is one of an organization",
        "restricted_api_key",
        environment={"NEON_API_KEY": whole_map.fly_secret(NEON), "RESEND_API_KEY": whole_map.fly_secret(RESEND)},
    )
    whole_map.configure("resendDomain", "molecule.example")
    whole_map.configure("neonKeyScope", "project")
    whole_map.configure("neonProject", "no-such-project")
    refused(
        "domain molecule.example is not in this account",
        "Neon has no project no-such-project",
    )
    whole_map.configure("resendDomain", "")
    whole_map.configure("neonProject", "")
    refused(
        "NEON_API_KEY is listed in `rotations`, but the config key `neonProject` is empty", "`resendDomain` is empty"
    )
    whole_map.stack_file.write_text(good)

    assert whole_map.writes() == writes
    assert {secret: whole_map.holdings(secret) for secret in ALL} == held
    assert [whole_map.credentials(secret) for secret in ALL] == [[], [], []]


def test_neon_key_that_reaches_another_project_fails_and_the_old_one_stays_alive(whole_map: Stage) -> None:
    whole_map.rotates(NEON)
    whole_map.deploys()
    project = _another_project(whole_map)
    whole_map.configure("neonKeyScope", "project")
    whole_map.configure("neonProject", project)
    whole_map.set_generation(NEON, 2)

    output = whole_map.fails()

    assert "could not provision the disposable org keytest-" in output
    assert "its status is failed" in output
    assert "every old credential is still alive" in output
    assert whole_map.live(NEON) == [f"{family(NEON)}-g1", f"{family(NEON)}-g2"]
    assert leftovers(whole_map)["orgs"] == []
    whole_map.configure("neonKeyScope", "organization")
    whole_map.configure("neonProject", "cool-sea-89357706")
    whole_map.set_generation(NEON, 1)
    whole_map.deploys()

    assert set(whole_map.generation_held(NEON).values()) == {1}
    assert whole_map.live(NEON) == [f"{family(NEON)}-g1"]
    assert leftovers(whole_map) == NOTHING_LEFT


def _another_project(stage: Stage) -> str:
    """A project of the organization that the control plane does not use."""
    answer = httpx.post(
        f"{stage.environment['NEON_API_BASE_URL']}/projects",
        headers={"authorization": f"Bearer {stage.environment['NEON_API_KEY']}"},
        json={"project": {"name": "another", "org_id": ORGANIZATION}},
    ).raise_for_status()
    return str(answer.json()["project"]["id"])


@pytest.mark.parametrize("scope", ["project", "personal"])
def test_neon_keys_of_other_scopes_rotate(whole_map: Stage, scope: str) -> None:
    whole_map.rotates(NEON)
    whole_map.configure("neonKeyScope", scope)
    whole_map.sandbox("set", "neon.no_auth_for_project_keys=1")
    whole_map.deploys()
    whole_map.set_generation(NEON, 2)

    whole_map.deploys()

    whole_map.assert_settled(2, NEON)
    assert hand_made(whole_map, "neon")


def test_adopting_one_secret_touches_no_other(whole_map: Stage) -> None:
    whole_map.rotates(NEON)
    others = {secret: whole_map.holdings(secret) for secret in (SECRET, RESEND)}
    names = {each["id"] for each in whole_map.inspect()["credentials"]}

    result = whole_map.pulumi(
        "up",
        "--yes",
        "--skip-preview",
        "--stack",
        STACK,
        environment={"GITHUB_TOKEN": "", "GH_TOKEN": "", "RESEND_API_KEY": ""},
    )

    assert result.status == 0, result.output
    whole_map.assert_settled(1, NEON)
    assert {secret: whole_map.holdings(secret) for secret in (SECRET, RESEND)} == others
    new = [each["name"] for each in whole_map.inspect()["credentials"] if each["id"] not in names]
    assert new == [f"{family(NEON)}-g1"]
    assert all(each["live"] for each in whole_map.inspect()["credentials"])
    assert not [request for request in whole_map.writes() if request.startswith("github ")]
    assert set(whole_map.outputs()["secrets"]) == {NEON}
    assert leftovers(whole_map) == NOTHING_LEFT
