"""The texts at GitHub: nothing that was printed gets out of its fence, and the same findings are the same text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.ci import report
from tools.ci.engine import Impact, Outcome
from tools.ci.report import LONGEST_TEXT, Finding

LARGEST_COMMENT = 65_536
IMPACT = Impact(summary="1 secret is rotated", text="FLY_API_TOKEN 1 → 2", pending=True)


def blocks(markdown: str) -> list[str]:
    """The fenced blocks, as CommonMark reads them: a fence ends at a line of at least as many backticks and nothing else."""
    found: list[str] = []
    lines = iter(markdown.split("\n"))
    for line in lines:
        if opened := re.fullmatch("(`{3,})text", line):
            content: list[str] = []
            for inner in lines:
                if re.fullmatch(" {0,3}`{" + str(len(opened[1])) + r",}\s*", inner):
                    break
                content.append(inner)
            found.append("\n".join(content))
    return found


@given(st.lists(st.sampled_from(["`", "``", "```", "\n", "````text", "x", "</details>", "<!-- -->", " "])).map("".join))
def test_no_text_ends_its_fence(text: str) -> None:
    markdown = report.fenced(text) + "\nafter\n" + report.fenced("second")
    assert blocks(markdown) == [text.strip("\n"), "second"]


def test_a_comment_says_what_and_of_what() -> None:
    outcome = Outcome(status=0, output="Previewing\n```\n", impact=IMPACT)
    body = report.preview("staging", outcome, commit="abc123", run="https://github.test/run")
    assert body.startswith("<!-- rotation-preview:staging -->\n")
    assert "stack `staging`: something to do" in body
    assert blocks(body) == ["1 secret is rotated\n\nFLY_API_TOKEN 1 → 2", "Previewing\n```"]
    assert "commit abc123, [this run](https://github.test/run)" in body


@pytest.mark.parametrize(
    ("outcome", "headline", "texts"),
    [
        (
            Outcome(status=0, output="o", impact=Impact(summary="s", text="t", pending=False)),
            "nothing to do",
            ["s\n\nt", "o"],
        ),
        (Outcome(status=0, output="o"), "preview", ["o"]),
        (Outcome(status=1, output="refused: …"), "the preview failed", ["refused: …"]),
        (
            Outcome(status=1, output="o", impact=IMPACT),
            "the preview failed",
            [f"{IMPACT.summary}\n\n{IMPACT.text}", "o"],
        ),
    ],
)
def test_headlines(outcome: Outcome, headline: str, texts: list[str]) -> None:
    body = report.preview("s", outcome, commit="", run="")
    assert f"stack `s`: {headline}\n" in body
    assert blocks(body) == texts
    assert ("<details>" in body) == (outcome.impact is not None and outcome.status == 0)


def test_texts_of_any_length_fit() -> None:
    endless = "begin" + "`x" * 100_000 + "end"
    outcome = Outcome(status=0, output=endless, impact=Impact(summary="s", text=endless, pending=True))
    findings = [Finding(title=f"finding {number}", text=endless) for number in range(4)]
    for body in (report.preview("s", outcome, commit="c" * 40, run="r" * 200), report.nightly("s", findings)):
        assert len(body) < LARGEST_COMMENT
        assert all(block.startswith(("begin", "s\n\nbegin")) and block.endswith("end") for block in blocks(body))
    assert all(finding.title in report.nightly("s", findings) for finding in findings)
    assert report.shortened("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT


def test_the_summary_of_a_run() -> None:
    assert "`pulumi up` of stack `s` succeeded" in report.summary("s", "up", Outcome(status=0, output="o"))
    failed = report.summary("s", "up", Outcome(status=255, output="o", impact=IMPACT))
    assert "failed (exit status 255)" in failed
    assert blocks(failed) == ["o"]


def test_the_same_findings_are_the_same_text() -> None:
    findings = [Finding(title="Something is pending", text="x")]
    assert report.nightly("s", findings) == report.nightly("s", findings)
    assert report.nightly("s", findings).startswith("<!-- rotation-nightly:s -->\n")
