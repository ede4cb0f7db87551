"""Passwords of PostgreSQL roles at Neon as credentials of a family.

A role has one password, and resetting it ends the one before ("the old password keeps working until the last returned operation finishes";
Neon's API reference, "Reset role password"). So two strategies:

- `alternate`: every generation goes to a role that no earlier generation in use has; in the long run two roles take turns. Both passwords work
  until the old one is reset after verification. Neon drops the connections of the branch's compute when it applies a role, but refuses none.
- `reset`: one role. The old password is dead before the new one is delivered: consumers fail until they have been restarted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from components.announcement import Announcement, Request
from components.clock import now
from components.errors import RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Credential, Issued, Minted
from components.neon.client import API_PATH, NeonClient
from components.postgres import accepts

ALTERNATE, RESET = "alternate", "reset"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class RolePasswords(Issuer):
    """Mints, lists and ends the passwords of a branch's roles.

    Neon lists no passwords, so what lives is what the stack still knows; other roles of the branch are listed by their names.

    Attributes:
        client: With a key that may change the project.
        project: Neon's id.
        branch: Neon's id of the branch; "" for the default one.
        database: Its name.
        pooled: Whether consumers connect through Neon's pooler.
        strategy: `alternate` or `reset`.
        role: With `reset`, the role; with `alternate`, what the names of the program's own roles begin with: `_a`, `_b` … follow.
        keyring: What the stack knows.
        keep_from: Earlier generations are over.
    """

    client: NeonClient
    project: str
    branch: str
    database: str
    pooled: bool
    strategy: str
    role: str
    keyring: tuple[Credential, ...] = ()
    keep_from: int = 0
    _ended: set[str] = field(default_factory=set)

    @property
    def overlaps(self) -> bool:
        """With `reset` the role's only password is replaced."""
        return self.strategy != RESET

    def mint(self, name: str) -> Minted:
        """Gives a role a new password and waits until it works. Its time is that of the request: with `reset` an outage begins then."""
        began = now()
        branch = self._branch()
        existing = self.client.roles(self.project, branch)
        role = self._next(existing)
        change = self.client.reset_role_password if role in existing else self._create
        password = change(self.project, branch, role)
        uri = self.client.connection_uri(
            self.project, branch=branch, database=self.database, role=role, pooled=self.pooled
        )
        return Minted(credential_id=f"{role}/{name}", value=with_password(uri, role, password), created_at=began)

    def _next(self, existing: Sequence[str]) -> str:
        """The role that the next generation goes to."""
        return self.role if self.strategy == RESET else self._idle(existing)

    def announce_mint(self, name: str) -> Announcement:  # noqa: ARG002
        """A password for one role, which is made where it is not there."""
        branch = self._branch()
        existing = self.client.roles(self.project, branch)
        role = self._next(existing)
        roles = f"{API_PATH}/projects/{self.project}/branches/{branch}/roles"
        reset = Request(system="neon", method="POST", path=f"{roles}/{role}/reset_password")
        if role in existing:
            return Announcement(words=(f"a new password of role {role} of database {self.database}",), writes=(reset,))
        create = Request(system="neon", method="POST", path=roles)
        return Announcement(words=(f"role {role} of database {self.database}, made anew",), writes=(create, reset))

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """Each role gets a password that nobody knows."""
        roles = dict.fromkeys(each.partition("/")[0] for each in credential_ids)
        branch = "{branch}" if not self.branch else self.branch
        path = f"{API_PATH}/projects/{self.project}/branches/{branch}/roles"
        return Announcement(
            words=tuple(f"the password of role {role} is reset to one that nobody knows" for role in roles),
            writes=tuple(Request(system="neon", method="POST", path=f"{path}/{role}/reset_password") for role in roles),
        )

    def _create(self, project: str, branch: str, role: str) -> str:
        try:
            return self.client.create_role(project, branch, role)
        except ApiError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            # The first try was carried out and its answer, with the password, was lost.
            return self.client.reset_role_password(project, branch, role)

    def _idle(self, existing: Sequence[str]) -> str:
        """A role that no credential in use has: one that exists if there is any, and after a lost state always a new one."""
        ours = [f"{self.role}_{letter}" for letter in LETTERS]
        taken = {_role_of(each) for each in self._alive()}
        if taken and (idle := [role for role in ours if role in existing and role not in taken]):
            return idle[0]
        # Also none that is taken and not listed yet: it would be there already, and its password in use.
        return next(role for role in ours if role not in existing and role not in taken)

    def issued(self) -> list[Issued]:
        """The passwords that the stack knows, and every other role of the branch under its own name."""
        alive = {each.credential_id for each in self._alive()}
        known = [
            Issued(
                credential_id=each.credential_id,
                name=each.name,
                live=each.credential_id in alive,
                created_at=each.created_at,
            )
            for each in self.keyring
        ]
        ours = {_role_of(each) for each in self.keyring}
        others = [role for role in self.client.roles(self.project, self._branch()) if role not in ours]
        return [*known, *(Issued(credential_id=role, name=role, live=role not in self._ended) for role in others)]

    def _alive(self) -> list[Credential]:
        """Of what the stack knows, what is not over: the newest password of each role.

        The keyring has the newest first. Times say less: they are of the clocks of whoever minted.
        """
        newest: dict[str, Credential] = {}
        for each in self.keyring:
            if each.generation >= self.keep_from:
                newest.setdefault(_role_of(each), each)
        return list(newest.values())

    def revoke(self, credential_id: str) -> None:
        """Gives the role a password that nobody knows. Roles are not deleted: one may own tables."""
        role = credential_id.partition("/")[0]
        self.client.reset_role_password(self.project, self._branch(), role)
        # Neon lists no passwords: that the operation is over is the only sign of the death of one whose value is not known.
        self._ended.add(role)

    def refuses(self, value: str) -> bool:
        """Whether the database refuses the password."""
        return not accepts(value)

    def obstacles(self) -> list[RefusedError]:
        """The branch has to be there, and with `reset` the role."""
        if not self.client.can_see_project(self.project):
            return [
                RefusedError(
                    f"Neon has no project {self.project} that the operator's key can see.",
                    next_step="mend `databaseProject` in the stack's config, or use a key that reaches it.",
                )
            ]
        branches = {branch.branch_id for branch in self.client.branches(self.project)}
        if self.branch and self.branch not in branches:
            return [
                RefusedError(
                    f"Neon's project {self.project} has no branch {self.branch}.",
                    next_step="mend `databaseBranch` in the stack's config: it is an id such as br-…, or empty for the default branch.",
                )
            ]
        if self.strategy == RESET and self.role not in self.client.roles(self.project, self._branch()):
            return [
                RefusedError(
                    f"The database has no role {self.role} whose password could be reset.",
                    next_step="mend `databaseRole` in the stack's config: it is the role that the control plane connects as.",
                )
            ]
        return []

    @property
    def outage(self) -> str:
        """With `reset` there is one."""
        if self.strategy == ALTERNATE:
            return ""
        cut_off = "the control plane cannot reach its database until its machines have been restarted"
        return f"The old password of {self.role} dies as soon as the new one is made: {cut_off}. Strategy `alternate` has no such outage."

    def warnings(self) -> list[str]:
        """What `alternate` costs."""
        if self.strategy == RESET:
            return []
        dropped = "Neon drops open connections of the database when it applies a role's password; new ones are accepted all the time."
        owners = (
            "The new role may read and write every table, but PostgreSQL lets only owners alter one: a migration that alters tables of "
            "another role fails as the new one. Run migrations as their owner, or use strategy `reset`."
        )
        return [dropped, owners]

    def _branch(self) -> str:
        return self.branch or self.client.default_branch(self.project)


def _role_of(credential: Credential) -> str:
    return credential.credential_id.partition("/")[0]


def with_password(uri: str, role: str, password: str) -> str:
    """The URI with this password: Neon's own carries the stored one, which it may not have.

    Its user is whom Neon says to connect as; the role, where it names none.
    """
    parts = urlsplit(uri)
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0] or quote(role, safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
