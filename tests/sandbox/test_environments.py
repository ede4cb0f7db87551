"""Are several environments of one sandbox apart, is each whole, and is a sandbox that was not told so what it was?"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from sandbox import environments
from sandbox.cli import PASSPHRASE
from sandbox.environments import DEFAULT
from sandbox.world import SandboxError, sha256

from .running import Sandbox, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
STACKS = ROOT / "stacks"
OWN = {
    "CONTROL_PLANE_URL",
    "TENANT_URL",
    "CP_ADMIN_API_TOKEN",
    "CP_SESSION",
    "SECRETS_ENCRYPTION_KEY",
    "STRIPE_API_KEY",
    "STRIPE_ACCOUNT_ID",
    "STRIPE_WEBHOOK_ENDPOINT_ID",
    "UPSTASH_REDIS_ID",
    "UPSTASH_REDIS_REST_TOKEN",
}


def variables(sandbox: Sandbox, *arguments: str) -> dict[str, str]:
    words = [word for line in sandbox.command("env", *arguments).splitlines() for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words if word != "export")


@pytest.fixture(scope="module", params=["whole", "light"])
def sandbox(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Staging and production, as their stacks' files have them; each with a tenant. Whole and light."""
    made = Sandbox(tmp_path_factory.mktemp("environments"))
    light = ["--light"] if request.param == "light" else []
    made.start("--environment", "staging,production", "--tenants", "1", "--machines", "1", *light)
    yield made
    made.stop()


