"""Is progress read from the resources that count, and nothing else taken out of the state?"""

import json
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components import own_state
from components.errors import RefusedError
from components.keyring import Credential, fingerprint
from components.own_state import from_resources
from components.progress import AppInState, CheckInState, Decommissioned, GitHubWrite, Progress, State
from components.secret import (
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    OrganizationSecret,
    RepositorySecret,
)


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:prod::molecule-secrets::molecule:rotation:Rotation${kind}::{name}"


def credential(name: str, generation: float, **outputs: Any) -> dict[str, Any]:  # noqa: ANN401 - properties
    kind = own_state.CREDENTIAL_TYPE
    properties = {"generation": generation, "value": "not for you", **outputs}
    return {urn(kind, name): {"type": kind, "outputs": properties}}


def keyring(**values: str) -> list[dict[str, Any]]:
    """A keyring as it is kept: `g2="value"` is the credential t2 of generation 2."""
    numbers = [int(key[1:]) for key in values]
    return [
        Credential(
            generation=number, credential_id=f"t{number}", name=f"name-g{number}", value=value, created_at="then"
        ).properties()
        | {"generation": float(number)}
        for number, value in zip(numbers, values.values(), strict=True)
    ]


def app(name: str, **values: str) -> dict[str, Any]:
    kind = own_state.APP_TYPE
    digests = {secret: f"digest of {secret} in {name}" for secret in values}
    outputs = {"app": name, "names": sorted(values), **values, "digests": digests}
    return {urn(kind, name): {"type": kind, "outputs": outputs}}


def revocation(name: str, *alive: str) -> dict[str, Any]:
    kind = own_state.REVOCATION_TYPE
    listed = [{"credential_id": each, "lives_until": ""} for each in alive]
    return {urn(kind, f"revocation-{name}"): {"type": kind, "outputs": {"alive": listed}}}


def command(name: str, stdout: str | None, kind: str = own_state.CHECK_TYPE) -> dict[str, Any]:
    return {urn(kind, name): {"type": kind, "outputs": {"stdout": stdout} if stdout is not None else {}}}


VERIFIED_AT = "2026-11-23T12:00:00+00:00"


def report(generation: int) -> str:
    return json.dumps({"generation": generation, "subject": "s", "verified_at": VERIFIED_AT})


def verified(generation: int, **known: Any) -> Progress:  # noqa: ANN401 - fields
    """The progress of a secret whose verification is `command("verification-A", report(generation))`."""
    succeeded = CheckInState(command="", told={})
    return Progress(
        verified=generation, verified_at=VERIFIED_AT, verification=succeeded, has_verification=True, **known
    )


@pytest.mark.parametrize(
    ("resources", "progress"),
    [
        ({}, {}),
        (credential("A", 3.0), {"A": Progress(current=3)}),
        (
            credential("A", 3) | command("verification-A", report(2)),
            {"A": verified(2, current=3)},
        ),
        (credential("A", 3) | command("verification-A", None), {"A": Progress(current=3, has_verification=True)}),
        (credential("A", 3) | command("verification-A", ""), {"A": Progress(current=3, has_verification=True)}),
        (
            credential("A", 3) | command("probe-A", report(3)),
            {"A": Progress(current=3, probe=CheckInState(command="", told={}))},
        ),
        (credential("A", 3) | command("verification-A", report(3), "other:Type"), {"A": Progress(current=3)}),
        (
            credential("A", 1) | credential("B", 2) | command("verification-B", report(2)),
            {"A": Progress(current=1), "B": verified(2, current=2)},
        ),
        (command("verification-A", report(2)), {"A": verified(2)}),
        ({urn("pulumi:providers:github", "default"): {"type": "pulumi:providers:github"}}, {}),
        ({urn("github:ActionsSecret", "A"): {"type": "github:ActionsSecret", "outputs": {"generation": 9}}}, {}),
    ],
    ids=[
        "nothing deployed",
        "minted, not verified",
        "minted again, verified before",
        "the verification has never run",
        "the verification has printed nothing",
        "a probe is no verification",
        "a resource of another type is no verification",
        "two secrets do not mix",
        "a verification without a credential",
        "a resource without outputs",
        "a resource of another type is no credential",
    ],
)
def test_progress(resources: dict[str, Any], progress: dict[str, Progress]) -> None:
    assert from_resources(resources).progress == progress


