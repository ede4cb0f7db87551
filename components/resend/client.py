"""A client of the Resend API that a rotation needs. No Pulumi here.

Source: Resend's API reference and OpenAPI document. Documentation and recorded answers disagree on what a revoked key gets, so every
recorded form counts.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from components.answers import reads_answers
from components.http import ONCE_TAKEN, REPEATABLE, Api, ApiError, Failure, RetryPolicy, json_body, pages, part
from components.keyring import Issued, Minted
from components.operator_credentials import endpoint
from components.rate_limit import Limit, take_turn

PAGE = 100
# "Usage limits": requests of a team in a second, whatever its keys. Documented as 2 and, more recently, as 5; messages seen say 2, 5 and 10.
# So this counts until Resend has told, which it does with every answer; one request too many is asked again.
REQUESTS_A_SECOND = 5
# A little slower than that, because Resend counts in whole seconds: of three calls half a second apart the last one may be faster on its way
# than the first. And the control plane's mails count, too.
SHARE = 0.75
# Of the control plane's mails, and of those who wait for one: it must not be refused because it is waited for.
SHARE_OF_MAILS = 0.5
MOST_REQUESTS_A_SECOND = 100  # more than a rotation could make
_told: dict[str, int] = {}  # by base URL, in this process
RESTRICTED = "restricted_api_key"
INVALID = "invalid_api_key"
INVALID_TEXT = "API key is invalid"
RECORD_MEMBERS = ("record", "name", "type", "status", "value")


def _base_url() -> str:
    return endpoint("RESEND_API_URL", "https://api.resend.com")


def take_turn_for_a_mail() -> None:
    """Takes a turn for a mail that the control plane is about to send on our account: it counts as our own calls do.

    More time goes by before the next turn than after a call of our own: it takes the control plane now longer, now shorter to get there.
    """
    take_turn(_base_url(), "", _limit(_base_url(), SHARE_OF_MAILS))


def _limit(base_url: str, share: float = SHARE) -> Limit:
    allowed = _told.get(base_url, REQUESTS_A_SECOND)
    return Limit(rate=share * allowed, burst=allowed)


def _failure(response: httpx.Response) -> Failure | None:
    """A revoked or unknown key is 401 here, whether Resend says 400, 401 or 403."""
    if response.is_success:
        return None
    body = json_body(response)
    name, message = (
        ("", "") if not isinstance(body, dict) else (str(body.get("name", "")), str(body.get("message", "")))
    )
    dead = response.status_code in {400, 401, 403} and (name == INVALID or message == INVALID_TEXT)
    return Failure(
        status=httpx.codes.UNAUTHORIZED if dead else response.status_code,
        reason=": ".join(part for part in (name, message) if part),
    )


def _is_dead(error: ApiError) -> bool:
    """Whether the key is revoked or unknown. Another 401 (no key arrived, something before Resend answered) proves nothing."""
    return error.refused and (error.reason.startswith(INVALID) or error.reason.endswith(INVALID_TEXT))


@dataclass(frozen=True, kw_only=True)
class Email:
    """A mail that was sent.

    Attributes:
        email_id: Resend's id.
        sender: As Resend shows it, `Name <address>` or an address alone.
        subject: As it was sent.
        to: Receivers.
        last_event: queued, sent, delivered, bounced, …
        created_at: By Resend's clock.
    """

    email_id: str
    sender: str
    subject: str
    to: tuple[str, ...]
    last_event: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class DomainRecord:
    """A DNS record that Resend wants a domain to have.

    Attributes:
        record: What it is for: SPF, DKIM, Receiving, Tracking or TrackingCAA. Resend asks for no DMARC record.
        name: As Resend shows it, which may leave the domain out.
        type: MX, TXT, CNAME or CAA.
        status: not_started, pending, verified, failed or temporary_failure.
        value: What it has to hold.
    """

    record: str
    name: str
    type: str
    status: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain of the account.

    Attributes:
        domain_id: Resend's id.
        name: The very domain: one above or below it is another.
        status: not_started, pending, verified, failed, partially_verified or partially_failed.
        sending: Whether mail may be sent from it. True where Resend does not say.
        records: What Resend looks for in the DNS. Empty in a list.
    """

    domain_id: str
    name: str
    status: str
    sending: bool = True
    records: tuple[DomainRecord, ...] = ()


def _domain(body: dict[str, Any]) -> Domain:
    return Domain(
        domain_id=body["id"],
        name=body["name"],
        status=body["status"],
        sending=(body.get("capabilities") or {}).get("sending") != "disabled",
        records=tuple(
            DomainRecord(**{member: str(each.get(member) or "") for member in RECORD_MEMBERS})
            for each in body.get("records") or ()
        ),
    )


