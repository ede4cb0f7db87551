"""Do the providers of what is minted ask for what the engine gives them, and see what changed?"""

from collections.abc import Mapping
from typing import Any

import pytest

from components import turning
from components.errors import OperatorError, RefusedError
from components.issuers import ISSUERS, Context, Kind
from components.keyring import Credential, fingerprint
from components.provider import CredentialProvider, DecommissionProvider, RevocationProvider
from components.turning import ROTATIONS_KEPT

from .fake_issuer import FakeIssuer, Watched
from .test_dynamic_provider import UNKNOWN
from .wire import Wire, reply

Properties = dict[str, Any]
OLD = "the-old-credential"
FAMILY = {"app": "cp", "stack": "prod", "secret": "TOKEN"}
NAME = "cp-rotation-prod-TOKEN-g"


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> FakeIssuer:
    """The provider of credentials, under the kind `fake`."""
    issuer = FakeIssuer()
    use(issuer, monkeypatch)
    return issuer


def use(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Kind(build=lambda _settings, _context: issuer, operator=None)
    monkeypatch.setattr(turning, "ISSUERS", {**ISSUERS, "fake": fake})


# Credential


def credential(generation: object) -> Properties:
    """What the engine gives: the inputs; numbers are floats, and outputs that are not there yet None."""
    return {
        "family": FAMILY,
        "issuer": {"kind": "fake", "settings": {}},
        "generation": generation,
        "turn": None,
        "salt": None,
        "credential_id": None,
        "created_at": None,
        "value": None,
        "keyring": None,
    }


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [(1.0, 1.0, False), (1, 1.0, False), (1.0, 2.0, True), (2.0, 1.0, True), (1.0, UNKNOWN, True)],
)
def test_a_credential_changes_with_its_generation(old: object, new: object, changes: bool) -> None:  # noqa: FBT001 - a column
    olds = {**credential(old), "turn": "4", "value": OLD, "credential_id": "t"}
    assert CredentialProvider().diff("id", olds, credential(new)).changes is changes


def test_the_settings_of_an_issuer_alone_do_not_rotate() -> None:
    changed = {**credential(1.0), "issuer": {"kind": "fake", "settings": {"expiry": "1h"}}}
    assert not CredentialProvider().diff("id", credential(1.0), changed).changes


def test_a_credential_is_minted_bumped_and_brought_back(issuer: FakeIssuer) -> None:
    it = CredentialProvider()
    created = it.create(credential(1.0))
    assert created.id == "cp-rotation-prod-TOKEN"
    first = dict(created.outs or {})
    assert (first["turn"], first["value"], len(first["keyring"])) == ("1", "value of id-1", 1)
    second = dict(it.update(created.id, stored(first), credential(2.0)).outs or {})
    assert (second["turn"], second["value"], second["credential_id"]) == ("2", "value of id-2", "id-2")
    assert [each["generation"] for each in second["keyring"]] == [2, 1]
    back = dict(it.update(created.id, stored(second), credential(1.0)).outs or {})
    assert (back["turn"], back["value"], back["credential_id"]) == ("3", "value of id-1", "id-1")
    assert issuer.revoked == []
    assert sorted(issuer.alive.values()) == [f"{NAME}1", f"{NAME}2"]
    assert set(back) == set(credential(1.0))


def stored(outs: Properties) -> Properties:
    """As it comes back from the state: every number is a float."""
    keyring = [{**each, "generation": float(each["generation"])} for each in outs["keyring"]]
    return {**outs, "generation": float(outs["generation"]), "keyring": keyring}


