"""What vendors say of their own APIs (tests/specs): which operations, parameters and bodies there are, and what is answered.

Stricter than the descriptions themselves: a member that an object's schema does not name is a finding even where the schema would allow
more, and so is a header that no description names.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import yaml

from sandbox.stripe import forms

SPECS = Path(__file__).parents[1] / "specs"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
# What HTTP has for every request; the media type is checked with the body.
COMMON_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
# Keywords whose values are data, not schemas.
DATA = frozenset({"const", "default", "enum", "example", "examples"})
COMBINATIONS = ("allOf", "anyOf", "oneOf")
SCALARS: Mapping[str, object] = {"string": "x", "integer": 1, "number": 1, "boolean": False, "array": [], "null": None}
FORMAT_EXAMPLES = {"date-time": "2026-11-23T12:00:00Z", "email": "a@b.example", "uri": "https://example.com/x"}

FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    # Without another package, jsonschema checks neither this nor the next.
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme)


def load(name: str) -> dict[str, Any]:
    """One of the descriptions, as it is."""
    path = next(SPECS / name for name in (f"{name}.json", f"{name}.yml") if (SPECS / name).exists())
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    return found


def translate(node: Any, *, closed: bool = False, excerpt: bool = False) -> Any:  # noqa: ANN401 - JSON
    """OpenAPI 3.0 as JSON Schema: it says `nullable` where JSON Schema has the type "null".

    Args:
        node: A schema, or anything that has schemas in it.
        closed: Objects have no members but those that are named.
        excerpt: Members may be missing.
    """
    again = functools.partial(translate, closed=closed, excerpt=excerpt)
    if isinstance(node, list):
        return [again(each) for each in node]
    if not isinstance(node, dict):
        return node
    translated = {key: value if key in DATA else again(value) for key, value in node.items() if key != "nullable"}
    if isinstance(properties := node.get("properties"), dict):  # any name may be that of a member
        translated["properties"] = {name: again(schema) for name, schema in properties.items()}
    if excerpt and isinstance(node.get("required"), list):
        del translated["required"]
    if closed:
        _close(translated)
    return {"anyOf": [translated, {"type": "null"}]} if node.get("nullable") is True else translated


def _close(schema: dict[str, Any]) -> None:
    combined = [each for name in COMBINATIONS for each in schema.get(name, ())]
    # Alternatives are closed each for itself; what adds up has to be closed as a whole.
    if ("properties" in schema and combined) or len(schema.get("allOf", ())) > 1:
        for each in combined:
            if each.get("additionalProperties") is False:
                del each["additionalProperties"]
        schema.setdefault("unevaluatedProperties", False)
    elif isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a description does not say.

    Attributes:
        system: Whose description.
        operation: As in `DELETE /domains/{domain_id}`; method and path where there is no such operation.
        where: `request` for that, else as in `query limit`, `header x`, `path run_id`, `body values.A`, `status`, `answer data.0.id`.
        what: For people.
    """

    system: str
    operation: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.system}: {self.operation}: {self.where}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a description.

    Attributes:
        template: The path with its variables.
        said: What the description says of it.
    """

    description: "Description"
    method: str
    template: str
    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As findings call it."""
        return f"{self.method} {self.template}"

    def _finding(self, where: str, what: str) -> Finding:
        return Finding(system=self.description.system, operation=self.name, where=where, what=what)

    def of_request(self, request: httpx.Request) -> list[Finding]:
        """What is wrong with a request of this operation."""
        return [*self._of_parameters(request), *self._of_body(request)]

    def _of_parameters(self, request: httpx.Request) -> Iterator[Finding]:
        declared = {
            (each["in"], each["name"].lower() if each["in"] == "header" else each["name"]): each
            for each in map(self.description.resolve, self.said.get("parameters", []))
        }
        given: dict[tuple[str, str], object] = {
            ("path", name): value for name, value in self.description.variables(self.template, request).items()
        }
        given |= {("query", name): value for name, value in forms.parse(request.url.query.decode()).items()}
        given |= {("header", name): value for name, value in request.headers.items() if name not in COMMON_HEADERS}
        for (place, name), value in given.items():
            if (place, name) not in declared:
                yield self._finding(f"{place} {name}", "is not described")
                continue
            schema = declared[place, name]["schema"]
            yield from self._of_value(f"{place} {name}", self.description.read(value, schema), schema)
        for (place, name), each in declared.items():
            if each.get("required") and (place, name) not in given:
                yield self._finding(f"{place} {name}", "is required and missing")

    def _of_body(self, request: httpx.Request) -> Iterator[Finding]:
        said = self.description.resolve(self.said.get("requestBody", {}))
        media_type = request.headers.get("content-type", "").partition(";")[0]
        if not request.content:
            if said.get("required"):
                yield self._finding("body", "is required and missing")
            if media_type:
                yield self._finding("body", f"there is none, but the header {media_type}")
        elif media_type not in said.get("content", {}):
            yield self._finding("body", f"{media_type or 'of no type'} is not described")
        else:
            schema = said["content"][media_type]["schema"]
            text = request.content.decode()
            body = self.description.read(forms.parse(text), schema) if media_type == FORM else json.loads(text)
            yield from self._of_value("body", body, schema)

    def schema_of_answer(self, status: int) -> Mapping[str, Any] | None:
        """The schema of an answer's body, None where it has none. `KeyError` if there is no such answer."""
        said = self.description.resolve(self.said["responses"][str(status)])
        content: Mapping[str, Any] | None = said.get("content")
        return content[JSON]["schema"] if content else None

    def of_answer(self, response: httpx.Response, *, excerpt: bool = False) -> list[Finding]:
        """What is wrong with a success. Of an excerpt, only what is there counts."""
        try:
            schema = self.schema_of_answer(response.status_code)
        except KeyError:
            return [self._finding("status", f"{response.status_code} is not described")]
        if schema is None:
            return [self._finding("answer", "has a body, none is described")] if response.content else []
        if not response.content:
            return [self._finding("answer", "has no body, one is described")]
        return list(self._of_value("answer", response.json(), schema, excerpt=excerpt))

    def _of_value(
        self, where: str, value: object, schema: Mapping[str, Any], *, excerpt: bool = False
    ) -> Iterator[Finding]:
        for error in self.description.validator(schema, excerpt=excerpt).iter_errors(value):
            # The reason that is nearest to the value, where there are alternatives.
            nearest = jsonschema.exceptions.best_match([error])
            place = f"{where} {'.'.join(str(part) for part in nearest.absolute_path)}".rstrip()
            if nearest.validator == "additionalProperties" and nearest.validator_value is False:
                separator = "." if nearest.absolute_path else " "
                for name in sorted(set(nearest.instance) - set(nearest.schema["properties"])):
                    yield self._finding(f"{place}{separator}{name}", "is not described")
            else:
                yield self._finding(place, nearest.message)


