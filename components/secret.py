"""What a managed secret is: the declaration that `__main__.py` is made of.

Plain data. The vocabulary is that of the README: a *generation* is the value of a rotation counter, a *credential* a minted value of
one generation, a *family* all generations of one secret of one stack at its provider, a *location* a place where the value is delivered.
"""

import hashlib
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GENERATION_DIGITS = 4
# Why a secret is rotated. With `leaked`, what may be shortened is: whoever has the value before can use it until it is dead.
ROUTINE, LEAKED = "routine", "leaked"


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """The source of a secret whose credentials a provider mints.

    Attributes:
        kind: A key of `components.issuers.ISSUERS`.
        settings: The keyword arguments of that issuer. No secret values: they are kept in the state in plaintext.
    """

    kind: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Random:
    """The source of a secret that Pulumi itself generates (pulumi-random), a new value for every generation.

    Attributes:
        length: Random bytes, before they are encoded.
        encoding: `hex` or `base64` (the standard alphabet, padded). Takes effect at the next rotation.
        kind: A key of `components.issuers.ISSUERS`: who knows what a good value is.
        settings: The keyword arguments of that issuer. No secret values.
    """

    length: int = 32
    encoding: Literal["hex", "base64"] = "hex"
    kind: str = "given"
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Supplied:
    """The source of a secret whose value the operator hands in: `pulumi config set --secret --path supplied.<NAME>`.

    Attributes:
        kind: A key of `components.issuers.ISSUERS`: who knows what a good value is, and whether an old one still lives.
        settings: The keyword arguments of that issuer. No secret values.
    """

    kind: str = "given"
    settings: Mapping[str, str] = field(default_factory=dict)


Source = Issuer | Random | Supplied


@dataclass(frozen=True, kw_only=True)
class FlySecret:
    """A location: the secret of a Fly app, read by all its machines when they boot."""

    app: str

    def __str__(self) -> str:
        return f"Fly app {self.app}"

    @property
    def consumer(self) -> str:
        """Who reads it there."""
        return f"machines of {self.app}"


@dataclass(frozen=True, kw_only=True)
class GitHubSecret(ABC):
    """What every location at GitHub has in common. Delivered after every Fly app.

    Attributes:
        owner: Of the repository: an organization, or a user.
        repository: The repository whose workflow proves the value.
        workflow: The file name of the workflow whose jobs read it.
    """

    owner: str
    repository: str
    workflow: str

    @property
    def full_name(self) -> str:
        """The repository as GitHub writes it, `owner/name`."""
        return f"{self.owner}/{self.repository}"

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells it, in the state, from the other locations of one secret at GitHub."""

    @property
    @abstractmethod
    def secrets_path(self) -> str:
        """Where GitHub's REST API has the secrets of this place; a secret's name follows."""

    @property
    def consumer(self) -> str:
        """Who reads it there."""
        return f"workflow {self.workflow} of {self.full_name}"


@dataclass(frozen=True, kw_only=True)
class RepositorySecret(GitHubSecret):
    """A location: an Actions secret of a GitHub repository, read by workflow jobs when they start."""

    def __str__(self) -> str:
        return f"GitHub repository {self.full_name}"

    @property
    def key(self) -> str:
        """See `GitHubSecret`."""
        return self.repository

    @property
    def secrets_path(self) -> str:
        """See `GitHubSecret`."""
        return f"/repos/{urllib.parse.quote(self.full_name)}/actions/secrets"


@dataclass(frozen=True, kw_only=True)
class EnvironmentSecret(GitHubSecret):
    """A location: a secret of a deployment environment, read by the jobs that declare it (`environment:`), before the repository's.

    Attributes:
        environment: Its name. GitHub compares it without regard to case.
    """

    environment: str

    def __str__(self) -> str:
        return f"GitHub environment {self.environment} of {self.full_name}"

    @property
    def key(self) -> str:
        """See `GitHubSecret`."""
        return f"{self.repository}/environments/{self.environment}"

    @property
    def secrets_path(self) -> str:
        """See `GitHubSecret`."""
        return f"{self.environment_path}/secrets"

    @property
    def environment_path(self) -> str:
        """Where GitHub's REST API has the environment itself."""
        return (
            f"/repos/{urllib.parse.quote(self.full_name)}/environments/{urllib.parse.quote(self.environment, safe='')}"
        )

    @property
    def consumer(self) -> str:
        """See `GitHubSecret`."""
        return f"workflow {self.workflow} of {self.full_name} in environment {self.environment}"


