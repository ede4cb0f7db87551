"""Does the provider of an app's secrets write what changed, once, and see what somebody changed by hand?"""

import sys
from types import ModuleType
from typing import Any

import pytest

from components.errors import OperatorError
from components.fly import provider
from components.fly.provider import AppSecretsProvider
from components.fly.rollout import STAMP
from components.settings import ROLLING, STAGED

from .fake_fly import FakeFly
from .test_dynamic_provider import UNKNOWN
from .wire import Clock, Wire, body_of, booted, reply

Properties = dict[str, Any]
NEW, OLD = "the-new-credential", "the-old-credential"


@pytest.fixture
def fly(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """An app of one machine that runs with the old value."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    fly = FakeFly(clock, 1, value=OLD)
    wire.serve = fly.serve
    return fly


def app(values: dict[str, Any], rollout: str = ROLLING, **outputs: Any) -> Properties:  # noqa: ANN401 - properties
    policy = {"max_unavailable": "0.33", "health_timeout": "30", "rollout": rollout}
    return {
        "app": "cp",
        "names": sorted(values),
        **values,
        "policy": policy,
        "version": None,
        "digests": None,
        "staged": None,
        **outputs,
    }


def deployed(values: dict[str, str], version: int = 1) -> Properties:
    digests = {name: f"digest of {name} {version}" for name in values}
    return app(values, version=str(version), digests=digests, staged={})


@pytest.mark.parametrize("new", [NEW, UNKNOWN], ids=["known", "unknown in a preview"])
def test_another_value_is_a_change_that_needs_no_look_at_fly(new: object, wire: Wire) -> None:
    assert AppSecretsProvider().diff("cp", deployed({"TOKEN": OLD}), app({"TOKEN": new})).changes
    assert wire.requests == []


def test_the_same_value_is_no_change(fly: FakeFly) -> None:
    assert not AppSecretsProvider().diff("cp", deployed({"TOKEN": OLD}), app({"TOKEN": OLD})).changes
    assert fly.log == []


@pytest.mark.parametrize(("act", "status"), [("diff", 500), ("update", 500), ("update", 401)])
def test_fly_that_does_not_say_what_it_holds_is_an_error_with_a_next_step(
    fly: FakeFly, wire: Wire, act: str, status: int
) -> None:
    assert fly.secrets
    wire.serve = lambda _request: reply(status, {"error": "no"})
    with pytest.raises(OperatorError, match="app cp holds") as failed:
        getattr(AppSecretsProvider(), act)("cp", deployed({"TOKEN": OLD}), app({"TOKEN": OLD}))
    assert "no secret of cp was written" in failed.value.state
    assert "`pulumi up` again" in failed.value.next_step
    assert failed.value.contact.startswith("Fly")


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


# Decommissioned


def leaving(values: dict[str, Any], *unset: str, rollout: str = ROLLING) -> Properties:
    return app(values, rollout, unset=list(unset))


def test_a_secret_that_is_decommissioned_is_unset_with_one_restart_and_only_once(fly: FakeFly) -> None:
    fly.keep({"TOKEN": OLD, "OTHER": "other-value"})
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD, "OTHER": "other-value"}, 2), leaving({"OTHER": "other-value"}, "TOKEN")
    assert it.diff("cp", olds, news).changes
    outs = dict(it.update("cp", olds, news).outs or {})
    assert fly.moves == ["write 3", "boot m1 None"]
    assert fly.secrets == {"OTHER": "other-value"}
    assert (outs["gone"], outs["names"], outs["digests"]) == (["TOKEN"], ["OTHER"], {"OTHER": "digest of OTHER 2"})
    assert not it.diff("cp", outs, news).changes
    fly.secrets["TOKEN"] = "by somebody else, later"
    assert not it.diff("cp", outs, news).changes, "it is not ours any more"
    forgotten = leaving({"OTHER": "other-value"})
    assert it.diff("cp", outs, forgotten).changes
    assert dict(it.update("cp", outs, forgotten).outs or {})["gone"] == []
    assert fly.moves == ["write 3", "boot m1 None"]


def test_a_secret_is_unset_together_with_the_write_of_others(fly: FakeFly, wire: Wire) -> None:
    olds, news = deployed({"TOKEN": OLD}), leaving({"OTHER": "other-value"}, "TOKEN")
    AppSecretsProvider().update("cp", olds, news)
    (write,) = [each for each in wire.requests if each.method == "POST" and each.url.path.endswith("/secrets")]
    assert body_of(write)["values"] == {"OTHER": "other-value", "TOKEN": None}
    assert fly.moves == ["write 2", "boot m1 None"]


def test_a_machine_that_cannot_live_without_a_secret_has_it_back(fly: FakeFly) -> None:
    fly.sick.add("m1 None")
    with pytest.raises(OperatorError, match="as before") as failed:
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}), leaving({}, "TOKEN"))
    assert "TOKEN (to be unset)" in failed.value.happened
    assert "take it off `decommission`" in failed.value.next_step
    assert fly.secrets == {"TOKEN": OLD}
    assert fly.booted == {"m1": OLD}


def test_a_value_that_nobody_knows_cannot_come_back_and_that_is_said(fly: FakeFly) -> None:
    fly.sick.add("m1 None")
    with pytest.raises(OperatorError, match="cannot be read back") as failed:
        AppSecretsProvider().create(leaving({}, "TOKEN"))
    assert "TOKEN of cp is already unset" in failed.value.state
    assert "set it again by hand" in failed.value.next_step
    assert fly.secrets == {}


def test_where_nothing_restarts_nothing_is_unset(fly: FakeFly) -> None:
    it = AppSecretsProvider()
    olds, news = deployed({"TOKEN": OLD}), leaving({}, "TOKEN", rollout=STAGED)
    outs = dict(it.update("cp", olds, news).outs or {})
    assert outs["gone"] == []
    assert fly.secrets == {"TOKEN": OLD}
    assert fly.log == []
    assert not it.diff("cp", outs, news).changes


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


# Staged


class Stack:
    """The state of one stack, as the engine keeps it: what a create or an update that succeeded returned."""

    def __init__(self, state: Properties | None = None) -> None:
        self.state = state
        self.provider = AppSecretsProvider()

    def changes(self, values: dict[str, Any], rollout: str = ROLLING) -> bool:
        """What a preview shows."""
        assert self.state is not None
        return bool(self.provider.diff("cp", self.state, app(values, rollout)).changes)

    def up(self, values: dict[str, Any], rollout: str = ROLLING) -> None:
        """An update."""
        news = app(values, rollout)
        if self.state is None:
            self.state = dict(self.provider.create(news).outs or {})
        elif self.changes(values, rollout):
            self.state = dict(self.provider.update("cp", self.state, news).outs or {})


@pytest.fixture
def pair(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """An app of two machines that run with the old value."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    fly = FakeFly(clock, 2, value=OLD)
    wire.serve = fly.serve
    return fly


@pytest.fixture
def staged(pair: FakeFly) -> Stack:
    """A stack that had delivered the old value, and has staged the new one."""
    stack = Stack(deployed({"TOKEN": OLD}))
    stack.up({"TOKEN": NEW}, STAGED)
    pair.log.clear()
    return stack


NEWER = "the-credential-after-that"


@pytest.mark.parametrize("first", [True, False], ids=["create", "update"])
def test_what_is_staged_is_written_once_and_restarts_nothing(pair: FakeFly, first: bool) -> None:  # noqa: FBT001 - a column
    stack = Stack(None if first else deployed({"TOKEN": OLD}))
    stack.up({"TOKEN": NEW}, STAGED)
    assert pair.log == ["write 2"], "not even a lease is taken"
    assert pair.secrets == {"TOKEN": NEW}
    assert pair.booted == {"m1": OLD, "m2": OLD}
    assert stack.state is not None
    assert stack.state["digests"] == {"TOKEN": "digest of TOKEN 2"}
    entry = {"before": "" if first else OLD, "at": pair.written["TOKEN"][1]}
    assert stack.state["staged"] == {"TOKEN": entry}, "what machines run with, and since when it is no more"
    assert stack.state["version"] == ("0" if first else "1"), "no rollout has finished with it"


@pytest.mark.parametrize("restarted", [(), ("m1",)], ids=["none", "some"])
def test_what_is_staged_is_no_change_until_all_machines_have_it(
    pair: FakeFly, staged: Stack, restarted: tuple[str, ...]
) -> None:
    if restarted:
        pair.restart(*restarted)
    pair.log.clear()
    before = staged.state
    assert not staged.changes({"TOKEN": NEW}, STAGED)
    staged.up({"TOKEN": NEW}, STAGED)
    assert pair.log == []
    assert staged.state is before


def test_back_to_rolling_restarts_every_machine_once(pair: FakeFly, staged: Stack) -> None:
    assert staged.changes({"TOKEN": NEW})
    staged.up({"TOKEN": NEW})
    assert pair.moves == ["write 3", f"boot m1 {NEW}", f"boot m2 {NEW}"]
    assert staged.state is not None
    assert (staged.state["staged"], staged.state["version"]) == ({}, "3")
    assert not staged.changes({"TOKEN": NEW})


def takes_note(pair: FakeFly, stack: Stack, values: dict[str, Any], rollout: str) -> None:
    """One update that writes nothing, restarts nothing and leaves the rest of the state as it is; then no change."""
    before = stack.state
    assert before is not None
    pair.log.clear()
    assert stack.changes(values, rollout)
    stack.up(values, rollout)
    assert pair.log == []
    assert stack.state is not None
    assert stack.state["staged"] != before["staged"]
    policy = app(values, rollout)["policy"]
    assert stack.state == {**before, "policy": policy, "staged": stack.state["staged"]}
    assert not stack.changes(values, rollout)


@pytest.mark.parametrize("rollout", [STAGED, ROLLING])
def test_machines_that_somebody_else_restarted_count_as_moved(pair: FakeFly, staged: Stack, rollout: str) -> None:
    pair.restart()
    takes_note(pair, staged, {"TOKEN": NEW}, rollout)
    assert staged.state is not None
    assert staged.state["staged"] == {}
    assert not staged.changes({"TOKEN": NEW}, STAGED if rollout == ROLLING else ROLLING)


def one_of_two(pair: FakeFly) -> tuple[Stack, dict[str, Any]]:
    """Both machines run with the one secret that is staged, m2 alone with the other, too."""
    stack = Stack()
    stack.up({"TOKEN": OLD, "OTHER": "other-old"})
    stack.up({"TOKEN": NEW, "OTHER": "other-old"}, STAGED)
    pair.restart("m1")
    values = {"TOKEN": NEW, "OTHER": "other-new"}
    stack.up(values, STAGED)
    pair.restart("m2")
    assert stack.state is not None
    assert set(stack.state["staged"]) == {"TOKEN", "OTHER"}
    return stack, values


def test_each_secret_that_is_staged_is_noted_by_itself(pair: FakeFly) -> None:
    stack, values = one_of_two(pair)
    assert stack.state is not None
    other = stack.state["staged"]["OTHER"]
    takes_note(pair, stack, values, STAGED)
    assert stack.state["staged"] == {"OTHER": other}
    pair.restart("m1")
    takes_note(pair, stack, values, STAGED)
    assert stack.state["staged"] == {}


def test_only_what_a_machine_does_not_run_with_is_rolled_out(pair: FakeFly, wire: Wire) -> None:
    stack, values = one_of_two(pair)
    wire.requests.clear()
    stack.up(values)
    (write,) = (each for each in wire.requests if each.method == "POST" and each.url.path.endswith("/secrets"))
    assert b"other-new" in write.content
    assert NEW.encode() not in write.content
    assert stack.state is not None
    assert stack.state["staged"] == {}
    assert not stack.changes(values)


def test_staging_another_secret_takes_note_of_the_first_on_the_way(pair: FakeFly) -> None:
    stack = Stack()
    stack.up({"TOKEN": OLD, "OTHER": "other-old"})
    stack.up({"TOKEN": NEW, "OTHER": "other-old"}, STAGED)
    pair.restart()
    stack.up({"TOKEN": NEW, "OTHER": "other-new"}, STAGED)
    assert stack.state is not None
    assert set(stack.state["staged"]) == {"OTHER"}


def test_a_restart_that_is_no_update_does_not_count(pair: FakeFly, staged: Stack) -> None:
    # `fly machine restart`, or a crash: the machine boots with the secrets that it had.
    for machine in pair.machines.values():
        machine["events"] = [*booted(600, "start"), *booted(599, "exit"), *machine["events"]]
        machine["updated_at"] = "2026-11-23T12:10:00Z"
    assert not staged.changes({"TOKEN": NEW}, STAGED)
    assert staged.changes({"TOKEN": NEW})
    staged.up({"TOKEN": NEW})
    assert pair.booted == {"m1": NEW, "m2": NEW}


def test_machines_that_do_not_say_when_they_were_updated_are_restarted(pair: FakeFly, staged: Stack) -> None:
    pair.restart()
    pair.machines["m2"]["events"] = []
    assert not staged.changes({"TOKEN": NEW}, STAGED)
    assert staged.changes({"TOKEN": NEW})


def test_one_machine_that_was_not_restarted_is_enough_for_a_rollout(pair: FakeFly, staged: Stack) -> None:
    pair.restart("m1")
    assert staged.changes({"TOKEN": NEW})
    staged.up({"TOKEN": NEW})
    assert pair.booted == {"m1": NEW, "m2": NEW}
    assert not staged.changes({"TOKEN": NEW})


def fails(stack: Stack, values: dict[str, Any], what: str = "as before") -> OperatorError:
    """An update that ends in an error, which leaves the state as it was."""
    with pytest.raises(OperatorError, match=what) as failed:
        stack.up(values)
    return failed.value


def test_a_failed_rollout_brings_back_what_machines_run_with_and_not_what_is_staged(
    pair: FakeFly, staged: Stack
) -> None:
    pair.sick.add(NEW)
    fails(staged, {"TOKEN": NEW})
    assert pair.secrets == {"TOKEN": OLD}
    assert pair.booted == {"m1": OLD, "m2": OLD}


@pytest.mark.parametrize("machines", [1, 2])
def test_a_rollout_that_fails_twice_brings_back_the_same_value_twice(
    pair: FakeFly, staged: Stack, machines: int
) -> None:
    if machines == 1:
        del pair.machines["m2"], pair.booted["m2"]
    pair.sick.add(NEW)
    fails(staged, {"TOKEN": NEW})
    fails(staged, {"TOKEN": NEW})
    assert pair.secrets == {"TOKEN": OLD}
    assert set(pair.booted.values()) == {OLD}


def test_a_value_that_is_staged_on_top_of_another_does_not_hide_what_machines_run_with(
    pair: FakeFly, staged: Stack
) -> None:
    staged.up({"TOKEN": NEWER}, STAGED)
    assert pair.moves == ["write 3"]
    assert staged.state is not None
    assert staged.state["staged"] == {"TOKEN": {"before": OLD, "at": pair.written["TOKEN"][1]}}
    pair.sick.add(NEWER)
    fails(staged, {"TOKEN": NEWER})
    assert pair.booted == {"m1": OLD, "m2": OLD}


def test_once_machines_run_with_what_was_staged_that_is_what_comes_back(pair: FakeFly, staged: Stack) -> None:
    pair.restart()
    staged.up({"TOKEN": NEWER}, STAGED)
    assert staged.state is not None
    assert staged.state["staged"] == {"TOKEN": {"before": NEW, "at": pair.written["TOKEN"][1]}}
    pair.sick.add(NEWER)
    fails(staged, {"TOKEN": NEWER})
    assert pair.booted == {"m1": NEW, "m2": NEW}


def test_a_staged_value_that_machines_run_with_comes_back_after_every_failed_rollout_of_the_next(
    pair: FakeFly, staged: Stack
) -> None:
    pair.restart()  # verified now, and the old one revoked: nothing may bring it back
    pair.sick.add(NEWER)
    fails(staged, {"TOKEN": NEWER})
    fails(staged, {"TOKEN": NEWER})
    assert pair.secrets == {"TOKEN": NEW}
    assert pair.booted == {"m1": NEW, "m2": NEW}


def test_a_staged_value_that_machines_run_with_comes_back_although_somebody_overwrote_it(
    pair: FakeFly, staged: Stack
) -> None:
    pair.restart()
    pair.keep({"TOKEN": "by hand"})
    pair.sick.add(NEWER)
    fails(staged, {"TOKEN": NEWER})
    assert set(pair.booted.values()) == {NEW}


def test_a_first_value_that_is_staged_has_nothing_to_go_back_to(pair: FakeFly) -> None:
    stack = Stack()
    stack.up({"TOKEN": NEW}, STAGED)
    pair.sick.add(NEW)
    fails(stack, {"TOKEN": NEW}, "cannot be read back")
    assert pair.secrets == {"TOKEN": NEW}, "not unset: the machines may need it"


def test_only_what_changed_is_staged_and_only_that_is_rolled_out(pair: FakeFly, wire: Wire) -> None:
    stack = Stack()
    stack.up({"TOKEN": OLD, "OTHER": "other-value"})
    stack.up({"TOKEN": NEW, "OTHER": "other-value"}, STAGED)
    stack.up({"TOKEN": NEW, "OTHER": "other-value"})
    writes = [each for each in wire.requests if each.method == "POST" and each.url.path.endswith("/secrets")]
    assert [b"other-value" in each.content for each in writes] == [True, False, False]
    assert pair.moves[-3:] == ["write 4", f"boot m1 {NEW}", f"boot m2 {NEW}"]
    assert not stack.changes({"TOKEN": NEW, "OTHER": "other-value"})


def test_the_second_secret_that_is_staged_does_not_hide_what_machines_run_with_of_the_first(pair: FakeFly) -> None:
    stack = Stack()
    stack.up({"TOKEN": OLD, "OTHER": "other-old"})
    stack.up({"TOKEN": NEW, "OTHER": "other-old"}, STAGED)
    stack.up({"TOKEN": NEW, "OTHER": "other-new"}, STAGED)
    pair.sick.add(NEW)
    fails(stack, {"TOKEN": NEW, "OTHER": "other-new"})
    assert pair.secrets == {"TOKEN": OLD, "OTHER": "other-old"}


@pytest.mark.parametrize("rollout", [STAGED, ROLLING])
@pytest.mark.parametrize("how", ["overwritten", "gone"])
def test_a_staged_value_that_somebody_changed_at_fly_is_written_again(
    pair: FakeFly, staged: Stack, rollout: str, how: str
) -> None:
    pair.keep({"TOKEN": "by hand" if how == "overwritten" else None})
    assert staged.changes({"TOKEN": NEW}, rollout)
    staged.up({"TOKEN": NEW}, rollout)
    assert pair.secrets == {"TOKEN": NEW}
    assert set(pair.booted.values()) == {OLD if rollout == STAGED else NEW}
    assert not staged.changes({"TOKEN": NEW}, rollout)


def test_a_staged_secret_that_is_no_longer_managed_is_forgotten(pair: FakeFly) -> None:
    stack = Stack()
    stack.up({"TOKEN": OLD, "OTHER": "other-value"})
    stack.up({"TOKEN": NEW, "OTHER": "other-value"}, STAGED)
    stack.up({"OTHER": "other-value"}, STAGED)
    assert stack.state is not None
    assert stack.state["staged"] == {}
    pair.log.clear()
    assert not stack.changes({"OTHER": "other-value"})
    assert pair.log == []


@pytest.mark.parametrize("stamp", ["3", "7"])
def test_machines_that_an_unfinished_rollout_left_are_staged_once_and_not_for_ever(pair: FakeFly, stamp: str) -> None:
    # `pulumi config set rollout staged` after a rollout that was rolled back, or a stack that has lost its state.
    for machine in pair.machines.values():
        machine["config"]["metadata"][STAMP] = stamp
    stack = Stack(deployed({"TOKEN": OLD}))
    stack.up({"TOKEN": NEW}, STAGED)
    assert not stack.changes({"TOKEN": NEW}, STAGED), "written again, it would wait for the next restart, and so on"
    pair.restart()
    takes_note(pair, stack, {"TOKEN": NEW}, STAGED)
    assert stack.changes({"TOKEN": NEW}), "a rollout makes them equal"
    stack.up({"TOKEN": NEW})
    assert not stack.changes({"TOKEN": NEW})


def test_the_stamps_of_an_unfinished_rollout_do_not_stage_what_is_delivered(pair: FakeFly) -> None:
    stack = Stack(deployed({"TOKEN": OLD}))
    pair.machines["m1"]["config"]["metadata"][STAMP] = "3"
    assert not stack.changes({"TOKEN": OLD}, STAGED)
    assert stack.changes({"TOKEN": OLD})


def test_a_write_that_fails_stages_nothing(pair: FakeFly) -> None:
    stack = Stack(deployed({"TOKEN": OLD}))
    pair.faults.append(lambda kind, _path, _number: reply(403, {"error": "no"}) if kind == "POST /secrets" else None)
    with pytest.raises(OperatorError) as failed:
        stack.up({"TOKEN": NEW}, STAGED)
    assert "no secret was written; no machine was restarted" in failed.value.state
    assert failed.value.contact.startswith("Fly:")
    assert pair.log == []


# Rows that are encrypted with a secret, and values that are dead


class Reencryption:
    """What stands in for the module that another part of the program has."""

    def __init__(self, fly: FakeFly) -> None:
        self.fly = fly
        self.built: list[dict[str, Any]] = []

    def build(self, settings: object, *, key: str, keys_before: list[str], config: object, report: object) -> Any:  # noqa: ANN401 - a companion
        """Remembers what it was told."""
        assert callable(config)
        assert callable(report)
        self.built.append({"settings": settings, "key": key, "keys_before": keys_before})
        return self

    @property
    def key_before(self) -> str:
        """As the real one."""
        return str(next(iter(self.built[-1]["keys_before"]), ""))

    def check(self) -> None:
        """Nothing."""

    def forward(self) -> None:
        """Keeps to the log of the fake."""
        self.fly.log.append("write rows")

    def finish(self) -> None:
        """Nothing."""

    def back(self) -> None:
        """Keeps to the log of the fake."""
        self.fly.log.append("write rows back")


@pytest.fixture
def reencryption(fly: FakeFly, monkeypatch: pytest.MonkeyPatch) -> Reencryption:
    """The module, replaced."""
    found = Reencryption(fly)
    name = "components.encryption.reencryption"
    for each in ("components.encryption", name):
        module = ModuleType(each)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, each, module)
    monkeypatch.setattr(sys.modules[name], "build", found.build, raising=False)
    return found


