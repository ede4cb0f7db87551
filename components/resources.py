"""The dynamic resources of what is minted, with types. Their type tokens are kept in the state of every stack: never change them."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.provider import CredentialProvider, RevocationProvider
from components.secret import Family, Secret


class Credential(Resource, module="rotation", name="Credential"):
    """The current credential of a secret. Updated in place when the counter changes (ADR 0002); outlives its deletion from the state.

    Attributes:
        credential_id: The provider's id.
        turn: Another one at every change of the counter.
        value: Secret.
        keyring: Secret. Every live credential of the family that this stack has minted.
    """

    credential_id: pulumi.Output[str]
    turn: pulumi.Output[str]
    value: pulumi.Output[str]
    keyring: pulumi.Output[list[Any]]

    def __init__(self, secret: Secret, family: Family, generation: int, options: pulumi.ResourceOptions) -> None:
        properties = {
            "family": {"app": family.app, "stack": family.stack, "secret": family.secret},
            "issuer": {"kind": secret.issuer.kind, "settings": dict(secret.issuer.settings)},
            "generation": generation,
            "turn": None,
            "credential_id": None,
            "created_at": None,
            "value": None,
            "keyring": None,
        }
        super().__init__(
            CredentialProvider(),
            secret.name,
            properties,
            pulumi.ResourceOptions.merge(
                options, pulumi.ResourceOptions(additional_secret_outputs=["value", "keyring"], retain_on_delete=True)
            ),
        )


class Revocation(Resource, module="rotation", name="Revocation"):
    """The death of every credential of a family but the verified one.

    Attributes:
        generation: The verified one.
        credential_id: The verified one.
        verified_at: RFC 3339.
        unmanaged: Live credentials at the same provider that the program does not manage.
    """

    generation: pulumi.Output[int]
    credential_id: pulumi.Output[str]
    verified_at: pulumi.Output[str]
    unmanaged: pulumi.Output[list[Any]]

    def __init__(
        self,
        secret: Secret,
        family: Family,
        credential: Credential,
        *,
        generation: int,
        report: pulumi.Output[dict[str, Any]],
        subject: pulumi.Output[str],
        holdings: Mapping[str, pulumi.Output[str]],
        also: list[str],
        proof_timeout: int,
        options: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "family": {"app": family.app, "stack": family.stack, "secret": family.secret},
            "issuer": {"kind": secret.issuer.kind, "settings": dict(secret.issuer.settings)},
            "generation": generation,
            "credential_id": credential.credential_id,
            "keyring": credential.keyring,
            "verified_at": report["verified_at"],
            "verified_subject": report["subject"],
            "subject": subject,
            "holdings": holdings,
            "also": also,
            "proof_timeout": proof_timeout,
            "revoked": None,
            "unmanaged": None,
        }
        super().__init__(
            RevocationProvider(),
            f"revocation-{secret.name}",
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(additional_secret_outputs=["keyring", "holdings"], retain_on_delete=True),
            ),
        )
