"""A bar chart as SVG: bars below one another, each of one or more parts. Readable on light and dark ground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, BAR, GAP = 760, 230, 18, 8
COLOURS = ("#3b82f6", "#94a3b8", "#f59e0b", "#ef4444")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Attributes:
        label: Beside it.
        parts: Lengths by the name of the part, which the legend explains.
    """

    label: str
    parts: Mapping[str, float]


def bars(title: str, groups: Mapping[str, Sequence[Bar]], *, unit: str) -> str:
    """The chart.

    Args:
        title: Above it.
        groups: Bars under a heading each.
        unit: Of the lengths.
    """
    kinds = list(dict.fromkeys(kind for group in groups.values() for bar in group for kind in bar.parts))
    colours = {kind: COLOURS[index % len(COLOURS)] for index, kind in enumerate(kinds)}
    longest = max(sum(bar.parts.values()) for group in groups.values() for bar in group)
    scale = (WIDTH - LABELS - 90) / longest
    body: list[str] = [f'<text x="0" y="20" font-size="15" font-weight="bold">{escape(title)}</text>']
    x = 0
    for kind in kinds:
        body.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colours[kind]}"/>')
        body.append(f'<text x="{x + 17}" y="44">{escape(kind)}</text>')
        x += 40 + 7 * len(kind)
    y = 66
    for heading, group in groups.items():
        body.append(f'<text x="0" y="{y + 12}" font-weight="bold">{escape(heading)}</text>')
        y += BAR + GAP
        for bar in group:
            body.append(f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>')
            start = float(LABELS)
            for kind, length in bar.parts.items():
                width = length * scale
                body.append(
                    f'<rect x="{start:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colours[kind]}">'
                    f"<title>{escape(kind)}: {length:.1f} {escape(unit)}</title></rect>"
                )
                start += width
            body.append(f'<text x="{start + 6:.1f}" y="{y + 13}">{sum(bar.parts.values()):.1f} {escape(unit)}</text>')
            y += BAR + GAP
        y += GAP
    style = "text{font:12px system-ui,sans-serif;fill:#1e293b}@media(prefers-color-scheme:dark){text{fill:#e2e8f0}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{style}</style>{"".join(body)}</svg>\n'
    )
