"""What others say, made fit for a terminal, the log of a CI job and a comment. Pure.

Names at providers are chosen by anybody, and answers come over a network. A control character moves a terminal's cursor or rewrites what stands
there, a character that reorders text makes it read differently, and a line that begins with `::` is a command to GitHub's runner ("Workflow
commands for GitHub Actions"; it skips blanks in front of it, and takes `##[` anywhere in a line for one of the older form).
"""

REPLACEMENT = "?"


def one_line(text: str, longest: int | None = None) -> str:
    """The text on one line, without anything that is not printed or that commands GitHub's runner, and cut after `longest` characters."""
    line = _no_command(_shown(" ".join(text.split())))
    return line if longest is None or len(line) <= longest else line[:longest] + "…"


def lines(text: str) -> str:
    """The text with its lines and indentation, without anything else that is not printed, and without commands to GitHub's runner."""
    return "\n".join(_no_command(_shown(line.replace("\t", " "))) for line in text.split("\n"))


def _shown(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else REPLACEMENT for each in text)


def _no_command(line: str) -> str:
    words = line.lstrip()
    if words.startswith("::"):
        line = line.replace("::", ": :", 1)
    return line.replace("##[", "## [")
