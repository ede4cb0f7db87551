"""Is everything that an operator's credentials cannot do refused before anything is touched, by reading alone?"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from components import preflight
from components.announcement import NOTHING, Announcement
from components.errors import RefusedError
from components.fly.client import Machine
from components.http import ApiError
from components.issuers import ISSUERS, Context, Kind
from components.keyring import Credential
from components.preflight import Candidate, Findings
from components.progress import Progress
from components.secret import Check, FlySecret, Issuer, Random, RepositorySecret, Secret, Supplied
from components.work import Action, Work

from .fake_issuer import FakeIssuer
from .wire import Wire, body_of, reply

SECRET = Secret(
    name="FLY_API_TOKEN",
    source=Issuer(kind="fly-deploy-token", settings={"app": "tokens", "profile": "deploy", "expiry": "24h"}),
    fly=(FlySecret(app="cp"),),
    repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
    probe=Check(module="probe"),
    verification=Check(module="verification"),
)
TOKENS = {
    "nodes": [{"id": "t1", "name": "n", "createdAt": "2026-11-23T12:00:00Z", "revokedAt": None, "expiresAt": None}]
}
MACHINE = {"id": "m1", "state": "started", "instance_id": "v1"}
VALUES = {
    "FLY_ACCESS_TOKEN": "fo1_operator-token",
    "GITHUB_TOKEN": "github-operator-token",
    "CP_ADMIN_API_TOKEN": "control-plane-admin-token",
}
GOOD: Mapping[str, tuple[int, Any]] = {
    "GET /v1/apps/cp": (200, {}),
    "GET /v1/apps/tokens": (200, {}),
    "GET /v1/apps/tenant": (200, {}),
    "GET /v1/apps/cp/machines": (200, [MACHINE]),
    "GET /v1/apps/tenant/machines": (200, [{**MACHINE, "id": "m2"}]),
    "POST /graphql": (
        200,
        {"data": {"app": {"limitedAccessTokens": {**TOKENS, "pageInfo": {"hasNextPage": False, "endCursor": None}}}}},
    ),
    "GET /repos/o/r": (200, {"permissions": {"push": True}}),
    "GET /repos/o/r/actions/secrets/public-key": (200, {}),
    "GET /repos/o/r/actions/workflows/publish.yml": (200, {}),
    "GET /repos/o/r/environments": (200, {"total_count": 0, "environments": []}),
    "GET /cp/admin/orgs": (200, {"orgs": []}),
}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with all credentials."""
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


