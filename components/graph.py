"""The graph that rotates secrets: Credential → Probe → AppSecrets → ActionsSecret → Verification → Revocation.

One component holds it all. The resources of one secret are its credential, probe, one secret per place at GitHub, verification and
revocation; each Fly app adds one resource for all its secrets, so that an app is written to and restarted once however many of them
rotate. More would cost: the engine's time grows with the square of the resources of a stack. A value that Pulumi generates adds one.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_random as random

from components import own_state
from components.clock import utc_now
from components.fly.resources import AppSecrets
from components.github.drift import wanted_ids
from components.github.resources import Queue, Written, written_secret
from components.impact import age_since
from components.keyring import Credential as KnownCredential
from components.keyring import fingerprint
from components.leaving import Leaver
from components.resources import Credential, Decommission, Revocation
from components.rotated import RUN_CHECK, Rotated
from components.secret import (
    LEAKED,
    ROUTINE,
    Check,
    FlySecret,
    GitHubSecret,
    Random,
    Secret,
    Supplied,
)
from components.settings import Settings
from components.tenants.resources import TenantEnvironments
from components.verification.check import SETTINGS_VARIABLE
from components.work import subject_of

ALL = ["*"]  # every property
# Not given: what a check is about is in its environment, so another subject updates it in place, and runs it (ADR 0013). Those that an older
# version of this program deployed have triggers in the state; without this they would run again for nothing.
TRIGGERS = ["triggers"]


class Protection(pulumi.ComponentResource):
    """What keeps a stack from being destroyed by accident (ADR 0012). The engine deletes it before all else, or refuses to.

    It depends on every other resource: the engine deletes nothing on which something depends that it may not delete. Protecting those
    themselves would do, too, but then no secret could be taken out of `rotations` any more. Its name is in the engine's refusal, which has
    to say what to do.

    Args:
        rotation: Everything else.
        protect: Whether the stack is protected. The resource is there in either case, because the engine would refuse to take it away.
    """

    def __init__(self, rotation: "Rotation", *, protect: bool) -> None:
        super().__init__(
            "molecule:rotation:Protection",
            "config-key-protect",
            opts=pulumi.ResourceOptions(depends_on=[rotation], protect=protect),
        )
        self.register_outputs({})


class Rotation(pulumi.ComponentResource):
    """All rotations of one control plane.

    Attributes:
        secrets: The stack output of that name: metadata of what verification has confirmed, no values.
    """

    secrets: dict[str, pulumi.Output[dict[str, Any]]]

    def __init__(
        self,
        settings: Settings,
        rotated: Iterable[Rotated],
        *,
        operator_environment: Mapping[str, pulumi.Output[str]],
        leaving: Iterable[Leaver] = (),
    ) -> None:
        # Children would inherit `protect`, and then nothing could be taken out of `rotations`: see `Protection`.
        super().__init__("molecule:rotation:Rotation", settings.app)
        self._settings = settings
        self._operator_environment = operator_environment
        self._writes_at_github = Queue()
        self._child = pulumi.ResourceOptions(parent=self)
        rotated = list(rotated)
        credentials = {each.secret.name: Credential(each, self._child, given=self._given(each)) for each in rotated}
        probes = {
            each.secret.name: self._check(
                f"{own_state.PROBE_PREFIX}{each.secret.name}",
                each.secret.probe,
                each.probe,
                credential=credentials[each.secret.name],
                subject=credentials[each.secret.name].turn,
                stdin=credentials[each.secret.name].value,
            )
            for each in rotated
            if each.secret.probe is not None
        }
        unset = [(each, each.secret) for each in leaving if each.decommissioned and each.secret is not None]
        holders = [*(each.secret for each in rotated), *(secret for _, secret in unset)]
        apps = {
            app: self._app(
                app,
                rotated,
                credentials,
                probes,
                unset=[secret.name for _, secret in unset if FlySecret(app=app) in secret.fly],
            )
            for app in sorted({location.app for secret in holders for location in secret.fly})
        }
        # After every Fly app: an org that is made meanwhile gets the new values from the control plane.
        tenants = {
            app: self._tenant_machines(app, rotated, credentials, after=list(apps.values()))
            for app in sorted({each.secret.tenants.app for each in rotated if each.secret.tenants})
        }
        self.secrets = {
            each.secret.name: self._verified_and_revoked(each, credentials[each.secret.name], apps, tenants)
            for each in rotated
        }
        for leaver, secret in unset:
            self._decommission(leaver, secret, apps)
        self.register_outputs({})

    def _decommission(self, leaver: Leaver, secret: Secret, apps: Mapping[str, AppSecrets]) -> None:
        """The end of a secret, after every app that held it."""
        held_by = [apps[location.app] for location in secret.fly]
        Decommission(
            leaver,
            self._settings,
            unset={
                location.app: apps[location.app].gone.apply(lambda gone: secret.name in (gone or ()))
                for location in secret.fly
            },
            options=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=held_by)),
        )

    def _verified_and_revoked(
        self,
        rotated: Rotated,
        credential: Credential,
        apps: Mapping[str, AppSecrets],
        tenants: Mapping[str, TenantEnvironments],
    ) -> pulumi.Output[dict[str, Any]]:
        """What comes after the Fly apps: repositories, verification, revocation. Returns the secret's part of the stack output."""
        secret = rotated.secret
        on_fly: dict[FlySecret, pulumi.Resource] = {location: apps[location.app] for location in secret.fly}
        holdings = {str(location): apps[location.app].held(secret.name).apply(fingerprint) for location in secret.fly}
        locations = list(on_fly.values())
        if secret.tenants is not None:
            machines = tenants[secret.tenants.app]
            holdings[str(secret.tenants)] = machines.held(secret.tenants.variable).apply(fingerprint)
            locations.append(machines)
        for place in secret.repositories:
            written = self._at_github(rotated, place, credential, after=list(on_fly.values()))
            holdings[str(place)] = written.value.apply(lambda value: fingerprint(value or ""))
            locations.append(written)
        subject = _subject(credential, holdings)
        held = rotated.held_back
        if held is not None and not held.has_verification:
            return pulumi.Output.from_input(_nothing_verified(rotated))
        verification = self._check(
            f"{own_state.VERIFICATION_PREFIX}{secret.name}",
            secret.verification,
            # Said only where there is something to say: a check that is told something new runs again.
            {
                **rotated.verification,
                **({"reason": LEAKED} if rotated.reason == LEAKED else {}),
                **({"record": rotated.record} if rotated.record else {}),
            },
            credential=credential,
            subject=subject,
            stdin=credential.value if secret.verification.takes_value else None,
            after=locations,
            unchanged=held is not None,
        )
        if held is not None and not held.has_revocation:
            return pulumi.Output.from_input(_nothing_verified(rotated))
        report: pulumi.Output[dict[str, Any]] = pulumi.Output.unsecret(verification.stdout).apply(json.loads)
        revocation = Revocation(
            rotated,
            credential,
            report=report,
            subject=subject,
            holdings=holdings,
            delivered_at=_delivered_at(secret, apps),
            proof_timeout=self._settings.revocation_timeout,
            options=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(depends_on=[verification], ignore_changes=ALL if held is not None else None),
            ),
        )
        return _metadata(rotated, revocation, report)

    def _given(self, rotated: Rotated) -> pulumi.Output[str] | None:
        """The value of a generation that no provider mints."""
        source = rotated.secret.source
        if isinstance(source, Supplied):
            return pulumi.Output.secret(rotated.supplied)
        if isinstance(source, Random):
            generated = random.RandomBytes(
                f"generated-{rotated.secret.name}",
                length=source.length,
                keepers={"generation": str(rotated.generation)},
                opts=self._child,
            )
            return pulumi.Output.secret(generated.hex if source.encoding == "hex" else generated.base64)
        return None

    def _app(
        self,
        app: str,
        rotated: Iterable[Rotated],
        credentials: Mapping[str, Credential],
        probes: Mapping[str, command.local.Command],
        *,
        unset: list[str],
    ) -> AppSecrets:
        held = [each for each in rotated if FlySecret(app=app) in each.secret.fly]
        names = [each.secret.name for each in held]
        after = pulumi.ResourceOptions(depends_on=[probes[name] for name in names if name in probes])
        return AppSecrets(
            app,
            {name: credentials[name].value for name in names},
            self._settings,
            pulumi.ResourceOptions.merge(self._child, after),
            rows={
                each.secret.name: {
                    "settings": dict(each.secret.rows.settings),
                    "keys_before": _keys_before(credentials[each.secret.name], each.progress.verified),
                }
                for each in held
                if each.secret.rows is not None
            },
            without_way_back=[each.secret.name for each in held if not each.secret.overlaps],
            unset=unset,
        )

    def _tenant_machines(
        self,
        app: str,
        rotated: Iterable[Rotated],
        credentials: Mapping[str, Credential],
        *,
        after: list[pulumi.Resource],
    ) -> TenantEnvironments:
        secrets = [each.secret for each in rotated]
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

    def _at_github(
        self, rotated: Rotated, place: GitHubSecret, credential: Credential, *, after: list[pulumi.Resource]
    ) -> Written:
        return written_secret(
            place,
            rotated.secret.name,
            credential.value,
            again=rotated.times_written_again(place),
            selected=wanted_ids(place, rotated.repository_ids),
            old_credential=rotated.old_credential,
            queue=self._writes_at_github,
            # Kept when it is no longer managed: a repository whose secret vanished could not publish any more. And when it is written once
            # more under another name (ADR 0010), the name before goes, and must not take the secret with it.
            options=pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(depends_on=after, retain_on_delete=True)
            ),
        )

    def _check(
        self,
        name: str,
        check: Check,
        told: Mapping[str, object],
        *,
        credential: Credential,
        subject: pulumi.Output[str],
        stdin: pulumi.Output[str] | None = None,
        after: list[pulumi.Resource] | None = None,
        unchanged: bool = False,
    ) -> command.local.Command:
        """A check that runs once for every subject, and again whenever it has failed. `unchanged`: it stays as it is in the state."""
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
            # The report of the last success: a verification can tell whether this generation has been verified before.
            add_previous_output_in_env=True,
            # Checks print no secret values; what they print is the operator's only sign of life for minutes.
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(
                    depends_on=after or [],
                    additional_secret_outputs=["stdout", "stderr"],
                    ignore_changes=ALL if unchanged else TRIGGERS,
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


def _subject(credential: Credential, holdings: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[str]:
    """What a verification is about: this turn of the credential, held by these locations.

    It triggers the verification, which repeats it in its report; the revocation compares. So a verification that ran while a location
    still held another value (`--target`) counts for nothing.
    """
    known = pulumi.Output.all(salt=credential.salt, turn=credential.turn, holdings=holdings)
    return pulumi.Output.unsecret(known.apply(lambda values: subject_of(**values)))


def _delivered_at(secret: Secret, apps: Mapping[str, AppSecrets]) -> pulumi.Output[str]:
    """When the last Fly app got its present value, RFC 3339; "" where the state does not say."""
    times = [apps[location.app].delivered_at for location in secret.fly]
    return pulumi.Output.all(*times).apply(
        lambda known: max(((each or {}).get(secret.name, "") for each in known), default="")
    )


def _metadata(
    rotated: Rotated, revocation: Revocation, report: pulumi.Output[dict[str, Any]]
) -> pulumi.Output[dict[str, Any]]:
    return pulumi.Output.all(
        generation=revocation.generation,
        credential_id=revocation.credential_id,
        verified_at=revocation.verified_at,
        alive=revocation.alive,
        unmanaged=revocation.unmanaged,
        timeline=revocation.timeline,
        report=report,
    ).apply(lambda values: _described(rotated, values))


def _described(rotated: Rotated, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the stack output `secrets` says of a secret."""
    # Numbers arrive as floats.
    timeline = [{**each, "generation": int(each["generation"])} for each in values["timeline"] or ()]
    newest = timeline[0] if timeline else {}
    values, report = {key: each for key, each in values.items() if key != "report"}, values.get("report") or {}
    # Not of a verification that nothing has been revoked for yet (`--target`).
    record = report.get("record") or {} if report.get("verified_at") == values["verified_at"] else {}
    minted_at = newest.get("minted_at") or rotated.progress.minted_at
    age = age_since(minted_at, max_age_days=rotated.max_age_days, now=utc_now())
    return {
        **values,
        "generation": int(values["generation"]),
        "minted_at": age.minted_at,
        "rotate_by": age.rotate_by,
        "overdue": age.overdue,
        "reason": newest.get("reason", ROUTINE),
        "timeline": timeline,
        "locations": [str(each) for each in rotated.secret.locations],
        "consumers": [each.consumer for each in rotated.secret.locations],
        "staged": rotated.generation if rotated.held_back is not None else None,
        # Left out where an older version of this program has verified: a new key alone would show up as a change.
        **{key: record[key] for key in ("verified_with", "promotion") if key in record},
    }


def _nothing_verified(rotated: Rotated) -> dict[str, Any]:
    """The same where the first generation is only staged."""
    nothing = {"generation": 0, "credential_id": "", "verified_at": "", "alive": [], "unmanaged": [], "timeline": []}
    return _described(rotated, nothing)
