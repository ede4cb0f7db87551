"""Is the map drawn so that everything of it can be read: nothing over anything else, every line between the right boxes, text in its box?"""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.report import diagram
from tools.report.diagram import FACT_SIZE, NAME_SIZE, NARROW_WIDTH, PADDING, Box, Drawing, Item, fit, text_width
from tools.report.states import Urgency

from . import report_stacks as stacks

CP, REPOSITORY, REDIS = stacks.CONTROL_PLANE, stacks.REPOSITORY, stacks.REDIS
MAP = (
    Item(name="FLY_API_TOKEN", facts=("verified", "generation 4"), urgency=Urgency.DONE, goes_to=(CP, REPOSITORY)),
    Item(name="NEON_API_KEY", facts=("overdue",), urgency=Urgency.ACT, goes_to=(CP,)),
    Item(name="TENANT_REDIS_URL", facts=("staged",), urgency=Urgency.NOTE, goes_to=(CP, REDIS)),
    Item(name="GITHUB_TOKEN", facts=("rotated automatically",), urgency=None),
)
NAMES = st.text(max_size=60)
PLACES = st.tuples(NAMES, NAMES)
ITEMS = st.lists(
    st.builds(
        Item,
        name=NAMES,
        facts=st.tuples(NAMES),
        urgency=st.none() | st.sampled_from(Urgency),
        goes_to=st.lists(PLACES, max_size=4).map(tuple),
    ),
    max_size=8,
)
DRAWN = pytest.mark.parametrize("drawing", [diagram.wide(MAP), diagram.narrow(MAP)], ids=["wide", "narrow"])


def box(drawing: Drawing, title: str) -> Box:
    found = [each for each in drawing.boxes if each.title.startswith(title)]
    assert len(found) == 1, f"{title}: {found}"
    return found[0]


def numbers(path: str) -> list[float]:
    return [float(each) for each in re.findall(r"-?[\d.]+", path)]


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def assert_readable(drawing: Drawing) -> None:
    """No box over another one or over the edge, no text that its box would cut."""
    for one, other in itertools.combinations(drawing.boxes, 2):
        assert not overlap(one, other), (one.title, other.title)
    for each in drawing.boxes:
        assert each.x >= 0
        assert each.x + each.width <= drawing.width
        assert each.y + each.height <= drawing.height
        for label in each.labels:
            assert 0 < label.y < each.height
            size = NAME_SIZE if label.style in {"name", "place"} else FACT_SIZE
            taken = text_width(label.text, size, monospace=label.style == "name")
            assert taken <= each.width - 2 * PADDING + 1 or len(label.text) <= 2, label
    for badge in drawing.badges:
        assert badge.x + 9 <= drawing.width
        assert badge.y + 9 <= drawing.height


@DRAWN
def test_every_secret_location_and_consumer_is_there_once(drawing: Drawing) -> None:
    for item in MAP:
        assert box(drawing, item.name).style == ("secret" if item.urgency else "automatic")
    for place, reader in (CP, REPOSITORY, REDIS):
        assert box(drawing, place).style == "location"
        assert box(drawing, reader).style == "consumer"
    assert len(drawing.boxes) == len(MAP) + 6
    assert {mark.text for mark in drawing.badges if mark.style.startswith("mark")} == {"✓", "!", "i"}


@DRAWN
def test_the_map_can_be_read(drawing: Drawing) -> None:
    assert_readable(drawing)


@settings(deadline=None)
@given(ITEMS)
def test_any_map_can_be_read(items: list[Item]) -> None:
    assert_readable(diagram.wide(items))
    assert_readable(diagram.narrow(items))


def joined(drawing: Drawing) -> list[tuple[str, float, str, float]]:
    """Every line, as the boxes that it joins and the heights at which it does."""
    found = []
    for line in drawing.lines:
        x, y, *_, end_x, end_y = numbers(line.path)
        start = [each for each in drawing.boxes if each.x + each.width == x and each.y <= y <= each.y + each.height]
        end = [each for each in drawing.boxes if each.x == end_x and each.y <= end_y <= each.y + each.height]
        assert (len(start), len(end)) == (1, 1), line
        found.append((start[0].title.partition(":")[0], y, end[0].title, end_y))
    return found


def test_lines_of_the_three_columns_end_at_the_right_boxes() -> None:
    drawing = diagram.wide(MAP)
    assert {(start, end) for start, _, end, _ in joined(drawing)} == {
        ("FLY_API_TOKEN", CP[0]),
        ("FLY_API_TOKEN", REPOSITORY[0]),
        ("NEON_API_KEY", CP[0]),
        ("TENANT_REDIS_URL", CP[0]),
        ("TENANT_REDIS_URL", REDIS[0]),
        CP,
        REPOSITORY,
        REDIS,
    }
    assert [line.style for line in drawing.lines].count("act") == 1


def test_a_location_of_many_secrets_has_room_for_every_line() -> None:
    many = [Item(name=f"S{n}", facts=(), urgency=Urgency.DONE, goes_to=(CP,)) for n in range(30)]
    ends = [end_y for _, _, end, end_y in joined(diagram.wide(many)) if end == CP[0]]
    assert len(ends) == len(set(ends)) == 30
    assert ends == sorted(ends)


