"""Redis users at Upstash as credentials of a family.

Two strategies:

- `acl`: every generation is an ACL user of its own, so old and new work side by side until the old one is deleted. Paid plans only.
- `reset`: every generation is another password of the user `default`. The one before is dead the moment that the next is made, and with it
  both REST tokens of the database.

`default` can be neither changed nor deleted by ACL; a reset of the database's password is the only end of its password. Where that is
known to the stack (it was minted by `reset`), it is a credential of the family; else it is listed as `default`, unmanaged: the value that was
made by hand, at adoption.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from components.announcement import Announcement, Request
from components.clock import now
from components.errors import OperatorError, RefusedError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Credential, Issued, Minted
from components.upstash.client import Database, UpstashClient
from components.upstash.rest import AccessControl, User
from components.upstash.server import accepts, password_of

ACL, RESET = "acl", "reset"
DEFAULT = "default"
LOOKS, LOOK_SECONDS = 5, 1.0  # for a new password that the answer to a reset did not show
SEPARATOR = "."  # between `redisUser` and the family's name: neither Fly's app names nor `redisUser` have one, and no URL has to encode it
NAME = re.compile(r"[A-Za-z0-9_-]+")
OURS = re.compile(r"[^.]+\.(?P<name>.+-g\d+)(_\d+)?")  # `_2` and so on: another user of the same generation
# What may be said of keys, channels and commands. Not what concerns passwords and `on`: that is the program's. No subcommands: Upstash
# rejects them (documentation, "ACL SETUSER").
RULE = re.compile(
    r"~\S+|&\S+|[+-]@?[a-z0-9-]+|allkeys|resetkeys|allchannels|resetchannels|allcommands|nocommands", re.IGNORECASE
)
REST_TOKEN_HINT = "export UPSTASH_REDIS_REST_TOKEN, or `pulumi config set --secret upstashRedisRestToken`"  # noqa: S105 - a hint


@dataclass(frozen=True, kw_only=True)
class RedisUsers(Issuer):
    """Mints, lists and ends credentials of one database.

    Attributes:
        client: Of the account that has the database.
        database: Upstash's id.
        strategy: `acl` or `reset`.
        user: What the names of the program's own users begin with.
        rules: What these may do, as rules of ACL SETUSER.
        rest_token: The operator's, for a database that does not show its own; "" for none.
        keyring: What the stack knows.
    """

    client: UpstashClient
    database: str
    strategy: str
    user: str
    rules: str
    rest_token: str = field(default="", repr=False)
    keyring: tuple[Credential, ...] = ()
    # The password of `default` at the first look of this issuer: what `revoke` ends, and what has to be refused afterwards.
    _first_look: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def overlaps(self) -> bool:
        """With `reset` the one password of `default` is replaced."""
        return self.strategy != RESET

    # Minting

    def mint(self, name: str) -> Minted:
        """Makes a user of its own, or with `reset` another password of `default`.

        Raises:
            OperatorError: The password was reset, and Upstash shows the new one nowhere.
        """
        database = self.client.database(self.database)
        if self.strategy == RESET:
            password = self._reset(database).password
            return Minted(credential_id=f"{DEFAULT}/{name}", value=database.url(DEFAULT, password), created_at=now())
        access = self._access(database)
        user = self._unused(name, access.users())
        token = access.generate_token(user)
        access.set_user(user, token, tuple(self.rules.split()))
        return Minted(credential_id=user, value=database.url(user, token), created_at=now())

    def _unused(self, name: str, users: Sequence[User]) -> str:
        """The user for a family's name: the first that no credential has that is in use or that the stack knows.

        A user who is on is never given another token: after a lost state, consumers may hold the one that it has. One who is off is nobody's,
        and is set up afresh.
        """
        taken = {each.name for each in users if each.enabled} | {each.credential_id for each in self.keyring}
        first = f"{self.user}{SEPARATOR}{name}"
        number, user = 1, first
        while user in taken:
            number += 1
            user = f"{first}_{number}"
        return user

    def announce_mint(self, name: str) -> Announcement:
        """A user of its own, or with `reset` another password of `default`."""
        if self.strategy == RESET:
            return Announcement(
                words=(f"a new password of user {DEFAULT} of Upstash database {self.database}",),
                writes=(self._announced_reset(),),
            )
        user = self._unused(name, self._access(self.client.database(self.database)).users())
        return Announcement(
            words=(f"user {user} of Upstash database {self.database}",),
            writes=(
                Request(system="upstash", method="POST", path="/ ACL GENTOKEN"),
                Request(system="upstash", method="POST", path="/ ACL SETUSER"),
            ),
        )

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        """Users are deleted; the password of `default` is reset where `acl` has taken its place."""
        passwords = [each for each in credential_ids if each == DEFAULT or _is_password(each)]
        users = len(credential_ids) - len(passwords)
        writes = []
        if users:
            writes.append(Request(system="upstash", method="POST", path="/ ACL DELUSER", at_most=users))
        if passwords and self.strategy == ACL:
            writes.append(self._announced_reset())
        return Announcement(writes=tuple(writes))

    def _announced_reset(self) -> Request:
        return Request(system="upstash", method="POST", path=f"/v2/redis/reset-password/{self.database}")

    def _reset(self, before: Database) -> Database:
        """The database with its new password, from the answer to the reset or else by reading it."""
        lost: ApiError | None = None
        try:
            answer = self.client.reset_password(self.database)
        except ApiError as error:
            if not error.ambiguous:
                raise
            lost = error
        else:
            if answer.password:
                return answer
        found = self._read_until_changed(before)
        if found is not None and found.password not in {"", before.password}:
            return found
        if lost is not None and found is not None and before.password and found.password == before.password:
            raise lost  # it was not carried out
        dead = "may be dead" if lost is not None else "are dead"
        raise OperatorError(
            f"The password of the Upstash database {self.database} {'may have been' if lost is not None else 'was'} reset, "
            "and Upstash does not show the new one.",
            state=f"the old password and both REST tokens {dead}: whoever holds them cannot use Redis. Nothing was delivered.",
            next_step="switch Credential Protection off in Upstash's console if it is on, then `pulumi up`: it resets the password once more, "
            "and delivers that one.",
            contact=lost.contact if lost is not None else "",
        )

    def _read_until_changed(self, before: Database) -> Database | None:
        """The database as soon as it shows another password; None where it cannot be read."""
        found: Database | None = None
        for look in range(LOOKS):
            if look:
                time.sleep(LOOK_SECONDS)
            try:
                found = self.client.database(self.database)
            except ApiError:
                continue
            if found.password not in {"", before.password}:
                break
        return found

    # Listing

    def issued(self) -> list[Issued]:
        """Every user of the database, and the passwords of `default` that the stack knows.

        `default` by itself is listed where its password is none of these. Whether a password still lives is not derived from what the stack
        did: it lives where Upstash shows it, and where Upstash shows none, if it is the newest and the server takes it.
        """
        database = self.client.database(self.database)
        users = self._users(database)
        live_password = self._live_password(database)
        known = {each.credential_id: each for each in self.keyring}
        passwords = [
            Issued(
                credential_id=each.credential_id,
                name=each.name,
                live=each.credential_id == live_password,
                created_at=each.created_at,
            )
            for each in self._passwords()
        ]
        others = [
            Issued(
                credential_id=each.name,
                name=_name_of(each.name),
                live=each.enabled,
                created_at=known[each.name].created_at if each.name in known else "",
            )
            for each in users
            if each.name != DEFAULT
        ]
        if live_password:
            return [*passwords, *others]
        enabled = all(each.enabled for each in users if each.name == DEFAULT)
        # Last, so that its revocation, which replaces the REST token, is the last as well.
        return [
            *passwords,
            *others,
            Issued(credential_id=DEFAULT, name=DEFAULT, live=enabled and self._first_password_lives(database)),
        ]

    def _users(self, database: Database) -> list[User]:
        """The users; with `reset`, which needs no ACL, none where ACL or its token is not to be had."""
        try:
            return self._access(database).users()
        except RefusedError:
            if self.strategy == RESET:
                return []
            raise
        except ApiError as error:
            if self.strategy == RESET and error.status in {400, 401, 403}:
                return []
            raise

    def _passwords(self) -> list[Credential]:
        return [each for each in self.keyring if _is_password(each.credential_id)]

    def _live_password(self, database: Database) -> str:
        """The id of the password of `default` that lives and that the stack knows; "" for none."""
        if database.password:
            shown = (each for each in self._passwords() if password_of(each.value) == database.password)
            return next((each.credential_id for each in shown), "")
        # The keyring has the newest first. Times say less: they are of the clocks of whoever minted.
        newest = next(iter(self._passwords()), None)
        return newest.credential_id if newest is not None and not self.refuses(newest.value) else ""

    def _first_password_lives(self, database: Database) -> bool:
        """Whether the password that `default` had at the first look is still good.

        The stack does not know the value that was made by hand, so nothing can be proven of it directly. What can be: the password that
        Upstash showed before is not the one that it shows now, and the server refuses it. As a user has one password at a time and that one
        was the last before the reset, every earlier one is dead, too. Where Upstash shows no password (Credential Protection), nothing
        can be proven, and `revoke` does not touch it.
        """
        if not self._first_look:
            self._first_look.append(database.password)
        first = self._first_look[0]
        return not first or database.password == first or not self.refuses(database.url(DEFAULT, first))

    # The end

    def revoke(self, credential_id: str) -> None:
        """Deletes a user with its connections. Of `default` it resets the password, which replaces both REST tokens of the database, too.

        Raises:
            OperatorError: `default` cannot be reset: it is what consumers have just got, or the new REST token would be lost.
        """
        database = self.client.database(self.database)
        if credential_id != DEFAULT and not _is_password(credential_id):
            self._access(database).delete_user(credential_id)
        elif self.strategy == ACL:
            self._end_password(database, credential_id)
        elif credential_id == DEFAULT:
            raise OperatorError(
                "`revokeUnmanaged` lists `default`, but with `redisStrategy: reset` that is the user whose new password consumers hold.",
                state="`default` was not touched; consumers work with the new password, which is verified. The old one died when it was made.",
                next_step="take `default` off `revokeUnmanaged`, then `pulumi up`.",
            )
        # Else it is dead: the next password has replaced it.

    def _end_password(self, database: Database, credential_id: str) -> None:
        if not database.password:
            raise OperatorError(
                f"The password of `default` in the Upstash database {self.database} was not reset: Credential Protection is on, and the "
                "new REST token, which later rotations need, would be lost.",
                state="consumers work with their new users, which are verified; the password of `default` is still good.",
                next_step="reset the password in Upstash's console and keep the REST token that it shows; "
                f"{REST_TOKEN_HINT}; take `default` off `revokeUnmanaged` if it is there; then `pulumi up`.",
            )
        if credential_id == DEFAULT:
            if not self._first_look:
                self._first_look.append(database.password)
            doomed = self._first_look[0]
        else:
            doomed = next((password_of(each.value) for each in self.keyring if each.credential_id == credential_id), "")
        if database.password == doomed:  # else it has been reset before
            self.client.reset_password(self.database)

    def refuses(self, value: str) -> bool:
        """Whether the server refuses user and password of a URL."""
        return not accepts(value)

    # What can be known before

    def obstacles(self) -> list[RefusedError]:
        """The database has to be there and active; with `acl` its users have to be manageable, and ours well described."""
        errors = [] if self.strategy == RESET else self._wrong_settings()
        try:
            database = self.client.database(self.database)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return [
                *errors,
                RefusedError(
                    f"Upstash has no database {self.database} that the operator's key can see.",
                    next_step="mend `upstashDatabase` in the stack's config (it is an id, not a name), or use a key of its account.",
                ),
            ]
        if database.state != "active":
            errors.append(
                RefusedError(
                    f"The Upstash database {self.database} is {database.state or 'in no known state'}, not active.",
                    next_step="bring it back in Upstash's console.",
                )
            )
        elif self.strategy == ACL:
            errors.extend(self._no_access_control(database))
        return errors

    def _wrong_settings(self) -> list[RefusedError]:
        errors = []
        if not NAME.fullmatch(self.user):
            errors.append(
                RefusedError(
                    f"The config key `redisUser` is {self.user!r}; it may have letters, digits, `_` and `-`.",
                    next_step="pulumi config set redisUser …",
                )
            )
        if wrong := [rule for rule in self.rules.split() if not RULE.fullmatch(rule)]:
            errors.append(
                RefusedError(
                    f"The config key `redisRules` has what cannot be a rule for keys, channels or commands: {' '.join(wrong)}.",
                    next_step="pulumi config set redisRules '~* &* +@all', or less; Upstash takes no rules for subcommands.",
                )
            )
        elif not any(rule.startswith("+") or rule.lower() == "allcommands" for rule in self.rules.split()):
            errors.append(
                RefusedError(
                    "The config key `redisRules` allows no command.",
                    next_step="pulumi config set redisRules '~* &* +@all', or less.",
                )
            )
        return errors

    def _no_access_control(self, database: Database) -> list[RefusedError]:
        """What a list of the users meets: that is the one read that the free plan refuses."""
        try:
            self._access(database).users()
        except RefusedError as error:
            return [error]
        except ApiError as error:
            if error.refused:
                return [
                    RefusedError(
                        f"The REST token of the Upstash database {self.database} is refused: {error.reason}",
                        next_step=f"{REST_TOKEN_HINT} with the database's standard token (a reset of its password replaces it).",
                        contact=error.contact,
                    )
                ]
            if error.status in {400, 403}:
                return [
                    RefusedError(
                        f"The Upstash database {self.database} does not let its users be managed: {error.reason}",
                        next_step="ACL needs a paid plan and the standard REST token; or `pulumi config set redisStrategy reset`, "
                        "which cuts every tenant off until it has been restarted.",
                    )
                ]
            raise
        return []

    @property
    def outage(self) -> str:
        """With `reset` there is one."""
        if self.strategy == ACL:
            return ""
        when = "as soon as the new one is made, and both REST tokens with it"
        cut_off = (
            "the control plane and the tenants cannot use Redis from then on until each of them has been restarted"
        )
        return f"The old password of Redis dies {when}: {cut_off}. Strategy `acl` has no such outage (paid plans)."

    def warnings(self) -> list[str]:
        """What `reset` risks."""
        if self.strategy == ACL or self.client.database(self.database).password:
            return []
        hidden = "Upstash hides the credentials of the database (Credential Protection)"
        risk = "Should it not even show the new password when it is made, nothing can be delivered, and the outage lasts until that is off."
        return [f"{hidden}. {risk}"]

    def _access(self, database: Database) -> AccessControl:
        """With the database's own token where Upstash shows it: a reset replaces it, and then the operator's is stale."""
        token = database.rest_token or self.rest_token
        if not token:
            raise RefusedError(
                f"Upstash hides the REST token of database {self.database} (Credential Protection), and none was given.",
                next_step=f"{REST_TOKEN_HINT} with the database's standard token.",
            )
        return AccessControl(host=database.host, token=token)


def _is_password(credential_id: str) -> bool:
    return credential_id.startswith(f"{DEFAULT}/")


def _name_of(user: str) -> str:
    """The family's name of a user, whatever `redisUser` was when it was made; of somebody else's, its own name."""
    ours = OURS.fullmatch(user)
    return ours["name"] if ours else user
