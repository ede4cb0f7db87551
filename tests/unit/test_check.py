"""Does a check end in time, say what failed, report what it proved, and let the others clean up?"""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from components.contacts import CONTACTS
from components.errors import OperatorError, RefusedError
from components.http import ApiError
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, EndedError, Subject, together

from .wire import Clock

TOLD = {
    "secret": "TOKEN",
    "generation": 4,
    "credential_id": "t4",
    "minted_at": "2026-11-24T12:00:00Z",
    "subject": "turn 7",
    "settings": {"app": "cp"},
    "state_if_failed": "both values work.",
}


# Deadline


def test_a_poll_ends_when_it_is_done(clock: Clock) -> None:
    answers = iter([False, False, True])
    Deadline(60).poll(lambda: next(answers), waiting_for="it")
    assert clock.naps == [check.POLL_SECONDS] * 2


def test_what_is_done_already_is_not_waited_for(clock: Clock) -> None:
    Deadline(0).poll(lambda: True, waiting_for="it")
    assert clock.naps == []


def test_a_poll_gives_up_in_time_and_says_what_it_waited_for(clock: Clock) -> None:
    with pytest.raises(CheckFailedError, match="the org to be running") as failed:
        Deadline(30).poll(lambda: False, waiting_for="the org to be running")
    assert "30 s" in str(failed.value)
    assert not isinstance(failed.value, EndedError)
    assert 29 <= sum(clock.naps) <= 31


def test_a_deadline_counts_from_when_it_was_set(clock: Clock) -> None:
    deadline = Deadline(30)
    clock.sleep(25)
    clock.naps.clear()
    with pytest.raises(CheckFailedError):
        deadline.poll(lambda: False, waiting_for="it")
    assert sum(clock.naps) <= 6


def test_a_poll_ends_when_another_check_has_failed(nothing_is_ending: threading.Event) -> None:
    nothing_is_ending.set()
    with pytest.raises(EndedError):
        Deadline(10**9).poll(lambda: False, waiting_for="it")


def test_a_long_wait_shows_that_it_is_alive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailedError):
        Deadline(60).poll(lambda: False, waiting_for="the workflow")
    assert 4 <= capsys.readouterr().err.count("waiting: the workflow") <= 6


# Side by side


def test_all_evidence_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    together({"one": lambda: "proof of one", "two": lambda: "proof of two"})
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == ["one: proof of one", "two: proof of two"]


def failing(error: Exception) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


def test_every_failure_is_named() -> None:
    with pytest.raises(CheckFailedError) as failed:
        together(
            {
                "a": failing(CheckFailedError("broken")),
                "b": failing(ApiError("Fly", "look", status=500, reason="down")),
                "c": lambda: "fine",
            }
        )
    assert "a: broken" in str(failed.value)
    assert "b: Fly" in str(failed.value)
    assert "fine" not in str(failed.value)


def test_a_failure_ends_the_waiting_of_the_others_which_clean_up() -> None:
    cleaned: list[str] = []
    waiting = threading.Event()

    def wait() -> str:
        def never() -> bool:
            waiting.set()
            return False

        try:
            Deadline(10**9).poll(never, waiting_for="what never comes")
        finally:
            cleaned.append("cleaned")
        return "no"

    def fail() -> str:
        assert waiting.wait(60)
        raise CheckFailedError("broken")

    with pytest.raises(CheckFailedError) as failed:
        together({"waits": wait, "fails": fail})
    assert str(failed.value) == "fails: broken"
    assert cleaned == ["cleaned"]


def test_a_failure_that_nobody_expected_ends_the_waiting_of_the_others_too(nothing_is_ending: threading.Event) -> None:
    with pytest.raises(Exception, match="not thought of"):
        together({"fails": failing(ValueError("not thought of"))})
    assert nothing_is_ending.is_set()


# The process


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Puts the handler back that a check installs."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verify: Callable[[Mapping[str, Any]], None],
    **told: object,
) -> tuple[int, str, str]:
    monkeypatch.setenv(check.SETTINGS_VARIABLE, json.dumps({**TOLD, **told}))
    with pytest.raises(SystemExit) as ended:
        check.run(lambda settings, _subject: verify(settings))
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


def test_a_success_reports_what_was_verified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    got: list[Mapping[str, Any]] = []
    status, out, _ = run(monkeypatch, capsys, got.append)
    assert status == 0
    assert got == [{"app": "cp"}]
    report = json.loads(out)
    assert (report["generation"], report["subject"]) == (4, "turn 7")
    assert report["verified_at"].endswith("+00:00")
    assert report.keys() == {"generation", "subject", "verified_at"}


