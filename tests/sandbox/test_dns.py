"""DNS over HTTPS: what exists, what does not, and how a resolver says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from components.dns.client import txt_records
from components.http import ApiError
from sandbox.dns import zones

if TYPE_CHECKING:
    from tests.sandbox.running import Sandbox

DOMAIN = "moleculesai.app"
NAME = f"_dmarc.{DOMAIN}"
RECORD = "v=DMARC1; p=none"


def ask(sandbox: Sandbox, name: str, kind: str | None = "TXT") -> dict[str, Any]:
    parameters = {"name": name} if kind is None else {"name": name, "type": kind}
    url = sandbox.environment["DNS_OVER_HTTPS_URL"] + "/resolve"
    answer = httpx.get(url, params=parameters, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNS_OVER_HTTPS_URL", sandbox.environment["DNS_OVER_HTTPS_URL"])


@pytest.mark.parametrize("name", [NAME, f"{NAME}.", "_DMARC.MoleculesAI.app"])
def test_the_sending_domain_has_a_dmarc_record(sandbox: Sandbox, name: str) -> None:
    body = ask(sandbox, name)
    assert body["Status"] == 0
    assert body["Question"] == [{"name": f"{NAME}.", "type": 16}]
    assert body["Answer"] == [{"name": f"{NAME}.", "type": 16, "TTL": 300, "data": f'"{RECORD}"'}]
    assert ask(sandbox, name, "16")["Answer"] == body["Answer"]
    assert txt_records(name) == [RECORD]


def test_a_name_without_such_a_record_is_no_error(sandbox: Sandbox) -> None:
    for name, kind in ((DOMAIN, "TXT"), (NAME, "A"), (NAME, None), (NAME, "mx")):
        body = ask(sandbox, name, kind)
        assert (body["Status"], "Answer" in body) == (0, False)
    assert txt_records(DOMAIN) == []


def test_any_other_name_does_not_exist(sandbox: Sandbox) -> None:
    for name in ("unknown.example", "_dmarc.unknown.example", f"x.{NAME}", "oleculesai.app"):
        body = ask(sandbox, name)
        assert (body["Status"], "Answer" in body) == (3, False)
        assert txt_records(name) == []


def test_a_domain_can_be_without_one(sandbox: Sandbox) -> None:
    with sandbox.setting(dns__no_dmarc=DOMAIN):
        assert ask(sandbox, NAME)["Status"] == 3
        assert txt_records(NAME) == []
    with sandbox.setting(dns__no_dmarc="other.example"):
        assert txt_records(NAME) == [RECORD]
    assert txt_records(NAME) == [RECORD]


@pytest.mark.parametrize("text", ["x" * 600, 'quotes " and \\ in it', ""])
def test_a_text_of_any_form_arrives(sandbox: Sandbox, text: str) -> None:
    name = f"text-{len(text)}.example"
    with sandbox.world() as world:
        zones.add(world, name, text)
        zones.add(world, name, "another")
    assert txt_records(name) == [text, "another"]
    assert len(ask(sandbox, name)["Answer"][0]["data"].split('" "')) == max(1, -(-len(text) // 255))


@pytest.mark.parametrize(
    "query", ["", "?name=", "?name=.example", "?name=a..example", "?name=é.example", f"?name={'a' * 64}.example"]
)
def test_a_wrong_name_is_refused(sandbox: Sandbox, query: str) -> None:
    url = f"{sandbox.environment['DNS_OVER_HTTPS_URL']}/resolve{query}"
    assert httpx.get(url, timeout=30, trust_env=False).status_code == 400


def test_requests_are_counted_and_can_fail(sandbox: Sandbox) -> None:
    before = sandbox.inspect()["requests"].get("dns GET /resolve", 0)
    with sandbox.fault("--provider", "dns", "--match", "GET", "^/resolve$", "--status", "503"):
        assert txt_records(NAME) == [RECORD], "the second try"
    with (
        sandbox.fault("--provider", "dns", "--match", "GET", "/resolve", "--drop-before", "--count", "9"),
        pytest.raises(ApiError, match="could not look up TXT"),
    ):
        txt_records(NAME)
    assert sandbox.inspect()["requests"]["dns GET /resolve"] == before + 4
    assert sandbox.inspect()["breakages"] == []
