"""Does the graph hold what each source of a value needs, and nothing that a staged secret may not have yet?

The graph is the program's own, on the SDK's mocks; `test_frozen_names.py` has the names of it.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pulumi
import pulumi_command
import pytest
from pulumi.runtime import mocks

from components import own_state, resources, rotation
from components.keyring import fingerprint
from components.rotation import Rotation
from components.secret import Check, FlySecret, Issuer, Random, Secret, Supplied
from components.settings import Progress, load
from components.staging import HeldBack
from components.verification import check

from .test_settings import DEFAULTS

VALUE = "value-that-is-current"
HANDED = "value-that-was-handed-in"
SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fly-deploy-token", settings={"app": "tenant", "profile": "deploy", "expiry": "24h"}),
    fly=(FlySecret(app="cp"),),
    probe=Check(module="fly_token_probe"),
    verification=Check(module="fly_app", settings={"app": "cp"}),
)


class Engine(mocks.Mocks):
    """Remembers what is registered, and answers as the providers would."""

    def __init__(self) -> None:
        self.registered: dict[str, mocks.MockResourceArgs] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        """One resource."""
        self.registered[args.name] = args
        outputs = dict(args.inputs)
        if args.typ == own_state.CREDENTIAL_TYPE:
            outputs |= {"turn": "1", "salt": "pepper", "credential_id": "t1", "value": VALUE, "keyring": []}
        if args.typ == own_state.VERIFICATION_TYPE:
            told = json.loads(args.inputs["environment"][check.SETTINGS_VARIABLE])
            outputs["stdout"] = json.dumps({**told, "verified_at": "2026-11-23T12:00:00+00:00"})
        if args.typ == own_state.REVOCATION_TYPE:
            outputs |= {"alive": [{"credential_id": "t0", "lives_until": "then"}], "unmanaged": [], "revoked": []}
        if args.typ.startswith("random:"):
            outputs |= {"hex": "in-hex", "base64": "in-base64"}
        return args.name, outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Nothing is called."""
        del args
        return {}, None


@dataclass
class Graph:
    """What a run of the program registered.

    Attributes:
        inputs: By name.
        types: By name.
        options: Of checks and revocations, by name.
        output: The stack output `secrets`.
    """

    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    options: dict[str, pulumi.ResourceOptions] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, pulumi.ResourceOptions]:
    """The options of each check and each revocation: mocks do not see them."""
    seen: dict[str, pulumi.ResourceOptions] = {}
    command, revocation = pulumi_command.local.Command, resources.Revocation

    def make_command(name: str, **arguments: Any) -> Any:  # noqa: ANN401 - the SDK's
        seen[name] = arguments["opts"]
        return command(name, **arguments)

    def make_revocation(secret: Secret, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the program's own
        seen[f"revocation-{secret.name}"] = named["options"]
        return revocation(secret, *arguments, **named)

    monkeypatch.setattr(pulumi_command.local, "Command", make_command)
    monkeypatch.setattr(rotation, "Revocation", make_revocation)
    return seen


def run(
    secret: Secret,
    options: dict[str, pulumi.ResourceOptions],
    *,
    held: HeldBack | None = None,
    progress: Mapping[str, Progress] | None = None,
    generation: int = 3,
) -> Graph:
    engine = Engine()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="molecule-secrets", stack="prod", preview=False)
    graph = Graph(options=options)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> object:
        it = Rotation(
            load(DEFAULTS.get, owner="o", old_values={}, compromised={}),
            [secret],
            generations={secret.name: generation},
            supplied={secret.name: HANDED},
            progress=progress or {},
            held_back={} if held is None else {secret.name: held},
            unmanaged_to_revoke={},
            operator_environment={},
        )
        return pulumi.Output.all(**it.secrets).apply(graph.output.update)

    program()
    graph.inputs = {name: dict(args.inputs) for name, args in engine.registered.items()}
    graph.types = {name: args.typ for name, args in engine.registered.items()}
    return graph


# Sources


def concealed(wire: Mapping[str, str]) -> str:
    """A value that the engine is told to encrypt, as the SDK marks it on the wire."""
    assert wire.get("4dabf18193072939515e22adb298388d") == "1b47061264138c4ac30d75fd1eb44270"
    return wire["value"]


def test_what_a_provider_mints_is_given_nothing(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options)
    assert graph.inputs["TOKEN"]["issuer"]["kind"] == "fly-deploy-token"
    assert "given" not in graph.inputs["TOKEN"]
    assert graph.inputs["TOKEN"]["keep_from"] == 0
    assert "probe-TOKEN" in graph.inputs
    assert not any(kind.startswith("random:") for kind in graph.types.values())


