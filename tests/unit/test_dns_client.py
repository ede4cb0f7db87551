"""Does the lookup read what a DNS service says over HTTPS, and take nothing else for an answer?"""

from typing import Any

import httpx
import pytest

from components.dns.client import txt_records
from components.http import ApiError

from .wire import Wire, reply

NAME = "_dmarc.molecule.example"
RECORD = "v=DMARC1; p=none"


@pytest.fixture(autouse=True)
def _no_other_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNS_OVER_HTTPS_URL", raising=False)


def record(data: str, kind: int = 16) -> dict[str, Any]:
    return {"name": f"{NAME}.", "type": kind, "TTL": 300, "data": data}


def answer(*records: dict[str, Any], status: int = 0) -> httpx.Response:
    body: dict[str, Any] = {"Status": status, "TC": False, "Question": [{"name": f"{NAME}.", "type": 16}]}
    return reply(200, {**body, "Answer": list(records)} if records else body)


def test_the_question_goes_to_google_or_where_the_environment_says(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.serve = lambda _request: answer()
    txt_records(NAME)
    assert wire.last.url.copy_with(query=None) == "https://dns.google/resolve"
    assert dict(wire.last.url.params) == {"name": NAME, "type": "TXT"}
    assert "authorization" not in wire.last.headers
    monkeypatch.setenv("DNS_OVER_HTTPS_URL", "http://127.0.0.1:1/")
    txt_records(NAME)
    assert str(wire.last.url).startswith("http://127.0.0.1:1/resolve?")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('"v=DMARC1; p=none"', RECORD),
        (RECORD, RECORD),
        ('"v=DMARC1; " "p=none"', RECORD),
        ('"v=DMARC1;""p=none"', "v=DMARC1;p=none"),
        (r'"say \"a\" \\ \009 \1"', 'say "a" \\ \t 1'),
        (r'"a\"" "b"', 'a"b'),
        ('""', ""),
        ("", ""),
    ],
)
def test_a_text_comes_without_its_quotes(wire: Wire, data: str, text: str) -> None:
    wire.will(answer(record(data)))
    assert txt_records(NAME) == [text]


def test_every_text_counts_and_nothing_else(wire: Wire) -> None:
    wire.will(answer(record("elsewhere.example.", kind=5), record('"one"'), record('"two"'), record("1.2.3.4", kind=1)))
    assert txt_records(NAME) == ["one", "two"]


@pytest.mark.parametrize("status", [0, 3])
def test_no_record_and_no_name_are_both_nothing(wire: Wire, status: int) -> None:
    wire.will(answer(status=status))
    assert txt_records(NAME) == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (answer(status=2), "DNS status 2"),
        (answer(record(RECORD), status=5), "DNS status 5"),
        (reply(200, {"Answer": []}), "no answer of a DNS service"),
        (reply(200, [RECORD]), "no answer of a DNS service"),
        (httpx.Response(200, text="<html>Log in to the network</html>"), "no answer of a DNS service"),
        (reply(400, {"error": "no"}), "status 400"),
        (reply(302, location="https://elsewhere.example"), "status 302"),
        (reply(503), "status 503"),
        (reply(200, {"Status": 0, "Answer": ["x"]}), "another form"),
        (reply(200, {"Status": 0, "Answer": [{"data": RECORD}]}), "another form"),
        (reply(200, {"Status": 0, "Answer": 1}), "another form"),
        (httpx.ConnectTimeout("late"), "no answer"),
    ],
    ids=str,
)
def test_anything_else_is_an_error(wire: Wire, failure: httpx.Response | Exception, reason: str) -> None:
    wire.will(failure, failure)
    with pytest.raises(ApiError, match=reason) as failed:
        txt_records(NAME)
    assert f"DNS: could not look up TXT {NAME}" in str(failed.value)
    wire.answers.clear()


def test_a_lookup_is_tried_twice_and_not_for_long(wire: Wire) -> None:
    wire.will(answer(status=2), answer(record(RECORD)))
    assert txt_records(NAME) == [RECORD]
    wire.serve = lambda _request: reply(503)
    with pytest.raises(ApiError):
        txt_records(NAME)
    assert len(wire.requests) == 4
    assert max(wire.last.extensions["timeout"].values()) <= 5
