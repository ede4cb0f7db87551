"""The document of the matrix, from the results of runs. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tools.faults.bench import HTTP_TIMEOUT, SETTINGS
from tools.faults.kinds import KINDS, Blow
from tools.faults.plan import COMPANY, Cell, cells
from tools.faults.recording import Position
from tools.faults.scenarios import SCENARIOS
from tools.faults.trial import Outcome, Result

# Measured apart, on 2026-11-26 with CLI 3.256.0 and pulumi-github 6.15.0; a change of either is a reason to look again.
KNOWN = """\
- **GitHub never answers the write of an Actions secret.** pulumi-github has no setting for how long it waits, and ignores `customTimeouts`
  ("Resource does not support customTimeouts"). `pulumi up` says `updating` for 20 minutes and then fails by itself; the next one finished.
  Ctrl-C once does not help, twice does. Nothing is broken meanwhile: Fly has the new value, GitHub the old one, and both work.
- **`kill -9` of the engine** ends the plugin that mints, delivers and revokes in the same moment (`components/dynamic_provider.py`; each
  cell with `kill-engine` looks whether it did), and a check that is under way ends, too: in the 22 seconds after a kill at the write of
  Fly's secrets, and after one at the creation of the disposable org, nothing more was asked of any provider. So nobody writes beside the next
  `pulumi up`, but for the request that was under way. The language host, the command plugin and pulumi-github stay, idle, with the operator's
  tokens in their environment, until somebody ends them (`pkill -f pulumi-language-python`, `pkill -f pulumi-resource-`, where no other
  `pulumi up` runs). Not measured on Windows, where the plugin does not notice.
- **An interrupted create** (a check whose engine was killed) stays as a note in the state, about which every `pulumi up` warns, until
  `pulumi refresh --clear-pending-creates --yes --skip-preview`. Everything works with the note.
- **A first deployment of `DATABASE_URL` whose role was made and never answered for** leaves that role beside the one in use: a stack without
  state cannot tell it from one that somebody works with. Nobody was shown its password. The output `unmanaged` names it, and `revokeUnmanaged`
  ends it.\
"""
MARKS = {
    Outcome.ABSORBED: "·",
    Outcome.NEXT_UP: "u",
    Outcome.AFTER_CANCEL: "c",
    Outcome.AFTER_REFRESH: "r",
    Outcome.HUNG: "h",
    Outcome.NOT_HIT: "-",
    Outcome.BROKEN: "**X**",
}
MEANINGS = {
    Outcome.ABSORBED: "the `pulumi up` that was hit succeeded all the same",
    Outcome.NEXT_UP: "it failed, and the next plain `pulumi up` finished the rotation",
    Outcome.AFTER_CANCEL: "the same, after `pulumi cancel` for the lock of the killed engine",
    Outcome.AFTER_REFRESH: "the same, and `pulumi refresh --clear-pending-creates` took a note of the engine off (README)",
    Outcome.HUNG: "it did not end by itself within two and a half minutes, or four times as long as undisturbed; after Ctrl-C the next plain "
    "`pulumi up` finished",
    Outcome.NOT_HIT: "the request was not made in that run; says nothing",
    Outcome.BROKEN: "an invariant was violated, or the rotation could not be finished so: see below",
}


SHARED = "∘"
BLOWS = {kind.name for kind in KINDS if kind.blow is not Blow.NONE}
ALONE = "that secret alone, with the defaults"


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How often each outcome came, in the order of `Outcome`."""
    found = Counter(each.outcome for each in results)
    return {str(outcome): found[outcome] for outcome in Outcome if found[outcome]}


def latest(results: Iterable[Result]) -> list[Result]:
    """Of a cell that was run more than once the last result."""
    return list({(each.secret, each.row, each.kind): each for each in results}.values())


def write(results: Sequence[Result], *, rows: Mapping[str, Sequence[Position]]) -> str:
    """The whole document. Of a cell that was run more than once the last result counts.

    Args:
        results: Of all runs, oldest first.
        rows: The requests of the scenarios that were recorded.
    """
    results = latest(results)
    matrix = {name: cells(positions, scenario=name) for name, positions in rows.items()}
    lines = [
        "# The fault matrix",
        "",
        "Made by `python -m tools.faults`; do not edit. Each cell is one rotation on the sandbox, with the real engine, in which one",
        "request of the program, its providers or its checks was made to fail. After it: was any invariant violated meanwhile",
        "(`sandbox/invariants.py`, and no consumer may have been refused); does a plain `pulumi up`, after what the error tells the",
        "operator to do and nothing else, finish the rotation; is everything as after an undisturbed one; is a secret value in",
        "plaintext in the state or in what was printed.",
        "",
        *_what_was_run(results, matrix),
        "",
        "| mark | meaning | cells |",
        "|---|---|---|",
        *_meanings(results),
        "",
        "An empty cell was not run.",
        "",
        "## Not survived, and what is not as it should be",
        "",
        *_trouble(results),
        "",
        "Known beside that, measured apart or outside the program:",
        "",
        KNOWN,
        "",
        "## What rotates",
        "",
        *_scenarios(results, matrix),
        "",
        "## The faults",
        "",
        *_kinds(results, matrix),
        "",
        "`#n` after a request is which of its kind in the rotation: as it is made in an undisturbed one. Of requests that are repeated without",
        "a write between them (a poll) the first is disturbed. Only requests to the HTTP APIs are disturbed: not the connections to PostgreSQL",
        "and Redis.",
    ]
    for name in dict.fromkeys((*SCENARIOS, *(each.secret for each in results))):
        of_it = [each for each in results if each.secret == name]
        if of_it:
            lines += ["", f"## {name}", "", *_table(of_it)]
            if name in rows:
                met = {each.row for each in of_it}
                unmet = sum(each.title not in met for each in rows[name])
                lines += ["", f"{unmet} of its {len(rows[name])} requests have met no fault yet."]
    return "\n".join([*lines, ""])


