"""Can each check of RESEND_API_KEY fail, for the right reason, and is the org deleted whatever happened?"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from components.contacts import CONTACTS
from components.http import ApiError
from components.verification import resend_api_key, resend_api_key_probe
from components.verification.check import CheckFailedError, Subject

from .announced import assert_covered
from .fake_control_plane import Answers, FakeControlPlane
from .wire import Clock, Wire, at, booted, reply

TOLD = {
    "app": "cp",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "subject": "{slug} was deleted",
    "prove_use": True,
    "org_timeout": 60,
    "mail_timeout": 30,
}
SUBJECT = Subject(secret="RESEND_API_KEY", generation=2, credential_id="k2")
FAILED = "purge confirmation email failed: org={} status=403"


def mail(subject: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
    return {"id": "e", "subject": subject, "to": ["x@y.example"], "last_event": "sent", "created_at": now, **changed}


class World(FakeControlPlane):
    """The same with Resend and the app's log."""

    def __init__(self) -> None:
        super().__init__("RESEND_API_KEY")
        self.events: list[str] = ["queued", "sent"]
        self.mails: list[dict[str, Any]] = []
        self.logged: list[str] = []
        self.used: dict[str, str | None] = {"k1": "2026-11-23 11:00:00+00", "k2": None}
        self.confirm: Callable[[str], None] = self.send

    def send(self, slug: str, **changed: Any) -> None:  # noqa: ANN401 - JSON
        """The control plane confirms a deletion with the new key."""
        self.mails.insert(0, mail(f"Your org {slug} was deleted", **changed))
        self.used["k2"] = "2026-11-23 12:00:00.5+00"

    def deleted(self, slug: str) -> None:
        """Confirms it."""
        self.confirm(slug)

    def answers(self, body: Any, parameters: Mapping[str, str]) -> Answers:  # noqa: ANN401 - JSON
        """Of Resend and the log, too."""
        keys = [{"id": each, "name": each, "last_used_at": used} for each, used in self.used.items()]
        lines = [{"attributes": {"timestamp": at(9), "message": line}} for line in self.logged]
        return {
            **super().answers(body, parameters),
            "GET /api/v1/apps/cp/logs": lambda: reply(200, {"data": lines}),
            "GET /api-keys": lambda: reply(200, {"has_more": False, "data": keys}),
            "GET /emails": self._list_mails,
        }

    def _list_mails(self) -> httpx.Response:
        if self.mails and len(self.events) > 1 and self.mails[0]["id"] == "e":
            self.mails[0]["last_event"] = self.events.pop(0)
        elif self.mails and self.mails[0]["id"] == "e":
            self.mails[0]["last_event"] = self.events[0]
        return reply(200, {"has_more": False, "data": self.mails})


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    for name in ("FLY_ACCESS_TOKEN", "RESEND_API_KEY", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    yield world
    assert_covered(wire.requests, resend_api_key.announce(TOLD, leaked=False))


def fails(world: World, reason: str, **told: Any) -> None:  # noqa: ANN401 - settings
    with pytest.raises((CheckFailedError, ApiError), match=reason) as failed:
        resend_api_key.verify({**TOLD, **told}, SUBJECT)
    assert world.slugs("create") == world.slugs("delete") != []
    assert world.orgs == []
    assert "value-of-" not in str(failed.value)


def test_a_mail_that_was_sent_with_the_new_key_is_verified(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    resend_api_key.verify(TOLD, SUBJECT)
    (slug,) = world.slugs("create")
    assert world.slugs("delete") == [slug]
    assert re.fullmatch(r"rotationtest-mail-\d{10}", slug)
    assert re.fullmatch(r"[a-z][a-z0-9-]{2,31}", slug), "the control plane takes no other slug"
    evidence = capsys.readouterr().err
    assert "2 machines of cp run the new value" in evidence
    assert f"org {slug} was deleted" in evidence


@pytest.mark.parametrize("event", ["sent", "delivered", "opened", "clicked"])
def test_a_mail_may_have_come_further(world: World, event: str) -> None:
    world.events = [event]
    resend_api_key.verify(TOLD, SUBJECT)


@pytest.mark.parametrize("event", ["queued", "scheduled", "bounced", "failed", "canceled", "suppressed", ""])
def test_a_mail_that_is_not_sent_in_time_fails(world: World, clock: Clock, event: str) -> None:
    world.events = [event]
    fails(world, "confirmation of the deletion of rotationtest-mail-.* not within 30 s")
    assert 28 <= sum(clock.naps) <= 34


def test_a_mail_that_is_swallowed_fails(world: World) -> None:
    def swallow(_slug: str) -> None:
        world.used["k2"] = "2026-11-23 12:00:00+00"

    world.confirm = swallow
    fails(world, "confirmation of the deletion")


def test_the_mail_of_another_org_does_not_count(world: World) -> None:
    world.confirm = lambda _slug: world.send("rotationtest-mail-1700000000")
    fails(world, "confirmation of the deletion")


def test_a_mail_of_long_ago_does_not_count(world: World) -> None:
    world.confirm = lambda slug: world.send(slug, created_at="2020-01-01 00:00:00+00")
    fails(world, "confirmation of the deletion")


def test_a_failure_in_the_log_fails_at_once(world: World, clock: Clock) -> None:
    world.confirm = lambda slug: world.logged.append(FAILED.format(slug))
    fails(world, "has logged `purge confirmation email failed`")
    assert sum(clock.naps) < 5


def test_a_failure_that_looks_like_one_before_fails(world: World) -> None:
    world.logged = ["purge confirmation email failed"]
    world.confirm = lambda _slug: world.logged.append("purge confirmation email failed")
    fails(world, "has logged `purge confirmation email failed`")


def test_a_failure_of_an_earlier_verification_is_no_obstacle(world: World) -> None:
    world.logged = [FAILED.format("rotationtest-mail-of-the-run-before")]
    resend_api_key.verify(TOLD, SUBJECT)


def test_another_line_in_the_log_is_no_failure(world: World) -> None:
    def confirm(slug: str) -> None:
        world.logged.append(f"purge {slug}: done")
        world.send(slug)

    world.confirm = confirm
    resend_api_key.verify(TOLD, SUBJECT)


def test_a_mail_that_another_key_sent_fails(world: World) -> None:
    def send_with_the_old_key(slug: str) -> None:
        world.mails.insert(0, mail(f"{slug} was deleted"))
        world.used["k1"] = "2026-11-23 12:00:00+00"

    world.confirm = send_with_the_old_key
    fails(world, "control plane used the new key")
    world.log.clear()
    world.confirm = send_with_the_old_key
    resend_api_key.verify({**TOLD, "prove_use": False}, SUBJECT)


def test_a_use_before_the_verification_does_not_count(world: World) -> None:
    world.used["k2"] = "2026-11-23 11:30:00+00"
    world.confirm = lambda slug: world.mails.insert(0, mail(f"{slug} was deleted"))
    fails(world, "control plane used the new key")


@pytest.mark.parametrize(("status", "reason"), [("failed", "its status is failed"), ("provisioning", "to be running")])
def test_an_org_that_does_not_run_fails_and_is_deleted(world: World, status: str, reason: str) -> None:
    world.status_of_new_orgs = [status]
    fails(world, reason)


def test_a_machine_with_the_value_before_fails(world: World) -> None:
    world.machines[1]["events"] = booted(-1)
    with pytest.raises(CheckFailedError, match="m2 of cp still runs with the value before"):
        resend_api_key.verify(TOLD, SUBJECT)
    assert world.orgs == []


def test_leftovers_of_this_kind_alone_are_deleted(world: World) -> None:
    others = ["rotationtest-fly-1700000000", "rotationtest-mail-customer"]
    world.has_orgs("rotationtest-mail-1700000000", *others)
    resend_api_key.verify(TOLD, SUBJECT)
    assert world.slugs("delete")[0] == "rotationtest-mail-1700000000"
    assert [org["slug"] for org in world.orgs] == others


# The probe

NEW = "re_new_key-and-secret"


def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "read", lambda: NEW, raising=False)
    resend_api_key_probe.probe({}, SUBJECT)


def test_a_key_that_may_only_send_is_good(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.will(reply(401, {"statusCode": 401, "name": "restricted_api_key", "message": "restricted to only send"}))
    probe(monkeypatch)
    assert wire.lines == ["GET /domains"]
    assert wire.last.headers["authorization"] == f"Bearer {NEW}"


@pytest.mark.parametrize(
    ("status", "name", "reason"),
    [
        (400, "validation_error", "does not know"),
        (403, "invalid_api_key", "does not know"),
        (404, "not_found", "did not say"),
        (503, "application_error", "did not say"),
    ],
)
def test_a_key_that_resend_does_not_know_is_not(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, status: int, name: str, reason: str
) -> None:
    wire.serve = lambda _request: reply(status, {"name": name, "message": "API key is invalid"})
    with pytest.raises(CheckFailedError, match=reason) as failed:
        probe(monkeypatch)
    assert NEW not in str(failed.value)
    assert failed.value.contact == (CONTACTS["Resend"] if status == 503 else "")
