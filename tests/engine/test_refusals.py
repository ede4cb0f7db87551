"""Bad input gets a clear error and changes nothing, in a preview and in an update."""

import contextlib
from collections.abc import Callable, Mapping

import httpx
import pytest

from sandbox import github
from sandbox.github import store, tokens
from sandbox.world import World
from tests.engine.stage import APP, SECRET, Stage
from tools.workspace import STACK, Result

Break = Callable[[Stage], dict[str, str]]


def _without(variable: str) -> Break:
    return lambda _stage: {variable: ""}


def _with(variable: str, value: str) -> Break:
    return lambda _stage: {variable: value}


def _configured(key: str, value: str) -> Break:
    def configure(stage: Stage) -> dict[str, str]:
        stage.configure(key, value, path="." in key)
        return {}

    return configure


def _token_that_may(permissions: Mapping[str, str]) -> Break:
    """A fine-grained token of the operator."""

    def issue(stage: Stage) -> dict[str, str]:
        with contextlib.closing(World(stage.sandbox_directory, create=False)) as world:
            operator = store.account(world.database, login=github.OPERATOR)
            assert operator is not None
            return {
                "GITHUB_TOKEN": tokens.issue_fine_grained(world, user=operator, name="few", permissions=permissions)[1]
            }

    return issue


def _app_without_machines(stage: Stage) -> dict[str, str]:
    # The tenants' app has none before the first org.
    stage.configure("app", "molecule-tenant")
    return {}


def _all(*breaks: Break) -> Break:
    """Several at once: what can be refused together is, so that an operator mends it in one go."""

    def break_all(stage: Stage) -> dict[str, str]:
        environment: dict[str, str] = {}
        for break_it in breaks:
            environment |= break_it(stage)
        return environment

    return break_all


CASES: dict[str, tuple[Break, list[str]]] = {
    "no operator tokens": (
        _all(_without("FLY_ACCESS_TOKEN"), _without("GITHUB_TOKEN"), _without("CP_ADMIN_API_TOKEN")),
        ["There is no operator token", "FLY_ACCESS_TOKEN", "flyAccessToken", "GITHUB_TOKEN", "CP_ADMIN_API_TOKEN"],
    ),
    "refused operator tokens": (
        _all(
            _with("FLY_ACCESS_TOKEN", "fo1_mistyped_operator_token"),
            _with("GITHUB_TOKEN", "ghp_mistyped_operator_token"),
            _with("CP_ADMIN_API_TOKEN", "mistyped-admin-token"),
        ),
        [
            "Fly refused the operator's credential",
            "GitHub refused the operator's credential",
            "Bad credentials",
            "control plane refused the operator's credential",
        ],
    ),
    "unknown app and repository": (
        _all(_configured("app", "molecule-pc"), _configured("repository", "molecule-monorep")),
        ["Fly has no app molecule-pc", "GitHub has no repository Molecule-AI/molecule-monorep"],
    ),
    "app without machines, unknown owner": (
        _all(_app_without_machines, _configured("github:owner", "Molecule-IA")),
        ["molecule-tenant has no machines", "GitHub has no repository Molecule-IA/"],
    ),
    "counters": (
        _all(
            _configured(f"rotations.{SECRET}", "0"),
            _configured("rotations.NEON_API_KEY", "-1"),
            _configured("rotations.RESEND_API_KEY", "1.5"),
            _configured("rotations.DATABASE_URL", "two"),
            _configured("rotations.FLY_API_TOKN", "1"),
            _configured("rotations.GITHUB_TOKEN", "1"),
        ),
        [
            f"{SECRET} is 0; it has to be a positive whole number",
            "NEON_API_KEY is -1; it has to be a positive whole number",
            "RESEND_API_KEY is '1.5'; it has to be a positive whole number",
            "DATABASE_URL is 'two'; it has to be a positive whole number",
            f"FLY_API_TOKN, which is no secret of this program. Did you mean {SECRET}?",
            "GITHUB_TOKEN cannot be rotated here",
            "built into GitHub Actions",
        ],
    ),
    "unmanaged id that is not there, unknown workflow": (
        _all(_configured(f"revokeUnmanaged.{SECRET}[0]", "no-such-id"), _configured("workflow", "publish.yml")),
        ["no-such-id", "the provider does not list", "has no workflow publish.yml"],
    ),
    "unmanaged id of another secret": (
        _configured("revokeUnmanaged.NEON_API_KEY[0]", "id"),
        ["NEON_API_KEY", "`rotations` does not list"],
    ),
    "tokens that may too little": (
        _all(
            lambda stage: {"FLY_ACCESS_TOKEN": stage.fly_secret(SECRET)},
            _token_that_may({"metadata": "read", "contents": "write", "actions": "write"}),
        ),
        [
            f"Fly has no app {APP} that the operator token can see",
            "use a token of its organization",
            "may not see the Actions secrets of Molecule-AI/molecule-monorepo",
            "Secrets: write",
        ],
    ),
    "coupled secret without its repository": (
        _configured("repository", ""),
        [f"{SECRET} stands at Fly and at GitHub, and has to change in both", "The config names no repository"],
    ),
    "reason of an unknown secret": (_configured("reasons.FLY_API_TOKN", "leaked"), [f"Did you mean {SECRET}?"]),
    "settings": (
        _all(
            _configured("deployTokenProfile", "root"),
            _configured("maxUnavailable", "100%"),
            _configured(f"reasons.{SECRET}", "lost"),
            _configured(f"maxAgeDays.{SECRET}", "90d"),
        ),
        [
            "deployTokenProfile",
            "deploy_organization",
            "maxUnavailable",
            "`reasons`",
            "`routine` or `leaked`",
            "`maxAgeDays`",
            "number of days",
        ],
    ),
}


