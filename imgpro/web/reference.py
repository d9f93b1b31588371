"""The OpenAPI document as something to read: every operation, field, limit, answer and header, in words.

Everything is taken from the document, so that the readable reference cannot fall behind it. What is returned are pieces
of Markdown for the template `reference.md`, which knows the order they stand in.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

Schema = Mapping[str, Any]

METHODS: Final = ("get", "head", "post", "put", "patch", "delete")
_SHELL: Final = re.compile(r"(?ms)^```(?:sh|console|bash)\n.*?^```\n*")
_COLON: Final = re.compile(r":(?=\s*\Z)")
_MAX_PATTERN_CHARS: Final = 40  # a longer one says less than the words beside it
_RANGES: Final = (
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "entry"),
    ("minimum", "maximum", ""),
)
_TYPES: Final = {"string": "text", "integer": "whole number", "boolean": "true or false"}
_PLACES: Final = {"path": "in the path", "query": "in the query", "header": "header", "cookie": "cookie"}


class Row(msgspec.Struct, frozen=True):
    """A parameter, field or header: what it is called, what it may be, what it means."""

    name: str
    rule: str
    meaning: str


class Body(msgspec.Struct, frozen=True):
    """One type that a request may have: its fields, or what it is as a whole."""

    media_type: str
    whole: str
    rows: tuple[Row, ...]


class Reply(msgspec.Struct, frozen=True):
    """One answer: when it comes, what it is, the codes it may carry if it is an error, its headers.

    `shared` names an error that several calls have in common; "" for one that is told where it belongs.
    """

    status: str
    shared: str
    meaning: str
    kinds: tuple[str, ...]
    codes: tuple[str, ...]
    headers: tuple[str, ...]


class Operation(msgspec.Struct, frozen=True):
    """One call."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    key: str
    open: bool
    parameters: tuple[Row, ...]
    bodies: tuple[Body, ...]
    replies: tuple[Reply, ...]
    example: str


class Group(msgspec.Struct, frozen=True):
    """The operations that carry one tag."""

    name: str
    description: str
    operations: tuple[Operation, ...]


class Shape(msgspec.Struct, frozen=True):
    """A named schema."""

    name: str
    description: str
    whole: str
    rows: tuple[Row, ...]


