"""The stack's config as one typed value, and everything about it that can be refused without a network. No Pulumi here.

Keys, types and defaults are described in `Pulumi.yaml`; what is here is what its schema cannot say.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from components.errors import RefusedError, refusals
from components.github import destinations
from components.github.destinations import Destinations
from components.progress import Progress, State
from components.secret import LEAKED, ROUTINE, Secret

ROLLING, STAGED = "rolling", "staged"
# Go's time.ParseDuration, as Fly's expiry is read: hours, minutes and seconds are what makes sense here.
GO_DURATION = re.compile("([0-9]+h)?([0-9]+m)?([0-9]+s)?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The stack's config. Times are in seconds; see `Pulumi.yaml` for what each key means."""

    app: str
    tenant_app: str
    control_plane_url: str
    owner: str
    repository: str
    workflow: str
    workflow_ref: str
    github_destinations: Destinations
    deploy_token_app: str
    deploy_token_profile: str
    deploy_token_expiry: str
    org_owner_user_id: str
    neon_organization: str
    neon_project: str
    neon_key_scope: str
    neon_branch_name: str
    database_project: str
    database_branch: str
    database_name: str
    database_pooled: bool
    database_strategy: str
    database_role: str
    upstash_database: str
    redis_strategy: str
    redis_user: str
    redis_rules: str
    encryption_strategy: str
    encryption_key_encoding: str
    encryption_key_loader: str
    encryption_role: str
    reprovision_path: str
    compromised: Mapping[str, int]
    reasons: Mapping[str, str]
    max_age_days: Mapping[str, int]
    purge_mail_subject: str
    prove_use: bool
    resend_domain: str
    stripe_mode: str
    stripe_account: str
    stripe_webhook_secret: str
    old_value_expires_at: Mapping[str, str]
    stripe_webhook_url: str
    stripe_connect: bool
    stripe_test_event: str
    stripe_event_version: str
    checkout_plan: str
    checkout_host: str
    checkout_return_url: str
    rollout: str
    max_unavailable: float
    health_timeout: int
    org_timeout: int
    workflow_timeout: int
    ci_timeout: int
    mail_timeout: int
    database_timeout: int
    revocation_timeout: int
    protect: bool


