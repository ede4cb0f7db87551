"""What the life of a credential needs from whoever mints it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from components.announcement import Announcement
from components.errors import RefusedError
from components.keyring import Issued, Minted


class Issuer(ABC):
    """A provider of credentials. All methods raise `ApiError`.

    Attributes:
        revokes: Whether `revoke` ends a credential. False where that is up to the provider (a key rolled in a dashboard lives on until the
            time that was chosen there): then an old one that is still accepted is watched, and holds nothing up.
    """

    revokes: ClassVar[bool] = True

    @abstractmethod
    def mint(self, name: str) -> Minted:
        """Mints a credential with that remote name and returns it with its value, which is shown only once."""

    @abstractmethod
    def issued(self) -> list[Issued]:
        """All credentials at this provider, those of other families too."""

    @abstractmethod
    def revoke(self, credential_id: str) -> None:
        """Revokes a credential. Repeating it is harmless."""

    @abstractmethod
    def refuses(self, value: str) -> bool | None:
        """Whether the provider refuses this value. An error where the answer proves neither.

        None where the provider has no call that takes the value: then its list is what proves a death.
        """

    def may_return(self, value: str) -> bool:
        """Whether an earlier value can be delivered once more, found by reading: its provider still takes it."""
        return self.refuses(value) is not True

    @abstractmethod
    def obstacles(self) -> list[RefusedError]:
        """What would keep a new credential from working, found by reading: in a preview too."""

    @abstractmethod
    def announce_mint(self, name: str) -> Announcement:
        """What `mint` is going to do, found by reading. Its words say what is minted, with its remote name."""

    @abstractmethod
    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """What the end of these credentials takes. Reads nothing."""

    def warnings(self) -> list[str]:
        """What an operator should know and what is no obstacle, found by reading: in a preview too. One sentence each."""
        return []

    @property
    def overlaps(self) -> bool:
        """Whether the credential before works until it is revoked. False where minting one ends it."""
        return True

    @property
    def outage(self) -> str:
        """Whom a rotation cuts off, and for how long, as a sentence, found by reading; "" where nobody notices."""
        return ""

    @property
    def old_value_lives_until(self) -> str:
        """Where `revokes` is False: when the provider ends the value before, RFC 3339; "" where nobody knows."""
        return ""
