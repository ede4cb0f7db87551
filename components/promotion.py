"""The stack that goes before: a generation is refused here until the stack that `after` names has verified a secret of its kind. Pure.

What counts is the last verification there: of the same kind of secret, with the same version of the program and of its requirements, and
not too long ago. Every verification notes what it was made with, whether a stack follows or not. What is half done is never held up: only
a generation that has yet to be minted or brought back is refused (ADR 0011).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components import stack_files
from components.errors import RefusedError, refusals
from components.program_version import ProgramVersion
from components.secret import LEAKED, Secret

DEFAULT_DAYS = 30  # as in Pulumi.yaml
# Clocks of two machines differ by seconds; one that is an hour ahead would keep a verification young.
CLOCK_SKEW = timedelta(hours=1)
LONGEST_REASON = 200  # characters: it is an output of the stack, and a line of the preview
CONFIG = "promotionOverrides"


@dataclass(frozen=True, kw_only=True)
class Override:
    """Says that one generation of a secret goes first here.

    Attributes:
        generation: Which one; any other is not concerned, so that no override is left over for the next rotation.
        reason: Why, in the operator's words.
    """

    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What the stack's config says about it.

    Attributes:
        after: The stack that goes before this one; "" for none.
        days: How old its verification may be.
        overrides: By secret.
    """

    after: str = ""
    days: int = DEFAULT_DAYS
    overrides: Mapping[str, Override] = field(default_factory=dict)


def load(*, after: str | None, days: str | None, overrides: object, encrypted: bool) -> Promotion:
    """Reads and checks the config.

    Args:
        after: The config key `after`.
        days: The config key `afterDays`.
        overrides: The config key `promotionOverrides`.
        encrypted: Whether that is encrypted.

    Raises:
        RefusedError: With everything that is wrong.
    """
    errors: list[RefusedError] = []
    if after and not after.replace("-", "").replace("_", "").replace(".", "").isalnum():
        errors.append(
            RefusedError(
                f"The config key `after` is {after!r}; it has to be the name of a stack of this project, on the same backend.",
                next_step="pulumi config set after staging",
            )
        )
    lasts = DEFAULT_DAYS if days is None else int(days) if days.isascii() and days.isdigit() else 0
    if lasts < 1:
        errors.append(
            RefusedError(
                f"The config key `afterDays` is {days!r}; it has to be a positive whole number of days.",
                next_step="pulumi config set afterDays 30",
            )
        )
    if encrypted:
        errors.append(
            RefusedError(
                f"The config key `{CONFIG}` is encrypted, and reasons are recorded in the outputs, for everybody to read.",
                next_step=f"`pulumi config rm {CONFIG}`, and set it anew with `--plaintext`.",
            )
        )
        overrides = {}
    found: dict[str, Override] = {}
    if overrides is not None and not isinstance(overrides, Mapping):
        errors.append(_not_an_override(CONFIG, overrides))
        overrides = {}
    for name, each in (overrides or {}).items():
        try:
            found[str(name)] = _override(each)
        except ValueError:
            errors.append(_not_an_override(f"{CONFIG}.{name}", each))
    if errors:
        raise refusals(errors)
    return Promotion(after=after or "", days=lasts, overrides=found)


def _override(value: object) -> Override:
    """Raises ValueError where it is none."""
    if not isinstance(value, Mapping) or set(value) != {"generation", "reason"}:
        raise ValueError
    generation, reason = value["generation"], value["reason"]
    if type(generation) is not int or generation < 1:
        raise ValueError
    if not isinstance(reason, str) or not reason.strip() or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ValueError
    return Override(generation=generation, reason=reason.strip())


def _not_an_override(key: str, value: object) -> RefusedError:
    return RefusedError(
        f"The config key `{key}` is {value!r}; for every secret it has to say which generation may go first here, and why "
        f"(at most {LONGEST_REASON} characters, in one line).",
        next_step=" ; ".join(override_commands("NAME", 4)),
    )


def override_commands(secret: str, generation: int) -> tuple[str, str]:
    """What an operator types to override the order."""
    path = f"pulumi config set --path '{CONFIG}.{secret}"
    return f"{path}.generation' {generation}", f"{path}.reason' 'why'"


# The order of the stacks


