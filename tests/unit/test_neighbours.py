"""Are two stacks that claim the same place found, whoever of them is previewed, and nobody else?"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import neighbours, secret_map, stack_files
from components.errors import RefusedError
from components.neighbours import Neighbour
from components.secret import Check, FlySecret, Random, Secret
from components.settings import Settings

ROOT = Path(__file__).parents[2]
STAGING: dict[str, Any] = {
    "app": "cp-staging",
    "tenantApp": "tenant-staging",
    "deployTokenApp": "tenant-staging",
    "repository": "monorepo-staging",
    "neonProject": "staging-1",
    "upstashDatabase": "redis-staging",
    "rotations": {"FLY_API_TOKEN": 1, "DATABASE_URL": 3, "TENANT_REDIS_URL": 1, "SECRETS_ENCRYPTION_KEY": 1, "OWN": 1},
}
PRODUCTION = {
    **STAGING,
    "app": "cp",
    "tenantApp": "tenant",
    "repository": "monorepo",
    "neonProject": "production-1",
    "upstashDatabase": "redis",
}
OWN = Secret(
    name="OWN",
    source=Random(length=32, encoding="hex"),
    fly=(FlySecret(app="cp-staging"),),
    verification=Check(module="fly_app"),
)


class Stacks:
    """A program's folder with stacks' files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
        (folder / "stacks").mkdir()

    def write(self, stack: str, values: dict[str, Any]) -> None:
        """Write a stack's file."""
        config = {"github:owner": "Molecule-AI", **{f"molecule-secrets:{key}": value for key, value in values.items()}}
        (self.folder / "stacks" / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": config}))

    def read(self, *, stack: str) -> tuple[list[Neighbour], list[str]]:
        """The stacks beside one, and the files that are none."""
        return neighbours.read(stack_files.project(self.folder), stack=stack)

    def settings(self, stack: str) -> Settings:
        """Of a stack, as its neighbours read them."""
        project = stack_files.project(self.folder)
        found = neighbours.of_config(project, stack, stack_files.read_config(project.file(stack)))
        assert found is not None
        return found.settings

    def check(self, stack: str, more: Iterable[Secret] = ()) -> None:
        """What a preview of the stack does."""
        settings = self.settings(stack)
        rotated = [
            secret_map.fly_api_token(settings),
            secret_map.database_url(settings),
            secret_map.tenant_redis_url(settings),
            secret_map.secrets_encryption_key(settings),
            *more,
        ]
        beside, _ = self.read(stack=stack)
        neighbours.assert_apart(rotated, beside, settings=settings)

    def refusal(self, stack: str, more: Iterable[Secret] = ()) -> str:
        """The same, refused: what it says."""
        with pytest.raises(RefusedError) as refused:
            self.check(stack, more)
        return str(refused.value)


@pytest.fixture
def stacks(tmp_path: Path) -> Stacks:
    made = Stacks(tmp_path)
    made.write("staging", STAGING)
    made.write("production", PRODUCTION)
    return made


def test_stacks_with_names_of_their_own_are_apart(stacks: Stacks) -> None:
    stacks.check("staging", [OWN])
    stacks.check("production", [replace(OWN, fly=(FlySecret(app="cp"),))])


@pytest.mark.parametrize(
    ("copied", "place", "secrets"),
    [
        ("app", "Fly app cp", {"FLY_API_TOKEN", "DATABASE_URL", "TENANT_REDIS_URL", "SECRETS_ENCRYPTION_KEY", "OWN"}),
        ("repository", "GitHub repository Molecule-AI/monorepo", {"FLY_API_TOKEN"}),
        ("tenantApp", "tenants' machines of Fly app tenant", {"TENANT_REDIS_URL", "SECRETS_ENCRYPTION_KEY"}),
        (
            "neonProject",
            "credentials of neon-role-password (project production-1, branch by default, role molecule_cp)",
            {"DATABASE_URL"},
        ),
        (
            "neonProject",
            "encrypted rows of Neon project production-1, branch by default, database neondb",
            {"SECRETS_ENCRYPTION_KEY"},
        ),
        (
            "upstashDatabase",
            "credentials of upstash-redis-user (database redis, user molecule_tenants)",
            {"TENANT_REDIS_URL"},
        ),
    ],
)
def test_a_name_that_was_copied_is_refused_in_both_stacks(
    stacks: Stacks, copied: str, place: str, secrets: set[str]
) -> None:
    stacks.write("staging", {**STAGING, copied: PRODUCTION[copied]})
    for stack, other in (("staging", "production"), ("production", "staging")):
        own = replace(OWN, fly=(FlySecret(app=stacks.settings(stack).app),))
        text = stacks.refusal(stack, [own])
        found = {line.split()[0] for line in _lines(text) if f"same place: {place}." in line}
        assert found == secrets
        assert f"stack {other} (Pulumi.{other}.yaml)" in text
        assert "nothing was changed" in text
        assert "off `rotations` of one of them" in text


def _lines(text: str) -> list[str]:
    """The refusals without their numbers."""
    return [line.partition(". ")[2] if line[:1].isdigit() else line for line in text.split("\n") if line]


def test_the_same_place_is_no_matter_where_the_other_stack_does_not_rotate_the_secret(stacks: Stacks) -> None:
    stacks.write("staging", {**STAGING, "app": "cp", "rotations": {"RESEND_API_KEY": 1}})
    stacks.check("production")


def test_a_fixed_app_of_an_own_secret_is_every_stacks(stacks: Stacks) -> None:
    shared = replace(OWN, fly=(FlySecret(app="shared"),))
    assert "same place: Fly app shared." in stacks.refusal("staging", [shared])


def test_a_stack_that_has_its_providers_to_itself_claims_nothing(stacks: Stacks) -> None:
    for said in (True, "true"):
        stacks.write("staging", {**PRODUCTION, "ownProviders": said})
        stacks.check("production")


def test_roles_of_another_name_are_other_credentials(stacks: Stacks) -> None:
    shared = {**STAGING, "neonProject": "production-1", "rotations": {"DATABASE_URL": 1}}
    stacks.write("staging", {**shared, "databaseRole": "molecule_cp_staging"})
    stacks.check("production")
    stacks.write("staging", shared)
    assert "role molecule_cp" in stacks.refusal("production")


def test_encrypted_values_of_a_neighbour_do_not_matter(stacks: Stacks) -> None:
    sealed = {"secure": "v1:AAAAAAAAAAAAAAAA:AAAA"}
    stacks.write("staging", {**STAGING, "neonApiKey": sealed, "supplied": {"STRIPE_API_KEY": sealed}})
    assert [each.stack for each in stacks.read(stack="production")[0]] == ["staging"]
    assert stacks.read(stack="production")[1] == []


@pytest.mark.parametrize("text", ["config: [", "- a list", "config: 7", "", "config:\n  molecule-secrets:rotations: 7"])
def test_a_file_that_is_no_stacks_is_named_and_stops_nobody(stacks: Stacks, text: str) -> None:
    (stacks.folder / "stacks" / "Pulumi.odd.yaml").write_text(text)
    beside, unreadable = stacks.read(stack="production")
    assert [each.stack for each in beside] == ["staging"]
    assert unreadable == ["Pulumi.odd.yaml"]
    stacks.check("production")


def test_settings_that_are_wrong_are_such_a_file(stacks: Stacks) -> None:
    stacks.write("staging", {**STAGING, "rollout": "sideways"})
    assert stacks.read(stack="production") == ([], ["Pulumi.staging.yaml"])


def test_other_files_in_the_folder_are_none(stacks: Stacks) -> None:
    (stacks.folder / "stacks" / "notes.yaml").write_text("- hello")
    assert list(stack_files.files(stacks.folder / "stacks")) == ["production", "staging"]
