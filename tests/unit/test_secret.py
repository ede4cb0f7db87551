"""Does a family know its own credentials by name, and nobody else's? In which order are locations served?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.secret import Check, Family, FlySecret, Issuer, RepositorySecret, Secret

# What Pulumi allows in the name of a stack, and a program in that of an environment variable.
stacks = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
variables = st.from_regex(r"[A-Z][A-Z0-9_]{0,11}", fullmatch=True)
generations = st.integers(1, 10**9)
FAMILY = Family(app="molecule-cp", stack="prod", secret="FLY_API_TOKEN", longest_name=255)


def test_the_remote_name_is_the_one_that_the_readme_promises() -> None:
    assert FAMILY.credential_name(4) == "molecule-cp-rotation-prod-FLY_API_TOKEN-g4"


@pytest.mark.parametrize(
    ("name", "another"),
    [
        ("molecule-cp-rotation-prod-NEON_API_KEY-g3", True),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g3", False),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN_2-g3", True),
        ("molecule-cp-rotation-prod-eu-NEON_API_KEY-g3", False),
        ("molecule-cp-rotation-prod-NEON_API_KEY-g", False),
        ("molecule-cp-rotation-prod-NEON_API_KEY-g3x", False),
        ("molecule-cp-rotation-prod-NEON_API_KEY", False),
        ("NEON_API_KEY-g3", False),
        ("other-rotation-prod-NEON_API_KEY-g3", False),
    ],
)
def test_a_name_of_another_secret_of_the_same_stack(name: str, another: bool) -> None:  # noqa: FBT001
    assert FAMILY.is_of_another_secret(name) == another


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g1", 1),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g10", 10),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g-1", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g1.5", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g1 ", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g1x", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g\N{ARABIC-INDIC DIGIT ONE}", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN-g\N{SUPERSCRIPT TWO}", None),
        ("molecule-cp-rotation-prod-2-FLY_API_TOKEN-g1", None),
        ("molecule-cp-rotation-pro-FLY_API_TOKEN-g1", None),
        ("molecule-cp-rotation-prod-FLY_API_TOKEN_2-g1", None),
        ("molecule-cp-rotation-prod-API_TOKEN-g1", None),
        ("x-molecule-cp-rotation-prod-FLY_API_TOKEN-g1", None),
        ("MOLECULE-CP-rotation-prod-FLY_API_TOKEN-g1", None),
        ("7", None),
        ("", None),
    ],
)
def test_generation_of(name: str, generation: int | None) -> None:
    assert FAMILY.generation_of(name) == generation


@given(stacks, variables, generations)
def test_a_family_knows_its_own_names(stack: str, secret: str, generation: int) -> None:
    family = Family(app="cp", stack=stack, secret=secret, longest_name=255)
    assert family.generation_of(family.credential_name(generation)) == generation


@given(stacks, variables, stacks, variables, generations)
def test_a_family_knows_no_name_of_another_stack_or_secret(
    stack: str, secret: str, other_stack: str, other_secret: str, generation: int
) -> None:
    mine = Family(app="cp", stack=stack, secret=secret, longest_name=255)
    other = Family(app="cp", stack=other_stack, secret=other_secret, longest_name=255)
    if (stack, secret) != (other_stack, other_secret):
        assert mine.generation_of(other.credential_name(generation)) is None


@given(stacks, variables, st.sampled_from(["-2", "-g1", "2", "-API", "_"]), generations)
def test_a_name_that_only_begins_alike_is_of_another_family(
    stack: str, secret: str, suffix: str, generation: int
) -> None:
    mine = Family(app="cp", stack=stack, secret=secret, longest_name=255)
    other = Family(app="cp", stack=stack + suffix, secret=secret, longest_name=255)
    assert mine.generation_of(other.credential_name(generation)) is None
    assert other.generation_of(mine.credential_name(generation)) is None


def test_fly_is_served_before_github() -> None:
    secret = Secret(
        name="API_TOKEN",
        source=Issuer(kind="fly-deploy-token"),
        fly=(FlySecret(app="one"), FlySecret(app="two")),
        repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
        probe=Check(module="probe"),
        verification=Check(module="verification"),
    )
    assert [str(each) for each in secret.locations] == ["Fly app one", "Fly app two", "GitHub repository o/r"]


@pytest.mark.parametrize("longest_name", [50, 64, 255])
def test_a_name_fits_the_limit_of_the_provider_and_is_found_again(longest_name: int) -> None:
    family = Family(app="molecule-cp", stack="production-of-europe", secret="RESEND_API_KEY", longest_name=longest_name)
    other = Family(app="molecule-cp", stack="production-of-europa", secret="RESEND_API_KEY", longest_name=longest_name)
    name = family.credential_name(9999)
    assert len(name) <= longest_name
    assert family.generation_of(name) == 9999
    assert other.generation_of(name) is None


def test_a_name_that_fits_says_everything() -> None:
    family = Family(app="molecule-cp", stack="sandbox", secret="RESEND_API_KEY", longest_name=50)
    assert family.credential_name(2) == "molecule-cp-rotation-sandbox-RESEND_API_KEY-g2"
