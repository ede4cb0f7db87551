"""Verification of RESEND_FROM_EMAIL: the control plane sends mail from the new sender. It comes on standard input.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org is deleted, and the confirmation of its deletion shows up at Resend, from the new sender: address and, if it has one, name.
3. Meanwhile the app logs no `purge confirmation email failed`.
"""

import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient
from components.fly.client import FlyClient
from components.operator_credentials import endpoint
from components.resend.client import ResendClient
from components.resend.sender import SECRET, Sender, SenderError, parse_sender
from components.verification import check
from components.verification.check import CheckFailedError, Subject
from components.verification.consumers import machines_run_the_new_value
from components.verification.purge_mail import PurgeMail

SLUGS = re.compile("rotationtest-from-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this verification is told.

    Attributes:
        app: The control plane's app.
        url: The control plane.
        owner_user_id: Owner of the disposable org.
        subject: What the subject of the confirmation contains, with {slug} filled in.
        org_timeout: Seconds for the org to be running.
        mail_timeout: Seconds for the mail to show up at Resend.
    """

    app: str
    url: str
    owner_user_id: str
    subject: str
    org_timeout: float
    mail_timeout: float


def verify(raw: Mapping[str, Any], _subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    try:
        sender = parse_sender(sys.stdin.read())
    except SenderError as error:
        raise CheckFailedError(f"the value is no sender: {error}") from None
    fly = FlyClient(token=operator_credentials.find(operator_credentials.FLY))
    resend = ResendClient(operator_credentials.find(operator_credentials.RESEND))
    control_plane = ControlPlaneClient(
        endpoint("CONTROL_PLANE_URL", settings.url), operator_credentials.find(operator_credentials.CONTROL_PLANE)
    )
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, SECRET),
            "mail": lambda: deleted_org_is_confirmed(control_plane, fly, resend, settings, sender),
        }
    )


def deleted_org_is_confirmed(
    control_plane: ControlPlaneClient, fly: FlyClient, resend: ResendClient, settings: Settings, sender: Sender
) -> str:
    """The mail that confirms the deletion of a disposable org comes from the new sender."""
    slug = f"rotationtest-from-{secrets.token_hex(6)}"
    mail = PurgeMail(
        control_plane=control_plane,
        fly=fly,
        resend=resend,
        app=settings.app,
        secret=SECRET,
        slug=slug,
        leftovers=SLUGS,
        owner_user_id=settings.owner_user_id,
        subject=settings.subject,
        org_timeout=settings.org_timeout,
        mail_timeout=settings.mail_timeout,
    ).provoke()
    if not sender.is_shown_as(mail.sender):
        raise CheckFailedError(
            f"the confirmation of the deletion of {slug} (mail {mail.email_id} at Resend) was sent from another sender than {SECRET}: "
            f"{settings.app} does not use the new value"
        )
    return f"org {slug} was deleted, and the confirmation was sent from the new sender"


if __name__ == "__main__":
    check.run(verify)
