"""Names that every stack keeps in its state. Whoever has to change one of these lines breaks existing stacks: don't.

The values come from a run of the program's own graph, on the SDK's mocks.
"""

import asyncio
import json
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from components import own_state, provider
from components.fly.provider import AppSecretsProvider
from components.graph import Rotation
from components.issuers import ISSUERS
from components.progress import Progress
from components.rotated import RUN_CHECK, Rotated
from components.secret import Check, Family, FlySecret, Issuer, RepositorySecret, Secret
from components.settings import load
from components.tenants.provider import TenantMachinesProvider
from components.tenants.resources import TenantEnvironments
from components.verification import check

from .test_settings import DEFAULTS


def test_providers_are_found_by_module_and_class() -> None:
    names = [
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in (
            provider.CredentialProvider,
            provider.RevocationProvider,
            provider.DecommissionProvider,
            AppSecretsProvider,
            TenantMachinesProvider,
        )
    ]
    assert names == [
        "components.provider.CredentialProvider",
        "components.provider.RevocationProvider",
        "components.provider.DecommissionProvider",
        "components.fly.provider.AppSecretsProvider",
        "components.tenants.provider.TenantMachinesProvider",
    ]


def test_issuers_are_found_by_kind() -> None:
    kinds = {"fly-deploy-token", "neon-api-key", "resend-sending-key", "stripe-webhook-endpoint"}
    assert set(ISSUERS) >= kinds | {"given"}


def test_credentials_are_found_by_their_remote_name() -> None:
    assert Family(app="cp", stack="s", secret="T", longest_name=255).credential_name(1) == "cp-rotation-s-T-g1"


def test_progress_is_found_by_type_and_prefix() -> None:
    assert own_state.CREDENTIAL_TYPE == "pulumi-python:dynamic/rotation:Credential"
    assert own_state.CHECK_TYPE == "command:local:Command"
    assert own_state.VERIFICATION_PREFIX == "verification-"
    assert own_state.APP_TYPE == "pulumi-python:dynamic/fly:AppSecrets"
    assert own_state.REVOCATION_TYPE == "pulumi-python:dynamic/rotation:Revocation"
    assert own_state.REVOCATION_PREFIX == "revocation-"
    assert own_state.DECOMMISSION_TYPE == "pulumi-python:dynamic/rotation:Decommission"
    assert own_state.DECOMMISSION_PREFIX == "decommission-"
    assert own_state.PROBE_PREFIX == "probe-"
    assert own_state.TENANTS_TYPE == "pulumi-python:dynamic/tenants:TenantEnvironments"
    assert own_state.ACTIONS_SECRET_TYPE == "github:index/actionsSecret:ActionsSecret"


