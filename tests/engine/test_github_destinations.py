"""Does a secret go to the places at GitHub that the config names, as announced, and is a place that was left never stale in silence?"""

import base64
import json

from tests.engine.announced import unannounced
from tests.engine.stage import AT_GITHUB, REPOSITORY, SECRET, Stage, digest, one_line

ENVIRONMENT = f"/repos/{REPOSITORY}/environments/production"
WORKFLOW = f"/repos/{REPOSITORY}/contents/.github/workflows/publish-platform-image.yml"
PLACES = [
    f"GitHub environment production of {REPOSITORY}",
    "GitHub organization Molecule-AI",
    "GitHub Dependabot of organization Molecule-AI",
    f"GitHub Dependabot of {REPOSITORY}",
]


def held(stage: Stage) -> list[str]:
    """The SHA-256 of the secret at every place of the config."""
    shown = stage.inspect()["github"]
    repository, organization = shown["repositories"][REPOSITORY], shown["organizations"]["Molecule-AI"]
    stores = (
        repository["environments"]["production"]["secrets"],
        organization["secrets"],
        organization["dependabot"],
        repository["dependabot"],
    )
    return [store[SECRET]["sha256"] for store in stores]


def deploys_as_announced(stage: Stage) -> None:
    """An update makes the writes that its preview announced, and no other."""
    impact = stage.impact()
    last = stage.last_request()
    stage.deploys()
    assert unannounced(stage.requests(after=last), impact) == []
    stage.assert_no_change()


def test_a_secret_goes_where_the_config_says(deployed: Stage) -> None:
    deployed.configure("githubDestinations.environments[0]", "production", path=True)
    deployed.refuses(f"{REPOSITORY} has no environment production", "It has none")
    with deployed.github() as api:
        api.put(ENVIRONMENT).raise_for_status()
        job = {"jobs": {"publish": {"environment": "production"}}}
        content = base64.b64encode(json.dumps(job).encode()).decode()
        api.put(WORKFLOW, json={"message": "Declare [skip ci]", "content": content}).raise_for_status()
    for key, value in (("organization", "selected"), ("dependabotOrganization", "private"), ("dependabot", "true")):
        deployed.configure(f"githubDestinations.{key}", value, path=True)

    # Between two rotations: the value in use, to the new places; the old one is named, and left alone.
    before = deployed.holdings()
    impact = deployed.impact()
    effect = impact["secrets"][SECRET]
    assert (effect["action"], effect["locations"], impact["restarts"]) == ("verify again", PLACES, [])
    (left,) = effect["leaves"]
    assert left.startswith("repository molecule-monorepo keeps generation 1, and is not written to any more")
    deploys_as_announced(deployed)
    assert deployed.holdings() == before
    assert set(held(deployed)) == {before["GitHub"]}
    assert deployed.outputs()["secrets"][SECRET]["locations"] == ["Fly app molecule-cp", *PLACES]

    # The next rotation would prove nothing as long as a job may read the one that was left.
    deployed.set_generation(SECRET, 2)
    deployed.refuses(f"The repository {REPOSITORY} has a {SECRET} too", "delete it there")
    with deployed.github() as api:
        api.delete(f"{AT_GITHUB}/{SECRET}").raise_for_status()
    deploys_as_announced(deployed)
    deployed.assert_settled(2)
    assert set(held(deployed)) == set(deployed.holdings().values())

    # One of them by hand.
    deployed.overwrite_at_github("by-hand", place=f"{ENVIRONMENT}/secrets")
    (why,) = deployed.impact()["secrets"][SECRET]["drift"]
    assert f"{SECRET} of environment production of {REPOSITORY}" in why
    deploys_as_announced(deployed)
    assert digest("by-hand") not in held(deployed)
    deployed.configure("githubDestinations.enviroments[0]", "production", path=True)
    refused = deployed.preview()
    assert refused.status != 0
    assert "Did you mean `environments`?" in one_line(refused.output)