def test_what_is_handed_in_is_given_and_watched_from_where_it_is_needed(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    progress = {"TOKEN": Progress(current=3, verified=2, oldest_alive=1)}
    graph = run(replace(SECRET, source=Supplied()), options, progress=progress)
    assert graph.inputs["TOKEN"]["issuer"] == {"kind": "given", "settings": {}}
    assert (concealed(graph.inputs["TOKEN"]["given"]), graph.inputs["TOKEN"]["keep_from"]) == (HANDED, 1)
    assert run(replace(SECRET, source=Supplied()), options).inputs["TOKEN"]["keep_from"] == 0


@pytest.mark.parametrize(("encoding", "value"), [("hex", "in-hex"), ("base64", "in-base64")])
def test_what_pulumi_generates_is_new_for_every_generation(
    options: dict[str, pulumi.ResourceOptions],
    encoding: Literal["hex", "base64"],
    value: str,
) -> None:
    secret = replace(SECRET, source=Random(length=48, encoding=encoding))
    graph = run(secret, options)
    assert graph.types["generated-TOKEN"] == "random:index/randomBytes:RandomBytes"
    assert graph.inputs["generated-TOKEN"]["length"] == 48
    assert graph.inputs["generated-TOKEN"]["keepers"] == {"generation": "3"}
    assert concealed(graph.inputs["TOKEN"]["given"]) == value
    assert run(secret, options, generation=4).inputs["generated-TOKEN"]["keepers"] == {"generation": "4"}


def test_a_secret_without_a_probe_is_delivered_without_one(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(replace(SECRET, probe=None), options)
    assert set(graph.inputs) == {"molecule-cp", "TOKEN", "cp", "verification-TOKEN", "revocation-TOKEN"}
    assert graph.inputs["cp"]["TOKEN"] == VALUE


# Checks


def told(graph: Graph, name: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(graph.inputs[name]["environment"][check.SETTINGS_VARIABLE])
    return settings


def test_a_check_is_told_its_secret_and_gets_its_last_report(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options)
    for name in ("probe-TOKEN", "verification-TOKEN"):
        assert told(graph, name)["secret"] == "TOKEN"
        assert told(graph, name)["generation"] == 3
        assert graph.inputs[name]["addPreviousOutputInEnv"] is True


def test_what_a_verification_is_about_cannot_be_guessed_from_what_is_shown(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    graph = run(SECRET, options)
    subject = told(graph, "verification-TOKEN")["subject"]
    assert subject == fingerprint("\n".join(["pepper", "1", fingerprint(VALUE)]))
    assert graph.inputs["verification-TOKEN"]["triggers"] == [subject]
    assert graph.inputs["revocation-TOKEN"]["subject"] == subject
    assert fingerprint(VALUE) not in json.dumps(graph.inputs["verification-TOKEN"], default=str)


# Staged


def test_without_staging_nothing_is_left_as_it_is(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options)
    assert [each.ignore_changes for each in graph.options.values()] == [None, None, None]
    output = graph.output["TOKEN"]
    assert (output["generation"], output["staged"], output["credential_id"]) == (3, None, "t1")
    assert output["alive"] == [{"credential_id": "t0", "lives_until": "then"}]


def test_the_first_generation_that_is_staged_has_no_verification_yet(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    graph = run(SECRET, options, held=HeldBack(reason="r", has_verification=False, has_revocation=False))
    assert set(graph.inputs) == {"molecule-cp", "TOKEN", "probe-TOKEN", "cp"}
    assert graph.output["TOKEN"] == {
        "generation": 0,
        "credential_id": "",
        "verified_at": "",
        "alive": [],
        "unmanaged": [],
        "locations": ["Fly app cp"],
        "staged": 3,
    }


def test_a_verification_that_failed_before_it_is_staged_stays_as_it_is(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    graph = run(SECRET, options, held=HeldBack(reason="r", has_verification=True, has_revocation=False))
    assert "revocation-TOKEN" not in graph.inputs
    assert graph.options["verification-TOKEN"].ignore_changes == ["*"]
    assert graph.options["probe-TOKEN"].ignore_changes is None, "the probe needs no machine"
    assert (graph.output["TOKEN"]["generation"], graph.output["TOKEN"]["staged"]) == (0, 3)


def test_what_the_state_has_for_the_generation_before_stays_as_it_is(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    graph = run(SECRET, options, held=HeldBack(reason="r", has_verification=True, has_revocation=True))
    assert graph.options["verification-TOKEN"].ignore_changes == ["*"]
    assert graph.options["revocation-TOKEN"].ignore_changes == ["*"]
    assert graph.output["TOKEN"]["staged"] == 3


def test_the_app_is_told_how_to_roll_out(options: dict[str, pulumi.ResourceOptions]) -> None:
    assert run(SECRET, options).inputs["cp"]["policy"]["rollout"] == "rolling"
