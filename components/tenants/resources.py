"""The dynamic resource of tenants' machines. Its type token is kept in the state of every stack: never change it."""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi.dynamic import Resource

from components.settings import Settings
from components.tenants.provider import TenantMachinesProvider


class TenantEnvironments(Resource, module="tenants", name="TenantEnvironments"):
    """The rotated variables in the environments of all tenants' machines of one app. Each variable is a property of its own.

    Args:
        app: The tenants' app.
        values: The values, by the name of the variable.
        settings: Of the stack.
        options: Of the resource.
        same_server: Names of variables whose values are URLs: machines whose URL names another server are left alone.
        overlaps: Names of variables whose value before still works.
        reprovisioned: The name of the variable, if any, that machines get only by being provisioned anew.

    Attributes:
        machines: How many machines hold the values.
    """

    machines: pulumi.Output[int]

    def __init__(
        self,
        app: str,
        values: Mapping[str, pulumi.Output[str]],
        settings: Settings,
        options: pulumi.ResourceOptions,
        *,
        same_server: Sequence[str] = (),
        overlaps: Sequence[str] = (),
        reprovisioned: Sequence[str] = (),
    ) -> None:
        if len(reprovisioned) > 1:
            raise ValueError(reprovisioned)
        properties = {
            "app": app,
            "variables": sorted(values),
            **values,
            "same_server": sorted(same_server),
            "overlaps": sorted(overlaps),
            "reprovision": {
                "variable": reprovisioned[0],
                "url": settings.control_plane_url,
                "path": settings.reprovision_path,
                "timeout": str(settings.org_timeout),
            }
            if reprovisioned
            else None,
            "policy": {
                "max_unavailable": str(settings.max_unavailable),
                "health_timeout": str(settings.health_timeout),
            },
            "machines": None,
        }
        super().__init__(
            TenantMachinesProvider(),
            app,
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(additional_secret_outputs=sorted(values), retain_on_delete=True),
            ),
        )

    def held(self, variable: str) -> pulumi.Output[str]:
        """The value of a variable that every machine holds: of the last delivery that succeeded."""
        value: pulumi.Output[str] = getattr(self, variable)
        return value