def with_rows(*keys_before: str) -> Properties:
    return {"rows": {"TOKEN": {"settings": {"role": "r"}, "keys_before": list(keys_before)}}}


def test_rows_change_with_the_secret_that_they_are_encrypted_with(fly: FakeFly, reencryption: Reencryption) -> None:
    fly.secrets["OTHER"] = "other-value"
    olds = deployed({"TOKEN": OLD, "OTHER": "other-value"})
    news = app({"TOKEN": NEW, "OTHER": "other-value"}, **with_rows("the-oldest", OLD))
    AppSecretsProvider().update("cp", olds, news)
    (built,) = reencryption.built
    assert built == {"settings": {"role": "r"}, "key": NEW, "keys_before": [OLD, "the-oldest"]}, "the one in use first"
    assert fly.moves == ["write 2", "write rows", f"boot m1 {NEW}"]


def test_rows_of_a_secret_that_does_not_change_stay(fly: FakeFly, reencryption: Reencryption) -> None:
    fly.secrets["OTHER"] = "other-value"
    olds = deployed({"TOKEN": OLD, "OTHER": "other-value"})
    AppSecretsProvider().update("cp", olds, app({"TOKEN": OLD, "OTHER": "new"}, **with_rows("the-oldest")))
    assert reencryption.built == []
    assert fly.moves == ["write 2", f"boot m1 {OLD}"]


