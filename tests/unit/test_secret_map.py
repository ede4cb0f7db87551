"""Does each declaration of the map fit what it names: its issuer, the check modules, their settings, the config keys, the program?

Every function of `secret_map` is looked at, with every choice that the config allows, so that a new one is, too.
"""

import ast
import importlib
import inspect
import itertools
import json
import re
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from components import secret_map
from components.github.destinations import Destinations
from components.given import GivenValues
from components.issuer import Issuer as IssuerOfCredentials
from components.issuers import ISSUERS, Context
from components.secret import Check, FlySecret, Issuer, Random, RepositorySecret, Secret, Supplied
from components.settings import CHOICES, Settings, load

from .test_settings import DEFAULTS

Declare = Callable[[Settings], Secret]
DECLARED: dict[str, Declare] = {
    name: each for name, each in inspect.getmembers(secret_map, inspect.isfunction) if not name.startswith("_")
}
PROGRAM = Path(__file__).parents[2] / "__main__.py"
ENDS_AT = "2026-11-30T12:00:00Z"
REQUIRED = {
    "neonOrganization": "org-1",
    "neonProject": "p-1",
    "databaseProject": "p-2",
    "upstashDatabase": "db-1",
    "reprovisionPath": "/reprovision/{slug}",
    "resendDomain": "molecule.example",
    "stripeAccount": "acct_1",
}
DATA_PLANE = ("databaseStrategy", "redisStrategy", "encryptionStrategy", "encryptionKeyEncoding", "encryptionKeyLoader")
SAAS = tuple(key for key in CHOICES if key not in DATA_PLANE)
VARIANTS = [
    dict(zip(chosen, each, strict=True))
    for chosen in (SAAS, DATA_PLANE)
    for each in itertools.product(*(CHOICES[key] for key in chosen))
]


def configured(**changed: str) -> Settings:
    """The settings of a stack that rotates everything."""
    old_values = {"STRIPE_API_KEY": ENDS_AT, "STRIPE_WEBHOOK_SECRET": ENDS_AT}
    return load(
        {**DEFAULTS, **REQUIRED, **changed}.get,
        owner="Molecule-AI",
        old_values=old_values,
        compromised={},
        reasons={},
        max_age_days={},
    )


SETTINGS = [configured(), *(configured(**each) for each in VARIANTS)]


def variants(declare: Declare) -> list[Secret]:
    return [declare(each) for each in SETTINGS]


def checks(secret: Secret) -> list[Check]:
    return [secret.verification, *([] if secret.probe is None else [secret.probe])]


@cache
def module_of(check: str) -> ModuleType:
    return importlib.import_module(f"components.verification.{check}")


def source_of(module: ModuleType) -> str:
    return inspect.getsource(module)


def misfits(check: Check) -> list[str]:
    """What is wrong with what a check is told, as it gets there."""
    told: dict[str, object] = json.loads(json.dumps(dict(check.settings)))
    module = module_of(check.module)
    kind = getattr(module, "Settings", None)
    if kind is None:  # a small probe, which reads its settings one by one
        known = set(re.findall(r'settings\["(\w+)"\]', source_of(module)))
        return [f"unknown {key}" for key in told.keys() - known] + [f"missing {key}" for key in known - told.keys()]
    types = typing.get_type_hints(kind)
    needed = {each.name for each in fields(kind) if each.default is each.default_factory is MISSING}
    wrong = [f"unknown {key}" for key in told.keys() - types.keys()]
    wrong += [f"missing {key}" for key in needed - told.keys()]
    for key in told.keys() & types.keys():
        allowed = (int, float) if types[key] is float else types[key]
        if not isinstance(told[key], allowed) or (isinstance(told[key], bool) and types[key] is not bool):
            wrong.append(f"{key} is {told[key]!r}")
    if not wrong:
        kind(**told)
    return wrong


