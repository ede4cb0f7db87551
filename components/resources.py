"""The dynamic resources of what is minted, with types. Their type tokens are kept in the state of every stack: never change them."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.leaving import Leaver
from components.own_state import DECOMMISSION_PREFIX, REVOCATION_PREFIX
from components.provider import CredentialProvider, DecommissionProvider, RevocationProvider
from components.rotated import Rotated
from components.secret import LEAKED, TenantMachines
from components.settings import Settings


class Credential(Resource, module="rotation", name="Credential"):
    """The current credential of a secret. Updated in place when the counter changes (ADR 0002); outlives its deletion from the state.

    Attributes:
        credential_id: The provider's id.
        created_at: RFC 3339.
        turn: Another one at every change of the counter.
        salt: Secret. Keeps whoever sees a hash of a value that somebody thought of from guessing it.
        value: Secret.
        keyring: Secret. Every live credential of the family that this stack has minted.
    """

    credential_id: pulumi.Output[str]
    created_at: pulumi.Output[str]
    turn: pulumi.Output[str]
    salt: pulumi.Output[str]
    value: pulumi.Output[str]
    keyring: pulumi.Output[list[Any]]

    def __init__(
        self,
        rotated: Rotated,
        options: pulumi.ResourceOptions,
        *,
        given: pulumi.Output[str] | None,
    ) -> None:
        properties = {
            **_described(rotated),
            "keep_from": rotated.progress.keep_from,
            "turn": None,
            "salt": None,
            "credential_id": None,
            "created_at": None,
            "value": None,
            "keyring": None,
        }
        if given is not None:
            properties["given"] = given
        super().__init__(
            CredentialProvider(),
            rotated.secret.name,
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    additional_secret_outputs=["given", "salt", "value", "keyring"], retain_on_delete=True
                ),
            ),
        )


class Revocation(Resource, module="rotation", name="Revocation"):
    """The death of every credential of a family but the verified one.

    Attributes:
        generation: The verified one.
        credential_id: The verified one.
        verified_at: RFC 3339.
        alive: Old credentials that only their provider can end, and that it still accepted at the last look.
        unmanaged: Live credentials at the same provider that the program does not manage.
        timeline: The last rotations, newest first: when each was minted, delivered, verified and revoked. Not there where an older version of
            this program revoked.
    """

    generation: pulumi.Output[int]
    credential_id: pulumi.Output[str]
    verified_at: pulumi.Output[str]
    alive: pulumi.Output[list[Any]]
    unmanaged: pulumi.Output[list[Any]]
    timeline: pulumi.Output[list[Any] | None]

    def __init__(
        self,
        rotated: Rotated,
        credential: Credential,
        *,
        report: pulumi.Output[dict[str, Any]],
        subject: pulumi.Output[str],
        holdings: Mapping[str, pulumi.Output[str]],
        delivered_at: pulumi.Output[str],
        proof_timeout: int,
        options: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            **_described(rotated),
            "reason": rotated.reason,
            **({"override": rotated.overridden} if rotated.overridden else {}),
            "minted_at": credential.created_at,
            "delivered_at": delivered_at,
            "credential_id": credential.credential_id,
            "keyring": credential.keyring,
            "verified_at": report["verified_at"],
            "verified_subject": report["subject"],
            "subject": subject,
            "holdings": holdings,
            "tenants": None if rotated.secret.tenants is None else _asked(rotated.secret.tenants),
            "also": list(rotated.also),
            "proof_timeout": proof_timeout,
            "revoked": None,
            "alive": None,
            "unmanaged": None,
            "timeline": None,
        }
        super().__init__(
            RevocationProvider(),
            f"{REVOCATION_PREFIX}{rotated.secret.name}",
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(additional_secret_outputs=["keyring", "holdings"], retain_on_delete=True),
            ),
        )


class Decommission(Resource, module="rotation", name="Decommission"):
    """The end of a secret that `decommission` names: in the state for as long as it does, so that it is ended once.

    Args:
        leaver: The secret.
        settings: Of the stack.
        unset: For every Fly app that held it, whether every machine runs without it.
        options: Of the resource.

    Attributes:
        revoked: The names of the credentials that were ended.
        alive: Those that only their provider can end.
    """

    revoked: pulumi.Output[list[str]]
    alive: pulumi.Output[list[str]]

    def __init__(
        self,
        leaver: Leaver,
        settings: Settings,
        *,
        unset: Mapping[str, pulumi.Output[bool]],
        options: pulumi.ResourceOptions,
    ) -> None:
        secret, family = leaver.secret, leaver.family
        if secret is None or family is None:
            raise ValueError(leaver.name)
        tenants = secret.tenants
        properties = {
            "family": {"app": family.app, "stack": family.stack, "secret": family.secret},
            "about": leaver.about,
            "issuers": leaver.issuers,
            # Once it is over, none: the state forgets the values.
            "keyring": pulumi.Output.secret(
                [each.properties() for each in leaver.progress.keyring] if leaver.pending else []
            ),
            "keep_from": leaver.progress.keep_from,
            "apps": unset,
            "repositories": sorted({each.full_name for each in secret.repositories}),
            "places": [each.secrets_path for each in secret.repositories],
            "tenants": None if tenants is None else {"app": tenants.app, "variable": tenants.variable},
            "proof_timeout": settings.revocation_timeout,
            "ci_timeout": None if settings.reasons.get(leaver.name) == LEAKED else settings.ci_timeout,
            "revoked": None,
            "alive": None,
        }
        super().__init__(
            DecommissionProvider(),
            f"{DECOMMISSION_PREFIX}{leaver.name}",
            properties,
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(additional_secret_outputs=["keyring"], retain_on_delete=True),
            ),
        )


def _asked(tenants: TenantMachines) -> dict[str, Any]:
    return {"app": tenants.app, "variable": tenants.variable, "same_server": tenants.same_server}


def _described(rotated: Rotated) -> dict[str, Any]:
    family, source = rotated.family, rotated.secret.source
    return {
        "family": {"app": family.app, "stack": family.stack, "secret": family.secret},
        "issuer": {"kind": source.kind, "settings": dict(source.settings)},
        "generation": rotated.generation,
    }
