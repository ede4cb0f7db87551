"""What must be true after a rehearsal: pure, from the sandbox's `inspect` before, after the first deployment, and at the end."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

SECRET = "FLY_API_TOKEN"  # noqa: S105 - a name
FAMILY = f"molecule-cp-rotation-sandbox-{SECRET}"
APP = "molecule-cp"
REPOSITORY = "Molecule-AI/molecule-monorepo"


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


def judge(
    *, before: Mapping[str, Any], first: Mapping[str, Any], last: Mapping[str, Any], hand_made: Collection[str]
) -> list[Row]:
    """The closing table.

    Args:
        before: The sandbox before the first deployment.
        first: After generation 1.
        last: After generation 2.
        hand_made: Ids of the credentials that the program did not mint and was asked to revoke.
    """
    family = [each for each in last["credentials"] if each["family"] == FAMILY]
    live = [each["name"] for each in family if each["live"]]
    machines = last["fly"]["apps"][APP]["machines"]
    held = {f"machine {machine['id']}": machine["env_sha256"].get(SECRET) for machine in machines}
    held["Fly secret"] = last["fly"]["apps"][APP]["secrets"][SECRET]["sha256"]
    held["repository secret"] = last["github"]["repositories"][REPOSITORY]["secrets"][SECRET]["sha256"]
    minted = {each.get("sha256") for each in family if each["live"]}
    rollouts = last["fly"]["apps"][APP]["rollouts"] - first["fly"]["apps"][APP]["rollouts"]
    dead = sorted(each["name"] for each in last["credentials"] if not each["live"] and each["id"] in hand_made)
    alive = sorted(each["name"] for each in last["credentials"] if each["live"] and each["id"] in hand_made)
    return [
        Row(what=f"live credentials of {SECRET}", wanted=f"{FAMILY}-g2", found=", ".join(live) or "none"),
        Row(what="the credential of generation 1", wanted="dead", found=_state(family, f"{FAMILY}-g1")),
        Row(what="the hand-made token", wanted=f"{', '.join(dead + alive)} dead", found=f"{', '.join(dead)} dead"),
        Row(
            what="holders of the live credential",
            wanted=", ".join(sorted(held)),
            found=", ".join(sorted(holder for holder, value in held.items() if value in minted)),
        ),
        Row(what="rolling restarts for the rotation", wanted="1", found=str(rollouts)),
        Row(
            what="machines healthy",
            wanted=f"{len(machines)} of {len(machines)}",
            found=f"{sum(machine['healthy'] for machine in machines)} of {len(machines)}",
        ),
        Row(what="breakages", wanted="none", found="; ".join(each["what"] for each in last["breakages"]) or "none"),
        *_untouched(before, last),
    ]


def _state(family: Collection[Mapping[str, Any]], name: str) -> str:
    states = {"live" if each["live"] else "dead" for each in family if each["name"] == name}
    return ", ".join(sorted(states)) or "missing"


def _untouched(before: Mapping[str, Any], last: Mapping[str, Any]) -> list[Row]:
    """Secrets that the program does not manage are what they were."""
    places: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
        f"Fly secrets of {APP}": lambda world: world["fly"]["apps"][APP]["secrets"],
        f"secrets of {REPOSITORY}": lambda world: world["github"]["repositories"][REPOSITORY]["secrets"],
    }
    rows = []
    for place, secrets in places.items():
        old, new = secrets(before), secrets(last)
        names = sorted(set(old) - {SECRET})
        kept = [name for name in names if name in new and new[name]["sha256"] == old[name]["sha256"]]
        rows.append(
            Row(what=f"other {place}", wanted=f"{', '.join(names)} unchanged", found=f"{', '.join(kept)} unchanged")
        )
    return rows
