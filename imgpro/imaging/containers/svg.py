"""Scalable drawings: parsed with expat, cut down to an allow-list, and written anew as UTF-8.

What comes out is stored and served; it is never rendered here. Sanitising a sanitised drawing changes nothing.
The rules themselves are in `svg_rules`; pictures embedded in a drawing are examined like uploaded ones.
"""

import re
from typing import Final
from xml.parsers import expat

from imgpro.errors import FileTooLarge, ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers import svg_rules as rules
from imgpro.imaging.containers.svg_embedded import Embedded
from imgpro.imaging.containers.svg_weight import Weight
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_MAX_DEPTH: Final = 128
_MAX_ELEMENTS: Final = 200_000
_ENCODINGS: Final = frozenset({"utf-8", "utf8", "utf-16", "us-ascii", "ascii", "iso-8859-1"})
_DEFAULT_SIZE_PX: Final = (300, 150)
_PX_PER_UNIT: Final = {
    "": 1.0,
    "px": 1.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "in": 96.0,
    "em": 16.0,
    "ex": 8.0,
}
_NUMBER: Final = r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?"
_LENGTH: Final = re.compile(rf"\s*({_NUMBER})\s*([a-z]*)\s*", re.IGNORECASE)
_VIEW_BOX: Final = re.compile(rf"\s*{_NUMBER}[\s,]+{_NUMBER}[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*")

_TEXT_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_VALUE_ESCAPES: Final = _TEXT_ESCAPES | {'"': "&quot;", "\t": "&#9;", "\n": "&#10;"}
_ESCAPE_TEXT: Final = str.maketrans(_TEXT_ESCAPES)
_ESCAPE_VALUE: Final = str.maketrans(_VALUE_ESCAPES)
_BLANK: Final = " \t\r\n"


def examine(data: memoryview, limits: Limits) -> Examined:
    """Sanitise an SVG file; see `imgpro.imaging.examine.examine` for what is raised."""
    if not limits.svg:
        raise UnsupportedFormat("SVG is turned off on this server.")
    if len(data) > limits.max_svg_bytes:
        raise FileTooLarge(f"An SVG file may have at most {limits.max_svg_bytes // 1024} KB.")
    if bytes(data[:2]) == b"\x1f\x8b":
        raise UnsupportedFormat("Compressed SVG is not accepted.")
    sanitiser = _Sanitiser(limits)
    source = bytes(data)
    cleaned = sanitiser.run(source)
    width, height = _size(sanitiser.root, limits)
    probe = Probe(format="svg", width=width, height=height, has_alpha=True)
    parts = None if cleaned == source else (cleaned,)
    return Examined(probe=probe, removed=tuple(sanitiser.removed), parts=parts)


