"""Does the state keep no more of a provider than its name, and does a deletion touch nothing?"""

import base64
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from pulumi.dynamic import Config, ConfigureRequest, ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.output import Unknown

from components import turning
from components.dynamic_provider import Provider, asked, integer, same
from components.errors import RefusedError
from components.fly.provider import AppSecretsProvider
from components.http import ApiError
from components.issuers import Kind
from components.provider import CredentialProvider, DecommissionProvider, RevocationProvider
from tools.workspace import CHECKOUT

from .fake_issuer import FakeIssuer
from .wire import Wire

UNKNOWN = Unknown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", [CredentialProvider, AppSecretsProvider, RevocationProvider, DecommissionProvider])
def test_what_the_state_keeps_of_a_provider_is_its_name_and_no_more(kind: type[ResourceProvider]) -> None:
    kept = base64.b64decode(serialize_provider(kind()))
    assert kind.__module__.encode() in kept
    assert kind.__name__.encode() in kept
    assert len(kept) < 120
    assert vars(kind()) == {}
    assert serialize_provider(kind()) == serialize_provider(kind())
    assert kind().serialize_as_secret_always is False


@pytest.mark.parametrize("kind", [CredentialProvider, AppSecretsProvider, RevocationProvider, DecommissionProvider])
def test_a_deletion_touches_nothing(kind: type[ResourceProvider], wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = FakeIssuer()
    monkeypatch.setattr(turning, "ISSUERS", {"fake": Kind(build=lambda _settings, _context: issuer, operator=None)})
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    family = {"app": "cp", "stack": "prod", "secret": "TOKEN"}
    properties = {"app": "cp", "names": ["TOKEN"], "TOKEN": "value", "family": family, "issuer": {"kind": "fake"}}
    kind().delete("id", properties)
    assert wire.requests == []
    assert issuer.calls == []


@pytest.mark.parametrize("kind", [CredentialProvider, AppSecretsProvider, RevocationProvider, DecommissionProvider])
def test_a_refresh_changes_nothing(kind: type[ResourceProvider], wire: Wire) -> None:
    properties = {"app": "cp", "names": ["TOKEN"]}
    read = kind().read("id", properties)
    assert (read.id, read.outs) == ("id", properties)
    assert wire.requests == []


def test_the_config_is_that_of_the_stack() -> None:
    it = Provider()
    assert it.config("flyAccessToken") is None
    it.configure(ConfigureRequest(config=Config({"project:flyAccessToken": "x", "github:token": "y"}, "project")))
    assert it.config("flyAccessToken") == "x"
    assert it.config("github:token") == "y"
    assert it.config("missing") is None


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (1.0, 1), ("1", 1), ("1.0", 1), ("12", 12)])
def test_numbers_arrive_as_floats(value: object, expected: int) -> None:
    assert integer(value) == expected


@pytest.mark.parametrize(
    ("old", "new", "unchanged"),
    [
        (1.0, 1, True),
        ("a", "a", True),
        ("a", "b", False),
        (None, "a", False),
        ("a", UNKNOWN, False),
        (UNKNOWN, UNKNOWN, False),
    ],
)
def test_what_a_preview_does_not_know_counts_as_changed(old: object, new: object, unchanged: bool) -> None:  # noqa: FBT001 - a column
    assert same(old, new) is unchanged


# What the engine starts, less the server: `python -m pulumi.dynamic` is told by the name of its module.
PLUGIN = """
import sys, time, types
sys.modules["__main__"].__spec__ = types.SimpleNamespace(name=sys.argv[1])
from tools.workspace import CHECKOUT
from components.dynamic_provider import Provider
from pulumi.dynamic import ConfigureRequest
Provider().configure(ConfigureRequest(config=None))
print("ready", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize(("module", "ends"), [("pulumi.dynamic.__main__", True), ("pytest.__main__", False)])
def test_the_plugin_ends_when_nobody_reads_what_it_writes_and_nothing_else_does(module: str, ends: bool) -> None:  # noqa: FBT001
    process = subprocess.Popen(
        [sys.executable, "-c", PLUGIN, module], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        assert process.poll() is None, "it lives as long as its engine"
        process.stderr.close()  # as the death of the engine does
        if ends:
            assert process.wait(timeout=20) == 1
        else:
            time.sleep(0.5)
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_refresh_cannot_ask_is_no_change() -> None:
    """It has the operator's token of the last update."""

    def fails(error: Exception) -> Callable[[], bool]:
        def ask() -> bool:
            raise error

        return ask

    assert asked(lambda: True)
    assert not asked(lambda: False)
    assert not asked(fails(ApiError("Fly", "list", status=401, reason="revoked")))
    assert not asked(fails(RefusedError("There is no operator token.", next_step="export one.")))
    for status in (403, 500, None):
        with pytest.raises(ApiError):
            asked(fails(ApiError("Fly", "list", status=status, reason="not now")))
