"""Does the report read what the program exports, bear what an older one does not, and take nothing from the config but the counters?"""

import contextlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.report.model import (
    INVISIBLE,
    LONGEST_TEXT,
    ManagedSecret,
    Promotion,
    UnreadableError,
    clean,
    moment,
    parse_stack,
)

from . import report_stacks as stacks


def parsed(secret: object, **outputs: object) -> ManagedSecret:
    """A stack with one secret."""
    return parse_stack("s", {"secrets": {"A": secret}, **outputs}, []).secrets[0]


def test_everything_that_is_exported_of_a_secret_is_read() -> None:
    stack = parse_stack("production", stacks.outputs(), stacks.history())
    by_name = {secret.name: secret for secret in stack.secrets}
    fly, stripe, redis = by_name["FLY_API_TOKEN"], by_name["STRIPE_API_KEY"], by_name["TENANT_REDIS_URL"]
    assert (fly.generation, fly.reason, len(fly.timeline)) == (4, "leaked", 3)
    assert [(each.name, each.consumer) for each in fly.locations] == [stacks.CONTROL_PLANE, stacks.REPOSITORY]
    assert fly.timeline[0].revoked == ("molecule-cp-rotation-production-FLY_API_TOKEN-g3",)
    assert fly.unmanaged[0].name == "molecule-cp-rotation-20260101"
    assert stripe.alive[0].lives_until == datetime(2026, 11, 29, 18, 40, tzinfo=UTC)
    assert stripe.timeline[0].revoked_at is None
    assert redis.overdue
    assert by_name["RESEND_API_KEY"].staged == 3
    assert by_name["DATABASE_URL"].staged is None
    assert by_name["SECRETS_ENCRYPTION_KEY"].verified_at is None
    assert stack.impact.startswith("FLY_API_TOKEN 3 → 4")
    assert list(stack.not_managed) == ["GITHUB_TOKEN"]


def test_which_stack_goes_before_and_whether_it_had_proven_it_is_read() -> None:
    at = "2026-11-26T18:40:07+00:00"
    proven = {"after": "staging", "generation": 7.0, "verified_at": at}
    known = parsed({"promotion": proven, "timeline": [{"generation": 2}]})
    assert known.promotion == Promotion(
        after="staging",
        generation=7,
        verified_at=datetime(2026, 11, 26, 18, 40, 7, tzinfo=UTC),
        override="",
        because="",
    )
    assert known.timeline[0].override == ""
    because = "stack staging has verified no A"
    unproven = {"after": "staging", "override": "a fire", "because": because}
    known = parsed({"promotion": unproven, "timeline": [{"generation": 2, "override": "a fire"}]})
    assert known.promotion == Promotion(
        after="staging", generation=0, verified_at=None, override="a fire", because=because
    )
    assert known.timeline[0].override == "a fire"
    assert parsed({}).promotion is None


def test_an_older_program_that_exports_less_is_read_too() -> None:
    secret = parsed(
        {"generation": 2, "credential_id": "c", "verified_at": "2026-11-26T18:40:07+00:00", "locations": ["Fly app a"]}
    )
    assert (secret.generation, secret.minted_at, secret.rotate_by, secret.timeline) == (2, None, None, ())
    assert [(each.name, each.consumer) for each in secret.locations] == [("Fly app a", "")]
    empty = parsed({})
    assert (empty.generation, empty.locations, empty.overdue) == (0, (), False)
    assert parse_stack("s", {"secrets": {}}, []).impact == ""


@pytest.mark.parametrize(
    ("outputs", "history", "place"),
    [
        ([], [], "the outputs"),
        ({"secrets": "[secret]"}, [], "secrets"),
        ({"secrets": {"A": "[secret]"}}, [], "secrets.A"),
        ({"secrets": {"A": {"generation": "2"}}}, [], "secrets.A.generation"),
        ({"secrets": {"A": {"generation": True}}}, [], "secrets.A.generation"),
        ({"secrets": {"A": {"generation": 1.5}}}, [], "secrets.A.generation"),
        ({"secrets": {"A": {"generation": float("inf")}}}, [], "secrets.A.generation"),
        ({"secrets": {"A": {"credential_id": 7}}}, [], "secrets.A.credential_id"),
        ({"secrets": {"A": {"locations": "Fly"}}}, [], "secrets.A.locations"),
        ({"secrets": {"A": {"locations": [7]}}}, [], "secrets.A.locations"),
        ({"secrets": {"A": {"alive": ["x"]}}}, [], "secrets.A.alive[0]"),
        ({"secrets": {"A": {"overdue": "yes"}}}, [], "secrets.A.overdue"),
        ({"secrets": {"A": {"staged": "3"}}}, [], "secrets.A.staged"),
        ({"secrets": {"A": {"timeline": [{"generation": "1"}]}}}, [], "secrets.A.timeline.generation"),
        ({"notManaged": ["A"]}, [], "notManaged"),
        ({}, {}, "the history"),
        ({}, [7], "history[0]"),
    ],
)
def test_what_is_not_what_the_program_exports_is_refused_with_its_place(
    outputs: object, history: object, place: str
) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_stack("s", outputs, history)
    assert str(caught.value).startswith(f"{place} ")


