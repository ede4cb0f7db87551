"""Is a generation held up exactly where the stack before has not proven it, and is nothing half done held up?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.errors import RefusedError
from components.program_version import ProgramVersion
from components.promotion import (
    Case,
    Decision,
    Override,
    Promotion,
    Verified,
    assert_ordered,
    decide,
    kind_of,
    load,
    obstacles,
    predecessor,
    verified_of,
    verified_with,
    warnings,
)
from components.secret import Check, FlySecret, Issuer, RepositorySecret, Secret, TenantMachines

from .test_secret_map import DECLARED, configured

SECRETS = {declare(configured()).name: declare for declare in DECLARED.values()}
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
THEN = "2026-11-24T12:00:00+00:00"
SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fake", settings={"app": "cp"}),
    fly=(FlySecret(app="cp"),),
    choices={"strategy": "alternate"},
    probe=Check(module="fly_token_probe", settings={"app": "cp"}),
    verification=Check(module="fly_app", settings={"app": "cp"}),
)
OTHER = replace(SECRET, name="OTHER")
VERSION = ProgramVersion(program="p1", requirements="r1")
NOTED = verified_with(SECRET, VERSION)
PROMOTION = Promotion(after="staging", days=30)
WHY = "the only operator of staging is asleep"
OVERRIDDEN = replace(PROMOTION, overrides={"TOKEN": Override(generation=4, reason=WHY)})
PROVEN = {"secrets": {"TOKEN": {"generation": 7.0, "verified_at": THEN, "verified_with": NOTED}}}
# A bump of the counter from 3 to 4.
BUMP = Case(secret=SECRET, generation=4, verified=3, turns=True, verifies=True, leaked=False)


def choose(
    case: Case | list[Case] = BUMP,
    promotion: Promotion = PROMOTION,
    outputs: Mapping[str, Any] | RefusedError = PROVEN,
    version: ProgramVersion = VERSION,
) -> dict[str, Decision]:
    def read() -> Mapping[str, Any]:
        if isinstance(outputs, RefusedError):
            raise outputs
        return outputs

    cases = case if isinstance(case, list) else [case]
    return decide(promotion, cases, version=lambda: version, outputs=read, now=NOW)


def nobody(what: str) -> Callable[[], Any]:
    return lambda: pytest.fail(f"{what} is not needed")


# What the stack before has to have done


def test_what_the_stack_before_has_proven_goes_on_and_says_so() -> None:
    decision = choose()["TOKEN"]
    assert decision.record == {
        "verified_with": NOTED,
        "promotion": {"after": "staging", "generation": 7, "verified_at": THEN},
    }
    assert decision.said == f"stack staging has verified generation 7 with this program, {THEN}"
    assert decision.overridden == ""
    assert warnings(PROMOTION, [BUMP], {"TOKEN": decision}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"verified_with": {**NOTED, "program": "p0"}}, "another version of the program (p0, here p1)"),
        ({"verified_with": {**NOTED, "requirements": "r0"}}, "another version of its requirements (r0, here r1)"),
        (
            {"verified_with": {**NOTED, "kind": {**kind_of(SECRET), "choices": {"strategy": "reset"}}}},
            "as another kind of secret (strategy reset, here alternate)",
        ),
        (
            {"verified_with": {**NOTED, "kind": {**kind_of(SECRET), "locations": []}}},
            "another kind of secret (locations none, here Fly app)",
        ),
        (
            {"verified_with": {**NOTED, "kind": None}},
            "another kind of secret (checks none, here fly_token_probe and fly_app",
        ),
        ({"verified_with": {}}, "with a program that did not note its version yet"),
        ({"verified_with": "?"}, "with a program that did not note its version yet"),
        ({"verified_at": "2026-10-27T11:59:59+00:00"}, "generation 7 30 days ago, and 30 are allowed (`afterDays`)"),
        ({"verified_at": "2026-11-26T13:00:01+00:00"}, "which is yet to come: one of the two clocks is wrong"),
        ({"generation": 0}, "stack staging has verified no TOKEN"),
        ({"verified_at": ""}, "stack staging has verified no TOKEN"),
        ({"verified_at": "yesterday"}, "stack staging has verified no TOKEN"),
        ({"generation": "seven"}, "stack staging has verified no TOKEN"),
    ],
)
def test_what_it_has_not_proven_is_refused_with_the_reason_and_the_way_out(changed: dict[str, Any], said: str) -> None:
    outputs = {"secrets": {"TOKEN": {**PROVEN["secrets"]["TOKEN"], **changed}}}
    with pytest.raises(RefusedError) as refused:
        choose(outputs=outputs)
    assert refused.value.happened.startswith("TOKEN generation 4 waits for stack staging, which goes first (`after`): ")
    assert said in refused.value.happened
    for command in (
        "pulumi config set --stack staging --path 'rotations.TOKEN'",
        "pulumi up --stack staging",
        "pulumi config set --path 'promotionOverrides.TOKEN.generation' 4",
        "pulumi config set --path 'promotionOverrides.TOKEN.reason' 'why'",
        "pulumi config set --path 'reasons.TOKEN' leaked",
    ):
        assert command in refused.value.next_step


@pytest.mark.parametrize(
    "verified_at", ["2026-10-27T12:00:00+00:00", "2026-11-26T13:00:00+00:00", "2026-11-26T12:00:00"]
)
def test_what_is_just_young_enough_does(verified_at: str) -> None:
    verified = Verified(generation=7, verified_at=verified_at, noted=NOTED)
    assert obstacles(verified, NOTED, secret="TOKEN", stack="staging", days=30, now=NOW) == []


def test_everything_that_is_missing_is_said_at_once() -> None:
    noted = {"program": "p0", "requirements": "r0", "kind": {}}
    verified = Verified(generation=7, verified_at="2026-01-01T00:00:00Z", noted=noted)
    assert len(obstacles(verified, NOTED, secret="TOKEN", stack="staging", days=30, now=NOW)) == 4
    with pytest.raises(RefusedError) as refused:
        choose([BUMP, replace(BUMP, secret=OTHER)], outputs={"secrets": {}, "notManaged": {}})
    assert "TOKEN generation 4 waits" in refused.value.happened
    assert "OTHER generation 4 waits" in refused.value.happened


def test_the_next_step_is_one_more_than_what_it_has() -> None:
    for outputs, generation, said in (
        ({"secrets": {}, "impact": {}}, 1, "rotate it on staging with this checkout first"),
        (
            {"secrets": {"TOKEN": {"generation": 7, "verified_at": THEN}}},
            8,
            "rotate it on staging with this checkout first",
        ),
        (
            {"secrets": {"TOKEN": {"generation": 7, "verified_at": THEN, "verified_with": {**NOTED, "kind": {}}}}},
            8,
            "make the settings of both stacks the same",
        ),
    ):
        with pytest.raises(RefusedError) as refused:
            choose(outputs=outputs)
        assert f"--path 'rotations.TOKEN' {generation}`" in refused.value.next_step
        assert said in refused.value.next_step


@pytest.mark.parametrize("outputs", [{}, {"secrets": []}, {"secrets": {"TOKEN": None}}, {"secrets": {"OTHER": {}}}])
def test_outputs_of_whatever_kind_that_prove_nothing(outputs: dict[str, Any]) -> None:
    assert verified_of(outputs, "TOKEN") is None
    with pytest.raises(RefusedError, match=r"has completed no update yet|has verified no TOKEN"):
        choose(outputs=outputs)


def test_a_stack_that_cannot_be_read_is_a_refusal_with_its_own_next_step() -> None:
    gone = RefusedError("there is no stack staging of this project on this backend.", next_step="`pulumi stack ls`.")
    with pytest.raises(RefusedError) as refused:
        choose(outputs=gone)
    assert ": there is no stack staging of this project on this backend." in refused.value.happened
    assert refused.value.next_step.startswith("`pulumi stack ls`. In an emergency")


# What is held up, and what is not


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(BUMP, id="rotate"),
        pytest.param(replace(BUMP, generation=1, verified=0), id="take over"),
        pytest.param(replace(BUMP, verifies=False), id="only staged in this update"),
    ],
)
def test_a_generation_that_is_yet_to_be_minted_is_held_up(case: Case) -> None:
    with pytest.raises(RefusedError):
        choose(case, outputs={})


def test_a_rotation_that_is_half_done_goes_on_and_says_that_it_was_not_proven() -> None:
    case = replace(BUMP, turns=False)
    decision = choose(case, outputs={})["TOKEN"]
    assert decision.overridden == "generation 4 is minted already, and a rotation is never left half-way"
    assert decision.record["promotion"] == {
        "after": "staging",
        "override": decision.overridden,
        "because": "stack staging has completed no update yet",
    }
    assert choose(case, OVERRIDDEN, {})["TOKEN"].overridden == WHY, "what an operator said comes first"
    assert choose(case)["TOKEN"].overridden == ""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(replace(BUMP, generation=3), id="go back"),
        pytest.param(replace(BUMP, generation=3, turns=False), id="verify again"),
    ],
)
def test_what_is_verified_already_is_verified_again_without_asking_anybody(case: Case) -> None:
    before = {"after": "staging", "generation": 6, "verified_at": "before"}
    case = replace(case, recorded={"verified_with": {"program": "p0"}, "promotion": before})
    decided = decide(PROMOTION, [case], version=lambda: VERSION, outputs=nobody("staging"), now=NOW)
    assert decided["TOKEN"] == Decision(record={"verified_with": NOTED, "promotion": before})


@pytest.mark.parametrize("promotion", [PROMOTION, Promotion()])
def test_where_nothing_is_verified_the_record_stays_as_it_is_whatever_the_program_is_now(promotion: Promotion) -> None:
    recorded = {"verified_with": {"program": "p0", "requirements": "r0", "kind": {}}}
    for case in (
        replace(BUMP, generation=3, turns=False, verifies=False, recorded=recorded),
        replace(BUMP, turns=False, verifies=False, recorded=recorded),  # staged, and waiting for a restart
        replace(BUMP, generation=3, verifies=False, recorded=recorded),  # the same, on the way back
        replace(BUMP, generation=3, turns=False, verifies=False, recorded={}),  # verified by an older program
    ):
        decided = decide(promotion, [case], version=nobody("the version"), outputs=nobody("staging"), now=NOW)
        assert decided["TOKEN"] == Decision(record=case.recorded)


def test_without_a_stack_before_the_first_one_notes_what_it_was_made_with() -> None:
    decided = decide(Promotion(), [BUMP], version=lambda: VERSION, outputs=nobody("staging"), now=NOW)
    assert decided["TOKEN"] == Decision(record={"verified_with": NOTED})
    recorded = {"promotion": {"after": "staging", "generation": 1, "verified_at": THEN}}
    decided = decide(
        Promotion(), [replace(BUMP, recorded=recorded)], version=lambda: VERSION, outputs=nobody("staging"), now=NOW
    )
    assert "promotion" not in decided["TOKEN"].record, "that was of another generation"


def test_the_stack_before_is_read_once() -> None:
    reads: list[int] = []

    def read() -> Mapping[str, Any]:
        reads.append(1)
        return PROVEN

    cases = [BUMP, replace(BUMP, secret=OTHER, leaked=True)]
    decide(PROMOTION, cases, version=lambda: VERSION, outputs=read, now=NOW)
    assert reads == [1]


# Overrides


def test_an_override_of_this_very_generation_is_recorded_with_what_was_missing() -> None:
    decisions = choose(BUMP, OVERRIDDEN, {"secrets": {}, "impact": {}})
    decision = decisions["TOKEN"]
    because = "stack staging has verified no TOKEN"
    assert decision.record["promotion"] == {"after": "staging", "override": WHY, "because": because}
    assert decision.record["verified_with"] == NOTED
    assert decision.said == f"NOT PROVEN: {because}; it goes on all the same: {WHY}"
    (warning,) = warnings(OVERRIDDEN, [BUMP], decisions)
    assert warning == (
        f"TOKEN generation 4 goes on without proof on stack staging: {WHY}. Stack staging has verified no TOKEN. This is recorded in the "
        "outputs."
    )


def test_an_override_works_where_the_stack_before_cannot_be_read() -> None:
    gone = RefusedError("there is no stack staging.", next_step="deploy it.")
    assert choose(BUMP, OVERRIDDEN, gone)["TOKEN"].overridden == WHY
    leaked = choose(replace(BUMP, leaked=True), PROMOTION, gone)["TOKEN"]
    assert leaked.overridden == "leaked"
    assert leaked.record["promotion"]["because"] == "there is no stack staging"


def test_a_leak_needs_no_more_and_is_recorded() -> None:
    decision = choose(replace(BUMP, leaked=True), outputs={})["TOKEN"]
    assert decision.record["promotion"]["override"] == "leaked"
    assert choose(replace(BUMP, leaked=True))["TOKEN"].overridden == "", "it had been proven all the same"


@pytest.mark.parametrize("generation", [3, 5])
def test_an_override_of_another_generation_is_none(generation: int) -> None:
    promotion = replace(PROMOTION, overrides={"TOKEN": Override(generation=generation, reason=WHY)})
    with pytest.raises(RefusedError):
        choose(BUMP, promotion, {})


@pytest.mark.parametrize(
    ("promotion", "case", "outputs", "said"),
    [
        (replace(OVERRIDDEN, after=""), BUMP, PROVEN, "has no effect, because no stack goes before this one (`after`)"),
        (
            OVERRIDDEN,
            replace(BUMP, secret=OTHER, leaked=True),
            PROVEN,
            "is for a secret that `rotations` does not list",
        ),
        (
            OVERRIDDEN,
            replace(BUMP, generation=5),
            PROVEN,
            "is for generation 4, and generation 5 is requested",
        ),
        (
            OVERRIDDEN,
            replace(BUMP, verified=4, turns=False, verifies=False),
            PROVEN,
            "is used up, because generation 4 is verified",
        ),
        (OVERRIDDEN, BUMP, PROVEN, "is not needed, because stack staging has verified it"),
        (OVERRIDDEN, replace(BUMP, turns=False, verifies=False), PROVEN, ""),  # staged: it will be recorded
    ],
)
def test_an_override_that_is_for_nothing_is_named(
    promotion: Promotion, case: Case, outputs: dict[str, Any], said: str
) -> None:
    found = [each for each in warnings(promotion, [case], choose(case, promotion, outputs)) if "promotionOv" in each]
    if not said:
        assert found == []
        return
    (warning,) = found
    assert (
        warning
        == f"`promotionOverrides.TOKEN` {said}: take it off (`pulumi config rm --path 'promotionOverrides.TOKEN'`)."
    )


# The config


def test_the_config() -> None:
    overrides = {"TOKEN": {"generation": 4, "reason": f" {WHY} "}}
    assert load(after="staging", days="7", overrides=overrides, encrypted=False) == Promotion(
        after="staging", days=7, overrides={"TOKEN": Override(generation=4, reason=WHY)}
    )
    assert load(after=None, days=None, overrides=None, encrypted=False) == Promotion()
    assert load(after="", days="30", overrides={}, encrypted=False) == Promotion()


@pytest.mark.parametrize("after", ["acme/molecule-secrets/staging", "a stack", "staging:1", "'"])
def test_what_is_no_name_of_a_stack(after: str) -> None:
    with pytest.raises(RefusedError, match="has to be the name of a stack of this project"):
        load(after=after, days="30", overrides={}, encrypted=False)


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "", "a week", "³"])
def test_what_is_no_number_of_days(days: str) -> None:
    with pytest.raises(RefusedError, match="positive whole number of days"):
        load(after="staging", days=days, overrides={}, encrypted=False)


@pytest.mark.parametrize(
    "overrides",
    [
        "TOKEN",
        {"TOKEN": 4},
        {"TOKEN": {"generation": 4}},
        {"TOKEN": {"reason": WHY}},
        {"TOKEN": {"generation": 4, "reason": WHY, "until": "then"}},
        {"TOKEN": {"generation": "4", "reason": WHY}},
        {"TOKEN": {"generation": True, "reason": WHY}},
        {"TOKEN": {"generation": 0, "reason": WHY}},
        {"TOKEN": {"generation": 4, "reason": " "}},
        {"TOKEN": {"generation": 4, "reason": 7}},
        {"TOKEN": {"generation": 4, "reason": "a\nb"}},
        {"TOKEN": {"generation": 4, "reason": "a" * 201}},
    ],
)
def test_what_is_no_override(overrides: object) -> None:
    with pytest.raises(RefusedError, match="which generation may go first here, and why") as refused:
        load(after="staging", days="30", overrides=overrides, encrypted=False)
    assert "promotionOverrides.NAME.reason" in refused.value.next_step


def test_an_encrypted_reason_would_be_shown_to_everybody() -> None:
    overrides = {"TOKEN": {"generation": 4, "reason": "not-for-you"}}
    with pytest.raises(RefusedError, match="is encrypted") as refused:
        load(after="staging", days="30", overrides=overrides, encrypted=True)
    assert "not-for-you" not in str(refused.value)


# The order of the stacks


def test_a_stack_does_not_come_after_itself() -> None:
    with pytest.raises(RefusedError, match="names prod itself"):
        assert_ordered("prod", "prod", lambda _stack: "")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"staging": "prod"}, "prod after staging after prod"),
        ({"staging": "canary", "canary": "prod"}, "prod after staging after canary after prod"),
        ({"staging": ""}, ""),
        ({"staging": "canary"}, ""),
        ({"staging": "canary", "canary": "staging"}, ""),  # theirs to mend: they are told
        ({"staging": "staging"}, ""),
    ],
)
def test_stacks_that_wait_for_each_other_are_told(order: dict[str, str], said: str) -> None:
    if not said:
        assert_ordered("prod", "staging", lambda stack: order.get(stack, ""))
        return
    with pytest.raises(RefusedError) as refused:
        assert_ordered("prod", "staging", lambda stack: order.get(stack, ""))
    assert f"wait for each other: {said}." in refused.value.happened


def test_without_a_stack_before_nothing_is_read() -> None:
    assert_ordered("prod", "", lambda _stack: pytest.fail("nobody is asked"))


def test_which_stack_goes_before_another_one_is_in_its_file(tmp_path: Path) -> None:
    def after(text: str) -> str:
        (tmp_path / "stacks" / "Pulumi.staging.yaml").write_text(text)
        return predecessor(tmp_path, "staging")

    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: ours\nstackConfigDir: stacks\n")
    assert predecessor(tmp_path, "staging") == "", "the file is not here"
    assert after("config:\n  ours:after: canary\n") == "canary"
    for text in (
        "",
        "config:\n",
        "config:\n  ours:app: a\n",
        "config:\n  ours:after:\n    secure: v1:x\n",
        "- a\n",
        "a: [\n",
    ):
        assert after(text) == ""
    (tmp_path / "Pulumi.yaml").unlink()
    assert predecessor(tmp_path, "staging") == ""


# The kind


def test_a_kind_is_the_procedure_and_not_the_place() -> None:
    assert kind_of(SECRET) == {
        "source": "fake",
        "choices": {"strategy": "alternate"},
        "locations": ["Fly app"],
        "checks": ["fly_token_probe", "fly_app"],
    }
    elsewhere = replace(
        SECRET,
        source=Issuer(kind="fake", settings={"app": "another"}),
        fly=(FlySecret(app="another"),),
        probe=Check(module="fly_token_probe", settings={"app": "another"}),
    )
    assert kind_of(elsewhere) == kind_of(SECRET)
    for other in (
        replace(SECRET, source=Issuer(kind="another")),
        replace(SECRET, choices={"strategy": "reset"}),
        replace(SECRET, repositories=(RepositorySecret(owner="o", repository="r", workflow="w"),)),
        replace(SECRET, tenants=TenantMachines(app="t", variable="V")),
        replace(SECRET, probe=None),
        replace(SECRET, verification=Check(module="another")),
    ):
        assert kind_of(other) != kind_of(SECRET)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("FLY_API_TOKEN", "deployTokenProfile", "deploy_organization"),
        ("NEON_API_KEY", "neonKeyScope", "project"),
        ("NEON_API_KEY", "proveUse", "true"),
        ("DATABASE_URL", "databaseStrategy", "reset"),
        ("DATABASE_URL", "databasePooled", "true"),
        ("TENANT_REDIS_URL", "redisStrategy", "reset"),
        ("TENANT_REDIS_URL", "redisRules", "~a* +@read"),
        ("SECRETS_ENCRYPTION_KEY", "encryptionStrategy", "reprovision"),
        ("SECRETS_ENCRYPTION_KEY", "encryptionKeyEncoding", "hex"),
        ("SECRETS_ENCRYPTION_KEY", "encryptionKeyLoader", "hex"),
        ("RESEND_API_KEY", "proveUse", "true"),
        ("STRIPE_WEBHOOK_SECRET", "stripeWebhookSecret", "supplied"),
        ("STRIPE_WEBHOOK_SECRET", "stripeConnect", "true"),
    ],
)
def test_a_setting_that_changes_the_procedure_is_named_where_it_differs(name: str, key: str, value: str) -> None:
    here, there = (SECRETS[name](configured(**changed)) for changed in ({}, {key: value}))
    noted = verified_with(there, VERSION)
    verified = Verified(generation=1, verified_at=THEN, noted=noted)
    (said,) = obstacles(verified, verified_with(here, VERSION), secret=name, stack="staging", days=30, now=NOW)
    assert f"{key} {value}, here " in said


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_the_names_of_an_environment_are_no_part_of_a_kind(name: str) -> None:
    here, there = (
        SECRETS[name](configured(**changed))
        for changed in (
            {},
            {
                "app": "cp-staging",
                "tenantApp": "tenant-staging",
                "deployTokenApp": "tenant-staging",
                "controlPlaneUrl": "https://staging.test",
                "repository": "monorepo-staging",
                "neonProject": "another",
                "neonOrganization": "another",
                "resendDomain": "staging.test",
                "stripeMode": "test",
                "stripeAccount": "acct_another",
                "upstashDatabase": "another",
                "databaseName": "another",
                "healthTimeout": "7",
            },
        )
    )
    assert kind_of(here) == kind_of(there)
