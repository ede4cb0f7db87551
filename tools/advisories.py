"""Asks PyPI whether it knows a vulnerability of anything that is installed in this environment: `python -m tools.advisories`.

Exit status: 0 none is known, or PyPI could not be asked (which is said); 1 one is known; 2, with `--strict` only, PyPI could not be asked.

Source: PyPI's documentation, "JSON API": the answer about a release has `vulnerabilities`, which PyPI takes from the OSV database. Mirrors and
proxies of package registries seldom have that API: where it answers otherwise, nothing is concluded. What the Go modules of the engine's
build are worth is not asked: the Go vulnerability database is a service of its own (`govulncheck`).
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import httpx

from components.answers import reads_answer
from components.http import Api, ApiError, RetryPolicy, part
from components.operator_credentials import endpoint
from components.printable import one_line

SYSTEM = "PyPI"
URL = "https://pypi.org"
POLICY = RetryPolicy(attempts=2)
TIMEOUT = 10  # seconds
LONGEST_SUMMARY = 160
CLEAN, FOUND, NOT_ASKED = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Advisory:
    """A vulnerability that PyPI knows.

    Attributes:
        package: The package, with its version.
        identifier: As OSV names it.
        aliases: Other names, CVE numbers among them.
        fixed_in: The versions that are mended.
        summary: What it is.
    """

    package: str
    identifier: str
    aliases: tuple[str, ...]
    fixed_in: tuple[str, ...]
    summary: str


@reads_answer
def advisories(name: str, version: str) -> list[Advisory]:
    """What PyPI knows of one release, less what has been withdrawn.

    Raises:
        ApiError: It did not answer, or not as PyPI does; 404 where it has no such release.
    """
    api = Api(system=SYSTEM, base_url=endpoint("PYPI_URL", URL), headers={"accept": "application/json"})
    answer: Mapping[str, Any] = api.call(
        "GET",
        f"/pypi/{part(name)}/{part(version)}/json",
        operation=f"look up {name} {version}",
        policy=POLICY,
        timeout=TIMEOUT,
    ).json()
    return [
        Advisory(
            package=f"{name} {version}",
            identifier=each["id"],
            aliases=tuple(each.get("aliases") or ()),
            fixed_in=tuple(each.get("fixed_in") or ()),
            summary=one_line(str(each.get("summary") or each.get("details") or ""), LONGEST_SUMMARY),
        )
        for each in answer["vulnerabilities"]
        if not each.get("withdrawn")
    ]


def installed() -> dict[str, str]:
    """The version of every package of this environment, by its normalized name (PyPA, "Names and normalization")."""
    return {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version
        for each in metadata.distributions()
        if each.metadata["Name"]
    }


def run(packages: Mapping[str, str], *, ignored: Iterable[str] = (), strict: bool = False) -> int:
    """Asks about every package, prints what is known, and returns an exit status."""
    found: list[Advisory] = []
    unknown: list[str] = []
    ignored = set(ignored)
    for number, (name, version) in enumerate(sorted(packages.items())):
        try:
            found += [each for each in advisories(name, version) if not ignored & {each.identifier, *each.aliases}]
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND and number > len(unknown):
                unknown.append(f"{name} {version}")
                continue
            print(f"{error}\nIt is not known whether there are advisories about what is installed.", file=sys.stderr)
            return NOT_ASKED if strict else CLEAN
    for each in found:
        names = ", ".join([each.identifier, *each.aliases])
        mended = f"fixed in {', '.join(each.fixed_in)}" if each.fixed_in else "no fixed version yet"
        print(one_line(f"{each.package}: {names}: {each.summary} ({mended})"))
    if unknown:
        print(f"PyPI has no such release, so nothing is known of it: {', '.join(unknown)}")
    print(f"{len(packages)} packages, {len(found)} advisories")
    return FOUND if found else CLEAN


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.advisories", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="that PyPI cannot be asked is a failure, too")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="ID",
        help="an advisory that does not concern us; may be given again",
    )
    options = parser.parse_args(arguments)
    return run(installed(), ignored=options.ignore, strict=options.strict)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