def serving(changed: Mapping[str, tuple[int, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    answers = {**GOOD, **changed}
    return lambda request: reply(*answers[f"{request.method} {request.url.path}"])


ROTATING = Work(
    action=Action.ROTATE,
    turns=True,
    mints=True,
    delivers=SECRET.locations,
    changes_values=True,
    verifies=True,
    revokes=True,
)


def check(
    also: dict[str, list[str]] | None = None,
    secrets: Iterable[Secret] = (SECRET,),
    *,
    work: Work = ROTATING,
    supplied: Mapping[str, str] | None = None,
    progress: Mapping[str, Progress] | None = None,
    known: Mapping[str, Sequence[Machine]] | None = None,
) -> Findings:
    return preflight.check(
        [
            Candidate(
                secret=secret,
                work=work,
                generation=5,
                name=f"{secret.name}-g5",
                progress=(progress or {}).get(secret.name, Progress()),
                supplied=(supplied or {}).get(secret.name, ""),
                also=(also or {}).get(secret.name, []),
            )
            for secret in secrets
        ],
        control_plane_url="https://cp.test",
        tenant_app="tenant",
        known=known,
        config=lambda _key: None,
    )


def only_read(wire: Wire) -> bool:
    return all(
        request.method == "GET"
        or (request.url.path == "/graphql" and re.match(r"\s*(query\b|\{)", body_of(request)["query"]))
        for request in wire.requests
    )


def test_an_operator_who_may_do_everything_gets_through_and_nothing_is_written(wire: Wire) -> None:
    wire.serve = serving({})
    findings = check({"FLY_API_TOKEN": ["t1"]})
    assert findings.warnings == []
    assert {app: [each.machine_id for each in held] for app, held in findings.machines.items()} == {
        "cp": ["m1"],
        "tenant": ["m2"],
    }
    assert set(findings.secrets) == {"FLY_API_TOKEN"}
    assert set(wire.lines) == set(GOOD)
    assert only_read(wire)


def test_an_app_whose_machines_were_just_listed_is_not_asked_about_again(wire: Wire) -> None:
    wire.serve = serving({})
    findings, before = check(), [*wire.lines]
    wire.requests.clear()
    again = check(known={"cp": findings.machines["cp"]})
    assert sorted([*wire.lines, "GET /v1/apps/cp", "GET /v1/apps/cp/machines"]) == sorted(before)
    assert again.machines == findings.machines


def test_an_app_that_was_listed_without_machines_is_looked_at_anew(wire: Wire) -> None:
    wire.serve = serving({"GET /v1/apps/cp": (404, {})})
    with pytest.raises(RefusedError, match="Fly has no app cp"):
        check(known={"cp": []})


REFUSALS: list[tuple[Mapping[str, tuple[int, Any]], tuple[str, ...]]] = [
    ({"GET /v1/apps/cp": (404, {})}, ("Fly", "cp")),
    ({"GET /v1/apps/tenant": (403, {})}, ("Fly", "tenant")),
    ({"GET /v1/apps/tokens": (404, {})}, ("Fly", "tokens")),
    ({"GET /v1/apps/cp/machines": (200, [])}, ("cp", "no machines")),
    ({"GET /v1/apps/tenant/machines": (503, {})}, ("Fly", "503")),
    ({"GET /v1/apps/cp": (401, {"error": "token validation error"})}, ("Fly", "FLY_ACCESS_TOKEN", "validation error")),
    ({"GET /v1/apps/cp": (500, {"error": "down"})}, ("Fly", "500")),
    (
        {"POST /graphql": (200, {"errors": [{"message": "You must be authenticated to view this."}]})},
        ("FLY_ACCESS_TOKEN",),
    ),
    ({"GET /repos/o/r": (404, {})}, ("GitHub", "o/r")),
    ({"GET /repos/o/r": (200, {"permissions": {"pull": True}})}, ("o/r", "not write")),
    ({"GET /repos/o/r": (401, {"message": "Bad credentials"})}, ("GitHub", "GITHUB_TOKEN", "Bad credentials")),
    ({"GET /repos/o/r": (503, {})}, ("GitHub", "503")),
    ({"GET /repos/o/r/actions/secrets/public-key": (403, {})}, ("Actions secrets of o/r",)),
    ({"GET /repos/o/r/actions/secrets/public-key": (404, {})}, ("Actions secrets of o/r",)),
    ({"GET /repos/o/r/actions/secrets/public-key": (500, {})}, ("GitHub", "500")),
    ({"GET /repos/o/r/actions/workflows/publish.yml": (404, {})}, ("o/r has no workflow publish.yml",)),
    ({"GET /repos/o/r/actions/workflows/publish.yml": (403, {})}, ("o/r has no workflow publish.yml",)),
    ({"GET /cp/admin/orgs": (401, {"error": "no"})}, ("control plane", "CP_ADMIN_API_TOKEN")),
    ({"GET /cp/admin/orgs": (502, {})}, ("control plane", "502")),
]


@pytest.mark.parametrize(("changed", "said"), REFUSALS)
def test_what_stands_in_the_way_is_said(
    wire: Wire, changed: Mapping[str, tuple[int, Any]], said: tuple[str, ...]
) -> None:
    wire.serve = serving(changed)
    with pytest.raises(RefusedError) as refused:
        check()
    for part in said:
        assert part in refused.value.happened
    assert refused.value.next_step
    assert "nothing was changed" in str(refused.value)
    assert not any(value in str(refused.value) for value in VALUES.values())
    assert only_read(wire)


def test_an_unmanaged_credential_that_fly_does_not_list_is_refused(wire: Wire) -> None:
    wire.serve = serving({})
    with pytest.raises(RefusedError) as refused:
        check({"FLY_API_TOKEN": ["t1", "gone"]})
    assert "gone" in refused.value.happened
    assert "t1," not in refused.value.happened
    assert "revokeUnmanaged.FLY_API_TOKEN" in refused.value.happened


def test_everything_that_stands_in_the_way_is_said_at_once(wire: Wire) -> None:
    wire.serve = serving(
        {
            "GET /v1/apps/cp": (404, {}),
            "GET /v1/apps/tenant": (404, {}),
            "GET /repos/o/r": (404, {}),
            "GET /cp/admin/orgs": (401, {}),
        }
    )
    with pytest.raises(RefusedError) as refused:
        check()
    for part in ("app cp", "app tenant", "o/r", "CP_ADMIN_API_TOKEN"):
        assert part in refused.value.happened
    assert "4. " in refused.value.happened


def test_missing_credentials_are_all_named_and_nothing_is_asked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.delenv(name)
    with pytest.raises(RefusedError) as refused:
        check()
    for name in VALUES:
        assert f"export {name}" in refused.value.next_step
    assert wire.requests == []


def test_the_control_plane_of_the_environment_comes_first(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_URL", "http://127.0.0.1:9/")
    wire.serve = serving({})
    check()
    asked = next(each for each in wire.requests if each.url.path == "/cp/admin/orgs")
    assert (asked.url.host, asked.url.port) == ("127.0.0.1", 9)


# Whom to call


@pytest.mark.parametrize(
    ("path", "answer", "contact"),
    [
        ("GET /v1/apps/cp", (401, {}), "Fly:"),
        ("GET /v1/apps/cp", (503, {}), "Fly:"),
        ("POST /graphql", (500, {}), "Fly:"),
        ("GET /repos/o/r", (401, {}), "GitHub"),
        ("GET /repos/o/r", (503, {}), "GitHub"),
        ("GET /v1/apps/cp", (404, {}), ""),
        ("GET /repos/o/r", (404, {}), ""),
        ("GET /cp/admin/orgs", (401, {}), ""),
        ("GET /cp/admin/orgs", (503, {}), ""),
    ],
)
def test_who_refuses_or_is_down_is_named_with_whom_to_call(
    wire: Wire, path: str, answer: tuple[int, Any], contact: str
) -> None:
    wire.serve = serving({path: answer})
    with pytest.raises(RefusedError) as refused:
        check()
    assert refused.value.contact.startswith(contact)
    assert bool(refused.value.contact) is bool(contact)
    assert ("Help:" in str(refused.value)) is bool(contact)


def test_everybody_to_call_is_named_once(wire: Wire) -> None:
    wire.serve = serving({"GET /v1/apps/cp": (503, {}), "POST /graphql": (500, {}), "GET /repos/o/r": (503, {})})
    with pytest.raises(RefusedError) as refused:
        check()
    assert str(refused.value).count("Help:") == 1
    lines = [line.strip() for line in refused.value.contact.splitlines()]
    assert [line.partition(":")[0] for line in lines] == ["Fly", "GitHub and GHCR"]


# Issuers


def use(monkeypatch: pytest.MonkeyPatch, build: Callable[[Mapping[str, str], Context], FakeIssuer]) -> Secret:
    """A secret of an issuer that needs nobody's credential."""
    monkeypatch.setattr(preflight, "ISSUERS", {**ISSUERS, "fake": Kind(build=build, operator=None)})
    return replace(SECRET, name="HANDED", source=Supplied(kind="fake", settings={"account": "1"}), repositories=())


@pytest.mark.parametrize("source", [Random(), Supplied()])
def test_a_value_that_no_provider_mints_needs_no_providers_credential(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, source: Random | Supplied
) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    wire.serve = serving({})
    findings = check(secrets=[replace(SECRET, source=source, repositories=())])
    assert findings.warnings == []
    assert not findings.secrets["FLY_API_TOKEN"].revokes
    assert findings.secrets["FLY_API_TOKEN"].minting == NOTHING
    assert "POST /graphql" not in wire.lines
    assert not any(line.startswith("GET /repos") for line in wire.lines)


def test_an_unmanaged_credential_of_a_given_value_is_refused(wire: Wire) -> None:
    wire.serve = serving({})
    with pytest.raises(RefusedError, match="gone"):
        check({"FLY_API_TOKEN": ["gone"]}, [replace(SECRET, source=Supplied())])


def test_the_issuer_gets_what_was_handed_in_and_how_far_its_secret_is(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.serve = serving({})
    built: list[tuple[Mapping[str, str], Context]] = []

    def build(settings: Mapping[str, str], context: Context) -> FakeIssuer:
        built.append((settings, context))
        return FakeIssuer()

    secret = use(monkeypatch, build)
    progress = {"HANDED": Progress(verified=4, oldest_alive=3), "OTHER": Progress(verified=9)}
    check(secrets=[secret], supplied={"HANDED": "value", "OTHER": "no"}, progress=progress)
    ((settings, context),) = built
    assert settings == {"account": "1"}
    assert (context.given, context.keep_from) == ("value", 3)
    assert "value" not in repr(context)
    check(secrets=[secret])
    assert (built[1][1].given, built[1][1].keep_from) == ("", 0)


class _Warning(FakeIssuer):
    """Has something to say that is no obstacle."""

    def warnings(self) -> list[str]:
        return ["it ends on Monday.", "it is the last one."]


def test_what_an_operator_should_know_is_returned_with_the_name_of_the_secret(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Warning())
    findings = check(secrets=[SECRET, secret])
    assert findings.warnings == ["HANDED: it ends on Monday.", "HANDED: it is the last one."]


class _Obstructed(_Warning):
    """Has an obstacle, and is not asked any further."""

    def obstacles(self) -> list[RefusedError]:
        return [RefusedError("the key is of another account", next_step="hand in another one")]

    def warnings(self) -> list[str]:
        raise AssertionError("asked in spite of the obstacle")


def test_an_obstacle_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Obstructed())
    with pytest.raises(RefusedError, match="another account"):
        check(secrets=[secret])


class _Down(FakeIssuer):
    """Refuses, as somebody whose credential is not the operator's."""

    def obstacles(self) -> list[RefusedError]:
        raise ApiError("Upstash", "look", status=self.status, reason="no")


@pytest.mark.parametrize("status", [401, 403, 503, None])
def test_a_refusal_without_an_operator_blames_no_operators_credential(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    wire.serve = serving({})
    secret = use(monkeypatch, lambda _settings, _context: _Down(status=status))
    with pytest.raises(RefusedError, match="Upstash") as refused:
        check(secrets=[secret])
    assert "export" not in refused.value.next_step
    assert refused.value.contact.startswith("Upstash:")


def known(generation: int, value: str = "") -> Credential:
    return Credential(
        generation=generation,
        credential_id=f"t{generation}",
        name=f"HANDED-g{generation}",
        value=value or f"value of t{generation}",
        created_at="2026-11-23T12:00:00Z",
    )


BACK = Work(action=Action.GO_BACK, turns=True, delivers=SECRET.locations, verifies=True, revokes=True)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_what_its_provider_does_not_take_any_more_cannot_come_back(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    listed: bool,  # noqa: FBT001 - a column
    refused: bool,  # noqa: FBT001 - a column
) -> None:
    wire.serve = serving({})
    issuer = FakeIssuer(still_accepted=10**6)
    issuer.seed("t5", "HANDED-g5", live=listed)
    secret = use(monkeypatch, lambda _settings, _context: issuer)
    keyring = (known(6), known(5, "a stranger's value" if refused else ""))
    progress = {"HANDED": Progress(current=6, keyring=keyring)}
    if listed and not refused:
        assert check(secrets=[secret], work=BACK, progress=progress).secrets["HANDED"].minting == NOTHING
        return
    with pytest.raises(RefusedError, match="Generation 5 of HANDED cannot come back") as failed:
        check(secrets=[secret], work=BACK, progress=progress)
    assert "keep generation 6" in failed.value.next_step
    assert "'rotations.HANDED' 7" in failed.value.next_step
    assert "stranger" not in str(failed.value)
    assert not any(each.startswith(("mint", "revoke")) for each in issuer.calls)


class _Announcing(_Warning):
    """Says what minting does, whom it cuts off, and what revoking takes."""

    def announce_mint(self, name: str) -> Announcement:
        return Announcement(words=(f"mints {name}",))

    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        return Announcement(words=tuple(f"ends {each}" for each in credential_ids))

    @property
    def outage(self) -> str:
        return "Nobody can log in."


@pytest.mark.parametrize(
    ("work", "minting", "outage"),
    [
        (ROTATING, ("mints HANDED-g5",), "Nobody can log in."),
        (replace(ROTATING, action=Action.TAKE_OVER), ("mints HANDED-g5",), "Nobody can log in."),
        (replace(ROTATING, action=Action.FINISH, turns=False, mints=False), (), "Nobody can log in."),
        (replace(ROTATING, action=Action.GO_BACK, mints=False), (), "Nobody can log in."),
        (replace(ROTATING, action=Action.FINISH, turns=False, mints=False, delivers=(), changes_values=False), (), ""),
        (Work(action=Action.VERIFY, verifies=True, revokes=True), (), ""),
        (Work(action=Action.DELIVER, delivers=SECRET.locations), (), ""),
        (Work(action=Action.REVOKE, revokes=True), (), ""),
    ],
    ids=["rotate", "take over", "finish", "go back", "finish what is delivered", "verify", "deliver", "revoke"],
)
def test_what_the_issuer_says_is_found_where_it_is_going_to_be_done(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, work: Work, minting: tuple[str, ...], outage: str
) -> None:
    wire.serve = serving({})
    issuer = _Announcing()
    for each in (4, 5):
        issuer.seed(f"t{each}", f"HANDED-g{each}")
    secret = use(monkeypatch, lambda _settings, _context: issuer)
    progress = {"HANDED": Progress(current=4, keyring=(known(5), known(4)))}
    finding = check(secrets=[secret], work=work, progress=progress).secrets["HANDED"]
    assert (finding.minting.words, finding.outage) == (minting, outage)
    assert finding.ending(["t4", "t3"]).words == ("ends t4", "ends t3")
    assert [(each.credential_id, each.name) for each in finding.issued] == [
        ("t4", "HANDED-g4"),
        ("t5", "HANDED-g5"),
    ]
    assert finding.revokes


def test_what_a_list_that_lags_does_not_show_is_found_and_what_is_dead_is_not(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `pulumi up` would revoke what no preview has announced."""
    wire.serve = serving({})
    issuer = FakeIssuer()
    issuer.seed("t4", "HANDED-g4")
    issuer.seed("t5", "HANDED-g5")
    issuer.seed("t3", "HANDED-g3", live=False)
    issuer.stale = [each for each in issuer.issued() if each.credential_id == "t4"]
    secret = use(monkeypatch, lambda _settings, _context: issuer)
    progress = {"HANDED": Progress(current=5, verified=4, keyring=(known(5), known(4), known(3)))}
    finding = check(secrets=[secret], work=ROTATING, progress=progress).secrets["HANDED"]
    assert [each.credential_id for each in finding.issued] == ["t4", "t5"]


def test_a_candidate_shows_no_value() -> None:
    candidate = Candidate(
        secret=SECRET, work=ROTATING, generation=1, name="n", progress=Progress(), supplied="not-for-you"
    )
    assert "not-for-you" not in repr(candidate)


# A control plane that does not answer


def in_state(generation: int, credential_id: str) -> Credential:
    return Credential(
        generation=generation,
        credential_id=credential_id,
        name=f"g{generation}",
        value=f"value of {credential_id}",
        created_at="2026-11-23T12:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("progress", "overlaps", "said"),
    [
        pytest.param(Progress(verified=4, current=4, keyring=(in_state(4, "dead"),)), False, True, id="reset, cut off"),
        pytest.param(Progress(verified=4, current=4, keyring=(in_state(4, "dead"),)), True, True, id="reset by hand"),
        pytest.param(
            Progress(verified=4, current=5, keyring=(in_state(5, "live"), in_state(4, "dead"))),
            False,
            True,
            id="minted, not delivered",
        ),
        pytest.param(Progress(), False, True, id="a first deployment that was cut off"),
        pytest.param(Progress(), True, False, id="a first deployment that ends nothing"),
        pytest.param(
            Progress(verified=4, current=4, keyring=(in_state(4, "live"),)), False, False, id="another reason"
        ),
    ],
)
def test_a_control_plane_that_a_dead_value_keeps_from_answering_is_not_waited_for(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    progress: Progress,
    overlaps: bool,  # noqa: FBT001 - a column
    said: bool,  # noqa: FBT001 - a column
) -> None:
    issuer = FakeIssuer()
    issuer.seed("live", "g5")
    issuer.seed("dead", "g4", live=False)
    secret = replace(use(monkeypatch, lambda _settings, _context: issuer), overlaps=overlaps)
    wire.serve = serving({"GET /cp/admin/orgs": (503, {})})
    if said:
        (warning,) = check(secrets=[secret], progress={"HANDED": progress}).warnings
        assert warning.startswith("control plane: could not list the orgs: status 503")
        assert "What it runs with of HANDED is dead or may be" in warning
    else:
        with pytest.raises(RefusedError, match="could not list the orgs: status 503"):
            check(secrets=[secret], progress={"HANDED": progress})


def test_an_administrators_token_that_is_refused_is_refused_whatever_is_dead(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = replace(use(monkeypatch, lambda _settings, _context: FakeIssuer()), overlaps=False)
    wire.serve = serving({"GET /cp/admin/orgs": (401, {})})
    with pytest.raises(RefusedError, match="CP_ADMIN_API_TOKEN"):
        check(secrets=[secret])


def test_an_issuer_of_several_secrets_is_asked_once(wire: Wire) -> None:
    wire.serve = serving({})
    names = ["FLY_API_TOKEN", "SECOND", "THIRD"]
    other = replace(SECRET.source, settings={**SECRET.source.settings, "app": "cp"})
    found = check(
        secrets=[*(replace(SECRET, name=name) for name in names), replace(SECRET, name="OTHER", source=other)]
    )
    listed = [body_of(each)["variables"]["name"] for each in wire.requests if each.method == "POST"]
    assert sorted(listed) == ["cp", "tokens"]
    assert wire.lines.count("GET /v1/apps/tokens") == 1
    assert {*found.secrets} == {*names, "OTHER"}
    for name in names:
        assert [each.credential_id for each in found.secrets[name].issued] == ["t1"]
        assert found.secrets[name].minting.words == (f"a deploy token of Fly app tokens, named {name}-g5",)


def test_what_is_wrong_with_one_secret_of_an_issuer_is_said_of_that_one(wire: Wire) -> None:
    wire.serve = serving({})
    with pytest.raises(RefusedError) as refused:
        check({"SECOND": ["t9"]}, secrets=[SECRET, replace(SECRET, name="SECOND"), replace(SECRET, name="THIRD")])
    assert refused.value.happened == "`revokeUnmanaged.SECOND` lists t9, which the provider does not list."
