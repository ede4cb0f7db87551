"""What the control plane asks Fly for when it creates a tenant's machine (contract: control-plane.md, "Processes")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

APP = "molecule-tenant"
ORGANIZATION = "molecule_org"
"""The metadata that holds the organization's slug."""
_INHERITED = {
    "TENANT_REDIS_URL": "REDIS_URL",
    "SECRETS_ENCRYPTION_KEY": "SECRETS_ENCRYPTION_KEY",
}
"""What a tenant's machine gets from the control plane's environment, and under which name."""


def request(
    *, app: str = APP, slug: str, organization: str, database_url: str | None, control_plane: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of `POST /v1/apps/molecule-tenant/machines`.

    Args:
        app: The tenants' app; its image is called like it.
        slug: The organization's.
        organization: Its id.
        database_url: Of its own database; `None` if it has none.
        control_plane: The control plane's environment.
    """
    environment = {"MOLECULE_ORG_ID": organization, "PORT": "8080"}
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    for ours, theirs in _INHERITED.items():
        if ours in control_plane:
            environment[theirs] = control_plane[ours]
    return {
        "name": f"tenant-{slug}",
        "config": {
            "image": f"registry.fly.io/{app}:latest",
            "env": environment,
            "metadata": {ORGANIZATION: slug},
            "checks": {"health": {"type": "http", "port": 8080, "path": "/health", "interval": "15s", "timeout": "2s"}},
            "restart": {"policy": "on-failure", "max_retries": 10},
        },
    }
