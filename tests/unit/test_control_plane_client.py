"""Does the client speak to the control plane as its own clients do, and keep its answers out of messages?"""

import pytest

from components.control_plane.client import ControlPlaneClient, Org
from components.http import ApiError

from .wire import Wire, body_of, reply

TOKEN = "control-plane-admin-token"
CLIENT = ControlPlaneClient("https://cp.test", TOKEN)


def test_health_is_asked_for(wire: Wire) -> None:
    wire.will(reply(200, {"status": "ok"}))
    CLIENT.assert_up()
    assert wire.lines == ["GET /health"]
    assert wire.last.url.host == "cp.test"
    assert wire.last.headers["authorization"] == f"Bearer {TOKEN}"


def test_health_that_does_not_answer_is_an_error(wire: Wire) -> None:
    wire.serve = lambda _request: reply(503)
    with pytest.raises(ApiError, match="health"):
        CLIENT.assert_up()


def test_orgs_are_listed_with_their_status(wire: Wire) -> None:
    wire.will(reply(200, {"orgs": [{"id": 5, "slug": "a", "instance_status": "running"}, {"id": "6", "slug": "b"}]}))
    assert CLIENT.orgs() == [Org(org_id="5", slug="a", status="running"), Org(org_id="6", slug="b", status="")]
    assert wire.lines == ["GET /cp/admin/orgs"]
    assert wire.last.url.params["limit"] == "500"


def test_an_org_is_created_once(wire: Wire) -> None:
    wire.will(reply(201, {"id": "o1", "slug": "s", "name": "n", "status": "provisioning"}), reply(503))
    assert CLIENT.create_org(slug="s", name="n", owner_user_id="u").status == "provisioning"
    assert wire.lines == ["POST /cp/admin/orgs"]
    assert body_of(wire.last) == {"slug": "s", "name": "n", "owner_user_id": "u"}
    with pytest.raises(ApiError):
        CLIENT.create_org(slug="s", name="n", owner_user_id="u")
    assert len(wire.requests) == 2


@pytest.mark.parametrize("status", [200, 204, 404])
def test_an_org_is_deleted(wire: Wire, status: int) -> None:
    wire.will(reply(status))
    CLIENT.delete_org("s")
    assert wire.lines == ["DELETE /cp/admin/tenants/s"]
    assert body_of(wire.last) == {"confirm": "s"}


def test_a_purge_that_failed_half_way_is_resumed(wire: Wire) -> None:
    wire.will(reply(500, {"error": "purge cascade failed"}), reply(500), reply(204))
    CLIENT.delete_org("s")
    assert len(wire.requests) == 3


def test_a_deletion_that_is_refused_is_an_error(wire: Wire) -> None:
    wire.will(reply(403))
    with pytest.raises(ApiError):
        CLIENT.delete_org("s")


def test_what_the_control_plane_says_of_others_stays_out_of_messages(wire: Wire) -> None:
    wire.will(reply(400, {"error": "detail of another system", "message": "detail of another system"}))
    with pytest.raises(ApiError) as failed:
        CLIENT.create_org(slug="s", name="n", owner_user_id="u")
    assert "detail" not in str(failed.value)
    assert TOKEN not in str(failed.value) + repr(CLIENT)
