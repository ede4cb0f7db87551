"""Are the places at GitHub those that the config names, and is everything else refused?"""

import re
from typing import Any

import pytest

from components.errors import RefusedError
from components.github.destinations import Destinations, parse

PLACE: dict[str, Any] = {"owner": "o", "repository": "r", "workflow": "publish.yml"}


@pytest.mark.parametrize(
    ("raw", "places"),
    [
        (None, ["GitHub repository o/r"]),
        ({}, ["GitHub repository o/r"]),
        ({"repository": True}, ["GitHub repository o/r"]),
        ({"environments": "staging"}, ["GitHub environment staging of o/r"]),
        (
            {"repository": True, "environments": ["staging", "e/1"], "dependabot": True},
            [
                "GitHub repository o/r",
                "GitHub environment staging of o/r",
                "GitHub environment e/1 of o/r",
                "GitHub Dependabot of o/r",
            ],
        ),
        (
            {"organization": "selected", "dependabotOrganization": "private", "selectedRepositories": ["s", "r"]},
            ["GitHub organization o", "GitHub Dependabot of organization o"],
        ),
    ],
)
def test_the_places(raw: object, places: list[str]) -> None:
    found = parse(raw, repository="r").locations(**PLACE)
    assert [str(each) for each in found] == places
    assert len({each.key for each in found}) == len(found)
    assert len({each.secrets_path for each in found}) == len(found)


def test_who_may_read_an_organizations_secret() -> None:
    places = parse({"organization": "selected"}, repository="r").locations(**PLACE)
    assert [getattr(each, "selected", None) for each in places] == [("r",)]
    raw = {"organization": "selected", "selectedRepositories": ["s", "r"], "dependabotOrganization": "all"}
    actions, dependabot = parse(raw, repository="r").locations(**PLACE)
    assert (getattr(actions, "selected", None), getattr(dependabot, "selected", None)) == (("r", "s"), ())


def test_an_environments_name_is_escaped() -> None:
    (place,) = parse({"environments": ["e/1 ü"]}, repository="r").locations(**PLACE)
    assert place.secrets_path == "/repos/o/r/environments/e%2F1%20%C3%BC/secrets"


def test_without_a_repository_there_is_no_place() -> None:
    assert Destinations().locations(owner="o", repository="", workflow="w") == ()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("repository", "it has to be a map"),
        (["repository"], "it has to be a map"),
        ({"enviroments": ["x"]}, "no kind of place at GitHub. Did you mean `environments`?"),
        ({"codespaces": True}, "Known: repository"),
        ({"repository": "yes"}, "it has to be true or false"),
        ({"dependabot": 1}, "it has to be true or false"),
        ({"environments": ""}, "a list of names of deployment environments"),
        ({"environments": [" "]}, "a list of names of deployment environments"),
        ({"environments": [7]}, "a list of names of deployment environments"),
        ({"environments": {"a": "b"}}, "a list of names of deployment environments"),
        ({"environments": ["a", "A"]}, "a list of different names"),
        ({"environments": ["a\nb"]}, "printable characters"),
        ({"environments": [".."]}, "printable characters"),
        ({"environments": ["a" * 256]}, "at most 255"),
        ({"organization": True}, "`all`, `private` or `selected`"),
        ({"dependabotOrganization": "some", "repository": True}, "`all`, `private` or `selected`"),
        ({"repository": False}, "no place that a workflow reads"),
        ({"dependabot": True}, "no place that a workflow reads"),
        ({"dependabotOrganization": "all"}, "no place that a workflow reads"),
        ({"repository": True, "selectedRepositories": ["r"]}, "neither `organization` nor"),
        ({"organization": "selected", "selectedRepositories": ["s"]}, "leaves r out"),
        ({"organization": "selected", "selectedRepositories": ["o/r"]}, "without its owner"),
    ],
)
def test_what_is_refused(raw: Any, said: str) -> None:  # noqa: ANN401 - config
    with pytest.raises(RefusedError, match=re.escape(said)) as refused:
        parse(raw, repository="r")
    assert "pulumi config" in refused.value.next_step


def test_destinations_without_a_repository_are_refused() -> None:
    with pytest.raises(RefusedError, match="nothing goes to GitHub"):
        parse({"environments": ["prod"]}, repository="")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        parse({"x": 1, "repository": 1, "organization": 1}, repository="r")
    assert refused.value.happened.count("\n") == 2