def test_the_engine_is_asked_for_this_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def invoke(token: str, arguments: Any) -> SimpleNamespace:  # noqa: ANN401 - the SDK's
        asked.append((token, arguments))
        return SimpleNamespace(value={"outputs": credential("A", 2)})

    monkeypatch.setattr(own_state, "invoke", invoke)
    monkeypatch.setattr(pulumi, "get_organization", lambda: "organization")
    monkeypatch.setattr(pulumi, "get_project", lambda: "molecule-secrets")
    monkeypatch.setattr(pulumi, "get_stack", lambda: "prod")
    assert own_state.read().progress == {"A": Progress(current=2)}
    assert asked == [("pulumi:pulumi:readStackResourceOutputs", {"stackName": "organization/molecule-secrets/prod"})]


@pytest.mark.parametrize("value", [None, {}, {"outputs": None}])
def test_an_engine_without_state_is_no_progress(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_state, "invoke", lambda *_: SimpleNamespace(value=value))
    for name in ("get_organization", "get_project", "get_stack"):
        monkeypatch.setattr(pulumi, name, lambda: "x")
    assert own_state.read() == State()


def test_a_state_that_is_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [
        Exception("failed to load checkpoint: EOF"),
        SimpleNamespace(value={"outputs": credential("A", 3)}),
    ]

    def invoke(_token: str, _arguments: dict[str, str]) -> Any:  # noqa: ANN401 - the SDK's
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(own_state, "invoke", invoke)
    assert own_state.read().progress == {"A": Progress(current=3)}


def test_a_state_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(_token: str, _arguments: dict[str, str]) -> None:
        raise RuntimeError("no backend")

    monkeypatch.setattr(own_state, "READ_TIMEOUT", 0.0)
    monkeypatch.setattr(own_state, "invoke", invoke)
    with pytest.raises(RefusedError, match="no backend"):
        own_state.read()


# What a verification has recorded


@pytest.mark.parametrize(
    ("told", "record", "overridden"),
    [
        ({}, {}, ""),
        ({"record": {"verified_with": {"program": "p"}}}, {"verified_with": {"program": "p"}}, ""),
        ({"record": {"promotion": {"override": "why"}}}, {"promotion": {"override": "why"}}, "why"),
        ({"record": "?"}, {}, ""),
    ],
)
def test_what_a_verification_has_recorded(told: dict[str, Any], record: dict[str, Any], overridden: str) -> None:
    progress = Progress(verification=CheckInState(command="", told=told))
    assert (progress.record, progress.overridden) == (record, overridden)
    assert Progress().record == {}


def credentials(kept: list[dict[str, Any]]) -> tuple[Credential, ...]:
    """As the state keeps them."""
    return tuple(Credential.from_properties(each) for each in kept)


VALUES = {1: "value-one", 2: "value-two"}
PAIR = keyring(g2=VALUES[2], g1=VALUES[1])


def test_the_values_that_the_stack_knows_are_told_apart_by_fingerprints_and_never_shown() -> None:
    found = from_resources(credential("A", 2, value=VALUES[2], keyring=PAIR)).of("A")
    assert found.fingerprints == {number: fingerprint(value) for number, value in VALUES.items()}
    assert not any(value in repr(found) for value in VALUES.values())


def test_a_credential_whose_value_is_not_known_has_no_fingerprint() -> None:
    found = from_resources(credential("A", 2, value=VALUES[2], keyring=keyring(g2=VALUES[2], g1="")))
    assert set(found.of("A").fingerprints) == {2}


@pytest.mark.parametrize("kept", [{}, {"keyring": None}, {"keyring": []}])
def test_a_credential_without_a_keyring_has_no_fingerprints(kept: dict[str, Any]) -> None:
    found = from_resources(credential("A", 2, **kept))
    assert found.progress == {"A": Progress(current=2)}


