"""An audit for people and for programs."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from components.impact import Age
from components.printable import lines, one_line
from tools.audit.findings import CLEAN, FOUND, NOT_AUDITED, Audit, Finding, Kind, Looked, NotAudited

WIDTH = 80


def text(audit: Audit | NotAudited) -> str:
    """An audit for people: one line where there is nothing, else a table and every finding."""
    if isinstance(audit, NotAudited):
        said = f"error: {f'stack {audit.stack}: ' if audit.stack else ''}{audit.what}"
        return lines(f"{said}\n  State: {audit.state}\n  Next:  {audit.next_step}")
    if not audit.findings:
        return f"Stack {audit.stack}: nothing found ({_counted(audit)})."
    parts = [f"Stack {audit.stack}: {_number(len(audit.findings), 'finding')} ({_counted(audit)}).", _table(audit)]
    parts += [_finding(each) for each in audit.findings]
    return "\n\n".join(parts)


def data(audit: Audit | NotAudited) -> dict[str, Any]:
    """An audit for programs. Keys are always there, and further ones may be added.

    `{"stack": str, "status": 0|1|2, "error": null | {"what", "state", "next"}, "findings": [FINDING], "information": [FINDING],
    "secrets": {NAME: SECRET}}`. With status 2 the stack could not be audited: then `error` says why, and the others are empty.

    FINDING is `{"kind", "secret", "where", "what", "next"}`, all of them texts: `kind` is one of `tools.audit.findings.Kind`, `secret`
    is "" where it is about the stack. SECRET is `{"requested", "current", "verified", "verified_at", "age", "locations", "overridden"}`:
    three generations (0 for none), a time (RFC 3339, "" for never), `{"minted_at", "days", "rotate_by", "overdue"}` (`days` is null where
    nothing was minted), a list of texts, and why it was rotated before the stack that goes first had proven it ("" where it had).
    """
    if isinstance(audit, NotAudited):
        error = {"what": audit.what, "state": audit.state, "next": audit.next_step}
        return _object(audit.stack, audit.status, error=error)
    return _object(
        audit.stack,
        audit.status,
        findings=[_finding_data(each) for each in audit.findings],
        information=[_finding_data(each) for each in audit.information],
        secrets={
            name: {
                "requested": each.requested,
                "current": each.current,
                "verified": each.verified,
                "verified_at": each.verified_at,
                "age": _age_data(each.age),
                "locations": list(each.locations),
                "overridden": each.overridden,
            }
            for name, each in audit.secrets.items()
        },
    )


def from_data(printed: Mapping[str, Any]) -> Audit | NotAudited:
    """An audit from what `data` made of it.

    Raises:
        LookupError, TypeError, ValueError: It is something else.
    """
    if printed["error"] is not None:
        error = printed["error"]
        return NotAudited(stack=printed["stack"], what=error["what"], state=error["state"], next_step=error["next"])
    return Audit(
        stack=printed["stack"],
        secrets={
            name: Looked(**{**each, "age": Age(**each["age"]), "locations": tuple(each["locations"])})
            for name, each in printed["secrets"].items()
        },
        findings=tuple(_finding_of(each) for each in printed["findings"]),
        information=tuple(_finding_of(each) for each in printed["information"]),
    )


def _finding_of(printed: Mapping[str, str]) -> Finding:
    return Finding(
        kind=Kind(printed["kind"]),
        secret=printed["secret"],
        where=printed["where"],
        what=printed["what"],
        next_step=printed["next"],
    )


def together(audits: Sequence[Audit | NotAudited]) -> str:
    """Several stacks in one table, and how many are as they should be."""
    rows = [("STACK", "FINDINGS", "SECRETS", "OLDEST")]
    for each in audits:
        if isinstance(each, NotAudited):
            rows.append((each.stack, "not audited", "-", "-"))
            continue
        days = [looked.age.days for looked in each.secrets.values() if looked.age.days is not None]
        oldest = f"{max(days)} d" if days else "-"
        rows.append((each.stack, str(len(each.findings) or "-"), str(len(each.secrets)), oldest))
    counts = [
        (CLEAN, "as it should be", "as they should be"),
        (FOUND, "with findings", "with findings"),
        (NOT_AUDITED, "not audited", "not audited"),
    ]
    numbers = [(sum(each.status == status for each in audits), one, more) for status, one, more in counts]
    said = ", ".join(f"{number} {one if number == 1 else more}" for number, one, more in numbers if number)
    return f"{_columns(rows)}\n\n{_number(len(audits), 'stack')}: {said}."


def _object(stack: str, status: int, **given: object) -> dict[str, Any]:
    empty: dict[str, Any] = {"error": None, "findings": [], "information": [], "secrets": {}}
    return {"stack": stack, "status": status, **empty, **given}


def _finding_data(finding: Finding) -> dict[str, str]:
    return {
        "kind": str(finding.kind),
        "secret": finding.secret,
        "where": finding.where,
        "what": finding.what,
        "next": finding.next_step,
    }


def _age_data(age: Age) -> dict[str, Any]:
    return {"minted_at": age.minted_at, "days": age.days, "rotate_by": age.rotate_by, "overdue": age.overdue}


def _counted(audit: Audit) -> str:
    looked = f"{_number(len(audit.secrets), 'secret')} looked at"
    if overridden := sorted(name for name, each in audit.secrets.items() if each.overridden):
        looked += f"; rotated without proof on the stack before: {', '.join(overridden)}"
    if not audit.information:
        return looked
    return f"{looked}; {_number(len(audit.information), 'unmanaged credential')}, see `--strict`"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _table(audit: Audit) -> str:
    rows = [("SECRET", "GENERATION", "AGE", "FINDINGS")]
    for name, each in audit.secrets.items():
        generation = str(each.verified or "none")
        if each.requested != each.verified:
            generation += f" → {each.requested}"
        age = "-" if each.age.days is None else f"{each.age.days} d"
        count = sum(finding.secret == name for finding in audit.findings)
        rows.append((name, generation, age, str(count or "-")))
    return _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _finding(finding: Finding) -> str:
    lines = [f"{finding.kind}: {finding.secret or 'the stack'}"]
    for label, said in (("where", finding.where), ("what", finding.what), ("next", finding.next_step)):
        lines += textwrap.wrap(
            one_line(said),
            WIDTH,
            initial_indent=f"  {label:<5}  ",
            subsequent_indent=" " * 9,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
