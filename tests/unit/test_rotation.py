"""Is what an update does decided and refused before anything is touched, and said where somebody looks?

Without an engine: config and stack are those of the SDK's mocks, Fly and the other providers stand behind the wire or are not asked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks
from pulumi.runtime.config import set_all_config

from components import (
    drift,
    graph,
    leaving,
    own_state,
    preflight,
    program_version,
    promotion,
    rotation,
    stack_before,
    staging,
)
from components.announcement import Announcement
from components.clock import now
from components.drift import Seen
from components.errors import OperatorError, RefusedError
from components.impact import Finding, Impact, as_data
from components.impact_text import render
from components.issuers import ISSUERS, Kind
from components.keyring import Credential, fingerprint
from components.progress import AppInState, CheckInState, Decommissioned, GitHubWrite, Progress, State
from components.rotated import Rotated
from components.secret import Check, Family, FlySecret, Issuer, OrganizationSecret, RepositorySecret, Secret
from components.settings import ROLLING, STAGED, Settings
from components.staging import HeldBack
from components.work import Action, Work

from .fake_issuer import FakeIssuer
from .test_impact import validate
from .test_preflight import VALUES, only_read, serving
from .test_secret_map import configured
from .wire import Wire

CP = FlySecret(app="cp")
SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fake"),
    fly=(CP,),
    probe=Check(module="fly_token_probe", settings={"app": "cp"}),
    verification=Check(module="fly_app", settings={"app": "cp"}),
    may_be_staged=True,
)
OTHER = replace(SECRET, name="OTHER")
SETTINGS = configured(app="cp", tenantApp="tenant", controlPlaneUrl="https://cp.test")
OPERATOR = {"ROTATION_CONFIG_neonApiKey": "neon-operator-key"}


class Engine(mocks.Mocks):
    """Is not asked for anything."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        """None of these tests registers a resource."""
        raise AssertionError(args.name)

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Nor calls a function."""
        raise AssertionError(args.token)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the operator is told, by level."""
    lines: dict[str, list[str]] = {"info": [], "warn": []}
    for level, heard in lines.items():
        monkeypatch.setattr(pulumi.log, level, heard.append)
    return lines


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> FakeIssuer:
    """Who mints, under the kind `fake`."""
    issuer = _Announcing()
    for module in (rotation, preflight, leaving):
        monkeypatch.setattr(module, "ISSUERS", {**ISSUERS, "fake": Kind(build=lambda *_: issuer, operator=None)})
    return issuer


class _Announcing(FakeIssuer):
    def announce_mint(self, name: str) -> Announcement:
        return Announcement(words=(f"a token, named {name}",))


@pytest.fixture(autouse=True)
def stack(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, list[str]], issuer: FakeIssuer, wire: Wire
) -> Iterator[None]:
    """The stack `prod`, an operator with all credentials, and providers where all is well."""
    del said, issuer
    pulumi.runtime.set_mocks(Engine(), project="molecule-secrets", stack="prod", preview=True)
    config()
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    wire.serve = serving({})
    yield
    set_all_config({})


def config(*, secret: Sequence[str] = (), **values: Any) -> None:  # noqa: ANN401 - JSON
    """The stack's config: what has to be there, and these."""
    known = {"rotations": {"TOKEN": 1}, "revokeUnmanaged": {}, "supplied": {}, **values}
    texts = {key: each if isinstance(each, str) else json.dumps(each) for key, each in known.items()}
    set_all_config(
        {f"molecule-secrets:{key}": each for key, each in texts.items()},
        [f"molecule-secrets:{each}" for each in secret],
    )


def value_of(generation: int) -> str:
    return f"value of t{generation}"  # as `FakeIssuer.seed` makes it


def name_of(generation: int) -> str:
    return f"cp-rotation-prod-TOKEN-g{generation}"


