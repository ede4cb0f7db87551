"""Verification of RESEND_API_KEY: the control plane sends mail with the new key.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org is deleted, and the confirmation of its deletion shows up at Resend within a minute; Resend's list says that the new key
   has been used. The control plane answers 204 whether the mail went out or not.
3. Meanwhile the app logs no `purge confirmation email failed`. One that it logged before is no obstacle: an earlier verification may have
   caused it, and what it failed for may have been mended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.announcement import Announcement, together
from components.verification import check
from components.verification.check import Deadline, Subject
from components.verification.consumers import announce_machines, announce_org, machines_run_the_new_value
from components.verification.purge_mail import PurgeMail, PurgeMailSettings

ORG = "rotationtest-mail"


@dataclass(frozen=True, kw_only=True)
class Settings(PurgeMailSettings):
    """What this verification is told.

    Attributes:
        prove_use: Whether Resend's list must say that the new key was used.
    """

    prove_use: bool


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    mail = settings.purge_mail(ORG, secret=subject.secret)
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(mail.fly, settings.app, subject.secret),
            "mail": lambda: deleted_org_is_confirmed(mail, settings, subject),
        }
    )


def deleted_org_is_confirmed(mail: PurgeMail, settings: Settings, subject: Subject) -> str:
    """The mail that confirms the deletion of a disposable org is sent with the new key."""
    used_before = mail.resend.last_used_at(subject.credential_id)
    mail.provoke()
    if settings.prove_use:
        Deadline(settings.mail_timeout).poll(
            lambda: mail.resend.last_used_at(subject.credential_id) != used_before,
            waiting_for="Resend to say that the control plane used the new key",
        )
    return f"org {mail.org.slug} was deleted, and the confirmation was sent with the new key"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    proof = "the mail that confirms the deletion of a disposable org is sent with the new key, and no failure is logged"
    return together([announce_machines(settings["app"]), announce_org(ORG, proof=proof)])


if __name__ == "__main__":
    check.run(verify)
