"""The registry: who may log in, and that a push works as docker does it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.sandbox.running import Sandbox

TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def client(sandbox: Sandbox, user: str, password: str, consumer: str = "") -> httpx.Client:
    headers = {"sandbox-consumer": consumer} if consumer else {}
    url = sandbox.environment["FLY_REGISTRY_URL"]
    return httpx.Client(base_url=url, auth=(user, password), headers=headers, trust_env=False)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def push(registry: httpx.Client, repository: str, tag: str) -> httpx.Response:
    """Push an image of one layer as docker does: HEAD, POST, PATCH, PUT for each blob, then the manifest."""
    blobs = [b'{"architecture":"amd64"}', b"layer of " + tag.encode()]
    for blob in blobs:
        if registry.head(f"/v2/{repository}/blobs/{digest(blob)}").status_code == 200:
            continue
        begun = registry.post(f"/v2/{repository}/blobs/uploads/")
        if begun.status_code != 202:
            return begun
        continued = registry.patch(begun.headers["location"], content=blob)
        assert continued.status_code == 202
        done = registry.put(continued.headers["location"], params={"digest": digest(blob)})
        assert done.status_code == 201
    manifest = {
        "schemaVersion": 2,
        "mediaType": TYPE,
        "config": {"digest": digest(blobs[0]), "size": len(blobs[0])},
        "layers": [{"digest": digest(blobs[1]), "size": len(blobs[1])}],
    }
    return registry.put(
        f"/v2/{repository}/manifests/{tag}", content=json.dumps(manifest), headers={"content-type": TYPE}
    )


def test_a_push_is_there_afterwards(sandbox: Sandbox) -> None:
    with client(sandbox, "x", sandbox.mint(app="molecule-tenant")["tokenHeader"]) as registry:
        assert registry.get("/v2/").status_code == 200
        pushed = push(registry, "molecule-tenant", "sha-0123456")
        assert pushed.status_code == 201
        tags = registry.get("/v2/molecule-tenant/tags/list").json()
        assert tags == {"name": "molecule-tenant", "tags": ["sha-0123456"]}
        for reference in ("sha-0123456", pushed.headers["docker-content-digest"]):
            found = registry.get(f"/v2/molecule-tenant/manifests/{reference}")
            assert found.headers["content-type"] == TYPE
            assert digest(found.content) == pushed.headers["docker-content-digest"]
        assert registry.get("/v2/molecule-tenant/manifests/none").status_code == 404


def test_wrong_content_is_refused(sandbox: Sandbox) -> None:
    with client(sandbox, "x", sandbox.mint(app="molecule-tenant")["tokenHeader"]) as registry:
        begun = registry.post("/v2/molecule-tenant/blobs/uploads/")
        wrong = registry.put(begun.headers["location"], params={"digest": digest(b"a")}, content=b"b")
        assert (wrong.status_code, wrong.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
        manifest = {"schemaVersion": 2, "config": {"digest": digest(b"never pushed")}, "layers": []}
        unknown = registry.put("/v2/molecule-tenant/manifests/t", content=json.dumps(manifest))
        assert unknown.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
        assert registry.put("/v2/molecule-tenant/manifests/t", content="{").status_code == 400


@pytest.mark.parametrize("form", ["FlyV1 fm2", "fm2"])
def test_both_forms_of_a_token_are_a_password(sandbox: Sandbox, form: str) -> None:
    header = sandbox.mint(app="molecule-tenant")["tokenHeader"]
    with client(sandbox, "x", header if form.startswith("FlyV1") else header.removeprefix("FlyV1 ")) as registry:
        assert registry.get("/v2/").status_code == 200


def test_any_other_user_name_is_refused_with_a_good_token(sandbox: Sandbox) -> None:
    header = sandbox.mint(app="molecule-tenant")["tokenHeader"]
    for user in ("X", "fly", "", "molecule-cp"):
        with client(sandbox, user, header) as registry:
            answer = registry.get("/v2/")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_revoked_token_and_one_of_another_app_are_refused_and_that_is_a_breakage(sandbox: Sandbox) -> None:
    before = len(sandbox.inspect()["breakages"])
    other = sandbox.mint(app="molecule-cp")["tokenHeader"]
    with client(sandbox, "x", other, "o/r run 1") as registry:
        assert push(registry, "molecule-tenant", "t").status_code == 403
    dead = sandbox.mint(app="molecule-tenant")
    sandbox.revoke(dead["id"])
    with client(sandbox, "x", dead["tokenHeader"], "o/r run 2") as registry:
        assert registry.get("/v2/").status_code == 401
    anonymous = httpx.get(
        sandbox.environment["FLY_REGISTRY_URL"] + "/v2/", headers={"sandbox-consumer": "o/r run 3"}, trust_env=False
    )
    assert anonymous.status_code == 401
    breakages = sandbox.inspect()["breakages"][before:]
    assert {breakage["consumer"] for breakage in breakages} == {"o/r run 1", "o/r run 2"}
    assert all(breakage["what"].startswith("registry ") for breakage in breakages)
