"""The dynamic resource of a Fly app's secrets. Its type token is kept in the state of every stack: never change it."""

from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource

from components.fly.provider import AppSecretsProvider
from components.settings import Settings


class AppSecrets(Resource, module="fly", name="AppSecrets"):
    """The managed secrets of one Fly app. Each secret is a property of its own, so that a preview knows the values that do not change."""

    def __init__(
        self, app: str, values: Mapping[str, pulumi.Output[str]], settings: Settings, options: pulumi.ResourceOptions
    ) -> None:
        properties = {
            "app": app,
            "names": sorted(values),
            **values,
            "policy": {
                "max_unavailable": str(settings.max_unavailable),
                "health_timeout": str(settings.health_timeout),
                "rollout": settings.rollout,
            },
            "version": None,
            "digests": None,
            "staged": None,
        }
        super().__init__(
            AppSecretsProvider(),
            app,
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(additional_secret_outputs=[*sorted(values), "staged"], retain_on_delete=True),
            ),
        )

    def held(self, secret: str) -> pulumi.Output[str]:
        """The value of a secret that the app holds: of the last delivery that succeeded."""
        value: pulumi.Output[str] = getattr(self, secret)
        return value