def deployed(generation: int = 1, *, keyring: Sequence[int] = (), secret: Secret = SECRET, **changed: Any) -> Progress:  # noqa: ANN401 - fields
    """A secret that is verified, and of which everything else is revoked."""
    family = Family(app="cp", stack="prod", secret=secret.name, longest_name=255)
    rotated = Rotated(secret=secret, family=family, generation=generation, progress=Progress())
    wanted = rotated.wanted_checks({})
    held = fingerprint(value_of(generation))
    about = {"probe": "1", "verification": fingerprint(f"\n1\n{held}")}  # without a salt
    checks = {
        name: CheckInState(command=each.command, told=each.told, subject=about[name]) for name, each in wanted.items()
    }
    known = {
        "current": generation,
        "turn": "1",
        "verified": generation,
        "verified_at": "2026-11-23T12:00:00+00:00",
        "revoked_for": "2026-11-23T12:00:00+00:00",
        "keyring": tuple(
            Credential(
                generation=each,
                credential_id=f"t{each}",
                name=name_of(each),
                value=value_of(each),
                created_at="2026-11-23T11:00:00Z",
            )
            for each in keyring or (generation,)
        ),
        "at_fly": {"cp": held},
        "has_verification": True,
        "has_revocation": True,
        **checks,
    }
    return Progress(**{**known, **changed})


def decide(
    state: State | None = None, secrets: Sequence[Secret] = (SECRET,), settings: Settings = SETTINGS
) -> tuple[list[Rotated], Impact]:
    return rotation._decide(settings, list(secrets), {}, state or State())


def state_of(**progress: Progress) -> State:
    return State(progress=progress)


# What is decided


def test_a_first_deployment(wire: Wire, said: dict[str, list[str]]) -> None:
    rotated, impact = decide()
    (one,) = rotated
    assert (one.secret, one.generation, one.reason, one.held_back) == (SECRET, 1, "routine", None)
    assert one.family.credential_name(1) == name_of(1)
    (effect,) = impact.effects
    assert (effect.action, effect.mints) == (Action.TAKE_OVER, f"a token, named {name_of(1)}")
    assert [(each.app, each.machines) for each in impact.restarts] == [("cp", 1)]
    assert impact.stack == "prod"
    assert only_read(wire)
    assert said["warn"] == []


def test_where_nothing_is_to_be_done_no_provider_is_asked(wire: Wire) -> None:
    rotated, impact = decide(state_of(TOKEN=deployed()))
    assert not impact.pending
    assert rotated[0].progress.current == 1
    assert wire.requests == []


def test_only_what_is_listed_is_rotated() -> None:
    config(rotations={"OTHER": 3})
    rotated, impact = decide(secrets=(SECRET, OTHER))
    assert [(each.secret.name, each.generation) for each in rotated] == [("OTHER", 3)]
    assert [each.secret for each in impact.effects] == ["OTHER"]


