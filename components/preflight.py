"""Refusals that need a look at the providers: before anything is touched, in preview as well as in an update. Reads only."""

from collections.abc import Callable, Iterable, Mapping

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient
from components.errors import RefusedError, refusals
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.http import ApiError
from components.operator_credentials import OperatorCredential, endpoint
from components.secret import Secret

ConfigLookup = Callable[[str], str | None]


def check(
    secrets: Iterable[Secret],
    *,
    also: Mapping[str, list[str]],
    control_plane_url: str,
    tenant_app: str,
    config: ConfigLookup,
) -> None:
    """Looks whether the operator's credentials reach everything that these secrets need.

    Args:
        secrets: Those that this update is going to rotate.
        also: Per secret, unmanaged credentials that are to be revoked.
        control_plane_url: Where verification goes.
        tenant_app: Where verification looks for the tenant's machine.
        config: Looks a key of the stack's config up.

    Raises:
        RefusedError: With everything that is missing.
    """
    secrets = list(secrets)
    fly_apps = sorted({location.app for secret in secrets for location in secret.fly})
    errors: list[RefusedError] = []
    examinations: list[Callable[[], list[RefusedError]]] = [
        lambda: _fly(
            FlyClient(operator_credentials.find(operator_credentials.FLY, config)), fly_apps, tenant_app, secrets, also
        ),
        lambda: _github(GitHubClient(operator_credentials.find(operator_credentials.GITHUB, config)), secrets),
        lambda: _control_plane(
            ControlPlaneClient(
                endpoint("CONTROL_PLANE_URL", control_plane_url),
                operator_credentials.find(operator_credentials.CONTROL_PLANE, config),
            )
        ),
    ]
    for examine in examinations:
        try:
            errors.extend(examine())
        except RefusedError as error:
            errors.append(error)
    if errors:
        raise refusals(errors)


def _fly(
    client: FlyClient, apps: Iterable[str], tenant_app: str, secrets: Iterable[Secret], also: Mapping[str, list[str]]
) -> list[RefusedError]:
    issuers = {secret.name: secret.issuer.settings for secret in secrets if secret.issuer.kind == "fly-deploy-token"}
    token_apps = {settings["app"] for settings in issuers.values()}
    errors = []
    try:
        for app in sorted({*apps, *token_apps, tenant_app}):
            if not client.app_exists(app):
                errors.append(
                    RefusedError(
                        f"Fly has no app {app} that the operator token can see.",
                        next_step="mend the name in the stack's config (app, tenantApp, deployTokenApp), or use a token of its organization.",
                    )
                )
            elif app in apps and not client.list_machines(app):
                errors.append(
                    RefusedError(
                        f"Fly app {app} has no machines, so nothing would run with a new value.",
                        next_step=f"deploy {app} first.",
                    )
                )
        if errors:
            return errors
        for name, settings in issuers.items():
            listed = {
                issued.credential_id for issued in client.list_tokens(app=settings["app"], profile=settings["profile"])
            }
            if missing := sorted(set(also.get(name, ())) - listed):
                errors.append(
                    RefusedError(
                        f"`revokeUnmanaged.{name}` lists {', '.join(missing)}, which Fly does not list for app {settings['app']}.",
                        next_step="take the ids from the stack output `secrets`, or from `fly tokens list`.",
                    )
                )
    except ApiError as error:
        return [*errors, _no_access(error, operator_credentials.FLY)]
    return errors


def _github(client: GitHubClient, secrets: Iterable[Secret]) -> list[RefusedError]:
    errors = []
    repositories = sorted({location.full_name for secret in secrets for location in secret.repositories})
    try:
        for repository in repositories:
            may_push = client.can_push(repository)
            if may_push is None:
                errors.append(
                    RefusedError(
                        f"GitHub has no repository {repository} that the operator token can see.",
                        next_step="mend `github:owner` and `repository` in the stack's config, or use a token with access to it.",
                    )
                )
            elif not may_push:
                errors.append(
                    RefusedError(
                        f"The operator's GitHub token may read {repository} but not write to it.",
                        next_step="use a token that may write secrets and run workflows (classic: scope `repo`).",
                    )
                )
    except ApiError as error:
        errors.append(_no_access(error, operator_credentials.GITHUB))
    return errors


def _control_plane(client: ControlPlaneClient) -> list[RefusedError]:
    try:
        client.orgs()
    except ApiError as error:
        return [_no_access(error, operator_credentials.CONTROL_PLANE)]
    return []


def _no_access(error: ApiError, credential: OperatorCredential) -> RefusedError:
    if error.refused:
        return RefusedError(
            f"{error.system} refused the operator's credential ({credential.variables[0]}): {error.reason}",
            next_step=f"export {credential.variables[0]} with {credential.description}.",
        )
    return RefusedError(str(error), next_step="try again once it answers.")
