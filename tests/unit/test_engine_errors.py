"""Is a failure under `--continue-on-error` said in a sentence, and every other one as before?"""

import asyncio

import pulumi
import pytest
from pulumi.runtime import stack

from components.engine_errors import without_traceback


@pytest.mark.parametrize(
    "error", [stack.ResourceRegistrationFailed("molecule-cp", "fly:AppSecrets"), ValueError("x"), None]
)
def test_a_resource_that_failed_is_named_without_a_traceback(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(await_all_outstanding_tasks: bool = True) -> None:  # noqa: ARG001, FBT001, FBT002
        if error is not None:
            raise error

    monkeypatch.setattr(stack, "wait_for_rpcs", wait)
    without_traceback()
    if error is None:
        asyncio.run(stack.wait_for_rpcs())
        return
    with pytest.raises(pulumi.RunError if isinstance(error, stack.ResourceRegistrationFailed) else ValueError) as said:
        asyncio.run(stack.wait_for_rpcs())
    if isinstance(said.value, pulumi.RunError):
        assert "molecule-cp" in str(said.value)
        assert "Next:  mend what that error names, then `pulumi up`." in str(said.value)
