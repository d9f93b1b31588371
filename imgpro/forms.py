"""How settings are written: the form of each value, reading it, and showing it as a person would have written it."""

import json
import re
import tomllib
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from imgpro.settings import GIB, MIB, Settings

UNLIMITED: Final = "unlimited"
RENAMED: Final[dict[str, str]] = {}
"""Dotted names that settings had in released versions, and what they are called now; both count. None so far."""

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|kib|mb|mib|gb|gib|tb|tib)?", re.IGNORECASE)
_BYTE_UNITS: Final = {"": 1, "b": 1, "k": 1024, "m": MIB, "g": GIB, "t": 1024 * GIB}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_LOGIN: Final = re.compile(r"(://)[^/@\s]*@")  # a name and password in an address
_SPANS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_SPAN_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def counted(count: int, thing: str) -> str:
    """Return a count with what it is of: "1 picture", "2,000 pictures"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


class Field(msgspec.Struct, frozen=True):
    """One setting as documentation, the example file and the environment see it."""

    section: str
    name: str
    type: Any
    default: Any
    description: str
    least: float | None = None  # no number is smaller
    above: float | None = None  # every number is larger
    most: float | None = None

    @property
    def path(self) -> str:
        """Dotted name, as in messages."""
        return f"{self.section}.{self.name}"

    @property
    def secret(self) -> bool:
        """Tell whether the value must not be shown anywhere."""
        return self.name in ("password", "checkout_secret", "s3_key_id", "s3_secret")

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return variable(self.path)


def variable(path: str) -> str:
    """Return the name of the environment variable of a setting."""
    return f"IMGPRO_{path.replace('.', '_')}".upper()


def fields() -> list[Field]:
    """Return every setting, in the order of the tree."""
    found: list[Field] = []
    for section in msgspec.structs.fields(Settings):
        hints = get_type_hints(section.type, include_extras=True)
        for field in msgspec.structs.fields(section.type):
            hint = hints[field.name]
            meta = next(arg for arg in get_args(hint)[1:] if isinstance(arg, Meta))
            words = meta.description or ""
            limits = (meta.ge, meta.gt, meta.le)
            found.append(Field(section.name, field.name, get_args(hint)[0], field.default, words, *limits))
    return found


def describe_form(field: Field) -> str:
    """Return in words what a value of this setting looks like, for messages and the example file."""
    if field.name.endswith("_bytes"):
        form = "a size such as 500 MB or 2 GB"
    elif field.name.endswith("_s"):
        form = "a time such as 30s, 10m or 2d"
    elif get_origin(field.type) is tuple:
        form = "a list"
    elif get_origin(field.type) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.type)))
    elif field.type is bool:
        return "true or false"
    else:
        form = "text" if field.type is str else "a whole number"
    return f"{form}, or {UNLIMITED}" if type(None) in get_args(field.type) else form


def describe_limits(field: Field) -> str:
    """Return what comes after the form where a value has limits, e.g. ", at least 1"."""
    if field.name.endswith(("_bytes", "_s")) and field.least:
        return ", at least " + show_value(field, field.least).replace('"', "")
    if field.type not in (int, float, int | None):
        return ""
    words = f", at least {field.least:g}" if field.least else ", not negative"
    words = f", more than {field.above:g}" if field.above is not None else words
    return words if field.most is None else f"{words}, at most {field.most:g}"


def parse_value(field: Field, raw: Any) -> Any:
    """Turn what was written for a setting into a plain value of its type; no setting is negative.

    Sizes and times may carry units; lists may be comma-separated text; `unlimited` is None where that is
    allowed. Raises ValueError. Range checks are left to `msgspec.convert` of the whole tree.
    """
    value = _parse(field, raw)
    if isinstance(value, int | float) and value < 0:
        raise ValueError(raw)
    return value


def _parse(field: Field, raw: Any) -> Any:
    optional = type(None) in get_args(field.type)
    if optional and isinstance(raw, str) and raw.strip().lower() == UNLIMITED:
        return None
    if field.name.endswith("_bytes"):
        return _parse_bytes(raw)
    if field.name.endswith("_s"):
        span = _parse_span(raw)
        return span if field.type is float else round(span)
    if get_origin(field.type) is tuple:
        return _parse_list(field, raw)
    if not isinstance(raw, str) or field.type is str or get_origin(field.type) is Literal:
        return raw
    if field.type is bool:
        return _parse_bool(raw)
    return int(raw.strip())


def _parse_bool(raw: str) -> bool:
    word = raw.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError(raw)


def _parse_list(field: Field, raw: Any) -> list[Any]:
    items = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else list(raw)
    return [int(item) for item in items] if get_args(field.type)[0] is int else items


def _parse_bytes(raw: Any) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    match = _BYTES.fullmatch(str(raw).strip())
    if match is None:
        raise ValueError(raw)
    unit = (match[2] or "").lower()[:1]
    return int(float(match[1]) * _BYTE_UNITS[unit])


def _parse_span(raw: Any) -> float:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    match = _SPAN.fullmatch(str(raw).strip())
    if match is None:
        raise ValueError(raw)
    return float(match[1]) * _SPAN_UNITS[(match[2] or "").lower()]


def without_login(address: str) -> str:
    """Return an address without the name and password that somebody put into it, where they do not belong."""
    return _LOGIN.sub(r"\1(secret)@", address)


def show_value(field: Field, value: Any) -> str:
    """Return the TOML text of a value, in the unit a person would have written."""
    if value is None:
        return f'"{UNLIMITED}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # What JSON escapes, TOML escapes in the same way.
        return json.dumps(without_login(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(show_value(field, item) for item in value) + "]"
    if field.name.endswith("_bytes"):
        for unit, size in (("GB", GIB), ("MB", MIB), ("KB", 1024)):
            if value and value % size == 0:
                return f'"{value // size} {unit}"'
    if field.name.endswith("_s"):
        if value == 0:
            return '"0s"'
        for unit, span in (("d", 86400), ("h", 3600), ("m", 60)):
            if value and value % span == 0:
                return f'"{int(value // span)}{unit}"'
        return f'"{value:g}s"'
    return str(value)


def show_bytes(count: int) -> str:
    """Return a byte count as people read it, e.g. `2.8 MB`."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            digits = f"{size:.0f}" if unit == "bytes" or size >= 100 else f"{size:.1f}".removesuffix(".0")
            return f"{digits} {unit}"
        size /= 1024
    return f"{count} bytes"


def show_span(seconds: int) -> str:
    """Return a time span in its largest whole unit, e.g. `30 days` or `1 hour`."""
    unit, size = next(((unit, size) for unit, size in _SPANS if seconds >= size and seconds % size == 0), _SPANS[-1])
    count = seconds // size
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def plain_value(field: Field, value: Any) -> Any:
    """Return a value as a person would have written it, for JSON: sizes and times as text with their unit."""
    return tomllib.loads(f"value = {show_value(field, value)}")["value"]
