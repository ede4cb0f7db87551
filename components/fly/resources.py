"""The dynamic resource of a Fly app's secrets. Its type token is kept in the state of every stack: never change it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.fly.provider import AppSecretsProvider
from components.settings import Settings


class AppSecrets(Resource, module="fly", name="AppSecrets"):
    """The managed secrets of one Fly app. Each secret is a property of its own, so that a preview knows the values that do not change.

    Args:
        app: The app.
        values: The secrets, by name.
        settings: Of the stack.
        options: Of the resource.
        rows: By the name of a secret, what is encrypted with it and changes together with the machines: `settings` of
            `components.secret.EncryptedRows`, and `keys_before`, every other key that it may be encrypted with. Secret.
        without_way_back: The names of secrets whose value before dies when a new one is minted.
        unset: The names of secrets that the app is to do without.

    Attributes:
        gone: Of those, the ones that no machine runs with any more. Not there where an older version of this program delivered.
        delivered_at: When each secret got its present value, RFC 3339. Not there where an older version of this program delivered.
    """

    gone: pulumi.Output[list[str] | None]
    delivered_at: pulumi.Output[dict[str, str] | None]

    def __init__(
        self,
        app: str,
        values: Mapping[str, pulumi.Output[str]],
        settings: Settings,
        options: pulumi.ResourceOptions,
        *,
        rows: Mapping[str, Mapping[str, Any]] | None = None,
        without_way_back: Sequence[str] = (),
        unset: Sequence[str] = (),
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
            "rows": dict(rows or {}),
            "without_way_back": sorted(without_way_back),
            "unset": sorted(unset),
            "gone": None,
            "version": None,
            "digests": None,
            "staged": None,
            "delivered_at": None,
        }
        super().__init__(
            AppSecretsProvider(),
            app,
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    additional_secret_outputs=[*sorted(values), "rows", "staged"], retain_on_delete=True
                ),
            ),
        )

    def held(self, secret: str) -> pulumi.Output[str]:
        """The value of a secret that the app holds: of the last delivery that succeeded."""
        value: pulumi.Output[str] = getattr(self, secret)
        return value
