"""What the report knows of a stack: the outputs and the history, parsed to plain data.

Tolerant of what is absent, because a stack that was deployed by an earlier version of the program exports less; strict about what is
there, because a page that shows something else than what was exported is worse than none. Of the config in the history the rotation
counters are read and nothing else: the rest may hold encrypted values.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

LONGEST_TEXT = 200  # characters of a name or a sentence
COUNTERS = ":rotations"
SUMMARY_KINDS = ("create", "update", "replace", "delete")
# What would reorder or hide text on the page: controls, directional overrides, lone surrogates, code points that mean nothing.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class UnreadableError(Exception):
    """The engine's answer is not what the program exports; the text says where."""


@dataclass(frozen=True, kw_only=True)
class OldCredential:
    """A credential that only its provider can end, and that it still accepted at the last look.

    Attributes:
        credential_id: Its id at the provider.
        lives_until: When the provider ends it; None where that is not known.
    """

    credential_id: str
    lives_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Unmanaged:
    """A live credential at the same provider that the program did not mint."""

    credential_id: str
    name: str
    created_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a value is delivered, and who reads it there ("" where the program does not say it)."""

    name: str
    consumer: str


@dataclass(frozen=True, kw_only=True)
class PastRotation:
    """One rotation of one secret; a time is None where that step has not happened or is not known.

    Attributes:
        generation: The counter's value.
        reason: `routine`, `leaked`, or "" where it is not known.
        minted_at: The credential was made.
        delivered_at: The last location got it.
        verified_at: Every consumer was seen to work with it.
        revoked_at: Everything else of the family was dead.
        revoked: The names of what was revoked.
        override: Why it came before the stack that goes first had proven it; "" where that had, or none goes first.
    """

    generation: int
    reason: str
    minted_at: datetime | None
    delivered_at: datetime | None
    verified_at: datetime | None
    revoked_at: datetime | None
    revoked: tuple[str, ...]
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Which stack goes before, and whether it had proven what was rotated here last.

    Attributes:
        after: That stack.
        generation: What it had verified; 0 where that did not do.
        verified_at: When it had; None where that did not do.
        override: Why it went on here without; "" where it did not.
        because: What was missing; "" for nothing.
    """

    after: str
    generation: int
    verified_at: datetime | None
    override: str
    because: str


@dataclass(frozen=True, kw_only=True)
class ManagedSecret:
    """One secret as the last update left it.

    Attributes:
        name: Its name.
        generation: The verified generation; 0 where none has been verified yet.
        credential_id: The id of its credential at the provider.
        reason: Why it was rotated last; "" where that is not known.
        minted_at: When the credential was made.
        verified_at: When every consumer was seen to work with it.
        rotate_by: When the configured maximum age is reached; None without one.
        overdue: Whether it was, at the last update.
        alive: Old credentials that still work.
        unmanaged: Live credentials that the program did not mint.
        locations: In the order of delivery.
        staged: The generation that is written and waits for a restart of the machines; None without one.
        timeline: Its last rotations, newest first.
        promotion: Where a stack goes before this one.
    """

    name: str
    generation: int
    credential_id: str
    reason: str
    minted_at: datetime | None
    verified_at: datetime | None
    rotate_by: datetime | None
    overdue: bool
    alive: tuple[OldCredential, ...]
    unmanaged: tuple[Unmanaged, ...]
    locations: tuple[Location, ...]
    staged: int | None
    timeline: tuple[PastRotation, ...]
    promotion: Promotion | None = None


