"""What can be set about the sandbox's DNS, at start and while it runs (`python -m sandbox set`)."""

from __future__ import annotations

from typing import Final

from sandbox.world import SETTINGS, Setting

NO_DMARC: Final = "dns.no_dmarc"

SETTINGS.update({NO_DMARC: Setting(default="", description="DOMAIN: it has no DMARC record")})