@dataclass(frozen=True, kw_only=True)
class OrganizationSecret(GitHubSecret):
    """A location: an Actions secret of the organization, read where neither the environment nor the repository has one of that name.

    Attributes:
        visibility: `all`, `private` or `selected`: which of its repositories may read it.
        selected: With `selected`: their names.
    """

    visibility: str
    selected: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"GitHub organization {self.owner}"

    @property
    def key(self) -> str:
        """See `GitHubSecret`. No repository is called so."""
        return "/actions"

    @property
    def secrets_path(self) -> str:
        """See `GitHubSecret`."""
        return f"/orgs/{urllib.parse.quote(self.owner, safe='')}/actions/secrets"


@dataclass(frozen=True, kw_only=True)
class DependabotSecret(GitHubSecret):
    """A location: a Dependabot secret of a repository, which only jobs that Dependabot starts can read."""

    def __str__(self) -> str:
        return f"GitHub Dependabot of {self.full_name}"

    @property
    def key(self) -> str:
        """See `GitHubSecret`."""
        return f"{self.repository}/dependabot"

    @property
    def secrets_path(self) -> str:
        """See `GitHubSecret`."""
        return f"/repos/{urllib.parse.quote(self.full_name)}/dependabot/secrets"

    @property
    def consumer(self) -> str:
        """See `GitHubSecret`."""
        return f"Dependabot of {self.full_name}"


@dataclass(frozen=True, kw_only=True)
class DependabotOrganizationSecret(OrganizationSecret):
    """A location: the same of the organization."""

    def __str__(self) -> str:
        return f"GitHub Dependabot of organization {self.owner}"

    @property
    def key(self) -> str:
        """See `GitHubSecret`."""
        return "/dependabot"

    @property
    def secrets_path(self) -> str:
        """See `GitHubSecret`."""
        return f"/orgs/{urllib.parse.quote(self.owner, safe='')}/dependabot/secrets"

    @property
    def consumer(self) -> str:
        """See `GitHubSecret`."""
        return f"Dependabot of {self.owner}"


@dataclass(frozen=True, kw_only=True)
class TenantMachines:
    """A location: the environment of every machine of an app that the control plane fills, fixed when each machine was created.

    Attributes:
        app: The tenants' app.
        variable: What the value is called there.
        same_server: The value is a URL, and machines whose URL names another server are somebody's own: they are left alone.
        reprovisions: Machines do not get the value by an update: the control plane provisions each org anew, with a machine of its own making.
    """

    app: str
    variable: str
    same_server: bool = False
    reprovisions: bool = False

    def __str__(self) -> str:
        return f"machines of Fly app {self.app} as {self.variable}"

    @property
    def consumer(self) -> str:
        """Who reads it there."""
        return f"tenants in {self.app}"


Location = FlySecret | GitHubSecret | TenantMachines


