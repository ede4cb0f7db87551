"""Emails (contract: providers.md section 2).

An email is `queued`, `sent` after half of the setting `resend.delivery_seconds`, and then `delivered`, or what its
first recipient at resend.dev asks for (`bounced@`, `complained@`, `suppressed@`). That follows from the clock, so it
survives a restart. Nothing leaves the sandbox. `scheduled_at`, batches and templates are refused (422).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox.resend import domains, settings
from sandbox.resend.wire import Call, ResendError, listing, required, written
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.resend.wire import Handler
    from sandbox.world import World

TEST_DOMAIN: Final = "resend.dev"
MAX_RECIPIENTS: Final = 50
LONGEST_IDEMPOTENCY_KEY: Final = 256
IDEMPOTENCY_HOURS: Final = 24
_OUTCOMES: Final = {"bounced": "bounced", "complained": "complained", "suppressed": "suppressed"}
_ADDRESS: Final = re.compile(r"[^\s<>@,]+@(?P<domain>[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)")
_NAMED_ADDRESS: Final = re.compile(r"[^<>]*<(?P<address>[^<>]+)>")
_FORM: Final = "The email address needs to follow the `email@example.com` or `Name <email@example.com>` format."


@dataclass(frozen=True, kw_only=True)
class Email:
    """An email that was accepted. `content` holds what else the sender gave: texts, copies, tags."""

    id: str
    sender: str
    to: list[str]
    subject: str
    content: dict[str, Any]
    created_at: datetime
    delivery: timedelta


def install(world: World) -> None:
    """Create the tables. Contents are sealed: they are somebody's mail."""
    with world.database:
        for statement in (
            """
            CREATE TABLE IF NOT EXISTS resend_emails (
                id TEXT PRIMARY KEY, sender TEXT NOT NULL, recipients TEXT NOT NULL, subject TEXT NOT NULL,
                content BLOB NOT NULL, created_at TEXT NOT NULL, delivery REAL NOT NULL
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS resend_idempotency_keys (
                key TEXT PRIMARY KEY, body_sha256 TEXT NOT NULL, email TEXT NOT NULL, created_at TEXT NOT NULL
            )
            """,
        ):
            world.database.execute(statement)


def _email(world: World, row: sqlite3.Row) -> Email:
    return Email(
        id=row["id"],
        sender=row["sender"],
        to=json.loads(row["recipients"]),
        subject=row["subject"],
        content=json.loads(world.unseal(row["content"])),
        created_at=datetime.fromisoformat(row["created_at"]),
        delivery=timedelta(seconds=row["delivery"]),
    )


def all_of(world: World) -> list[Email]:
    """Return every email, newest first."""
    return [_email(world, row) for row in world.database.execute("SELECT * FROM resend_emails ORDER BY rowid DESC")]


def last_event(world: World, email: Email) -> str:
    """Return how far an email has come."""
    age = world.now() - email.created_at
    if age < email.delivery / 2:
        return "queued"
    if age < email.delivery:
        return "sent"
    for address in email.to:
        name, _, domain = _bare(address).partition("@")
        if domain == TEST_DOMAIN and name.partition("+")[0] in _OUTCOMES:
            return _OUTCOMES[name.partition("+")[0]]
    return "delivered"


def _bare(address: str) -> str:
    named = _NAMED_ADDRESS.fullmatch(address.strip())
    return (named["address"] if named else address).strip()


def _domain_of(address: str) -> str | None:
    match = _ADDRESS.fullmatch(_bare(address))
    return match["domain"].lower() if match else None


def _addresses(body: dict[str, Any], field: str) -> list[str]:
    value = body.get(field) or []
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list) or not all(isinstance(each, str) and _domain_of(each) for each in addresses):
        raise ResendError(422, "validation_error", f"Invalid `{field}` field. {_FORM}")
    if len(addresses) > MAX_RECIPIENTS:
        raise ResendError(422, "validation_error", f"The `{field}` field has more than {MAX_RECIPIENTS} recipients.")
    return addresses