def test_a_number_may_be_written_as_the_engine_likes() -> None:
    assert parsed({"generation": 3.0}).generation == 3


# The config of the history


def counters(entry: object, key: str = "molecule-secrets:rotations") -> object:
    return dict(parse_stack("s", {}, [{"config": {key: entry}}]).updates[0].counters)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"value": '{"A":1}', "objectValue": {"A": 1, "B": 12}, "secret": False}, {"A": 1, "B": 12}),
        ({"value": '{"A":1}', "secret": False}, {"A": 1}),
        ({"objectValue": {"A": "2"}}, {"A": 2}),
        ({"objectValue": {"A": "a-value", "B": 1}}, {"B": 1}),
        ({"objectValue": {"A": -1, "B": {"secure": "v1:x"}, "C": "\u0661"}}, {}),
        ({"value": "not json"}, {}),
        ({"value": "[secret]", "secret": True}, {}),
        ({"objectValue": {"A": 1}, "secret": True}, {}),
        ("[secret]", {}),
        ({}, {}),
    ],
)
def test_counters_are_read_however_they_are_written(entry: object, expected: object) -> None:
    assert counters(entry) == expected


def test_nothing_of_the_config_or_the_environment_is_kept_but_the_counters() -> None:
    assert counters({"objectValue": {"A": 1}}, key="molecule-secrets:oldRotations") == {}
    text = repr(parse_stack("production", stacks.outputs(), stacks.history()))
    for forbidden in (stacks.ENCRYPTED, stacks.PLAIN_CONFIG, "somebody@", "commit message"):
        assert forbidden in json.dumps(stacks.history())
        assert forbidden not in text


# Text and times


@settings(deadline=None)
@given(st.text(), st.booleans())
def test_nothing_invisible_is_left_of_any_text(text: str, lines: bool) -> None:  # noqa: FBT001 - Hypothesis passes it
    shown = clean(text, lines=lines)
    assert len(shown) <= LONGEST_TEXT
    assert all(unicodedata.category(each) not in INVISIBLE or (lines and each == "\n") for each in shown)
    shown.encode()


def test_text_keeps_what_is_no_trick() -> None:
    assert clean("Fly app molecule-cp → 雪 é 🙂") == "Fly app molecule-cp → 雪 é 🙂"
    assert clean("a\x00b\u202ec\ud800\u200bd") == "a\ufffdb\ufffdc\ufffd\ufffdd"
    assert clean("a\nb") == "a\ufffdb"
    assert clean("a\nb", lines=True) == "a\nb"
    assert clean("x" * 5000) == "x" * (LONGEST_TEXT - 1) + "…"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26T18:40:07+00:00", datetime(2026, 11, 26, 18, 40, 7, tzinfo=UTC)),
        ("2026-11-26T18:40:07Z", datetime(2026, 11, 26, 18, 40, 7, tzinfo=UTC)),
        ("2026-11-26T20:40:07+02:00", datetime(2026, 11, 26, 18, 40, 7, tzinfo=UTC)),
        ("2026-11-26T18:40:07", datetime(2026, 11, 26, 18, 40, 7, tzinfo=UTC)),
        ("2026-11-26T18:40:07.123456789Z", datetime(2026, 11, 26, 18, 40, 7, 123456, tzinfo=UTC)),
        ("", None),
        ("soon", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times_are_read_in_utc(text: str, expected: datetime | None) -> None:
    assert moment(text) == expected


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_no_answer_of_the_engine_makes_more_than_one_kind_of_error(answer: Any) -> None:  # noqa: ANN401 - anything
    with contextlib.suppress(UnreadableError):
        parse_stack("s", {"secrets": {"A": {"generation": answer, "alive": answer, "locations": answer}}}, answer)
