"""What can be set about the sandbox's Upstash, at start and while it runs (`python -m sandbox set`)."""

from __future__ import annotations

from typing import Final

from sandbox.world import SETTINGS, Setting

ACL_ENABLED: Final = "upstash.acl_enabled"
CREDENTIAL_PROTECTION: Final = "upstash.credential_protection"
RESET_SHOWS_CREDENTIALS: Final = "upstash.reset_shows_credentials"
RESET_KEEPS_CONNECTIONS: Final = "upstash.reset_keeps_connections"
BARE_ENDPOINT: Final = "upstash.bare_endpoint"

SETTINGS.update(
    {
        ACL_ENABLED: Setting(default=1.0, description="0 is the free plan, which has no ACL: its commands are refused"),
        CREDENTIAL_PROTECTION: Setting(
            default=0.0, description="1 never shows the password and the REST tokens again after a reset answered them"
        ),
        RESET_SHOWS_CREDENTIALS: Setting(
            default=1.0, description="0 leaves them out of a reset's answer: Upstash's descriptions disagree on it"
        ),
        RESET_KEEPS_CONNECTIONS: Setting(
            default=0.0, description="1 leaves connections of `default` open over a reset; Upstash does not say"
        ),
        BARE_ENDPOINT: Setting(
            default=0.0, description="1 shows the endpoint as a slug instead of a host, which Upstash allows itself"
        ),
    }
)
