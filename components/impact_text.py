"""The impact of an update as text: for a terminal of 80 columns and the log of a CI job, with no colour. Pure."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence

from components.impact import Age, Departure, Effect, Impact, Restart, Revoked, change
from components.printable import lines as lines_of
from components.secret import LEAKED

WIDTH = 76  # the engine indents what a program says by four
LABEL = 10  # characters in front of what is said of a secret
HEADINGS = ("SECRET", "GENERATION", "AGE", "MINT", "RESTART", "OUTAGE", "REVOKE")


def render(impact: Impact) -> str:
    """The whole of it: a table with a line for every secret, then what is done for each. One line where nothing is."""
    return lines_of(_text(impact))


def _text(impact: Impact) -> str:
    if not impact.pending:
        return "\n".join([f"Nothing to rotate on stack {impact.stack}.", *_others(impact)])
    restarting = {name: restart for restart in impact.restarts if not restart.tenants for name in restart.secrets}
    table = _table([_row(effect, restarting.get(effect.secret)) for effect in impact.effects])
    return "\n\n".join(
        [
            f"What `pulumi up` does on stack {impact.stack}:",
            *([table] if impact.effects else []),
            *(_details(effect) for effect in impact.effects),
            *(_end(each) for each in impact.departures if each.decommissioned),
            *(_restart(restart) for restart in impact.restarts),
            *filter(None, ["\n".join(_others(impact))]),
        ]
    )


def _row(effect: Effect, restart: Restart | None) -> tuple[str, ...]:
    if not effect.locations:
        machines = "-"
    elif effect.staged:
        machines = "staged"
    else:
        machines = str(restart.machines) if restart else "-"
    return (
        effect.secret,
        str(effect.generation) if effect.verified == effect.generation else change(effect),
        _age(effect.age),
        "yes" if effect.mints else "-",
        machines,
        "YES" if effect.outage else "none",
        str(len(effect.revokes) + len(effect.orphans)),
    )


def _age(age: Age) -> str:
    if age.days is None:
        return "-"
    return f"{age.days} d !" if age.overdue else f"{age.days} d"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (HEADINGS, *rows)) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (HEADINGS, *rows)
    )


def _details(effect: Effect) -> str:
    title = f"{effect.secret}: {effect.action}, generation {change(effect).removesuffix(f' ({effect.action})')}"
    if effect.reason == LEAKED and (effect.changes_values or effect.verification):
        title += ", because the value before has leaked"
    lines = [title]
    _add(lines, "unfinished", [effect.unfinished] if effect.unfinished else [])
    _add(lines, "overdue", [f"since {effect.age.rotate_by}"] if effect.age.overdue else [])
    _add(lines, "promotion", [effect.promotion] if effect.promotion else [])
    _add(lines, "revoke", [f"first, what a crash has left: {_named(effect.orphans)}"] if effect.orphans else [])
    _add(lines, "mint", [effect.mints] if effect.mints else [])
    _add(lines, "value", ["the one that was handed in"] if effect.supplied else [])
    _add(lines, "probe", effect.probe)
    _add(lines, "because", effect.drift)
    _add(lines, "write", [f"{number}. {each}" for number, each in enumerate(effect.locations, 1)])
    _add(lines, "left", effect.leaves)
    _add(
        lines, "staged", [f"{effect.staged}; nothing of it is verified or revoked until then"] if effect.staged else []
    )
    _add(lines, "verify", effect.verification)
    _add(lines, "test data", effect.makes)
    _add(lines, "workflow", effect.dispatches)
    _add(lines, "revoke", [f"once that holds: {_named(effect.revokes)}"] if effect.revokes else [])
    _add(lines, "old value", effect.ending)
    _add(
        lines,
        "outage",
        _outage(effect),
    )
    _add(lines, "at risk", [effect.at_risk] if effect.at_risk else [])
    _add(lines, "given up", effect.costs)
    return "\n".join(lines)


def _end(departure: Departure) -> str:
    """What is done to a secret that is decommissioned."""
    lines = [f"{departure.secret}: decommission"]
    _add(lines, "breaks", [departure.without] if departure.without else [])
    _add(lines, "unset", [f"{number}. {each}" for number, each in enumerate(departure.locations, 1)])
    _add(
        lines,
        "if it fails",
        ["a machine that does not get healthy without it has it back, and nothing is revoked"]
        if departure.apps and not departure.no_way_back
        else [],
    )
    _add(
        lines,
        "at risk",
        [
            f"the stack does not know the value at {each}: unlike the others it could not be brought back"
            for each in departure.no_way_back
        ],
    )
    _add(lines, "wait", ["for workflow runs that may have started with it"] if departure.waits_for_runs else [])
    if departure.credentials:
        _add(lines, "revoke", [f"once nobody holds it: {_named(departure.credentials)}"])
    _add(lines, "", departure.ending)
    if departure.remaining:
        _add(lines, "lives on", [f"{_named(departure.remaining)}: only its provider can end it; do that there"])
    return "\n".join(lines)


def _left(departure: Departure) -> list[str]:
    """What is said of a secret that is left as it is."""
    held = " and ".join(departure.locations) or "no location"
    lives = f"{_named(departure.credentials)} lives on, held by {held}" if departure.credentials else f"{held} keeps it"
    return _wrapped(
        f"No longer managed: {departure.secret}. Nothing is unset or revoked: {lives}; the stack forgets the value. "
        "To end it instead: list it under `decommission`."
    )


def _outage(effect: Effect) -> list[str]:
    if effect.outage:
        return [effect.outage]
    return ["none: both values work until the old one is revoked"] if effect.changes_values else []


def _named(revoked: Iterable[Revoked]) -> str:
    return ", ".join(
        each.name if each.name == each.credential_id else f"{each.name} ({each.credential_id})" for each in revoked
    )


def _restart(restart: Restart) -> str:
    lines = [f"{restart.app}: {_count(restart)}"]
    _add(lines, "for", [", ".join(restart.secrets)])
    if restart.batches:
        batches = ", then ".join(str(each) for each in _shortened(restart.batches))
        _add(lines, "batches", [f"{batches}; each has to be healthy before the next one"])
    way_back = (
        "a machine that does not get healthy has its old value back, is named, and holds every revocation up"
        if restart.tenants
        else "the values before come back, on every machine that has moved"
    )
    _add(lines, "if it fails", [way_back] if restart.batches else [])
    return "\n".join(lines)


def _count(restart: Restart) -> str:
    if not restart.machines:
        return "no machine restarts"
    whose = " of tenants" if restart.tenants else ""
    return f"{restart.machines} machine{'s' if restart.machines > 1 else ''}{whose} restart{'' if restart.machines > 1 else 's'}, once"


def _shortened(batches: Sequence[int]) -> list[str]:
    """Many batches of one size as one."""
    runs = [(size, len(list(equal))) for size, equal in itertools.groupby(batches)]
    if len(batches) <= 4:  # noqa: PLR2004 - as many as are read at a glance
        return [str(each) for each in batches]
    return [f"{count} batches of {size}" if count > 1 else str(size) for size, count in runs]


def _others(impact: Impact) -> list[str]:
    """Secrets that nothing is done for, and that somebody should know about."""
    lines: list[str] = []
    for name, age in impact.overdue.items():
        lines += _wrapped(f"Overdue: {name} is {age.days} days old, and should have been rotated by {age.rotate_by}.")
    for name, reason in impact.unfinished.items():
        lines += _wrapped(f"Staged: {name}: {reason}.")
    for departure in impact.departures:
        if not departure.decommissioned:
            lines += _left(departure)
    return lines


def _add(lines: list[str], label: str, said: Iterable[str]) -> None:
    for number, each in enumerate(said):
        start = (label if number == 0 else "").ljust(LABEL)
        lines += _wrapped(each, start=f"  {start} ", rest=" " * (LABEL + 3))


def _wrapped(text: str, *, start: str = "", rest: str = "") -> list[str]:
    """Names and ids stay whole, however long: somebody may want to copy them."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
