"""What all dynamic providers share. Methods of providers get the outputs of the state and the inputs of the program as plain dicts."""

import functools
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pulumi.dynamic import ConfigureRequest, ReadResult, ResourceProvider
from pulumi.output import Unknown

from components import at_once
from components.calls import ApiError
from components.errors import OperatorError, RefusedError

Properties = dict[str, Any]
PLUGIN = "pulumi.dynamic.__main__"  # the module that the engine starts for all dynamic providers of a stack


class Provider(ResourceProvider):
    """The stack's config, and a delete that touches nothing.

    A provider has no attributes of its own: they would be pickled into the state.
    """

    # Only the dotted name is kept in the state: nothing in it is secret.
    serialize_as_secret_always = False
    _config: Any = None

    def configure(self, req: ConfigureRequest) -> None:
        """Keeps the stack's config, in the process of the provider only."""
        self._config = req.config
        end_with_the_engine()
        _prepare()

    def config(self, key: str) -> str | None:
        """A key of the stack's config, as it was at the last update (see `operator_credentials`)."""
        value = self._config.get(key) if self._config is not None else None
        return None if value is None else str(value)

    def read(self, id_: str, props: Properties) -> ReadResult:
        """What the state says: a refresh forgets no credential, and drift is found by `diff`."""
        return ReadResult(id_, props)

    def delete(self, _id: str, _props: Properties) -> None:
        """Nothing: a credential dies by `Revocation` alone, and a location keeps the value that its consumers run with."""


@contextmanager
def looking_at(app: str) -> Iterator[None]:
    """While an app is only looked at, to see what there is to do. What a call that fails means is said to the operator.

    Raises:
        OperatorError: A call failed.
    """
    try:
        yield
    except ApiError as error:
        raise OperatorError(
            f"What app {app} holds could not be looked at: {error}.",
            state=f"no secret of {app} was written and none of its machines was restarted by it, and nothing was revoked after it.",
            next_step="`pulumi up` again once Fly answers.",
            contact=error.contact,
        ) from error


def _is_plugin() -> bool:
    """Whether this is the process that the engine has started for all dynamic providers of a stack."""
    return getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "") == PLUGIN


@functools.cache
def end_with_the_engine() -> None:
    """From now on the plugin's process ends in the moment in which its engine does, however that ended. Does nothing elsewhere.

    An engine that is killed (`kill -9`, out of memory) takes no plugin with it. A rollout that goes on then would work beside the next
    `pulumi up`, on another value perhaps: two writers. To be cut off is what every method bears anyway.

    The engine holds the other end of the pipe that is our standard error: when that is gone, `poll` says so (poll(2), POLLERR). The parent is
    no sign: between the engine and us stands a shell. Without `poll` (Windows) nothing is noticed.
    """
    if _is_plugin() and hasattr(select, "poll"):
        threading.Thread(target=_end_with, args=(sys.stderr.fileno(),), name="end with the engine", daemon=True).start()


@functools.cache
def _prepare() -> None:
    """Imports what the plugin's process is going to be called for, while the engine starts its other plugins. Does nothing elsewhere.

    The first calls need none of it: what a credential's `diff` compares is in the state.
    """
    if _is_plugin():
        at_once.import_meanwhile("components.fly.provider", "components.tenants.provider", "components.turning")


def _end_with(pipe: int) -> None:
    """Waits until nobody reads a pipe that this process writes to, and ends the process as `kill -9` would: no way back is taken."""
    poll = select.poll()
    poll.register(pipe, 0)  # what tells of the end is told unasked
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
        os._exit(1)


def asked(ask: Callable[[], bool]) -> bool:
    """What a provider answers to a `diff` that has to ask it; False where it does not take the operator's credential.

    The engine calls `diff` in a refresh, too, and gives it the config of the last update: a token in it may be revoked by now, or not be there
    at all. A refresh decides nothing. In a preview or an update the program has asked before, and has refused to go on if its token is bad.

    Raises:
        ApiError: There was no answer, or another error.
    """
    try:
        return ask()
    except RefusedError:
        return False
    except ApiError as error:
        if error.refused:
            return False
        raise


def integer(value: object) -> int:
    """Numbers arrive as floats."""
    return int(float(str(value)))


def same(old: object, new: object) -> bool:
    """Whether a property is unchanged. A value that a preview does not know yet counts as changed."""
    return not isinstance(new, Unknown) and old == new
