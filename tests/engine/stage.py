"""A workspace with the questions that engine tests ask."""

import json
from typing import Any

from tools.workspace import STACK, Result, Workspace

SECRET = "FLY_API_TOKEN"
FAMILY = f"molecule-cp-rotation-sandbox-{SECRET}"
APP = "molecule-cp"
REPOSITORY = "Molecule-AI/molecule-monorepo"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Stage(Workspace):
    """A workspace; `inspect` is asked anew for every question."""

    def deploys(self, *arguments: str) -> str:
        """`pulumi up` that has to succeed; returns what it printed."""
        result = self.up(*arguments)
        assert result.status == 0, result.output
        return result.output

    def fails(self, *arguments: str) -> str:
        """`pulumi up` that has to fail; returns what it printed."""
        result = self.up(*arguments)
        assert result.status != 0, result.output
        return result.output

    def preview(self, *arguments: str) -> Result:
        """`pulumi preview`."""
        return self.pulumi("preview", "--stack", STACK, *arguments)

    def assert_no_change(self) -> None:
        """A preview shows no change and no pending deletion."""
        result = self.preview("--expect-no-changes")
        assert result.status == 0, result.output
        assert not any(resource.get("delete") for resource in self.resources())

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the exported state."""
        exported = json_of(self.must("stack", "export", "--stack", STACK))
        resources: list[dict[str, Any]] = exported["deployment"].get("resources") or []
        return resources

    def urn(self, suffix: str) -> str:
        """The URN that ends so."""
        return next(str(resource["urn"]) for resource in self.resources() if resource["urn"].endswith("::" + suffix))

    def live(self) -> list[str]:
        """The names of the live credentials of the family."""
        return sorted(
            each["name"] for each in self.inspect()["credentials"] if each["family"] == FAMILY and each["live"]
        )

    def minted(self) -> int:
        """How many tokens have been minted through the API."""
        return int(self.inspect()["requests"].get("fly POST /graphql createLimitedAccessToken", 0))

    def revoked(self) -> int:
        """How many revocations have been asked for."""
        return int(self.inspect()["requests"].get("fly POST /graphql deleteLimitedAccessToken", 0))

    def writes(self) -> dict[str, int]:
        """The requests that change something at Fly or GitHub, counted. Queries of GraphQL are reads."""
        return {
            request: count
            for request, count in self.inspect()["requests"].items()
            if request.split()[0] in {"fly", "github", "control-plane"}
            and request.split()[1] in WRITES
            and not request.startswith("fly POST /graphql app")
        }

    def holdings(self) -> dict[str, str]:
        """The SHA-256 of the secret in every place that holds it."""
        world = self.inspect()
        app = world["fly"]["apps"][APP]
        held = {f"machine {machine['id']}": machine["env_sha256"][SECRET] for machine in app["machines"]}
        held["Fly"] = app["secrets"][SECRET]["sha256"]
        held["GitHub"] = world["github"]["repositories"][REPOSITORY]["secrets"][SECRET]["sha256"]
        return held

    def credential(self, name: str) -> dict[str, Any]:
        """A credential of the sandbox by its name; the newest of several."""
        found: list[dict[str, Any]] = [each for each in self.inspect()["credentials"] if each["name"] == name]
        return found[-1]

    def generation_held(self) -> dict[str, int | str]:
        """Which generation every place holds; "hand-made" for none of the family."""
        generations = {
            each["sha256"]: int(each["name"].removeprefix(FAMILY + "-g"))
            for each in self.inspect()["credentials"]
            if each["family"] == FAMILY
        }
        return {place: generations.get(value, "hand-made") for place, value in self.holdings().items()}

    def assert_settled(self, generation: int) -> None:
        """Every place holds this generation, it alone is live, and no consumer was ever refused."""
        assert set(self.generation_held().values()) == {generation}
        assert self.live() == [f"{FAMILY}-g{generation}"]
        assert self.inspect()["breakages"] == []
        assert self.outputs()["secrets"][SECRET]["generation"] == generation


def json_of(text: str) -> Any:  # noqa: ANN401 - any JSON
    """The JSON value that a command printed."""
    return json.loads(text)
