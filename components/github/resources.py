"""The resources of a secret at GitHub, all of pulumi-github, and what an operator is told while they are written.

pulumi-github has its own errors, and waits 20 minutes for an answer, whatever it is told. So hooks of the engine watch every write: one
says after a minute that GitHub has not answered, one says after a failure what is true now and what to do next. And they let
few writes be under way at once: see `Queue`.
"""

import asyncio
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pulumi
import pulumi_github as github

from components import operator_credentials
from components.errors import OperatorError
from components.own_state import AGAIN
from components.secret import (
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    GitHubSecret,
    OrganizationSecret,
)

# As go-github writes an answer that is no success: `PUT URL: STATUS MESSAGE …`.
STATUS = re.compile(r"\b(?:GET|PUT|POST|PATCH|DELETE) \S+: (\d{3})\b")
LONGEST_ERROR = 400  # characters of it that are repeated
PATIENCE = 60.0  # seconds
AT_ONCE = 8  # writes that are under way at once
VARIABLE = operator_credentials.GITHUB.variables[0]

Written = (
    github.ActionsSecret
    | github.ActionsEnvironmentSecret
    | github.ActionsOrganizationSecret
    | github.DependabotSecret
    | github.DependabotOrganizationSecret
)


def resource_name(location: GitHubSecret, secret: str, *, again: int) -> str:
    """What the resource is called. The state of every stack keeps it: never change it.

    Args:
        location: The place.
        secret: The name of the secret.
        again: How often the value has had to be written once more. Another name makes the engine write, see ADR 0010.
    """
    match location:
        case OrganizationSecret():  # Dependabot's too: that is of another type
            place = "organization"
        case EnvironmentSecret():
            place = f"{location.repository}-{location.environment}"
        case _:
            place = location.repository
    return f"{place}-{secret}" + (f"{AGAIN}{again}" if again else "")


def written_secret(
    location: GitHubSecret,
    secret: str,
    value: pulumi.Output[str],
    *,
    again: int,
    selected: tuple[int, ...],
    old_credential: str,
    queue: "Queue",
    options: pulumi.ResourceOptions,
) -> Written:
    """The resource that writes a secret to a place.

    Args:
        location: The place.
        secret: The name of the secret.
        value: Secret.
        again: How often the value has had to be written once more.
        selected: The ids of the repositories that may read an organization's secret of visibility `selected`.
        old_credential: What is true of the value before until the new one is verified.
        queue: Of all writes of the program.
        options: Of the resource.
    """
    name = resource_name(location, secret, again=again)
    watch = Watch(place=str(location), secret=secret, old_credential=old_credential, queue=queue)
    options = pulumi.ResourceOptions.merge(
        options, pulumi.ResourceOptions(hooks=watch.hooks(f"{type(location).__name__} {name}"))
    )
    match location:
        case OrganizationSecret():
            of_dependabot = isinstance(location, DependabotOrganizationSecret)
            kind = github.DependabotOrganizationSecret if of_dependabot else github.ActionsOrganizationSecret
            return kind(
                name,
                secret_name=secret,
                value=value,
                visibility=location.visibility,
                # Named with every write. As a resource of its own they would be, for a moment, whoever GitHub takes them to be.
                selected_repository_ids=list(selected) or None,
                opts=options,
            )
        case EnvironmentSecret():
            return github.ActionsEnvironmentSecret(
                name,
                repository=location.repository,
                environment=location.environment,
                secret_name=secret,
                value=value,
                opts=options,
            )
        case DependabotSecret():
            return github.DependabotSecret(
                name, repository=location.repository, secret_name=secret, value=value, opts=options
            )
        case _:
            return github.ActionsSecret(
                name, repository=location.repository, secret_name=secret, value=value, opts=options
            )


