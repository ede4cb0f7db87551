"""Staging and production side by side, with the files of this repository: a rotation in one touches nothing of the other."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.stage import Stage, one_line
from tools.workspace import CHECKOUT, workspace

STAGING, PRODUCTION = "staging", "production"
SECRETS = (
    "DATABASE_URL",
    "FLY_API_TOKEN",
    "NEON_API_KEY",
    "RESEND_API_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "TENANT_REDIS_URL",
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Stage]:
    """Both environments on one sandbox, each with a tenant, and the stacks of this repository with what the sandbox adds to them."""
    with workspace(tmp_path / "workspace", "--environment", f"{STAGING},{PRODUCTION}", "--tenants", "1") as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.sandbox("stacks", "--to", str(stage.program_directory / "stacks"))
        for stack in (STAGING, PRODUCTION):
            stage.must("stack", "select", "--create", stack)
            result = stage.pulumi("up", "--yes", "--skip-preview", "--stack", stack)
            assert result.status == 0, result.output
        yield stage


def of(world: dict[str, Any], stack: str) -> dict[str, Any]:
    """All that the sandbox has of one environment."""
    names = world["environments"][stack]
    family = f"{names['app']}-rotation-"
    return {
        "fly": {app: world["fly"]["apps"][app] for app in (names["app"], names["tenant_app"])},
        "github": world["github"]["repositories"][names["repository"]],
        "branches": [each for each in world["neon"]["branches"] if each["project"] == names["neon_project"]],
        "redis": [
            (user["name"], user["enabled"])
            for each in world["upstash"]["databases"]
            if each["id"] == names["upstash_database"]
            for user in each["users"]
        ],
        "endpoints": [
            each for each in world["stripe"]["endpoints"] if each["url"].startswith(names["control_plane_url"])
        ],
        # Those that the program minted, by family; of those made by hand what the app is called after.
        "credentials": [
            each
            for each in world["credentials"]
            if family in each["name"] or each["name"].startswith(f"{names['app']} ") or each["family"] == each["name"]
        ],
    }


def names_of(world: dict[str, Any], stack: str) -> set[str]:
    """Whatever names something that is this environment's alone."""
    names, held = world["environments"][stack], of(world, stack)
    return {
        names["app"],
        names["tenant_app"],
        names["repository"].partition("/")[2],
        names["neon_project"],
        names["upstash_database"],
        f"{names['app']}-rotation-{stack}",
        *(machine["id"] for app in held["fly"].values() for machine in app["machines"]),
        *(branch["id"] for branch in held["branches"]),
        *(endpoint["id"] for endpoint in held["endpoints"]),
        *(
            each["id"]
            for each in held["credentials"]
            if f"{names['app']}-rotation-{stack}-" in each["name"] or each["name"].startswith(f"{names['app']} ")
        ),
    }


def naming(requests: list[dict[str, Any]], names: set[str]) -> list[str]:
    """The requests that name any of these: in their path, their query or variables, as the app behind the port, or as who sent them."""
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    # `molecule-cp` is no name of `molecule-cp-staging`; a family's name goes on after the stack's.
    expression = re.compile(rf"(?<![\w.-])(?:{alternatives})(?:-[A-Z]|(?![\w-]))")
    return [
        f"{each['provider']} {each['method']} {each['target']} {each['about']} app={each['app']} by={each['consumer']}"
        for each in requests
        if any(expression.search(str(each[part] or "")) for part in ("target", "about", "app", "consumer"))
    ]


def test_a_rotation_of_every_secret_of_staging_touches_nothing_of_production(both: Stage) -> None:
    before = both.inspect()
    names = {stack: names_of(before, stack) for stack in (STAGING, PRODUCTION)}
    assert not names[STAGING] & names[PRODUCTION]
    last = both.last_request()
    for secret in SECRETS:
        both.must("config", "set", "--plaintext", "--stack", STAGING, "--path", f"rotations.{secret}", "2")

    result = both.pulumi("up", "--yes", "--skip-preview", "--stack", STAGING)

    assert result.status == 0, result.output
    after, requests = both.inspect(), both.requests(after=last)
    # What is counted can be found: staging is named all the time, and so would production be.
    assert len(naming(requests, names[STAGING])) > 100
    assert len(naming(both.requests(), names[PRODUCTION])) > 100
    assert naming(requests, names[PRODUCTION]) == []
    assert of(after, PRODUCTION) == of(before, PRODUCTION), "digests, environments, rollouts, times, credentials"
    staging = after["environments"][STAGING]["app"]
    for secret in SECRETS:
        live = [
            each["name"]
            for each in after["credentials"]
            if each["live"] and each["name"].endswith(("-g1", "-g2")) and f"{staging}-rotation-" in each["name"]
        ]
        assert live
        assert all(name.endswith("-g2") for name in live), secret
        held, old = (world["fly"]["apps"][staging]["secrets"][secret]["sha256"] for world in (after, before))
        assert held != old, secret
    assert after["breakages"] == []
    assert after["violations"] == []

    # And one that claims a place of the other is refused, whichever is previewed, before any request that changes something.
    repository = before["environments"][PRODUCTION]["repository"]
    both.must("config", "set", "--stack", STAGING, "repository", repository.partition("/")[2])
    writes = both.writes()
    for stack, other in ((STAGING, PRODUCTION), (PRODUCTION, STAGING)):
        preview = both.pulumi("preview", "--stack", stack)
        assert preview.status != 0
        text = one_line(preview.output)
        assert f"FLY_API_TOKEN of this stack and of stack {other} (Pulumi.{other}.yaml) have the same place: " in text
        assert f"GitHub repository {repository}." in text
        assert "nothing was changed" in text
    assert both.writes() == writes

    # A third one is one command. What only it can know is asked for by its first preview.
    added = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pathlib, tools.new_stack as t; sys.exit(t.main(['qa'], pathlib.Path.cwd()))",
        ],
        cwd=both.program_directory,
        env={**both.environment, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert added.returncode == 0, added.stdout
    assert "Put in: controlPlaneUrl, neonProject, upstashDatabase." in added.stdout
    assert "qa" in {each["name"] for each in json.loads(both.must("stack", "ls", "--json"))}
    preview = both.pulumi("preview", "--stack", "qa")
    assert preview.status != 0
    assert "The config key `controlPlaneUrl` is ''" in one_line(preview.output)
