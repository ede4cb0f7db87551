"""Fly.io: deploy tokens, secrets of apps, rolling restarts."""
