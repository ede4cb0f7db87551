"""A dynamic provider that does nothing."""

import time
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult


class NothingProvider(ResourceProvider):
    """Keeps its inputs, after as many seconds as it is told to wait."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        time.sleep(props["waits"])
        return CreateResult("nothing", props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=_olds["turn"] != _news["turn"])

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        time.sleep(_news["waits"])
        return UpdateResult(_news)


class Nothing(Resource, module="floor", name="Nothing"):
    """A resource that changes when its turn does."""

    turn: pulumi.Output[str]

    def __init__(
        self, name: str, turn: pulumi.Input[str], options: pulumi.ResourceOptions, *, waits: float = 0.0
    ) -> None:
        super().__init__(NothingProvider(), name, {"turn": turn, "waits": waits}, options)
