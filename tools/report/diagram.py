"""The secret map, laid out: which secret goes to which location, and who reads it there. Plain geometry; the page draws it.

Two drawings of the same map, because three columns do not fit a phone: `wide` has secrets, locations and consumers side by side, `narrow`
has a rail for every location with a stop at each of its secrets, and what the rails are below. Units are CSS pixels.

Widths of text are estimated on the safe side, as no font can be asked; what does not fit is wrapped, then cut with an ellipsis, and every box
is clipped, so that no name can run into another.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tools.report.states import Urgency

NAME_SIZE, FACT_SIZE, HEADING_SIZE = 13.0, 12.0, 12.0
LINE = 17.0
PADDING = 14.0
# Em per character. Every character of a monospace face is 0.6 wide; of the usual proportional faces DejaVu Sans is the widest.
MONOSPACE = 0.61
NARROW, CAPITAL, BROAD, OTHER = 0.42, 0.79, 1.0, 0.65
NARROW_CHARACTERS, BROAD_CHARACTERS = frozenset(" .,:;'|!/\\-()[]fijlrtI"), frozenset("mwMW@%")
BOLDER = 1.1  # a bold face is that much wider
WRAP_AFTER = " -_/.@"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A secret of the map.

    Attributes:
        name: Its name.
        facts: What else is said of it, a line each.
        urgency: Of its most urgent state; None for one that is not managed.
        goes_to: Its locations with their consumers ("" where not known), in the order of delivery.
    """

    name: str
    facts: tuple[str, ...]
    urgency: Urgency | None
    goes_to: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Label:
    """One line of text; `x` and `y` are of its beginning, on the baseline."""

    x: float
    y: float
    text: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle that clips its labels, which are placed from its upper left corner.

    Attributes:
        style: `secret`, `automatic`, `location` or `consumer`.
        urgency: The style of its left edge; "" for none.
        title: The full text, whatever fits of it.
    """

    x: float
    y: float
    width: float
    height: float
    style: str
    urgency: str = ""
    title: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line as an SVG path, made of numbers alone."""

    path: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Badge:
    """A circle with at most two characters in it."""

    x: float
    y: float
    text: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is to be drawn, in this order: lines, boxes, badges, labels."""

    width: float
    height: float
    lines: tuple[Line, ...]
    boxes: tuple[Box, ...]
    badges: tuple[Badge, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True, kw_only=True)
class _Column:
    x: float
    width: float

    @property
    def end(self) -> float:
        return self.x + self.width


SECRETS, LOCATIONS, CONSUMERS = (
    _Column(x=0, width=290),
    _Column(x=370, width=330),
    _Column(x=770, width=320),
)
TOP, GAP = 34.0, 12.0
LOWEST = 40.0  # of a secret: its mark has to fit
MARK = 22.0  # what the mark of a secret takes of the width of its text
PORT = 10.0  # between two lines that end at the same box
EXIT = 22.0  # between two lines that leave the same secret: their numbers have to fit
NARROW_WIDTH, RAIL_FROM, RAIL_GAP, NARROWEST_RAIL_GAP = 358.0, 226.0, 28.0, 20.0


def fit(text: str, width: float, size: float, most_lines: int, *, monospace: bool = False) -> tuple[str, ...]:
    """Text in at most so many lines that are surely no wider, broken between words where that is possible.

    Args:
        text: Anything.
        width: Of a line.
        size: Of the font.
        most_lines: What is over is cut off, with an ellipsis.
        monospace: Whether every character of the font has the same width.
    """
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most_lines:
        end = _characters_within(rest, width, size, monospace=monospace)
        if end < len(rest):
            if len(lines) == most_lines - 1:
                end = _characters_within(rest, width - size * BROAD, size, monospace=monospace)
                lines.append(rest[:end].rstrip() + "…")
                break
            broken = max((number for number in range(1, end + 1) if _may_break(rest, number)), default=0)
            # A break that leaves most of the line empty is worse than one within a word.
            end = broken if broken > end // 3 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return tuple(lines)


def text_width(text: str, size: float, *, monospace: bool = False) -> float:
    """An upper estimate of the width of a text."""
    return sum(_em(character, monospace=monospace) for character in text) * size


def wide(items: Sequence[Item]) -> Drawing:
    """Three columns: secrets, the locations that hold them, and who reads each location."""
    graph = _Graph(items)
    drawn = [_secret_box(item, SECRETS) for item in items]
    secrets = _stack([box for box, _ in drawn], [None] * len(items))
    box_of = dict(zip(items, secrets, strict=True))
    middle = {item: box.y + box.height / 2 for item, box in box_of.items()}
    locations = _stack(
        [_plain_box(name, "location", LOCATIONS, ports=len(graph.held_by[name])) for name in graph.locations],
        [_mean(middle[item] for item in graph.held_by[name]) for name in graph.locations],
    )
    at = dict(zip(graph.locations, locations, strict=True))
    consumers = _stack(
        [_plain_box(name, "consumer", CONSUMERS, ports=len(graph.read_by[name])) for name in graph.consumers],
        [_mean(at[each].y + at[each].height / 2 for each in graph.read_by[name]) for name in graph.consumers],
    )
    boxes = [*secrets, *locations, *consumers]
    height = max((box.y + box.height for box in boxes), default=TOP) + 4
    lines, badges = _wide_lines(graph, box_of, at)
    badges += [
        replace(mark, y=box.y + mark.y) for box, (_, mark) in zip(secrets, drawn, strict=True) if mark is not None
    ]
    reader = dict(zip(graph.consumers, consumers, strict=True))
    for name in graph.consumers:
        for number, location in enumerate(graph.read_by[name]):
            start = (LOCATIONS.end, at[location].y + at[location].height / 2)
            end = (CONSUMERS.x, _port(reader[name], number, len(graph.read_by[name])))
            lines.append(Line(path=_curve(start, end), style="reads"))
    headings = [(SECRETS, "Secrets")]
    headings += [(LOCATIONS, "Locations that hold them")] if graph.locations else []
    headings += [(CONSUMERS, "Read by")] if graph.consumers else []
    return Drawing(
        # A program that does not name consumers leaves no room for them.
        width=(CONSUMERS.end if graph.consumers or not graph.locations else LOCATIONS.end) + 2,
        height=height,
        lines=tuple(lines),
        boxes=tuple(boxes),
        badges=tuple(badges),
        labels=tuple(Label(x=column.x, y=HEADING_SIZE, text=text, style="heading") for column, text in headings),
    )


def narrow(items: Sequence[Item]) -> Drawing:
    """Rails: one for every location, with a stop at each secret that it holds. Below, what each rail is and who reads it."""
    graph = _Graph(items)
    gap = max(NARROWEST_RAIL_GAP, min(RAIL_GAP, (NARROW_WIDTH - RAIL_FROM - 22) / max(1, len(graph.locations) - 1)))
    # Few rails stand at the right edge, where a thumb does not hide the names.
    first = max(RAIL_FROM, NARROW_WIDTH - 14 - gap * (len(graph.locations) - 1))
    rail = {name: first + gap * number for number, name in enumerate(graph.locations)}
    width = max(NARROW_WIDTH, first + gap * (len(graph.locations) - 1) + 14)
    row_column = _Column(x=0, width=min(first - 24, 300))
    boxes: list[Box] = []
    lines: list[Line] = []
    badges: list[Badge] = []
    y = TOP
    for item in items:
        box, mark = _secret_box(item, row_column)
        box = replace(box, y=y)
        boxes.append(box)
        badges += [replace(mark, y=y + mark.y)] if mark else []
        middle = box.y + box.height / 2
        stops = [rail[location] for location, _ in item.goes_to]
        if stops:
            lines.append(Line(path=f"M{row_column.end:g} {middle:g}H{max(stops):g}", style=_style(item)))
        badges += [
            Badge(
                x=stop,
                y=middle,
                text=str(number) if len(stops) > 1 else "",
                style=f"{'stop' if len(stops) > 1 else 'only stop'} {_style(item)}",
            )
            for number, stop in enumerate(stops, 1)
        ]
        y = box.y + box.height + 8
    bottom = y - 8
    lines = [Line(path=f"M{x:g} {TOP - 8:g}V{bottom:g}", style="rail") for x in rail.values()] + lines
    badges += [Badge(x=x, y=TOP - 20, text=_letter(n), style="letter") for n, x in enumerate(rail.values())]
    labels = [Label(x=0, y=HEADING_SIZE, text="Secrets", style="heading")]
    if graph.locations:
        y += 24
        heading = "Locations, and who reads them" if graph.consumers else "Locations"
        labels.append(Label(x=0, y=y, text=heading, style="heading"))
        y += 12
    half = (NARROW_WIDTH - 34 - 26) / 2
    # Without consumers, locations have the room for both.
    left_column = _Column(x=34, width=half if graph.consumers else NARROW_WIDTH - 34)
    right_column = _Column(x=34 + half + 26, width=half)
    for number, location in enumerate(graph.locations):
        readers = [consumer for consumer in graph.consumers if location in graph.read_by[consumer]]
        left = replace(_plain_box(location, "location", left_column, most_lines=6), y=y)
        rights = []
        below = y
        for reader in readers:
            rights.append(replace(_plain_box(reader, "consumer", right_column, most_lines=6), y=below))
            below += rights[-1].height + 6
        height = max(left.height, below - y - 6)
        badges.append(Badge(x=12, y=left.y + left.height / 2, text=_letter(number), style="letter"))
        start = (left_column.end, left.y + left.height / 2)
        lines += [Line(path=_curve(start, (right_column.x, box.y + box.height / 2)), style="reads") for box in rights]
        boxes += [left, *rights]
        y += height + 10
    return Drawing(
        width=width,
        height=max(y, bottom) + 2,
        lines=tuple(lines),
        boxes=tuple(boxes),
        badges=tuple(badges),
        labels=tuple(labels),
    )


class _Graph:
    """The map from the locations' side, each in the order in which it is met first."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.held_by: dict[str, list[Item]] = {}
        self.read_by: dict[str, list[str]] = {}
        for item in items:
            for location, consumer in item.goes_to:
                holders = self.held_by.setdefault(location, [])
                if item not in holders:
                    holders.append(item)
                if consumer and location not in (places := self.read_by.setdefault(consumer, [])):
                    places.append(location)

    @property
    def locations(self) -> list[str]:
        return list(self.held_by)

    @property
    def consumers(self) -> list[str]:
        return list(self.read_by)


