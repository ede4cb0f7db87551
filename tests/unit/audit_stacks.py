"""A stack as the engine prints it, for the tests of the audit: FLY_API_TOKEN, generation 2, is deployed and verified."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from components import own_state
from components.tenants.rollout import ORG
from tools.audit.stack import SECRET_SIGNATURE, SIGNATURE

from .wire import reply

NOW = datetime(2026, 11, 26, 18, 40, 0, tzinfo=UTC)
SECRET, APP, REPOSITORY = "FLY_API_TOKEN", "molecule-cp", "Molecule-AI/molecule-monorepo"
FAMILY = "molecule-cp-rotation-prod-FLY_API_TOKEN-g"
VALUE, VALUE_BEFORE, OPERATOR = "fm2_value-in-use", "fm2_value-before", "fo1_operator-of-config"
SALT = "a-salt-that-nobody-sees"
SECRETS = (VALUE, VALUE_BEFORE, OPERATOR, SALT)
MINTED_AT, VERIFIED_AT = "2026-11-24T18:33:00+00:00", "2026-11-24T18:34:00+00:00"
WRITTEN, WRITTEN_AT_GITHUB = "2026-11-24 18:33:03 +0000 UTC", "2026-11-24T18:33:03Z"
PROJECT_FILE = """
name: molecule-secrets
config:
  rotations: {type: object, default: {}}
  proveUse: {type: boolean, default: true}
  ciTimeout: {type: integer, default: 3600}
  app: {type: string, default: molecule-cp}
  without: {type: string}