def predecessor(root: Path, stack: str) -> str:
    """The stack that goes before another one, by that one's config file; "" for none, or where that file is not here.

    Args:
        root: The folder of `Pulumi.yaml`.
        stack: The other stack.
    """
    try:
        project = stack_files.project(root)
        named = stack_files.read_config(project.file(stack)).get(project.full("after"))
    except (OSError, ValueError):
        return ""  # nothing to compare with; the engine says what is wrong with a file of its own
    return named if isinstance(named, str) else ""


def assert_ordered(stack: str, after: str, predecessor_of: Callable[[str], str]) -> None:
    """Refuses a stack that comes after itself, by way of others too: neither could ever be first.

    Raises:
        RefusedError: It does.
    """
    if not after:
        return
    if after == stack:
        raise RefusedError(
            f"The config key `after` of stack {stack} names {stack} itself.",
            next_step="name the stack that goes before it, or `pulumi config rm after`.",
        )
    chain = [stack, after]
    while (before := predecessor_of(chain[-1])) and before not in chain:
        chain.append(before)
    if before == stack:
        raise RefusedError(
            f"The stacks wait for each other: {' after '.join([*chain, stack])}.",
            next_step=f"take `after` off one of them: `pulumi config rm after --stack {stack}`, for example.",
        )


# What is compared


def kind_of(secret: Secret) -> dict[str, object]:
    """What makes two secrets one kind: the procedure that a rotation of either goes through. Names of apps, projects and so on are not part."""
    return {
        "source": secret.source.kind,
        "choices": dict(secret.choices),
        "locations": sorted({_LOCATIONS.get(type(each).__name__, type(each).__name__) for each in secret.locations}),
        "checks": [each.module for each in (secret.probe, secret.verification) if each is not None],
    }


_LOCATIONS = {"FlySecret": "Fly app", "RepositorySecret": "GitHub repository", "TenantMachines": "machines of tenants"}


def verified_with(secret: Secret, version: ProgramVersion) -> dict[str, object]:
    """What a verification of a secret notes: who made it, and what of."""
    return {"program": version.program, "requirements": version.requirements, "kind": kind_of(secret)}


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a stack's output `secrets` says of a secret.

    Attributes:
        generation: The one verified last; 0 for none.
        verified_at: When, RFC 3339.
        noted: What that verification noted (`verified_with`); empty where the program did not note it yet.
    """

    generation: int
    verified_at: str
    noted: Mapping[str, Any] = field(default_factory=dict)


def verified_of(outputs: Mapping[str, Any], secret: str) -> Verified | None:
    """What another stack's outputs say of a secret; None where it has verified none."""
    secrets = outputs.get("secrets")
    said = secrets.get(secret) if isinstance(secrets, Mapping) else None
    if not isinstance(said, Mapping) or not said.get("generation") or not said.get("verified_at"):
        return None
    noted = said.get("verified_with")
    try:
        datetime.fromisoformat(str(said["verified_at"]))
        # Numbers arrive as floats.
        generation = int(said["generation"])
    except (TypeError, ValueError):
        return None  # not by this program
    return Verified(
        generation=generation,
        verified_at=str(said["verified_at"]),
        noted=noted if isinstance(noted, Mapping) else {},
    )


def obstacles(
    verified: Verified | None, wanted: Mapping[str, Any], *, secret: str, stack: str, days: int, now: datetime
) -> list[str]:
    """Why what another stack has verified does not do. Each begins with the name of that stack.

    Args:
        verified: What it has verified of the secret.
        wanted: What a verification here would note.
        secret: The name of the secret.
        stack: The other stack.
        days: How old its verification may be.
        now: The time, with its zone.
    """
    if verified is None:
        return [f"stack {stack} has verified no {secret}"]
    about = f"stack {stack} has verified generation {verified.generation}"
    if not verified.noted:
        return [f"{about} with a program that did not note its version yet"]
    found = [
        f"{about} with another version of {what} ({verified.noted.get(key)}, here {wanted[key]})"
        for key, what in (("program", "the program"), ("requirements", "its requirements"))
        if verified.noted.get(key) != wanted[key]
    ]
    there = verified.noted.get("kind")
    if there != wanted["kind"]:
        found.append(f"{about} as another kind of secret ({_difference(there, wanted['kind'])})")
    at = datetime.fromisoformat(verified.verified_at)
    age = now - (at if at.tzinfo else at.replace(tzinfo=UTC))
    if age > timedelta(days=days):
        found.append(f"{about} {age.days} days ago, and {days} are allowed (`afterDays`)")
    elif age < -CLOCK_SKEW:
        found.append(f"{about} at {verified.verified_at}, which is yet to come: one of the two clocks is wrong")
    return found