def test_a_success_repeats_what_it_was_made_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"verified_with": {"program": "p1"}}
    _, out, _ = run(monkeypatch, capsys, lambda _settings: None, record=record)
    assert json.loads(out)["record"] == record


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (CheckFailedError("the org failed"), "both values work."),
        (ApiError("Fly", "list", status=500, reason="the org failed"), "both values work."),
        (RefusedError("the org failed", next_step="mend it"), "nothing was changed"),
        (OperatorError("the org failed", state="as it was", next_step="mend it"), "as it was"),
    ],
)
def test_a_failure_says_what_happened_what_is_true_and_what_to_do(
    error: Exception, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(_settings: Mapping[str, Any]) -> None:
        raise error

    status, out, err = run(monkeypatch, capsys, verify)
    assert status == 1
    assert out == "", "the engine would take it for a report"
    positions = [err.index(part) for part in ("TOKEN generation 4", "the org failed", state, "Next:")]
    assert positions == sorted(positions)


def test_a_check_that_is_ended_unwinds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nothing_is_ending: threading.Event
) -> None:
    cleaned: list[str] = []

    def verify(_settings: Mapping[str, Any]) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append("cleaned")

    status, out, _ = run(monkeypatch, capsys, verify)
    assert (status, out, cleaned) == (143, "", ["cleaned"])
    assert nothing_is_ending.is_set()


# The subject


def subject_of(monkeypatch: pytest.MonkeyPatch, last_report: str | None, **told: object) -> Subject:
    """What a check is told that it is about, after its last report."""
    got: list[Subject] = []
    monkeypatch.setenv(check.SETTINGS_VARIABLE, json.dumps({**TOLD, **told}))
    if last_report is not None:
        monkeypatch.setenv(check.LAST_REPORT_VARIABLE, last_report)
    with pytest.raises(SystemExit) as ended:
        check.run(lambda _settings, subject: got.append(subject))
    assert ended.value.code == 0
    return got[0]


def test_the_settings_say_what_a_check_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    it = subject_of(monkeypatch, None, secret="ANOTHER", generation=9, credential_id="t9")
    assert it == Subject(secret="ANOTHER", generation=9, credential_id="t9", minted_at="2026-11-24T12:00:00Z")


@pytest.mark.parametrize(
    ("last_report", "before"),
    [
        (None, False),
        ("", False),
        ('{"generation": 4, "subject": "turn 6"}', True),
        ('{"generation": 3, "subject": "turn 7"}', False),
        ('{"generation": 5, "subject": "turn 7"}', False),
        ("{}", False),
        ("[4]", False),
        ("4", False),
        ("waiting: the org to be running", False),
        ('{"generation": 4', False),
    ],
)
def test_a_check_knows_whether_it_has_succeeded_for_this_generation_before(
    monkeypatch: pytest.MonkeyPatch,
    last_report: str | None,
    before: bool,  # noqa: FBT001 - a column
) -> None:
    assert subject_of(monkeypatch, last_report).verified_before is before


def test_the_report_of_a_check_is_what_the_next_one_knows_it_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report, _ = run(monkeypatch, capsys, lambda _settings: None)
    assert subject_of(monkeypatch, report).verified_before
    assert not subject_of(monkeypatch, report, generation=5).verified_before


# Whom to call


@pytest.mark.parametrize(
    ("error", "contact"),
    [
        (ApiError("Fly", "list", status=403, reason="no"), CONTACTS["Fly"]),
        (ApiError("Neon", "list", status=429, reason="later"), CONTACTS["Neon"]),
        (ApiError("Stripe", "list", status=503, reason="down"), CONTACTS["Stripe"]),
        (ApiError("GitHub", "list", status=None, reason="refused"), CONTACTS["GitHub"]),
        (ApiError("Fly", "list", status=404, reason="gone"), ""),
        (ApiError("the app", "list", status=503, reason="down"), ""),
        (CheckFailedError("broken"), ""),
        (CheckFailedError("broken", contact="Fly: by mail"), "Fly: by mail"),
        (RefusedError("no", next_step="mend it", contact="Neon: chat"), "Neon: chat"),
        (RefusedError("no", next_step="mend it"), ""),
    ],
)
def test_a_failed_check_ends_with_whom_to_call(
    error: Exception, contact: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(_settings: Mapping[str, Any]) -> None:
        raise error

    status, out, err = run(monkeypatch, capsys, verify)
    assert (status, out) == (1, "")
    assert err.count("Help:") == (1 if contact else 0)
    if contact:
        assert err.rstrip("\n").endswith(f"  Help:  {contact}")


def test_checks_side_by_side_name_everybody_to_call_once() -> None:
    with pytest.raises(CheckFailedError) as failed:
        together(
            {
                "a": failing(ApiError("Fly", "look", status=500, reason="down")),
                "b": failing(ApiError("Fly", "list", status=403, reason="no")),
                "c": failing(CheckFailedError("broken", contact=CONTACTS["Neon"])),
                "d": failing(ApiError("GitHub", "look", status=404, reason="gone")),
            }
        )
    assert failed.value.contact == f"{CONTACTS['Fly']}; {CONTACTS['Neon']}"


def test_checks_side_by_side_of_whom_none_is_to_be_called() -> None:
    with pytest.raises(CheckFailedError) as failed:
        together({"a": failing(CheckFailedError("broken")), "b": lambda: "fine"})
    assert failed.value.contact == ""


@pytest.mark.parametrize(
    ("told", "leaked"), [({}, False), ({"reason": "routine"}, False), ({"reason": "leaked"}, True)]
)
def test_a_check_knows_whether_the_value_before_has_leaked(
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, object],
    leaked: bool,  # noqa: FBT001 - a column
) -> None:
    assert subject_of(monkeypatch, None, **told).leaked is leaked
