"""The dynamic providers of what is minted: thin, one function call each.

The dotted names of this module and its classes are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | Credential | Revocation |
|---|---|---|
| create | mints | revokes all but the verified one |
| counter bumped | update: mints, keeps what lives | update: the same |
| counter back to the verified generation | update: makes it current again | update: revokes the newer one |
| delete | nothing | nothing |
"""

from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components import lifecycle
from components.dynamic_provider import Properties, Provider, integer, same
from components.issuers import ISSUERS, LONGEST_NAMES, Issuer
from components.keyring import Credential
from components.secret import Family


class CredentialProvider(Provider):
    """The current credential of a secret, with the keyring of those that live beside it."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(_family(props).prefix.removesuffix("-g"), self._turn(props, olds=None))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=not same(_olds.get("generation"), _news.get("generation")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._turn(_news, olds=_olds))

    def _turn(self, props: Properties, *, olds: Properties | None) -> Properties:
        keyring = None if olds is None else [Credential.from_properties(each) for each in olds["keyring"]]
        current, known = lifecycle.make_current(
            _issuers(self, props, olds), _family(props), integer(props["generation"]), keyring=keyring
        )
        turns = 0 if olds is None else integer(olds["turn"])
        return {
            **props,
            # Another one at every change of the counter, also back to an earlier generation: what probe and verification are triggered by.
            "turn": str(turns + 1),
            "credential_id": current.credential_id,
            "created_at": current.created_at,
            "value": current.value,
            "keyring": [each.properties() for each in known],
        }


class RevocationProvider(Provider):
    """The death of every credential of a family but the verified one."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(_family(props).prefix.removesuffix("-g"), self._revoke(props, olds=None))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        # Not holdings and subject: they say whether it may run, not whether it has to. `verified_at` changes with every verification.
        compared = ("credential_id", "verified_at", "also")
        return DiffResult(changes=not all(same(_olds.get(key), _news.get(key)) for key in compared))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._revoke(_news, olds=_olds))

    def _revoke(self, props: Properties, *, olds: Properties | None) -> Properties:
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
        verdict = lifecycle.revoke_all_but(_issuers(self, props, olds), order)
        return {
            **props,
            "revoked": [each.name for each in verdict.revoked],
            "unmanaged": [
                {"id": each.credential_id, "name": each.name, "created_at": each.created_at}
                for each in verdict.unmanaged
            ],
        }


def _family(properties: Mapping[str, Any]) -> Family:
    family = properties["family"]
    longest_name = LONGEST_NAMES[properties["issuer"]["kind"]]
    return Family(app=family["app"], stack=family["stack"], secret=family["secret"], longest_name=longest_name)


def _issuers(provider: Provider, props: Properties, olds: Properties | None) -> list[Issuer]:
    """The issuer, and the one of before where its settings have changed: credentials of the family may be left there."""
    described = [props["issuer"]]
    if olds is not None and olds["issuer"] != props["issuer"]:
        described.append(olds["issuer"])
    return [ISSUERS[each["kind"]](each["settings"], provider.config) for each in described]
