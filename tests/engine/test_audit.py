"""Does the audit find, on the real engine and the sandbox, what somebody did by hand, and nothing when there is nothing? Does it only read?"""

import json
import shutil
import subprocess
from typing import Any

import httpx
import pytest

from tests.engine.announced import writes
from tests.engine.stage import APP, FAMILY, REPOSITORY, SECRET, Stage, digest
from tools.workspace import CHECKOUT, STACK, Result

BY_HAND = "fm2_somebody-elses-value"
MINT = """mutation($input: CreateLimitedAccessTokenInput!) {
  createLimitedAccessToken(input: $input) { limitedAccessToken { id tokenHeader } }
}"""
REVOKE = "mutation($input: DeleteLimitedAccessTokenInput!) { deleteLimitedAccessToken(input: $input) { token } }"


@pytest.fixture
def audited(deployed: Stage) -> Stage:
    """A clone has the tools beside the program."""
    shutil.copytree(CHECKOUT / "tools", deployed.program_directory / "tools", ignore=shutil.ignore_patterns("engine"))
    return deployed


def audit(stage: Stage, *arguments: str, passphrase: str | None = None) -> Result:
    """Runs the audit, which has to leave everything as it is."""
    files, last = files_of(stage), stage.last_request()
    environment = dict(stage.environment)
    if passphrase is not None:
        environment["PULUMI_CONFIG_PASSPHRASE"] = passphrase
    ended = subprocess.run(
        [".venv/bin/python", "-m", "tools.audit", "--stack", STACK, *arguments],
        cwd=stage.program_directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    made = stage.requests(after=last)
    assert writes(made) == [], "an audit writes nothing"
    assert passphrase is not None or {each["provider"] for each in made} >= {"fly", "github"}, "and does ask"
    assert files_of(stage) == files, "neither in the state nor in the program"
    for value in (stage.fly_secret(SECRET), stage.environment["FLY_ACCESS_TOKEN"], stage.environment["GITHUB_TOKEN"]):
        assert value not in ended.stdout
    return Result(status=ended.returncode, output=ended.stdout)


def files_of(stage: Stage) -> dict[str, bytes]:
    """The state, and the program's config."""
    found = [*stage.state_directory.rglob("*"), *stage.stack_file.parent.iterdir()]
    return {str(path): path.read_bytes() for path in found if path.is_file()}


def found_by(stage: Stage) -> list[tuple[str, str]]:
    """What an audit finds, and where, from its JSON."""
    result = audit(stage, "--json")
    (line,) = result.output.splitlines()
    told = json.loads(line)
    assert (told["stack"], told["status"]) == (STACK, result.status), result.output
    assert {each["secret"] for each in told["findings"]} <= {SECRET}
    return [(each["kind"], each["where"]) for each in told["findings"]]


def graphql(stage: Stage, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """What an operator asks of Fly by hand."""
    answer = httpx.post(
        f"{stage.environment['FLY_API_BASE_URL']}/graphql",
        headers={"authorization": f"Bearer {stage.environment['FLY_ACCESS_TOKEN']}"},
        json={"query": query, "variables": variables},
        timeout=30,
    ).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


def mint_by_hand(stage: Stage, name: str) -> str:
    """A deploy token of the tenants' app, of which the stack knows nothing; returns its id."""
    app = graphql(
        stage, "query($name: String!) { app(name: $name) { id organization { id } } }", {"name": "molecule-tenant"}
    )["app"]
    order = {
        "name": name,
        "organizationId": app["organization"]["id"],
        "profile": "deploy",
        "profileParams": {"app_id": app["id"]},
        "expiry": "",
    }
    minted = graphql(stage, MINT, {"input": order})["createLimitedAccessToken"]["limitedAccessToken"]
    return str(minted["id"])


AT_FLY, AT_GITHUB = ("drift", f"Fly app {APP}"), ("drift", f"GitHub repository {REPOSITORY}")
ORPHAN = ("orphan", "issuer fly-deploy-token")


def test_what_was_done_by_hand_is_found_and_nothing_else(audited: Stage) -> None:
    clean = audit(audited)
    assert (clean.status, len(clean.output.splitlines())) == (0, 1), clean.output
    assert clean.output.startswith(f"Stack {STACK}: nothing found (1 secret looked at")

    audited.write_fly_secret(SECRET, BY_HAND)
    audited.overwrite_at_github(BY_HAND)
    orphan = mint_by_hand(audited, f"{FAMILY}-g2")
    result = audit(audited)
    assert result.status == 1
    for words in (
        "3 findings",
        f"somebody else set {SECRET} of {APP}",
        f"somebody else set {SECRET} of {REPOSITORY}",
        f"{FAMILY}-g2",
        orphan,
    ):
        assert words in " ".join(result.output.split()), result.output
    assert BY_HAND not in result.output
    assert found_by(audited) == [AT_FLY, AT_GITHUB, ORPHAN]

    refused = audit(audited, passphrase="another")
    assert refused.status == 2
    assert "Set PULUMI_CONFIG_PASSPHRASE" in refused.output

    # An update without a bump repairs both, and does not touch the orphan.
    audited.deploys()
    assert digest(BY_HAND) not in audited.holdings().values()
    assert found_by(audited) == [ORPHAN]

    # The next rotation writes to every place, and revokes the orphan that has its name.
    audited.set_generation(SECRET, 2)
    audited.deploys()
    assert found_by(audited) == []
    audited.assert_alone(2, SECRET)

    # The worst that somebody can do by hand.
    graphql(audited, REVOKE, {"input": {"id": audited.outputs()["secrets"][SECRET]["credential_id"]}})
    assert found_by(audited) == [("dead", "issuer fly-deploy-token")]
