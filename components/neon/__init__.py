"""Neon: API keys."""
