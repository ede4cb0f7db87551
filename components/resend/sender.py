"""The address that mail is sent from: one mailbox, of a domain that Resend sends for.

A wrong one breaks nothing that anybody sees: Resend refuses every mail with 403, and the control plane only logs it. So it is checked
before it is delivered, by reading.
"""

import re
from dataclasses import dataclass
from email.errors import MessageError

import idna

from components.dns.client import txt_records
from components.errors import RefusedError
from components.given import GivenValues
from components.http import ApiError
from components.resend.client import Domain, ResendClient

SECRET = "RESEND_FROM_EMAIL"  # noqa: S105 - a name
VERIFIED = "verified"
LONGEST_TEXT = 998  # characters of a header's line (RFC 5322, section 2.1.1)
LONGEST_LOCAL_PART = 64  # RFC 5321, section 4.5.3.1.1
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
ENCODED_WORD = re.compile(r"=\?.*\?=")
DMARC = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(;|$)")  # RFC 7489, section 6.4
SHOWN = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]*)>", re.DOTALL)
# What the parser of the standard library raises on texts that are no mailboxes, beside the defects that it reports.
UNREADABLE = (MessageError, ValueError, LookupError, AttributeError, TypeError, AssertionError, RecursionError)
NEW_VALUE = f"`pulumi config set --secret --path supplied.{SECRET}`"


class SenderError(ValueError):
    """A text that is no sender. Says why, as it reads after a colon, and never quotes more than the domain: the text may be anything."""


@dataclass(frozen=True, kw_only=True)
class Sender:
    """A mailbox.

    Attributes:
        display_name: Without quotes; "" for none.
        address: With the domain in ASCII form and lower case. The local part is as it was given: its case may matter.
        domain: In ASCII form (IDNA) and lower case.
    """

    display_name: str
    address: str
    domain: str

    def is_shown_as(self, text: str) -> bool:
        """Whether a provider means this sender. It may quote the name in its own way, and give one where this has none."""
        try:
            shown = _shown(text.strip())
        except SenderError:
            return False
        return shown.address == self.address and (
            not self.display_name or shown.display_name.split() == self.display_name.split()
        )


def _shown(text: str) -> Sender:
    """Reads what a provider shows, which need not be strict. Raises SenderError where there is no domain in it."""
    try:
        return parse_sender(text)
    except SenderError:
        parts = SHOWN.fullmatch(text)
        name, address = (parts["name"], parts["address"]) if parts else ("", text)
        local_part, _, domain = address.strip().rpartition("@")
        domain = _ascii(domain)
        return Sender(display_name=_unquoted(name), address=f"{local_part}@{domain}", domain=domain)


def _ascii(domain: str) -> str:
    """The ASCII form of a domain. Raises SenderError where it has none."""
    try:
        return idna.encode(domain.lower(), strict=True).decode()
    except idna.IDNAError:
        raise SenderError(f"{domain} is no domain name") from None


def _unquoted(name: str) -> str:
    name = name.strip()
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if QUOTED.fullmatch(name) else name


def parse_sender(text: str) -> Sender:
    """Reads `address` or `Name <address>`: one mailbox of RFC 5322, section 3.4, without anything obsolete.

    Stricter than that where a mail would hardly come out as it was meant: no comments, no encoded words (a name is written as it reads), no
    quoted local part, no address literal.

    Raises:
        SenderError: It is none.
    """
    from email import policy  # noqa: PLC0415 - brings the whole of `email`, and a sender is read once in months

    _refuse_what_hides_something(text)
    try:
        header = policy.default.header_factory("from", text)
        groups, defects = header.groups, header.defects
    except UNREADABLE:
        raise SenderError("it is not of the form `name@domain` or `Name <name@domain>`") from None
    if any(group.display_name is not None for group in groups):
        raise SenderError("it is a group of addresses")
    if len(groups) > 1:
        raise SenderError("it holds several addresses")
    if any("non-ASCII" in str(defect) for defect in defects):
        raise SenderError("what stands before the @ holds other characters than ASCII's")
    if any("period in 'phrase'" in str(defect) for defect in defects) and text.endswith(">"):
        raise SenderError("a name with a period or another special character has to stand in double quotes")
    if defects or [len(group.addresses) for group in groups] != [1]:
        raise SenderError("it is not of the form `name@domain` or `Name <name@domain>`")
    mailbox = groups[0].addresses[0]
    if mailbox.domain.startswith("["):
        raise SenderError("it has an IP address in place of a domain")
    # The parser takes spaces within an address, quotes, and a comma at the end, and does not tell.
    plain = f"{mailbox.username}@{mailbox.domain}"
    if not mailbox.username or not mailbox.domain or (text != plain and not text.endswith(f"<{plain}>")):
        raise SenderError("it is not of the form `name@domain` or `Name <name@domain>`")
    if len(mailbox.username) > LONGEST_LOCAL_PART:
        raise SenderError(f"what stands before the @ is longer than {LONGEST_LOCAL_PART} characters")
    domain = _ascii(mailbox.domain)
    return Sender(display_name=mailbox.display_name, address=f"{mailbox.username}@{domain}", domain=domain)


