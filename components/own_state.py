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
from components.keyring import Credential, fingerprint
from components.progress import AppInState, CheckInState, Decommissioned, GitHubWrite, Progress, State
from components.verification.check import SETTINGS_VARIABLE

CREDENTIAL_TYPE = "pulumi-python:dynamic/rotation:Credential"
APP_TYPE = "pulumi-python:dynamic/fly:AppSecrets"
STACK_TYPE = "pulumi:pulumi:Stack"
CHECK_TYPE = "command:local:Command"
TENANTS_TYPE = "pulumi-python:dynamic/tenants:TenantEnvironments"
ACTIONS_SECRET_TYPE = "github:index/actionsSecret:ActionsSecret"  # noqa: S105 - a type
ENVIRONMENT_SECRET_TYPE = "github:index/actionsEnvironmentSecret:ActionsEnvironmentSecret"  # noqa: S105 - a type
ORGANIZATION_SECRET_TYPE = "github:index/actionsOrganizationSecret:ActionsOrganizationSecret"  # noqa: S105 - a type
DEPENDABOT_SECRET_TYPE = "github:index/dependabotSecret:DependabotSecret"  # noqa: S105 - a type
DEPENDABOT_ORGANIZATION_SECRET_TYPE = "github:index/dependabotOrganizationSecret:DependabotOrganizationSecret"  # noqa: S105
# For each type: `GitHubSecret.key`, and what the place is called, from the outputs `repository` and `environment`.
GITHUB_PLACES = {
    ACTIONS_SECRET_TYPE: ("{repository}", "repository {repository}"),
    ENVIRONMENT_SECRET_TYPE: (
        "{repository}/environments/{environment}",
        "environment {environment} of {repository}",
    ),
    ORGANIZATION_SECRET_TYPE: ("/actions", "the organization"),
    DEPENDABOT_SECRET_TYPE: ("{repository}/dependabot", "Dependabot of {repository}"),
    DEPENDABOT_ORGANIZATION_SECRET_TYPE: ("/dependabot", "Dependabot of the organization"),
}
DECOMMISSION_TYPE = "pulumi-python:dynamic/rotation:Decommission"
REVOCATION_TYPE = "pulumi-python:dynamic/rotation:Revocation"
READ_TIMEOUT = 10.0  # seconds
PROBE_PREFIX = "probe-"
VERIFICATION_PREFIX = "verification-"
REVOCATION_PREFIX = "revocation-"
# What the name of a GitHub secret's resource ends with after the value had to be written once more, and how often (ADR 0010).
AGAIN = "-again-"
DECOMMISSION_PREFIX = "decommission-"


def read() -> State:
    """What the stack deployed last. Empty before the first deployment.

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


def from_resources(resources: Mapping[str, Mapping[str, Any]]) -> State:
    """The same from the resources themselves, by URN."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {
        kind: {}
        for kind in (
            CREDENTIAL_TYPE,
            APP_TYPE,
            TENANTS_TYPE,
            *GITHUB_PLACES,
            CHECK_TYPE,
            REVOCATION_TYPE,
            DECOMMISSION_TYPE,
            STACK_TYPE,
        )
    }
    for urn, resource in resources.items():
        kind = str(resource.get("type"))
        if kind in found:
            found[kind][urn.rsplit("::", 1)[-1]] = resource.get("outputs") or {}
    credentials, checks = found[CREDENTIAL_TYPE], found[CHECK_TYPE]
    verified = {name.removeprefix(VERIFICATION_PREFIX) for name in checks if name.startswith(VERIFICATION_PREFIX)}
    return State(
        progress={secret: _progress(secret, found) for secret in credentials.keys() | verified},
        apps={app: _app(outputs) for app, outputs in found[APP_TYPE].items()},
        tenants={
            app: {name: str(outputs[name]) for name in outputs.get("variables") or () if name in outputs}
            for app, outputs in found[TENANTS_TYPE].items()
        },
        decommissioned={
            name.removeprefix(DECOMMISSION_PREFIX): Decommissioned(
                about=str(outputs.get("about")),
                revoked=tuple(outputs.get("revoked") or ()),
                alive=tuple(outputs.get("alive") or ()),
            )
            for name, outputs in found[DECOMMISSION_TYPE].items()
        },
        outputs=next(iter(found[STACK_TYPE].values()), {}),
    )


