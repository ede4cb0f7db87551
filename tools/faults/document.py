"""The document of the matrix, from the results of runs. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tools.faults.bench import HTTP_TIMEOUT, SETTINGS
from tools.faults.kinds import KINDS, Blow
from tools.faults.scenarios import SCENARIOS
from tools.faults.trial import Outcome, Result

# Measured apart, on 2026-11-26 with CLI 3.256.0 and pulumi-github 6.15.0; a change of either is a reason to look again.
KNOWN = """\
- **GitHub never answers the write of an Actions secret.** pulumi-github has no setting for how long it waits, and ignores `customTimeouts`
  ("Resource does not support customTimeouts"). `pulumi up` says `updating` for 20 minutes and then fails by itself; the next one finished.
  Ctrl-C once does not help, twice does. Nothing is broken meanwhile: Fly has the new value, GitHub the old one, and both work.
- **`kill -9` of the engine** does not end its plugins. Killed at the write of Fly's secrets, the provider wrote them and stopped: in the
  25 seconds after no machine was restarted. Its process, the language host and the command plugin stayed, with the operator's tokens in their
  environment, until somebody ended them (`pkill -f pulumi-language-python`, `pkill -f pulumi.dynamic`, where no other `pulumi up` runs).
- **An interrupted create** (a check whose engine was killed) stays as a note in the state, about which every `pulumi up` warns, until
  `pulumi refresh --clear-pending-creates --yes --skip-preview`. Everything works with the note.\
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
    Outcome.HUNG: "it did not end by itself within two and a half minutes; after Ctrl-C the next plain `pulumi up` finished",
    Outcome.NOT_HIT: "the request was not made in that run; says nothing",
    Outcome.BROKEN: "an invariant was violated, or the rotation could not be finished so: see below",
}


BLOWS = {kind.name for kind in KINDS if kind.blow is not Blow.NONE}


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How often each outcome came, in the order of `Outcome`."""
    found = Counter(each.outcome for each in results)
    return {str(outcome): found[outcome] for outcome in Outcome if found[outcome]}


def latest(results: Iterable[Result]) -> list[Result]:
    """Of a cell that was run more than once the last result."""
    return list({(each.secret, each.row, each.kind): each for each in results}.values())


def write(results: Sequence[Result], *, whole: Mapping[str, int]) -> str:
    """The whole document. Of a cell that was run more than once the last result counts.

    Args:
        results: Of all runs, oldest first.
        whole: How many cells the whole matrix of a secret has.
    """
    results = latest(results)
    secrets = list(dict.fromkeys(each.secret for each in results))
    lines = [
        "# The fault matrix",
        "",
        "Made by `python -m tools.faults`; do not edit. Each cell is one rotation on the sandbox, with the real engine, in which one",
        "request of the program, its providers or its checks was made to fail. After it: was any invariant violated meanwhile",
        "(`sandbox/invariants.py`, and no consumer may have been refused); does a plain `pulumi up`, after what the error tells the",
        "operator to do and nothing else, finish the rotation; is everything as after an undisturbed one; is a secret value in",
        "plaintext in the state or in what was printed.",
        "",
        *_what_was_run(results, whole),
        "",
        "| mark | meaning | cells |",
        "|---|---|---|",
        *(
            f"| {MARKS[outcome]} | {MEANINGS[outcome]} | {sum(each.outcome is outcome for each in results)} |"
            for outcome in Outcome
        ),
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
    ]
    for secret in secrets:
        of_it = [each for each in results if each.secret == secret]
        share = (
            f"{len(of_it)} of the {whole[secret]} cells of this secret" if secret in whole else f"{len(of_it)} cells"
        )
        lines += ["", f"## {secret}", "", f"{share} were run: {_told(of_it)}.", "", *_table(of_it)]
    lines += ["", "## The faults", "", "| fault | what happens |", "|---|---|"]
    lines += [f"| {kind.name} | {kind.about} |" for kind in KINDS]
    lines += [
        "",
        "`#n` after a request is which of its kind in the rotation: as it is made in an undisturbed one. Of requests that are repeated without",
        "a write between them (a poll) the first is disturbed. Only requests to the HTTP APIs are disturbed: not the connections to PostgreSQL",
        "and Redis.",
        "",
    ]
    return "\n".join(lines)


def _what_was_run(results: Sequence[Result], whole: Mapping[str, int]) -> list[str]:
    dates = sorted({each.date for each in results})
    revisions = Counter(each.revision for each in results)
    hours = sum(each.seconds for each in results) / 3600
    shown = ", ".join(f"{revision} ({count} cells)" for revision, count in revisions.items())
    settings = ", ".join(f"`{key}: {value}`" for key, value in SETTINGS.items())
    secrets = {each.secret for each in results}
    share = f" of {sum(whole[secret] for secret in secrets)}" if secrets <= whole.keys() else ""
    return [
        f"**What was run**: {len(results)}{share} cells of {len(secrets)} secrets, {hours:.1f} hours of rotations, on {' and '.join(dates)},",
        f"at commit {shown}; a `+` is a checkout with changes that were not committed",
        "yet. Each time one secret was listed, two machines of the control plane ran, two tenants where tenants hold the secret, and the",
        f"stack's settings were the defaults but for {settings}",
        f"and `ROTATION_HTTP_TIMEOUT={HTTP_TIMEOUT}`.",
        "",
        f"Not run at all: {', '.join(name for name in SCENARIOS if name not in secrets) or 'nothing'}. Not among what this harness can run:",
        "`STRIPE_API_KEY`, which a person rolls in Stripe's Dashboard; several secrets at once; a first deployment; the strategies `reset`,",
        "`reprovision` and `rollout: staged`.",
    ]


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
                f"- {title}, {len(found)} cells: " + "; ".join(f"{row} ({count})" for row, count in rows.items())
            )
    return lines or ["Nothing."]


def _told(results: Sequence[Result]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts(results).items())


def _table(results: Sequence[Result]) -> list[str]:
    kinds = [kind.name for kind in KINDS if any(each.kind == kind.name for each in results)]
    marks = {(each.row, each.kind): MARKS[each.outcome] for each in results}
    rows = list(dict.fromkeys(each.row for each in sorted(results, key=lambda each: each.row)))
    return [
        f"| request | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
        *(f"| {row} | {' | '.join(marks.get((row, kind), '') for kind in kinds)} |" for row in rows),
    ]
