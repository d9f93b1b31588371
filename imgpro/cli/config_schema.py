"""A JSON Schema of the configuration file, for editors: values as people write them, with units."""

import itertools
import types
from typing import Any, Final, Literal, get_args, get_origin

from imgpro import __version__, forms
from imgpro.forms import UNLIMITED, Field

# The patterns say what `forms` reads. Editors match them anywhere in the text, hence ^ and $.
_SIZE: Final = r"^\s*\d+(\.\d+)?\s*([bB]|[kKmMgGtT]([iI]?[bB]))?\s*$"
_SPAN: Final = r"^\s*\d+(\.\d+)?\s*([mM]?[sS]|[mM]|[hH]|[dD])?\s*$"


def schema() -> dict[str, Any]:
    """Return the schema: draft 7, which editors know."""
    former = {name: old for old, name in forms.RENAMED.items()}
    sections: dict[str, Any] = {}
    for section, fields in itertools.groupby(forms.fields(), key=lambda field: field.section):
        sections[section] = _table({field.name: _value(field) for field in fields})
    for name, old in former.items():
        section, _, key = old.partition(".")
        field = next(field for field in forms.fields() if field.path == name)
        known = sections.setdefault(section, _table({}))["properties"]
        known[key] = {**_value(field), "deprecated": True, "description": f"Now {name}."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Settings of imgpro {__version__}",
        **_table(sections),
    }


def _table(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(field: Field) -> dict[str, Any]:
    words = f"{field.description} ({forms.describe_form(field)}{forms.describe_limits(field)})"
    found: dict[str, Any] = {"description": words, **_forms(field)}
    if field.secret:
        return {**found, "writeOnly": True}
    return {**found, "default": forms.plain_value(field, field.default)}


def _forms(field: Field) -> dict[str, Any]:
    """Return what the value may be."""
    if get_origin(field.type) is Literal:
        return {"enum": list(get_args(field.type))}
    if get_origin(field.type) is tuple:
        item = {"type": "integer", "minimum": 0} if get_args(field.type)[0] is int else {"type": "string"}
        return {"anyOf": [{"type": "array", "items": item}, {"type": "string"}]}
    if field.type in (bool, str):
        return {"type": "boolean" if field.type is bool else "string"}
    choices = [_number(field)]
    if field.name.endswith("_bytes"):
        choices.append({"type": "string", "pattern": _SIZE})
    elif field.name.endswith("_s"):
        choices.append({"type": "string", "pattern": _SPAN})
    if isinstance(field.type, types.UnionType):
        choices.append({"const": UNLIMITED})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _number(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "number" if field.name.endswith("_s") else "integer"}
    if field.above is None:
        found["minimum"] = field.least or 0
    else:
        found["exclusiveMinimum"] = field.above
    return found if field.most is None else {**found, "maximum": field.most}
