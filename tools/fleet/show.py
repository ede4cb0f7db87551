"""What a person sees of a run: bars on a terminal, a line per step elsewhere, and a table at the end."""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from components import own_state
from tools.fleet.engine import Step
from tools.fleet.outcome import Result, State
from tools.fleet.targets import Target

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WIDTH = 110
# A terminal that was closed; and a line that is said by a signal while another one is being written.
GONE = (OSError, RuntimeError)


def words(step: Step) -> str:
    """What the engine does to a resource, in words; "" for what nobody has to know of."""
    for prefix, said in (
        (own_state.PROBE_PREFIX, "probing"),
        (own_state.VERIFICATION_PREFIX, "verifying"),
        (own_state.REVOCATION_PREFIX, "revoking what was before"),
    ):
        if step.name.startswith(prefix):
            return f"{step.name.removeprefix(prefix)}: {said}"
    if step.kind.startswith("github:"):
        return f"{step.name}: writing to GitHub"
    return {
        own_state.CREDENTIAL_TYPE: f"{step.name}: minting",
        own_state.APP_TYPE: f"{step.name}: writing secrets, restarting machines",
        own_state.TENANTS_TYPE: f"{step.name}: restarting the machines of tenants",
    }.get(step.kind, "")


class Plain:
    """Lines, for a log. Whatever cannot be written is not: a terminal that is gone stops no rotation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """A text of ours."""
        with suppress(*GONE):
            print(text, file=self._stream, flush=True)

    def line(self, stack: str, text: str) -> None:
        """Something about one stack, with the time."""
        self.say(f"{datetime.now().astimezone():%H:%M:%S} {stack}: {text}")

    @contextmanager
    def busy(self, steps: Mapping[str, int]) -> Iterator[None]:
        """While these stacks are updated, each in so many steps."""
        del steps
        yield

    def step(self, stack: str, step: Step) -> None:
        """What the engine does."""
        if not step.ended and (said := words(step)):
            self.line(stack, said)

    def ended(self, stack: str, text: str) -> None:
        """A stack is through, one way or the other."""
        self.line(stack, text)


class Bars(Plain):
    """Bars, for a terminal: one for each stack that runs, and one for all."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._progress: Progress | None = None
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._steps: Mapping[str, int] = {}
        self._over: set[str] = set()

    @contextmanager
    def busy(self, steps: Mapping[str, int]) -> Iterator[None]:
        """While these stacks are updated, each in so many steps."""
        from rich.console import Console  # noqa: PLC0415 - not in the program's own environment
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.fields[stack]}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._steps, self._over = steps, set()
        progress = Progress(*columns, console=Console(file=self._stream, highlight=False))
        with suppress(*GONE):
            progress.start()
        self._progress = progress
        if len(steps) > 1:
            self._all = progress.add_task("", total=len(steps), stack=f"{len(steps)} stacks")
        try:
            yield
        finally:
            self._progress, self._all, self._tasks = None, None, {}
            with suppress(*GONE):
                progress.stop()

    def say(self, text: str) -> None:
        """A text of ours, above the bars."""
        if self._progress is None:
            super().say(text)
        else:
            with suppress(*GONE):
                self._progress.console.print(text, markup=False, soft_wrap=True)

    def step(self, stack: str, step: Step) -> None:
        """Moves the bar of a stack on."""
        # The engine's last events may come after its end.
        if self._progress is None or stack in self._over:
            return
        if stack not in self._tasks:
            self._tasks[stack] = self._progress.add_task("", total=max(self._steps.get(stack, 0), 1), stack=stack)
        said = words(step)
        if step.ended:
            self._progress.advance(self._tasks[stack])
        elif said:
            self._progress.update(self._tasks[stack], description=said)

    def ended(self, stack: str, text: str) -> None:
        """Takes the bar of a stack away, and says how it ended."""
        self._over.add(stack)
        if self._progress is not None:
            if stack in self._tasks:
                self._progress.remove_task(self._tasks.pop(stack))
            if self._all is not None:
                self._progress.advance(self._all)
        self.line(stack, text)


def reporter(*, json: bool) -> Plain:
    """What fits where we are: bars on a terminal, if they can be drawn. With `json`, standard output is for that alone."""
    stream = sys.stderr if json else sys.stdout
    if not stream.isatty():
        return Plain(stream)
    try:
        import rich  # noqa: F401, PLC0415 - not in the program's own environment
    except ImportError:
        return Plain(stream)
    return Bars(stream)


def plan(waves: Sequence[Sequence[str]], results: Mapping[str, Result]) -> str:
    """The order, and what each stack is to have."""
    rows = [("WAVE", "STACK", "SECRET", "GENERATION", "")]
    for number, wave in enumerate(waves, 1):
        for name in wave:
            for each in results[name].targets:
                move = f"{each.verified or 'none'} → {each.generation}" if not each.settled else str(each.generation)
                note = _note(each)
                rows.append((str(number), name, each.secret, move, note))
    return table(rows)


def _note(target: Target) -> str:
    if target.settled:
        return "verified already"
    if target.bumps:
        return "bump"
    return "finish what was begun" if target.verified else "first deployment"


def closing(results: Mapping[str, Result]) -> str:
    """What is true at the end: a table, and what is to be done for each stack that failed."""
    rows = [("STACK", "STATE", "TOOK", "SECRETS")]
    for name, result in results.items():
        took = f"{result.seconds:.0f} s" if result.seconds else "-"
        secrets = (
            ", ".join(f"{each.secret} {each.generation}" for each in result.targets)
            if result.is_verified
            else "; ".join(result.left)
        )
        rows.append((name, str(result.state), took, secrets or result.why))
    parts = [table(rows)]
    for name, result in results.items():
        if result.error:
            lines = [f"{name}: {result.state}"]
            lines += _entry("What", result.error)
            lines += _entry("State", "; ".join(result.left) or "nothing was changed.")
            lines += _entry("Next", result.next_step)
            if result.log:
                lines += _entry("Log", result.log)
            parts.append("\n".join(lines))
    if any(result.state is not State.PREVIEWED and not result.is_verified for result in results.values()):
        parts.append("The same command goes on from here: what is verified is left alone, what was begun is finished.")
    return "\n\n".join(parts)


def _entry(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label + ':':<7}",
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
