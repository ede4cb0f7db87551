"""Upstash, whose Redis the tenants share."""

SYSTEM = "Upstash"  # in messages
