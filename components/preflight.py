"""Refusals that need a look at the providers: before anything is touched, in preview as well as in an update. Reads only."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import httpx

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient
from components.errors import RefusedError, refusals
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.given import GivenValues
from components.http import ApiError
from components.issuer import Issuer
from components.issuers import ISSUERS, ConfigLookup, Context
from components.operator_credentials import OperatorCredential, endpoint
from components.secret import Secret
from components.settings import Progress


def check(
    secrets: Iterable[Secret],
    *,
    supplied: Mapping[str, str],
    progress: Mapping[str, Progress],
    also: Mapping[str, list[str]],
    control_plane_url: str,
    tenant_app: str,
    config: ConfigLookup,
) -> list[str]:
    """Looks whether the operator's credentials reach everything that these secrets need.

    Args:
        secrets: Those that this update is going to rotate.
        supplied: The values that the operator has handed in.
        progress: How far each secret is.
        also: Per secret, unmanaged credentials that are to be revoked.
        control_plane_url: Where verification goes.
        tenant_app: Where verification looks for the tenant's machine.
        config: Looks a key of the stack's config up.

    Returns:
        What the operator should know, although it is no obstacle: one sentence each.

    Raises:
        RefusedError: With everything that is missing.
    """
    secrets = list(secrets)
    apps = sorted({location.app for secret in secrets for location in secret.fly})
    warnings: list[str] = []

    def issuer_of(secret: Secret) -> Issuer:
        so_far = progress.get(secret.name, Progress())
        given = supplied.get(secret.name, "")
        context = Context(config=config, given=given, keyring=so_far.keyring, keep_from=so_far.keep_from)
        return ISSUERS[secret.source.kind].build(secret.source.settings, context)

    examinations: list[tuple[Callable[[], list[RefusedError]], OperatorCredential | None]] = [
        (
            lambda: _fly(
                FlyClient(operator_credentials.find(operator_credentials.FLY, config)),
                apps,
                tenant_app,
                secrets,
                warnings,
            ),
            operator_credentials.FLY,
        ),
        *(
            (
                partial(_issuer, secret, issuer_of, also.get(secret.name, ()), warnings),
                ISSUERS[secret.source.kind].operator,
            )
            for secret in secrets
        ),
        (lambda: _control_plane(control_plane_url, config), operator_credentials.CONTROL_PLANE),
    ]
    if repositories := sorted({location.full_name for secret in secrets for location in secret.repositories}):
        examinations.append((lambda: _github(repositories, config), operator_credentials.GITHUB))
    errors: dict[str, RefusedError] = {}
    for examine, credential in examinations:
        try:
            found = examine()
        except RefusedError as error:
            found = [error]
        except ApiError as error:
            found = [_no_access(error, credential)]
        # Two secrets of one issuer find the same fault.
        errors |= {str(error): error for error in found}
    if errors:
        raise refusals(list(errors.values()))
    return warnings


def _fly(
    client: FlyClient, apps: Iterable[str], tenant_app: str, secrets: Iterable[Secret], warnings: list[str]
) -> list[RefusedError]:
    errors = []
    for app in sorted({*apps, tenant_app}):
        if not client.app_exists(app):
            errors.append(
                RefusedError(
                    f"Fly has no app {app} that the operator token can see.",
                    next_step="mend the name in the stack's config (app, tenantApp), or use a token of its organization.",
                )
            )
        elif app in apps and not client.list_machines(app):
            errors.append(
                RefusedError(
                    f"Fly app {app} has no machines, so nothing would run with a new value.",
                    next_step=f"deploy {app} first.",
                )
            )
    if not errors:
        warnings.extend(_tenants(client, secrets))
    return errors


def _tenants(client: FlyClient, secrets: Iterable[Secret]) -> Iterable[str]:
    """Which machines of tenants are going to restart."""
    variables: dict[str, set[str]] = {}
    for location in (secret.tenants for secret in secrets):
        if location is not None and not location.reprovisions:
            variables.setdefault(location.app, set()).add(location.variable)
    for app, names in variables.items():
        count = sum(bool(names & (each.config.get("env") or {}).keys()) for each in client.list_machines(app))
        yield (
            f"{count} machines of {app} have {' or '.join(sorted(names))} in their environment: each is updated, and so restarted, once; one "
            "first, then in batches."
        )


def _issuer(
    secret: Secret, issuer_of: Callable[[Secret], Issuer], also: Iterable[str], warnings: list[str]
) -> list[RefusedError]:
    issuer = issuer_of(secret)
    # Nothing at hand: the state has the value, or Pulumi is going to generate it.
    errors = (
        issuer.obstacles_beside_the_value()
        if isinstance(issuer, GivenValues) and not issuer.given
        else issuer.obstacles()
    )
    if errors:
        return errors
    warnings.extend(f"{secret.name}: {warning}" for warning in issuer.warnings())
    listed = {issued.credential_id for issued in issuer.issued()}
    if missing := sorted(set(also) - listed):
        errors.append(
            RefusedError(
                f"`revokeUnmanaged.{secret.name}` lists {', '.join(missing)}, which the provider does not list.",
                next_step="take the ids from the stack output `secrets`.",
            )
        )
    return errors


def _github(repositories: Iterable[str], config: ConfigLookup) -> list[RefusedError]:
    client = GitHubClient(operator_credentials.find(operator_credentials.GITHUB, config))
    errors = []
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
    return errors


def _control_plane(url: str, config: ConfigLookup) -> list[RefusedError]:
    token = operator_credentials.find(operator_credentials.CONTROL_PLANE, config)
    ControlPlaneClient(endpoint("CONTROL_PLANE_URL", url), token).orgs()
    return []


def _no_access(error: ApiError, credential: OperatorCredential | None) -> RefusedError:
    if credential is not None and (error.refused or error.status == httpx.codes.FORBIDDEN):
        return RefusedError(
            f"{error.system} refused the operator's credential ({credential.variables[0]}): {error.reason}",
            next_step=f"export {credential.variables[0]} with {credential.description}.",
            contact=error.contact,
        )
    return RefusedError(str(error), next_step="try again once it answers.", contact=error.contact)
