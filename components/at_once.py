"""Several things at the same time, where each waits for something else than this process's own work. No Pulumi here."""

import importlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

Answer = TypeVar("Answer")
Other = TypeVar("Other")

MOST = 8  # questions; far below what any provider limits


def ask(questions: Iterable[Callable[[], Answer]]) -> list[Answer]:
    """The answers to independent questions, in the order of the questions. All are asked, also where one fails.

    Each is asked with the context of this thread: what a call is for stands there, and the engine's SDK keeps the stack's config in it, so
    that an operator credential of the config would not be found without it.

    Raises:
        Exception: What the first one that failed raised, first in the order of the questions.
    """
    questions = list(questions)
    if len(questions) < 2:  # noqa: PLR2004 - nothing to be beside
        return [question() for question in questions]
    with ThreadPoolExecutor(max_workers=min(MOST, len(questions))) as pool:
        answers = [pool.submit(copy_context().run, question) for question in questions]
    return [answer.result() for answer in answers]


def both(one: Callable[[], Answer], other: Callable[[], Other]) -> tuple[Answer, Other]:
    """The answers to two independent questions. As `ask`, for answers of two types."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        answer = pool.submit(copy_context().run, other)
        return one(), answer.result()


def import_meanwhile(*modules: str) -> None:
    """Imports modules that are needed soon, while this thread waits for answers or to be called.

    Whoever needs one imports it as ever: that waits where it is not there yet, and fails with the reason where it cannot be.
    """
    threading.Thread(target=_import, args=(modules,), name="imports").start()


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
