"""Does the impact say what an update does: how old values are, what dies, what restarts once, and what is asked of whom?"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import impact as impact_module
from components import impact_text
from components.announcement import Announcement, Request
from components.fly import rollout
from components.fly.client import Machine
from components.impact import (
    Age,
    Case,
    Departure,
    Effect,
    Finding,
    Impact,
    Revoked,
    Surroundings,
    age_since,
    as_data,
    change,
    impact_of,
    summary,
)
from components.keyring import Credential, Issued
from components.progress import Progress, State
from components.secret import (
    LEAKED,
    Check,
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    Family,
    FlySecret,
    GitHubSecret,
    Issuer,
    Location,
    OrganizationSecret,
    Random,
    RepositorySecret,
    Secret,
    Supplied,
    TenantMachines,
)
from components.tenants import rollout as tenant_rollout
from components.work import Action, Work

SCHEMA = Path(__file__).parents[2] / "docs" / "impact.schema.json"
NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
MINTED = "2026-08-28T12:00:00Z"  # 90 days before
CP = FlySecret(app="cp")
TENANTS = TenantMachines(app="tenant", variable="REDIS_URL", same_server=True)
GITHUB = RepositorySecret(owner="o", repository="r", workflow="publish.yml")
SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fly-deploy-token"),
    fly=(CP,),
    repositories=(GITHUB,),
    probe=Check(module="fly_token_probe", settings={"app": "tokens"}),
    verification=Check(module="fly_app", settings={"app": "cp", "url": "https://cp.test/ready"}),
    at_risk="Nothing works.",
)
PUT = Request(system="github", method="PUT", path="/repos/o/r/actions/secrets/TOKEN")
MINT = Request(system="fly", method="POST", path="/graphql mint")
END = Request(system="fly", method="POST", path="/graphql end")
ROTATE = Work(
    action=Action.ROTATE,
    turns=True,
    mints=True,
    probes=True,
    delivers=SECRET.locations,
    changes_values=True,
    verifies=True,
    revokes=True,
)


def family(name: str = "TOKEN") -> Family:
    return Family(app="cp", stack="prod", secret=name, longest_name=255)


def name_of(generation: int) -> str:
    return family().credential_name(generation)


def keyring(*generations: int) -> tuple[Credential, ...]:
    """The newest first; `minted_at` of each is MINTED."""
    return tuple(
        Credential(
            generation=each, credential_id=f"t{each}", name=name_of(each), value=f"value-of-{each}", created_at=MINTED
        )
        for each in generations
    )


def issued(*generations: int, dead: Sequence[int] = (), others: Sequence[str] = ()) -> tuple[Issued, ...]:
    """What the provider lists."""
    ours = [Issued(credential_id=f"t{each}", name=name_of(each), live=each not in dead) for each in generations]
    return (*ours, *(Issued(credential_id=each, name=f"name of {each}", live=True) for each in others))


def ending(ids: Sequence[str]) -> Announcement:
    return Announcement(words=(f"ends {' '.join(ids)}",), writes=(replace(END, at_most=len(ids)),))


def machine(number: int, app_state: str = "started", **environment: str) -> Machine:
    return Machine(
        machine_id=f"m{number}",
        state=app_state,
        instance_id="v1",
        region="ams",
        host_status="ok",
        config={"env": environment},
    )


def case(secret: Secret = SECRET, work: Work = ROTATE, generation: int = 3, **changed: Any) -> Case:  # noqa: ANN401 - fields
    finding = Finding(
        issued=issued(2), minting=Announcement(words=("a token, named n3",), writes=(MINT,)), ending=ending
    )
    return Case(
        **{
            "secret": secret,
            "family": family(secret.name),
            "work": work,
            "generation": generation,
            "finding": finding,
            **changed,
        }
    )


def verified(generation: int = 2, **changed: Any) -> Progress:  # noqa: ANN401 - fields
    known = {"current": generation, "keyring": keyring(generation), "verified_at": "v", "revoked_for": "v", **changed}
    return Progress(verified=generation, **known)


def surroundings(progress: Progress | None = None, **changed: Any) -> Surroundings:  # noqa: ANN401 - fields
    known = {
        "stack": "prod",
        "state": State(progress={"TOKEN": verified() if progress is None else progress}),
        "machines": {"cp": [machine(number) for number in range(1, 5)]},
        "max_unavailable": 0.33,
        "stages": False,
        "reprovision_path": "/reprovision/{slug}",
        "now": NOW,
    }
    return Surroundings(**{**known, **changed})


def effect(one: Case, around: Surroundings | None = None) -> Effect:
    (found,) = impact_of([one], around or surroundings()).effects
    return found


# Age


@pytest.mark.parametrize(
    ("minted_at", "limit", "age"),
    [
        ("", None, Age()),
        ("", 1, Age()),
        (MINTED, None, Age(minted_at=MINTED, days=90)),
        (MINTED, 91, Age(minted_at=MINTED, days=90, rotate_by="2026-11-27T12:00:00+00:00")),
        (MINTED, 90, Age(minted_at=MINTED, days=90, rotate_by="2026-11-26T12:00:00+00:00", overdue=True)),
        (MINTED, 30, Age(minted_at=MINTED, days=90, rotate_by="2026-09-27T12:00:00+00:00", overdue=True)),
    ],
)
def test_age(minted_at: str, limit: int | None, age: Age) -> None:
    assert age_since(minted_at, max_age_days=limit, now=NOW) == age


@pytest.mark.parametrize(("seconds", "days", "overdue"), [(-1, 89, False), (0, 90, True), (1, 90, True)])
def test_the_boundary_of_an_age(seconds: int, days: int, overdue: bool) -> None:  # noqa: FBT001 - a column
    age = age_since(MINTED, max_age_days=90, now=NOW + timedelta(seconds=seconds))
    assert (age.days, age.overdue) == (days, overdue)


@pytest.mark.parametrize(
    "minted_at",
    [
        "2026-08-28T12:00:00+00:00",
        "2026-08-28T14:00:00+02:00",
        "2026-08-28T12:00:00",
        "2026-08-28T12:00:00.123456789Z",  # as Go writes it
        "2026-08-28 12:00:00.1+00",  # as PostgreSQL writes it
    ],
)
def test_times_of_all_providers_are_read(minted_at: str) -> None:
    assert age_since(minted_at, max_age_days=None, now=NOW + timedelta(seconds=1)).days == 90


def test_a_clock_that_is_behind_makes_nothing_younger_than_new() -> None:
    assert age_since(MINTED, max_age_days=1, now=NOW - timedelta(days=91)).days == 0


@given(st.integers(1, 4000), st.integers(0, 4000 * 86400))
def test_overdue_is_what_is_as_old_as_it_may_get(limit: int, seconds: int) -> None:
    now = datetime.fromisoformat(MINTED) + timedelta(seconds=seconds)
    age = age_since(MINTED, max_age_days=limit, now=now)
    assert age.overdue == (seconds >= limit * 86400)
    assert age.overdue == (now >= datetime.fromisoformat(age.rotate_by))
    assert age.days == seconds // 86400


# Nothing to do


def test_nothing_pending_is_said_in_a_line_with_what_is_overdue_and_staged() -> None:
    idle = case(work=Work(), generation=2, max_age_days=30)
    waiting = case(replace(SECRET, name="WAITING"), Work(), generation=5, staged="not restarted since: m1")
    young = case(replace(SECRET, name="YOUNG"), Work(), generation=1, max_age_days=30)
    impact = impact_of([idle, waiting, young], surroundings())
    assert (impact.effects, impact.restarts, impact.pending, impact.writes) == ((), (), False, ())
    assert {name: (age.days, age.overdue) for name, age in impact.overdue.items()} == {"TOKEN": (90, True)}
    assert impact.unfinished == {"WAITING": "not restarted since: m1"}
    assert summary(impact) == "Nothing to rotate on stack prod. Overdue: TOKEN (90 days old)."
    assert summary(impact_of([young], surroundings())) == "Nothing to rotate on stack prod."


def test_what_is_rotated_is_not_said_to_be_overdue_beside_that() -> None:
    impact = impact_of([case(max_age_days=30)], surroundings())
    assert impact.overdue == {}
    assert impact.effects[0].age.overdue


# One secret


def test_a_rotation() -> None:
    found = effect(case(max_age_days=365))
    assert found == Effect(
        secret="TOKEN",
        action=Action.ROTATE,
        verified=2,
        generation=3,
        reason="routine",
        age=Age(minted_at=MINTED, days=90, rotate_by="2027-08-28T12:00:00+00:00"),
        mints="a token, named n3",
        locations=("Fly app cp", "GitHub repository o/r"),
        changes_values=True,
        probe=("it reaches the machines of tokens",),
        verification=("every machine of cp runs with the new value and is healthy", "https://cp.test/ready answers"),
        revokes=(Revoked(credential_id="t2", name=name_of(2)),),
        ending=("ends t2",),
        at_risk="Nothing works.",
        writes=(MINT, PUT, END),
    )


@pytest.mark.parametrize(
    ("work", "missing"),
    [
        (replace(ROTATE, mints=False), {"mints"}),
        (replace(ROTATE, probes=False), {"probe"}),
        (replace(ROTATE, delivers=()), {"locations", "at_risk"}),
        (replace(ROTATE, verifies=False), {"verification"}),
        (replace(ROTATE, revokes=False), {"revokes", "ending"}),
    ],
)
def test_what_is_not_done_is_not_said(work: Work, missing: set[str]) -> None:
    around = surroundings(verified(2, keyring=keyring(3, 2), current=3))
    full, less = effect(case(), around), effect(case(work=work), around)
    changed = {name for name in Effect.__dataclass_fields__ if getattr(full, name) != getattr(less, name)}
    assert changed - {"writes"} == missing
    assert not any(getattr(less, name) for name in missing)
    assert set(less.writes) <= set(full.writes)


@pytest.mark.parametrize(
    ("source", "mints", "supplied"),
    [
        (Issuer(kind="fly-deploy-token"), "a token, named n3", False),
        (Random(length=48, encoding="base64"), "48 random bytes as base64, made by Pulumi", False),
        (Supplied(), "", True),
    ],
)
def test_where_the_value_comes_from(source: Issuer | Random | Supplied, mints: str, supplied: bool) -> None:  # noqa: FBT001
    found = effect(case(replace(SECRET, source=source)))
    assert (found.mints, found.supplied) == (mints, supplied)
    again = effect(case(replace(SECRET, source=source), replace(ROTATE, mints=False)))
    assert (again.mints, again.supplied) == ("", False)


def test_an_issuer_without_words_is_named_by_its_kind() -> None:
    assert effect(case(finding=Finding())).mints == f"fly-deploy-token {name_of(3)}"


def test_what_is_unfinished_is_said() -> None:
    progress = verified(2, current=3, keyring=keyring(3, 2))
    found = effect(case(work=replace(ROTATE, action=Action.FINISH, turns=False, mints=False)), surroundings(progress))
    assert found.unfinished == "generation 3 is minted, delivered nowhere; generation 2 still alive"


def test_drift_is_a_reason_only_where_the_value_is_not_a_new_one() -> None:
    drifted: dict[Location, str] = {CP: "somebody set it", TENANTS: "not delivered to"}
    again = Work(action=Action.DELIVER, delivers=(CP,))
    assert effect(case(work=again, generation=2, drifted=drifted)).drift == ("somebody set it",)
    assert effect(case(drifted=drifted)).drift == ()


def test_a_leak_is_passed_on_to_the_checks() -> None:
    settings = {"app": "cp", "tenant_app": "tenant", "repository": "o/r", "workflow": "publish.yml"}
    secret = replace(SECRET, verification=Check(module="fly_api_token", settings=settings))
    routine, leaked = effect(case(secret)), effect(case(secret, reason=LEAKED))
    assert (routine.reason, routine.costs) == ("routine", ())
    assert leaked.reason == "leaked"
    assert "CI runs of o/r" in leaked.costs[0]
    assert leaked.dispatches == ("publish.yml of o/r",)
    assert leaked.makes == ("org rotationtest-fly-<time>, deleted again",)
    assert len(leaked.verification) == len(routine.verification) - 1
    assert leaked.writes == routine.writes


def test_a_staged_secret_says_why_and_revokes_nothing() -> None:
    work = replace(ROTATE, verifies=False, revokes=False)
    impact = impact_of([case(work=work, staged="it is written to Fly by this update")], surroundings(stages=True))
    (found,) = impact.effects
    assert found.staged == "it is written to Fly by this update"
    assert (found.verification, found.revokes) == ((), ())
    (restart,) = impact.restarts
    assert (restart.machines, restart.batches) == (0, ())
    assert restart.writes == rollout.announce("cp", staged=True).writes
    assert summary(impact) == "TOKEN 2 → 3; restarts nothing."


def test_an_outage_is_that_of_the_finding() -> None:
    assert effect(case(finding=Finding(outage="Nobody can log in."))).outage == "Nobody can log in."
    assert effect(case()).outage == ""


# What dies


@pytest.mark.parametrize(
    ("progress", "work", "generation", "listed", "also", "orphans", "doomed"),
    [
        (Progress(), ROTATE, 1, issued(), [], [], []),
        (Progress(), ROTATE, 1, issued(2, 1), [], [], ["t2", "t1"]),
        (verified(2), ROTATE, 3, issued(2), [], [], ["t2"]),
        (verified(2), ROTATE, 3, issued(2, 1, dead=[1]), [], [], ["t2"]),
        (verified(2), ROTATE, 3, issued(3, 2), [], ["t3"], ["t2"]),
        (verified(2), ROTATE, 3, issued(4, 2, others=["hand"]), [], ["t4"], ["t2"]),
        (verified(2), ROTATE, 3, issued(2, others=["hand"]), ["hand"], [], ["t2", "hand"]),
        (verified(2, current=3, keyring=keyring(3, 2)), ROTATE, 4, issued(3, 2), [], [], ["t3", "t2"]),
        (verified(2, current=3, keyring=keyring(3, 2)), replace(ROTATE, mints=False), 3, issued(3, 2), [], [], ["t2"]),
        (verified(2, current=3, keyring=keyring(3, 2)), replace(ROTATE, mints=False), 2, issued(3, 2), [], [], ["t3"]),
        (verified(2, keyring=keyring(2, 1)), Work(action=Action.REVOKE, revokes=True), 2, issued(2, 1), [], [], ["t1"]),
        (verified(2), Work(action=Action.REVOKE, revokes=True), 2, issued(2, others=["hand"]), ["hand"], [], ["hand"]),
        (verified(2), Work(action=Action.VERIFY, verifies=True, revokes=True), 2, issued(2), [], [], []),
        (verified(2), Work(action=Action.DELIVER, delivers=(CP,)), 2, issued(2, 1), [], [], []),
        (verified(2), replace(ROTATE, revokes=False), 3, issued(3, 2), [], ["t3"], []),
    ],
    ids=[
        "first",
        "state lost: consumers may hold those",
        "bump",
        "the dead do not die again",
        "an orphan of the same generation",
        "an orphan of another one, not what was made by hand",
        "made by hand, on request",
        "bump again while unverified",
        "finish",
        "go back",
        "held revocation",
        "revokeUnmanaged changed",
        "verified again",
        "delivered again",
        "staged, with an orphan",
    ],
)
def test_what_dies(
    progress: Progress,
    work: Work,
    generation: int,
    listed: tuple[Issued, ...],
    also: list[str],
    orphans: list[str],
    doomed: list[str],
) -> None:
    finding = Finding(issued=listed, ending=ending)
    found = effect(case(work=work, generation=generation, also=also, finding=finding), surroundings(progress))
    assert [each.credential_id for each in found.orphans] == orphans
    assert [each.credential_id for each in found.revokes] == doomed
    assert found.ending == ((f"ends {' '.join([*orphans, *doomed])}",) if orphans or doomed else ())
    ends = [each.at_most for each in found.writes if each.path == END.path]
    assert ends == ([len(orphans) + len(doomed)] if orphans or doomed else [])


def test_what_only_its_provider_ends_is_not_said_to_be_revoked() -> None:
    watched = Finding(issued=issued(2), revokes=False, ending=lambda _ids: Announcement(words=("Stripe ends it",)))
    found = effect(case(finding=watched))
    assert (found.revokes, found.ending) == ((), ("Stripe ends it",))


# Restarts


def test_an_app_restarts_once_however_many_of_its_secrets_change() -> None:
    others = [replace(SECRET, name=name) for name in ("A", "B", "C")]
    impact = impact_of([case(), *(case(each) for each in others)], surroundings())
    (restart,) = impact.restarts
    assert (restart.app, restart.secrets) == ("cp", ("TOKEN", "A", "B", "C"))
    assert (restart.batches, restart.machines, restart.tenants) == ((1, 2, 1), 4, False)
    assert restart.writes == rollout.announce("cp", staged=False).writes
    secrets = [each for each in impact.writes if each.path == "/v1/apps/cp/secrets"]
    assert len(secrets) == 1
    assert len(impact.writes) == len(restart.writes) + sum(len(each.writes) for each in impact.effects)


def test_every_app_that_is_written_to_restarts_and_no_other() -> None:
    both = replace(SECRET, fly=(FlySecret(app="zz"), CP))
    machines = {"cp": [machine(1)], "zz": [machine(1), machine(2)], "idle": [machine(9)]}
    idle = case(replace(SECRET, name="IDLE", fly=(FlySecret(app="idle"),)), Work(), generation=1)
    impact = impact_of([case(both, replace(ROTATE, delivers=both.locations)), idle], surroundings(machines=machines))
    assert [(each.app, each.batches) for each in impact.restarts] == [("cp", (1,)), ("zz", (1, 1))]


def test_nothing_restarts_for_a_verification() -> None:
    again = Work(action=Action.VERIFY, verifies=True, revokes=True)
    assert impact_of([case(work=again, generation=2)], surroundings()).restarts == ()


def test_only_github_changes() -> None:
    impact = impact_of([case(work=Work(action=Action.DELIVER, delivers=(GITHUB,)), generation=2)], surroundings())
    assert (impact.restarts, impact.writes) == ((), (PUT,))


def held(variable: str, **changed: Any) -> Case:  # noqa: ANN401 - fields
    location = TenantMachines(app="tenant", variable=variable, **changed)
    secret = replace(SECRET, name=f"S_{variable}", fly=(), repositories=(), tenants=location)
    return case(secret, replace(ROTATE, delivers=(location,)))


MACHINES_OF_TENANTS = [
    machine(1, REDIS_URL="a-value", KEY="a-value"),
    machine(2, KEY="a-value"),
    machine(3),
    machine(4, OTHER="a-value"),
]


def test_machines_of_tenants_restart_once_for_all_their_secrets() -> None:
    around = surroundings(machines={"tenant": MACHINES_OF_TENANTS})
    impact = impact_of([held("REDIS_URL"), held("KEY")], around)
    (restart,) = impact.restarts
    assert (restart.app, restart.secrets, restart.tenants) == ("tenant", ("REDIS_URL", "KEY"), True)
    assert (restart.machines, restart.batches) == (2, (1, 1)), "two have KEY or REDIS_URL in their environment"
    assert restart.writes == tenant_rollout.announce("tenant").writes
    assert "a-value" not in repr(impact)


def test_tenants_that_are_provisioned_anew_are_not_updated_but_asked_for() -> None:
    around = surroundings(machines={"tenant": MACHINES_OF_TENANTS})
    (restart,) = impact_of([held("KEY", reprovisions=True)], around).restarts
    assert (restart.machines, restart.batches) == (0, ())
    assert restart.writes == tenant_rollout.announce("tenant", reprovision_path="/reprovision/{slug}").writes
    (both,) = impact_of([held("KEY", reprovisions=True), held("REDIS_URL")], around).restarts
    assert both.machines == 1, "one has a REDIS_URL"


def test_batches_of_tenants_are_those_of_their_rollout() -> None:
    tenants = [machine(number, REDIS_URL="a-value") for number in range(50)]
    (restart,) = impact_of([held("REDIS_URL")], surroundings(machines={"tenant": tenants})).restarts
    assert restart.batches == (1, 17, 17, 15)
    (restart,) = impact_of(
        [held("REDIS_URL")], surroundings(machines={"tenant": tenants}, max_unavailable=20.0)
    ).restarts
    assert restart.batches == (1, 20, 20, 9)


# All of it in a line, and as data


@pytest.mark.parametrize(
    ("action", "before", "after", "said"),
    [
        (Action.TAKE_OVER, 0, 1, "none → 1"),
        (Action.ROTATE, 2, 3, "2 → 3"),
        (Action.GO_BACK, 2, 2, "2 (go back)"),
        (Action.DELIVER, 2, 2, "2 (deliver again)"),
        (Action.VERIFY, 2, 2, "2 (verify again)"),
    ],
)
def test_the_generation_before_and_after(action: Action, before: int, after: int, said: str) -> None:
    found = Effect(secret="T", action=action, verified=before, generation=after, reason="routine", age=Age())
    assert change(found) == said


def rich() -> Impact:
    """Several secrets, with something of everything."""
    secret = replace(SECRET, tenants=TENANTS)
    orphaned = Finding(
        issued=issued(3, 2, others=["hand"]),
        minting=Announcement(words=("a token, named n3",), writes=(MINT,)),
        ending=ending,
        outage="Nobody can log in.",
    )
    tenants = [machine(number, REDIS_URL="a-value") for number in range(3)]
    return impact_of(
        [
            case(secret, replace(ROTATE, delivers=secret.locations), finding=orphaned, max_age_days=30, reason=LEAKED),
            case(replace(SECRET, name="OTHER"), Work(action=Action.VERIFY, verifies=True), generation=1),
            case(replace(SECRET, name="WAITING"), Work(), generation=5, staged="not restarted since: m1"),
            case(replace(SECRET, name="OLD"), Work(), generation=2, max_age_days=1),
        ],
        surroundings(
            state=State(progress={"TOKEN": verified(), "OLD": verified(), "OTHER": verified(1)}),
            machines={"cp": [machine(1)], "tenant": tenants},
        ),
    )


def test_everything_in_a_line() -> None:
    assert summary(rich()) == (
        "TOKEN 2 → 3, OTHER 1 (verify again); restarts 1 machines of cp and 3 machines of tenant. Overdue: OLD (90 days old)."
    )


def validate(data: object) -> None:
    """Against the schema that is published."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize(
    "impact",
    [
        rich(),
        impact_of([], surroundings()),
        impact_of([case(work=Work())], surroundings()),
        impact_of([case(generation=1)], surroundings(Progress())),
        impact_of([case(work=Work(action=Action.DELIVER, delivers=(GITHUB,)))], surroundings()),
        impact_of([held("KEY", reprovisions=True)], surroundings()),
        impact_of([case(staged="s")], surroundings(stages=True)),
    ],
    ids=["rich", "no secret", "nothing to do", "first", "GitHub", "tenants", "staged"],
)
def test_the_data_are_as_published(impact: Impact) -> None:
    data = as_data(impact, text=impact_text.render(impact))
    validate(data)
    assert json.loads(json.dumps(data)) == data
    assert (data["pending"], data["summary"]) == (impact.pending, summary(impact))
    assert "a-value" not in json.dumps(data)
    assert "value-of-" not in json.dumps(data)


