"""Can the impact be read at 80 columns, in a log without colour, and is everything in it that an operator has to know?"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.announcement import Announcement, Request
from components.fly.client import Machine
from components.impact import (
    Age,
    Case,
    Effect,
    Finding,
    Impact,
    Restart,
    Revoked,
    Surroundings,
    as_data,
    impact_of,
)
from components.impact_text import WIDTH, render
from components.keyring import Credential, Issued, fingerprint
from components.progress import Progress, State
from components.secret import LEAKED, ROUTINE, Family, Location, Secret
from components.work import Action, Work

from .test_impact import MINTED, NOW, validate
from .test_secret_map import DECLARED, configured

GOLDEN = Path(__file__).parent / "golden"


def too_long(text: str) -> list[str]:
    """Lines that are longer than they have to be."""
    return [line for line in text.splitlines() if len(line) > WIDTH and len(line.split()) > 1 and not _one_word(line)]


def _one_word(line: str) -> bool:
    """Whether a line has, beside its label, one word that cannot be broken and does not fit."""
    *_, last = line.split()
    return len(last) > WIDTH - 13


# A rich one: every secret of the map, in all states

SETTINGS = configured(redisStrategy="reset", stripeWebhookSecret="endpoint")
TIMES = {"minted": MINTED, "verified": "2026-08-28T12:10:00+00:00"}


def known(name: str, *generations: int) -> tuple[Credential, ...]:
    return tuple(
        Credential(
            generation=each,
            credential_id=f"id-{each}",
            name=family(name).credential_name(each),
            value=f"secret value {each} of {name}",
            created_at=TIMES["minted"],
        )
        for each in generations
    )


def family(name: str) -> Family:
    return Family(app="molecule-cp", stack="production", secret=name, longest_name=255)


def secret_of(name: str) -> Secret:
    return DECLARED[name.lower()](SETTINGS)


def progress_of(name: str, verified: int, current: int) -> Progress:
    generations = sorted({current, verified} - {0}, reverse=True)
    held = known(name, *generations)
    return Progress(
        current=current,
        verified=verified,
        verified_at=TIMES["verified"] if verified else "",
        revoked_for=TIMES["verified"] if verified else "",
        keyring=held,
        at_fly={"molecule-cp": fingerprint(held[0].value)} if held else {},
    )


# Per secret: verified, current and requested generation, action, reason, days, unmanaged to revoke, staged
ROWS: list[tuple[str, int, int, int, Action, str, int | None, tuple[str, ...]]] = [
    ("FLY_API_TOKEN", 3, 3, 4, Action.ROTATE, LEAKED, 30, ("hand-made",)),
    ("NEON_API_KEY", 1, 2, 2, Action.FINISH, ROUTINE, None, ()),
    ("TENANT_REDIS_URL", 1, 1, 2, Action.ROTATE, ROUTINE, 365, ()),
    ("SECRETS_ENCRYPTION_KEY", 0, 0, 1, Action.TAKE_OVER, ROUTINE, None, ()),
    ("RESEND_API_KEY", 5, 6, 5, Action.GO_BACK, ROUTINE, None, ()),
    ("STRIPE_API_KEY", 2, 2, 2, Action.NOTHING, ROUTINE, None, ()),
    ("STRIPE_WEBHOOK_SECRET", 2, 2, 2, Action.DELIVER, ROUTINE, None, ()),
    ("DATABASE_URL", 2, 2, 2, Action.NOTHING, ROUTINE, 90, ()),
]
OUTAGES = {"TENANT_REDIS_URL": "The old password of Redis dies as soon as the new one is made."}


def work_for(secret: Secret, action: Action) -> Work:
    if action is Action.NOTHING:
        return Work()
    if action is Action.DELIVER:
        return Work(action=action, delivers=secret.fly)
    turns = action is not Action.FINISH
    return Work(
        action=action,
        turns=turns,
        mints=turns and action is not Action.GO_BACK,
        probes=turns,
        delivers=secret.locations,
        changes_values=True,
        verifies=True,
        revokes=True,
    )


def rich_case(row: tuple[str, int, int, int, Action, str, int | None, tuple[str, ...]]) -> Case:
    name, verified, current, generation, action, reason, max_age_days, also = row
    secret = secret_of(name)
    listed = [
        Issued(credential_id=each.credential_id, name=each.name, live=True)
        for each in known(name, *sorted({current, verified} - {0}, reverse=True))
    ]
    if also:
        orphan = family(name).credential_name(generation)
        listed += [Issued(credential_id=each, name=f"name of {each}", live=True) for each in also]
        listed += [Issued(credential_id="id-of-an-orphan", name=orphan, live=True)]
    mint = Request(system="fly", method="POST", path="/graphql createLimitedAccessToken")
    work = work_for(secret, action)
    drifted: dict[Location, str] = {each: f"somebody else set {name} of {each.app}" for each in secret.fly}
    return Case(
        secret=secret,
        family=family(name),
        work=work,
        generation=generation,
        reason=reason,
        also=also,
        drifted=drifted if action is Action.DELIVER else {},
        staged="not restarted since: m1, m2" if name == "STRIPE_API_KEY" else "",
        finding=Finding(
            issued=tuple(listed),
            minting=Announcement(
                words=(f"a credential, named {family(name).credential_name(generation)}",), writes=(mint,)
            ),
            outage=OUTAGES.get(name, "") if work.changes_values else "",
            ending=lambda ids: Announcement(writes=(replace(mint, path="/graphql end", at_most=len(ids)),)),
        ),
        max_age_days=max_age_days,
    )


def machines(app: str, count: int) -> list[Machine]:
    plain: dict[str, Any] = {"state": "started", "instance_id": "v1", "region": "ams", "host_status": "ok"}
    config = {"env": {"REDIS_URL": "rediss://secret-url", "SECRETS_ENCRYPTION_KEY": "secret-key"}}
    return [Machine(machine_id=f"{app}-{each}", config=config, **plain) for each in range(count)]


def rich() -> Impact:
    return impact_of(
        map(rich_case, ROWS),
        Surroundings(
            stack="production",
            state=State(progress={name: progress_of(name, before, now) for name, before, now, *_ in ROWS}),
            machines={
                SETTINGS.app: machines(SETTINGS.app, 3),
                SETTINGS.tenant_app: machines(SETTINGS.tenant_app, 50),
            },
            max_unavailable=0.1,
            stages=False,
            reprovision_path="",
            now=NOW,
        ),
    )


def golden(name: str, actual: str) -> None:
    """Compares with a file; writes it where UPDATE_GOLDEN=1 is set, for somebody to look at the difference."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(actual)
    assert actual == path.read_text(), "if that is meant: UPDATE_GOLDEN=1, and look at the difference"


