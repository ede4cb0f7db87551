"""Does the provider of tenants' environments ask Fly who is behind, and keep at it until nobody is?"""

from typing import Any

import httpx
import pytest

from components.errors import OperatorError, RefusedError
from components.tenants import reprovisioning, rollout
from components.tenants.provider import TenantMachinesProvider

from .fake_fly import FakeFly
from .test_dynamic_provider import UNKNOWN
from .wire import Clock, Wire, reply

Properties = dict[str, Any]
NEW, OLD = "redis://g2:the-new-token@tenants.test:6379", "redis://g1:the-old-token@tenants.test:6379"
OWN = "redis://somebody:own-token@localhost:6379"


@pytest.fixture
def fly(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """Two tenants that hold the old URL, and one with a Redis of its own."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    for module in (rollout, reprovisioning):
        monkeypatch.setattr(module, "time", clock)
    fly = FakeFly(clock, 0)
    fly.variable = "REDIS_URL"
    for number, url in enumerate((OLD, OLD, OWN), 1):
        fly.add(
            f"m{number}", environment={"REDIS_URL": url, "KEY": "old-key"}, metadata={"molecule_org": f"org-{number}"}
        )
    wire.serve = fly.serve
    return fly


def tenants(values: dict[str, Any] | None = None, **changed: Any) -> Properties:  # noqa: ANN401 - properties
    values = values or {"REDIS_URL": NEW}
    return {
        "app": "cp",
        "variables": sorted(values),
        **values,
        "same_server": ["REDIS_URL"],
        "overlaps": sorted(values),
        "reprovision": None,
        "policy": {"max_unavailable": "0.33", "health_timeout": "30"},
        "machines": None,
        **changed,
    }


IT = TenantMachinesProvider()


def changes(olds: Properties, news: Properties) -> bool:
    return bool(IT.diff("cp", olds, news).changes)


def test_fly_that_does_not_list_the_machines_is_an_error_with_a_next_step(fly: FakeFly, wire: Wire) -> None:
    assert fly.machines
    wire.serve = lambda _request: reply(403, {"error": "no"})
    with pytest.raises(OperatorError, match="app cp holds") as failed:
        changes(tenants(), tenants())
    assert "`pulumi up` again" in failed.value.next_step


@pytest.mark.parametrize("new", [NEW, UNKNOWN], ids=["known", "unknown in a preview"])
def test_another_value_is_a_change_that_needs_no_look_at_fly(new: object, wire: Wire) -> None:
    assert changes(tenants({"REDIS_URL": OLD}, machines=2), tenants({"REDIS_URL": new}))
    assert wire.requests == []


def test_what_is_delivered_is_held_and_no_change(fly: FakeFly) -> None:
    created = IT.create(tenants())
    assert (created.id, created.outs) == ("cp", tenants(machines=2))
    assert [fly.environment(f"m{n}")["REDIS_URL"] for n in (1, 2, 3)] == [NEW, NEW, OWN]
    assert not changes(created.outs or {}, tenants())


def test_a_machine_that_is_behind_is_a_change_whatever_the_state_says(fly: FakeFly) -> None:
    olds = tenants(machines=2)
    assert changes(olds, tenants())
    assert fly.log == [], "a preview changes nothing"
    assert (IT.update("cp", olds, tenants()).outs or {})["machines"] == 2
    assert not changes(olds, tenants())
    fly.add("m4", environment={"REDIS_URL": OLD})
    assert changes(olds, tenants())


def test_settings_alone_are_no_change(fly: FakeFly) -> None:
    olds = dict(IT.create(tenants()).outs or {})
    fly.log.clear()
    changed: Properties
    for changed in (
        {"policy": {"max_unavailable": "2", "health_timeout": "60"}},
        {"overlaps": []},
        {"reprovision": {"variable": "REDIS_URL", "url": "u", "path": "p", "timeout": "60"}},
    ):
        assert not changes(olds, tenants(**changed))
    assert fly.log == []


def test_a_variable_more_or_less_is_a_change(fly: FakeFly) -> None:
    olds = dict(IT.create(tenants()).outs or {})
    both = {"REDIS_URL": NEW, "KEY": "new-key"}
    assert changes(olds, tenants(both))
    olds = dict(IT.update("cp", olds, tenants(both)).outs or {})
    assert olds["machines"] == 3
    assert fly.environment("m3") == {"REDIS_URL": OWN, "KEY": "new-key"}
    assert changes(olds, tenants())
    fly.log.clear()
    IT.update("cp", olds, tenants())
    assert fly.log == []
    assert fly.environment("m1")["KEY"] == "new-key", "it stays where it is"


def test_what_fails_keeps_the_state_and_the_next_update_goes_on(fly: FakeFly) -> None:
    olds = tenants({"REDIS_URL": OLD}, machines=2)
    fly.sick.add(f"m2 {NEW}")
    with pytest.raises(OperatorError, match="org-2"):
        IT.update("cp", olds, tenants())
    assert changes(olds, tenants())
    fly.sick.clear()
    fly.log.clear()
    assert (IT.update("cp", olds, tenants()).outs or {})["machines"] == 2
    assert [line for line in fly.log if line.startswith("boot")] == [f"boot m2 {NEW}"]


def test_what_was_cut_off_is_looked_at_until_a_delivery_has_succeeded(fly: FakeFly) -> None:
    fly.sick.add(f"m2 {NEW}")
    for number in (1, 2):
        config = fly.machines[f"m{number}"]["config"]
        fly.change(f"m{number}", {**config, "env": {**config["env"], "REDIS_URL": NEW}}, launch=True)
    with pytest.raises(OperatorError, match="cut off"):
        IT.create(tenants())
    with pytest.raises(OperatorError, match="cut off"):
        IT.update("cp", tenants({"REDIS_URL": OLD}, machines=2), tenants())
    assert (IT.update("cp", tenants(machines=2), tenants()).outs or {})["machines"] == 2


def test_a_machine_that_cannot_be_moved_holds_up_a_counter_set_back_too(fly: FakeFly) -> None:
    IT.create(tenants())
    olds = tenants({"REDIS_URL": OLD}, machines=2)  # the update to the new value failed
    assert changes(olds, tenants({"REDIS_URL": OLD})), "some machines hold the value that is abandoned"
    IT.update("cp", olds, tenants({"REDIS_URL": OLD}))
    assert fly.environment("m1")["REDIS_URL"] == OLD


def test_what_is_provisioned_anew_needs_the_control_plane(fly: FakeFly) -> None:
    told = {"variable": "KEY", "url": "https://cp.test", "path": "/{slug}", "timeout": "60"}
    props = tenants({"REDIS_URL": NEW, "KEY": "new-key"}, reprovision=told)
    with pytest.raises(RefusedError, match="admin token of the control plane"):
        IT.create(props)
    assert fly.log == [], "refused before anything is touched"


def test_what_is_provisioned_anew_is_asked_for_where_the_environment_says(
    fly: FakeFly, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CP_ADMIN_API_TOKEN", "control-plane-admin-token")
    monkeypatch.setenv("CONTROL_PLANE_URL", "https://sandbox.test")
    told = {"variable": "KEY", "url": "https://cp.test", "path": "/{slug}", "timeout": "60"}
    asked: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.host != "sandbox.test":
            return fly.serve(request)
        asked.append(f"{request.method} {request.url.path}")
        return reply(200, {"orgs": []}) if request.method == "GET" else reply(403)

    wire.serve = serve
    with pytest.raises(OperatorError, match="status 403"):
        IT.create(tenants({"REDIS_URL": NEW, "KEY": "new-key"}, reprovision=told))
    assert "POST /org-1" in asked
    assert {fly.environment(f"m{n}")["KEY"] for n in (1, 2, 3)} == {"old-key"}