class Queue:
    """The writes of a program: a few at once, in the order in which they come.

    pulumi-github makes one request at a time, in the order in which they come, and each write is four steps: the key to seal with, the write,
    a second's wait, and a look at what was written. Of a hundred that begin together all end together, with the hundredth: nothing could be
    verified before. Of one at a time, each would wait for the second of the one before.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._last: deque[asyncio.Event] = deque(maxlen=AT_ONCE)
        self._moved_at = 0.0

    async def turn(self) -> asyncio.Event:
        """Waits until few enough are under way, or until none has ended for as long as an operator would wait for an answer.

        Returns:
            To be set once this write is over.
        """
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        before = self._last[0] if len(self._last) == AT_ONCE else None
        self._last.append(over)
        if before is not None:
            while not before.is_set() and (left := self._moved_at + self._patience - loop.time()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(before.wait(), left)
        self._moved_at = loop.time()
        return over


@dataclass(kw_only=True)
class Watch:
    """Looks after one write.

    Attributes:
        place: Where to.
        secret: Which one.
        old_credential: What is true of the value before until the new one is verified.
        queue: Of all writes of the program.
        patience: Seconds until the operator is told that there is no answer.
    """

    place: str
    secret: str
    old_credential: str
    queue: Queue
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self._waiting: asyncio.Task[None] | None = None
        self._over: asyncio.Event | None = None

    def hooks(self, name: str) -> pulumi.ResourceHookBinding:
        """Of the resource. An engine calls none of them in a preview.

        Args:
            name: Different for every resource of the program.
        """
        before = pulumi.ResourceHook(f"{name}: before", self.begins)
        after = pulumi.ResourceHook(f"{name}: after", self.ends)
        return pulumi.ResourceHookBinding(
            before_create=[before],
            before_update=[before],
            after_create=[after],
            after_update=[after],
            on_error=[pulumi.ErrorHook(f"{name}: failed", self.fails)],
        )

    async def begins(self, _: pulumi.ResourceHookArgs) -> None:
        """Before the write."""
        self._stop()
        self._over = await self.queue.turn()
        self._waiting = asyncio.create_task(self._wait())

    async def ends(self, _: pulumi.ResourceHookArgs) -> None:
        """After the write."""
        self._stop()

    async def fails(self, arguments: pulumi.ErrorHookArgs) -> bool:
        """After a write that failed. pulumi-github has tried again by itself where that made sense."""
        self._stop()
        pulumi.log.error(str(self.error(arguments.errors[0] if arguments.errors else "")))
        return False

    def _stop(self) -> None:
        if self._over is not None:
            self._over.set()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    async def _wait(self) -> None:
        await asyncio.sleep(self.patience)
        pulumi.log.warn(self.no_answer)

    @property
    def no_answer(self) -> str:
        """What is said once GitHub has not answered for long."""
        return (
            f"GitHub has not answered the write of {self.secret} for {self.patience:.0f} s ({self.place}). pulumi-github waits up to 20 "
            "minutes and has no setting for that. To go on at once: Ctrl-C twice, then `pulumi up`; githubstatus.com says whether "
            f"GitHub is down. Meanwhile {self.old_credential}."
        )

    def error(self, said: str) -> OperatorError:
        """What an operator has to know about a write that failed.

        Args:
            said: pulumi-github's own error. It has the request's URL and GitHub's answer, and no value.
        """
        said = " ".join(said.split())
        status = int(found[1]) if (found := STATUS.search(said)) else None
        return OperatorError(
            f"GitHub did not confirm the write of {self.secret} ({self.place}): {said[:LONGEST_ERROR] or 'no reason was given'}",
            state=f"Fly has the new value, {self.place} "
            + ("the one before" if _certainly_not_written(status) else "has it or the one before")
            + f"; {self.old_credential}, and nothing was revoked.",
            next_step=f"{_mend(status, self.place)}, then `pulumi up`: it goes on here, mints nothing and restarts nothing.",
            contact="" if _certainly_not_written(status) else "githubstatus.com",
        )


def _certainly_not_written(status: int | None) -> bool:
    return status is not None and httpx.codes.BAD_REQUEST <= status < httpx.codes.INTERNAL_SERVER_ERROR


def _mend(status: int | None, place: str) -> str:
    match status:
        case httpx.codes.UNAUTHORIZED:
            return f"export {VARIABLE} with a token that GitHub accepts"
        case httpx.codes.FORBIDDEN:
            return (
                f'use a {VARIABLE} that may write the secrets of {place} (README, "What it needs"), or wait where GitHub speaks of a '
                "rate limit"
            )
        case httpx.codes.NOT_FOUND:
            return (
                f"see whether {place} is still there, and whether the {VARIABLE} may write its secrets: GitHub says 404 to who may not "
                "see it"
            )
        case httpx.codes.UNPROCESSABLE_ENTITY:
            return "see what GitHub says of the secret's name, size or visibility"
        case httpx.codes.TOO_MANY_REQUESTS:
            return "wait until GitHub's rate limit is over"
        case _:
            return "wait until GitHub works again"
