"""One comment and one issue per stack, found again by marker and author, over pages; what others wrote is left alone."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from components.http import ApiError
from tools.ci.conversation import BOT, Conversation

from .descriptions import DESCRIPTIONS
from .wire import Wire, body_of, reply

API = "https://github.test/api/v3"
GITHUB = Conversation("ghs_token", API)
MARKER = "<!-- marker -->"
BODY = f"{MARKER}\nnew"
US = reply(403, {"message": "Resource not accessible by integration"})


@pytest.fixture(autouse=True)
def _requests_are_as_github_describes_them(wire: Wire) -> Iterator[None]:
    """Answers of this kind are held against the description in the tests of the sandbox, which gives whole ones."""
    yield
    for request in wire.requests:
        for finding in DESCRIPTIONS["github"].findings(request, httpx.Response(500)):
            assert finding.where == "header x-github-api-version", finding


def said(number: int, *, by: str = BOT, body: str | None = f"{MARKER}\nold", **more: object) -> dict[str, Any]:
    return {"id": 1000 + number, "number": number, "user": {"login": by}, "body": body, **more}


def lines(wire: Wire) -> list[str]:
    return [line.replace("/api/v3/repos/o/r", "") for line in wire.lines]


def test_a_comment_is_made_once_and_then_changed(wire: Wire) -> None:
    wire.will(US, reply(200, [said(1, by="somebody"), said(2, body="other"), said(3, body=None)]), reply(201, {}))
    GITHUB.comment("o/r", 7, MARKER, BODY)
    assert lines(wire)[1:] == ["GET /issues/7/comments", "POST /issues/7/comments"]
    assert body_of(wire.last) == {"body": BODY}
    assert str(wire.last.url).startswith(API)

    wire.will(US, reply(200, [said(1, by="somebody"), said(4)]), reply(200, {}))
    GITHUB.comment("o/r", 7, MARKER, BODY)
    assert lines(wire)[-1] == "PATCH /issues/comments/1004"
    assert body_of(wire.last) == {"body": BODY}


def test_a_comment_on_a_later_page_is_found(wire: Wire) -> None:
    wire.will(US, reply(200, [said(number, by="somebody") for number in range(100)]), reply(200, [said(100)]), reply())
    GITHUB.comment("o/r", 7, MARKER, BODY)
    assert [request.url.params.get("page") for request in wire.requests] == [None, "1", "2", None]
    assert lines(wire)[-1] == "PATCH /issues/comments/1100"


def test_a_persons_token_writes_as_that_person(wire: Wire) -> None:
    wire.will(reply(200, {"login": "Operator"}), reply(200, [said(1), said(2, by="operator")]), reply())
    GITHUB.comment("o/r", 7, MARKER, BODY)
    assert lines(wire)[-1] == "PATCH /issues/comments/1002"


def test_a_refused_token_is_an_error(wire: Wire) -> None:
    wire.will(reply(401, {"message": "Bad credentials"}))
    with pytest.raises(ApiError, match="Bad credentials"):
        GITHUB.comment("o/r", 7, MARKER, BODY)


def test_an_issue_is_opened_with_its_label(wire: Wire) -> None:
    foreign = [said(1, by="somebody"), said(2, pull_request={"url": "u"}), said(3, body="other")]
    wire.will(US, reply(200, foreign), reply(422, {"message": "Validation Failed"}), reply(201, {"number": 4}))
    GITHUB.report("o/r", MARKER, title="T", body=BODY)
    assert lines(wire)[1:] == ["GET /issues", "POST /labels", "POST /issues"]
    assert body_of(wire.last) == {"title": "T", "body": BODY, "labels": ["rotation"]}
    assert wire.requests[1].url.params["state"] == "open"


def test_an_open_issue_is_changed_where_there_is_something_new(wire: Wire) -> None:
    wire.will(US, reply(200, [said(9), said(4)]), reply())
    GITHUB.report("o/r", MARKER, title="T", body=BODY)
    assert lines(wire)[-1] == "PATCH /issues/4"
    assert body_of(wire.last) == {"body": BODY}

    wire.will(US, reply(200, [said(4, body=BODY)]))
    GITHUB.report("o/r", MARKER, title="T", body=BODY)
    assert lines(wire)[-1] == "GET /issues"


def test_a_label_that_cannot_be_made_is_an_error(wire: Wire) -> None:
    wire.will(US, reply(200, []), reply(403, {"message": "Resource not accessible by integration"}))
    with pytest.raises(ApiError, match="label"):
        GITHUB.report("o/r", MARKER, title="T", body=BODY)


def test_all_clear_closes_what_is_open_and_says_why(wire: Wire) -> None:
    wire.will(US, reply(200, [said(9), said(3, by="somebody"), said(4)]), *(reply() for _ in range(4)))
    GITHUB.all_clear("o/r", MARKER, comment="clean")
    assert lines(wire)[2:] == [
        "POST /issues/4/comments",
        "PATCH /issues/4",
        "POST /issues/9/comments",
        "PATCH /issues/9",
    ]
    assert body_of(wire.last) == {"state": "closed", "state_reason": "completed"}

    wire.will(US, reply(200, []))
    GITHUB.all_clear("o/r", MARKER, comment="clean")
    assert lines(wire)[-1] == "GET /issues"


def test_what_makes_something_new_is_not_repeated(wire: Wire) -> None:
    wire.will(US, reply(200, []), httpx.ReadError("cut"))
    with pytest.raises(ApiError, match="comment on pull request 7"):
        GITHUB.comment("o/r", 7, MARKER, BODY)
    assert "ghs_token" not in repr(GITHUB)
