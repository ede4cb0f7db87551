"""What all dynamic providers share. Methods of providers get the outputs of the state and the inputs of the program as plain dicts."""

from collections.abc import Callable
from typing import Any

from pulumi.dynamic import ConfigureRequest, ReadResult, ResourceProvider
from pulumi.output import Unknown

from components.errors import RefusedError
from components.http import ApiError

Properties = dict[str, Any]


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

    def config(self, key: str) -> str | None:
        """A key of the stack's config, as it was at the last update (see `operator_credentials`)."""
        value = self._config.get(key) if self._config is not None else None
        return None if value is None else str(value)

    def read(self, id_: str, props: Properties) -> ReadResult:
        """What the state says: a refresh forgets no credential, and drift is found by `diff`."""
        return ReadResult(id_, props)

    def delete(self, _id: str, _props: Properties) -> None:
        """Nothing: a credential dies by `Revocation` alone, and a location keeps the value that its consumers run with."""


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