def test_an_update_looks_where_the_settings_of_before_point_too(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[dict[str, str]] = []
    issuer = FakeIssuer()

    def build(settings: Mapping[str, str], _context: Context) -> FakeIssuer:
        built.append(dict(settings))
        return issuer

    monkeypatch.setattr(turning, "ISSUERS", {"fake": Kind(build=build, operator=None)})
    olds = stored(dict(CredentialProvider().create(credential(1.0)).outs or {}))
    news = {**credential(2.0), "issuer": {"kind": "fake", "settings": {"app": "another"}}}
    built.clear()
    CredentialProvider().update("id", olds, news)
    assert built == [{"app": "another"}, {}]


# Revocation


def revocation(current: Credential, keyring: list[Credential], **changed: Any) -> Properties:  # noqa: ANN401 - properties
    return {
        "family": FAMILY,
        "issuer": {"kind": "fake", "settings": {}},
        "generation": float(current.generation),
        "credential_id": current.credential_id,
        "keyring": [{**each.properties(), "generation": float(each.generation)} for each in keyring],
        "verified_at": "2026-11-23T12:00:00+00:00",
        "minted_at": current.created_at,
        "delivered_at": "2026-11-23T11:00:00+00:00",
        "reason": "routine",
        "verified_subject": "s",
        "subject": "s",
        "holdings": {"Fly app cp": fingerprint(current.value)},
        "also": [],
        "proof_timeout": 120.0,
        "revoked": None,
        "alive": None,
        "unmanaged": None,
        "timeline": None,
        **changed,
    }


@pytest.fixture
def pair(issuer: FakeIssuer) -> list[Credential]:
    """A verified credential and the one before it, both alive, beside one made by hand."""
    keyring = []
    for generation in (2, 1):
        issuer.seed(f"t{generation}", f"{NAME}{generation}")
        keyring.append(
            Credential(
                generation=generation,
                credential_id=f"t{generation}",
                name=f"{NAME}{generation}",
                value=f"value of t{generation}",
                created_at="2026-11-23T12:00:00Z",
            )
        )
    issuer.seed("hand", "by hand")
    return keyring


@pytest.mark.parametrize("event", ["create", "update"])
def test_a_revocation_leaves_the_verified_one_and_says_what_it_did(
    issuer: FakeIssuer, pair: list[Credential], event: str
) -> None:
    news = revocation(pair[0], pair)
    it = RevocationProvider()
    outs = it.create(news).outs if event == "create" else it.update("id", news, news).outs
    assert set(issuer.alive) == {"t2", "hand"}
    assert outs is not None
    assert outs["revoked"] == [f"{NAME}1"]
    assert [each["id"] for each in outs["unmanaged"]] == ["hand"]


def test_a_revocation_refuses_where_a_location_holds_another_value(issuer: FakeIssuer, pair: list[Credential]) -> None:
    with pytest.raises(OperatorError, match="Fly app cp"):
        RevocationProvider().create(revocation(pair[0], pair, holdings={"Fly app cp": fingerprint("another")}))
    assert issuer.revoked == []


def test_a_revocation_of_what_is_asked_for(issuer: FakeIssuer, pair: list[Credential]) -> None:
    RevocationProvider().create(revocation(pair[0], pair, also=["hand"]))
    assert set(issuer.alive) == {"t2"}


def test_a_revocation_keeps_no_values_once_all_are_dead(issuer: FakeIssuer, pair: list[Credential]) -> None:
    outs = RevocationProvider().create(revocation(pair[0], pair)).outs or {}
    assert set(issuer.alive) == {"t2", "hand"}
    assert not {"keyring", "holdings"} & outs.keys()
    assert all(each.value not in repr(outs) for each in pair)
    again = RevocationProvider().update("id", outs, {**revocation(pair[0], pair), "verified_at": "later"}).outs or {}
    assert again["verified_at"] == "later"
    assert not RevocationProvider().diff("id", again, {**revocation(pair[0], pair), "verified_at": "later"}).changes


@pytest.mark.parametrize(
    ("changed", "changes"),
    [
        ({}, False),
        ({"credential_id": "t3"}, True),
        ({"credential_id": UNKNOWN}, True),
        ({"verified_at": "later"}, True),
        ({"verified_at": UNKNOWN}, True),
        ({"also": ["x"]}, True),
        ({"holdings": {}}, False),
        ({"proof_timeout": 5.0}, False),
    ],
)
def test_a_revocation_runs_after_every_verification(
    pair: list[Credential],
    changed: Properties,
    changes: bool,  # noqa: FBT001 - a column
) -> None:
    olds = revocation(pair[0], pair)
    assert RevocationProvider().diff("id", olds, {**olds, **changed}).changes is changes


# The salt


def test_the_salt_is_made_once_and_stays(issuer: FakeIssuer) -> None:
    it = CredentialProvider()
    first = dict(it.create(credential(1.0)).outs or {})
    second = dict(it.update("id", stored(first), credential(2.0)).outs or {})
    other = dict(it.create(credential(1.0)).outs or {})
    assert len(bytes.fromhex(first["salt"])) == 16
    assert second["salt"] == first["salt"]
    assert other["salt"] != first["salt"], "another credential has another one"
    assert issuer.alive


# Given values


def handed(generation: float, value: str, keep_from: float = 0.0) -> Properties:
    return {
        **credential(generation),
        "issuer": {"kind": "given", "settings": {}},
        "given": value,
        "keep_from": keep_from,
    }


def generations(outs: Properties) -> dict[int, str]:
    return {each["generation"]: each["value"] for each in outs["keyring"]}


def test_a_given_value_is_taken_as_it_is_and_kept_until_it_is_over() -> None:
    it = CredentialProvider()
    first = dict(it.create(handed(1.0, "one")).outs or {})
    assert (first["value"], first["credential_id"], generations(first)) == ("one", f"{NAME}1", {1: "one"})
    second = dict(it.update("id", stored(first), handed(2.0, "two")).outs or {})
    assert (second["value"], generations(second)) == ("two", {1: "one", 2: "two"})
    third = dict(it.update("id", stored(second), handed(3.0, "three", 1.0)).outs or {})
    assert generations(third) == {1: "one", 2: "two", 3: "three"}, "1 is verified, 2 was given up"
    fourth = dict(it.update("id", stored(third), handed(4.0, "four", 3.0)).outs or {})
    assert generations(fourth) == {3: "three", 4: "four"}


@pytest.mark.parametrize("generation", [1.0, 2.0])
def test_a_generation_that_is_known_keeps_its_value_whatever_is_given(generation: float) -> None:
    it = CredentialProvider()
    outs = dict(it.create(handed(1.0, "one")).outs or {})
    outs = dict(it.update("id", stored(outs), handed(2.0, "two", 1.0)).outs or {})
    for step in (1.0, generation):
        outs = dict(it.update("id", stored(outs), handed(step, "generated anew", 1.0)).outs or {})
    assert outs["value"] == {1.0: "one", 2.0: "two"}[generation]
    assert generations(outs) == {1: "one", 2: "two"}


def test_another_value_alone_is_no_change() -> None:
    olds = {**handed(1.0, "one"), "turn": "1", "value": "one"}
    assert not CredentialProvider().diff("id", olds, handed(1.0, "two", 1.0)).changes


def test_given_values_of_before_are_over_once_another_one_is_verified() -> None:
    it = CredentialProvider()
    outs = dict(it.create(handed(1.0, "one")).outs or {})
    outs = dict(it.update("id", stored(outs), handed(2.0, "two", 1.0)).outs or {})
    keyring = [Credential.from_properties(each) for each in outs["keyring"]]
    news = revocation(keyring[0], keyring, issuer={"kind": "given", "settings": {}})
    verdict = RevocationProvider().create(news).outs or {}
    assert (verdict["revoked"], verdict["alive"], verdict["unmanaged"]) == ([f"{NAME}1"], [], [])


# Old credentials that only their provider can end


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, pair: list[Credential]) -> Watched:
    """The same credentials at a provider that ends old ones itself."""
    issuer = Watched()
    for each in pair:
        issuer.seed(each.credential_id, each.name)
    use(issuer, monkeypatch)
    return issuer


