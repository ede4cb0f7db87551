"""A client of the control plane's API, for verification. No Pulumi here.

Source: what the control plane's own clients and tests show. Answers may carry details of other systems, so no body gets into a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from components.answers import reads_answers
from components.http import ONCE, REPEATABLE, Api, ApiError, RetryPolicy, part


@dataclass(frozen=True, kw_only=True)
class Org:
    """A customer's organization.

    Attributes:
        org_id: The control plane's id; the tenant machine carries it as MOLECULE_ORG_ID.
        slug: Its name in URLs.
        status: awaiting_payment, provisioning, running or failed; "" where the list does not say.
    """

    org_id: str
    slug: str
    status: str


@reads_answers
@dataclass(frozen=True)
class ControlPlaneClient:
    """Calls the control plane as an administrator.

    Attributes:
        url: Its base URL.
        admin_token: CP_ADMIN_API_TOKEN.
    """

    url: str
    admin_token: str = field(repr=False)

    def _call(self, method: str, path: str, *, operation: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - Api.call's own
        api = Api(
            system="control plane",
            base_url=self.url,
            headers={"authorization": f"Bearer {self.admin_token}"},
            secrets=[self.admin_token],
        )
        return api.call(method, path, operation=operation, **options)

    def assert_up(self) -> None:
        """Raises ApiError unless `/health` answers 200. It touches no other system, so it proves only that the process is up."""
        self._call("GET", "/health", operation="reach /health", policy=REPEATABLE, timeout=10)

    def orgs(self) -> list[Org]:
        """All orgs."""
        body = self._call(
            "GET", "/cp/admin/orgs", operation="list the orgs", parameters={"limit": 500}, policy=REPEATABLE
        ).json()
        return [_org(each) for each in body["orgs"]]

    def create_org(self, *, slug: str, name: str, owner_user_id: str) -> Org:
        """Creates an org; provisioning goes on in the background."""
        body = {"slug": slug, "name": name, "owner_user_id": owner_user_id}
        return _org(self._call("POST", "/cp/admin/orgs", operation=f"create org {slug}", json=body, policy=ONCE).json())

    def reprovision(self, path: str, slug: str) -> None:
        """Has an org provisioned anew, with a fresh database and machine; that goes on in the background. Not repeatable.

        Args:
            path: Of the request, with `{slug}` for the org's name.
            slug: The org.

        Raises:
            ApiError: With status 409 where the org is being provisioned already.
        """
        self._call(
            "POST",
            path.replace("{slug}", part(slug)),
            operation=f"provision org {slug} anew",
            json={"confirm": slug},
            policy=ONCE,
        )

    def delete_org(self, slug: str) -> None:
        """Deletes an org with all it has. Repeatable: the control plane resumes a purge that failed half-way (500), and 404 is success."""
        try:
            self._call(
                "DELETE",
                f"/cp/admin/tenants/{part(slug)}",
                operation=f"delete org {slug}",
                json={"confirm": slug},
                policy=RetryPolicy(attempts=6, first_wait=1),
            )
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def _org(body: Mapping[str, Any]) -> Org:
    return Org(
        org_id=str(body["id"]), slug=body["slug"], status=body.get("instance_status") or body.get("status") or ""
    )
