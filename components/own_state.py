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
from components.settings import Progress

CREDENTIAL_TYPE = "pulumi-python:dynamic/rotation:Credential"
VERIFICATION_TYPE = "command:local:Command"
READ_TIMEOUT = 10.0  # seconds
VERIFICATION_PREFIX = "verification-"


def progress() -> dict[str, Progress]:
    """How far each secret is. Empty before the first deployment.

    The engine answers with all resources that are not pending deletion, their secrets decrypted: nothing but generations leaves here.
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
    current: dict[str, int] = {}
    verified: dict[str, int] = {}
    for urn, resource in resources.items():
        kind, outputs = resource.get("type"), resource.get("outputs") or {}
        resource_name = urn.rsplit("::", 1)[-1]
        if kind == CREDENTIAL_TYPE:
            current[resource_name] = int(outputs["generation"])
        elif kind == VERIFICATION_TYPE and resource_name.startswith(VERIFICATION_PREFIX) and outputs.get("stdout"):
            verified[resource_name.removeprefix(VERIFICATION_PREFIX)] = int(json.loads(outputs["stdout"])["generation"])
    return {
        secret: Progress(current=current.get(secret, 0), verified=verified.get(secret, 0))
        for secret in current.keys() | verified.keys()
    }
