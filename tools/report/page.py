"""The page: what the template shows, in the order in which it is read, and the rendering of it.

The template decides nothing; whatever is counted, sorted or put into words is done here. Everything it shows is escaped (autoescape), and
it has no script: what has to be read needs none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import zip_longest
from pathlib import Path

import jinja2

from tools.report import diagram
from tools.report.model import ManagedSecret, Stack, Update, unverified
from tools.report.states import State, Urgency, end_of, is_overdue, states, wanted
from tools.report.timeline import runs
from tools.report.words import age, coarse, count, exact, listing, when

OPEN_RUNS = 5  # of the timeline; older ones are there, folded
SHOWN_UPDATES = 20
# No network, whatever a name contains: nothing is loaded, run, embedded or sent.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
RESULTS: Mapping[str, tuple[str, Urgency]] = {
    "succeeded": ("succeeded", Urgency.DONE),
    "failed": ("failed", Urgency.ACT),
    "in-progress": ("still running", Urgency.NOTE),
    "not-started": ("not started", Urgency.NOTE),
}
DONE_TO: Mapping[str, str] = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """The report.

    Attributes:
        html: The whole page.
        verdict: What is to be done, in a sentence.
    """

    html: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A line of a card; `at` is the exact moment behind the words, "" where there is none."""

    term: str
    words: str
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A line of the map in words."""

    location: str
    consumer: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is to be said of one secret.

    Attributes:
        name: Its name.
        states: Most urgent first.
        facts: Generation, age, …
        spent: How much of its maximum age has gone, in percent, more than 100 where it is overdue; None without one.
        deliveries: Its locations, in the order of delivery.
        alive: Old credentials that still work, in words.
        unmanaged: Credentials that are not managed, in words.
    """

    name: str
    states: tuple[State, ...]
    facts: tuple[Fact, ...]
    spent: int | None
    deliveries: tuple[Delivery, ...]
    alive: tuple[str, ...]
    unmanaged: tuple[str, ...]

    @property
    def urgency(self) -> Urgency:
        """Of its most urgent state."""
        return self.states[0].urgency


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An update of the history, in words."""

    kind: str
    at: str
    result: str
    urgency: Urgency
    took: str
    rotations: tuple[str, ...]
    resources: str


def render(stack: Stack, now: datetime) -> Page:
    """Writes the page of a stack.

    Args:
        stack: What is known of it.
        now: The moment that ages are computed for, in UTC.
    """
    now = now.replace(microsecond=0)
    secrets = _known(stack)
    cards = _cards(secrets, wanted(stack.updates), now)
    failed = bool(stack.updates) and stack.updates[0].result == "failed"
    verdict = _verdict(cards, failed=failed)
    items = [*map(_item, cards), *(_automatic(name) for name in stack.not_managed)]
    found = runs(stack.secrets)
    entries = _entries(stack.updates)
    html = _template().render(
        policy=CONTENT_SECURITY_POLICY,
        done=Urgency.DONE,
        note=Urgency.NOTE,
        act=Urgency.ACT,
        stack=stack.name,
        written=when(now),
        written_at=now.isoformat(),
        verdict=verdict,
        needs_attention=failed or any(card.urgency is Urgency.ACT for card in cards),
        figures=_figures(cards, secrets, now),
        notice=_notice(stack.updates, now),
        impact=stack.impact,
        wide=diagram.wide(items),
        narrow=diagram.narrow(items),
        summary=_map_summary(cards, stack),
        cards=cards,
        not_managed={name: _sentence(reason) for name, reason in stack.not_managed.items()},
        runs=found[:OPEN_RUNS],
        older=found[OPEN_RUNS:],
        entries=entries[:SHOWN_UPDATES],
        more=len(entries) - SHOWN_UPDATES,
    )
    return Page(html=html, verdict=verdict)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["passages"] = _passages
    return environment.get_template("page.html.j2")


def _known(stack: Stack) -> tuple[ManagedSecret, ...]:
    """Those of the outputs, and those that the last update listed for the first time and did not come to export."""
    exported = {secret.name for secret in stack.secrets}
    return (*stack.secrets, *(unverified(name) for name in wanted(stack.updates) if name not in exported))


def _cards(secrets: Iterable[ManagedSecret], counters: Mapping[str, int], now: datetime) -> list[Card]:
    """Those that somebody has to see to first, the others by name."""
    cards = [_card(secret, counters.get(secret.name), now) for secret in secrets]
    return sorted(cards, key=lambda card: (card.urgency is not Urgency.ACT, card.name))


def _card(secret: ManagedSecret, counter: int | None, now: datetime) -> Card:
    return Card(
        name=secret.name,
        # Generation 0 has a state of its own, and every other one is verified: there is always one.
        states=states(secret, counter, now),
        facts=tuple(_facts(secret, now)),
        spent=_spent(secret, now),
        deliveries=tuple(Delivery(location=each.name, consumer=each.consumer) for each in secret.locations),
        alive=tuple(f"{old.credential_id}: {end_of(old, now)}" for old in secret.alive),
        unmanaged=tuple(
            (each.name if each.name == each.credential_id else f"{each.name} ({each.credential_id})")
            + (f", made {age(each.created_at, now)} ago" if each.created_at else "")
            for each in secret.unmanaged
        ),
    )


def _facts(secret: ManagedSecret, now: datetime) -> list[Fact]:
    made = _made(secret)
    facts = [Fact(term="Generation", words=str(secret.generation) if secret.generation else "none verified yet")]
    if made:
        facts.append(Fact(term="Age", words=age(made, now), at=when(made)))
    if secret.verified_at:
        facts.append(Fact(term="Verified", words="", at=when(secret.verified_at)))
    if secret.rotate_by:
        late = secret.rotate_by <= now
        span = age(secret.rotate_by, now) if late else coarse((secret.rotate_by - now).total_seconds())
        facts.append(
            Fact(term="Rotate by", words=f"{span} ago" if late else f"in {span}", at=when(secret.rotate_by)),
        )
    if secret.reason:
        facts.append(
            Fact(term="Reason", words="the value before leaked" if secret.reason == "leaked" else secret.reason)
        )
    if secret.promotion is not None and not secret.promotion.override:
        words = f"{secret.promotion.after} had verified generation {secret.promotion.generation}"
        facts.append(Fact(term="Promotion", words=words, at=when(secret.promotion.verified_at)))
    if secret.credential_id:
        facts.append(Fact(term="Credential", words=secret.credential_id))
    return facts


def _made(secret: ManagedSecret) -> datetime | None:
    """When it was made, which the age counts from: a program that does not export the mint exports the verification, minutes later."""
    return secret.minted_at or secret.verified_at


def _spent(secret: ManagedSecret, now: datetime) -> int | None:
    made = _made(secret)
    if not made or not secret.rotate_by or secret.rotate_by <= made:
        return 100 if is_overdue(secret, now) else None
    spent = round(max((now - made) / (secret.rotate_by - made), 0) * 100)
    return max(spent, 100) if is_overdue(secret, now) else min(spent, 100)


def _verdict(cards: list[Card], *, failed: bool) -> str:
    update = "The last update failed." if failed else ""
    if not cards:
        return f"{update} No secret is managed: the stack's config lists none under `rotations`.".strip()
    acts = [card.name for card in cards if card.urgency is Urgency.ACT]
    if acts:
        who = f"{len(acts)} of {count(len(cards), 'secret')} need{'s' if len(acts) == 1 else ''} you: {listing(acts)}."
        return f"{update} {who}".strip()
    return update or f"{count(len(cards), 'secret')}, nothing that you have to do."


def _figures(cards: list[Card], secrets: tuple[ManagedSecret, ...], now: datetime) -> list[Fact]:
    made = [when_made for secret in secrets if (when_made := _made(secret))]
    return [
        Fact(term="managed", words=str(len(cards))),
        Fact(term="verified", words=str(sum(1 for secret in secrets if secret.generation))),
        Fact(term="need attention", words=str(sum(1 for card in cards if card.urgency is Urgency.ACT))),
        Fact(term="age of the oldest", words=age(min(made), now) if made else "-"),
    ]


def _notice(updates: tuple[Update, ...], now: datetime) -> str:
    """What a reader has to know of the last update before anything else; "" where it went well."""
    last = updates[0] if updates else None
    if last is None or last.result == "succeeded":
        return ""
    began = f"{age(last.started_at, now)} before this page was written" if last.started_at else "at an unknown time"
    if last.result == "failed":
        return (
            f"The {last.kind} that failed began {began}. What you see is what the last complete one "
            "confirmed. "
            "Run `pulumi up` again: it goes on where it stopped, and says what is wrong if something still is."
        )
    words = RESULTS.get(last.result, (last.result, Urgency.NOTE))[0]
    return f"The last {last.kind} is {words}; it began {began}. What you see is what the last complete one confirmed."


def _item(card: Card) -> diagram.Item:
    facts = {fact.term: fact.words for fact in card.facts}
    generation = [f"generation {facts['Generation']}"] if facts["Generation"].isdigit() else []
    old = [f"{facts['Age']} old"] if "Age" in facts else []
    return diagram.Item(
        name=card.name,
        facts=tuple(each for each in (card.states[0].words, ", ".join([*generation, *old])) if each),
        urgency=card.urgency,
        goes_to=tuple((each.location, each.consumer) for each in card.deliveries),
    )


def _automatic(name: str) -> diagram.Item:
    return diagram.Item(name=name, facts=("rotated automatically, not managed",), urgency=None)


def _map_summary(cards: list[Card], stack: Stack) -> str:
    locations = {each.location for card in cards for each in card.deliveries}
    consumers = {each.consumer for card in cards for each in card.deliveries if each.consumer}
    words = f"{count(len(cards), 'managed secret')} in {count(len(locations), 'location')}"
    if consumers:
        words += f", read by {count(len(consumers), 'consumer')}"
    if stack.not_managed:
        words += f"; {listing(list(stack.not_managed))}, rotated automatically"
    return f"{words}. The same in words is below the diagram."


def _entries(updates: tuple[Update, ...]) -> list[Entry]:
    found = []
    for newer, older in zip_longest(updates, updates[1:]):
        result, urgency = RESULTS.get(newer.result, (newer.result or "result not known", Urgency.NOTE))
        took = exact((newer.ended_at - newer.started_at).total_seconds()) if newer.started_at and newer.ended_at else ""
        found.append(
            Entry(
                kind=newer.kind or "update",
                at=when(newer.started_at),
                result=result,
                urgency=urgency,
                took="" if newer.result == "in-progress" else took,
                rotations=tuple(_bumps(newer, older)),
                resources=listing(
                    [f"{number} {DONE_TO[kind]}" for kind, number in newer.changes.items() if number],
                ),
            )
        )
    return found


def _bumps(newer: Update, older: Update | None) -> list[str]:
    """The counters that are other ones than in the update before; all of them in the first one."""
    before = older.counters if older else {}
    words = [
        f"{name} {before[name]} → {counter}" if name in before else f"{name} {counter}"
        for name, counter in newer.counters.items()
        if before.get(name) != counter
    ]
    return words + [f"{name} no longer managed" for name in before if newer.counters and name not in newer.counters]


def _passages(text: str) -> list[tuple[str, bool]]:
    """A sentence cut at its backticks, each piece with whether it is a command."""
    return [(each, number % 2 == 1) for number, each in enumerate(text.split("`"))]


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:]
