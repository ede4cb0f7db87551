"""Does the version of the program change with what it does, and with nothing else?"""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from components.program_version import ROOT, meaning, of_this_program, program_digest, requirements_digest

PROJECT = """# What it is about.
name: molecule-secrets
runtime:
  options:
    virtualenv: .venv
config:
  mailTimeout:
    type: integer
    description: Seconds for a mail.
    default: 60
"""
CLOCK = '''"""The time."""

from datetime import UTC, datetime


def now() -> str:
    """RFC 3339."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A small program of the same layout: no git, no tools, no tests."""
    (tmp_path / "components" / "fly").mkdir(parents=True)
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "__main__.py").write_text('"""The secrets."""\n\nrotate([one(settings), other(settings)])\n')
    (tmp_path / "components" / "clock.py").write_text(CLOCK)
    (tmp_path / "components" / "fly" / "issuer.py").write_text("def issue():\n    return True\n")
    return tmp_path


def edit(name: str, *change: str) -> Callable[[Path], object]:
    """Replaces the first text by the second one, in a file that has it."""

    def do(root: Path) -> None:
        path = root / name
        text = path.read_text()
        before, after = change
        assert before in text
        path.write_text(text.replace(before, after, 1))

    return do


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        edit("components/clock.py", "from datetime", "# Somebody explains something.\nfrom datetime"),
        edit("components/clock.py", "RFC 3339.", "In UTC."),
        edit("components/clock.py", "replace(microsecond=0)", "replace(\n        microsecond=0,\n    )"),
        edit("__main__.py", "The secrets.", "All the secrets."),
        edit("Pulumi.yaml", "Seconds for a mail.", "How long a mail takes."),
        edit("Pulumi.yaml", "# What it is about.", "# What it is for."),
        edit("Pulumi.yaml", "virtualenv: .venv", "virtualenv: venv"),
        write("README.md", "Something else."),
        write("components/notes.txt", "Nobody runs this."),
    ],
)
def test_what_changes_no_behaviour_is_the_same_version(program: Path, change: Callable[[Path], object]) -> None:
    before = program_digest(program)
    change(program)
    assert program_digest(program) == before


@pytest.mark.parametrize(
    "change",
    [
        edit("components/clock.py", "microsecond=0", "microsecond=1"),
        edit("components/fly/issuer.py", "return", "return not"),
        edit("__main__.py", ", other(settings)", ""),
        edit("Pulumi.yaml", "default: 60", "default: 61"),
        edit("Pulumi.yaml", "type: integer", "type: string"),
        write("components/more.py", "MORE = True"),
        lambda root: (root / "components" / "clock.py").rename(root / "components" / "watch.py"),
    ],
)
def test_what_changes_behaviour_is_another_version(program: Path, change: Callable[[Path], object]) -> None:
    before = program_digest(program)
    change(program)
    assert program_digest(program) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 1", "a = '1'"),
        ("a = 1", "a = True"),
        ("a = None", "a = ()"),
        ("def f(a, b): ...", "def f(a, *, b): ..."),
        ("if a:\n b\nc", "if a:\n b\n c"),
        ("f(a=1)", "f(1)"),
        ("a = b'x'", "a = 'x'"),
        ("a.b", "a.c"),
        ("f'{a!r}'", "f'{a!s}'"),
        ("x = 'a text'", "x = 'another text'"),
        ("a = [b, c]", "a = [[b], c]"),
        ("return_ = a or b", "return_ = a and b"),
    ],
)
def test_code_that_means_something_else_is_told_apart(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


def test_what_means_the_same_is_the_same() -> None:
    assert meaning("class A:\n  '''Doc.'''\n  x: int\n  '''About x.'''\n") == meaning("class A:\n    x: int  # no\n\n")
    assert meaning("a = ('x'\n     'y')") == meaning('a = "xy"')
    # In full, so that another version of Python which writes it in another way is noticed.
    assert meaning("def f(a=None):\n    return f'{a}'") == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a',),],defaults=[Constant(),],),body=[Return(value="
        "JoinedStr(values=[FormattedValue(value=Name(id='a',ctx=Load(),),conversion=-1,),],),),],),],)"
    )


class _Installed:
    def __init__(self, version: str, *requires: str) -> None:
        self.version, self.requires = version, list(requires) or None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, _Installed]:
    """What is installed, by name."""
    found = {
        "one": _Installed("1.0", "Deep.Er>=1", "for_windows; sys_platform == 'win32'", "more; extra == 'plus'"),
        "deep-er": _Installed("2.0", "one"),
        "more": _Installed("3.0"),
        "unrelated": _Installed("4.0"),
    }

    def distribution(name: str) -> _Installed:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(metadata, "distribution", distribution)
    return found


@pytest.mark.parametrize(
    ("requirements", "name", "counts"),
    [
        ("one==1.0", "one", True),
        ("one==1.0", "deep-er", True),
        ("one==1.0", "more", False),
        ("One[plus]==1.0", "more", True),
        ("one[other, plus]", "more", True),
        ("one==1.0", "unrelated", False),
        ("-c unrelated\n# unrelated\n\none==1.0  # unrelated", "unrelated", False),
    ],
)
def test_the_installed_versions_of_what_is_required_count(
    installed: dict[str, _Installed],
    requirements: str,
    name: str,
    counts: bool,  # noqa: FBT001 - a column
) -> None:
    before = requirements_digest(requirements)
    installed[name].version += ".post1"
    assert (requirements_digest(requirements) != before) is counts


def test_how_requirements_are_written_does_not_count(installed: dict[str, _Installed]) -> None:
    del installed
    assert requirements_digest("# A comment.\none>=1\nmore") == requirements_digest(
        "-c constraints.txt\nmore\nONE == 1.0"
    )


def test_this_program_has_a_version() -> None:
    version = of_this_program()
    assert version.program == program_digest(ROOT)
    assert version.requirements == requirements_digest((ROOT / "requirements.txt").read_text())
    assert version.requirements != requirements_digest(""), "they are installed"
    assert len(version.program) == len(version.requirements) == 16
