"""Which generation a stack is to have of a secret: the one that was asked for already and is not verified, else the next one. Pure."""

from dataclasses import dataclass

from components.errors import RefusedError
from components.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a stack is to have of one secret.

    Attributes:
        secret: Which one.
        verified: The generation verified last; 0 for none.
        requested: The one that its config asks for.
        generation: The one that it is to have.
        settled: Whether it has it: verified, and everything before it revoked.
    """

    secret: str
    verified: int
    requested: int
    generation: int
    settled: bool

    @property
    def bumps(self) -> bool:
        """Whether the config has to be changed for it."""
        return self.requested != self.generation


def settled(progress: Progress, generation: int) -> bool:
    """Whether a generation is in use, verified, and whatever was before it revoked."""
    return (
        progress.current == progress.verified == generation
        and progress.has_revocation
        and progress.revoked_for == progress.verified_at
    )


def target(
    stack: str, secret: str, *, requested: int, progress: Progress, remembered: int | None, to: int | None
) -> Target:
    """Decides which generation a stack is to have.

    Args:
        stack: Its name.
        secret: Which secret.
        requested: The generation that its config asks for.
        progress: How far it is.
        remembered: What an unfinished run of the fleet wanted; None for nothing.
        to: What the command line asks for; None for the next one.

    Raises:
        RefusedError: The config is older than the state.
    """
    newest = max((each.generation for each in progress.keyring), default=progress.current)
    following = max(newest, progress.current) + 1
    if requested < progress.verified:
        raise RefusedError(
            f"{stack}: the config asks for generation {requested} of {secret}, and generation {progress.verified} is verified: the config "
            "here is older than the state.",
            next_step=f"`git pull`; if nobody has the newer file: pulumi config set --stack {stack} --path 'rotations.{secret}' "
            f"{progress.verified}",
        )
    if to is not None:
        wanted = to
    elif remembered is not None:
        wanted = max(remembered, requested)
    elif settled(progress, requested):
        wanted = following
    else:
        wanted = requested
    return Target(
        secret=secret,
        verified=progress.verified,
        requested=requested,
        generation=wanted,
        settled=settled(progress, wanted),
    )
