"""The graph that rotates secrets: Credential → Probe → AppSecrets → ActionsSecret → Verification → Revocation.

One component holds it all. The resources of one secret are its credential, probe, one Actions secret per repository, verification and
revocation; each Fly app adds one resource for all its secrets, so that an app is written to and restarted once however many of them
rotate. More would cost: the engine's time grows with the square of the resources of a stack. A value that Pulumi generates adds one.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pulumi
import pulumi_command as command
import pulumi_github as github
import pulumi_random as random
from pulumi.runtime.config import is_config_secret

from components import operator_credentials, own_state, preflight, staging
from components import settings as configuration
from components import supplied as supplied_values
from components.encryption.reencryption import KEY_BEFORE
from components.errors import OperatorError, RefusedError
from components.fly.client import FlyClient
from components.fly.resources import AppSecrets
from components.http import ApiError
from components.issuers import ISSUERS
from components.keyring import Credential as KnownCredential
from components.keyring import fingerprint
from components.resources import Credential, Revocation
from components.secret import Check, Family, FlySecret, Random, RepositorySecret, Secret, Supplied
from components.settings import STAGED, Progress, Settings
from components.staging import HeldBack
from components.tenants.resources import TenantEnvironments
from components.verification.check import SETTINGS_VARIABLE

Result = TypeVar("Result")

ALL = ["*"]  # every property

# Relative, and the same on every machine: a path of this one would make every other machine run every check again. The engine starts
# plugins in the folder of Pulumi.yaml.
RUN_CHECK = 'PATH="$PWD/.venv/bin:$PATH" exec python -m components.verification.'


class Rotation(pulumi.ComponentResource):
    """All rotations of one control plane.

    Attributes:
        secrets: The stack output of that name: metadata of what verification has confirmed, no values.
    """

    secrets: dict[str, pulumi.Output[dict[str, Any]]]

    def __init__(
        self,
        settings: Settings,
        secrets: Iterable[Secret],
        *,
        generations: Mapping[str, int],
        supplied: Mapping[str, str],
        progress: Mapping[str, Progress],
        held_back: Mapping[str, HeldBack],
        unmanaged_to_revoke: Mapping[str, list[str]],
        operator_environment: Mapping[str, pulumi.Output[str]],
    ) -> None:
        super().__init__("molecule:rotation:Rotation", settings.app)
        self._settings = settings
        self._supplied = supplied
        self._operator_environment = operator_environment
        self._child = pulumi.ResourceOptions(parent=self)
        rotated = [secret for secret in secrets if secret.name in generations]
        families = {
            secret.name: Family(
                app=settings.app,
                stack=pulumi.get_stack(),
                secret=secret.name,
                longest_name=ISSUERS[secret.source.kind].longest_name,
            )
            for secret in rotated
        }
        credentials = {
            secret.name: Credential(
                secret,
                families[secret.name],
                generations[secret.name],
                self._child,
                given=self._given(secret, generations[secret.name]),
                keep_from=progress.get(secret.name, Progress()).keep_from,
            )
            for secret in rotated
        }
        probes = {
            secret.name: self._check(
                f"probe-{secret.name}",
                secret.name,
                secret.probe,
                generations[secret.name],
                credential=credentials[secret.name],
                subject=credentials[secret.name].turn,
                state_if_failed=f"nothing was delivered; {_old_credential(secret)}.",
                stdin=credentials[secret.name].value,
            )
            for secret in rotated
            if secret.probe is not None
        }
        apps = {
            app: self._app(app, rotated, credentials, probes, progress)
            for app in sorted({location.app for secret in rotated for location in secret.fly})
        }
        # After every Fly app: an org that is made meanwhile gets the new values from the control plane.
        tenants = {
            app: self._tenant_machines(app, rotated, credentials, after=list(apps.values()))
            for app in sorted({secret.tenants.app for secret in rotated if secret.tenants})
        }
        self.secrets = {}
        for secret in rotated:
            credential, generation = credentials[secret.name], generations[secret.name]
            on_fly: dict[FlySecret | RepositorySecret, pulumi.Resource] = {
                location: apps[location.app] for location in secret.fly
            }
            holdings = {
                str(location): apps[location.app].held(secret.name).apply(fingerprint) for location in secret.fly
            }
            locations = list(on_fly.values())
            if secret.tenants is not None:
                machines = tenants[secret.tenants.app]
                holdings[str(secret.tenants)] = machines.held(secret.tenants.variable).apply(fingerprint)
                locations.append(machines)
            for repository in secret.repositories:
                actions_secret = self._actions_secret(secret, repository, credential, after=list(on_fly.values()))
                holdings[str(repository)] = actions_secret.value.apply(lambda value: fingerprint(value or ""))
                locations.append(actions_secret)
            subject = _subject(credential, holdings)
            held = held_back.get(secret.name)
            if held is not None and not held.has_verification:
                self.secrets[secret.name] = pulumi.Output.from_input(_nothing_verified(secret, generation))
                continue
            verification = self._check(
                f"{own_state.VERIFICATION_PREFIX}{secret.name}",
                secret.name,
                secret.verification,
                generation,
                credential=credential,
                subject=subject,
                state_if_failed=f"the new value is delivered, {_old_credential(secret)} and nothing was revoked.",
                stdin=credential.value if secret.verification.takes_value else None,
                after=locations,
                unchanged=held is not None,
            )
            if held is not None and not held.has_revocation:
                self.secrets[secret.name] = pulumi.Output.from_input(_nothing_verified(secret, generation))
                continue
            report: pulumi.Output[dict[str, Any]] = pulumi.Output.unsecret(verification.stdout).apply(json.loads)
            revocation = Revocation(
                secret,
                families[secret.name],
                credential,
                generation=generation,
                report=report,
                subject=subject,
                holdings=holdings,
                also=list(unmanaged_to_revoke.get(secret.name, ())),
                proof_timeout=settings.revocation_timeout,
                options=pulumi.ResourceOptions.merge(
                    self._child,
                    pulumi.ResourceOptions(depends_on=[verification], ignore_changes=ALL if held is not None else None),
                ),
            )
            self.secrets[secret.name] = _metadata(secret, revocation, staged=generation if held is not None else None)
        self.register_outputs({})

    def _given(self, secret: Secret, generation: int) -> pulumi.Output[str] | None:
        """The value of a generation that no provider mints."""
        if isinstance(secret.source, Supplied):
            return pulumi.Output.secret(self._supplied.get(secret.name, ""))
        if isinstance(secret.source, Random):
            generated = random.RandomBytes(
                f"generated-{secret.name}",
                length=secret.source.length,
                keepers={"generation": str(generation)},
                opts=self._child,
            )
            return pulumi.Output.secret(generated.hex if secret.source.encoding == "hex" else generated.base64)
        return None

    def _app(
        self,
        app: str,
        secrets: Iterable[Secret],
        credentials: Mapping[str, Credential],
        probes: Mapping[str, command.local.Command],
        progress: Mapping[str, Progress],
    ) -> AppSecrets:
        held = [secret for secret in secrets if FlySecret(app=app) in secret.fly]
        after = pulumi.ResourceOptions(depends_on=[probes[secret.name] for secret in held if secret.name in probes])
        return AppSecrets(
            app,
            {secret.name: credentials[secret.name].value for secret in held},
            self._settings,
            pulumi.ResourceOptions.merge(self._child, after),
            rows={
                secret.name: {
                    "settings": dict(secret.rows.settings),
                    "keys_before": _keys_before(
                        credentials[secret.name], progress.get(secret.name, Progress()).verified
                    ),
                }
                for secret in held
                if secret.rows is not None
            },
            without_way_back=[secret.name for secret in held if not secret.overlaps],
        )

    def _tenant_machines(
        self,
        app: str,
        secrets: Iterable[Secret],
        credentials: Mapping[str, Credential],
        *,
        after: list[pulumi.Resource],
    ) -> TenantEnvironments:
        held = [(secret, secret.tenants) for secret in secrets if secret.tenants and secret.tenants.app == app]
        return TenantEnvironments(
            app,
            {location.variable: credentials[secret.name].value for secret, location in held},
            self._settings,
            pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=after)),
            same_server=[location.variable for _, location in held if location.same_server],
            overlaps=[location.variable for secret, location in held if secret.overlaps],
            reprovisioned=[location.variable for _, location in held if location.reprovisions],
        )

    def _actions_secret(
        self, secret: Secret, location: RepositorySecret, credential: Credential, *, after: list[pulumi.Resource]
    ) -> github.ActionsSecret:
        return github.ActionsSecret(
            f"{location.repository}-{secret.name}",
            repository=location.repository,
            secret_name=secret.name,
            value=credential.value,
            # Kept when it is no longer managed: a repository whose secret vanished could not publish any more.
            opts=pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(depends_on=after, retain_on_delete=True)
            ),
        )

    def _check(
        self,
        name: str,
        secret: str,
        check: Check,
        generation: int,
        *,
        credential: Credential,
        subject: pulumi.Output[str],
        state_if_failed: str,
        stdin: pulumi.Output[str] | None = None,
        after: list[pulumi.Resource] | None = None,
        unchanged: bool = False,
    ) -> command.local.Command:
        """A check that runs once for every subject, and again whenever it has failed. `unchanged`: it stays as it is in the state."""
        told = {
            "secret": secret,
            "generation": generation,
            "settings": dict(check.settings),
            "state_if_failed": state_if_failed,
        }
        about = pulumi.Output.all(
            subject=subject, credential_id=credential.credential_id, minted_at=credential.created_at
        )
        return command.local.Command(
            name,
            create=RUN_CHECK + check.module,
            environment={
                SETTINGS_VARIABLE: about.apply(lambda values: json.dumps({**told, **values}, sort_keys=True)),
                **self._operator_environment,
            },
            stdin=stdin,
            triggers=[subject],
            # The report of the last success: a verification can tell whether this generation has been verified before.
            add_previous_output_in_env=True,
            # Checks print no secret values; what they print is the operator's only sign of life for minutes.
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(
                    depends_on=after or [],
                    additional_secret_outputs=["stdout", "stderr"],
                    ignore_changes=ALL if unchanged else None,
                ),
            ),
        )


def _keys_before(credential: Credential, verified: int) -> pulumi.Output[list[str]]:
    """Every other value of the stack that something may still be encrypted with; the one verified last comes first."""

    def others(known: Mapping[str, Any]) -> list[str]:
        found = sorted(
            (KnownCredential.from_properties(each) for each in known["keyring"]),
            key=lambda each: each.generation != verified,
        )
        return [each.value for each in found if each.value and each.value != known["value"]]

    known = pulumi.Output.all(keyring=credential.keyring, value=credential.value)
    return pulumi.Output.secret(known.apply(others))


def _old_credential(secret: Secret) -> str:
    """What is true of the value before until the new one is verified."""
    return (
        "every old credential is still alive"
        if secret.overlaps
        else "the value before died when the new one was minted, so consumers without the new one fail,"
    )


def _subject(credential: Credential, holdings: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[str]:
    """What a verification is about: this turn of the credential, held by these locations.

    It triggers the verification, which repeats it in its report; the revocation compares. So a verification that ran while a location
    still held another value (`--target`) counts for nothing. A salted hash, hence no secret, not even where the value is a word.
    """
    parts = [credential.salt, credential.turn, *(holdings[location] for location in sorted(holdings))]
    return pulumi.Output.unsecret(pulumi.Output.all(*parts).apply(lambda values: fingerprint("\n".join(values))))


def _metadata(secret: Secret, revocation: Revocation, *, staged: int | None) -> pulumi.Output[dict[str, Any]]:
    return pulumi.Output.all(
        generation=revocation.generation,
        credential_id=revocation.credential_id,
        verified_at=revocation.verified_at,
        alive=revocation.alive,
        unmanaged=revocation.unmanaged,
    ).apply(
        lambda values: {
            **values,
            "generation": int(values["generation"]),
            "locations": [str(each) for each in secret.locations],
            "staged": staged,
        }
    )


def _nothing_verified(secret: Secret, staged: int) -> dict[str, Any]:
    """The same where the first generation is only staged."""
    return {
        "generation": 0,
        "credential_id": "",
        "verified_at": "",
        "alive": [],
        "unmanaged": [],
        "locations": [str(each) for each in secret.locations],
        "staged": staged,
    }


def load_settings() -> Settings:
    """The stack's settings. Ends the program with what is wrong where something is."""
    config = pulumi.Config()
    old_values = config.get_object("oldValueExpiresAt")
    owner = pulumi.Config("github").get("owner")
    compromised = config.get_object("compromised")
    return _refusing(
        lambda: configuration.load(config.get, owner=owner, old_values=old_values, compromised=compromised)
    )


