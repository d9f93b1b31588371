"""What a tool is to the protocol: its JSON Schemas, and the check of arguments against them.

Arguments have one plain type each, without unions: not every program that hands these schemas to a model knows more.
What a JSON type cannot say is judged by the parsers that judge the API's fields too. Results are the API's shapes
without what is of no use to a model.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from imgpro.errors import ValidationError
from imgpro.model import Ability
from imgpro.web import contract

# Of no use to a model: a preview it cannot see, the same link twice, and a way to delete besides its own.
HIDDEN: Final = frozenset({"placeholder", "thumb", "delete_url", "html", "bbcode", "upgrade"})
HIDDEN_IN_LISTS: Final = HIDDEN | {"sizes"}

Schema = dict[str, Any]

_KINDS: Final[dict[str, tuple[type, str]]] = {
    "string": (str, "text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list of texts"),
}


class PictureList(msgspec.Struct, frozen=True, kw_only=True):
    """One page of pictures, newest first. A page may be short, even empty, and have more."""

    images: list[contract.Image]
    next_cursor: str | None
    has_more: bool


class UploadTicket(msgspec.Struct, frozen=True, kw_only=True):
    """An address that takes one file, once, without a key."""

    upload_url: str
    curl: str
    expires_at: int
    max_bytes: int


class PictureLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link to a picture, and what it will show. `format` and `size` are those that apply."""

    id: str
    url: str
    format: str
    size: str
    content_type: str
    width: int
    height: int
    markdown: str


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """The picture is gone."""

    id: str
    deleted: bool


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool. `ability` is what a key must carry; None: works without a key where the picture is public."""

    name: str
    title: str
    description: str
    ability: Ability | None
    arguments: Schema
    required: tuple[str, ...] = ()
    result: type[msgspec.Struct]
    hidden: frozenset[str] = HIDDEN
    reads_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False

    @property
    def input_schema(self) -> Schema:
        """JSON Schema of the arguments."""
        schema: Schema = {"type": "object", "properties": self.arguments, "additionalProperties": False}
        if self.required:
            schema["required"] = list(self.required)
        return schema

    def listed(self) -> Schema:
        """Return the tool as `tools/list` shows it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
            "outputSchema": _output_schema(self.result, self.hidden),
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.reads_only,
                "destructiveHint": self.destructive,
                "idempotentHint": self.idempotent or self.reads_only,
                "openWorldHint": self.open_world,
            },
        }


# An error is structured content too, and clients hold structured content to the schema even then.
ERROR_SCHEMA: Final[Schema] = {
    "type": "object",
    "description": "With isError: what went wrong, and what to do about it.",
    "properties": {
        "error": {"type": "string"},
        "message": {"type": "string"},
        "action": {
            "type": "object",
            "properties": {
                "type": {"enum": list(get_args(contract.ActionType))},
                "url": {"type": "string"},
                "label": {"type": "string"},
                "seconds": {"type": "integer"},
            },
            "required": ["type"],
        },
        "usage": {"type": "object"},
        "details": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["error", "message", "action"],
}


def _output_schema(result: type[msgspec.Struct], hidden: frozenset[str]) -> Schema:
    """Return the schema of a result or an error, an object at its root as revisions before 2026 demand."""
    (root,), shapes = msgspec.json.schema_components([result], ref_template="#/$defs/{name}")
    for shape in shapes.values():
        for name in hidden & shape["properties"].keys():
            del shape["properties"][name]
        shape["required"] = [name for name in shape.get("required", ()) if name not in hidden]
    own = shapes.pop(root["$ref"].rpartition("/")[2])
    schema = {"type": "object", "anyOf": [own, ERROR_SCHEMA]}
    used = _reachable(own, shapes)
    return {**schema, "$defs": used} if used else schema


def _reachable(root: Schema, shapes: Schema) -> Schema:
    found: Schema = {}
    open_ends = [root]
    while open_ends:
        text = msgspec.json.encode(open_ends.pop())
        for name, shape in shapes.items():
            if name not in found and f'"#/$defs/{name}"'.encode() in text:
                found[name] = shape
                open_ends.append(shape)
    return found


def check_arguments(tool: Tool, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that were given. Null is as good as absent.

    Raises ValidationError whose `details` has one sentence for each argument that is unknown, missing, of the wrong
    type or not among the values there are.
    """
    given = {name: _plain(name, value) for name, value in sent.items() if value is not None}
    details = {name: "This is needed." for name in tool.required if name not in given}
    for name, value in given.items():
        schema = tool.arguments.get(name)
        if schema is None:
            details[name] = f"There is no such argument; there are {', '.join(tool.arguments) or 'none'}."
        elif not _fits(schema, value):
            details[name] = f"Must be {_KINDS[schema['type']][1]}."
        elif value not in schema.get("enum", (value,)):
            details[name] = f"Must be one of {', '.join(schema['enum'])}."
    if details:
        raise ValidationError("The arguments of this call are not valid.", None, details)
    return given


def _plain(name: str, value: Any) -> Any:
    """Return a value as its type has it: 20.0 is a whole number in JSON, and a ttl may be one though it is text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if name == "ttl" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _fits(schema: Schema, value: Any) -> bool:
    kind = _KINDS[schema["type"]][0]
    if isinstance(value, bool) and kind is not bool:
        return False
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind)
