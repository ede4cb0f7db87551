"""The time, as it is kept in the state and shown to operators."""

from datetime import UTC, datetime


def now() -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()