@pytest.mark.parametrize("action", [each for each in Action if each is not Action.NOTHING])
def test_every_action_is_published(action: Action) -> None:
    impact = impact_of([case(work=replace(ROTATE, action=action))], surroundings())
    validate(as_data(impact, text=""))


def test_the_data_hold_everything() -> None:
    data = as_data(rich(), text="the text")
    assert data["text"] == "the text"
    assert list(data["secrets"]) == ["TOKEN", "OTHER"]
    token = data["secrets"]["TOKEN"]
    assert (token["action"], token["from"], token["to"], token["reason"]) == ("rotate", 2, 3, "leaked")
    assert token["age"] == {
        "minted_at": MINTED,
        "days": 90,
        "rotate_by": "2026-09-27T12:00:00+00:00",
        "overdue": True,
    }
    assert token["revokes"] == [{"id": "t3", "name": name_of(3)}, {"id": "t2", "name": name_of(2)}], "the orphan first"
    assert token["locations"] == ["Fly app cp", "machines of Fly app tenant as REDIS_URL", "GitHub repository o/r"]
    assert token["outage"] == "Nobody can log in."
    assert data["restarts"] == [
        {"app": "cp", "secrets": ["TOKEN"], "machines": 1, "batches": [1], "tenants": False},
        {"app": "tenant", "secrets": ["REDIS_URL"], "machines": 3, "batches": [1, 1, 1], "tenants": True},
    ]
    assert set(data["overdue"]) == {"OLD"}
    assert data["unfinished"] == {"WAITING": "not restarted since: m1"}
    assert len(data["writes"]) == len(rich().writes)
    assert {"system": "github", "method": "PUT", "path": PUT.path, "at_most": 1} in data["writes"]


