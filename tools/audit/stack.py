"""What a stack has: its config and its state, taken from what the engine prints. Pure. Secret."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml  # comes with pulumi

from components import own_state
from components.errors import OperatorError
from components.progress import State
from components.secret import Issuer
from tools.audit.engine import NOT_LOOKED_AT

# How the engine marks a secret among properties (pulumi/pulumi, sdk/go/common/resource/sig).
SIGNATURE, SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"


def unwrap(value: object) -> Any:  # noqa: ANN401 - any properties
    """Properties as the program knows them: with every decrypted secret in its place.

    Raises:
        ValueError: One is not decrypted.
    """
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET_SIGNATURE:
            if "plaintext" not in value:
                raise ValueError("a secret that is not decrypted")
            return unwrap(json.loads(value["plaintext"]))
        return {key: unwrap(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unwrap(each) for each in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a stack, with the defaults of the project.

    Attributes:
        project: What keys without a namespace belong to.
        texts: Every value as text. Secret.
        objects: Those that have a structure. Secret.
    """

    project: str
    texts: Mapping[str, str] = field(repr=False)
    objects: Mapping[str, object] = field(repr=False)

    def get(self, key: str) -> str | None:
        """The value of a key as `pulumi.Config.get` has it."""
        return self.texts.get(self._full(key))

    def get_object(self, key: str) -> object:
        """The value of a key that has a structure; None where there is none."""
        return self.objects.get(self._full(key))

    def _full(self, key: str) -> str:
        return key if ":" in key else f"{self.project}:{key}"


def config_of(printed: object, project_file: str) -> Config:
    """The config from what `pulumi config --json` prints and from the text of `Pulumi.yaml`.

    Raises:
        OperatorError: It is something else.
    """
    project = yaml.safe_load(project_file)
    name = str(project["name"])
    texts: dict[str, str] = {}
    objects: dict[str, object] = {}
    for key, described in (project.get("config") or {}).items():
        if "default" in described:
            _put(key if ":" in key else f"{name}:{key}", described["default"], texts, objects)
    if not isinstance(printed, dict):
        raise _unreadable("config")
    for key, entry in printed.items():
        if not isinstance(entry, dict):
            raise _unreadable("config")
        if "objectValue" in entry:
            _put(key, entry["objectValue"], texts, objects)
        elif "value" in entry:
            _put(key, entry["value"], texts, objects)
    return Config(project=name, texts=texts, objects=objects)


def _put(key: str, value: object, texts: dict[str, str], objects: dict[str, object]) -> None:
    texts.pop(key, None)
    objects.pop(key, None)
    if isinstance(value, str):
        texts[key] = value
        if value[:1] in {"{", "["}:
            try:
                objects[key] = json.loads(value)
            except ValueError:
                return  # a text that begins so
    else:
        # Pulumi hands booleans and numbers over as JSON writes them.
        texts[key] = json.dumps(value)
        objects[key] = value


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The state of a stack.

    Attributes:
        state: As the program reads it. Secret.
        issuers: Who minted the credentials of each secret, as its resources say. Settings may have changed since.
        left: What the engine has left to do, in words.
    """

    state: State
    issuers: Mapping[str, tuple[Issuer, ...]] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def exported(document: object) -> Exported:
    """The state from what `pulumi stack export --show-secrets` prints.

    Raises:
        OperatorError: It is not the state of this program, or not decrypted.
    """
    try:
        return _exported(document)
    except (AttributeError, KeyError, TypeError, ValueError):
        # `from None`: the original may carry a value.
        raise _unreadable("state") from None


def _exported(document: Any) -> Exported:  # noqa: ANN401 - what the engine prints
    deployment = document["deployment"] or {}
    listed = deployment.get("resources") or []
    resources = {
        str(each["urn"]): {"type": each["type"], "outputs": unwrap(each.get("outputs") or {})}
        for each in listed
        if not each.get("delete")
    }
    issuers: dict[str, list[Issuer]] = {}
    for resource in resources.values():
        outputs = resource["outputs"]
        if resource["type"] in {own_state.CREDENTIAL_TYPE, own_state.REVOCATION_TYPE} and "issuer" in outputs:
            issuers.setdefault(str(outputs["family"]["secret"]), []).append(Issuer(**outputs["issuer"]))
    return Exported(
        state=own_state.from_resources(resources),
        issuers={secret: tuple(known) for secret, known in issuers.items()},
        left=(
            *(f"to be deleted: {_short(each['urn'])}" for each in listed if each.get("delete")),
            *(
                f"{each['type']} was not confirmed: {_short(each['resource']['urn'])}"
                for each in deployment.get("pending_operations") or ()
            ),
        ),
    )


def _short(urn: str) -> str:
    """The resource in a URN: its own type and its name."""
    *_, kind, name = urn.split("::")
    return f"{kind.rpartition('$')[2]} {name}"


def _unreadable(what: str) -> OperatorError:
    return OperatorError(
        f"The {what} of the stack is not what this program writes, or it is not decrypted.",
        state=NOT_LOOKED_AT,
        next_step="check out the version of the program that the stack was last deployed with, and run it again.",
    )