def load(
    get: Callable[[str], str | None],
    *,
    owner: str | None,
    old_values: object,
    compromised: object,
    reasons: object,
    max_age_days: object,
    github_destinations: object = None,
) -> Settings:
    """Reads and checks the settings.

    Args:
        get: Looks a key up; `Pulumi.yaml` has given it a value of the right type.
        owner: pulumi-github's own key `github:owner`.
        old_values: The config key `oldValueExpiresAt`.
        compromised: The config key `compromised`.
        reasons: The config key `reasons`.
        max_age_days: The config key `maxAgeDays`.
        github_destinations: The config key `githubDestinations`.

    Raises:
        RefusedError: With every setting that is wrong.
    """
    errors: list[RefusedError] = []
    # They get into addresses, names at providers and what people read.
    errors.extend(
        _wrong(key, value, "without line breaks and other characters that are not printed")
        for key, value in {**{key: get(key) or "" for key in TEXTS}, "github:owner": owner or ""}.items()
        if not value.isprintable()
    )
    if not owner:
        errors.append(
            RefusedError(
                "The config has no `github:owner`, so it is not known whose repository is meant.",
                next_step="pulumi config set github:owner Molecule-AI",
            )
        )
    chosen = {key: get(key) or "" for key in CHOICES}
    errors.extend(
        _wrong(key, chosen[key], " or ".join(f"`{each}`" for each in allowed))
        for key, allowed in CHOICES.items()
        if chosen[key] not in allowed
    )
    expiry = get("deployTokenExpiry") or ""
    if not GO_DURATION.fullmatch(expiry) or not expiry.strip("0hms"):
        errors.append(_wrong("deployTokenExpiry", expiry, "a duration such as `8760h0m0s`"))
    unavailable = _max_unavailable(get("maxUnavailable") or "")
    if unavailable is None:
        errors.append(
            _wrong(
                "maxUnavailable", get("maxUnavailable"), "a number of machines such as `2`, or a share such as `33%`"
            )
        )
    expiries: dict[str, str] = {}
    if isinstance(old_values, Mapping) and all(isinstance(each, str) for each in old_values.values()):
        expiries = {str(name): str(each) for name, each in old_values.items()}
    else:
        errors.append(
            _wrong("oldValueExpiresAt", old_values, "a map from secret to a time such as `2026-11-30T12:00:00Z`")
        )
    leaked: dict[str, int] = {}
    if isinstance(compromised, Mapping) and all(type(each) is int for each in compromised.values()):
        leaked = {str(name): each for name, each in compromised.items()}
    else:
        errors.append(_wrong("compromised", compromised, "a map from secret to the generation that replaces it"))
    why: dict[str, str] = {}
    if isinstance(reasons, Mapping) and all(each in {ROUTINE, LEAKED} for each in reasons.values()):
        why = {str(name): str(each) for name, each in reasons.items()}
    else:
        errors.append(_wrong("reasons", reasons, f"a map from secret to `{ROUTINE}` or `{LEAKED}`"))
    ages: dict[str, int] = {}
    if isinstance(max_age_days, Mapping) and all(type(each) is int and each > 0 for each in max_age_days.values()):
        ages = {str(name): each for name, each in max_age_days.items()}
    else:
        errors.append(_wrong("maxAgeDays", max_age_days, "a map from secret to a positive whole number of days"))
    places = _destinations(github_destinations, get("repository") or "", errors)
    names = {key: get(key) or "" for key in NAMES}
    errors.extend(_wrong(key, name, "a name") for key, name in names.items() if not name)
    timeouts = {key: _seconds(get(key), key, errors) for key in TIMEOUTS}
    if errors:
        raise refusals(errors)
    return Settings(
        app=names["app"],
        tenant_app=names["tenantApp"],
        control_plane_url=names["controlPlaneUrl"],
        owner=owner or "",
        repository=get("repository") or "",
        workflow=names["workflow"],
        workflow_ref=get("workflowRef") or "",
        github_destinations=places,
        deploy_token_app=names["deployTokenApp"],
        deploy_token_profile=chosen["deployTokenProfile"],
        deploy_token_expiry=expiry,
        org_owner_user_id=names["orgOwnerUserId"],
        neon_organization=get("neonOrganization") or "",
        neon_project=get("neonProject") or "",
        neon_key_scope=chosen["neonKeyScope"],
        neon_branch_name=names["neonBranchName"],
        database_project=get("databaseProject") or get("neonProject") or "",
        database_branch=get("databaseBranch") or "",
        database_name=names["databaseName"],
        database_pooled=get("databasePooled") == "true",
        database_strategy=chosen["databaseStrategy"],
        database_role=names["databaseRole"],
        upstash_database=get("upstashDatabase") or "",
        redis_strategy=chosen["redisStrategy"],
        redis_user=names["redisUser"],
        redis_rules=names["redisRules"],
        encryption_strategy=chosen["encryptionStrategy"],
        encryption_key_encoding=chosen["encryptionKeyEncoding"],
        encryption_key_loader=chosen["encryptionKeyLoader"],
        encryption_role=names["encryptionRole"],
        reprovision_path=get("reprovisionPath") or "",
        compromised=leaked,
        reasons=why,
        max_age_days=ages,
        purge_mail_subject=names["purgeMailSubject"],
        prove_use=get("proveUse") == "true",
        resend_domain=get("resendDomain") or "",
        stripe_mode=chosen["stripeMode"],
        stripe_account=get("stripeAccount") or "",
        stripe_webhook_secret=chosen["stripeWebhookSecret"],
        old_value_expires_at=expiries,
        stripe_webhook_url=get("stripeWebhookUrl") or "",
        stripe_connect=get("stripeConnect") == "true",
        stripe_test_event=names["stripeTestEvent"],
        stripe_event_version=get("stripeEventVersion") or "",
        checkout_plan=names["checkoutPlan"],
        checkout_host=names["checkoutHost"],
        checkout_return_url=get("checkoutReturnUrl") or "",
        rollout=chosen["rollout"],
        max_unavailable=unavailable or 1,
        protect=get("protect") == "true",
        **{field: timeouts[key] for key, field in TIMEOUTS.items()},
    )


