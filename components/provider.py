"""The dynamic providers of what is minted: thin, one function call each.

The dotted names of this module and its classes are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | Credential | Revocation | Decommission |
|---|---|---|---|
| create | mints | revokes all but the verified one | unsets it at GitHub, revokes all |
| counter bumped | update: mints, keeps what lives | update: the same | |
| counter back to the verified generation | update: makes it current again | update: revokes the newer one | |
| an old credential that only its provider can end has ended | nothing | update: takes note | nothing |
| managed again, and decommissioned again before it was forgotten | | | update: as create |
| delete | nothing | nothing | nothing |
"""

import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components import http, lifecycle, operator_credentials
from components.clock import now
from components.decommission import Order, Tenants, decommission
from components.dynamic_provider import Properties, Provider, integer, same
from components.errors import OperatorError
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.http import ApiError
from components.issuer import Issuer
from components.issuers import ISSUERS, Context
from components.keyring import Credential
from components.secret import Family
from components.tenants.rollout import behind

ROTATIONS_KEPT = 10  # in the timeline of a secret


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
        context = Context(
            config=self.config,
            given=str(props.get("given") or ""),
            keyring=tuple(keyring or ()),
            keep_from=integer(props.get("keep_from") or 0),
        )
        family = _family(props)
        with http.purpose(f"mint {family.secret}"):
            current, known = lifecycle.make_current(
                _issuers(context, props, olds),
                family,
                integer(props["generation"]),
                keyring=keyring,
                keep_from=context.keep_from,
            )
        turns = 0 if olds is None else integer(olds["turn"])
        return {
            **props,
            "salt": secrets.token_hex(16) if olds is None else olds["salt"],
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
        changed = not all(same(_olds.get(key), _news.get(key)) for key in compared)
        return DiffResult(changes=changed or self._one_has_ended(_olds))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._revoke(_news, olds=_olds))

    def _one_has_ended(self, olds: Properties) -> bool:
        """Whether an old credential that was accepted at the last update is refused now. A read, in a preview too."""
        watched = {each["credential_id"] for each in olds.get("alive") or ()}
        if not watched:
            return False
        known = tuple(Credential.from_properties(each) for each in olds["keyring"])
        try:
            issuers = _issuers(Context(config=self.config, keyring=known), olds, None)
            asked = [each for each in known if each.credential_id in watched and each.value]
            accepted = lifecycle.still_accepted(issuers, asked)
        except (ApiError, OperatorError):
            return False  # looked at again by the next preview or update
        return len(accepted) < len(asked)

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
            tenants_behind=partial(self._tenants_behind, props.get("tenants")),
        )
        issuers = _issuers(Context(config=self.config, keyring=known), props, olds)
        with http.purpose(f"revoke {order.family.secret}"):
            verdict = lifecycle.revoke_all_but(issuers, order)
        return {
            **props,
            "revoked": [each.name for each in verdict.revoked],
            "alive": [
                {"credential_id": each.credential_id, "lives_until": issuers[0].old_value_lives_until}
                for each in verdict.alive
            ],
            "unmanaged": [
                {"id": each.credential_id, "name": each.name, "created_at": each.created_at}
                for each in verdict.unmanaged
            ],
            "timeline": _timeline(
                props, olds, revoked=[each.name for each in verdict.revoked], alive=bool(verdict.alive)
            ),
        }

    def _tenants_behind(self, tenants: Properties | None, value: str) -> list[str]:
        """Asks Fly which machines hold another value: the state knows only those that there were at the last delivery."""
        if tenants is None:
            return []
        client = FlyClient(token=operator_credentials.find(operator_credentials.FLY, self.config))
        variable = tenants["variable"]
        same_server = [variable] if tenants["same_server"] else []
        found = behind(client.list_machines(tenants["app"]), {variable: value}, same_server)
        return [f"machine {machine.machine_id} of {tenants['app']}" for machine in found]


class DecommissionProvider(Provider):
    """The end of a secret. What it leaves in the outputs holds no values."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(_family(props).prefix.removesuffix("-g"), self._decommission(props))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=not same(_olds.get("about"), _news.get("about")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._decommission(_news))

    def _decommission(self, props: Properties) -> Properties:
        known = tuple(Credential.from_properties(each) for each in props["keyring"])
        context = Context(config=self.config, keyring=known, keep_from=integer(props["keep_from"]))
        tenants = props.get("tenants")
        outcome = decommission(
            [ISSUERS[each["kind"]].build(each["settings"], context) for each in props["issuers"]],
            Order(
                family=_family(props),
                apps=props["apps"],
                repositories=tuple(props["repositories"]),
                places=tuple(props.get("places") or ()),
                tenants=Tenants(app=tenants["app"], variable=tenants["variable"]) if tenants else None,
                known=known,
                proof_timeout=float(props["proof_timeout"]),
                ci_timeout=None if props.get("ci_timeout") is None else float(props["ci_timeout"]),
            ),
            fly=lambda: FlyClient(token=operator_credentials.find(operator_credentials.FLY, self.config)),
            github=lambda: GitHubClient(token=operator_credentials.find(operator_credentials.GITHUB, self.config)),
            report=_report,
        )
        return {
            "family": props["family"],
            "about": props["about"],
            "revoked": [each.name for each in outcome.revoked],
            "alive": [each.name for each in outcome.alive],
        }


def _report(line: str) -> None:
    """The engine shows what a plugin writes to its standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _timeline(
    props: Properties, olds: Properties | None, *, revoked: Sequence[str], alive: bool
) -> list[dict[str, Any]]:
    """The last rotations, newest first. A revocation that goes on with the rotation before adds to it."""
    known = list((olds or {}).get("timeline") or ())
    generation, minted_at = integer(props["generation"]), props["minted_at"]
    begun = bool(known) and (integer(known[0]["generation"]), known[0]["minted_at"]) == (generation, minted_at)
    first = (
        known.pop(0)
        if begun
        else {
            "generation": generation,
            "reason": props["reason"],
            **({"override": props["override"]} if props.get("override") else {}),
            "minted_at": minted_at,
            "delivered_at": props.get("delivered_at") or "",
            "verified_at": props["verified_at"],
            "revoked_at": "",
            "revoked": [],
        }
    )
    # One that is proven dead once more, because something was verified again, did not die now.
    newly = [each for each in revoked if each not in first["revoked"]]
    revoked_at = now() if newly and not alive else first["revoked_at"]
    return [{**first, "revoked_at": revoked_at, "revoked": [*first["revoked"], *newly]}, *known][:ROTATIONS_KEPT]


def _family(properties: Mapping[str, Any]) -> Family:
    family = properties["family"]
    issuer = properties.get("issuer") or properties["issuers"][0]
    longest_name = ISSUERS[issuer["kind"]].longest_name
    return Family(app=family["app"], stack=family["stack"], secret=family["secret"], longest_name=longest_name)


def _issuers(context: Context, props: Properties, olds: Properties | None) -> list[Issuer]:
    """The issuer, and the one of before where its settings have changed: credentials of the family may be left there."""
    described = [props["issuer"]]
    if olds is not None and olds["issuer"] != props["issuer"]:
        described.append(olds["issuer"])
    return [ISSUERS[each["kind"]].build(each["settings"], context) for each in described]