class Reference:
    """Reads one OpenAPI 3.1 document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._security = document.get("security", [])

    def groups(self) -> list[Group]:
        """Return all operations, by tag, in the order of the document."""
        found: dict[str, list[Operation]] = {tag["name"]: [] for tag in self._document["tags"]}
        for path, item in self._document["paths"].items():
            for method in METHODS:
                if method in item:
                    operation = item[method]
                    shared = item.get("parameters", [])
                    found[operation["tags"][0]].append(self._operation(path, method, operation, shared))
        words = {tag["name"]: tag.get("description", "") for tag in self._document["tags"]}
        return [Group(name, words[name], tuple(operations)) for name, operations in found.items() if operations]

    def shapes(self) -> list[Shape]:
        """Return all named schemas."""
        schemas = self._document["components"]["schemas"]
        return [
            Shape(name, line(schema.get("description", "")), "" if _is_object(schema) else self.kind(schema), rows)
            for name, schema in schemas.items()
            for rows in [tuple(self._fields(schema))]
        ]

    def shared(self) -> list[Reply]:
        """Return the errors that calls have in common, each with every status it has somewhere."""
        found: dict[str, list[Reply]] = {}
        for group in self.groups():
            for reply in (reply for operation in group.operations for reply in operation.replies if reply.shared):
                found.setdefault(reply.shared, []).append(reply)
        merged = []
        for same in found.values():
            statuses = ", ".join(dict.fromkeys(reply.status for reply in same))
            merged.append(msgspec.structs.replace(same[0], status=statuses))
        return sorted(merged, key=lambda reply: reply.status)

    def headers(self) -> list[Row]:
        """Return all named headers of answers."""
        headers = self._document["components"].get("headers", {})
        return [Row(name, self.kind(header["schema"]), line(header["description"])) for name, header in headers.items()]

    def _operation(self, path: str, method: str, operation: Schema, shared: list[Schema]) -> Operation:
        body = self._resolved(operation.get("requestBody", {}))
        security = operation.get("security", self._security)
        parameters = [self._resolved(one) for one in [*shared, *operation.get("parameters", [])]]
        replies = operation["responses"]
        return Operation(
            id=operation["operationId"],
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            description=_without_shell(operation.get("description", "")),
            key=_key_words(security),
            open=not security or {} in security,
            parameters=tuple(self._parameter(one) for one in parameters),
            bodies=tuple(self._body(kind, media) for kind, media in body.get("content", {}).items()),
            replies=tuple(self._reply(status, reply) for status, reply in replies.items()),
            example=self._example(replies),
        )

    def _parameter(self, parameter: Schema) -> Row:
        place = _PLACES[parameter["in"]] + (", needed" if parameter.get("required") else "")
        return Row(
            parameter["name"],
            f"{place}; {self.kind(parameter['schema'])}",
            line(parameter.get("description", "")),
        )

    def _body(self, media_type: str, media: Schema) -> Body:
        schema = media.get("schema", {})
        resolved = self._resolved(schema)
        rows = tuple(self._fields(resolved))
        whole = "" if rows else f"{self.kind(schema)}. {line(resolved.get('description', ''))}".strip()
        return Body(media_type, whole, rows)

    def _fields(self, schema: Schema) -> Iterator[Row]:
        needed = schema.get("required", ())
        for part in schema.get("allOf", ()):
            yield from self._fields(self._resolved(part))
        for name, field in schema.get("properties", {}).items():
            rule = self.kind(field)
            yield Row(
                name,
                f"{rule}; {'needed' if name in needed else 'optional'}",
                line(self._resolved(field).get("description", "") if "$ref" not in field else ""),
            )

    def _reply(self, status: str, reply: Schema) -> Reply:
        shared = reply["$ref"].rpartition("/")[2] if "$ref" in reply and status >= "400" else ""
        reply = self._resolved(reply)
        kinds, codes = [], {}
        for media_type, media in reply.get("content", {}).items():
            schema = media.get("schema", {})
            named = schema.get("$ref", "").rpartition("/")[2]
            if named == "Error":
                for example in media.get("examples", {}).values():
                    value = self._resolved(example).get("value", {})
                    codes[value.get("error", "")] = True
            kinds.append(f"{code(media_type)} {self.kind(schema)}" if named else code(media_type))
        headers = tuple(reply.get("headers", {}))
        meaning = line(reply["description"])
        return Reply(status, shared, meaning, tuple(kinds), tuple(filter(None, codes)), headers)

    def _example(self, replies: Mapping[str, Schema]) -> str:
        """Return the first example of the answer that says it went well, as JSON; empty if it has none."""
        for status, reply in replies.items():
            media = self._resolved(reply).get("content", {}).get("application/json", {})
            if status.startswith("2") and media.get("examples"):
                first = self._resolved(next(iter(media["examples"].values())))
                return json.dumps(first["value"], indent=2, ensure_ascii=False)
        return ""

    def _resolved(self, node: Schema) -> Schema:
        while "$ref" in node:
            found: Any = self._document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node

    def kind(self, schema: Schema) -> str:
        """Return in words what a value may be."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return " or ".join(self.kind(one) for one in schema[several]) + self._limits(schema)
        if "enum" in schema:
            return "one of " + ", ".join(dict.fromkeys(code(value) for value in schema["enum"])) + self._limits(schema)
        if "const" in schema:
            return code(schema["const"])
        return self._type_words(schema) + self._limits(schema)

    def _type_words(self, schema: Schema) -> str:
        kinds = schema.get("type", "anything")
        names: list[str] = kinds if isinstance(kinds, list) else [kinds]
        words: list[str] = []
        for name in names:
            if name == "array":
                words.append(f"list of {self.kind(schema.get('items', {}))}")
            elif name == "string" and schema.get("format") == "binary":
                words.append("bytes")
            elif name == "object" and isinstance(schema.get("additionalProperties"), Mapping):
                words.append(f"object of {self.kind(schema['additionalProperties'])}")
            else:
                words.append(_TYPES.get(name, name))
        return " or ".join(words)

    def _limits(self, schema: Schema) -> str:
        found = [_range(schema.get(least), schema.get(most), unit) for least, most, unit in _RANGES]
        if schema.get("examples"):
            found.append("such as " + ", ".join(code(example) for example in schema["examples"]))
        elif len(schema.get("pattern", "")) in range(1, _MAX_PATTERN_CHARS):
            found.append(f"like {code(schema['pattern'])}")
        if "default" in schema and schema["default"] is not None:
            absent = json.dumps(schema["default"]).strip('"')
            return _appended(found) + f"; {code(absent)} if absent"
        return _appended(found)


def _appended(found: list[str]) -> str:
    return "".join(f", {words}" for words in found if words)


def _range(least: int | None, most: int | None, unit: str) -> str:
    """Return bounds in words, e.g. `1 to 255 characters`; empty for none."""
    several = "" if not unit else " entries" if unit == "entry" else f" {unit}s"
    if most is None:
        return "" if not least else f"{least:,} or more{several}"
    if least is None:
        return f"at most {most:,}{several}"
    return f"{least:,} to {most:,}{several}"


def _without_shell(description: str) -> str:
    """Return a description without its lines for a shell: the reference has its own, which work from top to bottom."""
    pieces = [_COLON.sub(".", piece.strip()) for piece in _SHELL.split(description)]
    return "\n\n".join(piece for piece in pieces if piece)


def line(words: str) -> str:
    """Return Markdown on one line, as the cell of a table needs it."""
    return " ".join(words.split()).replace("|", r"\|")


def code(value: object) -> str:
    """Return a value as code that may stand in the cell of a table."""
    return f"`{value}`".replace("|", r"\|")


def _is_object(schema: Schema) -> bool:
    return "properties" in schema or "allOf" in schema


def _key_words(security: list[Schema]) -> str:
    if not security or security == [{}]:
        return "No key is needed."
    return "A key is optional." if {} in security else "Needs a key."