def outputs(news: Properties, olds: Properties | None = None) -> Properties:
    it = RevocationProvider()
    outs = it.create(news).outs if olds is None else it.update("id", olds, news).outs
    return dict(outs or {})


def test_what_its_provider_has_to_end_is_not_revoked_but_watched(watched: Watched, pair: list[Credential]) -> None:
    outs = outputs(revocation(pair[0], pair))
    assert set(watched.alive) == {"t1", "t2"}
    assert outs["alive"] == [{"credential_id": "t1", "lives_until": "2026-11-30T12:00:00Z"}]
    assert outs["keyring"], "its value is what tells whether it has ended"
    assert outs["revoked"] == []


def test_a_watched_one_that_is_accepted_is_no_change(watched: Watched, pair: list[Credential]) -> None:
    news = revocation(pair[0], pair)
    outs = outputs(news)
    watched.calls.clear()
    assert not RevocationProvider().diff("id", outs, news).changes
    assert watched.calls == ["try t1"], "it alone was asked, with its value"


def test_a_watched_one_that_is_refused_is_a_change_and_is_written_down(
    watched: Watched, pair: list[Credential]
) -> None:
    news = revocation(pair[0], pair)
    olds = outputs(news)
    watched.end("t1")
    assert RevocationProvider().diff("id", olds, news).changes
    outs = outputs(news, olds)
    assert (outs["revoked"], outs["alive"]) == ([f"{NAME}1"], [])
    watched.calls.clear()
    assert not RevocationProvider().diff("id", outs, news).changes
    assert watched.calls == [], "nothing is watched any more"