def _difference(there: object, here: Mapping[str, Any]) -> str:
    """In which points two kinds differ."""
    known: dict[str, Any] = dict(there) if isinstance(there, Mapping) else {}
    flat_there, flat_here = ({**each, **dict(each.get("choices") or {})} for each in (known, here))
    keys = sorted((set(flat_there) | set(flat_here)) - {"choices"})
    return "; ".join(
        f"{key} {_said(flat_there.get(key))}, here {_said(flat_here.get(key))}"
        for key in keys
        if flat_there.get(key) != flat_here.get(key)
    )


def _said(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(str(each) for each in value) or "none"
    return "none" if value in (None, "") else str(value)


# What is decided


@dataclass(frozen=True, kw_only=True)
class Case:
    """A secret whose consumers this update verifies, or would, once they have been restarted.

    Attributes:
        secret: Which one.
        generation: The requested one.
        verified: The generation verified last; 0 for none.
        turns: Whether another generation becomes the current one.
        verifies: Whether consumers are verified by this update.
        leaked: Whether the value before has leaked.
        recorded: What the verification before has recorded; empty for nothing.
    """

    secret: Secret
    generation: int
    verified: int
    turns: bool
    verifies: bool
    leaked: bool
    recorded: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What comes of it for one secret.

    Attributes:
        record: What its verification repeats in its report, for the output `secrets`: `verified_with`, and `promotion` where a stack is before.
        said: For the preview: how it comes to go on here; "" where no stack goes before.
        overridden: Why it goes first here all the same; "" where it does not.
    """

    record: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    overridden: str = ""


def decide(
    promotion: Promotion,
    cases: Iterable[Case],
    *,
    version: Callable[[], ProgramVersion],
    outputs: Callable[[], Mapping[str, Any]],
    now: datetime,
) -> dict[str, Decision]:
    """Whether every secret may go on, and what is recorded of that.

    Args:
        promotion: The config.
        cases: All secrets that are rotated.
        version: That of this program. Asked only where something is verified or held against another stack.
        outputs: Reads those of the stack before; raises RefusedError where it cannot. Asked once, and only where it matters.
        now: The time, with its zone.

    Raises:
        RefusedError: With every secret that may not.
    """
    evidence = _Evidence(outputs)
    errors: list[RefusedError] = []
    decisions: dict[str, Decision] = {}
    for case in cases:
        begins = case.turns and case.generation != case.verified
        if not begins and not case.verifies:
            decisions[case.secret.name] = Decision(record=case.recorded)
            continue
        noted = verified_with(case.secret, version())
        if not promotion.after or case.generation == case.verified:
            kept = {"promotion": case.recorded["promotion"]} if "promotion" in case.recorded else {}
            keeps = kept if case.generation == case.verified else {}
            decisions[case.secret.name] = Decision(record={"verified_with": noted, **keeps})
            continue
        verified, against = evidence.of(case.secret.name, noted, promotion, now)
        decision = _decision(case, promotion, noted, verified, against)
        if decision is None:
            errors.append(_refusal(case, promotion, verified, against, evidence.error))
        else:
            decisions[case.secret.name] = decision
    if errors:
        raise refusals(errors)
    return decisions


class _Evidence:
    """The outputs of the stack before, read once."""

    def __init__(self, read: Callable[[], Mapping[str, Any]]) -> None:
        self._read = read
        self._outputs: Mapping[str, Any] | None = None
        self.error: RefusedError | None = None

    def of(
        self, secret: str, wanted: Mapping[str, Any], promotion: Promotion, now: datetime
    ) -> tuple[Verified | None, list[str]]:
        """What that stack has verified, and why it does not do."""
        if self._outputs is None and self.error is None:
            try:
                self._outputs = self._read()
            except RefusedError as error:
                self.error = error
        if self.error is not None:
            return None, [self.error.happened.rstrip(".")]
        if not self._outputs:
            return None, [f"stack {promotion.after} has completed no update yet"]
        verified = verified_of(self._outputs, secret)
        against = obstacles(verified, wanted, secret=secret, stack=promotion.after, days=promotion.days, now=now)
        return verified, against


def _decision(
    case: Case, promotion: Promotion, noted: Mapping[str, Any], verified: Verified | None, against: list[str]
) -> Decision | None:
    """None where it may not go on."""
    if verified is not None and not against:
        record = {
            "after": promotion.after,
            "generation": verified.generation,
            "verified_at": verified.verified_at,
        }
        said = f"stack {promotion.after} has verified generation {verified.generation} with this program, {verified.verified_at}"
        return Decision(record={"verified_with": noted, "promotion": record}, said=said)
    override = promotion.overrides.get(case.secret.name)
    if override is not None and override.generation == case.generation:
        why = override.reason
    elif case.leaked:
        why = LEAKED
    elif not case.turns:
        why = f"generation {case.generation} is minted already, and a rotation is never left half-way"
    else:
        return None
    because = "; ".join(against)
    record = {"after": promotion.after, "override": why, "because": because}
    return Decision(
        record={"verified_with": noted, "promotion": record},
        said=f"NOT PROVEN: {because}; it goes on all the same: {why}",
        overridden=why,
    )


def _refusal(
    case: Case, promotion: Promotion, verified: Verified | None, against: list[str], error: RefusedError | None
) -> RefusedError:
    name, before = case.secret.name, promotion.after
    generation, reason = override_commands(name, case.generation)
    if error is not None:
        first = error.next_step.rstrip(".")
    else:
        bump = (
            f"pulumi config set --stack {before} --path 'rotations.{name}' {verified.generation + 1 if verified else 1}"
        )
        first = (
            f"rotate it on {before} with this checkout first (`{bump}`, `pulumi up --stack {before}`), then here"
            if verified is None or all("another kind" not in each for each in against)
            else f"make the settings of both stacks the same, rotate it on {before} with this checkout (`{bump}`, "
            f"`pulumi up --stack {before}`), then here"
        )
    return RefusedError(
        f"{name} generation {case.generation} waits for stack {before}, which goes first (`after`): {'; '.join(against)}.",
        next_step=f"{first}. In an emergency, for this generation alone, and recorded: `{generation}` and `{reason}`. If the value has "
        f"leaked: `pulumi config set --path 'reasons.{name}' {LEAKED}`, which needs no more.",
    )


def overridden(record: Mapping[str, Any]) -> str:
    """Why what a verification recorded came before the stack that goes first had proven it; "" where that had, or none goes first."""
    return str((record.get("promotion") or {}).get("override", ""))


def warnings(promotion: Promotion, cases: Iterable[Case], decisions: Mapping[str, Decision]) -> list[str]:
    """What the operator is told: what goes first here all the same, and overrides that are for nothing."""
    known = {case.secret.name: case for case in cases}
    found = [
        f"{name} generation {known[name].generation} goes on without proof on stack {promotion.after}: {decision.overridden}. "
        f"{_sentence(decision.record['promotion']['because'])} This is recorded in the outputs."
        for name, decision in decisions.items()
        if decision.overridden
    ]
    for name, override in promotion.overrides.items():
        why = _useless(promotion, override, known.get(name), decisions.get(name))
        if why:
            found.append(f"`{CONFIG}.{name}` {why}: take it off (`pulumi config rm --path '{CONFIG}.{name}'`).")
    return found


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _useless(promotion: Promotion, override: Override, case: Case | None, decision: Decision | None) -> str:
    """Why an override has no effect; "" where it has one."""
    if not promotion.after:
        return "has no effect, because no stack goes before this one (`after`)"
    if case is None:
        return "is for a secret that `rotations` does not list"
    if override.generation != case.generation:
        return f"is for generation {override.generation}, and generation {case.generation} is requested"
    if case.generation == case.verified:
        return f"is used up, because generation {case.generation} is verified"
    if decision is not None and decision.said and not decision.overridden:
        return f"is not needed, because stack {promotion.after} has verified it"
    return ""
