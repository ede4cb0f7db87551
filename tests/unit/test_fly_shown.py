"""What checks share of an app: everything that they decide by, and no secret. And the trial of a token."""

import json
from datetime import datetime

import httpx
import pytest

from components.calls import ApiError
from components.fly.client import FlyClient
from components.fly.shown import machines_of, try_token, written_of

from .wire import Wire, at, booted, reply, shared_folder

OPERATOR = FlyClient(token="fo1_operator-token")
TOKEN = "FlyV1 fm2_tried-token"
CHECK = {"checks": {"http": {"type": "http"}}}


def machine(machine_id: str = "m1", **found: object) -> dict[str, object]:
    return {"id": machine_id, "state": "started", "instance_id": "i", "events": booted(5), "config": {}, **found}


def kept() -> str:
    return "".join(each.read_text() for each in shared_folder().iterdir())


# -- what is shown


def test_a_machine_is_shown_with_what_checks_decide_by(wire: Wire) -> None:
    ill = [{"name": "http", "status": "critical", "updated_at": at(9)}]
    wire.will(
        reply(
            200,
            [
                machine("m2", config=CHECK, checks=ill),
                machine("m1"),
                machine("m3", state="stopped", config=CHECK, checks=ill, events=[]),
                machine("m4", state="destroyed"),
            ],
        )
    )
    first, second, third = machines_of(OPERATOR, "cp")
    assert [each.machine_id for each in (first, second, third)] == ["m1", "m2", "m3"]
    assert (first.illness, second.illness, third.illness) == ("", "health check http is critical", "")
    assert first.has_booted_since(datetime.fromisoformat(at(5)))
    assert not first.has_booted_since(datetime.fromisoformat(at(5.001)))
    assert not third.has_booted_since(datetime.fromisoformat(at(-1e6))), "Fly does not say when"


def test_what_is_shared_holds_no_value(wire: Wire) -> None:
    environment = {"env": {"REDIS_URL": "redis://default:swordfish@tenants.test"}}
    wire.will(
        reply(200, [machine(config=environment)]), reply(200, {"secrets": [{"name": "A", "digest": "digest-of-a"}]})
    )
    machines_of(OPERATOR, "cp")
    written_of(OPERATOR, "cp")
    assert "m1" in kept()
    for secret in ("swordfish", "fo1_operator-token", "REDIS_URL", "digest-of-a"):
        assert secret not in kept()


def test_secrets_are_shown_with_when_they_were_written(wire: Wire) -> None:
    wire.will(
        reply(200, {"secrets": [{"name": "A", "digest": "d", "updated_at": at(1)}, {"name": "B", "digest": "d"}]})
    )
    assert written_of(OPERATOR, "cp") == {"A": at(1), "B": ""}


def test_every_look_is_a_new_one(wire: Wire) -> None:
    wire.will(reply(200, [machine()]), reply(200, []))
    assert machines_of(OPERATOR, "cp")
    assert not machines_of(OPERATOR, "cp")


def test_who_asks_with_another_token_is_not_told_what_the_first_one_was(wire: Wire) -> None:
    wire.will(reply(200, [machine()]), reply(403))
    assert machines_of(OPERATOR, "cp", older=60)
    with pytest.raises(ApiError):
        machines_of(FlyClient(token="fo1_another-token"), "cp", older=60)


# -- the trial of a token


def trial(wire: Wire, *answers: httpx.Response | Exception) -> list[str]:
    """What was asked with the token."""
    wire.will(*answers)
    try:
        try_token(TOKEN, "tenant", operator=OPERATOR)
    finally:
        tried = [f"{each.method} {each.url.path}" for each in wire.requests if each.headers["authorization"] == TOKEN]
        others = {each.headers["authorization"] for each in wire.requests} - {TOKEN}
        assert others <= {"Bearer fo1_operator-token"}
        wire.answers.clear()
    return tried


ONE, LIST = "GET /v1/apps/tenant/machines/m1", "GET /v1/apps/tenant/machines"


def test_one_machine_is_read_with_the_token(wire: Wire) -> None:
    assert trial(wire, reply(200, [machine()]), reply(200, machine())) == [ONE]


def test_many_tokens_are_tried_without_another_list(wire: Wire) -> None:
    trial(wire, reply(200, [machine()]), reply(200, machine()))
    assert trial(wire, reply(200, machine())) == [ONE, ONE]
    assert wire.lines.count(LIST) == 1


def test_machines_are_listed_with_the_token_where_there_is_none(wire: Wire) -> None:
    assert trial(wire, reply(200, []), reply(200, [])) == [LIST]


@pytest.mark.parametrize("status", [403, 404, 422])
def test_machines_are_listed_with_the_token_where_one_shows_nothing(wire: Wire, status: int) -> None:
    """It may be gone since it was listed."""
    assert trial(wire, reply(200, [machine()]), reply(status), reply(200, [])) == [ONE, LIST]


@pytest.mark.parametrize("listed", [reply(401), reply(503), httpx.ConnectError("refused")], ids=str)
def test_an_operator_who_is_told_nothing_proves_nothing_of_the_token(
    wire: Wire, listed: httpx.Response | Exception
) -> None:
    attempts = 1 if isinstance(listed, httpx.Response) and listed.status_code == 401 else 5
    assert trial(wire, *[listed] * attempts, reply(200, [])) == [LIST]


def test_a_refused_token_is_not_tried_again(wire: Wire) -> None:
    with pytest.raises(ApiError) as failed:
        trial(wire, reply(200, [machine()]), reply(401, {"error": json.dumps(f"bad {TOKEN}")}))
    assert failed.value.refused
    assert "fm2_tried-token" not in str(failed.value)
    assert wire.lines[-1] == ONE


@pytest.mark.parametrize("status", [403, 404])
def test_what_the_list_says_counts_in_the_end(wire: Wire, status: int) -> None:
    with pytest.raises(ApiError) as failed:
        trial(wire, reply(200, [machine()]), reply(404), reply(status))
    assert failed.value.status == status


def test_a_fly_that_is_down_is_not_asked_twice_over(wire: Wire) -> None:
    with pytest.raises(ApiError) as failed:
        trial(wire, reply(200, [machine()]), *[reply(503)] * 10)
    assert failed.value.transient
    assert LIST not in wire.lines[1:]
