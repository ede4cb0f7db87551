"""Values that the operator hands in: a sender, a Stripe key, a signing secret. No API mints them, and only Stripe ends its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.engine.stage import KEY, SENDER, WEBHOOK, Stage, family, one_line
from tools.workspace import STACK

FIRST, SECOND = (f"Molecule AI <hello-{number}@moleculesai.app>" for number in (1, 2))
EVENT = "customer.subscription.updated"


@pytest.fixture
def supplied(whole_map: Stage) -> Stage:
    """A stack that lists RESEND_FROM_EMAIL and STRIPE_API_KEY; nothing is deployed and nothing handed in."""
    whole_map.rotates(SENDER, KEY)
    whole_map.configure("stripeAccount", whole_map.environment["STRIPE_ACCOUNT_ID"])
    whole_map.configure("mailTimeout", "12")
    return whole_map


def rolled(stage: Stage) -> str:
    """A new key; the one before lives for another hour."""
    key = stage.stripe("roll-key", "--expires-in", "3600")
    stage.hand_in(KEY, key)
    return key


def ends(stage: Stage, secret: str, after: timedelta) -> str:
    """Says when Stripe ends the old value."""
    moment = (datetime.now(UTC) + after).isoformat(timespec="seconds")
    stage.configure(f"oldValueExpiresAt.{secret}", moment, path=True)
    return moment


def test_sender_and_key_rotate_together_and_the_old_key_is_watched_until_stripe_ends_it(supplied: Stage) -> None:
    first = rolled(supplied)
    supplied.hand_in(SENDER, FIRST)
    supplied.deploys()
    supplied.assert_holds(KEY, first)
    supplied.assert_holds(SENDER, FIRST)
    adopted = supplied.outputs()["secrets"]
    assert {secret: (each["generation"], each["alive"]) for secret, each in adopted.items()} == {
        KEY: (1, []),
        SENDER: (1, []),
    }
    rollouts = supplied.rollouts()
    supplied.set_generation(KEY, 2)
    supplied.hand_in(SENDER, SECOND)
    supplied.refuses(
        f"The rotation counter of {KEY} is 2, but the supplied value is still that of generation 1",
        f"The supplied value of {SENDER} has changed, but its rotation counter is still 1",
        f"pulumi config set --path 'rotations.{SENDER}' 2",
    )
    second = rolled(supplied)
    moment = ends(supplied, KEY, timedelta(hours=1))
    supplied.set_generation(SENDER, 2)

    assert f"Stripe ends the old key at {moment}: 5" in one_line(supplied.deploys()), "minutes that are left"

    supplied.assert_holds(KEY, second)
    supplied.assert_holds(SENDER, SECOND)
    assert supplied.rollouts() == rollouts + 1
    assert supplied.lives(first)
    rotated = supplied.outputs()["secrets"]
    assert rotated[KEY]["generation"] == rotated[SENDER]["generation"] == 2
    assert rotated[KEY]["alive"] == [{"credential_id": f"{family(KEY)}-g1", "lives_until": moment}]
    assert rotated[SENDER]["alive"] == []
    supplied.assert_no_change()
    supplied.stripe("expire-key")
    assert not supplied.lives(first)
    assert supplied.planned() == {"update": 1}
    supplied.deploys()

    assert supplied.outputs()["secrets"][KEY]["alive"] == []
    supplied.assert_no_change()
    supplied.assert_no_change()
    assert supplied.rollouts() == rollouts + 1
    assert supplied.inspect()["breakages"] == []


def test_every_value_that_cannot_work_is_refused_in_preview_and_update(supplied: Stage) -> None:
    """One sandbox for all: the point is that it stays as it is. Each round is a fault of the key and one of the sender."""
    holdings = {secret: supplied.holdings(secret) for secret in (KEY, SENDER)}
    writes = supplied.writes()
    supplied.refuses(
        f"{KEY} is listed in `rotations`, but its value has not been handed in",
        f"{SENDER} is listed in `rotations`, but its value has not been handed in",
        f"pulumi config set --secret --path 'supplied.{SENDER}' (it asks for the value)",
    )
    supplied.configure(f"supplied.{SENDER}", FIRST, path=True)
    supplied.refuses("The config keeps `supplied` in plaintext", "make new values where they come from")
    supplied.must("config", "rm", "--stack", STACK, "supplied")
    supplied.hand_in(KEY, supplied.stripe("create-key", "--name", "test", "--test"))
    supplied.hand_in(SENDER, "Molecule AI, hello@moleculesai.app")
    supplied.refuses("is of test mode; this stack's is live mode", f"{SENDER} is no sender: it holds several")
    supplied.hand_in(KEY, supplied.stripe("create-key", "--name", "other", "--other-account"))
    supplied.hand_in(SENDER, "hello@molecule.example")
    account = supplied.environment["STRIPE_ACCOUNT_ID"]
    supplied.refuses(f", and not to {account}", "domain molecule.example is not in this account", "resend.com/domains")
    supplied.hand_in(KEY, "sk_live_mistyped")
    supplied.hand_in(SENDER, FIRST)
    supplied.sandbox("set", "resend.domain_unverified=moleculesai.app")
    supplied.refuses(
        "is refused by Stripe",
        "domain moleculesai.app has the status pending; records that Resend does not find in its DNS: DKIM",
        "add them at the DNS provider of moleculesai.app",
    )
    supplied.sandbox("unset", "resend.domain_unverified")
    rolled(supplied)
    supplied.sandbox("set", "dns.no_dmarc=moleculesai.app")
    warned = supplied.preview()

    assert warned.status == 0, warned.output
    assert f"{SENDER}: moleculesai.app has no DMARC record (TXT _dmarc.moleculesai.app" in one_line(warned.output)
    assert supplied.writes() == writes
    assert {secret: supplied.holdings(secret) for secret in (KEY, SENDER)} == holdings


def test_each_verification_that_fails_keeps_the_old_value_and_is_finished_by_the_next_up(supplied: Stage) -> None:
    """A control plane that cannot sell, one that reads another signing secret, and one whose mails get lost."""
    supplied.set_generation(WEBHOOK, 1)
    first = rolled(supplied)
    supplied.hand_in(SENDER, FIRST)
    supplied.deploys()
    second = rolled(supplied)
    supplied.hand_in(SENDER, SECOND)
    supplied.set_generations(2, SENDER, KEY, WEBHOOK)
    supplied.sandbox("set", "resend.swallow_emails=1", f"control_plane.misread_new={WEBHOOK}")
    supplied.sandbox(
        "fault", "--provider", "stripe", "--match", "POST", "/checkout/sessions$", "--status", "403", "--count", "100"
    )

    output = one_line(supplied.fails("--continue-on-error"))

    assert (
        f"{KEY} generation 2: checkout: control plane: could not get a checkout page for org rotationtest-stripe-"
        in output
    )
    assert f"{WEBHOOK} generation 2: signed events: an event signed with the new secret got 400 from" in output
    assert f"{SENDER} generation 2: mail: the confirmation of the deletion of rotationtest-from-" in output
    assert "every old credential is still alive and nothing was revoked. Next: mend that, then `pulumi up`" in output
    supplied.assert_holds(KEY, second)
    supplied.assert_holds(SENDER, SECOND)
    assert supplied.lives(first)
    assert supplied.live(WEBHOOK) == [f"{family(WEBHOOK)}-g1", f"{family(WEBHOOK)}-g2"]
    assert {each["generation"] for each in supplied.outputs()["secrets"].values()} == {1}
    # Mended by whoever deploys what reads the secret as it is.
    supplied.sandbox("unset", "resend.swallow_emails", "control_plane.misread_new")
    supplied.sandbox("fault", "--clear")
    supplied.redeploy()
    supplied.write_fly_secret(KEY, first)
    alone = supplied.fails("--target", supplied.urn(f"verification-{KEY}"))

    assert f"{KEY} generation 2: machines: machine" in one_line(alone)
    assert "still runs with the value before" in one_line(alone)
    rollouts = supplied.rollouts()
    # The state has the values.
    supplied.must("config", "rm", "--stack", STACK, "supplied")
    supplied.deploys()

    supplied.assert_holds(KEY, second)
    assert {each["generation"] for each in supplied.outputs()["secrets"].values()} == {2}
    assert supplied.rollouts() == rollouts + 1, "the overwritten secret is delivered again"
    assert supplied.live(WEBHOOK) == [f"{family(WEBHOOK)}-g2"]
    assert len(supplied.credentials(WEBHOOK)) == 2
    supplied.assert_no_change()


@contextmanager
def _continuous_events(stage: Stage) -> Iterator[list[str]]:
    """Lets something happen at Stripe all the time."""
    events: list[str] = []
    over = threading.Event()

    def emit() -> None:
        while not over.wait(0.3):
            events.append(stage.stripe("emit", EVENT))

    thread = threading.Thread(target=emit)
    thread.start()
    try:
        yield events
    finally:
        over.set()
        thread.join()


def test_signing_secret_that_was_rolled_in_the_dashboard_rotates_within_its_window(whole_map: Stage) -> None:
    whole_map.rotates(WEBHOOK)
    whole_map.configure("stripeWebhookSecret", "supplied")
    first = whole_map.stripe("roll-webhook-secret")
    whole_map.hand_in(WEBHOOK, first)
    assert "left to deliver" not in whole_map.deploys(), "what is taken over needs no window"
    whole_map.assert_holds(WEBHOOK, first)
    whole_map.assert_no_change()
    second = whole_map.stripe("roll-webhook-secret")
    whole_map.hand_in(WEBHOOK, second)
    whole_map.set_generation(WEBHOOK, 2)
    whole_map.refuses(
        f"Nobody said until when Stripe accepts the old value of {WEBHOOK}", f"oldValueExpiresAt.{WEBHOOK}"
    )
    ends(whole_map, WEBHOOK, -timedelta(minutes=1))
    whole_map.refuses(f"too, ended at {datetime.now(UTC):%Y-%m-}", "roll the secret again", "resend them from there")
    moment = ends(whole_map, WEBHOOK, timedelta(hours=23, minutes=30))
    warning = f"until {moment}: 23 h 29 min left to deliver and to verify the new one"
    assert warning in one_line(whole_map.preview().output)

    with _continuous_events(whole_map) as events:
        whole_map.deploys()

    whole_map.assert_holds(WEBHOOK, second)
    assert whole_map.outputs()["secrets"][WEBHOOK]["alive"] == [
        {"credential_id": f"{family(WEBHOOK)}-g1", "lives_until": moment}
    ]
    events.append(whole_map.stripe("emit", EVENT))
    stripe = whole_map.inspect()["stripe"]
    happened = {each["id"]: each for each in stripe["events"]}
    assert len(events) > 5
    attempts = [each["status"] for event in events for each in happened[event]["deliveries"]]
    assert set(attempts) == {200}
    assert stripe["lost"] == 0
    whole_map.assert_no_change()


def test_value_that_was_given_up_may_stay_in_the_config(supplied: Stage) -> None:
    _add_domain(supplied, "mail.molecule.example")
    given_up = "Molecule AI <hello@mail.molecule.example>"
    supplied.rotates(SENDER)
    supplied.hand_in(SENDER, FIRST)
    supplied.deploys()
    supplied.sandbox("set", "resend.swallow_emails=1")
    supplied.hand_in(SENDER, given_up)
    supplied.set_generation(SENDER, 2)
    supplied.fails()
    supplied.assert_holds(SENDER, given_up)
    supplied.sandbox("set", "resend.swallow_emails=0", "resend.domain_unverified=mail.molecule.example")
    supplied.set_generation(SENDER, 1)

    supplied.deploys()

    supplied.assert_holds(SENDER, FIRST)
    assert supplied.outputs()["secrets"][SENDER]["generation"] == 1
    supplied.assert_no_change()
    supplied.hand_in(SENDER, SECOND)
    supplied.set_generation(SENDER, 2)
    supplied.refuses(f"Generation 2 of {SENDER} was another value, which was given up", f"'rotations.{SENDER}' 3")
    supplied.set_generation(SENDER, 3)
    supplied.deploys()

    supplied.assert_holds(SENDER, SECOND)
    assert supplied.outputs()["secrets"][SENDER]["generation"] == 3
    supplied.assert_no_change()


def _add_domain(stage: Stage, name: str) -> None:
    """Another domain that Resend sends for."""
    headers = {"authorization": f"Bearer {stage.environment['RESEND_API_KEY']}"}
    with httpx.Client(base_url=stage.environment["RESEND_API_URL"], headers=headers) as resend:
        domain = resend.post("/domains", json={"name": name}).raise_for_status().json()["id"]
        resend.post(f"/domains/{domain}/verify").raise_for_status()
        deadline = time.monotonic() + 60
        while resend.get(f"/domains/{domain}").raise_for_status().json()["status"] != "verified":
            assert time.monotonic() < deadline
            time.sleep(0.2)
