"""What the providers of `components.provider` do, given the properties of a resource as plain dicts.

A module of its own, because a preview without changes needs none of it: the engine waits until the classes are imported, and what mints and
revokes takes every client and issuer with it.
"""

import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from components import http, lifecycle, operator_credentials
from components.clock import now
from components.decommission import Order, Tenants, decommission
from components.dynamic_provider import Properties, integer
from components.errors import OperatorError
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.http import ApiError
from components.issuer import Issuer
from components.issuers import ISSUERS, ConfigLookup, Context
from components.keyring import Credential
from components.secret import Family
from components.tenants.rollout import behind

ROTATIONS_KEPT = 10  # in the timeline of a secret


def identity(props: Properties) -> str:
    """The id of a resource: what its credentials' names begin with."""
    return _family(props).prefix.removesuffix("-g")


def turn(props: Properties, olds: Properties | None, config: ConfigLookup) -> Properties:
    """The current credential of a secret: mints it, or makes one that lives current again.

    Args:
        props: The inputs.
        olds: The outputs of the last time; None for the first.
        config: Looks a key of the stack's config up.

    Returns:
        The outputs.

    Raises:
        ApiError: A provider did not do what it was asked for.
        OperatorError: What an operator has to know.
    """
    keyring = None if olds is None else [Credential.from_properties(each) for each in olds["keyring"]]
    context = Context(
        config=config,
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


def one_has_ended(olds: Properties, config: ConfigLookup) -> bool:
    """Whether an old credential that was accepted at the last update is refused now. A read, in a preview too."""
    watched = {each["credential_id"] for each in olds.get("alive") or ()}
    if not watched:
        return False
    known = tuple(Credential.from_properties(each) for each in olds["keyring"])
    try:
        issuers = _issuers(Context(config=config, keyring=known), olds, None)
        asked = [each for each in known if each.credential_id in watched and each.value]
        accepted = lifecycle.still_accepted(issuers, asked)
    except (ApiError, OperatorError):
        return False  # looked at again by the next preview or update
    return len(accepted) < len(asked)


def revoke(props: Properties, olds: Properties | None, config: ConfigLookup) -> Properties:
    """Revokes every credential of a family but the verified one. As `turn`."""
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
        tenants_behind=partial(_tenants_behind, config, props.get("tenants")),
    )
    issuers = _issuers(Context(config=config, keyring=known), props, olds)
    with http.purpose(f"revoke {order.family.secret}"):
        verdict = lifecycle.revoke_all_but(issuers, order)
    # Values are kept once more only for those that are going to be watched: every step of an update writes the whole state.
    kept = props if verdict.alive else {key: each for key, each in props.items() if key not in {"keyring", "holdings"}}
    return {
        **kept,
        "revoked": [each.name for each in verdict.revoked],
        "alive": [
            {"credential_id": each.credential_id, "lives_until": issuers[0].old_value_lives_until}
            for each in verdict.alive
        ],
        "unmanaged": [
            {"id": each.credential_id, "name": each.name, "created_at": each.created_at} for each in verdict.unmanaged
        ],
        "timeline": _timeline(props, olds, revoked=[each.name for each in verdict.revoked], alive=bool(verdict.alive)),
    }


def _tenants_behind(config: ConfigLookup, tenants: Properties | None, value: str) -> list[str]:
    """Asks Fly which machines hold another value: the state knows only those that there were at the last delivery."""
    if tenants is None:
        return []
    client = FlyClient(token=operator_credentials.find(operator_credentials.FLY, config))
    variable = tenants["variable"]
    same_server = [variable] if tenants["same_server"] else []
    found = behind(client.list_machines(tenants["app"]), {variable: value}, same_server)
    return [f"machine {machine.machine_id} of {tenants['app']}" for machine in found]


def end(props: Properties, config: ConfigLookup) -> Properties:
    """Ends a secret for good. As `turn`; what it leaves in the outputs holds no values."""
    known = tuple(Credential.from_properties(each) for each in props["keyring"])
    context = Context(config=config, keyring=known, keep_from=integer(props["keep_from"]))
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
        fly=lambda: FlyClient(token=operator_credentials.find(operator_credentials.FLY, config)),
        github=lambda: GitHubClient(token=operator_credentials.find(operator_credentials.GITHUB, config)),
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