def test_one_of_two_watched_ones_that_is_refused_is_a_change(watched: Watched, pair: list[Credential]) -> None:
    watched.seed("t0", f"{NAME}0")
    oldest = Credential(
        generation=0, credential_id="t0", name=f"{NAME}0", value="value of t0", created_at="2026-11-23T12:00:00Z"
    )
    news = revocation(pair[0], [*pair, oldest])
    olds = outputs(news)
    assert {each["credential_id"] for each in olds["alive"]} == {"t0", "t1"}
    watched.end("t0")
    assert RevocationProvider().diff("id", olds, news).changes
    assert [each["credential_id"] for each in outputs(news, olds)["alive"]] == ["t1"]


@pytest.mark.parametrize("status", [None, 401, 403, 429, 500])
def test_while_the_provider_is_down_a_watched_one_is_no_change(
    watched: Watched, pair: list[Credential], status: int | None
) -> None:
    news = revocation(pair[0], pair)
    olds = outputs(news)
    watched.end("t1")
    watched.calls.clear()
    watched.status = status
    watched.fail_at = 1
    assert not RevocationProvider().diff("id", olds, news).changes
    assert watched.calls == ["try t1"], "nothing else is asked"
    assert RevocationProvider().diff("id", olds, news).changes, "the next look finds it"


def test_while_one_of_two_watched_ones_cannot_be_asked_about_nothing_is_a_change(
    watched: Watched, pair: list[Credential]
) -> None:
    watched.seed("t0", f"{NAME}0")
    oldest = Credential(
        generation=0, credential_id="t0", name=f"{NAME}0", value="value of t0", created_at="2026-11-23T12:00:00Z"
    )
    news = revocation(pair[0], [*pair, oldest])
    olds = outputs(news)
    watched.end("t1")
    watched.calls.clear()
    watched.fail_at = 2
    assert not RevocationProvider().diff("id", olds, news).changes
    assert watched.calls == ["try t1", "try t0"]
    assert RevocationProvider().diff("id", olds, news).changes