def test_no_property_of_an_effect_is_left_out_of_the_data() -> None:
    schema = json.loads(SCHEMA.read_text())
    told = set(schema["$defs"]["effect"]["properties"])
    renamed = {"verified": "from", "generation": "to", "orphans": "revokes"}
    elsewhere = {"secret", "writes"}
    assert {renamed.get(each, each) for each in Effect.__dataclass_fields__} - elsewhere == told


PLACE: dict[str, Any] = {"owner": "o", "repository": "r", "workflow": "publish.yml"}


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (RepositorySecret(**PLACE), "/repos/o/r/actions/secrets/A"),
        (EnvironmentSecret(**PLACE, environment="e/1"), "/repositories/4711/environments/e%2F1/secrets/A"),
        (OrganizationSecret(**PLACE, visibility="all"), "/orgs/o/actions/secrets/A"),
        (DependabotSecret(**PLACE), "/repos/o/r/dependabot/secrets/A"),
        (DependabotOrganizationSecret(**PLACE, visibility="all"), "/orgs/o/dependabot/secrets/A"),
    ],
)
def test_a_write_to_github_is_announced_as_pulumi_github_makes_it(place: GitHubSecret, path: str) -> None:
    (request,) = impact_module._delivery(replace(SECRET, name="A"), place).writes
    assert request.covers("github", "PUT", path)
    assert not request.covers("github", "PUT", path.replace("/A", "/B"))


