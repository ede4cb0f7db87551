"""Values that no provider mints for the program: Pulumi generates them, or the operator supplies them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from components.announcement import NOTHING, Announcement
from components.clock import now
from components.errors import RefusedError
from components.issuer import Issuer
from components.keyring import Credential, Issued, Minted


@dataclass(frozen=True, kw_only=True)
class GivenValues(Issuer):
    """An issuer that hands out what it was given. What lives is what the stack still knows.

    A subclass says what it takes for a value of its kind to be good (`obstacles`), and how the death of an old one shows (`refuses`).

    Attributes:
        given: The value of the requested generation. Secret.
        keyring: What the stack knows.
        keep_from: Earlier generations are over: they are dropped from the keyring.
    """

    given: str = field(repr=False)
    keyring: tuple[Credential, ...] = ()
    keep_from: int = 0

    revokes: ClassVar[bool] = False

    def mint(self, name: str) -> Minted:
        """Takes the value as it is. Its id is its name: a part or a hash of the value would help to guess it."""
        return Minted(credential_id=name, value=self.given, created_at=now())

    def issued(self) -> list[Issued]:
        """The values that are not over."""
        return [
            Issued(credential_id=each.credential_id, name=each.name, live=True, created_at=each.created_at)
            for each in self.keyring
            if each.generation >= self.keep_from
        ]

    def revoke(self, credential_id: str) -> None:
        """Nothing: there is nobody to tell."""

    def refuses(self, value: str) -> bool:  # noqa: ARG002
        """Nobody takes an old value any more: every consumer has been verified with the new one."""
        return True

    def may_return(self, value: str) -> bool:  # noqa: ARG002
        """Nobody has ended it."""
        return True

    def announce_mint(self, name: str) -> Announcement:  # noqa: ARG002
        """Nothing: the value is there already."""
        return NOTHING

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:  # noqa: ARG002
        """Nothing is asked of anybody."""
        return Announcement(words=("nobody takes it any more, once every consumer is verified with the new one",))

    def obstacles(self) -> list[RefusedError]:
        """None: any text will do."""
        return []

    def obstacles_beside_the_value(self) -> list[RefusedError]:
        """The same where the value is not at hand: an earlier update has put it into the state, and its probe looks at it."""
        return []
