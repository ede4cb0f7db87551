"""Is everything that is wrong with the config refused, all at once, with what is wrong and what to do?"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components import settings
from components.errors import RefusedError
from components.progress import Progress
from components.secret import Check, FlySecret, Random, RepositorySecret, Secret

PROJECT = Path(__file__).parents[2] / "Pulumi.yaml"
DEFAULTS = {
    key: str(described["default"])
    for key, described in yaml.safe_load(PROJECT.read_text())["config"].items()
    if described["type"] != "object"
}
MANAGED = ("FLY_API_TOKEN", "NEON_API_KEY", "STRIPE_API_KEY")
NOT_MANAGED = {"GITHUB_TOKEN": "it is built in."}


def load(**changed: str | None) -> settings.Settings:
    return settings.load(
        {**DEFAULTS, **changed}.get, owner="Molecule-AI", old_values={}, compromised={}, reasons={}, max_age_days={}
    )


def refusal_of(**changed: str | None) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        load(**changed)
    return refused.value


def test_the_defaults_of_the_project_are_good() -> None:
    loaded = load()
    assert loaded.app == "molecule-cp"
    assert loaded.owner == "Molecule-AI"
    assert loaded.max_unavailable == pytest.approx(0.33)
    assert loaded.deploy_token_expiry == "8760h0m0s"
    assert loaded.health_timeout == 300


@pytest.mark.parametrize("key", ["healthTimeout", "orgTimeout", "workflowTimeout", "ciTimeout", "revocationTimeout"])
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "ten", "1e3", " 5", "\N{ARABIC-INDIC DIGIT FIVE}", None])
def test_a_timeout_is_a_positive_whole_number_of_seconds(key: str, text: str | None) -> None:
    error = refusal_of(**{key: text})
    assert key in error.happened
    assert repr(text) in error.happened
    assert key in error.next_step


def test_each_timeout_gets_to_its_own_setting() -> None:
    keys = ["healthTimeout", "orgTimeout", "workflowTimeout", "ciTimeout", "revocationTimeout"]
    loaded = load(**{key: str(number) for number, key in enumerate(keys, 1)})
    assert [getattr(loaded, re.sub("T", "_t", key)) for key in keys] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("2", 2), ("33%", 0.33), ("1%", 0.01), ("99%", 0.99), (" 50% ", 0.5), ("100", 100)],
)
def test_max_unavailable(text: str, value: float) -> None:
    assert load(maxUnavailable=text).max_unavailable == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "0", "0%", "100%", "101%", "-1", "1.5", "33.3%", "%", "5%%", "a third", "\N{SUPERSCRIPT TWO}", None]
)
def test_a_max_unavailable_that_is_no_rolling_restart_is_refused(text: str | None) -> None:
    assert "maxUnavailable" in refusal_of(maxUnavailable=text).happened


@pytest.mark.parametrize("text", ["8760h0m0s", "24h", "90m", "5s", "1h5s"])
def test_durations_that_fly_reads(text: str) -> None:
    assert load(deployTokenExpiry=text).deploy_token_expiry == text


@pytest.mark.parametrize("text", ["", "1", "1d", "1y", "h", "-1h", "1h ", "1m1h", "1h\n", None])
def test_durations_that_fly_does_not_read(text: str | None) -> None:
    assert "deployTokenExpiry" in refusal_of(deployTokenExpiry=text).happened


@pytest.mark.parametrize("profile", ["", "readonly", "Deploy", "deploy ", None])
def test_an_unknown_profile_is_refused(profile: str | None) -> None:
    error = refusal_of(deployTokenProfile=profile)
    assert "deployTokenProfile" in error.happened
    assert "deploy_organization" in error.happened


@pytest.mark.parametrize("key", ["app", "tenantApp", "controlPlaneUrl", "workflow", "deployTokenApp", "orgOwnerUserId"])
@pytest.mark.parametrize("text", ["", None])
def test_a_name_is_needed(key: str, text: str | None) -> None:
    assert f"`{key}`" in refusal_of(**{key: text}).happened


def test_the_ref_may_be_empty() -> None:
    assert load(workflowRef=None).workflow_ref == ""


@pytest.mark.parametrize("owner", [None, ""])
def test_the_owner_is_needed(owner: str | None) -> None:
    with pytest.raises(RefusedError, match="github:owner") as refused:
        settings.load(DEFAULTS.get, owner=owner, old_values={}, compromised={}, reasons={}, max_age_days={})
    assert "pulumi config set github:owner" in refused.value.next_step


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.load(
            {**DEFAULTS, "app": "", "maxUnavailable": "all", "ciTimeout": "0"}.get,
            owner=None,
            old_values=[],
            compromised={},
            reasons={},
            max_age_days={},
        )
    for key in ("github:owner", "app", "maxUnavailable", "ciTimeout", "oldValueExpiresAt"):
        assert key in refused.value.happened
        assert key in refused.value.next_step


def rotations(raw: object) -> dict[str, int]:
    return settings.rotations(raw, managed=MANAGED, not_managed=NOT_MANAGED)


def test_counters_are_taken_as_they_are() -> None:
    assert rotations({"FLY_API_TOKEN": 4, "NEON_API_KEY": 1}) == {"FLY_API_TOKEN": 4, "NEON_API_KEY": 1}
    assert rotations({}) == {}


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "2", True, False, None, [], {}])
def test_a_counter_is_a_positive_whole_number(value: object) -> None:
    with pytest.raises(RefusedError) as refused:
        rotations({"FLY_API_TOKEN": value})
    assert "FLY_API_TOKEN" in refused.value.happened
    assert repr(value) in refused.value.happened
    assert "rotations.FLY_API_TOKEN" in refused.value.next_step


@pytest.mark.parametrize("raw", [None, [], "FLY_API_TOKEN", 3])
def test_rotations_is_a_map(raw: object) -> None:
    with pytest.raises(RefusedError, match="rotations"):
        rotations(raw)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("FLY_TOKEN", "FLY_API_TOKEN"), ("fly_api_token", "FLY_API_TOKEN"), ("NEON_KEY", "NEON_API_KEY")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(RefusedError) as refused:
        rotations({name: 1})
    assert name in refused.value.happened
    assert f"Did you mean {meant}" in refused.value.happened
    assert f"rotations.{name}" in refused.value.next_step


def test_a_name_that_is_near_to_none_is_refused_with_all() -> None:
    with pytest.raises(RefusedError) as refused:
        rotations({"X": 1})
    assert all(name in refused.value.happened for name in MANAGED)


def test_a_name_that_cannot_be_rotated_is_refused_with_the_reason() -> None:
    with pytest.raises(RefusedError, match="it is built in"):
        rotations({"GITHUB_TOKEN": 1})


def test_every_wrong_counter_is_named() -> None:
    with pytest.raises(RefusedError) as refused:
        rotations({"FLY_API_TOKEN": 0, "NEON": 1, "GITHUB_TOKEN": 2, "STRIPE_API_KEY": 3})
    for name in ("FLY_API_TOKEN", "NEON", "GITHUB_TOKEN"):
        assert f"rotations.{name}" in refused.value.next_step
    assert "STRIPE_API_KEY is" not in refused.value.happened


def test_unmanaged_credentials_are_listed_once() -> None:
    found = settings.unmanaged_to_revoke({"FLY_API_TOKEN": ["b", "a", "b"]}, rotated={"FLY_API_TOKEN": 1})
    assert found == {"FLY_API_TOKEN": ["a", "b"]}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (None, "revokeUnmanaged"),
        (["id"], "revokeUnmanaged"),
        ({"FLY_API_TOKEN": "id"}, "revokeUnmanaged.FLY_API_TOKEN"),
        ({"FLY_API_TOKEN": [True]}, "revokeUnmanaged.FLY_API_TOKEN"),
        ({"FLY_API_TOKEN": [1.5]}, "revokeUnmanaged.FLY_API_TOKEN"),
        ({"FLY_API_TOKEN": [""]}, "revokeUnmanaged.FLY_API_TOKEN"),
        ({"FLY_API_TOKEN": None}, "revokeUnmanaged.FLY_API_TOKEN"),
        ({"NEON_API_KEY": ["id"]}, "NEON_API_KEY"),
    ],
)
def test_unmanaged_credentials_are_lists_of_ids_of_rotated_secrets(raw: object, named: str) -> None:
    with pytest.raises(RefusedError) as refused:
        settings.unmanaged_to_revoke(raw, rotated={"FLY_API_TOKEN": 1})
    assert named in refused.value.happened
    assert "revokeUnmanaged" in refused.value.next_step


@pytest.mark.parametrize(
    ("requested", "verified", "refused"),
    [(1, 0, False), (2, 1, False), (2, 2, False), (9, 2, False), (1, 2, True), (3, 9, True)],
)
def test_a_step_back_below_what_was_verified_is_refused(requested: int, verified: int, refused: bool) -> None:  # noqa: FBT001 - a column
    progress = {"FLY_API_TOKEN": Progress(current=10, verified=verified)}
    if not refused:
        settings.assert_no_step_back({"FLY_API_TOKEN": requested}, progress)
        return
    with pytest.raises(RefusedError) as error:
        settings.assert_no_step_back({"FLY_API_TOKEN": requested}, progress)
    assert str(verified) in error.value.happened
    assert f"rotations.FLY_API_TOKEN' {verified + 1}" in error.value.next_step


def test_a_secret_without_progress_may_begin_anywhere() -> None:
    settings.assert_no_step_back({"FLY_API_TOKEN": 7}, {})


def test_every_step_back_is_named() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.assert_no_step_back(dict.fromkeys(MANAGED, 1), dict.fromkeys(MANAGED, Progress(verified=2)))
    assert all(name in refused.value.happened for name in MANAGED)


@given(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.integers())))
def test_no_counter_gets_through_that_is_not_a_positive_integer(value: object) -> None:
    try:
        accepted = rotations({"FLY_API_TOKEN": value})
    except RefusedError:
        return
    assert type(accepted["FLY_API_TOKEN"]) is int
    assert accepted["FLY_API_TOKEN"] >= 1


def test_an_id_of_digits_alone_is_an_id() -> None:
    # `pulumi config set --path` turns it into a number.
    assert settings.unmanaged_to_revoke({"NEON_API_KEY": [494506658, "a"]}, rotated={"NEON_API_KEY": 1}) == {
        "NEON_API_KEY": ["494506658", "a"]
    }


@pytest.mark.parametrize(
    ("key", "field", "allowed"),
    [
        ("deployTokenProfile", "deploy_token_profile", ["deploy", "deploy_organization"]),
        ("neonKeyScope", "neon_key_scope", ["personal", "organization", "project"]),
        ("stripeMode", "stripe_mode", ["live", "test"]),
        ("stripeWebhookSecret", "stripe_webhook_secret", ["endpoint", "supplied"]),
        ("rollout", "rollout", ["rolling", "staged"]),
    ],
)
def test_a_choice_is_one_of_those_that_are_named(key: str, field: str, allowed: list[str]) -> None:
    for each in allowed:
        assert getattr(load(**{key: each}), field) == each
    for wrong in ("", None, "both", allowed[0].upper(), f" {allowed[0]}"):
        error = refusal_of(**{key: wrong})
        assert f"`{key}`" in error.happened
        assert all(f"`{each}`" in error.happened for each in allowed)
        assert key in error.next_step


def test_machines_restart_at_once_unless_it_is_said_otherwise() -> None:
    assert load().rollout == settings.ROLLING


@pytest.mark.parametrize("key", ["stripeTestEvent", "checkoutPlan", "checkoutHost", "neonBranchName"])
@pytest.mark.parametrize("text", ["", None])
def test_a_name_that_a_verification_needs_is_needed(key: str, text: str | None) -> None:
    assert f"`{key}`" in refusal_of(**{key: text}).happened


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("checkoutPlan", "checkout_plan"),
        ("checkoutHost", "checkout_host"),
        ("checkoutReturnUrl", "checkout_return_url"),
    ],
)
def test_the_checkout_is_described(key: str, field: str) -> None:
    assert getattr(load(**{key: "something"}), field) == "something"


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("stripeAccount", "stripe_account"),
        ("checkoutReturnUrl", "checkout_return_url"),
        ("repository", "repository"),
    ],
)
@pytest.mark.parametrize("text", ["", None])
def test_what_not_every_stack_needs_may_be_empty(key: str, field: str, text: str | None) -> None:
    assert getattr(load(**{key: text}), field) == ""


def test_when_old_values_end_is_taken_as_it_is() -> None:
    expiries = {"STRIPE_WEBHOOK_SECRET": "2026-11-30T12:00:00Z", "OTHER": "2026-12-01T00:00:00Z"}
    assert (
        settings.load(
            DEFAULTS.get, owner="o", old_values=expiries, compromised={}, reasons={}, max_age_days={}
        ).old_value_expires_at
        == expiries
    )
    assert load().old_value_expires_at == {}


@pytest.mark.parametrize(
    "raw", [None, [], "2026-11-30T12:00:00Z", 5, {"A": 5}, {"A": None}, {"A": {}}, {"A": "x", "B": 1}]
)
def test_when_old_values_end_is_a_map_of_times(raw: object) -> None:
    with pytest.raises(RefusedError, match="oldValueExpiresAt") as refused:
        settings.load(DEFAULTS.get, owner="o", old_values=raw, compromised={}, reasons={}, max_age_days={})
    assert "pulumi config set oldValueExpiresAt" in refused.value.next_step


@pytest.mark.parametrize(
    ("verified", "oldest_alive", "keep_from"),
    [(0, 0, 0), (3, 0, 3), (3, 3, 3), (3, 2, 2), (3, 1, 1), (3, 5, 3), (0, 1, 0)],
    ids=[
        "nothing verified",
        "nothing else lives",
        "the verified one itself",
        "the one before lives on",
        "an older one lives on",
        "one that was given up lives on",
        "nothing verified, one lives",
    ],
)
def test_values_are_kept_from_the_verified_one_on_and_as_long_as_they_live(
    verified: int, oldest_alive: int, keep_from: int
) -> None:
    assert Progress(current=9, verified=verified, oldest_alive=oldest_alive).keep_from == keep_from


# What is rotated only where it is compromised


def only_if_compromised(name: str = "KEY") -> Secret:
    return Secret(
        name=name,
        source=Random(),
        fly=(FlySecret(app="cp"),),
        verification=Check(module="fly_app"),
        only_if_compromised=True,
    )


def assert_compromised(generation: int, compromised: dict[str, int], *, verified: int = 0) -> None:
    settings.assert_compromised(
        [only_if_compromised()],
        generations={"KEY": generation},
        compromised=compromised,
        progress={"KEY": Progress(current=verified, verified=verified)} if verified else {},
    )


@pytest.mark.parametrize("compromised", [{}, {"KEY": 1}, {"KEY": 3}, {"OTHER": 2}])
@pytest.mark.parametrize("verified", [0, 1])
def test_a_dangerous_rotation_has_to_be_named_with_its_generation(compromised: dict[str, int], verified: int) -> None:
    with pytest.raises(RefusedError, match=r"KEY is rotated only if .* compromised") as refused:
        assert_compromised(2, compromised, verified=verified)
    assert refused.value.next_step == "pulumi config set --path 'compromised.KEY' 2"


def test_a_dangerous_rotation_that_is_named_is_let_through() -> None:
    assert_compromised(2, {"KEY": 2})
    assert_compromised(2, {"KEY": 2}, verified=1)


def test_going_back_to_what_is_verified_is_no_dangerous_rotation() -> None:
    assert_compromised(2, {"KEY": 3}, verified=2)


@pytest.mark.parametrize("raw", [None, [], "KEY", {"KEY": "2"}, {"KEY": True}, {"KEY": 2.0}, {"KEY": None}])
def test_what_is_compromised_is_a_map_of_generations(raw: object) -> None:
    with pytest.raises(RefusedError, match="`compromised`"):
        settings.load(DEFAULTS.get, owner="o", old_values={}, compromised=raw, reasons={}, max_age_days={})
    assert settings.load(
        DEFAULTS.get, owner="o", old_values={}, compromised={"KEY": 2}, reasons={}, max_age_days={}
    ).compromised == {"KEY": 2}


# Reasons and ages


def told(**changed: object) -> settings.Settings:
    keys: dict[str, object] = {"old_values": {}, "compromised": {}, "reasons": {}, "max_age_days": {}, **changed}
    return settings.load(DEFAULTS.get, owner="o", **keys)


def test_reasons_are_taken_as_they_are() -> None:
    reasons = {"FLY_API_TOKEN": "leaked", "NEON_API_KEY": "routine"}
    assert told(reasons=reasons).reasons == reasons
    assert told().reasons == {}


@pytest.mark.parametrize("raw", [None, [], "leaked", {"KEY": "Leaked"}, {"KEY": ""}, {"KEY": None}, {"KEY": 1}])
def test_a_reason_is_one_of_two(raw: object) -> None:
    with pytest.raises(RefusedError, match="`reasons`") as refused:
        told(reasons=raw)
    assert "`routine` or `leaked`" in refused.value.happened


def test_ages_are_taken_as_they_are() -> None:
    assert told(max_age_days={"FLY_API_TOKEN": 90, "NEON_API_KEY": 1}).max_age_days == {
        "FLY_API_TOKEN": 90,
        "NEON_API_KEY": 1,
    }


@pytest.mark.parametrize("raw", [None, 90, [90], {"KEY": "90"}, {"KEY": 0}, {"KEY": -1}, {"KEY": True}, {"KEY": 1.5}])
def test_an_age_is_a_number_of_days(raw: object) -> None:
    with pytest.raises(RefusedError, match="`maxAgeDays`") as refused:
        told(max_age_days=raw)
    assert "positive whole number of days" in refused.value.happened


def test_wrong_reasons_and_ages_are_said_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        told(reasons={"KEY": "because"}, max_age_days={"KEY": 0}, compromised=[])
    for key in ("`reasons`", "`maxAgeDays`", "`compromised`"):
        assert key in refused.value.happened


@pytest.mark.parametrize("key", ["reasons", "maxAgeDays", "compromised"])
def test_a_key_that_speaks_of_no_secret_of_the_program_is_refused(key: str) -> None:
    settings.assert_known(key, ["FLY_API_TOKEN", "NEON_API_KEY"], known=MANAGED)
    settings.assert_known(key, [], known=MANAGED)
    with pytest.raises(RefusedError) as refused:
        settings.assert_known(key, ["FLY_API_TOKEM", "NEON_API_KEY", "QQ"], known=MANAGED)
    assert f"`{key}` lists FLY_API_TOKEM" in refused.value.happened
    assert "Did you mean FLY_API_TOKEN?" in refused.value.happened
    assert f"`{key}` lists QQ" in refused.value.happened
    assert "NEON_API_KEY," not in refused.value.happened.replace("FLY_API_TOKEN, NEON_API_KEY, STRIPE_API_KEY", "")
    assert f"pulumi config rm --path '{key}.FLY_API_TOKEM'" in refused.value.next_step


# What belongs together

COUPLED = Secret(
    name="FLY_API_TOKEN",
    source=Random(),
    fly=(FlySecret(app="cp"),),
    repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
    verification=Check(module="fly_app"),
    coupled=True,
)


def test_a_coupled_secret_that_stands_in_both_systems_is_rotated() -> None:
    settings.assert_coupled([COUPLED])
    settings.assert_coupled([])


@pytest.mark.parametrize("left_out", ["repositories", "fly"])
def test_a_coupled_secret_that_is_left_out_somewhere_is_refused(left_out: str) -> None:
    half = replace(COUPLED, **{left_out: ()})  # type: ignore[arg-type]
    settings.assert_coupled([replace(half, coupled=False)])
    with pytest.raises(RefusedError) as refused:
        settings.assert_coupled([COUPLED, half])
    assert refused.value.happened.startswith("FLY_API_TOKEN stands at Fly and at GitHub")
    assert f"The config names no {'repository' if left_out == 'repositories' else 'Fly app'}." in refused.value.happened
    key = "repository" if left_out == "repositories" else "app"
    assert f"pulumi config set {key} " in refused.value.next_step


def test_every_coupled_secret_that_is_left_out_is_named() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.assert_coupled([replace(COUPLED, repositories=()), replace(COUPLED, name="OTHER", repositories=())])
    assert "FLY_API_TOKEN" in refused.value.happened
    assert "OTHER" in refused.value.happened
