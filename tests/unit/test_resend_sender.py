"""Does only a sender pass for one, and only a domain that Resend sends for?"""

import sys
from email.headerregistry import Address
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contacts import CONTACTS
from components.http import ApiError
from components.resend.client import ResendClient
from components.resend.sender import Sender, SenderAddresses, SenderError, parse_sender
from components.verification import resend_from_email_probe
from components.verification.check import CheckFailedError, Subject

from .wire import Wire, reply

# What is a sender


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("noreply@molecule.example", "", "noreply@molecule.example"),
        ("<noreply@molecule.example>", "", "noreply@molecule.example"),
        ("Molecule AI <noreply@molecule.example>", "Molecule AI", "noreply@molecule.example"),
        ('"Molecule, Inc. (AI)" <noreply@molecule.example>', "Molecule, Inc. (AI)", "noreply@molecule.example"),
        (r'"The \"real\" one" <a@molecule.example>', 'The "real" one', "a@molecule.example"),
        ("Molécule ☃ <a@molecule.example>", "Molécule ☃", "a@molecule.example"),
        ("No.Reply+tag@Mail.Molecule.Example", "", "No.Reply+tag@mail.molecule.example"),
        ("a@bücher.example", "", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "", "a@xn--bcher-kva.example"),
        ("a@XN--bcher-KVA.example", "", "a@xn--bcher-kva.example"),
    ],
)
def test_a_mailbox_is_a_sender(text: str, name: str, address: str) -> None:
    assert parse_sender(text) == Sender(display_name=name, address=address, domain=address.rpartition("@")[2])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("a@b.example\n", "begins or ends"),
        (" a@b.example", "begins or ends"),
        ("A\r\nBcc: x@y.example <a@b.example>", "cannot be printed"),
        ("A\n <a@b.example>", "cannot be printed"),
        ("A\tB <a@b.example>", "cannot be printed"),
        ("A\x00 <a@b.example>", "cannot be printed"),
        ("A\x7f <a@b.example>", "cannot be printed"),
        ("A\x85 <a@b.example>", "cannot be printed"),
        ("A\u2028B <a@b.example>", "cannot be printed"),
        ("A\u202eB <a@b.example>", "cannot be printed"),
        ("A\udc80 <a@b.example>", "cannot be printed"),
        (f"{'A' * 1000} <a@b.example>", "longer than 998"),
        ("=?utf-8?q?A=0d=0aBcc:_x?= <a@b.example>", "encoded word"),
        ("=?utf-8?b?QQ==?= <a@b.example>", "encoded word"),
        ("A (comment) <a@b.example>", "comment"),
        ("a@b.example (A)", "comment"),
        ("(" * 900, "comment"),
        ("a@b.example, c@d.example", "several"),
        ("A <a@b.example>, B <c@d.example>", "several"),
        ("A: a@b.example;", "group"),
        ("A: a@b.example, c@d.example;", "group"),
        ("undisclosed-recipients:;", "group"),
        ("a@b.example,", "form"),
        ("A <a@b.example>,", "form"),
        ("a@b.example;", "form"),
        ("A <a@b.example> B", "form"),
        ("A <a@b.example", "form"),
        ("A a@b.example", "form"),
        ("Molecule AI", "form"),
        ("a@", "form"),
        ("A <>", "form"),
        ("@b.example", "form"),
        ("a@b@c.example", "form"),
        ("a..b@c.example", "form"),
        ("a @ b.example", "form"),
        ("a@b.example.", "form"),
        ("a@b..example", "form"),
        ('"a b"@c.example', "form"),
        ('"A', "form"),
        ("A <@x.example:a@b.example>", "form"),
        ("A.B. <a@b.example>", "double quotes"),
        ("[A] <a@b.example>", "double quotes"),
        ("é@b.example", "other characters than ASCII"),
        ("A <é@b.example>", "other characters than ASCII"),
        ("a@[127.0.0.1]", "IP address"),
        ("a@[IPv6:::1]", "IP address"),
        ("a@b_c.example", r"b_c\.example is no domain name"),
        ("a@-b.example", r"-b\.example is no domain name"),
        (f"a@{'b' * 64}.example", "is no domain name"),
        ("a@b。example", "is no domain name"),
        ("a@☃.example", "is no domain name"),
        (f"{'a' * 65}@b.example", "longer than 64"),
    ],
)
def test_anything_else_is_none_and_why(text: str, reason: str) -> None:
    with pytest.raises(SenderError, match=reason):
        parse_sender(text)


