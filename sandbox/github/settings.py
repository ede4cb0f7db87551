"""What can be set about the sandbox's GitHub, at start and while it runs (`python -m sandbox set`)."""

from typing import Final

from sandbox.world import SETTINGS, Setting

BUILD_SECONDS: Final = "github.build_seconds"
QUEUE_SECONDS: Final = "github.queue_seconds"
LISTING_DELAY: Final = "github.listing_delay"
WORKFLOW_BROKEN: Final = "github.workflow_broken"
OLD_ENTERPRISE_SERVER: Final = "github.old_enterprise_server"
RATE_LIMIT: Final = "github.rate_limit"

SETTINGS.update(
    {
        BUILD_SECONDS: Setting(default=0.5, description="seconds between a workflow's login and its push"),
        QUEUE_SECONDS: Setting(default=0.1, description="seconds that a run waits for a runner"),
        LISTING_DELAY: Setting(default=0.5, description="seconds until lists show a run that was just made"),
        WORKFLOW_BROKEN: Setting(default="", description="FILE: runs of this workflow fail at their build"),
        OLD_ENTERPRISE_SERVER: Setting(
            default=0.0, description="1 refuses return_run_details with 400, as GitHub Enterprise Server to 3.20 does"
        ),
        RATE_LIMIT: Setting(default=5000.0, description="requests an hour that each user has"),
    }
)
