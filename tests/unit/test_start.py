"""Does whatever starts import only what it needs? Seconds of every preview, and of every check, go there.

Each start is a process of its own, as it is in life: in this one everything is imported already.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = sorted(
    path.stem
    for path in (ROOT / "components" / "verification").glob("*.py")
    if "check.run(" in path.read_text(encoding="utf-8")
)
SERVERS = {"psycopg", "redis", "cryptography"}  # imported when a server is asked, or a row decrypted
SELDOM = {"email.policy", "statistics", "importlib.metadata", "zipfile"}
ENGINE = {"pulumi", "pulumi_command", "pulumi_github", "pulumi_random", "grpc", "google", "yaml", "dill"}
HTTP = {"httpx", "httpcore", "h11", "tenacity", "components.http"}


def imported_by(*modules: str) -> set[str]:
    """The names of all that a process imports, itself included, once it has imported these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout
    return set(printed.split())


def test_there_are_checks() -> None:
    assert {"fly_api_token", "database_url_probe"} <= {*CHECKS}
    assert len(CHECKS) >= 18


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_imports_neither_the_engine_nor_what_other_checks_need(name: str) -> None:
    imported = imported_by(f"components.verification.{name}")
    assert not imported & (ENGINE | SERVERS | SELDOM)
    assert not imported & {"components.issuers", "components.settings", "components.impact"}


@pytest.mark.parametrize("name", ["database_url_probe", "tenant_redis_url_probe"])
def test_a_probe_that_speaks_to_a_server_alone_imports_no_http_client(name: str) -> None:
    assert not imported_by(f"components.verification.{name}") & (HTTP | {"ssl"})


def test_the_program_reads_before_it_imports_what_its_graph_is_made_of() -> None:
    imported = imported_by("components.secret_map", "components.rotation")
    assert not imported & {"pulumi_github", "pulumi_command", "pulumi_random"}
    assert not imported & {"components.graph", "components.provider", "components.turning"}
    assert not imported & (SERVERS | {"email.policy", "statistics"})


def test_the_plugin_answers_its_first_calls_without_what_mints() -> None:
    imported = imported_by("components.provider")
    assert not imported & (HTTP | SERVERS)
    assert not imported & {"components.turning", "components.issuers", "components.secret", "components.settings"}


def test_a_client_is_made_by_the_first_call_alone() -> None:
    code = "import ssl, components.rotation, components.http as h; print(h._client.cache_info().currsize)"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout
    assert printed.strip() == "0"