@pytest.mark.usefixtures("fly")
def test_a_generation_that_is_abandoned_takes_its_rows_along(reencryption: Reencryption) -> None:
    AppSecretsProvider().update("cp", deployed({"TOKEN": NEW}), app({"TOKEN": OLD}, **with_rows(NEW)))
    assert [(each["key"], each["keys_before"]) for each in reencryption.built] == [(OLD, [NEW])]


def test_a_rollout_that_fails_takes_its_rows_back(fly: FakeFly, reencryption: Reencryption) -> None:
    fly.sick.add(NEW)
    with pytest.raises(OperatorError, match="as before"):
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}), app({"TOKEN": NEW}, **with_rows(OLD)))
    assert "write rows back" in fly.moves
    assert reencryption.built[0]["keys_before"] == [OLD]


def test_the_key_before_the_first_is_a_way_back(fly: FakeFly, reencryption: Reencryption) -> None:
    fly.sick.add(NEW)
    with pytest.raises(OperatorError, match="as before"):
        AppSecretsProvider().create(app({"TOKEN": NEW}, **with_rows(OLD)))
    assert fly.secrets == {"TOKEN": OLD}
    assert fly.booted == {"m1": OLD}
    assert "write rows back" in fly.moves
    assert reencryption.built[0]["keys_before"] == [OLD]