def rotate(settings: Settings, secrets: Iterable[Secret], *, not_managed: Mapping[str, str]) -> None:
    """Registers the rotation of every secret that `rotations` lists, and the stack's outputs.

    Everything that can be refused is refused before the first resource is registered, in preview as in an update.

    Args:
        settings: The stack's settings.
        secrets: The secret map.
        not_managed: Names of the map that this program cannot rotate, with the reason.
    """
    secrets = list(secrets)
    config = pulumi.Config()
    names = [secret.name for secret in secrets]
    generations = _refusing(
        lambda: configuration.rotations(config.get_object("rotations"), managed=names, not_managed=not_managed)
    )
    also = _refusing(
        lambda: configuration.unmanaged_to_revoke(config.get_object("revokeUnmanaged"), rotated=generations)
    )
    _refusing(lambda: configuration.assert_configured(secret for secret in secrets if secret.name in generations))
    progress = _refusing(own_state.progress)
    _refusing(lambda: configuration.assert_no_step_back(generations, progress))
    supplied = _refusing(
        lambda: supplied_values.values(
            config.get_object("supplied"),
            secrets,
            generations=generations,
            progress=progress,
            encrypted=is_config_secret(config.full_key("supplied")),
        )
    )
    _refusing(lambda: _assert_encrypted(config, KEY_BEFORE))
    rotated = [secret for secret in secrets if secret.name in generations]
    pending = [
        secret
        for secret in rotated
        if (so_far := progress.get(secret.name, Progress())).verified != generations[secret.name]
        or so_far.current != generations[secret.name]
    ]
    if pending:
        _refusing(
            lambda: configuration.assert_compromised(
                pending, generations=generations, compromised=settings.compromised, progress=progress
            )
        )
        _refusing(lambda: staging.assert_may_be_staged(pending, rollout=settings.rollout))
        warnings = _refusing(
            lambda: preflight.check(
                pending,
                supplied=supplied,
                progress=progress,
                also=also,
                control_plane_url=settings.control_plane_url,
                tenant_app=settings.tenant_app,
                config=_config_value,
            )
        )
        for warning in warnings:
            pulumi.log.warn(warning)
    held_back = _refusing(lambda: _held_back(settings, rotated, generations, progress))
    rotation = Rotation(
        settings,
        secrets,
        generations=generations,
        supplied=supplied,
        progress=progress,
        held_back=held_back,
        unmanaged_to_revoke=also,
        operator_environment=_operator_environment(),
    )
    pulumi.export("secrets", rotation.secrets)