def test_without_the_operators_credential_a_watched_one_is_no_change(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, pair: list[Credential]
) -> None:
    def build(_settings: Mapping[str, str], _context: Context) -> FakeIssuer:
        raise RefusedError("STRIPE_API_KEY is not set", next_step="export it.")

    news = revocation(pair[0], pair)
    olds = outputs(news)
    watched.end("t1")
    monkeypatch.setattr(turning, "ISSUERS", {"fake": Kind(build=build, operator=None)})
    assert not RevocationProvider().diff("id", olds, news).changes
    use(watched, monkeypatch)
    assert RevocationProvider().diff("id", olds, news).changes


def test_where_nothing_is_watched_no_provider_is_asked(issuer: FakeIssuer, pair: list[Credential]) -> None:
    news = revocation(pair[0], pair)
    outs = outputs(news)
    issuer.calls.clear()
    assert not RevocationProvider().diff("id", outs, news).changes
    assert issuer.calls == []


def test_the_watch_asks_the_issuer_that_the_state_knows(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, pair: list[Credential]
) -> None:
    built: list[tuple[dict[str, str], tuple[Credential, ...]]] = []

    def build(settings: Mapping[str, str], context: Context) -> FakeIssuer:
        built.append((dict(settings), context.keyring))
        return watched

    monkeypatch.setattr(turning, "ISSUERS", {"fake": Kind(build=build, operator=None)})
    olds = outputs(revocation(pair[0], pair, issuer={"kind": "fake", "settings": {"account": "1"}}))
    built.clear()
    RevocationProvider().diff("id", olds, revocation(pair[0], pair))
    assert built == [({"account": "1"}, tuple(pair))]


# The timeline


@pytest.fixture
def revoked_now(monkeypatch: pytest.MonkeyPatch) -> str:
    """When everything is revoked."""
    monkeypatch.setattr(turning, "now", lambda: "2026-11-23T12:30:00+00:00")
    return "2026-11-23T12:30:00+00:00"


def kept(outs: Properties) -> Properties:
    """As it comes back from the state: every number is a float."""
    return {**outs, "timeline": [{**each, "generation": float(each["generation"])} for each in outs["timeline"]]}


FIRST = {
    "generation": 2,
    "reason": "leaked",
    "minted_at": "2026-11-23T12:00:00Z",
    "delivered_at": "2026-11-23T11:00:00+00:00",
    "verified_at": "2026-11-23T12:00:00+00:00",
}


@pytest.mark.usefixtures("issuer")
def test_the_first_rotation_is_written_down(pair: list[Credential], revoked_now: str) -> None:
    outs = outputs(revocation(pair[0], pair, reason="leaked"))
    assert outs["timeline"] == [{**FIRST, "revoked_at": revoked_now, "revoked": [f"{NAME}1"]}]


@pytest.mark.usefixtures("issuer", "revoked_now")
def test_why_it_came_before_it_was_proven_is_written_down(pair: list[Credential]) -> None:
    olds = kept(outputs(revocation(pair[0], pair, override="a fire")))
    assert olds["timeline"][0]["override"] == "a fire"
    again = outputs(revocation(pair[0], pair, verified_at="2026-11-25T12:00:00+00:00"), olds)
    assert again["timeline"][0]["override"] == "a fire", "a verification alone changes nothing of it"


def test_where_nothing_had_to_be_revoked_there_is_no_time_of_it(issuer: FakeIssuer, pair: list[Credential]) -> None:
    issuer.revoke("t1")
    outs = outputs(revocation(pair[0], pair[:1], reason="leaked"))
    assert outs["timeline"] == [{**FIRST, "revoked_at": "", "revoked": []}]