def _refuse_what_hides_something(text: str) -> None:
    """Raises SenderError for a text that reads otherwise than it works, or that the parser must not see."""
    if not text.strip():
        raise SenderError("it is empty")
    if text != text.strip():
        raise SenderError("it begins or ends with a space or a line break")
    if not text.isprintable():
        raise SenderError("it holds a line break, a tab or another character that cannot be printed")
    if len(text) > LONGEST_TEXT:
        raise SenderError(f"it is longer than {LONGEST_TEXT} characters")
    if ENCODED_WORD.search(text):
        raise SenderError("it holds an encoded word (=?…?=); write the name as it reads")
    if "(" in QUOTED.sub("", text):
        raise SenderError("it holds a comment; a name with parentheses has to stand in double quotes")


@dataclass(frozen=True, kw_only=True)
class SenderAddresses(GivenValues):
    """Senders that the operator supplies.

    Attributes:
        client: With a full-access key: one that may only send cannot read domains.
    """

    client: ResendClient

    def obstacles(self) -> list[RefusedError]:
        """The value has to be a sender, and its very domain one that Resend sends for: else every mail is refused with 403."""
        try:
            sender = parse_sender(self.given)
        except SenderError as error:
            return [
                RefusedError(
                    f"{SECRET} is no sender: {error}.",
                    next_step=f"{NEW_VALUE}, with a value such as `Name <name@domain>`.",
                )
            ]
        return [_refusal(sender.domain, reason, next_step) for reason, next_step in self._findings(sender)]

    def _findings(self, sender: Sender) -> list[tuple[str, str]]:
        """What is wrong with the sender's domain at Resend, and what to do."""
        found = next((each for each in self.client.domains() if _is(each, sender.domain)), None)
        if found is None:
            return [("is not in this account", "add and verify it at resend.com/domains")]
        domain = self.client.domain(found.domain_id)
        findings = []
        if domain.status != VERIFIED:
            findings.append(_unverified(domain))
        if not domain.sending:
            findings.append(("has sending switched off", "switch it on at resend.com/domains"))
        return findings

    def warnings(self) -> list[str]:
        """Without a DMARC record many receivers take mail for spam. Resend neither asks for the record nor looks for it."""
        try:
            domain = parse_sender(self.given).domain
        except SenderError:
            return []
        try:
            name, records = _dmarc(domain)
        except ApiError as error:
            return [f"It could not be looked up whether {domain} has a DMARC record, TXT _dmarc.{domain} ({error})."]
        if not records:
            return [
                f"{domain} has no DMARC record (TXT _dmarc.{domain}, `v=DMARC1; …`), so receivers may take its mail for spam."
            ]
        if len(records) > 1:
            return [f"{name} holds {len(records)} DMARC records, of which receivers then use none: leave one."]
        return []


def _refusal(domain: str, reason: str, next_step: str) -> RefusedError:
    return RefusedError(
        f"Resend would refuse every mail from {SECRET}: domain {domain} {reason}.",
        next_step=f"{next_step}, or supply a sender of another domain: {NEW_VALUE}.",
    )


def _is(domain: Domain, name: str) -> bool:
    try:
        return _ascii(domain.name) == name
    except SenderError:
        return False


def _unverified(domain: Domain) -> tuple[str, str]:
    missing = [
        f"{each.record} {each.type} {each.name} ({each.status})" for each in domain.records if each.status != VERIFIED
    ]
    if not missing:
        return f"has the status {domain.status}", "verify it at resend.com/domains"
    return (
        f"has the status {domain.status}; records that Resend does not find in its DNS: {', '.join(missing)}",
        f"add them at the DNS provider of {domain.name}, with the values that resend.com/domains shows, and verify the domain there",
    )


def _dmarc(domain: str) -> tuple[str, list[str]]:
    """The DMARC records of a domain, else of the nearest one above it that has any, and where they are.

    One of those with two labels or more is the organization's, whose record counts for all below it (RFC 7489, section 6.6.3).
    """
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        name = "_dmarc." + ".".join(labels[start:])
        if records := [text for text in txt_records(name) if DMARC.match(text)]:
            return name, records
    return "", []
