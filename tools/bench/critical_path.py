"""The longest chain of waiting that no rotation can do without, computed from the requests that a sandbox has recorded. Pure.

Mint → write → restart of each batch → (tenants, repository) → verification → revocation. Whatever else an update does (the engine, plugins,
probes, reads before the first write, the polls between a machine's being healthy and somebody's noticing it) is not in it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Requests = Sequence[Mapping[str, Any]]
READS = frozenset({"GET", "HEAD"})
UPDATE = "/v1/apps/{app}/machines/{machine}"
WRITE = "/v1/apps/{app}/secrets"


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


def critical_path(
    requests: Requests,
    *,
    secrets: Iterable[str],
    app: str,
    tenant_app: str,
    healthy_since: Mapping[str, datetime],
    held_by_tenants: Collection[str],
    in_repository: Collection[str],
) -> Chain:
    """The longest of the secrets' chains.

    Args:
        requests: Of one update, as `python -m sandbox requests` prints them.
        secrets: Those that it rotated.
        app: The control plane's app.
        tenant_app: That of the tenants.
        healthy_since: For every machine, when it became healthy after its restart.
        held_by_tenants: Secrets that tenants' machines hold.
        in_repository: Secrets that a repository holds.
    """
    secrets = list(secrets)
    written = [each for each in requests if each["method"] == "POST" and each["target"] == f"/v1/apps/{app}/secrets"]
    first_write = min(_at(each) for each in written)
    mints = {secret: _from_first_write(_of(requests, f"mint {secret}")) for secret in secrets}
    slowest = max(mints, key=lambda secret: mints[secret])
    shared = [
        Step(what=f"mint {slowest}", seconds=mints[slowest]),
        Step(what="write", seconds=sum(_seconds(each) for each in written)),
        *_batches(requests, app, healthy_since),
    ]
    tenants = _batches(requests, tenant_app, healthy_since) if set(held_by_tenants) & set(secrets) else []
    chains = []
    for secret in secrets:
        steps = list(shared)
        if secret in held_by_tenants:
            steps += tenants
        if secret in in_repository:
            steps.append(Step(what="repository", seconds=_repository(requests, secret)))
        checks = [each for each in _of(requests, f"check {secret}") if _at(each) > first_write]
        steps.append(Step(what=f"verify {secret}", seconds=_span(checks)))
        steps.append(Step(what=f"revoke {secret}", seconds=_from_first_write(_of(requests, f"revoke {secret}"))))
        chains.append(Chain(secret=secret, steps=tuple(steps)))
    return max(chains, key=lambda chain: chain.seconds)


def restarts(requests: Requests, app: str, healthy_since: Mapping[str, datetime]) -> int:
    """How many machines were restarted."""
    return sum(
        1 for each in requests if _is_update(each, app) and str(each["target"]).rpartition("/")[2] in healthy_since
    )


def _batches(requests: Requests, app: str, healthy_since: Mapping[str, datetime]) -> list[Step]:
    """From the update of a batch's first machine until all of it are healthy, for every batch."""
    updates = sorted((each for each in requests if _is_update(each, app)), key=_at)
    steps: list[Step] = []
    batch: list[str] = []
    began = ended = None
    for each in updates:
        machine = str(each["target"]).rpartition("/")[2]
        if machine not in healthy_since:
            continue  # a disposable org's, which is gone
        if began is None or ended is None or _at(each) > ended:
            if began is not None and ended is not None:
                steps.append(Step(what=f"{len(batch)} of {app}", seconds=(ended - began).total_seconds()))
            began, batch, ended = _at(each), [], None
        batch.append(machine)
        ended = max(filter(None, (ended, healthy_since[machine])))
    if began is not None and ended is not None:
        steps.append(Step(what=f"{len(batch)} of {app}", seconds=(ended - began).total_seconds()))
    return steps


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


def _of(requests: Requests, purpose: str) -> Requests:
    return [each for each in requests if f"({purpose})" in str(each["agent"] or "")]


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
