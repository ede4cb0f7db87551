"""Answers that processes share which wait for the same: one asks, and all take what it is told.

The checks of a rotation are a process each, begin together, and want to know the same of an app: which of its machines have booted since. Fly
takes one such question a second (`rate_limit.py`), so that a hundred checks would wait for a hundred seconds to be told the same a hundred
times. An answer that somebody else has begun to ask for after I needed it is as good as my own.

- What is shared is in a file of the user's own (`user_files.py`) and holds no secret value: whoever shares answers takes out of them what it
  needs, and shares that.
- Who asks with another token shares nothing: the other might have been refused.
- The lock is held while one asks; the others wait for it, and find the answer. One that fails keeps its error to itself, and the next one asks.
- How old an answer is, is measured by two clocks, which have to agree: the monotonic one begins anew with the machine, the other can be set.
"""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any, Final

from components import clock
from components.user_files import held, name_of, rewrite

PATIENCE: Final = 10.0  # seconds to wait for others that ask; then everybody asks alone, as where a provider is down
POLL: Final = 0.05
LARGEST: Final = 4 * 1024 * 1024
DISAGREEMENT: Final = 1.0  # seconds

# An answer as JSON has it.
Json = Any


def shared(question: str, ask: Callable[[], Json], *, older: float = 0.0) -> Json:
    """The answer to a question: that of somebody who began to ask after this call, or else one's own.

    Args:
        question: Tells answers apart: what is asked, whom, and with which token. Only its hash is kept.
        ask: Asks; the answer has to be JSON, without a secret value in it.
        older: Seconds by which an answer may be older than this call.

    Raises:
        Exception: What `ask` raises.
    """
    needed = time.monotonic() - older
    with ExitStack() as stack:
        try:
            file = stack.enter_context(held(name_of(f"answer {question}"), patience=PATIENCE, every=POLL))
            found = _read(file.read(LARGEST), needed)
        except OSError:
            return ask()
        if found is not None:
            clock.believe(timedelta(seconds=found["ahead"]))
            return found["answer"]
        began, at = time.monotonic(), clock.machine().timestamp()
        answer = ask()
        content = {"began": began, "at": at, "ahead": clock.ahead().total_seconds(), "answer": answer}
        with suppress(OSError):
            rewrite(file, json.dumps(content).encode())
        return answer


def _read(content: bytes, needed: float) -> dict[str, Json] | None:
    """What a file holds, if that is young enough; None where it is not what was written, too."""
    try:
        found = json.loads(content)
        age = time.monotonic() - float(found["began"])
        disagreement = abs(clock.machine().timestamp() - float(found["at"]) - age)
        usable = needed <= float(found["began"]) and age >= 0 and disagreement < DISAGREEMENT
        return {"ahead": float(found["ahead"]), "answer": found["answer"]} if usable else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