def test_every_bad_input_is_refused_in_preview_and_update_and_changes_nothing(stage: Stage) -> None:
    """One sandbox for all: the point is that it stays as it is."""
    good = stage.stack_file.read_text()
    writes, holdings = stage.writes(), stage.holdings()
    for case, (break_it, said) in CASES.items():
        environment = break_it(stage)
        results: list[Result] = [
            stage.pulumi("preview", "--stack", STACK, environment=environment),
            stage.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, environment=environment),
        ]
        for result in results:
            assert result.status != 0, (case, result.output)
            for words in said:
                assert words in " ".join(result.output.split()), (case, words, result.output)
            assert "nothing was changed" in result.output, (case, result.output)
            assert "Traceback" not in result.output, (case, result.output)
            assert "mistyped" not in result.output.replace("FLY_API_TOKN", ""), (case, result.output)
        assert stage.writes() == writes, case
        stage.stack_file.write_text(good)
    assert stage.holdings() == holdings
    assert stage.minted() == 0


def test_counter_below_the_verified_generation_is_refused(deployed: Stage) -> None:
    deployed.set_generation(SECRET, 3)
    deployed.deploys()
    writes = deployed.writes()
    deployed.set_generation(SECRET, 2)

    for result in (deployed.preview(), deployed.up()):
        assert result.status != 0
        assert "lower than generation 3" in result.output
        assert "Traceback" not in result.output

    assert deployed.writes() == writes
    deployed.set_generation(SECRET, 3)
    deployed.assert_no_change()


def test_operator_credentials_from_encrypted_config(stage: Stage) -> None:
    environment = {"FLY_ACCESS_TOKEN": "", "GITHUB_TOKEN": "", "GH_TOKEN": "", "CP_ADMIN_API_TOKEN": ""}
    for key, variable in (
        ("flyAccessToken", "FLY_ACCESS_TOKEN"),
        ("github:token", "GITHUB_TOKEN"),
        ("controlPlaneAdminToken", "CP_ADMIN_API_TOKEN"),
    ):
        stage.must("config", "set", "--secret", "--stack", STACK, key, stage.environment[variable])

    result = stage.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, environment=environment)

    assert result.status == 0, result.output
    stage.assert_settled(1)
    unchanged = stage.pulumi("preview", "--expect-no-changes", "--stack", STACK, environment=environment)
    assert unchanged.status == 0, unchanged.output
    assert "Nothing to rotate" in unchanged.output, unchanged.output
    state = "".join(path.read_text(errors="replace") for path in stage.state_directory.rglob("*") if path.is_file())
    for variable in ("FLY_ACCESS_TOKEN", "GITHUB_TOKEN", "CP_ADMIN_API_TOKEN"):
        assert stage.environment[variable] not in state


@pytest.mark.parametrize("broken", ["fly", "github", "control-plane"])
def test_system_that_is_down_is_a_refusal(deployed: Stage, broken: str) -> None:
    deployed.set_generation(SECRET, 2)
    writes = deployed.writes()
    deployed.sandbox(
        "fault", "--provider", broken, "--match", "*", "^/(v1|graphql|repos|cp)", "--status", "503", "--count", "1000"
    )

    result = deployed.preview()

    assert result.status != 0, result.output
    assert "503" in result.output
    assert "Traceback" not in result.output
    deployed.sandbox("fault", "--clear")
    assert deployed.writes() == writes
    httpx.get(deployed.environment["CONTROL_PLANE_URL"] + "/health").raise_for_status()
