"""The dynamic provider of an app's secrets: thin, one function call each.

The dotted names of this module and its class are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | AppSecrets |
|---|---|
| create | writes, rolls out |
| counter bumped | update: writes, rolls out, or rolls back |
| counter back to the verified generation | update: brings its value back |
| value changed by hand | update: writes again |
| secret no longer managed | update: nothing |
| delete | nothing: the app keeps its secrets |
"""

import sys
from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components import operator_credentials
from components.dynamic_provider import Properties, Provider, integer, same
from components.fly.client import FlyClient
from components.fly.rollout import Delivery, Rollout, RolloutPolicy, left_by_an_unfinished_rollout


class AppSecretsProvider(Provider):
    """The managed secrets of one Fly app: one write and one rolling restart, however many change."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(props["app"], self._deliver(props, olds={}, changed=_values(props)))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=bool(self._changed(_olds, _news)) or _olds["names"] != _news["names"])

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        changed = self._changed(_olds, _news)
        return UpdateResult(self._deliver(_news, olds=_olds, changed={name: _news[name] for name in changed}))

    def _changed(self, olds: Properties, news: Properties) -> list[str]:
        """The managed secrets to write: those with another value, and those that somebody overwrote at Fly since our last write.

        All of them where a rollout did not finish or was rolled back: some machines have moved since the last delivery that succeeded,
        others have not, and which value each runs with cannot be asked. One more rollout makes them equal.
        """
        changed = [name for name in news["names"] if not same(olds.get(name), news[name])]
        if len(changed) == len(news["names"]):
            return changed
        client = self._client()
        finished = integer(olds.get("version") or 0)
        if any(
            left_by_an_unfinished_rollout(machine, finished_version=finished)
            for machine in client.list_machines(news["app"])
        ):
            return list(news["names"])
        listed = client.list_secrets(news["app"])
        written = olds.get("digests") or {}
        drifted = [name for name in news["names"] if name not in listed or listed[name].digest != written.get(name)]
        return sorted({*changed, *drifted})

    def _deliver(self, props: Properties, *, olds: Properties, changed: Mapping[str, str]) -> Properties:
        previous = _values(olds) if olds else {}
        finished = integer(olds.get("version") or 0)
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


def _report(line: str) -> None:
    """The engine shows what a plugin writes to its standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _values(props: Properties) -> dict[str, str]:
    return {name: props[name] for name in props["names"]}


def _policy(policy: Mapping[str, Any]) -> RolloutPolicy:
    return RolloutPolicy(
        max_unavailable=float(policy["max_unavailable"]), health_timeout=float(policy["health_timeout"])
    )
