"""Stripe: webhook endpoints and their signing secrets."""
