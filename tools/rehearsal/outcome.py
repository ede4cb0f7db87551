"""What must be true after a rehearsal: pure, from the sandbox's `inspect` before, after the first deployment, and at the end."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

APP = "molecule-cp"
TENANT_APP = "molecule-tenant"
TENANT_VARIABLES = {"TENANT_REDIS_URL": "REDIS_URL", "SECRETS_ENCRYPTION_KEY": "SECRETS_ENCRYPTION_KEY"}
REPOSITORY = "Molecule-AI/molecule-monorepo"
World = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the closing table."""

    what: str
    wanted: str
    found: str

    @property
    def held(self) -> bool:
        """Whether it is as it should be."""
        return self.wanted == self.found


def hand_made(before: World, secret: str) -> list[str]:
    """The ids of the credentials that the control plane held before the program came."""
    held = before["fly"]["apps"][APP]["secrets"][secret]["sha256"]
    return [each["id"] for each in before["credentials"] if each["sha256"] == held]


def judge(
    *,
    before: World,
    first: World,
    last: World,
    secrets: Collection[str],
    data_plane: Collection[str],
    in_repository: Collection[str],
    handed_in: Mapping[str, str],
) -> list[Row]:
    """The closing table.

    Args:
        before: The sandbox before the first deployment.
        first: After generation 1.
        last: After generation 2.
        secrets: Those that were rotated.
        data_plane: Those of which the real servers are asked, and of which tenants may hold a copy.
        in_repository: Those of them that the repository holds too.
        handed_in: Of those of them that no API mints, the SHA-256 of the value of generation 2.
    """
    machines = last["fly"]["apps"][APP]["machines"]
    rollouts = last["fly"]["apps"][APP]["rollouts"] - first["fly"]["apps"][APP]["rollouts"]
    return [
        *(
            row
            for secret in secrets
            if secret not in handed_in
            for row in _of_one(before, last, secret, in_repository=secret in in_repository)
        ),
        *(_holders(last, secret, {value}, in_repository=False) for secret, value in handed_in.items()),
        *(_holders(last, secret, {_at_fly(last, secret)}, in_repository=False) for secret in data_plane),
        *(_tenants(last, secret, variable) for secret, variable in TENANT_VARIABLES.items()),
        *_stripe(last),
        Row(
            what=f"rolling restarts for all {len(secrets) + len(data_plane)} rotations", wanted="1", found=str(rollouts)
        ),
        Row(
            what="machines healthy",
            wanted=f"{len(machines)} of {len(machines)}",
            found=f"{sum(machine['healthy'] for machine in machines)} of {len(machines)}",
        ),
        Row(what="breakages", wanted="none", found="; ".join(each["what"] for each in last["breakages"]) or "none"),
        *_untouched(before, last, {*secrets, *data_plane}),
    ]


def _of_one(before: World, last: World, secret: str, *, in_repository: bool) -> Iterable[Row]:
    family = [each for each in last["credentials"] if each["family"] == f"{APP}-rotation-sandbox-{secret}"]
    live = [each for each in family if each["live"]]
    old = [
        *_states(family, lambda each: each["name"].endswith("-g1")),
        *_states(last["credentials"], lambda each: each["id"] in hand_made(before, secret)),
    ]
    yield Row(
        what=f"{secret}: live",
        wanted="generation 2",
        found=", ".join(f"generation {_generation(each)}" for each in live),
    )
    yield Row(what=f"{secret}: generation 1, hand-made", wanted="dead, dead", found=", ".join(old))
    yield _holders(last, secret, {each["sha256"] for each in live}, in_repository=in_repository)


def _holders(last: World, secret: str, values: Collection[str], *, in_repository: bool) -> Row:
    """Who holds one of these values, which are SHA-256."""
    app = last["fly"]["apps"][APP]
    held = {f"machine {machine['id']}": machine["env_sha256"].get(secret) for machine in app["machines"]}
    held["Fly"] = app["secrets"][secret]["sha256"]
    if in_repository:
        held["GitHub"] = last["github"]["repositories"][REPOSITORY]["secrets"][secret]["sha256"]
    holders = sorted(place for place, value in held.items() if value in values)
    return Row(what=f"{secret}: holders of generation 2", wanted=", ".join(sorted(held)), found=", ".join(holders))


def _at_fly(last: World, secret: str) -> str:
    return str(last["fly"]["apps"][APP]["secrets"][secret]["sha256"])


def _tenants(last: World, secret: str, variable: str) -> Row:
    """How many of the tenants' machines hold what the control plane hands to new ones."""
    machines = last["fly"]["apps"][TENANT_APP]["machines"]
    held = sum(machine["env_sha256"].get(variable) == _at_fly(last, secret) for machine in machines)
    count = len(machines)
    return Row(what=f"{secret}: tenants that hold it", wanted=f"{count} of {count}", found=f"{held} of {count}")


def _stripe(last: World) -> Iterable[Row]:
    """Stripe's own word on the keys that were rolled, and on the events of the whole rehearsal."""
    keys = [each for each in last["credentials"] if each["family"] == "molecule-cp secret key"]
    states = ["live" if each["live"] else "dead" for each in keys]
    yield Row(what="STRIPE_API_KEY: as Stripe says", wanted="dead, dead, live", found=", ".join(states))
    stripe = last["stripe"]
    accepted = sum(event["accepted"] for event in stripe["events"])
    yield Row(what="Stripe events accepted", wanted=f"{len(stripe['events'])}", found=f"{accepted}")
    yield Row(what="Stripe events lost", wanted="0", found=str(stripe["lost"]))


def _generation(credential: Mapping[str, Any]) -> str:
    return str(credential["name"]).rpartition("-g")[2]


def _states(credentials: Iterable[Mapping[str, Any]], which: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    return ["live" if each["live"] else "dead" for each in credentials if which(each)] or ["missing"]


def _untouched(before: World, last: World, rotated: Collection[str]) -> list[Row]:
    """Secrets that the program does not manage are what they were."""
    places: dict[str, Callable[[World], Mapping[str, Any]]] = {
        "Fly": lambda world: world["fly"]["apps"][APP]["secrets"],
        "GitHub": lambda world: world["github"]["repositories"][REPOSITORY]["secrets"],
    }
    rows = []
    for place, secrets in places.items():
        old, new = secrets(before), secrets(last)
        names = sorted(set(old) - set(rotated))
        kept = [name for name in names if name in new and new[name]["sha256"] == old[name]["sha256"]]
        rows.append(Row(what=f"not managed at {place}, unchanged", wanted=", ".join(names), found=", ".join(kept)))
    return rows
