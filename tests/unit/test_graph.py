"""Does the graph hold what each source of a value needs, and nothing that a staged secret may not have yet?

The graph is the program's own, on the SDK's mocks; `test_frozen_names.py` has the names of it.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pulumi
import pulumi_command
import pytest
from pulumi.runtime import mocks

from components import graph, own_state, resources
from components.graph import Protection, Rotation
from components.keyring import Credential, fingerprint
from components.leaving import Leaver
from components.progress import Decommissioned, Progress
from components.rotated import Rotated
from components.secret import (
    Check,
    Family,
    FlySecret,
    Issuer,
    Random,
    RepositorySecret,
    Secret,
    Supplied,
    TenantMachines,
)
from components.settings import load
from components.staging import HeldBack
from components.verification import check

from .test_settings import DEFAULTS

VALUE = "value-that-is-current"
HANDED = "value-that-was-handed-in"
MINTED_AT, DELIVERED_AT, LATER = "2026-11-23T11:00:00+00:00", "2026-11-23T11:30:00+00:00", "2026-11-23T11:45:00+00:00"
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
            outputs["created_at"] = MINTED_AT
        if args.typ == own_state.APP_TYPE:
            outputs["gone"] = args.inputs["unset"]
            outputs["delivered_at"] = {"TOKEN": LATER if args.name == "late" else DELIVERED_AT, "OTHER": "9999"}
        if args.typ == own_state.CHECK_TYPE:
            told = json.loads(args.inputs["environment"][check.SETTINGS_VARIABLE])
            outputs["stdout"] = json.dumps({**told, "verified_at": "2026-11-23T12:00:00+00:00"})
        if args.typ == own_state.REVOCATION_TYPE:
            outputs |= {"alive": [{"credential_id": "t0", "lives_until": "then"}], "unmanaged": [], "revoked": []}
            outputs["timeline"] = [
                {"generation": 3.0, "reason": "leaked", "minted_at": MINTED_AT},
                {"generation": 2.0, "reason": "routine", "minted_at": "2026-01-01T00:00:00Z"},
            ]
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

    def make_revocation(rotated: Rotated, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the program's own
        seen[f"revocation-{rotated.secret.name}"] = named["options"]
        return revocation(rotated, *arguments, **named)

    monkeypatch.setattr(pulumi_command.local, "Command", make_command)
    monkeypatch.setattr(graph, "Revocation", make_revocation)
    return seen


def rotated_of(secret: Secret, **decided: Any) -> Rotated:  # noqa: ANN401 - fields of Rotated
    family = Family(app="molecule-cp", stack="prod", secret=secret.name, longest_name=255)
    return Rotated(**{"secret": secret, "family": family, "generation": 3, "supplied": HANDED, **decided})


def run(
    secret: Secret,
    options: dict[str, pulumi.ResourceOptions],
    *,
    held: HeldBack | None = None,
    progress: Progress | None = None,
    generation: int = 3,
    leaving: Sequence[Leaver] = (),
    protected: bool = False,
    **decided: Any,  # noqa: ANN401 - fields of Rotated
) -> Graph:
    engine = Engine()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="molecule-secrets", stack="prod", preview=False)
    graph = Graph(options=options)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> object:
        it = Rotation(
            load(DEFAULTS.get, owner="o", old_values={}, compromised={}, reasons={}, max_age_days={}),
            [rotated_of(secret, held_back=held, progress=progress or Progress(), generation=generation, **decided)],
            operator_environment={},
            leaving=leaving,
        )
        if protected:
            Protection(it, protect=True)
        return pulumi.Output.all(**it.secrets).apply(graph.output.update)

    program()
    graph.inputs = {name: dict(args.inputs) for name, args in engine.registered.items()}
    graph.types = {name: args.typ for name, args in engine.registered.items()}
    return graph


# Sources


def concealed(wire: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any value
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
    progress = Progress(current=3, verified=2, oldest_alive=1)
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
    assert "triggers" not in graph.inputs["verification-TOKEN"]
    assert graph.inputs["revocation-TOKEN"]["subject"] == subject
    assert fingerprint(VALUE) not in json.dumps(graph.inputs["verification-TOKEN"], default=str)


# Staged


def test_without_staging_nothing_is_left_as_it_is(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options)
    ignored = {name: each.ignore_changes for name, each in graph.options.items()}
    assert ignored == {"probe-TOKEN": ["triggers"], "verification-TOKEN": ["triggers"], "revocation-TOKEN": None}
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
        "minted_at": "",
        "rotate_by": "",
        "overdue": False,
        "reason": "routine",
        "timeline": [],
        "locations": ["Fly app cp"],
        "consumers": ["machines of cp"],
        "staged": 3,
    }


def test_a_verification_that_failed_before_it_is_staged_stays_as_it_is(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    graph = run(SECRET, options, held=HeldBack(reason="r", has_verification=True, has_revocation=False))
    assert "revocation-TOKEN" not in graph.inputs
    assert graph.options["verification-TOKEN"].ignore_changes == ["*"]
    assert graph.options["probe-TOKEN"].ignore_changes == ["triggers"], "the probe needs no machine"
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


# What the graph is told


def test_a_revocation_knows_what_belongs_into_the_timeline(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options, reason="leaked", also=("hand-1", "hand-2"))
    inputs = graph.inputs["revocation-TOKEN"]
    assert (inputs["reason"], inputs["also"]) == ("leaked", ["hand-1", "hand-2"])
    assert inputs["minted_at"] == MINTED_AT
    assert inputs["delivered_at"] == DELIVERED_AT


def test_the_latest_delivery_counts(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(replace(SECRET, fly=(FlySecret(app="cp"), FlySecret(app="late"))), options)
    assert graph.inputs["revocation-TOKEN"]["delivered_at"] == LATER


def test_a_verification_is_told_of_a_leak_and_of_nothing_else(options: dict[str, pulumi.ResourceOptions]) -> None:
    leaked, routine = run(SECRET, options, reason="leaked"), run(SECRET, options)
    assert told(leaked, "verification-TOKEN") == {**told(routine, "verification-TOKEN"), "reason": "leaked"}
    assert "reason" not in told(leaked, "probe-TOKEN")


def test_a_check_is_told_what_was_foreseen(options: dict[str, pulumi.ResourceOptions]) -> None:
    secret = replace(SECRET, verification=Check(module="fly_app", settings={"app": "cp", "hosts": ("a", "b")}))
    graph = run(secret, options)
    wanted = rotated_of(secret, progress=Progress()).wanted_checks({})
    for name in ("probe", "verification"):
        known = own_state.from_resources(
            {"urn::it": {"type": own_state.CHECK_TYPE, "outputs": {}}}
            | {
                f"urn::{each}-TOKEN": {
                    "type": own_state.CHECK_TYPE,
                    "outputs": {**graph.inputs[f"{each}-TOKEN"], "stdout": "{}"},
                }
                for each in ("probe", "verification")
            }
        ).of("TOKEN")
        last = known.probe if name == "probe" else known.verification
        assert last is not None
        assert not wanted[name].differs_from(last)


def test_the_program_foresees_the_subject_of_a_verification(options: dict[str, pulumi.ResourceOptions]) -> None:
    github = RepositorySecret(owner="o", repository="r", workflow="publish.yml")
    tenants = TenantMachines(app="tenant", variable="URL")
    graph = run(replace(SECRET, repositories=(github,), tenants=tenants), options)
    held = [fingerprint(VALUE)] * 3
    assert told(graph, "verification-TOKEN")["subject"] == fingerprint("\n".join(["pepper", "1", *held]))
    assert set(graph.inputs["revocation-TOKEN"]["holdings"]["value"]) == {
        "Fly app cp",
        "GitHub repository o/r",
        "machines of Fly app tenant as URL",
    }


# The output


def test_the_output_says_how_old_a_value_is_and_who_reads_it(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options, max_age_days=36500)
    output = graph.output["TOKEN"]
    assert (output["minted_at"], output["overdue"], output["reason"]) == (MINTED_AT, False, "leaked")
    assert output["rotate_by"].startswith("2126-")
    assert output["locations"] == ["Fly app cp"]
    assert output["consumers"] == ["machines of cp"]
    assert [each["generation"] for each in output["timeline"]] == [3, 2]
    assert all(type(each["generation"]) is int for each in output["timeline"])
    assert VALUE not in json.dumps(graph.output)


CONFIRMED: dict[str, Any] = {
    "generation": 3.0,
    "credential_id": "t3",
    "verified_at": "v",
    "alive": [],
    "unmanaged": [],
    "timeline": [
        {"generation": 3.0, "reason": "leaked", "minted_at": MINTED_AT, "revoked": ["n2"]},
        {"generation": 2.0, "reason": "routine", "minted_at": "2026-01-01T00:00:00Z", "revoked": []},
    ],
}


@pytest.mark.parametrize(
    ("days_ago", "max_age_days", "overdue"), [(89, 90, False), (91, 90, True), (91, None, False), (0, 1, False)]
)
def test_the_output_says_what_is_overdue(days_ago: int, max_age_days: int | None, overdue: bool) -> None:  # noqa: FBT001
    minted_at = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
    values = {**CONFIRMED, "timeline": [{"generation": 3.0, "reason": "routine", "minted_at": minted_at}]}
    described = graph._described(rotated_of(SECRET, progress=Progress(), max_age_days=max_age_days), values)
    assert (described["overdue"], bool(described["rotate_by"])) == (overdue, max_age_days is not None)


def test_the_state_of_an_older_version_knows_when_it_minted() -> None:
    known = Credential(generation=3, credential_id="t3", name="n3", value=VALUE, created_at="2026-10-01T00:00:00Z")
    progress = Progress(current=3, verified=3, keyring=(known,))
    nothing: tuple[list[dict[str, Any]] | None, ...] = (None, [])
    for timeline in nothing:
        described = graph._described(rotated_of(SECRET, progress=progress), {**CONFIRMED, "timeline": timeline})
        assert (described["minted_at"], described["timeline"]) == ("2026-10-01T00:00:00Z", [])
        assert described["reason"] == "routine"


def test_what_is_described_is_what_was_confirmed() -> None:
    held = HeldBack(reason="r", has_verification=True, has_revocation=True)
    described = graph._described(rotated_of(SECRET, progress=Progress(), held_back=held, generation=4), CONFIRMED)
    assert (described["generation"], described["staged"], described["credential_id"]) == (3, 4, "t3")
    assert described["minted_at"] == MINTED_AT, "of the generation that is verified"
    assert described["reason"] == "leaked"
    assert [each["revoked"] for each in described["timeline"]] == [["n2"], []]


# What a verification was made with

RECORD = {
    "verified_with": {"program": "p1", "requirements": "r1", "kind": {"source": "fly-deploy-token"}},
    "promotion": {"after": "staging", "override": "a fire", "because": "staging was asleep"},
}


def test_a_verification_repeats_what_it_was_made_with_for_the_output(
    options: dict[str, pulumi.ResourceOptions],
) -> None:
    noted, unnoted = run(SECRET, options, record=RECORD), run(SECRET, options)
    assert told(noted, "verification-TOKEN") == {**told(unnoted, "verification-TOKEN"), "record": RECORD}
    assert told(noted, "probe-TOKEN") == told(unnoted, "probe-TOKEN")
    assert {key: noted.output["TOKEN"][key] for key in RECORD} == RECORD
    assert noted.inputs["revocation-TOKEN"]["override"] == "a fire"


def test_what_an_older_version_has_verified_shows_no_new_key(options: dict[str, pulumi.ResourceOptions]) -> None:
    unnoted = run(SECRET, options)
    assert "record" not in told(unnoted, "verification-TOKEN"), "it would run again"
    assert not unnoted.output["TOKEN"].keys() & {"verified_with", "promotion", "report"}
    assert "override" not in unnoted.inputs["revocation-TOKEN"]
    alone = run(SECRET, options, record={"verified_with": RECORD["verified_with"]})
    assert "promotion" not in alone.output["TOKEN"]
    assert "override" not in alone.inputs["revocation-TOKEN"]


def test_a_record_alone_runs_no_check_again() -> None:
    plain, noted = (rotated_of(SECRET, progress=Progress(), record=each).wanted_checks({}) for each in ({}, RECORD))
    assert plain == noted


def test_the_record_of_what_nothing_was_revoked_for_is_not_shown() -> None:
    rotated = rotated_of(SECRET, progress=Progress())
    report = {"record": RECORD, "verified_at": "v"}
    assert graph._described(rotated, {**CONFIRMED, "report": report})["verified_with"] == RECORD["verified_with"]
    described = graph._described(rotated, {**CONFIRMED, "report": {**report, "verified_at": "later"}})
    assert "verified_with" not in described
    assert "promotion" not in described


def test_consumers_are_named_in_the_order_of_delivery() -> None:
    secret = replace(
        SECRET,
        tenants=TenantMachines(app="tenant", variable="URL"),
        repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
    )
    described = graph._described(rotated_of(secret, progress=Progress()), CONFIRMED)
    assert described["consumers"] == ["machines of cp", "tenants in tenant", "workflow publish.yml of o/r"]
    assert len(described["consumers"]) == len(described["locations"])


# What leaves


def leaver(**changed: Any) -> Leaver:  # noqa: ANN401 - fields
    secret = replace(
        SECRET,
        name="OTHER",
        fly=(FlySecret(app="cp"), FlySecret(app="alone")),
        repositories=(RepositorySecret(owner="o", repository="r", workflow="w.yml"),),
        tenants=TenantMachines(app="tenant", variable="REDIS_URL"),
    )
    known = Credential(generation=1, credential_id="o1", name="other-g1", value=VALUE, created_at=MINTED_AT)
    progress = Progress(current=1, turn="1", salt="pepper", keyring=(known,))
    family = Family(app="molecule-cp", stack="prod", secret="OTHER", longest_name=255)
    plain = {"name": "OTHER", "secret": secret, "progress": progress, "family": family, "decommissioned": True}
    return Leaver(**{**plain, **changed})


def test_what_is_ended_is_unset_at_its_apps_first(options: dict[str, pulumi.ResourceOptions]) -> None:
    it = leaver()
    graph = run(SECRET, options, leaving=[it])
    assert (graph.inputs["cp"]["names"], graph.inputs["cp"]["unset"]) == (["TOKEN"], ["OTHER"])
    assert (graph.inputs["alone"]["names"], graph.inputs["alone"]["unset"]) == ([], ["OTHER"])
    end = graph.inputs["decommission-OTHER"]
    assert graph.types["decommission-OTHER"] == own_state.DECOMMISSION_TYPE
    assert end["apps"] == {"cp": True, "alone": True}
    assert (end["about"], end["repositories"]) == (it.about, ["o/r"])
    assert end["tenants"] == {"app": "tenant", "variable": "REDIS_URL"}
    assert [each["value"] for each in concealed(end["keyring"])] == [VALUE]
    assert "OTHER" not in graph.inputs
    assert "verification-OTHER" not in graph.inputs


def test_once_it_is_over_the_state_forgets_the_values(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options, leaving=[leaver(over=Decommissioned(about="then"))])
    end = graph.inputs["decommission-OTHER"]
    assert end["about"] == "then"
    assert concealed(end["keyring"]) == []
    assert graph.inputs["cp"]["unset"] == ["OTHER"], "else the app would take note that it is not"


def test_what_is_left_as_it_is_is_not_in_the_graph(options: dict[str, pulumi.ResourceOptions]) -> None:
    graph = run(SECRET, options, leaving=[leaver(decommissioned=False)])
    assert "decommission-OTHER" not in graph.inputs
    assert "alone" not in graph.inputs
    assert graph.inputs["cp"]["unset"] == []


def test_what_is_protected_is_there_always(options: dict[str, pulumi.ResourceOptions]) -> None:
    assert run(SECRET, options, protected=True).types["config-key-protect"] == "molecule:rotation:Protection"