class Description:
    """A vendor's description.

    Attributes:
        system: Whose it is, for findings.
        name: The file.
        prefix: What paths begin with before those of the description; a regular expression.
    """

    def __init__(self, system: str, name: str, *, prefix: str = "") -> None:
        self.system = system
        self.prefix = prefix
        self.said = load(name)
        self._patterns = {template: self._pattern(template) for template in self.said["paths"]}
        self._components = functools.cache(
            lambda excerpt: translate(self.said["components"], closed=True, excerpt=excerpt)
        )

    def _pattern(self, template: str) -> re.Pattern[str]:
        parts = re.split(r"\{(\w+)\}", template)
        path = "".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
        return re.compile(self.prefix + path)

    def operation(self, request: httpx.Request) -> Operation | None:
        """The operation of a request: of several paths that fit, the one with the fewest variables."""
        fitting = [each for each in self._patterns if self._patterns[each].fullmatch(_raw_path(request))]
        for template in sorted(fitting, key=lambda each: each.count("{")):
            if said := self.said["paths"][template].get(request.method.lower()):
                return Operation(description=self, method=request.method, template=template, said=said)
        return None

    def variables(self, template: str, request: httpx.Request) -> dict[str, str]:
        """What a path has in the places of the template's variables."""
        found = self._patterns[template].fullmatch(_raw_path(request))
        return found.groupdict() if found else {}

    def findings(self, request: httpx.Request, response: httpx.Response, *, excerpt: bool = False) -> list[Finding]:
        """What is wrong with a request and, where that is a success, with its answer."""
        operation = self.operation(request)
        if operation is None:
            name = f"{request.method} {_raw_path(request)}"
            return [Finding(system=self.system, operation=name, where="request", what="there is no such operation")]
        of_answer = operation.of_answer(response, excerpt=excerpt) if response.is_success else []
        return [*operation.of_request(request), *of_answer]

    def resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference refers to, else the node itself."""
        while "$ref" in node:
            *_root, kind, name = node["$ref"].split("/")
            node = self.said["components"][kind][name]
        return node

    def validator(self, schema: Mapping[str, Any], *, excerpt: bool = False) -> jsonschema.Draft202012Validator:
        """Of one schema of the description."""
        translated = translate(schema, closed=True, excerpt=excerpt)
        return jsonschema.Draft202012Validator(
            {"components": self._components(excerpt), "allOf": [translated]},
            format_checker=FORMATS,
        )

    def read(self, text: object, schema: Mapping[str, Any]) -> object:
        """What a parameter or a form says, which knows texts alone: numbers and booleans where the schema has them.

        A text that is none stays one, for the validation to find.
        """
        schema = self.resolve(schema)
        for each in (each for name in COMBINATIONS for each in schema.get(name, ())):
            value = self.read(text, each)
            if self.validator(each).is_valid(value):
                return value
        if isinstance(text, dict):
            members, others = schema.get("properties", {}), schema.get("additionalProperties")
            others = others if isinstance(others, dict) else {}
            return {name: self.read(value, members.get(name, others)) for name, value in text.items()}
        if isinstance(text, list):
            return [self.read(each, schema.get("items", {})) for each in text]
        if schema.get("type") == "boolean":
            return {"true": True, "false": False}.get(str(text), text)
        if schema.get("type") in {"integer", "number"} and re.fullmatch(r"-?\d+", str(text)):
            return int(str(text))
        return text

    def complete(self, value: Any, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """A value with every member that its schema requires."""
        schema = self.resolve(schema)
        if isinstance(value, list):
            return [self.complete(each, schema.get("items", {})) for each in value]
        if not isinstance(value, dict):
            return value
        members = schema.get("properties", {})
        missing = {name: self.example(members[name]) for name in schema.get("required", ()) if name not in value}
        return missing | {name: self.complete(each, members.get(name, {})) for name, each in value.items()}

    def example(self, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """A value that fits a schema, with no more than it requires."""
        schema = self.resolve(schema)
        if schema.get("nullable"):
            return None
        for name in COMBINATIONS:
            if name in schema:
                return self.example(schema[name][0])
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "object":
            return self.complete({}, schema)
        return FORMAT_EXAMPLES.get(schema.get("format", ""), SCALARS[schema["type"]])


def _raw_path(request: httpx.Request) -> str:
    return request.url.raw_path.decode().partition("?")[0]


DESCRIPTIONS = {
    each.system: each
    for each in (
        Description("fly", "fly-machines", prefix="/v1"),
        Description("github", "github-actions-subset", prefix="(?:/api/v3)?"),
        Description("resend", "resend"),
        Description("stripe", "stripe-subset"),
        Description("upstash", "upstash-developer-api", prefix="/v2"),
    )
}
