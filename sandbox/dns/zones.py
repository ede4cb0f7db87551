"""The names that there are, and their TXT records. Names are kept in lower case, without a dot at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.dns import settings

if TYPE_CHECKING:
    from sandbox.world import World


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute("CREATE TABLE IF NOT EXISTS dns_texts (name TEXT NOT NULL, text TEXT NOT NULL)")


def add(world: World, name: str, text: str) -> None:
    """Add a TXT record."""
    with world.database:
        world.database.execute("INSERT INTO dns_texts VALUES (?, ?)", (name, text))


def dmarc_name(domain: str) -> str:
    """Return the name of a domain's DMARC record."""
    return f"_dmarc.{domain}"


def texts(world: World, name: str) -> list[str] | None:
    """Return a name's TXT records, oldest first; `None` if there is no such name, and nothing below it either."""
    names: dict[str, list[str]] = {}
    hidden = dmarc_name(world.text(settings.NO_DMARC))
    for row in world.database.execute("SELECT * FROM dns_texts ORDER BY rowid"):
        if row["name"] != hidden:
            names.setdefault(row["name"], []).append(row["text"])
    if not any(each == name or each.endswith(f".{name}") for each in names):
        return None
    return names.get(name, [])
