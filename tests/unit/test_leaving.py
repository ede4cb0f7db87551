"""Is what `rotations` does not list any more left as it is, and ended only where that can be done safely?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from components import leaving, secret_map, settings
from components.announcement import Announcement, Request
from components.errors import RefusedError
from components.given import GivenValues
from components.impact import Departure
from components.issuers import ISSUERS, Kind
from components.keyring import Credential
from components.leaving import Findings, Leaver, examine, leavers, reminders
from components.progress import AppInState, Decommissioned, Progress, State
from components.secret import Check, FlySecret, Issuer, RepositorySecret, Secret, TenantMachines
from components.settings import STAGED

from .fake_issuer import FakeIssuer, Watched
from .test_preflight import MACHINE, VALUES, only_read, serving
from .test_secret_map import configured
from .wire import Wire

SECRET = Secret(
    name="TOKEN",
    source=Issuer(kind="fake", settings={"app": "a"}),
    fly=(FlySecret(app="cp"),),
    repositories=(RepositorySecret(owner="o", repository="r", workflow="publish.yml"),),
    verification=Check(module="fly_app", settings={"app": "cp"}),
    without="Nothing works.",
)
OF_TENANTS = replace(SECRET, tenants=TenantMachines(app="tenant", variable="REDIS_URL"))
SETTINGS = configured(app="cp", tenantApp="tenant")
NAME = "cp-rotation-prod-TOKEN-g"
DELETE = Request(system="github", method="DELETE", path="/repos/o/r/actions/secrets/TOKEN")
END = Request(system="fly", method="POST", path="/graphql end")


class _Announcing(FakeIssuer):
    def announce_revocation(self, credential_ids: Sequence[str]) -> Announcement:
        return Announcement(words=(f"ends {' '.join(credential_ids)}",), writes=(END,))


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> FakeIssuer:
    """Who mints, under the kind `fake`, and providers where all is well."""
    issuer = _Announcing()
    use(issuer, monkeypatch)
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    wire.serve = serving({})
    return issuer


def use(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Kind(build=lambda *_: issuer, operator=None)
    monkeypatch.setattr(leaving, "ISSUERS", {**ISSUERS, "fake": fake})


def progress(*generations: int, **changed: Any) -> Progress:  # noqa: ANN401 - fields
    keyring = tuple(
        Credential(
            generation=each,
            credential_id=f"t{each}",
            name=f"{NAME}{each}",
            value=f"value of t{each}",
            created_at="2026-11-23T12:00:00Z",
        )
        for each in generations
    )
    known = {
        "current": generations[0],
        "turn": "1",
        "salt": "pepper",
        "keyring": keyring,
        "at_fly": {"cp": "f"},
        "at_github": {"r": "f"},
        "issuer": {"kind": "fake", "settings": {"app": "a"}},
    }
    return Progress(**{**known, **changed})


def found(
    state: State, *named: str, rotated: Sequence[str] = (), secrets: Sequence[Secret] = (SECRET,)
) -> dict[str, Leaver]:
    places = {name: number for number, name in enumerate(named, 3)}
    listed = leavers(secrets, state, rotated=rotated, decommissioned=places, app="cp", stack="prod")
    return {each.name: each for each in listed}


def one(known: Progress | None, *, secret: Secret = SECRET) -> Leaver:
    state = State(progress={} if known is None else {"TOKEN": known})
    return found(state, "TOKEN", secrets=[secret])["TOKEN"]


def look(*those: Leaver, rollout: str = "rolling", reasons: Mapping[str, str] | None = None) -> Findings:
    return examine(those, replace(SETTINGS, rollout=rollout, reasons=reasons or {}), lambda _key: None)


def refusal(leaver: Leaver, **changed: Any) -> RefusedError:  # noqa: ANN401 - of `look`
    with pytest.raises(RefusedError) as refused:
        look(leaver, **changed)
    assert refused.value.next_step
    return refused.value


# Who leaves


def test_who_leaves(issuer: FakeIssuer) -> None:
    del issuer
    state = State(progress={"TOKEN": progress(1), "GONE": progress(2), "STAYS": progress(1), "CHECKED": Progress()})
    all_of_them = found(state, rotated=["STAYS"])
    assert sorted(all_of_them) == ["GONE", "TOKEN"]
    assert all_of_them["TOKEN"].secret is SECRET
    assert (all_of_them["GONE"].secret, all_of_them["GONE"].family) == (None, None), "not declared any more"
    assert not any(each.decommissioned or each.pending for each in all_of_them.values())
    ended = found(state, "TOKEN", rotated=["STAYS"])["TOKEN"]
    assert ended.pending
    assert ended.family is not None
    assert ended.family.credential_name(1) == f"{NAME}1"


def test_what_is_over_is_over_until_it_is_managed_again(issuer: FakeIssuer) -> None:
    del issuer
    known = progress(1)
    about = found(State(progress={"TOKEN": known}), "TOKEN")["TOKEN"].about
    assert "pepper" not in about
    over = {"TOKEN": Decommissioned(about=about, revoked=(f"{NAME}1",))}
    # The engine forgets the rest only once everything else has succeeded.
    for still_known in ({"TOKEN": known}, {}):
        leaver = found(State(progress=still_known, decommissioned=over), "TOKEN")["TOKEN"]
        assert (leaver.pending, leaver.about) == (False, about)
    for again in (replace(known, turn="2"), replace(known, salt="another")):
        leaver = found(State(progress={"TOKEN": again}, decommissioned=over), "TOKEN")["TOKEN"]
        assert leaver.pending
        assert leaver.about != about
    assert not found(State(progress={"TOKEN": known}, decommissioned=over))["TOKEN"].decommissioned


@pytest.mark.parametrize(
    ("minted_by", "requires", "issuers"),
    [
        ({}, {}, [{"app": "a"}]),
        ({"kind": "fake", "settings": {"app": "a"}}, {}, [{"app": "a"}]),
        ({"kind": "fake", "settings": {"app": "before"}}, {}, [{"app": "before"}, {"app": "a"}]),
        ({"kind": "fake", "settings": {"app": "before"}}, {"key": ""}, [{"app": "before"}]),
        ({}, {"key": ""}, [{"app": "a"}]),
    ],
    ids=["unknown", "the same", "with other settings", "the config forgot them", "nobody knows"],
)
def test_whoever_has_minted_is_asked(
    issuer: FakeIssuer, minted_by: dict[str, Any], requires: dict[str, str], issuers: list[dict[str, str]]
) -> None:
    del issuer
    leaver = one(progress(1, issuer=minted_by), secret=replace(SECRET, requires=requires))
    assert [each["settings"] for each in leaver.issuers] == issuers


# Left as it is


def test_what_is_not_named_is_left_as_it_is_and_nobody_is_asked(issuer: FakeIssuer, wire: Wire) -> None:
    state = State(progress={"TOKEN": progress(2, 1)})
    (departure,) = look(*found(state, secrets=[OF_TENANTS]).values()).departures
    assert not departure.decommissioned
    assert departure.locations == ("Fly app cp", "machines of Fly app tenant as REDIS_URL", "GitHub repository r")
    assert [each.name for each in departure.credentials] == [f"{NAME}2", f"{NAME}1"]
    assert (departure.writes, departure.apps) == ((), ())
    assert (issuer.calls, wire.requests) == ([], [])


# Ended


def test_what_is_named_is_unset_and_revoked(issuer: FakeIssuer, wire: Wire) -> None:
    for each in (1, 2):
        issuer.seed(f"t{each}", f"{NAME}{each}")
    issuer.seed("dead", f"{NAME}3", live=False)
    issuer.seed("hand", "by hand")
    findings = look(one(progress(1)))
    assert findings.departures == (
        Departure(
            secret="TOKEN",
            decommissioned=True,
            locations=("Fly app cp", "GitHub repository o/r"),
            apps=("cp",),
            credentials=findings.departures[0].credentials,
            ending=("ends t1 t2",),
            without="Nothing works.",
            waits_for_runs=True,
            writes=(DELETE, END),
        ),
    )
    assert [each.credential_id for each in findings.departures[0].credentials] == ["t1", "t2"]
    assert [each.machine_id for each in findings.machines["cp"]] == ["m1"]
    assert only_read(wire)
    assert issuer.revoked == []


def test_what_is_not_listed_yet_is_announced_as_well(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    issuer.stale = []
    (departure,) = look(one(progress(1))).departures
    assert departure.ending == ("ends t1",)
    assert [each.credential_id for each in departure.credentials] == ["t1"]


def test_after_a_leak_no_run_is_waited_for(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    (departure,) = look(one(progress(1)), reasons={"TOKEN": "leaked"}).departures
    assert not departure.waits_for_runs


def test_what_runs_without_it_already_is_not_restarted_again(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    state = State(progress={"TOKEN": progress(1)}, apps={"cp": AppInState(gone=("TOKEN",)), "b": AppInState()})
    (departure,) = look(*found(state, "TOKEN").values()).departures
    assert (departure.apps, departure.locations) == ((), ("GitHub repository o/r",))


def test_what_only_its_provider_can_end_is_said(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    del issuer
    watched = Watched()
    for each in (1, 2, 3):
        watched.seed(f"t{each}", f"{NAME}{each}")
    use(watched, monkeypatch)
    (departure,) = look(one(progress(2, 1))).departures
    # Of 3, which a crash has left, nobody knows the value.
    assert [each.name for each in departure.remaining] == [f"{NAME}1", f"{NAME}2", f"{NAME}3"]
    assert departure.credentials == ()
    assert departure.writes == (DELETE,)


def test_what_nobody_takes_any_more_does_not_live_on(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    del issuer
    given = GivenValues(given="", keyring=progress(1).keyring)
    fake = Kind(build=lambda *_: given, operator=None)
    monkeypatch.setattr(leaving, "ISSUERS", {**ISSUERS, "fake": fake})
    (departure,) = look(one(progress(1))).departures
    assert (departure.remaining, departure.credentials) == ((), ())


def test_a_family_that_the_state_forgot_is_found_by_its_name_and_has_no_way_back(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    (departure,) = look(one(None)).departures
    assert [each.credential_id for each in departure.credentials] == ["t1"]
    assert departure.no_way_back == ("Fly app cp",)


def test_what_is_not_ours_is_not_unset(issuer: FakeIssuer) -> None:
    issuer.seed("hand", "by hand")
    issuer.seed("t1", f"{NAME}1", live=False)
    error = refusal(one(None))
    assert "the stack knows nothing of it, and no credential of its family is alive" in error.happened
    assert "by hand" in error.next_step


def test_where_the_state_knows_it_what_a_crash_has_left_is_finished_though_nothing_is_alive(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1", live=False)
    (departure,) = look(one(progress(1))).departures
    assert departure.decommissioned
    assert departure.credentials == ()


@pytest.mark.parametrize(
    ("secret", "changed", "said"),
    [
        (replace(SECRET, kept="all is lost."), {}, "TOKEN is never decommissioned: all is lost."),
        (SECRET, {"rollout": STAGED}, "with `rollout: staged` machines would go on with it"),
    ],
    ids=["what may not be lost", "where nothing restarts"],
)
def test_what_is_never_ended(
    issuer: FakeIssuer, wire: Wire, secret: Secret, changed: dict[str, Any], said: str
) -> None:
    issuer.seed("t1", f"{NAME}1")
    assert said in refusal(one(progress(1), secret=secret), **changed).happened
    assert wire.requests == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"GET /v1/apps/cp": (404, {})}, "Fly has no app cp"),
        ({"GET /v1/apps/cp": (401, {"error": "no"})}, "Fly refused the operator's credential"),
        ({"GET /repos/o/r": (200, {"permissions": {"push": False}})}, "may not write secrets of o/r"),
        ({"GET /repos/o/r/actions/secrets/public-key": (403, {})}, "may not write secrets of o/r"),
        ({"GET /repos/o/r": (401, {"message": "Bad credentials"})}, "GitHub refused the operator's credential"),
    ],
)
def test_what_an_operator_may_not_do_is_refused(
    issuer: FakeIssuer, wire: Wire, answers: dict[str, tuple[int, Any]], said: str
) -> None:
    issuer.seed("t1", f"{NAME}1")
    wire.serve = serving(answers)
    assert said in refusal(one(progress(1))).happened
    assert only_read(wire)


def test_what_tenants_hold_is_not_ended(issuer: FakeIssuer, wire: Wire) -> None:
    issuer.seed("t1", f"{NAME}1")
    holds = {**MACHINE, "config": {"env": {"REDIS_URL": "value of t1"}}}
    wire.serve = serving({"GET /v1/apps/tenant/machines": (200, [holds])})
    error = refusal(one(progress(1), secret=OF_TENANTS))
    assert "1 machines of tenant hold it as REDIS_URL" in error.happened
    others = {**MACHINE, "config": {"env": {"REDIS_URL": "one of somebody's own"}}}
    wire.serve = serving({"GET /v1/apps/tenant/machines": (200, [others])})
    assert look(one(progress(1), secret=OF_TENANTS)).departures[0].decommissioned


def test_everything_that_is_wrong_is_said_at_once(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    first, second = replace(SECRET, kept="one."), replace(SECRET, kept="two.")
    with pytest.raises(RefusedError) as refused:
        look(one(progress(1), secret=first), one(progress(1), secret=second))
    assert "one." in refused.value.happened
    assert "two." in refused.value.happened


def test_what_is_over_is_not_looked_at_and_a_reminder(issuer: FakeIssuer, wire: Wire) -> None:
    over = {"TOKEN": Decommissioned(about="a", alive=(f"{NAME}1",))}
    leaver = found(State(decommissioned=over), "TOKEN")["TOKEN"]
    assert look(leaver) == Findings()
    assert (issuer.calls, wire.requests) == ([], [])
    take_off, end_it = reminders([leaver])
    assert "take it off `decommission` (`pulumi config rm --path 'decommission[3]'`)" in take_off
    assert f"{NAME}1 of TOKEN lives on" in end_it
    assert reminders([one(progress(1))]) == []


# The map


def test_every_secret_of_the_map_says_what_is_missing_without_it_or_why_it_stays() -> None:
    made = [
        getattr(secret_map, name)(SETTINGS)
        for name in dir(secret_map)
        if name in {"fly_api_token", "neon_api_key", "database_url", "tenant_redis_url", "secrets_encryption_key"}
        or name.startswith(("resend_", "stripe_"))
    ]
    assert len(made) == 9
    assert all(each.without or each.kept for each in made)
    assert {each.name for each in made if each.kept} == {"SECRETS_ENCRYPTION_KEY"}
    by_reset = secret_map.tenant_redis_url(configured(redisStrategy="reset"))
    assert by_reset.kept


# The config


def listed(raw: object, *, rotated: Sequence[str] = ()) -> dict[str, int]:
    known = {"GITHUB_TOKEN": "it is built in."}
    return settings.decommissioned(raw, managed=["TOKEN", "OTHER"], not_managed=known, rotated=rotated)


def test_names_are_listed_once() -> None:
    assert listed([]) == {}
    assert listed(["TOKEN", "OTHER", "TOKEN"]) == {"TOKEN": 0, "OTHER": 1}


@pytest.mark.parametrize(
    ("raw", "said", "next_step"),
    [
        ("TOKEN", "it has to be a list of names", "decommission[0]"),
        ({"TOKEN": 1}, "it has to be a list of names", "decommission[0]"),
        ([1], "it has to be a list of names", "decommission[0]"),
        (["OTHER", "TOKNE"], "which is no secret of this program. Did you mean TOKEN?", "rm --path 'decommission[1]'"),
        (
            ["GITHUB_TOKEN"],
            "GITHUB_TOKEN cannot be decommissioned here: it is built in.",
            "rm --path 'decommission[0]'",
        ),
        (["KEPT"], "no secret of this program", "decommission[0]"),
    ],
)
def test_what_cannot_be_listed(raw: object, said: str, next_step: str) -> None:
    with pytest.raises(RefusedError) as refused:
        listed(raw)
    assert said in refused.value.happened
    assert next_step in refused.value.next_step


def test_what_is_rotated_is_not_ended() -> None:
    with pytest.raises(RefusedError, match="which `rotations` lists, too") as refused:
        listed(["TOKEN"], rotated=["TOKEN"])
    assert "decommission[0]" in refused.value.next_step
    assert "rotations.TOKEN" in refused.value.next_step


@pytest.mark.parametrize(
    ("known", "generation", "refused"),
    [
        (progress(1, verified=1), 1, True),
        (progress(1, verified=1), 2, False),
        (progress(2, verified=1), 2, False),
        (progress(2, verified=1), 1, False),
        (progress(1, verified=0), 1, False),
        (None, 1, False),
    ],
    ids=["as it was", "bumped", "bumped before", "given up after a bump", "never verified", "over and forgotten"],
)
def test_what_was_half_ended_comes_back_with_another_value_alone(
    known: Progress | None,
    generation: int,
    refused: bool,  # noqa: FBT001 - a column
) -> None:
    state = State(
        progress={} if known is None else {"TOKEN": known}, apps={"cp": AppInState(gone=("TOKEN",)), "b": AppInState()}
    )
    if refused:
        with pytest.raises(RefusedError, match="after it was unset to be decommissioned") as raised:
            settings.assert_not_half_ended({"TOKEN": generation, "OTHER": 1}, state)
        assert f"'rotations.TOKEN' {generation + 1}" in raised.value.next_step
    else:
        settings.assert_not_half_ended({"TOKEN": generation, "OTHER": 1}, state)
    settings.assert_not_half_ended({"TOKEN": generation}, replace(state, apps={}))
