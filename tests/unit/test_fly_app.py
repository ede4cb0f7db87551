"""Can the generic verification fail: for a machine that runs with the value before, an ill one, a URL that does not answer?"""

from collections.abc import Callable

import httpx
import pytest

from components.contacts import CONTACTS
from components.verification import check, fly_app
from components.verification.check import CheckFailedError, Subject

from .fake_fly import FakeFly
from .wire import Clock, Wire, reply

SUBJECT = Subject(secret="TOKEN", generation=2, credential_id="t2")
URL = "https://tenant.test/ready"


@pytest.fixture
def fly(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FakeFly:
    """An app of two machines that run with the new value, and a URL that answers."""
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    fly = FakeFly(clock, 2)
    fly.keep({"TOKEN": "new"})
    fly.restart()
    clock.sleep(1)
    for machine_id in fly.machines:
        fly.now(machine_id)  # its check has run again
    fly.log.clear()
    answering(wire, fly, lambda _request: reply(200))
    return fly


def answering(wire: Wire, fly: FakeFly, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        return answer(request) if request.url.host == "tenant.test" else fly.serve(request)

    wire.serve = serve


def failure(url: str = "", subject: Subject = SUBJECT) -> CheckFailedError:
    with pytest.raises(CheckFailedError) as failed:
        fly_app.verify({"app": "cp", "url": url}, subject)
    return failed.value


def test_machines_that_run_with_the_new_value_are_enough(
    fly: FakeFly, wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    fly_app.verify({"app": "cp"}, SUBJECT)
    assert set(wire.lines) == {"GET /v1/apps/cp/secrets", "GET /v1/apps/cp/machines"}
    assert "2 machines of cp run the new value" in capsys.readouterr().err
    assert fly.log == [], "it only looks"


def test_a_url_is_asked_as_it_is_without_any_credential(
    fly: FakeFly, wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    del fly
    fly_app.verify({"app": "cp", "url": URL + "?deep=1"}, SUBJECT)
    (asked,) = (each for each in wire.requests if each.url.host == "tenant.test")
    assert str(asked.url) == URL + "?deep=1"
    assert asked.method == "GET"
    assert "authorization" not in asked.headers
    assert "answers" in capsys.readouterr().err


def test_a_machine_that_was_not_restarted_is_named(fly: FakeFly) -> None:
    fly.keep({"TOKEN": "newer"})
    fly.restart("m1")
    error = failure()
    assert "m2 of cp still runs with the value before" in str(error)
    assert "m1" not in str(error)


def test_it_is_about_the_secret_of_its_subject(fly: FakeFly) -> None:
    fly.keep({"OTHER": "x"})
    fly_app.verify({"app": "cp", "url": ""}, SUBJECT)
    assert "still runs with the value before" in str(
        failure(subject=Subject(secret="OTHER", generation=1, credential_id="o1"))
    )


@pytest.mark.parametrize("how", ["check", "crash", "gone"])
def test_a_machine_that_is_ill_fails_it(fly: FakeFly, how: str) -> None:
    if how == "check":
        fly.check("m2", "critical")
    elif how == "crash":
        fly.machines["m2"]["state"] = "failed"
    else:
        fly.machines["m2"]["host_status"] = "unreachable"
    assert "m2 of cp is not healthy" in str(failure())


def test_a_machine_that_was_stopped_on_purpose_is_not_ill(fly: FakeFly) -> None:
    fly.machines["m2"]["state"] = "stopped"
    fly_app.verify({"app": "cp", "url": ""}, SUBJECT)


def test_a_secret_that_fly_does_not_have_fails_it(fly: FakeFly) -> None:
    fly.keep({"TOKEN": None})
    assert "cp has no secret TOKEN" in str(failure())


@pytest.mark.parametrize("status", [204, 301, 401, 404, 500, 503])
def test_anything_but_200_fails_it(fly: FakeFly, wire: Wire, status: int) -> None:
    answering(wire, fly, lambda _request: reply(status, location="https://elsewhere.test"))
    error = failure(URL)
    assert str(status) in str(error)
    assert str(error).startswith("health:")
    assert error.contact == "", "it is the operator's own app"


def test_a_url_that_answers_late_is_asked_again(fly: FakeFly, wire: Wire) -> None:
    answers = [reply(503), reply(502), reply(200)]
    answering(wire, fly, lambda _request: answers.pop(0))
    fly_app.verify({"app": "cp", "url": URL}, SUBJECT)
    assert answers == []


def test_a_url_that_nobody_answers_fails_it(fly: FakeFly, wire: Wire) -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    answering(wire, fly, refuse)
    assert "no answer" in str(failure(URL))


def test_both_are_looked_at_and_both_failures_are_named(fly: FakeFly, wire: Wire) -> None:
    answering(wire, fly, lambda _request: reply(404))
    fly.keep({"TOKEN": "newer"})
    text = str(failure(URL))
    assert "machines:" in text
    assert "health:" in text


def test_a_fly_that_refuses_is_a_failure_with_whom_to_call(fly: FakeFly) -> None:
    fly.faults.append(lambda kind, _path, _number: reply(403) if kind == "GET /machines" else None)
    assert failure().contact == CONTACTS["Fly"]


def test_a_setting_that_it_does_not_know_is_an_error(fly: FakeFly) -> None:
    del fly
    with pytest.raises(TypeError, match="typo"):
        fly_app.verify({"app": "cp", "typo": ""}, SUBJECT)


def test_it_is_told_by_the_map_as_every_check() -> None:
    assert fly_app.Settings(app="cp").url == ""
    assert callable(check.run)
