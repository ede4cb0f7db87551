"""Are the stacks' files of this repository whole: known keys only, good settings, and nothing of one in another?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import neighbours, operator_credentials, secret_map, stack_files
from components import settings as configuration
from components.encryption.reencryption import KEY_BEFORE
from components.secret import Secret
from components.settings import Settings
from sandbox import environments

ROOT = Path(__file__).parents[2]
PROJECT = stack_files.project(ROOT)
DECLARED: Mapping[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}
ENVIRONMENTS = ("staging", "production")
STACKS = (*ENVIRONMENTS, "sandbox")
ENCRYPTED = {each.config_key for each in operator_credentials.ALL} | {KEY_BEFORE}
"""Keys that the schema cannot declare: it knows no optional ones."""


def config_of(stack: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text())
    config: dict[str, Any] = document["config"]
    return config


def settings_of(stack: str) -> Settings:
    return neighbours.settings_of(PROJECT, config_of(stack))


def secrets_of(settings: Settings) -> dict[str, Secret]:
    made = [
        secret_map.fly_api_token(settings),
        secret_map.neon_api_key(settings),
        secret_map.database_url(settings),
        secret_map.tenant_redis_url(settings),
        secret_map.secrets_encryption_key(settings),
        secret_map.resend_api_key(settings),
        secret_map.resend_from_email(settings),
        secret_map.stripe_api_key(settings),
        secret_map.stripe_webhook_secret(settings),
    ]
    return {secret.name: secret for secret in made}


@pytest.mark.parametrize("key", DECLARED)
def test_every_key_is_described_with_a_type_and_a_default_of_that_type(key: str) -> None:
    declared = DECLARED[key]
    assert set(declared) - {"items"} == {"type", "description", "default"}
    assert ("items" in declared) is (declared["type"] == "array")
    assert isinstance(declared["default"], TYPES[declared["type"]])
    assert len(declared["description"]) > len(key)
    assert declared["description"].rstrip().endswith(".")


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_has_no_key_that_nobody_reads(stack: str) -> None:
    for name, value in config_of(stack).items():
        namespace, _, key = name.rpartition(":")
        if namespace == "github":
            assert key in {"owner", "writeDelayMs"}
            continue
        assert namespace == PROJECT.name, name
        assert key in DECLARED or key in ENCRYPTED, f"{name} is no key of this program"
        if key in DECLARED:
            assert isinstance(value, TYPES[DECLARED[key]["type"]]), name


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_has_every_setting_that_its_secrets_need(stack: str) -> None:
    rotated = config_of(stack)[f"{PROJECT.name}:rotations"]
    configured = secrets_of(settings_of(stack))
    generations = configuration.rotations(rotated, managed=configured, not_managed=secret_map.NOT_MANAGED)
    configuration.assert_configured(configured[name] for name in generations)
    configuration.assert_coupled(configured[name] for name in generations)


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_an_environment_rotates_whatever_needs_no_value_and_no_reason(stack: str) -> None:
    """The others stand in the file's comment: they come with a value, or with `compromised`."""
    secrets = secrets_of(settings_of(stack))
    generations = config_of(stack)[f"{PROJECT.name}:rotations"]
    at_any_time = {name for name, each in secrets.items() if not each.only_if_compromised and not _is_supplied(each)}
    assert set(generations) == at_any_time
    # Those need no other setting when their time comes.
    configuration.assert_configured(secrets.values())
    text = (ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text()
    assert all(f"{name}" in text for name in secrets)


def _is_supplied(secret: Secret) -> bool:
    return type(secret.source).__name__ == "Supplied"


def test_both_environments_say_the_same_things() -> None:
    """What one has and the other does not is a difference of policy: a share of machines, an age."""
    keys = {stack: {key.partition(":")[2] for key in config_of(stack)} for stack in ENVIRONMENTS}
    assert keys["production"] - keys["staging"] == {"maxAgeDays"}
    assert keys["staging"] <= keys["production"]


def test_environments_are_apart() -> None:
    for stack in ENVIRONMENTS:
        settings = settings_of(stack)
        beside, unreadable = neighbours.read(PROJECT, stack=stack)
        assert unreadable == []
        assert [each.stack for each in beside] == [other for other in sorted(ENVIRONMENTS) if other != stack]
        neighbours.assert_apart(secrets_of(settings).values(), beside, settings=settings)


def test_what_differs_is_where_things_are() -> None:
    production, staging = settings_of("production"), settings_of("staging")
    differing = {name for name in Settings.__annotations__ if getattr(production, name) != getattr(staging, name)}
    assert differing == {
        "app",
        "tenant_app",
        "deploy_token_app",
        "control_plane_url",
        "repository",
        "neon_project",
        "database_project",
        "upstash_database",
        "resend_domain",
        "stripe_mode",
        "max_unavailable",
        "max_age_days",
    }


def test_the_sandbox_is_what_its_stack_says() -> None:
    read = environments.of_stack("sandbox", config_of("sandbox"), PROJECT.defaults)
    assert read == replace(environments.DEFAULT, primary=False)
