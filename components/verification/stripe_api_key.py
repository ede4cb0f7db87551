"""Verification of STRIPE_API_KEY: the control plane sells with the new key.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org gets a checkout page at Stripe from `POST /cp/billing/checkout`, and is deleted again. Nobody pays: the page expires. The
   control plane's answers may carry Stripe's words, and with them part of a key, so no body gets into a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components import operator_credentials
from components.announcement import Announcement, Request, together
from components.control_plane.client import Org
from components.http import REPEATABLE, Api, ApiError, json_body
from components.verification import check
from components.verification.check import CheckFailedError, Subject
from components.verification.consumers import (
    DisposableOrg,
    DisposableOrgSettings,
    announce_machines,
    announce_org,
    machines_run_the_new_value,
)

ORG = "rotationtest-stripe"


@dataclass(frozen=True, kw_only=True)
class Settings(DisposableOrgSettings):
    """What this verification is told. The owner of the disposable org is the user of the session, unless that one may buy for any org.

    Attributes:
        plan: What the checkout page sells.
        checkout_host: Where the page has to be: Stripe's host, or the account's own domain.
        return_url: Where the page would lead back to.
    """

    plan: str
    checkout_host: str
    return_url: str


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly, org = settings.fly(), settings.disposable_org(ORG)
    session = operator_credentials.find(operator_credentials.CONTROL_PLANE_SESSION)
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
            "checkout": lambda: org_gets_a_checkout_page(org, session, settings),
        }
    )


def org_gets_a_checkout_page(disposable: DisposableOrg, session: str, settings: Settings) -> str:
    """The control plane makes a checkout page with its own key. The org is deleted, whatever happened."""

    def gets_a_page(org: Org) -> None:
        try:
            found = urlsplit(checkout(session, org.slug, settings))
        except ValueError:
            raise CheckFailedError(f"the checkout page of org {org.slug} has no valid URL") from None
        if found.scheme != "https" or found.hostname != settings.checkout_host:
            raise CheckFailedError(
                f"the checkout page of org {org.slug} is not at https://{settings.checkout_host}: "
                f"the answer names the host {found.hostname or 'none'}, scheme {found.scheme or 'none'}"
            )

    org = disposable.use(gets_a_page)
    return f"org {org.slug} got a checkout page at {settings.checkout_host}, and is deleted again"


def checkout(session: str, slug: str, settings: Settings) -> str:
    """Asks for a checkout page and returns its URL, "" where there is none. Repeatable: a page that nobody opens does nothing."""
    headers = {"cookie": f"mcp_session={session}"}
    api = Api(system="control plane", base_url=settings.control_plane_url, headers=headers, secrets=[session])
    try:
        answer = api.call(
            "POST",
            "/cp/billing/checkout",
            operation=f"get a checkout page for org {slug}",
            json={
                "org_slug": slug,
                "plan": settings.plan,
                "success_url": settings.return_url,
                "cancel_url": settings.return_url,
            },
            policy=REPEATABLE,
        )
    except ApiError as error:
        if not error.refused:
            raise
        credential = operator_credentials.CONTROL_PLANE_SESSION
        raise CheckFailedError(
            f"the control plane does not take the session (status {error.status}), so nothing is known of the key: "
            f"sign in again and export {credential.variables[0]} with {credential.description}"
        ) from None
    body = json_body(answer)
    return str(body.get("url") or "") if isinstance(body, dict) else ""


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    page = Announcement(writes=(Request(system="control-plane", method="POST", path="/cp/billing/checkout"),))
    proof = f"a disposable org gets a checkout page at {settings['checkout_host']}"
    return together([announce_machines(settings["app"]), announce_org(ORG, proof=proof), page])


if __name__ == "__main__":
    check.run(verify)
