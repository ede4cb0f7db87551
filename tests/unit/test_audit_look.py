"""Is what somebody did by hand named, each in its place, is the rest looked at where something cannot be, and is nothing written?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from components.errors import OperatorError
from components.keyring import Credential, Issued
from components.progress import Progress
from components.secret import Check, Family, FlySecret, Issuer, Secret
from tools.audit import look
from tools.audit.findings import Audit, Finding, Kind
from tools.audit.stack import config_of, exported
from tools.workspace import CHECKOUT

from . import audit_stacks as stacks
from .audit_stacks import APP, BY_HAND, FAMILY, REPOSITORY, SECRET, Providers, token
from .wire import Wire, reply


@pytest.fixture
def providers(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Providers:
    monkeypatch.setenv("GITHUB_TOKEN", "github-operator-token")
    found = Providers()
    wire.serve = found.serve
    return found


def audit(
    *, strict: bool = False, verified: int = 2, deployment: Mapping[str, object] | None = None, **config: object
) -> Audit:
    return look.audit(
        "prod",
        config_of(stacks.config(**config), (CHECKOUT / "Pulumi.yaml").read_text()),
        exported(stacks.export(verified=verified, **(deployment or {}))),
        strict=strict,
        now=stacks.NOW,
    )


def seen(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return [(each.kind.value, each.secret, each.where) for each in findings]


FLY, GITHUB, ISSUER = f"Fly app {APP}", f"GitHub repository {REPOSITORY}", "issuer fly-deploy-token"


def test_the_map_is_that_of_the_program() -> None:
    program = (CHECKOUT / "__main__.py").read_text()
    assert re.findall(r"secret_map\.(\w+)\(settings\)", program) == [each.__name__ for each in look.MAP]


def test_nothing_is_found_where_nothing_is(providers: Providers) -> None:
    del providers
    found = audit()
    assert (found.findings, found.information, found.status) == ((), (), 0)
    looked = found.secrets[SECRET]
    assert (looked.requested, looked.current, looked.verified, looked.age.days) == (2, 2, 2, 2)
    assert looked.locations == (FLY, GITHUB)


def test_what_was_done_by_hand_is_named(providers: Providers) -> None:
    providers.digest = "another"
    providers.updated_at = "2026-11-25T00:00:00Z"
    providers.tokens += [token("t3", f"{FAMILY}3"), BY_HAND]
    found = audit()
    assert seen(found.findings) == [("drift", SECRET, FLY), ("drift", SECRET, GITHUB), ("orphan", SECRET, ISSUER)]
    fly, github, orphan = found.findings
    assert fly.what == f"somebody else set {SECRET} of {APP} since the last update"
    assert "2026-11-25T00:00:00Z" in github.what
    assert "2026-11-24T18:33:03Z" in github.what
    assert "`pulumi up`" in github.next_step
    assert f"{FAMILY}3 (t3, made {stacks.MINTED_AT})" in orphan.what
    assert seen(found.information) == [("unmanaged", SECRET, ISSUER)]
    assert found.status == 1


def test_credentials_made_by_hand_are_findings_only_where_they_are_asked_for(providers: Providers) -> None:
    providers.tokens.append(BY_HAND)
    assert audit().status == 0
    strict = audit(strict=True)
    assert (seen(strict.findings), strict.information) == ([("unmanaged", SECRET, ISSUER)], ())


def test_tenants_that_hold_another_value_are_named(providers: Providers) -> None:
    key, value = "SECRETS_ENCRYPTION_KEY", "the-key-of-all-tenants"
    document = stacks.export()
    document["deployment"]["resources"] += stacks.tenants(key, value)
    providers.environments = {"acme": {key: value}, "globex": {key: "another"}, "initech": {}}
    found = look.audit(
        "prod",
        config_of(stacks.config(rotations={SECRET: 2, key: 1}), (CHECKOUT / "Pulumi.yaml").read_text()),
        exported(document),
        strict=False,
        now=stacks.NOW,
    )
    (finding,) = found.findings
    assert (finding.kind, finding.secret) == (Kind.DRIFT, key)
    assert finding.where == f"machines of Fly app molecule-tenant as {key}"
    assert finding.what == f"1 machines of molecule-tenant hold another {key}: globex"


def test_a_repository_secret_that_is_gone(providers: Providers) -> None:
    providers.updated_at = ""
    (finding,) = audit().findings
    assert "deleted" in finding.what
    providers.down = (f"/repos/{REPOSITORY}/actions/secrets/public-key",)
    (finding,) = audit().findings
    assert finding.kind is Kind.UNSEEN, "404 means no access as well"


@pytest.mark.parametrize(
    ("down", "unseen"),
    [
        (("/v1/apps",), [FLY]),
        (("/repos",), [GITHUB]),
        (("/graphql",), [ISSUER]),
        (("/",), [FLY, GITHUB, ISSUER]),
    ],
)
def test_what_does_not_answer_hides_nothing_else(
    providers: Providers, down: tuple[str, ...], unseen: list[str]
) -> None:
    providers.down = down
    providers.digest, providers.updated_at = "another", "2026-11-25T00:00:00Z"
    providers.tokens.append(token("t3", f"{FAMILY}3"))
    found = audit().findings
    assert [each.where for each in found] == [FLY, GITHUB, ISSUER]
    assert [each.where for each in found if each.kind is Kind.UNSEEN] == unseen
    assert all(each.what.startswith("could not be looked at: ") for each in found if each.kind is Kind.UNSEEN)


def test_an_answer_that_nobody_expects_is_not_repeated(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "github-operator-token")
    wire.serve = lambda _request: reply(200, {"something": "else"})
    found = audit().findings
    assert [(each.kind, each.where) for each in found] == [(Kind.UNSEEN, place) for place in (FLY, GITHUB, ISSUER)]
    assert all("the answer is not as documented" in each.what for each in found)
    assert not any("else" in each.what for each in found)


def test_without_an_operator_credential(wire: Wire) -> None:
    wire.serve = Providers().serve
    (finding,) = audit().findings
    assert (finding.kind, finding.where) == (Kind.UNSEEN, GITHUB), "Fly's is in the config"
    assert "export GITHUB_TOKEN" in finding.next_step


def test_what_config_and_state_alone_tell(providers: Providers) -> None:
    del providers
    assert "2 days old" in audit(maxAgeDays={SECRET: 2}).findings[0].what
    assert audit(maxAgeDays={SECRET: 3}).findings == ()
    (pending,) = audit(rotations={SECRET: 3}).findings
    assert pending.what == "the config asks for generation 3; the last one minted is 2"
    (half,) = audit(verified=1).findings[:1]
    assert half.what.startswith("generation 2 is minted and delivered, not verified")
    left = {"pending_operations": [{"type": "updating", "resource": {"urn": stacks.urn("a:b:C", "c")}}]}
    (interrupted,) = audit(deployment=left).findings
    assert (interrupted.kind, interrupted.secret) == (Kind.INTERRUPTED, "")


def test_a_secret_that_the_map_does_not_have_is_said(providers: Providers) -> None:
    del providers
    (finding,) = audit(rotations={SECRET: 2, "ELEVENTH": 1}).findings
    assert (finding.kind, finding.secret) == (Kind.UNSEEN, "ELEVENTH")


def test_a_secret_whose_settings_are_missing(providers: Providers) -> None:
    del providers
    found = audit(rotations={SECRET: 2, "RESEND_API_KEY": 1}).findings
    assert [(each.kind, each.secret) for each in found] == [
        (Kind.UNFINISHED, "RESEND_API_KEY"),
        (Kind.UNSEEN, "RESEND_API_KEY"),
    ]
    assert "`resendDomain` is empty" in found[1].what


def test_a_config_that_is_wrong_is_an_error(providers: Providers) -> None:
    del providers
    with pytest.raises(OperatorError, match="redisStrategy"):
        audit(redisStrategy="neither")
    with pytest.raises(OperatorError, match="positive whole number"):
        audit(rotations={SECRET: 0})


FOUND = Family(app="cp", stack="prod", secret="TOKEN", longest_name=99)
TOKEN = Secret(
    name="TOKEN", source=Issuer(kind="given"), fly=(FlySecret(app="cp"),), verification=Check(module="fly_app")
)


def known(*generations: int) -> tuple[Credential, ...]:
    return tuple(
        Credential(
            generation=each, credential_id=f"t{each}", name=FOUND.credential_name(each), value="v", created_at=""
        )
        for each in generations
    )


def issued(credential_id: str, name: str, *, live: bool = True) -> Issued:
    return Issued(credential_id=credential_id, name=name, live=live)


def ours(generation: int, *, live: bool = True) -> Issued:
    return issued(f"t{generation}", FOUND.credential_name(generation), live=live)


@pytest.mark.parametrize(
    ("progress", "overlaps", "listed", "kinds"),
    [
        (Progress(), True, [], []),
        (Progress(current=2, verified=2, keyring=known(2, 1)), True, [ours(2), ours(1, live=False)], []),
        (Progress(current=2, verified=2, keyring=known(2, 1)), True, [ours(2)], []),
        (Progress(current=2, verified=2, keyring=known(2)), True, [ours(2, live=False)], [Kind.DEAD]),
        (Progress(current=2, verified=2, keyring=known(2)), True, [], [Kind.DEAD]),
        # Between two generations both are in use, unless the one before dies by design.
        (Progress(current=2, verified=1, keyring=known(2, 1)), True, [ours(2)], [Kind.DEAD]),
        (Progress(current=2, verified=1, keyring=known(2, 1)), False, [ours(2)], []),
        (Progress(current=2, verified=2, keyring=known(2)), True, [ours(2), ours(3)], [Kind.ORPHAN]),
        (
            Progress(current=2, verified=2, keyring=known(2)),
            True,
            [ours(2), issued("x", FOUND.credential_name(2))],
            [Kind.ORPHAN],
        ),
        (Progress(current=2, verified=2, keyring=known(2)), True, [ours(2), ours(3, live=False)], []),
        (Progress(current=2, verified=2, keyring=known(2)), True, [ours(2), issued("h", "by hand")], [Kind.UNMANAGED]),
        (Progress(current=2, verified=2, keyring=known(2)), True, [ours(2), issued("h", "dead", live=False)], []),
        # Another stack's family, and a name that only looks like ours.
        (
            Progress(current=2, verified=2, keyring=known(2)),
            True,
            [ours(2), issued("o", "cp-rotation-staging-TOKEN-g1"), issued("p", f"{FOUND.prefix}2x")],
            [Kind.UNMANAGED, Kind.UNMANAGED],
        ),
        (Progress(), True, [ours(1)], [Kind.ORPHAN]),
    ],
)
def test_credentials(progress: Progress, *, overlaps: bool, listed: list[Issued], kinds: list[Kind]) -> None:
    secret = replace(TOKEN, overlaps=overlaps)
    found = look.credentials_of(secret, progress, listed, FOUND, where="somewhere")
    assert [each.kind for each in found] == kinds