CHOICES: Mapping[str, tuple[str, ...]] = {
    "deployTokenProfile": ("deploy", "deploy_organization"),
    "databaseStrategy": ("alternate", "reset"),
    "redisStrategy": ("acl", "reset"),
    "encryptionStrategy": ("reencrypt", "reprovision"),
    "encryptionKeyEncoding": ("base64", "hex"),
    "encryptionKeyLoader": ("base64", "hex"),
    "neonKeyScope": ("personal", "organization", "project"),
    "stripeMode": ("live", "test"),
    "stripeWebhookSecret": ("endpoint", "supplied"),
    "rollout": (ROLLING, STAGED),
}
NAMES = (
    "app",
    "tenantApp",
    "controlPlaneUrl",
    "workflow",
    "deployTokenApp",
    "orgOwnerUserId",
    "neonBranchName",
    "databaseName",
    "databaseRole",
    "redisUser",
    "redisRules",
    "encryptionRole",
    "purgeMailSubject",
    "stripeTestEvent",
    "checkoutPlan",
    "checkoutHost",
)
TEXTS = (
    *NAMES,
    "repository",
    "workflowRef",
    "neonOrganization",
    "neonProject",
    "databaseProject",
    "databaseBranch",
    "upstashDatabase",
    "reprovisionPath",
    "resendDomain",
    "stripeAccount",
    "stripeWebhookUrl",
    "stripeEventVersion",
    "checkoutReturnUrl",
)
TIMEOUTS = {
    "healthTimeout": "health_timeout",
    "orgTimeout": "org_timeout",
    "workflowTimeout": "workflow_timeout",
    "ciTimeout": "ci_timeout",
    "mailTimeout": "mail_timeout",
    "databaseTimeout": "database_timeout",
    "revocationTimeout": "revocation_timeout",
}


def _destinations(raw: object, repository: str, errors: list[RefusedError]) -> Destinations:
    try:
        return destinations.parse(raw, repository=repository)
    except RefusedError as error:
        errors.append(error)
        return Destinations()


def _seconds(text: str | None, key: str, errors: list[RefusedError]) -> int:
    if text and text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    errors.append(_wrong(key, text, "a positive whole number of seconds"))
    return 0


def _max_unavailable(text: str) -> float | None:
    """A share (`33%` → 0.33) or a number of machines (`2` → 2); None where it is neither."""
    digits = text.strip().removesuffix("%")
    if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        return None
    if text.strip().endswith("%"):
        # All at once is not a rolling restart.
        return int(digits) / 100 if int(digits) < 100 else None  # noqa: PLR2004
    return int(digits)


def _wrong(key: str, value: object, expected: str) -> RefusedError:
    return RefusedError(
        f"The config key `{key}` is {value!r}; it has to be {expected}.", next_step=f"pulumi config set {key} …"
    )


