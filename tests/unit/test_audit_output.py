"""Does an audit fit a log of 80 columns, one line where there is nothing, and does its JSON keep its shape?"""

import json
from dataclasses import replace

from components.impact import Age
from tools.audit.findings import Audit, Finding, Kind, Looked, NotAudited
from tools.audit.output import data, text

AGE = Age(minted_at="2026-11-24T18:33:00+00:00", days=2, rotate_by="", overdue=False)
LOOKED = Looked(
    requested=2,
    current=2,
    verified=2,
    verified_at="2026-11-24T18:34:00+00:00",
    age=AGE,
    locations=("Fly app molecule-cp",),
)
CLEAN = Audit(stack="prod", secrets={"TOKEN": LOOKED})
FINDING = Finding(
    kind=Kind.DRIFT,
    secret="TOKEN",
    where="Fly app molecule-cp",
    what="somebody else set TOKEN of molecule-cp since the last update, and this sentence is longer than a line may be",
    next_step="`pulumi up`.",
)
WHY = "the only endpoint was disabled"
LATER = replace(LOOKED, requested=1, current=0, verified=0, age=Age(), overridden=WHY)
MINE = replace(FINDING, kind=Kind.UNMANAGED)
FOUND = replace(
    CLEAN,
    secrets={"TOKEN": LOOKED, "LATER": LATER},
    findings=(replace(FINDING, kind=Kind.INTERRUPTED, secret=""), FINDING),
    information=(MINE,),
)


def test_nothing_is_one_line() -> None:
    assert text(CLEAN) == "Stack prod: nothing found (1 secret looked at)."
    assert (
        text(replace(CLEAN, information=(MINE, MINE)))
        == "Stack prod: nothing found (1 secret looked at; 2 unmanaged credentials, see `--strict`)."
    )


def test_findings_are_a_table_and_a_paragraph_each() -> None:
    proof = "rotated without proof on the stack before: LATER"
    assert text(FOUND).splitlines() == [
        f"Stack prod: 2 findings (2 secrets looked at; {proof}; 1 unmanaged credential, see `--strict`).",
        "",
        "SECRET  GENERATION  AGE  FINDINGS",
        "TOKEN   2           2 d  1",
        "LATER   none → 1    -    -",
        "",
        "interrupted: the stack",
        "  where  Fly app molecule-cp",
        "  what   somebody else set TOKEN of molecule-cp since the last update, and this",
        "         sentence is longer than a line may be",
        "  next   `pulumi up`.",
        "",
        "drift: TOKEN",
        "  where  Fly app molecule-cp",
        "  what   somebody else set TOKEN of molecule-cp since the last update, and this",
        "         sentence is longer than a line may be",
        "  next   `pulumi up`.",
    ]
    assert max(len(line) for line in text(FOUND).splitlines()[1:]) <= 80


def test_names_of_others_move_no_cursor_and_start_no_line() -> None:
    hostile = replace(FINDING, what="token \x1b[31mred\x07\n::set-output name=a::b\u202e")
    said = text(replace(FOUND, findings=(hostile,)))
    assert "  what   token ?[31mred? ::set-output name=a::b?" in said.splitlines()


def test_a_stack_that_was_not_audited() -> None:
    said = text(NotAudited(stack="prod", what="it is locked", state="nothing was changed.", next_step="wait."))
    assert said == "error: stack prod: it is locked\n  State: nothing was changed.\n  Next:  wait."


def test_the_json_keeps_its_shape() -> None:
    told = json.loads(json.dumps(data(FOUND)))
    assert told == {
        "stack": "prod",
        "status": 1,
        "error": None,
        "findings": [
            {
                "kind": kind,
                "secret": secret,
                "where": "Fly app molecule-cp",
                "what": FINDING.what,
                "next": "`pulumi up`.",
            }
            for kind, secret in (("interrupted", ""), ("drift", "TOKEN"))
        ],
        "information": [
            {
                "kind": "unmanaged",
                "secret": "TOKEN",
                "where": "Fly app molecule-cp",
                "what": FINDING.what,
                "next": "`pulumi up`.",
            }
        ],
        "secrets": {
            "TOKEN": {
                "requested": 2,
                "current": 2,
                "verified": 2,
                "verified_at": "2026-11-24T18:34:00+00:00",
                "age": {"minted_at": "2026-11-24T18:33:00+00:00", "days": 2, "rotate_by": "", "overdue": False},
                "locations": ["Fly app molecule-cp"],
                "overridden": "",
            },
            "LATER": {
                "requested": 1,
                "current": 0,
                "verified": 0,
                "verified_at": "2026-11-24T18:34:00+00:00",
                "age": {"minted_at": "", "days": None, "rotate_by": "", "overdue": False},
                "locations": ["Fly app molecule-cp"],
                "overridden": WHY,
            },
        },
    }
    assert data(CLEAN)["status"] == 0
    error = data(NotAudited(stack="", what="a", state="b", next_step="c"))
    assert error == {
        "stack": "",
        "status": 2,
        "error": {"what": "a", "state": "b", "next": "c"},
        "findings": [],
        "information": [],
        "secrets": {},
    }
    assert error.keys() == told.keys()
    assert {each.value for each in Kind} == {
        "drift",
        "orphan",
        "dead",
        "overdue",
        "unfinished",
        "interrupted",
        "unseen",
        "unmanaged",
    }, "programs rely on these words"
