"""What an SVG drawing may consist of: namespaces, elements, attributes, and the form of their values.

Everything that is not named here is left out. Knows nothing of parsing or writing XML.
"""

import re
from typing import Final

SVG: Final = "http://www.w3.org/2000/svg"
XLINK: Final = "http://www.w3.org/1999/xlink"
XML: Final = "http://www.w3.org/XML/1998/namespace"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTS: Final = _words(
    """
    svg g defs symbol use switch a image path rect circle ellipse line polyline polygon text tspan textPath
    linearGradient radialGradient stop clipPath mask pattern marker view style title desc
    """
)
TEXT_ELEMENTS: Final = frozenset({"text", "tspan", "textPath", "title", "desc", "style", "a"})
# Elements whose content is text alone.
LEAF_ELEMENTS: Final = frozenset({"title", "desc", "style"})
LINKING_ELEMENTS: Final = frozenset({"use", "image", "linearGradient", "radialGradient", "pattern", "textPath", "a"})

# Left out like everything unknown, but told to the uploader as what they are.
ACTIVE_ELEMENTS: Final = _words(
    """
    script foreignObject handler listener iframe embed object audio video canvas animate animateTransform
    animateMotion animateColor set mpath discard
    """
)

# Presentation attributes; as CSS properties they are allowed too.
PROPERTIES: Final = _words(
    """
    alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation color-rendering direction
    display dominant-baseline fill fill-opacity fill-rule font-family font-size font-size-adjust font-stretch
    font-style font-variant font-weight glyph-orientation-horizontal glyph-orientation-vertical image-rendering
    letter-spacing marker-end marker-mid marker-start mask mask-type opacity overflow paint-order pointer-events
    shape-rendering stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin
    stroke-miterlimit stroke-opacity stroke-width text-anchor text-decoration text-rendering transform
    transform-origin unicode-bidi vector-effect visibility white-space word-spacing writing-mode
    """
)
CSS_PROPERTIES: Final = PROPERTIES | _words(
    """
    font marker line-height text-align text-transform mix-blend-mode isolation background background-color
    transform-box font-kerning font-variant-caps font-variant-ligatures font-variant-numeric text-orientation
    cx cy r rx ry x y width height
    """
)
ATTRIBUTES: Final = PROPERTIES | _words(
    """
    width height viewBox preserveAspectRatio version x y x1 y1 x2 y2 cx cy r rx ry fx fy fr d points dx dy rotate
    textLength lengthAdjust startOffset method spacing side pathLength offset gradientUnits gradientTransform
    spreadMethod patternUnits patternContentUnits patternTransform clipPathUnits maskUnits maskContentUnits
    markerUnits markerWidth markerHeight refX refY orient zoomAndPan enable-background
    """
)
# Values that are never read as CSS or as an address.
NAME_ATTRIBUTES: Final = frozenset(
    {"id", "class", "lang", "role", "tabindex", "systemLanguage", "requiredExtensions", "aria-label", "aria-hidden"}
)
XML_ATTRIBUTES: Final = frozenset({"space", "lang"})
LONG_ATTRIBUTES: Final = frozenset({"d", "points"})
MAX_ATTRIBUTE_CHARS: Final = 65_536
MAX_STYLE_CHARS: Final = 1_000_000

_FUNCTIONS: Final = _words(
    """
    rgb rgba hsl hsla hwb lab lch oklab oklch translate translatex translatey scale scalex scaley rotate skewx skewy
    matrix rect calc min max clamp
    """
)
_LOCAL_URL: Final = re.compile(r"""url\(\s*(?:#([\w.:-]+)|"#([\w.:-]+)"|'#([\w.:-]+)')\s*\)""", re.IGNORECASE)
_GEOMETRY: Final = re.compile(r"[\w\s,.+\-]*")
_PLAIN_VALUE: Final = re.compile(r"""[\w\s#%.,()+\-*/'"!]*""")
_FUNCTION: Final = re.compile(r"[^\W\d][\w-]*\Z")
_MAX_FUNCTION_CHARS: Final = 32
_LOCAL_HREF: Final = re.compile(r"\s*#([^\s\"'<>&\\]{1,256})\s*")
_SELECTOR: Final = re.compile(r"[\w\-.#*,>+~:()\s]+")
_MEDIA: Final = re.compile(r"@media\s[\w\s():,\-.]+", re.IGNORECASE)
_BRACE: Final = re.compile(r"[{}]")
_COMMENT: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)


