"""The dynamic provider of an app's secrets: thin, one function call each.

The dotted names of this module and its class are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | AppSecrets |
|---|---|
| create | writes, rolls out; `rollout: staged`: only writes |
| counter bumped | update: writes, rolls out, or rolls back; `rollout: staged`: only writes |
| machines run with what was staged | update: takes note |
| back to `rollout: rolling`, machines do not run with what was staged | update: rolls out |
| counter back to the verified generation | update: brings its value back |
| value changed by hand | update: writes again |
| secret no longer managed | update: nothing |
| secret decommissioned | update: unsets it, rolls out, or rolls back; `rollout: staged`: nothing |
| settings of the rollout, of rows or of ways back changed | nothing |
| delete | nothing: the app keeps its secrets |
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components import at_once, operator_credentials
from components.clock import now
from components.dynamic_provider import Properties, Provider, asked, integer, looking_at, same
from components.fly.client import AppSecret, FlyClient, Machine
from components.fly.rollout import (
    Delivery,
    Rollout,
    RolloutPolicy,
    to_write_again,
    waiting_for_a_restart,
)
from components.settings import STAGED

if TYPE_CHECKING:
    from components.encryption.reencryption import Reencryption


class AppSecretsProvider(Provider):
    """The managed secrets of one Fly app: one write and one rolling restart, however many change."""

    def create(self, props: Properties) -> CreateResult:
        changed = {**_values(props), **dict.fromkeys(_to_unset({}, props))}
        return CreateResult(props["app"], self._deliver(props, olds={}, changed=changed))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        changed = (
            _olds["names"] != _news["names"]
            or bool(_to_unset(_olds, _news))
            # One that is no longer named is forgotten.
            or not set(_olds.get("gone") or ()) <= set(_news.get("unset") or ())
            or not all(same(_olds.get(name), _news[name]) for name in _news["names"])
        )
        with looking_at(_news["app"]):
            return DiffResult(changes=changed or asked(partial(self._drifted, _olds, _news)))

    def _drifted(self, olds: Properties, news: Properties) -> bool:
        """Whether there is something to do although the values are those of the last delivery."""
        waiting = self._waiting(olds)
        rolls_out = bool(waiting) and not _is_staged(news)
        return rolls_out or len(waiting) < len(olds.get("staged") or {}) or bool(self._changed(olds, news))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        with looking_at(_news["app"]):
            changed = {*self._changed(_olds, _news)}
            if not _is_staged(_news):
                changed |= self._waiting(_olds).keys() & set(_news["names"])
        written: dict[str, str | None] = {name: _news[name] for name in sorted(changed)}
        written |= dict.fromkeys(_to_unset(_olds, _news))
        return UpdateResult(self._deliver(_news, olds=_olds, changed=written))

    def _changed(self, olds: Properties, news: Properties) -> list[str]:
        """The managed secrets to write: those with another value, and those of `to_write_again`."""
        changed = [name for name in news["names"] if not same(olds.get(name), news[name])]
        if len(changed) == len(news["names"]):
            return changed
        listed, machines = self._shown(news["app"])
        again = to_write_again(
            news["names"],
            written=olds.get("digests") or {},
            listed=listed,
            machines=machines,
            finished_version=integer(olds.get("version") or 0),
            staged=_is_staged(news),
        )
        return sorted({*changed, *again})

    def _waiting(self, olds: Properties) -> Properties:
        """Of the secrets that are staged, those that a machine does not run with yet. Each with the value `before` ("": not known)."""
        staged: Properties = olds.get("staged") or {}
        if not staged:
            return {}
        listed, machines = self._shown(olds["app"])
        waiting = waiting_for_a_restart(
            {name: entry["at"] for name, entry in staged.items()},
            digests=olds["digests"],
            machines=machines,
            listed=listed,
        )
        return {name: staged[name] for name in waiting}

    def _shown(self, app: str) -> tuple[Mapping[str, AppSecret], Sequence[Machine]]:
        """What Fly lists of an app: its secrets and its machines."""
        client = self._client()
        return at_once.both(partial(client.list_secrets, app), partial(client.list_machines, app))

    def _deliver(self, props: Properties, *, olds: Properties, changed: Mapping[str, str | None]) -> Properties:
        finished = integer(olds.get("version") or 0)
        delivery = Delivery(version=finished, digests={}, machines=())
        with looking_at(props["app"]):
            waiting = self._waiting(olds)
        # What machines run with: the way back.
        previous = {**_values(olds), **{name: entry["before"] for name, entry in waiting.items()}}
        previous = {name: value for name, value in previous.items() if value}
        if changed:
            rollout = Rollout(self._client(), props["app"], _policy(props["policy"]), report=_report)
            if _is_staged(props):
                staged_values = {name: value for name, value in changed.items() if value is not None}
                delivery = replace(rollout.stage(staged_values), version=finished)
                staged = {name: {"before": previous.get(name, ""), "at": delivery.written_at[name]} for name in changed}
                waiting = {**waiting, **staged}
            else:
                values = {name: value for name, value in changed.items() if value is not None}
                companions = self._companions(props, values, previous)
                for name, companion in companions.items():
                    if companion.key_before:
                        previous.setdefault(name, companion.key_before)
                delivery = rollout.deliver(
                    changed,
                    previous=previous,
                    finished_version=finished,
                    without_way_back=props.get("without_way_back") or (),
                    companions=list(companions.values()),
                )
                waiting = {}
        return {
            **props,
            "version": str(delivery.version),
            "digests": {name: {**(olds.get("digests") or {}), **delivery.digests}[name] for name in props["names"]},
            "staged": {name: entry for name, entry in waiting.items() if name in props["names"]},
            "gone": sorted(({*(olds.get("gone") or ())} & {*(props.get("unset") or ())}) | {*_to_unset(olds, props)}),
            "delivered_at": {
                name: moment
                for name, moment in {**(olds.get("delivered_at") or {}), **dict.fromkeys(changed, now())}.items()
                if name in props["names"]
            },
        }

    def _companions(
        self, props: Properties, changed: Mapping[str, str], previous: Mapping[str, str]
    ) -> dict[str, "_Rows"]:
        """What is encrypted with the secrets that change, by the name of the secret."""
        rows = props.get("rows") or {}
        if not rows.keys() & changed.keys():
            return {}
        # Needs packages that nothing else here needs.
        from components.encryption.reencryption import build  # noqa: PLC0415

        companions = {}
        for name in sorted(rows.keys() & changed.keys()):
            key, in_use = changed[name], previous.get(name, "")
            # What machines run with comes first: it is what a rollout that fails goes back to.
            before = dict.fromkeys(each for each in (in_use, *rows[name]["keys_before"]) if each and each != key)
            companions[name] = _Rows(
                companion=build(
                    rows[name]["settings"], key=key, keys_before=list(before), config=self.config, report=_report
                ),
                comes_back=in_use != key,
            )
        return companions

    def _client(self) -> FlyClient:
        return FlyClient(token=operator_credentials.find(operator_credentials.FLY, self.config))


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows that are re-encrypted, as a companion of the rollout of their key.

    Attributes:
        companion: Re-encrypts them.
        comes_back: False where the key is delivered again that is in use: that is what a rollout which fails brings back, too.
    """

    companion: "Reencryption"
    comes_back: bool

    @property
    def key_before(self) -> str:
        return self.companion.key_before if self.comes_back else ""

    def check(self) -> None:
        self.companion.check()

    def forward(self) -> None:
        self.companion.forward()

    def finish(self) -> None:
        self.companion.finish()

    def back(self) -> None:
        if self.comes_back:
            self.companion.back()


def _report(line: str) -> None:
    """The engine shows what a plugin writes to its standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _values(props: Properties) -> dict[str, str]:
    return {name: props[name] for name in props.get("names") or ()}


def _to_unset(olds: Properties, news: Properties) -> list[str]:
    """The secrets that are to be unset and have not been yet. Not where nothing restarts: machines would go on with the values."""
    return (
        [] if _is_staged(news) else [name for name in news.get("unset") or () if name not in (olds.get("gone") or ())]
    )


def _is_staged(props: Properties) -> bool:
    return bool(props["policy"]["rollout"] == STAGED)


def _policy(policy: Mapping[str, Any]) -> RolloutPolicy:
    return RolloutPolicy(
        max_unavailable=float(policy["max_unavailable"]), health_timeout=float(policy["health_timeout"])
    )
