"""Is a stack read from what the engine prints, decrypted or refused, and with the project's defaults?"""

import json

import pytest

from components.errors import OperatorError
from components.progress import AppInState
from components.secret import Issuer
from tools.audit.stack import SECRET_SIGNATURE, SIGNATURE, config_of, exported, unwrap

from . import audit_stacks as stacks
from .audit_stacks import SECRET, sealed


@pytest.mark.parametrize(
    ("printed", "plain"),
    [
        ("text", "text"),
        ({"a": sealed("x"), "b": [sealed({"c": 1})]}, {"a": "x", "b": [{"c": 1}]}),
        (sealed({"inner": sealed("twice")}), {"inner": "twice"}),
        ({SIGNATURE: "an asset", "plaintext": "1"}, {SIGNATURE: "an asset", "plaintext": "1"}),
        (sealed(None), None),
    ],
)
def test_secrets_are_unwrapped(printed: object, plain: object) -> None:
    assert unwrap(printed) == plain


def test_the_config_has_the_defaults_of_the_project() -> None:
    config = config_of(stacks.config(app="another"), stacks.PROJECT_FILE)
    assert [config.get(key) for key in ("app", "proveUse", "ciTimeout", "without", "github:owner")] == [
        "another",
        "true",
        "3600",
        None,
        "Molecule-AI",
    ]
    assert config.get_object("rotations") == {SECRET: 2}
    assert config.get_object("app") is None
    assert config_of({}, stacks.PROJECT_FILE).get_object("rotations") == {}
    assert stacks.OPERATOR not in repr(config)


def test_a_structure_without_its_own_field_is_read_from_its_text() -> None:
    printed = {"molecule-secrets:rotations": {"value": '{"A": 3}'}, "molecule-secrets:app": {"value": "{slug}"}}
    config = config_of(printed, stacks.PROJECT_FILE)
    assert config.get_object("rotations") == {"A": 3}
    assert (config.get("app"), config.get_object("app")) == ("{slug}", None)


def test_the_state_is_read() -> None:
    found = exported(stacks.export())
    progress = found.state.of(SECRET)
    assert (progress.current, progress.verified, progress.verified_at) == (2, 2, stacks.VERIFIED_AT)
    assert progress.value_of(2) == stacks.VALUE
    assert found.state.apps == {
        stacks.APP: AppInState(names=(SECRET,), digests={SECRET: "digest-as-delivered"}, version=4)
    }
    assert progress.github_writes["molecule-monorepo"].updated_at == stacks.WRITTEN
    described = Issuer(
        kind="fly-deploy-token", settings={"app": "molecule-tenant", "profile": "deploy", "expiry": "8760h0m0s"}
    )
    assert found.issuers == {SECRET: (described, described)}
    assert found.left == ()
    assert not [each for each in stacks.SECRETS if each in repr(found)]


def test_nothing_is_deployed() -> None:
    found = exported({"version": 3, "deployment": {"metadata": {}}})
    assert (found.state.progress, found.left) == ({}, ())


def test_what_the_engine_has_left_to_do() -> None:
    document = stacks.export(
        pending_operations=[{"type": "creating", "resource": {"urn": stacks.urn("a:b:C", "new")}}],
    )
    gone = stacks.resource("pulumi-python:dynamic/rotation:Credential", SECRET, {"generation": 1.0}, delete=True)
    document["deployment"]["resources"].append(gone)
    found = exported(document)
    assert found.left == (
        f"to be deleted: pulumi-python:dynamic/rotation:Credential {SECRET}",
        "creating was not confirmed: a:b:C new",
    )
    assert found.state.of(SECRET).current == 2, "the one that is to be deleted does not count"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"deployment": {"resources": [{}]}},
        {"deployment": {"resources": [stacks.resource("a:b:C", "c", {"v": {SIGNATURE: SECRET_SIGNATURE}})]}},
        {
            "deployment": {
                "resources": [
                    stacks.resource(
                        "pulumi-python:dynamic/rotation:Credential", "A", {"generation": sealed("not for you")}
                    )
                ]
            }
        },
    ],
    ids=["null", "list", "no resource", "encrypted", "another program's"],
)
def test_something_else_is_refused_without_a_value(document: object) -> None:
    with pytest.raises(OperatorError, match="not what this program writes") as raised:
        exported(document)
    assert raised.value.__cause__ is None
    assert "not for you" not in str(raised.value)


@pytest.mark.parametrize("printed", [None, [], {"a:b": "text"}])
def test_something_else_is_no_config(printed: object) -> None:
    with pytest.raises(OperatorError, match="config of the stack"):
        config_of(json.loads(json.dumps(printed)), stacks.PROJECT_FILE)
