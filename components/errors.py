"""Errors that an operator reads: what happened, what state things are in now, what to do next, in that order."""

from components.printable import lines


class OperatorError(Exception):
    """Something an operator has to know.

    Args:
        happened: What went wrong, in one or two sentences. Never contains a secret value.
        state: What is true now: what was changed and what was not.
        next_step: What to do next.
        contact: Whom to call where that does not help; "" for nobody.
    """

    def __init__(self, happened: str, *, state: str, next_step: str, contact: str = "") -> None:
        # They name what others chose. What is said of several things at once has lines of its own.
        happened, state, next_step = lines(happened), lines(state), lines(next_step)
        super().__init__(happened, state, next_step)
        self.contact = contact
        self.happened = happened
        self.state = state
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.happened}\n  State: {self.state}\n  Next:  {self.next_step}{help_line(self.contact)}"


def help_line(contact: str) -> str:
    """The line of an error that names whom to call, "" for nobody."""
    return f"\n  Help:  {contact}" if contact else ""


class RefusedError(OperatorError):
    """A request that is refused before anything is touched."""

    def __init__(self, happened: str, *, next_step: str, contact: str = "") -> None:
        super().__init__(happened, state="nothing was changed.", next_step=next_step, contact=contact)


def refusals(errors: list[RefusedError]) -> RefusedError:
    """Several refusals as one, so that an operator can mend all of them before the next try."""
    if len(errors) == 1:
        return errors[0]
    happened = "\n".join(f"{number}. {error.happened}" for number, error in enumerate(errors, 1))
    steps = "\n".join(f"         {number}. {error.next_step}" for number, error in enumerate(errors, 1))
    contacts = sorted({error.contact for error in errors if error.contact})
    return RefusedError(happened, next_step=steps.strip(), contact="\n         ".join(contacts))
