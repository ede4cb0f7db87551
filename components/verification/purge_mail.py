"""What the verifications of Resend's secrets share: an org is deleted, and the confirmation of that shows up at Resend.

The control plane answers 204 whether the mail went out or not, so it is looked for at Resend, and for its failure in the app's log. A
failure that was logged before is no obstacle: an earlier verification may have caused it, and what it failed for may have been mended.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from components import operator_credentials
from components.clock import utc_now
from components.fly.client import FlyClient
from components.resend.client import Email, ResendClient
from components.verification.check import CheckFailedError, Deadline
from components.verification.consumers import DisposableOrg, DisposableOrgSettings, written_at

SENT = frozenset({"sent", "delivered", "opened", "clicked"})
FAILED_LINE = "purge confirmation email failed"
# The mail is told by the org's name, so this only keeps old mails out; clocks may differ by that much.
LOOK_BACK = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class PurgeMail:
    """The confirmation of the deletion of one disposable org.

    Attributes:
        org: The org; its name tells the mail.
        fly: Shows the app's log.
        resend: Shows what was sent.
        settings: What the verification is told.
        secret: The secret that is verified: lines that were logged before it was written do not count.
    """

    org: DisposableOrg
    fly: FlyClient
    resend: ResendClient
    settings: "PurgeMailSettings"
    secret: str

    def provoke(self) -> Email:
        """Makes the org, deletes it, and returns the newest mail that was sent about it.

        Raises:
            CheckFailedError: The org could not be provisioned, the mail was not sent in time, or the app logged that it could not send it.
        """
        failures_before = self._failures()
        start = utc_now() - LOOK_BACK
        self.org.use(lambda _org: None)
        slug = self.org.slug
        wanted = self.settings.subject.format(slug=slug)
        mails: list[Email] = []

        def sent() -> bool:
            if self._failures() - failures_before:
                raise CheckFailedError(f"{self.settings.app} has logged `{FAILED_LINE}` when {slug} was deleted")
            mails.extend(
                mail for mail in self.resend.emails_since(start) if wanted in mail.subject and mail.last_event in SENT
            )
            return bool(mails)

        deadline = Deadline(self.settings.mail_timeout)
        deadline.poll(sent, waiting_for=f"the confirmation of the deletion of {slug} at Resend")
        return max(mails, key=lambda mail: mail.created_at)

    def _failures(self) -> Counter[str]:
        """The failures to send a confirmation that the app has logged since the secret was written."""
        since = written_at(self.fly, self.settings.app, self.secret)
        return Counter(line for line in self.fly.log_lines_since(self.settings.app, since) if FAILED_LINE in line)


@dataclass(frozen=True, kw_only=True)
class PurgeMailSettings(DisposableOrgSettings):
    """What such a verification is told.

    Attributes:
        subject: What the subject of the mail contains, with {slug} filled in.
        mail_timeout: Seconds for the mail to show up at Resend.
    """

    subject: str
    mail_timeout: float

    def purge_mail(self, kind: str, *, secret: str) -> PurgeMail:
        """The mail about an org of a kind (see `disposable_org`), not provoked yet."""
        return PurgeMail(
            org=self.disposable_org(kind),
            fly=self.fly(),
            resend=ResendClient(operator_credentials.find(operator_credentials.RESEND)),
            settings=self,
            secret=secret,
        )
