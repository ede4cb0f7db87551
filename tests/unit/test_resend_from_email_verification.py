"""Can each check of RESEND_FROM_EMAIL fail, for the right reason, and is the org deleted whatever happened?"""

import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.http import ApiError
from components.verification import resend_from_email
from components.verification.check import CheckFailedError, Subject

from .announced import assert_covered
from .fake_control_plane import Answers, FakeControlPlane
from .wire import Clock, Wire, at, booted, reply

TOLD = {
    "app": "cp",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "subject": "{slug} was deleted",
    "org_timeout": 60,
    "mail_timeout": 30,
}
SUBJECT = Subject(secret="RESEND_FROM_EMAIL", generation=2, credential_id="g2")
NEW = "Molecule <new-and-unseen@molecule.example>"
OLD = "Molecule <old-and-unseen@molecule.example>"


def ago(seconds: float) -> str:
    """A moment of the real clock, as Resend writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f+00")


class World(FakeControlPlane):
    """The same with Resend and the app's log."""

    def __init__(self) -> None:
        super().__init__("RESEND_FROM_EMAIL")
        self.mails: list[dict[str, Any]] = []
        self.logged: list[tuple[str, str]] = []
        self.confirm: Callable[[str], None] = self.send

    def send(self, slug: str, sender: str = NEW, **changed: Any) -> None:  # noqa: ANN401 - JSON
        """The control plane confirms a deletion."""
        sent = {"subject": f"Your org {slug} was deleted", "last_event": "sent", "created_at": ago(0), **changed}
        self.mails.insert(0, {"id": f"mail-{len(self.mails)}", "from": sender, "to": ["x@y.example"], **sent})

    def fail(self, slug: str) -> None:
        """The control plane cannot send."""
        self.logged.append((at(9), f"purge confirmation email failed: org={slug} status=403"))

    def deleted(self, slug: str) -> None:
        """Confirms it."""
        self.confirm(slug)

    def answers(self, body: Any, parameters: Mapping[str, str]) -> Answers:  # noqa: ANN401 - JSON
        """Of Resend and the log, too."""
        lines = [{"attributes": {"timestamp": moment, "message": line}} for moment, line in self.logged]
        return {
            **super().answers(body, parameters),
            "GET /api/v1/apps/cp/logs": lambda: reply(200, {"data": lines}),
            "GET /emails": lambda: reply(200, {"has_more": False, "data": self.mails}),
        }


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    for name in ("FLY_ACCESS_TOKEN", "RESEND_API_KEY", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    give(monkeypatch, NEW)
    yield world
    assert_covered(wire.requests, resend_from_email.announce(TOLD, leaked=False))


def give(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(value))


def fails(world: World, reason: str) -> None:
    with pytest.raises((CheckFailedError, ApiError), match=reason) as failed:
        resend_from_email.verify(TOLD, SUBJECT)
    assert world.slugs("create") == world.slugs("delete") != []
    assert world.orgs == []
    for hidden in ("value-of-", "unseen"):
        assert hidden not in str(failed.value)


def test_a_mail_from_the_new_sender_is_verified(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    resend_from_email.verify(TOLD, SUBJECT)
    (slug,) = world.slugs("create")
    assert world.slugs("delete") == [slug]
    assert re.fullmatch(r"rotationtest-from-\d{10}", slug), "of another kind than those of RESEND_API_KEY"
    assert re.fullmatch(r"[a-z][a-z0-9-]{2,31}", slug), "the control plane takes no other slug"
    evidence = capsys.readouterr().err
    assert "2 machines of cp run the new value" in evidence
    assert f"org {slug} was deleted, and the confirmation was sent from the new sender" in evidence
    assert "unseen" not in evidence


@pytest.mark.parametrize(
    "sender",
    [
        OLD,
        "new-and-unseen@molecule.example",
        "Molecule <new-and-unseen@mail.molecule.example>",
        "Another <new-and-unseen@molecule.example>",
        "",
    ],
)
def test_a_mail_from_another_sender_fails_at_once(world: World, clock: Clock, sender: str) -> None:
    world.confirm = lambda slug: world.send(slug, sender)
    fails(world, r"rotationtest-from-.* \(mail mail-0 at Resend\) was sent from another sender than RESEND_FROM_EMAIL")
    assert sum(clock.naps) < 5


@pytest.mark.parametrize("sender", [NEW, "new-and-unseen@molecule.example", "App <new-and-unseen@Molecule.example>"])
@pytest.mark.usefixtures("world")
def test_a_sender_without_a_name_may_get_one(monkeypatch: pytest.MonkeyPatch, world: World, sender: str) -> None:
    give(monkeypatch, "new-and-unseen@molecule.example")
    world.confirm = lambda slug: world.send(slug, sender)
    resend_from_email.verify(TOLD, SUBJECT)


def test_the_newest_mail_about_the_org_counts(world: World) -> None:
    def confirm_after_a_welcome(slug: str) -> None:
        world.send(slug, OLD, created_at=ago(20))
        world.send(slug)
        world.mails.reverse()

    world.confirm = confirm_after_a_welcome
    resend_from_email.verify(TOLD, SUBJECT)


@pytest.mark.parametrize("event", ["queued", "scheduled", "bounced", "failed", "canceled", "suppressed", ""])
def test_a_mail_that_is_not_sent_in_time_fails(world: World, clock: Clock, event: str) -> None:
    world.confirm = lambda slug: world.send(slug, last_event=event)
    fails(world, "confirmation of the deletion of rotationtest-from-.* not within 30 s")
    assert 28 <= sum(clock.naps) <= 34


@pytest.mark.parametrize(
    "confirm",
    [
        lambda _world, _slug: None,
        lambda world, _slug: world.send("rotationtest-from-1700000000"),
        lambda world, slug: world.send(slug, created_at="2020-01-01 00:00:00+00"),
    ],
    ids=["no mail", "of another org", "of long ago"],
)
def test_a_mail_that_does_not_come_fails(world: World, confirm: Callable[[World, str], None]) -> None:
    world.confirm = lambda slug: confirm(world, slug)
    fails(world, "confirmation of the deletion")


def test_a_mail_may_come_late(world: World, clock: Clock) -> None:
    world.confirm = lambda slug: world.send(slug, last_event="queued")

    def deliver() -> None:
        if sum(clock.naps) > 10:
            world.mails[0]["last_event"] = "delivered"

    clock.on_sleep = deliver
    resend_from_email.verify(TOLD, SUBJECT)


def test_a_failure_in_the_log_fails_at_once(world: World, clock: Clock) -> None:
    def fail_and_send(slug: str) -> None:
        world.fail(slug)
        world.send(slug)

    world.confirm = fail_and_send
    fails(world, "cp has logged `purge confirmation email failed` when rotationtest-from-")
    assert sum(clock.naps) < 5


def test_a_failure_of_before_is_no_obstacle(world: World) -> None:
    world.fail("rotationtest-from-of-the-run-before")
    resend_from_email.verify(TOLD, SUBJECT)


def test_a_failure_from_before_the_write_never_counts(world: World) -> None:
    def log_late(slug: str) -> None:
        world.logged.append((at(-9), "purge confirmation email failed: org=another"))
        world.send(slug)

    world.confirm = log_late
    resend_from_email.verify(TOLD, SUBJECT)


def test_an_org_that_does_not_run_fails_and_is_deleted(world: World) -> None:
    world.status_of_new_orgs = ["failed"]
    fails(world, "its status is failed")


def test_a_machine_with_the_value_before_fails(world: World) -> None:
    world.machines[0]["events"] = booted(-1)
    with pytest.raises(CheckFailedError, match="m1 of cp still runs with the value before"):
        resend_from_email.verify(TOLD, SUBJECT)
    assert world.orgs == []


@pytest.mark.parametrize("value", ["", "re_unseen", f"{NEW}\n"])
def test_a_value_that_is_no_sender_fails_before_anything_is_made(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    give(monkeypatch, value)
    with pytest.raises(CheckFailedError, match="the value is no sender") as failed:
        resend_from_email.verify(TOLD, SUBJECT)
    assert "unseen" not in str(failed.value)
    assert wire.requests == []
    assert world.log == []


def test_leftovers_of_this_kind_alone_are_deleted(world: World) -> None:
    others = ["rotationtest-mail-1700000000", "rotationtest-fly-1700000000", "rotationtest-from-customer"]
    world.has_orgs("rotationtest-from-1700000000", *others)
    resend_from_email.verify(TOLD, SUBJECT)
    assert world.slugs("delete")[0] == "rotationtest-from-1700000000"
    assert [org["slug"] for org in world.orgs] == others
