"""Do the program's own checks of both Stripe secrets pass where all is well, and fail where it is not? Against the sandbox, as processes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from components.stripe.keys import SecretKeys
from tests.sandbox.checks import run_check
from tests.sandbox.running import until
from tests.sandbox.stripe_support import Account

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

APP = "molecule-cp"
OPERATOR = "STRIPE_API_KEY"
CHECKOUT = {
    "app": APP,
    "url": "https://set.by.the.environment.test",
    "owner_user_id": "user-1",
    "plan": "starter",
    "checkout_host": "checkout.stripe.com",
    "return_url": "https://molecule.example/",
    "org_timeout": 60,
}
SIGNED = {
    "app": APP,
    "url": "https://set.by.the.environment.test",
    "webhook_url": "",
    "event_type": "balance.available",
    "endpoint": False,
    "livemode": True,
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    account = Account(tmp_path_factory.mktemp("rotation"))
    account.start()
    yield account
    account.stop()


def check(
    account: Account, module: str, settings: Mapping[str, object], value: str, *, without: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a check with the operator's environment less the variables in `without`."""
    environment = {name: text for name, text in account.environment.items() if name not in without}
    return run_check(module, value, settings, environment, hidden=(value[-4:],))


def passed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether it passed; then its report has to be there."""
    assert done.returncode in {0, 1}, done.stderr
    if done.returncode == 0:
        report: dict[str, Any] = json.loads(done.stdout)
        assert (report["generation"], report["subject"]) == (2, "s")
    return done.returncode == 0


def keys(account: Account, value: str) -> SecretKeys:
    return SecretKeys(given=value, mode="live", account=account.environment["STRIPE_ACCOUNT_ID"])


def disposable_orgs(account: Account) -> list[str]:
    orgs = account.control_plane("GET", "/cp/admin/orgs?limit=500").json()["orgs"]
    return [org["slug"] for org in orgs if org["slug"].startswith("rotationtest-stripe-")]


# -- STRIPE_API_KEY ----------------------------------------------------------------------------------------------------


def test_an_old_key_is_dead_when_stripe_refuses_it_and_not_before(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_BASE_URL", account.environment["STRIPE_API_BASE_URL"])
    old = account.dashboard("create-key", "--name", "watched")
    new = account.dashboard("roll-key", "--name", "watched", "--expires-in", "2")
    handed_in = keys(account, new)
    assert handed_in.obstacles() == []
    assert not handed_in.refuses(old)
    until(lambda: handed_in.refuses(old), what="the old key's time is over")
    assert not handed_in.refuses(new)
    newest = account.dashboard("roll-key", "--name", "watched", "--expires-in", "600")
    assert not handed_in.refuses(new)
    account.dashboard("expire-key", "--name", "watched")
    assert handed_in.refuses(new)
    assert not handed_in.refuses(newest)
    (refused,) = handed_in.obstacles()
    assert "is refused by Stripe" in refused.happened
    weak = account.dashboard("create-key", "--name", "weak", "--permission", "rak_customer_write")
    assert not handed_in.refuses(weak), "it may do little, but lives"


def test_the_probe_finds_what_is_wrong_with_a_key(account: Account) -> None:
    settings = {"mode": "live", "account": account.environment["STRIPE_ACCOUNT_ID"]}

    def found(*options: str) -> str:
        value = account.dashboard("create-key", "--name", "probed", *options)
        done = check(account, "stripe_api_key_probe", settings, value, without=(OPERATOR,))
        return "" if passed(done) else done.stderr

    assert found() == ""
    assert "is of test mode" in found("--test")
    assert "belongs to account acct_" in found("--other-account")
    assert "`rak_accounts_kyc_basic_read`" in found("--permission", "rak_customer_write")
    assert found("--permission", "rak_accounts_kyc_basic_read") == "", "the permission that is asked for is enough"
    assert "is refused by Stripe" in check(account, "stripe_api_key_probe", settings, "sk_live_51nobodys").stderr


def test_a_key_is_verified_by_a_sale_and_a_dead_one_is_found_out(account: Account) -> None:
    def verify(*, without: tuple[str, ...] = (OPERATOR,)) -> subprocess.CompletedProcess[str]:
        return check(account, "stripe_api_key", CHECKOUT, "", without=without)

    new = account.dashboard("roll-key", "--expires-in", "600")
    account.secrets(STRIPE_API_KEY=new)
    staged = verify()
    assert not passed(staged)
    assert "still runs with the value before" in staged.stderr
    account.roll()
    done = verify()
    assert passed(done), done.stderr
    assert "got a checkout page at checkout.stripe.com" in done.stderr
    assert disposable_orgs(account) == []

    no_session = verify(without=("CP_SESSION",))
    assert not passed(no_session)
    assert "CP_SESSION" in no_session.stderr

    account.dashboard("roll-key")  # the key that the app holds is dead from here on
    dead = verify()
    assert not passed(dead)
    assert "could not get a checkout page for org rotationtest-stripe-" in dead.stderr
    assert "status 502" in dead.stderr
    assert new[-4:] not in dead.stderr
    assert disposable_orgs(account) == [], "deleted all the same"
    account.secrets(STRIPE_API_KEY=account.dashboard("roll-key"))
    account.roll()
    assert passed(verify())


# -- STRIPE_WEBHOOK_SECRET ---------------------------------------------------------------------------------------------


def test_a_rolled_signing_secret_is_verified_within_its_window_and_without_a_key_of_stripe(account: Account) -> None:
    def verify(value: str, *, left: timedelta = timedelta(hours=1)) -> subprocess.CompletedProcess[str]:
        window = {"window_ends_at": (datetime.now(UTC) + left).isoformat()}
        return check(account, "stripe_webhook_secret", {**SIGNED, **window}, value, without=(OPERATOR,))

    def requests_to_stripe() -> dict[str, int]:
        return {name: count for name, count in account.inspect()["requests"].items() if name.startswith("stripe ")}

    asked = requests_to_stripe()
    new = account.dashboard("roll-webhook-secret", "--overlap", "3600")
    assert passed(check(account, "stripe_webhook_secret_probe", {"endpoint": False}, new, without=(OPERATOR,)))
    assert not passed(check(account, "stripe_webhook_secret_probe", {"endpoint": False}, f"{new}\n"))

    account.secrets(STRIPE_WEBHOOK_SECRET="whsec_ofAnotherEndpoint0123456789")
    account.roll()
    wrong = verify(new)
    assert not passed(wrong)
    assert "an event signed with the new secret got 400" in wrong.stderr

    account.secrets(STRIPE_WEBHOOK_SECRET=new)
    staged = verify(new)
    assert not passed(staged)
    assert "still runs with the value before" in staged.stderr
    account.roll()
    good = verify(new)
    assert passed(good), good.stderr
    assert "for another 59 min" in good.stderr

    over = verify(new, left=timedelta(0))
    assert not passed(over)
    assert "roll the secret again" in over.stderr
    assert "resend them" in over.stderr
    assert requests_to_stripe() == asked, "nobody asked Stripe"
    assert account.settled(account.dashboard("emit", "customer.subscription.updated"))["accepted"]