@pytest.mark.parametrize(
    ("apps", "delivered"),
    [
        ({}, {}),
        (app("cp", A=VALUES[2]), {"cp": "digest of A in cp"}),
        (app("cp", **{"A": VALUES[2], "A-BEFORE": VALUES[2], "0": VALUES[2]}), {"cp": "digest of A in cp"}),
        (app("cp", A=VALUES[1]), {}),
        (
            app("cp", A=VALUES[2]) | app("tenant", A=VALUES[2]),
            {"cp": "digest of A in cp", "tenant": "digest of A in tenant"},
        ),
        (app("cp", A=VALUES[2]) | app("tenant", A=VALUES[1]), {"cp": "digest of A in cp"}),
        (app("cp", B=VALUES[2]), {}),
        ({urn(own_state.APP_TYPE, "cp"): {"type": own_state.APP_TYPE}}, {}),
    ],
    ids=[
        "no app",
        "delivered",
        "delivered beside another one",
        "the value before",
        "two apps",
        "two apps, of which one failed",
        "another secret",
        "an app whose creation failed",
    ],
)
def test_an_app_has_a_value_once_it_was_written_as_a_whole(apps: dict[str, Any], delivered: dict[str, str]) -> None:
    resources = credential("A", 2, value=VALUES[2], keyring=PAIR) | apps
    assert from_resources(resources).of("A").delivered == delivered


@pytest.mark.parametrize(
    ("alive", "oldest"),
    [((), 0), (("t1",), 1), (("t2",), 2), (("t2", "t1"), 1), (("stranger",), 0), (("stranger", "t2"), 2)],
)
def test_the_oldest_one_that_only_its_provider_can_end(alive: tuple[str, ...], oldest: int) -> None:
    resources = credential("A", 3, keyring=PAIR) | revocation("A", *alive)
    found = from_resources(resources).of("A")
    assert (found.oldest_alive, found.has_revocation) == (oldest, True)


def test_a_revocation_of_before_there_was_a_watch_is_one() -> None:
    kind = own_state.REVOCATION_TYPE
    for outputs in ({}, {"outputs": None}, {"outputs": {"alive": None}}):
        resources = credential("A", 3, keyring=PAIR) | {urn(kind, "revocation-A"): {"type": kind, **outputs}}
        found = from_resources(resources).of("A")
        assert (found.oldest_alive, found.has_revocation) == (0, True)


def test_what_is_of_another_secret_does_not_count() -> None:
    resources = (
        credential("A", 2, value=VALUES[2], keyring=PAIR)
        | credential("B", 2, value="another", keyring=keyring(g2="another", g1=""))
        | app("cp", B="another")
        | revocation("B", "t1")
        | command("verification-B", report(2))
    )
    found = from_resources(resources)
    assert found.of("A") == Progress(current=2, keyring=credentials(PAIR))
    assert found.of("B") == verified(
        2,
        current=2,
        keyring=credentials(keyring(g2="another", g1="")),
        oldest_alive=1,
        delivered={"cp": "digest of B in cp"},
        at_fly={"cp": fingerprint("another")},
        has_revocation=True,
    )


def test_a_resource_of_another_type_is_no_revocation_and_no_app() -> None:
    resources = credential("A", 2, value=VALUES[2])
    for name in ("revocation-A", "cp"):
        resources[urn("other:Type", name)] = {"type": "other:Type", "outputs": {"A": VALUES[2], "alive": []}}
    assert from_resources(resources) == State(progress={"A": Progress(current=2)})


# What an update is foreseen from


