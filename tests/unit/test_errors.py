"""Does an operator read what happened, what is true now, and what to do next, in that order?"""

import pytest

from components.errors import OperatorError, RefusedError, refusals


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