def test_the_map_is_what_the_program_rotates() -> None:
    called = [
        node.func.attr
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "secret_map"
    ]
    assert sorted(called) == sorted(DECLARED), "each once"


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_a_declaration_is_that_of_its_secret(declare: Declare) -> None:
    assert {each.name for each in variants(declare)} == {declare.__name__.upper()}


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_the_checks_are_there_and_take_what_they_are_told(declare: Declare) -> None:
    for secret in variants(declare):
        for check in checks(secret):
            assert misfits(check) == [], check.module


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_the_checks_are_processes(declare: Declare) -> None:
    secret = declare(SETTINGS[0])
    for check in checks(secret):
        module = module_of(check.module)
        entry = module.probe if check is secret.probe else module.verify
        assert len(inspect.signature(entry).parameters) == 2, "settings and subject"
        assert source_of(module).endswith(f'if __name__ == "__main__":\n    check.run({entry.__name__})\n'), (
            "the engine runs it as a module"
        )


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_a_verification_gets_the_value_exactly_where_it_reads_it(declare: Declare) -> None:
    for secret in variants(declare):
        verification = secret.verification
        assert verification.takes_value is ("sys.stdin" in source_of(module_of(verification.module)))


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_a_check_is_about_its_secret_and_where_that_is(declare: Declare) -> None:
    for secret in variants(declare):
        module, told = module_of(secret.verification.module), secret.verification.settings
        assert not hasattr(module, "SECRET"), "its subject says which"
        assert told["app"] in {each.app for each in secret.fly}
        if "repository" in told:
            assert {told["repository"]} == {each.full_name for each in secret.repositories}


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody with every credential that an issuer needs."""
    for kind in ISSUERS.values():
        if kind.operator is not None:
            monkeypatch.setenv(kind.operator.variables[0], "a-value")
    monkeypatch.setenv("UPSTASH_EMAIL", "operator@molecule.example")


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
@pytest.mark.usefixtures("operator")
def test_the_issuer_is_built_from_its_settings(declare: Declare) -> None:
    for secret in variants(declare):
        source = secret.source
        assert source.kind in ISSUERS
        assert all(isinstance(each, str) for each in source.settings.values()), "as they are kept in the state"
        built = ISSUERS[source.kind].build(source.settings, Context(config=lambda _key: None, given="handed in"))
        assert isinstance(built, IssuerOfCredentials)
        assert built.overlaps is secret.overlaps, "what is declared is what minting does"
        assert isinstance(built, GivenValues) is isinstance(source, (Supplied, Random)), (
            "who mints is not given a value"
        )


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
@pytest.mark.usefixtures("operator")
def test_no_setting_of_an_issuer_is_without_effect(declare: Declare) -> None:

    class Recorded(dict[str, str]):
        """Remembers what was read."""

        def __init__(self, settings: typing.Mapping[str, str]) -> None:
            super().__init__(settings)
            self.read: set[str] = set()

        def __getitem__(self, key: str) -> str:
            self.read.add(key)
            return super().__getitem__(key)

    for secret in variants(declare):
        settings = Recorded(secret.source.settings)
        ISSUERS[secret.source.kind].build(settings, Context(config=lambda _key: None, given="handed in"))
        assert settings.read == set(secret.source.settings)


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_what_is_required_is_a_key_of_the_config_with_its_value(declare: Declare) -> None:
    for secret in variants(declare):
        assert secret.requires == {key: REQUIRED[key] for key in secret.requires}
    bare = declare(load(DEFAULTS.get, owner="Molecule-AI", old_values={}, compromised={}, reasons={}, max_age_days={}))
    assert set(bare.requires) <= set(DEFAULTS)
    assert not any(bare.requires.values()), "a default would hide that it is missing"


# What the config decides


def told(name: str, **changed: str) -> tuple[Secret, dict[str, object]]:
    secret = DECLARED[name](configured(**changed))
    return secret, dict(secret.verification.settings)


def test_every_app_and_repository_is_that_of_the_config() -> None:
    for declare in DECLARED.values():
        secret = declare(configured(app="another-cp", repository="another-repository", workflow="another.yml"))
        assert secret.fly == (FlySecret(app="another-cp"),)
        assert set(secret.repositories) <= {
            RepositorySecret(owner="Molecule-AI", repository="another-repository", workflow="another.yml")
        }


def test_the_deploy_token_stands_in_two_systems() -> None:
    secret, _ = told("fly_api_token", deployTokenApp="images")
    assert [str(each) for each in secret.locations] == [
        "Fly app molecule-cp",
        "GitHub repository Molecule-AI/molecule-monorepo",
    ]
    assert secret.probe is not None
    assert secret.probe.settings["app"] == secret.source.settings["app"] == "images"
    assert not secret.may_be_staged, "two systems have to change at once"


@pytest.mark.parametrize(
    ("scope", "organization", "project", "required"),
    [
        ("personal", "", "", {"neonProject"}),
        ("organization", "org-1", "", {"neonProject", "neonOrganization"}),
        ("project", "org-1", "p-1", {"neonProject", "neonOrganization"}),
    ],
)
def test_neon_keys_are_looked_for_where_they_are_minted(
    scope: str, organization: str, project: str, required: set[str]
) -> None:
    secret, settings = told("neon_api_key", neonKeyScope=scope)
    assert secret.source.settings == {"organization_id": organization, "project_id": project}
    assert (settings["organization"], settings["project"]) == (organization, "p-1")
    assert set(secret.requires) == required


def test_a_webhook_secret_of_a_new_endpoint_has_no_window() -> None:
    secret, settings = told("stripe_webhook_secret", stripeWebhookSecret="endpoint")
    assert isinstance(secret.source, Issuer)
    assert (settings["endpoint"], settings["window_ends_at"]) == (True, "")
    assert secret.probe is not None
    assert secret.probe.settings == {"endpoint": True}


def test_a_webhook_secret_that_was_rolled_has_that_of_the_dashboard() -> None:
    secret, settings = told("stripe_webhook_secret", stripeWebhookSecret="supplied")
    assert isinstance(secret.source, Supplied)
    assert secret.source.settings == {"ends_old_at": ENDS_AT}
    assert (settings["endpoint"], settings["window_ends_at"]) == (False, ENDS_AT)
    assert secret.probe is not None
    assert secret.probe.settings == {"endpoint": False}


@pytest.mark.parametrize("name", ["stripe_api_key", "stripe_webhook_secret"])
def test_without_a_time_no_old_value_is_said_to_end(name: str) -> None:
    settings = load(
        {**DEFAULTS, **REQUIRED, "stripeWebhookSecret": "supplied"}.get,
        owner="o",
        old_values={},
        compromised={},
        reasons={},
        max_age_days={},
    )
    assert DECLARED[name](settings).source.settings["ends_old_at"] == ""


@pytest.mark.parametrize("mode", ["live", "test"])
def test_the_mode_of_stripe_is_the_same_everywhere(mode: str) -> None:
    key, _ = told("stripe_api_key", stripeMode=mode)
    assert key.probe is not None
    assert key.source.settings["mode"] == key.probe.settings["mode"] == mode
    webhook, settings = told("stripe_webhook_secret", stripeMode=mode)
    assert webhook.source.settings["mode"] == mode
    assert settings["livemode"] is (mode == "live")


@pytest.mark.parametrize(("url", "expected"), [("", "https://cp.test"), ("https://app.test/", "https://app.test/")])
def test_a_checkout_page_leads_back_to_the_control_plane_unless_told_otherwise(url: str, expected: str) -> None:
    _, settings = told("stripe_api_key", controlPlaneUrl="https://cp.test", checkoutReturnUrl=url)
    assert settings["return_url"] == expected


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_what_is_at_risk_is_said(declare: Declare) -> None:
    for secret in variants(declare):
        assert secret.at_risk.endswith(".")


def test_the_deploy_token_alone_belongs_together_in_two_systems() -> None:
    for declare in DECLARED.values():
        secret = declare(configured())
        assert secret.coupled == bool(secret.repositories) == (secret.name == "FLY_API_TOKEN")


def test_without_a_repository_in_the_config_there_is_none_to_deliver_to() -> None:
    secret = DECLARED["fly_api_token"](configured(repository=""))
    assert secret.repositories == ()
    assert secret.coupled, "so that it is refused"


def test_another_place_at_github_is_verified_by_itself() -> None:
    """The subject of a verification does not tell one place from another of the same value: what the check is told does."""
    usual = configured()
    moved = replace(usual, github_destinations=Destinations(repository=False, environments=("prod",), dependabot=True))
    before, after = (secret_map.fly_api_token(each) for each in (usual, moved))
    assert [str(each) for each in after.repositories] == [
        "GitHub environment prod of Molecule-AI/molecule-monorepo",
        "GitHub Dependabot of Molecule-AI/molecule-monorepo",
    ]
    assert "places" not in before.verification.settings, "else every stack would verify once more"
    assert after.verification.settings == {
        **before.verification.settings,
        "places": ["/repos/Molecule-AI/molecule-monorepo/environments/prod/secrets"],
    }
