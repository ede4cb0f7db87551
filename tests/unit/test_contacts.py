"""Does an operator read whom to call where a provider refuses or is down, and only there?"""

import sys
from collections.abc import Callable

import httpx
import pytest

from components.contacts import CONTACTS
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.http import ApiError
from components.neon.client import NeonClient
from components.resend.client import ResendClient
from components.stripe.client import StripeClient
from components.upstash.client import UpstashClient
from components.verification import fly_token_probe
from components.verification.check import CheckFailedError, Subject

from .wire import Wire, reply

CALLS: dict[str, Callable[[], object]] = {
    "Fly": lambda: FlyClient(token="fo1_operator-token").list_machines("cp"),
    "GitHub": lambda: GitHubClient("github-operator-token").default_branch("o/r"),
    "Neon": lambda: NeonClient("napi_operator-token").list_keys(""),
    "Resend": lambda: ResendClient("re_operator-token").list_keys(),
    "Upstash": lambda: UpstashClient(email="e", key="operator-key").database("d"),
    "Stripe": lambda: StripeClient("sk_live_operator-token").webhook_endpoints(),
}


def failure(system: str) -> ApiError:
    with pytest.raises(ApiError) as failed:
        CALLS[system]()
    return failed.value


@pytest.mark.parametrize("system", CALLS)
@pytest.mark.parametrize(
    "answer", [reply(401), reply(403), reply(429), reply(500), reply(503), httpx.ConnectError("refused")], ids=str
)
def test_every_client_names_its_system_as_the_contacts_do(
    wire: Wire, system: str, answer: httpx.Response | Exception
) -> None:
    wire.will(*[answer] * 5)
    error = failure(system)
    wire.answers.clear()
    assert error.contact == CONTACTS[system]


@pytest.mark.parametrize("system", CALLS)
@pytest.mark.parametrize("status", [404, 409, 422])
def test_what_is_the_operators_own_mistake_is_nothing_to_call_about(wire: Wire, system: str, status: int) -> None:
    wire.serve = lambda _request: reply(status)
    assert failure(system).contact == ""


def test_each_contact_is_one_line_that_says_who_it_is() -> None:
    for system, contact in CONTACTS.items():
        assert "\n" not in contact
        assert contact.startswith(system)
    assert {"Fly", "Neon", "Upstash", "Resend", "Stripe", "GitHub"} == set(CONTACTS), "those of the runbook"


@pytest.mark.parametrize("answer", [reply(403), reply(503), httpx.ConnectError("refused")], ids=str)
def test_a_probe_that_a_provider_ends_says_whom_to_call(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception
) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    wire.will(reply(200, []), *[answer] * 5)
    monkeypatch.setattr(sys.stdin, "read", lambda: "FlyV1 fm2_new-and-secret", raising=False)
    with pytest.raises(CheckFailedError) as failed:
        fly_token_probe.probe({"app": "tenant"}, Subject(secret="FLY_API_TOKEN", generation=2, credential_id="t2"))
    wire.answers.clear()
    assert failed.value.contact == CONTACTS["Fly"]
