"""Is an advisory named, is nothing concluded where PyPI does not answer, and is every dependency pinned?"""

import re
from pathlib import Path

import httpx
import pytest

from tools import advisories
from tools.workspace import CHECKOUT

from .wire import Wire, reply

KNOWN = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-0001"],
    "fixed_in": ["2.0"],
    "summary": "It reads\x1b[2J\n::set-output what it should not",
    "withdrawn": None,
}
PACKAGES = {"alpha": "1.0", "beta": "1.1"}


def answer(*vulnerabilities: object) -> httpx.Response:
    return reply(200, {"info": {}, "vulnerabilities": list(vulnerabilities)})


def test_nothing_known_is_good(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    wire.will(answer(), answer(KNOWN | {"withdrawn": "2026-01-01T00:00:00Z"}))
    assert advisories.run(PACKAGES, strict=True) == 0
    assert wire.lines == ["GET /pypi/alpha/1.0/json", "GET /pypi/beta/1.1/json"]
    assert capsys.readouterr().out == "2 packages, 0 advisories\n"


def test_an_advisory_is_named_in_one_harmless_line(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    wire.will(answer(), answer(KNOWN))
    assert advisories.run(PACKAGES) == 1
    line, _ = capsys.readouterr().out.splitlines()
    assert line.startswith("beta 1.1: PYSEC-2026-1, CVE-2026-0001: It reads?[2J ")
    assert line.endswith("(fixed in 2.0)")
    assert line.isprintable()


@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-0001"])
def test_one_that_does_not_concern_us_can_be_ignored(wire: Wire, name: str) -> None:
    wire.will(answer(), answer(KNOWN))
    assert advisories.run(PACKAGES, ignored=[name]) == 0


@pytest.mark.parametrize(
    "first",
    [
        reply(404),
        reply(403),
        reply(200, {"info": {}}),
        reply(200, {"info": {}, "vulnerabilities": None}),
        httpx.Response(200, text="<html>a proxy</html>"),
        reply(302, location="https://elsewhere.test/"),
    ],
)
def test_where_pypi_does_not_answer_nothing_is_concluded(
    wire: Wire, capsys: pytest.CaptureFixture[str], first: httpx.Response
) -> None:
    wire.will(first, first)
    assert advisories.run(PACKAGES) == 0
    assert advisories.run(PACKAGES, strict=True) == 2
    assert len(wire.requests) == 2, "the others are not asked for then"
    assert capsys.readouterr().err.count("It is not known") == 2


def test_a_network_that_is_not_there_is_given_up_soon(wire: Wire) -> None:
    wire.will(httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    assert advisories.run(PACKAGES) == 0
    assert len(wire.requests) == 2


def test_a_release_that_pypi_does_not_have_is_named(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    wire.will(answer(), reply(404))
    assert advisories.run(PACKAGES) == 0
    assert "nothing is known of it: beta 1.1" in capsys.readouterr().out


def test_what_is_installed_is_asked_about() -> None:
    found = advisories.installed()
    assert found["httpx"] == httpx.__version__
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in found)


REQUIREMENTS = [CHECKOUT / name for name in ("requirements.txt", "tests/requirements.txt", "sandbox/requirements.txt")]
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.]*)(?:\s*;.*)?")


def pins(file: Path) -> dict[str, str]:
    """The pinned version of every package that a file lists; another line is an error."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith(("-c ", "-r ")):
            continue
        match = PIN.fullmatch(text)
        assert match, f"{file.name}: {text!r} is not pinned to one version"
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def test_every_requirement_is_pinned_to_one_version() -> None:
    constraints = pins(CHECKOUT / "constraints.txt")
    for file in REQUIREMENTS:
        assert "constraints.txt" in file.read_text(), f"{file} does not heed the constraints"
        for name, version in pins(file).items():
            assert constraints.get(name, version) == version, f"{name} in {file} and in constraints.txt"


def test_whatever_is_installed_is_pinned() -> None:
    pinned = pins(CHECKOUT / "constraints.txt")
    for file in REQUIREMENTS:
        pinned |= pins(file)
    loose = {name: version for name, version in advisories.installed().items() if pinned.get(name) != version}
    assert set(loose) <= {"setuptools"}, f"not in constraints.txt: {loose}"