def _what_was_run(results: Sequence[Result], matrix: Mapping[str, Sequence[Cell]]) -> list[str]:
    dates = sorted({each.date for each in results})
    revisions = Counter(each.revision for each in results)
    hours = sum(each.seconds for each in results) / 3600
    shown = ", ".join(f"{revision} ({_cells(count)})" for revision, count in revisions.items())
    settings = ", ".join(f"`{key}: {value}`" for key, value in SETTINGS.items())
    run = {(each.secret, each.row, each.kind) for each in results if each.outcome is not Outcome.NOT_HIT}
    copied = sum(each.copied for each in results)
    everything = [cell for listed in matrix.values() for cell in listed]
    sorts = {cell.sort for cell in everything}
    covered = {cell.sort for cell in everything if (cell.scenario, *cell.key) in run}
    return [
        f"**What was run**: {len(results)} of {len(everything)} cells, {hours:.1f} hours of rotations, on {' and '.join(dates)}, at commit",
        f"{shown}; a `+` is a",
        "checkout with changes that were not committed yet. The rest was not run.",
        "",
        "A run with `--cover` does one cell of each sort first, whatever it is that rotates: a sort is a fault, a request (provider, method,",
        "path) and a phase of the rotation (plan, mint, deliver, prove).",
        f"Of {len(sorts)} sorts {len(covered)} {'was' if len(covered) == 1 else 'were'} run, {len(sorts - covered)} not.",
        "",
        "Two machines of the control plane ran, two of tenants where tenants hold the secret, and the stack's settings were the",
        "defaults but for",
        settings,
        f"and `ROTATION_HTTP_TIMEOUT={HTTP_TIMEOUT}`. {_cells(copied)} began with a copy of one sandbox in which only `pulumi up` was missing,",
        f"{_cells(len(results) - copied)} where the cell before had ended.",
    ]


def _meanings(results: Sequence[Result]) -> list[str]:
    shared = sum(each.outcome is Outcome.ABSORBED and each.together > 1 for each in results)
    lines = []
    for outcome in Outcome:
        count = sum(each.outcome is outcome for each in results)
        if outcome is Outcome.ABSORBED:
            lines.append(f"| {MARKS[outcome]} | {MEANINGS[outcome]} | {count - shared} |")
            lines.append(
                f"| {SHARED} | the same, in a rotation in which up to {COMPANY} requests met a fault each, and all were absorbed; "
                f"where not all are, each is run alone | {shared} |"
            )
        else:
            lines.append(f"| {MARKS[outcome]} | {MEANINGS[outcome]} | {count} |")
    return lines


def _scenarios(results: Sequence[Result], matrix: Mapping[str, Sequence[Cell]]) -> list[str]:
    """A line for each, those that were not run included."""
    lines = [
        f"| | how | cells | {' | '.join(MARKS.values())} |",
        f"|---|---|---|{'---|' * len(MARKS)}",
    ]
    for name, scenario in SCENARIOS.items():
        of_it = [each for each in results if each.secret == name]
        whole = f"{len(of_it)} of {len(matrix[name])}" if name in matrix else f"{len(of_it)}, not recorded"
        found = " | ".join(
            f"**{count}**" if outcome is Outcome.BROKEN and count else str(count)
            for outcome in MARKS
            for count in [sum(each.outcome is outcome for each in of_it)]
        )
        lines.append(f"| {name} | {scenario.about or ALONE} | {whole} | {found} |")
    return lines


def _kinds(results: Sequence[Result], matrix: Mapping[str, Sequence[Cell]]) -> list[str]:
    lines = [
        f"| fault | what happens | cells | {' | '.join(MARKS.values())} |",
        f"|---|---|---|{'---|' * len(MARKS)}",
    ]
    for kind in KINDS:
        of_it = [each for each in results if each.kind == kind.name]
        whole = sum(cell.kind.name == kind.name for listed in matrix.values() for cell in listed)
        found = " | ".join(str(sum(each.outcome is outcome for each in of_it)) for outcome in MARKS)
        lines.append(f"| {kind.name} | {kind.about} | {len(of_it)} of {whole} | {found} |")
    return lines


def _trouble(results: Sequence[Result]) -> list[str]:
    lines = [
        f"- **{each.secret}, {each.row}, {each.kind}**: {each.broken}"
        for each in results
        if each.outcome is Outcome.BROKEN
    ]
    for title, found in (
        ("Had to be ended by Ctrl-C", [each for each in results if each.outcome is Outcome.HUNG]),
        ("Showed the operator a traceback", [each for each in results if each.traceback]),
        (
            "Failed without a word on what to do next",
            [each for each in results if not each.advised and each.kind not in BLOWS],
        ),
    ):
        if found:
            rows = Counter(f"{each.secret}, {each.row}" for each in found)
            lines.append(
                f"- {title}, {_cells(len(found))}: " + "; ".join(f"{row} ({count})" for row, count in rows.items())
            )
    return lines or ["Nothing."]


def _table(results: Sequence[Result]) -> list[str]:
    kinds = [kind.name for kind in KINDS if any(each.kind == kind.name for each in results)]
    marks = {
        (each.row, each.kind): SHARED if each.outcome is Outcome.ABSORBED and each.together > 1 else MARKS[each.outcome]
        for each in results
    }
    rows = list(dict.fromkeys(each.row for each in sorted(results, key=lambda each: each.row)))
    return [
        f"| request | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
        *(f"| {row} | {' | '.join(marks.get((row, kind), '') for kind in kinds)} |" for row in rows),
    ]


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"