def _wide_lines(graph: _Graph, secrets: Mapping[Item, Box], at: Mapping[str, Box]) -> tuple[list[Line], list[Badge]]:
    """From every secret to its locations; where there are several, with their order of delivery."""
    lines: list[Line] = []
    badges: list[Badge] = []
    for item in graph.items:
        box = secrets[item]
        several = len(item.goes_to) > 1
        # Lines leave a secret in the order of their ends, from above, so that they do not cross at once.
        from_above = sorted(item.goes_to, key=lambda each: at[each[0]].y)
        for number, (location, consumer) in enumerate(item.goes_to):
            holders = graph.held_by[location]
            start = (SECRETS.end, _port(box, from_above.index((location, consumer)), len(item.goes_to), step=EXIT))
            end = (LOCATIONS.x, _port(at[location], holders.index(item), len(holders)))
            lines.append(Line(path=_curve(start, end), style=_style(item)))
            if several:
                badges.append(
                    Badge(x=SECRETS.end + 12, y=start[1], text=str(number + 1), style=f"order {_style(item)}")
                )
    return lines, badges


def _secret_box(item: Item, column: _Column) -> tuple[Box, Badge | None]:
    """A secret, and its mark in the upper right corner."""
    room = column.width - 2 * PADDING
    beside = room - (MARK if item.urgency else 0)
    labels = [(text, "name") for text in fit(item.name, beside, NAME_SIZE, 2, monospace=True)]
    for number, fact in enumerate(item.facts):
        size, style = (FACT_SIZE * BOLDER, "fact first") if number == 0 else (FACT_SIZE, "fact")
        labels += [(text, style) for text in fit(fact, room, size, 2)]
    box = Box(
        x=column.x,
        y=0,
        width=column.width,
        height=max(len(labels) * LINE + 16, LOWEST, len(item.goes_to) * EXIT),
        style="secret" if item.urgency else "automatic",
        urgency=item.urgency.value if item.urgency else "",
        title=": ".join([item.name, ", ".join(item.facts)]),
        labels=tuple(
            Label(x=PADDING, y=20 + number * LINE, text=text, style=style)
            for number, (text, style) in enumerate(labels)
        ),
    )
    if not item.urgency:
        return box, None
    mark = Badge(x=column.end - PADDING - 5, y=19, text=item.urgency.mark, style=f"mark {item.urgency.value}")
    return box, mark