@dataclass(frozen=True, kw_only=True)
class EncryptedRows:
    """What is encrypted with a secret, and changes together with the machines of the apps that hold it.

    Attributes:
        settings: The keyword arguments of `components.encryption.reencryption.build`. No secret values.
    """

    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A module of `components.verification` and what it is told.

    Attributes:
        module: Its name.
        settings: No secret values: they are kept in the state in plaintext.
        takes_value: Whether it needs the value, which comes on its standard input. A probe always gets it.
    """

    module: str
    settings: Mapping[str, object] = field(default_factory=dict)
    takes_value: bool = False


@dataclass(frozen=True, kw_only=True)
class Secret:
    """One row of the secret map.

    Attributes:
        name: The name of the environment variable that consumers read.
        source: Where a new value comes from.
        fly: Fly apps that hold it. Delivered first.
        repositories: Places at GitHub that hold it: repositories, environments, the organization, Dependabot. Delivered after every Fly app
            (the runbook: "Fly secrets first, then GHA").
        tenants: The tenants' machines, where they hold it. They get it after every Fly app, because the control plane hands it to new ones.
        rows: What is encrypted with it, where that is to be re-encrypted.
        requires: Config keys that have to be set to rotate it, with their values.
        choices: Config keys that decide how it is rotated and proven, with their values: a stack that goes before has to have made the same
            choices to have proven it (`components.promotion`).
        probe: Proves that the credential is good, before it is delivered anywhere. None where nothing could be asked.
        verification: Proves that the consumers work with the new value, before the old one is revoked.
        may_be_staged: Whether machines may get it at their next restart, whoever causes that (`rollout: staged`).
        overlaps: Whether the value before works until it is revoked. False where it dies when the new one is minted: then there is no way back.
        only_if_compromised: Whether a rotation is refused unless `compromised` names its generation.
        coupled: Whether it has to stand at Fly and at GitHub alike: where only one of them gets a new value, the other breaks silently.
        at_risk: What breaks if a rotation of it goes wrong, as a sentence.
        without: What its consumers cannot do without it, as a sentence: said before it is decommissioned.
        kept: Why it is never decommissioned, as a sentence; "" where it may be.
    """

    name: str
    source: Source
    fly: tuple[FlySecret, ...]
    repositories: tuple[GitHubSecret, ...] = ()
    tenants: TenantMachines | None = None
    rows: EncryptedRows | None = None
    requires: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    probe: Check | None = None
    verification: Check
    may_be_staged: bool = False
    overlaps: bool = True
    only_if_compromised: bool = False
    coupled: bool = False
    at_risk: str = ""
    without: str = ""
    kept: str = ""

    @property
    def locations(self) -> tuple[Location, ...]:
        """Every location, in the order of delivery."""
        return (*self.fly, *((self.tenants,) if self.tenants else ()), *self.repositories)


@dataclass(frozen=True, kw_only=True)
class Family:
    """All generations of one secret of one stack at its provider, found again by name after a crash.

    Attributes:
        app: The control plane's app.
        stack: The stack.
        secret: The secret.
        longest_name: Characters that the provider allows in a name.
    """

    app: str
    stack: str
    secret: str
    longest_name: int

    @property
    def prefix(self) -> str:
        """What the names of the whole family begin with. Where that is too long, a hash stands for the end of it."""
        prefix = f"{self.app}-rotation-{self.stack}-{self.secret}"
        room = self.longest_name - len("-g") - GENERATION_DIGITS
        if len(prefix) > room:
            prefix = f"{prefix[: room - 9]}-{hashlib.sha256(prefix.encode()).hexdigest()[:8]}"
        return f"{prefix}-g"

    def is_of_another_secret(self, name: str) -> bool:
        """Whether a remote name is that of a credential which this stack minted for another of its secrets."""
        other = name.removeprefix(f"{self.app}-rotation-{self.stack}-")
        # Secrets are written in capitals: another stack's name may begin with this one's.
        return (
            other != name and not name.startswith(self.prefix) and bool(re.fullmatch(r"[A-Z][A-Z0-9_]*-g[0-9]+", other))
        )

    def credential_name(self, generation: int) -> str:
        """The remote name of one generation's credential, the same in every run."""
        return f"{self.prefix}{generation}"

    def generation_of(self, name: str) -> int | None:
        """The generation that a remote name stands for, or None where it is not of this family."""
        digits = name.removeprefix(self.prefix)
        if digits == name or not digits.isascii() or not digits.isdigit():
            return None
        return int(digits)