def _check_sender(call: Call, sender: Any, recipients: list[str]) -> None:  # noqa: ANN401 - any JSON
    """Raise `ResendError` if the key must not send from that address, or nobody may."""
    domain = _domain_of(sender) if isinstance(sender, str) else None
    if domain is None:
        raise ResendError(422, "invalid_from_address", f"Invalid `from` field. {_FORM}")
    if domain == TEST_DOMAIN:
        if all(_domain_of(recipient) == TEST_DOMAIN for recipient in recipients):
            return
        raise ResendError(
            403,
            "validation_error",
            "You can only send testing emails to your own email address. To send emails to other recipients, please "
            "verify a domain at resend.com/domains, and change the `from` address to an email using this domain.",
        )
    known = next((each for each in domains.all_of(call.world) if each.name == domain), None)
    allowed = call.key.scope["domain"]
    if allowed is not None and (known is None or known.id != allowed):
        raise ResendError(403, "validation_error", f"This API key is not authorized to send emails from {domain}")
    if known is None or domains.status(call.world, known) != domains.VERIFIED:
        raise ResendError(
            403,
            "validation_error",
            f"The {domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains",
        )


def _repeated(call: Call, key: str, digest: str) -> str | None:
    """Return the email that a request with this idempotency key made in the last day. Raises `ResendError` 409."""
    since = timestamp(call.world.now() - timedelta(hours=IDEMPOTENCY_HOURS))
    with call.world.database:
        call.world.database.execute("DELETE FROM resend_idempotency_keys WHERE created_at < ?", (since,))
    row = call.world.database.execute("SELECT * FROM resend_idempotency_keys WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if row["body_sha256"] != digest:
        raise ResendError(
            409, "invalid_idempotent_request", "This idempotency key was used with another request body before."
        )
    return str(row["email"])


async def send(call: Call) -> Response:
    """`POST /emails`: 200 with the id, also where the mail never arrives."""
    body = await call.json()
    key = call.request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= LONGEST_IDEMPOTENCY_KEY:
        raise ResendError(400, "invalid_idempotency_key", "The idempotency key must have from 1 to 256 characters.")
    required(body, "from", "to", "subject")
    for field in ("scheduled_at", "template"):
        if body.get(field) is not None:
            raise ResendError(422, "invalid_parameter", f"The sandbox does not know `{field}`.")
    if not body.get("html") and not body.get("text"):
        raise ResendError(422, "missing_required_field", "Missing `html` or `text` field.")
    recipients = _addresses(body, "to")
    others = {field: _addresses(body, field) for field in ("cc", "bcc", "reply_to")}
    _check_sender(call, body["from"], recipients)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    if key is not None and (repeated := _repeated(call, key, digest)) is not None:
        return JSONResponse({"id": repeated})
    content = {**others, **{field: body[field] for field in ("html", "text", "headers", "tags") if body.get(field)}}
    new, now = str(uuid.uuid4()), timestamp(call.world.now())
    with call.world.database:
        if not call.world.number(settings.SWALLOW_EMAILS):
            call.world.database.execute(
                "INSERT INTO resend_emails VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    new,
                    body["from"],
                    json.dumps(recipients),
                    str(body["subject"]),
                    call.world.seal(json.dumps(content).encode()),
                    now,
                    call.world.number(settings.DELIVERY_SECONDS),
                ),
            )
        if key is not None:
            call.world.database.execute(
                "INSERT INTO resend_idempotency_keys VALUES (?, ?, ?, ?)", (key, digest, new, now)
            )
    return JSONResponse({"id": new})


def _json(world: World, email: Email) -> dict[str, Any]:
    return {
        "id": email.id,
        "message_id": f"<{email.id}@{_domain_of(email.sender)}>",
        "to": email.to,
        "from": email.sender,
        "created_at": written(email.created_at),
        "subject": email.subject,
        **{field: email.content[field] for field in ("cc", "bcc", "reply_to")},
        "last_event": last_event(world, email),
        "scheduled_at": None,
    }


async def retrieve(call: Call) -> Response:
    """`GET /emails/{email_id}`: with the texts and tags that it was sent with."""
    for email in all_of(call.world):
        if email.id == call.path("email"):
            texts = {field: email.content[field] for field in ("html", "text", "tags") if field in email.content}
            return JSONResponse({"object": "email", **_json(call.world, email), **texts})
    raise ResendError(404, "not_found", "Email not found")


async def list_all(call: Call) -> Response:
    """`GET /emails`, newest first, without texts."""
    page, more = call.page(all_of(call.world), lambda email: email.id)
    return listing([_json(call.world, email) for email in page], has_more=more)


ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("POST", "/emails", send),
    ("GET", "/emails", list_all),
    ("GET", "/emails/{email}", retrieve),
]