def test_lines_of_a_secret_do_not_cross_where_they_leave_it() -> None:
    others = [Item(name=f"S{n}", facts=(), urgency=Urgency.DONE, goes_to=(CP,)) for n in range(8)]
    first = Item(name="FIRST", facts=(), urgency=Urgency.DONE, goes_to=(CP, REPOSITORY))
    drawing = diagram.wide([first, *others])
    assert box(drawing, REPOSITORY[0]).y < box(drawing, CP[0]).y
    lines = [(y, end_y) for start, y, _, end_y in joined(drawing) if start == "FIRST"]
    assert sorted(lines) == sorted(lines, key=lambda each: each[1])
    # The numbers stay those of the delivery.
    numbered = {badge.text: badge.y for badge in drawing.badges if badge.style.startswith("order")}
    assert numbered["1"] > numbered["2"]


def test_the_order_of_delivery_is_told_where_there_are_several_locations() -> None:
    drawing = diagram.wide(MAP)
    told = [badge.text for badge in drawing.badges if badge.style.startswith("order")]
    assert told == ["1", "2", "1", "2"]
    assert [heading.text for heading in drawing.labels] == ["Secrets", "Locations that hold them", "Read by"]


def test_rails_stop_at_the_secrets_of_their_locations_in_the_order_of_delivery() -> None:
    drawing = diagram.narrow(MAP)
    rails = {badge.text: badge.x for badge in drawing.badges if badge.style == "letter" and badge.x > 100}
    places = {
        badge.text: next(
            each.title for each in drawing.boxes if each.style == "location" and each.y < badge.y < each.y + each.height
        )
        for badge in drawing.badges
        if badge.style == "letter" and badge.x < 100
    }
    assert places == {"A": CP[0], "B": REPOSITORY[0], "C": REDIS[0]}
    stops = {}
    for item in MAP:
        row = box(drawing, item.name)
        middle = row.y + row.height / 2
        here = [each for each in drawing.badges if "stop" in each.style and each.y == middle]
        at = {x: places[letter] for letter, x in rails.items()}
        stops[item.name] = [(at[each.x], each.text) for each in here]
    assert stops == {
        "FLY_API_TOKEN": [(CP[0], "1"), (REPOSITORY[0], "2")],
        "NEON_API_KEY": [(CP[0], "")],
        "TENANT_REDIS_URL": [(CP[0], "1"), (REDIS[0], "2")],
        "GITHUB_TOKEN": [],
    }


def test_the_narrow_one_fits_a_phone_until_there_are_too_many_locations() -> None:
    assert diagram.narrow(MAP).width == NARROW_WIDTH
    many = [Item(name="A", facts=(), urgency=Urgency.DONE, goes_to=tuple((f"place {n}", "x") for n in range(30)))]
    drawing = diagram.narrow(many)
    assert drawing.width > NARROW_WIDTH
    letters = [badge.text for badge in drawing.badges if badge.style == "letter"]
    assert len(letters) == 60
    assert len(set(letters)) == 30
    assert all(letter.isalnum() for letter in letters)


def test_a_map_of_a_program_that_names_no_consumers_has_no_column_for_them() -> None:
    items = [Item(name="A", facts=(), urgency=Urgency.DONE, goes_to=(("Fly app a", ""),))]
    assert diagram.wide(items).width < diagram.wide(MAP).width
    for drawing in (diagram.wide(items), diagram.narrow(items)):
        assert {each.style for each in drawing.boxes} == {"secret", "location"}
        assert {heading.text for heading in drawing.labels} <= {"Secrets", "Locations", "Locations that hold them"}


def test_an_empty_map_is_drawn() -> None:
    for drawing in (diagram.wide([]), diagram.narrow([])):
        assert (drawing.boxes, drawing.lines) == ((), ())
        assert drawing.height > 0


# Text


@settings(deadline=None)
@given(st.text(), st.integers(20, 300), st.integers(1, 5), st.booleans())
def test_lines_fit_and_are_what_the_text_begins_with(text: str, width: int, most: int, monospace: bool) -> None:  # noqa: FBT001 - Hypothesis passes it
    lines = fit(text, width, NAME_SIZE, most, monospace=monospace)
    assert len(lines) <= most
    for line in lines:
        assert text_width(line, NAME_SIZE, monospace=monospace) <= width or len(line) <= 2
    shown = "".join("".join(lines).split())
    whole = "".join(text.split())
    assert whole == shown or (shown.endswith("…") and whole.startswith(shown[:-1]))


def test_lines_break_between_words() -> None:
    assert fit("machines of tenants", 100, NAME_SIZE, 3) == ("machines of", "tenants")
    assert fit("GitHub repository Molecule-AI/molecule-monorepo", 200, NAME_SIZE, 3) == (
        "GitHub repository",
        "Molecule-AI/molecule-",
        "monorepo",
    )
    assert fit("x" * 100, 50, NAME_SIZE, 2) == ("x" * 5, "x" * 4 + "…")
    assert fit("", 50, NAME_SIZE, 2) == ()
