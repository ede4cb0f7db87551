"""`destroy` is refused where the stack is protected, and touches nothing where it is not; `refresh` touches nothing at all."""

import contextlib
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from sandbox import github
from sandbox.fly import tokens as fly_tokens
from sandbox.github import store
from sandbox.github import tokens as github_tokens
from sandbox.seeding import OPERATOR, ORGANIZATION
from sandbox.world import World
from tests.engine.announced import unannounced
from tests.engine.stage import APP, FAMILY, NEON, RESEND, SECRET, Stage, one_line
from tools.rehearsal.servers import postgres_refuses, redis_refuses
from tools.workspace import STACK


def destroy(stage: Stage, *arguments: str) -> tuple[int, str]:
    result = stage.pulumi("destroy", "--yes", "--stack", STACK, *arguments)
    return result.status, one_line(result.output)


def known(stage: Stage) -> list[str]:
    """The resources of the state, apart from the engine's own plugins: it keeps one for a question of the program, and nothing needs it."""
    return sorted(each["urn"] for each in stage.resources() if not each["type"].startswith("pulumi:providers:"))


def works(stage: Stage, secret: str, value: str) -> bool:
    """Whether whoever hands it out, or a server, takes the value."""
    if secret == "DATABASE_URL":
        return not postgres_refuses(value)
    return not redis_refuses(value) if secret == "TENANT_REDIS_URL" else stage.lives(value)


def test_a_protected_stack_is_destroyed_only_if_that_is_asked_for_and_loses_nothing_then(whole_map: Stage) -> None:
    stage = whole_map
    stage.configure("protect", "true")
    stage.deploys()
    secrets = sorted(stage.outputs()["secrets"])
    values = {secret: stage.fly_secret(secret) for secret in secrets}
    writes, resources = stage.writes(), known(stage)

    for arguments in ((), ("--skip-preview",)):
        status, output = destroy(stage, *arguments)
        assert status != 0, output
        assert "molecule:rotation:Protection::config-key-protect" in output
        assert "because it is protected" in output
        assert "Traceback" not in output
        assert known(stage) == resources, "the stack knows all that it knew"

    stage.configure("protect", "false")
    stage.deploys()
    status, output = destroy(stage)
    assert status == 0, output
    assert stage.resources() == []
    assert stage.writes() == writes, "nothing was unset or revoked"
    assert stage.live() == [f"{FAMILY}-g1"]
    for secret in secrets:
        assert stage.fly_secret(secret) == values[secret]
        assert works(stage, secret, values[secret])
    assert stage.inspect()["breakages"] == []

    # As if it were the first time; but the names are there already.
    impact = stage.impact()
    assert [each["name"] for each in impact["secrets"][SECRET]["revokes"]] == [f"{FAMILY}-g1"]
    before = stage.last_request()
    stage.deploys()

    assert unannounced(stage.requests(after=before), impact) == []
    stage.assert_settled(1, SECRET, NEON, RESEND)
    assert stage.inspect()["violations"] == []
    assert all(stage.fly_secret(secret) != values[secret] for secret in secrets)
    # A role of a database bears no generation in its name: it is nobody's, like one that was made by hand.
    assert [secret for secret in secrets if works(stage, secret, values[secret])] == ["DATABASE_URL"]
    role = urlsplit(values["DATABASE_URL"]).username
    assert role in [each["id"] for each in stage.outputs()["secrets"]["DATABASE_URL"]["unmanaged"]]
    stage.assert_no_change()


def test_a_refresh_changes_nothing_and_what_was_changed_by_hand_is_repaired(deployed: Stage) -> None:
    value, writes = deployed.fly_secret(SECRET), deployed.writes()

    deployed.must("refresh", "--yes", "--stack", STACK, "--expect-no-changes")
    deployed.deploys("--refresh", "--expect-no-changes")

    assert deployed.writes() == writes
    deployed.write_fly_secret(SECRET, "set-by-hand")
    writes = deployed.writes()
    deployed.must("refresh", "--yes", "--stack", STACK)
    impact = deployed.impact()
    assert impact["secrets"][SECRET]["drift"] == [f"somebody else set {SECRET} of {APP} since the last update"]
    assert deployed.writes() == writes
    before = deployed.last_request()
    deployed.deploys("--refresh")

    assert unannounced(deployed.requests(after=before), impact) == []
    deployed.assert_holds(SECRET, value)
    deployed.assert_settled(1)
    assert deployed.minted() == 1
    deployed.assert_no_change()


def another_operator(stage: Stage) -> dict[str, str]:
    """Gives the operator new tokens of Fly and GitHub. The ones before are refused from now on."""
    with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
        before = [
            world.credentials.authenticate("fly", stage.environment["FLY_ACCESS_TOKEN"]),
            world.credentials.authenticate("github", stage.environment["GITHUB_TOKEN"]),
        ]
        user = store.account(world.database, login=github.OPERATOR)
        assert user is not None
        scopes = ("repo", "workflow", "admin:org")
        _, of_github = github_tokens.issue_classic(world, user=user, name="operator", scopes=scopes)
        of_fly = fly_tokens.create_user_token(world, organization=ORGANIZATION, user=OPERATOR)
        for each in before:
            assert each is not None
            world.credentials.revoke(each.identifier, provider=each.provider, at_once=True)
    return {"FLY_ACCESS_TOKEN": of_fly, "GITHUB_TOKEN": of_github, "GH_TOKEN": of_github}


@pytest.mark.parametrize("kept_in", ["environment", "config"])
def test_an_operator_token_that_was_rotated_is_not_needed_any_more(stage: Stage, kept_in: str) -> None:
    in_config = {"flyAccessToken": "FLY_ACCESS_TOKEN", "github:token": "GITHUB_TOKEN"}
    if kept_in == "config":
        for key, variable in in_config.items():
            stage.set_secret(key, stage.environment[variable])
        left = {name: each for name, each in stage.environment.items() if name not in {*in_config.values(), "GH_TOKEN"}}
        operator = Stage(directory=stage.directory, environment=left)
    else:
        operator = stage
    operator.deploys()

    tokens = another_operator(stage)

    # The engine refreshes with the config of the last update, unless it is told to ask the program: pulumi-github then has the old token.
    anew = ("--run-program",) if kept_in == "config" else ()
    if kept_in == "config":
        for key, variable in in_config.items():
            operator.set_secret(key, tokens[variable])
    else:
        operator = replace(operator, environment={**stage.environment, **tokens})
    operator.must("refresh", "--yes", "--stack", STACK, *anew)
    assert operator.preview("--refresh", *anew).status == 0
    operator.set_generation(SECRET, 2)
    operator.deploys()
    operator.deploys("--refresh")
    operator.assert_settled(2)
    operator.assert_no_change()