def _held_back(
    settings: Settings, rotated: Iterable[Secret], generations: Mapping[str, int], progress: Mapping[str, Progress]
) -> Mapping[str, HeldBack]:
    """What a stack that stages does not verify in this update. Says so, in a preview too."""
    if settings.rollout != STAGED:
        return {}
    try:
        client = FlyClient(operator_credentials.find(operator_credentials.FLY, _config_value))
        found = staging.held_back(client, rotated, generations, progress)
    except ApiError as error:
        raise RefusedError(str(error), next_step="`pulumi up` again once Fly answers.", contact=error.contact) from None
    for name, held in found.items():
        pulumi.log.warn(
            f"{name} generation {generations[name]} is staged: {held.reason}. It is verified, and the old one revoked, by the first "
            "`pulumi up` after every machine was restarted (by a deployment, or with `pulumi config set rollout rolling`)."
        )
    return found


def _assert_encrypted(config: pulumi.Config, key: str) -> None:
    if config.get(key) and not is_config_secret(config.full_key(key)):
        raise RefusedError(
            f"The config key `{key}` is in plaintext.",
            next_step=f"`pulumi config set --secret {key}`, with the same value. Whoever could read the config knows it: rotate it.",
        )


def _refusing(read: Callable[[], Result]) -> Result:
    """Turns a refusal into the engine's own error, which is shown without a traceback."""
    try:
        return read()
    except OperatorError as error:
        raise pulumi.RunError(str(error)) from None


def _config_value(key: str) -> str | None:
    namespace, _, name = key.rpartition(":")
    return pulumi.Config(namespace or None).get(name)


def _operator_environment() -> dict[str, pulumi.Output[str]]:
    """Operator credentials of the stack's config, for checks, which cannot read it."""
    environment: dict[str, pulumi.Output[str]] = {}
    for credential in operator_credentials.ALL:
        namespace, _, name = credential.config_key.rpartition(":")
        if (value := pulumi.Config(namespace or None).get_secret(name)) is not None:
            environment[operator_credentials.variable_of_config(credential.config_key)] = value
    return environment
