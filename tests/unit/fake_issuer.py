"""A provider of credentials in memory that can fail at any call, before or after acting, and that revokes lazily."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from components.announcement import NOTHING, Announcement
from components.errors import RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Issued, Minted


@dataclass
class FakeIssuer(Issuer):
    """Follows `components.issuer.Issuer`.

    Attributes:
        fail_at: The number of the call that fails, from 1 on; 0 for none.
        after_acting: Whether the call that fails has acted all the same.
        still_accepted: How many times a value that was revoked is accepted all the same.
        lists_live: How many times a credential that was revoked is listed as live all the same.
        stale: What it lists, whatever has happened since: a list that lags. None for one that does not.
        cannot_be_asked: Whether it has no call that takes a value.
        hides: Ids that this issuer's settings do not let it list, although the provider has them.
        system: The provider's name in messages.
    """

    fail_at: int = 0
    after_acting: bool = False
    still_accepted: int = 0
    lists_live: int = 0
    stale: list[Issued] | None = None
    cannot_be_asked: bool = False
    hides: set[str] = field(default_factory=set)
    status: int | None = None
    calls: list[str] = field(default_factory=list)
    alive: dict[str, str] = field(default_factory=dict)  # id -> name
    dead: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)  # id -> value
    _asked: dict[str, int] = field(default_factory=dict)
    system: str = "provider"
    _listed: int = 0

    def obstacles(self) -> list[RefusedError]:
        """Nothing stands in the way."""
        return []

    def announce_mint(self, name: str) -> Announcement:  # noqa: ARG002
        """Nothing is said."""
        return NOTHING

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:  # noqa: ARG002
        """Nothing is said."""
        return NOTHING

    def seed(self, credential_id: str, name: str, *, live: bool = True) -> None:
        """Adds a credential that somebody minted before."""
        (self.alive if live else self.dead)[credential_id] = name
        self.values[credential_id] = f"value of {credential_id}"

    def _called(self, what: str, *, acted: bool) -> None:
        if not acted:
            self.calls.append(what)
        if len(self.calls) == self.fail_at and self.after_acting == acted:
            self.fail_at = 0
            raise ApiError(self.system, what, status=self.status, reason="injected")

    def mint(self, name: str) -> Minted:
        """Mints, also a second one of the same name."""
        self._called(f"mint {name}", acted=False)
        credential_id = f"id-{len(self.values) + 1}"
        self.seed(credential_id, name)
        self._called(f"mint {name}", acted=True)
        return Minted(
            credential_id=credential_id, value=self.values[credential_id], created_at=self.created_at(credential_id)
        )

    def created_at(self, credential_id: str) -> str:
        """The order of minting, as a time."""
        return f"2026-11-23T12:00:{list(self.values).index(credential_id):02}Z"

    def issued(self) -> list[Issued]:
        """Lists what it does not hide."""
        self._called("list", acted=False)
        self._called("list", acted=True)
        self._listed += 1
        if self.stale is not None:
            return list(self.stale)
        ghosts = self.dead if self._listed <= self.lists_live else {}
        return [
            Issued(
                credential_id=each,
                name=name,
                live=each in self.alive or each in ghosts,
                created_at=self.created_at(each),
            )
            for each, name in (self.alive | self.dead).items()
            if each not in self.hides
        ]

    def revoke(self, credential_id: str) -> None:
        """Revokes; once more is harmless."""
        self._called(f"revoke {credential_id}", acted=False)
        if credential_id in self.alive:
            self.dead[credential_id] = self.alive.pop(credential_id)
        self._called(f"revoke {credential_id}", acted=True)

    def refuses(self, value: str) -> bool | None:
        """Whether the value is refused, after it has been asked for often enough. One that it never minted always is."""
        if self.cannot_be_asked:
            return None
        credential_id = next((each for each, held in self.values.items() if held == value), "stranger")
        self._called(f"try {credential_id}", acted=False)
        self._called(f"try {credential_id}", acted=True)
        if credential_id in self.alive:
            return False
        if credential_id == "stranger":
            return True
        self._asked[credential_id] = self._asked.get(credential_id, 0) + 1
        return self._asked[credential_id] > self.still_accepted

    @property
    def revoked(self) -> list[str]:
        """The ids that somebody asked to revoke."""
        return [each.removeprefix("revoke ") for each in self.calls if each.startswith("revoke ")]


@dataclass
class Watched(FakeIssuer):
    """A provider whose old credentials end when it says so: nobody may revoke one."""

    revokes: ClassVar[bool] = False

    def revoke(self, credential_id: str) -> None:
        """Not a call of such a provider."""
        raise AssertionError(f"revoked {credential_id}")

    def end(self, *credential_ids: str) -> None:
        """What the provider does in its own time."""
        for each in credential_ids:
            self.dead[each] = self.alive.pop(each)

    @property
    def old_value_lives_until(self) -> str:
        """Always the same time."""
        return "2026-11-30T12:00:00Z"
