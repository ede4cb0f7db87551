"""Upstash, whose Redis the tenants share."""
