"""What can go wrong, as text for the operator."""

from __future__ import annotations


class EngineError(Exception):
    """There is no engine to be had; the text says what happened, what state things are in, and what to do."""


class Interrupted(BaseException):
    """A signal asked to stop. Not an Exception, so that nothing swallows it on its way out.

    Attributes:
        signal_number: The signal that came.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
