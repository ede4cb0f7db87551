"""Whom to call when a provider refuses or is down: the runbook's emergency contacts, by the name of the system in messages."""

from collections.abc import Mapping

CONTACTS: Mapping[str, str] = {
    "Fly": "Fly: fly.io dashboard, billing, Support (is it up? status.flyio.net)",
    "Neon": "Neon: console.neon.tech, Support",
    "Upstash": "Upstash: upstash.com, Support",
    "Resend": "Resend: resend.com/dashboard, Help (by mail only, about 24 h)",
    "Stripe": "Stripe: stripe.com/support, live chat",
    "GitHub": "GitHub and GHCR: the admins of github.com/orgs/Molecule-AI",
}