@dataclass(frozen=True, kw_only=True)
class Update:
    """One entry of the stack's history.

    Attributes:
        version: The engine's number of it; 0 where it has none.
        kind: `update`, `refresh`, `destroy`, …
        result: `succeeded`, `failed`, `in-progress`, …
        started_at: When it began.
        ended_at: When it ended.
        counters: The rotation counters that it ran with.
        changes: Resources by what happened to them.
    """

    version: int
    kind: str
    result: str
    started_at: datetime | None
    ended_at: datetime | None
    counters: Mapping[str, int]
    changes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Everything that the report is about.

    Attributes:
        name: The stack's name.
        secrets: What the program manages, as the last complete update left it.
        not_managed: Names of the map that the program cannot rotate, with the reason.
        impact: What the last update that had something to do was about, in words; "" where it is not known.
        updates: The history, newest first.
    """

    name: str
    secrets: tuple[ManagedSecret, ...]
    not_managed: Mapping[str, str]
    impact: str
    updates: tuple[Update, ...]


def parse_stack(name: str, outputs: object, history: object) -> Stack:
    """Parses what the engine answered.

    Args:
        name: The stack's name.
        outputs: `pulumi stack output --json`.
        history: `pulumi stack history --json`.

    Raises:
        UnreadableError: Something that is there has another type than the program exports.
    """
    exported = _mapping(outputs, "the outputs")
    secrets = _mapping(exported.get("secrets", {}), "secrets")
    reasons = _mapping(exported.get("notManaged", {}), "notManaged")
    impact = _mapping(exported.get("impact") or {}, "impact")
    return Stack(
        name=clean(name),
        secrets=tuple(_secret(key, each) for key, each in secrets.items()),
        not_managed={clean(key): _text(reasons, key, "notManaged") for key in reasons},
        impact=clean(_text(impact, "summary", "impact", longest=None), lines=True, longest=20 * LONGEST_TEXT),
        updates=tuple(_update(each, f"history[{n}]") for n, each in enumerate(_sequence(history, "the history"))),
    )


def unverified(name: str) -> ManagedSecret:
    """A secret of which nothing is exported yet, because no update that lists it was ever complete."""
    return _secret(name, {})


def clean(text: str, *, lines: bool = False, longest: int | None = LONGEST_TEXT) -> str:
    """Text that shows as what it is: nothing invisible in it, nothing that reorders what follows, and an end.

    Args:
        text: Anything.
        lines: Whether the ends of lines stay.
        longest: Characters that are kept; None for all.
    """
    shown = "".join(
        "\ufffd" if unicodedata.category(each) in INVISIBLE and not (lines and each == "\n") else each for each in text
    )
    if longest is not None and len(shown) > longest:
        return f"{shown[: longest - 1]}…"
    return shown


def moment(text: str) -> datetime | None:
    """A time of RFC 3339, in UTC; None where it is none. Without a zone it is UTC."""
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _secret(name: str, value: object) -> ManagedSecret:
    where = f"secrets.{name}"
    each = _mapping(value, where)
    locations = _texts(each, "locations", where)
    consumers = _texts(each, "consumers", where)
    return ManagedSecret(
        name=clean(name),
        generation=_number(each, "generation", where),
        credential_id=_text(each, "credential_id", where),
        reason=_text(each, "reason", where),
        minted_at=_moment(each, "minted_at", where),
        verified_at=_moment(each, "verified_at", where),
        rotate_by=_moment(each, "rotate_by", where),
        overdue=_flag(each, "overdue", where),
        alive=tuple(
            OldCredential(
                credential_id=_text(old, "credential_id", where), lives_until=_moment(old, "lives_until", where)
            )
            for old in _mappings(each, "alive", where)
        ),
        unmanaged=tuple(
            Unmanaged(
                credential_id=_text(other, "id", where),
                name=_text(other, "name", where),
                created_at=_moment(other, "created_at", where),
            )
            for other in _mappings(each, "unmanaged", where)
        ),
        locations=tuple(
            Location(name=location, consumer=consumers[number] if number < len(consumers) else "")
            for number, location in enumerate(locations)
        ),
        staged=None if each.get("staged") is None else _number(each, "staged", where),
        timeline=tuple(_past_rotation(past, f"{where}.timeline") for past in _mappings(each, "timeline", where)),
        promotion=_promotion(each.get("promotion"), f"{where}.promotion"),
    )


def _promotion(value: object, where: str) -> Promotion | None:
    if value is None:
        return None
    each = _mapping(value, where)
    return Promotion(
        after=_text(each, "after", where),
        generation=_number(each, "generation", where),
        verified_at=_moment(each, "verified_at", where),
        override=_text(each, "override", where),
        because=clean(_text(each, "because", where, longest=None), longest=5 * LONGEST_TEXT),
    )


def _past_rotation(each: Mapping[str, object], where: str) -> PastRotation:
    return PastRotation(
        generation=_number(each, "generation", where),
        reason=_text(each, "reason", where),
        minted_at=_moment(each, "minted_at", where),
        delivered_at=_moment(each, "delivered_at", where),
        verified_at=_moment(each, "verified_at", where),
        revoked_at=_moment(each, "revoked_at", where),
        revoked=_texts(each, "revoked", where),
        override=_text(each, "override", where),
    )


def _update(value: object, where: str) -> Update:
    each = _mapping(value, where)
    changes = _mapping(each.get("resourceChanges") or {}, f"{where}.resourceChanges")
    return Update(
        version=_number(each, "version", where),
        kind=_text(each, "kind", where),
        result=_text(each, "result", where),
        started_at=_moment(each, "startTime", where),
        ended_at=_moment(each, "endTime", where),
        counters=_counters(_mapping(each.get("config") or {}, f"{where}.config")),
        changes={kind: _number(changes, kind, where) for kind in SUMMARY_KINDS if kind in changes},
    )


def _counters(config: Mapping[str, object]) -> Mapping[str, int]:
    """The rotation counters, however they were written; what is no counter is left out, because the program refused it, too."""
    for key, entry in config.items():
        if key.endswith(COUNTERS) and isinstance(entry, Mapping) and entry.get("secret") is not True:
            written = entry.get("objectValue", entry.get("value"))
            if isinstance(written, str):
                try:
                    written = json.loads(written)
                except ValueError:
                    return {}
            if isinstance(written, Mapping):
                return {
                    clean(str(name)): int(counter)
                    for name, counter in written.items()
                    if re.fullmatch("[0-9]{1,9}", str(counter))
                }
    return {}


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{_place(where)} is no object")
    return value


def _sequence(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise UnreadableError(f"{_place(where)} is no list")
    return value


def _mappings(each: Mapping[str, object], key: str, where: str) -> list[Mapping[str, object]]:
    found = _sequence(each.get(key) or [], f"{where}.{key}")
    return [_mapping(one, f"{where}.{key}[{number}]") for number, one in enumerate(found)]


def _texts(each: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    found = _sequence(each.get(key) or [], f"{where}.{key}")
    return tuple(_text({key: one}, key, where) for one in found)


def _text(each: Mapping[str, object], key: str, where: str, *, longest: int | None = LONGEST_TEXT) -> str:
    value = each.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableError(f"{_place(f'{where}.{key}')} is no text")
    return value if longest is None else clean(value, longest=longest)


def _number(each: Mapping[str, object], key: str, where: str) -> int:
    value = each.get(key, 0)
    # JSON has one kind of number, and the engine writes those of an output as 3 or 3.0.
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise UnreadableError(f"{_place(f'{where}.{key}')} is no whole number")
    return int(value)


def _flag(each: Mapping[str, object], key: str, where: str) -> bool:
    value = each.get(key, False)
    if not isinstance(value, bool):
        raise UnreadableError(f"{_place(f'{where}.{key}')} is neither true nor false")
    return value


def _moment(each: Mapping[str, object], key: str, where: str) -> datetime | None:
    return moment(_text(each, key, where))


def _place(where: str) -> str:
    return clean(where)