class Caller:
    """The operator of one environment's control plane."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._client = httpx.Client(
            base_url=environment["CONTROL_PLANE_URL"],
            headers={"authorization": f"Bearer {environment['CP_ADMIN_API_TOKEN']}"},
            timeout=60,
            trust_env=False,
        )

    def __call__(self, method: str, path: str, document: object = None) -> httpx.Response:
        """Call it."""
        return self._client.request(method, path, json=document)

    def running(self, slug: str) -> bool:
        """Tell whether an organization runs."""
        answer = self("GET", f"/cp/orgs/{slug}").json()
        assert answer["status"] in {"provisioning", "running"}, answer
        return bool(answer["status"] == "running")


@pytest.fixture(scope="module")
def callers(sandbox: Sandbox) -> dict[str, Caller]:
    return {name: Caller(variables(sandbox, "--environment", name)) for name in ("staging", "production")}


def test_the_names_are_those_of_the_stacks_files(sandbox: Sandbox) -> None:
    truth = sandbox.inspect()
    for name, described in truth["environments"].items():
        config = yaml.safe_load((STACKS / f"Pulumi.{name}.yaml").read_text())["config"]
        for key, member in (
            ("app", "app"),
            ("tenantApp", "tenant_app"),
            ("neonProject", "neon_project"),
            ("resendDomain", "resend_domain"),
            ("stripeAccount", "stripe_account"),
        ):
            assert described[member] == config[f"molecule-secrets:{key}"], key
        assert described["repository"] == f"Molecule-AI/{config['molecule-secrets:repository']}"
        if described["light"]:
            assert described["upstash_database"] is None
        else:
            assert described["upstash_database"] == config["molecule-secrets:upstashDatabase"]
    assert set(truth["fly"]["apps"]) == {
        "molecule-cp",
        "molecule-cp-staging",
        "molecule-tenant",
        "molecule-tenant-staging",
    }
    assert set(truth["github"]["repositories"]) == {
        "Molecule-AI/molecule-monorepo",
        "Molecule-AI/molecule-monorepo-staging",
    }


def test_no_environment_has_a_value_of_another(sandbox: Sandbox) -> None:
    apps = sandbox.inspect()["fly"]["apps"]
    production, staging = apps["molecule-cp"]["secrets"], apps["molecule-cp-staging"]["secrets"]
    assert set(production) == set(staging)
    same = {name for name in production if production[name]["sha256"] == staging[name]["sha256"]}
    assert same == set()


def test_env_says_what_they_share_and_on_request_what_one_has(sandbox: Sandbox) -> None:
    shared = variables(sandbox)
    own = {name: variables(sandbox, "--environment", name) for name in ("staging", "production")}
    light = sandbox.inspect()["environments"]["staging"]["light"]
    redis = {"UPSTASH_REDIS_ID", "UPSTASH_REDIS_REST_TOKEN"} if light else set()
    for each in own.values():
        assert set(each) - set(shared) == OWN - redis
        assert {name: each[name] for name in shared} == shared
    differing = {name for name in own["staging"] if own["staging"][name] != own["production"][name]}
    assert differing == OWN - redis - {"STRIPE_ACCOUNT_ID"}, "one account, in two modes"
    assert own["staging"]["STRIPE_API_KEY"].startswith("sk_test_")
    assert own["production"]["STRIPE_API_KEY"].startswith("sk_live_")


def test_a_control_plane_takes_the_token_of_its_environment_alone(callers: dict[str, Caller], sandbox: Sandbox) -> None:
    assert callers["staging"]("GET", "/cp/admin/orgs").status_code == 200
    mixed = variables(sandbox, "--environment", "staging")
    mixed["CP_ADMIN_API_TOKEN"] = variables(sandbox, "--environment", "production")["CP_ADMIN_API_TOKEN"]
    assert Caller(mixed)("GET", "/cp/admin/orgs").status_code == 401


def test_an_org_of_the_same_name_lives_in_each_and_is_each_ones_own(
    sandbox: Sandbox, callers: dict[str, Caller]
) -> None:
    """The control planes provision with their own secrets: in their own Neon project, their own Fly app, their own database."""
    for caller in callers.values():
        assert caller("POST", "/cp/orgs", {"slug": "same", "name": "Same"}).status_code == 201
    for caller in callers.values():
        until(lambda caller=caller: caller.running("same"), what="the organization runs")  # type: ignore[misc]
    truth = sandbox.inspect()
    branches = {each["project"] for each in truth["neon"]["branches"] if each["name"] == "same"}
    assert branches == {each["neon_project"] for each in truth["environments"].values()}
    for app in ("molecule-tenant", "molecule-tenant-staging"):
        assert "tenant-same" in {machine["name"] for machine in truth["fly"]["apps"][app]["machines"]}
    light = truth["environments"]["staging"]["light"]
    for name, caller in callers.items() if not light else ():  # a light one has no Redis to keep it in
        assert caller("PUT", "/cp/orgs/same/data/where", {"value": name}).status_code == 200
    assert callers["staging"]("DELETE", "/cp/admin/tenants/same", {"confirm": "same"}).status_code == 204
    assert callers["staging"]("GET", "/cp/orgs/same").status_code == 404
    assert callers["production"].running("same")
    if not light:
        assert callers["production"]("GET", "/cp/orgs/same/data/where").json()["value"] == "production"
    assert callers["production"]("DELETE", "/cp/admin/tenants/same", {"confirm": "same"}).status_code == 204
    senders = {mail["from"] for mail in sandbox.inspect()["resend"]["emails"]}
    assert senders == {f"Molecule AI <noreply@{domain}>" for domain in ("staging.moleculesai.app", "moleculesai.app")}
    after = sandbox.inspect()
    assert after["breakages"] == []
    assert after["violations"] == []


def test_the_log_of_requests_says_whose_control_plane_was_asked(sandbox: Sandbox, callers: dict[str, Caller]) -> None:
    callers["staging"]("GET", "/health?whose=this")
    callers["production"]("GET", "/health?whose=this")
    said = [json.loads(line) for line in sandbox.command("requests").splitlines()]
    asked = [(each["target"], each["app"]) for each in said if each["about"] == "whose=this"]
    assert asked == [("/health", "molecule-cp-staging"), ("/health", "molecule-cp")]


def test_of_graphql_the_log_has_what_is_named_and_no_value(sandbox: Sandbox) -> None:
    sandbox.graphql(
        "mutation($input: SetSecretsInput!) { setSecrets(input: $input) { app { name } } }",
        {"input": {"appId": "molecule-cp-staging", "secrets": [{"key": "A", "value": "never-in-the-log"}]}},
    )
    log = sandbox.command("requests")
    assert json.loads(log.splitlines()[-1])["about"] == "molecule-cp-staging"
    assert "never-in-the-log" not in log


def test_a_sandbox_that_is_started_again_hosts_what_it_hosted(sandbox: Sandbox, callers: dict[str, Caller]) -> None:
    before = sandbox.inspect()["environments"]
    sandbox.stop()
    sandbox.start()
    assert sandbox.inspect()["environments"] == before
    for caller in callers.values():
        assert [each["slug"] for each in caller("GET", "/cp/admin/orgs").json()["orgs"]] == ["tenant-1"]


def test_a_tenant_is_made_ill_where_it_is_meant(sandbox: Sandbox) -> None:
    def ill() -> set[str]:
        apps = sandbox.inspect()["fly"]["apps"]
        return {
            app
            for app in ("molecule-tenant", "molecule-tenant-staging")
            for machine in apps[app]["machines"]
            if machine["name"] == "tenant-tenant-1" and not machine["healthy"]
        }

    with sandbox.setting(tenant__unhealthy="molecule-tenant-staging/tenant-1"):
        until(lambda: ill() == {"molecule-tenant-staging"}, what="staging's tenant is ill")
    with sandbox.setting(tenant__unhealthy="tenant-1"):
        until(lambda: ill() == {"molecule-tenant-staging", "molecule-tenant"}, what="both are ill")
    until(lambda: ill() == set(), what="both are well")


def test_a_control_plane_takes_its_time_to_boot_wherever_it_runs(sandbox: Sandbox) -> None:
    app = sandbox.inspect()["environments"]["staging"]["app"]
    (machine,) = sandbox.machines(f"/v1/apps/{app}")
    path = f"/v1/apps/{app}/machines/{machine['id']}"
    with sandbox.setting(boot_time=1.5):
        began = time.monotonic()
        updated = sandbox.fly("POST", path, {"config": machine["config"]}).json()
        until(lambda: sandbox.fly("GET", path).json()["checks"][0]["status"] == "passing", what="it is healthy")
        assert time.monotonic() - began > 1.5
    now = sandbox.fly("GET", path).json()
    assert (now["instance_id"], now["state"]) == (updated["instance_id"], "started")


def test_the_stacks_files_name_the_sandbox_and_hold_no_value_in_plaintext(sandbox: Sandbox, tmp_path: Path) -> None:
    there = yaml.safe_load((STACKS / "Pulumi.staging.yaml").read_text())
    there["config"]["molecule-secrets:healthTimeout"] = 99
    (tmp_path / "Pulumi.staging.yaml").write_text(yaml.safe_dump(there))
    sandbox.command("stacks", "--to", str(tmp_path))
    for name in ("staging", "production"):
        text = (tmp_path / f"Pulumi.{name}.yaml").read_text()
        own = variables(sandbox, "--environment", name)
        document = yaml.safe_load(text)
        config = document["config"]
        assert config["molecule-secrets:controlPlaneUrl"] == own["CONTROL_PLANE_URL"]
        for key, variable in (
            ("controlPlaneAdminToken", "CP_ADMIN_API_TOKEN"),
            ("controlPlaneSession", "CP_SESSION"),
            ("stripeApiKey", "STRIPE_API_KEY"),
            ("encryptionKeyBefore", "SECRETS_ENCRYPTION_KEY"),
        ):
            assert own[variable] not in text
            sealed = config[f"molecule-secrets:{key}"]["secure"]
            assert opened(document["encryptionsalt"], sealed) == own[variable]
    committed = yaml.safe_load((STACKS / "Pulumi.production.yaml").read_text())
    for name, before in (("staging", there), ("production", committed)):
        written_ = yaml.safe_load((tmp_path / f"Pulumi.{name}.yaml").read_text())["config"]
        kept = set(before["config"]) - {"molecule-secrets:controlPlaneUrl"}
        assert {key: written_[key] for key in kept} == {key: before["config"][key] for key in kept}


def opened(salt: str, sealed: str) -> str:
    """What the engine reads: an independent reading of its format, tried with the engine itself in `tests/engine/test_environments.py`."""
    _, salted, check = salt.split(":", 2)
    derivation = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=_bytes(salted), iterations=1_000_000)
    cipher = AESGCM(derivation.derive(PASSPHRASE.encode()))

    def read(text: str) -> str:
        version, nonce, content = text.split(":")
        assert version == "v1"
        return cipher.decrypt(_bytes(nonce), _bytes(content), None).decode()

    assert read(check) == "pulumi"
    return read(sealed)


def _bytes(text: str) -> bytes:
    import base64  # noqa: PLC0415

    return base64.b64decode(text, validate=True)


def test_a_file_with_encrypted_values_of_its_own_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.staging.yaml"
    before = yaml.safe_dump({"config": {"molecule-secrets:supplied": {"STRIPE_API_KEY": {"secure": "v1:AA:AA"}}}})
    file.write_text(before)
    done = run("stacks", "--dir", str(sandbox.directory), "--to", str(tmp_path), "--environment", "staging")
    assert done.returncode == 1
    assert "molecule-secrets:supplied" in done.stderr
    assert file.read_text() == before


def test_an_environment_that_is_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    for command in (["env"], ["stacks", "--to", str(tmp_path)]):
        done = run(*command, "--dir", str(sandbox.directory), "--environment", "qa")
        assert (done.returncode, done.stderr) == (1, "There is no environment qa. There are: staging, production.\n")


def test_a_failure_is_played_where_it_is_meant(sandbox: Sandbox) -> None:
    """`APP/NAME`: only that app's control planes fail with a new value; here they do not start."""
    with sandbox.setting(control_plane__crash_on_new="molecule-cp/RESEND_API_KEY"):
        for app in ("molecule-cp", "molecule-cp-staging"):
            path = f"/v1/apps/{app}"
            values = {"values": {"RESEND_API_KEY": "re_another"}}
            assert sandbox.fly("POST", f"{path}/secrets", values).status_code == 200
            (machine,) = sandbox.fly("GET", f"{path}/machines").json()
            body = {"config": machine["config"]}
            assert sandbox.fly("POST", f"{path}/machines/{machine['id']}", body).status_code == 200
        until(lambda: healthy(sandbox, "molecule-cp-staging"), what="staging is well")
        until(lambda: not healthy(sandbox, "molecule-cp"), what="production is not")


