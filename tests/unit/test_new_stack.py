"""Is a new environment one file that is apart from all others, or nothing at all?"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import neighbours, stack_files
from tools import new_stack

ROOT = Path(__file__).parents[2]
PREFIX = "molecule-secrets"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is read of a checkout."""
    (tmp_path / "stacks").mkdir()
    for name in ("Pulumi.yaml", "stacks/Pulumi.staging.yaml", "stacks/Pulumi.production.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the engine's start: notes what it was asked, and ends as `status` says. `tests/engine` has the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "status").write_text("0")
    program = folder / "pulumi"
    program.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\nexit "$(cat "$(dirname "$0")/status")"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def config_of(checkout: Path, stack: str) -> dict[str, Any]:
    document = yaml.safe_load((checkout / "stacks" / f"Pulumi.{stack}.yaml").read_text())
    return {key.removeprefix(f"{PREFIX}:"): value for key, value in document["config"].items()}


def asked(engine: Path) -> list[str]:
    file = engine / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_an_environment_after_the_model_of_staging(
    checkout: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_stack.main(["qa"], checkout) == 0
    config = config_of(checkout, "qa")
    assert config["app"] == "molecule-cp-qa"
    assert config["tenantApp"] == config["deployTokenApp"] == "molecule-tenant-qa"
    assert config["controlPlaneUrl"] == "https://molecule-cp-qa.fly.dev"
    assert config["repository"] == "molecule-monorepo-qa"
    assert config["resendDomain"] == "qa.moleculesai.app"
    assert config["neonProject"] == config["upstashDatabase"] == ""
    assert config["neonOrganization"] == config_of(checkout, "staging")["neonOrganization"]
    assert set(config["rotations"].values()) == {1}
    assert asked(engine) == ["stack init qa"]
    said = capsys.readouterr().out
    assert "Put in: neonProject, upstashDatabase." in said
    assert "pulumi preview --stack qa" in said
    assert (
        "# To be put in: that of qa.\n  molecule-secrets:neonProject: ''"
        in (checkout / "stacks" / "Pulumi.qa.yaml").read_text()
    )


def test_after_a_model_that_is_not_called_after_itself(checkout: Path, engine: Path) -> None:
    assert new_stack.main(["qa", "--like", "production", "--secrets-provider", "awskms://alias/x"], checkout) == 0
    config = config_of(checkout, "qa")
    assert config["app"] == "molecule-cp-qa"
    assert config["controlPlaneUrl"] == "https://molecule-cp-qa.fly.dev"
    assert config["resendDomain"] == "qa.moleculesai.app"
    assert config["stripeMode"] == "live"
    assert config["maxAgeDays"]["FLY_API_TOKEN"] == 90
    assert asked(engine) == ["stack init qa --secrets-provider awskms://alias/x"]


def test_two_new_ones_and_those_before_are_apart(checkout: Path, engine: Path) -> None:
    assert new_stack.main(["qa"], checkout) == 0
    assert new_stack.main(["demo", "--like", "qa"], checkout) == 0
    assert len(asked(engine)) == 2
    beside, unreadable = neighbours.read(stack_files.project(checkout), stack="production")
    assert unreadable == []
    assert len({each.settings.app for each in beside}) == 3


def test_what_speaks_of_one_rotation_or_is_encrypted_stays_with_the_model(
    checkout: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkout / "stacks" / "Pulumi.staging.yaml"
    document = yaml.safe_load(file.read_text())
    document["encryptionsalt"] = "v1:AAAA:v1:BBBB:CCCC"
    document["config"] |= {
        f"{PREFIX}:rotations": {"FLY_API_TOKEN": 7},
        f"{PREFIX}:neonApiKey": {"secure": "v1:AA:BB"},
        f"{PREFIX}:supplied": {"STRIPE_API_KEY": {"secure": "v1:AA:BB"}},
        f"{PREFIX}:reasons": {"FLY_API_TOKEN": "leaked"},
        f"{PREFIX}:compromised": {"SECRETS_ENCRYPTION_KEY": 2},
        f"{PREFIX}:revokeUnmanaged": {"FLY_API_TOKEN": ["1"]},
    }
    file.write_text(yaml.safe_dump(document))
    assert new_stack.main(["qa"], checkout) == 0
    text = (checkout / "stacks" / "Pulumi.qa.yaml").read_text()
    assert "secure" not in text
    assert "encryptionsalt" not in text
    config = config_of(checkout, "qa")
    assert config["rotations"] == {"FLY_API_TOKEN": 1}
    assert not {"supplied", "reasons", "compromised", "revokeUnmanaged", "neonApiKey"} & set(config)
    assert "Not taken over, because encrypted values are of one stack: molecule-secrets:neonApiKey" in (
        capsys.readouterr().out
    )
    assert len(asked(engine)) == 1


def test_a_name_that_another_stack_has_is_refused_before_anything_is_written(
    checkout: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody called production's app as the new one's would be called."""
    file = checkout / "stacks" / "Pulumi.production.yaml"
    file.write_text(file.read_text().replace("app: molecule-cp\n", "app: molecule-cp-qa\n"))
    assert new_stack.main(["qa"], checkout) == 1
    said = capsys.readouterr().err
    assert "stack production (Pulumi.production.yaml) have the same place: Fly app molecule-cp-qa." in said
    assert "nothing was changed" in said
    assert not (checkout / "stacks" / "Pulumi.qa.yaml").exists()
    assert asked(engine) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["staging"], "There is a stack staging already"),
        (["qa", "--like", "stagin"], "There is no stack stagin to be a model. There are: production, staging."),
        (["QA"], "lower-case letters"),
        (["a" * 33], "lower-case letters"),
        (["qa/b"], "lower-case letters"),
    ],
)
def test_what_cannot_be_added(
    checkout: Path, engine: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = sorted((checkout / "stacks").iterdir())
    assert new_stack.main(arguments, checkout) == 1
    assert said in capsys.readouterr().err
    assert sorted((checkout / "stacks").iterdir()) == before
    assert asked(engine) == []


def test_an_engine_that_refuses_leaves_no_file(
    checkout: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (engine / "status").write_text("255")
    assert new_stack.main(["qa"], checkout) == 1
    assert not (checkout / "stacks" / "Pulumi.qa.yaml").exists()
    assert "was taken away again" in capsys.readouterr().err
    (engine / "status").write_text("0")
    assert new_stack.main(["qa"], checkout) == 0


def test_without_an_engine(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert new_stack.main(["qa"], checkout) == 1
    assert "make env" in capsys.readouterr().err
    assert not (checkout / "stacks" / "Pulumi.qa.yaml").exists()
