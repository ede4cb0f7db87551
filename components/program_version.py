"""Which program this is: what a verification was made with, and what the stack that follows has to be made with, too. No Pulumi here.

Two digests. That of the program is over what its files mean: how they are laid out, what their comments and docstrings say and what
describes a config key are left out, so that it changes with behaviour only. That of the requirements is over the versions that are
installed, because those are what runs. Neither needs git: a tarball of the program is the same program (ADR 0011).
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # comes with pulumi

ROOT = Path(__file__).resolve().parent.parent
DIGITS = 16  # of a digest: to tell versions apart, not to keep anybody from forging one
# `httpx==0.28.1`, `psycopg[binary]>=3; python_version > "3.8"`: a name, and the extras that are asked for.
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, kw_only=True)
class ProgramVersion:
    """What identifies a program.

    Attributes:
        program: Digest of `__main__.py`, `components/**/*.py` and the config's types and defaults in `Pulumi.yaml`.
        requirements: Digest of the installed versions of what `requirements.txt` asks for, and of all that those need.
    """

    program: str
    requirements: str


@cache
def of_this_program() -> ProgramVersion:
    """That of the program that is running."""
    return ProgramVersion(
        program=program_digest(ROOT), requirements=requirements_digest((ROOT / "requirements.txt").read_text())
    )


def program_digest(root: Path) -> str:
    """The digest of the program in a folder.

    Raises:
        OSError: A file cannot be read.
        SyntaxError: A file is no Python.
    """
    digest = hashlib.sha256()
    for path in [root / "__main__.py", *sorted((root / "components").rglob("*.py"))]:
        digest.update(f"{path.relative_to(root).as_posix()}\n{meaning(path.read_text(encoding='utf-8'))}\n".encode())
    digest.update(_defaults((root / "Pulumi.yaml").read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:DIGITS]


def meaning(source: str) -> str:
    """Python code without its layout, comments and docstrings; the same text for every version of Python that can run it."""
    return "".join(_written(ast.parse(source)))


def _written(node: object) -> Iterator[str]:
    """A syntax tree as text. `ast.dump` would do, if it wrote the same in every version of Python."""
    if isinstance(node, list):
        yield "["
        for each in node:
            if not _is_prose(each):
                yield from _written(each)
                yield ","
        yield "]"
    elif isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            # Fields that a version of Python adds are empty in code that does without them.
            if value is not None and value != []:
                yield f"{name}="
                yield from _written(value)
                yield ","
        yield ")"
    else:
        yield repr(node)


def _is_prose(node: object) -> bool:
    """A statement that is a text and nothing else: a docstring, or one below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _defaults(project_file: str) -> str:
    """What `Pulumi.yaml` makes of a stack's config. Everything else there is about the place that the program runs in."""
    config: dict[str, Any] = yaml.safe_load(project_file).get("config") or {}
    described = {
        key: {name: value for name, value in each.items() if name != "description"} if isinstance(each, dict) else each
        for key, each in config.items()
    }
    return json.dumps(described, sort_keys=True)


def requirements_digest(requirements: str) -> str:
    """The digest of the installed versions of what is required.

    Args:
        requirements: The text of a requirements file.
    """
    found: dict[tuple[str, str], str] = {}
    for name, extras in _asked_for(requirements.splitlines()):
        _add(name, extras, found)
    versions = {f"{name}=={version}" for (name, _), version in found.items()}
    return hashlib.sha256("\n".join(sorted(versions)).encode()).hexdigest()[:DIGITS]


def _asked_for(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Names with their extras. Options (`-c constraints.txt`) and comments are none."""
    for line in lines:
        if (found := REQUIREMENT.match(line)) is not None:
            yield _canonical(found[1]), [_canonical(each) for each in (found[2] or "").split(",") if each.strip()]


def _canonical(name: str) -> str:
    """As the packaging specifications compare names (PEP 503)."""
    return re.sub("[-_.]+", "-", name.strip()).lower()


def _add(name: str, extras: list[str], found: dict[tuple[str, str], str]) -> None:
    """Notes a distribution and all that it needs, apart from what is not installed: that is for another platform."""
    from importlib import metadata  # noqa: PLC0415 - brings zip files and mail headers, and only a stack that follows another needs them

    for extra in ("", *extras):
        if (name, extra) in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return
        found[name, extra] = distribution.version
        for line in distribution.requires or ():
            wanted = EXTRA.search(line)
            if extra == (_canonical(wanted[1]) if wanted else ""):
                for needed, its_extras in _asked_for([line]):
                    _add(needed, its_extras, found)
