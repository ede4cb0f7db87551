"""Which stacks are meant, and which goes before which. Pure, apart from reading the stacks' config files.

A stack exists for us if the backend has it and `stacks/Pulumi.<name>.yaml` describes it. The order is that of the config key `after`,
which names the stack that goes before, and, where it is asked for, that of the command line.
"""

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.errors import RefusedError, refusals
from components.stack_files import PREFIX, SUFFIX, files, read_config

CONFIG_FOLDER = "stacks"
AFTER = "molecule-secrets:after"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was asked for, found.

    Attributes:
        groups: For every pattern the stacks that it adds, in the order of the command line.
        skipped: Stacks that a pattern means and that are not taken, with the reason.
    """

    groups: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(name for group in self.groups for name in group)


def short(name: str) -> str:
    """The name of a stack without organization and project, which its config file has."""
    return name.rpartition("/")[2]


def is_pattern(text: str) -> bool:
    """Whether it is no name, and may mean several stacks."""
    return any(letter in text for letter in "*?[")


def config_file(checkout: Path, name: str) -> Path:
    """Where the config of a stack is."""
    return checkout / CONFIG_FOLDER / f"{PREFIX}{short(name)}{SUFFIX}"


def described(checkout: Path) -> dict[str, str]:
    """Every stack that has a config file, and the one that goes before it by its own config ("" for none).

    Raises:
        RefusedError: With every file that cannot be read.
    """
    found: dict[str, str] = {}
    errors: list[RefusedError] = []
    for name, file in files(checkout / CONFIG_FOLDER).items():
        try:
            after = read_config(file, may_be_empty=True).get(AFTER, "")
        except (OSError, ValueError):
            after = None
        if not isinstance(after, str):
            errors.append(
                RefusedError(
                    f"{CONFIG_FOLDER}/{file.name} cannot be read as the config of a stack, with a name under `after` if at all.",
                    next_step="mend the file (`git diff` shows what was changed), then run the same command again.",
                )
            )
            continue
        found[name] = short(after)
    if errors:
        raise refusals(errors)
    return found


def select(patterns: Sequence[str], *, described: Collection[str], deployed: Collection[str]) -> Selection:
    """The stacks that patterns mean.

    Args:
        patterns: Names, or patterns with `*`, `?` and `[`.
        described: Stacks that have a config file.
        deployed: Stacks that the backend has.

    Raises:
        RefusedError: With every name that is unknown, and every pattern that means nothing.
    """
    groups: list[tuple[str, ...]] = []
    skipped: dict[str, str] = {}
    errors: list[RefusedError] = []
    taken: set[str] = set()
    for pattern in patterns:
        if not is_pattern(pattern):
            if error := _missing(pattern, described=described, deployed=deployed):
                errors.append(error)
                continue
            found = [pattern]
        else:
            meant = fnmatch.filter(sorted({*described, *deployed}), pattern)
            found = [name for name in meant if name in described and name in deployed]
            for name in meant:
                if name not in found:
                    skipped[name] = _why(name, described=described)
            if not found:
                errors.append(
                    RefusedError(
                        f"No stack is called {pattern}. Known: {', '.join(sorted({*described} & {*deployed})) or 'none'}.",
                        next_step="`pulumi stack ls` lists the stacks of this backend.",
                    )
                )
        groups.append(tuple(name for name in found if name not in taken))
        taken |= {*found}
    if errors:
        raise refusals(errors)
    return Selection(groups=tuple(group for group in groups if group), skipped=skipped)


def _why(name: str, *, described: Collection[str]) -> str:
    if name in described:
        return "it is not on this backend"
    return f"there is no {CONFIG_FOLDER}/{PREFIX}{name}{SUFFIX} here"


def _missing(name: str, *, described: Collection[str], deployed: Collection[str]) -> RefusedError | None:
    if name in described and name in deployed:
        return None
    if name in described:
        return RefusedError(
            f"The stack {name} is not on this backend.",
            next_step=f"`pulumi stack ls` lists what is; `pulumi stack init {name}` makes it.",
        )
    if name in deployed:
        return RefusedError(
            f"The stack {name} has no {CONFIG_FOLDER}/{PREFIX}{name}{SUFFIX} here.",
            next_step="`git pull`: whoever made the stack has its config.",
        )
    nearest = difflib.get_close_matches(name, {*described} & {*deployed}, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return RefusedError(
        f"There is no stack {name}.{hint}", next_step="`pulumi stack ls` lists the stacks of this backend."
    )


@dataclass(frozen=True, kw_only=True)
class Order:
    """In which order stacks are rotated.

    Attributes:
        before: For every stack all those that go before it.
        waves: Those of one wave at once, each wave after the one before.
    """

    before: Mapping[str, frozenset[str]]
    waves: tuple[tuple[str, ...], ...]


def order(names: Iterable[str], *, after: Mapping[str, str], groups: Sequence[Sequence[str]] = ()) -> Order:
    """The order of stacks.

    A stack that is not selected passes on the order: with `production` after `preprod` after `staging`, and no `preprod`, production
    still goes after staging.

    Args:
        names: The selected stacks.
        after: For every stack that has a config file, the one that goes before it, "" for none.
        groups: Groups of which each goes after the one before; none where only `after` counts.

    Raises:
        RefusedError: A stack goes after one that nobody knows, or after itself in the end.
    """
    selected = list(dict.fromkeys(names))
    chosen = {*selected}
    before: dict[str, set[str]] = {name: _ancestors(name, after) & chosen for name in selected}
    for number, group in enumerate(groups):
        for name in group:
            before[name] |= {each for earlier in groups[:number] for each in earlier}
    waves: list[tuple[str, ...]] = []
    gone: set[str] = set()
    while left := [name for name in selected if name not in gone]:
        wave = tuple(name for name in left if before[name] <= gone)
        if not wave:
            raise RefusedError(
                f"The order of the command line and that of `after` contradict each other: {', '.join(left)} wait for one another.",
                next_step="name the stacks in the order of `after`, or leave `--in-order` out.",
            )
        waves.append(wave)
        gone |= {*wave}
    return Order(before={name: frozenset(each) for name, each in before.items()}, waves=tuple(waves))


def _ancestors(name: str, after: Mapping[str, str]) -> set[str]:
    """Every stack that goes before."""
    seen = [name]
    while earlier := after.get(seen[-1], ""):
        if earlier not in after:
            raise RefusedError(
                f"`after` of the stack {seen[-1]} names {earlier}, and there is no {CONFIG_FOLDER}/{PREFIX}{earlier}{SUFFIX}.",
                next_step=f"mend `{AFTER}` in {CONFIG_FOLDER}/{PREFIX}{seen[-1]}{SUFFIX}.",
            )
        if earlier in seen:
            raise RefusedError(
                f"Stacks go after each other in a circle: {' after '.join([*seen, earlier])}.",
                next_step=f"mend `{AFTER}` in one of their files.",
            )
        seen.append(earlier)
    return {*seen[1:]}
