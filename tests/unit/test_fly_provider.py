"""Does the provider of an app's secrets write what changed, once, and see what somebody changed by hand?"""

from typing import Any

import pytest

from components.errors import OperatorError
from components.fly.provider import AppSecretsProvider
from components.fly.rollout import STAMP

from .fake_fly import FakeFly
from .test_dynamic_provider import UNKNOWN
from .wire import Clock, Wire

Properties = dict[str, Any]
NEW, OLD = "the-new-credential", "the-old-credential"


@pytest.fixture
def fly(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """An app of one machine that runs with the old value."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    fly = FakeFly(clock, 1, value=OLD)
    wire.serve = fly.serve
    return fly


def app(values: dict[str, Any], **outputs: Any) -> Properties:  # noqa: ANN401 - properties
    policy = {"max_unavailable": "0.33", "health_timeout": "30"}
    return {
        "app": "cp",
        "names": sorted(values),
        **values,
        "policy": policy,
        "version": None,
        "digests": None,
        **outputs,
    }


def deployed(values: dict[str, str], version: int = 1) -> Properties:
    return app(values, version=str(version), digests={name: f"digest of {name} {version}" for name in values})


@pytest.mark.parametrize("new", [NEW, UNKNOWN], ids=["known", "unknown in a preview"])
def test_another_value_is_a_change_that_needs_no_look_at_fly(new: object, wire: Wire) -> None:
    assert AppSecretsProvider().diff("cp", deployed({"TOKEN": OLD}), app({"TOKEN": new})).changes
    assert wire.requests == []


def test_the_same_value_is_no_change(fly: FakeFly) -> None:
    assert not AppSecretsProvider().diff("cp", deployed({"TOKEN": OLD}), app({"TOKEN": OLD})).changes
    assert fly.log == []


@pytest.mark.parametrize("how", ["overwritten", "gone"])
def test_a_value_that_somebody_changed_at_fly_is_a_change_and_is_written_again(fly: FakeFly, how: str) -> None:
    if how == "overwritten":
        fly.secrets["TOKEN"] = "by hand"
        fly.version = 2
    else:
        fly.secrets.pop("TOKEN")
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD}), app({"TOKEN": OLD})
    assert it.diff("cp", olds, news).changes
    outs = dict(it.update("cp", olds, news).outs or {})
    assert fly.secrets["TOKEN"] == OLD
    assert fly.booted == {"m1": OLD}
    assert outs["digests"] == {"TOKEN": f"digest of TOKEN {fly.version}"}


def test_a_delivery_writes_once_and_restarts_once_however_many_secrets_change(fly: FakeFly) -> None:
    created = AppSecretsProvider().create(app({"TOKEN": NEW, "OTHER": "other-value"}))
    assert created.id == "cp"
    assert fly.moves == ["write 2", f"boot m1 {NEW}"]
    assert fly.secrets == {"TOKEN": NEW, "OTHER": "other-value"}
    assert created.outs is not None
    assert created.outs["version"] == "2"
    assert created.outs["digests"] == {name: f"digest of {name} 2" for name in ("OTHER", "TOKEN")}


def test_only_what_changed_is_written(fly: FakeFly, wire: Wire) -> None:
    fly.secrets["OTHER"] = "other-value"
    olds = deployed({"TOKEN": OLD, "OTHER": "other-value"})
    outs = AppSecretsProvider().update("cp", olds, app({"TOKEN": NEW, "OTHER": "other-value"})).outs or {}
    writes = [each for each in wire.requests if each.method == "POST" and each.url.path.endswith("/secrets")]
    assert b"other-value" not in writes[0].content
    assert outs["digests"] == {"OTHER": "digest of OTHER 1", "TOKEN": "digest of TOKEN 2"}


def test_a_secret_that_is_no_longer_managed_stays_where_it_is(fly: FakeFly) -> None:
    fly.secrets["OTHER"] = "other-value"
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD, "OTHER": "other-value"}), app({"TOKEN": OLD})
    assert it.diff("cp", olds, news).changes
    outs = it.update("cp", olds, news).outs or {}
    assert fly.log == []
    assert fly.secrets == {"TOKEN": OLD, "OTHER": "other-value"}
    assert (outs["version"], outs["digests"], outs["names"]) == ("1", {"TOKEN": "digest of TOKEN 1"}, ["TOKEN"])


def test_a_new_secret_of_a_known_app_is_written(fly: FakeFly) -> None:
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD}), app({"TOKEN": OLD, "OTHER": "other-value"})
    assert it.diff("cp", olds, news).changes
    it.update("cp", olds, news)
    assert fly.secrets == {"TOKEN": OLD, "OTHER": "other-value"}
    assert fly.moves == ["write 2", f"boot m1 {OLD}"]


def test_a_failed_update_brings_back_the_value_of_the_state(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    with pytest.raises(OperatorError, match="as before"):
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}), app({"TOKEN": NEW}))
    assert fly.secrets == {"TOKEN": OLD}
    assert fly.booted == {"m1": OLD}


def test_a_failed_creation_has_nothing_to_bring_back(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    with pytest.raises(OperatorError, match="cannot be read back"):
        AppSecretsProvider().create(app({"TOKEN": NEW}))
    assert fly.secrets == {"TOKEN": NEW}


def test_the_version_of_the_state_tells_which_rollout_finished(fly: FakeFly) -> None:
    fly.machines["m1"]["config"]["metadata"][STAMP] = "3"
    fly.check("m1", "critical")
    fly.version = 3
    with pytest.raises(OperatorError, match="not healthy before"):
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}, 3), app({"TOKEN": NEW}))
    AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}, 2), app({"TOKEN": NEW}))
    assert fly.booted == {"m1": NEW}


def test_machines_that_an_unfinished_rollout_left_are_a_change_and_all_are_made_equal(
    clock: Clock, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    fly = FakeFly(clock, 2, value=OLD)
    wire.serve = fly.serve
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD}), app({"TOKEN": OLD})
    assert not it.diff("cp", olds, news).changes
    # Rolled back: the first machine has moved twice, the second never; Fly's digest of the restored value is the one before.
    fly.machines["m1"]["config"].setdefault("metadata", {})[STAMP] = "3"
    assert it.diff("cp", olds, news).changes
    outs = dict(it.update("cp", olds, news).outs or {})
    assert set(fly.booted) == {"m1", "m2"}
    assert outs["version"] == str(fly.version)
    assert not it.diff("cp", outs, news).changes
