"""What can be set about the sandbox's Neon, at start and while it runs (`python -m sandbox set`)."""

from __future__ import annotations

from typing import Final

from sandbox.world import SETTINGS, Setting

OPERATION_SECONDS: Final = "neon.operation_seconds"
OPERATION_OUTCOME: Final = "neon.operation_outcome"
KEEP_CONNECTIONS: Final = "neon.keep_connections"
NO_AUTH_FOR_PROJECT_KEYS: Final = "neon.no_auth_for_project_keys"

SETTINGS.update(
    {
        OPERATION_SECONDS: Setting(
            default=0.1, description="seconds that each operation of a write takes; other writes get 423 meanwhile"
        ),
        OPERATION_OUTCOME: Setting(
            default="finished", description="status that operations of later writes end in (finished, failed, ...)"
        ),
        KEEP_CONNECTIONS: Setting(
            default=0.0, description="1 leaves open connections alone when roles change: Neon drops them"
        ),
        NO_AUTH_FOR_PROJECT_KEYS: Setting(
            default=0.0, description="1 refuses GET /auth to project-scoped keys: Neon does not document which it does"
        ),
    }
)
