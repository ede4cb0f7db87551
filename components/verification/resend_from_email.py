"""Verification of RESEND_FROM_EMAIL: the control plane sends mail from the new sender. It comes on standard input.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. A disposable org is deleted, and the confirmation of its deletion shows up at Resend, from the new sender: address and, if it has one, name.
3. Meanwhile the app logs no `purge confirmation email failed`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from components.announcement import Announcement, together
from components.resend.sender import Sender, SenderError, parse_sender
from components.verification import check
from components.verification.check import CheckFailedError, Subject
from components.verification.consumers import announce_machines, announce_org, machines_run_the_new_value
from components.verification.purge_mail import PurgeMail
from components.verification.purge_mail import PurgeMailSettings as Settings

ORG = "rotationtest-from"


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    try:
        sender = parse_sender(sys.stdin.read())
    except SenderError as error:
        raise CheckFailedError(f"the value is no sender: {error}") from None
    mail = settings.purge_mail(ORG, secret=subject.secret)
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(mail.fly, settings.app, subject.secret),
            "mail": lambda: deleted_org_is_confirmed(mail, sender),
        }
    )


def deleted_org_is_confirmed(mail: PurgeMail, sender: Sender) -> str:
    """The mail that confirms the deletion of a disposable org comes from the new sender."""
    sent = mail.provoke()
    if not sender.is_shown_as(sent.sender):
        raise CheckFailedError(
            f"the confirmation of the deletion of {mail.org.slug} (mail {sent.email_id} at Resend) was sent from another sender than "
            f"{mail.secret}: {mail.settings.app} does not use the new value"
        )
    return f"org {mail.org.slug} was deleted, and the confirmation was sent from the new sender"


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    proof = (
        "the mail that confirms the deletion of a disposable org is sent from the new sender, and no failure is logged"
    )
    return together([announce_machines(settings["app"]), announce_org(ORG, proof=proof)])


if __name__ == "__main__":
    check.run(verify)
