"""Do the providers of what is minted ask for what the engine gives them, and see what changed?"""

from typing import Any

import pytest

from components import provider
from components.errors import OperatorError
from components.keyring import Credential, fingerprint
from components.provider import CredentialProvider, RevocationProvider

from .fake_issuer import FakeIssuer
from .test_dynamic_provider import UNKNOWN

Properties = dict[str, Any]
OLD = "the-old-credential"
FAMILY = {"app": "cp", "stack": "prod", "secret": "TOKEN"}
NAME = "cp-rotation-prod-TOKEN-g"


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> FakeIssuer:
    """The provider of credentials, under the kind `fake`."""
    issuer = FakeIssuer()
    monkeypatch.setattr(provider, "ISSUERS", {"fake": lambda _settings, _config: issuer})
    monkeypatch.setattr(provider, "LONGEST_NAMES", {"fake": 255})
    return issuer


# Credential


def credential(generation: object) -> Properties:
    """What the engine gives: the inputs; numbers are floats, and outputs that are not there yet None."""
    return {
        "family": FAMILY,
        "issuer": {"kind": "fake", "settings": {}},
        "generation": generation,
        "turn": None,
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

    def build(settings: dict[str, str], _config: object) -> FakeIssuer:
        built.append(settings)
        return issuer

    monkeypatch.setattr(provider, "ISSUERS", {"fake": build})
    monkeypatch.setattr(provider, "LONGEST_NAMES", {"fake": 255})
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
        "verified_subject": "s",
        "subject": "s",
        "holdings": {"Fly app cp": fingerprint(current.value)},
        "also": [],
        "proof_timeout": 120.0,
        "revoked": None,
        "unmanaged": None,
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