def _progress(secret: str, found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Progress:
    credential = found[CREDENTIAL_TYPE].get(secret, {})
    verification = found[CHECK_TYPE].get(f"{VERIFICATION_PREFIX}{secret}")
    revocation = found[REVOCATION_TYPE].get(f"{REVOCATION_PREFIX}{secret}")
    report = json.loads((verification or {}).get("stdout") or "{}")
    known = tuple(Credential.from_properties(each) for each in credential.get("keyring") or ())
    alive = {each["credential_id"] for each in (revocation or {}).get("alive") or ()}
    apps = {app: outputs for app, outputs in found[APP_TYPE].items() if secret in outputs}
    at_github = _at_github(secret, found)
    return Progress(
        current=int(credential.get("generation") or 0),
        turn=str(credential.get("turn") or ""),
        salt=str(credential.get("salt") or ""),
        verified=int(report.get("generation") or 0),
        verified_at=str(report.get("verified_at") or ""),
        keyring=known,
        oldest_alive=min((each.generation for each in known if each.credential_id in alive), default=0),
        delivered={
            app: outputs["digests"][secret]
            for app, outputs in apps.items()
            if credential and outputs[secret] == credential.get("value")
        },
        at_fly={app: fingerprint(outputs[secret]) for app, outputs in apps.items()},
        at_github={key: held for key, (held, _) in at_github.items()},
        github_writes={key: write for key, (_, write) in at_github.items()},
        probe=_check(found[CHECK_TYPE].get(f"{PROBE_PREFIX}{secret}")),
        verification=_check(verification),
        has_verification=verification is not None,
        has_revocation=revocation is not None,
        revoked_for=str((revocation or {}).get("verified_at") or ""),
        also=tuple((revocation or {}).get("also") or ()),
        issuer=credential.get("issuer") or {},
    )


def _at_github(
    secret: str, found: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> Mapping[str, tuple[str, GitHubWrite]]:
    """For every place at GitHub that got the secret: the fingerprint of the value, and the last write."""
    places: dict[str, tuple[str, GitHubWrite]] = {}
    for kind, (key, words) in GITHUB_PLACES.items():
        for name, outputs in found[kind].items():
            if outputs.get("secretName") != secret:
                continue
            parts = {"repository": outputs.get("repository"), "environment": outputs.get("environment")}
            _, _, count = name.rpartition(AGAIN)
            write = GitHubWrite(
                repository=str(outputs.get("repository") or ""),
                words=words.format(**parts),
                updated_at=str(outputs.get("updatedAt") or ""),
                again=int(count) if AGAIN in name and count.isascii() and count.isdigit() else 0,
                visibility=str(outputs.get("visibility") or ""),
                selected=tuple(sorted(int(each) for each in outputs.get("selectedRepositoryIds") or ())),
            )
            place = key.format(**parts)
            # An update that failed may have left the one before in the state.
            if place not in places or places[place][1].again < write.again:
                places[place] = (fingerprint(str(outputs.get("value"))), write)
    return places


def _check(command: Mapping[str, Any] | None) -> CheckInState | None:
    """None for one that has not succeeded."""
    if not command or not command.get("stdout"):
        return None
    environment = dict(command.get("environment") or {})
    told = json.loads(environment.pop(SETTINGS_VARIABLE, None) or "{}")
    return CheckInState(
        command=str(command.get("create") or ""),
        told=told,
        operator=environment,
        subject=str(told.get("subject") or ""),
    )


def _app(outputs: Mapping[str, Any]) -> AppInState:
    return AppInState(
        names=tuple(outputs.get("names") or ()),
        digests=outputs.get("digests") or {},
        version=int(float(outputs.get("version") or 0)),
        staged={name: str(entry["at"]) for name, entry in (outputs.get("staged") or {}).items()},
        gone=tuple(outputs.get("gone") or ()),
    )