class _Sanitiser:
    """Turns one drawing into its allowed part, element by element. Use once."""

    def __init__(self, limits: Limits) -> None:
        self.removed: dict[str, None] = {}  # a set that keeps its order
        self.root: dict[str, str] = {}
        self._out: list[str] = []
        self._open: list[str] = []  # names of the elements that are open and kept
        self._skipped = 0  # depth inside an element that was left out
        self._elements = 0
        self._tag_open = False
        self._bare = False  # the root element has no namespace: then nothing is expected to have one
        self._links = False  # xlink is used
        self._style: list[str] | None = None
        self._style_chars = 0
        self._weight = Weight()
        self._embedded = Embedded(limits)

    def run(self, source: bytes) -> bytes:
        """Return the sanitised drawing."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = lambda _: self._remove("comment")
        parser.ProcessingInstructionHandler = lambda *_: self._remove("unknown_chunks")
        try:
            parser.Parse(source, True)
        except (expat.ExpatError, LookupError, ValueError) as broken:
            raise ImageBroken("The drawing is not well-formed XML.") from broken
        self._weight.check()
        self.removed.update(self._embedded.removed)
        xlink = f' xmlns:xlink="{rules.XLINK}"' if self._links else ""
        self._out[0] = f'<svg xmlns="{rules.SVG}"{xlink}'
        return "".join([*self._out, "\n"]).encode()

    def _remove(self, kind: str) -> None:
        self.removed[kind] = None

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise UnsupportedFormat("SVG is accepted in UTF-8 and UTF-16.")

    def _doctype(self, _name: str, _system: str | None, _public: str | None, internal: int) -> None:
        if internal:
            raise UnsupportedFormat("SVG with a document type definition of its own is not accepted.")

    def _entity(self, *_: object) -> None:
        raise UnsupportedFormat("SVG with entity declarations is not accepted.")

    def _start(self, full_name: str, attributes: list[str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise ImageTooLarge(f"A drawing may have at most {_MAX_ELEMENTS} elements.")
        if self._skipped + len(self._open) >= _MAX_DEPTH:
            raise ImageTooLarge(f"A drawing may be nested at most {_MAX_DEPTH} deep.")
        namespace, _, name = full_name.rpartition(" ")
        if self._elements == 1:
            if name != "svg" or namespace not in ("", rules.SVG):
                raise UnsupportedFormat("The file is XML, but not a drawing.")
            self._bare = not namespace
        if self._skipped or not self._element_stays(namespace, name, attributes):
            self._skipped += 1
            return
        self._close_tag()
        self._out.append(f"<{name}")
        self._tag_open = True
        self._open.append(name)
        self._attributes(name, attributes)
        if name == "style":
            self._style = []

    def _element_stays(self, namespace: str, name: str, attributes: list[str]) -> bool:
        if namespace != ("" if self._bare else rules.SVG):
            self._remove("scripts" if name in rules.ACTIVE_ELEMENTS else "application_data")
            return False
        inside_text = bool(self._open) and self._open[-1] in rules.LEAF_ELEMENTS
        if name not in rules.ELEMENTS or inside_text:
            kind = "scripts" if name in rules.ACTIVE_ELEMENTS else "unknown_chunks"
            self._remove("application_data" if name == "metadata" else kind)
            return False
        if name == "style":
            kinds = [attributes[at + 1] for at in range(0, len(attributes), 2) if attributes[at] == "type"]
            if kinds and kinds[0].strip().lower() not in ("", "text/css"):
                self._remove("unknown_chunks")
                return False
        return True

    def _attributes(self, element: str, attributes: list[str]) -> None:
        names: list[str] = []
        references: list[str] = []
        for at in range(0, len(attributes), 2):
            namespace, _, name = attributes[at].rpartition(" ")
            kept = self._attribute(element, namespace, name, attributes[at + 1], references)
            if kept is None:
                self._remove(_attribute_kind(namespace, name, attributes[at + 1]))
                continue
            written, value = kept
            if len(self._open) == 1:
                self.root[written] = value
            if written == "id":
                names.append(value)
            self._out.append(f' {written}="{value.translate(_ESCAPE_VALUE)}"')
        self._weight.enter(names, references)

    def _attribute(
        self, element: str, namespace: str, name: str, value: str, references: list[str]
    ) -> tuple[str, str] | None:
        """Return an attribute as it is to be written, or None if it has to go."""
        if name == "href" and namespace in ("", rules.XLINK):
            return self._href(element, "xlink:href" if namespace else "href", value, references)
        if len(value) > rules.MAX_ATTRIBUTE_CHARS and name not in rules.LONG_ATTRIBUTES:
            return None
        if namespace == rules.XML and name in rules.XML_ATTRIBUTES:
            return f"xml:{name}", value
        if namespace:
            return None
        if name == "style":
            value, found, lost = rules.declarations(value)
            if lost:
                self._remove("unknown_chunks")
            references += found
            return (name, value) if value else None
        if name in rules.NAME_ATTRIBUTES or (element == "style" and name in ("type", "media")):
            return name, value
        if name in rules.LONG_ATTRIBUTES:
            return (name, value) if rules.plain_geometry(value) else None
        ids = rules.value_references(value) if name in rules.ATTRIBUTES else None
        if ids is None:
            return None
        references += ids
        return name, value

    def _href(self, element: str, written: str, value: str, references: list[str]) -> tuple[str, str] | None:
        if element not in rules.LINKING_ELEMENTS:
            return None
        target = rules.local_href(value)
        if target is not None:
            references.append(target)
            cleaned: str | None = f"#{target}"
        else:
            cleaned = self._embedded.clean(value) if element == "image" else None
        if cleaned is None:
            return None
        self._links = self._links or written == "xlink:href"
        return written, cleaned

    def _text(self, text: str) -> None:
        if self._skipped:
            return
        if self._style is not None:
            self._style.append(text)
            return
        if self._open[-1] in rules.TEXT_ELEMENTS or not text.strip(_BLANK):
            self._close_tag()
            self._out.append(text.translate(_ESCAPE_TEXT))
        else:
            self._remove("unknown_chunks")

    def _end(self, _name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        if self._style is not None:
            self._write_style("".join(self._style))
        name = self._open.pop()
        self._weight.leave()
        self._out.append("/>" if self._tag_open else f"</{name}>")
        self._tag_open = False

    def _write_style(self, source: str) -> None:
        self._style = None
        self._style_chars += len(source)
        if self._style_chars > rules.MAX_STYLE_CHARS:
            raise ImageTooLarge("The style sheet of the drawing is too large.")
        text, references, lost = rules.stylesheet(source)
        if lost:
            self._remove("unknown_chunks")
        self._weight.styled(references)
        if text:
            self._close_tag()
            self._out.append(text.translate(_ESCAPE_TEXT))

    def _close_tag(self) -> None:
        if self._tag_open:
            self._out.append(">")
            self._tag_open = False


def _attribute_kind(namespace: str, name: str, value: str) -> str:
    """Name what went with an attribute that is not allowed."""
    if name.lower().startswith("on") or "script:" in value.lower():
        return "scripts"
    return "application_data" if namespace or name.startswith("data-") else "unknown_chunks"


def _size(root: dict[str, str], limits: Limits) -> tuple[int, int]:
    """Return the intrinsic size in pixels: width and height, else the view box, else the default of browsers."""
    width, height = _length(root.get("width")), _length(root.get("height"))
    found = _VIEW_BOX.fullmatch(root.get("viewBox", ""))
    box = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if box[0] > 0 and box[1] > 0:
        if width is None and height is None:
            width, height = box
        elif width is None and height is not None:
            width = height * box[0] / box[1]
        elif height is None and width is not None:
            height = width * box[1] / box[0]
    sides = (width or _DEFAULT_SIZE_PX[0], height or _DEFAULT_SIZE_PX[1])
    return _whole(sides[0], limits), _whole(sides[1], limits)


def _whole(side: float, limits: Limits) -> int:
    return max(1, round(min(side, float(limits.max_side_px))))


def _length(value: str | None) -> float | None:
    found = _LENGTH.fullmatch(value or "")
    scale = _PX_PER_UNIT.get(found[2].lower()) if found else None
    if found is None or scale is None:
        return None
    length = float(found[1]) * scale
    return length if length > 0 else None
