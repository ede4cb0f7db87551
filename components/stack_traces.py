"""How much of the program's call stack the SDK keeps in the state with every resource.

It keeps all of it, which is of use to nobody here: most of it is the SDK's own and Python's, with the paths of the operator's machine, a third
of what a resource takes in the state. On a backend that it manages itself the engine writes all of the state at every step.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# The SDK looks for the frame of a resource's own constructor, the seventh from where it looks at most, and keeps those that called it.
KEPT: Final = 8


@contextmanager
def short() -> Iterator[None]:
    """While resources are registered. An error inside is shown with its whole traceback all the same: it is written after this."""
    before = getattr(sys, "tracebacklimit", None)
    sys.tracebacklimit = KEPT
    try:
        yield
    finally:
        if before is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = before
