"""What the SDK says where a resource failed under `--continue-on-error`: a traceback of its own, about nothing that the operator could mend."""

import pulumi
from pulumi.runtime import stack

from components.errors import OperatorError


def without_traceback() -> None:
    """Lets the program end with a sentence instead. Whatever else was under way is ended as before."""
    wait = stack.wait_for_rpcs

    async def quietly(await_all_outstanding_tasks: bool = True) -> None:  # noqa: FBT001, FBT002 - the SDK's own
        try:
            await wait(await_all_outstanding_tasks)
        except stack.ResourceRegistrationFailed as error:
            raise pulumi.RunError(str(_said(str(error)))) from None

    stack.wait_for_rpcs = quietly


def _said(error: str) -> OperatorError:
    return OperatorError(
        f"Not everything was done: {error}.",
        state="its own error, above or below, says what is true of it. What depends on it was not touched: nothing was verified or "
        "revoked on the strength of it.",
        next_step="mend what that error names, then `pulumi up`.",
    )