# What leaves


ENDED = Departure(
    secret="OTHER",
    decommissioned=True,
    locations=("Fly app cp", "GitHub repository o/r"),
    apps=("cp",),
    credentials=(Revoked(credential_id="o1", name="other-g1"),),
    remaining=(Revoked(credential_id="o2", name="other-g2"),),
    ending=("ends o1",),
    without="Nothing works.",
    no_way_back=("Fly app cp",),
    writes=(END,),
)
LEFT = Departure(secret="LEFT", decommissioned=False, locations=("Fly app cp",))


def test_what_is_ended_is_work_and_restarts_its_apps_once_together_with_what_is_rotated() -> None:
    impact = impact_of([case()], surroundings(), [ENDED])
    (restart,) = impact.restarts
    assert (restart.app, restart.secrets) == ("cp", ("TOKEN", "OTHER (unset)"))
    assert END in impact.writes
    assert "OTHER decommissioned" in summary(impact)
    alone = impact_of([], surroundings(), [ENDED])
    assert alone.pending
    assert alone.restarts[0].secrets == ("OTHER (unset)",)
    assert alone.restarts[0].machines > 0
    assert summary(alone).startswith("OTHER decommissioned; restarts ")


def test_what_is_left_as_it_is_is_no_work_and_said() -> None:
    impact = impact_of([], surroundings(), [LEFT])
    assert not impact.pending
    assert (impact.writes, impact.restarts) == ((), ())
    assert summary(impact) == "Nothing to rotate on stack prod. No longer managed, and left as it is: LEFT."