class Engine(mocks.Mocks):
    """Remembers what is registered."""

    def __init__(self) -> None:
        self.registered: dict[str, mocks.MockResourceArgs] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        """Answers as the providers would."""
        self.registered[args.name] = args
        outputs = dict(args.inputs)
        if args.typ == own_state.CREDENTIAL_TYPE:
            outputs |= {"turn": "1", "salt": "s", "credential_id": "t1", "value": "the-value-of-g1", "keyring": []}
            outputs["created_at"] = "2026-11-23T11:00:00+00:00"
        if args.typ == own_state.CHECK_TYPE:
            told = json.loads(args.inputs["environment"][check.SETTINGS_VARIABLE])
            outputs["stdout"] = json.dumps({**told, "verified_at": "2026-11-23T12:00:00+00:00"})
        return args.name, outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Nothing is called."""
        del args
        return {}, None


@pytest.fixture(scope="module")
def registered() -> dict[str, mocks.MockResourceArgs]:
    """What the program registers for one secret, by name."""
    engine = Engine()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="molecule-secrets", stack="prod", preview=False)
    secret = Secret(
        name="TOKEN",
        source=Issuer(kind="fly-deploy-token", settings={"app": "tenant", "profile": "deploy", "expiry": "24h"}),
        fly=(FlySecret(app="cp"),),
        repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
        probe=Check(module="fly_token_probe", settings={"app": "tenant"}),
        verification=Check(module="fly_api_token", settings={"app": "cp"}),
    )

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        Rotation(
            load(DEFAULTS.get, owner="o", old_values={}, compromised={}, reasons={}, max_age_days={}),
            [
                Rotated(
                    secret=secret,
                    family=Family(app="molecule-cp", stack="prod", secret="TOKEN", longest_name=255),
                    generation=1,
                    progress=Progress(),
                )
            ],
            operator_environment={},
        )

    program()
    return engine.registered


def test_resources_keep_their_types_and_names(registered: dict[str, mocks.MockResourceArgs]) -> None:
    assert {name: args.typ for name, args in registered.items()} == {
        "molecule-cp": "molecule:rotation:Rotation",
        "TOKEN": "pulumi-python:dynamic/rotation:Credential",
        "probe-TOKEN": "command:local:Command",
        "cp": "pulumi-python:dynamic/fly:AppSecrets",
        "r-TOKEN": "github:index/actionsSecret:ActionsSecret",
        "verification-TOKEN": "command:local:Command",
        "revocation-TOKEN": "pulumi-python:dynamic/rotation:Revocation",
    }


def test_properties_keep_their_names(registered: dict[str, mocks.MockResourceArgs]) -> None:
    expected = {
        "TOKEN": {"family", "issuer", "generation"},
        "cp": {"app", "names", "TOKEN", "policy"},
        "revocation-TOKEN": {
            "family",
            "issuer",
            "generation",
            "credential_id",
            "keyring",
            "verified_at",
            "holdings",
            "also",
            "minted_at",
            "delivered_at",
            "reason",
        },
    }
    for name, properties in expected.items():
        assert properties <= set(registered[name].inputs)


def test_a_check_gets_the_value_on_standard_input_alone(registered: dict[str, mocks.MockResourceArgs]) -> None:
    probe, verification = registered["probe-TOKEN"].inputs, registered["verification-TOKEN"].inputs
    assert probe["stdin"] == "the-value-of-g1"
    assert verification.get("stdin") is None
    for inputs in (probe, verification):
        others = {key: value for key, value in inputs.items() if key != "stdin"}
        assert "the-value-of-g1" not in json.dumps(others, default=str)
    assert probe["create"].endswith("python -m components.verification.fly_token_probe")
    assert verification["create"].endswith("python -m components.verification.fly_api_token")


def test_the_commands_name_no_path_of_this_machine(registered: dict[str, mocks.MockResourceArgs]) -> None:
    for name in ("probe-TOKEN", "verification-TOKEN"):
        assert str(registered[name].inputs["create"]).startswith(RUN_CHECK)
        assert " /" not in registered[name].inputs["create"]


def test_the_resource_of_tenants_keeps_its_type_and_properties() -> None:
    engine = Engine()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="molecule-secrets", stack="prod", preview=False)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        TenantEnvironments(
            "tenant",
            {"REDIS_URL": pulumi.Output.secret("u"), "KEY": pulumi.Output.secret("k")},
            load(DEFAULTS.get, owner="o", old_values={}, compromised={}, reasons={}, max_age_days={}),
            pulumi.ResourceOptions(),
            same_server=["REDIS_URL"],
            overlaps=["KEY"],
            reprovisioned=["KEY"],
        )

    program()
    registered = engine.registered["tenant"]
    assert registered.typ == "pulumi-python:dynamic/tenants:TenantEnvironments"
    inputs = registered.inputs
    assert (inputs["app"], inputs["variables"]) == ("tenant", ["KEY", "REDIS_URL"])
    assert {"KEY", "REDIS_URL", "policy"} <= set(inputs)
    assert (inputs["same_server"], inputs["overlaps"]) == (["REDIS_URL"], ["KEY"])
    assert inputs["reprovision"]["variable"] == "KEY"
    assert set(inputs["reprovision"]) == {"variable", "url", "path", "timeout"}