def rotations(raw: object, *, managed: Collection[str], not_managed: Mapping[str, str]) -> dict[str, int]:
    """The requested generation of every listed secret.

    Args:
        raw: The config key `rotations`.
        managed: Names that can be rotated.
        not_managed: Names of the map that cannot, with the reason.

    Raises:
        RefusedError: With every entry that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise _wrong("rotations", raw, "a map from secret to generation")
    errors: list[RefusedError] = []
    generations: dict[str, int] = {}
    for name, value in raw.items():
        if name in not_managed:
            errors.append(
                RefusedError(
                    f"{name} cannot be rotated here: {not_managed[name]}", next_step=_remove("rotations", name)
                )
            )
        elif name not in managed:
            errors.append(_unknown("rotations", str(name), managed))
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            errors.append(
                RefusedError(
                    f"The rotation counter of {name} is {value!r}; it has to be a positive whole number.",
                    next_step=f"pulumi config set --path 'rotations.{name}' 1 (or one more than the generation of the last rotation)",
                )
            )
        else:
            generations[name] = value
    if errors:
        raise refusals(errors)
    return generations


def _unknown(key: str, name: str, known: Collection[str]) -> RefusedError:
    nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]}?" if nearest else f" Known: {', '.join(sorted(known))}."
    return RefusedError(
        f"`{key}` lists {name}, which is no secret of this program.{hint}", next_step=_remove(key, name)
    )


def _remove(key: str, name: str) -> str:
    return f"pulumi config rm --path '{key}.{name}'"


def assert_known(key: str, names: Iterable[str], *, known: Collection[str]) -> None:
    """Refuses a config key that speaks of a secret which this program does not know: it would be thought to be heeded.

    Raises:
        RefusedError: With every such name.
    """
    errors = [_unknown(key, name, known) for name in names if name not in known]
    if errors:
        raise refusals(errors)


def assert_coupled(secrets: Iterable[Secret]) -> None:
    """Refuses to rotate a secret that belongs together in several systems and is to be delivered to some of them only.

    Raises:
        RefusedError: With every such secret.
    """
    errors = [
        RefusedError(
            f"{secret.name} stands at Fly and at GitHub, and has to change in both: a location that is left out keeps the old value, and "
            f"breaks without a word once that is revoked. The config names no {'repository' if secret.fly else 'Fly app'}.",
            next_step=f"`pulumi config set {'repository' if secret.fly else 'app'} …`; or take the secret off `rotations`.",
        )
        for secret in secrets
        if secret.coupled and not (secret.fly and secret.repositories)
    ]
    if errors:
        raise refusals(errors)


def unmanaged_to_revoke(raw: object, *, rotated: Collection[str]) -> dict[str, list[str]]:
    """Per secret, the ids of unmanaged credentials that are to be revoked once the secret is verified.

    Raises:
        RefusedError: It is no map from a rotated secret to a list of ids.
    """
    if not isinstance(raw, Mapping):
        raise _wrong("revokeUnmanaged", raw, "a map from secret to a list of credential ids")
    ids: dict[str, list[str]] = {}
    for name, listed in raw.items():
        if name not in rotated:
            raise RefusedError(
                f"`revokeUnmanaged` lists {name}, which `rotations` does not list: nothing of it is touched.",
                next_step=f"pulumi config rm --path 'revokeUnmanaged.{name}', or add {name} to `rotations`.",
            )
        # `pulumi config set --path` turns an id of digits alone into a number.
        if not isinstance(listed, list) or not all(_is_id(each) for each in listed):
            raise _wrong(
                f"revokeUnmanaged.{name}", listed, "a list of credential ids, as the output `secrets` shows them"
            )
        ids[str(name)] = sorted({str(each) for each in listed})
    return ids


def decommissioned(
    raw: object, *, managed: Collection[str], not_managed: Mapping[str, str], rotated: Collection[str]
) -> dict[str, int]:
    """The names of the secrets that are to be ended, each with its place in the list.

    Args:
        raw: The config key `decommission`.
        managed: Names that can be rotated.
        not_managed: Names of the map that cannot, with the reason.
        rotated: Names that `rotations` lists.

    Raises:
        RefusedError: With every entry that is wrong.
    """
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise RefusedError(
            f"The config key `decommission` is {raw!r}; it has to be a list of names of secrets.",
            next_step="pulumi config set --plaintext --path 'decommission[0]' NAME",
        )
    errors: list[RefusedError] = []
    for number, name in enumerate(raw):
        off = f"pulumi config rm --path 'decommission[{number}]'"
        if name in not_managed:
            errors.append(RefusedError(f"{name} cannot be decommissioned here: {not_managed[name]}", next_step=off))
        elif name not in managed:
            errors.append(RefusedError(_unknown("decommission", name, managed).happened, next_step=off))
        elif name in rotated:
            errors.append(
                RefusedError(
                    f"`decommission` lists {name}, which `rotations` lists, too: it cannot be rotated and ended at once.",
                    next_step=f"{off} to keep it, or {_remove('rotations', name)} to end it.",
                )
            )
    if errors:
        raise refusals(errors)
    return {name: raw.index(name) for name in raw}


def assert_configured(secrets: Iterable[Secret]) -> None:
    """Refuses to rotate a secret whose settings are missing.

    Raises:
        RefusedError: With every one that is.
    """
    errors = [
        RefusedError(
            f"{secret.name} is listed in `rotations`, but the config key `{key}` is empty.",
            next_step=f"pulumi config set {key} …",
        )
        for secret in secrets
        for key, value in secret.requires.items()
        if not value
    ]
    if errors:
        raise refusals(errors)


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value)) or (isinstance(value, int) and not isinstance(value, bool))


def assert_compromised(
    pending: Iterable[Secret],
    *,
    generations: Mapping[str, int],
    compromised: Mapping[str, int],
    progress: Mapping[str, Progress],
) -> None:
    """Refuses to rotate what is rotated only where the value before is compromised. Going back to what is verified is no rotation.

    Raises:
        RefusedError: With every such secret.
    """
    errors = [
        RefusedError(
            f"{secret.name} is rotated only if the value before is compromised: whatever is encrypted with it becomes unreadable while "
            f"it is rotated. `compromised.{secret.name}` is {compromised.get(secret.name, 'not set')}, not {generations[secret.name]}.",
            next_step=f"pulumi config set --path 'compromised.{secret.name}' {generations[secret.name]}",
        )
        for secret in pending
        if secret.only_if_compromised
        and progress.get(secret.name, Progress()).verified != generations[secret.name]
        and compromised.get(secret.name) != generations[secret.name]
    ]
    if errors:
        raise refusals(errors)


def assert_not_half_ended(requested: Mapping[str, int], state: State) -> None:
    """Refuses to take back, with the value it had, a secret whose decommissioning was begun: GitHub may have lost it already, or its provider.

    Raises:
        RefusedError: With every such secret.
    """
    gone = {name for app in state.apps.values() for name in app.gone}
    errors = [
        RefusedError(
            f"{name} is listed in `rotations` again, after it was unset to be decommissioned: generation {generation} may be revoked already.",
            next_step=f"pulumi config set --path 'rotations.{name}' {generation + 1}, so that a new value is delivered everywhere; "
            "or list it under `decommission` again, and not under `rotations`, to end it.",
        )
        for name, generation in requested.items()
        if name in gone and state.of(name).current == state.of(name).verified == generation
    ]
    if errors:
        raise refusals(errors)


def assert_no_step_back(requested: Mapping[str, int], progress: Mapping[str, Progress]) -> None:
    """Refuses counters below the generation verified last. The same generation is allowed: it abandons a newer one.

    Raises:
        RefusedError: With every counter that is too low.
    """
    errors = [
        RefusedError(
            f"The rotation counter of {name} is {generation}, lower than generation {progress[name].verified}, which was verified last: "
            "credentials of earlier generations are revoked.",
            next_step=f"pulumi config set --path 'rotations.{name}' {progress[name].verified + 1} to rotate, "
            f"or {progress[name].verified} to keep what is verified.",
        )
        for name, generation in requested.items()
        if name in progress and generation < progress[name].verified
    ]
    if errors:
        raise refusals(errors)
