"""Sending domains (contract: providers.md section 2).

A new domain is `not_started`; a verify call makes it `pending`, and after the setting `resend.verification_seconds`
it is `verified`: the records of that kind count as found. The settings `resend.domain_unverified` (SPF is found, DKIM
is not) and `resend.domain_failed` (nothing is) overrule that by name. DMARC is no record of the API: see `sandbox.dns`.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from sandbox.resend import settings
from sandbox.resend.wire import Call, ResendError, listing, required, written
from sandbox.world import timestamp

if TYPE_CHECKING:
    import sqlite3

    from sandbox.resend.wire import Handler
    from sandbox.world import World

VERIFIED: Final = "verified"
REGIONS: Final = frozenset({"us-east-1", "eu-west-1", "sa-east-1", "ap-northeast-1"})
_NAME: Final = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain, with the time from which on it is verified; `None` before the first verify call."""

    id: str
    name: str
    region: str
    created_at: datetime
    verified_at: datetime | None


def install(world: World) -> None:
    """Create the table."""
    with world.database:
        world.database.execute(
            """
            CREATE TABLE IF NOT EXISTS resend_domains (
                id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, region TEXT NOT NULL, created_at TEXT NOT NULL,
                verified_at TEXT
            )
            """
        )


def _domain(row: sqlite3.Row) -> Domain:
    verified = row["verified_at"]
    return Domain(
        id=row["id"],
        name=row["name"],
        region=row["region"],
        created_at=datetime.fromisoformat(row["created_at"]),
        verified_at=None if verified is None else datetime.fromisoformat(verified),
    )


def all_of(world: World) -> list[Domain]:
    """Return every domain, newest first."""
    return [_domain(row) for row in world.database.execute("SELECT * FROM resend_domains ORDER BY rowid DESC")]


def get(world: World, identifier: str) -> Domain:
    """Return a domain by its id. Raises `ResendError` 404."""
    for domain in all_of(world):
        if domain.id == identifier:
            return domain
    raise ResendError(404, "not_found", "Domain not found")


def add(world: World, name: str, *, region: str = "us-east-1", verified: bool = False) -> Domain:
    """Create a domain."""
    domain = Domain(
        id=str(uuid.uuid4()),
        name=name,
        region=region,
        created_at=world.now(),
        verified_at=world.now() if verified else None,
    )
    with world.database:
        world.database.execute(
            "INSERT INTO resend_domains VALUES (?, ?, ?, ?, ?)",
            (
                domain.id,
                name,
                region,
                timestamp(domain.created_at),
                None if domain.verified_at is None else timestamp(domain.verified_at),
            ),
        )
    return domain


def status(world: World, domain: Domain) -> str:
    """Return a domain's status."""
    if domain.name == world.text(settings.DOMAIN_FAILED):
        return "failed"
    if domain.name == world.text(settings.DOMAIN_UNVERIFIED):
        return "pending"
    if domain.verified_at is None:
        return "not_started"
    return VERIFIED if domain.verified_at <= world.now() else "pending"


def _summary(world: World, domain: Domain) -> dict[str, Any]:
    return {
        "id": domain.id,
        "name": domain.name,
        "status": status(world, domain),
        "created_at": written(domain.created_at),
        "region": domain.region,
        "open_tracking": False,
        "click_tracking": False,
        "capabilities": {"sending": "enabled", "receiving": "disabled"},
    }


def _records(world: World, domain: Domain) -> list[dict[str, Any]]:
    """Return the DNS records that the domain needs; each has the status that the domain has.

    Only of a domain that is unverified by setting some are verified: it is what lacks one record.
    """
    dkim = status(world, domain)
    spf = VERIFIED if dkim == "pending" and domain.name == world.text(settings.DOMAIN_UNVERIFIED) else dkim
    feedback = f"feedback-smtp.{domain.region}.amazonses.com"
    value = "v=spf1 include:amazonses.com ~all"
    return [
        {
            "record": "SPF",
            "name": "send",
            "type": "MX",
            "value": feedback,
            "priority": 10,
            "ttl": "Auto",
            "status": spf,
        },
        {"record": "SPF", "name": "send", "type": "TXT", "value": value, "ttl": "Auto", "status": spf},
        {
            "record": "DKIM",
            "name": "resend._domainkey",
            "type": "TXT",
            "value": f"p={domain.id}",
            "ttl": "Auto",
            "status": dkim,
        },
    ]


async def create(call: Call) -> Response:
    """`POST /domains`: 201. A name in use is 403 `validation_error`."""
    body = await call.json()
    required(body, "name")
    name, region = str(body["name"]).lower(), body.get("region", "us-east-1")
    if not _NAME.fullmatch(name):
        raise ResendError(422, "validation_error", "The `name` is not a valid domain.")
    if region not in REGIONS:
        raise ResendError(422, "invalid_region", f"Region must be {' | '.join(sorted(REGIONS))}")
    if any(domain.name == name for domain in all_of(call.world)):
        raise ResendError(403, "validation_error", "The domain has been registered already.")
    domain = add(call.world, name, region=region)
    return JSONResponse({**_summary(call.world, domain), "records": _records(call.world, domain)}, 201)


async def list_all(call: Call) -> Response:
    """`GET /domains`, newest first."""
    page, more = call.page(all_of(call.world), lambda domain: domain.id)
    return listing([_summary(call.world, domain) for domain in page], has_more=more)


async def retrieve(call: Call) -> Response:
    """`GET /domains/{domain_id}`: with its DNS records."""
    domain = get(call.world, call.path("domain"))
    return JSONResponse({"object": "domain", **_summary(call.world, domain), "records": _records(call.world, domain)})


async def verify(call: Call) -> Response:
    """`POST /domains/{domain_id}/verify`; one that is verified stays it."""
    domain = get(call.world, call.path("domain"))
    if domain.verified_at is None:
        verified = call.world.now() + timedelta(seconds=call.world.number(settings.VERIFICATION_SECONDS))
        with call.world.database:
            call.world.database.execute(
                "UPDATE resend_domains SET verified_at = ? WHERE id = ?", (timestamp(verified), domain.id)
            )
    return JSONResponse({"object": "domain", "id": domain.id})


async def delete(call: Call) -> Response:
    """`DELETE /domains/{domain_id}`."""
    domain = get(call.world, call.path("domain"))
    with call.world.database:
        call.world.database.execute("DELETE FROM resend_domains WHERE id = ?", (domain.id,))
    return JSONResponse({"object": "domain", "id": domain.id, "deleted": True})


ENDPOINTS: Final[list[tuple[str, str, Handler]]] = [
    ("POST", "/domains", create),
    ("GET", "/domains", list_all),
    ("GET", "/domains/{domain}", retrieve),
    ("DELETE", "/domains/{domain}", delete),
    ("POST", "/domains/{domain}/verify", verify),
]
