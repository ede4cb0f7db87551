"""Verification of RESEND_API_KEY: the control plane sends mail with the new key.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org is deleted, and the confirmation of its deletion shows up at Resend within a minute; Resend's list says that the new key
   has been used. The control plane answers 204 whether the mail went out or not.
3. Meanwhile the app logs no `purge confirmation email failed`. One that it logged before is no obstacle: an earlier verification may have
   caused it, and what it failed for may have been mended.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import operator_credentials
from components.control_plane.client import ControlPlaneClient
from components.fly.client import FlyClient
from components.operator_credentials import endpoint
from components.resend.client import ResendClient
from components.verification import check
from components.verification.check import Deadline, Subject
from components.verification.consumers import machines_run_the_new_value
from components.verification.purge_mail import PurgeMail

SECRET = "RESEND_API_KEY"  # noqa: S105 - a name
SLUGS = re.compile("rotationtest-mail-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this verification is told.

    Attributes:
        app: The control plane's app.
        url: The control plane.
        owner_user_id: Owner of the disposable org.
        subject: What the subject of the confirmation contains, with {slug} filled in.
        prove_use: Whether Resend's list must say that the new key was used.
        org_timeout: Seconds for the org to be running.
        mail_timeout: Seconds for the mail to show up at Resend.
    """

    app: str
    url: str
    owner_user_id: str
    subject: str
    prove_use: bool
    org_timeout: float
    mail_timeout: float


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    fly = FlyClient(token=operator_credentials.find(operator_credentials.FLY))
    resend = ResendClient(operator_credentials.find(operator_credentials.RESEND))
    control_plane = ControlPlaneClient(
        endpoint("CONTROL_PLANE_URL", settings.url), operator_credentials.find(operator_credentials.CONTROL_PLANE)
    )
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, SECRET),
            "mail": lambda: deleted_org_is_confirmed(control_plane, fly, resend, settings, subject),
        }
    )


def deleted_org_is_confirmed(
    control_plane: ControlPlaneClient, fly: FlyClient, resend: ResendClient, settings: Settings, subject: Subject
) -> str:
    """The mail that confirms the deletion of a disposable org is sent with the new key."""
    used_before = resend.last_used_at(subject.credential_id)
    slug = f"rotationtest-mail-{secrets.token_hex(6)}"
    PurgeMail(
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
    if settings.prove_use:
        Deadline(settings.mail_timeout).poll(
            lambda: resend.last_used_at(subject.credential_id) != used_before,
            waiting_for="Resend to say that the control plane used the new key",
        )
    return f"org {slug} was deleted, and the confirmation was sent with the new key"


if __name__ == "__main__":
    check.run(verify)
