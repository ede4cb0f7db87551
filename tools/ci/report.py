"""The texts that people read at GitHub. Whatever an engine or a provider said stands in a fence, as text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from components.printable import lines
from tools.ci.engine import Impact, Outcome

LONGEST_TEXT = 28_000  # characters; GitHub takes 65,536 for a whole comment, and a comment has two texts at most


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a nightly check found.

    Attributes:
        title: One line of ours.
        text: What was printed.
    """

    title: str
    text: str


def fenced(text: str) -> str:
    """The text in a code block that nothing in it can end: the fence is longer than any run of backticks in it.

    Without what is not printed: a character that reorders text would make a comment read otherwise than what was said.
    """
    text = lines(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shortened(text)}\n{fence}"


def shortened(text: str) -> str:
    """The text without its middle, if it is too long: errors stand at the end."""
    text = text.strip("\n")
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def preview_marker(stack: str) -> str:
    """What the comment of a stack begins with. Not shown."""
    return f"<!-- rotation-preview:{stack} -->"


def nightly_marker(stack: str) -> str:
    """What the issue of a stack begins with. Not shown."""
    return f"<!-- rotation-nightly:{stack} -->"


def preview(stack: str, outcome: Outcome, *, commit: str, run: str) -> str:
    """The comment on a pull request."""
    parts = [preview_marker(stack), f"### Rotation of stack `{stack}`: {_headline(outcome)}"]
    if outcome.impact is not None:
        parts.append(fenced(_impact_text(outcome.impact)))
    if outcome.impact is None or outcome.status != 0:
        parts.append(fenced(outcome.output))
    else:
        parts.append(f"<details><summary>The engine's preview</summary>\n\n{fenced(outcome.output)}\n\n</details>")
    of = f"Preview of commit {commit}" if commit else "Preview"
    parts.append(f"{of}{f', [this run]({run})' if run else ''}. Each run overwrites this comment.")
    return "\n\n".join(parts)


def _headline(outcome: Outcome) -> str:
    if outcome.status != 0:
        return "the preview failed"
    if outcome.impact is None:
        return "preview"
    return "something to do" if outcome.impact.pending else "nothing to do"


def _impact_text(impact: Impact) -> str:
    return f"{impact.summary}\n\n{impact.text}"


def summary(stack: str, command: str, outcome: Outcome) -> str:
    """What the page of the run shows (`GITHUB_STEP_SUMMARY`)."""
    result = "succeeded" if outcome.status == 0 else f"failed (exit status {outcome.status})"
    text = outcome.output if outcome.impact is None or outcome.status != 0 else _impact_text(outcome.impact)
    return f"### `pulumi {command}` of stack `{stack}` {result}\n\n{fenced(text)}\n"


def nightly(stack: str, findings: Iterable[Finding]) -> str:
    """The body of the issue. Without a date, so that the same findings are the same body."""
    opening = f"The nightly check of stack `{stack}` found the following. It changed nothing."
    parts = [nightly_marker(stack), f"{opening} This issue is closed by the first check that finds nothing."]
    budget = 2  # texts; the others are in the log of the run
    for finding in findings:
        text = fenced(finding.text) if budget > 0 else "The log of the run has the text."
        budget -= 1
        parts.append(f"#### {finding.title}\n\n{text}")
    return "\n\n".join(parts)
