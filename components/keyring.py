"""The credentials of one secret that a stack knows with their values, and what a rotation does to them. Pure decisions.

A keyring holds every credential of the family that this stack has minted and that the provider still lists as live. That is what lets a
counter go back to the generation verified last, and what tells an orphan of a crash (nobody ever got its value) from a credential that a
consumer may hold.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from components.printable import one_line
from components.secret import Family


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A credential as its provider lists it.

    Attributes:
        credential_id: The provider's id.
        name: The remote name.
        live: Whether the provider takes it: neither revoked nor expired.
        created_at: When it was minted, RFC 3339, "" where the provider does not say.
    """

    credential_id: str
    name: str
    live: bool
    created_at: str = ""

    def __post_init__(self) -> None:
        # Anybody who may mint there chooses a name, and operators read it. No name of ours is changed by this.
        object.__setattr__(self, "name", one_line(self.name))


@dataclass(frozen=True, kw_only=True)
class Minted:
    """A credential at the only moment at which its provider shows the value."""

    credential_id: str
    value: str = field(repr=False)
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A credential with its value. Never leaves encrypted state; `repr` shows no value.

    Attributes:
        generation: The rotation counter that it was minted for.
        credential_id: The provider's id.
        name: The remote name.
        value: "" where it is not known: a credential that a stack without state found, and that consumers may hold.
        created_at: RFC 3339.
    """

    generation: int
    credential_id: str
    name: str
    value: str
    created_at: str

    def __repr__(self) -> str:
        return f"Credential(generation={self.generation}, credential_id={self.credential_id!r}, value=***)"

    def properties(self) -> dict[str, object]:
        """As it is kept in the state."""
        return asdict(self)

    @classmethod
    def from_properties(cls, properties: Mapping[str, object]) -> "Credential":
        """From the state, where every number is a float."""
        return cls(
            generation=int(float(str(properties["generation"]))),
            credential_id=str(properties["credential_id"]),
            name=str(properties["name"]),
            value=str(properties["value"]),
            created_at=str(properties["created_at"]),
        )


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What to do so that a generation is the current one.

    Attributes:
        reuse: The credential to make current again, or None: mint one.
        keep: Credentials that stay in the keyring beside the current one.
        orphans: Ids to revoke before minting: live credentials of the family whose value nobody ever got.
    """

    reuse: Credential | None
    keep: tuple[Credential, ...]
    orphans: tuple[str, ...]


def turn_to(generation: int, *, keyring: Iterable[Credential] | None, listed: Iterable[Issued], family: Family) -> Turn:
    """Decides how `generation` becomes current.

    Args:
        generation: The generation that is asked for.
        keyring: What the stack knows, from its state. A credential is there before anything can deliver it, because the engine saves the
            state of a resource before it starts those that depend on it. So a live one that is not there was never delivered. None where
            there is no state (first deployment, lost state): then consumers may hold what lives, and it is kept, without a value.
        listed: What the provider lists.
        family: Whose names count.
    """
    live = [issued for issued in listed if issued.live and family.generation_of(issued.name) is not None]
    if keyring is None:
        return Turn(reuse=None, keep=tuple(_found(issued, family) for issued in live), orphans=())
    live_ids = {issued.credential_id for issued in live}
    known = [credential for credential in keyring if credential.credential_id in live_ids]
    reuse = next((credential for credential in known if credential.generation == generation and credential.value), None)
    known_ids = {credential.credential_id for credential in known}
    return Turn(
        reuse=reuse,
        keep=tuple(credential for credential in known if credential is not reuse),
        orphans=tuple(issued.credential_id for issued in live if issued.credential_id not in known_ids),
    )


def _found(issued: Issued, family: Family) -> Credential:
    return Credential(
        generation=family.generation_of(issued.name) or 0,
        credential_id=issued.credential_id,
        name=issued.name,
        value="",
        created_at=issued.created_at,
    )


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """What the revocation of a family does.

    Attributes:
        condemned: Live credentials to revoke.
        dead: Members of the family that were revoked before.
        unmanaged: Live credentials at the same provider that are not of this stack and that nobody asked to revoke.
        missing: Ids that were asked to be revoked and that the provider does not list.
    """

    condemned: tuple[Issued, ...]
    dead: tuple[Issued, ...]
    unmanaged: tuple[Issued, ...]
    missing: tuple[str, ...]


def sentence(*, verified_id: str, listed: Iterable[Issued], family: Family, also: Iterable[str]) -> Sentence:
    """Decides which credentials die once `verified_id` is verified: all of its family but itself, and those named in `also`."""
    listed = list(listed)
    also = list(also)
    doomed = [
        issued
        for issued in listed
        if issued.credential_id != verified_id
        and (family.generation_of(issued.name) is not None or issued.credential_id in also)
    ]
    ours = {issued.credential_id for issued in doomed} | {verified_id}
    return Sentence(
        condemned=tuple(issued for issued in doomed if issued.live),
        dead=tuple(issued for issued in doomed if not issued.live),
        unmanaged=tuple(
            issued
            for issued in listed
            if issued.live and issued.credential_id not in ours and not family.is_of_another_secret(issued.name)
        ),
        missing=tuple(each for each in also if each not in {issued.credential_id for issued in listed}),
    )


def holders_of_another_value(*, value: str, holdings: Mapping[str, str]) -> list[str]:
    """The locations whose fingerprint is not that of `value`.

    The engine orders the revocation after every location, but `--target` lets an operator leave locations out. So the revocation
    compares what each location really holds, and this says which stand in its way.
    """
    return sorted(location for location, held in holdings.items() if held != fingerprint(value))


def flaw(value: str) -> str:
    """What keeps every consumer from taking a value, as it reads after "it"; "" for nothing.

    An environment cannot carry a NUL, no encoding a half of a surrogate pair. A blank or a line break at an end is never meant: it comes from a
    file or a copy, and gets into a header or a URL. Line breaks inside are the business of whoever knows the kind of the value.
    """
    if not value:
        return "is empty"
    if value != value.strip():
        return "begins or ends with a blank or a line break"
    if any((ord(each) < 32 and each not in "\r\n\t") or ord(each) == 127 for each in value):  # noqa: PLR2004 - ASCII
        return "holds a NUL or another control character"
    if any(0xD800 <= ord(each) <= 0xDFFF for each in value):  # noqa: PLR2004 - surrogates
        return "holds what is no text"
    return ""


def fingerprint(value: str) -> str:
    """SHA-256 of a value, in hex: tells two values apart without carrying either."""
    return hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()


def is_live(*, revoked_at: str | None, expires_at: str | None, now: datetime) -> bool:
    """Whether a credential with these RFC 3339 times is taken by its provider at `now`."""
    if revoked_at:
        return False
    return not expires_at or datetime.fromisoformat(expires_at) > now