def test_a_delivery_alone_asks_for_no_more_rights_than_it_needs(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []

    def look(_client: object, secrets: Sequence[Secret], state: State, **known: Any) -> Seen:  # noqa: ANN401
        heard.append({"secrets": [each.name for each in secrets], "apps": set(state.apps), **known})
        return Seen(drifted={"TOKEN": {CP: "somebody else set it"}})

    monkeypatch.setattr(drift, "look", look)
    _, impact = decide(replace(state_of(TOKEN=deployed()), apps={"cp": AppInState(names=("TOKEN",))}))
    assert heard == [{"secrets": ["TOKEN"], "apps": {"cp"}, "generations": {"TOKEN": 1}, "staged": False}]
    (effect,) = impact.effects
    assert (effect.action, effect.drift) == (Action.DELIVER, ("somebody else set it",))
    assert wire.requests == [], "no preflight"


AT_GITHUB = RepositorySecret(owner="o", repository="r", workflow="publish.yml")
PUBLISHED = replace(SECRET, repositories=(AT_GITHUB,))
METADATA = "GET /repos/o/r/actions/secrets/TOKEN"


def published() -> State:
    """A stack whose secret stands at GitHub as well."""
    held = fingerprint(value_of(1))
    progress = deployed(
        secret=PUBLISHED,
        at_github={"r": held},
        github_writes={
            "r": GitHubWrite(repository="r", words="repository r", updated_at="2026-11-26 18:33:03 +0000 UTC", again=2)
        },
    )
    assert progress.verification is not None
    about = fingerprint(f"\n1\n{held}\n{held}")
    return state_of(TOKEN=replace(progress, verification=replace(progress.verification, subject=about)))


def at_github(updated_at: str) -> tuple[int, dict[str, str]]:
    return 200, {"name": "TOKEN", "created_at": "x", "updated_at": updated_at}


def test_a_secret_that_somebody_set_at_github_is_written_again(wire: Wire, said: dict[str, list[str]]) -> None:
    wire.serve = serving({METADATA: at_github("2026-11-26T18:33:03Z")})
    (rotated,), impact = decide(published(), (PUBLISHED,))
    assert (impact.pending, rotated.times_written_again(AT_GITHUB)) == (False, 2)
    wire.serve = serving({METADATA: at_github("2026-11-26T19:00:00Z")})
    (rotated,), impact = decide(published(), (PUBLISHED,))
    (effect,) = impact.effects
    assert (effect.action, effect.locations, impact.restarts) == (Action.DELIVER, (str(AT_GITHUB),), ())
    assert "somebody else set TOKEN of o/r" in effect.drift[0]
    assert rotated.times_written_again(AT_GITHUB) == 3
    assert set(wire.lines) == {METADATA}
    assert said["warn"] == []


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_secret_that_is_not_github_s_does_not_wait_for_github(
    wire: Wire,
    said: dict[str, list[str]],
    status: int,
) -> None:
    wire.serve = serving({METADATA: (status, {"message": "no"})})
    _, impact = decide(published(), (PUBLISHED,))
    assert not impact.pending
    assert [each.partition(":")[0] for each in said["warn"]] == [
        "GitHub was not asked whether somebody has changed a secret there"
    ]
    # Whom an organization's secret is visible to is to be said with its next write, and cannot be.
    selects = OrganizationSecret(
        owner="o", repository="r", workflow="publish.yml", visibility="selected", selected=("r",)
    )
    wire.serve = serving({"GET /repos/o/r": (status, {"message": "no"})})
    with pytest.raises(RefusedError, match="GitHub"):
        decide(published(), (replace(SECRET, repositories=(selects,)),))


@pytest.mark.parametrize("status", [401, 403, 503])
def test_where_fly_does_not_show_what_it_holds_nothing_is_decided(wire: Wire, status: int) -> None:
    wire.serve = serving({"GET /v1/apps/cp/machines": (status, {"error": "no"})})
    with pytest.raises(RefusedError, match="Fly") as refused:
        decide(replace(state_of(TOKEN=deployed()), apps={"cp": AppInState(names=("TOKEN",))}))
    assert refused.value.next_step


def test_a_bump_says_what_is_revoked(issuer: FakeIssuer) -> None:
    issuer.seed("t1", name_of(1))
    issuer.seed("hand", "by hand")
    config(rotations={"TOKEN": 2}, revokeUnmanaged={"TOKEN": ["hand"]})
    rotated, impact = decide(state_of(TOKEN=deployed()))
    assert rotated[0].also == ("hand",)
    assert [each.credential_id for each in impact.effects[0].revokes] == ["t1", "hand"]


@pytest.mark.parametrize(
    ("progress", "generation", "dead"),
    [
        (deployed(keyring=(1, 2)), 2, 2),  # 2 was bumped, given up by going back to 1, and revoked
        (deployed(current=2, turn="2", keyring=(2, 1)), 1, 1),  # somebody revoked the one that is verified
    ],
    ids=["forward again to one that was given up", "back to one that somebody revoked"],
)
def test_a_generation_whose_credential_is_dead_does_not_come_back(
    issuer: FakeIssuer, progress: Progress, generation: int, dead: int
) -> None:
    """`lifecycle.make_current` would mint another one of that generation, which nobody was told."""
    for each in (1, 2):
        issuer.seed(f"t{each}", name_of(each), live=each != dead)
    config(rotations={"TOKEN": generation})
    with pytest.raises(RefusedError, match=f"Generation {generation} of TOKEN cannot come back") as refused:
        decide(state_of(TOKEN=progress))
    assert "'rotations.TOKEN' 3" in refused.value.next_step


@pytest.mark.parametrize("generation", [1, 2])
def test_a_generation_whose_credential_lives_comes_back(issuer: FakeIssuer, generation: int) -> None:
    for each in (1, 2, 3):
        issuer.seed(f"t{each}", name_of(each))
    config(rotations={"TOKEN": generation})
    _, impact = decide(state_of(TOKEN=deployed(current=3, turn="3", keyring=(3, 2, 1))))
    (effect,) = impact.effects
    assert effect.mints == ""
    assert {each.credential_id for each in effect.revokes} == {"t1", "t2", "t3"} - {f"t{generation}"}


def test_an_age_is_of_the_config() -> None:
    settings = replace(SETTINGS, max_age_days={"TOKEN": 1})
    old = tuple(replace(each, created_at="2020-01-01T00:00:00Z") for each in deployed().keyring)
    rotated, impact = decide(state_of(TOKEN=deployed(keyring=[1]), OTHER=deployed()), settings=settings)
    assert rotated[0].max_age_days == 1
    _, impact = decide(state_of(TOKEN=replace(deployed(), keyring=old)), settings=settings)
    assert impact.overdue["TOKEN"].overdue
    _, impact = decide(state_of(TOKEN=replace(deployed(), keyring=old)))
    assert impact.overdue == {}


def test_operator_credentials_of_the_config_are_part_of_what_a_check_is_told() -> None:
    config(neonApiKey="neon-operator-key", secret=["neonApiKey"])
    assert rotation._operator_values() == OPERATOR
    _, impact = decide(state_of(TOKEN=deployed()))
    assert impact.effects[0].action is Action.VERIFY, "they are new"
    assert "neon-operator-key" not in repr(impact)


# Reasons


def leaked(**reasons: str) -> Settings:
    return replace(SETTINGS, reasons=reasons or {"TOKEN": "leaked"})


def test_a_reason_counts_for_what_is_being_verified(said: dict[str, list[str]]) -> None:
    config(rotations={"TOKEN": 2, "OTHER": 2})
    state = state_of(TOKEN=deployed(), OTHER=deployed(secret=OTHER))
    rotated, impact = decide(state, (SECRET, OTHER), leaked())
    assert {each.secret.name: each.reason for each in rotated} == {"TOKEN": "leaked", "OTHER": "routine"}
    assert {each.secret: each.reason for each in impact.effects} == {"TOKEN": "leaked", "OTHER": "routine"}
    assert said["warn"] == []


def test_a_reason_that_is_over_is_kept_for_what_was_verified_with_it_and_asked_to_be_taken_off(
    said: dict[str, list[str]],
) -> None:
    known = deployed()
    assert known.verification is not None
    told = {**known.verification.told, "reason": "leaked"}
    with_reason = replace(known, verification=replace(known.verification, told=told))
    rotated, impact = decide(state_of(TOKEN=with_reason), settings=leaked())
    assert (rotated[0].reason, impact.pending) == ("leaked", False), "else its verification would run again"
    (warning,) = said["warn"]
    assert warning.startswith("`reasons.TOKEN` is still `leaked`, and generation 1 is verified")
    assert "pulumi config rm --path 'reasons.TOKEN'" in warning
    rotated, _ = decide(state_of(TOKEN=with_reason))
    assert rotated[0].reason == "leaked", "what was verified keeps the reason"
    assert len(said["warn"]) == 1
    rotated, _ = decide(state_of(TOKEN=known), settings=leaked())
    assert rotated[0].reason == "routine", "a reason that came later changes nothing"


# The stack that goes before

PROVEN = {"generation": 2.0, "verified_at": "2026-11-24T12:00:00+00:00"}
VERSION = program_version.ProgramVersion(program="p1", requirements="r1")


@pytest.fixture
def staging_stack(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The outputs of stack `staging`; a program of a known version, and a clock."""
    outputs: dict[str, Any] = {"impact": {}}
    monkeypatch.setattr(stack_before, "outputs_of", lambda stack: outputs if stack == "staging" else pytest.fail(stack))
    monkeypatch.setattr(program_version, "of_this_program", lambda: VERSION)
    monkeypatch.setattr(stack_before, "predecessor", lambda _root, stack: "prod" if stack == "circle" else "")
    return outputs


def proven(secret: Secret = SECRET) -> dict[str, Any]:
    noted = promotion.verified_with(secret, VERSION)
    return {"secrets": {secret.name: {**PROVEN, "verified_at": now(), "verified_with": noted}}}


def test_a_bump_waits_for_the_stack_before_and_no_provider_is_asked(staging_stack: dict[str, Any], wire: Wire) -> None:
    config(rotations={"TOKEN": 2}, after="staging")
    with pytest.raises(RefusedError, match="TOKEN generation 2 waits for stack staging"):
        decide(state_of(TOKEN=deployed()))
    assert wire.requests == []
    staging_stack.update(proven())
    rotated, impact = decide(state_of(TOKEN=deployed()))
    assert rotated[0].record["promotion"]["after"] == "staging"
    assert impact.effects[0].promotion.startswith("stack staging has verified generation 2 with this program")
    config(rotations={"TOKEN": 2}, after="staging", afterDays="1")
    staging_stack["secrets"]["TOKEN"]["verified_at"] = "2026-11-24T12:00:00+00:00"
    with pytest.raises(RefusedError, match=r"and 1 are allowed"):
        decide(state_of(TOKEN=deployed()))


def test_an_override_is_heeded_recorded_and_said(staging_stack: dict[str, Any], said: dict[str, list[str]]) -> None:
    del staging_stack
    overrides = {"TOKEN": {"generation": 2, "reason": "a fire"}}
    config(rotations={"TOKEN": 2}, after="staging", promotionOverrides=overrides)
    rotated, impact = decide(state_of(TOKEN=deployed()))
    assert rotated[0].overridden == "a fire"
    assert impact.effects[0].promotion.startswith("NOT PROVEN: ")
    (warning,) = said["warn"]
    assert warning.startswith("TOKEN generation 2 goes on without proof on stack staging: a fire. ")
    config(rotations={"TOKEN": 2}, promotionOverrides=overrides)
    decide(state_of(TOKEN=deployed()))
    assert "has no effect, because no stack goes before" in said["warn"][1]


def test_a_leak_needs_no_override(staging_stack: dict[str, Any], said: dict[str, list[str]]) -> None:
    del staging_stack
    config(rotations={"TOKEN": 2}, after="staging")
    rotated, _ = decide(state_of(TOKEN=deployed()), settings=leaked())
    assert rotated[0].overridden == "leaked"
    assert "without proof on stack staging: leaked" in said["warn"][0]


@pytest.mark.parametrize(
    ("progress", "generation"),
    [
        pytest.param(deployed(), 1, id="nothing to do"),
        pytest.param(deployed(at_fly={"cp": "something else"}), 1, id="repair"),
        pytest.param(deployed(current=2, turn="2", keyring=(2, 1)), 1, id="go back"),
        pytest.param(deployed(2, keyring=(2, 1), verified=1), 2, id="finish"),
    ],
)
def test_what_is_half_done_or_given_up_is_never_held_up(
    staging_stack: dict[str, Any], issuer: FakeIssuer, progress: Progress, generation: int
) -> None:
    del staging_stack
    for each in (1, 2):
        issuer.seed(f"t{each}", name_of(each))
    config(rotations={"TOKEN": generation}, after="staging")
    rotated, _ = decide(state_of(TOKEN=progress))
    assert rotated[0].generation == generation


def test_where_nothing_is_verified_the_record_of_the_state_is_repeated(
    monkeypatch: pytest.MonkeyPatch, staging_stack: dict[str, Any]
) -> None:
    del staging_stack
    monkeypatch.setattr(program_version, "of_this_program", lambda: pytest.fail("nobody needs the version"))
    known = deployed()
    assert known.verification is not None
    record = {"verified_with": {"program": "p0"}}
    noted = replace(known, verification=replace(known.verification, told={**known.verification.told, "record": record}))
    for progress, expected in ((known, {}), (noted, record)):
        rotated, impact = decide(state_of(TOKEN=progress))
        assert (rotated[0].record, impact.pending) == (expected, False)


@pytest.mark.parametrize(
    ("changed", "said_of"),
    [
        ({"after": "prod"}, "names prod itself"),
        ({"after": "circle"}, "wait for each other: prod after circle after prod"),
        ({"after": "a b"}, "has to be the name of a stack"),
        ({"after": "staging", "afterDays": "0"}, "positive whole number of days"),
        ({"after": "staging", "promotionOverrides": {"TOKEN": 2}}, "which generation may go first here"),
        (
            {"after": "staging", "promotionOverrides": {"NOBODY": {"generation": 2, "reason": "r"}}},
            "`promotionOverrides` lists NOBODY",
        ),
        (
            {
                "promotionOverrides": {"TOKEN": {"generation": 2, "reason": "not-for-you"}},
                "secret": ["promotionOverrides"],
            },
            "is encrypted",
        ),
    ],
)
@pytest.mark.usefixtures("staging_stack")
def test_what_is_wrong_with_the_order_is_refused_at_once(wire: Wire, changed: dict[str, Any], said_of: str) -> None:
    config(**changed)
    with pytest.raises(RefusedError) as refused:
        decide(state_of(TOKEN=deployed()))
    assert said_of in refused.value.happened
    assert "not-for-you" not in str(refused.value)
    assert wire.requests == []


# Staging


def held(*names: str) -> dict[str, HeldBack]:
    return {name: HeldBack(reason=f"{name} waits", has_verification=True, has_revocation=True) for name in names}


STAGING = replace(SETTINGS, rollout=STAGED)


def test_what_is_staged_is_said_and_not_verified(said: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "held_back", lambda *_: held("TOKEN"))
    config(rotations={"TOKEN": 2})
    rotated, impact = decide(state_of(TOKEN=deployed()), settings=STAGING)
    assert rotated[0].held_back == held("TOKEN")["TOKEN"]
    (effect,) = impact.effects
    assert (effect.staged, effect.verification, effect.revokes) == ("TOKEN waits", (), ())
    assert impact.restarts[0].machines == 0
    (warning,) = said["warn"]
    assert warning.startswith("TOKEN generation 2 is staged: TOKEN waits.")


def test_nothing_waits_while_a_value_that_has_leaked_is_good(
    said: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "held_back", lambda *_: pytest.fail("nothing is staged"))
    config(rotations={"TOKEN": 2, "OTHER": 2})
    settings = replace(STAGING, reasons={"TOKEN": "leaked"})
    rotated, impact = decide(state_of(TOKEN=deployed(), OTHER=deployed(secret=OTHER)), (SECRET, OTHER), settings)
    assert [each.held_back for each in rotated] == [None, None]
    assert impact.restarts[0].machines == 1
    assert [each.staged for each in impact.effects] == ["", ""]
    (warning,) = said["warn"]
    assert "`rollout: staged` is set aside, because TOKEN has leaked" in warning
    assert "every secret of theirs that is staged" in warning


@pytest.mark.parametrize(
    ("rollout", "reasons", "unfinished", "expected", "warned"),
    [
        (ROLLING, {}, [SECRET], ROLLING, False),
        (ROLLING, {"TOKEN": "leaked"}, [SECRET], ROLLING, False),
        (STAGED, {}, [SECRET], STAGED, False),
        (STAGED, {"TOKEN": "routine"}, [SECRET], STAGED, False),
        (STAGED, {"TOKEN": "leaked"}, [], STAGED, False),
        (STAGED, {"TOKEN": "leaked"}, [OTHER], STAGED, False),
        (STAGED, {"TOKEN": "leaked"}, [OTHER, SECRET], ROLLING, True),
    ],
)
def test_how_an_update_rolls_out(
    said: dict[str, list[str]],
    rollout: str,
    reasons: dict[str, str],
    unfinished: list[Secret],
    expected: str,
    warned: bool,  # noqa: FBT001 - a column
) -> None:
    settings = replace(SETTINGS, rollout=rollout, reasons=reasons)
    assert rotation._rollout(settings, unfinished) == expected
    assert bool(said["warn"]) is warned


@pytest.mark.parametrize(
    ("progress", "finished"),
    [
        (Progress(), False),
        (Progress(current=2), False),
        (Progress(current=2, verified=1), False),
        (Progress(current=3, verified=2), False),
        (Progress(current=2, verified=2), True),
    ],
)
def test_what_is_finished(progress: Progress, finished: bool) -> None:  # noqa: FBT001 - a column
    state = state_of(TOKEN=progress)
    assert rotation._is_finished(state, "TOKEN", generation=2) is finished


# What is refused without asking anybody


@pytest.mark.parametrize(
    ("changed", "settings", "secrets", "said_of"),
    [
        ({"rotations": {"NOBODY": 1}}, SETTINGS, (SECRET,), "`rotations` lists NOBODY"),
        ({"rotations": {"TOKEN": 1, "OTHER": 0}}, SETTINGS, (SECRET, OTHER), "OTHER is 0"),
        ({}, leaked(NOBODY="leaked"), (SECRET,), "`reasons` lists NOBODY"),
        ({}, replace(SETTINGS, max_age_days={"NOBODY": 1}), (SECRET,), "`maxAgeDays` lists NOBODY"),
        ({}, replace(SETTINGS, compromised={"NOBODY": 1}), (SECRET,), "`compromised` lists NOBODY"),
        ({"revokeUnmanaged": {"OTHER": ["x"]}}, SETTINGS, (SECRET,), "`revokeUnmanaged` lists OTHER"),
        ({}, SETTINGS, (replace(SECRET, requires={"neonProject": ""}),), "`neonProject` is empty"),
        ({}, SETTINGS, (replace(SECRET, coupled=True),), "has to change in both"),
        ({}, SETTINGS, (replace(SECRET, only_if_compromised=True),), "only if the value before is compromised"),
        ({}, STAGING, (replace(SECRET, may_be_staged=False),), "TOKEN cannot be staged"),
        ({"supplied": {"NOBODY": "x"}}, SETTINGS, (SECRET,), "plaintext"),
        ({"encryptionKeyBefore": "not-for-you"}, SETTINGS, (SECRET,), "`encryptionKeyBefore` is in plaintext"),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_anybody_is_asked(
    wire: Wire, changed: Mapping[str, Any], settings: Settings, secrets: Sequence[Secret], said_of: str
) -> None:
    config(**changed)
    with pytest.raises(RefusedError) as refused:
        decide(secrets=secrets, settings=settings)
    assert said_of in refused.value.happened
    assert "not-for-you" not in str(refused.value)
    assert wire.requests == []


def test_a_lower_counter_is_refused(wire: Wire) -> None:
    with pytest.raises(RefusedError, match="lower than generation 2"):
        decide(state_of(TOKEN=deployed(2)))
    assert wire.requests == []


def test_an_encrypted_key_is_taken() -> None:
    config(encryptionKeyBefore="a-key", secret=["encryptionKeyBefore"])
    decide(state_of(TOKEN=deployed()))


def test_a_secret_that_is_rotated_has_to_be_in_the_map_but_an_age_may_be_of_any_in_it() -> None:
    settings = replace(SETTINGS, max_age_days={"OTHER": 90}, reasons={"OTHER": "leaked"})
    _, impact = decide(state_of(TOKEN=deployed()), (SECRET, OTHER), settings)
    assert not impact.pending


def test_warnings_of_the_preflight_are_passed_on(said: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        preflight,
        "check",
        lambda *_, **__: preflight.Findings(
            secrets={"TOKEN": Finding(outage="Nobody.")}, warnings=["TOKEN: on Monday"]
        ),
    )
    _, impact = decide()
    assert said["warn"] == ["TOKEN: on Monday"]
    assert impact.effects[0].outage == "Nobody."


# What leaves


def test_what_leaves_is_said_and_what_is_named_is_ended(issuer: FakeIssuer, said: dict[str, list[str]]) -> None:
    issuer.seed("t1", name_of(1))
    config(rotations={"OTHER": 1})
    state = replace(state_of(TOKEN=deployed(), OTHER=deployed(secret=OTHER)), apps={})
    (left,) = rotation._leavers(SETTINGS, [SECRET, OTHER], {}, state)
    assert (left.name, left.decommissioned) == ("TOKEN", False)
    _, impact = rotation._decide(SETTINGS, [SECRET, OTHER], {}, state, [left])
    assert [(each.secret, each.decommissioned) for each in impact.departures] == [("TOKEN", False)]
    assert not impact.pending
    config(rotations={"OTHER": 1}, decommission=["TOKEN"])
    (ended,) = rotation._leavers(SETTINGS, [SECRET, OTHER], {}, state)
    _, impact = rotation._decide(SETTINGS, [SECRET, OTHER], {}, state, [ended])
    assert [each.name for each in impact.departures[0].credentials] == [name_of(1)]
    assert [(each.app, each.secrets, each.machines) for each in impact.restarts] == [("cp", ("TOKEN (unset)",), 1)]
    assert said["warn"] == []
    over = replace(state, decommissioned={"TOKEN": Decommissioned(about=ended.about)})
    _, impact = rotation._decide(
        SETTINGS, [SECRET, OTHER], {}, over, rotation._leavers(SETTINGS, [SECRET, OTHER], {}, over)
    )
    assert not impact.pending
    assert said["warn"][0].startswith("TOKEN is decommissioned: take it off `decommission`")


def test_what_is_rotated_and_named_or_half_ended_is_refused() -> None:
    config(decommission=["TOKEN"])
    with pytest.raises(RefusedError, match="which `rotations` lists, too"):
        rotation._leavers(SETTINGS, [SECRET], {}, State())
    config()
    half = replace(state_of(TOKEN=deployed()), apps={"cp": AppInState(gone=("TOKEN",))})
    with pytest.raises(RefusedError, match="after it was unset to be decommissioned"):
        decide(half)


# Where it is said


class _Graph:
    """In place of the graph."""

    def __init__(self, _settings: Settings, rotated: Sequence[Rotated], **_others: object) -> None:
        self.secrets = {each.secret.name: {"generation": each.generation} for each in rotated}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    monkeypatch.setattr(pulumi, "export", outputs.__setitem__)
    monkeypatch.setattr(graph, "Rotation", _Graph)
    monkeypatch.setattr(graph, "Protection", lambda *_, **__: None)
    return outputs


def run(monkeypatch: pytest.MonkeyPatch, state: State, *, preview: bool = True) -> None:
    monkeypatch.setattr(own_state, "read", lambda: state)
    monkeypatch.setattr(rotation, "is_dry_run", lambda: preview)
    rotation.rotate(SETTINGS, [SECRET], not_managed={"GITHUB_TOKEN": "it is built in."})


def test_a_preview_shows_the_table_and_an_update_one_line(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, list[str]], exported: dict[str, Any]
) -> None:
    run(monkeypatch, State())
    assert said["info"] == [render(decide()[1])]
    assert said["info"][0].startswith("What `pulumi up` does on stack prod:\n")
    run(monkeypatch, State(), preview=False)
    assert said["info"][1] == "TOKEN none → 1; restarts 1 machines of cp."
    assert exported["secrets"] == {"TOKEN": {"generation": 1}}
    assert exported["notManaged"] == {"GITHUB_TOKEN": "it is built in."}
    assert exported["impact"]["summary"] == "TOKEN none → 1; restarts 1 machines of cp."
    assert set(exported["impact"]) == {"summary", "secrets", "restarts"}


def test_the_output_is_that_of_the_last_update_that_had_something_to_do(
    monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any], said: dict[str, list[str]]
) -> None:
    run(monkeypatch, replace(state_of(TOKEN=deployed()), outputs={"impact": {"summary": "before"}}))
    assert exported["impact"] == {"summary": "before"}
    assert said["info"] == ["Nothing to rotate on stack prod."]
    run(monkeypatch, state_of(TOKEN=deployed()))
    assert exported["impact"]["summary"] == "Nothing to rotate on stack prod.", "an older version had none"


@pytest.mark.usefixtures("exported")
def test_a_job_gets_the_impact_as_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "impact.json"
    monkeypatch.setenv("ROTATION_IMPACT_FILE", str(path))
    run(monkeypatch, State())
    impact = decide()[1]
    data = json.loads(path.read_text())
    assert data == as_data(impact, text=render(impact))
    validate(data)
    assert path.read_text().endswith("}\n")


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exported: dict[str, Any]
) -> None:
    monkeypatch.setenv("ROTATION_IMPACT_FILE", str(tmp_path / "no" / "impact.json"))
    with pytest.raises(pulumi.RunError, match="cannot be written") as refused:
        run(monkeypatch, State())
    assert "ROTATION_IMPACT_FILE" in str(refused.value)
    assert exported == {}


def test_without_the_variable_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for empty in (None, ""):
        if empty is not None:
            monkeypatch.setenv("ROTATION_IMPACT_FILE", empty)
        rotation._write_impact({"a": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("no", next_step="do it"),
        OperatorError("no", state="as it was", next_step="do it"),
    ],
)
def test_a_refusal_is_shown_without_a_traceback(error: OperatorError) -> None:
    def refuse() -> None:
        raise error

    with pytest.raises(pulumi.RunError) as shown:
        rotation._refusing(refuse)
    assert str(shown.value) == str(error)
    assert shown.value.__suppress_context__
    assert rotation._refusing(lambda: 7) == 7


def test_a_reason_without_work_is_asked_to_be_taken_off_only_where_nothing_waits() -> None:
    family = Family(app="cp", stack="prod", secret="TOKEN", longest_name=255)
    one = Rotated(secret=SECRET, family=family, generation=1, progress=Progress())
    waiting = replace(one, held_back=held("TOKEN")["TOKEN"])
    for rotated, work, warned in (
        (one, Work(), True),
        (one, Work(action=Action.DELIVER, delivers=(CP,)), True),
        (one, Work(action=Action.ROTATE, verifies=True), False),
        (waiting, Work(), False),
    ):
        found = list(rotation._of_reasons(leaked(), [rotated], {"TOKEN": work}))
        assert bool(found) is warned
    assert list(rotation._of_reasons(SETTINGS, [one], {"TOKEN": Work()})) == []


def test_an_operator_credential_of_the_config_is_found_wherever_it_is_needed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's SDK keeps the config in a context, which a thread that asks a provider has to be given."""
    values = {
        "CP_ADMIN_API_TOKEN": "controlPlaneAdminToken",
        "FLY_ACCESS_TOKEN": "flyAccessToken",
    }
    for variable in values:
        monkeypatch.delenv(variable)
    config(secret=list(values.values()), **{key: f"{key}-of-the-config" for key in values.values()})
    decide()
    sent = {request.headers.get("authorization", "") for request in wire.requests}
    assert {f"Bearer {key}-of-the-config" for key in values.values()} <= sent
