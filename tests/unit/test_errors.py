"""Does an operator read what happened, what is true now, and what to do next, in that order?"""

import pytest

from components.errors import OperatorError, RefusedError, help_line, refusals


def in_order(text: str, *parts: str) -> bool:
    positions = [text.find(part) for part in parts]
    return -1 not in positions and positions == sorted(positions)


def test_what_happened_comes_first_then_the_state_then_the_next_step() -> None:
    error = OperatorError("it broke", state="half of it stands", next_step="mend it")
    assert in_order(str(error), "it broke", "half of it stands", "mend it")
    assert (error.happened, error.state, error.next_step) == ("it broke", "half of it stands", "mend it")


def test_a_refusal_says_that_nothing_was_changed() -> None:
    assert "nothing was changed" in str(RefusedError("no", next_step="say yes"))


def test_a_single_refusal_stays_as_it_is() -> None:
    only = RefusedError("no", next_step="say yes")
    assert refusals([only]) is only


@pytest.mark.parametrize("count", [2, 3, 12])
def test_several_refusals_are_all_named_and_numbered_with_their_next_steps(count: int) -> None:
    together = refusals([RefusedError(f"wrong-{n}", next_step=f"mend-{n}") for n in range(1, count + 1)])
    assert isinstance(together, RefusedError)
    lines = [line.strip().removeprefix("Next:").strip() for line in str(together).splitlines()]
    for number in range(1, count + 1):
        assert f"{number}. wrong-{number}" in lines
        assert f"{number}. mend-{number}" in lines
    assert str(together).count("nothing was changed") == 1


# Whom to call


def test_whom_to_call_comes_last() -> None:
    error = OperatorError("it broke", state="half of it stands", next_step="mend it", contact="Fly: by mail")
    assert in_order(str(error), "it broke", "State:", "Next:", "mend it", "Help:", "Fly: by mail")
    assert error.contact == "Fly: by mail"
    assert in_order(str(RefusedError("no", next_step="say yes", contact="Neon")), "Next:", "Help:  Neon")


def test_where_there_is_nobody_to_call_nobody_is_named() -> None:
    for error in (OperatorError("a", state="b", next_step="c"), RefusedError("a", next_step="c")):
        assert error.contact == ""
        assert "Help" not in str(error)
        assert str(error).endswith("c")
    assert help_line("") == ""


def test_several_refusals_name_everybody_to_call_once() -> None:
    together = refusals(
        [
            RefusedError("a", next_step="x", contact="Neon: chat"),
            RefusedError("b", next_step="y"),
            RefusedError("c", next_step="z", contact="Fly: mail"),
            RefusedError("d", next_step="w", contact="Neon: chat"),
        ]
    )
    assert [line.strip() for line in together.contact.splitlines()] == ["Fly: mail", "Neon: chat"]
    assert str(together).count("Help:") == 1
    assert "Help" not in str(refusals([RefusedError(each, next_step="x") for each in "ab"]))