@pytest.mark.usefixtures("reencryption")
def test_rows_of_a_key_that_is_delivered_again_never_go_back_to_one_before(fly: FakeFly) -> None:
    # A rollout of NEW was cut off; the counter is set back, so OLD is delivered again.
    fly.machines["m1"]["config"]["metadata"][STAMP] = "3"
    fly.version = 3
    fly.sick.add(OLD)
    with pytest.raises(OperatorError, match="Rolling back failed too"):
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}), app({"TOKEN": OLD}, **with_rows(NEW)))
    assert "write rows" in fly.moves
    assert "write rows back" not in fly.moves
    assert fly.secrets == {"TOKEN": OLD}


def test_what_goes_with_secrets_is_no_change_by_itself(fly: FakeFly, reencryption: Reencryption) -> None:
    for changed in (with_rows(OLD), with_rows("another"), {"without_way_back": ["TOKEN"]}, {}):
        for before in (with_rows(OLD), {"without_way_back": ["TOKEN"]}, {}):
            olds = {**deployed({"TOKEN": OLD}), **before}
            assert not AppSecretsProvider().diff("cp", olds, app({"TOKEN": OLD}, **changed)).changes
    assert reencryption.built == []
    assert fly.log == []


def test_a_value_without_a_way_back_is_not_brought_back(fly: FakeFly) -> None:
    fly.sick.add(NEW)
    news = app({"TOKEN": NEW}, without_way_back=["TOKEN"])
    with pytest.raises(OperatorError, match="already dead"):
        AppSecretsProvider().update("cp", deployed({"TOKEN": OLD}), news)
    assert fly.secrets == {"TOKEN": NEW}
    assert fly.moves == ["write 2", f"boot m1 {NEW}"]


