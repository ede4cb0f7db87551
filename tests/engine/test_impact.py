"""What a preview says is what an update then does: for each secret, for all at once, and for what an earlier one left half-way."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.engine.announced import unannounced, writes
from tests.engine.stage import (
    APP,
    KEY,
    NEON,
    RESEND,
    SECRET,
    SENDER,
    WEBHOOK,
    Stage,
    family,
    one_line,
)
from tools.workspace import CHECKOUT, STACK, workspace

DATABASE, REDIS, ENCRYPTION = "DATABASE_URL", "TENANT_REDIS_URL", "SECRETS_ENCRYPTION_KEY"
EVERY = (SECRET, NEON, DATABASE, REDIS, ENCRYPTION, RESEND, SENDER, KEY, WEBHOOK)
GOLDEN = Path(__file__).parent / "golden"
SCHEMA = json.loads((CHECKOUT / "docs" / "impact.schema.json").read_text())
TENANTS = 3
# What differs between two sandboxes, or two runs.
VOLATILE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\bwe_\w+"), "<endpoint>"),
    (re.compile(r"\([a-z0-9]{20,}\)"), "(<token>)"),
    (re.compile(r"\(\d{6,}\)"), "(<key>)"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<url>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)"), "<time>"),
    (re.compile(r"about \d+ s"), "about <seconds> s"),
    (re.compile(r"acct_\w+"), "<account>"),
)


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[Stage]:
    """Generation 1 of every secret is deployed, and there are tenants."""
    with workspace(tmp_path / "workspace", "--tenants", str(TENANTS)) as made:
        stage = Stage(directory=made.directory, environment=made.environment)
        stage.configure("stripeAccount", stage.environment["STRIPE_ACCOUNT_ID"])
        stage.set_secret("encryptionKeyBefore", stage.fly_secret(ENCRYPTION))
        for secret in EVERY:
            bump(stage, secret, 1)
        stage.deploys()
        yield stage


def bump(stage: Stage, secret: str, generation: int) -> None:
    """Asks for a generation, with all that an operator has to do for that."""
    stage.set_generation(secret, generation)
    if secret == SENDER:
        stage.hand_in(SENDER, f"Molecule AI <hello-{generation}@moleculesai.app>")
    if secret == KEY:
        stage.hand_in(KEY, stage.stripe("roll-key", "--expires-in", "3600"))
    if secret == ENCRYPTION:
        stage.configure(f"compromised.{ENCRYPTION}", str(generation), path=True)


def lasting(text: str) -> str:
    """A text without what differs between two runs. What is said with such a thing is on one line: where it is broken differs as well."""
    lines = []
    for entry in re.split(r"\n(?! {13})", text):
        joined = re.sub(r"\n +", " ", entry)
        shown = joined
        for pattern, replacement in VOLATILE:
            shown = pattern.sub(replacement, shown)
        lines.append(entry if shown == joined else shown)
    return "\n".join(lines)


def assert_golden(name: str, text: str) -> None:
    """The text is that of the file, apart from what differs between two runs. UPDATE_GOLDEN=1 writes the file anew."""
    said = lasting(text)
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(said + "\n")
    assert said + "\n" == file.read_text(), name


def report(stage: Stage) -> str:
    """The page that `make report` writes."""
    file = stage.directory / "report.html"
    subprocess.run(
        [sys.executable, "-m", "tools.report", "--stack", STACK, "--output", str(file)],
        cwd=CHECKOUT,
        env=dict(stage.environment),
        check=True,
    )
    return file.read_text()


def _refusal(output: str) -> str:
    """What a preview refuses, as it stands at the end: what is printed while it runs depends on when."""
    at_the_end = output[output.index("Diagnostics:") :]
    found = re.search(r"error: (.*?)\n\s+error: an unhandled", at_the_end, re.DOTALL)
    assert found is not None, output
    return "\n".join(line.strip() for line in found[1].splitlines())


def assert_kept(stage: Stage, impact: dict[str, Any]) -> None:
    """Updates, and finds that nothing was done but what had been announced, and all of that."""
    last = stage.last_request()
    stage.deploys()
    made = stage.requests(after=last)
    assert unannounced(made, impact) == []
    assert writes(made), "an update that changes nothing proves nothing"
    verified = stage.outputs()["secrets"]
    for secret, effect in impact["secrets"].items():
        (newest, *_) = verified[secret]["timeline"]
        assert newest["generation"] == effect["to"]
        # One that only its provider can end is announced as watched, not as revoked.
        if not verified[secret]["alive"]:
            assert {each["name"] for each in effect["revokes"]} <= set(newest["revoked"]), secret
    stage.assert_no_change()


def test_each_secret_and_all_at_once(everything: Stage, measured: Callable[[str], None]) -> None:
    before = everything.last_request()
    for secret in EVERY:
        config = everything.stack_file.read_text()
        bump(everything, secret, 2)
        impact = everything.impact()
        jsonschema.validate(impact, SCHEMA)
        assert list(impact["secrets"]) == [secret]
        assert_golden(secret, impact["text"])
        everything.stack_file.write_text(config)
    everything.configure("rotations.GITHUB_TOKEN", "1", path=True)
    refused = everything.preview()
    assert refused.status != 0
    assert_golden("refused-GITHUB_TOKEN", _refusal(refused.output))
    everything.must("config", "rm", "--stack", STACK, "--path", "rotations.GITHUB_TOKEN")

    for secret in EVERY:
        bump(everything, secret, 2)
    impact = everything.impact()
    jsonschema.validate(impact, SCHEMA)
    assert_golden("all", impact["text"])
    assert writes(everything.requests(after=before)) == [], "a preview has changed something"
    (restart, tenants) = impact["restarts"]
    assert (restart["app"], restart["machines"], len(restart["secrets"])) == (APP, 2, len(EVERY))
    assert (tenants["machines"], tenants["tenants"]) == (TENANTS, True)
    # With the rate limits that providers document: eight verifications look at the machines of one app at once.
    everything.sandbox("set", "rate_limits=1")
    assert_kept(everything, impact)
    assert everything.refused_by_fly_for_their_rate() == {}
    everything.sandbox("set", "rate_limits=0")
    assert everything.impact()["text"] == f"Nothing to rotate on stack {STACK}."

    # Any other choice of secrets.
    seed = int(os.environ.get("IMPACT_SEED") or time.time())
    chance = random.Random(seed)  # noqa: S311 - nothing secret comes of it
    measured(f"IMPACT_SEED={seed}")
    some = chance.sample(EVERY, chance.randint(2, 5))
    for secret in some:
        bump(everything, secret, 3)
    impact = everything.impact()
    assert set(impact["secrets"]) == set(some)
    assert_kept(everything, impact)
    page = report(everything)
    for secret in EVERY:
        assert secret in page
    assert f"{some[0]} 2 → 3" in one_line(page)


def test_unfinished_business_is_told_truly(deployed: Stage) -> None:
    # A verification that failed.
    deployed.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
    deployed.set_generation(SECRET, 2)
    deployed.fails()
    deployed.sandbox("set", "github.workflow_broken=")
    impact = deployed.impact()
    effect = impact["secrets"][SECRET]
    assert effect["unfinished"] == "generation 2 is minted and delivered, not verified; generation 1 still alive"
    assert (effect["action"], effect["mints"], effect["locations"], impact["restarts"]) == ("finish", "", [], [])
    assert [each["name"] for each in effect["revokes"]] == [f"{family(SECRET)}-g1"]

    # Given up instead.
    deployed.set_generation(SECRET, 1)
    impact = deployed.impact()
    effect = impact["secrets"][SECRET]
    assert (effect["action"], effect["mints"], len(effect["locations"])) == ("go back", "", 2)
    assert [each["name"] for each in effect["revokes"]] == [f"{family(SECRET)}-g2"]
    assert_kept(deployed, impact)
    deployed.assert_settled(1)

    # A revocation that Fly refuses.
    deployed.sandbox(
        "fault", "--provider", "fly", "--match", "POST", "deleteLimitedAccessToken", "--status", "500", "--count", "50"
    )
    deployed.set_generation(SECRET, 3)
    deployed.fails()
    deployed.sandbox("fault", "--clear")
    impact = deployed.impact()
    effect = impact["secrets"][SECRET]
    assert (effect["action"], effect["unfinished"]) == (
        "revoke",
        "generation 3 is verified, and what it replaces is not revoked yet",
    )
    assert (effect["probe"], effect["verification"], effect["dispatches"]) == ([], [], [])
    assert_kept(deployed, impact)
    deployed.assert_settled(3)

    # A secret that somebody set by hand.
    deployed.write_fly_secret(SECRET, "set-by-hand")
    impact = deployed.impact()
    effect = impact["secrets"][SECRET]
    assert effect["action"] == "deliver again"
    assert effect["drift"] == [f"somebody else set {SECRET} of {APP} since the last update"]
    assert (effect["locations"], effect["verification"]) == ([f"Fly app {APP}"], [])
    assert_kept(deployed, impact)
    deployed.assert_settled(3)

    # Another setting of a check.
    deployed.configure("orgTimeout", "299")
    impact = deployed.impact()
    assert impact["secrets"][SECRET]["action"] == "verify again"
    assert_kept(deployed, impact)


def test_an_update_can_be_bound_to_its_preview(deployed: Stage) -> None:
    deployed.configure(f"maxAgeDays.{SECRET}", "90", path=True)
    deployed.set_generation(SECRET, 2)
    plan = deployed.directory / "plan.json"
    assert deployed.preview("--save-plan", str(plan)).status == 0
    deployed.set_generation(SECRET, 3)
    minted = deployed.minted()

    output = deployed.fails("--plan", str(plan))

    assert "violates plan" in output
    assert deployed.minted() == minted
    deployed.set_generation(SECRET, 2)
    deployed.deploys("--plan", str(plan))
    deployed.assert_settled(2)
    told = deployed.outputs()["secrets"][SECRET]
    assert (told["overdue"], told["rotate_by"] > told["minted_at"]) == (False, True)
    deployed.assert_no_change()