def test_what_leaves_as_data() -> None:
    impact = impact_of([], surroundings(), [ENDED, LEFT])
    data = as_data(impact, text=impact_text.render(impact))
    validate(data)
    assert data["leaving"]["OTHER"] == {
        "decommissioned": True,
        "locations": ["Fly app cp", "GitHub repository o/r"],
        "credentials": [{"id": "o1", "name": "other-g1"}],
        "remaining": [{"id": "o2", "name": "other-g2"}],
        "ending": ["ends o1"],
        "without": "Nothing works.",
        "no_way_back": ["Fly app cp"],
    }
    assert not data["leaving"]["LEFT"]["decommissioned"]


def test_what_leaves_in_words() -> None:
    impact = impact_of([], surroundings(), [replace(ENDED, waits_for_runs=True)])
    text = impact_text.render(impact)
    assert text.splitlines()[0] == "What `pulumi up` does on stack prod:"
    assert "SECRET  GENERATION" not in text, "no table without rows"
    for line in (
        "OTHER: decommission",
        "  breaks     Nothing works.",
        "  unset      1. Fly app cp",
        "             2. GitHub repository o/r",
        "  at risk    the stack does not know the value at Fly app cp: unlike the",
        "  wait       for workflow runs that may have started with it",
        "  revoke     once nobody holds it: other-g1 (o1)",
        "             ends o1",
        "  lives on   other-g2 (o2): only its provider can end it; do that there",
    ):
        assert line in text.splitlines(), (line, text)
    known = impact_text.render(impact_of([], surroundings(), [replace(ENDED, no_way_back=())]))
    assert "does not get healthy without it has it back, and nothing is revoked" in " ".join(known.split())
    left = impact_text.render(impact_of([], surroundings(), [LEFT]))
    assert "No longer managed: LEFT. Nothing is unset or revoked: Fly app cp keeps it" in " ".join(left.split())
    assert "list it under `decommission`" in " ".join(left.split())
