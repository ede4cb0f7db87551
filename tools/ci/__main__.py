"""The command line of the workflows: `python -m tools.ci {preview,up,nightly} --stack STACK`.

Exit status 0 means that all is well, anything else that somebody has to look: a preview or update that failed, a check that found
something, or a GitHub that could not be told.
"""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.http import ApiError
from tools.ci import report
from tools.ci.conversation import Conversation
from tools.ci.engine import BACKEND_URL, CI_TOKEN, Engine, password_of
from tools.ci.report import Finding


def preview(engine: Engine, arguments: argparse.Namespace) -> int:
    """A preview; with `--pull-request`, its impact as a comment there."""
    outcome = engine.pulumi("preview", "--stack", arguments.stack)
    _summarize(engine.environment, report.summary(arguments.stack, "preview", outcome))
    if arguments.pull_request:
        body = report.preview(arguments.stack, outcome, commit=arguments.commit, run=_run_url(engine.environment))
        marker = report.preview_marker(arguments.stack)
        _conversation(engine.environment).comment(_repository(engine.environment), arguments.pull_request, marker, body)
    return outcome.status


def up(engine: Engine, arguments: argparse.Namespace) -> int:
    """An update. What it is going to do is in the log before it does it."""
    outcome = engine.pulumi("up", "--yes", "--stack", arguments.stack)
    _summarize(engine.environment, report.summary(arguments.stack, "up", outcome))
    return outcome.status


def nightly(engine: Engine, arguments: argparse.Namespace) -> int:
    """Changes nothing. What it finds is in one issue, which is closed when nothing is found any more."""
    findings = [*_changes(engine, arguments.stack), *_pending(engine, arguments.stack)]
    for command in arguments.check:
        checked = engine.run(shlex.split(command))
        if checked.status != 0:
            findings.append(Finding(title=f"`{command}` ended with exit status {checked.status}", text=checked.output))
    marker, environment = report.nightly_marker(arguments.stack), engine.environment
    if arguments.issue:
        conversation, repository = _conversation(environment), _repository(environment)
        if findings:
            title = f"Rotation: the nightly check of {arguments.stack} found something"
            conversation.report(repository, marker, title=title, body=report.nightly(arguments.stack, findings))
        else:
            run = _run_url(environment)
            said = f"Nothing was found any more{f' by [this run]({run})' if run else ''}."
            conversation.all_clear(repository, marker, comment=said)
    print(f"{len(findings)} findings" if findings else "nothing found", flush=True)
    return 1 if findings else 0


def _changes(engine: Engine, stack: str) -> list[Finding]:
    outcome = engine.pulumi("preview", "--expect-no-changes", "--stack", stack)
    impact = outcome.impact
    if outcome.status == 0 and not (impact and impact.pending):
        return []
    title = "The preview failed, or shows changes" if outcome.status else "Something is pending"
    said = f"{impact.summary}\n\n{impact.text}\n\n" if impact else ""
    return [Finding(title=title, text=said + outcome.output)]


def _pending(engine: Engine, stack: str) -> list[Finding]:
    """What an interrupted update left, of which `--expect-no-changes` says nothing."""
    exported = engine.pulumi("stack", "export", "--stack", stack, shown=False)
    if exported.status != 0:
        return [Finding(title="The state could not be read", text=exported.output)]
    deployment: dict[str, Any] = json.loads(exported.output[exported.output.index("{") :])["deployment"]
    lines = [
        *(f"to be deleted: {each['urn']}" for each in deployment.get("resources") or () if each.get("delete")),
        *(f"{each['type']}: {each['resource']['urn']}" for each in deployment.get("pending_operations") or ()),
    ]
    if not lines:
        return []
    return [Finding(title="An update is running, or one was interrupted: `pulumi up` goes on", text="\n".join(lines))]


def _conversation(environment: Mapping[str, str]) -> Conversation:
    return Conversation(environment.get(CI_TOKEN, ""), environment.get("GITHUB_API_URL", ""))


def _repository(environment: Mapping[str, str]) -> str:
    return environment["GITHUB_REPOSITORY"]


def _run_url(environment: Mapping[str, str]) -> str:
    run = environment.get("GITHUB_RUN_ID", "")
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{_repository(environment)}/actions/runs/{run}" if run else ""


def _summarize(environment: Mapping[str, str], text: str) -> None:
    if file := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a") as opened:
            opened.write(text)


def _stack(text: str) -> str:
    """The name of a stack, which gets into Markdown and into a hidden marker."""
    if not re.fullmatch(r"(?:[\w.-]+/){0,2}[\w.-]{1,100}", text) or "--" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a stack")
    return text


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{0,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no commit")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.ci", description=sys.modules[__name__].__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (preview, up, nightly):
        added = commands.add_parser(command.__name__, help=command.__doc__)
        added.set_defaults(command=command)
        added.add_argument("--stack", type=_stack, required=True)
        if command is preview:
            added.add_argument("--pull-request", type=int, default=0, help="its number: the comment goes there")
            added.add_argument("--commit", type=_commit, default="", help="which commit the preview is of")
        if command is nightly:
            added.add_argument("--issue", action="store_true", help="open an issue, or close it")
            added.add_argument(
                "--check",
                action="append",
                default=[],
                metavar="COMMAND",
                help="a command that finds something if its exit status is not 0; its output is reported. May be given again",
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns an exit status."""
    arguments = _parser().parse_args(argv)
    engine = Engine(environment=dict(os.environ))
    needs_github = getattr(arguments, "pull_request", 0) or getattr(arguments, "issue", False)
    missing = [name for name in (CI_TOKEN, "GITHUB_REPOSITORY") if needs_github and not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} must be set to write to GitHub. Nothing was done.", file=sys.stderr)
        return 2
    if password_of(os.environ.get(BACKEND_URL, "")):
        # A workflow's variables are in its log, and Pulumi prints the URL where it cannot connect.
        print(
            f"{BACKEND_URL} holds a password, and would be printed with it. Nothing was done."
            " Take the password out of the URL and set PGPASSWORD (docs/operating/backends.md).",
            file=sys.stderr,
        )
        return 2
    try:
        status: int = arguments.command(engine, arguments)
    except ApiError as error:
        print(f"{error}\nThe result is in this log; GitHub was not told.", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
