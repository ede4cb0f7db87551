"""Verification of SECRETS_ENCRYPTION_KEY: whoever reads or writes what is encrypted has the new key. It comes on standard input.

1. Every machine of the control plane has booted since the secret was written, and is healthy.
2. Every tenant's machine that has a key has the new one, and is healthy if it runs: asked of Fly, not of the stack's state.
3. Every encrypted value in the database decrypts with the new key.
4. The control plane itself encrypts with it: for a disposable org `reencrypttest-<timestamp>` it writes values that decrypt with the new key
   and that were not there before. The org is deleted, whatever happened.

With `reprovision` 2 and 3 are waited for: the control plane provisions org after org.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import operator_credentials
from components.announcement import Announcement, together
from components.control_plane.client import Org
from components.encryption.key import MisreadKeyError, load
from components.encryption.rows import TABLE, Cipher, Database, OrgInstances, Survey
from components.neon.client import NeonClient
from components.verification import check
from components.verification.check import CheckFailedError, Deadline, Subject, wait
from components.verification.consumers import (
    DisposableOrg,
    announce_machines,
    announce_org,
    machines_run_the_new_value,
)
from components.verification.tenant_machines import TenantMachines, TenantSettings

ORG = "reencrypttest"


@dataclass(frozen=True, kw_only=True)
class Settings(TenantSettings):
    """What this verification is told.

    Attributes:
        project: The Neon project of the control plane's database.
        branch: Its branch; "" for the default one.
        database: Its name.
        role: Who reads the encrypted rows.
        loader: How consumers read the key.
        reprovisions: Whether orgs are provisioned anew, so that rows and machines are waited for.
    """

    project: str
    branch: str
    database: str
    role: str
    loader: str
    reprovisions: bool


def verify(raw: Mapping[str, Any], subject: Subject) -> None:
    """Runs all checks. Raises CheckFailedError with every one that failed."""
    settings = Settings(**raw)
    value = sys.stdin.read()
    try:
        cipher = Cipher([load(value, settings.loader)])
    except MisreadKeyError as error:
        raise CheckFailedError(f"the consumers misread the key: {error}") from None
    fly, org = settings.fly(), settings.disposable_org(ORG)
    tenants = TenantMachines(fly=fly, app=settings.tenant_app, variable=settings.variable, value=value)
    database = Database(
        client=NeonClient(operator_credentials.find(operator_credentials.NEON)),
        project=settings.project,
        branch=settings.branch,
        database=settings.database,
        role=settings.role,
    )
    patience = settings.org_timeout if settings.reprovisions else 0.0
    check.together(
        {
            "machines": lambda: machines_run_the_new_value(fly, settings.app, subject.secret),
            "tenants": lambda: tenants.assert_hold(patience=patience, health_patience=settings.org_timeout),
            "rows": lambda: rows_decrypt(database, cipher, patience=patience),
            "disposable org": lambda: control_plane_encrypts(org, database, cipher),
        }
    )


def rows_decrypt(database: Database, cipher: Cipher, *, patience: float) -> str:
    """Every encrypted value in the database decrypts with the new key."""
    found = Survey()

    def done() -> bool:
        nonlocal found
        with OrgInstances(database.uri) as rows:
            found = rows.survey(cipher)
        return not found.unreadable

    wait(done, patience, waiting_for=f"every row of {TABLE} to decrypt with the new key")
    if found.unreadable:
        raise CheckFailedError(
            f"{found.unreadable:,} of {found.values:,} encrypted values do not decrypt with the new key, for example of {TABLE} "
            f"{'; '.join(found.unreadable_rows)}"
        )
    return f"{found.values:,} encrypted values in {found.rows:,} rows decrypt with the new key"


def control_plane_encrypts(disposable: DisposableOrg, database: Database, cipher: Cipher) -> str:
    """The control plane provisions an org, and what it writes for that decrypts with the new key."""
    with OrgInstances(database.uri) as rows:
        before = rows.nonces()
        written: list[bytes] = []

        def encrypts_with_the_new_key(org: Org) -> None:
            def seen() -> bool:
                written.extend(rows.written_since(before))
                return bool(written)

            Deadline(disposable.timeout).poll(
                seen, waiting_for=f"encrypted values of org {org.slug}, which is said to be running"
            )
            if wrong := sum(cipher.open(value) is None for value in written):
                raise CheckFailedError(
                    f"the control plane has written {wrong} encrypted values since that do not decrypt with the new key"
                )

        org = disposable.use(encrypts_with_the_new_key)
    return (
        f"the control plane encrypted {len(written)} values with the new key for org {org.slug}, which is deleted again"
    )


def announce(settings: Mapping[str, Any], *, leaked: bool) -> Announcement:  # noqa: ARG001
    """What this verification shows, and what it takes."""
    return together(
        [
            announce_machines(settings["app"]),
            Announcement(words=(f"every machine of {settings['tenant_app']} that has a key has the new one",)),
            Announcement(words=("every encrypted row decrypts with the new key",)),
            announce_org(ORG, proof="what the control plane encrypts for a disposable org decrypts with the new key"),
        ]
    )


if __name__ == "__main__":
    check.run(verify)
