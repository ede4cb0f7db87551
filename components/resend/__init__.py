"""Resend: API keys that may send mail for one domain."""
