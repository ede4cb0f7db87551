"""What can be set about the sandbox's Resend, at start and while it runs (`python -m sandbox set`)."""

from __future__ import annotations

from typing import Final

from sandbox.world import SETTINGS, Setting

DEAD_KEY_STATUS: Final = "resend.dead_key_status"
DELIVERY_SECONDS: Final = "resend.delivery_seconds"
SWALLOW_EMAILS: Final = "resend.swallow_emails"
DOMAIN_UNVERIFIED: Final = "resend.domain_unverified"
DOMAIN_FAILED: Final = "resend.domain_failed"
VERIFICATION_SECONDS: Final = "resend.verification_seconds"
RATE_LIMIT: Final = "resend.rate_limit"

SETTINGS.update(
    {
        DEAD_KEY_STATUS: Setting(
            default=400.0, description="400, 401 or 403: which of the recorded answers a wrong or revoked key gets"
        ),
        DELIVERY_SECONDS: Setting(default=0.5, description="seconds from queued to delivered; sent after the half"),
        SWALLOW_EMAILS: Setting(default=0.0, description="1 accepts emails that never appear and are never sent"),
        DOMAIN_UNVERIFIED: Setting(default="", description="DOMAIN: it is pending for want of its DKIM record"),
        DOMAIN_FAILED: Setting(default="", description="DOMAIN: its status is failed, as are its records"),
        VERIFICATION_SECONDS: Setting(default=0.5, description="seconds from a verify call until a domain is verified"),
        RATE_LIMIT: Setting(default=5.0, description="requests a second that the team has, if rate_limits is 1"),
    }
)