def local_href(value: str) -> str | None:
    """Return the id that an address names inside the drawing, or None for any other address."""
    found = _LOCAL_HREF.fullmatch(value)
    return found[1] if found else None


def plain_geometry(value: str) -> bool:
    """Tell whether a path or list of points is made of letters and numbers alone."""
    return _GEOMETRY.fullmatch(value) is not None


def value_references(value: str) -> list[str] | None:
    """Return the ids that a presentation value refers to, or None if the value is not allowed.

    Allowed are words, numbers, colours and a closed set of functions; `url()` only with an id of the drawing.
    """
    ids: list[str] = []
    parts = _LOCAL_URL.split(value)  # text, three groups of which one is set, text, ...
    for index in range(0, len(parts), 4):
        if not _PLAIN_VALUE.fullmatch(parts[index]):
            return None
        if not all(_allowed_function(before) for before in parts[index].split("(")[:-1]):
            return None
        ids += [name for name in parts[index + 1 : index + 4] if name]
    if "/*" in value or value.count('"') % 2 or value.count("'") % 2 or value.count("(") != value.count(")"):
        return None
    return ids


def _allowed_function(before: str) -> bool:
    """Judge the function whose bracket opens behind `before`. No name is a plain bracket, as in calc()."""
    found = _FUNCTION.search(before.rstrip()[-_MAX_FUNCTION_CHARS:])
    return found is None or found[0].lower() in _FUNCTIONS


def declarations(text: str) -> tuple[str, list[str], bool]:
    """Keep the allowed declarations of a style: return them, the ids they refer to, and whether any was left out."""
    kept, ids, lost = [], [], False
    for declaration in _COMMENT.sub(" ", text).split(";"):
        if not declaration.strip():
            continue
        name, _, value = declaration.partition(":")
        name, value = name.strip().lower(), value.strip()
        found = value_references(value) if value and name in CSS_PROPERTIES else None
        if found is None:
            lost = True
            continue
        kept.append(f"{name}:{value}")
        ids += found
    return ";".join(kept), ids, lost


def stylesheet(text: str) -> tuple[str, list[str], bool]:
    """Keep the allowed rules of a style sheet: return them, the ids they refer to, and whether any was left out."""
    return _rules(_COMMENT.sub(" ", text), 0)


def _rules(text: str, depth: int) -> tuple[str, list[str], bool]:
    kept, ids, lost = [], [], False
    at = 0
    while (opening := text.find("{", at)) >= 0:
        prelude = text[at:opening]
        statements, _, prelude = prelude.rpartition(";")  # @import and the like
        lost = lost or bool(statements)
        prelude = prelude.strip()
        closing = _block_end(text, opening)
        block = text[opening + 1 : closing]
        at = closing + 1
        if prelude.startswith("@"):
            body, found, cut = _rules(block, 1) if not depth and _MEDIA.fullmatch(prelude) else ("", [], True)
        elif not _SELECTOR.fullmatch(prelude):
            body, found, cut = "", [], True
        else:
            body, found, cut = declarations(block)
        lost = lost or cut
        if body:
            kept.append(f"{prelude}{{{body}}}")
            ids += found
    return "\n".join(kept), ids, lost or bool(text[at:].strip())


def _block_end(text: str, opening: int) -> int:
    """Return where the block that opens at `opening` closes; the end of the text if it never does."""
    depth = 0
    for found in _BRACE.finditer(text, opening):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return found.start()
    return len(text)