def test_the_golden_text() -> None:
    golden("impact.txt", render(rich()) + "\n")


def test_the_golden_data() -> None:
    data = as_data(rich(), text=render(rich()))
    validate(data)
    golden("impact.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def test_the_rich_one_is_readable_in_a_log() -> None:
    text = render(rich())
    assert too_long(text) == []
    assert text.isprintable() or set(re.findall(r"[^ -~]", text)) <= {"\n", "→"}
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    for hidden in ("secret value", "secret-url", "secret-key"):
        assert hidden not in text


@pytest.mark.parametrize("name", [name for name, *_ in ROWS])
def test_every_secret_by_itself_is_readable(name: str) -> None:
    (row,) = (each for each in ROWS if each[0] == name)
    impact = impact_of(
        [rich_case(row)],
        Surroundings(
            stack="production",
            state=State(progress={name: progress_of(name, *row[1:3])}),
            machines={},
            max_unavailable=0.33,
            stages=False,
            reprovision_path="",
            now=NOW,
        ),
    )
    assert too_long(render(impact)) == []


# What has to be in it


def effect(**changed: Any) -> Effect:  # noqa: ANN401 - fields
    plain = {
        "secret": "TOKEN",
        "action": Action.ROTATE,
        "verified": 2,
        "generation": 3,
        "reason": ROUTINE,
        "age": Age(minted_at=MINTED, days=90),
        "mints": "a token",
        "locations": ("Fly app cp",),
        "changes_values": True,
    }
    return Effect(**{**plain, **changed})


def shown(*effects: Effect, **changed: Any) -> str:  # noqa: ANN401 - fields
    return render(Impact(**{"stack": "prod", "effects": effects, "overdue": {}, "unfinished": {}, **changed}))


def details(text: str, label: str) -> str:
    """What stands behind a label, as one line."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(rf"  {re.escape(label)} ", line))
    said = [lines[start][13:]]
    for line in lines[start + 1 :]:
        if not line.startswith(" " * 13):
            break
        said.append(line[13:])
    return " ".join(said)


def has(text: str, label: str) -> bool:
    return any(re.match(rf"  {re.escape(label)} ", line) for line in text.splitlines())


def columns(text: str, secret: str = "TOKEN") -> dict[str, str]:  # noqa: S107 - a name
    lines = text.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("SECRET"))
    row = next(line for line in lines[heading + 1 :] if line.split()[0] == secret)
    starts = [match.start() for match in re.finditer(r"\S+", lines[heading])]
    ends = [*starts[1:], None]
    return {lines[heading][start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends, strict=True)}


def test_a_line_for_every_secret() -> None:
    restart = Restart(app="cp", secrets=("TOKEN",), batches=(1, 2))
    text = shown(effect(revokes=(Revoked(credential_id="t2", name="n2"),)), restarts=(restart,))
    assert columns(text) == {
        "SECRET": "TOKEN",
        "GENERATION": "2 → 3",
        "AGE": "90 d",
        "MINT": "yes",
        "RESTART": "3",
        "OUTAGE": "none",
        "REVOKE": "1",
    }
    assert text.startswith("What `pulumi up` does on stack prod:\n\nSECRET ")
    assert "\nTOKEN: rotate, generation 2 → 3\n" in text


@pytest.mark.parametrize(
    ("changed", "column", "value"),
    [
        ({"verified": 0, "age": Age()}, "GENERATION", "none → 3"),
        ({"verified": 0, "age": Age()}, "AGE", "-"),
        ({"verified": 3, "action": Action.DELIVER}, "GENERATION", "3"),
        ({"mints": ""}, "MINT", "-"),
        ({"locations": ()}, "RESTART", "-"),
        ({"locations": ("GitHub repository o/r",)}, "RESTART", "-"),
        ({"staged": "it is written by this update"}, "RESTART", "staged"),
        ({"outage": "Nobody can log in."}, "OUTAGE", "YES"),
        ({"orphans": (Revoked(credential_id="t9", name="n9"),)}, "REVOKE", "1"),
    ],
)
def test_the_columns(changed: dict[str, Any], column: str, value: str) -> None:
    assert columns(shown(effect(**changed)))[column] == value


@pytest.mark.parametrize(
    ("changed", "label", "said"),
    [
        (
            {"unfinished": "generation 3 is minted, delivered nowhere"},
            "unfinished",
            "generation 3 is minted, delivered nowhere",
        ),
        ({"age": Age(minted_at=MINTED, days=90, rotate_by="2026-09-27", overdue=True)}, "overdue", "since 2026-09-27"),
        ({"mints": "a token, named n3"}, "mint", "a token, named n3"),
        ({"mints": "", "supplied": True}, "value", "the one that was handed in"),
        ({"probe": ("it works", "it is good")}, "probe", "it works it is good"),
        ({"drift": ("somebody set it",)}, "because", "somebody set it"),
        ({"locations": ("Fly app cp", "GitHub repository o/r")}, "write", "1. Fly app cp 2. GitHub repository o/r"),
        ({"staged": "it waits"}, "staged", "it waits; nothing of it is verified or revoked until then"),
        ({"verification": ("all is well",)}, "verify", "all is well"),
        ({"makes": ("org x",)}, "test data", "org x"),
        ({"dispatches": ("publish.yml of o/r",)}, "workflow", "publish.yml of o/r"),
        (
            {"orphans": (Revoked(credential_id="t3", name="n3"),)},
            "revoke",
            "first, what a crash has left: n3 (t3)",
        ),
        (
            {"revokes": (Revoked(credential_id="t2", name="n2"), Revoked(credential_id="same", name="same"))},
            "revoke",
            "once that holds: n2 (t2), same",
        ),
        ({"ending": ("Stripe ends it",)}, "old value", "Stripe ends it"),
        ({"outage": "Nobody can log in."}, "outage", "Nobody can log in."),
        ({}, "outage", "none: both values work until the old one is revoked"),
        ({"at_risk": "Nothing works."}, "at risk", "Nothing works."),
        ({"costs": ("CI runs lose it",)}, "given up", "CI runs lose it"),
        ({"promotion": "NOT PROVEN: it sleeps"}, "promotion", "NOT PROVEN: it sleeps"),
    ],
)
def test_what_is_done_is_said(changed: dict[str, Any], label: str, said: str) -> None:
    assert details(shown(effect(**changed)), label) == said


def test_what_is_not_done_is_not_said() -> None:
    text = shown(effect(mints="", changes_values=False, locations=()))
    labels = ("unfinished", "overdue", "mint", "probe", "because", "write", "staged", "verify", "test data", "workflow")
    for label in (*labels, "revoke", "old value", "outage", "at risk", "given up"):
        assert not has(text, label), label


def test_a_leak_stands_in_the_title() -> None:
    assert "TOKEN: rotate, generation 2 → 3, because the value before has leaked\n" in shown(effect(reason=LEAKED))
    assert "leaked" not in shown(effect())


AGAIN = {
    "verified": 3,
    "action": Action.DELIVER,
    "mints": "",
    "changes_values": False,
    "drift": ("somebody else set it",),
}


def test_a_leak_is_not_the_reason_of_what_is_delivered_again() -> None:
    assert "has leaked" not in shown(effect(**AGAIN, reason=LEAKED))


def test_of_what_is_delivered_again_no_two_values_are_said_to_work() -> None:
    assert "both values" not in shown(effect(**AGAIN))


def test_something_that_is_done_again_names_its_generation_once() -> None:
    assert "\nTOKEN: deliver again, generation 3\n" in shown(effect(verified=3, action=Action.DELIVER))


@pytest.mark.parametrize(
    ("batches", "count", "said"),
    [
        ((1,), "1 machine restarts, once", "1"),
        ((1, 2), "3 machines restart, once", "1, then 2"),
        ((1, 2, 2, 1), "6 machines restart, once", "1, then 2, then 2, then 1"),
        ((1, 5, 5, 5, 5, 3), "24 machines restart, once", "1, then 4 batches of 5, then 3"),
    ],
)
def test_a_restart_and_its_batches(batches: tuple[int, ...], count: str, said: str) -> None:
    text = shown(effect(), restarts=(Restart(app="cp", secrets=("TOKEN", "OTHER"), batches=batches),))
    assert f"\ncp: {count}\n" in text
    assert details(text, "for") == "TOKEN, OTHER"
    assert details(text, "batches") == f"{said}; each has to be healthy before the next one"
    assert "the values before come back" in details(text, "if it fails")


def test_batches_that_are_summed_up_are_of_one_size() -> None:
    text = shown(effect(), restarts=(Restart(app="cp", secrets=("TOKEN",), batches=(1, 5, 5, 5, 3, 2)),))
    assert "4 batches of 5" not in text, "there are three: machines that do not run come last, together"


def test_tenants_that_fail_hold_every_revocation_up() -> None:
    text = shown(effect(), restarts=(Restart(app="tenant", secrets=("REDIS_URL",), batches=(1, 1), tenants=True),))
    assert "\ntenant: 2 machines of tenants restart, once\n" in text
    assert "holds every revocation up" in details(text, "if it fails")


def test_what_is_written_without_a_restart_says_so() -> None:
    text = shown(effect(), restarts=(Restart(app="cp", secrets=("TOKEN",), batches=()),))
    assert "\ncp: no machine restarts\n" in text
    assert not has(text, "batches")
    assert not has(text, "if it fails")


OVERDUE = {"OLD": Age(minted_at=MINTED, days=90, rotate_by="2026-09-27", overdue=True)}
OVERDUE_LINE = "Overdue: OLD is 90 days old, and should have been rotated by 2026-09-27."


def test_nothing_to_do_is_one_line_and_what_is_overdue_or_staged() -> None:
    assert shown() == "Nothing to rotate on stack prod."
    assert shown(overdue=OVERDUE) == f"Nothing to rotate on stack prod.\n{OVERDUE_LINE}"
    assert shown(unfinished={"W": "m1 has not restarted"}).endswith("\nStaged: W: m1 has not restarted.")


def test_the_same_stands_at_the_end_where_something_is_done() -> None:
    assert shown(effect(), overdue=OVERDUE).endswith(f"\n\n{OVERDUE_LINE}")


LONG = "FlyV1-" + "x" * 100


def test_what_somebody_may_want_to_copy_stays_whole() -> None:
    text = shown(effect(revokes=(Revoked(credential_id=LONG, name="a-name-of-one-word"),)))
    assert f"({LONG})" in text
    assert too_long(text) == []


WORDS = st.lists(st.text("abcdefgh-/", min_size=1, max_size=90), min_size=1, max_size=30).map(" ".join)


@given(WORDS, WORDS, WORDS, WORDS)
def test_whatever_is_said_fits(unfinished: str, verification: str, outage: str, reason: str) -> None:
    text = shown(
        effect(unfinished=unfinished, verification=(verification,), outage=outage), unfinished={"WAITING": reason}
    )
    for line in text.splitlines():
        assert len(line) <= WIDTH or len(line.split()[-1]) > WIDTH - 30
    for said in (unfinished, verification, outage, reason):
        assert " ".join(said.split()) in " ".join(text.split())


@pytest.mark.parametrize("days", [1, 99, 400, 1500])
def test_the_table_fits_with_the_longest_name_of_the_map(days: int) -> None:
    name = max((name.upper() for name in DECLARED), key=len)
    text = shown(
        effect(secret=name, verified=0, outage="o", age=Age(minted_at=MINTED, days=days, rotate_by="r", overdue=True)),
        effect(verified=998, generation=999),
    )
    assert too_long(text) == []


def test_the_age_of_what_is_overdue_is_not_taken_for_how_late_it_is() -> None:
    old = Age(minted_at=MINTED, days=120, rotate_by="2026-10-01T00:00:00+00:00", overdue=True)
    assert "120 d late" not in shown(effect(age=old)), "30 days late"
