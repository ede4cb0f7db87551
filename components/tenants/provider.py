"""The dynamic provider of the environments of tenants' machines: thin, one function call each.

The dotted names of this module and its class are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | TenantMachines |
|---|---|
| create | gives every machine the values |
| counter bumped, or set back | update: gives every machine the values |
| a machine holds another value, whatever the reason | update: gives it the values |
| a machine could not be moved | the update fails and keeps the old state, so the next one goes on |
| variable no longer managed | update: nothing |
| settings of the rollout changed | nothing |
| delete | nothing: the machines keep their environments |
"""

import sys
from functools import partial

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient
from components.dynamic_provider import Properties, Provider, asked, looking_at, same
from components.fly.client import FlyClient
from components.fly.rollout import RolloutPolicy
from components.operator_credentials import endpoint
from components.tenants.reprovisioning import Reprovisioning
from components.tenants.rollout import Environments, deliver


class TenantMachinesProvider(Provider):
    """The rotated variables of all tenants' machines of one app: one update per machine, however many change."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(props["app"], self._deliver(props, unfinished=True))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        changed = _olds["variables"] != _news["variables"] or _is_new(_olds, _news)
        with looking_at(_news["app"]):
            return DiffResult(changes=changed or asked(lambda: bool(self._environments(_news).behind())))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._deliver(_news, unfinished=_is_new(_olds, _news)))

    def _deliver(self, props: Properties, *, unfinished: bool) -> Properties:
        environments = self._environments(props)
        policy = RolloutPolicy(
            max_unavailable=float(props["policy"]["max_unavailable"]),
            health_timeout=float(props["policy"]["health_timeout"]),
        )
        by_update = partial(deliver, environments, policy, unfinished=unfinished, report=_report)
        told = props.get("reprovision")
        if not told:
            return {**props, "machines": by_update()}
        reprovisioning = Reprovisioning(
            environments.only([told["variable"]]),
            ControlPlaneClient(
                endpoint("CONTROL_PLANE_URL", told["url"]),
                operator_credentials.find(operator_credentials.CONTROL_PLANE, self.config),
            ),
            path=told["path"],
            timeout=float(told["timeout"]),
            report=_report,
        )
        return {**props, "machines": by_update(reprovisioned=[told["variable"]], reprovision=reprovisioning.run)}

    def _environments(self, props: Properties) -> Environments:
        return Environments(
            client=FlyClient(token=operator_credentials.find(operator_credentials.FLY, self.config)),
            app=props["app"],
            variables={name: props[name] for name in props["variables"]},
            same_server=props.get("same_server") or (),
            overlaps=props.get("overlaps") or (),
        )


def _is_new(olds: Properties, news: Properties) -> bool:
    """Whether no delivery of these values has succeeded yet."""
    return not all(same(olds.get(name), news[name]) for name in news["variables"])


def _report(line: str) -> None:
    """The engine shows what a plugin writes to its standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
