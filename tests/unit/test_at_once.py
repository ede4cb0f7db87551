"""Are independent questions asked side by side, with what they need, and is what fails told in their order?"""

import threading
from contextvars import ContextVar

import pytest

from components import at_once

SAID = ContextVar("said", default="")


def test_answers_come_in_the_order_of_the_questions_and_every_question_has_the_context_of_whoever_asks() -> None:
    token = SAID.set("here")
    met = threading.Barrier(3, timeout=60)

    def question(number: int) -> tuple[int, str]:
        met.wait()  # nobody passes it alone
        return number, SAID.get()

    try:
        answers = at_once.ask([lambda number=number: question(number) for number in range(3)])  # type: ignore[misc]
    finally:
        SAID.reset(token)
    assert answers == [(0, "here"), (1, "here"), (2, "here")]


def test_both_are_asked_at_once() -> None:
    token = SAID.set("here")
    met = threading.Barrier(2, timeout=60)

    def question() -> str:
        met.wait()
        return SAID.get()

    try:
        assert at_once.both(question, lambda: (question(), 1)) == ("here", ("here", 1))
    finally:
        SAID.reset(token)


def failing(error: Exception) -> str:
    raise error


def test_the_first_failure_in_their_order_is_told_and_all_are_asked() -> None:
    asked: list[str] = []

    def third() -> str:
        asked.append("third")
        return ""

    with pytest.raises(ValueError, match="first"):
        at_once.ask(
            [
                lambda: failing(ValueError("first")),
                lambda: failing(LookupError("second")),
                third,
            ]
        )
    assert asked == ["third"]
    with pytest.raises(ValueError, match="one"):
        at_once.both(lambda: failing(ValueError("one")), lambda: failing(LookupError("other")))


@pytest.mark.parametrize("number", [0, 1])
def test_a_single_question_needs_no_thread(number: int) -> None:
    assert at_once.ask([threading.get_ident] * number) == [threading.get_ident()] * number


def test_a_preparation_that_fails_says_nothing_and_keeps_none_from_being_made(
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = threading.Event()
    at_once.prepare(at_once.importing("components.nowhere"), made.set).join(60)
    assert made.is_set()
    assert capfd.readouterr() == ("", "")