def test_another_rotation_comes_before_the_one_before(
    issuer: FakeIssuer, pair: list[Credential], revoked_now: str
) -> None:
    olds = kept(outputs(revocation(pair[0], pair)))
    issuer.seed("t3", f"{NAME}3")
    third = Credential(
        generation=3, credential_id="t3", name=f"{NAME}3", value="value of t3", created_at="2026-11-24T12:00:00Z"
    )
    news = revocation(third, [third, pair[0]], verified_at="2026-11-24T12:10:00+00:00", delivered_at="")
    outs = outputs(news, olds)
    assert [each["generation"] for each in outs["timeline"]] == [3, 2]
    assert outs["timeline"][0] == {
        "generation": 3,
        "reason": "routine",
        "minted_at": "2026-11-24T12:00:00Z",
        "delivered_at": "",
        "verified_at": "2026-11-24T12:10:00+00:00",
        "revoked_at": revoked_now,
        "revoked": [f"{NAME}2"],
    }
    assert outs["timeline"][1] == olds["timeline"][0], "what is over is not touched"


def test_going_on_with_a_rotation_adds_to_it(
    issuer: FakeIssuer, pair: list[Credential], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "now", lambda: "first")
    olds = kept(outputs(revocation(pair[0], pair)))
    monkeypatch.setattr(turning, "now", lambda: "second")
    again = revocation(pair[0], pair, also=["hand"], verified_at="later", delivered_at="later", reason="leaked")
    (entry,) = outputs(again, olds)["timeline"]
    assert issuer.revoked == ["t1", "hand"]
    assert entry["revoked"] == [f"{NAME}1", "by hand"]
    assert entry["revoked_at"] == "second"
    for key in ("generation", "reason", "minted_at", "delivered_at", "verified_at"):
        assert entry[key] == olds["timeline"][0][key], "the rotation itself has not changed"


@pytest.mark.usefixtures("issuer")
def test_a_verification_alone_is_no_rotation(pair: list[Credential], revoked_now: str) -> None:
    olds = kept(outputs(revocation(pair[0], pair)))
    outs = outputs(revocation(pair[0], pair, verified_at="later"), olds)
    assert [each["generation"] for each in outs["timeline"]] == [2]
    assert outs["timeline"][0]["revoked_at"] == revoked_now
    assert outs["timeline"][0]["revoked"].count(f"{NAME}1") == 1


def test_nothing_is_over_while_an_old_one_lives(watched: Watched, pair: list[Credential], revoked_now: str) -> None:
    oldest = Credential(
        generation=0, credential_id="t0", name=f"{NAME}0", value="value of t0", created_at="2026-11-23T12:00:00Z"
    )
    watched.seed("t0", f"{NAME}0")
    news = revocation(pair[0], [*pair, oldest])
    olds = kept(outputs(news))
    assert (olds["timeline"][0]["revoked_at"], olds["timeline"][0]["revoked"]) == ("", [])
    watched.end("t0")
    olds = kept(outputs(news, olds))
    assert (olds["timeline"][0]["revoked_at"], olds["timeline"][0]["revoked"]) == ("", [f"{NAME}0"]), "t1 is alive"
    watched.end("t1")
    (entry,) = outputs(news, olds)["timeline"]
    assert (entry["revoked_at"], set(entry["revoked"])) == (revoked_now, {f"{NAME}0", f"{NAME}1"})


@pytest.mark.usefixtures("issuer")
@pytest.mark.parametrize("timeline", [None, [], "absent"])
def test_the_state_of_an_older_version_has_no_timeline(pair: list[Credential], timeline: object) -> None:
    olds = {**outputs(revocation(pair[0], pair)), "timeline": timeline}
    if timeline == "absent":
        del olds["timeline"]
    news = revocation(pair[0], pair)
    del news["delivered_at"]
    (entry,) = outputs(news, olds)["timeline"]
    assert (entry["generation"], entry["delivered_at"]) == (2, "")


@pytest.mark.usefixtures("issuer")
def test_no_more_than_the_last_ten_are_kept(pair: list[Credential]) -> None:
    before = [{**FIRST, "generation": float(-each), "revoked_at": "", "revoked": []} for each in range(15)]
    olds = {**revocation(pair[0], pair), "timeline": before}
    outs = outputs(revocation(pair[0], pair), olds)
    assert ROTATIONS_KEPT == 10
    assert [each["generation"] for each in outs["timeline"]] == [2, *(0.0 - each for each in range(9))]


