"""The graph that rotates secrets: Credential → Probe → AppSecrets → ActionsSecret → Verification → Revocation.

One component holds it all. The resources of one secret are its credential, probe, one Actions secret per repository, verification and
revocation; each Fly app adds one resource for all its secrets, so that an app is written to and restarted once however many of them
rotate. More would cost: the engine's time grows with the square of the resources of a stack.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pulumi
import pulumi_command as command
import pulumi_github as github

from components import operator_credentials, own_state, preflight
from components import settings as configuration
from components.errors import RefusedError
from components.fly.resources import AppSecrets
from components.issuers import LONGEST_NAMES
from components.keyring import fingerprint
from components.resources import Credential, Revocation
from components.secret import Check, Family, FlySecret, RepositorySecret, Secret
from components.settings import Settings
from components.verification.check import SETTINGS_VARIABLE

Result = TypeVar("Result")

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
        unmanaged_to_revoke: Mapping[str, list[str]],
        operator_environment: Mapping[str, pulumi.Output[str]],
    ) -> None:
        super().__init__("molecule:rotation:Rotation", settings.app)
        self._settings = settings
        self._operator_environment = operator_environment
        self._child = pulumi.ResourceOptions(parent=self)
        rotated = [secret for secret in secrets if secret.name in generations]
        families = {
            secret.name: Family(
                app=settings.app,
                stack=pulumi.get_stack(),
                secret=secret.name,
                longest_name=LONGEST_NAMES[secret.issuer.kind],
            )
            for secret in rotated
        }
        credentials = {
            secret.name: Credential(secret, families[secret.name], generations[secret.name], self._child)
            for secret in rotated
        }
        probes = {
            secret.name: self._check(
                f"probe-{secret.name}",
                secret.probe,
                generations[secret.name],
                credential=credentials[secret.name],
                subject=credentials[secret.name].turn,
                state_if_failed="nothing was delivered; every old credential is still alive.",
                stdin=credentials[secret.name].value,
            )
            for secret in rotated
        }
        apps = {
            app: self._app(app, rotated, credentials, probes)
            for app in sorted({location.app for secret in rotated for location in secret.fly})
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
            for repository in secret.repositories:
                actions_secret = self._actions_secret(secret, repository, credential, after=list(on_fly.values()))
                holdings[str(repository)] = actions_secret.value.apply(lambda value: fingerprint(value or ""))
                locations.append(actions_secret)
            subject = _subject(credential, holdings)
            verification = self._check(
                f"{own_state.VERIFICATION_PREFIX}{secret.name}",
                secret.verification,
                generation,
                credential=credential,
                subject=subject,
                state_if_failed="the new value is delivered, every old credential is still alive and nothing was revoked.",
                stdin=credential.value if secret.verification.takes_value else None,
                after=locations,
            )
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
                options=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=[verification])),
            )
            self.secrets[secret.name] = _metadata(secret, revocation)
        self.register_outputs({})

    def _app(
        self,
        app: str,
        secrets: Iterable[Secret],
        credentials: Mapping[str, Credential],
        probes: Mapping[str, command.local.Command],
    ) -> AppSecrets:
        names = [secret.name for secret in secrets if FlySecret(app=app) in secret.fly]
        after = pulumi.ResourceOptions(depends_on=[probes[name] for name in names])
        values = {name: credentials[name].value for name in names}
        return AppSecrets(app, values, self._settings, pulumi.ResourceOptions.merge(self._child, after))

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
        check: Check,
        generation: int,
        *,
        credential: Credential,
        subject: pulumi.Output[str],
        state_if_failed: str,
        stdin: pulumi.Output[str] | None = None,
        after: list[pulumi.Resource] | None = None,
    ) -> command.local.Command:
        """A check that runs once for every subject, and again whenever it has failed."""
        told = {"generation": generation, "settings": dict(check.settings), "state_if_failed": state_if_failed}
        about = pulumi.Output.all(subject=subject, credential_id=credential.credential_id)
        return command.local.Command(
            name,
            create=RUN_CHECK + check.module,
            environment={
                SETTINGS_VARIABLE: about.apply(lambda values: json.dumps({**told, **values}, sort_keys=True)),
                **self._operator_environment,
            },
            stdin=stdin,
            triggers=[subject],
            add_previous_output_in_env=False,
            # Checks print no secret values; what they print is the operator's only sign of life for minutes.
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(depends_on=after or [], additional_secret_outputs=["stdout", "stderr"]),
            ),
        )


def _subject(credential: Credential, holdings: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[str]:
    """What a verification is about: this turn of the credential, held by these locations.

    It triggers the verification, which repeats it in its report; the revocation compares. So a verification that ran while a location
    still held another value (`--target`) counts for nothing. A hash of hashes of values of at least 128 random bits, hence no secret.
    """
    parts = [credential.turn, *(holdings[location] for location in sorted(holdings))]
    return pulumi.Output.unsecret(pulumi.Output.all(*parts).apply(lambda values: fingerprint("\n".join(values))))


def _metadata(secret: Secret, revocation: Revocation) -> pulumi.Output[dict[str, Any]]:
    return pulumi.Output.all(
        generation=revocation.generation,
        credential_id=revocation.credential_id,
        verified_at=revocation.verified_at,
        unmanaged=revocation.unmanaged,
    ).apply(
        lambda values: {
            **values,
            "generation": int(values["generation"]),
            "locations": [str(each) for each in secret.locations],
        }
    )


def load_settings() -> Settings:
    """The stack's settings. Ends the program with what is wrong where something is."""
    return _refusing(lambda: configuration.load(pulumi.Config().get, owner=pulumi.Config("github").get("owner")))


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
    pending = [
        secret
        for secret in secrets
        if secret.name in generations
        and progress.get(secret.name, configuration.Progress()).verified != generations[secret.name]
    ]
    if pending:
        _refusing(
            lambda: preflight.check(
                pending,
                also=also,
                control_plane_url=settings.control_plane_url,
                tenant_app=settings.tenant_app,
                config=_config_value,
            )
        )
    rotation = Rotation(
        settings,
        secrets,
        generations=generations,
        unmanaged_to_revoke=also,
        operator_environment=_operator_environment(),
    )
    pulumi.export("secrets", rotation.secrets)


def _refusing(read: Callable[[], Result]) -> Result:
    """Turns a refusal into the engine's own error, which is shown without a traceback."""
    try:
        return read()
    except RefusedError as error:
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