@reads_answers
@dataclass(frozen=True)
class ResendClient:
    """Calls Resend with one key. The base follows RESEND_API_URL, as Resend's own SDKs do."""

    key: str = field(repr=False)

    def _call(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        policy: RetryPolicy,
        json: object = None,
        parameters: dict[str, str | int] | None = None,
        share: float = SHARE,
    ) -> httpx.Response:
        base_url = _base_url()
        api = Api(
            system="Resend",
            base_url=base_url,
            headers={"authorization": f"Bearer {self.key}"},
            secrets=[self.key],
            judge=_failure,
            # Of which team a key is, Resend does not say: so all keys take turns.
            take_turn=lambda: take_turn(base_url, "", _limit(base_url, share)),
        )
        response = api.call(method, path, operation=operation, json=json, parameters=parameters, policy=policy)
        told = response.headers.get("ratelimit-limit", "")
        if told.isdecimal() and 0 < int(told) <= MOST_REQUESTS_A_SECOND:
            _told[base_url] = int(told)
        return response

    def _pages(self, path: str, *, operation: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        parameters: dict[str, str | int] = {"limit": PAGE}
        count = pages()
        while True:
            next(count)
            body = self._call("GET", path, operation=operation, parameters=parameters, policy=REPEATABLE).json()
            items.extend(body["data"])
            if not body.get("has_more") or not body["data"]:
                return items
            parameters = {"limit": PAGE, "after": body["data"][-1]["id"]}

    def authenticates(self) -> bool:
        """Whether Resend knows the key. One that may only send is refused here with `restricted_api_key`, which proves that it is known.

        Raises:
            ApiError: Resend gave an answer that proves neither.
        """
        try:
            self._call("GET", "/domains", operation="list the domains", parameters={"limit": 1}, policy=REPEATABLE)
        except ApiError as error:
            if error.reason.startswith(RESTRICTED):
                return True
            if _is_dead(error):
                return False
            raise
        return True

    def domain_id(self, name: str) -> tuple[str, str] | None:
        """The id and the status of a domain, None where the account does not have it."""
        for domain in self.domains():
            if domain.name == name:
                return domain.domain_id, domain.status
        return None

    def domains(self) -> list[Domain]:
        """The domains of the account, without their DNS records."""
        return [_domain(each) for each in self._pages("/domains", operation="list the domains")]

    def domain(self, domain_id: str) -> Domain:
        """A domain with its DNS records."""
        path = f"/domains/{part(domain_id)}"
        return _domain(self._call("GET", path, operation=f"read domain {domain_id}", policy=REPEATABLE).json())

    def emails_since(self, moment: datetime) -> list[Email]:
        """The newest mails, as far as they are younger than `moment`; one page."""
        body = self._call(
            "GET",
            "/emails",
            operation="list the mails",
            parameters={"limit": PAGE},
            policy=REPEATABLE,
            share=SHARE_OF_MAILS,
        ).json()
        mails = [
            Email(
                email_id=each["id"],
                sender=each.get("from") or "",
                subject=each.get("subject") or "",
                to=tuple(each.get("to") or ()),
                last_event=each.get("last_event") or "",
                created_at=datetime.fromisoformat(each["created_at"]),
            )
            for each in body["data"]
        ]
        return [mail for mail in mails if mail.created_at >= moment]

    def list_keys(self) -> list[Issued]:
        """The live keys: Resend lists no deleted ones, and says neither permission nor domain."""
        return [
            Issued(credential_id=each["id"], name=each["name"], live=True, created_at=each.get("created_at") or "")
            for each in self._pages("/api-keys", operation="list the API keys")
        ]

    def last_used_at(self, key_id: str) -> datetime | None:
        """When a key was last used; None for never, or for a key that is not listed."""
        for each in self._pages("/api-keys", operation="list the API keys"):
            if each["id"] == key_id and each.get("last_used_at"):
                return datetime.fromisoformat(each["last_used_at"])
        return None

    def create_key(self, *, name: str, domain_id: str, created_at: str) -> Minted:
        """Mints a key that may only send, for one domain. Not repeatable once Resend took it: it has no idempotency key here."""
        body = {"name": name, "permission": "sending_access", "domain_id": domain_id}
        answer = self._call("POST", "/api-keys", operation=f"mint key {name}", json=body, policy=ONCE_TAKEN).json()
        return Minted(credential_id=answer["id"], value=answer["token"], created_at=created_at)

    def delete_key(self, key_id: str) -> None:
        """Deletes a key, at once. One that is gone already (404) is as good."""
        try:
            self._call("DELETE", f"/api-keys/{part(key_id)}", operation=f"delete key {key_id}", policy=REPEATABLE)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