"""


def sealed(value: object) -> dict[str, str]:
    """A secret as `pulumi stack export --show-secrets` prints it."""
    return {SIGNATURE: SECRET_SIGNATURE, "plaintext": json.dumps(value)}


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:prod::molecule-secrets::molecule:rotation:Rotation${kind}::{name}"


def resource(kind: str, name: str, outputs: Mapping[str, Any], **more: object) -> dict[str, Any]:
    return {"urn": urn(kind, name), "type": kind, "outputs": dict(outputs), **more}


def credential(generation: int, value: str) -> dict[str, Any]:
    return {
        "generation": float(generation),
        "credential_id": f"t{generation}",
        "name": f"{FAMILY}{generation}",
        "value": value,
        "created_at": MINTED_AT,
    }


def issuer() -> dict[str, Any]:
    settings = {"app": "molecule-tenant", "profile": "deploy", "expiry": "8760h0m0s"}
    return {
        "family": {"app": APP, "stack": "prod", "secret": SECRET},
        "issuer": {"kind": "fly-deploy-token", "settings": settings},
    }


def export(*, verified: int = 2, **deployment: object) -> dict[str, Any]:
    """What `pulumi stack export --show-secrets` prints."""
    report = json.dumps({"generation": verified, "subject": "s", "verified_at": VERIFIED_AT})
    resources = [
        resource(own_state.STACK_TYPE, "molecule-secrets-prod", {}),
        resource(
            own_state.CREDENTIAL_TYPE,
            SECRET,
            {
                **issuer(),
                "generation": 2.0,
                "turn": "turn",
                "salt": sealed(SALT),
                "value": sealed(VALUE),
                "keyring": sealed([credential(2, VALUE), credential(1, VALUE_BEFORE)]),
            },
        ),
        resource(
            own_state.APP_TYPE,
            APP,
            {
                "names": [SECRET],
                SECRET: sealed(VALUE),
                "digests": {SECRET: "digest-as-delivered"},
                "version": 4.0,
                "staged": {},
            },
        ),
        resource(
            own_state.ACTIONS_SECRET_TYPE,
            f"molecule-monorepo-{SECRET}",
            {"repository": "molecule-monorepo", "secretName": SECRET, "value": sealed(VALUE), "updatedAt": WRITTEN},
        ),
        resource(
            own_state.CHECK_TYPE,
            f"verification-{SECRET}",
            {"create": "python -m …", "environment": {}, "stdout": sealed(report)},
        ),
        resource(own_state.REVOCATION_TYPE, f"revocation-{SECRET}", {**issuer(), "verified_at": VERIFIED_AT}),
    ]
    return {"version": 3, "deployment": {"resources": resources, **deployment}}


def tenants(secret: str, value: str) -> list[dict[str, Any]]:
    """The resources of another secret, generation 1, that the machines of tenants have under its own name."""
    report = json.dumps({"generation": 1, "subject": "s", "verified_at": VERIFIED_AT})
    return [
        resource(
            own_state.CREDENTIAL_TYPE,
            secret,
            {"generation": 1.0, "value": sealed(value), "keyring": sealed([credential(1, value)])},
        ),
        resource(own_state.TENANTS_TYPE, "molecule-tenant", {"variables": [secret], secret: sealed(value)}),
        resource(own_state.CHECK_TYPE, f"verification-{secret}", {"stdout": sealed(report)}),
        resource(own_state.REVOCATION_TYPE, f"revocation-{secret}", {"verified_at": VERIFIED_AT}),
    ]


def config(**changed: object) -> dict[str, Any]:
    """What `pulumi config --json --show-secrets` prints; what is left out has its default."""
    given: dict[str, object] = {"rotations": {SECRET: 2}, **changed}
    printed: dict[str, Any] = {
        "github:owner": {"value": "Molecule-AI", "secret": False},
        "molecule-secrets:flyAccessToken": {"value": OPERATOR, "secret": True},
    }
    for key, value in given.items():
        text = value if isinstance(value, str) else json.dumps(value)
        entry: dict[str, object] = {"value": text, "secret": False}
        if isinstance(value, dict):
            entry["objectValue"] = value
        printed[f"molecule-secrets:{key}"] = entry
    return printed


def token(credential_id: str, name: str, *, revoked: bool = False) -> dict[str, Any]:
    """A token as Fly lists it."""
    return {
        "id": credential_id,
        "name": name,
        "createdAt": MINTED_AT,
        "revokedAt": VERIFIED_AT if revoked else None,
        "expiresAt": None,
    }


TOKENS = (token("t2", f"{FAMILY}2"), token("t1", f"{FAMILY}1", revoked=True))
BY_HAND = token("h1", "made by hand")


class Providers:
    """Fly and GitHub as they are where nobody but the program was at work. A test changes what it is about.

    Attributes:
        digest: Fly's digest of the secret.
        updated_at: When GitHub's was written; "" where there is none.
        tokens: What Fly lists.
        environments: Those of the tenants' machines, by org.
        down: Paths, or their beginnings, that answer 500.
    """

    def __init__(self) -> None:
        self.digest = "digest-as-delivered"
        self.updated_at = WRITTEN_AT_GITHUB
        self.tokens = list(TOKENS)
        self.environments: dict[str, dict[str, str]] = {}
        self.down: tuple[str, ...] = ()

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request; every one that would change something is an error of the test."""
        path = request.url.path
        if self.down and path.startswith(self.down):
            return reply(500, {"error": "down"})
        if path == "/graphql":
            assert request.content.startswith(b'{"query":"query'), request.content
            page = {"nodes": self.tokens, "pageInfo": {"hasNextPage": False, "endCursor": None}}
            return reply(200, {"data": {"app": {"limitedAccessTokens": page}}})
        assert request.method == "GET", request
        if path.endswith("/apps/molecule-tenant/machines"):
            return reply(
                200,
                [
                    {
                        "id": f"m-{org}",
                        "state": "started",
                        "instance_id": "v1",
                        "config": {"env": environment, "metadata": {ORG: org}},
                    }
                    for org, environment in self.environments.items()
                ],
            )
        if path.endswith("/machines"):
            return reply(200, [])
        if path.endswith("/secrets"):
            listed = {"name": SECRET, "digest": self.digest, "updated_at": MINTED_AT, "created_at": MINTED_AT}
            return reply(200, {"secrets": [listed]})
        if path.endswith("/public-key"):
            return reply(200, {"key_id": "1", "key": ""})
        if not self.updated_at:
            return reply(404, {"message": "Not Found"})
        return reply(200, {"name": SECRET, "updated_at": self.updated_at})
