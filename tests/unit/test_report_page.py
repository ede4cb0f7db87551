"""Can the page be read by everybody, by itself, and can nothing that somebody named do anything in it?"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.report import page
from tools.report.model import LONGEST_TEXT, Stack, parse_stack
from tools.report.page import CONTENT_SECURITY_POLICY, OPEN_RUNS, SHOWN_UPDATES, render

from . import report_stacks as stacks

VOID = {"meta", "path", "rect", "circle", "br", "link", "img", "input", "base", "hr"}
LOADS = {
    "script",
    "link",
    "iframe",
    "object",
    "embed",
    "img",
    "image",
    "use",
    "form",
    "base",
    "video",
    "audio",
    "source",
}
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA
LEAST_CONTRAST_OF_SHAPES = 3.0  # 1.4.11


@dataclass(kw_only=True)
class Element:
    """An element with everything in it."""

    tag: str
    attributes: Mapping[str, str]
    parent: "Element | None"
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        """Its classes."""
        return set(self.attributes.get("class", "").split())

    @property
    def words(self) -> str:
        """All text in it, with single spaces."""
        return " ".join(self.text.split())

    def find(self, tag: str, **attributes: str) -> list["Element"]:
        """Elements inside with this tag ("" for any) and these attributes."""
        found = []
        for child in self.children:
            right = all(child.attributes.get(name.rstrip("_")) == value for name, value in attributes.items())
            if tag in {"", child.tag} and right:
                found.append(child)
            found += child.find(tag, **attributes)
        return found


class Tree(HTMLParser):
    """Reads a page as a browser does where it is well-formed, and fails where it is not."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = self.current = Element(tag="", attributes={}, parent=None)
        self.feed(html)
        self.close()
        assert self.current is self.root, f"<{self.current.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element."""
        element = Element(tag=tag, attributes={name: value or "" for name, value in attrs}, parent=self.current)
        assert len(element.attributes) == len(attrs), f"an attribute of <{tag}> is there twice"
        self.current.children.append(element)
        if tag not in VOID:
            self.current = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One that closes itself, as in SVG."""
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Closes the one that is open, and no other."""
        assert self.current.tag == tag, f"</{tag}> closes <{self.current.tag}>"
        assert self.current.parent is not None
        self.current = self.current.parent

    def handle_data(self, data: str) -> None:
        """Text belongs to every element around it."""
        element: Element | None = self.current
        while element is not None:
            element.text += data
            element = element.parent


def stack(**changes: Any) -> Stack:  # noqa: ANN401 - fields of many types
    return replace(parse_stack("production", stacks.outputs(), stacks.history()), **changes)


def tree(of: Stack | None = None) -> Element:
    return Tree(render(of or stack(), stacks.NOW).html).root


def section(root: Element, heading: str) -> Element:
    return root.find("section", id=heading)[0]


def cards(root: Element) -> dict[str, Element]:
    return {card.find("h3")[0].words: card for card in root.find("article")}


def states_of(card: Element) -> list[str]:
    return [each.words for each in card.find("li") if "state" in each.classes]