def outputs(kind: str, name: str, **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - properties
    return {urn(kind, name): {"type": kind, "outputs": properties}}


SUCCEEDED = {
    "create": "python -m the_check",
    "environment": {
        "ROTATION_CHECK": json.dumps({"generation": 2, "reason": "leaked", "subject": "subject-1"}),
        "OPERATOR": "not for you",
    },
    "stdout": report(2),
}


def test_a_check_is_known_as_it_succeeded() -> None:
    resources = credential("A", 2, turn="7", keyring=PAIR) | outputs(
        own_state.CHECK_TYPE, "verification-A", **SUCCEEDED
    )
    resources |= outputs(own_state.CHECK_TYPE, "probe-A", **{**SUCCEEDED, "stdout": "ok"})
    found = from_resources(resources).of("A")
    assert found.verification == CheckInState(
        command="python -m the_check",
        told={"generation": 2, "reason": "leaked", "subject": "subject-1"},
        operator={"OPERATOR": "not for you"},
        subject="subject-1",
    )
    assert found.probe == found.verification
    assert (found.turn, found.verified_at, found.reason) == ("7", VERIFIED_AT, "leaked")
    assert "not for you" not in repr(found)


@pytest.mark.parametrize("stdout", [None, ""])
def test_a_check_that_has_not_succeeded_is_none(stdout: str | None) -> None:
    resources = credential("A", 2) | outputs(own_state.CHECK_TYPE, "probe-A", **{**SUCCEEDED, "stdout": stdout})
    resources |= outputs(own_state.CHECK_TYPE, "verification-A", **{**SUCCEEDED, "stdout": stdout})
    found = from_resources(resources).of("A")
    assert (found.probe, found.verification, found.has_verification, found.reason) == (None, None, True, "routine")


def test_what_locations_were_given_is_known_by_fingerprints() -> None:
    resources = (
        credential("A", 2, value=VALUES[2], keyring=PAIR)
        | app("cp", A=VALUES[2])
        | app("tenant", A=VALUES[1])
        | app("other", B="another")
        | outputs(own_state.ACTIONS_SECRET_TYPE, "r-A", repository="r", secretName="A", value=VALUES[2])
        | outputs(own_state.ACTIONS_SECRET_TYPE, "r-B", repository="r", secretName="B", value="another")
    )
    found = from_resources(resources).of("A")
    assert found.at_fly == {"cp": fingerprint(VALUES[2]), "tenant": fingerprint(VALUES[1])}
    assert found.at_github == {"r": fingerprint(VALUES[2])}
    assert from_resources(resources).of("nobody") == Progress()


def test_the_last_write_to_every_place_at_github() -> None:
    common = {"secretName": "A", "value": VALUES[2]}
    written = "2026-11-26 18:33:03 +0000 UTC"
    of_organization = {"visibility": "selected", "selectedRepositoryIds": [8.0, 7.0]}
    resources = (
        credential("A", 2, value=VALUES[2], keyring=PAIR)
        | outputs(own_state.ACTIONS_SECRET_TYPE, "r-A", repository="r", updatedAt=written, **{**common, "value": "old"})
        | outputs(own_state.ACTIONS_SECRET_TYPE, "r-A-again-2", repository="r", updatedAt=None, **common)
        | outputs(own_state.ACTIONS_SECRET_TYPE, "r-A-again-1", repository="r", **{**common, "value": "older"})
        | outputs(own_state.ENVIRONMENT_SECRET_TYPE, "r-e/1-A", repository="r", environment="e/1", **common)
        | outputs(own_state.DEPENDABOT_SECRET_TYPE, "r-A", repository="r", **common)
        | outputs(own_state.ORGANIZATION_SECRET_TYPE, "organization-A", **of_organization, **common)
        | outputs(own_state.DEPENDABOT_ORGANIZATION_SECRET_TYPE, "organization-A", visibility="all", **common)
    )
    found = from_resources(resources).of("A")
    place: dict[str, Any] = {"owner": "o", "repository": "r", "workflow": "publish.yml"}
    places = (
        RepositorySecret(**place),
        EnvironmentSecret(**place, environment="e/1"),
        OrganizationSecret(**place, visibility="all"),
        DependabotSecret(**place),
        DependabotOrganizationSecret(**place, visibility="all"),
    )
    assert set(found.at_github) == {each.key for each in places}
    assert set(found.at_github.values()) == {fingerprint(VALUES[2])}, (
        "of the last write, where an update has left the one before"
    )
    assert found.github_writes["r"] == GitHubWrite(repository="r", words="repository r", again=2)
    organization = found.github_writes["/actions"]
    assert (organization.visibility, organization.selected) == ("selected", (7, 8))
    first = {urn: each for urn, each in resources.items() if "again" not in urn}
    assert from_resources(first).of("A").github_writes["r"].updated_at == written


def test_what_the_last_revocation_was_about() -> None:
    resources = credential("A", 2, keyring=PAIR)
    resources |= outputs(
        own_state.REVOCATION_TYPE,
        "revocation-A",
        verified_at=VERIFIED_AT,
        also=["x", "y"],
        alive=[{"credential_id": "t1"}],
    )
    found = from_resources(resources).of("A")
    assert (found.revoked_for, found.also, found.has_revocation) == (VERIFIED_AT, ("x", "y"), True)


def test_apps_tenants_and_outputs_of_the_stack() -> None:
    resources = (
        outputs(
            own_state.APP_TYPE,
            "cp",
            names=["A", "B"],
            digests={"A": "digest"},
            version="3.0",
            staged={"A": {"at": "then", "before": "not for you"}},
        )
        | outputs(own_state.TENANTS_TYPE, "tenant", variables=["URL", "GONE"], URL="not for you", OTHER="x")
        | outputs(own_state.STACK_TYPE, "molecule-secrets-prod", impact={"summary": "s"})
    )
    found = from_resources(resources)
    assert found.apps == {"cp": AppInState(names=("A", "B"), digests={"A": "digest"}, version=3, staged={"A": "then"})}
    assert found.tenants == {"tenant": {"URL": "not for you"}}
    assert found.outputs == {"impact": {"summary": "s"}}
    assert "not for you" not in repr(found)


@pytest.mark.parametrize("version", [None, "", "1", 1.0])
def test_an_app_that_has_never_finished_a_rollout(version: object) -> None:
    found = from_resources(outputs(own_state.APP_TYPE, "cp", version=version))
    assert found.apps == {"cp": AppInState(version=1 if version in {"1", 1.0} else 0)}


# Derived


@pytest.mark.parametrize(("verified_generation", "oldest", "keep_from"), [(0, 0, 0), (3, 0, 3), (3, 1, 1), (3, 5, 3)])
def test_values_are_kept_from_the_oldest_that_may_be_alive(
    verified_generation: int, oldest: int, keep_from: int
) -> None:
    assert Progress(verified=verified_generation, oldest_alive=oldest).keep_from == keep_from


def test_the_value_and_the_age_of_a_generation() -> None:
    known = Progress(current=2, verified=1, keyring=credentials(PAIR))
    assert (known.value_of(1), known.value_of(2), known.value_of(3)) == (VALUES[1], VALUES[2], None)
    assert known.minted_at == "then"
    assert Progress(verified=3, keyring=credentials(PAIR)).minted_at == ""
    assert Progress(keyring=credentials(keyring(g1=""))).value_of(1) is None


def test_what_was_ended_and_what_an_app_is_without() -> None:
    kind = own_state.DECOMMISSION_TYPE
    outputs = {"about": "a", "revoked": ["n1"], "alive": ["n2"], "family": {}}
    gone = app("cp", B="b")
    gone[urn(own_state.APP_TYPE, "cp")]["outputs"] |= {"gone": ["A"], "unset": ["A"]}
    state = from_resources({urn(kind, "decommission-A"): {"type": kind, "outputs": outputs}, **gone})
    assert state.decommissioned == {"A": Decommissioned(about="a", revoked=("n1",), alive=("n2",))}
    assert state.apps["cp"].gone == ("A",)
    assert state.progress == {}
    assert from_resources(app("cp", B="b")).apps["cp"].gone == (), "an older version of this program delivered"


def test_who_minted_is_known() -> None:
    issuer = {"kind": "k", "settings": {"app": "a"}}
    assert from_resources(credential("A", 1.0, issuer=issuer)).of("A").issuer == issuer
