"""How far a stack is, as its own state tells it. Plain data; `own_state` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.keyring import Credential, fingerprint
from components.promotion import overridden
from components.secret import ROUTINE


@dataclass(frozen=True, kw_only=True)
class CheckInState:
    """A probe or verification as it succeeded last.

    Attributes:
        command: What the engine ran.
        told: What the check was told.
        operator: The other variables that it got, by name. Secret.
        subject: What it was about (`components.work.subject_of`).
    """

    command: str
    told: Mapping[str, object]
    operator: Mapping[str, str] = field(default_factory=dict, repr=False)
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class GitHubWrite:
    """The last write of a secret to a place at GitHub, by pulumi-github.

    Attributes:
        repository: The repository; "" where the place is the organization.
        words: What the place is called, without its owner.
        updated_at: GitHub's time of it, as pulumi-github writes it; "" where it did not learn that.
        again: How often the value had to be written once more, because somebody else had changed it.
        visibility: Of an organization's secret; "" for others.
        selected: The ids of the repositories that may read it, where that is `selected`.
    """

    repository: str = ""
    words: str = ""
    updated_at: str = ""
    again: int = 0
    visibility: str = ""
    selected: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a secret is.

    Attributes:
        current: The generation whose credential was minted last; 0 for none.
        turn: Another one at every change of the counter; "" for none.
        salt: What the subject of a verification is salted with; "" for none. Secret.
        verified: The generation verified last; 0 for none.
        verified_at: When, RFC 3339; "" for never.
        keyring: The credentials that the stack knows. Secret.
        oldest_alive: The oldest generation that only its provider can end, and that was alive at the last look; 0 for none.
        delivered: For every Fly app to which the current value was written, Fly's digest of it.
        at_fly: For every Fly app, the fingerprint of the value that was delivered there last.
        at_github: The same for every place at GitHub, by `GitHubSecret.key`.
        github_writes: The last write to each of those.
        probe: The last probe that succeeded; None for none.
        verification: The last verification that succeeded; None for none.
        has_verification: Whether there is a verification in the state, whatever came of it.
        has_revocation: Whether there is a revocation in the state.
        revoked_for: The `verified_at` that the last revocation was about; "" for none.
        also: The unmanaged credentials that the last revocation was told to revoke.
        issuer: Who minted the current one, as `kind` and `settings`; empty for nobody.
    """

    current: int = 0
    turn: str = ""
    salt: str = field(default="", repr=False)
    verified: int = 0
    verified_at: str = ""
    keyring: tuple[Credential, ...] = field(default=(), repr=False)
    oldest_alive: int = 0
    delivered: Mapping[str, str] = field(default_factory=dict)
    at_fly: Mapping[str, str] = field(default_factory=dict, repr=False)
    at_github: Mapping[str, str] = field(default_factory=dict, repr=False)
    github_writes: Mapping[str, GitHubWrite] = field(default_factory=dict)
    probe: CheckInState | None = None
    verification: CheckInState | None = None
    has_verification: bool = False
    has_revocation: bool = False
    revoked_for: str = ""
    also: tuple[str, ...] = ()
    issuer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprints(self) -> dict[int, str]:
        """Of the values that the stack knows, by generation."""
        return {each.generation: fingerprint(each.value) for each in self.keyring if each.value}

    def value_of(self, generation: int) -> str | None:
        """The value of a generation, None where the stack does not know it. Secret."""
        return next((each.value for each in self.keyring if each.generation == generation and each.value), None)

    @property
    def keep_from(self) -> int:
        """Values of earlier generations are over."""
        return min(self.verified, self.oldest_alive or self.verified)

    @property
    def minted_at(self) -> str:
        """When the credential verified last was minted, RFC 3339; "" where nobody knows."""
        return next((each.created_at for each in self.keyring if each.generation == self.verified), "")

    @property
    def reason(self) -> str:
        """Why the generation verified last was rotated to."""
        return str(self.verification.told.get("reason", ROUTINE)) if self.verification else ROUTINE

    @property
    def record(self) -> Mapping[str, Any]:
        """What the verification of that generation has recorded of itself (`components.promotion`); empty where it has not."""
        told = self.verification.told.get("record") if self.verification else None
        return told if isinstance(told, Mapping) else {}

    @property
    def overridden(self) -> str:
        """Why it was rotated before the stack that goes first had proven it; "" where that had, or none goes first."""
        return overridden(self.record)


@dataclass(frozen=True, kw_only=True)
class AppInState:
    """A Fly app as the last delivery that succeeded left it.

    Attributes:
        names: The managed secrets.
        digests: Fly's digest of each.
        version: The secrets version of the last rollout that finished; 0 for none.
        staged: For every secret that was only staged, when, by Fly's clock; "" where Fly did not say.
        gone: The secrets that were unset, because they are, or were to be, decommissioned.
    """

    names: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    staged: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decommissioned:
    """A secret whose decommissioning is over.

    Attributes:
        about: Which turn of its credential that was about.
        revoked: The names of the credentials that it ended.
        alive: Those that only their provider can end, and that it accepted still.
    """

    about: str
    revoked: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class State:
    """What a stack has deployed last.

    Attributes:
        progress: Of every secret.
        apps: The Fly apps that got secrets.
        tenants: For every app of tenants, the values that its machines were given, by variable. Secret.
        decommissioned: Every secret whose decommissioning is over.
        outputs: Of the stack, of the last update that succeeded.
    """

    progress: Mapping[str, Progress] = field(default_factory=dict)
    apps: Mapping[str, AppInState] = field(default_factory=dict)
    tenants: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    decommissioned: Mapping[str, Decommissioned] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of(self, secret: str) -> Progress:
        """The progress of a secret, also of one that nothing is known of."""
        return self.progress.get(secret, Progress())
