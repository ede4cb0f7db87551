"""Makes sure that there is a Pulumi engine: the one on PATH, or one built once from Go modules.

It runs before any virtual environment exists, so it uses the standard library alone.
"""
