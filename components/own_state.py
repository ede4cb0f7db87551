"""What this stack deployed last, read from its own state before any resource is registered (ADR 0003).

Stack outputs would not do: they are those of the last update that finished as a whole, so one failing secret would hide that another one
has been verified and its old credential revoked.
"""

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import tenacity
from pulumi.runtime import invoke

from components.errors import RefusedError
from components.keyring import Credential
from components.settings import Progress

CREDENTIAL_TYPE = "pulumi-python:dynamic/rotation:Credential"
APP_TYPE = "pulumi-python:dynamic/fly:AppSecrets"
VERIFICATION_TYPE = "command:local:Command"
REVOCATION_TYPE = "pulumi-python:dynamic/rotation:Revocation"
READ_TIMEOUT = 10.0  # seconds
VERIFICATION_PREFIX = "verification-"
REVOCATION_PREFIX = "revocation-"


def progress() -> dict[str, Progress]:
    """How far each secret is. Empty before the first deployment.

    The engine answers with all resources that are not pending deletion, their secrets decrypted.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    answer = _read(name)
    return from_resources(answer.get("outputs") or {})


def _read(name: str) -> Mapping[str, Any]:
    """Asks the engine, again where it cannot read its own state.

    At the start of an update the engine writes the state once more, and a self-managed backend does not write it in one step: about one
    update in a hundred found half a file ("failed to load checkpoint: EOF", measured on the file backend under load).

    Raises:
        RefusedError: It never could.
    """
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_delay(READ_TIMEOUT), wait=tenacity.wait_random(0.05, 0.3), reraise=True
    )
    try:
        answer: Mapping[str, Any] = (
            attempts(invoke, "pulumi:pulumi:readStackResourceOutputs", {"stackName": name}).value or {}
        )
    except Exception as error:  # noqa: BLE001 - the SDK raises nothing more precise
        raise RefusedError(
            f"The state of stack {name} could not be read: {error}",
            next_step="`pulumi up` again; `pulumi stack export` shows whether the state can be read at all.",
        ) from None
    return answer


def from_resources(resources: Mapping[str, Mapping[str, Any]]) -> dict[str, Progress]:
    """The same from the resources themselves, by URN."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {
        kind: {} for kind in (CREDENTIAL_TYPE, APP_TYPE, VERIFICATION_TYPE, REVOCATION_TYPE)
    }
    for urn, resource in resources.items():
        kind, name = str(resource.get("type")), urn.rsplit("::", 1)[-1]
        if kind == VERIFICATION_TYPE and name.startswith(VERIFICATION_PREFIX):
            found[VERIFICATION_TYPE][name.removeprefix(VERIFICATION_PREFIX)] = resource.get("outputs") or {}
        elif kind == REVOCATION_TYPE:
            found[REVOCATION_TYPE][name.removeprefix(REVOCATION_PREFIX)] = resource.get("outputs") or {}
        elif kind in {CREDENTIAL_TYPE, APP_TYPE}:
            found[kind][name] = resource.get("outputs") or {}
    return {
        secret: Progress(
            **_of_credential(found[CREDENTIAL_TYPE].get(secret), found[APP_TYPE], secret),
            **_of_revocation(found[REVOCATION_TYPE].get(secret), found[CREDENTIAL_TYPE].get(secret)),
            verified=_verified(found[VERIFICATION_TYPE].get(secret)),
            has_verification=secret in found[VERIFICATION_TYPE],
        )
        for secret in found[CREDENTIAL_TYPE].keys() | found[VERIFICATION_TYPE].keys()
    }


def _of_credential(
    credential: Mapping[str, Any] | None, apps: Mapping[str, Mapping[str, Any]], secret: str
) -> dict[str, Any]:
    if credential is None:
        return {}
    known = [Credential.from_properties(each) for each in credential.get("keyring") or ()]
    return {
        "current": int(credential["generation"]),
        "keyring": tuple(known),
        "delivered": {
            app: held["digests"][secret] for app, held in apps.items() if held.get(secret) == credential.get("value")
        },
    }


def _of_revocation(revocation: Mapping[str, Any] | None, credential: Mapping[str, Any] | None) -> dict[str, Any]:
    if revocation is None:
        return {}
    alive = {each["credential_id"] for each in revocation.get("alive") or ()}
    known = [Credential.from_properties(each) for each in (credential or {}).get("keyring") or ()]
    generations = [each.generation for each in known if each.credential_id in alive]
    return {"has_revocation": True, "oldest_alive": min(generations, default=0)}


def _verified(verification: Mapping[str, Any] | None) -> int:
    report = (verification or {}).get("stdout")
    return int(json.loads(report)["generation"]) if report else 0