# When each secret got its value


def test_when_a_secret_got_its_value_is_kept_until_it_gets_another(
    fly: FakeFly, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(["first", "second", "third"])
    monkeypatch.setattr(provider, "now", lambda: next(times))
    fly.secrets["OTHER"] = "other-value"
    it = AppSecretsProvider()
    first = dict(it.create(app({"TOKEN": OLD, "OTHER": "other-value"})).outs or {})
    assert first["delivered_at"] == {"TOKEN": "first", "OTHER": "first"}
    second = dict(it.update("cp", first, app({"TOKEN": NEW, "OTHER": "other-value"})).outs or {})
    assert second["delivered_at"] == {"TOKEN": "second", "OTHER": "first"}
    third = dict(it.update("cp", second, app({"TOKEN": NEW})).outs or {})
    assert third["delivered_at"] == {"TOKEN": "second"}, "what is not managed any more is forgotten"


def test_the_state_of_an_older_version_does_not_say_when(fly: FakeFly) -> None:
    fly.secrets["OTHER"] = "other-value"
    olds = deployed({"TOKEN": OLD, "OTHER": "other-value"})
    outs = dict(AppSecretsProvider().update("cp", olds, app({"TOKEN": NEW, "OTHER": "other-value"})).outs or {})
    assert set(outs["delivered_at"]) == {"TOKEN"}
