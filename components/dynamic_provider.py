"""What all dynamic providers share. Methods of providers get the outputs of the state and the inputs of the program as plain dicts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pulumi.dynamic import ConfigureRequest, ReadResult, ResourceProvider
from pulumi.output import Unknown

from components.errors import OperatorError
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


def integer(value: object) -> int:
    """Numbers arrive as floats."""
    return int(float(str(value)))


def same(old: object, new: object) -> bool:
    """Whether a property is unchanged. A value that a preview does not know yet counts as changed."""
    return not isinstance(new, Unknown) and old == new
