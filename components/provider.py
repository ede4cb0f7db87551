"""The dynamic providers: thin, one function call each.

The dotted names of this module and its classes are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.
Providers have no attributes: they would be pickled into the state.

| event | Credential | FlyAppSecrets | Revocation |
|---|---|---|---|
| create | mints | writes, rolls out | revokes all but the verified one |
| counter bumped | update: mints, keeps what lives | update: writes, rolls out, or rolls back | update: the same |
| counter back to the verified generation | update: makes it current again | update: brings its value back | update: revokes the newer one |
| value changed by hand | nothing | update: writes again | nothing |
| delete | nothing | nothing: the app keeps its secrets | nothing |
"""

import sys
from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import ConfigureRequest, CreateResult, DiffResult, ReadResult, ResourceProvider, UpdateResult
from pulumi.output import Unknown

from components import lifecycle, operator_credentials
from components.fly.client import FlyClient
from components.fly.rollout import Delivery, Rollout, RolloutPolicy
from components.issuers import ISSUERS, Issuer
from components.keyring import Credential
from components.secret import Family

Properties = dict[str, Any]


class _Provider(ResourceProvider):
    """What all three share: the stack's config, and a delete that touches nothing."""

    # The provider has no captured secrets; marked as one, it would show as a change whenever a class is moved.
    serialize_as_secret_always = False
    _config: Any = None

    def configure(self, req: ConfigureRequest) -> None:
        self._config = req.config

    def config(self, key: str) -> str | None:
        """A key of the stack's config, as it was at the last update (see `operator_credentials`)."""
        value = self._config.get(key) if self._config is not None else None
        return None if value is None else str(value)

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, props)

    def delete(self, _id: str, _props: Properties) -> None:
        """Nothing: a credential dies by `Revocation` alone, and an app keeps the secrets that it runs with."""


def _family(properties: Mapping[str, Any]) -> Family:
    family = properties["family"]
    return Family(app=family["app"], stack=family["stack"], secret=family["secret"])


def _integer(value: object) -> int:
    """Numbers arrive as floats."""
    return int(float(str(value)))


def _same(old: object, new: object) -> bool:
    """Whether a property is unchanged. A value that a preview does not know yet counts as changed."""
    return not isinstance(new, Unknown) and old == new


class CredentialProvider(_Provider):
    """The current credential of a secret, with the keyring of those that live beside it."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(_family(props).prefix.removesuffix("-g"), self._turn(props, keyring=None, turns=0))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=not _same(_olds.get("generation"), _news.get("generation")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        keyring = [Credential.from_properties(each) for each in _olds.get("keyring") or []]
        return UpdateResult(self._turn(_news, keyring=keyring, turns=_integer(_olds["turn"])))

    def _turn(self, props: Properties, *, keyring: list[Credential] | None, turns: int) -> Properties:
        issuer = _issuer(self, props)
        current, known = lifecycle.make_current(issuer, _family(props), _integer(props["generation"]), keyring=keyring)
        return {
            **props,
            # Another one at every change of the counter, also back to an earlier generation: what probe and verification are triggered by.
            "turn": str(turns + 1),
            "credential_id": current.credential_id,
            "created_at": current.created_at,
            "value": current.value,
            "keyring": [each.properties() for each in known],
        }


class FlyAppSecretsProvider(_Provider):
    """The managed secrets of one Fly app: one write and one rolling restart, however many change."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(props["app"], self._deliver(props, olds={}, changed=_values(props)))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=bool(self._changed(_olds, _news)) or _olds["names"] != _news["names"])

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        changed = self._changed(_olds, _news)
        return UpdateResult(self._deliver(_news, olds=_olds, changed={name: _news[name] for name in changed}))

    def _changed(self, olds: Properties, news: Properties) -> list[str]:
        """The managed secrets whose value is another one, or that somebody overwrote at Fly since our last write."""
        changed = [name for name in news["names"] if not _same(olds.get(name), news[name])]
        if len(changed) == len(news["names"]):
            return changed
        listed = self._client().list_secrets(news["app"])
        written = olds.get("digests") or {}
        drifted = [name for name in news["names"] if name not in listed or listed[name].digest != written.get(name)]
        return sorted({*changed, *drifted})

    def _deliver(self, props: Properties, *, olds: Properties, changed: Mapping[str, str]) -> Properties:
        previous = _values(olds) if olds else {}
        finished = _integer(olds.get("version") or 0)
        delivery = Delivery(version=finished, digests={}, machines=())
        if changed:
            rollout = Rollout(self._client(), props["app"], _policy(props["policy"]), report=_report)
            delivery = rollout.deliver(changed, previous=previous, finished_version=finished)
        return {
            **props,
            "version": str(delivery.version),
            "digests": {name: {**(olds.get("digests") or {}), **delivery.digests}[name] for name in props["names"]},
        }

    def _client(self) -> FlyClient:
        return FlyClient(token=operator_credentials.find(operator_credentials.FLY, self.config))


class RevocationProvider(_Provider):
    """The death of every credential of a family but the verified one."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(_family(props).prefix.removesuffix("-g"), self._revoke(props))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        # Not holdings and subject: they say whether it may run, not whether it has to. `verified_at` changes with every verification.
        compared = ("credential_id", "verified_at", "also")
        return DiffResult(changes=not all(_same(_olds.get(key), _news.get(key)) for key in compared))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._revoke(_news))

    def _revoke(self, props: Properties) -> Properties:
        known = tuple(Credential.from_properties(each) for each in props["keyring"])
        order = lifecycle.RevocationOrder(
            family=_family(props),
            verified=next(each for each in known if each.credential_id == props["credential_id"]),
            holdings=props["holdings"],
            subject=props["subject"],
            verified_subject=props["verified_subject"],
            known=known,
            also=tuple(props["also"]),
            proof_timeout=float(props["proof_timeout"]),
        )
        verdict = lifecycle.revoke_all_but(_issuer(self, props), order)
        return {
            **props,
            "revoked": [each.name for each in verdict.revoked],
            "unmanaged": [
                {"id": each.credential_id, "name": each.name, "created_at": each.created_at}
                for each in verdict.unmanaged
            ],
        }


def _report(line: str) -> None:
    """The engine shows what a plugin writes to its standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _issuer(provider: _Provider, props: Properties) -> Issuer:
    return ISSUERS[props["issuer"]["kind"]](props["issuer"]["settings"], provider.config)


def _values(props: Properties) -> dict[str, str]:
    return {name: props[name] for name in props["names"]}


def _policy(policy: Mapping[str, Any]) -> RolloutPolicy:
    return RolloutPolicy(
        max_unavailable=float(policy["max_unavailable"]), health_timeout=float(policy["health_timeout"])
    )
