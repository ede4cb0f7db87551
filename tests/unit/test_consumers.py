"""Is a disposable org of its kind of verification, and are leftovers of that kind alone deleted?"""

from itertools import pairwise

import httpx
import pytest

from components.errors import RefusedError
from components.resend import client as resend_client
from components.verification import consumers
from components.verification.consumers import DisposableOrgSettings

from .wire import Clock, Wire, body_of, reply

SETTINGS = DisposableOrgSettings(app="cp", url="https://cp.test/", owner_user_id="owner", org_timeout=60)


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CP_ADMIN_API_TOKEN", "admin")


def test_an_org_is_called_by_kind_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "unix_time", lambda: 1_800_000_000)
    org = SETTINGS.disposable_org("some.test")
    assert org.slug == "some.test-1800000000"
    assert (org.owner_user_id, org.timeout) == ("owner", 60)
    assert org.control_plane.url == "https://cp.test"


@pytest.mark.parametrize(
    ("slug", "left"),
    [
        ("some.test-1700000000", True),
        ("some-test-1700000000", False),
        ("some.test-x-1700000000", False),
        ("x-some.test-1700000000", False),
        ("some.test-1700000000-2", False),
        ("some.test-170000000", False),
        ("some.test-customer", False),
    ],
)
def test_leftovers_are_of_that_kind(slug: str, left: bool) -> None:  # noqa: FBT001 - a column
    assert (SETTINGS.disposable_org("some.test").leftovers.fullmatch(slug) is not None) is left


def test_the_environment_says_where_the_control_plane_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_URL", "http://127.0.0.1:1/")
    assert SETTINGS.control_plane_url == SETTINGS.control_plane().url == "http://127.0.0.1:1"


def test_without_the_operators_token_there_is_no_org(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CP_ADMIN_API_TOKEN")
    with pytest.raises(RefusedError, match="admin token of the control plane"):
        SETTINGS.disposable_org("some.test")


def test_what_the_control_plane_does_for_an_org_takes_turns(
    wire: Wire, turns: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five verifications make an org each: a machine a second, after two at once, and a mail each time one is deleted."""
    monkeypatch.setattr(resend_client, "REQUESTS_A_SECOND", 2)
    listed: list[dict[str, str]] = []
    waited: dict[str, list[float]] = {"POST": [], "DELETE": []}

    def serve(request: httpx.Request) -> httpx.Response:
        if request.method in waited:
            waited[request.method].append(turns.monotonic())
        if request.method == "POST":
            org = {"id": "o", "slug": body_of(request)["slug"], "instance_status": "running"}
            listed[:] = [org]
            return reply(201, {**org, "status": "provisioning"})
        return reply(204) if request.method == "DELETE" else reply(200, {"orgs": listed})

    wire.serve = serve
    for kind in ("a", "b", "c", "d", "e"):
        SETTINGS.disposable_org(kind).use(lambda _org: None)

    made, deleted = waited["POST"], waited["DELETE"]
    assert len(made) == len(deleted) == 5
    assert made[2] - made[0] >= 0.99
    assert made[4] - made[0] >= 2.99
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(deleted))
