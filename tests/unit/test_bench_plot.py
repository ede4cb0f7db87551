"""The plot of the benchmarks: XML that is well-formed, with bars in proportion."""

from xml.etree import ElementTree as ET

from tools.bench.plot import Bar, bars

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_what_they_show_and_names_cannot_break_out() -> None:
    drawn = bars(
        "A & B",
        {"one <b>": [Bar(label='"x"', parts={"path": 30.0, "floor": 10.0}), Bar(label="up", parts={"up": 80.0})]},
        unit="s",
    )
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    widths = {
        title.text: float(each.attrib["width"])
        for each in root.iter(f"{SVG}rect")
        if (title := each.find(f"{SVG}title")) is not None
    }
    assert set(widths) == {"path: 30.0 s", "floor: 10.0 s", "up: 80.0 s"}
    assert widths["up: 80.0 s"] == 8 * widths["floor: 10.0 s"]
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"A & B", "one <b>", '"x"', "40.0 s", "80.0 s"} <= set(texts)