def _plain_box(name: str, style: str, column: _Column, *, ports: int = 1, most_lines: int = 3) -> Box:
    texts = fit(name, column.width - 2 * PADDING, NAME_SIZE, most_lines)
    height = max(len(texts) * LINE + 18, ports * PORT + 16)
    first = (height - len(texts) * LINE) / 2 + 13
    return Box(
        x=column.x,
        y=0,
        width=column.width,
        height=height,
        style=style,
        title=name,
        labels=tuple(
            Label(x=PADDING, y=first + number * LINE, text=text, style="place") for number, text in enumerate(texts)
        ),
    )


def _stack(boxes: Sequence[Box], middles: Sequence[float | None]) -> list[Box]:
    """The boxes of a column, each as near to where it wants its middle as the others allow; None wants to follow the one before."""
    placed: dict[int, Box] = {}
    below = TOP
    order = sorted(range(len(boxes)), key=lambda number: (middles[number] or 0.0, number))
    for number in order:
        middle = middles[number]
        y = below if middle is None else max(below, middle - boxes[number].height / 2)
        placed[number] = replace(boxes[number], y=y)
        below = y + boxes[number].height + GAP
    return [placed[number] for number in range(len(boxes))]


def _port(box: Box, number: int, total: int, step: float = PORT) -> float:
    """Where one of several lines meets the side of a box."""
    return box.y + box.height / 2 + (number - (total - 1) / 2) * step


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    bend = (start[0] + end[0]) / 2
    return f"M{start[0]:g} {start[1]:g}C{bend:g} {start[1]:g} {bend:g} {end[1]:g} {end[0]:g} {end[1]:g}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _style(item: Item) -> str:
    return item.urgency.value if item.urgency else "automatic"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)  # noqa: PLR2004 - letters of the alphabet


def _may_break(text: str, end: int) -> bool:
    """Whether a line may end before this character."""
    return text[end - 1] in WRAP_AFTER or text[end] == " "


def _em(character: str, *, monospace: bool) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in {"W", "F"}:
        return 1.05
    if not character.isascii():
        return BROAD
    if monospace:
        return MONOSPACE
    if character in BROAD_CHARACTERS:
        return BROAD
    if character in NARROW_CHARACTERS:
        return NARROW
    return CAPITAL if character.isupper() else OTHER


def _characters_within(text: str, width: float, size: float, *, monospace: bool) -> int:
    """How many characters of a text surely fit; at least one, so that there is always a next one."""
    used = 0.0
    for number, character in enumerate(text):
        used += _em(character, monospace=monospace) * size
        if used > width:
            return max(1, number)
    return len(text)