@pytest.mark.parametrize(
    "text", ["re_a-key-that-got-here", "A re_a-key-that-got-here@", "re_a-key-that-got-here, a@b.c"]
)
def test_what_is_no_sender_is_not_repeated(text: str) -> None:
    with pytest.raises(SenderError) as refused:
        parse_sender(text)
    assert "re_a-key" not in str(refused.value)
    assert refused.value.__cause__ is None


ATOM = st.text("abcXYZ0189!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
LOCAL_PART = st.lists(ATOM, min_size=1, max_size=3).map(".".join)
LABEL = st.from_regex("[a-z0-9]([a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=20).map(str.strip)
# Texts out of what mailboxes are made of: far more of them nearly are one than of any texts.
CHARACTERS = '@<>"\\(),;: []=?.aé\r\n\x00\u2028'
PHRASES = ("a", "b.example", "a@b.example", "<a@b.example>", "Bcc: c@d.example", "=?utf-8?q?=0a?=", "\r\n ")
PIECES = st.sampled_from([*CHARACTERS, *PHRASES])
ANY = st.text() | st.lists(PIECES, max_size=12).map("".join)


@given(ANY)
def test_any_text_is_a_sender_or_is_refused(text: str) -> None:
    try:
        sender = parse_sender(text)
    except SenderError:
        return
    assert sender.address.isascii()
    assert text.isprintable(), "no line break gets through"
    assert sender.display_name.isprintable(), "nor hidden in the name"
    local_part, _, domain = sender.address.partition("@")
    assert local_part
    assert domain == sender.domain == domain.lower() != ""
    assert parse_sender(sender.address).address == sender.address
    assert sender.is_shown_as(text)


@given(PRINTABLE, LOCAL_PART, DOMAIN)
def test_what_the_standard_library_writes_is_read_again(name: str, local_part: str, domain: str) -> None:
    written = str(Address(name, local_part, domain))
    if "=?" in written:  # may be taken for an encoded word
        return
    sender = parse_sender(written)
    assert sender.address == f"{local_part}@{domain}"
    assert sender.display_name.split() == name.split()
    assert sender.is_shown_as(written)
    if not set(name) & set('"\\'):
        assert sender.is_shown_as(f"{name} <{sender.address}>"), "whether it is quoted or not"
    assert not sender.is_shown_as(f"{name} <x{sender.address}>")


@given(st.sampled_from(["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1e", "\x85", "\u2028", "\u2029"]), PRINTABLE, PRINTABLE)
def test_no_second_header_gets_through(line_break: str, before: str, after: str) -> None:
    for text in (
        f'"{before}{line_break}{after}" <a@b.example>',
        f"{before}{line_break}Bcc: c@d.example{line_break}{after} <a@b.example>",
        f"a@b.example{line_break}{after}",
    ):
        with pytest.raises(SenderError):
            parse_sender(text)


# How a provider shows it

NAMED = parse_sender('"Molecule, Inc." <NoReply@molecule.example>')
BARE = parse_sender("NoReply@molecule.example")


@pytest.mark.parametrize(
    ("sender", "shown", "same"),
    [
        (NAMED, '"Molecule, Inc." <NoReply@molecule.example>', True),
        (NAMED, "Molecule, Inc. <NoReply@Molecule.Example>", True),
        (NAMED, " Molecule,  Inc.<NoReply@molecule.example> ", True),
        (NAMED, '"Molecule," Inc. <NoReply@molecule.example>', False),
        (NAMED, '"Molecule," "Inc." <NoReply@molecule.example>', True),
        (NAMED, "NoReply@molecule.example", False),
        (NAMED, "Molecule Ltd. <NoReply@molecule.example>", False),
        (NAMED, "Molecule, Inc. <noreply@molecule.example>", False),
        (NAMED, "Molecule, Inc. <NoReply@mail.molecule.example>", False),
        (BARE, "NoReply@molecule.example", True),
        (BARE, "<NoReply@molecule.example>", True),
        (BARE, "Molecule <NoReply@molecule.example>", True),
        (BARE, "Molecule <other@molecule.example>", False),
        (BARE, "NoReply@molecule.example <other@molecule.example>", False),
        (BARE, "other@molecule.example", False),
        (BARE, "NoReply@not a domain", False),
        (BARE, "", False),
    ],
)
def test_a_sender_is_known_again(sender: Sender, shown: str, same: bool) -> None:  # noqa: FBT001
    assert sender.is_shown_as(shown) is same


# What Resend and the DNS say


def record(status: str, kind: str = "DKIM", **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"record": kind, "name": "resend._domainkey", "type": "TXT", "status": status, "value": "p=x", **changed}


class World:
    """Resend and the DNS: all is well until a test says otherwise."""

    def __init__(self, wire: Wire) -> None:
        self.domain: dict[str, Any] = {
            "id": "d1",
            "name": "molecule.example",
            "status": "verified",
            "capabilities": {"sending": "enabled", "receiving": "disabled"},
            "records": [record("verified")],
        }
        self.texts: dict[str, list[str]] = {"_dmarc.molecule.example": ["v=DMARC1; p=none"]}
        self.asked: list[str] = []
        self.dns_status = 0
        self.resend: httpx.Response | None = None
        wire.serve = self.serve

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers a request of the wire."""
        if request.url.host == "dns.google":
            name = request.url.params["name"]
            self.asked.append(name)
            records = [{"type": 16, "data": f'"{text}"'} for text in self.texts.get(name, [])]
            return reply(200, {"Status": self.dns_status or (0 if records else 3), "Answer": records})
        if self.resend is not None:
            return self.resend
        if request.url.path == "/domains":
            listed = {key: value for key, value in self.domain.items() if key != "records"}
            other = {"id": "d0", "name": "other.example", "status": "verified"}
            return reply(200, {"has_more": False, "data": [other, listed]})
        assert request.url.path == "/domains/d1"
        return reply(200, {"object": "domain", **self.domain})


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> World:
    """Resend and the DNS."""
    monkeypatch.delenv("DNS_OVER_HTTPS_URL", raising=False)
    return World(wire)


def senders(text: str = "Molecule <a@molecule.example>") -> SenderAddresses:
    return SenderAddresses(client=ResendClient("re_operator"), given=text)


@pytest.mark.parametrize("name", ["molecule.example", "Molecule.Example"])
def test_a_sender_of_a_verified_domain_has_no_obstacle(world: World, name: str) -> None:
    world.domain["name"] = name
    assert senders().obstacles() == []
    assert senders().warnings() == []


def test_capabilities_and_records_may_be_missing(world: World) -> None:
    del world.domain["capabilities"]
    del world.domain["records"]
    assert senders().obstacles() == []


@pytest.mark.parametrize("name", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"])
def test_a_domain_is_the_same_in_either_form(world: World, name: str) -> None:
    world.domain["name"] = name
    assert senders("a@bücher.example").obstacles() == []
    assert senders("a@xn--bcher-kva.example").obstacles() == []


def test_a_domain_of_the_account_that_is_no_name_is_in_nobodys_way(world: World) -> None:
    world.domain["name"] = "not a name"
    (obstacle,) = senders().obstacles()
    assert "is not in this account" in obstacle.happened


def test_what_is_no_sender_is_an_obstacle_and_not_repeated(world: World) -> None:
    (obstacle,) = senders("re_a-key-that-got-here").obstacles()
    assert "RESEND_FROM_EMAIL is no sender: it is not of the form" in obstacle.happened
    assert "pulumi config set --secret --path supplied.RESEND_FROM_EMAIL" in obstacle.next_step
    assert "re_a-key" not in str(obstacle)
    assert senders("re_a-key-that-got-here").warnings() == []
    assert world.asked == []


@pytest.mark.parametrize(
    "domain", ["mail.molecule.example", "example", "ecule.example", "molecule.example.evil.example"]
)
def test_a_domain_that_is_not_in_the_account_is_one(domain: str, world: World) -> None:
    (obstacle,) = senders(f"a@{domain}").obstacles()
    assert f"domain {domain} is not in this account" in obstacle.happened
    assert "resend.com/domains" in obstacle.next_step
    assert world.domain["name"] == "molecule.example"


@pytest.mark.parametrize("status", ["not_started", "pending", "failed", "partially_verified", "partially_failed", ""])
def test_a_domain_of_any_other_status_is_one(world: World, status: str) -> None:
    world.domain["status"] = status
    (obstacle,) = senders().obstacles()
    assert f"domain molecule.example has the status {status}." in obstacle.happened
    assert "verify it at resend.com/domains" in obstacle.next_step
    assert "supplied.RESEND_FROM_EMAIL" in obstacle.next_step


def test_every_record_that_is_missing_is_named(world: World) -> None:
    world.domain["status"] = "pending"
    world.domain["records"] = [
        record("failed", "SPF", name="send", type="MX"),
        record("verified", "SPF", name="send-is-there"),
        record("temporary_failure"),
        record("not_started", "Tracking", name="links", type="CNAME"),
    ]
    (obstacle,) = senders().obstacles()
    assert (
        "has the status pending; records that Resend does not find in its DNS: SPF MX send (failed), "
        "DKIM TXT resend._domainkey (temporary_failure), Tracking CNAME links (not_started)."
    ) in obstacle.happened
    assert "add them at the DNS provider of molecule.example" in obstacle.next_step


def test_a_domain_that_may_not_send_is_one(world: World) -> None:
    world.domain["capabilities"] = {"sending": "disabled", "receiving": "enabled"}
    (obstacle,) = senders().obstacles()
    assert "has sending switched off" in obstacle.happened
    world.domain["status"] = "pending"
    assert len(senders().obstacles()) == 2


def test_no_answer_of_resend_is_an_error(world: World) -> None:
    world.resend = reply(403, {"name": "validation_error", "message": "no"})
    with pytest.raises(ApiError, match="list the domains"):
        senders().obstacles()


@pytest.mark.parametrize("text", ["v=DMARC1; p=none", "v=DMARC1;p=reject", "v = DMARC1 ; p=none", "v=DMARC1"])
def test_a_dmarc_record_is_known(world: World, text: str) -> None:
    world.texts = {"_dmarc.molecule.example": ["unrelated", text]}
    assert senders().warnings() == []
    assert world.asked == ["_dmarc.molecule.example"]


@pytest.mark.parametrize("texts", [[], ["v=DMARC2; p=none"], ["v=DMARC10"], ["p=none; v=DMARC1"], ["v=dmarc1; p=none"]])
def test_without_one_there_is_a_warning_and_no_obstacle(world: World, texts: list[str]) -> None:
    world.texts = {"_dmarc.molecule.example": texts}
    (warning,) = senders().warnings()
    assert "molecule.example has no DMARC record (TXT _dmarc.molecule.example, `v=DMARC1; …`)" in warning
    assert senders().obstacles() == []


def test_the_record_of_the_organization_counts(world: World) -> None:
    world.domain["name"] = "eu.mail.molecule.example"
    assert senders("a@eu.mail.molecule.example").warnings() == []
    assert world.asked == ["_dmarc.eu.mail.molecule.example", "_dmarc.mail.molecule.example", "_dmarc.molecule.example"]
    world.texts = {"_dmarc.example": ["v=DMARC1; p=none"]}
    world.asked.clear()
    assert len(senders("a@eu.mail.molecule.example").warnings()) == 1
    assert world.asked[-1] == "_dmarc.molecule.example", "no top-level domain is anybody's organization"


def test_several_records_are_as_good_as_none(world: World) -> None:
    world.texts = {"_dmarc.molecule.example": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}
    (warning,) = senders("a@mail.molecule.example").warnings()
    assert "_dmarc.molecule.example holds 2 DMARC records" in warning


def test_a_lookup_that_fails_is_a_warning(world: World) -> None:
    world.dns_status = 2
    (warning,) = senders().warnings()
    assert "could not be looked up whether molecule.example has a DMARC record, TXT _dmarc.molecule.example" in warning
    assert "DNS status 2" in warning


def test_it_hands_out_what_it_was_given_and_shows_it_nowhere() -> None:
    given_senders = senders("Molecule <secret-ish@molecule.example>")
    assert given_senders.mint("g1").value == "Molecule <secret-ish@molecule.example>"
    assert "secret-ish" not in repr(given_senders)
    assert "re_operator" not in repr(given_senders)


# The probe


def probe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RESEND_API_KEY", "value-of-RESEND_API_KEY")
    monkeypatch.setattr(sys.stdin, "read", lambda: text, raising=False)
    resend_from_email_probe.probe({}, Subject(secret="RESEND_FROM_EMAIL", generation=2, credential_id="g2"))


@pytest.mark.usefixtures("world")
def test_a_good_sender_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    probe(monkeypatch, "Molecule <a@molecule.example>")
    said = capsys.readouterr().err
    assert "Resend sends for the domain" in said
    assert "warning" not in said


def test_the_probe_shows_the_warnings(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.texts = {}
    probe(monkeypatch, "a@molecule.example")
    assert "warning: molecule.example has no DMARC record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody", "RESEND_FROM_EMAIL is no sender"),
        ("a@molecule.example\n", "begins or ends"),
        ("a@mail.molecule.example", "is not in this account"),
    ],
)
@pytest.mark.usefixtures("world")
def test_the_probe_refuses_what_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    with pytest.raises(CheckFailedError, match=reason) as failed:
        probe(monkeypatch, text)
    assert "supplied.RESEND_FROM_EMAIL" in str(failed.value)


@pytest.mark.parametrize(("status", "called"), [(400, True), (403, True), (404, False), (503, True)])
def test_the_probe_needs_resends_word(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    called: bool,  # noqa: FBT001 - a column
) -> None:
    world.resend = reply(status, {"name": "validation_error", "message": "API key is invalid"})
    with pytest.raises(CheckFailedError, match="did not say whether") as failed:
        probe(monkeypatch, "a@molecule.example")
    assert "value-of-" not in str(failed.value)
    assert failed.value.contact == (CONTACTS["Resend"] if called else "")
