"""What the verifications of Resend's secrets share: an org is deleted, and the confirmation of that shows up at Resend.

The control plane answers 204 whether the mail went out or not, so it is looked for at Resend, and for its failure in the app's log. A
failure that was logged before is no obstacle: an earlier verification may have caused it, and what it failed for may have been mended.
"""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from components.control_plane.client import ControlPlaneClient
from components.fly.client import FlyClient
from components.resend.client import Email, ResendClient
from components.verification.check import CheckFailedError, Deadline
from components.verification.consumers import DisposableOrg, written_at

SENT = frozenset({"sent", "delivered", "opened", "clicked"})
FAILED_LINE = "purge confirmation email failed"
# The mail is told by the org's name, so this only keeps old mails out; clocks may differ by that much.
LOOK_BACK = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class PurgeMail:
    """The confirmation of the deletion of one disposable org.

    Attributes:
        control_plane: Makes and deletes the org.
        fly: Shows the app's log.
        resend: Shows what was sent.
        app: The control plane's app.
        secret: The secret that is verified: lines that were logged before it was written do not count.
        slug: The org's name; a new one for every verification.
        leftovers: Slugs of this kind of verification, and of no other.
        owner_user_id: Owner of the org.
        subject: What the subject of the mail contains, with {slug} filled in.
        org_timeout: Seconds for the org to be running.
        mail_timeout: Seconds for the mail to show up.
    """

    control_plane: ControlPlaneClient
    fly: FlyClient
    resend: ResendClient
    app: str
    secret: str
    slug: str
    leftovers: re.Pattern[str]
    owner_user_id: str
    subject: str
    org_timeout: float
    mail_timeout: float

    def provoke(self) -> Email:
        """Makes the org, deletes it, and returns the newest mail that was sent about it.

        Raises:
            CheckFailedError: The org could not be provisioned, the mail was not sent in time, or the app logged that it could not send it.
        """
        start = datetime.now(UTC) - LOOK_BACK
        failures_before = self._failures()
        DisposableOrg(
            control_plane=self.control_plane,
            slug=self.slug,
            leftovers=self.leftovers,
            owner_user_id=self.owner_user_id,
            timeout=self.org_timeout,
        ).use(lambda _org: None)
        wanted = self.subject.format(slug=self.slug)
        mails: list[Email] = []

        def sent() -> bool:
            if self._failures() - failures_before:
                raise CheckFailedError(f"{self.app} has logged `{FAILED_LINE}` when {self.slug} was deleted")
            mails.extend(
                mail for mail in self.resend.emails_since(start) if wanted in mail.subject and mail.last_event in SENT
            )
            return bool(mails)

        Deadline(self.mail_timeout).poll(sent, waiting_for=f"the confirmation of the deletion of {self.slug} at Resend")
        return max(mails, key=lambda mail: mail.created_at)

    def _failures(self) -> Counter[str]:
        """The failures to send a confirmation that the app has logged since the secret was written."""
        since = written_at(self.fly, self.app, self.secret)
        return Counter(line for line in self.fly.log_lines_since(self.app, since) if FAILED_LINE in line)