def healthy(sandbox: Sandbox, app: str) -> bool:
    (machine,) = sandbox.inspect()["fly"]["apps"][app]["machines"]
    return bool(machine["healthy"]) and machine["env_sha256"]["RESEND_API_KEY"] == sha256("re_another")


# Who is hosted


def written(folder: Path, **stacks: dict[str, Any]) -> Path:
    """A program's folder of stacks, with the real project file above it."""
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    found = folder / "stacks"
    found.mkdir()
    for name, values in stacks.items():
        config = {f"molecule-secrets:{key}": value for key, value in values.items()}
        (found / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": config}))
    return found


def test_nobody_named_is_the_sandbox_that_always_was() -> None:
    assert environments.named([], STACKS) == [DEFAULT]
    assert environments.named(["sandbox"], STACKS) == [DEFAULT]


def test_the_first_named_is_what_is_not_named_otherwise() -> None:
    first, second = environments.named(["production", "staging"], STACKS, light=True)
    assert (first.name, first.primary, second.primary) == ("production", True, False)
    assert first.light
    assert second.light


def test_a_name_without_a_file_stands_for_names_of_its_own(tmp_path: Path) -> None:
    hundred = environments.named([f"unit-{number}" for number in range(100)], written(tmp_path))
    for member in ("app", "tenant_app", "repository", "neon_project", "resend_domain", "upstash_database"):
        assert len({getattr(each, member) for each in hundred}) == 100, member


def test_what_a_file_leaves_to_the_defaults_is_theirs(tmp_path: Path) -> None:
    (found,) = environments.named(["qa"], written(tmp_path, qa={"tenantApp": "tenants-of-qa"}))
    assert (found.app, found.tenant_app) == ("molecule-cp", "tenants-of-qa")
    assert found.neon_project == environments.by_convention("qa").neon_project


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("app", "molecule-cp-b", "Fly app"),
        ("tenantApp", "molecule-tenant-b", "Fly app"),
        ("repository", "molecule-monorepo-b", "repository"),
        ("upstashDatabase", environments.by_convention("b").upstash_database, "Upstash database"),
        ("neonProject", environments.by_convention("b").neon_project, "Neon project"),
    ],
)
def test_two_that_have_the_same_are_refused(tmp_path: Path, what: str, value: str, said: str) -> None:
    own = {
        "app": "molecule-cp-a",
        "tenantApp": "molecule-tenant-a",
        "repository": "molecule-monorepo-a",
    }
    with pytest.raises(SandboxError, match=f"environments a and b have the same {said}"):
        environments.named(["a", "b"], written(tmp_path, a={**own, what: value}))


