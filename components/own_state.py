"""What this stack deployed last, read from its own state before any resource is registered (ADR 0003).

Stack outputs would not do: they are those of the last update that finished as a whole, so one failing secret would hide that another one
has been verified and its old credential revoked.
"""

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime import invoke

from components.settings import Progress

CREDENTIAL_TYPE = "pulumi-python:dynamic/rotation:Credential"
VERIFICATION_TYPE = "command:local:Command"
VERIFICATION_PREFIX = "verification-"


def progress() -> dict[str, Progress]:
    """How far each secret is. Empty before the first deployment.

    The engine answers with all resources that are not pending deletion, their secrets decrypted: nothing but generations leaves here.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    answer = invoke("pulumi:pulumi:readStackResourceOutputs", {"stackName": name}).value or {}
    return from_resources(answer.get("outputs") or {})


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
