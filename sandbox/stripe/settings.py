"""What can be set about the sandbox's Stripe, at start and while it runs (`python -m sandbox set`)."""

from typing import Final

from sandbox.world import SETTINGS, Setting

RETRY_DELAY: Final = "stripe.retry_delay"
ATTEMPTS: Final = "stripe.attempts"
DELIVERY_TIMEOUT: Final = "stripe.delivery_timeout"

SETTINGS.update(
    {
        RETRY_DELAY: Setting(
            default=0.5, description="seconds before the first retry of a webhook delivery; doubles up to 16-fold"
        ),
        ATTEMPTS: Setting(
            default=8.0, description="attempts until a webhook delivery is given up; Stripe goes on for three days"
        ),
        DELIVERY_TIMEOUT: Setting(default=10.0, description="seconds within which a webhook must be answered"),
    }
)