def test_one_account_in_one_mode_is_one_environments() -> None:
    one, two = (
        replace(environments.by_convention(name), stripe_account="acct_1", stripe_mode="test") for name in ("a", "b")
    )
    environments.check_apart([one, replace(two, stripe_mode="live")])
    with pytest.raises(SandboxError, match="Stripe account"):
        environments.check_apart([one, two])


@pytest.mark.parametrize("name", ["", "Staging", "-a", "a-", "a b", "a/b", "a" * 33])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(SandboxError, match="lower-case letters"):
        environments.named([name], STACKS)


def test_a_name_twice() -> None:
    with pytest.raises(SandboxError, match="staging is named twice"):
        environments.named(["staging", "production", "staging"], STACKS)


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    stacks = written(tmp_path)
    (stacks / "Pulumi.qa.yaml").write_text("config: [")
    with pytest.raises(SandboxError, match=r"Pulumi\.qa\.yaml cannot be read"):
        environments.named(["qa"], stacks)


def test_a_start_that_is_refused_leaves_nothing_running(tmp_path: Path) -> None:
    done = run("start", "--dir", str(tmp_path / "sandbox"), "--detach", "--environment", "sandbox,production")
    assert done.returncode == 1
    assert "sandbox and production have the same Fly app, molecule-cp" in done.stderr
    assert not (tmp_path / "sandbox" / "sandbox.pid").exists()
