"""Variables that the engine has for one stack and not for others: passphrases above all, and operator credentials per environment.

A YAML file maps names of stacks, or patterns, to variables; where several fit, the later one counts:

    "*":
      CONTROL_PLANE_URL: null                                    # not set, whatever the environment has
    staging:
      PULUMI_CONFIG_PASSPHRASE: "@~/.config/rotation/staging"    # the contents of a file
    production:
      PULUMI_CONFIG_PASSPHRASE: $PRODUCTION_PASSPHRASE           # another variable
"""

import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml  # comes with pulumi

from components.errors import RefusedError
from tools.ci.engine import SECRET_VARIABLES

Given = Mapping[str, Mapping[str, str | None]]
# One of them in the environment would be stronger than the other in the file.
PASSPHRASES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")


def load(file: Path) -> Given:
    """What a file gives to which stacks; values are not looked up yet.

    Raises:
        RefusedError: It cannot be read, or has a secret in it.
    """
    try:
        document = yaml.safe_load(file.read_text())
    except OSError as error:
        raise _wrong(file, f"it cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError):
        # Not the original, which repeats lines of the file.
        raise _wrong(file, "it is no YAML") from None
    if not isinstance(document, dict) or not all(isinstance(each, dict) for each in document.values()):
        raise _wrong(file, "it has to map names of stacks to variables")
    given: dict[str, dict[str, str | None]] = {}
    for pattern, variables in document.items():
        for name, value in variables.items():
            if value is not None and not isinstance(value, str):
                raise _wrong(file, f"{name} of {pattern} has to be a text: put it in quotes")
            if name in SECRET_VARIABLES and value and not value.startswith(("$", "@")):
                raise _wrong(
                    file, f"{name} of {pattern} stands there in plaintext. Give `$OTHER_VARIABLE`, or `@FILE` with it"
                )
            given.setdefault(str(pattern), {})[str(name)] = value
    return given


def for_stack(
    stack: str, given: Given, environment: Mapping[str, str], *, read: Callable[[Path], str] = Path.read_text
) -> dict[str, str]:
    """The variables of a stack.

    Args:
        stack: Its name.
        given: What `load` found.
        environment: The variables of this process.
        read: Reads a file.

    Raises:
        RefusedError: A variable or a file that is referred to is not there.
    """
    found = dict(environment)
    for pattern, variables in given.items():
        if not fnmatch.fnmatchcase(stack, pattern):
            continue
        for name, value in variables.items():
            if name in PASSPHRASES:
                for each in PASSPHRASES:
                    found.pop(each, None)
            if value is None:
                found.pop(name, None)
            else:
                found[name] = _value(stack, name, value, environment, read)
    return found


def for_all(given: Given, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of every stack, for what is about none of them. Raises RefusedError."""
    return for_stack("", {pattern: each for pattern, each in given.items() if pattern == "*"}, environment)


def _value(stack: str, name: str, value: str, environment: Mapping[str, str], read: Callable[[Path], str]) -> str:
    if value.startswith("$"):
        if not (referred := environment.get(value[1:], "")):
            raise RefusedError(
                f"{name} of the stack {stack} is to be that of {value[1:]}, which is not set.",
                next_step=f"export {value[1:]}.",
            )
        return referred
    if value.startswith("@"):
        file = Path(value[1:]).expanduser()
        try:
            return read(file).rstrip("\r\n")
        except (OSError, ValueError):
            raise RefusedError(
                f"{name} of the stack {stack} is to be in {file}, which cannot be read.",
                next_step="see whether the file is there.",
            ) from None
    return value


def _wrong(file: Path, what: str) -> RefusedError:
    return RefusedError(f"{file}: {what}.", next_step="`python -m tools.fleet rotate --help` shows what it looks like.")