def assert_harmless(root: Element) -> None:
    """Nothing is loaded, run or sent, and every reference is to something on the page."""
    identifiers = [each.attributes["id"] for each in root.find("") if "id" in each.attributes]
    assert len(identifiers) == len(set(identifiers))
    for element in root.find(""):
        assert element.tag not in LOADS, element.tag
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (element.tag, name)
            assert name not in {"src", "srcset", "srcdoc", "action", "formaction", "data", "poster", "xlink:href"}
            if name == "href":
                assert value.startswith("#")
                assert value[1:] in identifiers
            if name in {"aria-labelledby", "aria-describedby"}:
                assert set(value.split()) <= set(identifiers)
            assert "url(" not in value
    (style,) = root.find("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert "http" not in style.text


# By itself


def test_nothing_is_loaded_run_or_sent() -> None:
    root = tree()
    assert_harmless(root)
    (policy,) = root.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    # It counts from where it stands: nothing may come before it but the encoding.
    head = root.find("head")[0]
    assert [each.tag for each in head.children[:2]] == ["meta", "meta"]
    assert head.children[1] is policy


def test_no_secret_nothing_of_the_config_and_nobody_s_address_is_shown() -> None:
    html = render(stack(), stacks.NOW).html
    for forbidden in (stacks.ENCRYPTED, stacks.PLAIN_CONFIG, "somebody@", "commit message", "restarts"):
        assert forbidden not in html


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(parse_stack(stacks.HOSTILE, stacks.hostile(), stacks.history()), stacks.NOW).html


def test_what_an_enemy_named_is_text(hostile: str) -> None:
    root = Tree(hostile).root
    assert_harmless(root)
    honest = {each.tag for each in tree().find("")}
    assert {each.tag for each in root.find("")} <= honest
    assert "<script>alert(1)</script>" in root.text
    assert "{{ 7*7 }}" in root.text
    for invisible in ("\x00", "\x1b", "\u202e"):
        assert invisible not in hostile
    hostile.encode()


def test_a_very_long_name_is_cut(hostile: str) -> None:
    root = Tree(hostile).root
    names = [each.text for each in root.find("") if "name" in each.classes]
    assert "x" * (LONGEST_TEXT - 1) + "…" in names
    assert max(map(len, names)) == LONGEST_TEXT
    (style,) = root.find("style")
    assert "overflow-wrap: anywhere" in style.text


@settings(max_examples=30, deadline=None)
@given(st.text(), st.text(), st.text())
def test_no_name_can_do_anything(name: str, location: str, reason: str) -> None:
    secret = stacks.secret((location, reason), timeline=(stacks.rotation(1, stacks.at(days=1), reason=reason),))
    outputs = {"secrets": {name: secret}, "notManaged": {location: reason}, "impact": {"summary": reason}}
    assert_harmless(Tree(render(parse_stack(name, outputs, []), stacks.NOW).html).root)


# What it says


def test_it_says_when_it_was_written_and_of_which_stack() -> None:
    root = tree()
    assert root.find("title")[0].words == "Secrets of production"
    assert root.find("h1")[0].words == "production"
    (written,) = root.find("time")
    assert written.words == "26 Nov 2026, 18:40:00 UTC"
    assert written.attributes["datetime"] == "2026-11-26T18:40:00+00:00"
    assert root.find("html")[0].attributes["lang"] == "en"


def test_every_secret_has_a_card_and_those_that_need_somebody_come_first() -> None:
    found = cards(tree())
    assert list(found)[:3] == ["SECRETS_ENCRYPTION_KEY", "TENANT_REDIS_URL", "DATABASE_URL"]
    assert set(found) == {*stacks.outputs()["secrets"], "GITHUB_TOKEN"}
    said = {name: states_of(card) for name, card in found.items()}
    assert said["SECRETS_ENCRYPTION_KEY"] == ["!first generation not verified yet"]
    assert said["TENANT_REDIS_URL"] == ["!overdue", "✓verified"]
    assert said["RESEND_API_KEY"] == ["igeneration 3 staged", "✓verified"]
    assert said["STRIPE_API_KEY"] == ["iold credential still alive", "✓verified"]
    assert said["NEON_API_KEY"] == ["✓verified"]
    assert said["GITHUB_TOKEN"] == ["↻rotated automatically"]


def test_a_card_says_generation_age_and_where_it_goes() -> None:
    found = cards(tree())
    redis = found["TENANT_REDIS_URL"]
    facts = {row.find("dt")[0].words: row.find("dd")[0].words for row in redis.find("dl")[0].find("div")}
    assert facts["Generation"] == "5"
    assert facts["Age"] == "94 days 24 Aug 2026, 18:40:00 UTC"
    assert facts["Rotate by"] == "4 days ago 22 Nov 2026, 18:40:00 UTC"
    assert "104 % of the maximum age" in redis.words
    assert f"{stacks.REDIS[0]} read by {stacks.REDIS[1]}" in redis.words
    assert "the value before leaked" in found["FLY_API_TOKEN"].words
    assert "sk_live_…4eC3: ends 29 Nov 2026, 18:40:00 UTC, in 3 days" in found["STRIPE_API_KEY"].words
    assert "1 other credential at the provider, not managed" in found["FLY_API_TOKEN"].words
    assert "maximum age" not in found["RESEND_FROM_EMAIL"].words
    assert "It is built into GitHub Actions" in found["GITHUB_TOKEN"].words


def test_the_map_is_there_as_two_drawings_and_in_words() -> None:
    part = section(tree(), "map")
    drawings = [each for each in part.find("svg") if each.attributes.get("role") == "img"]
    assert [each.classes for each in drawings] == [{"wide"}, {"narrow"}]
    for each in drawings:
        title, text = each.find("title")[0], each.find("desc")[0]
        assert each.attributes["aria-labelledby"].split() == [title.attributes["id"], text.attributes["id"]]
        assert text.words.startswith("9 managed secrets in 4 locations, read by 3 consumers; GITHUB_TOKEN, rotated")
        # The names stand in the drawing as text, and nothing has a name twice.
        drawn = "".join(label.text for label in each.find("text"))
        for name in (*stacks.outputs()["secrets"], "GITHUB_TOKEN"):
            assert drawn.count(name) >= 1
    words = [each.words for each in part.find("ul")[-1].children]
    assert any(
        line.startswith("FLY_API_TOKEN")
        and "Fly app molecule-cp, read by machines of molecule-cp" in line
        and "workflow publish-platform-image.yml" in line
        for line in words
    )
    assert "GITHUB_TOKEN: rotated automatically. It is built into GitHub Actions" in words[-1]


def test_the_rotations_are_told_step_by_step() -> None:
    part = section(tree(), "rotations")
    first, second = part.find("section")[:2]
    assert first.find("h3")[0].words == "26 Nov 2026, 12:40:00 UTC 1 secret"
    steps = [each.words for each in first.find("ol")[1].find("li")]
    assert steps == ["minted 12:40:00", "delivered after 25 s", "verified after 44 s", "revoked not yet"]
    assert "Revoked: molecule-cp-rotation-production-FLY_API_TOKEN-g3" in second.words
    assert "the value before leaked" in second.words
    folded = part.find("details")[0].find("section")
    assert len(part.find("section")) - len(folded) == OPEN_RUNS
    assert part.find("summary")[0].words == f"{len(folded)} older"


@pytest.mark.parametrize("why", ["a fire at staging", stacks.HOSTILE])
def test_whether_the_stack_before_had_proven_it_is_told(why: str) -> None:
    proven = {"after": "staging", "generation": 7, "verified_at": stacks.at(days=3)}
    unproven = {"after": "staging", "override": why, "because": "stack staging has verified no B"}
    secrets = {
        "A": stacks.secret(stacks.CONTROL_PLANE, timeline=(stacks.rotation(2, stacks.at(days=2)),), promotion=proven),
        "B": stacks.secret(
            stacks.CONTROL_PLANE, timeline=(stacks.rotation(2, stacks.at(days=1), override=why),), promotion=unproven
        ),
    }
    root = tree(parse_stack("production", {"secrets": secrets}, []))
    assert_harmless(root)
    found = cards(root)
    assert "Promotionstaging had verified generation 7 23 Nov 2026, 18:40:00 UTC" in found["A"].words
    assert states_of(found["A"]) == ["✓verified"]
    assert states_of(found["B"]) == ["inot proven on staging first", "✓verified"]
    rotations = section(root, "rotations").words
    assert rotations.count("Without proof on the stack before: ") == 1
    if why != stacks.HOSTILE:
        assert (
            f"Why it went on all the same: {why}. What was missing: stack staging has verified no B."
            in found["B"].words
        )
        assert f"Without proof on the stack before: {why}" in rotations


def test_the_updates_say_what_was_bumped_and_how_it_went() -> None:
    part = section(tree(), "updates")
    entries = [each.words for each in part.find("ol")[0].children]
    assert len(entries) == 4
    assert "failed" in entries[0]
    assert "SECRETS_ENCRYPTION_KEY 1" in entries[0]
    assert "no resource changed" in entries[0]
    assert "STRIPE_API_KEY 1 → 2" in entries[1]
    assert "took 1 min 11 s" in entries[1]
    assert "3 updated and 1 replaced" in entries[1]
    assert "31 created" in entries[3]
    assert stacks.outputs()["impact"]["summary"] in part.words
    many = stack(updates=stack().updates * 10)
    part = section(tree(many), "updates")
    assert len(part.find("ol")[0].children) == SHOWN_UPDATES
    assert f"{40 - SHOWN_UPDATES} older" in part.words


def test_a_secret_that_is_no_longer_listed_is_told() -> None:
    newer, older = ({"A": 1}, {"A": 1, "B": 2})
    history = [stacks.update("succeeded", stacks.at(hours=n), 1, each) for n, each in enumerate((newer, older), 1)]
    part = section(tree(parse_stack("s", {}, history)), "updates")
    assert "B no longer managed" in part.words


@pytest.mark.parametrize(
    ("names", "result", "verdict"),
    [
        (["NEON_API_KEY", "DATABASE_URL"], "succeeded", "2 secrets, nothing that you have to do."),
        (["NEON_API_KEY"], "succeeded", "1 secret, nothing that you have to do."),
        (["NEON_API_KEY"], "failed", "The last update failed."),
        (["NEON_API_KEY", "TENANT_REDIS_URL"], "succeeded", "1 of 2 secrets needs you: TENANT_REDIS_URL."),
        (
            ["SECRETS_ENCRYPTION_KEY", "TENANT_REDIS_URL"],
            "failed",
            "The last update failed. 2 of 2 secrets need you: SECRETS_ENCRYPTION_KEY and TENANT_REDIS_URL.",
        ),
        ([], "succeeded", "No secret is managed: the stack's config lists none under rotations."),
    ],
)
def test_the_verdict(names: list[str], result: str, verdict: str) -> None:
    known = stack()
    updates = (replace(known.updates[0], result=result, counters={}),)
    some = replace(known, secrets=tuple(each for each in known.secrets if each.name in names), updates=updates)
    root = tree(some)
    (shown,) = [each for each in root.find("p") if "verdict" in each.classes]
    assert shown.find("span")[-1].words == verdict
    assert render(some, stacks.NOW).verdict.replace("`", "") == verdict
    assert shown.classes == {"verdict", "done" if "nothing" in verdict or not names else "act"}
    notices = [each.words for each in root.find("p", role="note")]
    assert bool(notices) == (result == "failed")
    if notices:
        assert "began 50 minutes before" in notices[0]
        assert "Run pulumi up again" in notices[0]


def test_a_secret_whose_first_update_failed_is_shown_although_nothing_is_exported_of_it() -> None:
    secret = stacks.secret(stacks.CONTROL_PLANE)
    history = [stacks.update("failed", stacks.at(hours=1), 9, {"A": 1, "B": 1})]
    root = tree(parse_stack("s", {"secrets": {"A": secret}}, history))
    assert states_of(cards(root)["B"]) == ["!first generation not verified yet"]
    assert states_of(cards(root)["A"]) == ["✓verified"]
    assert "B: its locations are not known" in section(root, "map").words
    assert "1 of 2 secrets needs you: B." in root.words


def test_an_update_that_is_still_running_is_told() -> None:
    root = tree(stack(updates=(replace(stack().updates[0], result="in-progress", ended_at=None),)))
    (notice,) = root.find("p", role="note")
    assert "still running; it began 50 minutes before this page was written" in notice.words


def test_a_stack_of_an_older_program_is_shown_too() -> None:
    outputs = {"secrets": {"A": {"generation": 1, "verified_at": stacks.at(days=3), "locations": ["Fly app a"]}}}
    root = tree(parse_stack("s", outputs, []))
    assert states_of(cards(root)["A"]) == ["✓verified"]
    assert "3 days" in cards(root)["A"].words
    assert "hold no timeline yet" in root.text
    assert "has no history" in root.text


# For everybody


def colours() -> dict[str, dict[str, str]]:
    """The variables of each scheme."""
    css = (Path(page.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    assert len(blocks) == 3
    light, dark, printed = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block)) for block in blocks)
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **printed}}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour.lstrip("#")
    digits = "".join(each * 2 for each in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast(scheme: str) -> None:
    colour = colours()[scheme]
    assert set(colours()["dark"]) == set(colours()["light"])
    grounds = ("page", "surface", "sunken")
    for text in ("ink", "quiet", "link", "done", "note", "act"):
        for ground in grounds:
            assert contrast(colour[text], colour[ground]) >= LEAST_CONTRAST, (text, ground)
    for state in ("done", "note", "act"):
        assert contrast(colour[state], colour[f"{state}-soft"]) >= LEAST_CONTRAST, state
    for shape in ("deliver", "verify", "revoke"):
        assert contrast(colour[shape], colour["sunken"]) >= LEAST_CONTRAST_OF_SHAPES, shape


def test_headings_and_landmarks_are_in_order() -> None:
    root = tree()
    levels = [int(each.tag[1]) for each in root.find("") if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(next_one - before <= 1 for before, next_one in pairwise(levels))
    assert [len(root.find(each)) for each in ("header", "main", "footer", "nav")] == [1, 1, 1, 1]
    for each in root.find("section"):
        assert "aria-labelledby" in each.attributes or "run" in each.classes


def test_both_schemes_phones_and_paper_are_seen_to() -> None:
    root = tree()
    (style,) = root.find("style")
    for wanted in ("prefers-color-scheme: dark", "@media print", "max-width: 640px", "max-width: 1000px"):
        assert wanted in style.text
    (viewport,) = root.find("meta", name="viewport")
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"
