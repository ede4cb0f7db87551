"""The longest chain of waiting that no rotation can do without, computed from the requests that a sandbox has recorded. Pure.

Mint → write → restart of each batch → (tenants, repository) → verification → revocation. An app is written to once all of its secrets are
minted, and no app waits for another one. Whatever else an update does (the engine, plugins,
probes, reads before the first write, the polls between a machine's being healthy and somebody's noticing it) is not in it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Requests = Sequence[Mapping[str, Any]]
PACE = "GitHub's pace"
READS = frozenset({"GET", "HEAD"})
UPDATE = "/v1/apps/{app}/machines/{machine}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One link of the chain.

    Attributes:
        what: For people.
        seconds: How long it took.
    """

    what: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The chain of the secret that takes longest.

    Attributes:
        secret: Which one.
        steps: In order.
    """

    secret: str
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        """How long all of it takes."""
        return sum(step.seconds for step in self.steps)

    @property
    def paced(self) -> float:
        """How much of that is GitHub's pace."""
        return sum(step.seconds for step in self.steps if step.what == PACE)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Machines that were restarted together.

    Attributes:
        machines: Their ids.
        began: The update of the first of them.
        ended: When all of them were healthy.
    """

    machines: tuple[str, ...]
    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began).total_seconds()


def critical_path(
    requests: Requests,
    *,
    secrets: Iterable[str],
    app: Mapping[str, str],
    tenant_app: str,
    healthy_since: Mapping[str, datetime],
    held_by_tenants: Collection[str],
    in_repository: Collection[str],
    pace: float = 0.0,
) -> Chain:
    """The longest of the secrets' chains.

    Args:
        requests: Of one update, as `python -m sandbox requests` prints them.
        secrets: Those that it rotated.
        app: For every secret, the app that holds it.
        tenant_app: That of the tenants.
        healthy_since: For every machine, when it became healthy after its restart.
        held_by_tenants: Secrets that tenants' machines hold.
        in_repository: Secrets that a repository holds.
        pace: Seconds that GitHub asks to leave after a write: every repository but the first waits for those before it.
    """
    secrets = list(secrets)
    tenants = _batches(requests, tenant_app, healthy_since) if set(held_by_tenants) & set(secrets) else []
    mints, checks, revocations = (_by_secret(requests, purpose) for purpose in ("mint", "check", "revoke"))
    chains = []
    for each in sorted({app[secret] for secret in secrets}):
        on_it = [secret for secret in secrets if app[secret] == each]
        written = [found for found in requests if _is_write_of_secrets(found, each)]
        first_write = min(_at(found) for found in written)
        minted = {secret: _from_first_write(mints.get(secret, [])) for secret in on_it}
        slowest = max(minted, key=lambda secret: minted[secret])
        shared = [
            Step(what=f"mint {slowest}", seconds=minted[slowest]),
            Step(what="write", seconds=sum(_seconds(found) for found in written)),
            *_batches(requests, each, healthy_since),
        ]
        for secret in on_it:
            steps = list(shared)
            if secret in held_by_tenants:
                steps += tenants
            if secret in in_repository:
                steps.append(Step(what="repository", seconds=_repository(requests, secret)))
            if pace and secret in in_repository:
                others = len(set(in_repository) & set(secrets)) - 1
                steps.append(Step(what=PACE, seconds=pace * others))
            checked = [found for found in checks.get(secret, []) if _at(found) > first_write]
            steps.append(Step(what=f"verify {secret}", seconds=_span(checked)))
            steps.append(Step(what=f"revoke {secret}", seconds=_from_first_write(revocations.get(secret, []))))
            chains.append(Chain(secret=secret, steps=tuple(steps)))
    return max(chains, key=lambda chain: chain.seconds)


def batches(requests: Requests, app: str, healthy_since: Mapping[str, datetime]) -> list[Batch]:
    """The machines of an app that were restarted together, in order.

    A batch ends when all of its machines are healthy: an update that comes later begins the next one.

    Args:
        requests: Of one update.
        app: The app.
        healthy_since: For every machine, when it became healthy after its restart. Those that are not in it do not count: they are gone.
    """
    updates = sorted((each for each in requests if _is_update(each, app)), key=_at)
    found: list[Batch] = []
    for each in updates:
        machine = str(each["target"]).rpartition("/")[2]
        if machine not in healthy_since:
            continue  # a disposable org's, which is gone
        if not found or _at(each) > found[-1].ended:
            found.append(Batch(machines=(), began=_at(each), ended=healthy_since[machine]))
        last = found[-1]
        found[-1] = Batch(
            machines=(*last.machines, machine), began=last.began, ended=max(last.ended, healthy_since[machine])
        )
    return found


def restarts(requests: Requests, app: str, healthy_since: Mapping[str, datetime]) -> int:
    """How many machines were restarted."""
    return sum(
        1 for each in requests if _is_update(each, app) and str(each["target"]).rpartition("/")[2] in healthy_since
    )


def _batches(requests: Requests, app: str, healthy_since: Mapping[str, datetime]) -> list[Step]:
    """From the update of a batch's first machine until all of it are healthy, for every batch."""
    return [
        Step(what=f"{len(each.machines)} of {app}", seconds=each.seconds)
        for each in batches(requests, app, healthy_since)
    ]


def _is_write_of_secrets(request: Mapping[str, Any], app: str) -> bool:
    return bool(request["method"] == "POST" and request["target"] == f"/v1/apps/{app}/secrets")


def _is_update(request: Mapping[str, Any], app: str) -> bool:
    return bool(
        request["method"] == "POST"
        and request["provider"] == "fly"
        and request["template"] == UPDATE
        and str(request["target"]).startswith(f"/v1/apps/{app}/")
        and request["status"] == 200  # noqa: PLR2004
    )


def _repository(requests: Requests, secret: str) -> float:
    """The key to seal with, and the write."""
    puts = [each for each in requests if each["method"] == "PUT" and str(each["target"]).endswith(f"/secrets/{secret}")]
    if not puts:
        return 0.0
    keys = [
        each for each in requests if str(each["target"]).endswith("/secrets/public-key") and _at(each) < _at(puts[-1])
    ]
    return sum(_seconds(each) for each in (*keys[-1:], *puts[-1:]))


def _by_secret(requests: Requests, purpose: str) -> dict[str, list[Mapping[str, Any]]]:
    """The requests of a purpose (`components.http.purpose`), by the secret that it names."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in requests:
        named = re.search(rf"\({purpose} ([^)]+)\)", str(each["agent"] or ""))
        if named is not None:
            found.setdefault(named[1], []).append(each)
    return found


def _from_first_write(requests: Requests) -> float:
    """From the first write until the last answer; nothing is waited for where nothing is written."""
    writes = [_at(each) for each in requests if _is_write(each)]
    return (max(_ended(each) for each in requests) - min(writes)).total_seconds() if writes else 0.0


def _is_write(request: Mapping[str, Any]) -> bool:
    if request["method"] in READS:
        return False
    # Fly's GraphQL and Redis over HTTP read by POST.
    words = str(request["target"]).partition(" ")[2]
    return not words or words in {"createLimitedAccessToken", "deleteLimitedAccessToken"} or words.startswith("ACL ")


def _span(requests: Requests) -> float:
    if not requests:
        return 0.0
    return (max(_ended(each) for each in requests) - min(_at(each) for each in requests)).total_seconds()


def _seconds(request: Mapping[str, Any]) -> float:
    return (_ended(request) - _at(request)).total_seconds()


def _at(request: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(request["at"])


def _ended(request: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(request["answered_at"] or request["at"])