@pytest.mark.usefixtures("issuer")
def test_another_minting_of_the_same_generation_is_another_rotation(pair: list[Credential]) -> None:
    olds = kept(outputs(revocation(pair[0], pair)))
    news = revocation(pair[0], pair, minted_at="2026-12-01T00:00:00Z")
    assert [each["minted_at"] for each in outputs(news, olds)["timeline"]] == [
        "2026-12-01T00:00:00Z",
        "2026-11-23T12:00:00Z",
    ]


@pytest.mark.usefixtures("issuer")
def test_no_value_gets_into_a_timeline(pair: list[Credential]) -> None:
    outs = outputs(revocation(pair[0], pair))
    assert not any(each.value in repr(outs["timeline"]) for each in pair)


# Decommission


def decommissioned(**changed: Any) -> Properties:  # noqa: ANN401 - properties
    known = Credential(generation=1, credential_id="t1", name=f"{NAME}1", value="value of t1", created_at="2026")
    return {
        "family": FAMILY,
        "about": "a",
        "issuers": [{"kind": "fake", "settings": {}}],
        "keyring": [known.properties()],
        "keep_from": 1.0,
        "apps": {"cp": True},
        "repositories": [],
        "tenants": None,
        "proof_timeout": 30.0,
        "ci_timeout": 60.0,
        "revoked": None,
        "alive": None,
        **changed,
    }


def test_the_end_of_a_secret_leaves_no_value_behind(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    created = DecommissionProvider().create(decommissioned())
    assert created.id == "cp-rotation-prod-TOKEN"
    assert created.outs == {"family": FAMILY, "about": "a", "revoked": [f"{NAME}1"], "alive": []}
    assert issuer.revoked == ["t1"]


@pytest.mark.parametrize(("about", "changes"), [("a", False), ("b", True), (UNKNOWN, True)])
def test_the_end_comes_once_for_each_turn(about: object, changes: bool) -> None:  # noqa: FBT001 - a column
    olds = {"family": FAMILY, "about": "a", "revoked": [], "alive": []}
    emptied = decommissioned(about=about, keyring=[], apps={}, issuers=[])
    assert DecommissionProvider().diff("id", olds, emptied).changes is changes


def test_an_app_that_holds_it_holds_the_end_up_and_the_next_update_comes_to_it(issuer: FakeIssuer) -> None:
    issuer.seed("t1", f"{NAME}1")
    it = DecommissionProvider()
    with pytest.raises(OperatorError, match="Fly app cp still holds it"):
        it.create(decommissioned(apps={"cp": False}))
    outs = it.update("id", {"about": "before"}, decommissioned(ci_timeout=None)).outs or {}
    assert outs["revoked"] == [f"{NAME}1"]


def test_tenants_are_asked_of_fly_and_repositories_of_github(
    issuer: FakeIssuer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("FLY_ACCESS_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.setenv(variable, f"operator-token-of-{variable}")
    issuer.seed("t1", f"{NAME}1")
    wire.will(reply(200, []), reply(204), reply(200, {"workflow_runs": []}), *[reply(200, {"workflow_runs": []})] * 9)
    it = decommissioned(repositories=["o/r"], tenants={"app": "tenant", "variable": "REDIS_URL"})
    DecommissionProvider().create(it)
    made = [f"{each.method} {each.url.host} {each.url.path}" for each in wire.requests]
    assert made[:2] == [
        "GET api.machines.dev /v1/apps/tenant/machines",
        "DELETE api.github.com /repos/o/r/actions/secrets/TOKEN",
    ]
    assert {each.split()[2] for each in made[2:]} == {"/repos/o/r/actions/runs"}
    assert issuer.revoked == ["t1"]


def test_delete_ends_nothing(issuer: FakeIssuer) -> None:
    DecommissionProvider().delete("id", decommissioned())
    assert issuer.calls == []
