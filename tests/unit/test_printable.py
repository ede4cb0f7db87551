"""Does nothing that others chose move a cursor, reorder a line, or command GitHub's runner?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import settings
from components.errors import OperatorError, RefusedError, refusals
from components.http import ApiError
from components.impact import Age, Effect, Impact, Revoked
from components.impact_text import render
from components.keyring import Issued, Minted, flaw
from components.printable import lines, one_line
from components.secret import Family
from components.work import Action
from tools.audit.findings import NotAudited
from tools.audit.output import text
from tools.ci.report import fenced

HOSTILE = "a\x1b[2J\x07\r\n::set-output name=x::y\n  ::add-mask::z\n##[error]b\N{RIGHT-TO-LEFT OVERRIDE}c\x00\ud800\x9b"


def assert_harmless(said: str) -> None:
    for line in said.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    said.encode()


@given(st.text() | st.text(":#[ \n\t\r\x1b\u202e\ud800"))
def test_any_text_is_made_harmless_and_stays_so(chosen: str) -> None:
    assert_harmless(lines(chosen))
    assert lines(lines(chosen)) == lines(chosen)
    assert one_line(chosen).isprintable()


@pytest.mark.parametrize("said", ["a\n  State: b\n  Next:  c", "1. one\n2. two", "f::g", "ünï ✓ …", ""])
def test_a_text_of_ours_stays_as_it_is(said: str) -> None:
    assert lines(said) == said


def test_a_line_is_cut_where_it_is_told_to() -> None:
    assert one_line("a  b\n c", 3) == "a b…"
    assert one_line("abc", 3) == "abc"


def test_an_error_is_harmless_whatever_it_names() -> None:
    wrong = OperatorError(HOSTILE, state=HOSTILE, next_step=HOSTILE)
    several = refusals([RefusedError(HOSTILE, next_step=HOSTILE), RefusedError("b", next_step="c")])
    for error in (wrong, several):
        assert_harmless(str(error))
        assert_harmless(error.happened)
    assert "\n2. b" in str(several), "what is ours keeps its lines"
    of_a_system = ApiError("Fly", f"revoke {HOSTILE}", status=400, reason=HOSTILE, request_id=HOSTILE)
    assert_harmless(str(of_a_system))
    assert "\n" not in str(of_a_system)
    assert len(str(ApiError("Fly", "x" * 9999, status=400, reason="x" * 9999, request_id="x" * 9999))) < 1100


def test_a_name_at_a_provider_is_harmless_and_never_one_of_ours() -> None:
    family = Family(app="molecule-cp", stack="production", secret="NEON_API_KEY", longest_name=64)
    ours = family.credential_name(3)
    assert family.generation_of(Issued(credential_id="1", name=ours, live=True).name) == 3
    for chosen in (HOSTILE, f"{ours}\x1b[8m", f"{ours[:3]}\N{ZERO WIDTH SPACE}{ours[3:]}"):
        issued = Issued(credential_id="1", name=chosen, live=True)
        assert_harmless(issued.name)
        assert family.generation_of(issued.name) is None


def test_a_preview_is_harmless_whatever_it_names() -> None:
    assert_harmless(text(NotAudited(stack="s", what=HOSTILE, state=HOSTILE, next_step=HOSTILE)))
    fence = fenced(f"{HOSTILE}\n```\n")
    assert_harmless(fence)
    assert fence.startswith("````text\n")
    effect = Effect(
        secret="A",
        action=Action.ROTATE,
        reason="routine",
        generation=2,
        verified=1,
        age=Age(),
        orphans=(Revoked(credential_id="1", name=HOSTILE),),
        locations=(HOSTILE,),
    )
    assert_harmless(render(Impact(stack="s", effects=(effect,), overdue={}, unfinished={})))


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("", "is empty"),
        ("abc\n", "begins or ends"),
        (" abc", "begins or ends"),
        ("a\x00b", "control character"),
        ("a\x1bb", "control character"),
        ("a\x7fb", "control character"),
        ("a\ud800b", "no text"),
        ("FlyV1 fm2_a,fm2_b", ""),
        ("-----BEGIN-----\nabc\n-----END-----", ""),
        ("Molécule <a@b.test>", ""),
    ],
)
def test_what_no_consumer_could_take(value: str, wrong: str) -> None:
    assert bool(flaw(value)) is bool(wrong)
    assert wrong in flaw(value)


def test_a_minted_value_is_not_shown() -> None:
    assert "canary" not in repr(Minted(credential_id="1", value="canary", created_at=""))


@pytest.mark.parametrize("key", settings.TEXTS)
def test_no_setting_has_what_is_not_printed(key: str) -> None:
    config = dict.fromkeys((*settings.TEXTS, *settings.TIMEOUTS), "5") | {
        name: allowed[0] for name, allowed in settings.CHOICES.items()
    }
    config |= {"deployTokenExpiry": "1h", "maxUnavailable": "1", key: f"a{HOSTILE}"}
    with pytest.raises(RefusedError, match=f"`{key}`") as refused:
        settings.load(config.get, owner="o", old_values={}, compromised={}, reasons={}, max_age_days={})
    assert refused.value.happened.count("The config key") == 1
    assert_harmless(str(refused.value))
